//! `paxos-sim mutants`: switches known bugs on, and checks that the simulator finds each of them.
//!
//! Most are found within a few seeds, and a few need thousands. So all are tried on the same seeds, in rounds
//! that grow, and the threads share out the seeds of those that are left. Seeds in which a mutant can make no
//! difference are passed over.

use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use paxos_core::sim::{ModelDisk, Mutant, Registers, Rule, Scenario, Simulation};

/// How many seeds the first round takes.
const FIRST_ROUND_SEEDS: u64 = 16;
/// How many times as many seeds have been tried after a round as before it.
const ROUND_GROWTH: u64 = 4;
/// How many seeds a thread takes at once.
const BLOCK_SEEDS: u64 = 8;

/// The search for one mutant.
struct Hunt {
    mutant: Mutant,
    /// How many seeds were run, as far as the one that found it.
    runs: u64,
    /// How many events these had.
    events: u64,
    kill: Option<Kill>,
}

/// A seed that breaks a rule with a mutant, and only with it.
struct Kill {
    seed: u64,
    rule: Rule,
}

/// Some seeds that a mutant is tried on.
struct Block {
    /// The place of the hunt.
    hunt: usize,
    seeds: RangeInclusive<u64>,
}

/// What a block has shown.
struct Outcome {
    runs: u64,
    events: u64,
    kill: Option<Kill>,
}

/// Runs each mutant over seeds from 1 on until a rule is broken; returns whether all were found.
pub(crate) fn run(seeds: u64, only: Option<&str>) -> bool {
    let is_wanted = |mutant: &&Mutant| only.is_none_or(|part| mutant.name().contains(part));
    let wanted = Mutant::ALL.iter().filter(is_wanted);
    let mut hunts: Vec<Hunt> =
        wanted.map(|&mutant| Hunt { mutant, runs: 0, events: 0, kill: None }).collect();
    let progress = ProgressBar::new(hunts.len() as u64);
    let style = "{elapsed_precise} {wide_bar} {pos} of {len} mutants, {msg}";
    progress.set_style(ProgressStyle::with_template(style).expect("the template is valid"));
    let (mut tried, mut last) = (0, FIRST_ROUND_SEEDS.min(seeds));
    while tried < last && hunts.iter().any(|hunt| hunt.kill.is_none()) {
        progress.set_message(format!("seeds up to {last}"));
        try_seeds(&mut hunts, tried + 1..=last);
        progress.set_position(count_killed(&hunts) as u64);
        (tried, last) = (last, last.saturating_mul(ROUND_GROWTH).min(seeds));
    }
    progress.finish_and_clear();
    println!("{:<32} {:>6} {:>10}  {:<18} what it does", "mutant", "runs", "events", "found by");
    for Hunt { mutant, runs, events, kill } in &hunts {
        let found = kill.as_ref().map_or_else(
            || format!("{:>6} {:>10}  {:<18}", "-", "-", "SURVIVES"),
            |kill| format!("{runs:>6} {events:>10}  {:<18}", format!("{:?}", kill.rule)),
        );
        println!("{:<32} {found} {}", mutant.name(), mutant.what());
    }
    println!("{} of {} killed", count_killed(&hunts), hunts.len());
    count_killed(&hunts) == hunts.len()
}

fn count_killed(hunts: &[Hunt]) -> usize {
    hunts.iter().filter(|hunt| hunt.kill.is_some()).count()
}

/// Tries `seeds` on each mutant that is left, on all processors.
fn try_seeds(hunts: &mut [Hunt], seeds: RangeInclusive<u64>) {
    let blocks = blocks_of(hunts, &seeds);
    let outcomes: Vec<Mutex<Option<Outcome>>> = blocks.iter().map(|_| Mutex::new(None)).collect();
    // The lowest seed that has found each mutant in this round: none above it needs to be tried.
    let killed_at: Vec<AtomicU64> = hunts.iter().map(|_| AtomicU64::new(u64::MAX)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(place) =
            Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&place| place < blocks.len())
        {
            let Block { hunt, seeds } = &blocks[place];
            if killed_at[*hunt].load(Ordering::Relaxed) < *seeds.start() {
                continue;
            }
            let outcome = try_block(hunts[*hunt].mutant, seeds.clone());
            if let Some(kill) = &outcome.kill {
                killed_at[*hunt].fetch_min(kill.seed, Ordering::Relaxed);
            }
            *outcomes[place].lock().expect("no thread panics while it notes an outcome") = Some(outcome);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    for (block, outcome) in blocks.iter().zip(outcomes) {
        let outcome = outcome.into_inner().expect("no thread panics while it notes an outcome");
        let hunt = &mut hunts[block.hunt];
        if let Some(outcome) = outcome.filter(|_| hunt.kill.is_none()) {
            hunt.runs += outcome.runs;
            hunt.events += outcome.events;
            hunt.kill = outcome.kill;
        }
    }
}

/// The work of a round, lower seeds first.
fn blocks_of(hunts: &[Hunt], seeds: &RangeInclusive<u64>) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut first = *seeds.start();
    while first <= *seeds.end() {
        let last = (first + BLOCK_SEEDS - 1).min(*seeds.end());
        let left = hunts.iter().enumerate().filter(|(_, hunt)| hunt.kill.is_none());
        blocks.extend(left.map(|(hunt, _)| Block { hunt, seeds: first..=last }));
        first = last + 1;
    }
    blocks
}

fn try_block(mutant: Mutant, seeds: RangeInclusive<u64>) -> Outcome {
    let (mut runs, mut events) = (0, 0);
    let scenarios = seeds.map(|seed| Scenario::drawn(seed, None));
    let kill = scenarios.filter(|scenario| mutant.matters_in(scenario)).find_map(|scenario| {
        let seed = scenario.seed;
        let simulation = || Simulation::<Registers, ModelDisk>::new(scenario.clone());
        Mutant::activate(Some(mutant));
        let report = simulation().run();
        Mutant::activate(None);
        (runs, events) = (runs + 1, events + report.events);
        // A seed that breaks a rule without the mutant, too, proves nothing about the mutant.
        let violation = report.violation.filter(|_| simulation().run().violation.is_none())?;
        Some(Kill { seed, rule: violation.rule })
    });
    Outcome { runs, events, kill }
}
