//! Backends that count what goes through them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::{Durable, NodeId, Recovered, Slot, SnapshotMeta, Write};
use paxos_storage::{Capacity, DeferredWork, Error, Identity, RecoveryProgress, Registry, Storage};
use paxos_transport::{
    CertificateStatus, Lane, Peer, PeerStatus, Received, SendOutcome, SetPeersError, Transport,
};

use super::Counts;

/// What the backends of all nodes count together.
#[derive(Debug, Default)]
pub(super) struct BackendCounters {
    pub(super) messages: AtomicU64,
    pub(super) message_bytes: AtomicU64,
    pub(super) syncs: AtomicU64,
}

impl BackendCounters {
    /// What was counted until now.
    pub(super) fn counts(&self) -> Counts {
        Counts {
            messages: self.messages.load(Ordering::Relaxed),
            message_bytes: self.message_bytes.load(Ordering::Relaxed),
            syncs: self.syncs.load(Ordering::Relaxed),
        }
    }
}

/// A backend, and the counters of its cluster.
pub(super) struct Counted<B> {
    pub(super) backend: B,
    pub(super) counters: Arc<BackendCounters>,
}

#[async_trait]
impl Transport for Counted<Box<dyn Transport>> {
    fn local_node(&self) -> NodeId {
        self.backend.local_node()
    }

    fn cluster(&self) -> Option<&str> {
        self.backend.cluster()
    }

    fn max_frame_bytes(&self) -> usize {
        self.backend.max_frame_bytes()
    }

    fn send(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome {
        let frame_bytes = frame.len() as u64;
        let outcome = self.backend.send(to, lane, frame);
        if outcome.is_queued() {
            self.counters.messages.fetch_add(1, Ordering::Relaxed);
            self.counters.message_bytes.fetch_add(frame_bytes, Ordering::Relaxed);
        }
        outcome
    }

    fn set_peers(&mut self, peers: &[Peer]) -> Result<(), SetPeersError> {
        self.backend.set_peers(peers)
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Received>> {
        self.backend.poll_receive(context)
    }

    fn peers(&self) -> Vec<PeerStatus> {
        self.backend.peers()
    }

    fn is_connected(&self, peer: NodeId) -> bool {
        self.backend.is_connected(peer)
    }

    fn certificates(&self) -> Vec<CertificateStatus> {
        self.backend.certificates()
    }

    async fn close(&mut self) {
        self.backend.close().await;
    }
}

impl Storage for Counted<Box<dyn Storage>> {
    fn identity(&self) -> &Identity {
        self.backend.identity()
    }

    fn registry(&self) -> Registry {
        self.backend.registry()
    }

    fn remember(&mut self, registry: &Registry) -> Result<(), Error> {
        self.backend.remember(registry)
    }

    fn recover(&mut self) -> Result<Recovered, Error> {
        self.backend.recover()
    }

    fn recovery_progress(&self) -> RecoveryProgress {
        self.backend.recovery_progress()
    }

    fn persist(&mut self, write: Write) -> Result<Durable, Error> {
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.backend.persist(write)
    }

    fn write_snapshot(&mut self, slot: Slot, offset: u64, piece: &[u8]) -> Result<(), Error> {
        self.backend.write_snapshot(slot, offset, piece)
    }

    fn deferred_work(&mut self) -> Option<DeferredWork> {
        self.backend.deferred_work()
    }

    fn finish_snapshot(&mut self, meta: SnapshotMeta) -> Result<(), Error> {
        self.backend.finish_snapshot(meta)
    }

    fn read_snapshot(&mut self, slot: Slot, offset: u64, max_bytes: usize) -> Result<Option<Bytes>, Error> {
        self.backend.read_snapshot(slot, offset, max_bytes)
    }

    fn newest_snapshot(&self) -> Option<SnapshotMeta> {
        self.backend.newest_snapshot()
    }

    fn compact(&mut self, through: Slot) -> Result<(), Error> {
        self.backend.compact(through)
    }

    fn prove_last_write(&mut self) -> Result<(), Error> {
        self.backend.prove_last_write()
    }

    fn capacity(&self) -> Capacity {
        self.backend.capacity()
    }
}
