//! What a replica does on ticks. It hears only the messages that the test sends.

use super::edges::step_durably;
use crate::message::{Consent, Heartbeat, Prepare, Probe, Promise, Reject};
use crate::{
    Ballot, Body, Config, Epoch, HeartbeatRound, Input, Membership, Message, NodeId, Output,
    ProtocolSettings, ReadMode, Recovered, Replica, Role, Slot, Time,
};

const TIMEOUT: u64 = 50;
pub(super) const RESEND: u64 = 10;
const SEEDS: std::ops::RangeInclusive<u64> = 1..=300;

/// Node 1 of five, and its time.
pub(super) struct Alone {
    pub(super) replica: Replica,
    now: u64,
}

impl Alone {
    pub(super) fn new(seed: u64, reads: ReadMode) -> Alone {
        Alone::with(seed, ProtocolSettings { reads, ..ProtocolSettings::default() })
    }

    pub(super) fn with(seed: u64, settings: ProtocolSettings) -> Alone {
        Alone::recovered(seed, settings, Recovered::default())
    }

    pub(super) fn recovered(seed: u64, settings: ProtocolSettings, recovered: Recovered) -> Alone {
        let members = [1, 2, 3, 4, 5].map(NodeId);
        let config = Config::new(NodeId(1), Membership::new(&members).expect("they are distinct"), settings);
        let config = config.expect("the settings fit together");
        let replica = Replica::new(config, recovered, seed).expect("the disk is in order");
        Alone { replica, now: 0 }
    }

    pub(super) fn tick(&mut self) -> Vec<(Option<NodeId>, Body)> {
        self.now += 1;
        messages(step_durably(&mut self.replica, Input::Tick))
    }

    pub(super) fn hear(&mut self, from: u64, body: Body) -> Vec<(Option<NodeId>, Body)> {
        messages(self.receive(from, body))
    }

    /// Receives a message; returns all outputs, not only messages.
    pub(super) fn receive(&mut self, from: u64, body: Body) -> Vec<Output> {
        self.receive_in(Epoch(0), from, body)
    }

    /// Receives a message of some epoch; returns all outputs.
    pub(super) fn receive_in(&mut self, epoch: Epoch, from: u64, body: Body) -> Vec<Output> {
        let message = Message { epoch, body };
        step_durably(&mut self.replica, Input::Receive { from: NodeId(from), message })
    }

    /// Ticks until it sends something.
    fn until_spoken(&mut self) -> Vec<(Option<NodeId>, Body)> {
        for _ in 0..10_000 {
            let spoken = self.tick();
            if !spoken.is_empty() {
                return spoken;
            }
        }
        panic!("it has fallen silent at tick {}", self.now);
    }

    /// Ticks until it probes, and lets two of the others consent.
    pub(super) fn until_candidate(&mut self) -> Ballot {
        let [(None, Body::Probe(Probe { ballot }))] = self.until_spoken()[..] else {
            panic!("it probes first")
        };
        assert!(
            self.hear(2, Body::Consent(Consent { ballot, promised: Ballot::ZERO })).is_empty(),
            "two of five"
        );
        let prepare = self.hear(3, Body::Consent(Consent { ballot, promised: Ballot::ZERO }));
        assert_eq!(prepare, [(None, Body::Prepare(Prepare { ballot, first: Slot(1), handed_over: None }))]);
        assert_eq!(self.replica.role(), Role::Candidate);
        ballot
    }
}

/// The messages in these outputs, each with its receiver, or `None` for all.
pub(super) fn messages(outputs: Vec<Output>) -> Vec<(Option<NodeId>, Body)> {
    let said = |output| match output {
        Output::Send { to, message } => Some((Some(to), message.body)),
        Output::Broadcast { message } => Some((None, message.body)),
        _ => None,
    };
    outputs.into_iter().filter_map(said).collect()
}

/// The least and the greatest number over all seeds.
fn range(of: impl Fn(u64) -> u64) -> (u64, u64) {
    let all: Vec<u64> = SEEDS.map(of).collect();
    (*all.iter().min().expect("there are seeds"), *all.iter().max().expect("there are seeds"))
}

#[test]
fn who_hears_nobody_looks_for_a_leader_after_one_to_two_timeouts() {
    let (first, last) = range(|seed| {
        let mut alone = Alone::new(seed, ReadMode::QuorumRound);
        alone.until_spoken();
        alone.now
    });
    assert!((TIMEOUT..TIMEOUT + 3).contains(&first), "{first}");
    assert!((2 * TIMEOUT - 3..2 * TIMEOUT).contains(&last), "{last}");
}

#[test]
fn a_probe_that_is_not_answered_is_repeated() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    alone.until_spoken();
    let mut probes = 0;
    for _ in 0..1000 {
        let spoken = alone.tick();
        assert!(spoken.iter().all(|(_, body)| matches!(body, Body::Probe(_))));
        probes += spoken.len();
    }
    // Every tenth tick, and once more whenever it begins anew.
    assert!((100..=120).contains(&probes), "{probes}");
}

