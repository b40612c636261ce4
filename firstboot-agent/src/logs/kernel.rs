//! The last of the kernel's messages, from `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg): one record a read, as
//! `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,…];TEXT`, with further lines of key and value that nobody needs here.

use contracts::logs;
use nix::fcntl::OFlag;
use std::{
    collections::VecDeque,
    fs::OpenOptions,
    io::{ErrorKind, Read as _},
    os::unix::fs::OpenOptionsExt,
};

/// The longest record that the kernel gives (`PRINTKRB_RECORD_MAX`, 1024), escaped, with its keys; longer buffers do no harm.
const RECORD: usize = 8 << 10;
/// More records than any ring buffer of a boot image holds.
const MOST_RECORDS: usize = 200_000;

/// One record as dmesg(1) shows it; `None` when it is none.
#[must_use]
pub fn line(record: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(record);
    let (head, rest) = text.split_once(';')?;
    let micros: u64 = head.split(',').nth(2)?.parse().ok()?;
    let message = rest.lines().next().unwrap_or_default();
    Some(format!("[{:>5}.{:06}] {}", micros / 1_000_000, micros % 1_000_000, logs::clean(&unescaped(message))))
}

/// The kernel writes bytes that are not printable, and backslashes, as `\xHH`.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if let [b'\\', b'x', high, low, after @ ..] = rest
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            bytes.push(high << 4 | low);
            rest = after;
            continue;
        }
        bytes.push(*first);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The last lines that fit into [`logs::MOST_KERNEL`] bytes. Empty where the kernel does not let this program read them.
#[must_use]
pub fn tail() -> String {
    // Without O_NONBLOCK the read after the last record waits for the next one.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open("/dev/kmsg");
    let Ok(mut file) = file else { return String::new() };
    let mut record = vec![0; RECORD];
    collect(std::iter::from_fn(|| {
        loop {
            match file.read(&mut record) {
                Ok(0) => return None,
                Ok(length) => return Some(record[..length].to_vec()),
                // Records were overwritten while we read: the next read gives the oldest that is left.
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::Interrupted) => {}
                Err(_) => return None,
            }
        }
    }))
}

fn collect(records: impl Iterator<Item = Vec<u8>>) -> String {
    let (mut lines, mut bytes) = (VecDeque::new(), 0);
    for text in records.take(MOST_RECORDS).filter_map(|record| line(&record)) {
        bytes += text.len() + 1;
        lines.push_back(text);
        while bytes > logs::MOST_KERNEL
            && let Some(oldest) = lines.pop_front()
        {
            bytes -= oldest.len() + 1;
        }
    }
    Vec::from(lines).join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_are_shown_as_dmesg_shows_them() {
        let record = b"6,339,5140900,-;NET: Registered protocol\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:01.0\n";
        assert_eq!(line(record).unwrap(), "[    5.140900] NET: Registered protocol");
        assert_eq!(
            line(b"3,1,7,c,caller=T1;a\\x09b \\x5cx \\xc3\\xa4 \\xzz").unwrap(),
            "[    0.000007] a b \\x ä \\xzz"
        );
        for none in [&b""[..], b"6,1", b"6,1,x,-;text", b";"] {
            assert_eq!(line(none), None);
        }
    }

    #[test]
    fn the_last_lines_stay() {
        let records = (0..5000_u32).map(|n| format!("6,{n},{n},-;message {n} of a talkative driver\n").into_bytes());
        let text = collect(records);
        assert!(text.len() <= logs::MOST_KERNEL && text.len() > logs::MOST_KERNEL - 100);
        assert!(text.ends_with("message 4999 of a talkative driver"));
        assert!(!text.contains("message 0 of"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(record in prop::collection::vec(any::<u8>(), 0..600), micros: u64) {
            let mut whole = format!("6,1,{micros},-;").into_bytes();
            whole.extend_from_slice(&record);
            for bytes in [record, whole] {
                if let Some(line) = line(&bytes) {
                    prop_assert!(!line.chars().any(char::is_control));
                }
            }
        }
    }
}
