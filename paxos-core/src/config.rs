//! How a replica is set up: who the members are, how long to wait, and every bound.

use crate::id::{Epoch, NodeId};
use crate::quorum::{MAX_MEMBERS, Members, Quorums};

/// When phase 1 is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PhaseOne {
    /// Once, by a new leader, over all slots from the first unchosen one on. While the leader is stable each
    /// value takes phase 2 alone.
    #[default]
    OncePerLeader,
    /// Before every value, under a fresh ballot: two round trips instead of one. Exists to measure what the
    /// leader saves. A distinguished proposer is elected all the same, as progress needs one
    /// (*Paxos Made Simple*, section 2.4), but it gains nothing from it. One value is in flight at a time.
    /// Followers learn what is chosen by fetching it: a watermark vouches only for what was accepted under its own
    /// ballot.
    EveryValue,
}

/// When a leader tells its peers that a value is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Watermark {
    /// With the next accept or heartbeat, which costs no message; at once only to a peer that waits to hear of a
    /// command it has forwarded.
    #[default]
    Piggybacked,
    /// At once, by one more message to each peer unless an accept leaves in the same step. Peers apply a value half
    /// a round trip after the leader, however idle it is.
    AtOnce,
}

/// How the leader makes sure that it still leads before it lets a read go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReadMode {
    /// By one round of heartbeats to a quorum, shared by all reads that wait for it. Needs no clocks.
    #[default]
    QuorumRound,
    /// By a lease: for `lease_ticks` after it acknowledged a heartbeat a follower promises nobody else, so that
    /// the leader may answer alone. Relies on ticks passing at nearly the same speed everywhere.
    Lease {
        /// How long a follower keeps out of other elections; at most the election timeout.
        lease_ticks: u32,
        /// By how much clocks may drift apart within `lease_ticks`; the leader stops that much early.
        drift_ticks: u32,
    },
}

/// Every setting that has a default. A tick is whatever time the driver lets pass between two
/// [`Input::Tick`](crate::Input::Tick).
///
/// Windows and limits bound memory; see each. All members of a cluster should have the same options, except
/// where a field says otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The configuration that this membership is; messages of any other are ignored.
    pub epoch: Epoch,
    /// Quorum sizes; `None` for majorities.
    pub quorums: Option<Quorums>,
    /// When phase 1 is run.
    pub phase_one: PhaseOne,
    /// How reads are made safe. Must be the same on all members.
    pub reads: ReadMode,
    /// When a leader tells what is chosen. May differ between members.
    pub watermark: Watermark,
    /// A leader sends heartbeats this often.
    pub heartbeat_ticks: u32,
    /// A follower that has not heard from a leader for this long, plus a random part of up to as long again,
    /// looks whether others miss it too. A leader that hears from no quorum for this long steps down.
    pub election_timeout_ticks: u32,
    /// What was not answered for this long is sent again.
    pub resend_ticks: u32,
    /// How many slots may be proposed and not yet chosen. An acceptor takes twice as many above its own
    /// watermark, so this must not differ by more than that between members.
    pub window_slots: u64,
    /// How many bytes of values may be proposed and not yet chosen; one value may exceed it.
    pub window_bytes: usize,
    /// A batch that is not full is proposed at once only while fewer commands than this are in flight; others wait
    /// and grow. So few clients never wait for each other, and many share their slots. No timer delays a command.
    pub eager_commands: usize,
    /// A batch is full at this many bytes; one command may exceed it.
    pub batch_bytes: usize,
    /// The longest command that is taken.
    pub command_bytes: usize,
    /// How many bytes of commands may wait at the leader to be proposed.
    pub queue_bytes: usize,
    /// How many reads may wait at one replica.
    pub waiting_reads: usize,
    /// How many bytes of values or snapshot one message carries in catch-up and phase 1; one value may exceed it.
    pub chunk_bytes: usize,
    /// After a snapshot, how many bytes of the chosen log are kept in memory for peers that lag a little.
    pub retained_bytes: usize,
    /// How many bytes the log in memory may have before new commands are refused: a snapshot is overdue.
    pub log_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            epoch: Epoch(0),
            quorums: None,
            phase_one: PhaseOne::default(),
            reads: ReadMode::default(),
            watermark: Watermark::default(),
            heartbeat_ticks: 5,
            election_timeout_ticks: 50,
            resend_ticks: 10,
            window_slots: 256,
            window_bytes: 16 << 20,
            eager_commands: 16,
            batch_bytes: 256 << 10,
            command_bytes: 4 << 20,
            queue_bytes: 64 << 20,
            waiting_reads: 16 << 10,
            chunk_bytes: 256 << 10,
            retained_bytes: 16 << 20,
            log_bytes: 1 << 30,
        }
    }
}

/// The checked set-up of one replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    node: NodeId,
    members: Members,
    quorums: Quorums,
    options: Options,
}

