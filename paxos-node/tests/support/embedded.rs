//! Nodes within the test, with a state machine and a storage that can be stopped at will.

use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::{Durable, NodeId, Recovered, Role, Slot, SnapshotMeta, Write};
use paxos_node::{Applying, Node, NodeSettings, SnapshotWriter, StateMachine, Status};
use paxos_storage::memory::MemoryStorage;
use paxos_storage::{DeferredWork, Error, ErrorKind, Identity, RecoveryProgress, Registry, Storage};
use paxos_transport::memory::MemoryNetwork;
use tokio::time::sleep;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Calls that pass it go on while it is open, wait while it is closed, and panic once it is broken. Behind a
/// full one there is no room for writes until a snapshot has been finished.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<Passage>, Condvar)>);

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Passage {
    #[default]
    Open,
    Closed,
    Full,
    Broken,
}

impl Gate {
    pub(crate) fn close(&self) {
        self.set(Passage::Closed);
    }

    pub(crate) fn open(&self) {
        self.set(Passage::Open);
    }

    /// From now on there is no room for writes.
    pub(crate) fn fill_up(&self) {
        self.set(Passage::Full);
    }

    pub(crate) fn is_full(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) == Passage::Full
    }

    /// Whoever comes from now on panics.
    pub(crate) fn break_down(&self) {
        self.set(Passage::Broken);
    }

    fn set(&self, passage: Passage) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = passage;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let passage = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_closed = |passage: &mut Passage| *passage == Passage::Closed;
        let passage = *self.0.1.wait_while(passage, is_closed).unwrap_or_else(PoisonError::into_inner);
        assert!(passage != Passage::Broken, "the gate is broken");
    }
}

/// A state machine that adds up the lengths of commands, and takes `pause` for each.
#[derive(Clone, Default)]
pub(crate) struct Lengths {
    pub(crate) sum: u64,
    pub(crate) pause: Duration,
    /// Closed while a restore is not to end.
    pub(crate) restoring: Gate,
    /// Closed while a snapshot is not to be written.
    pub(crate) writing: Gate,
}

/// The command at which [`Lengths`] panics.
pub(crate) const POISON: &[u8] = b"poison";
/// The command of which [`Lengths`] can't tell what it costs, but panics.
pub(crate) const RIDDLE: &[u8] = b"riddle";
/// How commands begin of which [`Lengths`] says that they take long.
pub(crate) const LONG: &[u8] = b"long";

impl StateMachine for Lengths {
    fn apply(&mut self, _: Applying, command: &Bytes) -> Bytes {
        std::thread::sleep(self.pause);
        assert!(&command[..] != POISON, "this command is poison");
        self.sum += command.len() as u64;
        Bytes::copy_from_slice(&self.sum.to_le_bytes())
    }

    fn snapshot(&self) -> SnapshotWriter {
        let (sum, writing) = (self.sum, self.writing.clone());
        Box::new(move |target| {
            writing.pass();
            target.write_all(&sum.to_le_bytes())
        })
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        self.restoring.pass();
        let mut bytes = [0; 8];
        snapshot.read_exact(&mut bytes)?;
        self.sum = u64::from_le_bytes(bytes);
        Ok(())
    }

    fn needs_memory(command: &Bytes) -> bool {
        assert!(&command[..] != RIDDLE, "this command is a riddle");
        true
    }

    fn takes_long(&self, command: &Bytes) -> bool {
        assert!(&command[..] != RIDDLE, "this command is a riddle");
        command.starts_with(LONG)
    }

    fn digest(&self) -> u64 {
        self.sum
    }
}

/// A storage whose calls return only while its gate is open.
pub(crate) struct Gated<B> {
    pub(crate) backend: B,
    pub(crate) gate: Gate,
}

impl<B: Storage> Storage for Gated<B> {
    fn identity(&self) -> &Identity {
        self.backend.identity()
    }

    fn registry(&self) -> Registry {
        self.backend.registry()
    }

    fn remember(&mut self, registry: &Registry) -> Result<(), Error> {
        self.gate.pass();
        self.backend.remember(registry)
    }

    fn recover(&mut self) -> Result<Recovered, Error> {
        self.gate.pass();
        self.backend.recover()
    }

    fn recovery_progress(&self) -> RecoveryProgress {
        self.backend.recovery_progress()
    }

    fn persist(&mut self, write: Write) -> Result<Durable, Error> {
        self.gate.pass();
        if self.gate.is_full() {
            return Err(Error::foreign(ErrorKind::Full, "there is no room"));
        }
        self.backend.persist(write)
    }

