//! The rules that the observer holds every run against.

/// Which rule was broken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Rule {
    /// No two values are chosen in a slot.
    OneValueChosen,
    /// No two values are proposed under one ballot in a slot.
    OneValueProposed,
    /// P2c of *Paxos Made Simple*: a proposal carries the value that a quorum of promises allows.
    P2c,
    /// A ballot is used by one proposer, and not again after it has started anew.
    BallotsUsedOnce,
    /// An acceptor accepts nothing below its promise.
    PromiseKept,
    /// Promises and acceptances on a disk never go back.
    NothingTakenBack,
    /// What rests on stable storage is there before anybody hears of it.
    DurableBeforeSent,
    /// What a node knows to be chosen is.
    OnlyChosenLearned,
    /// Slots are applied in order, each once, with the chosen value.
    AppliedInOrder,
    /// Equal slots mean equal states.
    SameState,
    /// A command under a session is applied once.
    AppliedOnce,
    /// A snapshot is what its slot's state is everywhere.
    SnapshotIsState,
    /// While a leader may answer reads on the strength of a lease, nobody leads under a higher ballot.
    LeaseIsAlone,
    /// A read sees everything that was applied anywhere when it was asked for.
    ReadIsFresh,
    /// What a client was told has come to pass is in the log.
    Acknowledged,
    /// The clients' history can be put in one order.
    Linearizable,
    /// Those who are there when calm returns agree within a bound.
    Progress,
    /// The replica found an invariant of its own broken.
    Assertion,
}

/// A broken rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// What happened.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}: {}", self.rule, self.what)
    }
}
