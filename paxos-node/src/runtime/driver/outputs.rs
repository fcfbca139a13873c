//! Carries out a turn's outputs, most urgently awaited first.
//!
//! Messages leave at once, so that the disks and processors of peers work meanwhile. Then comes the write: a
//! leader waits for it, or the majority if this node leads. Then an answer that this node's own disk has made
//! possible within the turn. Everything else comes at the end, above all applying, which only this node's
//! clients wait for. The replica's outputs allow that order: no message and no write depends on what is
//! applied here.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::{
    Body, ChangeRefusal, Epoch, HandoverRefusal, Membership, Message, NodeId, Output, ReadId, Refusal,
    RequestId, Slot, SnapshotMeta, Time, Value, Write,
};

use super::Driver;
use crate::error::NodeError;
use crate::runtime::log_meter::LogMeter;
use crate::runtime::writer::Job;
use crate::settings::WriterMode;
use crate::state_machine::StateMachine;

/// A turn that has applied for this long leaves the rest to the next one.
const APPLY_BUDGET: Duration = Duration::from_millis(2);
/// With more outputs than this left for a later turn the node takes on nothing more.
const MAX_BACKLOG: usize = 1024;
/// How many tasks of a transport a frame passes before it has left: that of its lane, and that of its
/// connection.
const TRANSPORT_TASKS: usize = 2;

/// What is still to be done before the turn ends.
#[derive(Debug, Default)]
pub(super) struct TurnOutputs {
    /// Whether the transport has frames that may not have left yet.
    has_sent: bool,
    write: Option<Write>,
    /// In the order in which the replica wants them. What the turn has no time for is left to the next.
    others: VecDeque<Output>,
    /// The time after the output just carried out, if that was to apply a value and took time.
    applied_at: Option<Instant>,
}

impl TurnOutputs {
    /// Whether an earlier turn has left something.
    pub(super) fn has_backlog(&self) -> bool {
        !self.others.is_empty()
    }

    /// Whether so much is left that no more may be taken on.
    pub(super) fn is_long(&self) -> bool {
        self.others.len() > MAX_BACKLOG
    }
}

impl<S: StateMachine> Driver<S> {
    /// Carries out messages, and takes in writes; keeps every other output for the end of the turn.
    pub(super) fn take_output(&mut self, output: Output) -> Result<(), NodeError> {
        // Messages to new members come behind the membership that names them.
        let is_urgent = matches!(output, Output::Persist(_) | Output::MembershipChanged { .. });
        if output.is_message() || is_urgent {
            return output.carry_out(self);
        }
        self.outputs.others.push_back(output);
        Ok(())
    }

    /// Carries out what was kept for the end of the turn, as far as there is time.
    pub(super) async fn finish_turn(&mut self) -> Result<(), NodeError> {
        while let Some(write) = self.outputs.write.take() {
            // Accepts leave first: to wake the writer's thread may cost this one its place on the processor.
            self.let_messages_leave().await;
            self.disk.writer.submit(Job::Persist(write));
            if self.settings.writer == WriterMode::Thread {
                // The writer's thread may have been woken on this processor, and nothing that is left to do
                // here is as urgent as the disk: with 64 clients and more threads than processors this is
                // worth a tenth of the rate.
                std::thread::yield_now();
            }
            // What became durable meanwhile may let an answer go for which somebody else waits.
            while let Ok(result) = self.inbox.job_results.try_recv() {
                self.on_job_result(result)?;
            }
        }
        let applies = |output: &Output| matches!(output, Output::Apply { .. });
        if self.outputs.others.iter().any(applies) {
            self.let_messages_leave().await;
        }
        let mut until = None;
        while let Some(output) = self.outputs.others.pop_front() {
            output.carry_out(self)?;
            let Some(now) = self.outputs.applied_at.take() else { continue };
            if now > *until.get_or_insert(now + APPLY_BUDGET) {
                break;
            }
        }
        self.outputs.has_sent = false; // What was sent leaves before this loop comes back.
        Ok(())
    }

