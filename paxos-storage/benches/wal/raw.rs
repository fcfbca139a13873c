//! The bare disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub(crate) const BLOCK_BYTES: usize = 4096;
const FILE_BYTES: usize = 16 << 20;
const ZEROS_BYTES: usize = 1 << 20;

/// A file full of zeros, which is overwritten piece by piece; a piece is one block by default.
pub(crate) struct RawFile {
    file: File,
    piece: Aligned,
    next: usize,
}

impl RawFile {
    pub(crate) fn create(path: &Path) -> io::Result<RawFile> {
        RawFile::of_pieces(path, BLOCK_BYTES)
    }

    /// `piece_bytes` are whole blocks.
    pub(crate) fn of_pieces(path: &Path, piece_bytes: usize) -> io::Result<RawFile> {
        let file = File::create(path)?;
        let zeros = vec![0; ZEROS_BYTES];
        for offset in (0..FILE_BYTES).step_by(ZEROS_BYTES) {
            file.write_all_at(&zeros, offset as u64)?;
        }
        file.sync_all()?;
        let mut piece = Aligned::new(piece_bytes);
        piece.as_mut_slice().fill(7);
        Ok(RawFile { file: direct(OpenOptions::new().write(true)).open(path)?, piece, next: 0 })
    }

    /// One write and one sync.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        self.write_unsynced()?;
        self.file.sync_data()
    }

    /// One write.
    pub(crate) fn write_unsynced(&mut self) -> io::Result<()> {
        if self.next + self.piece.length > FILE_BYTES {
            self.next = 0;
        }
        self.file.write_all_at(self.piece.as_slice(), self.next as u64)?;
        self.next += self.piece.length;
        Ok(())
    }
}

/// Reads a whole file past the page cache.
pub(crate) fn read(path: &Path, buffer: &mut Aligned) -> io::Result<u64> {
    let file = direct(OpenOptions::new().read(true)).open(path)?;
    let mut offset = 0;
    loop {
        match file.read_at(buffer.as_mut_slice(), offset)? as u64 {
            0 => return Ok(offset),
            length => offset += length,
        }
    }
}

/// Whether these bytes are at that place of the file.
pub(crate) fn has_at(path: &Path, bytes: &[u8], offset: u64) -> io::Result<bool> {
    let mut found = vec![0; bytes.len()];
    let length = File::open(path)?.read_at(&mut found, offset)?;
    Ok(length == bytes.len() && found == bytes)
}

fn direct(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(target_os = "linux")]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_DIRECT);
    options
}

/// Memory aligned for direct reads and writes.
pub(crate) struct Aligned {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    pub(crate) fn new(length: usize) -> Aligned {
        let memory = vec![0; length + BLOCK_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        Aligned { memory, start, length }
    }

    fn as_slice(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}
