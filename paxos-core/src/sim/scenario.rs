//! What a seed means: every choice that makes one run different from another.

use std::fmt;

use crate::random::Random;
use crate::session::SessionLimits;
use crate::{Options, PhaseOne, Quorums, ReadMode, Watermark};

/// So many units of time make a tick of a clock that runs right.
pub const TICK_UNITS: u64 = 100;

/// A kind of trouble that befalls nodes and links while there is chaos.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// A node loses its memory and what its disk had not synced, and comes back later.
    Crash,
    /// All nodes do, at once.
    CrashAll,
    /// The leader hears nobody and nobody hears it, and its clock is the slowest of all.
    LostLeader,
    /// A leader hears others long after they have spoken, and may not be heard itself.
    LateLeader,
    /// The leader and another node do not hear each other, and those who hear both crash and are back at once.
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
    /// A node stands still for a while, and then has all its ticks at once.
    Pause,
    /// A disk takes very long for a sync, as when it is full.
    StuckDisk,
    /// A sync fails: the node stops, as it must, and comes back later.
    FailingDisk,
    /// A disk is lost with all that it held. The node never comes back: it must not under its old id.
    LostDisk,
    /// A disk says that it has synced what it has not. As this breaks what Paxos builds on, the node is not
    /// allowed to come back after its next crash.
    LyingDisk,
    /// Something on a disk changes by itself, and some of what was accepted is forgotten; see
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

/// Rates of what may happen to a message, in thousandths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Weather {
    /// It is lost.
    pub loss: u64,
    /// It comes twice.
    pub doubling: u64,
    /// It takes as long as a few elections.
    pub long_delay: u64,
    /// A message from long ago comes once more.
    pub ancient: u64,
    /// The shortest way, in units of time.
    pub latency_units: u64,
    /// Up to so much more, so that messages overtake each other.
    pub jitter_units: u64,
}

/// Everything that a seed draws. Print it to know what a run was like; change it to shrink one.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The seed: what the scenario leaves open is drawn from it too, each concern from a stream of its own.
    pub seed: u64,
    /// How many members there are.
    pub nodes: usize,
    /// Whether their ids are far apart, and not 1, 2, 3.
    pub odd_ids: bool,
    /// The protocol's options, the same on all members.
    pub options: Options,
    /// How many clients there are, each with one operation at a time.
    pub clients: usize,
    /// How long a client waits between operations at most, in units.
    pub think_units: u64,
    /// Of a thousand operations so many are reads.
    pub reads: u64,
    /// How long a client waits before it asks another node, in ticks; longer each time.
    pub retry_ticks: u64,
    /// Bounds of the sessions.
    pub sessions: SessionLimits,
    /// A snapshot is taken after so many slots; 0 for never.
    pub snapshot_slots: u64,
    /// What the network does while there is chaos.
    pub weather: Weather,
    /// What befalls nodes and links while there is chaos.
    pub faults: Vec<Fault>,
    /// Trouble comes about this often, in ticks.
    pub trouble_ticks: u64,
    /// How long there is chaos, in ticks.
    pub chaos_ticks: u64,
    /// A sync takes up to so many units.
    pub sync_units: u64,
    /// By how much clocks may differ from the right speed, in thousandths.
    pub clock_error: u64,
    /// Whether a minority stays away after the chaos.
    pub minority_stays_away: bool,
}

/// After the chaos there is this much time for everybody who is there to agree, in ticks.
pub(super) const CALM_TICKS: u64 = 2_500;

impl Scenario {
    /// The scenario of a seed; `nodes` fixes the size of the cluster.
    #[must_use]
    pub fn drawn(seed: u64, nodes: Option<usize>) -> Scenario {
        let random = &mut Random::stream(seed, "scenario");
        let drawn_nodes = [1, 3, 3, 3, 3, 4, 5, 5, 7][random.index(9)];
        let nodes = nodes.unwrap_or(drawn_nodes);
        let snapshot_slots = [0, 4, 30, 200][random.index(4)];
        let mut options = drawn_options(random, nodes, snapshot_slots);
        if Random::stream(seed, "watermark").one_in(6) {
            options.watermark = Watermark::AtOnce;
        }
        let clock_error = match options.reads {
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
        let faults = Fault::ALL.into_iter().filter(|_| random.one_in(2)).collect();
        Scenario {
            seed,
            nodes,
            odd_ids: random.one_in(2),
            options,
            clients: [1, 2, 4, 12][random.index(4)],
            think_units: [1, 50, 500, 8_000][random.index(4)],
            reads: [0, 200, 500, 900][random.index(4)],
            retry_ticks: [5, 20, 20][random.index(3)] + random.below(150),
            sessions: SessionLimits { sessions: [1, 2, 64][random.index(3)], ..SessionLimits::default() },
            snapshot_slots,
            weather,
            faults,
            trouble_ticks: 5 + random.below(150),
            chaos_ticks: 500 + random.below(2_500),
            sync_units: [1, 20, 100, 600][random.index(4)],
            clock_error,
            minority_stays_away: random.one_in(3),
        }
    }
}

fn drawn_options(random: &mut Random, nodes: usize, snapshot_slots: u64) -> Options {
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
    Options {
        quorums,
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
        ..Options::default()
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self:#?}")
    }
}
