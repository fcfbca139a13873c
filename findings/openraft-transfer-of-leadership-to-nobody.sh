#!/usr/bin/env bash
# openraft 0.10.0-alpha.37: `Trigger::transfer_leader` to a node that can't take over: the leader itself, a
# learner, or an id that is no member.
#
# Guessed: nothing changes: such a transfer is refused with an error, or ignored, and the leader goes on (as
#          in the Raft of TiKV). At worst it is given up after an election timeout, after which the leader
#          goes on.
# Seen:    It returns Ok. From then on the leader refuses every write, linearizable read and change of members
#          with ForwardToLeader, which names the target: itself, the learner, or nobody. It never goes back.
#          It calls itself Leader all the while (`is_leader()`, metrics). In a cluster of three, the others
#          elect another leader once their lease on it has run out. In a cluster of one voter it stays so;
#          `Trigger::elect` doesn't help, a restart does.
#
# What follows: look at the target before the call - a voter, reachable, and not this node - and take
# ForwardToLeader that names the node one has just asked for "nobody leads", or a client spins on it.
#
# Needs cargo. Prints what it saw; exits 1 if any of it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "transfer"
version = "0.1.0"
edition = "2021"

[dependencies]
anyerror = "0.1"
openraft = { version = "=0.10.0-alpha.37", default-features = false, features = ["tokio-rt", "type-alias"] }
openraft-memstore = "=0.10.0-alpha.37"
tokio = { version = "1.48", features = ["macros", "rt", "time"] }
TOML
cat > src/main.rs <<'RUST'
use anyerror::AnyError;
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::errors::{ReplicationClosed, RPCError, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse, VoteRequest,
    VoteResponse,
};
use openraft::{Config, OptionalSend, ReadPolicy};
use openraft_memstore::{new_mem_store, ClientRequest, MemLogStore, MemStateMachine, TypeConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::future::Future;
use std::io::Cursor;
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Raft = openraft::Raft<TypeConfig, Arc<MemStateMachine>>;

/// Calls the other nodes of the same process.
#[derive(Clone, Default)]
struct Network(Arc<Mutex<BTreeMap<u64, Raft>>>);
struct Peer(Network, u64);

fn unreachable(error: impl Debug) -> Unreachable<TypeConfig> {
    Unreachable::new(&AnyError::error(format!("{error:?}")))
}

impl Peer {
    fn raft(&self) -> Result<Raft, Unreachable<TypeConfig>> {
        self.0 .0.lock().unwrap().get(&self.1).cloned().ok_or_else(|| unreachable("no such node"))
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _: &()) -> Peer {
        Peer(self.clone(), target)
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = Cursor<Vec<u8>>;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        Ok(self.raft()?.append_entries(request).await.map_err(unreachable)?)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Ok(self.raft()?.vote(request).await.map_err(unreachable)?)
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, Self::SnapshotData>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        Ok(self.raft()?.install_full_snapshot(vote, snapshot).await.map_err(unreachable)?)
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        Ok(self.raft()?.handle_transfer_leader(request).await.map_err(unreachable)?)
    }
}

type Stores = (Arc<MemLogStore>, Arc<MemStateMachine>);

async fn start(network: &Network, id: u64, (log, state_machine): Stores) -> Raft {
    let config = Config { heartbeat_interval: 100, election_timeout_min: 2000, election_timeout_max: 3000, ..Config::default() };
    let config = Arc::new(config.validate().unwrap());
    let raft = Raft::new(id, config, network.clone(), log, state_machine).await.unwrap();
    network.0.lock().unwrap().insert(id, raft.clone());
    raft
}

/// A cluster led by node 1, which has these stores, with a learner behind the voters.
async fn cluster(voters: u64, network: &Network, stores: Stores) -> BTreeMap<u64, Raft> {
    start(network, 1, stores).await;
    for id in 2..=voters + 1 {
        start(network, id, new_mem_store()).await;
    }
    let nodes = network.0.lock().unwrap().clone();
    nodes[&1].initialize((1..=voters).collect::<BTreeSet<u64>>()).await.unwrap();
    while nodes[&1].current_leader().await.is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(nodes[&1].current_leader().await, Some(1));
    nodes[&1].add_learner(voters + 1, (), true).await.unwrap();
    assert_eq!(write(&nodes[&1]).await, "ok");
    nodes
}

async fn write(raft: &Raft) -> String {
    let request = ClientRequest { client: "client".to_owned(), serial: 1, status: "status".to_owned() };
    outcome(raft.client_write(request).await)
}

async fn read(raft: &Raft) -> String {
    outcome(raft.ensure_linearizable(ReadPolicy::ReadIndex).await)
}

fn outcome<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "ok".to_owned())
}

