//! The rules of introductions, as pure functions: whether a hello is accepted, and which founding a node is
//! of.

use std::collections::{BTreeMap, BTreeSet};

use paxos_core::NodeId;
use paxos_storage::{FoundingId, KnownPeer, Registry, Start, StorageId};
use xxhash_rust::xxh3::Xxh3Default;

use super::frame::{Difference, Hello, MAX_DIFFERENCES, PeerRefusal, Standing};
use super::levels::Levels;
use super::mutant::{Mutant, mutated};
use super::reach::Reach;

/// Names and values of settings are cut to this many characters.
const MAX_VALUE_CHARACTERS: usize = 512;

/// The fact that names the backup from which a node's cluster was restored; missing if it was not.
pub(super) const RESTORED_FROM: &str = "restored_from";

/// What a node knows of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OwnNode {
    pub(crate) node: NodeId,
    pub(crate) cluster: String,
    pub(crate) storage: StorageId,
    /// In ascending order, this node included.
    pub(crate) members: BTreeSet<NodeId>,
    /// Members that the founding does not wait for.
    pub(crate) absent: BTreeSet<NodeId>,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) facts: BTreeMap<String, String>,
    /// What the storage held when the node started.
    pub(crate) reach: Reach,
    /// Which format levels this program reads, and that of the cluster.
    pub(crate) levels: Levels,
}

/// The judgement of a hello.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Judgement {
    /// Listen to the peer.
    Admit,
    /// Listen to the peer once this is durably remembered of it.
    Remember(KnownPeer),
    Refuse(PeerRefusal),
}

/// The name of a founding by these nodes.
fn founding_id(cluster: &str, storages: impl Iterator<Item = (NodeId, StorageId)>) -> FoundingId {
    let mut hash = Xxh3Default::new();
    hash.update(&(cluster.len() as u64).to_le_bytes());
    hash.update(cluster.as_bytes());
    for (node, storage) in storages {
        hash.update(&node.0.to_le_bytes());
        hash.update(&storage.0.to_le_bytes());
    }
    FoundingId(hash.digest128().max(1)) // On disk and in frames 0 means that there is none.
}

/// The name of the founding that `old` becomes with other members.
pub(super) fn refounded(old: FoundingId, members: &BTreeSet<NodeId>) -> FoundingId {
    let storage = StorageId(old.0);
    founding_id("refounded", members.iter().map(|node| (*node, storage)))
}

impl OwnNode {
    /// The founding of which `nodes` would be the founders, once the storages of them all are remembered.
    fn founding_of(&self, registry: &Registry, nodes: &BTreeSet<NodeId>) -> Option<FoundingId> {
        let storage = |node: &NodeId| match registry.peers.get(node) {
            _ if *node == self.node => Some((*node, self.storage)),
            Some(peer) => Some((*node, peer.storage)),
            None => None,
        };
        let storages: Option<Vec<_>> = nodes.iter().map(storage).collect();
        Some(founding_id(&self.cluster, storages?.into_iter()))
    }

    /// The members that found the cluster.
    pub(super) fn founders(&self) -> BTreeSet<NodeId> {
        &self.members - &self.absent
    }

    /// The name of the founding, if this node has met all founders. From then on it knows them by their
    /// storages for good, as one of them may have founded the cluster already.
    pub(super) fn met(&self, registry: &Registry) -> Option<FoundingId> {
        self.founding_of(registry, &self.founders())
    }

    /// The name of a founding from before foundings had names: the same on all nodes that know the storages
    /// of all members.
    pub(super) fn name_of_old_founding(&self, registry: &Registry) -> Option<FoundingId> {
        self.founding_of(registry, &self.members)
    }

    pub(super) fn standing(&self, registry: &Registry) -> Standing {
        match &registry.founding {
            Some(founding) => Standing::Founded { id: founding.id },
            None => Standing::New { met: self.met(registry) },
        }
    }

