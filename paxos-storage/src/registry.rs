//! What a storage keeps beside the log: the node's starts, its cluster, and the storages of its peers.

use std::collections::BTreeMap;
use std::fmt;

use paxos_core::{Membership, NodeId};

use crate::StorageId;

/// Tells one start of a node from another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Start {
    /// How often the node has been started on this storage; 0 before the first time.
    pub number: u64,
    /// A random number for each start. Two nodes started on copies of one storage have the same `number`, but
    /// different nonces.
    pub nonce: u64,
}

/// A random number that tells a cluster from any other, even from one of the same name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FoundingId(pub u128);

impl fmt::Display for FoundingId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

/// The cluster that a node belongs to since it has met its founding members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Founding {
    /// The cluster's id. `None` on a storage with data from before foundings were recorded, until the node
    /// has learned it from its peers.
    pub id: Option<FoundingId>,
    /// The membership that founded the cluster: it is in force from the first slot of the log on, up to the
    /// first membership in the log.
    ///
    /// A storage that was written when only the ids of the members were recorded gives a membership of
    /// voters without addresses and with majorities. A node that was configured with other quorums must then
    /// [`remember`](crate::Storage::remember) the right founding membership before it recovers, as the
    /// snapshots of that time get this one.
    pub membership: Membership,
}

/// What a node knows of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownPeer {
    /// The storage that the peer had when it was met first.
    pub storage: StorageId,
    /// The peer's latest start on that storage, as far as this node has heard.
    pub start: Start,
}

/// A random-looking number that tells what a storage was restored from apart from anything else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RestoreId(pub u128);

impl fmt::Display for RestoreId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

/// Where the contents of a storage come from, if its own cluster has not made all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A backup. All founders of the cluster have the same one.
    Backup(RestoreId),
    /// A cluster that has lost its majority, and whose remaining nodes go on under another id.
    Rescue {
        /// The id of that cluster.
        of: FoundingId,
    },
}

/// What a node remembers of itself and of its peers.
///
/// It can be built and taken apart by its fields on purpose: a backend must store all of them, so one that
/// does not know a new field must not compile.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Registry {
    /// The node's own latest start.
    pub start: Start,
    /// Peers have reported that this storage is an older copy of the one they know. A node must not start on
    /// it any more.
    pub is_superseded: bool,
    /// The cluster that the node belongs to; `None` until it has met one.
    pub founding: Option<Founding>,
    /// Where the contents come from, if not from the cluster itself. A storage with an origin and without a
    /// founding waits for its cluster to be founded, although it holds data.
    pub origin: Option<Origin>,
    /// The peers that the node has met; at most [`MAX_PEERS`](Registry::MAX_PEERS).
    pub peers: BTreeMap<NodeId, KnownPeer>,
}

impl Registry {
    /// How many peers a storage remembers at most.
    pub const MAX_PEERS: usize = 80;

    /// Checks the bound on peers; a membership is bounded by itself. Backends call this first in
    /// [`Storage::remember`](crate::Storage::remember).
    ///
    /// # Panics
    ///
    /// If there are more peers than the bound allows.
    pub fn assert_bounded(&self) {
        assert!(self.peers.len() <= Registry::MAX_PEERS, "there is room for all peers to be remembered");
    }
}
