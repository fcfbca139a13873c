//! Format levels: which entries a log may hold, so that programs of neighbouring versions work together.

use std::fmt;

/// A number for everything that gives the log its meaning: kinds of values, layouts of memberships, commands
/// of the state machine, snapshots, and the directory of a node.
///
/// Each program reads a range of levels, from [`OLDEST`](FormatLevel::OLDEST) to
/// [`NEWEST`](FormatLevel::NEWEST). The cluster has one *finalized* level, which is a part of its
/// [`Membership`](crate::Membership) and so a value of the log. Nodes propose and write only what programs
/// that read no more than the finalized level understand. It is raised by
/// [`Change::Finalize`](crate::Change::Finalize), and never goes back.
///
/// A membership of a level above [`NEWEST`](FormatLevel::NEWEST) can't be decoded. So a node neither accepts
/// nor recovers one, whichever way it comes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FormatLevel(pub u16);

impl FormatLevel {
    /// The first level: memberships do not name it. A new cluster begins with it.
    pub const FIRST: FormatLevel = FormatLevel(1);
    /// From this level on a membership names the level. Nothing else differs from the first one.
    pub const NAMED: FormatLevel = FormatLevel(2);
    /// The oldest level that this program reads.
    pub const OLDEST: FormatLevel = FormatLevel::FIRST;
    /// The newest level that this program reads, and to which it can raise a cluster.
    pub const NEWEST: FormatLevel = FormatLevel::NAMED;

    /// Whether this program can work in a cluster of this level.
    #[must_use]
    pub fn is_known(self) -> bool {
        (FormatLevel::OLDEST..=FormatLevel::NEWEST).contains(&self)
    }
}

impl Default for FormatLevel {
    fn default() -> FormatLevel {
        FormatLevel::FIRST
    }
}

impl fmt::Display for FormatLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
