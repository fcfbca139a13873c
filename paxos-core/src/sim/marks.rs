//! Rare events, counted: a suite that never meets them shows nothing about them.

/// A rare event that a run may meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Mark {
    /// A promise reported accepted values.
    PromiseWithValues,
    /// A promise came in several parts.
    PromiseInParts,
    /// A candidate needed slots that existed only in a snapshot.
    SnapshotDuringTakeover,
    /// A snapshot was transferred to a node and installed.
    SnapshotInstalled,
    /// A piece of a snapshot came before an earlier one.
    PieceOvertakes,
    /// A snapshot was not taken yet, as a peer was fetching the one that it would have replaced.
    SnapshotPutOff,
    /// A node asked for a piece of the log before others had come.
    ValuesAskedAhead,
    /// Two nodes ran phase 1 at the same time.
    Duel,
    /// An accept for a slot that is chosen already was refused.
    RefusalOfChosenSlot,
    /// A node crashed with writes under way.
    CrashWithUnsyncedWrites,
    /// All nodes crashed at once.
    EverybodyCrashed,
    /// A node was lost for good.
    NodeLost,
    /// A node came back after its disk had lost acceptances.
    MemoryLost,
    /// A node that had lost acceptances had learned everything that was chosen in their slots.
    MemoryRepaired,
    /// A leader stood still, and came back when another one led.
    LeaderOverslept,
    /// A leader lost its place while reads waited for it.
    DeposedWithReads,
    /// A leader answered a read under its lease.
    LeaseRead,
    /// A read was answered on a follower.
    FollowerRead,
    /// A read had to be asked again, as the log had not come to the leader's time.
    ReadAheadOfLog,
    /// A wall clock jumped.
    WallClockJumped,
    /// A command came a second time, and its session knew the answer.
    CommandRepeated,
    /// A command came after its client had acknowledged the answer.
    AnsweredBefore,
    /// A session had been evicted when its client came back.
    SessionEvicted,
    /// A leader took over with an open slot below one that was reported, and filled it with a no-op.
    HoleFilled,
    /// Each value had a phase 1 of its own.
    FullRound,
    /// Quorums of the two phases differed in size.
    FlexibleQuorums,
    /// A frame arrived in pieces.
    FrameInPieces,
    /// A damaged message was noticed.
    DamagedMessage,
    /// A change of the membership came in force at the leader that was asked for it.
    ChangeInForce,
    /// A change was refused as another one was under way.
    ChangeUnderWay,
    /// A leader lost its place while it made a change.
    ChangeLost,
    /// A leader proposed again a membership that another one had proposed first.
    MembershipTakenOver,
    /// A node entered an epoch by a snapshot.
    MembershipInSnapshot,
    /// A learner got a vote.
    VoterAdded,
    /// A voter was removed.
    VoterRemoved,
    /// A leader handed over because a change would take its vote.
    LeaderMakesWay,
    /// A leader entered an epoch in which it has no vote.
    LeaderWithoutVote,
    /// A leader entered an epoch in which its priority is 0.
    LeaderOfPriority0,
    /// A change was refused as it expected another epoch.
    OtherEpochExpected,
    /// A learner was not promoted as it lagged behind.
    LearnerLags,
    /// A change was refused as too few voters were heard from.
    NoLiveQuorum,
    /// An id that was removed was to be used again, and was refused.
    RemovedIdRefused,
    /// An address was to be used twice, and was refused.
    AddressRefused,
    /// A node that was removed while it was away came back and heard of it.
    RemovedCameBack,
    /// A node that was removed ended.
    RemovedEnded,
    /// Leadership was handed over.
    HandedOver,
    /// A node declined to take over.
    HandoverDeclined,
    /// A node did not take over in time.
    HandoverNotInTime,
    /// Leadership was not handed over as the successor lagged behind.
    SuccessorLags,
}

impl Mark {
    /// Every mark.
    pub const ALL: [Mark; 49] = [
        Mark::PromiseWithValues,
        Mark::PromiseInParts,
        Mark::SnapshotDuringTakeover,
        Mark::SnapshotInstalled,
        Mark::PieceOvertakes,
        Mark::SnapshotPutOff,
        Mark::ValuesAskedAhead,
        Mark::Duel,
        Mark::RefusalOfChosenSlot,
        Mark::CrashWithUnsyncedWrites,
        Mark::EverybodyCrashed,
        Mark::NodeLost,
        Mark::MemoryLost,
        Mark::MemoryRepaired,
        Mark::LeaderOverslept,
        Mark::DeposedWithReads,
        Mark::LeaseRead,
        Mark::FollowerRead,
        Mark::ReadAheadOfLog,
        Mark::WallClockJumped,
        Mark::CommandRepeated,
        Mark::AnsweredBefore,
        Mark::SessionEvicted,
        Mark::HoleFilled,
        Mark::FullRound,
        Mark::FlexibleQuorums,
        Mark::FrameInPieces,
        Mark::DamagedMessage,
        Mark::ChangeInForce,
        Mark::ChangeUnderWay,
        Mark::ChangeLost,
        Mark::MembershipTakenOver,
        Mark::MembershipInSnapshot,
        Mark::VoterAdded,
        Mark::VoterRemoved,
        Mark::LeaderMakesWay,
        Mark::LeaderWithoutVote,
        Mark::LeaderOfPriority0,
        Mark::OtherEpochExpected,
        Mark::LearnerLags,
        Mark::NoLiveQuorum,
        Mark::RemovedIdRefused,
        Mark::AddressRefused,
        Mark::RemovedCameBack,
        Mark::RemovedEnded,
        Mark::HandedOver,
        Mark::HandoverDeclined,
        Mark::HandoverNotInTime,
        Mark::SuccessorLags,
    ];
}

/// How often each mark was met.
#[derive(Clone, Debug)]
pub struct Marks([u64; Mark::ALL.len()]);

impl Default for Marks {
    fn default() -> Marks {
        Marks([0; Mark::ALL.len()])
    }
}

impl Marks {
    /// How often this mark was met.
    #[must_use]
    pub fn count(&self, mark: Mark) -> u64 {
        self.0[mark as usize]
    }

    /// Adds what another run has met.
    pub fn add(&mut self, other: &Marks) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    pub(super) fn hit(&mut self, mark: Mark) {
        self.0[mark as usize] += 1;
    }
}
