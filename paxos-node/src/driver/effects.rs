//! What the replica wants done.

use std::time::Instant;

use paxos_core::{Output, Refusal, Slot, SnapshotMeta};
use tokio::sync::oneshot;

use super::Driver;
use crate::node::NodeError;
use crate::state_machine::StateMachine;
use crate::writer::Job;

/// A refused read is asked again after this many ticks.
const READ_PAUSE_TICKS: u32 = 2;

impl<S: StateMachine> Driver<S> {
    pub(super) async fn carry_out(&mut self, output: Output) -> Result<(), NodeError> {
        match output {
            Output::Persist(write) => {
                self.counters.writes.increment(1);
                self.unsynced.add(&write);
                self.writer.submit(Job::Persist(write));
            }
            Output::Send { to, message } => self.send(to, &message),
            Output::Broadcast { message } => self.broadcast(&message),
            Output::Apply { slot, value } => self.apply(slot, &value),
            Output::Restore { meta } => self.restore(meta).await?,
            Output::ReadReady { read } => self.reads.on_ready(read),
            Output::ReadRefused { read } => {
                self.reads.given_back(read, Instant::now(), self.settings.tick * READ_PAUSE_TICKS);
            }
            Output::Refused { commands, reason } => {
                for command in commands {
                    self.commands.given_back(command, reason == Refusal::Overloaded);
                }
            }
            Output::LoadSnapshot { to, meta, offset, max_bytes } => {
                self.writer.submit(Job::LoadSnapshot { to, meta, offset, max_bytes });
            }
            Output::StoreSnapshot { slot, offset, data } => {
                self.writer.submit(Job::StoreSnapshot { slot, offset, data, author: None });
            }
            Output::InstallSnapshot { meta } => {
                self.writer.submit(Job::FinishSnapshot { meta, is_own: false });
            }
        }
        Ok(())
    }

    fn apply(&mut self, slot: Slot, value: &paxos_core::Value) {
        let (commands, seconds) = (&mut self.commands, &self.counters.command_seconds);
        let now = Instant::now();
        self.applier.apply(slot, value, |executed| {
            if let Some(since) = commands.on_executed(slot, executed.command, executed.outcome) {
                seconds.record(now - since);
            }
        });
        if self.own_snapshots.on_applied(value.size_bytes()) {
            let (slot, write) = self.applier.snapshot();
            self.own_snapshots.take(slot, write, &mut self.writer);
        }
    }

    /// Replaces the state by a snapshot that a peer has sent. Nothing else happens here meanwhile: this node has
    /// nothing to say before it has caught up.
    async fn restore(&mut self, meta: SnapshotMeta) -> Result<(), NodeError> {
        let restorer = self.applier.restorer(meta.slot);
        let (sessions_to, sessions) = oneshot::channel();
        let restore = move |snapshot: &mut dyn std::io::Read| {
            restorer(snapshot).map(|sessions| drop(sessions_to.send(sessions)))
        };
        let (done, finished) = oneshot::channel();
        self.writer.submit(Job::Restore { meta, restore: Box::new(restore), done });
        let failed = |error| NodeError::Restore { slot: meta.slot, error };
        let gone = |_| failed(std::io::Error::other("the writer has stopped"));
        finished.await.map_err(gone)?.map_err(failed)?;
        self.applier.restored(sessions.await.map_err(gone)?);
        self.commands.on_restored(self.applier.sessions());
        tracing::info!(node = self.settings.node.0, slot = meta.slot.0, "caught up by a snapshot");
        Ok(())
    }
}
