//! File systems of a test's own, small enough to be filled. Unmounted when dropped, whatever came of the
//! test.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A file system in memory.
pub(crate) struct MemoryDisk {
    // Dropped after it was unmounted.
    directory: TempDir,
}

impl MemoryDisk {
    /// Mounts one of this many KiB; says why if the system does not allow it.
    pub(crate) fn mount(size_kib: usize) -> Result<MemoryDisk, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let options = format!("size={size_kib}k");
        run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs"], directory.path())?;
        Ok(MemoryDisk { directory })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Puts a file there that takes all the space there is left.
    pub(crate) fn fill(&self) -> Filler {
        let path = self.path("filler");
        let mut file = File::create(&path).expect("a file system that is not full takes a file");
        let block = [7; 4096];
        while file.write_all(&block).is_ok() {}
        Filler(path)
    }

    /// Leaves this many KiB.
    pub(crate) fn fill_but(&self, free_kib: u64) -> Filler {
        let filler = self.fill();
        let file = File::options().write(true).open(&filler.0).expect("it was made just now");
        let length = file.metadata().expect("it is open").len();
        file.set_len(length.saturating_sub(free_kib << 10)).expect("a file can be made shorter");
        filler
    }
}

impl Drop for MemoryDisk {
    fn drop(&mut self) {
        unmount(self.directory.path());
    }
}

/// A file that takes the space of others, until it is dropped.
pub(crate) struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // It is gone with its file system at the latest.
    }
}

/// An ext4 file system in a file.
pub(crate) struct FileDisk {
    image: PathBuf,
    device: String,
    directory: TempDir,
    is_mounted: bool,
}

impl FileDisk {
    /// Makes one of this many MiB in a sparse file, and mounts it; says why if the system does not allow it.
    pub(crate) fn create(image: &Path, size_mib: u64) -> Result<FileDisk, String> {
        let file = File::create(image).map_err(|error| error.to_string())?;
        file.set_len(size_mib << 20).map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q", "-J", "size=4"], image)?;
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut disk =
            FileDisk { image: image.to_owned(), device: String::new(), directory, is_mounted: false };
        disk.attach()?;
        Ok(disk)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Takes the file system away and mounts it again, so that all that is only in the page cache is lost.
    pub(crate) fn mount_again(&mut self) -> Result<(), String> {
        self.detach();
        self.attach()
    }

    fn attach(&mut self) -> Result<(), String> {
        self.device = run("losetup", &["--find", "--show"], &self.image)?;
        let mounted = run("mount", &["-t", "ext4", &self.device], self.directory.path());
        self.is_mounted = mounted.is_ok();
        mounted.map(drop)
    }

    fn detach(&mut self) {
        if std::mem::take(&mut self.is_mounted) {
            unmount(self.directory.path());
        }
        let device = std::mem::take(&mut self.device);
        if !device.is_empty() {
            let _ = run("losetup", &["--detach"], device); // If it is in use, it is detached when that ends.
        }
    }
}

impl Drop for FileDisk {
    fn drop(&mut self) {
        self.detach();
    }
}

fn unmount(path: &Path) {
    if run("umount", &[], path).is_err() {
        let _ = run("umount", &["--lazy"], path); // Whoever still uses it keeps it until they end.
    }
}

/// Runs a command with one more argument; gives its output, or all that is known if it fails.
fn run(program: &str, arguments: &[&str], last: impl AsRef<OsStr>) -> Result<String, String> {
    let mut command = Command::new(program);
    let output = command.args(arguments).arg(last).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
