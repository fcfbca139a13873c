//! All figures of a time of its own, as tables.

use std::time::Duration;

use paxos_core::{AnnounceChosen, PhaseOne, ProtocolSettings, ReadMode};

use crate::cluster::changes::{Pause, pauses};
use crate::cluster::{Cluster, Served, Setting, Work};
use crate::cost::count;
use crate::duel::{Duel, Manners, Outcome};
use crate::plot::{Bars, Scale, Series, bars};
use crate::statistics::percentile;

const COMMAND_BYTES: usize = 256;
/// The network and disk where nothing else is said: one data centre, and a disk with a write cache of its
/// own.
const HOP: Duration = Duration::from_millis(1);
const SYNC: Duration = Duration::from_micros(200);
const MANY: u64 = 64;
/// Requests before what is measured, for each client.
const WARM_UP_ROUNDS: u64 = 3;
/// Requests that are measured, for each client.
const ROUNDS: u64 = 200;
const DUELS: u64 = 1000;

/// Runs everything, in a few seconds, and tells what came of it; the same text on every machine.
#[must_use]
pub fn report() -> String {
    [costs(), changes(), delay_lines(), duels(), switches(), reads()]
        .map(|lines| lines.join("\n") + "\n")
        .join("\n")
}

fn costs() -> Vec<String> {
    let mut lines = title(format!("one {COMMAND_BYTES}-byte command, counted"));
    lines.push(format!(
        "{:<24}{:>9}{:>8}{:>7}{:>13}{:>19}",
        "", "messages", "bytes", "syncs", "round trips", "syncs in sequence"
    ));
    for nodes in [3, 5, 7] {
        for (name, phase_one) in
            [("fast path", PhaseOne::OncePerLeader), ("full round", PhaseOne::EveryValue)]
        {
            let cost = count(phase_one, nodes, COMMAND_BYTES);
            lines.push(format!(
                "{:<24}{:>9}{:>8}{:>7}{:>13}{:>19}",
                format!("{name}, {nodes} nodes"),
                cost.messages,
                cost.bytes,
                cost.syncs,
                cost.round_trips,
                cost.syncs_in_sequence
            ));
        }
    }
    lines
}

/// For how long nothing can be proposed while the membership or the leader changes.
fn changes() -> Vec<String> {
    let mut lines = title(String::from("how long a command waits behind a change on three nodes, counted"));
    lines.push(format!("{:<36}{:>13}{:>19}", "", "round trips", "syncs in sequence"));
    for (what, Pause { hops, syncs }) in pauses() {
        let round_trips = format!("{}{}", hops / 2, if hops.is_multiple_of(2) { "" } else { ".5" });
        lines.push(format!("{what:<36}{round_trips:>13}{syncs:>19}"));
    }
    lines
}

/// What phase 1 costs a lone client, by the time that a message takes, as a chart; the same on every machine.
#[must_use]
pub fn phases() -> Option<String> {
    let delays = delays();
    let milliseconds = |of: fn(&Delay) -> Duration| {
        delays.iter().map(|delay| Some(of(delay).as_secs_f64() * 1e3)).collect::<Vec<_>>()
    };
    let series = [
        ("both phases for each command", milliseconds(|delay| delay.full)),
        ("a stable leader skips phase 1", milliseconds(|delay| delay.fast)),
    ];
    let group =
        |delay: &Delay| format!("{} ms a hop\n{:.2} times as long", delay.hop.as_millis(), delay.ratio());
    bars(&Bars {
        title: format!("A lone command on three nodes, {SYNC:?} a sync"),
        unit: String::from("median in ms, log scale"),
        groups: delays.iter().map(group).collect(),
        series: series.map(|(name, values)| Series { name: name.to_owned(), values }).to_vec(),
        scale: Scale::Logarithmic,
    })
}

/// How long a lone client waits in the median.
struct Delay {
    hop: Duration,
    fast: Duration,
    full: Duration,
}

impl Delay {
    fn ratio(&self) -> f64 {
        self.full.as_secs_f64() / self.fast.as_secs_f64()
    }
}

