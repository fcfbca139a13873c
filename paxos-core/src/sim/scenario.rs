//! The scenario of a seed: every choice that makes one run different from another.

use std::fmt;

use crate::random::Random;
use crate::session::SessionLimits;
use crate::{AnnounceChosen, PhaseOne, ProtocolSettings, Quorums, ReadMode};

/// How many units of time a tick takes on a clock that runs right.
pub const TICK_UNITS: u64 = 100;

/// A kind of fault that strikes nodes and links while there is chaos.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// A node loses its memory and what its disk had not synced, and comes back later.
    Crash,
    /// All nodes crash at once.
    CrashAll,
    /// The leader hears no other node and no node hears it, and its clock is the slowest of all.
    LostLeader,
    /// Messages reach the leader very late, and its own may not arrive at all.
    LateLeader,
    /// The leader and another node do not hear each other, and the nodes that hear both crash and are back at
    /// once.
    Middlemen,
    /// The nodes fall into two groups that do not hear each other.
    Partition,
    /// Two nodes do not hear each other, though others hear both.
    LinkCut,
    /// One link works in one direction only.
    OneWayCut,
    /// Two groups hear each other only over one node that is in both.
    Bridge,
    /// A link goes down and up again all the time.
    Flapping,
    /// A node is paused for a while, and then gets all its ticks at once.
    Pause,
    /// A disk takes very long for a sync, as when it is full.
    StuckDisk,
    /// A sync fails: the node stops, as it must, and comes back later.
    FailingDisk,
    /// A disk is lost with all that it held. The node never comes back: it must not under its old id.
    LostDisk,
    /// A disk reports syncs that never happened. As this breaks an assumption of Paxos, the node does not
    /// come back after its next crash.
    LyingDisk,
    /// Something on a disk changes by itself, and some acceptances are lost; see
    /// [`Disk::decay`](super::Disk::decay).
    RottenDisk,
    /// A clock changes its speed.
    ClockSpeed,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Fault; 17] = [
        Fault::Crash,
        Fault::CrashAll,
        Fault::LostLeader,
        Fault::LateLeader,
        Fault::Middlemen,
        Fault::Partition,
        Fault::LinkCut,
        Fault::OneWayCut,
        Fault::Bridge,
        Fault::Flapping,
        Fault::Pause,
        Fault::StuckDisk,
        Fault::FailingDisk,
        Fault::LostDisk,
        Fault::LyingDisk,
        Fault::RottenDisk,
        Fault::ClockSpeed,
    ];
}

/// What may happen to a message: rates in thousandths, and delays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Weather {
    /// It is lost.
    pub loss: u64,
    /// It comes twice.
    pub doubling: u64,
    /// It is delayed by the time of a few elections.
    pub long_delay: u64,
    /// An old message is delivered once more.
    pub ancient: u64,
    /// The shortest delay, in units of time.
    pub latency_units: u64,
    /// The greatest random delay on top of that: it lets messages overtake each other.
    pub jitter_units: u64,
}

