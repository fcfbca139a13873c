//! The errors of a storage, and what they mean for the node.

use std::fmt;
use std::io;
use std::path::PathBuf;

use paxos_core::{FormatLevel, GroupId, Slot};

use crate::codec::DecodeError;

/// What an [`Error`] means for the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The storage can't be opened or made as asked. Nothing was changed.
    Unusable,
    /// An operation failed. The storage refuses all further calls.
    Failed,
    /// The disk is full, or too many files are open. The write, or the unfinished snapshot, was not stored;
    /// nothing else is lost. The storage can still be used, and the call can be repeated later.
    Full,
    /// Acknowledged data is missing or altered.
    Damaged,
    /// A snapshot's bytes are not what was announced, or a piece of it came out of order. The unfinished
    /// snapshot can be begun anew, and the storage can still be used.
    SnapshotMismatch,
}

/// An error of a storage. [`kind`](Error::kind) tells what it means for the node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory was never made a storage by [`format`](fn@crate::file::format).
    #[error("{} holds no node's data: is the disk mounted?", directory.display())]
    NotFormatted {
        /// The directory.
        directory: PathBuf,
    },
    /// A directory that should become a storage has other files in it.
    #[error("{} is not empty: only an empty directory can become a node's data directory", directory.display())]
    NotEmpty {
        /// The directory.
        directory: PathBuf,
    },
    /// A directory that should become a storage is one already.
    #[error("{} is a node's data directory already", directory.display())]
    AlreadyFormatted {
        /// The directory.
        directory: PathBuf,
    },
    /// The volume is too small for a few segments of the log.
    #[error(
        "{} is on a volume of {volume_bytes} bytes, too small for segments of {segment_bytes} bytes: they may have at \
         most {limit_bytes}",
        directory.display()
    )]
    VolumeTooSmall {
        /// The directory.
        directory: PathBuf,
        /// The size of the volume.
        volume_bytes: u64,
        /// The configured size of a segment.
        segment_bytes: usize,
        /// The largest segment for this volume.
        limit_bytes: u64,
    },
    /// The directory is open already, in this process or another one.
    #[error("{} is in use already, by this process or another one", directory.display())]
    Locked {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory was written in a version of the format that this library can't read.
    #[error("{} has format version {version}, which this version of the program can't read", file.display())]
    UnknownVersion {
        /// The file with this version.
        file: PathBuf,
        /// Its version.
        version: u16,
    },
    /// A part of the log is whole, but holds what this library does not know: a newer one has written it.
    #[error(
        "{} holds {content} at byte {offset}, which this version of the program can't read: use the newer one \
         that wrote it",
        file.display()
    )]
    UnknownContent {
        /// The file.
        file: PathBuf,
        /// Where in the file the part begins, in bytes.
        offset: u64,
        /// What is not known.
        content: &'static str,
    },
    /// The directory belongs to a cluster that has finalized a format level which this library does not know.
    #[error(
        "{} is of format level {level}, and this version of the program knows levels {} to {}: the cluster has \
         finalized a newer one; start a newer version",
        file.display(), FormatLevel::OLDEST, FormatLevel::NEWEST
    )]
    UnknownLevel {
        /// The file that tells the level.
        file: PathBuf,
        /// The level.
        level: FormatLevel,
    },
    /// The directory holds the log of another group than the only one that this library knows: a newer one
    /// has written it.
    #[error("{} is of group {group}, and this version of the program knows group {} alone: use the newer one \
         that wrote it", file.display(), GroupId::ONLY)]
    UnknownGroup {
        /// The file that tells the group.
        file: PathBuf,
        /// The group.
        group: GroupId,
    },
    /// The newest snapshot was written before memberships were part of snapshots, and the registry has no
    /// founding to take its membership from. [`remember`](crate::Storage::remember) the founding, and recover
    /// again.
    #[error("the snapshot of slot {slot} names no members, and those that founded the cluster are not known")]
    MembershipUnknown {
        /// The slot that the snapshot covers.
        slot: Slot,
    },
    /// The cluster's name is empty or too long for the format.
    #[error("a cluster's name has 1 to {limit} bytes")]
    ClusterName {
        /// The longest name, in bytes.
        limit: usize,
    },
    /// An operation of the operating system failed.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// The operation.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// An earlier call has failed, so that the storage refuses this one.
    #[error("the storage has stopped after an error: {cause}")]
    Stopped {
        /// The text of that failure.
        cause: String,
    },
    /// The disk has no space for the next segment of the log, or for a snapshot.
    #[error("no space for {}: {source}; free some space on this disk", path.display())]
    Full {
        /// The file that should have been written.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file can't be opened because the limit on open files is reached.
    #[error("no file descriptor for {}: {source}; raise the limit on open files", path.display())]
    NoDescriptor {
        /// The file that should have been opened.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A value is longer than [`MAX_VALUE_BYTES`](crate::MAX_VALUE_BYTES).
    #[error("a value has {size_bytes} bytes, and a storage accepts at most {limit_bytes}")]
    TooLarge {
        /// The size of the value.
        size_bytes: usize,
        /// The longest value that is accepted.
        limit_bytes: usize,
    },
    /// Acknowledged data is missing or altered.
    #[error("{0}")]
    Damaged(Damage),
    /// What a backend has stored can't be decoded; [`codec::decode`](crate::codec::decode) returns the cause.
    #[error(transparent)]
    Unreadable(#[from] DecodeError),
    /// An error of a backend outside this crate; made by [`Error::foreign`].
    #[error("{source}")]
    Foreign {
        /// What it means for the node.
        kind: ErrorKind,
        /// The backend's own error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A snapshot's bytes are not what was announced.
    #[error("the snapshot of slot {slot} is not whole: {problem}")]
    SnapshotMismatch {
        /// The slot that the snapshot covers.
        slot: Slot,
        /// What is wrong.
        problem: &'static str,
    },
}

impl Error {
    /// Wraps an error of a backend outside this crate. `kind` decides how the node reacts: after
    /// [`Failed`](ErrorKind::Failed) and [`Damaged`](ErrorKind::Damaged) it stops; after
    /// [`Full`](ErrorKind::Full) and [`SnapshotMismatch`](ErrorKind::SnapshotMismatch) it continues, so the
    /// backend must be as usable as before the call.
    ///
    /// ```
    /// use paxos_storage::{Error, ErrorKind};
    ///
    /// let error = Error::foreign(ErrorKind::Failed, "the database has lost its connection");
    /// assert_eq!(error.kind(), ErrorKind::Failed);
    /// ```
    #[must_use]
    pub fn foreign(kind: ErrorKind, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Foreign { kind, source: source.into() }
    }

    /// Whether a newer program has written what can't be read here: nothing is damaged, and that program can
    /// go on.
    #[must_use]
    pub fn needs_newer_program(&self) -> bool {
        matches!(
            self,
            Error::UnknownVersion { .. }
                | Error::UnknownContent { .. }
                | Error::UnknownLevel { .. }
                | Error::UnknownGroup { .. }
                | Error::Unreadable(
                    DecodeError::UnknownVersion(_)
                        | DecodeError::UnknownContent(_)
                        | DecodeError::UnknownLevel(_)
                )
        )
    }

    /// What this error means for the node.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Io { .. } | Error::Stopped { .. } | Error::TooLarge { .. } => ErrorKind::Failed,
            Error::Full { .. } | Error::NoDescriptor { .. } => ErrorKind::Full,
            Error::Foreign { kind, .. } => *kind,
            Error::Damaged(_) | Error::Unreadable(DecodeError::Damaged | DecodeError::OtherKind { .. }) => {
                ErrorKind::Damaged
            }
            Error::NotFormatted { .. }
            | Error::NotEmpty { .. }
            | Error::AlreadyFormatted { .. }
            | Error::VolumeTooSmall { .. }
            | Error::Locked { .. }
            | Error::UnknownVersion { .. }
            | Error::UnknownContent { .. }
            | Error::UnknownLevel { .. }
            | Error::UnknownGroup { .. }
            | Error::MembershipUnknown { .. }
            | Error::ClusterName { .. }
            | Error::Unreadable(_) => ErrorKind::Unusable,
            Error::SnapshotMismatch { .. } => ErrorKind::SnapshotMismatch,
        }
    }
}

/// Damage to acknowledged data: where it is and what it may have cost.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Damage {
    /// The damaged (or missing) file.
    pub file: PathBuf,
    /// Where in the file the damage begins, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub cause: DamageCause,
    /// The first and last slot whose values may be lost. `None` means: no slot if the promise is intact, and
    /// otherwise that the slots are unknown.
    pub slots: Option<(Slot, Slot)>,
    /// Whether the newest promise is still known. If so, the node can learn the lost values from its peers.
    /// If not, it must never take part under its id again: it could break a promise.
    pub is_promise_intact: bool,
}

