//! The run of a scenario: nodes, network, disks, clocks and clients, moved by one schedule.

use std::collections::BTreeMap;

use super::client::Client;
use super::clocks::Clocks;
use super::disk::Disk;
use super::event::Event;
use super::fetches::Fetches;
use super::machine::Machine;
use super::marks::{Mark, Marks};
use super::network::{Network, Parcel};
use super::node::{Application, Health, Node};
use super::observer::Observer;
use super::operators::{Asked, Operator, address_of};
use super::outputs::NodeDriver;
use super::rule::{Rule, Violation};
use super::scenario::{CALM_TICKS, CATCH_UP_TICKS, Scenario, TICK_UNITS};
use super::schedule::Schedule;
use super::streams::Streams;
use super::trace::{Detail, Trace};
use crate::message::Accept;
use crate::random::Random;
use crate::{
    Body, Config, Epoch, Input, Member, Membership, Message, NodeId, Output, PhaseOne, ReadMode,
    RecoverError, Replica, RequestId, Role, Slot,
};

/// Ids that are far apart and not in order.
const ODD_IDS: [u64; 12] = [70, 3, 1000, 71, 5, 4_000_000_000, 12, 999, 2, 72, 5_000_000_000, 4];

/// A node that is away for no longer than this is back before the others start an election.
const BRIEFLY_TICKS: u64 = 5;

/// No run has more arrivals of messages than this unless messages beget ever more messages. Other events are
/// not counted: the clients of a lone node on a fast disk cause millions.
const MAX_ARRIVALS: u64 = 5_000_000;

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many events there were.
    pub events: u64,
    /// How many slots were applied.
    pub slots: u64,
    /// The first broken rule, if any was.
    pub violation: Option<Violation>,
    /// The rare events that it met.
    pub marks: Marks,
    /// What happened, line by line, if a trace was kept.
    pub trace: Vec<String>,
}

pub(super) struct World<M, D> {
    pub(super) scenario: Scenario,
    pub(super) schedule: Schedule<Event>,
    pub(super) network: Network,
    pub(super) streams: Option<Streams>,
    pub(super) nodes: Vec<Node<M, D>>,
    pub(super) clients: Vec<Client>,
    pub(super) operators: Vec<Operator>,
    /// Requests of operators that were not answered yet.
    pub(super) asked: BTreeMap<RequestId, Asked>,
    pub(super) last_request: u64,
    /// The newest epoch that any node has entered.
    pub(super) newest_epoch: Epoch,
    pub(super) observer: Observer,
    pub(super) trace: Trace,
    pub(super) marks: Marks,
    pub(super) fetches: Fetches,
    pub(super) trouble_random: Random,
    pub(super) disk_random: Random,
    pub(super) client_random: Random,
    pub(super) operator_random: Random,
    pub(super) time_random: Random,
    pub(super) numbers: u64,
    pub(super) is_calm: bool,
    pub(super) clients_may_begin: bool,
    /// How many slots the last node was behind when the run was to end.
    pub(super) lag_slots: u64,
    pub(super) outputs: Vec<Output>,
    events: u64,
    arrivals: u64,
    /// A node was still catching up after half of the calm, or when the run was to end.
    has_caught_up: bool,
}

impl<M: Machine, D: Disk> World<M, D> {
    pub(super) fn new(scenario: Scenario, detail: Option<Detail>) -> World<M, D> {
        let seed = scenario.seed;
        let nodes = scenario.nodes + scenario.spares;
        let ids: Vec<NodeId> = (0..nodes)
            .map(|index| NodeId(if scenario.odd_ids { ODD_IDS[index] } else { index as u64 + 1 }))
            .collect();
        let mut disk_random = Random::stream(seed, "disks");
        let mut node = |id: &NodeId| Node::new(*id, &scenario, disk_random.below(u64::MAX));
        let mut nodes: Vec<Node<M, D>> = ids.iter().map(&mut node).collect();
        for spare in &mut nodes[scenario.nodes..] {
            (spare.is_spare, spare.is_gone) = (true, true);
        }
        let mut world = World {
            schedule: Schedule::new(),
            network: Network::new(nodes.len(), scenario.weather, seed),
            streams: scenario.streams.then(|| Streams::new(nodes.len(), seed)),
            nodes,
            clients: Vec::new(),
            operators: (0..scenario.operators).map(|_| Operator::default()).collect(),
            asked: BTreeMap::new(),
            last_request: 0,
            newest_epoch: Epoch(0),
            observer: Observer::new(ids.clone(), founding(&scenario, &ids)),
            trace: Trace::new(detail),
            marks: Marks::default(),
            fetches: Fetches::default(),
            trouble_random: Random::stream(seed, "trouble"),
            disk_random,
            client_random: Random::stream(seed, "clients"),
            operator_random: Random::stream(seed, "requests"),
            time_random: Random::stream(seed, "clocks"),
            numbers: 0,
            is_calm: false,
            clients_may_begin: true,
            lag_slots: u64::MAX,
            outputs: Vec::new(),
            events: 0,
            arrivals: 0,
            has_caught_up: false,
            scenario,
        };
        world.plan();
        world
    }

