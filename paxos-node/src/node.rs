//! A running node.

use paxos_core::{ConfigError, NodeId, RecoverError, Recovered, Slot};
use paxos_storage::Storage;
use paxos_transport::Transport;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::applier::Applier;
use crate::client::Client;
use crate::driver::{Driver, Ends};
use crate::peers::Peers;
use crate::settings::NodeSettings;
use crate::state_machine::StateMachine;
use crate::status::Status;
use crate::writer::{SnapshotReader, Writer};

/// How many requests may queue between clients and the driver; beyond that clients wait.
const REQUEST_QUEUE: usize = 1024;

/// A member of a cluster that replicates a [`StateMachine`]: the protocol, run by a task of the runtime it was
/// started on.
///
/// Everything happens on that task but the storage's work. On a current-thread runtime no command crosses
/// threads except to the disk and back, which is by far the fastest way to run a node.
#[derive(Debug)]
pub struct Node<S> {
    client: Client<S>,
    stop: oneshot::Sender<()>,
    driver: JoinHandle<Result<(), NodeError>>,
}

impl<S: StateMachine> Node<S> {
    /// Recovers what `storage` holds, brings `state_machine` (which must be in its initial state) to it, and
    /// joins the cluster.
    ///
    /// # Errors
    ///
    /// [`NodeError`] if the settings do not fit together or the storage can't be recovered.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its timer enabled.
    pub fn start(
        settings: NodeSettings,
        transport: Box<dyn Transport>,
        mut storage: Box<dyn Storage>,
        state_machine: S,
    ) -> Result<Node<S>, NodeError> {
        check(&settings)?;
        let recovered = storage.recover()?;
        let mut applier = Applier::new(state_machine, settings.sessions);
        if let Some(meta) = recovered.snapshot {
            let mut snapshot = SnapshotReader::new(storage.as_mut(), meta.slot);
            let restored = applier.restorer(meta.slot)(&mut snapshot);
            applier.restored(restored.map_err(|error| NodeError::Restore { slot: meta.slot, error })?);
        }
        let shared = applier.shared();
        let is_empty = recovered == Recovered::default();
        let (own, known) = (storage.identity().storage(), storage.known_peers());
        let peers = Peers::new(own, known, settings.members.len(), is_empty);
        let (writer, results) = Writer::start(storage, settings.writer).map_err(NodeError::Thread)?;
        let (requests_from, requests) = mpsc::channel(REQUEST_QUEUE);
        let (stop, stopped) = oneshot::channel();
        let initial = Status { node: settings.node, ..Status::default() };
        let (status, watched) = watch::channel(initial);
        let ends = Ends { transport, peers, writer, results, requests, stop: stopped, status };
        let driver = Driver::new(settings, recovered, applier, ends)?;
        Ok(Node {
            client: Client::new(requests_from, shared, watched),
            stop,
            driver: tokio::spawn(driver.run()),
        })
    }

    /// A handle for commands and reads, to be cloned at will.
    #[must_use]
    pub fn client(&self) -> Client<S> {
        self.client.clone()
    }

    /// The node's status, and a way to wait for it to change.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.client.status()
    }

    /// Waits until the node stops by itself, which it does only if it fails. Cancel-safe.
    pub async fn failed(&mut self) -> NodeError {
        match (&mut self.driver).await {
            Ok(Ok(())) => unreachable!("the driver stops only when told to, and this node has not told it"),
            Ok(Err(error)) => error,
            Err(panicked) => NodeError::Panicked(panicked.to_string()),
        }
    }

    /// Leaves the cluster: answers what waits, closes the transport, finishes the storage's work.
    ///
    /// # Errors
    ///
    /// What the node had failed with, if it had.
    pub async fn stop(self) -> Result<(), NodeError> {
        let _ = self.stop.send(()); // A driver that has failed already does not listen.
        self.driver.await.unwrap_or_else(|panicked| Err(NodeError::Panicked(panicked.to_string())))
    }
}

fn check(settings: &NodeSettings) -> Result<(), NodeError> {
    if settings.tick.is_zero() {
        return Err(NodeError::Settings("tick must be longer than 0"));
    }
    if settings.waiting_requests == 0 || settings.waiting_requests > settings.sessions.unanswered {
        return Err(NodeError::Settings("waiting_requests must be in 1..=sessions.unanswered"));
    }
    if !(1 << 10..=NodeSettings::MAX_COMMAND_BYTES).contains(&settings.protocol.command_bytes) {
        return Err(NodeError::Settings("protocol.command_bytes must be in 1 KiB..=MAX_COMMAND_BYTES"));
    }
    Ok(())
}

/// Why a node could not start or has stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The protocol's settings do not fit together.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The node's own settings do not fit together.
    #[error("configuration: {0}")]
    Settings(&'static str),
    /// The storage can't be used, or has failed.
    #[error(transparent)]
    Storage(#[from] paxos_storage::Error),
    /// The storage holds what no correct node can have left there, or has lost what nobody can tell it.
    #[error("the log can't be used: {0}")]
    Recover(#[from] RecoverError),
    /// A snapshot can't be read back.
    #[error("the snapshot of slot {slot} can't be restored: {error}")]
    Restore {
        /// The snapshot's slot.
        slot: Slot,
        /// What went wrong.
        error: std::io::Error,
    },
    /// A peer knows this node by another storage: it may have forgotten what it has promised.
    #[error(
        "node {by} knows node {node} by another disk: a node that has lost its disk may have forgotten promises and must \
         not come back under its old id; replace it by one with a new id, as the README tells under 'Replacing a node'"
    )]
    OtherDisk {
        /// This node.
        node: NodeId,
        /// The peer.
        by: NodeId,
    },
    /// No thread could be started for the storage.
    #[error("no thread for the storage: {0}")]
    Thread(std::io::Error),
    /// A bug: an invariant was found broken.
    #[error("the node has stopped because of a bug, please report it: {0}")]
    Panicked(String),
}
