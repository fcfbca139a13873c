//! The cluster of a transcript: nodes, and the messages between them.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;

use bytes::Bytes;
use paxos_core::{
    Change, ChangeRequest, Config, Epoch, Input, Membership, Message, NodeId, ProtocolSettings, ReadId,
    Replica, RequestId, Role, Value, carry_out_all,
};

use crate::driver::NodeDriver;
use crate::node::Node;
use crate::text;

/// A script that waits for longer than this waits for something that never comes.
const MAX_WAIT_TICKS: u64 = 1000;

pub(crate) type Done = Result<(), Box<dyn Error>>;

pub(crate) struct Cluster {
    settings: ProtocolSettings,
    founding: Membership,
    nodes: BTreeMap<NodeId, Node>,
    /// Messages on their way: sender, receiver, message; oldest first.
    in_flight: VecDeque<(NodeId, NodeId, Message)>,
    /// Links that lose everything, from and to.
    cut: Vec<(NodeId, NodeId)>,
    last_read: u64,
    last_request: u64,
    /// What the current command has shown so far.
    lines: Vec<String>,
}

impl Cluster {
    pub(crate) fn start(size: u64, settings: ProtocolSettings) -> Result<Cluster, Box<dyn Error>> {
        let nodes: BTreeMap<NodeId, Node> = (1..=size).map(|id| (NodeId(id), Node::default())).collect();
        let founders: Vec<NodeId> = nodes.keys().copied().collect();
        let mut cluster = Cluster {
            settings,
            founding: Membership::new(&founders)?,
            nodes,
            in_flight: VecDeque::new(),
            cut: Vec::new(),
            last_read: 0,
            last_request: 0,
            lines: Vec::new(),
        };
        for id in cluster.ids() {
            let config = cluster.config(id)?;
            cluster.node(id)?.start(config)?;
        }
        let quorums = cluster.config(NodeId(1))?.quorums();
        let size = text::count(size, "node");
        let line = format!(
            "{size}; {} make a quorum of phase 1, {} of phase 2",
            quorums.prepare(),
            quorums.accept()
        );
        cluster.lines.push(line);
        Ok(cluster)
    }

    /// What was shown since the last call.
    pub(crate) fn take_lines(&mut self) -> String {
        std::mem::take(&mut self.lines).into_iter().map(|line| line + "\n").collect()
    }

    pub(crate) fn tick(&mut self, nodes: &[NodeId], times: u64) -> Done {
        for _ in 0..times {
            for id in self.running(nodes) {
                self.tick_once(id)?;
            }
        }
        Ok(())
    }

    pub(crate) fn wait(&mut self, nodes: &[NodeId]) -> Done {
        let (before, mut ticks) = (self.in_flight.len(), 0);
        while self.in_flight.len() == before {
            if ticks == MAX_WAIT_TICKS {
                return Err(format!("nothing is sent within {MAX_WAIT_TICKS} ticks").into());
            }
            ticks += 1;
            self.tick(nodes, 1)?;
        }
        Ok(())
    }

    fn tick_once(&mut self, id: NodeId) -> Done {
        let node = self.node(id)?;
        node.now_ticks += 1;
        let now_ticks = node.now_ticks;
        let before = self.lines.len();
        self.step(id, format!("n{id} at tick {now_ticks}"), Input::Tick)?;
        if self.lines.len() == before + 1 {
            self.lines.pop(); // Nothing follows from this tick.
        }
        Ok(())
    }

    pub(crate) fn sync(&mut self, id: NodeId) -> Done {
        let node = self.node(id)?;
        if let Some(durable) = node.disk.sync() {
            self.step(id, format!("n{id} has synced its disk"), Input::Durable(durable))?;
        }
        Ok(())
    }

    pub(crate) fn deliver(&mut self, from: Option<NodeId>, to: Option<NodeId>) -> Done {
        for (from, to, message) in self.take_in_flight(from, to) {
            let line = format!("n{to} receives from n{from}: {}", text::message(&message));
            self.step(to, line, Input::Receive { from, message })?;
        }
        Ok(())
    }