async fn try_transfer(voters: u64, what: &str, target: u64) {
    let (network, stores) = (Network::default(), new_mem_store());
    let nodes = cluster(voters, &network, stores.clone()).await;
    let leader = &nodes[&1];
    leader.trigger().transfer_leader(target).await.unwrap();
    let (written, has_read) = (write(leader).await, read(leader).await);
    println!("{voters} voters, transfer to {what}: write {written}; read {has_read}; is_leader {}", leader.is_leader());
    tokio::time::sleep(Duration::from_secs(10)).await;
    if voters == 1 {
        leader.trigger().elect(false).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        println!("  15 seconds and Trigger::elect later: write {}; is_leader {}", write(leader).await, leader.is_leader());
        assert_ne!(outcome(leader.add_learner(9, (), false).await), "ok", "no change of members either");
        leader.shutdown().await.unwrap();
        let restarted = start(&network, 1, stores).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        println!("  restarted: write {}", write(&restarted).await);
        restarted.shutdown().await.unwrap();
    } else {
        let new = (2..=voters).find(|id| nodes[id].is_leader());
        let written = match new {
            Some(id) => write(&nodes[&id]).await,
            None => "not tried".to_owned(),
        };
        println!("  10 seconds later: node 1 leads {}, another leads {}: write {written}", leader.is_leader(), new.is_some());
    }
    for node in nodes.values() {
        node.shutdown().await.unwrap();
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for voters in [1, 3] {
        try_transfer(voters, "itself", 1).await;
        try_transfer(voters, "a learner", voters + 1).await;
        try_transfer(voters, "no member", 77).await;
    }
}
RUST
cargo run --quiet 2>errors > seen.txt || { cat errors; exit 1; }
cat seen.txt
diff - seen.txt <<'EXPECTED' || { echo "openraft behaves otherwise now"; exit 1; }
1 voters, transfer to itself: write has to forward request to: Some(1), Some(()); read has to forward request to: Some(1), Some(()); is_leader true
  15 seconds and Trigger::elect later: write has to forward request to: Some(1), Some(()); is_leader true
  restarted: write ok
1 voters, transfer to a learner: write has to forward request to: Some(2), Some(()); read has to forward request to: Some(2), Some(()); is_leader true
  15 seconds and Trigger::elect later: write has to forward request to: Some(2), Some(()); is_leader true
  restarted: write ok
1 voters, transfer to no member: write has to forward request to: None, None; read has to forward request to: None, None; is_leader true
  15 seconds and Trigger::elect later: write has to forward request to: None, None; is_leader true
  restarted: write ok
3 voters, transfer to itself: write has to forward request to: Some(1), Some(()); read has to forward request to: Some(1), Some(()); is_leader true
  10 seconds later: node 1 leads false, another leads true: write ok
3 voters, transfer to a learner: write has to forward request to: Some(4), Some(()); read has to forward request to: Some(4), Some(()); is_leader true
  10 seconds later: node 1 leads false, another leads true: write ok
3 voters, transfer to no member: write has to forward request to: None, None; read has to forward request to: None, None; is_leader true
  10 seconds later: node 1 leads false, another leads true: write ok
EXPECTED
