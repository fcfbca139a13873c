//! Basic Paxos, every state of it: three acceptors, and proposers whose messages are lost, doubled and
//! overtaken in all possible ways. The acceptors and proposers are the real ones of `paxos_core::basic`.
//!
//! Messages are never taken out of the network, so that any message may be delivered at any time, any number
//! of times, or never. For every step, acceptors and proposers are built anew from their stored records, so
//! that each step may be the first one after a crash.
//!
//! The properties are the steps of the paper's argument (`paxos_core::basic` has all of it). Suppose that
//! two values are chosen, at `m < n`. *Every two quorums meet*, so some acceptor has accepted `m` and
//! promised `n`. It has accepted `m` before, since *who has promised accepts nothing below*. So its promise
//! has reported `m`, or a later proposal with the same value, and the proposal `n` had to carry that
//! value: *P2c*. So there is *one value chosen*. A model that is broken on purpose shows for each step that
//! the argument needs it.
//!
//! `cargo test -p paxos-core --test basic_model -- --nocapture` prints how many states there are: 17 289 with
//! two proposers; 387 950 with three, where states are one that differ only in which acceptor is which.

#[path = "basic_model/symmetry.rs"]
mod symmetry;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use paxos_core::basic::{
    Accepted, Acceptor, AcceptorState, Preparing, Promise, Proposal, Proposer, Proposing,
};
use paxos_core::{Ballot, NodeId, Quorums};
use stateright::{Checker, HasDiscoveries, Model, Property};

const ACCEPTORS: usize = 3;

/// The value that a proposer would like: its own number.
type Value = u64;

/// The step of the argument that is broken on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Broken {
    Nothing,
    /// Acceptors forget their promises.
    PromisesForgotten,
    /// Promises report no accepted proposal.
    ReportsForgotten,
    /// A proposer takes a single answer for a quorum.
    QuorumsTooSmall,
}

struct BasicPaxos {
    proposers: u64,
    /// How often each proposer may start.
    attempts: usize,
    broken: Broken,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    acceptors: Vec<Stored>,
    /// The attempts of each proposer so far.
    proposers: Vec<Vec<Attempt>>,
    network: BTreeSet<Message>,
    /// An acceptor has accepted something below a promise that it had given.
    promise_broken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
struct Stored {
    promised: Ballot,
    accepted: Option<(Ballot, Value)>,
}

/// An attempt of a proposer: the answers that it has heard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Attempt {
    ballot: Ballot,
    promises: BTreeMap<usize, Option<(Ballot, Value)>>,
    proposed: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Message {
    Prepare(Ballot),
    Promise { from: usize, ballot: Ballot, accepted: Option<(Ballot, Value)> },
    Accept(Ballot, Value),
    Accepted { from: usize, ballot: Ballot },
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Start(usize),
    /// A request reaches an acceptor.
    Ask(usize, Message),
    /// A promise reaches its proposer.
    Answer(Message),
}

impl Model for BasicPaxos {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            acceptors: vec![Stored::default(); ACCEPTORS],
            proposers: vec![Vec::new(); usize::try_from(self.proposers).expect("there are few")],
            network: BTreeSet::new(),
            promise_broken: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let may_start = |attempts: &Vec<Attempt>| attempts.len() < self.attempts;
        let starting = (0..state.proposers.len()).filter(|&proposer| may_start(&state.proposers[proposer]));
        actions.extend(starting.map(Action::Start));
        for message in &state.network {
            match message {
                Message::Prepare(_) | Message::Accept(..) => {
                    actions.extend((0..ACCEPTORS).map(|acceptor| Action::Ask(acceptor, *message)));
                }
                Message::Promise { .. } => actions.push(Action::Answer(*message)),
                Message::Accepted { .. } => {} // Learning changes nothing; it is judged by the properties.
            }
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Start(proposer) => self.start(&mut state, proposer),
            Action::Ask(acceptor, Message::Prepare(ballot)) => self.prepare(&mut state, acceptor, ballot),
            Action::Ask(acceptor, Message::Accept(ballot, value)) => {
                self.accept(&mut state, acceptor, Proposal { ballot, value });
            }
            Action::Answer(Message::Promise { from, ballot, accepted }) => {
                self.promise(&mut state, from, ballot, accepted);
            }
            Action::Ask(..) | Action::Answer(_) => return None,
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one value chosen", |_, state: &State| state.chosen().len() <= 1),
            Property::always("a chosen value was wanted", |model: &BasicPaxos, state: &State| {
                state.chosen().iter().all(|value| (1..=model.proposers).contains(value))
            }),
            Property::always("every two quorums meet", |model: &BasicPaxos, _| {
                model.quorums().prepare() + model.quorums().accept() > ACCEPTORS
            }),
            Property::always("who has promised accepts nothing below", |_, state: &State| {
                !state.promise_broken
            }),
            Property::always("P2c", |model: &BasicPaxos, state: &State| {
                state.network.iter().all(|message| match message {
                    Message::Accept(ballot, value) => state.allows(model, *ballot, *value),
                    _ => true,
                })
            }),
            Property::sometimes("a value is chosen", |_, state: &State| !state.chosen().is_empty()),
            Property::sometimes("a proposer takes over the value of another", |_, state: &State| {
                let is_taken_over = |message: &Message| matches!(message, Message::Accept(ballot, value) if ballot.node.0 != *value);
                state.network.iter().any(is_taken_over)
            }),
            Property::sometimes("a proposal is overtaken", |_, state: &State| {
                let overtaken = |message: &Message| match message {
                    Message::Accept(ballot, _) => {
                        state.acceptors.iter().filter(|acceptor| acceptor.promised > *ballot).count() > 1
                    }
                    _ => false,
                };
                state.network.iter().any(overtaken)
            }),
        ]
    }
}

