//! The trait that every backend implements.

use std::collections::BTreeMap;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::NodeId;

use crate::{CertificateStatus, Lane, PeerStatus, SetPeersError};

/// The most peers that [`Transport::set_peers`] takes.
pub const MAX_PEERS: usize = 64;

/// A node that a transport keeps connected to, and where it is reached.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Peer {
    /// The peer's id.
    pub id: NodeId,
    /// Its address, as `HOST:PORT`. Backends without addresses ignore it.
    pub address: String,
}

impl Peer {
    /// The peer with this id at this address.
    #[must_use]
    pub fn new(id: NodeId, address: impl Into<String>) -> Peer {
        Peer { id, address: address.into() }
    }

    /// Checks the argument of [`Transport::set_peers`], and returns the address of each peer of `own`.
    ///
    /// # Errors
    ///
    /// [`SetPeersError::TooMany`] and [`SetPeersError::Duplicate`].
    pub fn addresses(own: NodeId, peers: &[Peer]) -> Result<BTreeMap<NodeId, String>, SetPeersError> {
        let mut addresses = BTreeMap::new();
        for peer in peers.iter().filter(|peer| peer.id != own) {
            if addresses.insert(peer.id, peer.address.clone()).is_some() {
                return Err(SetPeersError::Duplicate { id: peer.id });
            }
            if addresses.len() > MAX_PEERS {
                return Err(SetPeersError::TooMany { count: peers.len() });
            }
        }
        Ok(addresses)
    }
}

/// A frame from a peer, or from a guest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// The node that sent the frame, as proved by the backend.
    pub from: NodeId,
    /// The lane it was sent on.
    pub lane: Lane,
    /// The bytes as they were sent.
    pub frame: Bytes,
}

/// The result of [`Transport::send`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SendOutcome {
    /// The frame will be sent. It may still get lost.
    Queued,
    /// Dropped: the queue of this peer and lane is full.
    Full,
    /// Dropped: the peer is not connected. Frames do not wait for a connection, because they would be
    /// outdated by then.
    Disconnected,
    /// Dropped: the transport knows no such peer, and no guest of this id is connected.
    UnknownPeer,
    /// Dropped: the frame is longer than [`max_frame_bytes`](Transport::max_frame_bytes).
    TooLarge,
    /// Dropped: this transport is closed.
    Closed,
}

impl SendOutcome {
    /// Whether the frame was queued.
    #[must_use]
    pub fn is_queued(self) -> bool {
        self == SendOutcome::Queued
    }
}

/// Sends and receives the frames of one node. The [crate's front page](crate) states the contract;
/// [the guide](crate::guide) builds a whole backend.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// The node that this transport belongs to.
    fn local_node(&self) -> NodeId;

    /// The cluster that the transport authenticates its peers for. `None` if it knows no clusters.
    fn cluster(&self) -> Option<&str> {
        None
    }

    /// The longest frame that can be sent, in bytes.
    fn max_frame_bytes(&self) -> usize;

    /// Queues a frame for `to`, or drops it; the result says which. Never blocks.
    fn send(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome;

    /// Replaces the set of peers, and returns at once; connections are made and closed afterwards.
    ///
    /// - The transport connects to peers that are new, and closes its connections with those that are gone,
    ///   once it has tried for a short time to send what is queued for them.
    /// - If a peer's address has changed, the transport connects anew if it is the side that dials.
    /// - It does not touch the connections of all other peers, so calling again with the same set changes
    ///   nothing.
    ///
    /// An entry of this node itself is ignored. Frames of a former peer that have arrived may still be handed
    /// out. A former peer that connects again is a guest, if the backend has
    /// [guests](crate#peers-and-guests).
    ///
    /// A backend whose peers are fixed keeps the default, which reports
    /// [`NotSupported`](SetPeersError::NotSupported): a cluster on it can't change its members.
    ///
    /// # Errors
    ///
    /// [`SetPeersError`]; the peers are as before then.
    fn set_peers(&mut self, peers: &[Peer]) -> Result<(), SetPeersError> {
        let _ = peers;
        Err(SetPeersError::NotSupported)
    }

    /// Returns the next frame. If there is none, returns [`Poll::Pending`] and wakes the task when one
    /// arrives. Returns `None` once the transport is closed.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Received>>;

    /// The present status of all peers, in the order of their ids. Guests are not among them.
    fn peers(&self) -> Vec<PeerStatus>;

    /// Whether this node and `peer` can send each other frames on every lane.
    fn is_connected(&self, peer: NodeId) -> bool {
        self.peers().iter().any(|status| status.peer == peer && status.is_connected)
    }

    /// The validity of the certificates of this node, its CA and its peers, as far as they were seen. Empty
    /// for backends without certificates.
    fn certificates(&self) -> Vec<CertificateStatus> {
        Vec::new()
    }

    /// Tries for a short time to send the queued frames, then closes all connections. A second call does
    /// nothing.
    async fn close(&mut self);
}

/// Receives with futures; implemented for every [`Transport`].
pub trait TransportExt: Transport {
    /// Waits for the next frame. Returns `None` once the transport is closed. Cancel-safe.
    fn receive(&mut self) -> impl Future<Output = Option<Received>> + Send {
        std::future::poll_fn(|context| self.poll_receive(context))
    }

    /// Waits for a frame, then takes all others that have arrived, up to `limit` in all. Returns how many
    /// frames were added to `frames`: 0 only if the transport is closed or `limit` is 0. Cancel-safe.
    fn receive_many(
        &mut self,
        frames: &mut Vec<Received>,
        limit: usize,
    ) -> impl Future<Output = usize> + Send {
        std::future::poll_fn(move |context| {
            let mut count = 0;
            while count < limit {
                match self.poll_receive(context) {
                    Poll::Ready(Some(received)) => frames.push(received),
                    Poll::Pending if count == 0 => return Poll::Pending,
                    Poll::Ready(None) | Poll::Pending => break,
                }
                count += 1;
            }
            Poll::Ready(count)
        })
    }
}

impl<T: Transport + ?Sized> TransportExt for T {}
