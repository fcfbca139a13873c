//! Shrinks a failing scenario until its trace is short enough to be read.

use super::Simulation;
use super::disk::Disk;
use super::machine::Machine;
use super::rule::Rule;
use super::scenario::{Scenario, Weather};

/// A smaller scenario that breaks the same rule: fewer nodes, clients and kinds of trouble, less time.
///
/// Tries one simplification after the other, and keeps those under which the rule is still broken, until none
/// of them helps.
#[must_use]
pub fn shrunk<M: Machine, D: Disk>(scenario: Scenario, rule: Rule) -> Scenario {
    let still_fails = |candidate: &Scenario| {
        let report = Simulation::<M, D>::new(candidate.clone()).run();
        report.violation.is_some_and(|violation| violation.rule == rule)
    };
    let mut smallest = scenario;
    loop {
        let better = simplifications(&smallest).into_iter().find(still_fails);
        match better {
            Some(better) => smallest = better,
            None => return smallest,
        }
    }
}

fn simplifications(scenario: &Scenario) -> Vec<Scenario> {
    let mut candidates = Vec::new();
    let mut propose = |simplify: &dyn Fn(&mut Scenario)| {
        let mut candidate = scenario.clone();
        simplify(&mut candidate);
        if format!("{candidate:?}") != format!("{scenario:?}") {
            candidates.push(candidate);
        }
    };
    propose(&|candidate| candidate.chaos_ticks /= 2);
    propose(&|candidate| candidate.chaos_ticks -= candidate.chaos_ticks / 10);
    if scenario.nodes > 3 && scenario.quorums.is_none() {
        propose(&|candidate| candidate.nodes = 3);
    }
    for position in 0..scenario.faults.len() {
        propose(&|candidate| {
            candidate.faults.remove(position);
        });
    }
    propose(&|candidate| candidate.operators = 0);
    propose(&|candidate| candidate.operators = candidate.operators.min(1));
    propose(&|candidate| candidate.spares /= 2);
    propose(&|candidate| candidate.clients = 1);
    propose(&|candidate| candidate.weather = Weather { latency_units: 10, ..Weather::default() });
    propose(&|candidate| candidate.weather.loss = 0);
    propose(&|candidate| candidate.weather.doubling = 0);
    propose(&|candidate| candidate.weather.ancient = 0);
    propose(&|candidate| candidate.weather.long_delay = 0);
    propose(&|candidate| candidate.weather.jitter_units = 0);
    propose(&|candidate| candidate.streams = false);
    propose(&|candidate| candidate.odd_ids = false);
    propose(&|candidate| candidate.reads = 0);
    propose(&|candidate| {
        candidate.snapshot_slots = 0;
        candidate.settings.log_bytes = usize::MAX; // Without snapshots it grows.
    });
    propose(&|candidate| candidate.clock_error = 0);
    propose(&|candidate| candidate.sync_units = 1);
    propose(&|candidate| candidate.minority_stays_away = false);
    candidates
}
