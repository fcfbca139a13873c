//! `paxos-sim mutants`: switches known bugs on, and checks that the simulator finds each of them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use paxos_core::sim::{ModelDisk, Mutant, Registers, Rule, Simulation};

/// How fast a mutant was found, and by which rule.
struct Kill {
    seeds: u64,
    events: u64,
    rule: Rule,
}

/// Runs each mutant over seeds from 1 on until a rule is broken; returns whether all were found.
pub(crate) fn run(seeds: u64, only: Option<&str>) -> bool {
    let is_wanted = |mutant: &Mutant| only.is_none_or(|part| mutant.name().contains(part));
    let mutants: Vec<Mutant> = Mutant::ALL.iter().copied().filter(is_wanted).collect();
    let progress = ProgressBar::new(mutants.len() as u64);
    let style = "{elapsed_precise} {wide_bar} {pos} of {len} mutants";
    progress.set_style(ProgressStyle::with_template(style).expect("the template is valid"));
    let kills: Vec<Mutex<Option<Kill>>> = mutants.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(place) =
            Some(next.fetch_add(1, Ordering::Relaxed)).filter(|place| *place < mutants.len())
        {
            let kill = hunt(mutants[place], seeds);
            *kills[place].lock().expect("no thread panics while it notes a kill") = kill;
            progress.inc(1);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    progress.finish_and_clear();
    println!("{:<32} {:>6} {:>10}  {:<18} what it does", "mutant", "seeds", "events", "found by");
    let mut killed = 0;
    for (mutant, kill) in mutants.iter().zip(&kills) {
        let kill = kill.lock().expect("no thread panics while it notes a kill");
        let found = kill.as_ref().map_or_else(
            || format!("{:>6} {:>10}  {:<18}", "-", "-", "SURVIVES"),
            |kill| format!("{:>6} {:>10}  {:<18}", kill.seeds, kill.events, format!("{:?}", kill.rule)),
        );
        println!("{:<32} {found} {}", mutant.name(), mutant.what());
        killed += usize::from(kill.is_some());
    }
    println!("{killed} of {} killed", mutants.len());
    killed == mutants.len()
}

fn hunt(mutant: Mutant, seeds: u64) -> Option<Kill> {
    let mut events = 0;
    (1..=seeds).find_map(|seed| {
        let simulation = || Simulation::<Registers, ModelDisk>::of_seed(seed);
        Mutant::activate(Some(mutant));
        let report = simulation().run();
        Mutant::activate(None);
        events += report.events;
        // A seed that breaks a rule without the mutant, too, proves nothing about the mutant.
        let violation = report.violation.filter(|_| simulation().run().violation.is_none())?;
        Some(Kill { seeds: seed, events, rule: violation.rule })
    })
}