#[test]
fn a_prepare_is_repeated_to_those_who_have_not_answered_and_given_up_in_the_end() {
    let (first, last) = range(|seed| {
        let mut alone = Alone::new(seed, ReadMode::QuorumRound);
        let ballot = alone.until_candidate();
        let began = alone.now;
        alone.hear(
            4,
            Body::Promise(Promise { ballot, first: Slot(1), reports: vec![], rest: None, time: None }),
        );
        let repeated = alone.until_spoken();
        assert_eq!(alone.now, began + RESEND);
        let prepare =
            |node| (Some(NodeId(node)), Body::Prepare(Prepare { ballot, first: Slot(1), handed_over: None }));
        assert_eq!(repeated, [2, 3, 5].map(prepare));
        alone.until_spoken();
        assert_eq!(alone.now, began + 2 * RESEND);
        while alone.replica.role() == Role::Candidate {
            alone.tick();
        }
        alone.now - began
    });
    assert!((TIMEOUT..TIMEOUT + 3).contains(&first), "{first}");
    assert!((2 * TIMEOUT - 3..2 * TIMEOUT).contains(&last), "{last}");
}

#[test]
fn who_has_lost_duels_waits_longer_before_the_next() {
    for (duels, longest) in [(1, 3 * TIMEOUT), (2, 5 * TIMEOUT), (3, 9 * TIMEOUT)] {
        let (first, last) = range(|seed| {
            let mut alone = Alone::new(seed, ReadMode::QuorumRound);
            for _ in 0..duels {
                let ballot = alone.until_candidate();
                // A late reject of another ballot changes nothing, and neither does one whose promise is no
                // higher.
                let promised = ballot.successor_for(NodeId(5));
                alone.hear(5, Body::Reject(Reject { ballot: Ballot { round: 99, ..ballot }, promised }));
                alone.hear(5, Body::Reject(Reject { ballot, promised: ballot }));
                assert_eq!(alone.replica.role(), Role::Candidate);
                alone.hear(5, Body::Reject(Reject { ballot, promised }));
                assert_eq!(alone.replica.role(), Role::Follower);
            }
            let lost_at = alone.now;
            alone.until_spoken();
            alone.now - lost_at
        });
        assert!((TIMEOUT..TIMEOUT + 10).contains(&first), "{duels} duels: {first}");
        assert!((longest - longest / 10..longest).contains(&last), "{duels} duels: {last}");
    }
}

#[test]
fn who_has_found_a_leader_forgets_the_duels_it_lost() {
    let (first, last) = range(|seed| {
        let mut alone = Alone::new(seed, ReadMode::QuorumRound);
        let ballot = alone.until_candidate();
        let promised = ballot.successor_for(NodeId(5));
        alone.hear(5, Body::Reject(Reject { ballot, promised }));
        alone.hear(
            5,
            Body::Heartbeat(Heartbeat {
                ballot: promised,
                chosen: Slot(0),
                round: HeartbeatRound(1),
                time: Time::NONE,
            }),
        );
        let heard_at = alone.now;
        alone.until_spoken();
        alone.now - heard_at
    });
    assert!(first >= TIMEOUT && last < 2 * TIMEOUT, "{first} to {last}");
}

#[test]
fn a_lease_that_may_have_been_granted_before_a_restart_is_waited_out() {
    let mut alone = Alone::new(1, ReadMode::Lease { lease_ticks: 50, drift_ticks: 1 });
    let prepare = Body::Prepare(Prepare {
        ballot: Ballot { round: 9, node: NodeId(2) },
        first: Slot(1),
        handed_over: None,
    });
    while alone.now < 51 {
        assert_eq!(alone.hear(2, prepare.clone()), [], "at tick {}", alone.now);
        alone.tick();
    }
    let answer = alone.hear(2, prepare);
    assert!(matches!(answer[..], [(Some(NodeId(2)), Body::Promise(_))]), "{answer:?}");
}

#[test]
fn nobody_consents_to_a_candidate_while_it_hears_a_leader() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    let probe = Body::Probe(Probe { ballot: Ballot { round: 9, node: NodeId(3) } });
    let heartbeat = Body::Heartbeat(Heartbeat {
        ballot: Ballot { round: 1, node: NodeId(2) },
        chosen: Slot(0),
        round: HeartbeatRound(1),
        time: Time::NONE,
    });
    assert_eq!(alone.hear(3, probe.clone()).len(), 1, "there is no leader yet");
    alone.hear(2, heartbeat);
    let heard_at = alone.now;
    while alone.now < heard_at + TIMEOUT {
        assert_eq!(alone.hear(3, probe.clone()), [], "at tick {}", alone.now);
        alone.tick();
    }
    let consent = alone.hear(3, probe);
    assert!(matches!(consent[..], [(Some(NodeId(3)), Body::Consent(_))]), "{consent:?}");
}
