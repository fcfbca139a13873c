//! Embed a state machine of your own, on three machines.
//!
//! What you bring is a [`StateMachine`](crate::StateMachine): a type that applies commands, all of them bytes
//! that you define. What you get is a [`Node`](crate::Node) for each machine, and a [`Client`](crate::Client)
//! that has commands chosen and reads the state as of now.
//!
//! The code below needs these crates:
//!
//! ```toml
//! [dependencies]
//! paxos-node = { version = "0.1", default-features = false, features = ["file", "quic"] }
//! paxos-storage = { version = "0.1", default-features = false, features = ["file"] }
//! paxos-transport = { version = "0.1", default-features = false, features = ["quic", "certs"] }
//! tokio = { version = "1", features = ["macros", "rt"] }
//! ```
//!
//! `certs` is for a program that makes certificates; those of `paxos-node certs` do as well.
//!
//! # 1. The state machine
//!
//! Every node applies the same commands in the same order, so `apply` may depend on nothing but the state and
//! the command: no clock, no randomness, no iteration over a hash map. It must not panic on any bytes.
//!
//! ```
//! use std::io::{self, Read};
//!
//! use paxos_node::prelude::*;
//!
//! /// The sum of all numbers that were ever proposed.
//! #[derive(Default)]
//! struct Sum(u64);
//!
//! impl StateMachine for Sum {
//!     fn apply(&mut self, _: Applying, command: &Bytes) -> Bytes {
//!         match command[..].try_into() {
//!             Ok(number) => self.0 = self.0.wrapping_add(u64::from_le_bytes(number)),
//!             Err(_) => return Bytes::from_static(b"a command has 8 bytes"),
//!         }
//!         Bytes::copy_from_slice(&self.0.to_le_bytes())
//!     }
//!
//!     /// Takes a cheap copy now; the function that is returned writes it, on a thread of its own.
//!     fn snapshot(&self) -> SnapshotWriter {
//!         let sum = self.0;
//!         Box::new(move |target| target.write_all(&sum.to_le_bytes()))
//!     }
//!
//!     fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
//!         let mut bytes = [0; 8];
//!         snapshot.read_exact(&mut bytes)?;
//!         self.0 = u64::from_le_bytes(bytes);
//!         Ok(())
//!     }
//!
//!     fn digest(&self) -> u64 {
//!         self.0
//!     }
//! }
//! # let mut sum = Sum::default();
//! # sum.apply(Applying::new(Slot(1), Time::NONE), &Bytes::copy_from_slice(&5u64.to_le_bytes()));
//! # assert_eq!(sum.digest(), 5);
//! ```
//!
//! # 2. Once for each machine: certificates and a storage
//!
//! Nodes know each other by certificates of a CA that is yours. [`write_cluster`](paxos_transport::certs)
//! makes them, on one machine; each node gets `ca.pem` and its own certificate and key. Whoever operates the
//! cluster gets `ca.pem`, `admin.pem` and `admin-key.pem`. The program does the same with `paxos-node certs`.
//!
//! A storage is made once, by [`format`](paxos_storage::file::format), and opened at every start. Opening
//! never makes one: an unmounted disk must not become a node that has forgotten its promises. A node that has
//! lost its disk must not come back under its id.
//!
//! # 3. At every start
//!
//! ```
//! # #[cfg(all(feature = "file", feature = "quic", feature = "in-process"))]
//! # mod example {
//! # use std::collections::BTreeMap;
//! # use std::io::{self, Read};
//! # use std::net::SocketAddr;
//! # use std::path::Path;
//! use paxos_node::prelude::*;
//! use paxos_storage::file::{self, FileSettings, FileStorage};
//! use paxos_transport::{NetworkConfig, TlsIdentity, certs, quic};
//! # #[derive(Default)]
//! # pub struct Sum(pub u64);
//! # impl StateMachine for Sum {
//! #     fn apply(&mut self, _: Applying, command: &Bytes) -> Bytes {
//! #         self.0 += command[..].try_into().map_or(0, u64::from_le_bytes);
//! #         Bytes::new()
//! #     }
//! #     fn snapshot(&self) -> SnapshotWriter { let sum = self.0; Box::new(move |target| target.write_all(&sum.to_le_bytes())) }
//! #     fn restore(&mut self, _: &mut dyn Read) -> io::Result<()> { Ok(()) }
//! #     fn digest(&self) -> u64 { self.0 }
//! # }
//! # type Failure = Box<dyn std::error::Error>;
//!
//! const CLUSTER: &str = "sums";
//!
//! /// Once, on one machine: makes what the nodes know each other by.
//! pub fn make_certificates(directory: &Path, hosts: &[String]) -> Result<(), Failure> {
//!     certs::write_cluster(directory, CLUSTER, &[NodeId(1), NodeId(2), NodeId(3)], hosts)?;
//!     Ok(())
//! }
//!
//! /// Once, on each machine: makes the storage of its node.
//! pub fn make_storage(node: NodeId, data: &Path) -> Result<(), Failure> {
//!     Ok(file::format(data, &Identity::new(CLUSTER, node))?)
//! }
//!
//! /// At every start. `peers` has all nodes, this one included, and where they listen, as `host:port`.
//! pub async fn start(
//!     node: NodeId,
//!     listen: SocketAddr,
//!     peers: BTreeMap<NodeId, String>,
//!     certificates: &Path,
//!     data: &Path,
//! ) -> Result<Node<Sum>, Failure> {
//!     let settings = NodeSettings::new(node, peers.keys().copied().collect());
//!     let identity = TlsIdentity::load(certificates, node, CLUSTER)?;
//!     let transport = quic::bind(NetworkConfig::new(node, listen, peers, identity)).await?;
//!     let storage = FileStorage::open(data, FileSettings::default())?;
//!     Ok(Node::start(settings, Box::new(transport), Box::new(storage), Sum::default())?)
//! }
//! # }
//! # #[cfg(all(feature = "file", feature = "quic", feature = "in-process"))]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #     use paxos_node::prelude::*;
//! #     let directory = tempfile::tempdir()?;
//! #     let certificates = directory.path().join("certificates");
//! #     example::make_certificates(&certificates, &[String::from("127.0.0.1")])?;
//! #     // All on this machine, at ports that are free.
//! #     let sockets = (0..3).map(|_| std::net::UdpSocket::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
//! #     let addresses = sockets.iter().map(|socket| socket.local_addr()).collect::<Result<Vec<_>, _>>()?;
//! #     drop(sockets);
//! #     let peers: std::collections::BTreeMap<_, _> =
//! #         (1..).map(NodeId).zip(addresses.iter().map(ToString::to_string)).collect();
//! #     let mut nodes = Vec::new();
//! #     for (node, listen) in (1..).map(NodeId).zip(addresses) {
//! #         let data = directory.path().join(format!("data-{node}"));
//! #         example::make_storage(node, &data)?;
//! #         nodes.push(example::start(node, listen, peers.clone(), &certificates, &data).await?);
//! #     }
//! #     let client = nodes[0].client();
//! client.propose(Bytes::copy_from_slice(&5u64.to_le_bytes())).await?;
//! assert_eq!(client.read_with(|sum| sum.0).await?, 5);
//! #     Ok(())
//! # }
//! # #[cfg(not(all(feature = "file", feature = "quic", feature = "in-process")))]
//! # fn main() {}
//! ```
//!
//! `Node::start` returns at once. The first time, the cluster is founded when all its nodes have met; until
//! then commands wait, up to [`request_timeout`](crate::NodeSettings::request_timeout). Wait for
//! [`Node::failed`](crate::Node::failed) beside your own work: a node stops by itself if its storage or its
//! state machine fails.
//!
//! # 4. What to decide
//!
//! - *Which thread.* The driver is a task of the runtime that `start` is called on. On a current-thread
//!   runtime with nothing else that takes long, a command is fastest. A state machine whose `apply` is quick
//!   belongs [inline](crate::ApplyMode::Inline); a slow one stays on its own thread.
//! - *What a client does without an answer.* [`ClientError`](crate::ClientError) tells whether the command
//!   may still be applied. To send it again safely, use a [`ClientSession`](crate::ClientSession).
//! - *How much memory.* [`StateMachine::memory_bytes`](crate::StateMachine::memory_bytes) and
//!   [`memory_limit_bytes`](crate::NodeSettings::memory_limit_bytes) let the node refuse commands before the
//!   system ends its process.
//! - *What must be equal.* Settings of your state machine that have to be the same on all nodes go into
//!   [`equal`](crate::NodeSettings::equal): nodes that differ refuse each other.
//!
//! Next: [run the state machine in the simulator](super::simulate), and know
//! [what to monitor](super::monitor).
