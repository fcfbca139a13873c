//! Benchmarks of transports, storages and settings against each other, yours beside ours: what the program's
//! `paxos-node bench` is made of.
//!
//! Every combination is a cluster of the key-value store in this process, under clients in closed loops: each
//! sends its next request as soon as the last is answered. The result is a [`Report`]: a table, JSON, charts,
//! and a page for a browser.
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! use std::time::Duration;
//!
//! use paxos_node::bench::{Bench, Work};
//! use paxos_node::in_process::{StorageKind, TransportKind};
//! use paxos_transport::memory::MemoryNetwork;
//!
//! let report = Bench::new()
//!     .transports([TransportKind::Memory])
//!     .storages([StorageKind::Memory])
//!     // One more transport: here it is ours under another name.
//!     .transport("queues", |site| async move {
//!         let network = site.shared(|| Ok(MemoryNetwork::default()))?;
//!         Ok(network.bind(site.node()))
//!     })
//!     .works([Work::Set])
//!     .value_bytes([16])
//!     .clients([1, 8])
//!     .warm_up(Duration::from_millis(20))
//!     .time(Duration::from_millis(50))
//!     .run()?;
//! assert_eq!(report.rows.len(), 4);
//! println!("{}", report.table());
//! # }
//! # Ok::<(), paxos_node::bench::Error>(())
//! ```
//!
//! Guaranteed: rows compare within one report, as all are measured by the same clients on the same machine;
//! what has failed is counted in its row, and a transport that alters messages fails the run.
//!
//! Deliberately absent: faults, and servers of others. The workspace's own `benches` have those.

mod builder;
mod case;
mod error;
mod keys;
#[doc(hidden)]
pub mod load;
mod machine;
mod page;
mod plot;
mod report;
mod resp;
mod run;
mod table;
mod target;

pub use self::builder::Bench;
pub use self::case::{Case, Protocol, Work};
pub use self::error::Error;
pub use self::machine::Machine;
pub use self::plot::Chart;
pub use self::report::{Emulated, Place, Report, Row};
pub use self::run::{Progress, Run};
pub use self::table::Table;
