//! Basic Paxos: one instance, which chooses one value. *Paxos Made Simple*, section 2.2, as code.
//!
//! Multi-Paxos ([`Replica`](crate::Replica)) is many such instances that share a phase 1. Use this module to
//! agree on a single value, or to read the paper beside its code. It does no I/O: the caller carries the
//! messages, which may be lost, doubled, delayed and overtaken, and stores the records.
//!
//! | Phase | Who, by which call | What it says to whom |
//! |---|---|---|
//! | 1a | [`Proposer::start`] | its [`ballot`](Preparing::ballot), to the acceptors |
//! | 1b | [`Acceptor::on_prepare`] | [`Promise`] or [`Reject`], to the proposer |
//! | 2a | [`Preparing::propose`] | its [`proposal`](Proposing::proposal), to the acceptors |
//! | 2b | [`Acceptor::on_accept`] | [`Accepted`] or [`Reject`], to the proposer |
//!
//! What the types guarantee:
//! - Nothing is sent before it is stored. Each step that must survive a crash comes as [`Unstored`], which
//!   shows the record to be stored, and hands out the message only when the caller says that the record is
//!   stored. It borrows the acceptor or proposer, so that records can't be stored out of order.
//! - One proposal for each ballot. An attempt comes from [`Proposer::start`] under a fresh ballot, proposes
//!   once and by value ([`Preparing::propose`]), and neither it nor the proposer can be cloned.
//! - No proposal without a quorum of promises: a [`Proposing`] comes from nowhere else.
//!
//! Deliberately absent: resending, timeouts and the choice of who proposes. Section 2.4 shows why progress
//! needs a distinguished proposer: two can go on overtaking each other for ever, as
//! [below](#three-proposers-at-once) but without the good end. Agreement needs none.
//!
//! # One round by hand
//!
//! ```
//! use paxos_core::basic::{Acceptor, Proposer};
//! use paxos_core::{NodeId, Quorums};
//!
//! let mut acceptors = [1, 2, 3].map(|id| (NodeId(id), Acceptor::new()));
//! let mut proposer = Proposer::new(NodeId(1), Quorums::majority(3));
//! let mut disk = Vec::new(); // stands for the stable storage of all four
//!
//! // Phase 1a: a ballot that was never used before.
//! let unstored = proposer.start("blue");
//! disk.push(format!("{:?}", unstored.record()));
//! let mut preparing = unstored.stored();
//!
//! // Phase 1b, at two of the three. The third hears nothing: two are a quorum.
//! for (id, acceptor) in &mut acceptors[..2] {
//!     let unstored = acceptor.on_prepare(preparing.ballot()).expect("no higher ballot is about");
//!     disk.push(format!("{:?}", unstored.record()));
//!     preparing.on_promise(*id, unstored.stored());
//! }
//!
//! // Phase 2a: nobody reported a proposal, so the value is the proposer's own.
//! let mut proposing = preparing.propose().expect("a quorum has promised");
//! assert_eq!(proposing.proposal().value, "blue");
//!
//! // Phase 2b, at another two.
//! for (id, acceptor) in &mut acceptors[1..] {
//!     assert_eq!(proposing.chosen(), None);
//!     let unstored = acceptor.on_accept(proposing.proposal().clone()).expect("no higher ballot is about");
//!     disk.push(format!("{:?}", unstored.record()));
//!     proposing.on_accepted(*id, unstored.stored());
//! }
//! assert_eq!(proposing.chosen(), Some(&"blue"));
//! assert_eq!(disk.len(), 5, "a choice among three costs five records");
//! ```
//!
//! # Three proposers at once
//!
//! Five acceptors, three proposers that begin in the same moment, and prepares that arrive so that one
//! proposer gets one promise and the other two get two each. Nobody has three, the majority; so they overtake
//! each other until one succeeds. Every later proposer finds its value, and proposes that.
//!
//! ```
//! use paxos_core::basic::{Acceptor, Preparing, Proposer, Proposing};
//! use paxos_core::{NodeId, Quorums};
//!
//! type Color = &'static str;
//! type Named = (NodeId, Acceptor<Color>);
//!
//! // Carry a request to one acceptor and its answer back. (Nobody crashes here, so nothing is stored.)
//! fn prepare(acceptor: &mut Named, proposer: &mut Proposer, attempt: &mut Preparing<Color>) {
//!     match acceptor.1.on_prepare(attempt.ballot()) {
//!         Ok(unstored) => attempt.on_promise(acceptor.0, unstored.stored()),
//!         Err(reject) => proposer.on_reject(reject),
//!     }
//! }
//! fn accept(acceptor: &mut Named, proposer: &mut Proposer, attempt: &mut Proposing<Color>) {
//!     match acceptor.1.on_accept(attempt.proposal().clone()) {
//!         Ok(unstored) => attempt.on_accepted(acceptor.0, unstored.stored()),
//!         Err(reject) => proposer.on_reject(reject),
//!     }
//! }
//!
//! let [mut a, mut b, mut c, mut d, mut e] = [1, 2, 3, 4, 5].map(|id| (NodeId(id), Acceptor::new()));
//! let majority = Quorums::majority(5);
//! let [mut first, mut second, mut third] = [1, 2, 3].map(|id| Proposer::new(NodeId(id), majority));
//!
//! // All begin in round 1. The node in the ballot keeps them apart: 1.1 < 1.2 < 1.3.
//! let mut red = first.start("red").stored();
//! let mut green = second.start("green").stored();
//! let mut blue = third.start("blue").stored();
//! prepare(&mut a, &mut first, &mut red);
//! prepare(&mut b, &mut second, &mut green);
//! prepare(&mut c, &mut second, &mut green);
//! prepare(&mut d, &mut third, &mut blue);
//! prepare(&mut e, &mut third, &mut blue);
//!
//! // One promise, two and two: there is no quorum, and no way to propose.
//! assert_eq!([red.promises(), green.promises(), blue.promises()], [1, 2, 2]);
//! let mut red = red.propose().expect_err("one promise of five is no quorum");
//! let mut green = green.propose().expect_err("two promises of five are no quorum");
//!
//! // The other prepares arrive. Only the highest ballot overtakes; the others learn that they are too late.
//! prepare(&mut b, &mut first, &mut red);
//! prepare(&mut d, &mut second, &mut green);
//! prepare(&mut a, &mut third, &mut blue);
//! assert_eq!([red.promises(), green.promises(), blue.promises()], [1, 2, 3]);
//! let mut blue = blue.propose().expect("three promises of five are a quorum");
//!
//! // One acceptor accepts blue. Before the next one does, the first proposer starts again, above 1.2.
//! accept(&mut d, &mut third, &mut blue);
//! let mut again = first.start("red").stored();
//! prepare(&mut a, &mut first, &mut again);
//! prepare(&mut b, &mut first, &mut again);
//! prepare(&mut d, &mut first, &mut again);
//! accept(&mut a, &mut third, &mut blue); // rejected: a has promised 2.1
//! accept(&mut b, &mut third, &mut blue); // so has b
//! assert_eq!(blue.chosen(), None);
//!
//! // Blue was overtaken, but d reported it. That decides what the first proposer must propose (P2c).
//! let mut again = again.propose().expect("three promises of five are a quorum");
//! assert_eq!(again.proposal().value, "blue");
//! accept(&mut a, &mut first, &mut again);
//! accept(&mut b, &mut first, &mut again);
//! accept(&mut d, &mut first, &mut again);
//! assert_eq!(again.chosen(), Some(&"blue"));
//!
//! // Every later proposer proposes the chosen value, whichever quorum answers and whatever it wanted.
//! let mut late = second.start("green").stored();
//! for acceptor in [&mut c, &mut e, &mut a] {
//!     prepare(acceptor, &mut second, &mut late);
//! }
//! assert_eq!(late.propose().expect("three promises of five are a quorum").proposal().value, "blue");
//! let mut later = third.start("violet").stored();
//! for acceptor in [&mut b, &mut c, &mut e] {
//!     prepare(acceptor, &mut third, &mut later);
//!     prepare(acceptor, &mut third, &mut later); // twice the same answer is one promise
//! }
//! assert_eq!(later.propose().expect("three promises of five are a quorum").proposal().value, "blue");
//! ```
//!
//! # Why two different values are never chosen
//!
//! A value is chosen when a phase 2 quorum of acceptors has accepted one proposal with it. The paper keeps an
//! invariant about every proposal that is made, P2c. For a proposal with number `n` and value `v` there is a
//! phase 1 quorum S such that either nobody in S has accepted, or ever will accept, anything below `n`; or
//! `v` is the value of the highest-numbered proposal below `n` that anybody in S accepted or will ever
//! accept. What was accepted so far, the promises report; that nothing is added later is what they promise.
//! So [`Preparing::propose`] has all that it takes to keep P2c.
//!
//! Agreement follows by contradiction. Suppose that a proposal `(m, v)` is chosen and that, all the same,
//! some proposal above `m` has another value. Let `(n, w)` be the lowest-numbered of those: `m < n`, `v ≠ w`,
//! and whatever was proposed from `m` to below `n` has value `v`.
//!
//! 1. The acceptors that accepted `m` are a phase 2 quorum, those that promised `n` to its proposer are a
//!    phase 1 quorum. Any two such quorums intersect ([`Quorums`](crate::Quorums) are not built otherwise):
//!    some acceptor did both.
//! 2. It accepted `m` *before* it promised `n`. After the promise it would have refused, as `m < n` (phase
//!    2b).
//! 3. So its promise reported a proposal: `m`, or one that it accepted after `m`, with a higher number. The
//!    highest-numbered of all reported proposals, from which `w` was taken (phase 2a), thus has a number from
//!    `m` to below `n`, and hence value `v`.
//! 4. So `w = v`, which contradicts `v ≠ w`: there is no such proposal.
//!
//! Every proposal above `m` has value `v`; and of two chosen proposals with different numbers, one is above
//! the other. Two with the same number are the same proposal, as a ballot is used once. ∎
//!
//! That the lowest-numbered exception is looked at is the induction of the paper in other words. Without it
//! step 3 would only know that the value came from *some* number between `m` and `n`.

