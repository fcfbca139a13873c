//! A whole cluster in this process, over any transport and any storage: to measure them, and to try a state
//! machine.
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
//! A backend of your own takes part by a [`TransportFactory`] or a [`StorageFactory`], which is told about
//! the [`Site`] of each node: where to listen, where the others are, where files may be put.
//!
//! A cluster counts what goes through the backends: messages, their bytes, and syncs. Certificates are made
//! in memory, logs in a temporary directory that is removed with the cluster.
//!
//! With [`Setup::network`] the nodes are as far from each other as you like: a network that is emulated
//! delays, loses and reorders what they send, and tells how exactly it did so.
//!
//! Deliberately absent: crashes and lying disks (those are the simulator's, `paxos-core` with feature `sim`),
//! and restarts.

mod built_in;
mod counted;
mod factory;
mod site;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use paxos_core::{NodeId, ProtocolSettings, Role};
pub use paxos_transport::emulator::{Accuracy, Network};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use self::counted::{BackendCounters, Counted};
pub use self::factory::{BoxError, Carriage, StorageFactory, TransportFactory};
use self::site::ClusterSite;
pub use self::site::Site;
use crate::backends::BackendError;
pub use crate::backends::{StorageKind, TransportKind};
use crate::client::Client;
use crate::error::NodeError;
use crate::node::Node;
use crate::settings::{ApplyMode, NodeSettings, WriterMode};
use crate::state_machine::StateMachine;

/// How long a cluster may take to find a leader; it takes less than two seconds unless the machine is
/// overloaded.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(20);
const ELECTION_POLL: Duration = Duration::from_millis(5);

/// Which threads the nodes run on. Each thread has a current-thread runtime.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "bench", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Threads {
    /// Each node has a thread of its own, as if it were a process.
    PerNode,
    /// All nodes share one thread: no message ever wakes another thread, and no two nodes work at the same
    /// time.
    Shared,
}

impl Threads {
    /// All of them.
    pub const ALL: &[Threads] = &[Threads::PerNode, Threads::Shared];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Threads::PerNode => "per-node",
            Threads::Shared => "shared",
        }
    }
}

crate::backends::named!(Threads);

/// The parts and settings of a cluster.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Setup {
    /// How many nodes it has, from 1 on.
    pub nodes: u64,
    /// What carries messages between them.
    pub transport: TransportFactory,
    /// Where they keep their logs.
    pub storage: StorageFactory,
    /// The network between them, which is emulated; `None` for that of this machine.
    pub network: Option<Network>,
    /// The seed of what the emulated network loses and delays.
    pub network_seed: u64,
    /// Which threads they run on.
    pub threads: Threads,
    /// The settings of the protocol.
    pub protocol: ProtocolSettings,
    /// Which threads call their state machines.
    pub applying: ApplyMode,
    /// Where the directory for the logs is made; `None` for the system's temporary directory, which may be in
    /// memory.
    pub data: Option<PathBuf>,
}

impl Setup {
    /// Three nodes with default settings, each on a thread of its own that also calls its state machine.
    #[must_use]
    pub fn new(transport: impl Into<TransportFactory>, storage: impl Into<StorageFactory>) -> Setup {
        Setup {
            nodes: 3,
            transport: transport.into(),
            storage: storage.into(),
            network: None,
            network_seed: 1,
            threads: Threads::PerNode,
            protocol: ProtocolSettings::default(),
            applying: ApplyMode::Inline,
            data: None,
        }
    }

    /// This setup with a change.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// What has gone through the backends of all nodes since the cluster was started. Counts only grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Messages that were sent to peers.
    pub messages: u64,
    /// Their bytes, before framing and encryption.
    pub message_bytes: u64,
    /// Writes of entries or promises to a storage, each with a sync if the storage has any.
    pub syncs: u64,
}

impl Counts {
    /// What was added since `earlier`.
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
    counters: Arc<BackendCounters>,
    // Dropped last: the nodes write to its directory as long as they run.
    site: Arc<ClusterSite>,
}

/// A node of the cluster.
#[derive(Debug)]
#[non_exhaustive]
pub struct Member<S> {
    /// Its id.
    pub id: NodeId,
    /// The handle for commands and reads.
    pub client: Client<S>,
    /// The runtime that it runs on. A task spawned there talks with the node without waking another thread.
    pub runtime: Handle,
}

#[derive(Debug)]
struct Thread {
    stop: Option<oneshot::Sender<()>>,
    handle: Option<JoinHandle<Result<(), Error>>>,
}

impl<S: StateMachine> Cluster<S> {
    /// Starts all nodes, each with a state machine of its own. Blocks until they run; they may not have a
    /// leader yet.
    ///
    /// # Errors
    ///
    /// [`Error`] if a backend can't be set up, or if the settings do not fit together.
    pub fn start(setup: &Setup, state_machine: impl Fn() -> S) -> Result<Cluster<S>, Error> {
        let site = ClusterSite::new(setup)?;
        let counters = Arc::new(BackendCounters::default());
        let mut cluster =
            Cluster { members: Vec::new(), threads: Vec::new(), counters, site: Arc::clone(&site) };
        let starting = |site: Site| {
            let mut settings = NodeSettings::new(site.node(), site.nodes().to_vec());
            settings.protocol = setup.protocol.clone();
            settings.applying = setup.applying;
            if !setup.storage.blocks() {
                settings.writer = WriterMode::Inline;
            }
            let (transport, storage) = (setup.transport.clone(), setup.storage.clone());
            Starting { settings, site, transport, storage, state_machine: state_machine() }
        };
        let waiting: Vec<_> = site.sites().into_iter().map(starting).collect();
        match setup.threads {
            Threads::PerNode => waiting.into_iter().try_for_each(|node| cluster.start_thread(vec![node]))?,
            Threads::Shared => cluster.start_thread(waiting)?,
        }
        Ok(cluster)
    }

