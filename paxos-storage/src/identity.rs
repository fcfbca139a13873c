//! Whose storage it is.

use std::fmt;

use paxos_core::NodeId;

/// A number that a storage is given when it is made, and that no other storage has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StorageId(pub u128);

impl fmt::Display for StorageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

/// What a storage belongs to: a node of a cluster, and which of the storages that node ever had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    cluster: String,
    node: NodeId,
    storage: StorageId,
}

impl Identity {
    /// The identity of a new storage for `node` of `cluster`; no other storage has the same.
    #[must_use]
    pub fn new(cluster: &str, node: NodeId) -> Identity {
        Identity { cluster: cluster.to_owned(), node, storage: StorageId(fastrand::u128(..)) }
    }

    /// An identity as it was when it was made.
    #[must_use]
    pub fn existing(cluster: String, node: NodeId, storage: StorageId) -> Identity {
        Identity { cluster, node, storage }
    }

    /// The cluster's name.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Which of all storages it is.
    #[must_use]
    pub fn storage(&self) -> StorageId {
        self.storage
    }

    /// A number that two storages have in common only by the rarest chance: 64-bit FNV-1a of all three parts.
    #[cfg(feature = "file")]
    pub(crate) fn fingerprint(&self) -> u64 {
        let parts = [self.cluster.as_bytes(), &self.node.0.to_le_bytes(), &self.storage.0.to_le_bytes()];
        parts.into_iter().flatten().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}
