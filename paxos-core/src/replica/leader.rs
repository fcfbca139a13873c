//! The leader: phase 2 for as many slots as the window allows, and what is chosen by it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::writes::Consequence;
use super::{Output, Replica, State};
use crate::config::{Config, PhaseOne, ReadMode, Watermark};
use crate::durable::Entry;
use crate::id::{Ballot, NodeId, Slot};
use crate::message::{Body, HeartbeatRound};
use crate::mutant::{Mutant, mutated};
use crate::quorum::{MemberIndex, MemberSet, PerMember};
use crate::value::Value;

/// What a waiting command is taken to cost beside its bytes.
const QUEUED_BYTES: usize = 64;

/// A proposer whose ballot a quorum has promised.
#[derive(Debug)]
pub(super) struct Leading {
    ballot: Ballot,
    /// The next slot to propose a fresh value in.
    next_slot: Slot,
    /// The last slot in which a value may have been chosen before this leadership. Reads wait for it.
    takeover_end: Slot,
    in_flight: BTreeMap<Slot, Flight>,
    in_flight_bytes: usize,
    in_flight_commands: usize,
    peers: PerMember<Peer>,
    /// The watermark that all peers have been told of, if no message was lost.
    announced: Slot,
    /// Whether a fresh value has been proposed under this ballot.
    is_spent: bool,
    /// When each heartbeat left, from the last one that a quorum has answered on.
    heartbeats_sent: VecDeque<(HeartbeatRound, u64)>,
    next_heartbeat_ticks: u64,
}

/// A proposal that is not known to be chosen yet.
#[derive(Debug)]
struct Flight {
    accepted_by: MemberSet,
    size_bytes: usize,
    commands: usize,
    sent_at_ticks: u64,
}

/// What the leader knows of a member; of itself, too, where it counts.
#[derive(Clone, Debug)]
struct Peer {
    heard_at_ticks: u64,
    answered: HeartbeatRound,
    /// The last slot that holds a command which this peer forwarded: it waits to hear that it is chosen.
    forwarded_through: Slot,
}

impl Leading {
    pub(super) fn new(config: &Config, ballot: Ballot, takeover_end: Slot, now_ticks: u64) -> Leading {
        let peer =
            Peer { heard_at_ticks: now_ticks, answered: HeartbeatRound(0), forwarded_through: Slot::ZERO };
        Leading {
            ballot,
            next_slot: takeover_end.next(),
            takeover_end,
            in_flight: BTreeMap::new(),
            in_flight_bytes: 0,
            in_flight_commands: 0,
            peers: PerMember::new(config.member_map(), peer),
            announced: Slot::ZERO,
            is_spent: false,
            heartbeats_sent: VecDeque::new(),
            next_heartbeat_ticks: 0,
        }
    }

    pub(super) fn ballot(&self) -> Ballot {
        self.ballot
    }

    pub(super) fn takeover_end(&self) -> Slot {
        self.takeover_end
    }

    /// The last heartbeat that a quorum has answered; the leader answers its own at once.
    pub(super) fn confirmed_round(&self, config: &Config) -> HeartbeatRound {
        let own = config.member_map().index_of(config.node());
        let mut answered: Vec<HeartbeatRound> = (config.member_map().indices())
            .map(
                |member| {
                    if Some(member) == own { HeartbeatRound(u64::MAX) } else { self.peers[member].answered }
                },
            )
            .collect();
        answered.sort_unstable_by(|one, other| other.cmp(one));
        let needed = config.quorums().accept() - usize::from(mutated(Mutant::ReadQuorumOffByOne));
        answered[needed.saturating_sub(1)]
    }

    /// When the lease ends that a quorum has granted, counted from the *sending* of the heartbeat it answered.
    pub(super) fn lease_until_ticks(&self, config: &Config) -> Option<u64> {
        let ReadMode::Lease { lease_ticks, drift_ticks } = config.options().reads else { return None };
        let confirmed = self.confirmed_round(config);
        let sent = |(round, sent_at): &(HeartbeatRound, u64)| (*round <= confirmed).then_some(*sent_at);
        let mut sent_at = self.heartbeats_sent.iter().rev().find_map(sent)?;
        if mutated(Mutant::LeaseFromReceipt) {
            sent_at = self.peers.iter().map(|peer| peer.heard_at_ticks).max().unwrap_or(sent_at);
        }
        let drift_ticks = if mutated(Mutant::LeaseIgnoresDrift) { 0 } else { drift_ticks };
        // One tick less, as both sides count whole ticks.
        Some(sent_at + u64::from(lease_ticks - drift_ticks - 1))
    }

