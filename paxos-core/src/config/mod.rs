//! How a replica is set up: its settings, with every time-out and bound, and its place in the membership.

pub(crate) mod error;

pub use self::error::ConfigError;

use self::error::check;
use crate::id::NodeId;
use crate::membership::{Members, Membership};
use crate::mutant::{Mutant, mutated};
use crate::quorum::Quorums;

/// When phase 1 is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PhaseOne {
    /// Once, by a new leader, over all slots from the first unchosen one on. While the leader is stable each
    /// value takes phase 2 alone.
    #[default]
    OncePerLeader,
    /// Before every value, under a fresh ballot: two round trips instead of one. Exists to measure what the
    /// leader saves. A distinguished proposer is elected all the same, as progress needs one (*Paxos Made
    /// Simple*, section 2.4), but it gains nothing from it. One value is in flight at a time. Followers learn
    /// what is chosen by fetching it: a watermark vouches only for what was accepted under its own ballot.
    EveryValue,
}

/// When a leader announces to its peers that a value is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AnnounceChosen {
    /// With the next accept or heartbeat, which costs no message. At once only to a peer that has forwarded a
    /// command and waits for it to be chosen.
    #[default]
    Piggybacked,
    /// At once, by one more message to each peer unless an accept leaves in the same step. Peers apply a
    /// value half a round trip after the leader, however idle it is.
    AtOnce,
}

/// How the leader makes sure that it still leads before it lets a read go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReadMode {
    /// By one round of heartbeats to a quorum, shared by all reads that wait for it. Needs no clocks.
    #[default]
    QuorumRound,
    /// By a lease: for `lease_ticks` after it acknowledged a heartbeat a follower promises nobody else, so
    /// that the leader may answer alone. Relies on ticks passing at nearly the same speed everywhere.
    Lease {
        /// For how long after a heartbeat a follower promises no other node; at most the election timeout.
        lease_ticks: u32,
        /// By how much clocks may drift apart within `lease_ticks`; the leader stops that much early.
        drift_ticks: u32,
    },
}

/// How the protocol behaves: every setting has a default. A tick is the time that the driver lets pass
/// between two [`Input::Tick`](crate::Input::Tick).
///
/// Windows and limits bound memory; see each. All members of a cluster should have the same settings, except
/// where a field says otherwise.
///
/// ```
/// use paxos_core::ProtocolSettings;
///
/// let settings = ProtocolSettings::default().with(|settings| settings.window_slots = 64);
/// assert_eq!(settings.window_slots, 64);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ProtocolSettings {
    /// When phase 1 is run.
    pub phase_one: PhaseOne,
    /// How reads are made safe. Must be the same on all members.
    pub reads: ReadMode,
    /// When a leader announces what is chosen. May differ between members.
    pub announce_chosen: AnnounceChosen,
    /// A leader sends heartbeats this often.
    pub heartbeat_ticks: u32,
    /// A follower that has not heard from a leader for this long, plus a random part of up to as long again,
    /// asks the others whether they miss it, too. A leader that hears from no quorum for this long steps
    /// down.
    pub election_timeout_ticks: u32,
    /// A message that was not answered for this long is sent again.
    pub resend_ticks: u32,
    /// How many slots may be proposed and not yet chosen. An acceptor takes twice as many above its own
    /// watermark, so this must not differ by more than that between members.
    pub window_slots: u64,
    /// How many bytes of values may be proposed and not yet chosen; one value may exceed it.
    pub window_bytes: usize,
    /// A batch that is not full is proposed at once only while fewer commands than this are in flight; others
    /// wait and grow. So few clients never wait for each other, and many share their slots. No timer delays a
    /// command.
    pub eager_commands: usize,
    /// A batch is full at this many bytes; one command may exceed it.
    pub batch_bytes: usize,
    /// The longest command that is taken.
    pub command_bytes: usize,
    /// How many bytes of commands may wait at the leader to be proposed.
    pub queue_bytes: usize,
    /// How many reads may wait at one replica.
    pub waiting_reads: usize,
    /// How many bytes of values or snapshot one message carries in catch-up and phase 1; one value may exceed
    /// it.
    pub chunk_bytes: usize,
    /// How many bytes of a snapshot, or of values, a node that catches up asks for ahead: as much as the link
    /// carries in a round trip, to use all of it. At least one chunk is asked for. May differ between
    /// members.
    pub catch_up_window_bytes: usize,
    /// After a snapshot, how many bytes of the chosen log are kept in memory for peers that lag a little.
    pub retained_bytes: usize,
    /// How many bytes the log in memory may have before new commands are refused: a snapshot is overdue.
    /// While a peer catches up here, the log that it needs is kept until there is half of that.
    pub log_bytes: usize,
}

impl ProtocolSettings {
    /// These settings with a change.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for ProtocolSettings {
    fn default() -> Self {
        ProtocolSettings {
            phase_one: PhaseOne::default(),
            reads: ReadMode::default(),
            announce_chosen: AnnounceChosen::default(),
            heartbeat_ticks: 5,
            election_timeout_ticks: 50,
            resend_ticks: 10,
            window_slots: 256,
            window_bytes: 16 << 20,
            eager_commands: 32,
            batch_bytes: 256 << 10,
            command_bytes: 4 << 20,
            queue_bytes: 64 << 20,
            waiting_reads: 16 << 10,
            chunk_bytes: 256 << 10,
            catch_up_window_bytes: 8 << 20,
            retained_bytes: 16 << 20,
            log_bytes: 1 << 30,
        }
    }
}

