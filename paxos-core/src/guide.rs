//! Write a driver of your own: three replicas, their disks and the messages between them, in one thread.
//!
//! A [`Replica`](crate::Replica) does no I/O. It is a function from an [`Input`](crate::Input) to
//! [`Output`](crate::Output)s, and a driver is what carries these out. The program below is a whole one,
//! without threads, async or sockets: it elects a leader, has a command chosen, loses a node, goes on, and
//! brings the node back from its disk. It is compiled and run as a test.
//!
//! # What a driver has to do
//!
//! - **Store before it tells.** An [`Output::Persist`](crate::Output::Persist) goes to the disk, is synced,
//!   and comes back as [`Input::Durable`](crate::Input::Durable). Writes go there in their order; several may
//!   be [merged](crate::Write::merge) into one. A driver that gives the proof back too early can lose what
//!   was chosen; one that never does stands still.
//! - **Carry out outputs in order**, as [`carry_out_all`](crate::carry_out_all) does, and keep what answers
//!   them for a step of its own.
//! - **Send without waiting.** A message may be lost, doubled, late or overtaken; what matters is sent again
//!   when a tick shows that it was not answered. Never wait for a peer.
//! - **Tick** in equal intervals: [`ProtocolSettings`](crate::ProtocolSettings) counts time-outs in ticks.
//!   Tell the clocks with [`Replica::read_clocks`](crate::Replica::read_clocks) if commands depend on time;
//!   here none does.
//! - **Start from what the disk holds**, with another seed each time, so that two candidates do not draw the
//!   same numbers again and again.
//!
//! A command that is sent twice is applied twice: clients that repeat what was not answered need
//! [sessions](crate::session). A driver for long runs takes snapshots as well, so that the log can be
//! trimmed: see [`Driver`](crate::Driver), and for a whole node the crate `paxos-node`.
//!
//! ```
//! use std::collections::{BTreeMap, VecDeque};
//! use std::convert::Infallible;
//!
//! use bytes::Bytes;
//! use paxos_core::{
//!     Config, Driver, Entry, HardState, Input, Membership, Message, NodeId, ProtocolSettings, ReadId,
//!     Recovered, Replica, Slot, SnapshotMeta, Time, Value, Write, carry_out_all,
//! };
//!
//! /// What a node still knows after a crash. Yours is in files, and every write is synced.
//! #[derive(Default)]
//! struct Disk {
//!     hard_state: HardState,
//!     entries: BTreeMap<Slot, Entry>,
//! }
//!
//! impl Disk {
//!     fn store(&mut self, write: &Write) {
//!         self.hard_state = write.hard_state();
//!         self.entries.extend(write.entries().iter().cloned());
//!     }
//!
//!     fn recovered(&self) -> Recovered {
//!         let entries = self.entries.iter().map(|(slot, entry)| (*slot, entry.clone())).collect();
//!         Recovered::new(self.hard_state, None, entries)
//!     }
//! }
//!
//! /// Everything of a node but its replica: this is the driver.
//! #[derive(Default)]
//! struct Node {
//!     id: NodeId,
//!     peers: Vec<NodeId>,
//!     disk: Disk,
//!     /// Messages on their way to others.
//!     sent: Vec<(NodeId, Message)>,
//!     /// Writes that are not on the disk yet, oldest first.
//!     writes: VecDeque<Write>,
//!     /// The state machine: all commands that were applied.
//!     applied: Vec<Bytes>,
//! }
//!
//! impl Driver for Node {
//!     type Error = Infallible;
//!
//!     fn send(&mut self, to: NodeId, message: Message) -> Result<(), Infallible> {
//!         self.sent.push((to, message));
//!         Ok(())
//!     }
//!     fn broadcast(&mut self, message: Message) -> Result<(), Infallible> {
//!         self.sent.extend(self.peers.iter().map(|peer| (*peer, message.clone())));
//!         Ok(())
//!     }
//!     fn persist(&mut self, write: Write) -> Result<(), Infallible> {
//!         // Not stored here: a disk takes its time, and the replica goes on meanwhile.
//!         self.writes.push_back(write);
//!         Ok(())
//!     }
//!     fn apply(&mut self, _: Slot, value: Value) -> Result<(), Infallible> {
//!         self.applied.extend(value.commands());
//!         Ok(())
//!     }
//!     // Reads and snapshots are not used here: without snapshots the log only grows.
//!     fn read_ready(&mut self, _: ReadId, _: Time) -> Result<(), Infallible> {
//!         unreachable!("nobody reads")
//!     }
//!     fn restore(&mut self, _: SnapshotMeta) -> Result<(), Infallible> {
//!         unreachable!("there are no snapshots")
//!     }
//!     fn load_snapshot(&mut self, _: NodeId, _: SnapshotMeta, _: u64, _: usize) -> Result<(), Infallible> {
//!         unreachable!("there are no snapshots")
//!     }
//!     fn store_snapshot(&mut self, _: Slot, _: u64, _: Bytes) -> Result<(), Infallible> {
//!         unreachable!("there are no snapshots")
//!     }
//!     fn install_snapshot(&mut self, _: SnapshotMeta) -> Result<(), Infallible> {
//!         unreachable!("there are no snapshots")
//!     }
//! }
//!
//! const IDS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
//!
//! /// Starts a node from what is on its disk; `life` makes each start draw other random numbers.
//! fn start(id: NodeId, disk: Disk, life: u64) -> Result<(Replica, Node), Box<dyn std::error::Error>> {
//!     let config = Config::new(id, Membership::new(&IDS)?, ProtocolSettings::default())?;
//!     let replica = Replica::new(config, disk.recovered(), id.0 + 100 * life)?;
//!     let peers = IDS.into_iter().filter(|peer| *peer != id).collect();
//!     Ok((replica, Node { id, peers, disk, ..Node::default() }))
//! }
//!
//! /// One step of a replica, and all that it asks for.
//! fn step((replica, node): &mut (Replica, Node), input: Input) {
//!     let mut outputs = Vec::new();
//!     replica.step(input, &mut outputs);
//!     let Ok(()) = carry_out_all(&mut outputs, node);
//! }
//!
//! /// A tick of time for all nodes. In between, disks store and messages arrive until nothing is left to do.
//! fn tick(nodes: &mut [(Replica, Node)]) {
//!     for node in &mut *nodes {
//!         step(node, Input::Tick);
//!     }
//!     loop {
//!         let mut sent = Vec::new();
//!         for node in &mut *nodes {
//!             // First to the disk, then the proof of it to the replica: what a promise or an acceptance
//!             // tells others leaves only after that.
//!             while let Some(write) = node.1.writes.pop_front() {
//!                 node.1.disk.store(&write);
//!                 step(node, Input::Durable(write.into_durable()));
//!             }
//!             let from = node.1.id;
//!             sent.extend(node.1.sent.drain(..).map(|(to, message)| (from, to, message)));
//!         }
//!         if sent.is_empty() {
//!             return;
//!         }
//!         for (from, to, message) in sent {
//!             if let Some(node) = nodes.iter_mut().find(|node| node.1.id == to) {
//!                 step(node, Input::Receive { from, message });
//!             } // Else it is down, and the message is lost.
//!         }
//!     }
//! }
//!
//! let mut nodes = IDS.into_iter().map(|id| start(id, Disk::default(), 0)).collect::<Result<Vec<_>, _>>()?;
//! while nodes[0].0.leader().is_none() {
//!     tick(&mut nodes);
//! }
//!
//! // Any node takes a command, and forwards it to the leader.
//! step(&mut nodes[1], Input::Propose { commands: vec![Bytes::from_static(b"x = 1")] });
//! while nodes.iter().any(|(_, node)| node.applied.is_empty()) {
//!     tick(&mut nodes);
//! }
//!
//! // A node crashes: its replica, its queues and its state are gone. The others go on without it.
//! let (_, Node { id, disk, .. }) = nodes.remove(2);
//! while nodes[0].0.leader().is_none_or(|leader| leader == id) {
//!     tick(&mut nodes);
//! }
//! step(&mut nodes[0], Input::Propose { commands: vec![Bytes::from_static(b"x = 2")] });
//! while nodes.iter().any(|(_, node)| node.applied.len() < 2) {
//!     tick(&mut nodes);
//! }
//!
//! // It comes back with its disk, and learns from the others what it has missed.
//! nodes.push(start(id, disk, 1)?);
//! while nodes[2].1.applied.len() < 2 {
//!     tick(&mut nodes);
//! }
//! assert!(nodes.iter().all(|(_, node)| node.applied == ["x = 1", "x = 2"]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
