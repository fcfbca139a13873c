//! A cluster in a time of its own.
//!
//! Real [`Replica`]s on a network where each message takes a *hop*, and on disks where a sync takes a *sync*
//! and one serves all that has gathered meanwhile, as the node's writer does. Nothing fails, and computing
//! takes no time: what is left is what the protocol itself costs, the same on every machine.

pub mod changes;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use paxos_core::{
    Body, Config, Driver, Input, Membership, Message, NodeId, ProtocolSettings, ReadId, Recovered, Refusal,
    Replica, Role, Slot, SnapshotMeta, Time, Value, Write, carry_out_all, wire,
};

/// The longest time that an election may take, in ticks.
const ELECTION_TICKS: u64 = 1000;
/// A tick, as that of a node, unless messages take longer.
const SHORTEST_TICK: Duration = Duration::from_millis(10);

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Setting {
    /// How many nodes it has.
    pub nodes: u64,
    /// How long a message takes from one node to another.
    pub hop: Duration,
    /// How long a disk takes for a sync.
    pub sync: Duration,
    /// The settings of the protocol.
    pub options: ProtocolSettings,
}

impl Setting {
    /// Three nodes with default options.
    #[must_use]
    pub fn new(hop: Duration, sync: Duration) -> Setting {
        Setting { nodes: 3, hop, sync, options: ProtocolSettings::default() }
    }
}

/// What clients do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// They have commands of so many bytes chosen; at least 8, as a command names its client.
    Commands {
        /// The length of each.
        bytes: usize,
    },
    /// They read at the leader, which makes sure that it still leads.
    Reads,
}

/// What happened while clients were served.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// How often a client was served.
    pub requests: u64,
    /// How long all of that took.
    pub elapsed: Duration,
    /// How long each client waited, in ascending order.
    pub waits: Vec<Duration>,
    /// Messages between nodes, all told.
    pub messages: u64,
    /// Their bytes, as [`wire::encode`] lays them out.
    pub bytes: u64,
    /// Syncs on all nodes together.
    pub syncs: u64,
}

impl Served {
    /// Requests in each second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// `count` for each request.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn each(&self, count: u64) -> f64 {
        count as f64 / self.requests as f64
    }
}

/// A cluster with a leader.
#[derive(Debug)]
pub struct Cluster {
    setting: Setting,
    members: Vec<NodeId>,
    replicas: BTreeMap<NodeId, Replica>,
    disks: BTreeMap<NodeId, DiskQueue>,
    events: BTreeMap<(Duration, u64), Event>,
    now: Duration,
    next_number: u64,
    leader: NodeId,
    served: Served,
    clients: Clients,
    /// When the command of [`changes`] was proposed.
    proposed_at: Option<Duration>,
}

#[derive(Debug)]
enum Event {
    Deliver { from: NodeId, to: NodeId, message: Message },
    Synced { node: NodeId, write: Write },
    Tick,
}

/// A disk that syncs one write after the other.
#[derive(Debug, Default)]
struct DiskQueue {
    is_busy: bool,
    next: Option<Write>,
}

/// Each asks anew as soon as it is answered, as long as requests are left.
#[derive(Debug, Default)]
struct Clients {
    work: Option<Work>,
    left: u64,
    idle: VecDeque<u64>,
    asked_at: BTreeMap<u64, Duration>,
    reading: BTreeMap<ReadId, Vec<u64>>,
    next_read: u64,
}

impl Cluster {
    /// A cluster that has just elected its leader.
    ///
    /// # Panics
    ///
    /// If the options do not fit together, or if no leader gets elected: a bug.
    #[must_use]
    pub fn with_leader(setting: Setting) -> Cluster {
        let members: Vec<NodeId> = (1..=setting.nodes).map(NodeId).collect();
        let replica = |node: NodeId| {
            let membership = Membership::new(&members).expect("the members are distinct");
            let config = Config::new(node, membership, setting.options.clone());
            let config = config.expect("the options fit together");
            Replica::new(config, Recovered::default(), node.0).expect("an empty disk is in order")
        };
        let replicas = members.iter().map(|&node| (node, replica(node))).collect();
        let disks = members.iter().map(|&node| (node, DiskQueue::default())).collect();
        let mut cluster = Cluster {
            setting,
            members,
            replicas,
            disks,
            events: BTreeMap::new(),
            now: Duration::ZERO,
            next_number: 0,
            leader: NodeId(0),
            served: Served::default(),
            clients: Clients::default(),
            proposed_at: None,
        };
        cluster.elect();
        cluster
    }

