//! Frames of bytes between the nodes of a cluster: best effort, bounded, authenticated.
//!
//! Made for Paxos, which needs no more, but independent of it: to a transport, a frame is just bytes. The
//! contract of every [`Transport`]:
//!
//! - A frame may be lost, duplicated or overtaken by a later one, even on the same lane. A frame that arrives
//!   is whole and unaltered, and [`Received::from`] is the node that sent it.
//! - [`send`](Transport::send) never blocks. It drops a frame if the queue of its lane is full or the peer is
//!   not connected.
//! - Receiving is cancel-safe: dropping the future loses no frame.
//! - Frames, queues, connections and handshakes have bounds in number and size.
//!
//! Three [lanes](Lane) keep urgent frames apart from large ones.
//!
//! # Peers and guests
//!
//! [`set_peers`](Transport::set_peers) changes the peers of a running transport: members of a cluster come,
//! go and move. A node of the cluster that is not among the peers may connect as a guest: a node that was
//! removed while it was away must be told so, and a new one introduces itself before it is added. Its frames
//! are delivered like those of a peer, and frames sent to it go back over its own connections. There are at
//! most eight guests at a time, with small queues. The transport closes the connections of a guest that
//! neither sends nor is sent anything for half a minute.
//!
//! | backend | feature | description |
//! |---|---|---|
//! | `quic` | `quic` | QUIC (quinn) with mutual TLS; a stream for each lane, a second connection for `Bulk` |
//! | `tcp` | `tcp` | the same TLS over TCP, for comparison and for networks that block UDP |
//! | `memory` | `memory` | queues within one process |
//!
//! The feature `certs`, which is off by default, adds the module `certs`: it makes the certificates of a
//! cluster. The feature `emulator`, off by default as well, adds the module `emulator`: a network with delay,
//! loss and a limited rate between the nodes of one machine, for any transport.
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
//! To write a backend of your own, take the building blocks in the module `backend` (feature `backend`), or
//! implement [`Transport`] from nothing, and run [`conformance::check`] on it; [the guide](guide) does so
//! with a whole small one, and `examples/` has more.
//!
//! Requests with answers are no frames: `quic` and `tcp` carry the `calls` of operators and nodes on the same
//! port, over connections of their own.
//!
//! Deliberately absent: retries, ordering, and faults within a backend, which belong to a simulator.
//!
//! # Where things are
//!
//! | looking for | see |
//! |---|---|
//! | the contract of a backend | `transport.rs`, and as tests `conformance.rs` |
//! | queues, counters, peers and guests: what backends share | `backend/` |
//! | faulty backends, with which the suite is tested | `conformance/faults.rs` |
//! | lanes and their bounds | `lane.rs` |
//! | who dials whom, and when a connection replaces another | `network/dialing.rs`, `network/link.rs` |
//! | how certificates prove a node's id | `network/tls/` |
//! | why a peer is not connected, and what the log says about it | `unreachable.rs`, `network/report.rs` |
//! | calls of operators | `network/calls/` |
//! | settings | `network/config.rs` |
//! | delay, loss and a limited rate for measurements | `emulator/` |
//! | what differs between the backends | `quic/`, `tcp.rs`, `memory.rs` |
//! | partitions, loss and restarts as tests | `simulated/` |

#[cfg(feature = "backend")]
pub mod backend;
#[cfg(feature = "certs")]
pub mod certs;
pub mod conformance;
#[cfg(feature = "emulator")]
pub mod emulator;
mod error;
pub mod guide;
mod lane;
#[cfg(feature = "backend")]
mod lock;
#[cfg(feature = "memory")]
pub mod memory;
#[cfg(feature = "network")]
mod network;
#[cfg(feature = "quic")]
pub mod quic;
#[cfg(all(test, feature = "certs", feature = "quic", feature = "tcp"))]
mod simulated;
mod status;
#[cfg(feature = "tcp")]
pub mod tcp;
mod transport;
mod unreachable;
mod validity;

pub use error::{Error, SetPeersError};
pub use lane::{Lane, LaneLimit, LaneLimits, MAX_FRAME_BYTES};
#[cfg(feature = "network")]
pub use network::calls;
#[cfg(all(feature = "network", any(test, feature = "fuzz")))]
#[doc(hidden)]
pub use network::calls::fuzzing;
#[cfg(feature = "network")]
pub use network::expiry::ExpiryWatch;
#[cfg(feature = "network")]
pub use network::{NetworkConfig, NetworkTransport, Resolve, SharedIdentity, SystemResolver, TlsIdentity};
pub use status::{Dropped, PeerCounters, PeerStatus, Traffic};
pub use transport::{MAX_PEERS, Peer, Received, SendOutcome, Transport, TransportExt};
pub use unreachable::{Carrier, CertificateProblem, Unreachable};
pub use validity::{CertificateOwner, CertificateStatus};

// Runs the example of the README.
#[cfg(all(doctest, feature = "memory"))]
#[doc = include_str!("../README.md")]
struct Readme;
