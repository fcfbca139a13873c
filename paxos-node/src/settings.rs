//! How a node is set up, apart from its transport, storage and state machine.

use std::time::Duration;

use paxos_core::session::SessionLimits;
use paxos_core::{NodeId, Options};

/// The settings of one node. Everything but the node and its members has a default.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// This node.
    pub node: NodeId,
    /// All nodes of the cluster, this one included.
    pub members: Vec<NodeId>,
    /// The settings of the protocol; its ticks last [`tick`](NodeSettings::tick).
    pub protocol: Options,
    /// How long a tick lasts; the same on all nodes.
    pub tick: Duration,
    /// When a command or read is given up and its client told so.
    pub request_timeout: Duration,
    /// A command that was not applied for this long is sent again; from then on at doubling intervals.
    pub retry_interval: Duration,
    /// How many commands and groups of reads may wait on this node; more are refused. Commands that were answered
    /// while an older one waits count, as sessions remember their replies; so this is at most
    /// [`SessionLimits::unanswered`].
    pub waiting_requests: usize,
    /// A snapshot is taken when the log has grown by this many bytes, or by the size of the last snapshot if
    /// that is more, so that writing snapshots costs no more than writing the log.
    pub snapshot_after_bytes: u64,
    /// Bounds of the replicated sessions; the same on all nodes.
    pub sessions: SessionLimits,
    /// Where the storage's work is done.
    pub writer: WriterMode,
    /// A node that has just worked looks for more for this long before it sleeps: waking up may take as long as
    /// half a sync of a fast disk. It costs processor time that nothing else wants, as the node gives way to all
    /// that can run. Zero has it sleep at once, as it does anyway while slots with many commands go to its disk.
    pub busy_poll: Duration,
}

impl NodeSettings {
    /// The highest [`Options::command_bytes`] that a node takes: every storage must be able to hold a command.
    pub const MAX_COMMAND_BYTES: usize = paxos_storage::MAX_VALUE_BYTES - (64 << 10);

    /// `node` among `members`, with defaults for all else.
    #[must_use]
    pub fn new(node: NodeId, members: Vec<NodeId>) -> NodeSettings {
        NodeSettings {
            node,
            members,
            protocol: Options::default(),
            tick: Duration::from_millis(10),
            request_timeout: Duration::from_secs(5),
            retry_interval: Duration::from_secs(1),
            waiting_requests: 8 << 10,
            snapshot_after_bytes: 64 << 20,
            sessions: SessionLimits::default(),
            writer: WriterMode::Thread,
            busy_poll: Duration::from_micros(100),
        }
    }
}

/// Where the storage's work is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WriterMode {
    /// On a thread of its own: what queues during one sync is written with the next.
    #[default]
    Thread,
    /// On the driver's thread, for a storage that never blocks, such as one in memory.
    Inline,
}
