//! A whole cluster in this process, over any pair of backends: to measure them, and to try a state machine of your own.
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! use paxos_node::in_process::{Cluster, Setup, StorageKind, TransportKind};
//! use paxos_node::kv::{Operation, Store};
//!
//! let setup = Setup::new(TransportKind::Memory, StorageKind::Memory);
//! let cluster = Cluster::start(&setup, Store::default)?;
//! let leader = cluster.leader()?;
//! let client = leader.client.clone();
//! // On the leader's own thread, where its answers come soonest.
//! let applied = leader.runtime.spawn(async move { client.propose(Operation::command(&[])).await });
//! # futures_executor(applied);
//! cluster.stop()?;
//! # }
//! # fn futures_executor<T>(task: tokio::task::JoinHandle<T>) {
//! #     tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(task).unwrap();
//! # }
//! # Ok::<(), paxos_node::in_process::Error>(())
//! ```
//!
//! It counts what goes through the backends: messages, their bytes, and syncs. Certificates are made in memory, logs in
//! a temporary directory that goes with the cluster.
//!
//! Deliberately absent: faults (those are the simulator's, `paxos-core` with feature `sim`), and restarts.

mod backends;
mod counted;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use paxos_core::{NodeId, Options, Role};
use serde::Serialize;
use tempfile::TempDir;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use self::backends::Seat;
use self::counted::Counters;
use crate::client::Client;
use crate::node::{Node, NodeError};
use crate::settings::{NodeSettings, WriterMode};
use crate::state_machine::StateMachine;

/// How long a cluster may take to find a leader; it takes less than two seconds unless the machine is overloaded.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(20);
const ELECTION_POLL: Duration = Duration::from_millis(5);

/// What carries messages between the nodes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransportKind {
    /// Queues within the process.
    Memory,
    /// TLS over TCP.
    Tcp,
    /// QUIC over UDP.
    Quic,
}

/// Where the log is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StorageKind {
    /// In memory.
    Memory,
    /// In a write-ahead log.
    File,
}

/// Which threads the nodes run on. Each has a current-thread runtime.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Threads {
    /// Each node has one of its own, as if it were a process.
    PerNode,
    /// All nodes share one: no message ever wakes another thread, and no two nodes work at the same time.
    Shared,
}

impl TransportKind {
    /// Those that are compiled in.
    pub const COMPILED: &[TransportKind] = &[
        #[cfg(feature = "memory")]
        TransportKind::Memory,
        #[cfg(feature = "tcp")]
        TransportKind::Tcp,
        #[cfg(feature = "quic")]
        TransportKind::Quic,
    ];

    /// As it is written on the command line, and as the feature is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            TransportKind::Memory => "memory",
            TransportKind::Tcp => "tcp",
            TransportKind::Quic => "quic",
        }
    }
}

impl StorageKind {
    /// Those that are compiled in.
    pub const COMPILED: &[StorageKind] = &[
        #[cfg(feature = "memory")]
        StorageKind::Memory,
        #[cfg(feature = "file")]
        StorageKind::File,
    ];

    /// As it is written on the command line, and as the feature is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            StorageKind::Memory => "memory",
            StorageKind::File => "file",
        }
    }
}

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many nodes it has, from 1 on.
    pub nodes: u64,
    /// What carries messages between them.
    pub transport: TransportKind,
    /// Where they keep their logs.
    pub storage: StorageKind,
    /// How many streams of QUIC accepts are spread over: see `log_streams` of `paxos_transport::NetworkConfig`.
    pub log_streams: Option<usize>,
    /// Which threads they run on.
    pub threads: Threads,
    /// The settings of the protocol.
    pub protocol: Options,
    /// Where the directory for the logs is made; without it where the system keeps temporary files, which may be
    /// memory.
    pub data: Option<PathBuf>,
}

