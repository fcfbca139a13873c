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
//! # A whole backend
//!
//! Each node keeps three connections to each peer, one for each lane, and sends on them only. A connection
//! starts with the id of the node that dials and the lane; then each frame follows its length. Part 1 has the
//! tasks that send and receive, part 2 the transport, and part 3 runs the conformance suite on three nodes.
//!
//! ```
//! // ---- Part 1: the connections ----
//!
//! use std::collections::BTreeMap;
//! use std::io;
//! use std::net::SocketAddr;
//! use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
//! use std::sync::{Arc, Mutex};
//! use std::task::{Context, Poll};
//! use std::time::Duration;
//!
//! use async_trait::async_trait;
//! use bytes::Bytes;
//! use paxos_core::NodeId;
//! use paxos_transport::{Lane, PeerCounters, PeerStatus, Received, SendOutcome, Transport};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tokio::net::{TcpListener, TcpStream};
//! use tokio::sync::mpsc;
//! use tokio::task::JoinSet;
//! use tokio::time::{sleep, timeout};
//!
//! const MAX_FRAME_BYTES: usize = 64 << 10;
//! /// Bounds each queue to 16 MiB.
//! const QUEUE_FRAMES: usize = 256;
//! const MAX_CONNECTIONS: usize = 1000;
//! const RETRY_INTERVAL: Duration = Duration::from_millis(20);
//! const FLUSH_TIMEOUT: Duration = Duration::from_millis(200);
//!
//! /// What the tasks of one peer tell the transport.
//! #[derive(Default)]
//! struct PeerState {
//!     /// How many connections there are for each lane.
//!     outgoing: [AtomicUsize; 3],
//!     incoming: [AtomicUsize; 3],
//!     counters: Mutex<PeerCounters>,
//! }
//!
//! impl PeerState {
//!     fn is_connected(&self) -> bool {
//!         self.outgoing.iter().chain(&self.incoming).all(|count| count.load(Relaxed) > 0)
//!     }
//!
//!     fn count(&self, change: impl FnOnce(&mut PeerCounters)) {
//!         change(&mut self.counters.lock().expect("no thread panics while it counts"));
//!     }
//! }
//!
//! /// Counts a connection for as long as it lasts.
//! struct Counted<'a>(&'a AtomicUsize);
//!
//! impl<'a> Counted<'a> {
//!     fn new(count: &'a AtomicUsize) -> Counted<'a> {
//!         count.fetch_add(1, Relaxed);
//!         Counted(count)
//!     }
//! }
//!
//! impl Drop for Counted<'_> {
//!     fn drop(&mut self) {
//!         self.0.fetch_sub(1, Relaxed);
//!     }
//! }
//!
//! /// Keeps a connection for one lane to one peer, and sends the frames of its queue.
//! async fn keep_sending(
//!     from: NodeId,
//!     to: SocketAddr,
//!     lane: Lane,
//!     state: Arc<PeerState>,
//!     mut queue: mpsc::Receiver<Bytes>,
//! ) {
//!     while !queue.is_closed() {
//!         if let Ok(stream) = TcpStream::connect(to).await {
//!             let _counted = Counted::new(&state.outgoing[lane as usize]);
//!             state.count(|counters| counters.connections += 1);
//!             let _ = send_all(from, lane, stream, &state, &mut queue).await;
//!         }
//!         while queue.try_recv().is_ok() {
//!             state.count(|counters| counters.dropped.disconnected += 1);
//!         }
//!         sleep(RETRY_INTERVAL).await;
//!     }
//! }
//!
//! async fn send_all(
//!     from: NodeId,
//!     lane: Lane,
//!     stream: TcpStream,
//!     state: &PeerState,
//!     queue: &mut mpsc::Receiver<Bytes>,
//! ) -> io::Result<()> {
//!     stream.set_nodelay(true)?;
//!     let (mut reader, mut writer) = stream.into_split();
//!     writer.write_u64(from.0).await?;
//!     writer.write_u8(lane as u8).await?;
//!     loop {
//!         let frame = tokio::select! {
//!             frame = queue.recv() => frame,
//!             _ = reader.read_u8() => return Ok(()), // The peer has closed the connection.
//!         };
//!         let Some(frame) = frame else { return writer.shutdown().await };
//!         writer.write_u32(frame.len() as u32).await?;
//!         writer.write_all(&frame).await?;
//!         state.count(|counters| {
//!             counters.sent.frames += 1;
//!             counters.sent.bytes += frame.len() as u64;
//!         });
//!     }
//! }
//!
//! type States = Arc<BTreeMap<NodeId, Arc<PeerState>>>;
//!
//! /// Accepts connections of peers. When this task is aborted, so are those that read from them.
//! async fn accept(listener: TcpListener, states: States, inboxes: Vec<mpsc::Sender<Received>>) {
//!     let mut readers = JoinSet::new();
//!     loop {
//!         while readers.try_join_next().is_some() {}
//!         match listener.accept().await {
//!             Ok((stream, _)) if readers.len() < MAX_CONNECTIONS => {
//!                 readers.spawn(receive_all(stream, Arc::clone(&states), inboxes.clone()));
//!             }
//!             Ok(_) => {} // One too many is closed.
//!             Err(_) => sleep(RETRY_INTERVAL).await, // There may be too many open files.
//!         }
//!     }
//! }
//!
//! /// Moves the frames of one connection to the inbox of their lane.
//! async fn receive_all(
//!     mut stream: TcpStream,
//!     states: States,
//!     inboxes: Vec<mpsc::Sender<Received>>,
//! ) -> io::Result<()> {
//!     let from = NodeId(stream.read_u64().await?);
//!     let lane = usize::from(stream.read_u8().await?);
//!     let (Some(state), Some(&lane)) = (states.get(&from), Lane::ALL.get(lane)) else {
//!         return Err(io::ErrorKind::InvalidData.into());
//!     };
//!     let _counted = Counted::new(&state.incoming[lane as usize]);
//!     loop {
//!         let length = stream.read_u32().await? as usize;
//!         if length > MAX_FRAME_BYTES {
//!             state.count(|counters| counters.nonsense += 1);
//!             return Err(io::ErrorKind::InvalidData.into());
//!         }
//!         // Waits for space before it allocates anything. Then the peer's queue fills.
//!         let Ok(space) = inboxes[lane as usize].reserve().await else { return Ok(()) };
//!         let mut frame = vec![0; length];
//!         stream.read_exact(&mut frame).await?;
//!         state.count(|counters| {
//!             counters.received.frames += 1;
//!             counters.received.bytes += length as u64;
//!         });
//!         space.send(Received { from, lane, frame: frame.into() });
//!     }
//! }
//!
//! // ---- Part 2: the transport ----
//!
//! struct PlainTcp {
//!     node: NodeId,
//!     states: States,
//!     /// The queues to each peer, one for each lane.
//!     queues: BTreeMap<NodeId, Vec<mpsc::Sender<Bytes>>>,
//!     /// One for each lane, the most urgent first.
//!     inboxes: Vec<mpsc::Receiver<Received>>,
//!     senders: JoinSet<()>,
//!     acceptor: JoinSet<()>,
//!     is_closed: bool,
//! }
//!
//! impl PlainTcp {
//!     async fn bind(
//!         node: NodeId,
//!         addresses: &BTreeMap<NodeId, SocketAddr>,
//!     ) -> io::Result<PlainTcp> {
//!         let listener = TcpListener::bind(addresses[&node]).await?;
//!         let peers = || addresses.iter().filter(|(peer, _)| **peer != node);
//!         let states: States = Arc::new(peers().map(|(peer, _)| (*peer, Arc::default())).collect());
//!         let (mut queues, mut senders) = (BTreeMap::new(), JoinSet::new());
//!         for (&peer, &address) in peers() {
//!             let to_peer: &mut Vec<_> = queues.entry(peer).or_default();
//!             for lane in Lane::ALL {
//!                 let (sender, queue) = mpsc::channel(QUEUE_FRAMES);
//!                 to_peer.push(sender);
//!                 let state = Arc::clone(&states[&peer]);
//!                 senders.spawn(keep_sending(node, address, lane, state, queue));
//!             }
//!         }
//!         let (inputs, inboxes) = Lane::ALL.map(|_| mpsc::channel(QUEUE_FRAMES)).into_iter().unzip();
//!         let mut acceptor = JoinSet::new();
//!         acceptor.spawn(accept(listener, Arc::clone(&states), inputs));
//!         Ok(PlainTcp { node, states, queues, inboxes, senders, acceptor, is_closed: false })
//!     }
//!
//!     fn queue(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome {
//!         let (state, queue) = (&self.states[&to], &self.queues[&to][lane as usize]);
//!         if frame.len() > MAX_FRAME_BYTES {
//!             state.count(|counters| counters.dropped.too_large += 1);
//!             return SendOutcome::TooLarge;
//!         }
//!         if state.outgoing[lane as usize].load(Relaxed) == 0 {
//!             state.count(|counters| counters.dropped.disconnected += 1);
//!             return SendOutcome::Disconnected;
//!         }
//!         match queue.try_send(frame) {
//!             Ok(()) => SendOutcome::Queued,
//!             Err(_) => {
//!                 state.count(|counters| counters.dropped.full += 1);
//!                 SendOutcome::Full
//!             }
//!         }
//!     }
//! }
//!
//! #[async_trait]
//! impl Transport for PlainTcp {
//!     fn local_node(&self) -> NodeId {
//!         self.node
//!     }
//!
//!     fn max_frame_bytes(&self) -> usize {
//!         MAX_FRAME_BYTES
//!     }
//!
//!     fn send(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome {
//!         match () {
//!             () if self.is_closed => SendOutcome::Closed,
//!             () if !self.states.contains_key(&to) => SendOutcome::UnknownPeer,
//!             () => self.queue(to, lane, frame),
//!         }
//!     }
//!
//!     fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Received>> {
//!         if self.is_closed {
//!             return Poll::Ready(None);
//!         }
//!         for inbox in &mut self.inboxes {
//!             if let Poll::Ready(received) = inbox.poll_recv(context) {
//!                 return Poll::Ready(received);
//!             }
//!         }
//!         Poll::Pending // Each inbox wakes the task.
//!     }
//!
//!     fn peers(&self) -> Vec<PeerStatus> {
//!         let status = |(peer, state): (&NodeId, &Arc<PeerState>)| {
//!             let mut status = PeerStatus::new(*peer, state.is_connected());
//!             state.count(|counters| status.counters = *counters);
//!             status
//!         };
//!         self.states.iter().map(status).collect()
//!     }
//!
//!     async fn close(&mut self) {
//!         self.is_closed = true;
//!         self.queues.clear(); // The senders end once they have sent what is queued.
//!         let flush = async { while self.senders.join_next().await.is_some() {} };
//!         let _ = timeout(FLUSH_TIMEOUT, flush).await;
//!         self.senders.shutdown().await;
//!         self.acceptor.shutdown().await;
//!     }
//! }
//!
//! // ---- Part 3: the conformance suite ----
//!
//! use paxos_transport::conformance::{self, Backend, NODES};
//!
//! struct Cluster(BTreeMap<NodeId, SocketAddr>);
//!
//! #[async_trait]
//! impl Backend for Cluster {
//!     async fn start(&mut self, node: NodeId) -> Box<dyn Transport> {
//!         Box::new(PlainTcp::bind(node, &self.0).await.expect("the address is free"))
//!     }
//! }
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> io::Result<()> {
//!     let mut addresses = BTreeMap::new();
//!     let mut listeners = Vec::new(); // Kept, so that each gets a port of its own.
//!     for node in NODES {
//!         let listener = TcpListener::bind("127.0.0.1:0").await?;
//!         addresses.insert(node, listener.local_addr()?);
//!         listeners.push(listener);
//!     }
//!     drop(listeners);
//!     conformance::check(&mut Cluster(addresses)).await;
//!     Ok(())
//! }
//! ```
//!
//! # What it leaves out
//!
//! This transport believes any process that claims to be a peer, so it is safe only on a network where nobody
//! else can connect. It does not bound how long a new connection may take to say who it is, lets all peers
//! share the space of an inbox, and does not notice a peer that falls silent without closing its connections.
//! [`PeerStatus::unreachable`](crate::PeerStatus::unreachable) stays empty, so nobody learns why a peer is
//! missing. Its peers are fixed: a cluster on it can not change its members, as it keeps the default of
//! [`set_peers`](crate::Transport::set_peers). The `tcp` backend does all of this.
//!
//! # Use it
//!
//! `paxos_node::Node::start` takes any `Box<dyn Transport>`. Its
//! [`max_frame_bytes`](crate::Transport::max_frame_bytes) must be at least the
//! `NodeSettings::max_message_bytes()` of the node; `start` refuses it otherwise. The frames of 64 KiB above
//! are too short for the default settings. If you raise `MAX_FRAME_BYTES`, lower `QUEUE_FRAMES` or bound the
//! queues in bytes, as their product bounds the memory of each queue.
