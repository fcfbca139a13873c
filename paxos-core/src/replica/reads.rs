//! Linearizable reads, as Chubby serves them on its master.
//!
//! A read may look at the state once everything is applied that was chosen before the read was asked for. The
//! leader knows an upper bound of that, but only while it leads: so it first confirms with a quorum that it
//! still leads (one round of heartbeats for all reads that wait), or it holds a lease. A follower asks the
//! leader for the bound and then looks at its own state.

use std::collections::{BTreeMap, VecDeque};

use super::{Output, ProposerState, Replica};
use crate::clock::Time;
use crate::id::{NodeId, Slot};
use crate::message::{HeartbeatRound, ReadGrant, ReadId, ReadRequest};
use crate::mutant::{Mutant, mutated};

/// Reads on their way through this replica. Both collections together are bounded by
/// [`ProtocolSettings::waiting_reads`](crate::ProtocolSettings::waiting_reads).
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// At the leader: reads that wait for the answers to a round of heartbeats which left after they came.
    unconfirmed: VecDeque<Unconfirmed>,
    /// Reads of this replica's own driver that wait until their slot is applied, with the leader's time when
    /// it let them go.
    granted: BTreeMap<(Slot, ReadId), Time>,
}

#[derive(Debug)]
struct Unconfirmed {
    /// The follower that asked; `None` for this replica's own driver.
    origin: Option<NodeId>,
    read: ReadId,
    slot: Slot,
    /// A quorum's answer to this round or a later one confirms the read.
    round: HeartbeatRound,
}

impl Reads {
    /// Makes all reads wait for what may have been chosen before this leadership.
    pub(super) fn wait_for_takeover(&mut self, takeover_end: Slot) {
        for unconfirmed in &mut self.unconfirmed {
            unconfirmed.slot = unconfirmed.slot.max(takeover_end);
        }
    }

    fn count(&self) -> usize {
        self.unconfirmed.len() + self.granted.len()
    }
}

impl Replica {
    pub(super) fn on_read(&mut self, read: ReadId) {
        match self.leader() {
            Some(leader) if self.has_room_for_read() => {
                if leader == self.config.node() {
                    self.admit_read(None, read);
                } else {
                    self.send(leader, ReadRequest { read });
                }
            }
            _ => self.outputs.push(Output::ReadRefused { read }),
        }
    }

    /// Serves a follower's read if this replica leads. If not, the follower will find out which one does.
    pub(super) fn on_read_request(&mut self, from: NodeId, request: ReadRequest) {
        if self.is_distinguished() && self.has_room_for_read() {
            self.admit_read(Some(from), request.read);
        }
    }

    fn has_room_for_read(&self) -> bool {
        self.reads.count() < self.config.settings().waiting_reads
    }

    /// Lets a read go at once under a lease; else it waits for the next round of heartbeats.
    fn admit_read(&mut self, origin: Option<NodeId>, read: ReadId) {
        let mut slot = self.log.chosen();
        if let ProposerState::Leading(leading) = &self.proposer {
            if waits_for_takeover() {
                slot = slot.max(leading.takeover_end());
            }
            if self.may_answer_alone() {
                self.grant(origin, read, slot);
                return;
            }
        }
        let round = self.first_round_after_now();
        self.reads.unconfirmed.push_back(Unconfirmed { origin, read, slot, round });
    }

    /// Whether a leader may answer reads without asking a quorum whether it still leads.
    fn may_answer_alone(&self) -> bool {
        self.holds_lease_in(0) || mutated(Mutant::ReadWithoutQuorum)
    }

    /// The first round of heartbeats that leaves after a read which comes now.
    fn first_round_after_now(&self) -> HeartbeatRound {
        let last = self.heartbeats.last_round();
        if mutated(Mutant::ReadRoundTooOld) { last } else { HeartbeatRound(last.0 + 1) }
    }

    /// Tells the reader which slot the read must wait for.
    fn grant(&mut self, origin: Option<NodeId>, read: ReadId, slot: Slot) {
        let time = self.clock.leader_time();
        match origin {
            None => {
                self.reads.granted.insert((slot, read), time);
            }
            Some(follower) => {
                let (ballot, chosen) = (self.promised, self.log.chosen());
                self.send(follower, ReadGrant { read, slot, ballot, chosen, time });
            }
        }
    }

    pub(super) fn on_read_grant(&mut self, from: NodeId, grant: ReadGrant) {
        let ReadGrant { read, slot, ballot, chosen, time } = grant;
        if ballot.node != from {
            return;
        }
        self.on_watermark(from, ballot, chosen);
        if self.has_room_for_read() {
            self.reads.granted.insert((slot, read), time);
        }
    }

    /// Lets reads go that are confirmed and applied, and starts a round for those that came since the last
    /// one.
    pub(super) fn answer_reads(&mut self) {
        if self.reads.count() == 0 {
            return;
        }
        self.confirm_reads();
        if self.reads.unconfirmed.front().is_some_and(|first| first.round > self.heartbeats.last_round()) {
            self.send_heartbeats();
            self.confirm_reads(); // A leader alone in its cluster is its own quorum.
        }
        while self.reads.granted.first_key_value().is_some_and(|((slot, _), _)| self.shows(*slot)) {
            let ((_, read), time) =
                self.reads.granted.pop_first().expect("a first element was seen just now");
            let time = if mutated(Mutant::ReadIgnoresClock) { Time::NONE } else { time };
            self.outputs.push(Output::ReadReady { read, time });
        }
    }

    /// Whether the state of this node shows what is chosen in `slot`.
    fn shows(&self, slot: Slot) -> bool {
        slot <= self.applied || mutated(Mutant::ReadBeforeApplied)
    }

    fn confirm_reads(&mut self) {
        if self.reads.unconfirmed.is_empty() {
            return;
        }
        let ProposerState::Leading(leading) = &self.proposer else { return };
        if leading.is_stopped() {
            return; // A quorum of the next epoch may know more.
        }
        let confirmed = leading.rounds.confirmed().min(self.heartbeats.last_round());
        while self.reads.unconfirmed.front().is_some_and(|first| first.round <= confirmed) {
            let read = self.reads.unconfirmed.pop_front().expect("a first element was seen just now");
            self.grant(read.origin, read.read, read.slot);
        }
    }

    /// Gives up the reads that only a leader could confirm. Followers that asked will ask again.
    pub(super) fn refuse_unconfirmed_reads(&mut self) {
        for unconfirmed in self.reads.unconfirmed.drain(..) {
            if unconfirmed.origin.is_none() {
                self.outputs.push(Output::ReadRefused { read: unconfirmed.read });
            }
        }
    }
}

/// Whether a new leader's reads wait for what was chosen under the leaders before, which they always do.
fn waits_for_takeover() -> bool {
    !mutated(Mutant::ReadBeforeTakeover)
}