impl Setup {
    /// Three nodes with default options, each on a thread of its own.
    #[must_use]
    pub fn new(transport: TransportKind, storage: StorageKind) -> Setup {
        Setup {
            nodes: 3,
            transport,
            storage,
            log_streams: None,
            threads: Threads::PerNode,
            protocol: Options::default(),
            data: None,
        }
    }
}

/// What has gone through the backends of all nodes since the cluster was started. Counters only grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Messages that were sent to peers.
    pub messages: u64,
    /// Their bytes, before framing and encryption.
    pub message_bytes: u64,
    /// Writes of entries or promises to a storage, each with a sync if the storage has any.
    pub syncs: u64,
}

impl Counts {
    /// What has come to it since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Counts) -> Counts {
        Counts {
            messages: self.messages - earlier.messages,
            message_bytes: self.message_bytes - earlier.message_bytes,
            syncs: self.syncs - earlier.syncs,
        }
    }
}

/// A cluster that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Cluster<S> {
    members: Vec<Member<S>>,
    threads: Vec<Thread>,
    counters: Arc<Counters>,
    // Dropped last: the nodes write to it as long as they run.
    _directory: Option<TempDir>,
}

/// A node of the cluster.
#[derive(Debug)]
pub struct Member<S> {
    /// Which one.
    pub id: NodeId,
    /// How to talk to it.
    pub client: Client<S>,
    /// The runtime that it runs on. What is spawned there hears from the node without waking another thread.
    pub runtime: Handle,
}

#[derive(Debug)]
struct Thread {
    stop: Option<oneshot::Sender<()>>,
    handle: Option<JoinHandle<Result<(), Error>>>,
}

impl<S: StateMachine> Cluster<S> {
    /// Starts all nodes, each with a state machine of its own. Blocks until they run; they may not have a leader yet.
    ///
    /// # Errors
    ///
    /// [`Error`] if a backend is not compiled in or can't be set up, or if the options do not fit together.
    pub fn start(setup: &Setup, state_machine: impl Fn() -> S) -> Result<Cluster<S>, Error> {
        let (seats, directory) = backends::prepare(setup)?;
        let counters = Arc::new(Counters::default());
        let mut cluster =
            Cluster { members: Vec::new(), threads: Vec::new(), counters, _directory: directory };
        let ids: Vec<NodeId> = seats.iter().map(|seat| seat.node).collect();
        let mut waiting = Vec::new();
        for seat in seats {
            let mut settings = NodeSettings::new(seat.node, ids.clone());
            settings.protocol = setup.protocol.clone();
            if setup.storage == StorageKind::Memory {
                settings.writer = WriterMode::Inline;
            }
            waiting.push(Starting { settings, seat, state_machine: state_machine() });
        }
        match setup.threads {
            Threads::PerNode => waiting.into_iter().try_for_each(|node| cluster.start_thread(vec![node]))?,
            Threads::Shared => cluster.start_thread(waiting)?,
        }
        Ok(cluster)
    }

    /// Has one more thread run `nodes`.
    fn start_thread(&mut self, nodes: Vec<Starting<S>>) -> Result<(), Error> {
        let (stop, stopped) = oneshot::channel();
        let (started, members) = mpsc::channel();
        let counters = Arc::clone(&self.counters);
        let name = format!("paxos-{}", nodes[0].settings.node);
        let run = move || {
            let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
            runtime.block_on(run_nodes(nodes, &counters, &started, stopped))
        };
        let handle = std::thread::Builder::new().name(name).spawn(run).map_err(Error::Thread)?;
        let mut thread = Thread { stop: Some(stop), handle: Some(handle) };
        match members.recv() {
            Ok(members) => self.members.extend(members),
            // It has ended before it came to that, and tells why.
            Err(_) => return thread.stop(),
        }
        self.threads.push(thread);
        Ok(())
    }