    /// Lets the transport's tasks run if there is something for them to send.
    ///
    /// Not by tokio's `yield_now`, which returns when nothing else can run: by then all clients would have
    /// had their turn.
    async fn let_messages_leave(&mut self) {
        if !std::mem::take(&mut self.outputs.has_sent) {
            return;
        }
        for _ in 0..TRANSPORT_TASKS {
            let mut has_waited = false;
            poll_fn(|context| {
                if std::mem::replace(&mut has_waited, true) {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref(); // Queues this task behind all that can run now.
                Poll::Pending
            })
            .await;
        }
    }
}

impl<S: StateMachine> paxos_core::Driver for Driver<S> {
    type Error = NodeError;

    fn send(&mut self, to: NodeId, message: Message) -> Result<(), NodeError> {
        self.send_to(to, &message);
        self.outputs.has_sent = true;
        Ok(())
    }

    fn broadcast(&mut self, message: Message) -> Result<(), NodeError> {
        if let Body::Heartbeat(heartbeat) = &message.body {
            self.peers.mesh.round_trips.on_sent(heartbeat.round, Instant::now());
        }
        self.send_to_all(&message);
        self.outputs.has_sent = true;
        Ok(())
    }

    /// Keeps the write for the end of the turn, merged with others of the turn.
    fn persist(&mut self, write: Write) -> Result<(), NodeError> {
        self.metrics.writes.increment(1);
        self.metrics.log_written_bytes.increment(write.value_bytes() as u64);
        self.disk.note_write(&write);
        match &mut self.outputs.write {
            Some(earlier) => earlier.merge(write),
            None => self.outputs.write = Some(write),
        }
        Ok(())
    }

    fn apply(&mut self, slot: Slot, value: Value) -> Result<(), NodeError> {
        self.outputs.applied_at = self.apply_chosen(slot, value)?;
        Ok(())
    }

    fn read_ready(&mut self, read: ReadId, time: Time) -> Result<(), NodeError> {
        let slot = self.local_state.applier.given();
        self.local_state.reads_behind.push_back((slot, read, time));
        self.answer_reads();
        Ok(())
    }

    fn read_refused(&mut self, read: ReadId) -> Result<(), NodeError> {
        self.clients.on_read_refused(read, self.settings.tick);
        Ok(())
    }

    fn refused(&mut self, commands: Vec<Bytes>, reason: Refusal) -> Result<(), NodeError> {
        for command in commands {
            self.clients.on_refused(command, reason);
        }
        Ok(())
    }

    fn membership_changed(&mut self, slot: Slot, membership: Membership) -> Result<(), NodeError> {
        self.on_membership_changed(slot, &membership);
        Ok(())
    }

    fn change_in_force(&mut self, request: RequestId, epoch: Epoch) -> Result<(), NodeError> {
        self.on_change_in_force(request, epoch);
        Ok(())
    }

    fn change_refused(&mut self, request: RequestId, refusal: ChangeRefusal) -> Result<(), NodeError> {
        self.on_change_refused(request, refusal);
        Ok(())
    }

    fn handed_over(&mut self, request: RequestId, to: NodeId) -> Result<(), NodeError> {
        self.on_handed_over(request, to);
        Ok(())
    }

    fn handover_refused(&mut self, request: RequestId, refusal: HandoverRefusal) -> Result<(), NodeError> {
        self.on_handover_refused(request, refusal);
        Ok(())
    }

    fn restore(&mut self, meta: SnapshotMeta) -> Result<(), NodeError> {
        let queries = self.clients.session_queries();
        self.local_state.log_meter = LogMeter::beginning_after(meta.slot);
        let under_way = self.local_state.own_snapshots.under_way();
        self.local_state.applier.restore(meta, self.disk.writer.sender(), queries, under_way);
        Ok(())
    }

    fn load_snapshot(
        &mut self,
        to: NodeId,
        meta: SnapshotMeta,
        offset: u64,
        max_bytes: usize,
    ) -> Result<(), NodeError> {
        self.disk.writer.submit(Job::LoadSnapshot { to, meta, offset, max_bytes });
        Ok(())
    }

    fn store_snapshot(&mut self, slot: Slot, offset: u64, data: Bytes) -> Result<(), NodeError> {
        self.disk.writer.submit(Job::StoreSnapshot { slot, offset, data, author: None });
        Ok(())
    }

    fn install_snapshot(&mut self, meta: SnapshotMeta) -> Result<(), NodeError> {
        self.disk.writer.submit(Job::FinishSnapshot { meta, author: None });
        Ok(())
    }
}