    /// The next slot to propose in, now taken, and the ballot.
    pub(super) fn start_slot(&mut self) -> (Ballot, Slot) {
        let slot = self.next_slot;
        self.next_slot = slot.next();
        self.is_spent = true;
        (self.ballot, slot)
    }

    /// Whether nothing is under way, in `slot` or elsewhere.
    pub(super) fn is_idle_at(&self, slot: Slot) -> bool {
        self.in_flight.is_empty() && slot >= self.next_slot
    }

    /// Whether a fresh value has been proposed under this ballot.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent
    }

    fn can_start_slot(&self, config: &Config, chosen: Slot, queued_bytes: usize) -> bool {
        let options = config.options();
        let fits = self.in_flight.is_empty()
            || (self.next_slot <= chosen.advanced_by(options.window_slots)
                && self.in_flight_bytes < options.window_bytes);
        let eager = self.in_flight_commands < options.eager_commands || queued_bytes >= options.batch_bytes;
        fits && eager && self.next_slot <= chosen.advanced_by(config.horizon_slots())
    }
}

/// Commands that wait to be proposed, bounded by [`Options::queue_bytes`](crate::Options::queue_bytes).
#[derive(Debug, Default)]
pub(super) struct Queue {
    commands: VecDeque<(Bytes, Option<MemberIndex>)>,
    bytes: usize,
}

impl Queue {
    pub(super) fn clear(&mut self) {
        *self = Queue::default();
    }

    /// The next batch: at least one command, and no more than fit into `batch_bytes`.
    fn take_batch(&mut self, batch_bytes: usize) -> (Value, MemberSet) {
        let mut origins = MemberSet::default();
        let (mut count, mut bytes) = (0, 0);
        for (command, origin) in &self.commands {
            bytes += Value::bytes_for(command);
            if count > 0 && bytes > batch_bytes {
                break;
            }
            count += 1;
            if let Some(origin) = origin {
                origins.insert(*origin);
            }
        }
        let value = Value::batch(self.commands.iter().take(count).map(|(command, _)| command));
        for (command, _) in self.commands.drain(..count) {
            self.bytes -= command.len() + QUEUED_BYTES;
        }
        (value, origins)
    }
}

impl Replica {
    /// Takes commands to be proposed; gives back those for which there is no room.
    pub(super) fn enqueue(&mut self, commands: Vec<Bytes>, origin: Option<MemberIndex>) -> Vec<Bytes> {
        let overdue = self.log.bytes() > self.config.options().log_bytes;
        let limit = if overdue { 0 } else { self.config.options().queue_bytes };
        let mut refused = Vec::new();
        for command in commands {
            let bytes = self.queue.bytes + command.len() + QUEUED_BYTES;
            let only_one = self.queue.commands.is_empty() && !overdue;
            if bytes <= limit || only_one {
                self.queue.bytes = bytes;
                self.queue.commands.push_back((command, origin));
            } else {
                refused.push(command);
            }
        }
        refused
    }

    /// Passes commands on to the leader, in messages of about a batch each.
    pub(super) fn forward(&self, leader: NodeId, commands: Vec<Bytes>, outputs: &mut Vec<Output>) {
        let (mut part, mut bytes) = (Vec::new(), 0);
        for command in commands {
            bytes += Value::bytes_for(&command);
            if !part.is_empty() && bytes > self.config.options().batch_bytes {
                bytes = Value::bytes_for(&command);
                self.send(leader, Body::Forward { commands: std::mem::take(&mut part) }, outputs);
            }
            part.push(command);
        }
        self.send(leader, Body::Forward { commands: part }, outputs);
    }

