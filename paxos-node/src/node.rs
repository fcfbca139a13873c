//! A running node.

use std::sync::Arc;

use paxos_storage::Storage;
use paxos_transport::Transport;
use tokio::sync::{RwLock, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::client::{Client, ClientRequest};
use crate::error::NodeError;
use crate::runtime::checkpoints::Checkpoints;
use crate::runtime::checks::check;
use crate::runtime::driver::{self, Wiring};
use crate::runtime::guarded::GuardedStorage;
use crate::runtime::introductions;
use crate::runtime::memory::MemoryWatch;
use crate::runtime::pulse::Pulse;
use crate::runtime::recovery::Recovery;
use crate::runtime::replicated::{Replicated, SharedState, message_of};
use crate::settings::NodeSettings;
use crate::state_machine::StateMachine;
use crate::status::{Recovering, Status};

/// At most this many requests queue between clients and the driver; then clients wait.
const REQUEST_QUEUE: usize = 1024;

/// A member of a cluster that replicates a [`StateMachine`].
///
/// The protocol is run by a task of the runtime on which the node was started. That task waits for inputs
/// only: the storage, recovery and, by default, the state machine have threads of their own. On a
/// current-thread runtime, with [`ApplyMode::Inline`](crate::ApplyMode) for a quick state machine, no command
/// crosses threads except to the disk and back, which is by far the fastest way to run a node.
///
/// Dropping a node [stops](Node::stop) it without waiting for the end.
#[derive(Debug)]
pub struct Node<S> {
    client: Client<S>,
    stop: oneshot::Sender<()>,
    driver: DriverTask,
}

/// A node that can't be started yet, for example as it does not know the members of its cluster. Its
/// [clients](NodeStart::client) exist already, so those who ask can be told why they have to wait.
#[derive(Debug)]
pub struct NodeStart<S> {
    client: Client<S>,
    shared: SharedState<S>,
    requests: mpsc::Receiver<ClientRequest>,
    status: watch::Sender<Status>,
    memory: MemoryWatch,
    checkpoints: Checkpoints,
}

impl<S: StateMachine> NodeStart<S> {
    /// Prepares a node for the settings that it will be started with; the members may be missing in them.
    #[must_use]
    pub fn new(settings: &NodeSettings, state_machine: S) -> NodeStart<S> {
        let replicated = Replicated::new(state_machine, settings.sessions);
        let memory = MemoryWatch::new(settings.memory_limit_bytes, replicated.state_bytes());
        let checkpoints = Checkpoints::new(replicated.taken());
        let shared = Arc::new(RwLock::new(replicated));
        let (requests_from, requests) = mpsc::channel(REQUEST_QUEUE);
        let recovering = Some(Recovering::Starting);
        let initial = Status { node: settings.node, recovering, ..Status::default() };
        let (status, watched) = watch::channel(initial);
        let client = Client::new(requests_from, Arc::clone(&shared), watched, Pulse::new());
        NodeStart { client, shared, requests, status, memory, checkpoints }
    }

    /// A handle for commands and reads, which wait until the node has recovered.
    #[must_use]
    pub fn client(&self) -> Client<S> {
        self.client.clone()
    }

    /// Shows in the status what the start waits for.
    pub fn show(&self, recovering: Recovering) {
        self.status.send_modify(|status| status.recovering = Some(recovering));
    }

    /// Starts the node, with the settings that it was prepared for; see [`Node::start`].
    ///
    /// # Errors
    ///
    /// As [`Node::start`].
    ///
    /// # Panics
    ///
    /// As [`Node::start`].
    pub fn start(
        self,
        settings: NodeSettings,
        transport: Box<dyn Transport>,
        storage: Box<dyn Storage>,
    ) -> Result<Node<S>, NodeError> {
        check(&settings, transport.as_ref(), storage.as_ref())?;
        introductions::check(&settings, storage.as_ref())?;
        let storage = Box::new(GuardedStorage::new(storage));
        let NodeStart { client, shared, requests, status, memory, checkpoints } = self;
        let recovery =
            Recovery::start(settings.clone(), storage, Arc::clone(&shared)).map_err(NodeError::Thread)?;
        let progress = recovery.progress();
        status.send_modify(|status| status.recovering = Some(progress));
        let (stop, stopped) = oneshot::channel();
        let pulse = client.pulse().clone();
        let wiring = Wiring { transport, requests, stop: stopped, status, memory, checkpoints, pulse };
        let driver = DriverTask::Running(tokio::spawn(driver::run(settings, recovery, shared, wiring)));
        Ok(Node { client, stop, driver })
    }
}

#[derive(Debug)]
enum DriverTask {
    Running(JoinHandle<Result<(), NodeError>>),
    /// It has failed, with this message.
    Failed(String),
}

impl DriverTask {
    /// Waits for the end of the task. Cancel-safe.
    async fn ended(&mut self) -> Result<(), NodeError> {
        let handle = match self {
            DriverTask::Running(handle) => handle,
            DriverTask::Failed(cause) => return Err(NodeError::AlreadyFailed { cause: cause.clone() }),
        };
        let result = match handle.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => {
                Err(NodeError::Panicked(message_of(error.into_panic().as_ref())))
            }
            Err(_) => Err(NodeError::RuntimeEnded),
        };
        if let Err(error) = &result {
            *self = DriverTask::Failed(error.to_string());
        }
        result
    }
}