    /// Judges a hello from the start `start` of `peer`, one of the members.
    pub(super) fn judge(&self, registry: &Registry, peer: NodeId, start: Start, hello: &Hello) -> Judgement {
        let standing = self.standing(registry);
        let differences = self.differences(standing, hello);
        if !differences.is_empty() {
            return Judgement::Refuse(PeerRefusal::Settings(differences));
        }
        let is_of_another =
            |(node, known): (&NodeId, &KnownPeer)| *node != peer && known.storage == hello.storage;
        if hello.storage == self.storage || registry.peers.iter().any(is_of_another) {
            return Judgement::Refuse(PeerRefusal::SharedStorage);
        }
        let known = registry.peers.get(&peer);
        let (is_other, known_storage) =
            known.map_or((false, None), |known| (known.storage != hello.storage, Some(known.storage)));
        let other_disk = || match known_storage {
            Some(known) => Judgement::Refuse(PeerRefusal::OtherDisk { known }),
            None => Judgement::Refuse(PeerRefusal::OtherFounding),
        };
        match (standing, hello.standing) {
            // Before this node has met all founders, the cluster that it belongs to can't be founded.
            (Standing::New { met: None }, Standing::New { .. }) if is_other => {}
            (Standing::New { met: None }, Standing::Founded { .. }) => return Judgement::Admit,
            (Standing::New { .. }, Standing::New { .. }) if is_other && mutated(Mutant::NotBound) => {}
            (_, _) if is_other => return other_disk(),
            (
                Standing::New { met: Some(own) },
                Standing::New { met: Some(theirs) } | Standing::Founded { id: Some(theirs) },
            )
            | (Standing::Founded { id: Some(own) }, Standing::Founded { id: Some(theirs) })
                if own != theirs =>
            {
                return Judgement::Refuse(PeerRefusal::OtherFounding);
            }
            _ => {}
        }
        match known.filter(|_| !is_other) {
            Some(known) if start == known.start => Judgement::Admit,
            Some(known) if start.number <= known.start.number => {
                Judgement::Refuse(PeerRefusal::Copy { known: known.start })
            }
            _ => Judgement::Remember(KnownPeer { storage: hello.storage, start }),
        }
    }

    fn differences(&self, standing: Standing, hello: &Hello) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut compare = |name: &str, own: &str, theirs: &str| {
            let short = |value: &str| value.chars().take(MAX_VALUE_CHARACTERS).collect::<String>();
            if own != theirs && differences.len() < MAX_DIFFERENCES {
                let (refusing, refused) = (short(own), short(theirs));
                differences.push(Difference { name: short(name), refusing, refused });
            }
        };
        compare("cluster", &self.cluster, &hello.cluster);
        let names: BTreeSet<&String> = self.settings.keys().chain(hello.settings.keys()).collect();
        for name in names {
            let value =
                |settings: &'_ BTreeMap<String, String>| settings.get(name).cloned().unwrap_or_default();
            compare(name, &value(&self.settings), &value(&hello.settings));
        }
        if let (Standing::New { .. }, Standing::New { .. }) = (standing, hello.standing) {
            compare("found_without", &list(&self.absent), &list(&hello.absent));
        }
        let (restored, theirs) = (restored_from(&self.facts), restored_from(&hello.facts));
        // A new node that holds no backup may join whatever was founded from one, as it holds nothing.
        let must_agree = match (standing, hello.standing) {
            (Standing::New { .. }, Standing::New { .. }) => true,
            (Standing::New { .. }, Standing::Founded { .. }) => !restored.is_empty(),
            (Standing::Founded { .. }, Standing::New { .. }) => !theirs.is_empty(),
            (Standing::Founded { .. }, Standing::Founded { .. }) => false,
        };
        if must_agree {
            compare(RESTORED_FROM, restored, theirs);
        }
        // Alone, so that it is told as what it is: settings of other versions may differ for that reason.
        match self.levels.difference(hello.levels) {
            Some(of_levels) => vec![of_levels],
            None => differences,
        }
    }
}

/// The backup from which a node was restored, empty if it was not.
fn restored_from(facts: &BTreeMap<String, String>) -> &str {
    facts.get(RESTORED_FROM).map_or("", String::as_str)
}

/// `1,2,3`
pub(crate) fn list(nodes: &BTreeSet<NodeId>) -> String {
    nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(",")
}
