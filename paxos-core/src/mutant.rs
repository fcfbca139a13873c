//! Bugs that can be switched on, one at a time, to see whether the checks notice.
//!
//! A check that has never failed proves little. Each [`Mutant`] is a mistake that some implementation of
//! Paxos has made or might make. It sits in a small predicate that says what the protocol requires there,
//! such as whether promises are enough for a quorum, so that the handlers read like the paper. The simulator
//! must find every mutant; `paxos-sim mutants` prints how long it takes for each.
//!
//! Without the feature `sim` no mutant can be switched on, and the compiler removes all of them.

use std::cell::Cell;

macro_rules! mutants {
    ($($(#[doc = $what:literal])+ $name:ident,)+) => {
        /// A mistake in the protocol.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[non_exhaustive]
        #[allow(unreachable_pub, reason = "reachable with the feature `sim`")]
        #[allow(dead_code, reason = "some are mistakes in code of other features")]
        pub enum Mutant {
            $($(#[doc = $what])+ $name,)+
        }

        #[cfg(feature = "sim")]
        impl Mutant {
            /// Every mutant, in the order of the protocol's roles.
            pub const ALL: &[Mutant] = &[$(Mutant::$name,)+];

            /// Its name, as in the code.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Mutant::$name => stringify!($name),)+
                }
            }

            /// What it does, in a sentence.
            #[must_use]
            pub fn what(self) -> &'static str {
                match self {
                    $(Mutant::$name => concat!($($what),+).trim_ascii(),)+
                }
            }

            /// Switches this mutant on, and any other off, for all replicas and sessions on this thread;
            /// `None` switches all off.
            pub fn activate(mutant: Option<Mutant>) {
                ACTIVE.set(mutant);
            }
        }
    };
}

mutants! {
    // Acceptors.
    /// An acceptor lowers its promise for any prepare that comes too late.
    PrepareBelowPromise,
    /// An acceptor accepts a proposal below its promise.
    AcceptBelowPromise,
    /// An acceptor answers a prepare without raising its promise.
    PromiseNotRaised,
    /// An acceptor that accepts above its promise does not raise it.
    AcceptDoesNotRaisePromise,
    /// A promise does not report what was accepted.
    PromiseForgetsAccepted,
    /// A promise does not report slots that are chosen already (paxi: a partitioned node decides them again).
    PromiseOmitsChosen,
    /// A promise reports its first part as if it were all.
    PromiseCutShort,
    /// A promise leaves out slots that exist only in a snapshot.
    PromiseIgnoresTrimmed,
    /// A replica that has lost acceptances promises as if there had been none.
    RepairingPromises,
    /// A replica that has lost acceptances counts its own promise, and runs for leader.
    RepairingRunsForLeader,
    /// An acceptor acknowledges heartbeats of a leader that it has promised to refuse.
    AckAfterHigherPromise,

    // Stable storage.
    /// A promise is not written.
    PromiseNotWritten,
    /// An acceptance is not written.
    AcceptanceNotWritten,
    /// Promises and acceptances leave before they are synced.
    SendBeforeSync,
    /// A prepare leaves before its ballot is synced.
    PrepareBeforeSync,
    /// The leader counts its own acceptance before that is synced.
    OwnAcceptanceBeforeSync,
    /// Two writes that are merged keep the promise of the first.
    MergeKeepsOldPromise,
    /// A node that starts again has forgotten its promise.
    PromiseForgottenAtRestart,
    /// A node that starts again takes for chosen what it had accepted.
    AcceptedTakenForChosenAtRestart,
    /// One message acknowledges all slots up to the last one accepted, those in between included.
    AcceptedRangeOverHoles,

    // Proposers.
    /// A leader uses its last ballot again (epaxos).
    OldBallotReused,
    /// Of several reported values the last to arrive is proposed, not that of the highest ballot.
    LastReportWins,
    /// A new leader does not count what it has accepted itself as reported.
    OwnAcceptedIgnored,
    /// A new leader proposes no-ops where values were reported.
    ReportsIgnored,
    /// A new leader looks for open slots only as far as its own log goes.
    TakeoverMissesReported,
    /// A new leader leaves holes open.
    HoleSkipped,
    /// A promise for an earlier ballot counts for the present one.
    PromiseOfOlderBallotCounts,
    /// Phase 1 ends one promise short of a quorum.
    PrepareQuorumOffByOne,
    /// Phase 2 ends one acceptance short of a quorum.
    AcceptQuorumOffByOne,
    /// An acceptance under an earlier ballot counts for the present one.
    AcceptedOfOlderBallotCounts,
    /// The same acceptance, come twice, counts twice.
    AcceptedCountsTwice,
    /// Ids of nodes are taken for positions among the members.
    NodeIdsAsIndices,
    /// The leader announces slots as chosen that it has only proposed (openraft: commit without a quorum).
    ChosenAnnouncedEarly,
    /// An accept that was lost is not sent again (`OmniPaxos`: the last one before a pause).
    AcceptNeverResent,

    // Learners.
    /// A watermark counts for values that were accepted under another ballot than its own.
    WatermarkOfAnyBallot,
    /// A learner that hears the chosen value keeps the one it has accepted.
    LearnKeepsOwnValue,
    /// A fetch is answered with values that are only accepted.
    FetchServesUnchosen,
    /// A lost request for chosen values is not sent again.
    FetchNeverResent,
    /// A lost request for a piece of a snapshot is not sent again.
    SnapshotPieceNeverResent,
    /// A node goes on one slot too late after a snapshot.
    SnapshotSlotOffByOne,
    /// The log is cut off beyond the snapshot.
    TrimsBeyondSnapshot,
    /// Pieces of a snapshot are stored as they come, not in order.
    PiecesAsTheyCome,
    /// A snapshot that a peer fetches is dropped for a newer one.
    FetchedSnapshotDropped,
    /// The log behind a snapshot that a peer fetches is dropped.
    FetchedLogDropped,

    // Changes of the membership.
    /// A leader changes the membership although nothing is chosen under its ballot.
    ChangeBeforeOwnValue,
    /// A leader makes a second change while the first is not chosen.
    TwoChangesAtOnce,
    /// A leader goes on proposing behind a membership that is not chosen.
    ProposesBehindMembership,
    /// A membership is in force as soon as it is accepted.
    MembershipUsedBeforeChosen,
    /// Votes of another epoch count.
    OldEpochVotesCounted,
    /// Votes of learners count.
    LearnerCounted,
    /// A learner promises, and consents to elections.
    LearnerPromises,
    /// A new membership has quorums of the old sizes.
    OldQuorumsKept,
    /// The ids of removed members are forgotten, and can be used again.
    RemovedForgotten,
    /// A new membership has the first format level, whatever was finalized.
    LevelForgotten,
    /// Two members may have the same address.
    AddressSharedByTwo,
    /// A snapshot is installed without its membership.
    MembershipNotInSnapshot,
    /// A node that starts again takes the founding membership for the present one.
    MembershipForgottenAtRestart,
    /// Who knows a membership has not promised its ballot.
    FirstBallotNotPromised,
    /// A leader that proposes a membership of an earlier ballot again goes on without phase 1.
    PhaseOneSkippedAfterTakeover,
    /// A slot counts as chosen although a membership may still be chosen in a slot before it.
    ChosenAheadOfMembership,
    /// Reads that wait are confirmed by a quorum of the membership before.
    ReadsConfirmedByOldEpoch,
    /// A leader that is removed goes on leading.
    RemovedLeaderGoesOn,
    /// A removed node ends before others are known to know of the new membership.
    RemovedLeavesAtOnce,
    /// Leadership is handed over to a node that lags behind.
    HandedOverToLaggard,
    /// A leader relies on its lease after it has asked another node to take over.
    LeaseKeptAfterHandover,

    // Sessions.
    /// A command that comes twice is applied twice.
    DuplicateApplied,
    /// A command comes again after its answer was acknowledged, and is applied again.
    AnsweredAppliedAgain,
    /// Snapshots hold no sessions.
    SessionsLostInSnapshot,
    /// Snapshots hold sessions without the replies that were given.
    RepliesLostInSnapshot,

    // Reads.
    /// A replica that believes it leads answers reads without asking a quorum.
    ReadWithoutQuorum,
    /// A read is confirmed one answer short of a quorum.
    ReadQuorumOffByOne,
    /// A read is confirmed by heartbeats that left before it came.
    ReadRoundTooOld,
    /// A new leader answers reads before it knows what was chosen under the last one.
    ReadBeforeTakeover,
    /// A read is answered before its slot is applied.
    ReadBeforeApplied,
    /// The leader counts its lease from when the answers came, not from when it asked.
    LeaseFromReceipt,
    /// The leader ignores that clocks run at different speeds.
    LeaseIgnoresDrift,
    /// A follower does not wait for the lease that it has granted to end.
    LeaseNotHeld,
    /// A follower that starts again does not wait for a lease that it may have granted.
    LeaseForgottenAtRestart,

    // Time.
    /// A new leader begins with its wall clock, whatever it has heard of the time.
    NewLeaderTrustsItsWallClock,
    /// A follower does not listen to the time in heartbeats.
    HeartbeatTimeIgnored,
    /// A promise does not tell the time of the leader before.
    PromiseWithoutTime,
    /// The leader's time jumps with its wall clock.
    TimeFollowsWallClock,
    /// A new leader ignores the times of values that are chosen.
    ChosenTimesIgnored,
    /// A new leader ignores the times of values that it proposes again.
    AcceptedTimesIgnored,
    /// A value that is proposed again gets a new time.
    ValueProposedAgainGetsNewTime,
    /// The time of a state is that of the last value, which may be lower than the one before.
    TimeGoesBackInTheLog,
    /// Snapshots do not hold the time of the state.
    TimeLostInSnapshot,
    /// A state machine goes by the clock of its own node.
    AppliedByOwnClock,
    /// A read is answered without the leader's time, so that it sees what has expired.
    ReadIgnoresClock,
    /// A lock that is taken anew keeps the fencing number that it had.
    FencingNumberKept,

    // Messages and frames.
    /// The reader of a stream adds to a frame the bytes that have arrived behind it.
    FrameTakesWhatIsBehindIt,
    /// A message is decoded whatever its length and its checksum are.
    ChecksumIgnored,
    /// Of two messages in one frame the fields are merged.
    RepeatedFieldsMerged,
}

thread_local! {
    static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Whether this mutant is switched on.
#[inline]
pub(crate) fn mutated(mutant: Mutant) -> bool {
    cfg!(feature = "sim") && ACTIVE.get() == Some(mutant)
}