/// Everything that a seed draws. Print it to see what a run was like; change it to shrink a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is drawn on its own")]
pub struct Scenario {
    /// The seed. What the scenario leaves open is drawn from it, too: each concern from its own stream of
    /// random numbers.
    pub seed: u64,
    /// How many members there are at first.
    pub nodes: usize,
    /// Whether their ids are far apart, and not 1, 2, 3.
    pub odd_ids: bool,
    /// The quorums; `None` for majorities.
    pub quorums: Option<Quorums>,
    /// The protocol's settings, the same on all members.
    pub settings: ProtocolSettings,
    /// How many clients there are, each with one operation at a time.
    pub clients: usize,
    /// How long a client waits between operations at most, in units.
    pub think_units: u64,
    /// How many of a thousand operations are reads.
    pub reads: u64,
    /// How long a client waits before it asks another node, in ticks; twice as long each time.
    pub retry_ticks: u64,
    /// Bounds of the sessions.
    pub sessions: SessionLimits,
    /// After how many slots a snapshot is taken; 0 for never.
    pub snapshot_slots: u64,
    /// What the network does while there is chaos.
    pub weather: Weather,
    /// Whether messages are encoded, and sent as frames over streams that are cut at random.
    pub streams: bool,
    /// The faults that strike while there is chaos.
    pub faults: Vec<Fault>,
    /// Trouble comes about this often, in ticks.
    pub trouble_ticks: u64,
    /// How long there is chaos, in ticks.
    pub chaos_ticks: u64,
    /// The longest time that a sync takes, in units.
    pub sync_units: u64,
    /// By how much clocks may differ from the right speed, in thousandths.
    pub clock_error: u64,
    /// By how much the clocks from which the log gets its time may be wrong, in thousandths.
    pub time_error: u64,
    /// How often a wall clock jumps while there is chaos, in ticks on average; 0 for never.
    pub wall_jump_ticks: u64,
    /// Whether a minority stays away after the chaos.
    pub minority_stays_away: bool,
    /// How many operators change the membership and hand leadership over; 0 for a fixed membership.
    pub operators: usize,
    /// How long an operator waits between two requests on average, in ticks.
    pub operator_ticks: u64,
    /// How many nodes there are beside the first members: operators may add them.
    pub spares: usize,
    /// Whether a node that was removed ends once it may.
    pub removed_end: bool,
}

/// In one seed of this many, operators change the membership.
const OPERATORS_SHARE: u64 = 2;

/// In one seed of this many, messages go over streams.
const STREAMS_SHARE: u64 = 8;

/// How long the calm after the chaos lasts, in ticks: by its end all nodes must agree.
pub(super) const CALM_TICKS: u64 = 2_500;

/// A node that is still behind when the calm is over must come closer within this time, again and again.
pub(super) const CATCH_UP_TICKS: u64 = 200;

impl Scenario {
    /// The scenario of a seed; `nodes` fixes the size of the cluster.
    #[must_use]
    pub fn drawn(seed: u64, nodes: Option<usize>) -> Scenario {
        let random = &mut Random::stream(seed, "scenario");
        let drawn_nodes = [1, 3, 3, 3, 3, 4, 5, 5, 7][random.index(9)];
        let nodes = nodes.unwrap_or(drawn_nodes);
        let snapshot_slots = [0, 4, 30, 200][random.index(4)];
        let (quorums, mut settings) = drawn_settings(random, nodes, snapshot_slots);
        settings.catch_up_window_bytes = [0, 200, 2_000, 1 << 20][Random::stream(seed, "catch-up").index(4)];
        if Random::stream(seed, "watermark").one_in(6) {
            settings.announce_chosen = AnnounceChosen::AtOnce;
        }
        let clock_error = match settings.reads {
            // No more than the drift that the lease allows for, from the slowest clock to the fastest.
            ReadMode::Lease { lease_ticks, drift_ticks } => {
                (u64::from(drift_ticks) * 1000 / u64::from(lease_ticks)) * 45 / 100
            }
            ReadMode::QuorumRound => [0, 300, 800][random.index(3)],
        };
        let is_rough = random.one_in(2);
        let mut rate = |most: u64| if random.one_in(3) { 0 } else { random.below(most + 1) };
        let weather = Weather {
            loss: if is_rough { rate(300) } else { rate(30) },
            doubling: rate(500),
            long_delay: rate(100),
            ancient: rate(50),
            latency_units: 1 + rate(60),
            jitter_units: 1 + rate(300),
        };
        let operators = &mut Random::stream(seed, "operators");
        let has_operators = operators.one_in(OPERATORS_SHARE);
        let time = &mut Random::stream(seed, "time");
        let faults = Fault::ALL.into_iter().filter(|_| random.one_in(2)).collect();
        Scenario {
            seed,
            nodes,
            odd_ids: random.one_in(2),
            quorums,
            settings,
            clients: [1, 2, 4, 12][random.index(4)],
            think_units: [1, 50, 500, 8_000][random.index(4)],
            reads: [0, 200, 500, 900][random.index(4)],
            retry_ticks: [5, 20, 20][random.index(3)] + random.below(150),
            sessions: SessionLimits { sessions: [1, 2, 64][random.index(3)], ..SessionLimits::default() },
            snapshot_slots,
            weather,
            streams: Random::stream(seed, "carriage").one_in(STREAMS_SHARE),
            faults,
            trouble_ticks: 5 + random.below(150),
            chaos_ticks: 500 + random.below(2_500),
            sync_units: [1, 20, 100, 600][random.index(4)],
            clock_error,
            time_error: [0, 1, 5][time.index(3)],
            wall_jump_ticks: [0, 40, 400][time.index(3)],
            minority_stays_away: random.one_in(3),
            operators: if has_operators { 1 + operators.index(2) } else { 0 },
            operator_ticks: 5 + operators.below(150),
            spares: if has_operators { [1, 3, 5][operators.index(3)] } else { 0 },
            removed_end: !operators.one_in(3),
        }
    }
}

