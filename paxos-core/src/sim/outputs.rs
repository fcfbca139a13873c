//! Carries out the outputs of replicas.

use std::convert::Infallible;

use bytes::Bytes;

use super::client::{TURNED_AWAY_TICKS, Waiting};
use super::disk::Disk;
use super::event::Event;
use super::history::Action;
use super::machine::Machine;
use super::marks::Mark;
use super::network::Parcel;
use super::node::PendingSnapshot;
use super::rule::Rule;
use super::scenario::TICK_UNITS;
use super::world::World;
use crate::message::{Accept, Promise};
use crate::session::Outcome;
use crate::{
    Body, ChangeRefusal, Driver, Epoch, HandoverRefusal, Input, Membership, Message, NodeId, ReadId,
    ReadMode, Refusal, RequestId, Role, Slot, SnapshotMeta, Time, Value, Write,
};

/// How long a disk takes to read or write a piece of a snapshot.
const PIECE_UNITS: u64 = 5;

/// Carries out the outputs of one node's replica.
pub(super) struct NodeDriver<'a, M, D> {
    pub(super) world: &'a mut World<M, D>,
    pub(super) node: usize,
}

impl<M: Machine, D: Disk> Driver for NodeDriver<'_, M, D> {
    type Error = Infallible;

    fn send(&mut self, to: NodeId, message: Message) -> Result<(), Infallible> {
        let NodeDriver { world, node } = self;
        if let Some(to) = world.nodes.iter().position(|peer| peer.id == to) {
            world.on_send(*node, &message);
            world.on_message_to(*node, world.nodes[to].id, &message);
            if let (Body::TakeOver(_), Some(replica)) = (&message.body, &world.nodes[*node].replica) {
                let window_slots = world.scenario.settings.window_slots;
                world.observer.on_take_over(*node, to, replica.chosen(), window_slots);
            }
            world.send(*node, to, message);
        }
        Ok(())
    }

    fn broadcast(&mut self, message: Message) -> Result<(), Infallible> {
        let NodeDriver { world, node } = self;
        world.on_send(*node, &message);
        for to in world.peers(*node) {
            world.send(*node, to, message.clone());
        }
        Ok(())
    }

    fn persist(&mut self, write: Write) -> Result<(), Infallible> {
        let NodeDriver { world, node } = self;
        let state = &mut world.nodes[*node];
        if let Some(replica) = &state.replica {
            let epoch = replica.membership().epoch();
            let epoch_of = |slot: Slot| {
                replica.membership_at(slot.previous()).map_or(epoch, |membership| membership.epoch())
            };
            world.observer.on_write((*node, state.life), epoch, epoch_of, &write);
        }
        state.writes.push(write);
        if world.nodes[*node].is_doomed {
            world.crash(*node);
        } else {
            world.sync(*node);
        }
        Ok(())
    }

    fn apply(&mut self, slot: Slot, value: Value) -> Result<(), Infallible> {
        self.world.apply(self.node, slot, &value);
        Ok(())
    }

    fn read_ready(&mut self, read: ReadId, time: Time) -> Result<(), Infallible> {
        self.world.on_read_ready(self.node, read, time);
        Ok(())
    }

    fn read_refused(&mut self, read: ReadId) -> Result<(), Infallible> {
        let NodeDriver { world, node } = self;
        world.marks.hit(Mark::DeposedWithReads);
        if let Some((client, _)) = world.nodes[*node].reads.remove(&read) {
            world.wake_client(client, TURNED_AWAY_TICKS * TICK_UNITS);
        }
        Ok(())
    }

    fn refused(&mut self, commands: Vec<Bytes>, reason: Refusal) -> Result<(), Infallible> {
        let NodeDriver { world, node } = self;
        let id = world.nodes[*node].id;
        world.trace.event(world.schedule.now_units(), || format!("node {id} refuses: {reason:?}"));
        for client in 0..world.clients.len() {
            if commands.iter().any(|command| world.clients[client].waits_for_command(*node, command)) {
                world.wake_client(client, TURNED_AWAY_TICKS * TICK_UNITS);
            }
        }
        Ok(())
    }

    fn membership_changed(&mut self, slot: Slot, membership: Membership) -> Result<(), Infallible> {
        self.world.on_membership_changed(self.node, slot, &membership);
        Ok(())
    }

    fn change_in_force(&mut self, request: RequestId, _: Epoch) -> Result<(), Infallible> {
        self.world.on_change_in_force(request);
        Ok(())
    }

    fn change_refused(&mut self, request: RequestId, refusal: ChangeRefusal) -> Result<(), Infallible> {
        self.world.on_change_refused(request, &refusal);
        Ok(())
    }

    fn handed_over(&mut self, request: RequestId, _: NodeId) -> Result<(), Infallible> {
        self.world.on_handed_over(request);
        Ok(())
    }

    fn handover_refused(&mut self, request: RequestId, refusal: HandoverRefusal) -> Result<(), Infallible> {
        self.world.on_handover_refused(request, refusal);
        Ok(())
    }

    fn restore(&mut self, meta: SnapshotMeta) -> Result<(), Infallible> {
        self.world.restore(self.node, &meta);
        Ok(())
    }

    fn load_snapshot(
        &mut self,
        to: NodeId,
        meta: SnapshotMeta,
        offset: u64,
        max_bytes: usize,
    ) -> Result<(), Infallible> {
        self.world.on_serve(self.node, to, &meta);
        let state = &self.world.nodes[self.node];
        if let Some((_, content)) = state.disk.snapshot(meta.slot) {
            let offset_bytes = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
            let end = content.len().min(offset_bytes.saturating_add(max_bytes));
            let data = content.slice(offset_bytes..end);
            let event = Event::SnapshotLoaded(self.node, state.life, to, meta, offset, data);
            self.world.schedule.after(PIECE_UNITS, event);
        }
        Ok(())
    }

    fn store_snapshot(&mut self, slot: Slot, offset: u64, data: Bytes) -> Result<(), Infallible> {
        let state = &mut self.world.nodes[self.node];
        if offset == 0 {
            state.incoming.clear();
        }
        let (id, stored) = (state.id, state.incoming.len() as u64);
        self.world.observer.check(offset == stored, Rule::PiecesInOrder, || {
            format!("node {id} stores a piece of a snapshot at byte {offset} after {stored} bytes")
        });
        state.incoming.extend_from_slice(&data);
        let end = state.incoming.len() as u64;
        let event = Event::SnapshotStored(self.node, state.life, slot, end);
        self.world.schedule.after(PIECE_UNITS, event);
        Ok(())
    }

    fn install_snapshot(&mut self, meta: SnapshotMeta) -> Result<(), Infallible> {
        let state = &mut self.world.nodes[self.node];
        let content = Bytes::from(std::mem::take(&mut state.incoming));
        let event = Event::SnapshotWhole(self.node, state.life, meta, content);
        self.world.schedule.after(self.world.scenario.sync_units, event);
        Ok(())
    }
}

