//! Storms: random schedules with loss, duplication, reordering and crashes. In none of them may more than one
//! value be chosen.

use std::collections::{BTreeMap, BTreeSet};

use super::{Accepted, Acceptor, AcceptorState, Preparing, Promise, Proposal, Proposer, Proposing, Reject};
use crate::id::{Ballot, NodeId};
use crate::quorum::Quorums;
use crate::random::Random;

const STORMS: u64 = 3000;
const STEPS: u64 = 300;
const PROPOSERS: u64 = 3;
const MAX_IN_FLIGHT: usize = 64;

type Value = u64;

/// A message on its way between a proposer and an acceptor.
#[derive(Clone, Debug)]
enum Packet {
    Prepare(Ballot),
    Promise(Promise<Value>),
    Accept(Proposal<Value>),
    Accepted(Accepted),
    Reject(Reject),
}

#[derive(Clone, Debug)]
struct Envelope {
    proposer: NodeId,
    acceptor: NodeId,
    packet: Packet,
}

/// The attempt of a proposer; lost when it crashes.
#[derive(Debug)]
enum Attempt {
    None,
    Preparing(Preparing<Value>),
    Proposing(Proposing<Value>),
}

struct ProposerNode {
    proposer: Proposer,
    disk: Ballot,
    attempt: Attempt,
}

struct AcceptorNode {
    acceptor: Acceptor<Value>,
    disk: AcceptorState<Value>,
}

struct Storm {
    seed: u64,
    random: Random,
    quorums: Quorums,
    proposers: BTreeMap<NodeId, ProposerNode>,
    acceptors: BTreeMap<NodeId, AcceptorNode>,
    in_flight: Vec<Envelope>,
    /// How likely an acceptor crashes around each of its answers.
    crash_percent: u64,
    next_value: Value,
    /// For each proposal the acceptors that have stored its acceptance.
    acceptances: BTreeMap<Ballot, (Value, BTreeSet<NodeId>)>,
    chosen: Option<Value>,
    rejections: u64,
}

impl Storm {
    fn new(seed: u64) -> Storm {
        let mut random = Random::new(seed);
        let shapes = [(3, 2, 2), (5, 3, 3), (4, 3, 2), (5, 4, 2), (3, 1, 3), (1, 1, 1)];
        let (members, prepare, accept) = shapes[usize::try_from(random.below(6)).expect("below 6")];
        let quorums = Quorums::flexible(members, prepare, accept).expect("each of the shapes intersects");
        let proposer = |node| ProposerNode {
            proposer: Proposer::new(node, quorums),
            disk: Ballot::ZERO,
            attempt: Attempt::None,
        };
        let acceptor = || {
            let acceptor = Acceptor::new();
            AcceptorNode { disk: *acceptor.state(), acceptor }
        };
        Storm {
            seed,
            random,
            quorums,
            proposers: (1..=PROPOSERS).map(NodeId).map(|node| (node, proposer(node))).collect(),
            acceptors: (1..=members as u64).map(NodeId).map(|node| (node, acceptor())).collect(),
            in_flight: Vec::new(),
            crash_percent: 3,
            next_value: 0,
            acceptances: BTreeMap::new(),
            chosen: None,
            rejections: 0,
        }
    }

