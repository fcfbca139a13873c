//! Linearizable reads, as Chubby serves them on its master.
//!
//! A read may look at the state once everything is applied that was chosen before the read was asked for. The
//! leader knows an upper bound of that, but only while it leads: so it first hears from a quorum that it still
//! does (one round of heartbeats for all reads that wait), or holds a lease that says so. A follower asks the
//! leader and then looks at its own state.

use std::collections::{BTreeSet, VecDeque};

use super::{Output, Replica, State};
use crate::id::{Ballot, NodeId, Slot};
use crate::message::{Body, HeartbeatRound, ReadId};
use crate::mutant::{Mutant, mutated};

/// Reads on their way through this replica. Both collections together are bounded by
/// [`Options::waiting_reads`](crate::Options::waiting_reads).
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// At the leader: reads that wait for a round of heartbeats which left after them.
    unconfirmed: VecDeque<Unconfirmed>,
    /// Here: reads that wait until their slot is applied.
    granted: BTreeSet<(Slot, ReadId)>,
    /// The last round of heartbeats that this replica has sent.
    round: HeartbeatRound,
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
    pub(super) fn next_round(&mut self) -> HeartbeatRound {
        self.round.0 += 1;
        self.round
    }

    pub(super) fn last_round(&self) -> HeartbeatRound {
        self.round
    }

    /// Makes all reads wait for what may have been chosen before this leadership.
    pub(super) fn wait_for_takeover(&mut self, takeover_end: Slot) {
        for unconfirmed in &mut self.unconfirmed {
            unconfirmed.slot = unconfirmed.slot.max(takeover_end);
        }
    }

    /// Gives up what only a leader could confirm. Followers that asked will ask again.
    pub(super) fn refuse_unconfirmed(&mut self, outputs: &mut Vec<Output>) {
        for unconfirmed in self.unconfirmed.drain(..) {
            if unconfirmed.origin.is_none() {
                outputs.push(Output::ReadRefused { read: unconfirmed.read });
            }
        }
    }

    fn count(&self) -> usize {
        self.unconfirmed.len() + self.granted.len()
    }
}

impl Replica {
    pub(super) fn on_read(&mut self, read: ReadId, outputs: &mut Vec<Output>) {
        match self.leader() {
            _ if self.reads.count() >= self.config.options().waiting_reads => {
                outputs.push(Output::ReadRefused { read });
            }
            None => outputs.push(Output::ReadRefused { read }),
            Some(leader) if leader == self.config.node() => self.admit_read(None, read, outputs),
            Some(leader) => self.send(leader, Body::ReadRequest { read }, outputs),
        }
    }

    /// Serves a follower's read if this replica leads. If not, the follower will find out who does.
    pub(super) fn on_read_request(&mut self, from: NodeId, read: ReadId, outputs: &mut Vec<Output>) {
        if self.is_distinguished() && self.reads.count() < self.config.options().waiting_reads {
            self.admit_read(Some(from), read, outputs);
        }
    }

    fn admit_read(&mut self, origin: Option<NodeId>, read: ReadId, outputs: &mut Vec<Output>) {
        let mut slot = self.log.chosen();
        if let State::Leading(leading) = &self.state {
            if !mutated(Mutant::ReadBeforeTakeover) {
                slot = slot.max(leading.takeover_end());
            }
            if self.holds_lease_in(0) || mutated(Mutant::ReadWithoutQuorum) {
                self.grant(origin, read, slot, outputs);
                return;
            }
        }
        let round = HeartbeatRound(self.reads.round.0 + u64::from(!mutated(Mutant::ReadRoundTooOld)));
        self.reads.unconfirmed.push_back(Unconfirmed { origin, read, slot, round });
    }

    /// Whether it will be allowed to answer reads alone when `ticks` have passed, if it hears nothing until then.
    pub(crate) fn holds_lease_in(&self, ticks: u64) -> bool {
        let State::Leading(leading) = &self.state else { return false };
        leading.lease_until_ticks(&self.config).is_some_and(|until| self.now_ticks + ticks < until)
    }

    /// The ballot under which it leads now, for who watches a cluster from outside.
    #[cfg(feature = "sim")]
    pub(crate) fn leads_under(&self) -> Option<Ballot> {
        match &self.state {
            State::Leading(leading) => Some(leading.ballot()),
            _ => None,
        }
    }

    fn grant(&mut self, origin: Option<NodeId>, read: ReadId, slot: Slot, outputs: &mut Vec<Output>) {
        match origin {
            None => {
                self.reads.granted.insert((slot, read));
            }
            Some(follower) => {
                let body = Body::ReadGrant { read, slot, ballot: self.promised, chosen: self.log.chosen() };
                self.send(follower, body, outputs);
            }
        }
    }

    pub(super) fn on_read_grant(
        &mut self,
        from: NodeId,
        read: ReadId,
        slot: Slot,
        ballot: Ballot,
        chosen: Slot,
    ) {
        if ballot.node != from {
            return;
        }
        self.on_watermark(from, ballot, chosen);
        if self.reads.count() < self.config.options().waiting_reads {
            self.reads.granted.insert((slot, read));
        }
    }

    /// Lets reads go that are confirmed and applied, and starts a round for those that came since the last one.
    pub(super) fn answer_reads(&mut self, outputs: &mut Vec<Output>) {
        self.confirm_reads(outputs);
        if self.reads.unconfirmed.front().is_some_and(|first| first.round > self.reads.round) {
            self.send_heartbeats(outputs);
            self.confirm_reads(outputs); // alone in the cluster, the leader is its own quorum
        }
        let is_rash = mutated(Mutant::ReadBeforeApplied);
        while self.reads.granted.first().is_some_and(|(slot, _)| *slot <= self.applied || is_rash) {
            let (_, read) = self.reads.granted.pop_first().expect("a first element was seen just now");
            outputs.push(Output::ReadReady { read });
        }
    }

    fn confirm_reads(&mut self, outputs: &mut Vec<Output>) {
        if self.reads.unconfirmed.is_empty() {
            return;
        }
        let State::Leading(leading) = &self.state else { return };
        let confirmed = leading.confirmed_round(&self.config).min(self.reads.round);
        while self.reads.unconfirmed.front().is_some_and(|first| first.round <= confirmed) {
            let read = self.reads.unconfirmed.pop_front().expect("a first element was seen just now");
            self.grant(read.origin, read.read, read.slot, outputs);
        }
    }
}
