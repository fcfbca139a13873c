//! The leader: phase 2 for as many slots as the window allows, and counting acceptances.

use super::heartbeats::HeartbeatRounds;
use super::in_flight::InFlight;
use super::writes::Consequence;
use super::{Output, ProposerState, Replica};
use crate::config::{Config, PhaseOne};
use crate::durable::Entry;
use crate::id::{Ballot, Slot};
use crate::membership::{MemberIndex, Members, PerMember};
use crate::message::{Accept, Accepted, Message};
use crate::mutant::{Mutant, mutated};
use crate::value::Value;

/// How many bytes an accept that is sent again is taken to cost beside its value.
const ACCEPT_BYTES: usize = 64;

/// A proposer whose ballot a quorum has promised.
#[derive(Debug)]
pub(super) struct Leading {
    ballot: Ballot,
    /// The next slot to propose a fresh value in.
    next_slot: Slot,
    /// The last slot in which a value may have been chosen before this leadership. Reads wait for it.
    takeover_end: Slot,
    in_flight: InFlight,
    /// Whether a membership is proposed, or known to be chosen: nothing is proposed behind it in this epoch.
    is_stopped: bool,
    pub(super) peers: PerMember<Peer>,
    /// The watermark that was sent to all peers last.
    pub(super) announced: Slot,
    /// Whether a fresh value has been proposed under this ballot.
    is_spent: bool,
    pub(super) rounds: HeartbeatRounds,
}

/// What the leader knows of a member, including itself.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// When it was last heard from; before that, when this leadership began.
    pub(super) heard_at_ticks: u64,
    /// Whether it was heard from at all.
    pub(super) has_answered: bool,
    /// The last slot with a command that this peer forwarded: the peer waits to hear that the slot is chosen.
    pub(super) forwarded_through: Slot,
    /// Every slot up to here is known to the peer to be chosen, as it has last said.
    pub(super) chosen: Slot,
}

impl Peer {
    pub(super) fn note_answer(&mut self, now_ticks: u64) {
        self.heard_at_ticks = now_ticks;
        self.has_answered = true;
    }
}

impl Leading {
    pub(super) fn new(config: &Config, ballot: Ballot, takeover_end: Slot, now_ticks: u64) -> Leading {
        let peer = Peer {
            heard_at_ticks: now_ticks,
            has_answered: false,
            forwarded_through: Slot::ZERO,
            chosen: Slot::ZERO,
        };
        Leading {
            ballot,
            next_slot: takeover_end.next(),
            takeover_end,
            in_flight: InFlight::default(),
            is_stopped: false,
            peers: PerMember::new(config.member_map(), peer),
            announced: Slot::ZERO,
            is_spent: false,
            rounds: HeartbeatRounds::new(config),
        }
    }

    pub(super) fn in_flight_mut(&mut self) -> &mut InFlight {
        &mut self.in_flight
    }

    pub(super) fn ballot(&self) -> Ballot {
        self.ballot
    }

    pub(super) fn next_slot(&self) -> Slot {
        self.next_slot
    }

    pub(super) fn takeover_end(&self) -> Slot {
        self.takeover_end
    }

    /// The next slot to propose in, now taken, and the ballot.
    pub(super) fn start_slot(&mut self) -> (Ballot, Slot) {
        let slot = self.next_slot;
        self.next_slot = slot.next();
        self.is_spent = true;
        (self.ballot, slot)
    }

    /// Whether nothing is proposed in `slot`, and nothing is in flight elsewhere.
    pub(super) fn is_idle_at(&self, slot: Slot) -> bool {
        self.is_idle() && !self.is_stopped() && slot >= self.next_slot
    }

    /// Whether nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Proposes nothing behind `slot`, which holds a membership.
    pub(super) fn stop_at(&mut self, slot: Slot) {
        self.is_stopped = true;
        self.next_slot = slot.next();
        self.takeover_end = self.takeover_end.min(slot);
    }

    /// Whether a membership must be in force before anything else is proposed.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped && !mutated(Mutant::ProposesBehindMembership)
    }

    /// The same leadership in the next epoch, which begins behind `slot`; `before` are the members until
    /// then.
    pub(super) fn in_next_epoch(
        &self,
        before: &Members,
        config: &Config,
        slot: Slot,
        now_ticks: u64,
    ) -> Leading {
        let mut next = Leading::new(config, self.ballot, slot, now_ticks);
        next.is_spent = self.is_spent;
        for index in config.member_map().indices() {
            if let Some(known) = before.index_of(config.member_map().id(index)) {
                next.peers[index] = Peer { forwarded_through: Slot::ZERO, ..self.peers[known].clone() };
            }
        }
        next
    }

    /// Whether a fresh value has been proposed under this ballot.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent
    }

    fn can_start_slot(&self, config: &Config, chosen: Slot, queued_bytes: usize) -> bool {
        let settings = config.settings();
        let fits = self.in_flight.is_empty()
            || (self.next_slot <= chosen.advanced_by(settings.window_slots)
                && self.in_flight.bytes() < settings.window_bytes);
        let eager =
            self.in_flight.commands() < settings.eager_commands || queued_bytes >= settings.batch_bytes;
        fits && eager && !self.is_stopped() && self.next_slot <= chosen.advanced_by(config.horizon_slots())
    }

    /// Whether an acceptance under `ballot` is one of this leader's proposal.
    fn counts(&self, ballot: Ballot) -> bool {
        self.ballot == ballot || mutated(Mutant::AcceptedOfOlderBallotCounts)
    }
}

