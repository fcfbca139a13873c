//! Random faults over random clusters. A failure names its seed; `PAXOS_SEED=n cargo test -p paxos-core
//! storms` runs that one alone.

use super::cluster::{Cluster, Faults};
use crate::random::Random;
use crate::{NodeId, PhaseOne, ProtocolSettings, ReadMode};

const SEEDS: u64 = 300;

fn seeds() -> Vec<u64> {
    match std::env::var("PAXOS_SEED") {
        Ok(seed) => vec![seed.parse().expect("PAXOS_SEED is a number")],
        Err(_) => (1..=SEEDS).collect(),
    }
}

fn drawn_settings(random: &mut Random) -> ProtocolSettings {
    ProtocolSettings {
        phase_one: if random.below(5) == 0 { PhaseOne::EveryValue } else { PhaseOne::OncePerLeader },
        reads: if random.below(3) == 0 {
            ReadMode::Lease { lease_ticks: 30, drift_ticks: 4 }
        } else {
            ReadMode::QuorumRound
        },
        window_slots: 1 + random.below(20),
        eager_commands: 1 + random.index(4),
        batch_bytes: 20,
        retained_bytes: random.below(2000) as usize,
        chunk_bytes: 1 + random.below(400) as usize,
        ..ProtocolSettings::default()
    }
}

fn trouble(cluster: &mut Cluster, random: &mut Random) {
    let ids = cluster.ids();
    let pick = |random: &mut Random| ids[random.below(ids.len() as u64) as usize];
    let (one, other) = (pick(random), pick(random));
    match random.below(16) {
        0 => cluster.crash(one),
        1 => {
            for id in &ids {
                cluster.crash(*id);
            }
        }
        2..=5 => restart_stopped(cluster),
        6 if one != other => cluster.cut_both_ways(one, other),
        7 if one != other => cluster.cut.push((one, other)),
        8 => ids.iter().filter(|id| **id != one).for_each(|id| cluster.cut_both_ways(one, *id)),
        9 | 10 => cluster.cut.clear(),
        11 => cluster.save_snapshot(one),
        12 => {
            let stuck = random.below(2) == 0;
            cluster.node(one).is_disk_stuck = stuck;
        }
        13 => {
            cluster.faults =
                Faults { lost: random.below(30), doubled: random.below(50), delayed: random.below(60) };
        }
        _ => {}
    }
}

fn restart_stopped(cluster: &mut Cluster) {
    let stopped = |cluster: &Cluster, id: &NodeId| cluster.nodes[id].replica.is_none();
    for id in cluster.ids() {
        if stopped(cluster, &id) {
            cluster.start(id);
        }
    }
}

fn heal(cluster: &mut Cluster) {
    cluster.cut.clear();
    cluster.faults = Faults::default();
    for id in cluster.ids() {
        cluster.node(id).is_disk_stuck = false;
    }
    restart_stopped(cluster);
}

/// The cluster asserts safety at each applied value and each finished read; this test asserts progress.
#[test]
fn storms_break_no_promise_and_progress_follows_them() {
    let (mut slots, mut reads) = (0, 0);
    for seed in seeds() {
        let mut random = Random::new(seed);
        let size = [1, 3, 3, 3, 5][random.below(5) as usize];
        let mut cluster = Cluster::new(size, seed, drawn_settings(&mut random));
        for step in 0..5000 {
            let ids = cluster.ids();
            let id = ids[random.below(size) as usize];
            match random.below(64) {
                0..=11 => cluster.propose(id, &format!("command {step}")),
                12..=15 => drop(cluster.read(id)),
                16 => trouble(&mut cluster, &mut random),
                _ => cluster.tick(),
            }
        }
        heal(&mut cluster);
        cluster.run_until("a leader after the storm", 3000, |cluster| cluster.leader().is_some());
        for attempt in 0..20 {
            cluster.run(100);
            if let Some(leader) = cluster.leader() {
                cluster.propose(leader, &format!("last {attempt}"));
            }
        }
        cluster.run_until("the last commands everywhere", 2000, |cluster| cluster.all_applied("last 19"));
        slots += cluster.applied.len();
        reads += cluster.nodes.values().map(|node| node.reads_done).sum::<u64>();
    }
    println!("{slots} slots applied and {reads} reads answered");
    assert!(slots > 0 && reads > 0, "the storms let something through");
}
