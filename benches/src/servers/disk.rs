//! The disk below all servers: the time to write one block past the page cache and to sync it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::failure::Failure;
use crate::statistics::percentile;

const BLOCK_BYTES: usize = 4096;
const FILE_BYTES: usize = 4 << 20;
/// The most that is written at once.
const MAX_BYTES: usize = 1 << 20;
/// Writes for one median.
const PROBES: usize = 200;
/// What statfs calls tmpfs.
const TMPFS: u64 = 0x0102_1994;

/// A file of fixed length that is overwritten from its beginning to its end, again and again.
pub(super) struct Disk {
    file: File,
    memory: Vec<u8>,
    next: usize,
}

impl Disk {
    pub(super) fn look(directory: &Path) -> Result<Disk, Failure> {
        let fail = |error: io::Error| {
            Failure::new(format!(
                "{} does not take direct writes ({error}): name a directory of a real file system with --data",
                directory.display()
            ))
        };
        let kind = rustix::fs::statfs(directory).map_err(|error| fail(error.into()))?.f_type;
        if u64::try_from(kind) == Ok(TMPFS) {
            return Err(fail(io::Error::other("it is a tmpfs")));
        }
        Disk::create(&directory.join("disk")).map_err(fail)
    }

    pub(super) fn create(path: &Path) -> io::Result<Disk> {
        std::fs::write(path, vec![0; FILE_BYTES])?;
        File::open(path)?.sync_all()?;
        let flags = OFlags::DIRECT.bits().cast_signed();
        let file = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
        Ok(Disk { file, memory: vec![0; MAX_BYTES + BLOCK_BYTES], next: 0 })
    }

    /// The median time of a write with its fdatasync.
    pub(super) fn sync_time(&mut self) -> Result<Duration, Failure> {
        let mut times = Vec::with_capacity(PROBES);
        for _ in 0..PROBES {
            let started = Instant::now();
            self.write(&[7; BLOCK_BYTES])
                .map_err(|error| Failure::new(format!("the disk has failed: {error}")))?;
            times.push(started.elapsed());
        }
        times.sort_unstable();
        Ok(percentile(&times, 500))
    }

    /// Writes whole blocks that begin with `bytes`, and syncs them.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // A direct write begins at a multiple of the block, in memory too.
        let start = self.memory.as_ptr().align_offset(BLOCK_BYTES);
        self.memory[start..start + bytes.len()].copy_from_slice(bytes);
        let blocks = &self.memory[start..start + bytes.len().next_multiple_of(BLOCK_BYTES)];
        if self.next + blocks.len() > FILE_BYTES {
            self.next = 0;
        }
        self.file.write_all_at(blocks, self.next as u64)?;
        self.next += blocks.len();
        self.file.sync_data()
    }
}
