//! What a disk may look like when the power fails. The writes and flushes of one install are recorded by QEMU's `blklogwrites`
//! ([`log`]); [`cut`] decides what of them survives, [`disk`] makes the disk of it, [`judge`] says what an installer and a firmware
//! would make of that disk. Killing QEMU would show none of it: the host's page cache survives.

pub mod cut;
pub mod disk;
pub mod judge;
pub mod log;