    /// Serves `clients`, each one request at a time, until `requests` are answered. The first commands may
    /// still profit from the phase 1 of the election; serve a few before what is to be measured.
    ///
    /// # Panics
    ///
    /// If a client is not answered although nothing fails: a bug.
    pub fn serve(&mut self, work: Work, clients: u64, requests: u64) -> Served {
        self.served = Served::default();
        self.clients.work = Some(work);
        self.clients.left = requests;
        self.clients.idle = (0..clients.min(requests)).collect();
        let started = self.now;
        self.ask();
        self.tick_later();
        while self.served.requests < requests {
            self.next_event();
            self.ask();
        }
        self.clients.work = None;
        let mut served = std::mem::take(&mut self.served);
        served.elapsed = self.now.saturating_sub(started);
        self.settle();
        served.waits.sort_unstable();
        served
    }

    /// Has one command of `bytes` chosen while no time passes by ticks, and counts all that it causes, the
    /// answers included that the leader does not wait for.
    ///
    /// # Panics
    ///
    /// If it does not get chosen although nothing fails: a bug.
    pub fn serve_one(&mut self, bytes: usize) -> Served {
        self.served = Served::default();
        self.clients.work = Some(Work::Commands { bytes });
        self.clients.left = 1;
        self.clients.idle = VecDeque::from([0]);
        self.ask();
        self.settle();
        self.clients.work = None;
        assert_eq!(self.served.requests, 1, "without faults the command is chosen");
        let mut served = std::mem::take(&mut self.served);
        served.elapsed = served.waits[0];
        served
    }

    fn elect(&mut self) {
        for _ in 0..ELECTION_TICKS {
            self.tick();
            self.settle();
            let leader = self.replicas.iter().find(|(_, replica)| replica.role() == Role::Leader);
            if let Some((&leader, _)) = leader {
                self.leader = leader;
                return;
            }
        }
        unreachable!("without faults a leader is elected");
    }

    fn tick(&mut self) {
        for node in self.members.clone() {
            self.step(node, Input::Tick);
        }
    }

    fn tick_later(&mut self) {
        self.schedule(self.setting.hop.max(SHORTEST_TICK), Event::Tick);
    }

    /// Lets everything happen that is under way.
    fn settle(&mut self) {
        self.events.retain(|_, event| !matches!(event, Event::Tick));
        while !self.events.is_empty() {
            self.next_event();
        }
    }

    fn next_event(&mut self) {
        let ((time, _), event) = self.events.pop_first().expect("an answer is still under way");
        self.now = time;
        match event {
            Event::Deliver { from, to, message } => self.step(to, Input::Receive { from, message }),
            Event::Synced { node, write } => {
                let disk = self.disks.get_mut(&node).expect("events name members");
                disk.is_busy = false;
                if let Some(next) = disk.next.take() {
                    self.sync(node, next);
                }
                self.step(node, Input::Durable(write.into_durable()));
            }
            Event::Tick => {
                self.tick();
                self.tick_later();
            }
        }
    }

    /// Lets all idle clients ask; what they ask for in the same moment goes to the leader together.
    fn ask(&mut self) {
        let Some(work) = self.clients.work else { return };
        let count = self.clients.idle.len().min(usize::try_from(self.clients.left).unwrap_or(usize::MAX));
        if count == 0 {
            return;
        }
        self.clients.left -= count as u64;
        let asking: Vec<u64> = self.clients.idle.drain(..count).collect();
        self.clients.asked_at.extend(asking.iter().map(|&client| (client, self.now)));
        let input = match work {
            Work::Commands { bytes } => {
                Input::Propose { commands: asking.into_iter().map(|client| command(client, bytes)).collect() }
            }
            Work::Reads => {
                self.clients.next_read += 1;
                let read = ReadId(self.clients.next_read);
                self.clients.reading.insert(read, asking);
                Input::Read { read }
            }
        };
        self.step(self.leader, input);
    }

