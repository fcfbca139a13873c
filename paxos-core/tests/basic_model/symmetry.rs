//! Acceptors are alike, so states that differ only in which acceptor is which are one. With three acceptors
//! up to six states become one, which makes room for a third proposer.
//!
//! The representative of such states has its acceptors sorted by their part of the state. No part of a state
//! concerns two acceptors at once, so states have the same representative if, and only if, some renaming of
//! acceptors turns one into the other.

use std::collections::{BTreeSet, HashSet};

use paxos_core::Ballot;
use stateright::{Checker, HasDiscoveries, Model};

use crate::{ACCEPTORS, BasicPaxos, Broken, Message, State, Stored, Value};

/// The part of a state that concerns one acceptor.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct View {
    stored: Stored,
    sent: Vec<Message>,
    /// What attempts have heard from it, by their positions.
    heard: Vec<(usize, Option<(Ballot, Value)>)>,
}

impl State {
    pub(crate) fn representative(&self) -> State {
        let mut order: Vec<usize> = (0..ACCEPTORS).collect();
        order.sort_by_cached_key(|&acceptor| self.view(acceptor));
        self.renamed(&order)
    }

    /// The state in which the acceptor `order[place]` is called `place`.
    fn renamed(&self, order: &[usize]) -> State {
        let place =
            |from: usize| order.iter().position(|&acceptor| acceptor == from).expect("each has a place");
        let mut renamed = self.clone();
        renamed.acceptors = order.iter().map(|&acceptor| self.acceptors[acceptor]).collect();
        for attempt in renamed.proposers.iter_mut().flatten() {
            let promises = attempt.promises.iter();
            attempt.promises = promises.map(|(&from, &accepted)| (place(from), accepted)).collect();
        }
        renamed.network = self.network.iter().map(|message| message.renamed(place)).collect();
        renamed
    }

    fn view(&self, acceptor: usize) -> View {
        let sent = self.network.iter().filter(|message| message.sender() == Some(acceptor));
        let attempts = self.proposers.iter().flatten().enumerate();
        let heard =
            attempts.filter_map(|(position, attempt)| Some((position, *attempt.promises.get(&acceptor)?)));
        View {
            stored: self.acceptors[acceptor],
            sent: sent.map(|message| message.renamed(|_| 0)).collect(),
            heard: heard.collect(),
        }
    }
}

impl Message {
    /// The acceptor that has sent it.
    fn sender(self) -> Option<usize> {
        match self {
            Message::Promise { from, .. } | Message::Accepted { from, .. } => Some(from),
            Message::Prepare(_) | Message::Accept(..) => None,
        }
    }

    fn renamed(self, place: impl Fn(usize) -> usize) -> Message {
        match self {
            Message::Promise { from, ballot, accepted } => {
                Message::Promise { from: place(from), ballot, accepted }
            }
            Message::Accepted { from, ballot } => Message::Accepted { from: place(from), ballot },
            Message::Prepare(_) | Message::Accept(..) => self,
        }
    }
}

fn reachable(model: &BasicPaxos) -> HashSet<State> {
    let mut found: HashSet<State> = model.init_states().into_iter().collect();
    let mut unvisited: Vec<State> = found.iter().cloned().collect();
    while let Some(state) = unvisited.pop() {
        for next in model.next_states(&state) {
            if found.insert(next.clone()) {
                unvisited.push(next);
            }
        }
    }
    found
}

#[test]
fn a_search_without_names_sees_each_class_of_states_once() {
    let model = || BasicPaxos { proposers: 2, attempts: 1, broken: Broken::Nothing };
    let representatives: HashSet<State> = reachable(&model()).iter().map(State::representative).collect();
    let reduced = model().checker().symmetry_fn(State::representative).spawn_dfs().join();
    println!("2 proposers: {} states without names", representatives.len());
    assert_eq!(reduced.unique_state_count(), representatives.len());
    let whole = model().checker().spawn_dfs().join();
    let sights = |discoveries: Vec<&'static str>| discoveries.into_iter().collect::<BTreeSet<_>>();
    assert_eq!(
        sights(reduced.discoveries().into_keys().collect()),
        sights(whole.discoveries().into_keys().collect()),
        "both see the same"
    );
}

#[test]
fn renaming_acceptors_does_not_change_the_representative() {
    let orders = [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let mut renamed_apart = 0;
    for state in reachable(&BasicPaxos { proposers: 2, attempts: 1, broken: Broken::Nothing }) {
        for order in orders {
            let renamed = state.renamed(&order);
            renamed_apart += usize::from(renamed != state);
            assert_eq!(renamed.representative(), state.representative(), "{state:?} renamed by {order:?}");
        }
    }
    assert!(renamed_apart > 1_000, "most states tell acceptors apart");
}

#[test]
fn a_search_without_names_finds_what_is_broken() {
    for broken in [Broken::PromisesForgotten, Broken::ReportsForgotten, Broken::QuorumsTooSmall] {
        let model = BasicPaxos { proposers: 2, attempts: 1, broken };
        let found = HasDiscoveries::AllOf(BTreeSet::from(["one value chosen"]));
        let search = model.checker().finish_when(found).symmetry_fn(State::representative).spawn_dfs().join();
        assert!(search.discovery("one value chosen").is_some(), "{broken:?} must let two values be chosen");
    }
}