impl<M: Machine, D: Disk> World<M, D> {
    fn on_send(&mut self, node: usize, message: &Message) {
        self.observer.on_send(node, self.nodes[node].life, message);
        self.trace.send(self.schedule.now_units(), self.nodes[node].id, message);
        match &message.body {
            Body::Promise(Promise { reports, rest, .. }) => {
                if !reports.is_empty() {
                    self.marks.hit(Mark::PromiseWithValues);
                }
                if rest.is_some() {
                    self.marks.hit(Mark::PromiseInParts);
                }
            }
            Body::Fetch(fetch) if fetch.ahead_slots > 0 => self.marks.hit(Mark::ValuesAskedAhead),
            Body::Accept(Accept { value, .. }) if value.is_no_op() => self.marks.hit(Mark::HoleFilled),
            Body::Accept(Accept { ballot, value, .. })
                if value.as_membership().is_some_and(|membership| membership.ballot() != *ballot) =>
            {
                self.marks.hit(Mark::MembershipTakenOver);
            }
            Body::Trimmed(_) if self.nodes.iter().any(|node| node.role() == Some(Role::Candidate)) => {
                self.marks.hit(Mark::SnapshotDuringTakeover);
            }
            _ => {}
        }
    }

    fn on_membership_changed(&mut self, node: usize, slot: Slot, membership: &Membership) {
        let state = &self.nodes[node];
        let id = state.id;
        self.trace
            .event(self.schedule.now_units(), || format!("node {id} enters {membership} behind slot {slot}"));
        let leads = state.role() == Some(Role::Leader);
        if leads && membership.is_voter(id) && !membership.may_lead(id) {
            self.marks.hit(Mark::LeaderOfPriority0);
        }
        self.nodes[node].epoch = membership.epoch();
        if membership.epoch() <= self.newest_epoch {
            return;
        }
        self.newest_epoch = membership.epoch();
        for node in 0..self.nodes.len() {
            let state = &mut self.nodes[node];
            state.was_away |= !state.is_up() && membership.was_removed(state.id);
        }
        let before = self.observer.membership_before();
        let had = before.map_or(0, |before| before.voters().count());
        match membership.voters().count().cmp(&had) {
            std::cmp::Ordering::Greater => self.marks.hit(Mark::VoterAdded),
            std::cmp::Ordering::Less => self.marks.hit(Mark::VoterRemoved),
            std::cmp::Ordering::Equal => {}
        }
    }

