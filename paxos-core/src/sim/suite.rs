//! Many seeds on all cores: what a program or a test of many minutes runs.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::Simulation;
use super::disk::Disk;
use super::machine::Machine;
use super::marks::{Mark, Marks};
use super::rule::Violation;
use super::scenario::Scenario;

/// After this many seeds every rare event must have been met, but for the rarest.
const SEEDS_FOR_MARKS: u64 = 1_000;
/// These are met a few dozen times at most in 10^9 events.
const RAREST: [Mark; 2] = [Mark::HandoverDeclined, Mark::LeaderOfPriority0];
/// After this many seeds they must have been met, too.
const SEEDS_FOR_RAREST: u64 = 50_000;
/// How many events a suite runs if it is not told otherwise.
const DEFAULT_EVENTS: u64 = 10_000_000;

/// Runs over many seeds, of state machine `M` on disks `D`: until there were enough events, on as many
/// threads as there are cores.
///
/// ```
/// use paxos_core::sim::{ModelDisk, Registers, Suite};
///
/// let findings = Suite::<Registers, ModelDisk>::new(1).events(100_000).run(|_| ());
/// assert!(findings.violations.is_empty(), "{:?}", findings.violations);
/// ```
#[derive(Debug)]
pub struct Suite<M, D> {
    first_seed: u64,
    failed_before: Vec<u64>,
    events: u64,
    nodes: Option<usize>,
    threads: usize,
    of: PhantomData<fn() -> (M, D)>,
}

/// What a [`Suite`] has found.
#[derive(Clone, Default, Debug)]
#[non_exhaustive]
pub struct Findings {
    /// How many events there were.
    pub events: u64,
    /// How many seeds were run.
    pub seeds: u64,
    /// How many slots were applied.
    pub slots: u64,
    /// The rare events that were met.
    pub marks: Marks,
    /// The broken rules, by seed.
    pub violations: BTreeMap<u64, Violation>,
    /// The rare events that were never met, although there were seeds enough: the suite shows nothing about
    /// them. Known when the suite is over.
    pub missed: Vec<Mark>,
}

impl<M: Machine, D: Disk> Suite<M, D> {
    /// A suite of ten million events over the seeds from this one on.
    #[must_use]
    pub fn new(first_seed: u64) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (failed_before, events, nodes) = (Vec::new(), DEFAULT_EVENTS, None);
        Suite { first_seed, failed_before, events, nodes, threads, of: PhantomData }
    }

    /// Stops after this many events; seeds that have begun are run to their end.
    #[must_use]
    pub fn events(mut self, events: u64) -> Self {
        self.events = events;
        self
    }

    /// Begins with these seeds: those that have broken a rule once.
    #[must_use]
    pub fn failed_before(mut self, seeds: Vec<u64>) -> Self {
        self.failed_before = seeds;
        self
    }

    /// Fixes the size of all clusters, which each seed draws otherwise.
    #[must_use]
    pub fn nodes(mut self, nodes: Option<usize>) -> Self {
        self.nodes = nodes;
        self
    }

    /// How many threads run seeds: 1 at least.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// How many threads run seeds.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        self.threads
    }

    /// Runs it. `progress` is called after each seed with what was found so far; no other seed can end
    /// meanwhile, so it must be quick.
    ///
    /// A panic inside a run is a finding. The panic hook of the process is called for it, and prints a
    /// message unless it was replaced.
    ///
    /// # Panics
    ///
    /// If `progress` does.
    #[must_use]
    pub fn run(&self, progress: impl Fn(&Findings) + Sync) -> Findings {
        let findings = Mutex::new(Findings::default());
        let (next, is_done) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = || {
            while !is_done.load(Ordering::Relaxed) {
                let seed = self.seed(next.fetch_add(1, Ordering::Relaxed));
                let report = Simulation::<M, D>::new(Scenario::drawn(seed, self.nodes)).run();
                let mut findings = findings.lock().expect("no thread panics while it holds the findings");
                findings.events += report.events;
                findings.seeds += 1;
                findings.slots += report.slots;
                findings.marks.add(&report.marks);
                findings.violations.extend(report.violation.map(|violation| (seed, violation)));
                progress(&findings);
                if findings.events >= self.events {
                    is_done.store(true, Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(work);
            }
        });
        let mut findings = findings.into_inner().expect("no thread panics while it holds the findings");
        findings.missed = self.missed(&findings);
        findings
    }

    /// The seed that is run after so many others were begun.
    fn seed(&self, number: usize) -> u64 {
        let fresh = || self.first_seed.wrapping_add((number - self.failed_before.len()) as u64);
        self.failed_before.get(number).copied().unwrap_or_else(fresh)
    }

    fn missed(&self, findings: &Findings) -> Vec<Mark> {
        let is_missed = |mark: &Mark| {
            let seeds = if RAREST.contains(mark) { SEEDS_FOR_RAREST } else { SEEDS_FOR_MARKS };
            let can_be_met = !M::NEVER_MEETS.contains(mark) && !D::NEVER_MEETS.contains(mark);
            findings.marks.count(*mark) == 0 && findings.seeds >= seeds && can_be_met
        };
        // In clusters of one size not everything can happen.
        Mark::ALL.into_iter().filter(|_| self.nodes.is_none()).filter(is_missed).collect()
    }
}

