//! Which shared libraries a program needs: the ELF headers as the dynamic linker reads them (gABI, chapter 5).
//! 64-bit little-endian only, which is what x86-64 and aarch64 are.

use crate::files::{self, FileError};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// What a program asks of the dynamic linker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// The dynamic linker (PT_INTERP); `None` for a static program and for a library.
    pub interpreter: Option<String>,
    /// Libraries by name (DT_NEEDED).
    pub libraries: Vec<String>,
}

/// Why needs could not be found.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// Not a 64-bit little-endian ELF file, or a broken one.
    #[error("{} is not a 64-bit little-endian ELF file", .0.display())]
    NotElf(PathBuf),
    /// A library is nowhere in the tree.
    #[error("{} needs {library}, which is not in the tree", program.display())]
    Missing {
        /// Who needs it.
        program: PathBuf,
        /// What.
        library: String,
    },
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Reads a program's needs; `None` when the bytes are not such an ELF file. Never panics, whatever the bytes are.
#[must_use]
pub fn needs(bytes: &[u8]) -> Option<Needs> {
    const PT_LOAD: u64 = 1;
    const PT_DYNAMIC: u64 = 2;
    const PT_INTERP: u64 = 3;
    const DT_NEEDED: u64 = 1;
    const DT_STRTAB: u64 = 5;
    if bytes.get(..6)? != [0x7f, b'E', b'L', b'F', 2, 1] {
        return None;
    }
    let headers_at = number(bytes, 32, 8)?;
    let (size, count) = (number(bytes, 54, 2)?, number(bytes, 56, 2)?);
    let mut loads = Vec::new();
    let (mut dynamic, mut interpreter) = (None, None);
    for index in 0..count {
        let at = headers_at.checked_add(index * size).filter(|at| *at < u64::MAX / 2)?;
        let (offset, address, length) =
            (number(bytes, at + 8, 8)?, number(bytes, at + 16, 8)?, number(bytes, at + 32, 8)?);
        match number(bytes, at, 4)? {
            PT_LOAD => loads.push((address, offset, length)),
            PT_DYNAMIC => dynamic = Some((offset, length)),
            PT_INTERP => interpreter = Some(text(bytes, offset)?),
            _ => {}
        }
    }
    let mut names = Vec::new();
    let mut strings = None;
    if let Some((offset, length)) = dynamic {
        for entry in 0..length / 16 {
            let at = offset.checked_add(entry * 16).filter(|at| *at < u64::MAX / 2)?;
            let value = number(bytes, at + 8, 8)?;
            match number(bytes, at, 8)? {
                0 => break,
                DT_NEEDED => names.push(value),
                // An address in memory; the segments say where in the file that is.
                DT_STRTAB => {
                    let load = loads.iter().find(|(a, _, n)| value >= *a && value - a < *n)?;
                    strings = Some((value - load.0).checked_add(load.1)?);
                }
                _ => {}
            }
        }
    }
    let libraries: Option<Vec<String>> = match strings {
        Some(strings) => names.iter().map(|name| text(bytes, strings.checked_add(*name)?)).collect(),
        None if names.is_empty() => Some(Vec::new()),
        None => None,
    };
    Some(Needs { interpreter, libraries: libraries? })
}

fn number(bytes: &[u8], at: u64, length: usize) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

fn text(bytes: &[u8], at: u64) -> Option<String> {
    let rest = bytes.get(usize::try_from(at).ok()?..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    String::from_utf8(rest[..end].to_vec()).ok()
}

/// Where Debian's dynamic linker looks on x86-64, and where systemd's programs tell it to (DT_RUNPATH).
const FOLDERS: [&str; 4] = ["usr/lib/x86_64-linux-gnu", "usr/lib", "usr/lib64", "usr/lib/x86_64-linux-gnu/systemd"];

/// Every library that these programs of a tree need, directly or not: path in an image to path on the host.
/// The dynamic linker is among them.
///
/// # Errors
/// See [`ElfError`].
pub fn libraries(tree: &Path, programs: &[PathBuf]) -> Result<BTreeMap<String, PathBuf>, ElfError> {
    let mut out = BTreeMap::new();
    let mut queue: Vec<PathBuf> = programs.to_vec();
    while let Some(program) = queue.pop() {
        let needs = needs(&files::read(&program)?).ok_or_else(|| ElfError::NotElf(program.clone()))?;
        let missing = |library: &str| ElfError::Missing { program: program.clone(), library: library.to_owned() };
        if let Some(interpreter) = &needs.interpreter {
            let name = interpreter.rsplit('/').next().unwrap_or_default();
            let (_, found) = find(tree, name).ok_or_else(|| missing(interpreter))?;
            // Its place is fixed in every program: /lib64, which the initrd has as a link to /usr/lib64.
            out.insert(format!("usr/lib64/{name}"), found);
        }
        for library in &needs.libraries {
            let (folder, found) = find(tree, library).ok_or_else(|| missing(library))?;
            if !library.starts_with("ld-linux") && out.insert(format!("{folder}/{library}"), found.clone()).is_none() {
                queue.push(found);
            }
        }
    }
    Ok(out)
}

fn find(tree: &Path, library: &str) -> Option<(&'static str, PathBuf)> {
    FOLDERS.into_iter().map(|folder| (folder, tree.join(folder).join(library))).find(|(_, path)| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file with one segment that holds everything, an interpreter and two needed libraries.
    fn sample() -> Vec<u8> {
        let mut bytes = vec![0; 0x200];
        bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        let put = |bytes: &mut Vec<u8>, at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        put(&mut bytes, 32, 64);
        bytes[54] = 56;
        bytes[56] = 3;
        // type, offset, address, length in the file
        for (at, kind, offset, address, length) in
            [(64, 1, 0, 0x1000, 0x200), (120, 2, 0x100, 0x1100, 64), (176, 3, 0x180, 0x1180, 8)]
        {
            bytes[at] = kind;
            put(&mut bytes, at + 8, offset);
            put(&mut bytes, at + 16, address);
            put(&mut bytes, at + 32, length);
        }
        for (at, tag, value) in [(0x100, 1, 1), (0x110, 1, 8), (0x120, 5, 0x11a0), (0x130, 0, 0)] {
            put(&mut bytes, at, tag);
            put(&mut bytes, at + 8, value);
        }
        bytes[0x180..0x187].copy_from_slice(b"/lib/ld");
        bytes[0x1a1..0x1a7].copy_from_slice(b"libc.6");
        bytes[0x1a8..0x1ac].copy_from_slice(b"libm");
        bytes
    }

    #[test]
    fn interpreter_and_libraries_are_found() {
        let needs = needs(&sample()).unwrap();
        assert_eq!(needs.interpreter.as_deref(), Some("/lib/ld"));
        assert_eq!(needs.libraries, ["libc.6", "libm"]);
    }

    #[test]
    fn this_very_test_program_is_read() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(needs(&bytes).is_some());
        assert_eq!(needs(b"#!/bin/sh\n"), None);
    }

    proptest! {
        #[test]
        fn broken_files_are_survived(at in 0usize..0x200, value: u8, cut in 0usize..0x200) {
            let mut bytes = sample();
            bytes[at] = value;
            let _ = needs(&bytes);
            let _ = needs(&bytes[..cut]);
        }
    }
}
