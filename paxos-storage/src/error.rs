//! What can go wrong with a storage.

use std::fmt;
use std::io;
use std::path::PathBuf;

use paxos_core::Slot;

/// What an [`Error`] means for whoever runs the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The directory can't be used as it is; it has not been touched.
    Unusable,
    /// An operation failed; the storage does nothing more.
    Failed,
    /// The disk is full. The write, or the unfinished snapshot, is not stored, and nothing else is lost; the storage
    /// goes on.
    Full,
    /// Something that had been acknowledged is missing or altered.
    Damaged,
    /// A snapshot is not what it should be; the storage goes on.
    SnapshotMismatch,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no formatted storage in the directory.
    #[error("{} holds no node's data: is the disk mounted? If the node is new, run 'paxos-node format' first", directory.display())]
    NotFormatted {
        /// The directory.
        directory: PathBuf,
    },
    /// A directory to be formatted is not empty.
    #[error("{} is not empty: format only makes empty directories a node's own", directory.display())]
    NotEmpty {
        /// The directory.
        directory: PathBuf,
    },
    /// Another process has the directory open.
    #[error("{} is in use by another process", directory.display())]
    Locked {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory was written by a version that this one does not know.
    #[error("{} is of format version {version}, which this program does not know", file.display())]
    UnknownVersion {
        /// The file that says so.
        file: PathBuf,
        /// Its version.
        version: u16,
    },
    /// The name of the cluster does not fit into the format.
    #[error("a cluster's name has 1 to {limit} bytes")]
    ClusterName {
        /// The longest name.
        limit: usize,
    },
    /// An operation of the operating system failed.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// The storage has failed before.
    #[error("the storage has stopped after: {cause}")]
    Stopped {
        /// The first failure.
        cause: String,
    },
    /// There is no room for the next part of the log, or for a snapshot.
    #[error("no space for {}: {source}; free some space on this disk", path.display())]
    Full {
        /// What was to be made.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// A value is longer than any storage takes.
    #[error("a value of {size_bytes} bytes is longer than the {limit_bytes} that a storage takes")]
    TooLarge {
        /// Its size.
        size_bytes: usize,
        /// The longest value.
        limit_bytes: usize,
    },
    /// Something that had been acknowledged is missing or altered.
    #[error("{0}")]
    Damaged(Damage),
    /// A snapshot is not what it should be.
    #[error("the snapshot of slot {slot} is not whole: {problem}")]
    SnapshotMismatch {
        /// Its slot.
        slot: Slot,
        /// What is wrong.
        problem: &'static str,
    },
}

impl Error {
    /// What this means for whoever runs the node.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NotFormatted { .. }
            | Error::NotEmpty { .. }
            | Error::Locked { .. }
            | Error::UnknownVersion { .. }
            | Error::ClusterName { .. } => ErrorKind::Unusable,
            Error::Io { .. } | Error::Stopped { .. } | Error::TooLarge { .. } => ErrorKind::Failed,
            Error::Full { .. } => ErrorKind::Full,
            Error::Damaged(_) => ErrorKind::Damaged,
            Error::SnapshotMismatch { .. } => ErrorKind::SnapshotMismatch,
        }
    }
}

/// Where stable storage has lost something, and what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The damaged (or missing) file.
    pub file: PathBuf,
    /// Where in the file the damage begins.
    pub offset: u64,
    /// What is wrong there.
    pub cause: DamageCause,
    /// The slots whose values may be lost, first and last. `None` if none is and the promise is intact, or if that
    /// can't be told.
    pub slots: Option<(Slot, Slot)>,
    /// Whether the newest promise is still known. Then the node can learn from its peers what was chosen; otherwise it
    /// can't take part under its id again.
    pub is_promise_intact: bool,
}

/// What to do about a node that may have forgotten a promise.
const REPLACE: &str = "replace this node by one with a new id, as the README tells under 'Replacing a node'";

/// What is wrong with a damaged file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DamageCause {
    /// A frame is bad, and there is proof that it was acknowledged.
    Frame,
    /// A frame is whole, but not in its place.
    MisplacedFrame,
    /// The disk can't read what it stored.
    Unreadable,
    /// A segment's header is bad.
    SegmentHeader,
    /// A segment is not there.
    MissingSegment,
    /// The segment was written by another node or storage.
    ForeignSegment,
    /// The description of the directory is missing, or neither of its copies can be read.
    Meta,
    /// A snapshot is not there, or not what it should be.
    Snapshot,
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} is damaged at byte {}: {}", self.file.display(), self.offset, self.cause)?;
        match (self.slots, self.is_promise_intact) {
            (Some((first, last)), true) => {
                write!(
                    formatter,
                    "; slots {first} to {last} may be lost; the promise is intact, so they are learned anew"
                )
            }
            (None, true) => formatter.write_str("; nothing is lost by it"),
            (Some((first, last)), false) => {
                write!(formatter, "; slots {first} to {last} may be lost, and the promise, too: {REPLACE}")
            }
            (None, false) => {
                write!(formatter, "; which slots are lost is unknown, and the promise may be, too: {REPLACE}")
            }
        }
    }
}

impl fmt::Display for DamageCause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            DamageCause::Frame => "an acknowledged frame is bad",
            DamageCause::MisplacedFrame => "a frame is not in its place",
            DamageCause::Unreadable => "the disk can't read what it stored",
            DamageCause::SegmentHeader => "the segment's header is bad",
            DamageCause::MissingSegment => "the segment is missing",
            DamageCause::ForeignSegment => "the segment was written by another node",
            DamageCause::Meta => "it is missing, or neither of its copies can be read",
            DamageCause::Snapshot => "the snapshot is missing or bad",
        })
    }
}
