//! What replicas ask for, carried out.

use bytes::Bytes;

use super::client::{TURNED_AWAY_TICKS, Waiting};
use super::disk::Disk;
use super::machine::Machine;
use super::marks::Mark;
use super::network::Parcel;
use super::node::State;
use super::rule::Rule;
use super::scenario::TICK_UNITS;
use super::world::{Event, World};
use crate::session::Outcome;
use crate::{Body, Input, Message, Output, ReadId, ReadMode, Role, Slot, SnapshotMeta, Value};

/// What a disk takes to read or write a piece of a snapshot.
const PIECE_UNITS: u64 = 5;

impl<M: Machine, D: Disk> World<M, D> {
    pub(super) fn carry_out(&mut self, node: usize, output: Output) {
        match output {
            Output::Persist(write) => {
                self.observer.on_write(node, &write);
                self.nodes[node].writes.push(write);
                if self.nodes[node].is_doomed {
                    self.crash(node);
                } else {
                    self.sync(node);
                }
            }
            Output::Send { to, message } => {
                if let Some(to) = self.nodes.iter().position(|peer| peer.id == to) {
                    self.on_send(node, &message);
                    self.send(node, to, message);
                }
            }
            Output::Broadcast { message } => {
                self.on_send(node, &message);
                for to in (0..self.nodes.len()).filter(|to| *to != node) {
                    self.send(node, to, message.clone());
                }
            }
            Output::Apply { slot, value } => self.apply(node, slot, &value),
            Output::Restore { meta } => self.restore(node, meta),
            Output::ReadReady { read } => self.on_read_ready(node, read),
            Output::ReadRefused { read } => {
                self.marks.hit(Mark::DeposedWithReads);
                if let Some((client, _)) = self.nodes[node].reads.remove(&read) {
                    self.wake_client(client, TURNED_AWAY_TICKS * TICK_UNITS);
                }
            }
            Output::Refused { commands, reason } => {
                let id = self.nodes[node].id;
                self.trace.event(self.schedule.now_units(), || format!("node {id} refuses: {reason:?}"));
                for client in 0..self.clients.len() {
                    if commands.iter().any(|command| self.clients[client].waits_for_command(node, command)) {
                        self.wake_client(client, TURNED_AWAY_TICKS * TICK_UNITS);
                    }
                }
            }
            Output::LoadSnapshot { to, meta, offset, max_bytes } => {
                let state = &self.nodes[node];
                if let Some((_, content)) = state.disk.snapshot(meta.slot) {
                    let offset_bytes = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
                    let end = content.len().min(offset_bytes.saturating_add(max_bytes));
                    let data = content.slice(offset_bytes..end);
                    let event = Event::SnapshotLoaded(node, state.life, to, meta, offset, data);
                    self.schedule.after(PIECE_UNITS, event);
                }
            }
            Output::StoreSnapshot { slot, offset, data } => {
                let state = &mut self.nodes[node];
                if offset == 0 {
                    state.incoming.clear();
                }
                state.incoming.extend_from_slice(&data);
                let end = state.incoming.len() as u64;
                self.schedule.after(PIECE_UNITS, Event::SnapshotStored(node, state.life, slot, end));
            }
            Output::InstallSnapshot { meta } => {
                let life = self.nodes[node].life;
                self.schedule.after(self.scenario.sync_units, Event::SnapshotWhole(node, life, meta));
            }
        }
    }

