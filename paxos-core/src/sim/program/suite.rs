//! The program without a subcommand: runs many seeds on all cores.

use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};

use super::arguments::SuiteArguments;
use super::ledger;
use crate::sim::disk::Disk;
use crate::sim::machine::Machine;
use crate::sim::marks::Mark;
use crate::sim::suite::{Findings, Suite, seeds_of};

/// No more violations than this are printed in full.
const MAX_PRINTED: usize = 20;

/// Runs seeds until there were as many events as asked for; returns whether no rule was broken and every rare
/// event was met. An error says what the caller did wrong.
pub(super) fn run<M: Machine, D: Disk>(
    name: &str,
    arguments: &SuiteArguments,
    failed_before: &str,
) -> Result<bool, String> {
    let failed_before = match &arguments.failed_seeds {
        Some(path) => seeds_in(path)?,
        None => seeds_of(failed_before).map_err(|error| format!("the program's own list: {error}"))?,
    };
    let first = arguments.seed.unwrap_or_else(fresh_seed);
    let mut suite = Suite::<M, D>::new(first).events(arguments.events).nodes(arguments.nodes());
    suite = suite.failed_before(failed_before);
    if let Some(threads) = arguments.jobs {
        suite = suite.threads(threads);
    }
    println!("seeds from {first} on, {} threads", suite.thread_count());
    let progress = ProgressBar::new(arguments.events);
    let style = "{elapsed_precise} {wide_bar} {human_pos} of {human_len} events, {per_sec}, {msg}";
    progress.set_style(ProgressStyle::with_template(style).expect("the template is valid"));
    let started = Instant::now();
    let findings = suite.run(|findings| {
        if !findings.violations.is_empty() {
            progress.set_message(format!("{} violations", findings.violations.len()));
        }
        progress.set_position(findings.events.min(arguments.events));
    });
    progress.finish_and_clear();
    report(name, &findings, arguments, started);
    if let Some(path) = &arguments.ledger {
        ledger::append(path, first, &findings).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(findings.are_good())
}

fn seeds_in(path: &Path) -> Result<Vec<u64>, String> {
    let list = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    seeds_of(&list).map_err(|error| format!("{}: {error}", path.display()))
}

fn report(name: &str, findings: &Findings, arguments: &SuiteArguments, started: Instant) {
    let rate = u128::from(findings.events) * 1_000_000 / started.elapsed().as_micros().max(1);
    println!("{} seeds, {} slots; rare events:", findings.seeds, findings.slots);
    for mark in Mark::ALL {
        println!("{:>12}  {mark:?}", findings.marks.count(mark));
    }
    for (seed, violation) in findings.violations.iter().take(MAX_PRINTED) {
        let nodes = arguments.nodes().map_or_else(String::new, |nodes| format!(" --nodes {nodes}"));
        println!("seed {seed}: {violation}\n    {name} replay {seed}{nodes}");
    }
    if !findings.missed.is_empty() {
        let missed = &findings.missed;
        println!("these rare events were never met, so the run proves nothing about them: {missed:?}");
    }
    println!("{} events, {rate} events/s, {} violations", findings.events, findings.violations.len());
}

fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() * 1_000_000
}
