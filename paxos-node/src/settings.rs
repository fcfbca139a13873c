//! The settings of a node, apart from its transport, storage and state machine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use paxos_core::session::SessionLimits;
use paxos_core::{ConfigError, Epoch, Member, Membership, NodeId, ProtocolSettings, Quorums};

use crate::clock::Clock;

/// The settings of one node. Everything but the node and its members has a default.
///
/// ```
/// use paxos_core::NodeId;
/// use paxos_node::{NodeSettings, WriterMode};
///
/// let members = vec![NodeId(1), NodeId(2), NodeId(3)];
/// let settings =
///     NodeSettings::new(NodeId(1), members).with(|settings| settings.writer = WriterMode::Inline);
/// # assert_eq!(settings.writer, WriterMode::Inline);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeSettings {
    /// This node.
    pub node: NodeId,
    /// The nodes that found the cluster, this one included. Once it is founded the log says who is a member,
    /// and these only have to be the founders or the present members.
    pub members: Vec<NodeId>,
    /// The founders' addresses, in the form that the transport understands, if it needs any. They become part
    /// of the membership, so that nodes which join later reach the founders.
    pub addresses: BTreeMap<NodeId, String>,
    /// This node joins a cluster that was founded without it. `members` are the founders of that cluster, or
    /// empty if the storage knows them from an earlier start. It learns what is chosen, and votes from when
    /// it was added to the members and promoted.
    pub joins: bool,
    /// The members of the cluster that this node joins, as far as it was told, if they are not the founders:
    /// more than half of them have to let it in. Empty for the founders.
    pub present_members: Vec<NodeId>,
    /// The number of this configuration; the same on all nodes.
    pub epoch: Epoch,
    /// How many members make a quorum; `None` for majorities. The same on all nodes.
    pub quorums: Option<Quorums>,
    /// The cluster's name; `None` takes that of the storage. Storage and transport must belong to this
    /// cluster.
    pub cluster: Option<String>,
    /// Further settings that must be the same on all nodes, such as those of the state machine, by name:
    /// nodes that differ refuse each other and log the difference.
    pub equal: BTreeMap<String, String>,
    /// What peers are told of this node, by name. Not compared.
    pub facts: BTreeMap<String, String>,
    /// Members that the founding of the cluster does not wait for; they join later. Only for the first start
    /// of its nodes, and the same on all of them.
    pub found_without: BTreeSet<NodeId>,
    /// The settings of the protocol; its ticks last [`tick`](NodeSettings::tick).
    pub protocol: ProtocolSettings,
    /// How long a tick lasts; the same on all nodes. A minute at most.
    pub tick: Duration,
    /// The clocks from which the log gets its time while this node leads.
    pub clock: Clock,
    /// After this time without a result a command or read is given up, and its client gets an error. Longer
    /// than zero, and [`MAX_TIME`](NodeSettings::MAX_TIME) at most.
    pub request_timeout: Duration,
    /// A command that was not applied within this time is sent again; from then on at doubling intervals.
    /// Longer than zero, and [`MAX_TIME`](NodeSettings::MAX_TIME) at most.
    pub retry_interval: Duration,
    /// How many commands, and how many groups of reads, may wait on this node; more are refused. Commands
    /// that were answered while an older one waits count too, since the session has to remember their
    /// replies: so this is [`SessionLimits::unanswered`] at most.
    pub waiting_requests: usize,
    /// A snapshot is taken when the log has grown by this many bytes, or by half the size of the last
    /// snapshot if that is more: so writing snapshots costs no more than twice the writing of the log.
    pub snapshot_after_bytes: u64,
    /// How many bytes of memory the process may take; `None` for no limit. When state and log take half of
    /// it, the node refuses commands that need more
    /// ([`StateMachine::needs_memory`](crate::StateMachine::needs_memory)). All nodes have to keep what any
    /// of them takes on, so each node goes by the smallest limit that it has heard of.
    pub memory_limit_bytes: Option<u64>,
    /// Bounds of the replicated sessions; the same on all nodes.
    pub sessions: SessionLimits,
    /// Which thread calls the storage.
    pub writer: WriterMode,
    /// Which thread calls the state machine.
    pub applying: ApplyMode,
    /// After a turn with work the node polls for more for this long before it sleeps: waking up may take as
    /// long as half a sync of a fast disk. While a write is on its way to the disk it polls four times as
    /// long. It only takes processor time that nobody else wants, since it yields to everything that can run.
    /// With zero it sleeps at once, as it always does while slots with many commands go to its disk. A second
    /// at most.
    pub busy_poll: Duration,
    /// For tests: an error is logged whenever one turn of the driver takes longer than this, or other tasks
    /// of its thread keep it from its turn for longer. On Linux, time in which other threads or other
    /// virtual machines had the processor does not count, as long as the whole node runs on one thread.
    pub turn_limit: Option<Duration>,
}