    /// Starts a thread that runs `nodes`.
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
            // The thread has ended early, with an error.
            Err(_) => return thread.stop(),
        }
        self.threads.push(thread);
        Ok(())
    }

    /// The leader. Blocks until there is one.
    ///
    /// # Errors
    ///
    /// [`Error::NoLeader`] if there is none for too long.
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
        self.counters.counts()
    }

    /// How exact the emulated network was until now, and what it has lost; `None` if there is none.
    #[must_use]
    pub fn accuracy(&self) -> Option<Accuracy> {
        self.site.accuracy()
    }

    /// Stops all nodes, and removes their logs.
    ///
    /// # Errors
    ///
    /// The error with which a node had failed; [`Error::Misunderstood`] if a node could not decode what
    /// another has sent.
    pub fn stop(mut self) -> Result<(), Error> {
        self.threads.iter_mut().for_each(Thread::tell);
        let stopped = self.threads.iter_mut().map(Thread::stop).fold(Ok(()), Result::and);
        stopped.and_then(|()| self.check_understood())
    }

    /// Checks that every node could decode everything that the others have sent.
    fn check_understood(&self) -> Result<(), Error> {
        let count = |member: &Member<S>| member.client.status().borrow().misunderstood;
        match self.members.iter().find(|member| count(member) > 0) {
            Some(member) => Err(Error::Misunderstood { node: member.id, count: count(member) }),
            None => Ok(()),
        }
    }
}

impl Thread {
    /// Tells it to stop.
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
        // `Cluster::stop` returns how it ended.
        let _ = self.stop();
    }
}

/// A node before it runs.
struct Starting<S> {
    settings: NodeSettings,
    site: Site,
    transport: TransportFactory,
    storage: StorageFactory,
    state_machine: S,
}

async fn run_nodes<S: StateMachine>(
    starting: Vec<Starting<S>>,
    counters: &Arc<BackendCounters>,
    started: &mpsc::Sender<Vec<Member<S>>>,
    stopped: oneshot::Receiver<()>,
) -> Result<(), Error> {
    let mut nodes = Vec::new();
    for Starting { settings, site, transport, storage, state_machine } in starting {
        let node = site.node();
        let failed = |name: &str, error| Error::of_factory(name, node, error);
        let backend = storage.open(&site).map_err(|error| failed(storage.name(), error))?;
        let storage = Box::new(Counted { backend, counters: Arc::clone(counters) });
        let backend = transport.bind(site.clone()).await.map_err(|error| failed(transport.name(), error))?;
        let backend = site.emulated(backend);
        let transport = Box::new(Counted { backend, counters: Arc::clone(counters) });
        nodes.push((settings.node, Node::start(settings, transport, storage, state_machine)?));
    }
    let member = |(id, node): &(NodeId, Node<S>)| Member {
        id: *id,
        client: node.client(),
        runtime: Handle::current(),
    };
    let _ = started.send(nodes.iter().map(member).collect()); // The starting thread waits for that.
    let _ = stopped.await; // Also if the cluster is dropped.
    let mut result = Ok(());
    for (_, node) in nodes {
        result = result.and(node.stop().await.map_err(Error::Node));
    }
    result
}

/// Why a cluster could not start or has stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A backend that comes with the workspace is not compiled in or can't be set up.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A factory has failed.
    #[error("can't set up {name} for node {node}: {error}")]
    Factory {
        /// The factory's name.
        name: String,
        /// The node.
        node: NodeId,
        /// What it said.
        error: BoxError,
    },
    /// The directory for the logs can't be made.
    #[error("can't make a directory for the logs in {}: {error}", directory.display())]
    Directory {
        /// The directory in which it was to be made.
        directory: PathBuf,
        /// What went wrong.
        error: std::io::Error,
    },
    /// A thread or its runtime could not be started.
    #[error("can't start a thread for a node: {0}")]
    Thread(std::io::Error),
    /// The emulated network could not be started.
    #[error("can't start the emulated network: {0}")]
    Emulator(std::io::Error),
    /// A node can't be started, or has failed.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The transport has altered messages, or an encoder or decoder is wrong.
    #[error(
        "node {node} could not decode {count} messages of its peers: the transport alters what it carries"
    )]
    Misunderstood {
        /// Which node.
        node: NodeId,
        /// How often.
        count: u64,
    },
    /// The nodes have elected no leader.
    #[error("no leader in {seconds} s: nodes do not hear each other in time, or the machine is overloaded")]
    NoLeader {
        /// For how long.
        seconds: u64,
    },
}

impl Error {
    /// The error with which the factory of this name has failed.
    fn of_factory(name: &str, node: NodeId, error: BoxError) -> Error {
        match error.downcast::<BackendError>() {
            Ok(error) => Error::Backend(*error),
            Err(error) => Error::Factory { name: name.to_owned(), node, error },
        }
    }
}
