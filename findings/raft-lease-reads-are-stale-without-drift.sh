#!/usr/bin/env bash
# raft 0.7.0 (the Raft of TiKV): reads by leader lease (ReadOnlyOption::LeaseBased with check_quorum, which it
# demands, and with pre_vote), when the leader is cut off and the clocks of all nodes tick in lockstep.
#
# Guessed: the documentation names clock drift as what this option depends on. Where nothing drifts, a leader
#          that is cut off stops answering reads before another leader can be elected, and so before it can
#          commit anything.
# Seen:    The old leader answers reads from its own, older index for up to a whole election timeout after the
#          new leader has committed a newer command. It looks once per election timeout whether a quorum has
#          been heard since the *last look*, so it notices only at the second look after the cut: up to two
#          election timeouts later. Followers elect another leader after one. How many ticks are left depends
#          on where in this period the cut falls; there is none that is safe. With ReadOnlyOption::Safe, the
#          same run has no stale read.
#
# What follows: a lease has to be counted from the *sending* of the heartbeat that a quorum answered, and to
# be shorter than the followers' patience. Whoever uses this crate keeps such a lease of their own, or
# ReadOnlyOption::Safe.
#
# Needs cargo. Prints what it saw; exits 1 if any of it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "lease"
version = "0.1.0"
edition = "2021"

[dependencies]
raft = { version = "=0.7.0", default-features = false, features = ["protobuf-codec"] }
slog = "2"
TOML
cat > src/main.rs <<'RUST'
use raft::prelude::*;
use raft::storage::MemStorage;
use raft::{ReadOnlyOption, StateRole};

const ELECTION_TICKS: usize = 10;

struct Cluster {
    nodes: Vec<RawNode<MemStorage>>,
    /// What node 1 sends to others, and they to it, is lost.
    is_cut: bool,
    /// Index of each read that node 1 has answered.
    reads: Vec<u64>,
}

impl Cluster {
    fn new(read_only_option: ReadOnlyOption) -> Self {
        let node = |id: u64| {
            // So that two nodes never stand at once: node 2 is the first to lose patience.
            let min_election_tick = ELECTION_TICKS + if id == 2 { 0 } else { 8 };
            let config = Config {
                id,
                election_tick: ELECTION_TICKS,
                heartbeat_tick: 2,
                min_election_tick,
                max_election_tick: min_election_tick + 1,
                check_quorum: true,
                pre_vote: true,
                read_only_option,
                ..Config::default()
            };
            let storage = MemStorage::new_with_conf_state((vec![1, 2, 3], vec![]));
            RawNode::new(&config, storage, &slog::Logger::root(slog::Discard, slog::o!())).unwrap()
        };
        Self { nodes: (1..=3).map(node).collect(), is_cut: false, reads: Vec::new() }
    }

    /// Lets messages travel until none is left.
    fn settle(&mut self) {
        loop {
            let messages: Vec<_> = (0..self.nodes.len()).flat_map(|index| self.ready(index)).collect();
            if messages.is_empty() {
                return;
            }
            for message in messages {
                if !(self.is_cut && (message.from == 1) != (message.to == 1)) {
                    self.nodes[message.to as usize - 1].step(message).unwrap();
                }
            }
        }
    }

    fn ready(&mut self, index: usize) -> Vec<Message> {
        let node = &mut self.nodes[index];
        if !node.has_ready() {
            return Vec::new();
        }
        let storage = node.raft.raft_log.store.clone();
        let mut ready = node.ready();
        let mut messages = ready.take_messages();
        for read in ready.take_read_states() {
            assert_eq!(index, 0, "only node 1 is asked to read");
            self.reads.push(read.index);
        }
        storage.wl().append(ready.entries()).unwrap();
        if let Some(state) = ready.hs() {
            storage.wl().set_hardstate(state.clone());
        }
        messages.extend(ready.take_persisted_messages());
        let mut rest = node.advance(ready);
        if let Some(commit) = rest.commit_index() {
            storage.wl().mut_hard_state().set_commit(commit);
        }
        messages.extend(rest.take_messages());
        node.advance_apply();
        messages
    }

    fn tick(&mut self) {
        for node in &mut self.nodes {
            node.tick();
        }
        self.settle();
    }
}