    /// The node that leads. Blocks until there is one.
    ///
    /// # Errors
    ///
    /// [`Error::NoLeader`] if there is none for long.
    pub fn leader(&self) -> Result<&Member<S>, Error> {
        let started = Instant::now();
        while started.elapsed() < ELECTION_TIMEOUT {
            let leads = |member: &&Member<S>| member.client.status().borrow().role == Role::Leader;
            if let Some(leader) = self.members.iter().find(leads) {
                return Ok(leader);
            }
            std::thread::sleep(ELECTION_POLL);
        }
        Err(Error::NoLeader { seconds: ELECTION_TIMEOUT.as_secs() })
    }

    /// All nodes, in the order of their ids.
    #[must_use]
    pub fn members(&self) -> &[Member<S>] {
        &self.members
    }

    /// What has gone through the backends until now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counters.now()
    }

    /// Stops all nodes, and removes what they have written.
    ///
    /// # Errors
    ///
    /// What a node had failed with.
    pub fn stop(mut self) -> Result<(), Error> {
        self.threads.iter_mut().for_each(Thread::tell);
        self.threads.iter_mut().map(Thread::stop).fold(Ok(()), Result::and)
    }
}

impl Thread {
    /// Lets it know that it should stop.
    fn tell(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(()); // It may have ended by itself.
        }
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.tell();
        let Some(handle) = self.handle.take() else { return Ok(()) };
        handle
            .join()
            .unwrap_or_else(|_| Err(Error::Node(NodeError::Panicked(String::from("a node's thread")))))
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // Whoever wants to know how it ended calls `Cluster::stop`.
        let _ = self.stop();
    }
}

/// A node before it runs.
struct Starting<S> {
    settings: NodeSettings,
    seat: Seat,
    state_machine: S,
}

async fn run_nodes<S: StateMachine>(
    starting: Vec<Starting<S>>,
    counters: &Arc<Counters>,
    started: &mpsc::Sender<Vec<Member<S>>>,
    stopped: oneshot::Receiver<()>,
) -> Result<(), Error> {
    let mut nodes = Vec::new();
    for Starting { settings, seat, state_machine } in starting {
        let storage = seat.storage.open(seat.node, counters)?;
        let transport = seat.transport.bind(seat.node, counters).await?;
        nodes.push((settings.node, Node::start(settings, transport, storage, state_machine)?));
    }
    let member = |(id, node): &(NodeId, Node<S>)| Member {
        id: *id,
        client: node.client(),
        runtime: Handle::current(),
    };
    let _ = started.send(nodes.iter().map(member).collect()); // Whoever starts it waits for that.
    let _ = stopped.await; // Also if the cluster is dropped.
    let mut result = Ok(());
    for (_, node) in nodes {
        result = result.and(node.stop().await.map_err(Error::Node));
    }
    result
}

impl Counters {
    fn now(&self) -> Counts {
        Counts {
            messages: self.messages.load(Ordering::Relaxed),
            message_bytes: self.message_bytes.load(Ordering::Relaxed),
            syncs: self.syncs.load(Ordering::Relaxed),
        }
    }
}

/// Why a cluster could not start or has stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The backend is not compiled in.
    #[error("this program was built without the {0} backend: build it with the feature of that name")]
    NotBuilt(&'static str),
    /// There is no directory for the logs.
    #[error("no directory for the logs in {}: {error}", directory.display())]
    Directory {
        /// Where it should have been made.
        directory: PathBuf,
        /// What went wrong.
        error: std::io::Error,
    },
    /// No thread, or no runtime on it.
    #[error("no thread for a node: {0}")]
    Thread(std::io::Error),
    /// The transport can't be set up.
    #[error(transparent)]
    Transport(#[from] paxos_transport::Error),
    /// A node can't be started, or has failed.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The nodes elect nobody.
    #[error("no leader in {seconds} s: the machine may be overloaded")]
    NoLeader {
        /// How long that was waited for.
        seconds: u64,
    },
}

impl From<paxos_storage::Error> for Error {
    fn from(error: paxos_storage::Error) -> Error {
        Error::Node(NodeError::Storage(error))
    }
}