/// The checked set-up of one replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    node: NodeId,
    membership: Membership,
    /// Those of the membership.
    quorums: Quorums,
    settings: ProtocolSettings,
}

impl Config {
    /// The set-up of `node` as one of the members.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] says what does not fit together.
    pub fn new(
        node: NodeId,
        membership: Membership,
        settings: ProtocolSettings,
    ) -> Result<Config, ConfigError> {
        check(membership.members().contains(&node), "the node itself is not among the members")?;
        Config::joining(node, membership, settings)
    }

    /// The set-up of `node` in a cluster that was founded with `founding`, with or without this node. It
    /// learns what is chosen, and so hears of all memberships that followed. It votes only from the slot on
    /// where one of them gives it a vote.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] says what does not fit together.
    pub fn joining(
        node: NodeId,
        founding: Membership,
        settings: ProtocolSettings,
    ) -> Result<Config, ConfigError> {
        let membership = founding;
        check(!membership.members().is_empty(), "a cluster has at least one member")?;
        check(settings.heartbeat_ticks > 0, "heartbeat_ticks must be at least 1")?;
        check(settings.resend_ticks > 0, "resend_ticks must be at least 1")?;
        check(
            settings.election_timeout_ticks / 2 >= settings.heartbeat_ticks,
            "election_timeout_ticks must be at least twice heartbeat_ticks",
        )?;
        if let ReadMode::Lease { lease_ticks, drift_ticks } = settings.reads {
            check(
                lease_ticks <= settings.election_timeout_ticks,
                "lease_ticks exceeds election_timeout_ticks",
            )?;
            check(drift_ticks < lease_ticks.saturating_sub(2), "drift_ticks leaves nothing of lease_ticks")?;
        }
        check((1..=1 << 20).contains(&settings.window_slots), "window_slots must be in 1..=1048576")?;
        check(settings.eager_commands > 0, "eager_commands must be at least 1")?;
        check(settings.waiting_reads > 0, "waiting_reads must be at least 1")?;
        check(settings.command_bytes < 1 << 30, "command_bytes must be less than 1 GiB")?;
        check(
            settings.queue_bytes >= settings.command_bytes,
            "queue_bytes must hold a command of command_bytes",
        )?;
        let quorums = membership.quorums();
        Ok(Config { node, membership, quorums, settings })
    }

    /// The node that this is the set-up of.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The configuration that is in force, as far as the node knows.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// All members, the node itself included, in ascending order.
    #[must_use]
    pub fn members(&self) -> &[NodeId] {
        self.membership.members()
    }

    /// All members but the node itself.
    pub fn peers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members().iter().copied().filter(|&member| member != self.node)
    }

    /// How many members make a quorum.
    #[must_use]
    pub fn quorums(&self) -> Quorums {
        self.quorums
    }

    /// Puts another membership in force.
    pub(crate) fn enter(&mut self, membership: Membership) {
        if !mutated(Mutant::OldQuorumsKept) {
            self.quorums = membership.quorums();
        }
        self.membership = membership;
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &ProtocolSettings {
        &self.settings
    }

    pub(crate) fn member_map(&self) -> &Members {
        self.membership.member_map()
    }

    /// The highest slot that an acceptor with this watermark takes an accept for: bounds the unchosen part of
    /// its log. Twice the window, as a follower learns what is chosen up to a window later than the leader.
    pub(crate) fn horizon_slots(&self) -> u64 {
        2 * self.settings.window_slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(ids: &[u64]) -> Membership {
        let ids: Vec<NodeId> = ids.iter().copied().map(NodeId).collect();
        Membership::new(&ids).expect("these members fit")
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let problem = |node, settings| {
            let config = Config::new(NodeId(node), members(&[1, 2, 3]), settings);
            config.expect_err("these settings do not fit").problem
        };
        assert!(problem(4, ProtocolSettings::default()).contains("not among"));
        let reads = ReadMode::Lease { lease_ticks: 51, drift_ticks: 1 };
        assert!(
            problem(1, ProtocolSettings { reads, ..ProtocolSettings::default() }).contains("lease_ticks")
        );
        for heartbeat_ticks in [26, 1 << 31, u32::MAX] {
            let settings = ProtocolSettings { heartbeat_ticks, ..ProtocolSettings::default() };
            assert!(problem(1, settings).contains("heartbeat_ticks"), "{heartbeat_ticks}");
        }
        for drift_ticks in [38, u32::MAX - 1, u32::MAX] {
            let reads = ReadMode::Lease { lease_ticks: 40, drift_ticks };
            let settings = ProtocolSettings { reads, ..ProtocolSettings::default() };
            assert!(problem(1, settings).contains("drift_ticks"), "{drift_ticks}");
        }
    }

    #[test]
    fn what_is_configured_can_be_read_back() {
        let settings = ProtocolSettings { window_slots: 7, ..ProtocolSettings::default() };
        let config =
            Config::new(NodeId(5), members(&[9, 5, 2]), settings.clone()).expect("these settings fit");
        assert_eq!((config.node(), config.members()), (NodeId(5), &[2, 5, 9].map(NodeId)[..]));
        assert_eq!(config.peers().collect::<Vec<_>>(), [2, 9].map(NodeId), "all but the node itself");
        assert_eq!((config.quorums(), config.settings()), (Quorums::majority(3), &settings));
        assert_eq!(config.horizon_slots(), 14);
    }

    #[test]
    fn an_error_is_shown_in_its_own_words() {
        let error = Config::new(NodeId(1), members(&[]), ProtocolSettings::default())
            .expect_err("a node must be a member");
        assert_eq!(error.to_string(), error.problem);
        assert!(!error.problem.is_empty());
    }
}