/// How many ticks after the cut node 2 has committed something newer, and how many reads node 1 answers
/// after that.
fn stale_reads(read_only_option: ReadOnlyOption, ticks_before_cut: usize) -> (usize, usize) {
    let mut cluster = Cluster::new(read_only_option);
    cluster.nodes[0].campaign().unwrap();
    cluster.settle();
    for _ in 0..3 * ELECTION_TICKS + ticks_before_cut {
        cluster.tick();
    }
    assert_eq!(cluster.nodes[0].raft.state, StateRole::Leader);
    cluster.is_cut = true;
    let before = cluster.nodes[0].raft.raft_log.committed;
    let mut newer_since = None;
    let mut stale = 0;
    for tick in 1..4 * ELECTION_TICKS {
        cluster.tick();
        if newer_since.is_none() && cluster.nodes[1].raft.state == StateRole::Leader {
            cluster.nodes[1].propose(Vec::new(), b"newer".to_vec()).unwrap();
            cluster.settle();
            assert!(cluster.nodes[1].raft.raft_log.committed > before, "node 2 commits with node 3");
            newer_since = Some(tick);
        }
        cluster.reads.clear();
        cluster.nodes[0].read_index(tick.to_string().into_bytes());
        cluster.settle();
        if newer_since.is_some() {
            assert!(cluster.reads.iter().all(|index| *index == before));
            stale += cluster.reads.len();
        }
    }
    (newer_since.expect("another leader"), stale)
}

fn main() {
    for option in [ReadOnlyOption::LeaseBased, ReadOnlyOption::Safe] {
        for ticks_before_cut in 0..ELECTION_TICKS {
            let (tick, stale) = stale_reads(option, ticks_before_cut);
            println!(
                "{option:?}, cut {ticks_before_cut} ticks into a period: a newer command is committed {tick} ticks later, \
                 stale reads behind it: {stale}"
            );
        }
    }
}
RUST
cargo run --quiet 2>errors > seen.txt || { cat errors; exit 1; }
cat seen.txt
diff - seen.txt <<'EXPECTED' || { echo "raft behaves otherwise now"; exit 1; }
LeaseBased, cut 0 ticks into a period: a newer command is committed 10 ticks later, stale reads behind it: 10
LeaseBased, cut 1 ticks into a period: a newer command is committed 9 ticks later, stale reads behind it: 10
LeaseBased, cut 2 ticks into a period: a newer command is committed 10 ticks later, stale reads behind it: 8
LeaseBased, cut 3 ticks into a period: a newer command is committed 9 ticks later, stale reads behind it: 8
LeaseBased, cut 4 ticks into a period: a newer command is committed 10 ticks later, stale reads behind it: 6
LeaseBased, cut 5 ticks into a period: a newer command is committed 9 ticks later, stale reads behind it: 6
LeaseBased, cut 6 ticks into a period: a newer command is committed 10 ticks later, stale reads behind it: 4
LeaseBased, cut 7 ticks into a period: a newer command is committed 9 ticks later, stale reads behind it: 4
LeaseBased, cut 8 ticks into a period: a newer command is committed 10 ticks later, stale reads behind it: 2
LeaseBased, cut 9 ticks into a period: a newer command is committed 9 ticks later, stale reads behind it: 2
Safe, cut 0 ticks into a period: a newer command is committed 10 ticks later, stale reads behind it: 0
Safe, cut 1 ticks into a period: a newer command is committed 9 ticks later, stale reads behind it: 0
Safe, cut 2 ticks into a period: a newer command is committed 10 ticks later, stale reads behind it: 0
Safe, cut 3 ticks into a period: a newer command is committed 9 ticks later, stale reads behind it: 0
Safe, cut 4 ticks into a period: a newer command is committed 10 ticks later, stale reads behind it: 0
Safe, cut 5 ticks into a period: a newer command is committed 9 ticks later, stale reads behind it: 0
Safe, cut 6 ticks into a period: a newer command is committed 10 ticks later, stale reads behind it: 0
Safe, cut 7 ticks into a period: a newer command is committed 9 ticks later, stale reads behind it: 0
Safe, cut 8 ticks into a period: a newer command is committed 10 ticks later, stale reads behind it: 0
Safe, cut 9 ticks into a period: a newer command is committed 9 ticks later, stale reads behind it: 0
EXPECTED
