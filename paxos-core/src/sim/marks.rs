//! Rare events, counted: a suite that never meets them shows nothing about them.

/// Something rare that a run may meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Mark {
    /// A promise reported accepted values.
    PromiseWithValues,
    /// A promise came in several parts.
    PromiseInParts,
    /// A candidate needed slots that existed only in a snapshot.
    SnapshotDuringTakeover,
    /// A snapshot was brought to a node and installed.
    SnapshotInstalled,
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
    /// A node came back that had forgotten some of what it had accepted.
    MemoryLost,
    /// A node knew all again that it had forgotten.
    MemoryRepaired,
    /// A leader stood still, and came back when another one led.
    LeaderOverslept,
    /// A leader lost its place while reads waited for it.
    DeposedWithReads,
    /// A read was answered on the strength of a lease.
    LeaseRead,
    /// A read was answered on a follower.
    FollowerRead,
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
}

impl Mark {
    /// Every mark.
    pub const ALL: [Mark; 21] = [
        Mark::PromiseWithValues,
        Mark::PromiseInParts,
        Mark::SnapshotDuringTakeover,
        Mark::SnapshotInstalled,
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
        Mark::CommandRepeated,
        Mark::AnsweredBefore,
        Mark::SessionEvicted,
        Mark::HoleFilled,
        Mark::FullRound,
        Mark::FlexibleQuorums,
    ];
}

/// How often each mark was met.
#[derive(Clone, Debug, Default)]
pub struct Marks([u64; Mark::ALL.len()]);

impl Marks {
    /// How often this one was.
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
