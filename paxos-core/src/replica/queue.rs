//! Commands on their way to a proposal: in the leader's queue, or forwarded to the leader.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Output, Refusal, Replica};
use crate::id::NodeId;
use crate::membership::{MemberSet, Members};
use crate::message::{Forward, TooLong};
use crate::value::Value;

/// How many bytes a waiting command is taken to cost beside its own.
const QUEUED_BYTES: usize = 64;

/// Commands that wait to be proposed, each with the peer that forwarded it. Bounded by
/// [`ProtocolSettings::queue_bytes`](crate::ProtocolSettings::queue_bytes).
#[derive(Debug, Default)]
pub(super) struct Queue {
    commands: VecDeque<(Bytes, Option<NodeId>)>,
    bytes: usize,
}

impl Queue {
    pub(super) fn clear(&mut self) {
        *self = Queue::default();
    }

    /// Gives unused memory back.
    pub(super) fn give_back_memory(&mut self) {
        if self.is_empty() {
            self.commands = VecDeque::new();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a command fits into `limit_bytes`, beside those that wait.
    fn fits(&self, command: &Bytes, limit_bytes: usize) -> bool {
        self.bytes + command.len() + QUEUED_BYTES <= limit_bytes
    }

    fn push(&mut self, command: Bytes, origin: Option<NodeId>) {
        self.bytes += command.len() + QUEUED_BYTES;
        self.commands.push_back((command, origin));
    }

    /// The next batch, and the peers that forwarded a command in it: at least one command, and no more than
    /// fit into `batch_bytes`.
    pub(super) fn take_batch(&mut self, members: &Members, batch_bytes: usize) -> (Value, MemberSet) {
        let mut origins = MemberSet::default();
        let (mut count, mut bytes) = (0, 0);
        for (command, origin) in &self.commands {
            bytes += Value::bytes_for(command);
            if count > 0 && bytes > batch_bytes {
                break;
            }
            count += 1;
            origins.extend(origin.and_then(|origin| members.index_of(origin)));
        }
        let value = Value::batch(self.commands.iter().take(count).map(|(command, _)| command));
        for (command, _) in self.commands.drain(..count) {
            self.bytes -= command.len() + QUEUED_BYTES;
        }
        (value, origins)
    }

    /// Takes all commands.
    fn take_all(&mut self) -> Vec<Bytes> {
        std::mem::take(self).commands.into_iter().map(|(command, _)| command).collect()
    }
}

impl Replica {
    /// Queues commands of this replica's driver if it leads, and forwards them to the leader if it does not.
    pub(super) fn on_propose(&mut self, mut commands: Vec<Bytes>) {
        if let Some((too_long, limit_bytes)) = self.take_too_long(&mut commands) {
            self.refuse(too_long, Refusal::TooLong { limit_bytes });
        }
        if commands.is_empty() {
            return;
        }
        match self.leader() {
            Some(leader) if leader != self.config.node() => self.forward(leader, commands),
            None if !self.is_handing_over() => self.refuse(commands, Refusal::NoLeader),
            _ => {
                let refused = self.enqueue(commands, None);
                if !refused.is_empty() {
                    self.refuse(refused, Refusal::Overloaded);
                }
            }
        }
    }

    /// Forwards all commands that wait to the leader that has taken over.
    pub(super) fn forward_queue(&mut self, leader: NodeId) {
        let commands = self.queue.take_all();
        if !commands.is_empty() {
            self.forward(leader, commands);
        }
    }

    fn refuse(&mut self, commands: Vec<Bytes>, reason: Refusal) {
        self.outputs.push(Output::Refused { commands, reason });
    }

    /// Queues commands; gives back those for which there is no room. An empty queue takes a command of any
    /// length, unless the log is full.
    fn enqueue(&mut self, commands: Vec<Bytes>, origin: Option<NodeId>) -> Vec<Bytes> {
        let is_log_full = self.log.bytes() > self.config.settings().log_bytes;
        let limit_bytes = if is_log_full { 0 } else { self.config.settings().queue_bytes };
        let mut refused = Vec::new();
        for command in commands {
            if self.queue.fits(&command, limit_bytes) || (self.queue.is_empty() && !is_log_full) {
                self.queue.push(command, origin);
            } else {
                refused.push(command);
            }
        }
        refused
    }

    /// Forwards commands to the leader, in messages of about a batch each.
    fn forward(&mut self, leader: NodeId, commands: Vec<Bytes>) {
        let (mut part, mut bytes) = (Vec::new(), 0);
        for command in commands {
            bytes += Value::bytes_for(&command);
            if !part.is_empty() && bytes > self.config.settings().batch_bytes {
                bytes = Value::bytes_for(&command);
                self.send(leader, Forward { commands: std::mem::take(&mut part) });
            }
            part.push(command);
        }
        self.send(leader, Forward { commands: part });
    }

    /// Queues what fits. The peer forwards again what it does not see applied, so only commands that will
    /// never be taken are answered.
    pub(super) fn on_forward(&mut self, from: NodeId, forward: Forward) {
        if !self.is_distinguished() && !self.is_handing_over() {
            return;
        }
        let mut commands = forward.commands;
        if let Some((too_long, limit_bytes)) = self.take_too_long(&mut commands) {
            self.send(from, TooLong { limit_bytes, commands: too_long });
        }
        self.enqueue(commands, Some(from));
    }

    /// Takes out the commands that are longer than this replica's limit, if there are any, and returns that
    /// limit with them.
    fn take_too_long(&self, commands: &mut Vec<Bytes>) -> Option<(Vec<Bytes>, u64)> {
        let limit = self.config.settings().command_bytes;
        let is_too_long = |command: &Bytes| command.len() > limit;
        if !commands.iter().any(is_too_long) {
            return None;
        }
        Some((commands.extract_if(.., |command| is_too_long(command)).collect(), limit as u64))
    }

    /// Gives back the commands that the leader finds too long. The answer of a former leader does not count:
    /// the present one may take more.
    pub(super) fn on_too_long(&mut self, from: NodeId, too_long: TooLong) {
        if self.leader() == Some(from) {
            self.refuse(too_long.commands, Refusal::TooLong { limit_bytes: too_long.limit_bytes });
        }
    }
}