impl Config {
    /// The set-up of `node` as one of `members`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names what does not fit together.
    pub fn new(node: NodeId, members: &[NodeId], options: Options) -> Result<Config, ConfigError> {
        let mut distinct = members.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let count = distinct.len();
        check(count == members.len(), "a node is named twice among the members")?;
        check(!members.contains(&NodeId(0)), "0 is not a node id; ids start at 1")?;
        check(members.contains(&node), "the node itself is not among the members")?;
        check(count <= MAX_MEMBERS, "there are more than 64 members")?;
        check(options.heartbeat_ticks > 0, "heartbeat_ticks must be at least 1")?;
        check(options.resend_ticks > 0, "resend_ticks must be at least 1")?;
        check(
            options.election_timeout_ticks >= 2 * options.heartbeat_ticks,
            "election_timeout_ticks must be at least twice heartbeat_ticks",
        )?;
        if let ReadMode::Lease { lease_ticks, drift_ticks } = options.reads {
            check(
                lease_ticks <= options.election_timeout_ticks,
                "lease_ticks exceeds election_timeout_ticks",
            )?;
            check(drift_ticks + 2 < lease_ticks, "drift_ticks leaves nothing of lease_ticks")?;
        }
        check((1..=1 << 20).contains(&options.window_slots), "window_slots must be in 1..=1048576")?;
        check(options.eager_commands > 0, "eager_commands must be at least 1")?;
        check(options.waiting_reads > 0, "waiting_reads must be at least 1")?;
        check(options.command_bytes < 1 << 30, "command_bytes must be less than 1 GiB")?;
        check(
            options.queue_bytes >= options.command_bytes,
            "queue_bytes must hold a command of command_bytes",
        )?;
        let quorums = options.quorums.unwrap_or(Quorums::majority(count));
        check(
            Quorums::flexible(count, quorums.prepare(), quorums.accept()).is_some(),
            "the quorums are not for this number of members",
        )?;
        Ok(Config { node, members: Members::new(distinct), quorums, options })
    }

    /// The node that this is the set-up of.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// All members, the node itself included, in ascending order.
    #[must_use]
    pub fn members(&self) -> &[NodeId] {
        self.members.ids()
    }

    /// All members but the node itself.
    pub fn peers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.ids().iter().copied().filter(|&member| member != self.node)
    }

    /// How many members make a quorum.
    #[must_use]
    pub fn quorums(&self) -> Quorums {
        self.quorums
    }

    /// The settings.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn member_map(&self) -> &Members {
        &self.members
    }

    /// The highest slot that an acceptor with this watermark takes an accept for: bounds the unchosen part of
    /// its log. Twice the window, as a follower learns what is chosen up to a window later than the leader.
    pub(crate) fn horizon_slots(&self) -> u64 {
        2 * self.options.window_slots
    }
}

fn check(fits: bool, problem: &'static str) -> Result<(), ConfigError> {
    if fits { Ok(()) } else { Err(ConfigError { problem }) }
}

/// Settings that do not fit together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ConfigError {
    /// What is wrong, in words for whoever set it.
    pub problem: &'static str,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.problem)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(ids: &[u64]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let problem = |node, ids: &[u64], options| {
            Config::new(NodeId(node), &nodes(ids), options).expect_err("these settings do not fit").problem
        };
        assert!(problem(4, &[1, 2, 3], Options::default()).contains("not among"));
        assert!(problem(1, &[1, 2, 2], Options::default()).contains("twice"));
        assert!(problem(1, &[0, 1], Options::default()).contains("ids start at 1"));
        let quorums = Quorums::flexible(5, 4, 2);
        assert!(problem(1, &[1, 2, 3], Options { quorums, ..Options::default() }).contains("quorums"));
        let reads = ReadMode::Lease { lease_ticks: 51, drift_ticks: 1 };
        assert!(problem(1, &[1, 2, 3], Options { reads, ..Options::default() }).contains("lease_ticks"));
    }

    #[test]
    fn what_is_configured_can_be_read_back() {
        let options = Options { window_slots: 7, ..Options::default() };
        let config = Config::new(NodeId(5), &nodes(&[9, 5, 2]), options.clone()).expect("these settings fit");
        assert_eq!((config.node(), config.members()), (NodeId(5), &nodes(&[2, 5, 9])[..]));
        assert_eq!(config.peers().collect::<Vec<_>>(), nodes(&[2, 9]), "all but the node itself");
        assert_eq!((config.quorums(), config.options()), (Quorums::majority(3), &options));
        assert_eq!(config.horizon_slots(), 14);
    }

    #[test]
    fn an_error_is_shown_in_its_own_words() {
        let error = Config::new(NodeId(1), &[], Options::default()).expect_err("a node must be a member");
        assert_eq!(error.to_string(), error.problem);
        assert!(!error.problem.is_empty());
    }
}