    fn plan(&mut self) {
        for node in 0..self.scenario.nodes {
            self.draw_clock(node);
            self.start(node);
        }
        self.observer.times.clock_error = self.scenario.time_error;
        for node in 0..self.nodes.len() {
            self.nodes[node].clocks = Clocks::drawn(self.scenario.time_error, &mut self.time_random);
        }
        if self.scenario.wall_jump_ticks > 0 {
            self.schedule.after(0, Event::WallJump);
        }
        for operator in 0..self.scenario.operators {
            let delay = self.operator_random.below(2 * self.scenario.operator_ticks * TICK_UNITS);
            self.schedule.after(delay, Event::Operator(operator));
        }
        for client in 0..self.scenario.clients {
            self.clients.push(Client::new(client % self.nodes.len()));
            self.schedule.after(self.client_random.below(50 * TICK_UNITS), Event::Client(client, 0));
        }
        let chaos = self.scenario.chaos_ticks * TICK_UNITS;
        self.schedule.after(self.scenario.trouble_ticks * TICK_UNITS, Event::Trouble);
        self.schedule.after(chaos, Event::Calm);
        self.schedule.after(chaos + CALM_TICKS / 2 * TICK_UNITS, Event::LastCall);
        self.schedule.after(chaos + CALM_TICKS * TICK_UNITS, Event::End);
        if self.scenario.settings.phase_one == PhaseOne::EveryValue {
            self.marks.hit(Mark::FullRound);
        }
        if self.scenario.quorums.is_some_and(|quorums| quorums.prepare() != quorums.accept()) {
            self.marks.hit(Mark::FlexibleQuorums);
        }
    }

    /// Runs until the end or until a rule is broken.
    pub(super) fn run(&mut self) {
        while let Some(event) = self.schedule.next() {
            self.events += 1;
            if matches!(event, Event::End) {
                if self.is_catching_up() {
                    self.has_caught_up = true;
                    self.schedule.after(CATCH_UP_TICKS * TICK_UNITS, Event::End);
                    continue;
                }
                if std::mem::take(&mut self.has_caught_up) {
                    // A quorum may have needed that node: whoever waits has the same time from here on.
                    self.schedule.after(CALM_TICKS * TICK_UNITS, Event::End);
                    continue;
                }
                return self.judge();
            }
            if matches!(event, Event::Deliver(_) | Event::Arrive(..)) {
                self.arrivals += 1;
                self.observer.check(self.arrivals < MAX_ARRIVALS, Rule::Progress, || {
                    format!("messages have arrived {MAX_ARRIVALS} times")
                });
            }
            self.handle(event);
            if self.observer.violation.is_some() {
                return;
            }
        }
    }

