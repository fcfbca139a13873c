//! Stable storage for an acceptor.
//!
//! An acceptor must still know its promises and acceptances after a crash and restart (*Paxos Made Simple*,
//! section 2.5). This crate is that memory: the trait [`Storage`], and backends for it.
//!
//! | backend | feature | use |
//! |---|---|---|
//! | [`file`](file::FileStorage) | `file` | a write-ahead log in a directory; survives crashes, tells a torn tail from damage |
//! | [`memory`](memory::MemoryStorage) | `memory` | tests and measurements; survives a restart of the node within one process |
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! use paxos_core::{Ballot, Entry, HardState, NodeId, Slot, Value, Write, WriteNumber};
//! use paxos_storage::{Identity, Storage, memory::MemoryStorage};
//!
//! let disk = MemoryStorage::new(Identity::new("example", NodeId(1)));
//! let mut storage = disk.clone();
//! assert!(storage.recover()?.entries.is_empty());
//!
//! let ballot = Ballot { round: 1, node: NodeId(2) };
//! let entry = Entry::Accepted { ballot, value: Value::no_op() };
//! let hard_state = HardState { promised: ballot, chosen: Slot::ZERO };
//! let write = Write::new(WriteNumber(1), hard_state, vec![(Slot(1), entry)]);
//! let durable = storage.persist(write)?; // only now may the acceptance be sent
//! assert_eq!(durable.numbers(), (WriteNumber(1), WriteNumber(1)));
//!
//! let mut reopened = disk.clone();
//! let recovered = reopened.recover()?;
//! assert_eq!(recovered.hard_state, hard_state);
//! assert_eq!(recovered.entries.len(), 1);
//! # }
//! # Ok::<(), paxos_storage::Error>(())
//! ```
//!
//! To write a backend of your own, implement [`Storage`] with [`codec`] and [`UnfinishedSnapshots`], and run
//! [`conformance::check`] on it; [the guide](guide) does so with a whole small one, and the example `redb`
//! with one on a database. With the feature `sim`, whole simulated clusters run on it, through crashes at bad
//! moments: see the module `sim`.
//!
//! Deliberately absent: the thread that calls the storage, which is the user's choice; the protocol, which is
//! in [`paxos_core`]; and any knowledge of transports.
//!
//! # Where things are
//!
//! | looking for | see |
//! |---|---|
//! | the contract of a backend | `storage.rs`, and as tests `conformance/` |
//! | the bytes of what a backend stores | `codec/` |
//! | errors and what they mean for the node | `error.rs` |
//! | how a write becomes durable | `file/append/log.rs` |
//! | the bytes on disk | `file/layout/` |
//! | reading the log back; torn or damaged? | `file/recovery/` |
//! | crashes and damage as tests | `file/tests/`, `tests/damage.rs` |

pub mod codec;
pub mod conformance;
mod error;
#[cfg(feature = "file")]
pub mod file;
pub mod guide;
mod identity;
#[cfg(any(test, feature = "memory", feature = "file", feature = "sim"))]
mod lock;
#[cfg(feature = "memory")]
pub mod memory;
mod registry;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod storage;
mod unfinished;

pub use error::{Damage, DamageCause, Error, ErrorKind};
pub use identity::{Identity, StorageId};
pub use registry::{Founding, FoundingId, KnownPeer, Origin, Registry, RestoreId, Start};
pub use storage::{Capacity, DeferredWork, MAX_VALUE_BYTES, RecoveryProgress, Storage};
pub use unfinished::{MAX_UNFINISHED_SNAPSHOTS, UnfinishedSnapshots};

// Runs the example of the README.
#[cfg(all(doctest, feature = "memory"))]
#[doc = include_str!("../README.md")]
struct Readme;