fn delays() -> [Delay; 4] {
    [0, 1, 10, 50].map(Duration::from_millis).map(|hop| {
        let [fast, full] = [PhaseOne::OncePerLeader, PhaseOne::EveryValue].map(|phase_one| {
            let options = ProtocolSettings::default().with(|settings| settings.phase_one = phase_one);
            let setting = Setting { options, ..Setting::new(hop, SYNC) };
            percentile(&serve(setting, Work::Commands { bytes: COMMAND_BYTES }, 1).waits, 500)
        });
        Delay { hop, fast, full }
    })
}

fn delay_lines() -> Vec<String> {
    let mut lines = title(format!("one client on three nodes, sync {SYNC:?}: median in ms"));
    lines.push(format!("{:<12}{:>12}{:>12}{:>9}", "hop", "fast path", "full round", "ratio"));
    for delay in delays() {
        let Delay { hop, fast, full } = delay;
        let ratio = delay.ratio();
        lines.push(format!("{:<12}{:>12}{:>12}{ratio:>9.2}", format!("{hop:?}"), millis(fast), millis(full)));
    }
    lines
}

fn duels() -> Vec<String> {
    let mut lines = title(format!(
        "one value among five acceptors, hop {HOP:?} in the mean, sync {SYNC:?}, {DUELS} times: until it is chosen"
    ));
    lines.push(format!(
        "{:<36}{:>8}{:>8}{:>8}{:>10}{:>10}{:>7}",
        "", "p50 ms", "p99 ms", "max ms", "attempts", "messages", "syncs"
    ));
    let one = Duel { proposers: 1, acceptors: 5, hop: HOP, sync: SYNC, manners: Manners::Impatient };
    let three = Duel { proposers: 3, ..one };
    let rows = [
        ("three proposers, again at once", three),
        ("three proposers, again after a pause", Duel { manners: Manners::Pausing, ..three }),
        ("one proposer, both phases", one),
    ];
    for (name, duel) in rows {
        let outcomes: Vec<Outcome> = (0..DUELS).map(|seed| duel.fight(seed)).collect();
        let mut waits: Vec<Duration> = outcomes.iter().map(|outcome| outcome.elapsed).collect();
        waits.sort_unstable();
        let at = |per_mille| millis(percentile(&waits, per_mille));
        let mean = |of: fn(&Outcome) -> u64| mean(outcomes.iter().map(of));
        lines.push(format!(
            "{name:<36}{:>8}{:>8}{:>8}{:>10.1}{:>10.0}{:>7.0}",
            at(500),
            at(990),
            at(1000),
            mean(|outcome| outcome.attempts),
            mean(|outcome| outcome.messages),
            mean(|outcome| outcome.syncs),
        ));
    }
    let setting = Setting { nodes: 5, ..Setting::new(HOP, SYNC) };
    let cost = count(PhaseOne::OncePerLeader, 5, COMMAND_BYTES);
    let led = serve(setting, Work::Commands { bytes: COMMAND_BYTES }, 1);
    lines.push(format!(
        "{:<36}{:>8}{:>8}{:>8}{:>10.1}{:>10}{:>7}",
        "a stable leader",
        millis(percentile(&led.waits, 500)),
        millis(percentile(&led.waits, 990)),
        millis(percentile(&led.waits, 1000)),
        1.0,
        cost.messages,
        cost.syncs
    ));
    lines
}

