//! The example of the guide: its bug is found, and the guide shows what the program prints.
//!
//! `PAXOS_WRITE_GUIDE=1 cargo test -p paxos-node --features sim --test simulation` writes that anew.

#[path = "../../examples/simulate/tickets.rs"]
mod tickets;

use std::path::Path;

use paxos_core::sim::{ModelDisk, Retold, Rule, Suite, replay};
use paxos_node::sim::Simulated;
use tickets::Counter;

/// The seed that the guide replays.
const SEED: u64 = 47;

#[test]
fn the_guide_shows_what_the_simulator_finds() {
    let mut lines = Vec::new();
    let mut rule = None;
    replay::<Simulated<Counter<true>>, ModelDisk>(SEED, None, true, |retold| {
        lines.push(format!("{retold}\n"));
        if let Retold::Over(_, report) = retold {
            rule = report.violation.as_ref().map(|violation| violation.rule);
        }
    });
    assert_eq!(rule, Some(Rule::SameState));
    let told = lines.concat();
    let shown = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guide/simulate.txt");
    if std::env::var_os("PAXOS_WRITE_GUIDE").is_some() {
        std::fs::write(&shown, &told).expect("the source tree can be written");
    }
    let shown = std::fs::read_to_string(shown).expect("the guide has it");
    assert_eq!(shown, told, "PAXOS_WRITE_GUIDE=1 writes it anew");
}

#[test]
fn the_mended_example_keeps_every_rule() {
    let findings = Suite::<Simulated<Counter<false>>, ModelDisk>::new(1).events(1_000_000).run(|_| ());
    assert!(findings.violations.is_empty(), "{:?}", findings.violations);
}
