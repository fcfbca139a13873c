//! The same load on each of the libraries.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::ValueEnum;
use paxos_node::in_process::{Cluster, Setup, StorageKind, Threads, TransportKind};
use serde::Serialize;
use tempfile::TempDir;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::bare::Bare;
use super::driver::{self, Disk, Replica, Router};
use super::omni::Omni;
use super::open_raft::{MemoryLog, Nodes};
use super::open_raft_log::DiskLog;
use super::paxos::Paxos;
use super::raft_rs::{EngineDisk, RaftRs};
use crate::nothing::Nothing;

const REPLICAS: u64 = 3;
const ELECTION_POLL: Duration = Duration::from_millis(10);
const ELECTION_POLLS: usize = 2000;

/// One of the libraries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// `paxos-core` under the common driver.
    PaxosCore,
    /// `paxos-node` as it runs in production, over its memory backends, messages encoded.
    PaxosNode,
    /// `omnipaxos` under the common driver.
    #[value(name = "omnipaxos")]
    #[serde(rename = "omnipaxos")]
    OmniPaxos,
    /// `raft` under the common driver.
    #[value(name = "raft")]
    #[serde(rename = "raft")]
    RaftRs,
    /// `openraft`.
    #[value(name = "openraft")]
    #[serde(rename = "openraft")]
    OpenRaft,
    /// `openraft` as its authors measure it: all nodes and clients on one runtime whose threads steal work
    /// from each other, whatever the others run on.
    #[value(name = "openraft-pool")]
    #[serde(rename = "openraft-pool")]
    OpenRaftPool,
    /// Nobody: commands are copied and counted under the common driver, and that is all. A floor for all that
    /// share it.
    Bare,
}

impl Contender {
    /// All of them, ours first.
    pub const ALL: [Contender; 7] = [
        Contender::PaxosCore,
        Contender::PaxosNode,
        Contender::OmniPaxos,
        Contender::RaftRs,
        Contender::OpenRaft,
        Contender::OpenRaftPool,
        Contender::Bare,
    ];

    /// As its crate is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Contender::PaxosCore => "paxos-core",
            Contender::PaxosNode => "paxos-node",
            Contender::OmniPaxos => "omnipaxos",
            Contender::RaftRs => "raft",
            Contender::OpenRaft => "openraft",
            Contender::OpenRaftPool => "openraft-pool",
            Contender::Bare => "bare",
        }
    }

    /// Whether it is of this project.
    #[must_use]
    pub fn is_ours(self) -> bool {
        matches!(self, Contender::PaxosCore | Contender::PaxosNode)
    }

    /// Whether it is one of those that this project is measured beside.
    #[must_use]
    pub fn is_other(self) -> bool {
        matches!(
            self,
            Contender::OmniPaxos | Contender::RaftRs | Contender::OpenRaft | Contender::OpenRaftPool
        )
    }

    /// What it keeps its log in and how, if it can be measured with one that lasts.
    #[must_use]
    pub fn log_on_disk(self) -> Option<&'static str> {
        match self {
            Contender::PaxosNode => Some("its own `file` storage, synced before anything is accepted"),
            Contender::RaftRs => {
                Some("raft-engine 0.4.2, synced (fdatasync) before anything is acknowledged")
            }
            Contender::OpenRaft | Contender::OpenRaftPool => {
                Some("raft-log 0.4.6, synced (fdatasync) before anything is acknowledged")
            }
            Contender::PaxosCore | Contender::OmniPaxos | Contender::Bare => None,
        }
    }

    /// Commands that three replicas commit in a second, with logs in memory unless [`Self::log_on_disk`]
    /// tells of one.
    ///
    /// # Panics
    ///
    /// If a library does not do what it should although nothing fails.
    #[must_use]
    pub fn measure(self, threads: Threads, log: &Log, load: &Load) -> f64 {
        match self {
            Contender::PaxosCore => driven(|id| (Paxos::new(id, REPLICAS), None), threads, load),
            Contender::OmniPaxos => driven(|id| (Omni::new(id, REPLICAS), None), threads, load),
            Contender::RaftRs => raft_rs(threads, log, load),
            Contender::Bare => driven(|id| (Bare::new(id, REPLICAS), None), threads, load),
            Contender::OpenRaft => openraft(&Runtimes::start(threads), log, load),
            Contender::OpenRaftPool => openraft(&Runtimes::start_pool(), log, load),
            Contender::PaxosNode => paxos_node(threads, log, load),
        }
    }
}

