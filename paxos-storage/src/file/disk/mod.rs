//! The files of one directory, behind a trait.
//!
//! The backend accesses the disk only through [`Disk`] and [`DiskFile`]. In tests a simulated disk takes the
//! system's place, which loses, tears or refuses what a real one might.

pub(crate) mod buffer;
#[cfg(test)]
pub(crate) mod simulated;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Mutex;

use self::buffer::{AlignedBuffer, BLOCK_BYTES};
use crate::lock::lock;

/// A directory of files.
pub(crate) trait Disk: Send + Sync + fmt::Debug {
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Creates an empty file, or empties an existing one.
    fn create(&self, name: &str, access: Access) -> io::Result<Box<dyn DiskFile>>;
    /// Opens an existing file.
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn DiskFile>>;
    /// Renames a file, and replaces the one that had the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// How many bytes are free, as far as the system tells.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Makes all changes of names durable.
    fn sync_directory(&self) -> io::Result<()>;
    /// The path of a file, for messages.
    fn path(&self, name: &str) -> PathBuf;
}

/// An open file.
pub(crate) trait DiskFile: Send + Sync + fmt::Debug {
    /// Fills `buffer` from `offset` on, with zeros beyond the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes all writes durable, and the metadata that is needed to read them back.
    fn sync(&self) -> io::Result<()>;
    /// The length of the file.
    fn size_bytes(&self) -> io::Result<u64>;
}

/// How a file is read and written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// Through the page cache, at any offset.
    Cached,
    /// Past the page cache if the file system allows it: whole blocks only, from and to an [`AlignedBuffer`].
    Direct,
}

/// Removes a file, which may be missing already.
pub(crate) fn remove_if_there(disk: &dyn Disk, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// EIO on every Unix.
pub(crate) const INPUT_OUTPUT_ERROR: i32 = 5;

/// Whether a read has failed because of the medium, so that another attempt would fail, too.
pub(crate) fn is_bad_medium(error: &io::Error) -> bool {
    error.raw_os_error() == Some(INPUT_OUTPUT_ERROR)
}

/// A directory of the system.
#[derive(Debug)]
pub(crate) struct SystemDisk {
    directory: PathBuf,
    is_read_only: bool,
    /// The directory, kept open since it was first synced: after a rename, a lack of file descriptors must
    /// not prevent the sync.
    to_sync: Mutex<Option<File>>,
}

#[derive(Debug)]
struct SystemFile(File);

impl SystemDisk {
    pub(crate) fn new(directory: PathBuf) -> SystemDisk {
        SystemDisk { directory, is_read_only: false, to_sync: Mutex::default() }
    }

    /// A directory that is only read.
    pub(crate) fn read_only(directory: PathBuf) -> SystemDisk {
        SystemDisk { directory, is_read_only: true, to_sync: Mutex::default() }
    }
}

impl Disk for SystemDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        // A name that is not Unicode is not one of this backend's files.
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
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {} // This file system does not allow it.
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

    fn free_bytes(&self) -> io::Result<u64> {
        let volume = rustix::fs::statvfs(&self.directory)?;
        Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut to_sync = lock(&self.to_sync);
        match to_sync.as_ref() {
            Some(directory) => directory.sync_all(),
            None => to_sync.insert(File::open(&self.directory)?).sync_all(),
        }
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
                // The file ends here; a direct read could not continue within a block anyway.
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

/// Reads a block: some file systems accept `O_DIRECT` when a file is opened, and refuse every read.
fn probe(file: File) -> io::Result<File> {
    let mut block = AlignedBuffer::with_capacity(BLOCK_BYTES);
    file.read_at(block.resize_zeroed(BLOCK_BYTES), 0)?;
    Ok(file)
}

#[cfg(target_os = "linux")]
const DIRECT: Option<i32> = Some(libc::O_DIRECT);
#[cfg(not(target_os = "linux"))]
const DIRECT: Option<i32> = None;
