//! Why a node could not start or has stopped.

use paxos_core::{ConfigError, Epoch, NodeId, RecoverError, Slot};

/// Why a node could not start or has stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The protocol's settings do not fit together.
    #[error("settings: {0}")]
    Config(#[from] ConfigError),
    /// The node's own settings do not fit together.
    #[error("settings: {0}")]
    Settings(&'static str),
    /// The storage was made for another node.
    #[error("the storage is that of node {storage_node}, not of node {node}")]
    StorageOfOtherNode {
        /// The node in the settings.
        node: NodeId,
        /// The node that the storage was made for.
        storage_node: NodeId,
    },
    /// The transport was bound for another node.
    #[error("the transport is that of node {transport_node}, not of node {node}")]
    TransportOfOtherNode {
        /// The node in the settings.
        node: NodeId,
        /// The node that the transport speaks for.
        transport_node: NodeId,
    },
    /// A storage or a transport belongs to another cluster than the rest of the node.
    #[error("the {part} belongs to cluster {other:?}, not to cluster {cluster:?}")]
    OtherCluster {
        /// Which of them.
        part: &'static str,
        /// The cluster that the node belongs to.
        cluster: String,
        /// The cluster that the part belongs to.
        other: String,
    },
    /// A message within the limits of the settings would not fit into a frame of the transport.
    #[error("the transport takes frames of {max_frame_bytes} bytes, but a message may have {needed_bytes}")]
    FramesTooSmall {
        /// The longest frame of the transport.
        max_frame_bytes: usize,
        /// The longest message: see
        /// [`NodeSettings::max_message_bytes`](crate::NodeSettings::max_message_bytes).
        needed_bytes: usize,
    },
    /// The storage can't be used, or has failed. A panic in it counts as a failure.
    #[error(transparent)]
    Storage(#[from] paxos_storage::Error),
    /// The storage holds what no correct node can have written, or has lost what nobody can tell it.
    #[error("the log can't be used: {0}")]
    Recover(#[from] RecoverError),
    /// A snapshot can't be read back.
    #[error("the snapshot of slot {slot} can't be restored: {error}")]
    Restore {
        /// The snapshot's slot.
        slot: Slot,
        /// What went wrong.
        error: std::io::Error,
    },
    /// The log or a snapshot holds what only a newer version of the program knows. Nothing of it was applied,
    /// and nothing behind it.
    #[error(
        "slot {slot} holds {content}, which this version of the program does not know, and which must not be skipped: \
         start a newer version of it on this data"
    )]
    NeedsNewerProgram {
        /// The slot, or that of the snapshot.
        slot: Slot,
        /// What is not known.
        content: String,
    },
    /// The state machine has panicked, most likely at a command of this slot. The log is intact; a node that
    /// is started again applies the slot again.
    #[error(
        "the state machine panicked at slot {slot}: {message}; the log is intact, and the slot is applied again when \
         the node is started again, so fix the state machine first"
    )]
    StateMachinePanicked {
        /// The slot that was being applied; or the last one that was, if another call panicked.
        slot: Slot,
        /// The message of the panic.
        message: String,
    },
    /// The transport has closed by itself, so no more messages can arrive.
    #[error("the transport has closed: this node can't hear its peers any more")]
    TransportClosed,
    /// The node was stopped during a call of its storage, and the disk neither failed nor returned in time.
    #[error(
        "stopped without waiting any longer for the disk, which neither fails nor returns; what was acknowledged is in \
         stable storage"
    )]
    StorageSilent,
    /// The runtime was shut down, and the node with it.
    #[error("the runtime that the node was started on has ended")]
    RuntimeEnded,
    /// The node had failed before, and its error was returned already.
    #[error("{cause}")]
    AlreadyFailed {
        /// The message of that error.
        cause: String,
    },
    /// The members in the settings are not those that the cluster was founded with.
    #[error(
        "the cluster was founded with the members {founded} (epoch {founded_epoch}), and the settings name {given} (epoch \
         {given_epoch}): who is a member can't be changed by settings"
    )]
    OtherMembers {
        /// The members of the cluster.
        founded: String,
        /// Their epoch.
        founded_epoch: Epoch,
        /// The members in the settings.
        given: String,
        /// Their epoch.
        given_epoch: Epoch,
    },
    /// The members were changed while the cluster ran. So its log says who they are, whoever has founded it.
    #[error(
        "the members were changed while the cluster ran, and its log says who they are ({members}): it can't be given \
         others while it is stopped, only by its leader while a quorum of them runs"
    )]
    MembersInLog {
        /// The newest members in the log and their epoch, learners in brackets.
        members: String,
    },
    /// The node was removed from its cluster, and a quorum of the members knows.
    #[error("node {node} was removed from the cluster in epoch {epoch}: its id is never used again")]
    Removed {
        /// This node.
        node: NodeId,
        /// The epoch that began without it, or a later one.
        epoch: Epoch,
    },
    /// The storage is a copy of another one that was used later, or is in use: it has forgotten something.
    #[error(
        "the storage of node {node} is an older copy of the one that its peers know it by, or a second one: it may have \
         forgotten promises and is of no more use; start the node on its newest storage, or replace it by one with a \
         new id"
    )]
    OldCopy {
        /// This node.
        node: NodeId,
        /// A peer that knows a newer start on the storage; `None` if that was found out before.
        by: Option<NodeId>,
    },
    /// A peer knows this node by another storage: with this one it may have forgotten what it has promised.
    #[error(
        "node {by} knows node {node} by another disk: a node that has lost its disk may have forgotten promises and must \
         not come back under its old id; replace it by a node with a new id"
    )]
    OtherDisk {
        /// This node.
        node: NodeId,
        /// The peer.
        by: NodeId,
    },
    /// A restore from a backup has not come to its end on this storage.
    #[error(
        "the restore from a backup has not come to its end on this storage: empty its directory and restore it again"
    )]
    HalfRestored,
    /// A thread could not be started.
    #[error("no thread for the node: {0}")]
    Thread(std::io::Error),
    /// A bug: an assertion of the node has failed.
    #[error("the node has stopped because of a bug, please report it: {0}")]
    Panicked(String),
}