/// Where logs are kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Log {
    /// In memory.
    Memory,
    /// In new directories within this one, which go after each measurement.
    Disk(PathBuf),
}

impl Log {
    /// A directory for one measurement, if logs are kept on a disk.
    fn directory(&self) -> Option<TempDir> {
        match self {
            Log::Memory => None,
            Log::Disk(parent) => {
                let made = tempfile::Builder::new().prefix("peers-").tempdir_in(parent);
                Some(made.expect("directories can be made where the logs are to be"))
            }
        }
    }
}

/// What clients ask for.
#[derive(Clone, Debug)]
pub struct Load {
    /// How many there are; each waits for its command before it has another.
    pub clients: usize,
    /// The length of each command.
    pub command_bytes: usize,
    /// How long they run before anything counts.
    pub warm_up: Duration,
    /// How long it counts.
    pub time: Duration,
}

impl Load {
    /// Runs clients on `runtime`, each of which calls `commit` for one command after the other.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn run<F: Future<Output = ()> + Send + 'static>(
        &self,
        runtime: &Handle,
        commit: impl Fn(Bytes) -> F + Clone + Send + 'static,
    ) -> f64 {
        let load = self.clone();
        let (finished, rate) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let committed = Arc::new(AtomicU64::new(0));
            let mut clients = JoinSet::new();
            for client in 0..load.clients {
                let (commit, committed) = (commit.clone(), Arc::clone(&committed));
                // Different for each, as there are logs that compress what is alike.
                let mut command = vec![0; load.command_bytes];
                fastrand::Rng::with_seed(client as u64).fill(&mut command);
                let command = Bytes::from(command);
                clients.spawn(async move {
                    loop {
                        commit(command.clone()).await;
                        committed.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            tokio::time::sleep(load.warm_up).await;
            let (started, before) = (Instant::now(), committed.load(Ordering::Relaxed));
            tokio::time::sleep(load.time).await;
            let counted = committed.load(Ordering::Relaxed) - before;
            assert!(clients.try_join_next().is_none(), "a client has failed");
            let _ = finished.send(counted as f64 / started.elapsed().as_secs_f64()); // The main thread waits for it.
            clients.shutdown().await;
        });
        rate.recv().expect("no client fails")
    }
}

/// A runtime for each replica, or one for all.
struct Runtimes(Vec<RuntimeThread>);

impl Runtimes {
    fn start(threads: Threads) -> Runtimes {
        let count = match threads {
            Threads::PerNode => REPLICAS,
            Threads::Shared => 1,
        };
        Runtimes((0..count).map(|_| RuntimeThread::start(Builder::new_current_thread())).collect())
    }

    /// One runtime with a thread for each processor.
    fn start_pool() -> Runtimes {
        Runtimes(vec![RuntimeThread::start(Builder::new_multi_thread())])
    }

    fn of(&self, replica: u64) -> &Handle {
        let index = usize::try_from(replica - 1).expect("replicas are few");
        &self.0.get(index).unwrap_or(&self.0[0]).handle
    }
}

/// A runtime that ends, and all tasks on it, when this is dropped.
struct RuntimeThread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RuntimeThread {
    fn start(mut builder: Builder) -> RuntimeThread {
        let runtime: Runtime = builder.enable_all().build().expect("there is room for a runtime");
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let _ = runtime.block_on(stopped); // It ends by being dropped.
        });
        RuntimeThread { handle, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for RuntimeThread {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // Whoever waited for what has failed there has told.
        }
    }
}

/// A replica, and the disk that it has, if it has any.
type Seat<R> = (R, Option<Box<dyn Disk<<R as Replica>::Write>>>);