    pub(super) fn into_report(self) -> Report {
        Report {
            events: self.events,
            slots: self.observer.last_applied().0,
            violation: self.observer.violation,
            marks: self.marks,
            trace: self.trace.lines,
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Tick(node, life) => self.on_tick(node, life),
            Event::Deliver(parcel) => self.on_deliver(parcel),
            Event::Arrive(from, to) => {
                let life = self.nodes[to].life;
                if self.is_awake(to, life, |_| Event::Arrive(from, to)) {
                    self.on_planned_arrival(from, to);
                }
            }
            Event::Synced(node, life) => {
                if self.is_awake(node, life, |life| Event::Synced(node, life)) {
                    self.on_synced(node);
                }
            }
            Event::Client(client, turn) => self.on_client(client, turn),
            Event::Operator(operator) => self.on_operator(operator),
            Event::Trouble => self.on_trouble(),
            Event::Flap => self.on_flap(),
            Event::WallJump => self.on_wall_jump(),
            Event::Start(node) => self.start(node),
            Event::SnapshotTaken(node, life, snapshot) => {
                if self.nodes[node].life == life {
                    self.on_snapshot_taken(node, snapshot);
                }
            }
            Event::SnapshotLoaded(node, life, to, meta, offset, data) => {
                if self.nodes[node].life == life {
                    self.step(node, Input::SnapshotLoaded { to, meta, offset, data });
                }
            }
            Event::SnapshotStored(node, life, slot, offset) => {
                if self.nodes[node].life == life {
                    self.step(node, Input::SnapshotStored { slot, offset });
                }
            }
            Event::SnapshotWhole(node, life, meta, content) => {
                self.on_snapshot_whole(node, life, meta, &content);
            }
            Event::Calm => self.calm(),
            Event::LastCall => {
                self.clients_may_begin = false;
                self.has_caught_up = self.is_catching_up();
            }
            Event::End => unreachable!("the run ends before its end is handled"),
        }
    }

    /// Whether a node is up and in the same life; plans the event again if the node is paused.
    fn is_awake(&mut self, node: usize, life: u64, again: impl FnOnce(u64) -> Event) -> bool {
        if self.nodes[node].life != life || !self.nodes[node].is_up() {
            return false;
        }
        let rest = self.nodes[node].paused_until_units.saturating_sub(self.schedule.now_units());
        if rest > 0 {
            self.schedule.after(rest + 1, again(life));
            return false;
        }
        // The missed ticks come first, so that no lease outlasts its time.
        while self.nodes[node].missed_ticks > 0 {
            self.nodes[node].missed_ticks -= 1;
            self.step(node, Input::Tick);
        }
        self.nodes[node].life == life
    }

    fn on_tick(&mut self, node: usize, life: u64) {
        let state = &mut self.nodes[node];
        if state.life != life || !state.is_up() {
            return;
        }
        self.schedule.after(state.tick_units, Event::Tick(node, life));
        if state.paused_until_units > self.schedule.now_units() {
            state.missed_ticks += 1;
        } else if self.is_awake(node, life, |life| Event::Tick(node, life)) {
            self.step(node, Input::Tick);
            self.take_snapshot_if_due(node);
            self.propose_due(node);
        }
    }

    fn on_deliver(&mut self, parcel: Parcel) {
        let to = parcel.to;
        let life = self.nodes[to].life;
        let rest = self.nodes[to].paused_until_units.saturating_sub(self.schedule.now_units());
        if rest > 0 {
            self.schedule.after(rest + 1, Event::Deliver(parcel));
            return;
        }
        if !self.is_awake(to, life, |_| Event::Flap) {
            return;
        }
        let Parcel { from, message, .. } = parcel;
        match &mut self.streams {
            None => self.receive(from, to, message),
            Some(streams) => {
                streams.put(from, to, message);
                self.on_arrival(from, to);
            }
        }
    }

    pub(super) fn receive(&mut self, from: usize, to: usize, message: Message) {
        let from = self.nodes[from].id;
        if let (Body::Accept(Accept { ballot, slot, .. }), Some(replica)) =
            (&message.body, &self.nodes[to].replica)
            && *ballot < replica.promised()
            && *slot <= replica.chosen()
        {
            self.marks.hit(Mark::RefusalOfChosenSlot);
        }
        if let Body::SnapshotChunk(chunk) = &message.body
            && chunk.offset > self.nodes[to].incoming.len() as u64
        {
            self.marks.hit(Mark::PieceOvertakes);
        }
        self.trace.receive(self.schedule.now_units(), self.nodes[to].id, from, &message);
        self.step(to, Input::Receive { from, message });
    }

    fn on_synced(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        let mut writes = state.writes.drain(..state.syncing);
        let Some(mut merged) = writes.next() else { return };
        for write in writes {
            merged.merge(write);
        }
        state.syncing = 0;
        if state.disk_health != Health::Lies {
            state.disk.store(&merged);
        }
        self.observer.on_durable(node, &merged);
        self.trace.synced(self.schedule.now_units(), state.id, &merged);
        self.step(node, Input::Durable(merged.into_durable()));
        self.sync(node);
    }