    fn write_snapshot(&mut self, slot: Slot, offset: u64, piece: &[u8]) -> Result<(), Error> {
        self.gate.pass();
        self.backend.write_snapshot(slot, offset, piece)
    }

    fn deferred_work(&mut self) -> Option<DeferredWork> {
        let (sync, gate) = (self.backend.deferred_work()?, self.gate.clone());
        Some(Box::new(move || {
            gate.pass();
            sync()
        }))
    }

    fn finish_snapshot(&mut self, meta: SnapshotMeta) -> Result<(), Error> {
        self.gate.pass();
        self.backend.finish_snapshot(meta)?;
        if self.gate.is_full() {
            self.gate.open();
        }
        Ok(())
    }

    fn read_snapshot(&mut self, slot: Slot, offset: u64, max_bytes: usize) -> Result<Option<Bytes>, Error> {
        self.gate.pass();
        self.backend.read_snapshot(slot, offset, max_bytes)
    }

    fn newest_snapshot(&self) -> Option<SnapshotMeta> {
        self.backend.newest_snapshot()
    }

    fn compact(&mut self, through: Slot) -> Result<(), Error> {
        self.gate.pass();
        self.backend.compact(through)
    }

    fn prove_last_write(&mut self) -> Result<(), Error> {
        self.gate.pass();
        self.backend.prove_last_write()
    }
}

/// Waits until a node's status is as wanted.
pub(crate) async fn until<S: StateMachine>(
    node: &Node<S>,
    what: &str,
    wanted: impl FnMut(&Status) -> bool,
) -> Status {
    let mut status = node.status();
    let reached = tokio::time::timeout(PATIENCE, status.wait_for(wanted)).await;
    let last = || panic!("not in time: {what}; the status is {:?}", node.status().borrow());
    reached.unwrap_or_else(|_| last()).expect("the node runs").clone()
}

/// Waits until all nodes know the same leader and have caught up; gives its place among them.
pub(crate) async fn led<S: StateMachine>(nodes: &[Node<S>]) -> usize {
    for node in nodes {
        until(node, "a leader", Status::is_ready).await;
    }
    let leads = |node: &Node<S>| node.status().borrow().role == Role::Leader;
    nodes.iter().position(leads).expect("the leader is one of them")
}

/// The members of the cluster that [`start`] starts.
pub(crate) const MEMBERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
/// How long a node may take to stop, whatever it is doing; more than it needs, as tests run beside others.
pub(crate) const PROMPTLY: Duration = Duration::from_secs(3);

pub(crate) fn disk(node: NodeId) -> MemoryStorage {
    MemoryStorage::new(Identity::new("test", node))
}

/// Three nodes with these state machines, each on a disk with a gate.
pub(crate) fn start(
    settings: impl Fn(&mut NodeSettings),
    machine: &Lengths,
) -> (Vec<Node<Lengths>>, Vec<Gate>) {
    let network = MemoryNetwork::new();
    let gates = MEMBERS.map(|_| Gate::default()).to_vec();
    let node = |(id, gate): (NodeId, &Gate)| {
        let storage = Gated { backend: disk(id), gate: gate.clone() };
        let mut own = NodeSettings::new(id, MEMBERS.to_vec());
        settings(&mut own);
        Node::start(own, Box::new(network.bind(id)), Box::new(storage), machine.clone()).expect("it starts")
    };
    (MEMBERS.into_iter().zip(&gates).map(node).collect(), gates)
}

/// A node that is a cluster of its own.
pub(crate) async fn start_alone(settings: NodeSettings, machine: Lengths) -> Node<Lengths> {
    let transport = Box::new(MemoryNetwork::new().bind(settings.node));
    let storage = Box::new(disk(settings.node));
    let node = Node::start(settings, transport, storage, machine).expect("it starts");
    until(&node, "it leads", |status| status.role == Role::Leader).await;
    node
}

pub(crate) fn alone() -> NodeSettings {
    NodeSettings::new(NodeId(1), vec![NodeId(1)])
}

/// Asserts that for a while the leader stays the same, with the same ballot, and that no other node leads.
pub(crate) async fn assert_led_on(nodes: &[Node<Lengths>], leader: usize, duration: Duration) {
    let ballot = nodes[leader].status().borrow().ballot;
    let since = Instant::now();
    while since.elapsed() < duration {
        for (place, node) in nodes.iter().enumerate() {
            let status = node.status().borrow().clone();
            assert_eq!(status.ballot, ballot, "node {} after {:?}", status.node, since.elapsed());
            assert_eq!(status.role == Role::Leader, place == leader, "node {}", status.node);
            assert_eq!(status.leader, Some(MEMBERS[leader]), "node {}", status.node);
        }
        sleep(Duration::from_millis(20)).await;
    }
}
