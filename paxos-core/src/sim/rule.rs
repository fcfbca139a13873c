//! The rules that the observer checks in every run.

/// A rule that holds in every run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Rule {
    /// A message arrives over a stream as it was sent, and a damaged one is refused.
    ArrivesAsSent,
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
    /// A promise or an acceptance is in stable storage before any node hears of it.
    DurableBeforeSent,
    /// A value that a node takes for chosen is chosen.
    OnlyChosenLearned,
    /// Slots are applied in order, each once, with the chosen value.
    AppliedInOrder,
    /// Equal slots mean equal states.
    SameState,
    /// A command under a session is applied once.
    AppliedOnce,
    /// Snapshots of a slot are equal on all nodes.
    SnapshotIsState,
    /// Pieces of a snapshot reach the storage in order.
    PiecesInOrder,
    /// A snapshot that a peer fetches is not dropped for one that the node takes itself, nor is the log
    /// behind it. That ends when the node crashes, when its own log has grown too long, and when it takes
    /// over a snapshot of a peer: then it was behind itself, and has nothing to keep, as some slots before
    /// that snapshot were never known to it.
    FetchedIsKept,
    /// A node is in the epoch that the memberships among its chosen slots have begun, and a snapshot holds
    /// the membership of its slot.
    MembershipOfSlot,
    /// An id that was removed is never a member's again.
    IdsUsedOnce,
    /// The finalized format level never goes back.
    LevelKept,
    /// No two members have the same address.
    OneAddressEach,
    /// A membership differs from the one before in one member, and a leader proposes one for each epoch.
    OneChangeAtATime,
    /// A leader changes the membership only after a value that it proposed itself is chosen.
    OwnValueFirst,
    /// Behind a membership nothing is proposed until it is chosen.
    NothingBehindMembership,
    /// Only voters run for leader, promise, consent and propose.
    OnlyVotersVote,
    /// Leadership is handed over only to a node that knows nearly all that is chosen.
    SuccessorIsComplete,
    /// A node that was removed ends only once a quorum of the voters knows it.
    RemovedIsDispensable,
    /// A request to change the membership or to hand over is answered once.
    RequestsAnswered,
    /// While a leader holds a lease for reads, no node leads under a higher ballot.
    LeaseIsAlone,
    /// A read sees everything that any node had applied when it was asked for.
    ReadIsFresh,
    /// The time of the log never goes back, and that of a state is the highest of its log.
    TimeGoesOn,
    /// The time of the log grows no faster than real time, within the bounds that are promised: nothing
    /// expires early.
    TimeIsNotFast,
    /// A read is answered by a leader's time that is no lower than that of anything which was applied before.
    ReadKnowsTime,
    /// A command whose client was told that it was applied is in the log.
    Acknowledged,
    /// The clients' history can be put in one order.
    Linearizable,
    /// The members that are up when calm returns agree within a bounded time.
    Progress,
    /// No assertion of a replica fails.
    Assertion,
}

/// A broken rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The broken rule.
    pub rule: Rule,
    /// What happened.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}: {}", self.rule, self.what)
    }
}
