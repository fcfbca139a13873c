//! Backups: a state of a cluster after one slot, in a file, and new clusters that begin with it.
//!
//! # The file
//!
//! ```text
//! size
//!    8  magic "paxosbak"
//!    4  version, 1
//!    4  length of the description
//!       description, JSON: see [`Description`]
//!    4  CRC32C of all of that
//!       blocks, each:
//!         1  kind: 1 data, 2 the end
//!         4  length of the contents
//!            contents
//!         4  CRC32C of the block's offset in the file (8 bytes) and of all of the block before this sum
//! ```
//!
//! The data is the state as a snapshot of a node has it, in pieces. The end block holds the length of all
//! data (8 bytes) and the SHA-256 of the whole file before this block (32 bytes); nothing follows it. All
//! numbers are little-endian.
//!
//! So each flipped bit is found in its block, and so is a file that is cut, even between two blocks. The
//! SHA-256 is the backup's name: clusters that are restored from different files know it by that.
//!
//! [`BackupWriter`] and [`BackupReader`] write and read files, [`verify`] checks all of one, and
//! [`restore()`] makes storages of a new cluster.
//!
//! Deliberately absent: backups of what has changed since another one, compression and encryption. Programs
//! for files do the latter two.

mod reader;
#[cfg(feature = "file")]
mod restore;
#[cfg(all(test, feature = "file"))]
pub(crate) mod tests;
mod writer;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::reader::{BackupReader, verify};
#[cfg(feature = "file")]
pub use self::restore::{NewNode, Restored, restore};
pub use self::writer::BackupWriter;

const MAGIC: &[u8; 8] = b"paxosbak";
/// The version of the format that is written, and the only one that is read.
pub const FORMAT_VERSION: u32 = 1;
/// The longest description, in bytes.
const MAX_DESCRIPTION_BYTES: usize = 1 << 20;
/// The longest contents of a block, in bytes.
const MAX_BLOCK_BYTES: usize = 1 << 20;
const DATA: u8 = 1;
const END: u8 = 2;
/// Kind and length.
const BLOCK_HEAD_BYTES: usize = 5;
const SUM_BYTES: usize = 4;
/// The contents of the end block.
const END_BYTES: usize = 8 + 32;

/// What a backup is of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Description {
    /// The version of the program that has taken it.
    pub program: String,
    /// The name of the cluster.
    pub cluster: String,
    /// The id of the cluster, as 32 hexadecimal digits.
    pub cluster_id: String,
    /// The node that the state comes from.
    pub node: u64,
    /// The state is that after this slot.
    pub slot: u64,
    /// The time of the log at that slot, in milliseconds since 1970.
    pub time_millis: u64,
    /// When the backup was begun, by the wall clock of the node, in milliseconds since 1970.
    pub taken_at_millis: u64,
    /// The epoch of the membership that the node knew.
    pub epoch: u64,
    /// The members that it knew, in ascending order of ids.
    pub members: Vec<BackupMember>,
    /// The ids of members that were removed.
    pub removed: Vec<u64>,
    /// What the state says of itself: of the store, `keys` and `revision`.
    pub facts: BTreeMap<String, String>,
}

/// A member of the cluster that a backup was taken of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BackupMember {
    /// Its id.
    pub id: u64,
    /// `voter` or `learner`.
    pub role: String,
    /// Where its peers reached it.
    pub address: String,
}

/// The SHA-256 of a backup, but for its last block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sha256(pub [u8; 32]);

impl fmt::Display for Sha256 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// A backup that was read to its end, and found whole.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Verified {
    /// What it is of.
    pub description: Description,
    /// Its name.
    pub sha256: Sha256,
    /// The length of the state in it.
    pub state_bytes: u64,
    /// How many keys the state has.
    pub keys: u64,
    /// The revision of the last change of a key.
    pub revision: u64,
}

/// Why a backup can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The file begins with other bytes.
    #[error("this is no backup: it does not begin as one, at byte 0")]
    NoBackup,
    /// It was written in another version of the format.
    #[error(
        "the backup has format version {version}, at byte 8, and this program reads version {FORMAT_VERSION}"
    )]
    Version {
        /// That version.
        version: u32,
    },
    /// Something in it is not what was written.
    #[error("the backup is damaged at byte {offset}: {problem}")]
    Damaged {
        /// Where the damaged part begins.
        offset: u64,
        /// What is wrong there.
        problem: &'static str,
    },
    /// It ends too early.
    #[error("the backup is cut: it ends at byte {offset}, in the middle of {part}")]
    Cut {
        /// The length of the file.
        offset: u64,
        /// What is not whole.
        part: &'static str,
    },
    /// Its bytes are as they were written, but are no state that this version of the program understands.
    #[error("the backup is whole, but its state can't be read before byte {offset}: {problem}")]
    State {
        /// How far the file was read.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
    /// There are no revisions left for the new cluster.
    #[error("revisions can't be raised by {by} from {revision}: they must stay below 2^62")]
    TooManyRevisions {
        /// The revision in the backup.
        revision: u64,
        /// By how much it was to be raised.
        by: u64,
    },
    /// The storage of the new node can't be made.
    #[error(transparent)]
    Storage(#[from] paxos_storage::Error),
    /// The file can't be read or written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}
