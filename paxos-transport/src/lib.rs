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
//! let network = MemoryNetwork::new();
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
#[cfg(feature = "network")]
mod config;
pub mod conformance;
#[cfg(feature = "backend")]
mod counters;
#[cfg(feature = "network")]
mod end;
mod error;
#[cfg(feature = "network")]
mod frames;
#[cfg(feature = "backend")]
mod inbox;
mod limits;
#[cfg(feature = "network")]
mod link;
#[cfg(feature = "memory")]
pub mod memory;
#[cfg(feature = "network")]
mod network;
#[cfg(feature = "network")]
mod queue;
#[cfg(feature = "quic")]
pub mod quic;
#[cfg(all(test, feature = "certs", feature = "quic", feature = "tcp"))]
mod simulated;
mod status;
#[cfg(feature = "tcp")]
pub mod tcp;
#[cfg(feature = "network")]
mod tls;

use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::NodeId;

#[cfg(feature = "network")]
pub use config::NetworkConfig;
#[cfg(feature = "network")]
pub use end::NetworkTransport;
pub use error::Error;
#[cfg(all(feature = "network", any(test, feature = "fuzz")))]
#[doc(hidden)]
pub use frames::fuzzing;
pub use limits::{LaneLimit, LaneLimits, MAX_FRAME_BYTES};
pub use status::{Dropped, PeerCounters, PeerStatus, Traffic};
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
    /// Dropped: as much waits for this peer on this lane as may.
    Full,
    /// Dropped: there is no connection to the peer now. Frames do not wait for one: what was urgent when the peer
    /// went is old news when it comes back.
    Disconnected,
    /// Dropped: there is no such peer.
    UnknownPeer,
    /// Dropped: the frame is longer than [`max_frame_bytes`](Transport::max_frame_bytes).
    TooLarge,
    /// Dropped: this transport is closed.
    Closed,
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
pub trait Transport: Send + Sync + 'static {
    /// Whose end this is.
    fn local_node(&self) -> NodeId;

    /// The longest frame that can be sent.
    fn max_frame_bytes(&self) -> usize;

    /// Sends a frame, or drops it. Never blocks.
    fn send(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome;

    /// Takes the next frame that has arrived, or has the task woken when one does. `None` once the transport is
    /// closed. Call it until it is [`Poll::Pending`] to take all that is there in one go.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Received>>;

    /// All peers, in the order of their ids, as they are now.
    fn peers(&self) -> Vec<PeerStatus>;

    /// Whether frames can go both ways between this node and `peer`, on every lane.
    fn is_connected(&self, peer: NodeId) -> bool {
        self.peers().iter().any(|status| status.peer == peer && status.is_connected)
    }

    /// Tries for a moment to send what is queued, then ends all connections. Closing twice does nothing more.
    async fn close(&mut self);
}

/// Receiving as a future.
pub trait TransportExt: Transport {
    /// The next frame that arrives; `None` once the transport is closed. Cancel-safe.
    fn receive(&mut self) -> impl Future<Output = Option<Received>> + Send {
        std::future::poll_fn(|context| self.poll_receive(context))
    }

    /// Waits for a frame, then takes all others that are there already, up to `limit` in all. Returns how many were
    /// added to `frames`; 0 if the transport is closed or `limit` is 0. Cancel-safe.
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
