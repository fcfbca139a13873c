//! Founds the cluster, or joins one that was founded.

use std::collections::BTreeMap;

use paxos_core::NodeId;
use paxos_storage::{Founding, FoundingId};

use super::frame::Standing;
use super::mutant::{Mutant, mutated};
use super::{Action, Introductions, Peer};

impl Introductions {
    /// Founds or joins a cluster if that has become possible, and has the storage remember what is new.
    pub(super) fn progress(&mut self) {
        if self.wanted.founding.is_none() {
            self.wanted.founding = self.found().or_else(|| self.join());
        }
        let is_unnamed = self.wanted.founding.as_ref().is_some_and(|founding| founding.id.is_none());
        if is_unnamed && let Some(id) = self.own.name_of_old_founding(&self.wanted) {
            self.wanted.founding =
                self.wanted.founding.take().map(|founding| Founding { id: Some(id), ..founding });
        }
        if !self.is_writing && self.wanted != self.durable {
            self.is_writing = true;
            self.actions.push_back(Action::Remember(self.wanted.clone()));
        }
    }

    /// The founding that all founders announce, or that a peer has recorded already with this very storage.
    fn found(&self) -> Option<Founding> {
        let own = self.own.met(&self.durable)?;
        let admitted = |node: &NodeId| self.peers.get(node).and_then(Peer::standing);
        let says_so = |node: &NodeId| match admitted(node) {
            Some(Standing::New { met: id } | Standing::Founded { id }) => id == Some(own),
            None => false,
        };
        let founders = self.own.founders();
        let all = founders.iter().all(|node| *node == self.own.node || says_so(node));
        let is_founded = |peer: &Peer| peer.standing() == Some(Standing::Founded { id: Some(own) });
        let most = 2 * founders.iter().filter(|node| says_so(node)).count() + 2 > founders.len();
        let all = all || (mutated(Mutant::FoundedByMost) && most);
        (all || self.peers.values().any(is_founded)).then(|| self.founded_as(Some(own)))
    }

    /// The founding of those peers that remember this new storage, if they are more than half of the peers.
    fn join(&mut self) -> Option<Founding> {
        let mut let_in: BTreeMap<_, Vec<NodeId>> = BTreeMap::new();
        for (node, peer) in self.members() {
            if let Some(Standing::Founded { id }) = peer.standing().filter(|_| peer.is_introduced()) {
                let_in.entry(id).or_default().push(*node);
            }
        }
        let (id, nodes) = let_in
            .into_iter()
            .find(|(_, nodes)| 2 * nodes.len() > self.members().count() || mutated(Mutant::JoinsByOne))?;
        for node in nodes {
            let known = self.peers.get(&node).and_then(Peer::known);
            self.wanted.peers.extend(known.map(|known| (node, known)));
        }
        Some(self.founded_as(id))
    }

    fn founded_as(&self, id: Option<FoundingId>) -> Founding {
        Founding { id, membership: self.founding.clone() }
    }
}
