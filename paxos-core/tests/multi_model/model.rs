//! The cluster as a model: what may happen next, and what must hold.

use paxos_core::sim::Mutant;
use paxos_core::{Ballot, Change, Epoch, Member, Membership, NodeId, Quorums, Role, Slot, Value};
use stateright::{Model, Property};

use crate::NODES;
use crate::catalogue::Catalogue;
use crate::epochs;
use crate::node::{Event, Life, Node, Step};

/// How many nodes have a vote where the membership does not change.
const FOUNDERS: usize = 3;

/// The bounds of the model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) last_slot: Slot,
    /// How many nodes there are, from 1 on.
    pub(crate) nodes: usize,
    /// The owners of the ballots, from the lowest on.
    pub(crate) campaigns: &'static [u64],
    /// The nodes that may crash; only one of them does, and once.
    pub(crate) victims: &'static [u64],
    pub(crate) syncs: Syncs,
    /// Whether a reject may arrive.
    pub(crate) rejects: bool,
    /// Whether a heartbeat may arrive.
    pub(crate) heartbeats: bool,
    /// Whether any node may fetch chosen values from any other; where the membership changes, only a node
    /// that has missed that.
    pub(crate) fetches: bool,
    /// How many bytes of a report one promise carries.
    pub(crate) chunk_bytes: usize,
    /// The founding members without a vote.
    pub(crate) learners: &'static [u64],
    /// Which node may be asked for which change, in which epoch.
    pub(crate) changes: &'static [(u64, Epoch, Change)],
    pub(crate) mutant: Option<Mutant>,
}

impl Bounds {
    pub(crate) fn founding(&self) -> Membership {
        let member = |id: &u64| {
            if self.learners.contains(id) {
                Member::learner(NodeId(*id), "")
            } else {
                Member::voter(NodeId(*id), "")
            }
        };
        Membership::of(NODES[..self.nodes].iter().map(member).collect()).expect("these members fit")
    }

    /// The change that a node may be asked for in an epoch.
    pub(crate) fn change(&self, node: NodeId, epoch: Epoch) -> Option<&'static Change> {
        let is_it = |(at, during, _): &&(u64, Epoch, Change)| NodeId(*at) == node && *during == epoch;
        self.changes.iter().find(is_it).map(|(_, _, change)| change)
    }

    /// How many epochs changes may begin.
    pub(crate) fn epochs_begun(&self) -> u64 {
        self.changes.iter().map(|(_, epoch, _)| epoch.0 + 1).max().unwrap_or(1)
    }
}

/// When a write reaches the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Syncs {
    /// Before anything else happens, or never.
    AtOnce,
    /// At any time.
    Separate,
}

pub(crate) struct MultiPaxos {
    pub(crate) bounds: Bounds,
    pub(crate) founding: Membership,
    pub(crate) catalogue: &'static Catalogue,
}