    fn step(&mut self) {
        let proposer = NodeId(1 + self.random.below(PROPOSERS));
        match self.random.below(100) {
            0..5 => self.start(proposer),
            5..8 => self.crash_proposer(proposer),
            8..12 => self.crash_acceptor(),
            12..20 => self.ask_again(proposer),
            _ => self.deliver_any(),
        }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    fn start(&mut self, node: NodeId) {
        self.next_value += 1;
        let state = self.proposers.get_mut(&node).expect("it is one of the proposers");
        let unstored = state.proposer.start(self.next_value);
        state.disk = *unstored.record();
        state.attempt = Attempt::Preparing(unstored.stored());
        self.ask_again(node);
    }

    /// Sends the request of the current attempt to every acceptor.
    fn ask_again(&mut self, proposer: NodeId) {
        let packet = match &self.proposers[&proposer].attempt {
            Attempt::None => return,
            Attempt::Preparing(preparing) => Packet::Prepare(preparing.ballot()),
            Attempt::Proposing(proposing) => Packet::Accept(*proposing.proposal()),
        };
        for acceptor in self.acceptors.keys().copied().collect::<Vec<_>>() {
            self.send(Envelope { proposer, acceptor, packet: packet.clone() });
        }
    }

    fn send(&mut self, envelope: Envelope) {
        if self.in_flight.len() < MAX_IN_FLIGHT {
            self.in_flight.push(envelope);
        }
    }

    fn crash_proposer(&mut self, node: NodeId) {
        let quorums = self.quorums;
        let state = self.proposers.get_mut(&node).expect("it is one of the proposers");
        state.proposer = Proposer::recover(node, quorums, state.disk);
        state.attempt = Attempt::None;
    }

    fn crash_acceptor(&mut self) {
        let node = NodeId(1 + self.random.below(self.acceptors.len() as u64));
        let state = self.acceptors.get_mut(&node).expect("it is one of the acceptors");
        state.acceptor = Acceptor::recover(state.disk);
        assert_eq!(state.acceptor.state(), &state.disk, "seed {}: nothing is left out", self.seed);
    }

    /// Delivers any message out of turn; some get lost, some come again.
    fn deliver_any(&mut self) {
        if self.in_flight.is_empty() {
            return;
        }
        let index = usize::try_from(self.random.below(self.in_flight.len() as u64)).expect("an index");
        let lost = self.chance(10);
        let doubled = self.chance(10);
        let envelope =
            if doubled { self.in_flight[index].clone() } else { self.in_flight.swap_remove(index) };
        if !lost {
            self.deliver(envelope);
        }
    }

    fn deliver(&mut self, envelope: Envelope) {
        let Envelope { proposer, acceptor, packet } = envelope;
        match packet {
            Packet::Prepare(_) | Packet::Accept(_) => self.at_acceptor(proposer, acceptor, packet),
            Packet::Promise(_) | Packet::Accepted(_) | Packet::Reject(_) => {
                self.at_proposer(proposer, acceptor, packet);
            }
        }
    }

    /// An acceptor may crash before its record is stored, or after it but before the answer leaves.
    fn at_acceptor(&mut self, proposer: NodeId, acceptor: NodeId, request: Packet) {
        let crash_before = self.chance(self.crash_percent);
        let crash_after = self.chance(self.crash_percent);
        let state = self.acceptors.get_mut(&acceptor).expect("it is one of the acceptors");
        let answer = match request {
            Packet::Prepare(ballot) => state.acceptor.on_prepare(ballot).map(|unstored| {
                (!crash_before).then(|| {
                    state.disk = *unstored.record();
                    Packet::Promise(unstored.stored())
                })
            }),
            Packet::Accept(proposal) => state.acceptor.on_accept(proposal).map(|unstored| {
                (!crash_before).then(|| {
                    state.disk = *unstored.record();
                    Packet::Accepted(unstored.stored())
                })
            }),
            answer => unreachable!("{answer:?} goes to proposers"),
        };
        let answer = answer.unwrap_or_else(|reject| Some(Packet::Reject(reject)));
        if crash_before || crash_after {
            state.acceptor = Acceptor::recover(state.disk);
        }
        if let (Packet::Accept(proposal), Some(Packet::Accepted(_))) = (request, &answer) {
            self.observe(acceptor, proposal);
        }
        if let Some(packet) = answer
            && !crash_after
        {
            self.send(Envelope { proposer, acceptor, packet });
        }
    }

    fn at_proposer(&mut self, proposer: NodeId, acceptor: NodeId, answer: Packet) {
        let state = self.proposers.get_mut(&proposer).expect("it is one of the proposers");
        match (std::mem::replace(&mut state.attempt, Attempt::None), answer) {
            (attempt, Packet::Reject(reject)) => {
                self.rejections += 1;
                state.proposer.on_reject(reject);
                state.attempt = attempt;
            }
            (Attempt::Preparing(mut preparing), Packet::Promise(promise)) => {
                preparing.on_promise(acceptor, promise);
                match preparing.propose() {
                    Ok(proposing) => {
                        state.attempt = Attempt::Proposing(proposing);
                        self.ask_again(proposer);
                    }
                    Err(preparing) => state.attempt = Attempt::Preparing(preparing),
                }
            }
            (Attempt::Proposing(mut proposing), Packet::Accepted(accepted)) => {
                proposing.on_accepted(acceptor, accepted);
                if let Some(value) = proposing.chosen() {
                    assert_eq!(self.chosen, Some(*value), "seed {}: what it learned is chosen", self.seed);
                }
                state.attempt = Attempt::Proposing(proposing);
            }
            (attempt, _late_answer) => state.attempt = attempt,
        }
    }

    /// Records an acceptance that is in stable storage, and checks that no second value is chosen.
    fn observe(&mut self, acceptor: NodeId, proposal: Proposal<Value>) {
        let seed = self.seed;
        let (value, acceptors) =
            self.acceptances.entry(proposal.ballot).or_insert((proposal.value, BTreeSet::new()));
        assert_eq!(*value, proposal.value, "seed {seed}: ballot {} has one value", proposal.ballot);
        acceptors.insert(acceptor);
        if acceptors.len() >= self.quorums.accept() {
            let chosen = *self.chosen.get_or_insert(proposal.value);
            assert_eq!(chosen, proposal.value, "seed {seed}: two values are chosen");
        }
    }

    /// Without faults and rivals one proposer succeeds: if not at once, then with a ballot above all that
    /// were reported to it.
    fn calm(&mut self) {
        let node = NodeId(1);
        self.in_flight.clear();
        self.crash_percent = 0;
        for _ in 0..2 {
            self.start(node);
            while let Some(envelope) = self.in_flight.pop() {
                self.deliver(envelope);
            }
            if let Attempt::Proposing(proposing) = &self.proposers[&node].attempt
                && let Some(value) = proposing.chosen()
            {
                assert_eq!(self.chosen, Some(*value), "seed {}: what it learned is chosen", self.seed);
                return;
            }
        }
        panic!("seed {}: nothing is learned although nothing stands in the way", self.seed);
    }
}

#[test]
fn no_storm_chooses_two_values() {
    let mut chosen_in_storm = 0;
    let mut overtaken_after_acceptance = 0;
    let mut rejections = 0;
    for seed in 0..STORMS {
        let mut storm = Storm::new(seed);
        for _ in 0..STEPS {
            storm.step();
        }
        chosen_in_storm += u64::from(storm.chosen.is_some());
        overtaken_after_acceptance += u64::from(storm.acceptances.len() > 1);
        rejections += storm.rejections;
        storm.calm();
    }
    assert!(chosen_in_storm > STORMS / 4, "storms too wild to choose anything: {chosen_in_storm}");
    assert!(overtaken_after_acceptance > STORMS / 4, "storms too tame: {overtaken_after_acceptance}");
    assert!(rejections > STORMS, "hardly anyone was ever too late: {rejections}");
}
