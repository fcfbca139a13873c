//! The seam between the log and the system: files in one directory, and when they are in stable storage.
//!
//! All that the backend does to a disk goes through here, so that another [`Disk`] can take the system's place and
//! lose, tear or refuse what a real one might.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use super::buffer::{AlignedBuffer, BLOCK_BYTES};

/// A directory, its files known by name.
pub(super) trait Disk: Send + Sync + fmt::Debug {
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes an empty file, in place of one of that name if there is one.
    fn create(&self, name: &str, access: Access) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file that is there.
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file another name, replacing the file that had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes what was created, renamed and removed stable.
    fn sync_directory(&self) -> io::Result<()>;
    /// The path of a file, for messages.
    fn path(&self, name: &str) -> PathBuf;
}

/// An open file.
pub(super) trait DiskFile: Send + fmt::Debug {
    /// Fills `buffer` from `offset` on, and with zeros behind the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written stable, and as much of the file's description as is needed to read it back.
    fn sync(&self) -> io::Result<()>;
    /// How long the file is.
    fn size_bytes(&self) -> io::Result<u64>;
}

/// How a file is read and written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    /// Through the page cache, at any offset.
    Cached,
    /// Past the page cache where the system can: whole blocks only, from and to an [`AlignedBuffer`].
    Direct,
}

/// Removes a file that may be missing already, as one is that was lost.
pub(super) fn remove_if_there(disk: &dyn Disk, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// EIO, on every Unix.
pub(super) const INPUT_OUTPUT_ERROR: i32 = 5;

/// Whether a read failed for what is on the disk, which another read would not change.
pub(super) fn is_bad_medium(error: &io::Error) -> bool {
    error.raw_os_error() == Some(INPUT_OUTPUT_ERROR)
}

/// A directory of the system.
#[derive(Debug)]
pub(super) struct SystemDisk {
    directory: PathBuf,
    is_read_only: bool,
}

#[derive(Debug)]
struct SystemFile(File);

impl SystemDisk {
    pub(super) fn new(directory: PathBuf) -> SystemDisk {
        SystemDisk { directory, is_read_only: false }
    }

    /// A directory whose files can be read, and in which nothing can be changed.
    pub(super) fn read_only(directory: PathBuf) -> SystemDisk {
        SystemDisk { directory, is_read_only: true }
    }
}

impl Disk for SystemDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        // A name that is no Unicode is none of ours.
        let names =
            std::fs::read_dir(&self.directory)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    fn create(&self, name: &str, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let path = self.path(name);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        match access {
            Access::Cached => Ok(Box::new(SystemFile(file))),
            Access::Direct => {
                drop(file);
                self.open(name, access)
            }
        }
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let path = self.path(name);
        let mut options = OpenOptions::new();
        options.read(true).write(!self.is_read_only);
        if let (Access::Direct, Some(flag)) = (access, DIRECT) {
            match options.clone().custom_flags(flag).open(&path).and_then(probe) {
                Ok(file) => return Ok(Box::new(SystemFile(file))),
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {} // Not on this file system.
                Err(error) => return Err(error),
            }
        }
        Ok(Box::new(SystemFile(options.open(&path)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl DiskFile for SystemFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                // What ends within a block has no more of it; a direct read could not go on from there anyway.
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidInput && filled % BLOCK_BYTES != 0 => {
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        buffer[filled..].fill(0);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

/// Some file systems take the flag and refuse every read and write.
fn probe(file: File) -> io::Result<File> {
    let mut block = AlignedBuffer::with_capacity(BLOCK_BYTES);
    file.read_at(block.resize_zeroed(BLOCK_BYTES), 0)?;
    Ok(file)
}

#[cfg(target_os = "linux")]
const DIRECT: Option<i32> = Some(libc::O_DIRECT);
#[cfg(not(target_os = "linux"))]
const DIRECT: Option<i32> = None;