impl BasicPaxos {
    fn quorums(&self) -> Quorums {
        Quorums::majority(if self.broken == Broken::QuorumsTooSmall { 1 } else { ACCEPTORS })
    }

    fn start(&self, state: &mut State, proposer: usize) {
        let attempts = &mut state.proposers[proposer];
        let last = attempts.last().map_or(Ballot::ZERO, |attempt| attempt.ballot);
        let ballot = self.preparing(proposer, last).ballot();
        attempts.push(Attempt { ballot, promises: BTreeMap::new(), proposed: None });
        state.network.insert(Message::Prepare(ballot));
    }

    /// The attempt after the one with the ballot `last`.
    fn preparing(&self, proposer: usize, last: Ballot) -> Preparing<Value> {
        let id = proposer as u64 + 1;
        Proposer::recover(NodeId(id), self.quorums(), last).start(id).stored()
    }

    fn acceptor(&self, stored: Stored) -> Acceptor<Value> {
        let accepted = stored.accepted.map(|(ballot, value)| Proposal { ballot, value });
        let promised = match self.broken {
            Broken::PromisesForgotten => Ballot::ZERO,
            _ => stored.promised,
        };
        Acceptor::recover(AcceptorState { promised, accepted })
    }

    fn prepare(&self, state: &mut State, from: usize, ballot: Ballot) {
        let mut acceptor = self.acceptor(state.acceptors[from]);
        let Ok(unstored) = acceptor.on_prepare(ballot) else { return };
        let promise: Promise<Value> = unstored.stored();
        state.acceptors[from] = Stored::of(&acceptor);
        let accepted = promise.accepted.filter(|_| self.broken != Broken::ReportsForgotten);
        let accepted = accepted.map(|proposal| (proposal.ballot, proposal.value));
        state.network.insert(Message::Promise { from, ballot, accepted });
    }

    fn accept(&self, state: &mut State, from: usize, proposal: Proposal<Value>) {
        let mut acceptor = self.acceptor(state.acceptors[from]);
        let Ok(unstored) = acceptor.on_accept(proposal) else { return };
        let Accepted { ballot } = unstored.stored();
        let is_new = state.network.insert(Message::Accepted { from, ballot });
        let promised_above = |message: &Message| matches!(message, Message::Promise { from: who, ballot: above, .. } if *who == from && *above > ballot);
        state.promise_broken |= is_new && state.network.iter().any(promised_above);
        state.acceptors[from] = Stored::of(&acceptor);
    }

    fn promise(&self, state: &mut State, from: usize, ballot: Ballot, accepted: Option<(Ballot, Value)>) {
        let proposer = usize::try_from(ballot.node.0 - 1).expect("there are few");
        let attempts = &mut state.proposers[proposer];
        let Some(position) = attempts.iter().position(|attempt| attempt.ballot == ballot) else { return };
        let last = position.checked_sub(1).map_or(Ballot::ZERO, |before| attempts[before].ballot);
        let attempt = &mut attempts[position];
        if attempt.proposed.is_some() {
            return;
        }
        attempt.promises.entry(from).or_insert(accepted);
        let mut preparing = self.preparing(proposer, last);
        for (&from, accepted) in &attempt.promises {
            let accepted = accepted.map(|(ballot, value)| Proposal { ballot, value });
            preparing.on_promise(NodeId(from as u64 + 1), Promise { ballot, accepted });
        }
        if let Ok(proposing) = preparing.propose() {
            let proposing: Proposing<Value> = proposing;
            let proposal = proposing.proposal();
            attempt.proposed = Some(proposal.value);
            // Nobody asks any more which promises it rests on.
            attempt.promises.clear();
            state.network.insert(Message::Accept(proposal.ballot, proposal.value));
        }
    }
}