impl Replica {
    /// Proposes waiting commands in as many slots as window and batching allow.
    pub(super) fn propose_queued(&mut self) {
        if self.is_handing_over() {
            return;
        }
        while !self.queue.is_empty() {
            let ProposerState::Leading(leading) = &mut self.proposer else { return };
            if self.config.settings().phase_one == PhaseOne::EveryValue && leading.is_spent {
                if leading.in_flight.is_empty() && !leading.is_stopped() {
                    self.begin_prepare(None);
                }
                return;
            }
            if !leading.can_start_slot(&self.config, self.log.chosen(), self.queue.bytes()) {
                return;
            }
            let (members, batch_bytes) = (self.config.member_map(), self.config.settings().batch_bytes);
            let (value, origins) = self.queue.take_batch(members, batch_bytes);
            let value = value.at(self.clock.stamp());
            let (ballot, slot) = leading.start_slot();
            for member in self.config.member_map().indices().filter(|&member| origins.contains(member)) {
                leading.peers[member].forwarded_through = slot;
            }
            self.propose(ballot, slot, value);
        }
    }

    /// Phase 2a. The accept leaves before the leader's own acceptance is durable: the disks work side by
    /// side, and the leader counts its own acceptance only when that is durable.
    pub(super) fn propose(&mut self, ballot: Ballot, slot: Slot, value: Value) {
        assert_eq!(ballot, self.promised, "a leader has promised nothing above its own ballot");
        let ProposerState::Leading(leading) = &mut self.proposer else { return };
        leading.in_flight.put(slot, &value, self.now_ticks);
        if !mutated(Mutant::AcceptedTimesIgnored) {
            self.clock.keep_above(value.time());
        }
        leading.announced = self.log.chosen();
        let entry = Entry::Accepted { ballot, value: value.clone() };
        self.log.put(slot, entry.clone());
        self.writes.put(slot, entry);
        self.writes.after_durable(Consequence::OwnAcceptance { ballot, slot });
        let chosen = self.announced_chosen();
        self.broadcast(Accept { ballot, slot, value, chosen });
    }

    /// Counts acceptances: a value that a quorum has accepted under one ballot is chosen (section 2.1).
    pub(super) fn on_accepted(&mut self, peer: MemberIndex, accepted: Accepted) {
        let Accepted { ballot, first, last } = accepted;
        let ProposerState::Leading(leading) = &mut self.proposer else { return };
        if !leading.counts(ballot) || first > last {
            return;
        }
        leading.peers[peer].note_answer(self.now_ticks);
        let (quorums, members) = (self.config.quorums(), self.config.member_map());
        let is_quorum = |accepted_by| quorums.enough_acceptances(members.votes(accepted_by));
        leading.in_flight.accept(peer, first, last, is_quorum);
        while let Some(slot) = leading.in_flight.take_chosen(self.log.chosen()) {
            self.log.mark_chosen(slot);
            self.log.advance();
            self.changes.note_own_value();
        }
        self.enter_epochs();
    }

    /// Steps down if no quorum answers any more; else sends what is due.
    pub(super) fn tick_leading(&mut self) {
        let ProposerState::Leading(leading) = &self.proposer else { return };
        let timeout = u64::from(self.config.settings().election_timeout_ticks);
        let own = self.own_index();
        let heard = |&member: &MemberIndex| {
            Some(member) == own || self.now_ticks <= leading.peers[member].heard_at_ticks + timeout
        };
        let reachable = self.config.member_map().voters().filter(heard).count();
        if !self.config.quorums().enough_for_a_leader(reachable) {
            self.step_down();
            return;
        }
        if leading.rounds.is_due(self.now_ticks) {
            self.send_heartbeats();
        }
        if resends_accepts() {
            self.resend_accepts();
        }
        self.tick_handover();
    }

    /// Sends each proposal that has waited too long to the members that have not accepted it, oldest slot
    /// first, and not many more bytes on one tick than one message of catch-up has.
    fn resend_accepts(&mut self) {
        let ProposerState::Leading(leading) = &mut self.proposer else { return };
        let (settings, epoch) = (self.config.settings(), self.config.membership().epoch());
        let overdue_ticks = self.now_ticks.saturating_sub(u64::from(settings.resend_ticks));
        let (own, chosen) = (self.config.node(), self.log.chosen());
        let mut bytes = 0;
        for (slot, proposal) in leading.in_flight.proposals_mut() {
            if proposal.sent_at_ticks > overdue_ticks {
                continue;
            }
            if bytes > settings.chunk_bytes {
                return;
            }
            proposal.sent_at_ticks = self.now_ticks;
            let entry = self.log.entry(slot).expect("a proposal in flight is in the leader's log");
            for member in self.config.member_map().indices() {
                let to = self.config.member_map().id(member);
                if to != own && !proposal.accepted_by.contains(member) {
                    let value = entry.value().clone();
                    bytes += value.size_bytes() + ACCEPT_BYTES;
                    let accept = Accept { ballot: leading.ballot, slot, value, chosen };
                    self.outputs.push(Output::Send { to, message: Message::new(epoch, accept) });
                }
            }
        }
    }
}

/// Whether accepts that were not answered are sent again, which they always are.
fn resends_accepts() -> bool {
    !mutated(Mutant::AcceptNeverResent)
}
