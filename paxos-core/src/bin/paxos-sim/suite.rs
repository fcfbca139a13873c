//! `paxos-sim` without a subcommand: runs many seeds on all cores.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};
use paxos_core::sim::{Mark, Marks, ModelDisk, Registers, Scenario, Simulation, Violation};

use crate::arguments::Suite;

/// Seeds that have broken a rule once; every run begins with them.
const FAILED_BEFORE: &str = include_str!("failed_seeds.txt");
/// After this many seeds every rare event must have been met, but for the rarest.
const SEEDS_FOR_MARKS: u64 = 1_000;
/// These are met a few dozen times at most in 10^9 events.
const RAREST: [Mark; 2] = [Mark::HandoverDeclined, Mark::LeaderOfPriority0];
/// After this many seeds they must have been met, too.
const SEEDS_FOR_RAREST: u64 = 50_000;
/// No more violations than this are printed in full.
const MAX_PRINTED: usize = 20;

/// The results of a run over many seeds.
#[derive(Default)]
struct Findings {
    events: u64,
    seeds: u64,
    slots: u64,
    marks: Marks,
    violations: BTreeMap<u64, Violation>,
}

/// Runs seeds until there were as many events as asked for; returns whether no rule was broken and every rare
/// event was met.
pub(crate) fn run(suite: &Suite) -> bool {
    let first = suite.seed.unwrap_or_else(fresh_seed);
    let jobs = suite.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    println!("seeds from {first} on, {jobs} threads");
    let progress = ProgressBar::new(suite.events);
    let style = "{elapsed_precise} {wide_bar} {human_pos} of {human_len} events, {per_sec}, {msg}";
    progress.set_style(ProgressStyle::with_template(style).expect("the template is valid"));
    let started = Instant::now();
    let findings = explore(suite, first, jobs.max(1), &progress);
    progress.finish_and_clear();
    report(&findings, suite, started)
}

fn explore(suite: &Suite, first: u64, jobs: usize, progress: &ProgressBar) -> Findings {
    let before: Vec<u64> =
        FAILED_BEFORE.lines().filter_map(|line| line.split('#').next()?.trim().parse().ok()).collect();
    let findings = Mutex::new(Findings::default());
    let next = AtomicUsize::new(0);
    let next_seed = || {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let fresh = || first.wrapping_add((number - before.len()) as u64);
        before.get(number).copied().unwrap_or_else(fresh)
    };
    let is_done = AtomicBool::new(false);
    let work = || {
        while !is_done.load(Ordering::Relaxed) {
            let seed = next_seed();
            let scenario = Scenario::drawn(seed, suite.nodes());
            let report = Simulation::<Registers, ModelDisk>::new(scenario).run();
            let mut findings = findings.lock().expect("no thread panics while it holds the findings");
            findings.events += report.events;
            findings.seeds += 1;
            findings.slots += report.slots;
            findings.marks.add(&report.marks);
            if let Some(violation) = report.violation {
                findings.violations.insert(seed, violation);
                progress.set_message(format!("{} violations", findings.violations.len()));
            }
            progress.set_position(findings.events.min(suite.events));
            if findings.events >= suite.events {
                is_done.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    findings.into_inner().expect("no thread panics while it holds the findings")
}

fn report(findings: &Findings, suite: &Suite, started: Instant) -> bool {
    let rate = u128::from(findings.events) * 1_000_000 / started.elapsed().as_micros().max(1);
    println!("{} seeds, {} slots; rare events:", findings.seeds, findings.slots);
    let mut missed = Vec::new();
    for mark in Mark::ALL {
        let count = findings.marks.count(mark);
        println!("{count:>12}  {mark:?}");
        let seeds = if RAREST.contains(&mark) { SEEDS_FOR_RAREST } else { SEEDS_FOR_MARKS };
        if count == 0 && findings.seeds >= seeds && suite.nodes().is_none() {
            missed.push(mark);
        }
    }
    for (seed, violation) in findings.violations.iter().take(MAX_PRINTED) {
        let nodes = suite.nodes().map_or_else(String::new, |nodes| format!(" --nodes {nodes}"));
        println!("seed {seed}: {violation}\n    paxos-sim replay {seed}{nodes}");
    }
    if !missed.is_empty() {
        println!("these rare events were never met, so the run proves nothing about them: {missed:?}");
    }
    println!("{} events, {rate} events/s, {} violations", findings.events, findings.violations.len());
    findings.violations.is_empty() && missed.is_empty()
}

fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() * 1_000_000
}