mod acceptor;
mod proposer;

#[cfg(test)]
mod tests;

pub use acceptor::{Acceptor, AcceptorState};
pub use proposer::{Preparing, Proposer, Proposing};

use crate::id::Ballot;

/// A numbered value: what an accept request asks to be accepted (phase 2a).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proposal<V> {
    /// Its number.
    pub ballot: Ballot,
    /// Its value.
    pub value: V,
}

/// Phase 1b: the answer of an acceptor that will accept nothing below `ballot` any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Promise<V> {
    /// The promised ballot, that of the prepare request.
    pub ballot: Ballot,
    /// The highest-numbered proposal that it has accepted, if any.
    pub accepted: Option<Proposal<V>>,
}

/// Phase 2b: the answer of an acceptor that has accepted the proposal with this ballot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The ballot of the accepted proposal.
    pub ballot: Ballot,
}

/// The answer to a request that comes too late, so that its proposer can give up and start above.
///
/// Not needed for correctness (section 2.2, at its end): it saves the proposer from waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reject {
    /// The ballot of the refused request.
    pub ballot: Ballot,
    /// The higher ballot that the acceptor has promised.
    pub promised: Ballot,
}

/// A step that is taken only once its record is in stable storage.
///
/// Section 2.5: "An acceptor records its intended response in stable storage before actually sending the
/// response." Here the response, a `Message`, is inside, and [`stored`](Unstored::stored) hands it out. If
/// this is dropped instead, the step was never taken: nothing is remembered and nothing is sent.
///
/// There is no way past it. While one record waits to be stored, its owner can't take another step:
///
/// ```compile_fail,E0499
/// # use paxos_core::{Ballot, basic::{Acceptor, Proposal}};
/// let mut acceptor: Acceptor<&str> = Acceptor::new();
/// let promise = acceptor.on_prepare(Ballot::ZERO);
/// let accepted = acceptor.on_accept(Proposal { ballot: Ballot::ZERO, value: "blue" });
/// promise.unwrap().stored();
/// ```
#[derive(Debug)]
#[must_use = "nothing is remembered or sent before this is stored"]
pub struct Unstored<'a, Record, Message> {
    memory: &'a mut Record,
    record: Record,
    message: Message,
}

impl<Record, Message> Unstored<'_, Record, Message> {
    /// The record to store: everything to remember. It replaces the record before.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The step is taken and its message may be sent.
    ///
    /// Call it after the record is in stable storage (synced, not just written), and only then. If storing
    /// failed, drop this instead.
    #[must_use = "this is what the record was stored for"]
    pub fn stored(self) -> Message {
        *self.memory = self.record;
        self.message
    }
}