    /// Takes what fits from a peer. The peer sends again what it does not see applied, so nothing is answered.
    pub(super) fn on_forward(&mut self, from: MemberIndex, mut commands: Vec<Bytes>) {
        if self.is_distinguished() {
            let limit = self.config.options().command_bytes;
            commands.retain(|command| command.len() <= limit);
            self.enqueue(commands, Some(from));
        }
    }

    /// Starts as many slots with waiting commands as window and batching allow.
    pub(super) fn propose_queued(&mut self, outputs: &mut Vec<Output>) {
        while !self.queue.commands.is_empty() {
            let State::Leading(leading) = &mut self.state else { return };
            if self.config.options().phase_one == PhaseOne::EveryValue && leading.is_spent {
                if leading.in_flight.is_empty() {
                    self.begin_prepare();
                }
                return;
            }
            if !leading.can_start_slot(&self.config, self.log.chosen(), self.queue.bytes) {
                return;
            }
            let (value, origins) = self.queue.take_batch(self.config.options().batch_bytes);
            let (ballot, slot) = leading.start_slot();
            for member in self.config.member_map().indices().filter(|&member| origins.contains(member)) {
                leading.peers[member].forwarded_through = slot;
            }
            self.propose(ballot, slot, value, outputs);
        }
    }

    /// Phase 2a. The accept leaves before the leader's own acceptance is durable: the disks work side by side,
    /// and the leader counts itself only when its own is done.
    pub(super) fn propose(&mut self, ballot: Ballot, slot: Slot, value: Value, outputs: &mut Vec<Output>) {
        assert_eq!(ballot, self.promised, "a leader has promised nothing above its own ballot");
        let State::Leading(leading) = &mut self.state else { return };
        let (size_bytes, commands) = (value.size_bytes(), value.commands().count());
        let accepted_by = MemberSet::default();
        let flight = Flight { accepted_by, size_bytes, commands, sent_at_ticks: self.now_ticks };
        let doubled = leading.in_flight.insert(slot, flight);
        assert!(doubled.is_none(), "one value is proposed for each ballot and slot");
        leading.in_flight_bytes += size_bytes;
        leading.in_flight_commands += commands;
        leading.announced = self.log.chosen();
        let entry = Entry::Accepted { ballot, value: value.clone() };
        self.log.put(slot, entry.clone());
        self.writes.put(slot, entry);
        self.writes.then(Consequence::OwnAcceptance { ballot, slot });
        let chosen = self.announced_chosen();
        self.broadcast(Body::Accept { ballot, slot, value, chosen }, outputs);
    }

    /// Counts acceptances: a value that a quorum has accepted under one ballot is chosen (section 2.1).
    pub(super) fn on_accepted(&mut self, from: MemberIndex, ballot: Ballot, first: Slot, last: Slot) {
        let quorum = self.config.quorums().accept();
        let State::Leading(leading) = &mut self.state else { return };
        let is_current = leading.ballot == ballot || mutated(Mutant::AcceptedOfOlderBallotCounts);
        if !is_current || first > last {
            return;
        }
        leading.peers[from].heard_at_ticks = self.now_ticks;
        let mut chosen = Vec::new();
        for (&slot, flight) in leading.in_flight.range_mut(first..=last) {
            let is_repeated = flight.accepted_by.contains(from) && mutated(Mutant::AcceptedCountsTwice);
            flight.accepted_by.insert(from);
            let surplus = is_repeated || mutated(Mutant::AcceptQuorumOffByOne);
            if flight.accepted_by.len() + usize::from(surplus) >= quorum {
                chosen.push(slot);
            }
        }
        for slot in chosen {
            let flight = leading.in_flight.remove(&slot).expect("the slot was found in flight just now");
            leading.in_flight_bytes -= flight.size_bytes;
            leading.in_flight_commands -= flight.commands;
            self.log.mark_chosen(slot);
        }
        self.log.advance();
    }

    pub(super) fn tick_leading(&mut self, outputs: &mut Vec<Output>) {
        let State::Leading(leading) = &self.state else { return };
        let timeout = u64::from(self.config.options().election_timeout_ticks);
        let own = self.own_index();
        let heard = |&member: &MemberIndex| {
            member == own || self.now_ticks <= leading.peers[member].heard_at_ticks + timeout
        };
        let reachable = self.config.member_map().indices().filter(heard).count();
        if reachable < self.config.quorums().accept() {
            self.step_down(outputs);
            return;
        }
        if self.now_ticks >= leading.next_heartbeat_ticks {
            self.send_heartbeats(outputs);
        }
        self.resend_accepts(outputs);
    }