    /// Starts to sync what waits, unless a sync is under way.
    pub(super) fn sync(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        if state.syncing > 0 || state.writes.is_empty() || !state.is_up() {
            return;
        }
        state.syncing = state.writes.len();
        let stuck = state.disk_stuck_until_units.saturating_sub(self.schedule.now_units());
        let delay = stuck + 1 + self.disk_random.below(self.scenario.sync_units);
        self.schedule.after(delay, Event::Synced(node, state.life));
    }

    pub(super) fn start(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        if state.is_up() || state.is_gone {
            return;
        }
        state.life += 1;
        let recovered = match state.disk.recover() {
            Ok(recovered) => recovered,
            Err(damage) => return self.on_damage(node, &damage),
        };
        if recovered.incomplete_through > Slot::ZERO {
            self.marks.hit(Mark::MemoryLost);
            let is_known = state.disk_health == Health::Rotten;
            self.observer.check(is_known, Rule::NothingTakenBack, || {
                format!(
                    "node #{node} says that it has lost what it accepted, but nothing has befallen its disk"
                )
            });
        }
        self.observer.on_recovered(node, &recovered);
        let snapshot = recovered.snapshot.as_ref().and_then(|meta| state.disk.snapshot(meta.slot));
        state.application = Application::recovered(snapshot, self.scenario.sessions);
        state.snapshot_begun = state.application.applied;
        self.trace.start(self.schedule.now_units(), state.id, &recovered);
        let ids: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        let config = config(&self.scenario, &ids, ids[node]);
        let seed = self.disk_random.below(u64::MAX);
        let state = &mut self.nodes[node];
        match Replica::new(config, recovered, seed) {
            Ok(mut replica) => {
                replica.restore_time(state.application.time);
                state.epoch = replica.membership().epoch();
                self.observer.check_epoch(node, state.epoch, replica.chosen());
                state.replica = Some(replica);
                state.read_ms = None;
            }
            // Together with entries it may have lost the membership that names its peers.
            Err(error @ RecoverError::NobodyToRepairFrom { .. }) => {
                return self.on_damage(node, &error.to_string());
            }
            Err(error) => {
                let id = state.id;
                self.observer
                    .check(false, Rule::NothingTakenBack, || format!("node {id} can't start: {error}"));
                return;
            }
        }
        let first = 1 + self.disk_random.below(state.tick_units);
        self.schedule.after(first, Event::Tick(node, state.life));
    }

    /// A disk can't be recovered. Its node may have forgotten a promise, and must stay away.
    fn on_damage(&mut self, node: usize, damage: &str) {
        let state = &mut self.nodes[node];
        state.is_gone = true;
        let (id, has_rotted) = (state.id, state.disk_health == Health::Rotten);
        self.trace.trouble(self.schedule.now_units(), || format!("node {id} stays away: {damage}"));
        self.observer
            .check(has_rotted, Rule::NothingTakenBack, || format!("node {id} can't start: {damage}"));
    }

    pub(super) fn crash(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        if !state.is_up() {
            return;
        }
        state.replica = None;
        state.life += 1;
        if let Some(streams) = &mut self.streams {
            streams.reset(node);
        }
        state.reads.clear();
        state.is_snapshot_under_way = false;
        self.fetches.forget(node);
        (state.is_doomed, state.missed_ticks, state.paused_until_units, state.syncing) = (false, 0, 0, 0);
        let unsynced = std::mem::take(&mut state.writes);
        if !unsynced.is_empty() {
            self.marks.hit(Mark::CrashWithUnsyncedWrites);
        }
        if state.disk_health == Health::Lies {
            state.is_gone = true;
        } else {
            state.disk.lose_power(&unsynced, &mut self.disk_random);
        }
        self.trace.trouble(self.schedule.now_units(), || {
            format!("node {} crashes, {} writes on their way", state.id, unsynced.len())
        });
        let longest = if self.trouble_random.one_in(2) { BRIEFLY_TICKS } else { 300 };
        let away = self.trouble_random.below(longest * TICK_UNITS);
        self.schedule.after(1 + away, Event::Start(node));
    }

    /// Crashes a node that is back before any other node starts an election.
    pub(super) fn crash_briefly(&mut self, node: usize) {
        self.crash(node);
        let away = self.trouble_random.below(BRIEFLY_TICKS * TICK_UNITS);
        self.schedule.after(1 + away, Event::Start(node));
    }