fn drawn_settings(
    random: &mut Random,
    nodes: usize,
    snapshot_slots: u64,
) -> (Option<Quorums>, ProtocolSettings) {
    let election_timeout_ticks = [10, 20, 50][random.index(3)];
    let reads = if random.one_in(3) {
        let lease_ticks = election_timeout_ticks - random.index(election_timeout_ticks as usize / 2) as u32;
        ReadMode::Lease { lease_ticks, drift_ticks: 1 + random.index(lease_ticks as usize / 3) as u32 }
    } else {
        ReadMode::QuorumRound
    };
    // Where the log in memory is bounded tightly, snapshots must come often enough to let it be trimmed.
    let is_tight = (1..=30).contains(&snapshot_slots) && random.one_in(2);
    let prepare = 1 + random.index(nodes);
    let quorums = Quorums::flexible(nodes, prepare, nodes + 1 - prepare).filter(|_| random.one_in(6));
    let settings = ProtocolSettings {
        phase_one: if random.one_in(6) { PhaseOne::EveryValue } else { PhaseOne::OncePerLeader },
        reads,
        window_slots: [1, 2, 8, 64][random.index(4)],
        window_bytes: [60, 1 << 20][random.index(2)],
        eager_commands: 1 + random.index(4),
        batch_bytes: [1, 200, 4096][random.index(3)],
        command_bytes: 200,
        queue_bytes: [400, 1 << 20][random.index(2)],
        waiting_reads: [1, 1000][random.index(2)],
        retained_bytes: if is_tight { 0 } else { [0, 500, 1 << 20][random.index(3)] },
        chunk_bytes: [64, 300, 1 << 20][random.index(3)],
        log_bytes: if is_tight { 40_000 } else { 1 << 30 },
        heartbeat_ticks: 1 + random.index(election_timeout_ticks as usize / 2) as u32,
        election_timeout_ticks,
        ..ProtocolSettings::default()
    };
    (quorums, settings)
}

impl Scenario {
    /// The most important of it, in a line.
    #[must_use]
    pub fn in_short(&self) -> String {
        let Scenario { nodes, clients, chaos_ticks, faults, weather, .. } = self;
        let count = |count: usize, what| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let mut parts = vec![count(*nodes, "node"), count(*clients, "client")];
        if self.snapshot_slots > 0 {
            parts.push(format!("a snapshot after each {} slots", self.snapshot_slots));
        }
        parts.push(format!("{chaos_ticks} ticks of chaos with {faults:?}"));
        for (what, thousandths) in [("lost", weather.loss), ("doubled", weather.doubling)] {
            if thousandths > 0 {
                parts.push(format!("{thousandths} of 1000 messages {what}"));
            }
        }
        parts.join(", ")
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self:#?}")
    }
}