impl MultiPaxos {
    pub(crate) fn new(bounds: Bounds) -> MultiPaxos {
        MultiPaxos { bounds, founding: bounds.founding(), catalogue: Box::leak(Box::default()) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State {
    /// Of nodes that there are not there is nothing but the first state.
    pub(crate) nodes: [&'static Node; NODES.len()],
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Action {
    /// Its position among the members.
    node: usize,
    step: Step,
}

impl Model for MultiPaxos {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State { nodes: NODES.map(|id| self.catalogue.first(&self.bounds, NodeId(id))) }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for node in 0..self.bounds.nodes {
            let may_crash = self.may_crash(state, node);
            self.events(state, node, |event| {
                actions.push(Action { node, step: Step { event, is_lost: false } });
                let writes = !matches!(event, Event::Announce | Event::Fetch { .. } | Event::Sync);
                if may_crash && writes && self.bounds.syncs == Syncs::AtOnce {
                    actions.push(Action { node, step: Step { event, is_lost: true } });
                }
            });
            let can_start = !state.nodes[node].facts.disk_was_senseless;
            if (may_crash || state.nodes[node].facts.life == Life::Doomed) && can_start {
                actions.push(Action { node, step: Step { event: Event::Restart, is_lost: false } });
            }
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = *before;
        let node = &mut state.nodes[action.node];
        *node = self.catalogue.next(&self.bounds, node, action.step)?;
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        if self.bounds.changes.is_empty() {
            let mut properties = rules();
            properties.extend(self.sights());
            return properties;
        }
        epochs::properties(&self.bounds)
    }
}

/// What must hold in every state.
fn rules() -> Vec<Property<MultiPaxos>> {
    vec![
        Property::always("agreement", |_, state: &State| state.agrees()),
        Property::always("one value chosen", |_, state: &State| state.chooses_once()),
        Property::always("what is applied is chosen", |_, state: &State| state.applies_what_is_chosen()),
        Property::always("one value for each ballot and slot", |_, state: &State| state.proposes_once()),
        Property::always("every two quorums meet", |_, _| {
            let quorums = Quorums::majority(FOUNDERS);
            quorums.prepare() + quorums.accept() > FOUNDERS
        }),
        Property::always("who has promised accepts nothing below", |_, state: &State| {
            state.nodes.iter().all(|node| !node.facts.promise_broken)
        }),
        Property::always("P2c", |_, state: &State| {
            state.proposals().all(|(ballot, slot, value)| state.allows(*ballot, *slot, value))
        }),
        Property::always("every disk can be started from", |_, state: &State| {
            state.nodes.iter().all(|node| !node.facts.disk_was_senseless)
        }),
    ]
}

impl MultiPaxos {
    /// What must be seen in some state, or else the model does not show what it is for.
    fn sights(&self) -> Vec<Property<MultiPaxos>> {
        let mut sights = vec![Property::sometimes(
            "a leader applies the last slot",
            |model: &MultiPaxos, state: &State| {
                state.nodes.iter().any(|node| node.facts.applied.contains_key(&model.bounds.last_slot))
            },
        )];
        let has_rivals = self.bounds.campaigns.iter().any(|candidate| *candidate != self.bounds.campaigns[0]);
        if has_rivals {
            sights.push(Property::sometimes("a slot is chosen under two leaders", |_, state: &State| {
                state.chosen().any(|proposal| {
                    state.chosen().any(|other| proposal.1 == other.1 && proposal.0.node != other.0.node)
                })
            }));
            sights.push(Property::sometimes(
                "a new leader proposes what another has proposed",
                |_, state: &State| {
                    let of_another = |(ballot, slot, value): &(Ballot, Slot, Value)| {
                        state.proposals().any(|(below, same, held)| {
                            below.node != ballot.node && same == slot && held == value
                        })
                    };
                    state.proposals().any(|proposal| !proposal.2.is_no_op() && of_another(proposal))
                },
            ));
        }
        if self.bounds.last_slot > Slot::FIRST {
            sights.push(Property::sometimes("a new leader fills a hole", |_, state: &State| {
                state.proposals().any(|(_, _, value)| value.is_no_op())
            }));
        }
        if self.bounds.heartbeats || self.bounds.fetches {
            sights.push(Property::sometimes(
                "everybody applies the last slot",
                |model: &MultiPaxos, state: &State| {
                    let nodes = &state.nodes[..model.bounds.nodes];
                    nodes.iter().all(|node| node.facts.applied.contains_key(&model.bounds.last_slot))
                },
            ));
        }
        if self.bounds.victims.contains(&self.bounds.campaigns[0]) {
            sights.push(Property::sometimes(
                "who has lost what it proposed accepts anew",
                |_, state: &State| {
                    state.nodes.iter().any(|node| node.facts.life == Life::Second && node.has_voted_instead())
                },
            ));
        }
        sights
    }

    /// A node may crash as long as no other node has.
    fn may_crash(&self, state: &State, node: usize) -> bool {
        self.bounds.victims.contains(&NODES[node])
            && state.nodes.iter().all(|node| node.facts.life == Life::First)
    }

    fn events(&self, state: &State, node: usize, mut event: impl FnMut(Event)) {
        let facts = &state.nodes[node].facts;
        let nodes = &state.nodes[..self.bounds.nodes];
        let peers = || nodes.iter().map(|peer| &peer.facts).filter(|peer| peer.id != facts.id);
        for letter in peers().flat_map(|peer| &peer.sent) {
            if letter.to.is_none_or(|to| to == facts.id) {
                event(Event::Receive(letter));
            }
        }
        for (rank, &candidate) in self.bounds.campaigns.iter().enumerate() {
            if NodeId(candidate) == facts.id && !facts.campaigns.contains(&rank) {
                event(Event::Campaign { rank });
            }
        }
        if facts.role == Role::Leader {
            let (epoch, since) = facts.epoch();
            let has_change = self.bounds.change(facts.id, epoch).is_some();
            if has_change {
                event(Event::Change);
            }
            let is_command = |(_, _, value): &(Ballot, Slot, Value)| value.commands().next().is_some();
            let has_proposed = state.nodes[node].proposals.iter().any(is_command);
            // Where the membership changes, a leader proposes one command, and its change before that.
            let waits = has_change && facts.applied.keys().all(|slot| *slot <= since);
            if self.bounds.changes.is_empty() || !(waits || has_proposed) {
                event(Event::Propose);
            }
            if self.bounds.heartbeats {
                event(Event::Announce);
            }
        }
        if !self.bounds.changes.is_empty() {
            // A node that has missed a membership may ask any node that knows it.
            for peer in peers().filter(|_| self.bounds.fetches) {
                let mut slots = (1..self.bounds.last_slot.0).map(Slot);
                let missing = slots.find(|slot| !peer.applied.contains_key(slot));
                if let Some(first) = missing.filter(|first| facts.applied.contains_key(first)) {
                    event(Event::Fetch { from: peer.id, first });
                }
            }
        } else if self.bounds.fetches {
            for peer in peers() {
                (1..=self.bounds.last_slot.0)
                    .for_each(|first| event(Event::Fetch { from: peer.id, first: Slot(first) }));
            }
        }
        if self.bounds.syncs == Syncs::Separate {
            event(Event::Sync);
        }
    }
}

impl Node {
    /// It has proposed a value that it has not accepted, and has accepted a later proposal in the same slot.
    fn has_voted_instead(&self) -> bool {
        self.proposals.iter().any(|(ballot, slot, _)| {
            let mut votes = self.facts.votes.range((*slot, *ballot)..);
            votes.next().is_some_and(|(same, later)| same == slot && later > ballot)
        })
    }
}

impl State {
    fn proposals(&self) -> impl Iterator<Item = &(Ballot, Slot, Value)> {
        self.nodes.iter().flat_map(|node| &node.proposals)
    }

    /// The proposals that a majority has accepted, whether or not any node knows.
    fn chosen(&self) -> impl Iterator<Item = &(Ballot, Slot, Value)> {
        self.proposals().filter(|proposal| self.is_chosen(proposal))
    }

    fn is_chosen(&self, (ballot, slot, _): &(Ballot, Slot, Value)) -> bool {
        let voters = self.nodes.iter().filter(|node| node.facts.votes.contains(&(*slot, *ballot)));
        voters.count() > FOUNDERS / 2
    }

    fn chooses_once(&self) -> bool {
        self.proposals().all(|one| {
            self.proposals().all(|other| {
                let differ = one.1 == other.1 && one.2 != other.2;
                !differ || !self.is_chosen(one) || !self.is_chosen(other)
            })
        })
    }

    pub(crate) fn proposes_once(&self) -> bool {
        self.proposals().all(|(ballot, slot, value)| {
            self.proposals().all(|(same, there, other)| ballot != same || slot != there || value == other)
        })
    }

    pub(crate) fn agrees(&self) -> bool {
        self.nodes.iter().all(|node| {
            let agrees = |(slot, value)| {
                self.nodes.iter().all(|peer| peer.facts.applied.get(slot).is_none_or(|other| other == value))
            };
            !node.facts.has_contradicted_itself && node.facts.applied.iter().all(agrees)
        })
    }

    fn applies_what_is_chosen(&self) -> bool {
        let is_chosen =
            |(slot, value)| self.chosen().any(|(_, chosen, same)| chosen == slot && same == value);
        self.nodes.iter().all(|node| node.facts.applied.iter().all(is_chosen))
    }

    /// P2c: there is a majority of acceptors that have promised `ballot`, such that none of them has accepted
    /// anything below in this slot, or the highest proposal below that they have accepted there has this
    /// value.
    fn allows(&self, ballot: Ballot, slot: Slot, value: &Value) -> bool {
        let highest = |node: &'static Node| {
            let below = node.facts.votes.range((slot, Ballot::ZERO)..(slot, ballot));
            below.map(|(_, accepted)| *accepted).next_back()
        };
        let promised = self.nodes.map(|node| (node.facts.promise_told >= ballot).then(|| highest(node)));
        promised.iter().flatten().any(|bound| {
            let is_value = |bound| {
                self.proposals().any(|(below, same, held)| *below == bound && *same == slot && held == value)
            };
            let quorum = promised.iter().flatten().filter(|held| *held <= bound).count() > FOUNDERS / 2;
            quorum && bound.is_none_or(is_value)
        })
    }
}

impl std::fmt::Debug for Action {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {:?}", NODES[self.node], self.step)
    }
}