fn driven<R: Replica>(make: impl Fn(u64) -> Seat<R>, threads: Threads, load: &Load) -> f64 {
    let runtimes = Runtimes::start(threads);
    let (router, inboxes) = Router::new(REPLICAS);
    for (id, inbox) in (1..).zip(inboxes) {
        let (replica, disk) = make(id);
        runtimes.of(id).spawn(driver::drive(id, replica, disk, inbox, Arc::clone(&router)));
    }
    let mut polls = (0..ELECTION_POLLS).map(|_| {
        std::thread::sleep(ELECTION_POLL);
        router.leader()
    });
    let leader = polls.find_map(|leader| leader).expect("a leader gets elected");
    load.run(runtimes.of(leader), move |command| {
        let router = Arc::clone(&router);
        async move { router.commit(leader, command).await }
    })
}

fn raft_rs(threads: Threads, log: &Log, load: &Load) -> f64 {
    let directory = log.directory();
    let seat = |id: u64| {
        let disk = directory.as_ref().map(|directory| {
            let disk = EngineDisk::new(&directory.path().join(id.to_string()));
            Box::new(disk) as Box<dyn Disk<_>>
        });
        (RaftRs::new(id, REPLICAS, disk.is_some()), disk)
    };
    driven(seat, threads, load)
}

fn openraft(runtimes: &Runtimes, log: &Log, load: &Load) -> f64 {
    let directory = log.directory();
    let nodes = Nodes::default();
    for id in 1..=REPLICAS {
        let nodes = nodes.clone();
        let disk = directory.as_ref().map(|directory| DiskLog::new(&directory.path().join(id.to_string())));
        wait(runtimes.of(id), async move {
            match disk {
                Some(disk) => nodes.start(id, disk).await,
                None => nodes.start(id, MemoryLog::default()).await,
            }
        });
    }
    let elected = nodes.clone();
    let leader = wait(runtimes.of(1), async move { elected.elect().await });
    let handle = nodes.node(leader);
    load.run(runtimes.of(leader), move |command| {
        let handle = handle.clone();
        async move { Nodes::commit(&handle, command).await }
    })
}

fn wait<T: Send + 'static>(runtime: &Handle, task: impl Future<Output = T> + Send + 'static) -> T {
    let (finished, result) = std::sync::mpsc::channel();
    runtime.spawn(async move {
        let _ = finished.send(task.await); // This thread waits for it.
    });
    result.recv().expect("the task does not panic")
}

fn paxos_node(threads: Threads, log: &Log, load: &Load) -> f64 {
    let (storage, data) = match log {
        Log::Memory => (StorageKind::Memory, None),
        Log::Disk(parent) => (StorageKind::File, Some(parent.clone())),
    };
    let setup = Setup::new(TransportKind::Memory, storage).with(|setup| {
        setup.threads = threads;
        setup.data = data;
    });
    let cluster = Cluster::start(&setup, || Nothing).expect("the cluster starts");
    let leader = cluster.leader().expect("a leader gets elected");
    let client = leader.client.clone();
    let rate = load.run(&leader.runtime, move |command| {
        let client = client.clone();
        async move {
            client.propose(command).await.expect("nothing fails here");
        }
    });
    cluster.stop().expect("no node has failed");
    rate
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commits(contenders: impl IntoIterator<Item = Contender>, log: &Log) {
        let load = Load {
            clients: 2,
            command_bytes: 16,
            warm_up: Duration::from_millis(50),
            time: Duration::from_millis(200),
        };
        for contender in contenders {
            for threads in [Threads::Shared, Threads::PerNode] {
                let rate = contender.measure(threads, log, &load);
                assert!(rate > 20.0, "{} commits {rate} commands a second", contender.name());
            }
        }
    }

    #[test]
    fn every_contender_commits_in_memory() {
        commits(Contender::ALL, &Log::Memory);
    }

    #[test]
    fn those_with_a_log_on_disk_commit_there() {
        let on_disk = Contender::ALL.into_iter().filter(|contender| contender.log_on_disk().is_some());
        let directory = tempfile::tempdir().expect("there is room for a directory");
        commits(on_disk, &Log::Disk(directory.path().to_owned()));
        let left = std::fs::read_dir(directory.path()).expect("it is still there").count();
        assert_eq!(left, 0, "logs go after each measurement");
    }
}
