//! What a storage is asked to do, and how it is done.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc as blocking;

use bytes::Bytes;
use paxos_core::{Durable, NodeId, Slot, SnapshotMeta, Write};
use paxos_storage::{Capacity, DeferredWork, Error, ErrorKind, Registry, Storage};
use tokio::sync::mpsc;

use super::activity::Activity;
use super::snapshot_reader::{READ_BYTES, to_io};

/// Tells the thread that writes a snapshot that a job of it is done, with work that the storage has deferred.
pub(crate) type Author = blocking::SyncSender<Option<DeferredWork>>;

/// Something to do with the storage.
pub(crate) enum Job {
    Persist(Write),
    /// Write a piece of a snapshot. A piece from a peer is reported to the driver, a piece of this node's own
    /// snapshot to the thread that writes it (`author`).
    StoreSnapshot {
        slot: Slot,
        offset: u64,
        data: Bytes,
        author: Option<Author>,
    },
    /// The author of a snapshot could not do what the storage had left to it.
    FailSnapshot(Error),
    FinishSnapshot {
        meta: SnapshotMeta,
        author: Option<Author>,
    },
    /// Read a piece of a snapshot for a peer.
    LoadSnapshot {
        to: NodeId,
        meta: SnapshotMeta,
        offset: u64,
        max_bytes: usize,
    },
    /// Read a piece of a snapshot for the thread that restores it.
    ReadSnapshot {
        slot: Slot,
        offset: u64,
        reader: blocking::SyncSender<io::Result<Option<Bytes>>>,
    },
    Compact {
        through: Slot,
    },
    Remember(Registry),
}

/// What the writer reports to the driver.
#[derive(Debug)]
pub(crate) enum JobResult {
    Durable(Durable),
    SnapshotStored {
        slot: Slot,
        offset: u64,
    },
    SnapshotFinished {
        meta: SnapshotMeta,
        is_own: bool,
    },
    SnapshotRejected {
        slot: Slot,
    },
    SnapshotLoaded {
        to: NodeId,
        meta: SnapshotMeta,
        offset: u64,
        data: Bytes,
    },
    Remembered(Registry),
    /// How much more the storage can take has changed.
    Capacity(Capacity),
    /// The storage does nothing more.
    Failed(Error),
}

type Results = mpsc::UnboundedSender<JobResult>;

impl Job {
    /// Whether the storage may have more room once this is done.
    pub(super) fn makes_room(&self) -> bool {
        matches!(self, Job::FinishSnapshot { .. } | Job::Compact { .. })
    }

    /// Runs the job and reports its result. An error means that the storage must not be called any more.
    pub(super) fn run(
        self,
        storage: &mut dyn Storage,
        results: &Results,
        activity: &Activity,
    ) -> Result<(), Error> {
        let result = match self {
            Job::Persist(write) => JobResult::Durable(activity.watch(|| storage.persist(write))?),
            Job::StoreSnapshot { slot, offset, data, author } => {
                if let Err(error) = activity.watch(|| storage.write_snapshot(slot, offset, &data)) {
                    return reject_snapshot(slot, error, results);
                }
                let is_own = author.is_some();
                leave_work(storage, author, activity)?;
                if is_own {
                    return Ok(());
                }
                JobResult::SnapshotStored { slot, offset: offset + data.len() as u64 }
            }
            Job::FailSnapshot(error) => return Err(error),
            Job::FinishSnapshot { meta, author } => {
                if let Err(error) = activity.watch(|| storage.finish_snapshot(meta.clone())) {
                    return reject_snapshot(meta.slot, error, results);
                }
                let is_own = author.is_some();
                leave_work(storage, author, activity)?;
                JobResult::SnapshotFinished { meta, is_own }
            }
            Job::LoadSnapshot { to, meta, offset, max_bytes } => {
                match activity.watch(|| storage.read_snapshot(meta.slot, offset, max_bytes)) {
                    Ok(Some(data)) => JobResult::SnapshotLoaded { to, meta, offset, data },
                    Ok(None) => return Ok(()),
                    // The peer asks again.
                    Err(error) if error.kind() == ErrorKind::Full => {
                        tracing::debug!(slot = meta.slot.0, %error, "a piece of a snapshot can't be read for now");
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                }
            }
            Job::ReadSnapshot { slot, offset, reader } => {
                let piece = activity.watch(|| storage.read_snapshot(slot, offset, READ_BYTES));
                let _ = reader.send(piece.map_err(to_io)); // Its thread may have given up.
                return Ok(());
            }
            Job::Compact { through } => return activity.watch(|| storage.compact(through)),
            Job::Remember(registry) => {
                activity.watch(|| storage.remember(&registry))?;
                JobResult::Remembered(registry)
            }
        };
        let _ = results.send(result); // A driver that is gone wants no results.
        Ok(())
    }
}

/// Takes all queued writes out of the jobs, merged into one behind an earlier one.
pub(super) fn take_writes(earlier: Option<Write>, jobs: &mut VecDeque<Job>) -> Option<Write> {
    let mut merged = earlier;
    let mut others = VecDeque::new();
    for job in jobs.drain(..) {
        match job {
            Job::Persist(write) => match &mut merged {
                Some(merged) => merged.merge(write),
                None => merged = Some(write),
            },
            other => others.push_back(other),
        }
    }
    *jobs = others;
    merged
}

/// Leaves what the storage has deferred to the author of a snapshot, so that the log can be written
/// meanwhile. Without one it is done here.
fn leave_work(storage: &mut dyn Storage, author: Option<Author>, activity: &Activity) -> Result<(), Error> {
    let work = storage.deferred_work();
    if let Some(author) = author {
        let _ = author.send(work); // Its thread may have given up.
        return Ok(());
    }
    work.map_or(Ok(()), |work| activity.watch(work))
}

/// Gives a snapshot up that is not whole or for which there is no room; the storage goes on.
fn reject_snapshot(slot: Slot, error: Error, results: &Results) -> Result<(), Error> {
    if !matches!(error.kind(), ErrorKind::SnapshotMismatch | ErrorKind::Full) {
        return Err(error);
    }
    tracing::warn!(slot = slot.0, %error, "a snapshot could not be stored");
    let _ = results.send(JobResult::SnapshotRejected { slot });
    Ok(())
}
