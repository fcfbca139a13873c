//! Whose storage it is.

use paxos_core::NodeId;

/// What a storage belongs to: a node of a cluster, and which of the storages that node ever had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    cluster: String,
    node: NodeId,
    storage: u128,
}

impl Identity {
    /// The identity of a new storage for `node` of `cluster`; no other storage has the same.
    #[must_use]
    pub fn new(cluster: &str, node: NodeId) -> Identity {
        Identity { cluster: cluster.to_owned(), node, storage: fastrand::u128(..) }
    }

    /// An identity as it was when it was made.
    #[must_use]
    pub fn existing(cluster: String, node: NodeId, storage: u128) -> Identity {
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

    /// A number that this storage was given when it was made.
    #[must_use]
    pub fn storage(&self) -> u128 {
        self.storage
    }

    /// A number that two storages have in common only by the rarest chance: 64-bit FNV-1a of all three parts.
    #[cfg(feature = "file")]
    pub(crate) fn fingerprint(&self) -> u64 {
        let parts = [self.cluster.as_bytes(), &self.node.0.to_le_bytes(), &self.storage.to_le_bytes()];
        parts.into_iter().flatten().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}
