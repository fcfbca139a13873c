//! Write a transport of your own: a whole one over plain TCP, which passes the conformance suite.
//!
//! # What a backend must do
//!
//! - **Deliver frames whole, or not at all.** Frames may get lost, arrive twice, or overtake each other. The
//!   protocol sends again what matters, so a backend needs no retries and no order.
//! - **Name the true sender.** [`Received::from`](crate::Received::from) must be the node that sent the
//!   frame. The `quic` and `tcp` backends take it from the peer's certificate.
//! - **Never block in [`send`](crate::Transport::send).** The thread that calls it sends the heartbeats. If a
//!   queue is full, drop the frame and return [`SendOutcome::Full`](crate::SendOutcome::Full).
//! - **Keep lanes apart.** A lane full of snapshot pieces must not delay heartbeats. Hand out received frames
//!   of [`Lane::Control`](crate::Lane::Control) first.
//! - **Bound everything.** Frames, queues, connections, and what a peer can make this node allocate.
//! - **Reconnect by itself.** A peer that restarts must be found again without help.
//! - **Follow the members**, if it can: [`set_peers`](crate::Transport::set_peers) adds, removes and moves
//!   peers while the transport runs, and leaves the connections of all others alone.
//!
//! The blocks in `paxos_transport::backend` (feature `backend`) do most of that. A
//! [`Hub`](crate::backend::Hub) has the bounded queues and the counters of each peer and guest, and a
//! [`HubTransport`](crate::backend::HubTransport) over it is a whole [`Transport`](crate::Transport). Left to
//! a backend: to dial, to accept, and to find out who the peer is.
//!
//! # A whole backend
//!
//! ```toml
//! [dependencies]
//! async-trait = "0.1"
//! paxos-core = "0.1"
//! paxos-transport = { version = "0.1", default-features = false, features = ["backend"] }
//! tokio = { version = "1", features = ["io-util", "macros", "net", "rt", "sync", "time"] }
//! ```
//!
//! A node has three connections with each peer, one for each lane. Of two peers, the one with the higher id
//! dials. It says which node it is and which lane the connection is for; then frames go in both directions.
//!
//! ```
//! # #[cfg(feature = "backend")]
//! # mod plain_tcp {
//! use std::io;
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use async_trait::async_trait;
//! use paxos_core::NodeId;
//! use paxos_transport::backend::{Claim, Dialer, Hub, HubConfig, HubTransport, Pulse};
//! use paxos_transport::{Error, Lane, Peer, Unreachable};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tokio::net::{TcpListener, TcpStream};
//! use tokio::sync::Semaphore;
//! use tokio::time::{sleep, timeout};
//!
//! /// How many connections may be about to say who they are; further ones are closed.
//! const MAX_GREETINGS: usize = 64;
//! const GREETING_TIMEOUT: Duration = Duration::from_secs(1);
//! const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
//! /// A peer whose machine is gone closes nothing. So both sides send something every second.
//! const PULSE: Pulse =
//!     Pulse { interval: Some(Duration::from_secs(1)), timeout: Some(Duration::from_secs(5)) };
//!
//! pub async fn bind(config: HubConfig, address: &str, peers: &[Peer]) -> Result<HubTransport, Error> {
//!     let bound = TcpListener::bind(address).await;
//!     let listener = bound.map_err(|error| Error::foreign(format!("{address}: {error}")))?;
//!     let dialer = TcpDialer { node: config.node };
//!     let (hub, inbox) = Hub::new(config);
//!     hub.spawn(accept(Arc::clone(&hub), listener));
//!     HubTransport::start(hub, inbox, dialer, peers).map_err(Error::foreign)
//! }
//!
//! struct TcpDialer {
//!     node: NodeId,
//! }
//!
//! #[async_trait]
//! impl Dialer for TcpDialer {
//!     // Called again and again, as long as the peer is one.
//!     async fn connect(&self, claim: &Claim) -> Unreachable {
//!         let address = claim.link().address();
//!         match dial(self.node, claim.lanes()[0], &address).await {
//!             Ok(stream) => carry(claim, stream).await,
//!             Err(error) => Unreachable::Foreign { problem: format!("{address}: {error}") },
//!         }
//!     }
//! }
//!
//! async fn dial(own: NodeId, lane: Lane, address: &str) -> io::Result<TcpStream> {
//!     let mut stream = TcpStream::connect(address).await?;
//!     stream.write_u64(own.0).await?;
//!     stream.write_u8(lane as u8).await?;
//!     Ok(stream)
//! }
//!
//! async fn accept(hub: Arc<Hub>, listener: TcpListener) {
//!     let places = Arc::new(Semaphore::new(MAX_GREETINGS));
//!     loop {
//!         let Ok((stream, _)) = listener.accept().await else {
//!             sleep(ACCEPT_PAUSE).await; // There may be too many open files.
//!             continue;
//!         };
//!         let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
//!         let serving = Arc::clone(&hub);
//!         hub.spawn(async move {
//!             if let Ok(Ok((stream, node, lane))) = timeout(GREETING_TIMEOUT, greet(stream)).await {
//!                 let carry = |claim: Arc<Claim>| async move { carry(&claim, stream).await };
//!                 let _ = serving.serve(node, &[lane], carry); // One that is refused is closed.
//!             }
//!             drop(place);
//!         });
//!     }
//! }
//!
//! /// Finds out who has dialed. A real backend asks for a proof.
//! async fn greet(mut stream: TcpStream) -> io::Result<(TcpStream, NodeId, Lane)> {
//!     let node = NodeId(stream.read_u64().await?);
//!     let lane = Lane::ALL.get(usize::from(stream.read_u8().await?));
//!     Ok((stream, node, *lane.ok_or(io::ErrorKind::InvalidData)?))
//! }
//!
//! /// Sends and receives until the connection ends, on both sides.
//! async fn carry(claim: &Claim, stream: TcpStream) -> Unreachable {
//!     let _ = stream.set_nodelay(true); // Without it frames would be late, but whole.
//!     let (mut reader, mut writer) = stream.into_split();
//!     claim.carry(&mut reader, &mut writer, PULSE).await
//! }
//! # }
//! #
//! # #[cfg(feature = "backend")]
//! # mod suite {
//! # use std::collections::BTreeMap;
//! # use std::net::TcpListener;
//! #
//! # use async_trait::async_trait;
//! # use paxos_core::NodeId;
//! # use paxos_transport::backend::HubConfig;
//! # use paxos_transport::conformance::{self, Backend, NODES};
//! # use paxos_transport::{Peer, Transport};
//! #
//! # use super::plain_tcp::bind;
//!
//! /// The nodes of the conformance suite, and their addresses.
//! struct Cluster(BTreeMap<NodeId, String>);
//!
//! #[async_trait]
//! impl Backend for Cluster {
//!     async fn start(&mut self, node: NodeId) -> Box<dyn Transport> {
//!         let config = HubConfig::new(node).with(|config| config.max_frame_bytes = 1 << 20);
//!         let peers: Vec<_> = self.0.iter().map(|(node, address)| Peer::new(*node, address)).collect();
//!         Box::new(bind(config, &self.0[&node], &peers).await.expect("the address is free"))
//!     }
//!
//!     fn address(&self, node: NodeId) -> String {
//!         self.0[&node].clone()
//!     }
//!
//!     async fn start_elsewhere(&mut self, node: NodeId) -> Box<dyn Transport> {
//!         self.0.insert(node, free_address());
//!         self.start(node).await
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # pub async fn run() {
//! conformance::check(&mut Cluster(NODES.map(|node| (node, free_address())).into())).await;
//! # }
//! #
//! # fn free_address() -> String {
//! #     let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
//! #     listener.local_addr().expect("it is bound").to_string()
//! # }
//! # }
//! # #[cfg(feature = "backend")]
//! # fn main() {
//! #     suite::run();
//! # }
//! # #[cfg(not(feature = "backend"))]
//! # fn main() {}
//! ```
//!
//! # What it leaves out
//!
//! This transport believes any process that claims to be a node, so it is safe only on a network where nobody
//! else can connect. The `tcp` backend asks for a certificate. A backend over another protocol that uses
//! rustls can do the same, with the settings in `paxos_transport::backend::tls`.
//!
//! # Other protocols
//!
//! Three more are in `examples/` of this crate, each with a `main` that checks and measures it:
//!
//! - `unix.rs` is the same as above over Unix sockets, and asks the system which user has dialed;
//! - `udp.rs` has neither connections nor streams: it cuts frames into datagrams, and finds out by itself who
//!   is there;
//! - `noq.rs` is over another QUIC library, with the certificates of the cluster.
//!
//! A backend that shares nothing with these, not even the connections, implements
//! [`Transport`](crate::Transport) itself, and takes single blocks: an
//! [`Outbox`](crate::backend::Outbox) for each lane, the [`Inbox`](crate::backend::Inbox), and a
//! [`Roster`](crate::backend::Roster) of peers and guests. `src/memory.rs` is one.
//!
//! # Use it
//!
//! `paxos_node::Node::start` takes any `Box<dyn Transport>`. Its
//! [`max_frame_bytes`](crate::Transport::max_frame_bytes) must be at least the
//! `NodeSettings::max_message_bytes()` of the node; `start` refuses it otherwise. The default of
//! [`HubConfig`](crate::backend::HubConfig) is long enough for the default settings of a node.