impl NodeSettings {
    /// The highest [`ProtocolSettings::command_bytes`] that a node accepts: every storage must be able to
    /// hold a command.
    pub const MAX_COMMAND_BYTES: usize = paxos_storage::MAX_VALUE_BYTES - (64 << 10);

    /// The longest [`request_timeout`](Self::request_timeout) and [`retry_interval`](Self::retry_interval).
    pub const MAX_TIME: Duration = Duration::from_secs(24 * 60 * 60);

    /// How many entries [`equal`](Self::equal) and [`facts`](Self::facts) may have each.
    pub const MAX_PAIRS: usize = 24;

    /// How many bytes each name and value in them may have.
    pub const MAX_PAIR_BYTES: usize = 256;

    /// How many bytes the log may grow until the next snapshot, however large the last one was: an eighth of
    /// the memory limit.
    pub(crate) fn max_log_bytes(&self) -> u64 {
        self.memory_limit_bytes.map_or(u64::MAX, |limit| limit / 8)
    }

    /// The members, their quorums and the epoch.
    pub(crate) fn membership(&self) -> Result<Membership, ConfigError> {
        let address = |node: &NodeId| self.addresses.get(node).cloned().unwrap_or_default();
        let members = self.members.iter().map(|node| Member::voter(*node, address(node))).collect();
        let membership = Membership::of(members)?.in_epoch(self.epoch);
        match self.quorums {
            None => Ok(membership),
            Some(quorums) => membership.with_quorums(quorums),
        }
    }

    /// The settings of `node` among `members`, with defaults for all else.
    #[must_use]
    pub fn new(node: NodeId, members: Vec<NodeId>) -> NodeSettings {
        NodeSettings {
            node,
            members,
            addresses: BTreeMap::new(),
            joins: false,
            present_members: Vec::new(),
            epoch: Epoch(0),
            quorums: None,
            cluster: None,
            equal: BTreeMap::new(),
            facts: BTreeMap::new(),
            found_without: BTreeSet::new(),
            protocol: ProtocolSettings::default(),
            tick: Duration::from_millis(10),
            clock: Clock::system(),
            request_timeout: Duration::from_secs(5),
            retry_interval: Duration::from_secs(1),
            waiting_requests: 8 << 10,
            snapshot_after_bytes: 64 << 20,
            memory_limit_bytes: None,
            sessions: SessionLimits::default(),
            writer: WriterMode::Thread,
            applying: ApplyMode::Thread,
            busy_poll: Duration::from_micros(100),
            turn_limit: None,
        }
    }

    /// The settings of `node`, which joins a cluster that was founded with `founding`, with defaults for all
    /// else. See [`joins`](Self::joins).
    #[must_use]
    pub fn joining(node: NodeId, founding: &Membership) -> NodeSettings {
        let addresses = founding.details().iter().map(|member| (member.id, member.address.clone()));
        let is_majority = founding.quorums() == Quorums::majority(founding.voters().count());
        NodeSettings {
            addresses: addresses.collect(),
            joins: true,
            epoch: founding.epoch(),
            quorums: (!is_majority).then_some(founding.quorums()),
            ..NodeSettings::new(node, founding.members().to_vec())
        }
    }

    /// These settings with a change.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Which thread calls the storage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum WriterMode {
    /// A thread of its own: writes that queue during one sync are merged into the next.
    #[default]
    Thread,
    /// The driver's thread: for a storage that never blocks, such as one in memory.
    Inline,
}

/// Which thread calls the state machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum ApplyMode {
    /// A thread of its own: however long [`apply`](crate::StateMachine::apply) takes, the node goes on.
    #[default]
    Thread,
    /// The driver's thread while nobody reads, which spares two switches between threads. Only for a state
    /// machine whose `apply` and `digest` take well under a millisecond for every command that
    /// [`takes_long`](crate::StateMachine::takes_long) does not name: the node does nothing else meanwhile,
    /// and a call that outlasts the election timeout costs it its leadership. What is left of a slot after
    /// two milliseconds goes to the thread.
    Inline,
}
