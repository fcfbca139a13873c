//! Measure a transport or a storage of your own beside ours, near and far.
//!
//! [`paxos_transport::guide`] and [`paxos_storage::guide`] build whole backends of your own. Here they get
//! into a cluster, and into the tables, charts and pages of `paxos-node bench`. What is needed:
//!
//! ```toml
//! [dependencies]
//! paxos-node = { version = "0.1", default-features = false, features = ["bench", "memory", "tcp", "file"] }
//! paxos-storage = { version = "0.1", default-features = false }
//! paxos-transport = { version = "0.1", default-features = false }
//! ```
//!
//! # 1. A factory
//!
//! A [`TransportFactory`](crate::in_process::TransportFactory) binds a transport for each node of a cluster,
//! and a [`StorageFactory`](crate::in_process::StorageFactory) opens a storage. Both are closures that get a
//! [`Site`](crate::in_process::Site): what they may know about the node.
//!
//! | a backend needs | it asks the site for |
//! |---|---|
//! | the node's id, and those of all | `node()`, `nodes()` |
//! | an address to listen on, and those of the others | `listen_address()`, `peers()` |
//! | a place for sockets or files | `directory()`, which all nodes share, or `own_path()` |
//! | the identity of a new storage | `identity()` |
//! | something that all nodes of the cluster share | `shared(..)`: the first node makes it |
//!
//! A storage gets a thread of its own for its calls, which costs each write two wake-ups. If none of its
//! calls waits for a disk, say [`that_never_blocks`](crate::in_process::StorageFactory::that_never_blocks);
//! with [`synced_by`](crate::in_process::StorageFactory::synced_by) reports tell how its writes are made
//! durable.
//!
//! # 2. In the matrix
//!
//! [`Bench`](crate::bench::Bench) measures all combinations of all that it is given. New ones have our
//! transports and storages already; yours come to them. Put this into `main`:
//!
//! ```
//! # #[cfg(all(feature = "bench", feature = "memory", feature = "tcp"))] {
//! use std::time::Duration;
//!
//! use paxos_node::bench::{Bench, Work};
//! use paxos_node::in_process::StorageFactory;
//! use paxos_storage::memory::MemoryStorage;
//! use paxos_transport::memory::MemoryNetwork;
//!
//! let report = Bench::new()
//! #   .transports([paxos_node::in_process::TransportKind::Memory])
//! #   .storages([paxos_node::in_process::StorageKind::Memory])
//!     // In place of these, bind your transport and open your storage.
//!     .transport("mine", |site| async move {
//!         let network = site.shared(|| Ok(MemoryNetwork::default()))?;
//!         Ok(network.bind(site.node()))
//!     })
//!     .with_storage(
//!         StorageFactory::new("shelf", |site| Ok(MemoryStorage::new(site.identity()))).that_never_blocks(),
//!     )
//!     .works([Work::Set, Work::Get])
//!     .value_bytes([256])
//!     .clients([1, 64])
//!     .time(Duration::from_secs(2))
//! #   .time(Duration::from_millis(50)).warm_up(Duration::from_millis(20))
//!     .run()?;
//! println!("{}", report.table());
//! let directory = std::env::temp_dir();
//! std::fs::write(directory.join("report.html"), report.page())?; // Opens in any browser, with charts.
//! std::fs::write(directory.join("report.json"), report.json())?;
//! # assert_eq!(report.rows.len(), 16);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `cargo run --release`: figures of an unoptimized build say nothing. [`Bench::prepare`] gives a run that
//! tells its progress and can be given up with what it has; `paxos-node bench` is made of it.
//!
//! [`Bench::prepare`]: crate::bench::Bench::prepare
//!
//! # 3. At a distance
//!
//! On one machine nodes are no distance apart, and a round trip saved is worth little. With
//! [`Bench::networks`](crate::bench::Bench::networks), or `paxos-node bench --network wan:3-regions`, a
//! network is emulated between them. Say what your transport sends its frames in, so that the emulator gets
//! hold of the packets themselves:
//!
//! | [carried in](crate::in_process::TransportFactory::carried_in) | what is delayed and lost | what the backend does |
//! |---|---|---|
//! | `Datagrams` | each UDP datagram | sends to the addresses of `site.peers()` |
//! | `Streams` | segments of a TCP connection; a lost one is late, as if sent again | dials the addresses of `site.peers()` |
//! | `Frames`, unless it says otherwise | whole frames, as they arrive | nothing |
//!
//! The first node leads, and is asked by all clients: at a distance that is part of what a request takes. A
//! row says so if another node took over while it was measured.
//!
//! The report tells how exactly the emulator kept the delays that it was asked for: see
//! [`Accuracy`](crate::in_process::Accuracy).
//!
//! # 4. Your own load
//!
//! The bench drives the key-value store. To measure a state machine or a protocol setting of your own, start
//! a [`Cluster`](crate::in_process::Cluster) with the same factories, and propose to its leader, from
//! criterion for instance: `benches/benches/phases.rs` does so.