/// What to do about a node that may have forgotten a promise.
const REPLACE: &str = "replace this node by one with a new id";

/// What is wrong with a damaged file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DamageCause {
    /// A frame is unreadable, and a later one proves that it was acknowledged.
    Frame,
    /// A frame is whole, but another one belongs in its place.
    MisplacedFrame,
    /// The disk reports a read error.
    Unreadable,
    /// The header of a segment is unreadable.
    SegmentHeader,
    /// The file of a segment is missing.
    MissingSegment,
    /// The segment was written by another node or storage.
    ForeignSegment,
    /// META, which describes the directory, is missing or unreadable in both copies.
    Meta,
    /// A snapshot is missing, or its size or checksum is wrong.
    Snapshot,
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} is damaged at byte {}: {}", self.file.display(), self.offset, self.cause)?;
        match (self.slots, self.is_promise_intact) {
            (Some((first, last)), true) => {
                write!(
                    formatter,
                    "; slots {first} to {last} may be lost; the promise is intact, so this node learns them from its peers"
                )
            }
            (None, true) => formatter.write_str("; nothing is lost"),
            (Some((first, last)), false) => {
                write!(formatter, "; slots {first} to {last} and the promise may be lost: {REPLACE}")
            }
            (None, false) => {
                write!(formatter, "; unknown slots and the promise may be lost: {REPLACE}")
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