    /// The other members of the membership that is in force at this node.
    fn peers(&self, node: usize) -> Vec<usize> {
        let Some(replica) = &self.nodes[node].replica else { return Vec::new() };
        let members = replica.membership().members();
        (0..self.nodes.len()).filter(|&to| to != node && members.contains(&self.nodes[to].id)).collect()
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        let schedule = &mut self.schedule;
        let parcel = Parcel { from, to, message };
        self.network.send(parcel, |delay, parcel| schedule.after(delay, Event::Deliver(parcel)));
    }

    fn apply(&mut self, node: usize, slot: Slot, value: &Value) {
        let now = self.schedule.now_units();
        let state = &mut self.nodes[node];
        let (id, expected) = (state.id, state.application.applied.next());
        let (observer, clients, marks) = (&mut self.observer, &mut self.clients, &mut self.marks);
        let trace = &mut self.trace;
        observer.check(slot == expected, Rule::AppliedInOrder, || {
            format!("node {id} applies slot {slot} when slot {expected} is next")
        });
        let mut answered = Vec::new();
        let own = state.clocks.reading(now).wall;
        let time = state.application.time.after(value);
        let seen = |command: &Bytes, answer: &Bytes| {
            trace.machine(now, || {
                let action = Action::Command(command.clone());
                let (shown, answer) = (M::show(&action), M::show_answer(&action, answer));
                format!("node {id} applies slot {slot}, time {time}: {shown} -> {answer}")
            });
        };
        state.application.apply(slot, value, own, seen, |key, outcome| {
            if let Some(key) = key {
                observer.on_outcome(slot, key, outcome);
            }
            match outcome {
                Outcome::Repeated { .. } => marks.hit(Mark::CommandRepeated),
                Outcome::AlreadyAnswered => marks.hit(Mark::AnsweredBefore),
                Outcome::UnknownSession => marks.hit(Mark::SessionEvicted),
                _ => {}
            }
            for (index, client) in clients.iter_mut().enumerate().filter(|(_, client)| client.node == node) {
                if client.hear(now, key, outcome) {
                    answered.push(index);
                    if let Some(key) = key {
                        observer.on_acknowledged(key, outcome);
                    }
                }
            }
        });
        observer.on_apply(node, slot, value, state.application.digest());
        observer.check_state_time(node, slot, state.application.time);
        self.trace.apply(now, id, slot, value);
        self.take_snapshot_if_due(node);
        for client in answered {
            self.tell_answer(client);
            let think = 1 + self.client_random.below(self.scenario.think_units);
            self.wake_client(client, think);
        }
    }