impl<S: StateMachine> Node<S> {
    /// Starts a node: it recovers what `storage` holds, restores `state_machine` (which must be in its
    /// initial state) from that, and joins the cluster.
    ///
    /// Returns at once, as recovery may take long and a service has to show meanwhile that it lives: commands
    /// and reads wait, the [status](Node::status) shows the progress, and [`stop`](Node::stop) ends it.
    /// [`recovered`](Node::recovered) waits for the end of recovery and returns what is wrong with the
    /// storage.
    ///
    /// # Errors
    ///
    /// [`NodeError`] if the settings do not fit together, if the storage or the transport belongs to another
    /// node or cluster, or if the frames of the transport are too small for the settings.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its timer enabled.
    pub fn start(
        settings: NodeSettings,
        transport: Box<dyn Transport>,
        storage: Box<dyn Storage>,
        state_machine: S,
    ) -> Result<Node<S>, NodeError> {
        NodeStart::new(&settings, state_machine).start(settings, transport, storage)
    }

    /// Waits until the node has recovered and takes part. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The error with which the node has failed, most often because of what its storage holds.
    pub async fn recovered(&mut self) -> Result<(), NodeError> {
        let mut status = self.status();
        let is_running = status.wait_for(|status| status.recovering.is_none()).await.is_ok();
        if is_running { Ok(()) } else { Err(self.failed().await) }
    }

    /// A handle for commands and reads; clones are cheap.
    #[must_use]
    pub fn client(&self) -> Client<S> {
        self.client.clone()
    }

    /// The node's status; the receiver can wait for it to change.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.client.status()
    }

    /// Waits until the node stops by itself, which it does only if it fails. Cancel-safe.
    ///
    /// Returns the error itself once; after that [`NodeError::AlreadyFailed`] with the same message.
    pub async fn failed(&mut self) -> NodeError {
        match self.driver.ended().await {
            Err(error) => error,
            Ok(()) => unreachable!(
                "the driver ends without an error only when it is told to stop, and nobody has told it"
            ),
        }
    }

    /// Stops the node: answers waiting requests, closes the transport, finishes the storage's work. It does
    /// not wait for a state machine that is applying a command, or for recovery: their threads end when they
    /// return.
    ///
    /// # Errors
    ///
    /// The error with which the node had failed, if it had. [`NodeError::StorageSilent`] if the disk does not
    /// let the storage finish in time.
    pub async fn stop(self) -> Result<(), NodeError> {
        let Node { stop, mut driver, .. } = self;
        let _ = stop.send(()); // A driver that has failed already does not listen.
        driver.ended().await
    }
}
