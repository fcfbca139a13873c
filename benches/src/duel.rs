//! Several proposers at once, and none that leads.
//!
//! [`Proposer`]s and [`Acceptor`]s of *one* instance of Basic Paxos, in a time of their own. All proposers
//! begin in the same moment, each with a value of its own, and messages take half a hop to one and a half. So
//! prepares cross: with five acceptors one proposer may get one promise and two others two each, and all have
//! to begin again.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use paxos_core::basic::{Accepted, Acceptor, Preparing, Promise, Proposal, Proposer, Proposing, Reject};
use paxos_core::{Ballot, NodeId, Quorums};

/// How long a proposer waits for a quorum before it begins again, in hops. An answer takes at most three, and
/// syncs.
const PATIENCE_HOPS: u32 = 6;
/// The longest pause is this many hops, and twice as many after each attempt,
const FIRST_PAUSE_HOPS: u32 = 2;
/// up to so many doublings.
const MAX_DOUBLINGS: u32 = 5;

/// A duel to be fought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Duel {
    /// How many proposers there are.
    pub proposers: u64,
    /// How many acceptors.
    pub acceptors: u64,
    /// How long a message takes on average.
    pub hop: Duration,
    /// How long a disk takes for a sync.
    pub sync: Duration,
    /// What a proposer does that was overtaken.
    pub manners: Manners,
}

/// What a proposer does that was overtaken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manners {
    /// It begins again at once.
    Impatient,
    /// It pauses first, for a random time that may be twice as long after each attempt.
    Pausing,
}

/// How a duel went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Until the first proposer knew that a value is chosen.
    pub elapsed: Duration,
    /// How often a proposer began, all together.
    pub attempts: u64,
    /// Messages until then.
    pub messages: u64,
    /// Syncs until then.
    pub syncs: u64,
}

impl Duel {
    /// Fights it. The same seed is the same duel.
    #[must_use]
    pub fn fight(self, seed: u64) -> Outcome {
        let mut arena = Arena::new(self, seed);
        for proposer in 0..self.proposers {
            arena.begin(proposer);
        }
        while !arena.is_over {
            arena.next_event();
        }
        arena.outcome.elapsed = arena.now;
        arena.outcome
    }
}

/// The value of a proposal: whose it was.
type Wish = u64;

struct Arena {
    duel: Duel,
    random: Rng,
    proposers: Vec<Duelist>,
    acceptors: Vec<Acceptor<Wish>>,
    events: BTreeMap<(Duration, u64), Event>,
    now: Duration,
    next_number: u64,
    outcome: Outcome,
    is_over: bool,
}

struct Duelist {
    proposer: Proposer,
    attempt: Attempt,
    attempts: u32,
}

enum Attempt {
    Idle,
    Preparing(Preparing<Wish>),
    Proposing(Proposing<Wish>),
}

enum Event {
    Begin { proposer: u64 },
    GiveUp { proposer: u64, attempts: u32 },
    Request { proposer: u64, acceptor: u64, request: Request },
    Answer { proposer: u64, acceptor: u64, answer: Answer },
}

#[derive(Clone, Copy)]
enum Request {
    Prepare(Ballot),
    Accept(Proposal<Wish>),
}

enum Answer {
    Promise(Promise<Wish>),
    Accepted(Accepted),
    Reject(Reject),
}

impl Arena {
    fn new(duel: Duel, seed: u64) -> Arena {
        let acceptors = usize::try_from(duel.acceptors).expect("a small number");
        let quorums = Quorums::majority(acceptors);
        let duelist = |proposer| Duelist {
            proposer: Proposer::new(NodeId(proposer + 1), quorums),
            attempt: Attempt::Idle,
            attempts: 0,
        };
        Arena {
            duel,
            random: Rng::with_seed(seed),
            proposers: (0..duel.proposers).map(duelist).collect(),
            acceptors: (0..acceptors).map(|_| Acceptor::new()).collect(),
            events: BTreeMap::new(),
            now: Duration::ZERO,
            next_number: 0,
            outcome: Outcome::default(),
            is_over: false,
        }
    }

    fn next_event(&mut self) {
        let ((time, _), event) = self.events.pop_first().expect("a proposer never gives up for good");
        self.now = time;
        match event {
            Event::Begin { proposer } => self.begin(proposer),
            Event::GiveUp { proposer, attempts } if self.duelist(proposer).attempts == attempts => {
                self.pause(proposer);
            }
            Event::GiveUp { .. } => {}
            Event::Request { proposer, acceptor, request } => self.on_request(proposer, acceptor, request),
            Event::Answer { proposer, acceptor, answer } => self.on_answer(proposer, acceptor, answer),
        }
    }

    fn begin(&mut self, proposer: u64) {
        let duelist = self.duelist(proposer);
        let preparing = duelist.proposer.start(proposer).stored();
        let ballot = preparing.ballot();
        duelist.attempt = Attempt::Preparing(preparing);
        duelist.attempts += 1;
        let attempts = duelist.attempts;
        self.outcome.attempts += 1;
        self.outcome.syncs += 1; // Its own ballot, so that no restart can use it again.
        self.ask_all(proposer, Request::Prepare(ballot), self.duel.sync);
        let patience = self.duel.hop * PATIENCE_HOPS + self.duel.sync * PATIENCE_HOPS;
        self.schedule(patience, Event::GiveUp { proposer, attempts });
    }

