//! The format levels that the programs of nodes know, and that their clusters have finalized.
//!
//! The rule is not that levels are equal, as a node may lag behind, but that each program knows the level of
//! the cluster. A program from before there were levels tells none, and knows the first one.

use std::sync::Arc;

use paxos_core::{FormatLevel, NodeId};

use super::frame::Difference;
use super::{Introductions, Peer};
use crate::status::KnownLevels;

/// The name of the difference by which a program is refused that does not know the level. Programs from
/// before there were levels show it, too.
pub(super) const FORMAT_LEVEL: &str = "format_level";

/// What a node tells of levels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Levels {
    /// The oldest that its program reads.
    pub(crate) oldest: FormatLevel,
    /// The newest that its program reads.
    pub(crate) newest: FormatLevel,
    /// The level of its cluster, as far as the node knows.
    pub(crate) finalized: FormatLevel,
}

impl Levels {
    /// Those of a program from before there were levels.
    pub(super) const UNTOLD: Levels =
        Levels { oldest: FormatLevel::FIRST, newest: FormatLevel::FIRST, finalized: FormatLevel::FIRST };

    /// Those of this program in a cluster of this level.
    pub(crate) fn own(finalized: FormatLevel) -> Levels {
        Levels { oldest: FormatLevel::OLDEST, newest: FormatLevel::NEWEST, finalized }
    }

    /// The difference for which a node with these levels refuses one with others.
    pub(super) fn difference(self, theirs: Levels) -> Option<Difference> {
        let level = self.finalized.max(theirs.finalized);
        let (refusing, refused) = if theirs.newest < level {
            (level.to_string(), format!("{} at most", theirs.newest))
        } else if theirs.oldest > level {
            (level.to_string(), format!("{} at least", theirs.oldest))
        } else if self.newest < level {
            (format!("{} at most", self.newest), level.to_string())
        } else {
            return None;
        };
        Some(Difference { name: FORMAT_LEVEL.to_owned(), refusing, refused })
    }
}

/// Whether these differences are nothing but programs that do not know a level.
pub(super) fn are_of_levels(differences: &[Difference]) -> bool {
    differences.iter().all(|difference| difference.name == FORMAT_LEVEL)
}

impl Introductions {
    /// The cluster has finalized this level. Peers whose programs do not know it are refused from now on.
    pub(crate) fn set_format_level(&mut self, level: FormatLevel) {
        if level <= self.own.levels.finalized {
            return;
        }
        self.own.levels.finalized = level;
        let own = self.own.levels;
        let judged_anew = |(node, peer): (&NodeId, &Peer)| {
            let hello = peer.hello.as_ref().filter(|hello| own.difference(hello.levels).is_some())?;
            Some((*node, peer.admitted?, hello.clone()))
        };
        let too_old: Vec<_> = self.peers.iter().filter_map(judged_anew).collect();
        for (node, start, hello) in too_old {
            self.on_hello(node, start, hello);
        }
    }

    /// The levels that the programs of peers know: of those that are introduced, and were heard lately.
    pub(crate) fn known_levels(&self) -> Arc<[KnownLevels]> {
        Arc::clone(&self.known_levels)
    }

    /// Looks which levels the programs of peers know now.
    pub(super) fn note_levels(&mut self) {
        let known = |(node, peer): (&NodeId, &Peer)| {
            let levels = peer.hello.as_ref()?.levels;
            let is_there = peer.is_introduced() && peer.is_heard(self.now_ticks);
            let known = KnownLevels { node: *node, oldest: levels.oldest, newest: levels.newest };
            is_there.then_some(known)
        };
        let own = self.own.levels;
        let own = KnownLevels { node: self.own.node, oldest: own.oldest, newest: own.newest };
        if !self.peers.iter().filter_map(known).chain([own]).eq(self.known_levels.iter().copied()) {
            self.known_levels = self.peers.iter().filter_map(known).chain([own]).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(oldest: u16, newest: u16, finalized: u16) -> Levels {
        let [oldest, newest, finalized] = [oldest, newest, finalized].map(FormatLevel);
        Levels { oldest, newest, finalized }
    }

    fn difference(own: Levels, theirs: Levels) -> Option<(String, String)> {
        own.difference(theirs).map(|difference| (difference.refusing, difference.refused))
    }

    fn told(refusing: &str, refused: &str) -> (String, String) {
        (refusing.to_owned(), refused.to_owned())
    }

    #[test]
    fn programs_of_neighbouring_versions_take_each_other_until_the_newer_level_is_finalized() {
        let (old, new) = (levels(1, 2, 1), levels(2, 3, 2));
        assert_eq!(difference(old, levels(1, 3, 1)), None);
        assert_eq!(difference(levels(1, 3, 1), old), None);
        assert_eq!(difference(old, new), None, "it only lags behind, and knows the level");
        assert_eq!(difference(new, old), None);
        let finalized = levels(2, 3, 3);
        assert_eq!(difference(finalized, old), Some(told("3", "2 at most")));
        assert_eq!(difference(old, finalized), Some(told("2 at most", "3")), "both sides say so");
    }

    #[test]
    fn a_program_is_refused_that_is_two_versions_away() {
        let (oldest, newest) = (levels(1, 2, 1), levels(3, 4, 1));
        assert_eq!(difference(oldest, newest), Some(told("1", "3 at least")));
        assert_eq!(difference(Levels::UNTOLD, Levels::own(FormatLevel::FIRST)), None);
        let finalized = Levels::own(FormatLevel::NEWEST);
        assert_eq!(difference(finalized, Levels::UNTOLD), Some(told("2", "1 at most")));
    }
}
