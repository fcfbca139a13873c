//! Backends that count what goes through them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::{Durable, NodeId, Recovered, Slot, SnapshotMeta, Write};
use paxos_storage::{Error, Identity, Room, Storage, StorageId};
use paxos_transport::{Lane, PeerStatus, Received, SendOutcome, Transport};

/// What all backends of a cluster count together.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) messages: AtomicU64,
    pub(super) message_bytes: AtomicU64,
    pub(super) syncs: AtomicU64,
}

/// A backend, and where it counts.
#[allow(dead_code, reason = "a build without backends makes none")]
pub(super) struct Counted<B> {
    pub(super) backend: B,
    pub(super) counters: Arc<Counters>,
}

#[async_trait]
impl<T: Transport> Transport for Counted<T> {
    fn local_node(&self) -> NodeId {
        self.backend.local_node()
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

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Received>> {
        self.backend.poll_receive(context)
    }

    fn peers(&self) -> Vec<PeerStatus> {
        self.backend.peers()
    }

    fn is_connected(&self, peer: NodeId) -> bool {
        self.backend.is_connected(peer)
    }

    async fn close(&mut self) {
        self.backend.close().await;
    }
}

impl<B: Storage> Storage for Counted<B> {
    fn identity(&self) -> &Identity {
        self.backend.identity()
    }

    fn known_peers(&self) -> BTreeMap<NodeId, StorageId> {
        self.backend.known_peers()
    }

    fn remember_peers(&mut self, peers: &BTreeMap<NodeId, StorageId>) -> Result<(), Error> {
        self.backend.remember_peers(peers)
    }

    fn recover(&mut self) -> Result<Recovered, Error> {
        self.backend.recover()
    }

    fn persist(&mut self, write: Write) -> Result<Durable, Error> {
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.backend.persist(write)
    }

    fn write_snapshot(&mut self, slot: Slot, offset: u64, piece: &[u8]) -> Result<(), Error> {
        self.backend.write_snapshot(slot, offset, piece)
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

    fn mark(&mut self) -> Result<(), Error> {
        self.backend.mark()
    }

    fn room(&self) -> Room {
        self.backend.room()
    }
}
