//! What comes of a turn, in the order of who waits for it.
//!
//! Messages leave at once: the disks and processors of peers are to work meanwhile. Then comes the write, which a
//! leader waits for, or the majority if this node leads; then an answer that this node's own disk has made possible
//! within the turn; and all else at the end, above all applying, which only this node's clients wait for. The
//! replica's outputs allow that: no message and no write says more because of what is applied here.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use paxos_core::{Output, Refusal, Slot, SnapshotMeta, Value, Write};
use tokio::sync::oneshot;

use super::{CROWDED_SLOT, Driver};
use crate::node::NodeError;
use crate::settings::WriterMode;
use crate::state_machine::StateMachine;
use crate::writer::Job;

/// A refused read is asked again after this many ticks.
const READ_PAUSE_TICKS: u32 = 2;
/// A frame passes so many tasks of a transport before it has left: that of its lane, and that of its connection.
const TRANSPORT_TASKS: usize = 2;

/// What is still to be done before the turn ends.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Whether the transport has frames that may not have left yet.
    has_sent: bool,
    write: Option<Write>,
    /// In the order in which the replica wants it.
    others: VecDeque<Output>,
}

impl<S: StateMachine> Driver<S> {
    /// Sends a message; all else waits for the end of the turn.
    pub(super) fn take_output(&mut self, output: Output) {
        match output {
            Output::Send { to, message } => {
                self.send(to, &message);
                self.outcome.has_sent = true;
            }
            Output::Broadcast { message } => {
                self.broadcast(&message);
                self.outcome.has_sent = true;
            }
            Output::Persist(write) => {
                self.counters.writes.increment(1);
                self.unsynced.add(&write);
                let is_crowded = |value: &Value| value.commands().nth(CROWDED_SLOT).is_some();
                // Where no disk is waited for there is no other time to sleep in.
                let has_disk = self.settings.writer == WriterMode::Thread;
                if has_disk && write.entries().iter().any(|(_, entry)| is_crowded(entry.value())) {
                    self.crowded_at = Some(Instant::now());
                }
                match &mut self.outcome.write {
                    Some(earlier) => earlier.merge(write),
                    None => self.outcome.write = Some(write),
                }
            }
            other => self.outcome.others.push_back(other),
        }
    }

    /// Does what waits for the end of the turn.
    pub(super) async fn finish_turn(&mut self, is_quiet: bool) -> Result<(), NodeError> {
        while let Some(write) = self.outcome.write.take() {
            self.persist(write, is_quiet).await;
            // What became durable meanwhile may let an answer go, for which somebody else waits.
            while let Ok(done) = self.results.try_recv() {
                self.on_done(done)?;
            }
        }
        let applies = |output: &Output| matches!(output, Output::Apply { .. });
        if self.outcome.others.iter().any(applies) {
            self.let_messages_leave().await;
        }
        while let Some(output) = self.outcome.others.pop_front() {
            self.carry_out(output).await?;
        }
        self.outcome.has_sent = false; // What was sent leaves before this loop comes back.
        Ok(())
    }

    /// Has a write persisted.
    ///
    /// A leader's accepts leave first: waking the writer's thread may cost this one its place on the processor. A
    /// follower that has just accepted and has nothing else to do writes itself, without a detour over that thread.
    async fn persist(&mut self, write: Write, is_quiet: bool) {
        let write = if is_quiet && !self.outcome.has_sent {
            self.writer.persist_now(write).err()
        } else {
            self.let_messages_leave().await;
            Some(write)
        };
        if let Some(write) = write {
            self.writer.submit(Job::Persist(write));
        }
    }

    /// Lets the transport's tasks run if there is something for them to send.
    ///
    /// Not by tokio's `yield_now`, which comes back when nothing else can run: by then all clients would have had
    /// their turn.
    async fn let_messages_leave(&mut self) {
        if !std::mem::take(&mut self.outcome.has_sent) {
            return;
        }
        for _ in 0..TRANSPORT_TASKS {
            let mut has_waited = false;
            poll_fn(|context| {
                if std::mem::replace(&mut has_waited, true) {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref(); // Behind all that can run now.
                Poll::Pending
            })
            .await;
        }
    }

    async fn carry_out(&mut self, output: Output) -> Result<(), NodeError> {
        match output {
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
            Output::Send { .. } | Output::Broadcast { .. } | Output::Persist(_) => {
                unreachable!("messages and writes do not wait among the others")
            }
        }
        Ok(())
    }

    fn apply(&mut self, slot: Slot, value: &Value) {
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
