//! The file of a backup that is taken: it has its name only once it is whole and on the disk.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::cli::Failure;

/// The directory of a backup, and its name there.
pub(super) struct Place {
    path: PathBuf,
    directory: PathBuf,
    may_overwrite: bool,
}

impl Place {
    /// Checks what can be checked before anything is fetched.
    pub(super) fn new(path: &Path, may_overwrite: bool) -> Result<Place, Failure> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = parent.unwrap_or(Path::new(".")).to_owned();
        if path.file_name().is_none() || path.is_dir() {
            return Err(Failure::usage(format!("--out {}: the name of a file is needed", path.display())));
        }
        let place = Place { path: path.to_owned(), directory, may_overwrite };
        if !may_overwrite && path.exists() {
            return Err(place.exists());
        }
        Ok(place)
    }

    fn exists(&self) -> Failure {
        Failure::usage(format!(
            "{} exists; name another file, or replace it by --overwrite",
            self.path.display()
        ))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A file beside it, under a name of its own. It is removed unless it is [kept](Place::keep).
    pub(super) fn begin(&self) -> Result<NamedTempFile, Failure> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".{name}.");
        let made = tempfile::Builder::new().prefix(&prefix).suffix(".part").tempfile_in(&self.directory);
        made.map_err(|error| self.failed(&error))
    }

    /// Makes the file durable under its name.
    pub(super) fn keep(&self, file: NamedTempFile) -> Result<(), Failure> {
        file.as_file().sync_all().map_err(|error| self.failed(&error))?;
        let kept =
            if self.may_overwrite { file.persist(&self.path) } else { file.persist_noclobber(&self.path) };
        kept.map_err(|failed| match failed.error.kind() {
            io::ErrorKind::AlreadyExists => self.exists(),
            _ => self.failed(&failed.error),
        })?;
        let directory = File::open(&self.directory).and_then(|directory| directory.sync_all());
        directory.map_err(|error| self.failed(&error))
    }

    pub(super) fn failed(&self, error: &io::Error) -> Failure {
        Failure::other(format!("{} can't be written: {error}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).expect("it is there");
        entries.map(|entry| entry.expect("it is there").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole_and_is_replaced_only_if_that_is_wanted() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("today.backup");
        let place = Place::new(&path, false).expect("it is a new file");
        drop(place.begin().expect("it can be made"));
        assert!(names(directory.path()).is_empty(), "what was given up is gone");
        for contents in ["one", "two"] {
            let place = Place::new(&path, contents == "two").expect("it may be written");
            let mut file = place.begin().expect("it can be made");
            file.write_all(contents.as_bytes()).expect("there is room");
            place.keep(file).expect("it can be kept");
            assert_eq!(std::fs::read_to_string(&path).expect("it is there"), contents);
        }
        let refused = Place::new(&path, false).err().expect("it exists").line;
        assert!(refused.contains("--overwrite"), "{refused}");
        // Somebody else was quicker.
        let file = place.begin().expect("it can be made");
        assert!(place.keep(file).is_err_and(|refused| refused.line.contains("exists")));
        assert_eq!(names(directory.path()), ["today.backup"]);
    }
}
