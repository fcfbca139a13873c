//! Multi-Paxos as a running node: replicate your own state machine, or run the key-value store that comes with it.
//!
//! A [`Node`] is made from [settings](NodeSettings), a [transport](paxos_transport::Transport), a
//! [storage](paxos_storage::Storage) and a [`StateMachine`]; its [`Client`] has commands chosen and reads the
//! state as of now. Everything else, from elections to snapshots, happens by itself.
//!
//! ```
//! # #[cfg(feature = "memory")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use bytes::Bytes;
//! use paxos_core::NodeId;
//! use paxos_node::kv::{Operation, Reply, Store};
//! use paxos_node::{Node, NodeSettings};
//! use paxos_storage::{Identity, memory::MemoryStorage};
//! use paxos_transport::memory::MemoryNetwork;
//!
//! let (members, network) = (vec![NodeId(1), NodeId(2), NodeId(3)], MemoryNetwork::default());
//! let mut nodes = Vec::new();
//! for &id in &members {
//!     let storage = MemoryStorage::new(Identity::new("example", id));
//!     let settings = NodeSettings::new(id, members.clone());
//!     nodes.push(Node::start(settings, Box::new(network.bind(id)), Box::new(storage), Store::default())?);
//! }
//!
//! // Any node takes any command, and answers when it has applied it itself.
//! let (key, value) = (Bytes::from_static(b"key"), Bytes::from_static(b"value"));
//! let set = Operation::Set { key, value: value.clone(), condition: None, returns_old: false };
//! let applied = nodes[1].client().propose(Operation::command(&[set])).await?;
//! assert_eq!(Reply::decode_all(applied.response)?, [Reply::Ok]);
//!
//! // A read on any other node sees it.
//! assert_eq!(nodes[2].client().read().await?.get(b"key"), Some(&value));
//! for node in nodes {
//!     node.stop().await?;
//! }
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "memory"))]
//! # fn main() {}
//! ```
//!
//! How data flows, always one way round:
//!
//! ```text
//! client -> driver -> replica -> writer (disk) -> replica -> transport -> peers
//!                        |                           |
//!                        +-------- chosen -----------+-> state machine -> client
//! ```
//!
//! The driver is one task that owns the replica ([`paxos_core::Replica`]); the writer is one thread that owns the
//! storage. Run a node on a current-thread runtime if you can: then no command crosses threads but to the disk
//! and back.
//!
//! The program `paxos-node` puts the [`kv`] store behind a front for [Redis clients](resp) and one for
//! [HTTP](http).

mod applier;
#[doc(hidden)]
pub mod cli;
mod client;
mod driver;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod in_process;
pub mod kv;
mod metrics;
mod node;
mod numbered;
mod peers;
mod pending;
pub mod resp;
mod settings;
mod snapshots;
mod state_machine;
mod status;
mod unsynced;
mod writer;

// The command line calls the library by its name, as any other user does.
extern crate self as paxos_node;

pub use client::{Applied, Client, ClientError, State};
pub use node::{Node, NodeError};
pub use paxos_core::Role;
pub use settings::{NodeSettings, WriterMode};
pub use state_machine::{SnapshotWriter, StateMachine};
pub use status::Status;
