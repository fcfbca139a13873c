//! The driver's side of the state machine: chosen values to be applied, and reads that wait for them.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use paxos_core::{Membership, ReadId, Slot, SnapshotMeta, Time, Value};

use super::Driver;
use crate::error::NodeError;
use crate::runtime::applier::{Applier, ApplyResult};
use crate::runtime::log_meter::LogMeter;
use crate::runtime::replicated::SharedState;
use crate::runtime::snapshot_interval::{SnapshotInterval, Turn};
use crate::runtime::snapshots::OwnSnapshots;
use crate::settings::NodeSettings;
use crate::state_machine::StateMachine;
use crate::status::Digest;

/// The applier, and what waits for it.
pub(super) struct LocalState<S> {
    pub(super) applier: Applier<S>,
    /// Reads that may be answered once everything up to their slot is applied, and by which time of the
    /// leader; slots ascend.
    pub(super) reads_behind: VecDeque<(Slot, ReadId, Time)>,
    pub(super) digest: Digest,
    pub(super) own_snapshots: OwnSnapshots,
    pub(super) log_meter: LogMeter,
}

impl<S: StateMachine> LocalState<S> {
    /// Starts the applier on the state of a snapshot, or on the initial one.
    pub(super) fn start(
        settings: &NodeSettings,
        shared: SharedState<S>,
        snapshot: Option<&SnapshotMeta>,
        membership: &Membership,
    ) -> io::Result<LocalState<S>> {
        let applied = snapshot.map_or(Slot::ZERO, |meta| meta.slot);
        let interval = SnapshotInterval::new(
            Turn::of(settings.node, membership),
            settings.snapshot_after_bytes,
            settings.max_log_bytes(),
            snapshot.map_or(0, |meta| meta.size_bytes),
        );
        Ok(LocalState {
            applier: Applier::start(shared, applied, settings.applying)?,
            reads_behind: VecDeque::new(),
            digest: Digest::default(),
            own_snapshots: OwnSnapshots::new(interval),
            log_meter: LogMeter::beginning_after(applied),
        })
    }

    pub(super) fn on_tick(&mut self) -> Result<(), NodeError> {
        self.applier.watch();
        self.log_meter.mark();
        if let Some(digest) = self.applier.digest_now()? {
            self.digest = digest;
        }
        Ok(())
    }
}

impl<S: StateMachine> Driver<S> {
    /// Applies a chosen value. Returns the time by then if that was done at once, and not left to the thread.
    pub(super) fn apply_chosen(&mut self, slot: Slot, value: Value) -> Result<Option<Instant>, NodeError> {
        let clients = &mut self.clients;
        let command_seconds = &self.metrics.command_seconds;
        let (now, value_bytes) = (Instant::now(), value.size_bytes());
        let end = self.local_state.applier.apply(slot, value, now, |executed| {
            if let Some(since) = clients.on_executed(slot, executed) {
                command_seconds.record(now - since);
            }
        })?;
        self.local_state.own_snapshots.on_applied(value_bytes);
        self.local_state.log_meter.add(slot, value_bytes);
        self.take_snapshot_if_due();
        Ok(end)
    }

    /// Has a snapshot taken. One that was put off while a peer fetched an older one is still due when the log
    /// is full, and nothing is applied any more.
    pub(super) fn take_snapshot_if_due(&mut self) {
        let may_take = self.replica.may_take_snapshot();
        if let Some(under_way) = self.local_state.own_snapshots.begin_if_due(may_take) {
            self.local_state.applier.snapshot(under_way);
        }
    }

    /// Takes in what the applier's thread reports.
    pub(super) fn on_apply_result(&mut self, result: ApplyResult) -> Result<(), NodeError> {
        match result {
            ApplyResult::Slot { slot, executed, .. } => {
                let now = Instant::now();
                for executed in executed {
                    if let Some(since) = self.clients.on_executed(slot, executed) {
                        self.metrics.command_seconds.record(now - since);
                    }
                }
            }
            ApplyResult::Snapshot(own) => {
                // Without one a newer snapshot has been installed meanwhile, and this one is of no more use.
                if let Some(membership) = self.replica.membership_at(own.slot) {
                    own.write(membership, self.disk.writer.sender());
                }
            }
            ApplyResult::Restored { slot, time, answers } => {
                self.replica.restore_time(time);
                self.clients.on_restored(answers);
                tracing::info!(node = self.settings.node.0, slot = slot.0, "caught up by a snapshot");
            }
            ApplyResult::Digest(digest) => self.local_state.digest = digest,
            ApplyResult::Failed(error) => return Err(error),
        }
        self.answer_reads();
        Ok(())
    }

    /// Answers the reads for which enough is applied.
    pub(super) fn answer_reads(&mut self) {
        let LocalState { applier, reads_behind, .. } = &mut self.local_state;
        while let Some((slot, read, time)) = reads_behind.front()
            && *slot <= applier.applied()
        {
            self.clients.reads.on_ready(*read, *time);
            reads_behind.pop_front();
        }
    }

    /// Whether so much waits to be applied that this node takes on nothing more.
    pub(super) fn is_behind(&self) -> bool {
        self.local_state.applier.is_behind() || self.outputs.is_long()
    }
}
