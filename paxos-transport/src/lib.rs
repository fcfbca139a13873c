//! Frames of bytes between the nodes of a cluster, as well as can be done without promising anything.
//!
//! Made for Paxos, which needs no more, but free of it: a frame is bytes, and what they mean is the user's
//! affair. The contract of every [`Transport`]:
//!
//! - A frame may be lost, doubled, or overtaken by a later one, even on the same lane. It arrives whole and
//!   unaltered or not at all, and its sender is who [`Received::from`] says.
//! - [`send`](Transport::send) never blocks. Frames queue up to a bound; what does not fit is dropped, and so is
//!   everything for a peer that can't be reached.
//! - Receiving is cancel-safe: a frame is taken only when it is handed out.
//! - Frames, queues, connections and handshakes are bounded in number and size.
//!
//! Three [lanes](Lane) keep what is urgent apart from what is large.
//!
//! | backend | feature | is |
//! |---|---|---|
//! | `quic` | `quic` | QUIC (quinn) with mutual TLS; lanes are streams of their own, `Bulk` a connection of its own |
//! | `tcp` | `tcp` | the same TLS over TCP: the yardstick for the one above |
//! | `memory` | `memory` | queues within one process |
//!
//! ```
//! # #[cfg(feature = "memory")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use bytes::Bytes;
//! use paxos_core::NodeId;
//! use paxos_transport::{Lane, SendOutcome, Transport, TransportExt, memory::MemoryNetwork};
//!
//! let network = MemoryNetwork::default();
//! let one = network.bind(NodeId(1));
//! let mut two = network.bind(NodeId(2));
//!
//! let outcome = one.send(NodeId(2), Lane::Control, Bytes::from_static(b"hello"));
//! assert_eq!(outcome, SendOutcome::Queued);
//! let received = two.receive().await.expect("the transport is open");
//! assert_eq!((received.from, &received.frame[..]), (NodeId(1), &b"hello"[..]));
//! # }
//! # #[cfg(not(feature = "memory"))]
//! # fn main() {}
//! ```
//!
//! To write a backend of your own, implement [`Transport`] and run [`conformance::check`] over it.
//!
//! Deliberately absent: retries, ordering, requests with answers, and faults for tests, which belong to a
//! simulator.

#[cfg(feature = "certs")]
pub mod certs;
pub mod conformance;
mod error;
#[cfg(feature = "network")]
mod frames;
#[cfg(any(feature = "memory", feature = "network"))]
mod inbox;
#[cfg(feature = "network")]
mod lane_queue;
#[cfg(feature = "memory")]
pub mod memory;
#[cfg(feature = "network")]
mod network;
#[cfg(feature = "quic")]
pub mod quic;
#[cfg(feature = "tcp")]
pub mod tcp;
#[cfg(feature = "network")]
mod tls;

use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::NodeId;

pub use error::Error;
#[cfg(feature = "network")]
pub use network::NetworkConfig;
#[cfg(feature = "network")]
pub use tls::TlsIdentity;

/// Which way a frame takes. A full lane does not hold the others up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lane {
    /// Small and urgent: heartbeats, phase 1, reads.
    Control,
    /// The commands themselves: accepts and what answers them.
    Log,
    /// Large and patient: catching up, snapshots.
    Bulk,
}

impl Lane {
    /// All lanes, the most urgent first.
    pub const ALL: [Lane; 3] = [Lane::Control, Lane::Log, Lane::Bulk];

    /// How many bytes of frames may wait on this lane for one peer.
    #[must_use]
    pub fn queue_bytes(self) -> usize {
        match self {
            Lane::Control => 4 << 20,
            Lane::Log => 64 << 20,
            Lane::Bulk => 16 << 20,
        }
    }
}

/// A frame that has arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// Who sent it; the backend vouches for that.
    pub from: NodeId,
    /// The way it took.
    pub lane: Lane,
    /// The bytes.
    pub frame: Bytes,
}

/// What became of a frame to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SendOutcome {
    /// It is on its way, and may still get lost.
    Queued,
    /// Dropped: as many bytes wait for this peer on this lane as may.
    Full,
    /// Dropped: there is no connection to the peer now.
    Disconnected,
    /// Dropped: there is no such peer.
    UnknownPeer,
    /// Dropped: the frame is longer than a frame may be.
    TooLarge,
}

impl SendOutcome {
    /// Whether the frame is on its way.
    #[must_use]
    pub fn is_queued(self) -> bool {
        self == SendOutcome::Queued
    }
}

/// A node's end of a network. See the [crate's front page](crate) for what it promises.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Whose end this is.
    fn local_node(&self) -> NodeId;

    /// Sends a frame, or drops it.
    fn send(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome;

    /// Takes the next frame that has arrived, or has the task woken when one does. `None` after
    /// [`close`](Transport::close).
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Received>>;

    /// Whether there is a connection to the peer on which frames can go both ways.
    fn is_connected(&self, peer: NodeId) -> bool;

    /// Ends all connections. What was queued may get lost. Closing twice does nothing more.
    async fn close(&mut self);
}

/// Receiving as a future.
pub trait TransportExt: Transport {
    /// The next frame that arrives; `None` after [`close`](Transport::close). Cancel-safe.
    fn receive(&mut self) -> impl Future<Output = Option<Received>> + Send {
        std::future::poll_fn(|context| self.poll_receive(context))
    }
}

impl<T: Transport + ?Sized> TransportExt for T {}
