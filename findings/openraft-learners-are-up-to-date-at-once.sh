#!/usr/bin/env bash
# openraft 0.10.0-alpha.37: `Raft::add_learner` with `blocking: true`, which is meant to return once the
# leader takes the new node for caught up and fit to be a voter, for a node that was never started.
#
# Guessed: it waits for the node for as long as it takes, here forever.
# Seen:    It returns Ok at once, though the leader's own metrics say that the learner has nothing (`None`),
#          as long as the log has at most `replication_lag_threshold` (5000 by default) entries: a node is "up
#          to date" when it is not farther behind than that, and one that has never answered counts as an
#          empty one that is only so far behind. With a threshold below the length of the log it waits.
#
# What follows: `Ok` doesn't say that the address is right, or that anybody is there. Who makes a voter of it
# next lets quorums count a node that may not exist; a quorum of two voters is both. Wait until the learner's
# entry in `metrics().replication` has reached the log id of the change.
#
# Needs cargo. Prints what it saw; exits 1 if any of it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "learner"
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
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{Config, OptionalSend};
use openraft_memstore::{new_mem_store, ClientRequest, TypeConfig};
use std::collections::BTreeSet;
use std::future::Future;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

/// A network without any node that could be reached.
struct Nobody;

fn nobody() -> Unreachable<TypeConfig> {
    Unreachable::new(&AnyError::error("nobody is there"))
}

impl RaftNetworkFactory<TypeConfig> for Nobody {
    type Network = Nobody;

    async fn new_client(&mut self, _: u64, _: &()) -> Nobody {
        Nobody
    }
}

impl RaftNetworkV2<TypeConfig> for Nobody {
    type SnapshotData = Cursor<Vec<u8>>;

    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(nobody().into())
    }

    async fn vote(
        &mut self,
        _: VoteRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(nobody().into())
    }

    async fn full_snapshot(
        &mut self,
        _: VoteOf<TypeConfig>,
        _: SnapshotOf<TypeConfig, Self::SnapshotData>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        Err(nobody().into())
    }
}

async fn add(threshold: Option<u64>, writes: u64) {
    let mut config = Config::default();
    if let Some(threshold) = threshold {
        config.replication_lag_threshold = threshold;
    }
    let (log, state_machine) = new_mem_store();
    let config = Arc::new(config.validate().unwrap());
    let raft = openraft::Raft::<TypeConfig, _>::new(1, config.clone(), Nobody, log, state_machine).await.unwrap();
    raft.initialize(BTreeSet::from([1_u64])).await.unwrap();
    while raft.current_leader().await.is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for serial in 0..writes {
        let request = ClientRequest { client: "client".to_owned(), serial, status: "status".to_owned() };
        raft.client_write(request).await.unwrap();
    }
    let added = tokio::time::timeout(Duration::from_secs(10), raft.add_learner(2, (), true)).await;
    let outcome = match added {
        Ok(Ok(_)) => "Ok".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "nothing within 10 seconds".to_owned(),
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    let learner = raft.metrics().borrow_watched().replication.as_ref().and_then(|nodes| nodes.get(&2).copied());
    println!(
        "threshold {}, {writes} writes: add_learner answers {outcome}, the learner has {learner:?}",
        config.replication_lag_threshold
    );
    raft.shutdown().await.unwrap();
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    add(None, 10).await;
    add(None, 4000).await;
    add(None, 6000).await;
    add(Some(100), 50).await;
    add(Some(100), 200).await;
}
RUST
cargo run --quiet 2>errors > seen.txt || { cat errors; exit 1; }
cat seen.txt
diff - seen.txt <<'EXPECTED' || { echo "openraft behaves otherwise now"; exit 1; }
threshold 5000, 10 writes: add_learner answers Ok, the learner has Some(None)
threshold 5000, 4000 writes: add_learner answers Ok, the learner has Some(None)
threshold 5000, 6000 writes: add_learner answers nothing within 10 seconds, the learner has Some(None)
threshold 100, 50 writes: add_learner answers Ok, the learner has Some(None)
threshold 100, 200 writes: add_learner answers nothing within 10 seconds, the learner has Some(None)
EXPECTED