    fn on_send(&mut self, node: usize, message: &Message) {
        self.observer.on_send(node, self.nodes[node].life, message);
        self.trace.send(self.schedule.now_units(), self.nodes[node].id, message);
        match &message.body {
            Body::Promise { reports, rest, .. } => {
                if !reports.is_empty() {
                    self.marks.hit(Mark::PromiseWithValues);
                }
                if rest.is_some() {
                    self.marks.hit(Mark::PromiseInParts);
                }
            }
            Body::Accept { value, .. } if value.is_no_op() => self.marks.hit(Mark::HoleFilled),
            Body::Trimmed { .. } if self.nodes.iter().any(|node| node.role() == Some(Role::Candidate)) => {
                self.marks.hit(Mark::SnapshotDuringTakeover);
            }
            _ => {}
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        let schedule = &mut self.schedule;
        let parcel = Parcel { from, to, message };
        self.network.send(parcel, |delay, parcel| schedule.after(delay, Event::Deliver(parcel)));
    }

    fn apply(&mut self, node: usize, slot: Slot, value: &Value) {
        let now = self.schedule.now_units();
        let state = &mut self.nodes[node];
        let (id, expected) = (state.id, state.state.applied.next());
        let (observer, clients, marks) = (&mut self.observer, &mut self.clients, &mut self.marks);
        observer.check(slot == expected, Rule::AppliedInOrder, || {
            format!("node {id} applies slot {slot} when slot {expected} is next")
        });
        let mut answered = Vec::new();
        state.state.apply(slot, value, |key, outcome| {
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
        observer.on_apply(node, slot, value, state.state.digest());
        self.trace.apply(now, id, slot, value);
        let due = self.scenario.snapshot_slots;
        if due > 0 && slot.0 >= state.snapshot_begun.0 + due {
            state.snapshot_begun = slot;
            let (meta, content) = state.state.snapshot();
            observer.on_snapshot(node, slot, meta.checksum);
            let delay = 1 + self.scenario.sync_units;
            self.schedule.after(delay, Event::SnapshotTaken(node, state.life, meta, content));
        }
        for client in answered {
            let think = 1 + self.client_random.below(self.scenario.think_units);
            self.wake_client(client, think);
        }
    }

    fn restore(&mut self, node: usize, meta: SnapshotMeta) {
        let state = &mut self.nodes[node];
        let content = state.disk.snapshot(meta.slot).map(|(_, content)| content);
        let content = content.expect("a snapshot that is installed is on the disk");
        state.state = State::restore(meta.slot, content, state.state.limits());
        state.snapshot_begun = meta.slot;
        self.marks.hit(Mark::SnapshotInstalled);
        self.trace.event(self.schedule.now_units(), || {
            format!("node {} takes over the snapshot of slot {}", state.id, meta.slot)
        });
        self.observer.check_state(node, meta.slot, state.state.digest());
    }

    pub(super) fn on_snapshot_whole(&mut self, node: usize, life: u64, meta: SnapshotMeta) {
        let state = &mut self.nodes[node];
        if state.life != life {
            return;
        }
        let content = Bytes::from(std::mem::take(&mut state.incoming));
        if content.len() as u64 != meta.size_bytes || crc32c::crc32c(&content) != meta.checksum {
            self.step(node, Input::SnapshotRejected { slot: meta.slot });
            return;
        }
        state.disk.save_snapshot(meta, &content);
        self.observer.on_snapshot_stored(node, meta.slot);
        self.step(node, Input::SnapshotInstalled { meta });
    }

    fn on_read_ready(&mut self, node: usize, read: ReadId) {
        let now = self.schedule.now_units();
        let state = &mut self.nodes[node];
        let Some((client, newest)) = state.reads.remove(&read) else { return };
        let (id, applied) = (state.id, state.state.applied);
        self.observer.check(applied >= newest, Rule::ReadIsFresh, || {
            format!(
                "node {id} answers a read from slot {applied}, when slot {newest} had been applied before it"
            )
        });
        if state.role() != Some(Role::Leader) {
            self.marks.hit(Mark::FollowerRead);
        } else if matches!(self.scenario.options.reads, ReadMode::Lease { .. }) {
            self.marks.hit(Mark::LeaseRead);
        }
        let waits = &mut self.clients[client];
        if matches!(waits.waits_for, Waiting::Read(current) if current == read) {
            let reply = waits.query().map(|query| state.state.machine.query(&query));
            waits.answered(now, reply.unwrap_or_default());
            let think = 1 + self.client_random.below(self.scenario.think_units);
            self.wake_client(client, think);
        }
    }
}