impl Findings {
    /// Whether no rule was broken, and nothing was [missed](Findings::missed).
    #[must_use]
    pub fn are_good(&self) -> bool {
        self.violations.is_empty() && self.missed.is_empty()
    }
}

/// A list of seeds has a line that is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MalformedSeeds {
    /// The number of the line, from 1 on.
    pub line: usize,
}

impl std::fmt::Display for MalformedSeeds {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "line {} is no seed", self.line)
    }
}

impl std::error::Error for MalformedSeeds {}

/// Reads a list of seeds that have failed once: one a line, each with a comment behind `#` if you like.
///
/// # Errors
///
/// [`MalformedSeeds`] names the first line that is neither a seed nor a comment.
pub fn seeds_of(list: &str) -> Result<Vec<u64>, MalformedSeeds> {
    let mut seeds = Vec::new();
    for (line, text) in (1..).zip(list.lines()) {
        let seed = text.split('#').next().unwrap_or_default().trim();
        if !seed.is_empty() {
            seeds.push(seed.parse().map_err(|_| MalformedSeeds { line })?);
        }
    }
    Ok(seeds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{ModelDisk, Registers};

    #[test]
    fn a_list_of_seeds_has_one_a_line_and_comments() {
        assert_eq!(seeds_of("# once failed\n7\n\n 8 # twice\n"), Ok(vec![7, 8]));
        assert_eq!(seeds_of("7\n8 9\n"), Err(MalformedSeeds { line: 2 }));
        assert_eq!(MalformedSeeds { line: 2 }.to_string(), "line 2 is no seed");
    }

    #[test]
    fn a_suite_begins_with_the_seeds_that_have_failed_before() {
        let suite = Suite::<Registers, ModelDisk>::new(u64::MAX).failed_before(vec![7, 9]);
        assert_eq!([0, 1, 2, 3].map(|number| suite.seed(number)), [7, 9, u64::MAX, 0]);
    }

    #[test]
    fn a_suite_ends_once_there_were_enough_events_and_tells_of_each_seed() {
        let told = Mutex::new(Vec::new());
        let suite = Suite::<Registers, ModelDisk>::new(1).events(1).threads(1);
        let findings = suite.run(|findings| told.lock().expect("no panic").push(findings.seeds));
        assert_eq!((findings.seeds, &told.into_inner().expect("no panic")[..]), (1, &[1][..]));
        assert!(findings.are_good() && findings.events > 0 && findings.slots > 0);
    }

    #[test]
    fn a_rare_event_is_missed_only_where_it_can_be_met_and_after_many_seeds() {
        let suite = Suite::<Registers, ModelDisk>::new(1);
        let after = |seeds| suite.missed(&Findings { seeds, ..Findings::default() });
        assert!(after(SEEDS_FOR_MARKS - 1).is_empty());
        assert_eq!(after(SEEDS_FOR_MARKS).len(), Mark::ALL.len() - RAREST.len());
        assert_eq!(after(SEEDS_FOR_RAREST), Mark::ALL);
        let of_three = Suite::<Registers, ModelDisk>::new(1).nodes(Some(3));
        assert!(of_three.missed(&Findings { seeds: SEEDS_FOR_RAREST, ..Findings::default() }).is_empty());
    }
}
