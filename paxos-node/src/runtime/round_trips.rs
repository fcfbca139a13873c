//! How long a leader's heartbeat and its answer take, for transports that do not tell the round trip.
//!
//! One heartbeat in [`PROBE_INTERVAL`] is timed, and each member's first answer to it. Turns of both nodes
//! are part of that time, so it is never less than what a packet takes. Only a leader sends heartbeats: other
//! nodes know no round trip by them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use paxos_core::{HeartbeatRound, NodeId};

/// How often a heartbeat is timed.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// The part that a new time has in what is told, so that one late answer counts for little.
const SHARE: u32 = 4;

/// The round trips to the members, while this node leads.
#[derive(Debug, Default)]
pub(crate) struct RoundTrips {
    timed: Option<(HeartbeatRound, Instant)>,
    members: BTreeMap<NodeId, Member>,
}

#[derive(Debug, Default)]
struct Member {
    answered: HeartbeatRound,
    round_trip: Duration,
}

impl RoundTrips {
    /// A heartbeat leaves. Several may have the same round; only the first of a round is timed.
    pub(crate) fn on_sent(&mut self, round: HeartbeatRound, now: Instant) {
        let is_due = |(timed, at): (HeartbeatRound, Instant)| {
            round > timed && now.saturating_duration_since(at) >= PROBE_INTERVAL
        };
        if self.timed.is_none_or(is_due) {
            self.timed = Some((round, now));
        }
    }

    /// A member has answered a heartbeat.
    pub(crate) fn on_answer(&mut self, from: NodeId, round: HeartbeatRound, now: Instant) {
        let Some((_, sent_at)) = self.timed.filter(|(timed, _)| *timed == round) else { return };
        let took = now.saturating_duration_since(sent_at);
        let member = self.members.entry(from).or_default();
        if member.answered == HeartbeatRound(0) {
            member.round_trip = took;
        } else if member.answered < round {
            member.round_trip = (member.round_trip * (SHARE - 1) + took) / SHARE;
        }
        member.answered = round;
    }

    /// Another node leads, or none: what is known becomes old.
    pub(crate) fn forget(&mut self) {
        *self = RoundTrips::default();
    }

    /// The round trip to a member, if it is known.
    pub(crate) fn of(&self, member: NodeId) -> Option<Duration> {
        self.members.get(&member).map(|member| member.round_trip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId(2);

    #[test]
    fn the_first_answer_to_the_heartbeat_that_is_timed_counts() {
        let (mut trips, start) = (RoundTrips::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        trips.on_sent(HeartbeatRound(7), at(0));
        trips.on_sent(HeartbeatRound(7), at(5)); // Announces what is chosen.
        trips.on_answer(PEER, HeartbeatRound(7), at(8));
        trips.on_answer(PEER, HeartbeatRound(7), at(90));
        trips.on_sent(HeartbeatRound(8), at(100)); // Too soon to be timed.
        trips.on_answer(PEER, HeartbeatRound(8), at(100));
        assert_eq!(trips.of(PEER), Some(Duration::from_millis(8)));
        trips.on_sent(HeartbeatRound(9), at(1000));
        trips.on_answer(PEER, HeartbeatRound(9), at(1048));
        assert_eq!(trips.of(PEER), Some(Duration::from_millis(18)), "a late answer counts for a quarter");
        assert_eq!(trips.of(NodeId(3)), None);
        trips.forget();
        assert_eq!(trips.of(PEER), None);
    }
}
