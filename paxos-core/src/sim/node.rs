//! One simulated node: a real replica, with a disk, a state machine and a clock.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::clocks::Clocks;
use super::disk::Disk;
use super::machine::{BegunSnapshot, Machine, mix};
use super::scenario::{Scenario, TICK_UNITS};
use crate::mutant::{Mutant, mutated};
use crate::session::{Outcome, SessionCommand, SessionId, SessionLimits, Sessions};
use crate::{Epoch, Membership, NodeId, ReadId, Replica, Role, Slot, SnapshotMeta, Time, Value, Write};

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "what has befallen a node are independent facts")]
pub(super) struct Node<M, D> {
    pub(super) id: NodeId,
    /// `None` while it is down.
    pub(super) replica: Option<Replica>,
    pub(super) disk: D,
    pub(super) application: Application<M>,
    /// Counts its starts, so that events planned in an earlier life are known.
    pub(super) life: u64,
    /// Writes that the replica has made and that are not synced yet, oldest first.
    pub(super) writes: Vec<Write>,
    /// How many of the writes are being synced.
    pub(super) syncing: usize,
    pub(super) disk_stuck_until_units: u64,
    pub(super) disk_health: Health,
    /// Whether it never comes back.
    pub(super) is_gone: bool,
    /// Whether it has not been started yet: an operator may do so.
    pub(super) is_spare: bool,
    /// Whether it has ended as it was removed, and may do so.
    pub(super) has_ended: bool,
    /// Whether it was removed while it was down.
    pub(super) was_away: bool,
    /// The epoch that it is in.
    pub(super) epoch: Epoch,
    /// Whether it crashes as soon as it has something to write.
    pub(super) is_doomed: bool,
    pub(super) paused_until_units: u64,
    pub(super) missed_ticks: u32,
    pub(super) tick_units: u64,
    /// From what it shows time gets into the log.
    pub(super) clocks: Clocks,
    /// What of that the replica was told last.
    pub(super) read_ms: Option<u64>,
    /// When it has proposed last what was due.
    pub(super) proposed_due_units: u64,
    /// The replica has not been told the time of the state that was restored.
    pub(super) has_restored: bool,
    /// The last slot of which a snapshot was begun.
    pub(super) snapshot_begun: Slot,
    /// Whether a snapshot was begun that is not on the disk yet.
    pub(super) is_snapshot_under_way: bool,
    /// A snapshot that a peer sends.
    pub(super) incoming: Vec<u8>,
    /// The reads under way: the client of each, and the last slot that any node had applied when it was asked
    /// for.
    pub(super) reads: BTreeMap<ReadId, (usize, Slot)>,
}

/// Whether a disk keeps what it has synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Health {
    Sound,
    /// Some of what it had synced has changed by itself.
    Rotten,
    /// It reported syncs that never happened.
    Lies,
}