    fn ask_all(&mut self, proposer: u64, request: Request, delay: Duration) {
        for acceptor in 0..self.duel.acceptors {
            self.send(delay, Event::Request { proposer, acceptor, request });
        }
    }

    fn on_request(&mut self, proposer: u64, acceptor: u64, request: Request) {
        let index = usize::try_from(acceptor).expect("a small number");
        let answer = match request {
            Request::Prepare(ballot) => self.acceptors[index]
                .on_prepare(ballot)
                .map_or_else(Answer::Reject, |unstored| Answer::Promise(unstored.stored())),
            Request::Accept(proposal) => self.acceptors[index]
                .on_accept(proposal)
                .map_or_else(Answer::Reject, |unstored| Answer::Accepted(unstored.stored())),
        };
        let is_stored = !matches!(answer, Answer::Reject(_));
        self.outcome.syncs += u64::from(is_stored);
        let delay = if is_stored { self.duel.sync } else { Duration::ZERO };
        self.send(delay, Event::Answer { proposer, acceptor, answer });
    }

    fn on_answer(&mut self, proposer: u64, acceptor: u64, answer: Answer) {
        let from = NodeId(acceptor + 1);
        let duelist = self.duelist(proposer);
        match (std::mem::replace(&mut duelist.attempt, Attempt::Idle), answer) {
            (Attempt::Preparing(mut preparing), Answer::Promise(promise)) => {
                preparing.on_promise(from, promise);
                match preparing.propose() {
                    Err(preparing) => duelist.attempt = Attempt::Preparing(preparing),
                    Ok(proposing) => {
                        let proposal = *proposing.proposal();
                        duelist.attempt = Attempt::Proposing(proposing);
                        self.ask_all(proposer, Request::Accept(proposal), Duration::ZERO);
                    }
                }
            }
            (Attempt::Proposing(mut proposing), Answer::Accepted(accepted)) => {
                proposing.on_accepted(from, accepted);
                self.is_over = proposing.chosen().is_some();
                self.duelist(proposer).attempt = Attempt::Proposing(proposing);
            }
            (attempt, Answer::Reject(reject)) => {
                duelist.proposer.on_reject(reject);
                if attempt.ballot() == Some(reject.ballot) {
                    self.pause(proposer);
                } else {
                    duelist.attempt = attempt;
                }
            }
            (attempt, _) => duelist.attempt = attempt,
        }
    }

    /// Gives an attempt up, to begin again.
    fn pause(&mut self, proposer: u64) {
        let duelist = self.duelist(proposer);
        duelist.attempt = Attempt::Idle;
        let doublings = duelist.attempts.min(MAX_DOUBLINGS);
        duelist.attempts += 1; // So that the patience for the attempt that has ended is without consequence.
        let pause = match self.duel.manners {
            Manners::Impatient => Duration::ZERO,
            Manners::Pausing => self.duel.hop.mul_f64(self.random.f64()) * (FIRST_PAUSE_HOPS << doublings),
        };
        self.schedule(pause, Event::Begin { proposer });
    }

    fn duelist(&mut self, proposer: u64) -> &mut Duelist {
        &mut self.proposers[usize::try_from(proposer).expect("a small number")]
    }

    fn send(&mut self, delay: Duration, event: Event) {
        self.outcome.messages += 1;
        let hop = self.duel.hop.mul_f64(0.5 + self.random.f64());
        self.schedule(delay + hop, event);
    }

    fn schedule(&mut self, delay: Duration, event: Event) {
        self.next_number += 1;
        self.events.insert((self.now + delay, self.next_number), event);
    }
}

impl Attempt {
    fn ballot(&self) -> Option<Ballot> {
        match self {
            Attempt::Idle => None,
            Attempt::Preparing(preparing) => Some(preparing.ballot()),
            Attempt::Proposing(proposing) => Some(proposing.proposal().ballot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOP: Duration = Duration::from_millis(1);
    const ALONE: Duel = Duel {
        proposers: 1,
        acceptors: 5,
        hop: HOP,
        sync: Duration::from_micros(200),
        manners: Manners::Impatient,
    };

    #[test]
    fn a_lone_proposer_needs_one_attempt_of_two_round_trips() {
        for seed in 0..100 {
            let outcome = ALONE.fight(seed);
            assert_eq!(outcome.attempts, 1, "seed {seed}");
            assert!((2 * HOP..7 * HOP).contains(&outcome.elapsed), "seed {seed}: {outcome:?}");
        }
    }

    #[test]
    fn three_proposers_overtake_each_other_and_pauses_end_it() {
        let three = Duel { proposers: 3, ..ALONE };
        let attempts = |duel: Duel| (0..200).map(|seed| duel.fight(seed).attempts).sum::<u64>();
        let (impatient, pausing) = (attempts(three), attempts(Duel { manners: Manners::Pausing, ..three }));
        assert!(impatient > 200 * 3, "{impatient} attempts: somebody has to begin again");
        assert!(pausing < impatient, "{pausing} attempts with pauses, {impatient} without");
    }
}