    /// Sends each proposal that has waited too long to those that have not accepted it, oldest slot first, and
    /// no more on one tick than a window's bytes.
    fn resend_accepts(&mut self, outputs: &mut Vec<Output>) {
        if mutated(Mutant::AcceptNeverResent) {
            return;
        }
        let State::Leading(leading) = &mut self.state else { return };
        let options = self.config.options();
        let overdue_ticks = self.now_ticks.saturating_sub(u64::from(options.resend_ticks));
        let (own, chosen) = (self.config.node(), self.log.chosen());
        let mut bytes = 0;
        for (&slot, flight) in &mut leading.in_flight {
            if flight.sent_at_ticks > overdue_ticks {
                continue;
            }
            if bytes > options.chunk_bytes {
                return;
            }
            flight.sent_at_ticks = self.now_ticks;
            let entry = self.log.entry(slot).expect("a proposal in flight is in the leader's log");
            for member in self.config.member_map().indices() {
                let to = self.config.member_map().id(member);
                if to != own && !flight.accepted_by.contains(member) {
                    let value = entry.value().clone();
                    bytes += value.size_bytes() + QUEUED_BYTES;
                    let body = Body::Accept { ballot: leading.ballot, slot, value, chosen };
                    let message = crate::message::Message { epoch: options.epoch, body };
                    outputs.push(Output::Send { to, message });
                }
            }
        }
    }

    pub(super) fn send_heartbeats(&mut self, outputs: &mut Vec<Output>) {
        let interval = u64::from(self.config.options().heartbeat_ticks);
        let chosen = self.announced_chosen();
        let State::Leading(leading) = &mut self.state else { return };
        let confirmed = leading.confirmed_round(&self.config);
        while leading.heartbeats_sent.get(1).is_some_and(|(round, _)| *round <= confirmed) {
            leading.heartbeats_sent.pop_front();
        }
        let round = self.reads.next_round();
        leading.heartbeats_sent.push_back((round, self.now_ticks));
        leading.next_heartbeat_ticks = self.now_ticks + interval;
        leading.announced = chosen;
        let ballot = leading.ballot;
        self.broadcast(Body::Heartbeat { ballot, chosen, round }, outputs);
    }

    /// Up to where peers are told that everything is chosen.
    fn announced_chosen(&self) -> Slot {
        if mutated(Mutant::ChosenAnnouncedEarly) { self.log.last() } else { self.log.chosen() }
    }

    pub(super) fn on_heartbeat_ack(&mut self, from: MemberIndex, ballot: Ballot, round: HeartbeatRound) {
        let State::Leading(leading) = &mut self.state else { return };
        if leading.ballot == ballot {
            leading.peers[from].heard_at_ticks = self.now_ticks;
            leading.peers[from].answered = leading.peers[from].answered.max(round);
        }
    }

    /// Tells peers what is chosen, if no accept of this step has told them on the way: all of them, or those whose
    /// forwarded commands are chosen. Others learn it from the next accept or heartbeat.
    pub(super) fn announce_chosen(&mut self, outputs: &mut Vec<Output>) {
        let State::Leading(leading) = &mut self.state else { return };
        let chosen = self.log.chosen();
        if leading.announced >= chosen {
            return;
        }
        let announced = leading.announced;
        let (ballot, round) = (leading.ballot, self.reads.last_round());
        let waits = |&member: &MemberIndex| match self.config.options().watermark {
            Watermark::Piggybacked => leading.peers[member].forwarded_through > announced,
            Watermark::AtOnce => self.config.member_map().id(member) != self.config.node(),
        };
        let waiting: Vec<MemberIndex> = self.config.member_map().indices().filter(waits).collect();
        if waiting.is_empty() {
            return;
        }
        leading.announced = chosen;
        for member in waiting {
            let to = self.config.member_map().id(member);
            self.send(to, Body::Heartbeat { ballot, chosen, round }, outputs);
        }
    }
}