fn switches() -> Vec<String> {
    let mut lines =
        title(format!("commands of {COMMAND_BYTES} bytes on three nodes, hop {HOP:?}, sync {SYNC:?}"));
    lines.push(head());
    let default = ProtocolSettings::default();
    // A batch is full at its first command, so each has a slot of its own.
    let single = default.clone().with(|settings| settings.batch_bytes = 1);
    let at_once = default.clone().with(|settings| settings.announce_chosen = AnnounceChosen::AtOnce);
    let full = default.clone().with(|settings| settings.phase_one = PhaseOne::EveryValue);
    let window = |window_slots| single.clone().with(|settings| settings.window_slots = window_slots);
    let rows = [
        ("as it comes", 1, SYNC, default.clone()),
        ("what is chosen told at once", 1, SYNC, at_once.clone()),
        ("full rounds", 1, SYNC, full.clone()),
        ("no syncs", 1, Duration::ZERO, default.clone()),
        ("as it comes", MANY, SYNC, default.clone()),
        ("what is chosen told at once", MANY, SYNC, at_once),
        ("full rounds", MANY, SYNC, full),
        ("no syncs", MANY, Duration::ZERO, default),
        ("no batches, window 1", MANY, SYNC, window(1)),
        ("no batches, window 8", MANY, SYNC, window(8)),
        ("no batches, window 64", MANY, SYNC, window(64)),
        ("no batches, window unbounded", MANY, SYNC, window(1 << 20)),
    ];
    for (name, clients, sync, options) in rows {
        let setting = Setting { options, ..Setting::new(HOP, sync) };
        lines.push(row(name, clients, &serve(setting, Work::Commands { bytes: COMMAND_BYTES }, clients)));
    }
    lines
}

fn reads() -> Vec<String> {
    let mut lines = title(format!("reads on three nodes, hop {HOP:?}, sync {SYNC:?}"));
    lines.push(head());
    let lease = ReadMode::Lease { lease_ticks: 40, drift_ticks: 4 };
    let log = Work::Commands { bytes: size_of::<u64>() };
    for clients in [1, MANY] {
        for (name, work, reads) in [
            ("through the log", log, ReadMode::QuorumRound),
            ("by a quorum round", Work::Reads, ReadMode::QuorumRound),
            ("by a lease", Work::Reads, lease),
        ] {
            let options = ProtocolSettings::default().with(|settings| settings.reads = reads);
            let setting = Setting { options, ..Setting::new(HOP, SYNC) };
            lines.push(row(name, clients, &serve(setting, work, clients)));
        }
    }
    lines
}

fn serve(setting: Setting, work: Work, clients: u64) -> Served {
    let mut cluster = Cluster::with_leader(setting);
    cluster.serve(Work::Commands { bytes: COMMAND_BYTES }, clients, clients * WARM_UP_ROUNDS);
    cluster.serve(work, clients, clients * ROUNDS)
}

fn title(title: String) -> Vec<String> {
    vec![title, String::new()]
}

fn head() -> String {
    format!(
        "{:<30}{:>8}{:>12}{:>9}{:>9}{:>14}{:>8}{:>8}",
        "", "clients", "requests/s", "p50 ms", "p99 ms", "messages each", "bytes", "syncs"
    )
}

fn row(name: &str, clients: u64, served: &Served) -> String {
    // Computing takes no time here, so what needs neither message nor disk has no rate.
    let rate = match percentile(&served.waits, 500) {
        Duration::ZERO => String::from("-"),
        _ => format!("{:.0}", served.rate()),
    };
    format!(
        "{name:<30}{clients:>8}{rate:>12}{:>9}{:>9}{:>14.2}{:>8.0}{:>8.2}",
        millis(percentile(&served.waits, 500)),
        millis(percentile(&served.waits, 990)),
        served.each(served.messages),
        served.each(served.bytes),
        served.each(served.syncs)
    )
}

fn millis(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn mean(counts: impl ExactSizeIterator<Item = u64>) -> f64 {
    let many = counts.len() as f64;
    counts.sum::<u64>() as f64 / many
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_readme_tells_what_comes_out() {
        let readme = include_str!("../README.md");
        let report = super::report();
        assert!(readme.contains(&report), "put this into benches/README.md in place of its block:\n{report}");
    }

    #[test]
    fn the_chart_in_the_tree_is_what_comes_out() {
        let advice =
            "run 'cargo bench -p benches --bench model -- --plots plots', and look at what it has drawn";
        assert!(super::phases().as_deref() == Some(include_str!("../plots/phases.svg")), "{advice}");
    }
}