impl<M: Machine, D: Disk> Node<M, D> {
    pub(super) fn new(id: NodeId, scenario: &Scenario, disk_seed: u64) -> Node<M, D> {
        Node {
            id,
            replica: None,
            disk: D::format(id, disk_seed),
            application: Application::new(scenario.sessions),
            life: 0,
            writes: Vec::new(),
            syncing: 0,
            disk_stuck_until_units: 0,
            disk_health: Health::Sound,
            is_gone: false,
            is_spare: false,
            has_ended: false,
            was_away: false,
            epoch: Epoch(0),
            is_doomed: false,
            paused_until_units: 0,
            missed_ticks: 0,
            tick_units: TICK_UNITS,
            clocks: Clocks::right(),
            read_ms: None,
            proposed_due_units: 0,
            has_restored: false,
            snapshot_begun: Slot::ZERO,
            is_snapshot_under_way: false,
            incoming: Vec::new(),
            reads: BTreeMap::new(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.replica.is_some()
    }

    /// Whether nothing is known to have befallen what its disk has synced.
    pub(super) fn is_sound(&self) -> bool {
        !self.is_gone && self.disk_health == Health::Sound
    }

    pub(super) fn role(&self) -> Option<Role> {
        self.replica.as_ref().map(Replica::role)
    }
}

/// What applied commands change on a node: the state machine, and the sessions that protect it.
#[derive(Debug)]
pub(super) struct Application<M> {
    pub(super) machine: M,
    pub(super) sessions: Sessions,
    pub(super) applied: Slot,
    /// The time of the state.
    pub(super) time: Time,
    /// A digest of the outcomes of all commands so far.
    outcomes: u64,
    limits: SessionLimits,
}

impl<M: Machine> Application<M> {
    pub(super) fn new(limits: SessionLimits) -> Application<M> {
        let sessions = Sessions::new(limits);
        Application {
            machine: M::default(),
            sessions,
            applied: Slot::ZERO,
            time: Time::NONE,
            outcomes: 0,
            limits,
        }
    }

    /// Applies a slot. Reports each command that reaches the state machine to `seen`, with its answer, and
    /// the outcome of each request to `told`. The node's own wall clock shows `own`, which is not used but by
    /// a mutant.
    pub(super) fn apply(
        &mut self,
        slot: Slot,
        value: &Value,
        own: Time,
        mut seen: impl FnMut(&Bytes, &Bytes),
        mut told: impl FnMut(Option<(SessionId, u64)>, &Outcome),
    ) {
        self.time = self.time.after(value);
        let time = if mutated(Mutant::AppliedByOwnClock) { own } else { self.time };
        for (index, command) in (0..).zip(value.commands()) {
            let Ok(request) = SessionCommand::decode(command) else { continue };
            let key = match &request {
                SessionCommand::Open { .. } | SessionCommand::Repeatable { .. } => None,
                SessionCommand::Apply { session, sequence, .. } => Some((*session, *sequence)),
            };
            let machine = &mut self.machine;
            let outcome = self.sessions.execute(slot, index, request, |command| {
                let answer = machine.apply(slot, time, &command);
                seen(&command, &answer);
                answer
            });
            self.outcomes = mix(self.outcomes ^ fingerprint(&outcome));
            told(key, &outcome);
        }
        self.applied = slot;
    }

    pub(super) fn digest(&self) -> u64 {
        mix(self.outcomes) ^ self.machine.digest() ^ mix(mix(self.time.0))
    }

    /// Begins a snapshot of the state after the last slot applied, behind which `membership` is in force.
    pub(super) fn begin_snapshot(&self, membership: Membership) -> PendingSnapshot {
        PendingSnapshot {
            slot: self.applied,
            membership,
            outcomes: self.outcomes,
            time: if mutated(Mutant::TimeLostInSnapshot) { Time::NONE } else { self.time },
            sessions: self.sessions.encode(),
            machine: self.machine.begin_snapshot(),
        }
    }

    /// Replaces the state by that of the snapshot of this slot.
    pub(super) fn restore(&mut self, slot: Slot, mut content: Bytes) {
        let (outcomes, time) = (content.get_u64_le(), Time(content.get_u64_le()));
        let machine = content.get_u64_le() as usize;
        self.machine.restore(&content.split_to(machine));
        self.sessions = Sessions::decode(content, self.limits).expect("the simulation has written it itself");
        (self.applied, self.time, self.outcomes) = (slot, time, outcomes);
    }

    /// The state of a node that starts: that of its snapshot, or the first one.
    pub(super) fn recovered(
        snapshot: Option<(SnapshotMeta, Bytes)>,
        limits: SessionLimits,
    ) -> Application<M> {
        let mut application = Application::new(limits);
        if let Some((meta, content)) = snapshot {
            application.restore(meta.slot, content);
        }
        application
    }
}

/// A snapshot that was begun and is not whole yet.
pub(super) struct PendingSnapshot {
    pub(super) slot: Slot,
    membership: Membership,
    outcomes: u64,
    time: Time,
    sessions: Bytes,
    machine: BegunSnapshot,
}

impl PendingSnapshot {
    pub(super) fn finish(self) -> (SnapshotMeta, Bytes) {
        let machine = (self.machine)();
        let mut content = BytesMut::new();
        content.put_u64_le(self.outcomes);
        content.put_u64_le(self.time.0);
        content.put_u64_le(machine.len() as u64);
        content.put(machine);
        content.put(self.sessions);
        let content = content.freeze();
        let meta = SnapshotMeta {
            slot: self.slot,
            size_bytes: content.len() as u64,
            checksum: crc32c::crc32c(&content),
            membership: self.membership,
        };
        (meta, content)
    }
}

impl std::fmt::Debug for PendingSnapshot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PendingSnapshot").field("slot", &self.slot).finish_non_exhaustive()
    }
}

fn fingerprint(outcome: &Outcome) -> u64 {
    let of = |reply: &[u8]| u64::from(crc32c::crc32c(reply));
    match outcome {
        Outcome::Opened { session, nonce } => 1 ^ mix(session.slot.0) ^ nonce,
        Outcome::Applied { reply } => 2 ^ of(reply),
        Outcome::Repeated { slot, reply } => 3 ^ mix(slot.0) ^ reply.as_ref().map_or(0, |reply| of(reply)),
        Outcome::AlreadyAnswered => 4,
        Outcome::UnknownSession => 5,
        Outcome::TooManyUnanswered => 6,
    }
}
