#!/usr/bin/env bash
# raft 0.7.0 (the Raft of TiKV): nodes that are no voters, and lead.
#
# Guessed: `RawNode::campaign` of a learner is refused or ignored (a learner's own timer never makes it
#          stand). A leader that has applied its own removal refuses proposals until the others elect another.
# Seen:    A learner that campaigns wins: the voters vote for it, also while their leader is alive, and it
#          leads and commits for good. With check_quorum it wins where there is no leader; a live leader it
#          deposes all the same, for another voter. A leader that has applied its own removal stays leader. It
#          drops every proposal (ProposalDropped), goes on with heartbeats, which the voters heed, so that
#          nobody stands, and answers reads. The cluster takes no command until somebody stops that node,
#          however long that is; check_quorum changes nothing.
#
# What follows: ask `raft.promotable()` before `campaign()`, and hand leadership over before a leader is
# removed, or have it call `become_follower` (or stop) once its removal is applied.
#
# Needs cargo. Prints what it saw; exits 1 if any of it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "leaders"
version = "0.1.0"
edition = "2021"

[dependencies]
protobuf = "2"
raft = { version = "=0.7.0", default-features = false, features = ["protobuf-codec"] }
slog = "2"
TOML
cat > src/main.rs <<'RUST'
use protobuf::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeType, EntryType};
use raft::prelude::*;
use raft::storage::MemStorage;
use raft::StateRole;

struct Cluster {
    nodes: Vec<RawNode<MemStorage>>,
    reads: usize,
}

impl Cluster {
    /// Three nodes, the last `learners` of which are learners.
    fn new(learners: u64, check_quorum: bool) -> Self {
        let voters = 3 - learners;
        let node = |id: u64| {
            let config = Config { id, check_quorum, election_tick: 10, heartbeat_tick: 2, ..Config::default() };
            let members = ((1..=voters).collect(), (voters + 1..=3).collect());
            let storage = MemStorage::new_with_conf_state::<(Vec<u64>, Vec<u64>)>(members);
            RawNode::new(&config, storage, &slog::Logger::root(slog::Discard, slog::o!())).unwrap()
        };
        Self { nodes: (1..=3).map(node).collect(), reads: 0 }
    }

    fn node(&mut self, id: u64) -> &mut RawNode<MemStorage> {
        &mut self.nodes[id as usize - 1]
    }

    /// Lets messages travel until none is left.
    fn settle(&mut self) {
        loop {
            let messages: Vec<_> = (1..=3).flat_map(|id| self.ready(id)).collect();
            if messages.is_empty() {
                return;
            }
            for message in messages {
                self.node(message.to).step(message).unwrap();
            }
        }
    }

    fn ready(&mut self, id: u64) -> Vec<Message> {
        let node = self.node(id);
        if !node.has_ready() {
            return Vec::new();
        }
        let storage = node.raft.raft_log.store.clone();
        let mut ready = node.ready();
        let reads = ready.take_read_states().len();
        let mut messages = ready.take_messages();
        let mut committed = ready.take_committed_entries();
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
        committed.extend(rest.take_committed_entries());
        for entry in committed.iter().filter(|entry| entry.get_entry_type() == EntryType::EntryConfChange) {
            let mut change = ConfChange::default();
            change.merge_from_bytes(&entry.data).unwrap();
            let members = node.apply_conf_change(&change).unwrap();
            storage.wl().set_conf_state(members);
        }
        node.advance_apply();
        self.reads += reads;
        messages
    }

    fn ticks(&mut self, count: usize) {
        for _ in 0..count {
            self.nodes.iter_mut().for_each(|node| _ = node.tick());
            self.settle();
        }
    }

    fn elect(&mut self, id: u64) {
        self.node(id).campaign().unwrap();
        self.settle();
        self.ticks(100);
    }

    fn leads(&mut self, id: u64) -> bool {
        self.node(id).raft.state == StateRole::Leader
    }
}

fn learner_campaigns(check_quorum: bool, is_led: bool) {
    let mut cluster = Cluster::new(1, check_quorum);
    if is_led {
        cluster.elect(1);
    }
    let before = if is_led { "while node 1 leads" } else { "without a leader" };
    let term = cluster.node(1).raft.term;
    cluster.elect(3);
    println!(
        "check_quorum {check_quorum}, learner 3 campaigns {before}: a new term {}, led by the learner {}",
        cluster.node(1).raft.term > term,
        cluster.leads(3)
    );
    if cluster.leads(3) {
        let committed = cluster.node(1).raft.raft_log.committed;
        cluster.node(3).propose(Vec::new(), b"command".to_vec()).unwrap();
        cluster.settle();
        assert!(cluster.node(1).raft.raft_log.committed > committed, "the learner commits commands");
    }
}

fn leader_is_removed(check_quorum: bool) {
    let mut cluster = Cluster::new(0, check_quorum);
    cluster.elect(1);
    let removal = ConfChange { node_id: 1, change_type: ConfChangeType::RemoveNode, ..ConfChange::default() };
    cluster.node(1).propose_conf_change(Vec::new(), removal).unwrap();
    cluster.settle();
    assert!(!cluster.node(1).raft.prs().conf().voters().contains(1), "node 1 has applied its removal");
    cluster.ticks(1000);
    let proposal = cluster.node(1).propose(Vec::new(), b"command".to_vec());
    cluster.reads = 0;
    cluster.node(1).read_index(b"read".to_vec());
    cluster.settle();
    println!(
        "check_quorum {check_quorum}, 1000 ticks after leader 1 was removed: it leads {}, a voter leads {}, \
         it answers a proposal with {proposal:?}, reads answered {}",
        cluster.leads(1),
        cluster.leads(2) || cluster.leads(3),
        cluster.reads
    );
}

fn main() {
    for (check_quorum, is_led) in [(false, true), (false, false), (true, true), (true, false)] {
        learner_campaigns(check_quorum, is_led);
    }
    leader_is_removed(false);
    leader_is_removed(true);
}
RUST
cargo run --quiet 2>errors > seen.txt || { cat errors; exit 1; }
cat seen.txt
diff - seen.txt <<'EXPECTED' || { echo "raft behaves otherwise now"; exit 1; }
check_quorum false, learner 3 campaigns while node 1 leads: a new term true, led by the learner true
check_quorum false, learner 3 campaigns without a leader: a new term true, led by the learner true
check_quorum true, learner 3 campaigns while node 1 leads: a new term true, led by the learner false
check_quorum true, learner 3 campaigns without a leader: a new term true, led by the learner true
check_quorum false, 1000 ticks after leader 1 was removed: it leads true, a voter leads false, it answers a proposal with Err(ProposalDropped), reads answered 1
check_quorum true, 1000 ticks after leader 1 was removed: it leads true, a voter leads false, it answers a proposal with Err(ProposalDropped), reads answered 1
EXPECTED
