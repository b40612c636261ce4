//! Package files (deb(5)): an ar archive of three members, the last two compressed.
//!
//! dpkg decompresses one package after the other on one processor. We decompress all of them at once, into package files
//! without compression, which dpkg takes as well.

use crate::files::{FileError, at};
use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::Path,
};

/// What an ar archive begins with (deb(5), "FORMAT").
const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER: usize = 60;
/// No Debian package comes near it; a bomb would.
const MAX_UNPACKED: u64 = 16 << 30;
const MAX_MEMBERS: usize = 16;

/// A package file that is none.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// Its structure is not that of a package.
    #[error("it is not a Debian package: {0}")]
    Shape(&'static str),
    /// It cannot be read or decompressed.
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// One member of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// For example `data.tar.xz`.
    pub name: String,
    /// Where its content begins.
    pub offset: u64,
    /// Bytes of its content.
    pub bytes: u64,
}

/// The members of a package file: `debian-binary`, `control.tar…`, `data.tar…`. Never panics, whatever the bytes are.
///
/// # Errors
/// [`DebError::Shape`] and [`DebError::Read`].
pub fn members(file: &mut (impl Read + Seek)) -> Result<Vec<Member>, DebError> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut magic = [0; 8];
    file.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Err(DebError::Shape("it does not begin as an ar archive"));
    }
    let (mut members, mut offset) = (Vec::new(), MAGIC.len() as u64);
    while offset < length {
        if members.len() == MAX_MEMBERS {
            return Err(DebError::Shape("it has too many members"));
        }
        let mut header = [0; HEADER];
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut header)?;
        if header[58..] != *b"`\n" {
            return Err(DebError::Shape("a member has no header"));
        }
        let text = |part: &[u8]| String::from_utf8_lossy(part).trim_end().to_owned();
        let bytes: u64 = text(&header[48..58]).parse().map_err(|_| DebError::Shape("a member has no length"))?;
        let begin = offset + HEADER as u64;
        if bytes > length - begin {
            return Err(DebError::Shape("a member is longer than the file"));
        }
        members.push(Member { name: text(&header[..16]).trim_end_matches('/').to_owned(), offset: begin, bytes });
        offset = begin + bytes + bytes % 2;
    }
    let fits =
        |index: usize, prefix: &str| members.get(index).is_some_and(|member: &Member| member.name.starts_with(prefix));
    if !fits(0, "debian-binary") || !fits(1, "control.tar") || !fits(2, "data.tar") {
        return Err(DebError::Shape("its members are not debian-binary, control.tar and data.tar"));
    }
    Ok(members)
}

/// Writes the same package without compression; returns its bytes.
///
/// # Errors
/// See [`DebError`].
pub fn decompress(from: &Path, to: &Path) -> Result<u64, DebError> {
    let mut file = File::open(from).map_err(at("read", from))?;
    let members = members(&mut file)?;
    let mut out = BufWriter::with_capacity(1 << 20, File::create(to).map_err(at("write", to))?);
    out.write_all(MAGIC)?;
    write_header(&mut out, "debian-binary", 4)?;
    out.write_all(b"2.0\n")?;
    for (member, name) in members[1..3].iter().zip(["control.tar", "data.tar"]) {
        let mut content = content(&file, member)?;
        // The length stands before the content and is known after it.
        let header = out.stream_position()?;
        write_header(&mut out, name, 0)?;
        let bytes = io::copy(&mut content.by_ref().take(MAX_UNPACKED), &mut out)?;
        if bytes == MAX_UNPACKED {
            return Err(DebError::Shape("it unpacks to more than 16 GiB"));
        }
        if bytes % 2 == 1 {
            out.write_all(b"\n")?;
        }
        let end = out.stream_position()?;
        out.seek(SeekFrom::Start(header))?;
        write_header(&mut out, name, bytes)?;
        out.seek(SeekFrom::Start(end))?;
    }
    out.flush()?;
    Ok(out.stream_position()?)
}

/// The content of `data.tar` of a package without compression.
///
/// # Errors
/// See [`DebError`].
pub fn data(plain: &Path) -> Result<impl Read + use<>, DebError> {
    let mut file = File::open(plain).map_err(at("read", plain))?;
    let members = members(&mut file)?;
    content(&file, &members[2])
}

fn content(file: &File, member: &Member) -> Result<Box<dyn Read>, DebError> {
    let mut file = file.try_clone()?;
    file.seek(SeekFrom::Start(member.offset))?;
    let raw = BufReader::with_capacity(256 << 10, file.take(member.bytes));
    Ok(match member.name.rsplit('.').next() {
        Some("xz") => Box::new(liblzma::read::XzDecoder::new_multi_decoder(raw)),
        Some("zst") => Box::new(zstd::Decoder::with_buffer(raw)?),
        Some("gz") => Box::new(flate2::bufread::MultiGzDecoder::new(raw)),
        Some("tar") => Box::new(raw),
        _ => return Err(DebError::Shape("its compression is none of xz, zstd and gzip")),
    })
}

fn write_header(out: &mut impl Write, name: &str, bytes: u64) -> io::Result<()> {
    writeln!(out, "{name:<16}{:<12}{:<6}{:<6}{:<8}{bytes:<10}`", 0, 0, 0, "100644")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn package(data_name: &str, data: &[u8]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for (name, content) in [("debian-binary", &b"2.0\n"[..]), ("control.tar", b"control"), (data_name, data)] {
            write_header(&mut out, name, content.len() as u64).unwrap();
            out.extend(content);
            out.extend(std::iter::repeat_n(b'\n', content.len() % 2));
        }
        out
    }

    #[test]
    fn every_compression_gives_the_same_plain_package() {
        let folder = tempfile::tempdir().unwrap();
        let text = b"some content, some content".repeat(999);
        let mut xz = Vec::new();
        liblzma::read::XzEncoder::new(&text[..], 6).read_to_end(&mut xz).unwrap();
        let mut gz = Vec::new();
        flate2::read::GzEncoder::new(&text[..], flate2::Compression::fast()).read_to_end(&mut gz).unwrap();
        let zst = zstd::encode_all(&text[..], 3).unwrap();
        let packed = [("data.tar.xz", xz), ("data.tar.gz", gz), ("data.tar.zst", zst), ("data.tar", text.clone())];
        for (name, content) in packed {
            let (from, to) = (folder.path().join(name), folder.path().join("plain.deb"));
            std::fs::write(&from, package(name, &content)).unwrap();
            let bytes = decompress(&from, &to).unwrap();
            assert_eq!(bytes, std::fs::metadata(&to).unwrap().len(), "{name}");
            assert_eq!(std::fs::read(&to).unwrap(), package("data.tar", &text), "{name}");
            let mut read = Vec::new();
            data(&to).unwrap().read_to_end(&mut read).unwrap();
            assert_eq!(read, text);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 0usize..300) {
            let _ = members(&mut Cursor::new(&bytes));
            let whole = package("data.tar.xz", &bytes);
            let _ = members(&mut Cursor::new(&whole[..cut.min(whole.len())]));
            let mut odd = package("data.tar.xz", b"x");
            odd.splice(8.., bytes);
            let _ = members(&mut Cursor::new(&odd));
        }
    }
}
