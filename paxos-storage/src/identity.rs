//! Which node of which cluster a storage belongs to.

use std::fmt;

use paxos_core::NodeId;

/// A random number that a storage gets when it is made, so that peers recognise a wiped disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StorageId(pub u128);

impl fmt::Display for StorageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

/// The cluster and node that a storage belongs to, and the id that tells it from other storages of that node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    cluster: String,
    node: NodeId,
    storage: StorageId,
}

impl Identity {
    /// The identity of a new storage for `node` of `cluster`, with a random [`StorageId`].
    #[must_use]
    pub fn new(cluster: &str, node: NodeId) -> Identity {
        Identity { cluster: cluster.to_owned(), node, storage: StorageId(fastrand::u128(..)) }
    }

    /// The identity of an existing storage, as a backend has read it back.
    #[must_use]
    pub fn existing(cluster: String, node: NodeId, storage: StorageId) -> Identity {
        Identity { cluster, node, storage }
    }

    /// The cluster's name.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The node that the storage belongs to.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The storage's own id.
    #[must_use]
    pub fn storage(&self) -> StorageId {
        self.storage
    }

    /// A 64-bit FNV-1a hash of all three parts. Each frame and segment carries it, so that recovery
    /// recognises files of other storages.
    #[cfg(feature = "file")]
    pub(crate) fn fingerprint(&self) -> u64 {
        let parts = [self.cluster.as_bytes(), &self.node.0.to_le_bytes(), &self.storage.0.to_le_bytes()];
        parts.into_iter().flatten().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}