    fn answered(&mut self, client: u64) {
        let Some(asked_at) = self.clients.asked_at.remove(&client) else { return };
        self.served.requests += 1;
        self.served.waits.push(self.now.saturating_sub(asked_at));
        self.clients.idle.push_back(client);
    }

    fn applied(&mut self, value: &Value) {
        for command in value.commands() {
            let client = command.first_chunk().expect("a command names its client");
            self.answered(u64::from_le_bytes(*client));
        }
    }

    fn step(&mut self, node: NodeId, input: Input) {
        let mut outputs = Vec::new();
        self.replicas.get_mut(&node).expect("events name members").step(input, &mut outputs);
        let Ok(()) = carry_out_all(&mut outputs, &mut NodeDriver { cluster: self, node });
    }

    fn persist(&mut self, node: NodeId, write: Write) {
        let disk = self.disks.get_mut(&node).expect("events name members");
        match &mut disk.next {
            _ if !disk.is_busy => self.sync(node, write),
            Some(next) => next.merge(write),
            next @ None => *next = Some(write),
        }
    }

    fn sync(&mut self, node: NodeId, write: Write) {
        self.disks.get_mut(&node).expect("events name members").is_busy = true;
        self.served.syncs += 1;
        self.schedule(self.setting.sync, Event::Synced { node, write });
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        if !self.replicas.contains_key(&to) {
            return; // It has ended.
        }
        self.served.messages += 1;
        self.served.bytes += wire::encode(&message).len() as u64;
        self.schedule(self.setting.hop, Event::Deliver { from, to, message });
    }

    fn schedule(&mut self, delay: Duration, event: Event) {
        self.next_number += 1;
        self.events.insert((self.now + delay, self.next_number), event);
    }
}

/// Carries out the outputs of one node's replica.
struct NodeDriver<'a> {
    cluster: &'a mut Cluster,
    node: NodeId,
}

impl Driver for NodeDriver<'_> {
    type Error = Infallible;

    fn send(&mut self, to: NodeId, message: Message) -> Result<(), Infallible> {
        self.cluster.send(self.node, to, message);
        Ok(())
    }

    fn broadcast(&mut self, message: Message) -> Result<(), Infallible> {
        if let Body::Accept(accept) = &message.body {
            self.cluster.note_proposal(&accept.value);
        }
        let members = self.cluster.replicas[&self.node].membership().members().to_vec();
        for to in members.into_iter().filter(|to| *to != self.node) {
            self.cluster.send(self.node, to, message.clone());
        }
        Ok(())
    }

    fn persist(&mut self, write: Write) -> Result<(), Infallible> {
        self.cluster.persist(self.node, write);
        Ok(())
    }

    fn apply(&mut self, _: Slot, value: Value) -> Result<(), Infallible> {
        if self.node == self.cluster.leader {
            self.cluster.applied(&value);
        }
        Ok(())
    }

    fn read_ready(&mut self, read: ReadId, _: Time) -> Result<(), Infallible> {
        for client in self.cluster.clients.reading.remove(&read).unwrap_or_default() {
            self.cluster.answered(client);
        }
        Ok(())
    }

    fn read_refused(&mut self, _: ReadId) -> Result<(), Infallible> {
        unreachable!("a stable leader has room for what these clients ask")
    }

    fn refused(&mut self, _: Vec<Bytes>, _: Refusal) -> Result<(), Infallible> {
        unreachable!("a stable leader has room for what these clients ask")
    }

    // No snapshot is ever taken.

    fn restore(&mut self, _: SnapshotMeta) -> Result<(), Infallible> {
        Ok(())
    }

    fn load_snapshot(&mut self, _: NodeId, _: SnapshotMeta, _: u64, _: usize) -> Result<(), Infallible> {
        Ok(())
    }

    fn store_snapshot(&mut self, _: Slot, _: u64, _: Bytes) -> Result<(), Infallible> {
        Ok(())
    }

    fn install_snapshot(&mut self, _: SnapshotMeta) -> Result<(), Infallible> {
        Ok(())
    }
}

fn command(client: u64, bytes: usize) -> Bytes {
    let mut command = BytesMut::with_capacity(bytes);
    command.put_u64_le(client);
    command.resize(bytes.max(size_of::<u64>()), b'x');
    command.freeze()
}
