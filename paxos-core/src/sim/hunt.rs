//! The search for mutants: switches known bugs on, and counts the seeds until a rule is broken.
//!
//! Most are found within a few seeds, and a few need thousands. So all are tried on the same seeds, in rounds
//! that grow, and the threads share out the seeds of those that are left. Seeds in which a mutant can make no
//! difference are passed over.

use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::Simulation;
use super::disk::Disk;
use super::machine::Machine;
use super::rule::Rule;
use super::scenario::Scenario;
use crate::mutant::Mutant;

/// How many seeds the first round takes.
const FIRST_ROUND_SEEDS: u64 = 16;
/// How many times as many seeds have been tried after a round as before it.
const ROUND_GROWTH: u64 = 4;
/// How many seeds a thread takes at once.
const BLOCK_SEEDS: u64 = 8;
/// How many seeds are tried for each mutant, if no other number is given.
const DEFAULT_SEEDS: u64 = 40_000;

/// A search for mutants by runs of state machine `M` on disks `D`, over the seeds from 1 on.
///
/// ```
/// use paxos_core::sim::{ModelDisk, Mutant, Registers, MutantHunt};
///
/// let hunt = MutantHunt::<Registers, ModelDisk>::of([Mutant::SendBeforeSync]);
/// assert!(hunt.run(|_| ()).iter().all(|hunted| hunted.kill.is_some()));
/// ```
#[derive(Debug)]
pub struct MutantHunt<M, D> {
    mutants: Vec<Mutant>,
    seeds: u64,
    of: PhantomData<fn() -> (M, D)>,
}

/// How far a [`MutantHunt`] has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct HuntProgress {
    /// How many mutants were found.
    pub killed: usize,
    /// The last seed of the round that begins.
    pub last_seed: u64,
}

/// What came of the search for one mutant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Hunted {
    /// The mutant.
    pub mutant: Mutant,
    /// How many seeds were run, as far as the one that found it.
    pub runs: u64,
    /// How many events these had.
    pub events: u64,
    /// What found it; `None` if it survives.
    pub kill: Option<Kill>,
}

/// A seed that breaks a rule with a mutant, and only with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Kill {
    /// The seed.
    pub seed: u64,
    /// The broken rule.
    pub rule: Rule,
}

/// Some seeds that a mutant is tried on.
struct Block {
    /// The place of the mutant.
    hunted: usize,
    seeds: RangeInclusive<u64>,
}

/// What a block has shown.
struct Outcome {
    runs: u64,
    events: u64,
    kill: Option<Kill>,
}

impl<M: Machine, D: Disk> MutantHunt<M, D> {
    /// A search for all mutants that runs of this machine on these disks can show.
    #[must_use]
    pub fn of_all() -> Self {
        let is_shown = |mutant: &Mutant| !M::NEVER_SHOWS.contains(mutant) && !D::NEVER_SHOWS.contains(mutant);
        MutantHunt::of(Mutant::ALL.iter().copied().filter(is_shown))
    }

    /// A search for these mutants.
    #[must_use]
    pub fn of(mutants: impl IntoIterator<Item = Mutant>) -> Self {
        MutantHunt { mutants: mutants.into_iter().collect(), seeds: DEFAULT_SEEDS, of: PhantomData }
    }

    /// Keeps those mutants whose name contains this.
    #[must_use]
    pub fn only(mut self, part: &str) -> Self {
        self.mutants.retain(|mutant| mutant.name().contains(part));
        self
    }

    /// How many seeds are tried for each mutant at most: 40 000 by default.
    #[must_use]
    pub fn seeds(mut self, seeds: u64) -> Self {
        self.seeds = seeds;
        self
    }

    /// How many mutants it looks for.
    #[must_use]
    pub fn count(&self) -> usize {
        self.mutants.len()
    }

    /// Runs it on all cores. `progress` is called before each round.
    #[must_use]
    pub fn run(&self, mut progress: impl FnMut(HuntProgress)) -> Vec<Hunted> {
        let hunted = |&mutant: &Mutant| Hunted { mutant, runs: 0, events: 0, kill: None };
        let mut all: Vec<Hunted> = self.mutants.iter().map(hunted).collect();
        let (mut tried, mut last) = (0, FIRST_ROUND_SEEDS.min(self.seeds));
        while tried < last && all.iter().any(|hunted| hunted.kill.is_none()) {
            let killed = all.iter().filter(|hunted| hunted.kill.is_some()).count();
            progress(HuntProgress { killed, last_seed: last });
            try_seeds::<M, D>(&mut all, tried + 1..=last);
            (tried, last) = (last, last.saturating_mul(ROUND_GROWTH).min(self.seeds));
        }
        all
    }
}

/// Tries `seeds` on each mutant that is left, on all processors.
fn try_seeds<M: Machine, D: Disk>(all: &mut [Hunted], seeds: RangeInclusive<u64>) {
    let blocks = blocks_of(all, &seeds);
    let outcomes: Vec<Mutex<Option<Outcome>>> = blocks.iter().map(|_| Mutex::new(None)).collect();
    // The lowest seed that has found each mutant in this round: none above it needs to be tried.
    let killed_at: Vec<AtomicU64> = all.iter().map(|_| AtomicU64::new(u64::MAX)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(place) =
            Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&place| place < blocks.len())
        {
            let Block { hunted, seeds } = &blocks[place];
            if killed_at[*hunted].load(Ordering::Relaxed) < *seeds.start() {
                continue;
            }
            let outcome = try_block::<M, D>(all[*hunted].mutant, seeds.clone());
            if let Some(kill) = &outcome.kill {
                killed_at[*hunted].fetch_min(kill.seed, Ordering::Relaxed);
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
        let hunted = &mut all[block.hunted];
        if let Some(outcome) = outcome.filter(|_| hunted.kill.is_none()) {
            hunted.runs += outcome.runs;
            hunted.events += outcome.events;
            hunted.kill = outcome.kill;
        }
    }
}

/// The work of a round, lower seeds first.
fn blocks_of(all: &[Hunted], seeds: &RangeInclusive<u64>) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut first = *seeds.start();
    while first <= *seeds.end() {
        let last = (first + BLOCK_SEEDS - 1).min(*seeds.end());
        let left = all.iter().enumerate().filter(|(_, hunted)| hunted.kill.is_none());
        blocks.extend(left.map(|(hunted, _)| Block { hunted, seeds: first..=last }));
        first = last + 1;
    }
    blocks
}

fn try_block<M: Machine, D: Disk>(mutant: Mutant, seeds: RangeInclusive<u64>) -> Outcome {
    let (mut runs, mut events) = (0, 0);
    let scenarios = seeds.map(|seed| Scenario::drawn(seed, None));
    let kill = scenarios.filter(|scenario| mutant.matters_in(scenario)).find_map(|scenario| {
        let seed = scenario.seed;
        let simulation = || Simulation::<M, D>::new(scenario.clone());
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