impl Stored {
    fn of(acceptor: &Acceptor<Value>) -> Stored {
        let state = acceptor.state();
        let accepted = state.accepted.map(|proposal| (proposal.ballot, proposal.value));
        Stored { promised: state.promised, accepted }
    }
}

impl State {
    fn has_accepted(&self, acceptor: usize, ballot: Ballot) -> bool {
        self.network.contains(&Message::Accepted { from: acceptor, ballot })
    }

    /// The values of all proposals that a majority has accepted, whatever any proposer believes.
    fn chosen(&self) -> BTreeSet<Value> {
        let mut chosen = BTreeSet::new();
        for message in &self.network {
            if let Message::Accept(ballot, value) = message {
                let accepted =
                    (0..ACCEPTORS).filter(|&acceptor| self.has_accepted(acceptor, *ballot)).count();
                if accepted > ACCEPTORS / 2 {
                    chosen.insert(*value);
                }
            }
        }
        chosen
    }

    /// P2c: there is a majority of acceptors that have promised `ballot`, such that none of them has accepted
    /// anything below, or the highest proposal below that they have accepted has this value.
    fn allows(&self, _: &BasicPaxos, ballot: Ballot, value: Value) -> bool {
        let has_promised = |acceptor: usize| {
            let above = |message: &Message| matches!(message, Message::Promise { from, ballot: promised, .. } if *from == acceptor && *promised >= ballot);
            self.network.iter().any(above)
        };
        let highest = |acceptor: usize| {
            let below = self.network.iter().filter_map(|message| match message {
                Message::Accept(earlier, value) if *earlier < ballot => Some((*earlier, *value)),
                _ => None,
            });
            below.filter(|(earlier, _)| self.has_accepted(acceptor, *earlier)).max()
        };
        let promised: Vec<_> =
            (0..ACCEPTORS).filter(|&acceptor| has_promised(acceptor)).map(highest).collect();
        promised.iter().any(|bound| {
            let quorum = promised.iter().filter(|held| *held <= bound).count() > ACCEPTORS / 2;
            quorum && bound.is_none_or(|(_, bound_value)| bound_value == value)
        })
    }
}

fn check(model: BasicPaxos, at_least_states: usize) {
    let (proposers, attempts) = (model.proposers, model.attempts);
    let started = Instant::now();
    let checker = model.checker().threads(2).spawn_bfs().join();
    println!(
        "{proposers} proposers with {attempts} attempts: {} states, {} steps deep, {:?}",
        checker.unique_state_count(),
        checker.max_depth(),
        started.elapsed()
    );
    checker.assert_properties();
    assert!(checker.unique_state_count() >= at_least_states, "the whole space is looked at");
}

#[test]
fn two_proposers() {
    check(BasicPaxos { proposers: 2, attempts: 1, broken: Broken::Nothing }, 1_000);
}

/// The acceptors have no names here; see [`symmetry`].
#[test]
fn three_proposers() {
    let started = Instant::now();
    let model = BasicPaxos { proposers: 3, attempts: 1, broken: Broken::Nothing };
    let checker = model.checker().threads(2).symmetry_fn(State::representative).spawn_dfs().join();
    let states = checker.unique_state_count();
    println!("3 proposers: {states} states, {} steps deep, {:?}", checker.max_depth(), started.elapsed());
    checker.assert_properties();
    assert!(states >= 300_000, "the whole space is looked at");
}

/// Each step of the argument is needed: without it, two values can be chosen, and the checker finds out how.
#[test]
fn the_argument_needs_each_of_its_steps() {
    let broken = [
        (Broken::PromisesForgotten, "who has promised accepts nothing below"),
        (Broken::ReportsForgotten, "P2c"),
        (Broken::QuorumsTooSmall, "every two quorums meet"),
    ];
    for (broken, step) in broken {
        for property in [step, "one value chosen"] {
            let model = BasicPaxos { proposers: 2, attempts: 1, broken };
            let found = HasDiscoveries::AllOf(BTreeSet::from([property]));
            let checker = model.checker().finish_when(found).threads(2).spawn_bfs().join();
            let example = checker.discovery(property).map(|path| path.into_actions().len());
            println!("{broken:?}: \"{property}\" is broken in {example:?} steps");
            assert!(example.is_some(), "{broken:?} must break \"{property}\"");
        }
    }
}