    pub(super) fn step(&mut self, node: usize, input: Input) {
        self.read_clocks(node);
        let Some(replica) = &mut self.nodes[node].replica else { return };
        let mut outputs = std::mem::take(&mut self.outputs);
        let (before, repairs) = (replica.role(), replica.repairs_through());
        replica.step(input, &mut outputs);
        let (after, repairs_after) = (replica.role(), replica.repairs_through());
        if repairs.is_some() && repairs_after.is_none() {
            self.marks.hit(Mark::MemoryRepaired);
        }
        if before != after {
            self.on_new_role(node, before, after);
        }
        if after == Role::Leader && matches!(self.scenario.settings.reads, ReadMode::Lease { .. }) {
            self.check_leases();
        }
        for output in outputs.drain(..) {
            if self.nodes[node].is_up() {
                let Ok(()) = output.carry_out(&mut NodeDriver { world: self, node });
            }
        }
        if self.scenario.operators > 0 {
            self.end_if_removed(node);
        }
        self.outputs = outputs;
        if std::mem::take(&mut self.nodes[node].has_restored) {
            let state = &mut self.nodes[node];
            if let Some(replica) = &mut state.replica {
                replica.restore_time(state.application.time);
            }
        }
    }

    /// No node may lead while another leader, in an earlier epoch or under a lower ballot, still holds a
    /// lease for reads. (In an epoch that is over a node may believe that it leads, but nothing is chosen
    /// there.)
    fn check_leases(&mut self) {
        let ballot_of = |node: &Node<M, D>| {
            let replica = node.replica.as_ref()?;
            Some((replica.membership().epoch(), replica.leads_under()?))
        };
        let Some(newest) = self.nodes.iter().filter_map(ballot_of).max() else { return };
        // A paused node takes the ticks that it has missed before it answers anything.
        let holds_lease = |node: &Node<M, D>| {
            let missed_ticks = u64::from(node.missed_ticks);
            node.replica.as_ref().is_some_and(|replica| replica.holds_lease_in(missed_ticks))
        };
        let late = self
            .nodes
            .iter()
            .find(|node| ballot_of(node).is_some_and(|ballot| ballot < newest) && holds_lease(node));
        let late = late.map(|node| node.id);
        self.observer.check(late.is_none(), Rule::LeaseIsAlone, || {
            let (epoch, ballot) = newest;
            format!("{ballot} leads in epoch {epoch}, but node {late:?} led before and still holds a lease")
        });
    }

    fn on_new_role(&mut self, node: usize, before: Role, role: Role) {
        let id = self.nodes[node].id;
        self.trace.event(self.schedule.now_units(), || format!("node {id} is now {role}"));
        if role == Role::Leader {
            self.trace.machine(self.schedule.now_units(), || format!("node {id} leads"));
        }
        let is_candidate = |node: &&Node<M, D>| {
            node.replica.as_ref().is_some_and(|replica| replica.role() == Role::Candidate)
        };
        let (state, was_leader) = (&self.nodes[node], before == Role::Leader);
        if was_leader && state.replica.as_ref().is_some_and(|replica| !replica.membership().is_voter(id)) {
            self.marks.hit(Mark::LeaderWithoutVote);
        }
        if role == Role::Candidate && self.nodes.iter().filter(is_candidate).count() > 1 {
            self.marks.hit(Mark::Duel);
        }
    }
}

/// The membership that founds the cluster: the first of these nodes. Where operators change it, members have
/// addresses.
fn founding(scenario: &Scenario, ids: &[NodeId]) -> Membership {
    let member =
        |&id: &NodeId| Member::voter(id, if scenario.operators > 0 { address_of(id) } else { String::new() });
    let membership = Membership::of(ids[..scenario.nodes].iter().map(member).collect());
    let membership = membership.and_then(|membership| match scenario.quorums {
        None => Ok(membership),
        Some(quorums) => membership.with_quorums(quorums),
    });
    membership.expect("scenarios draw members and quorums that fit together")
}

fn config(scenario: &Scenario, ids: &[NodeId], id: NodeId) -> Config {
    let config = Config::joining(id, founding(scenario, ids), scenario.settings.clone());
    config.expect("scenarios draw settings that fit together")
}
