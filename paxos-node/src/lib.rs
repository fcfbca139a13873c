//! Multi-Paxos as a running node: replicate your own state machine, or run the key-value store that comes
//! with it.
//!
//! A [`Node`] is made from [settings](NodeSettings), a [transport](paxos_transport::Transport), a
//! [storage](paxos_storage::Storage) and a [`StateMachine`]; its [`Client`] has commands chosen and reads the
//! state as of now. Everything else, from elections to snapshots, the node does by itself.
//!
//! The [guides](guide) show how to [embed](guide::embed) a state machine of your own, to
//! [simulate](guide::simulate) it, and what to [monitor](guide::monitor); what [clients](guide::clients) do
//! when an answer is lost; how [time](guide::time) gets into the log, and what a lock can rely on; and what a
//! node does about which [faults](guide::faults).
//!
//! ```
//! # #[cfg(all(feature = "kv", feature = "memory"))]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use paxos_node::kv::{Operation, Reply, Store};
//! use paxos_node::prelude::*;
//!
//! let (members, network) = (vec![NodeId(1), NodeId(2), NodeId(3)], MemoryNetwork::default());
//! let mut nodes = Vec::new();
//! for &id in &members {
//!     let storage = MemoryStorage::new(Identity::new("example", id));
//!     let settings = NodeSettings::new(id, members.clone());
//!     nodes.push(Node::start(settings, Box::new(network.bind(id)), Box::new(storage), Store::default())?);
//! }
//!
//! // Any node takes any command, and answers when it has applied the command itself.
//! let (key, value) = (Bytes::from_static(b"key"), Bytes::from_static(b"value"));
//! let set = Operation::set(key, value.clone());
//! let applied = nodes[1].client().propose(Operation::command(&[set])).await?;
//! assert_eq!(Reply::decode_all(applied.response)?, [Reply::Ok]);
//!
//! // A read on any other node sees it.
//! assert_eq!(nodes[2].client().read_with(|store| store.get(b"key")).await?, Some(value));
//! for node in nodes {
//!     node.stop().await?;
//! }
//! # Ok(())
//! # }
//! # #[cfg(not(all(feature = "kv", feature = "memory")))]
//! # fn main() {}
//! ```
//!
//! Data flows one way:
//!
//! ```text
//! client -> driver -> replica -> writer (disk) -> replica -> transport -> peers
//!                        |                           |
//!                        +-------- chosen -----------+-> state machine -> client
//! ```
//!
//! The driver is one task that owns the replica ([`paxos_core::Replica`]) and waits for inputs only; the
//! writer owns the storage, and the applier calls the state machine, each on a thread of its own unless the
//! settings say [`WriterMode::Inline`] or [`ApplyMode::Inline`]. Run a node on a current-thread runtime if
//! you can, and a quick state machine inline: then no command crosses threads except to the disk and back.
//!
//! # Features
//!
//! All but `sim` are on by default. Without any the library is node, client and traits, and needs neither a
//! command line nor a server.
//!
//! | feature | what it adds |
//! |---|---|
//! | `memory`, `file` | the storages of `paxos-storage` (and the transport in memory) |
//! | `quic`, `tcp` | the transports of `paxos-transport` |
//! | `kv` | the key-value store, a state machine to start from |
//! | `in-process` | whole clusters in one process, over any backends |
//! | `bench` | [measures](mod@bench) any backends against each other; implies `kv` and `in-process` |
//! | `sim` | your state machine in the simulator of `paxos-core` |
//! | `server` | the program `paxos-node`: the store behind fronts for Redis clients and HTTP; implies `bench` |

// A print may block until somebody reads it, or panic if nobody does: see `cli::terminal`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod backends;
#[cfg(feature = "server")]
pub mod backup;
#[cfg(feature = "bench")]
pub mod bench;
#[cfg(feature = "server")]
#[cfg_attr(
    not(any(feature = "quic", feature = "tcp")),
    allow(dead_code, unused_imports, reason = "without a network the program runs no node")
)]
#[doc(hidden)]
pub mod cli;
mod client;
mod clock;
mod error;
#[cfg(all(test, feature = "server", feature = "file"))]
mod formats;
#[cfg(feature = "server")]
pub mod fronts;
#[cfg(all(feature = "server", any(test, feature = "fuzz")))]
#[doc(hidden)]
pub mod fuzzing;
pub mod guide;
#[cfg(feature = "in-process")]
pub mod in_process;
#[cfg(feature = "kv")]
pub mod kv;
mod lock;
mod node;
pub mod prelude;
#[cfg(all(feature = "server", feature = "file"))]
pub mod rescue;
mod runtime;
mod session;
mod settings;
#[cfg(feature = "sim")]
pub mod sim;
mod state_machine;
mod status;

// The command line calls the library by its name, as any other user does.
extern crate self as paxos_node;

pub use client::{AdministrationError, Applied, Client, ClientError, StateGuard};
pub use clock::Clock;
pub use error::NodeError;
pub use node::{Node, NodeStart};
pub use paxos_core::{Reading, Role, Time};
pub use runtime::introductions::{KeptOut, RefusedFor, refound};
pub use session::{ClientSession, SessionPosition};
pub use settings::{ApplyMode, NodeSettings, WriterMode};
pub use state_machine::{Applying, SnapshotWriter, StateMachine, UnknownCommand};
pub use status::{CLOCK_TOLERANCE, Digest, KnownLevels, MemberProgress, Recovering, Status};

// Runs the example of the README.
#[cfg(all(doctest, feature = "memory"))]
#[doc = include_str!("../README.md")]
struct Readme;