    pub(crate) fn lose(&mut self, from: Option<NodeId>, to: Option<NodeId>) {
        for (from, to, message) in self.take_in_flight(from, to) {
            self.lines.push(format!("lost from n{from} to n{to}: {}", text::message(&message)));
        }
    }

    fn take_in_flight(&mut self, from: Option<NodeId>, to: Option<NodeId>) -> Vec<(NodeId, NodeId, Message)> {
        let matches = |message: &(NodeId, NodeId, Message)| {
            from.is_none_or(|from| from == message.0) && to.is_none_or(|to| to == message.1)
        };
        let (taken, left) = std::mem::take(&mut self.in_flight).into_iter().partition(matches);
        self.in_flight = left;
        let taken: VecDeque<_> = taken;
        taken.into()
    }

    pub(crate) fn settle(&mut self) -> Done {
        loop {
            let before = self.lines.len();
            for id in self.ids() {
                self.sync(id)?;
            }
            self.deliver(None, None)?;
            if self.lines.len() == before {
                return Ok(());
            }
        }
    }

    pub(crate) fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.push((from, to));
    }

    pub(crate) fn isolate(&mut self, id: NodeId) {
        for other in self.ids() {
            self.cut.extend([(id, other), (other, id)]);
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(crate) fn propose(&mut self, id: NodeId, commands: &[(String, String)]) -> Done {
        let commands = commands.iter().map(|(key, value)| Bytes::from(format!("{key}={value}"))).collect();
        let line = format!("n{id} is asked for {}", Value::batch(&commands));
        self.step(id, line, Input::Propose { commands })
    }

    pub(crate) fn read(&mut self, id: NodeId) -> Done {
        self.last_read += 1;
        let read = ReadId(self.last_read);
        self.step(id, format!("n{id} is asked for read {}", read.0), Input::Read { read })
    }

    pub(crate) fn join(&mut self, id: NodeId) -> Done {
        if self.nodes.contains_key(&id) {
            return Err(format!("there is a node {id} already").into());
        }
        self.nodes.insert(id, Node::default());
        self.restart(id)
    }

    pub(crate) fn change(
        &mut self,
        id: NodeId,
        change: Change,
        if_epoch: Option<u64>,
        is_forced: bool,
    ) -> Done {
        let request = self.next_request();
        let guard = if_epoch.map_or_else(String::new, |epoch| format!(" if the epoch is {epoch}"));
        let by_force = if is_forced { " by force" } else { "" };
        let line = format!("n{id} is asked for change {}: {change}{guard}{by_force}", request.0);
        let if_epoch = if_epoch.map(Epoch);
        self.step(id, line, Input::Change(ChangeRequest { request, change, if_epoch, is_forced }))
    }

    pub(crate) fn transfer(&mut self, id: NodeId, to: Option<NodeId>) -> Done {
        let request = self.next_request();
        let successor = to.map_or_else(String::new, |to| format!(" to n{to}"));
        let line = format!("n{id} is asked to hand over{successor}");
        self.step(id, line, Input::HandOver { request, to })
    }

    fn next_request(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId(self.last_request)
    }

    /// What is on its way to the node gets lost, too.
    pub(crate) fn crash(&mut self, id: NodeId) -> Done {
        let lost = self.node(id)?.crash();
        self.take_in_flight(None, Some(id));
        let lost = if lost == 0 {
            String::new()
        } else {
            format!(", and loses {} it had not synced", text::count(lost as u64, "write"))
        };
        self.lines.push(format!("n{id} stops{lost}"));
        Ok(())
    }

    pub(crate) fn restart(&mut self, id: NodeId) -> Done {
        let config = self.config(id)?;
        let node = self.node(id)?;
        if node.replica.is_some() {
            return Err(format!("node {id} runs").into());
        }
        node.start(config)?;
        let line = format!("n{id} starts: {}", node.status());
        self.lines.push(line);
        Ok(())
    }

    pub(crate) fn snapshot(&mut self, id: NodeId) -> Done {
        let node = self.node(id)?;
        let replica = node.replica.as_ref().ok_or("a node that is down takes no snapshot")?;
        if !replica.may_take_snapshot() {
            self.lines.push(format!("n{id} takes no snapshot: a peer fetches the one that would be dropped"));
            return Ok(());
        }
        let membership = replica.membership_at(node.state.applied).ok_or("the snapshot is an old one")?;
        let (meta, bytes) = node.state.snapshot(membership);
        node.disk.save_snapshot(meta.clone(), bytes);
        let line = format!("n{id} has saved a snapshot of slots 1..={}: {}", meta.slot, node.state);
        self.step(id, line, Input::SnapshotSaved { meta })
    }

    pub(crate) fn status(&mut self) {
        let line = |(id, node): (&NodeId, &Node)| format!("n{id}: {}", node.status());
        self.lines.extend(self.nodes.iter().map(line));
    }

    /// Gives a replica one input, and shows and carries out what follows.
    fn step(&mut self, id: NodeId, line: String, input: Input) -> Done {
        self.lines.push(line);
        let node = self.node(id)?;
        let replica = node.replica.as_mut().ok_or_else(|| format!("node {id} is down"))?;
        let standing = standing(replica);
        let mut outputs = Vec::new();
        replica.step(input, &mut outputs);
        let changed = standing_change(&standing, replica);
        if let Some(change) = changed {
            self.lines.push(format!("    {change}"));
        }
        let mut driver = NodeDriver { cluster: self, id, answers: Vec::new() };
        carry_out_all(&mut outputs, &mut driver)?;
        for (line, input) in driver.answers {
            self.step(id, line, input)?;
        }
        Ok(())
    }

    pub(crate) fn show(&mut self, line: &str) {
        self.lines.push(format!("    {line}"));
    }

    pub(crate) fn send(&mut self, from: NodeId, peers: Vec<NodeId>, message: &Message) -> String {
        let mut receivers = Vec::new();
        for to in peers {
            let is_cut = self.cut.contains(&(from, to));
            let is_down = self.nodes.get(&to).is_none_or(|node| node.replica.is_none());
            receivers.push(match (is_cut, is_down) {
                (true, _) => format!("n{to} (cut off)"),
                (_, true) => format!("n{to} (down)"),
                _ => format!("n{to}"),
            });
            if !is_cut && !is_down {
                self.in_flight.push_back((from, to, message.clone()));
            }
        }
        format!("sends to {}: {}", receivers.join(", "), text::message(message))
    }

    fn config(&self, id: NodeId) -> Result<Config, Box<dyn Error>> {
        Ok(Config::joining(id, self.founding.clone(), self.settings.clone())?)
    }

    fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// Those of `nodes` that run; all that run if none is named.
    fn running(&self, nodes: &[NodeId]) -> Vec<NodeId> {
        let is_named = |id: &NodeId| nodes.is_empty() || nodes.contains(id);
        let running = self.nodes.iter().filter(|(_, node)| node.replica.is_some());
        running.map(|(id, _)| *id).filter(is_named).collect()
    }

    pub(crate) fn node(&mut self, id: NodeId) -> Result<&mut Node, Box<dyn Error>> {
        self.nodes.get_mut(&id).ok_or_else(|| format!("there is no node {id}").into())
    }
}

/// What a replica does, and whom it takes for the leader.
fn standing(replica: &Replica) -> (Role, Option<NodeId>) {
    (replica.role(), replica.leader())
}

/// A sentence about what has changed since `before`, if anything has.
fn standing_change(before: &(Role, Option<NodeId>), replica: &Replica) -> Option<String> {
    let after = standing(replica);
    if after == *before {
        return None;
    }
    Some(match after {
        (Role::Leader, _) => String::from("leads"),
        (Role::Candidate, _) => String::from("is a candidate"),
        (Role::Follower, Some(leader)) => format!("follows n{leader}"),
        (Role::Follower, None) => String::from("follows nobody"),
    })
}
