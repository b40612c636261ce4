//! Letters that can be read from across the room: five pixels high, two pixels to a character cell.

/// One letter: five rows of pixels, `#` is set.
type Glyph = [&'static str; 5];

fn glyph(letter: char) -> Option<Glyph> {
    Some(match letter.to_ascii_uppercase() {
        'A' => [".##.", "#..#", "####", "#..#", "#..#"],
        'B' => ["###.", "#..#", "###.", "#..#", "###."],
        'C' => [".###", "#...", "#...", "#...", ".###"],
        'D' => ["###.", "#..#", "#..#", "#..#", "###."],
        'E' => ["####", "#...", "###.", "#...", "####"],
        'F' => ["####", "#...", "###.", "#...", "#..."],
        'G' => [".###", "#...", "#.##", "#..#", ".###"],
        'H' => ["#..#", "#..#", "####", "#..#", "#..#"],
        'I' => ["###", ".#.", ".#.", ".#.", "###"],
        'J' => ["..##", "...#", "...#", "#..#", ".##."],
        'K' => ["#..#", "#.#.", "##..", "#.#.", "#..#"],
        'L' => ["#...", "#...", "#...", "#...", "####"],
        'M' => ["#...#", "##.##", "#.#.#", "#...#", "#...#"],
        'N' => ["#...#", "##..#", "#.#.#", "#..##", "#...#"],
        'O' => [".##.", "#..#", "#..#", "#..#", ".##."],
        'P' => ["###.", "#..#", "###.", "#...", "#..."],
        'Q' => [".##.", "#..#", "#..#", "#.#.", ".#.#"],
        'R' => ["###.", "#..#", "###.", "#.#.", "#..#"],
        'S' => [".###", "#...", ".##.", "...#", "###."],
        'T' => ["#####", "..#..", "..#..", "..#..", "..#.."],
        'U' => ["#..#", "#..#", "#..#", "#..#", ".##."],
        'V' => ["#...#", "#...#", ".#.#.", ".#.#.", "..#.."],
        'W' => ["#...#", "#...#", "#.#.#", "##.##", "#...#"],
        'X' => ["#...#", ".#.#.", "..#..", ".#.#.", "#...#"],
        'Y' => ["#...#", ".#.#.", "..#..", "..#..", "..#.."],
        'Z' => ["####", "...#", ".##.", "#...", "####"],
        '0' => [".##.", "#.##", "#..#", "##.#", ".##."],
        '1' => [".#.", "##.", ".#.", ".#.", "###"],
        '2' => ["###.", "...#", ".##.", "#...", "####"],
        '3' => ["###.", "...#", ".##.", "...#", "###."],
        '4' => ["#..#", "#..#", "####", "...#", "...#"],
        '5' => ["####", "#...", "###.", "...#", "###."],
        '6' => [".##.", "#...", "###.", "#..#", ".##."],
        '7' => ["####", "...#", "..#.", ".#..", ".#.."],
        '8' => [".##.", "#..#", ".##.", "#..#", ".##."],
        '9' => [".##.", "#..#", ".###", "...#", ".##."],
        '-' => ["...", "...", "###", "...", "..."],
        _ => return None,
    })
}

/// The text in three rows of half blocks (U+2580, U+2584, U+2588, which the kernel's own font has). `None` when it is wider
/// than `columns`, or holds what has no letter here.
pub(super) fn letters(text: &str, columns: usize) -> Option<[String; 3]> {
    let glyphs: Vec<Glyph> = text.chars().map(glyph).collect::<Option<_>>()?;
    let mut rows = [String::new(), String::new(), String::new()];
    for (index, glyph) in glyphs.iter().enumerate() {
        for (row, line) in rows.iter_mut().enumerate() {
            if index > 0 {
                line.push(' ');
            }
            let below = glyph.get(2 * row + 1).map_or("", |pixels| pixels);
            let pairs = glyph[2 * row].bytes().zip(below.bytes().chain(std::iter::repeat(b'.')));
            line.extend(pairs.map(|(above, below)| half_block(above == b'#', below == b'#')));
        }
    }
    (rows[0].chars().count() <= columns).then_some(rows)
}

/// Two pixels, one above the other.
pub(super) const fn half_block(above: bool, below: bool) -> char {
    match (above, below) {
        (true, true) => '█',
        (true, false) => '▀',
        (false, true) => '▄',
        (false, false) => ' ',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_of_a_code_has_even_rows() {
        for letter in ('a'..='z').chain('0'..='9').chain(['-']) {
            let rows = glyph(letter).unwrap();
            assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{letter}");
        }
        assert_eq!(letters("ä", 80), None);
        assert_eq!(letters("l-1", 80).unwrap(), ["█        ▄█ ", "█    ▀▀▀  █ ", "▀▀▀▀     ▀▀▀"].map(str::to_owned));
    }
}