    /// Takes a snapshot of a node's state. One that was put off while a peer fetched an older one is still
    /// due when the log is full, and nothing is applied any more.
    pub(super) fn take_snapshot_if_due(&mut self, node: usize) {
        let (due, state) = (self.scenario.snapshot_slots, &self.nodes[node]);
        let slot = state.application.applied;
        let is_due = due > 0 && slot.0 >= state.snapshot_begun.0 + due && !state.is_snapshot_under_way;
        if is_due && self.may_take_snapshot(node) {
            let state = &mut self.nodes[node];
            (state.snapshot_begun, state.is_snapshot_under_way) = (slot, true);
            let membership = state.replica.as_ref().and_then(|replica| replica.membership_at(slot));
            let membership = membership.expect("the slot lies behind the newest snapshot");
            let snapshot = state.application.begin_snapshot(membership);
            let delay = 1 + self.scenario.sync_units;
            self.schedule.after(delay, Event::SnapshotTaken(node, state.life, snapshot));
        }
    }

    /// A snapshot that a node has begun is on its disk.
    pub(super) fn on_snapshot_taken(&mut self, node: usize, snapshot: PendingSnapshot) {
        let (meta, content) = snapshot.finish();
        let state = &mut self.nodes[node];
        let (id, slot) = (state.id, meta.slot);
        self.trace
            .machine(self.schedule.now_units(), || format!("node {id} has taken a snapshot of slot {slot}"));
        state.is_snapshot_under_way = false;
        state.disk.save_snapshot(meta.clone(), &content);
        self.observer.on_snapshot(node, &meta, M::HAS_EQUAL_SNAPSHOTS);
        self.observer.on_snapshot_stored(node, &meta);
        self.step(node, Input::SnapshotSaved { meta });
    }

    fn restore(&mut self, node: usize, meta: &SnapshotMeta) {
        let state = &mut self.nodes[node];
        let content = state.disk.snapshot(meta.slot).map(|(_, content)| content);
        let content = content.expect("a snapshot that is installed is on the disk");
        state.application.restore(meta.slot, content);
        state.snapshot_begun = meta.slot;
        state.has_restored = true;
        self.fetches.on_restore(node);
        self.marks.hit(Mark::SnapshotInstalled);
        if meta.membership.epoch() > state.epoch {
            self.marks.hit(Mark::MembershipInSnapshot);
        }
        self.trace.trouble(self.schedule.now_units(), || {
            format!("node {} takes over the snapshot of slot {}", state.id, meta.slot)
        });
        self.observer.check_state(node, meta.slot, state.application.digest());
        self.observer.check_state_time(node, meta.slot, state.application.time);
    }

    pub(super) fn on_snapshot_whole(&mut self, node: usize, life: u64, meta: SnapshotMeta, content: &Bytes) {
        let state = &mut self.nodes[node];
        if state.life != life {
            return;
        }
        if content.len() as u64 != meta.size_bytes || crc32c::crc32c(content) != meta.checksum {
            self.step(node, Input::SnapshotRejected { slot: meta.slot });
            return;
        }
        state.disk.save_snapshot(meta.clone(), content);
        self.observer.on_snapshot_stored(node, &meta);
        self.step(node, Input::SnapshotInstalled { meta });
    }

    fn on_read_ready(&mut self, node: usize, read: ReadId, time: Time) {
        let now = self.schedule.now_units();
        let state = &mut self.nodes[node];
        let Some((client, newest)) = state.reads.remove(&read) else { return };
        let (id, applied) = (state.id, state.application.applied);
        self.observer.check(applied >= newest, Rule::ReadIsFresh, || {
            format!(
                "node {id} answers a read from slot {applied}, when slot {newest} had been applied before it"
            )
        });
        self.observer.check_read_time(node, newest, time);
        if state.role() != Some(Role::Leader) {
            self.marks.hit(Mark::FollowerRead);
        } else if matches!(self.scenario.settings.reads, ReadMode::Lease { .. }) {
            self.marks.hit(Mark::LeaseRead);
        }
        let waits = &mut self.clients[client];
        if matches!(waits.waits_for, Waiting::Read(current) if current == read) {
            let query = waits.query();
            let reply =
                query.map_or(Some(Bytes::new()), |query| state.application.machine.query(&query, time));
            let Some(reply) = reply else {
                self.marks.hit(Mark::ReadAheadOfLog);
                return self.wake_client(client, TURNED_AWAY_TICKS * TICK_UNITS);
            };
            waits.answered(now, reply);
            self.tell_answer(client);
            let think = 1 + self.client_random.below(self.scenario.think_units);
            self.wake_client(client, think);
        }
    }
}
