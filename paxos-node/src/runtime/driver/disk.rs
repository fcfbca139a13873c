//! The driver's side of the disk: jobs for the writer, and their results.

use std::time::Instant;

use paxos_core::{Input, Write};
use paxos_storage::Capacity;

use super::Driver;
use super::disk_watch::DiskWatch;
use crate::error::NodeError;
use crate::runtime::backlog::Unsynced;
use crate::runtime::writer::{Job, JobResult, Writer, is_crowded};
use crate::settings::{NodeSettings, WriterMode};
use crate::state_machine::StateMachine;

/// With more bytes than this on their way to the disk, or twice the window, incoming messages are dropped.
const UNSYNCED_BYTES: usize = 32 << 20;

/// The writer, and what is known of its disk.
pub(super) struct Disk {
    pub(super) writer: Writer,
    pub(super) unsynced: Unsynced,
    pub(super) watch: DiskWatch,
    /// How much more the storage can take.
    pub(super) capacity: Capacity,
    /// When a crowded slot was last written: more commands in one slot mean that much is to do, perhaps for
    /// others on this machine as well, from whom polling must not take the processor.
    pub(super) crowded_at: Option<Instant>,
    mode: WriterMode,
}

impl Disk {
    pub(super) fn new(writer: Writer, settings: &NodeSettings) -> Disk {
        let limit_bytes = UNSYNCED_BYTES.max(settings.protocol.window_bytes.saturating_mul(2));
        Disk {
            writer,
            unsynced: Unsynced::new(limit_bytes),
            watch: DiskWatch::default(),
            capacity: Capacity::Ample,
            crowded_at: None,
            mode: settings.writer,
        }
    }

    /// Notes a write of the replica, which is submitted at the end of the turn.
    pub(super) fn note_write(&mut self, write: &Write) {
        self.unsynced.add(write);
        // A storage without a thread is never waited for, so there is no other time to sleep in.
        if self.mode == WriterMode::Thread && is_crowded(write) {
            self.crowded_at = Some(Instant::now());
        }
    }
}

impl<S: StateMachine> Driver<S> {
    pub(super) fn on_job_result(&mut self, result: JobResult) -> Result<(), NodeError> {
        let input = match result {
            JobResult::Durable(durable) => {
                self.disk.unsynced.on_durable(&durable);
                Input::Durable(durable)
            }
            JobResult::SnapshotStored { slot, offset } => Input::SnapshotStored { slot, offset },
            JobResult::SnapshotRejected { slot } => Input::SnapshotRejected { slot },
            JobResult::SnapshotLoaded { to, meta, offset, data } => {
                Input::SnapshotLoaded { to, meta, offset, data }
            }
            JobResult::SnapshotFinished { meta, is_own } => {
                self.metrics.snapshots.increment(1);
                self.local_state.own_snapshots.on_saved(&meta);
                self.disk.writer.submit(Job::Compact { through: meta.slot });
                if is_own { Input::SnapshotSaved { meta } } else { Input::SnapshotInstalled { meta } }
            }
            JobResult::Remembered(registry) => {
                self.peers.introductions.on_remembered(registry);
                return Ok(());
            }
            JobResult::Capacity(capacity) => {
                self.disk.capacity = capacity;
                return Ok(());
            }
            JobResult::Failed(error) => return Err(NodeError::Storage(error)),
        };
        self.step(input)
    }
}
