//! A write-ahead log in a directory.
//!
//! ```text
//! META                            the node's identity, the valid segments and snapshots; in two copies
//! LOCK                            locked by the process that has opened the directory
//! wal-000000000001 ...            segments of the log, filled with zeros or with what an earlier one held
//! wal-000000000001.spare ...      old segments, at most four, that are kept to be used again
//! snapshot-00000000000000000042   the two newest snapshots: the state byte for byte, and the membership
//! *.new                           unfinished files; the next start removes them
//! ```
//!
//! - **One write, one frame, one sync.** Frames are padded to whole blocks of 4096 bytes, so that a synced
//!   block is never written again. Frames bypass the page cache (`O_DIRECT`) if the file system allows it.
//! - **Torn or damaged?** Recovery tells a write that was never acknowledged, which it cuts off, from damage
//!   to one that was. If the newest promise is still known in spite of damage, recovery reports it and
//!   continues: [`Recovered::incomplete_through`](paxos_core::Recovered::incomplete_through) is the last slot
//!   of which an acceptance may be lost, and the replica learns the chosen values up to there from its peers.
//!   After any other damage, recovery fails.
//! - **Fail-stop.** After a failed write or sync, the storage acknowledges nothing more. It never repeats a
//!   sync.
//! - **Each byte once.** The file of a segment that a snapshot covers becomes a later segment, so that the
//!   disk is not filled with zeros first.
//! - **Space.** A thread prepares the next segment before it is needed: a smaller one if there is no space
//!   for a whole one. If there is not even space for the smallest, or no file descriptor,
//!   [`Storage::capacity`](crate::Storage::capacity) is low, while there is still room in this one. Old
//!   segments that are kept to be used again are removed first.
//! - **[`FileStorage::open`] never creates a storage.** [`format()`] does, once: a node whose disk is not
//!   mounted must fail to start, and not start without its promises.
//!
//! # Versions of the format
//!
//! Segments and frames are written in version 3, and META, too; once the cluster has finalized a
//! [format level](paxos_core::FormatLevel) above the first and a snapshot names it, META has version 4 and
//! tells the level. Versions 1, the oldest, and 2 are still read: such a
//! directory is opened, recovered and written on as it is. New frames go to new segments, since
//! no segment holds frames of two versions, and older segments are removed when a snapshot covers them. A
//! newer version is refused ([`Error::UnknownVersion`](crate::Error::UnknownVersion)), and so is a frame with
//! content that only a newer one knows ([`Error::UnknownContent`](crate::Error::UnknownContent)), and what is
//! of a level that is not known ([`Error::UnknownLevel`](crate::Error::UnknownLevel)). The same
//! holds for an older program once this one has written to a directory.
//!
//! A snapshot of version 1 has no membership. It gets the founding one of the
//! [`Registry`](crate::Registry). If that is not known either, recovery returns
//! [`Error::MembershipUnknown`](crate::Error::MembershipUnknown), and can be repeated after the founding was
//! [remembered](crate::Storage::remember).
//!
//! The files under `layout/` show the format byte by byte. All numbers are little-endian; checksums are
//! CRC32C.
//!
//! | file | what it does |
//! |---|---|
//! | `storage` | opens a directory, and implements [`Storage`](crate::Storage) |
//! | `format` | makes a directory, and checks whose it is |
//! | `append/log` | writes frames, and moves to the next segment |
//! | `append/prepare` | makes the next segment ahead of time |
//! | `append/spares` | keeps the files of old segments, to be used again |
//! | `recovery/mod` | reads the log back, and cuts a torn tail |
//! | `recovery/scan` | follows the frames, and tells torn from damaged |
//! | `recovery/losses` | what damage means for entries and watermark |
//! | `recovery/inspect` | reports what a directory holds, without changing it |
//! | `snapshot` | snapshot files |
//! | `layout/*` | the formats of META, segments and frames |
//! | `disk/*` | files and syncs, behind a trait that a simulated disk implements, too |
//! | `failure` | which errors leave the storage usable |
//!
//! Deliberately absent: repair of damaged files. The lost values come from the peers and are written like new
//! ones; a damaged segment is removed when a snapshot covers it.

mod append;
mod disk;
mod failure;
mod format;
mod layout;
mod mutant;
mod recovery;
mod snapshot;
mod storage;
#[cfg(test)]
mod tests;

pub use format::{Usage, format, free_bytes, identity, usage, volume_bytes};
pub use recovery::inspect::{
    FrameReport, Inspection, MembershipPlace, MembershipReport, SegmentReport, SnapshotReport, SpareReport,
    inspect, inspect_entries,
};
pub use storage::{FileSettings, FileStorage};
