//! The loop that owns the replica and moves everything around it.
//!
//! Each turn gathers what has arrived (results of the writer, frames of peers, requests of clients, ticks), up
//! to a bound, feeds it to the replica and carries out what comes of it: messages first, then the write, then all
//! else. Requests that arrived in one turn share a proposal or a read: batches grow by themselves when there is
//! much to do.

mod messages;
mod outcome;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use paxos_core::session::Request as SessionRequest;
use paxos_core::{Input, NodeId, ReadId, Recovered, Replica};
use paxos_storage::{ErrorKind, Room};
use paxos_transport::{Lane, Received, Transport};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::applier::Applier;
use crate::client::{ClientError, Request};
use crate::metrics::{self, Counters};
use crate::node::NodeError;
use crate::peers::Peers;
use crate::pending::{PendingCommands, PendingReads};
use crate::settings::NodeSettings;
use crate::snapshots::OwnSnapshots;
use crate::state_machine::StateMachine;
use crate::status::Status;
use crate::unsynced::Unsynced;
use crate::writer::{Done, Job, Writer};

use self::outcome::Outcome;

/// How many things of each kind one turn takes in, so that no kind keeps the others waiting.
const TURN_LIMIT: usize = 512;
/// A turn that takes in no more than so many things may wait for the disk itself.
const QUIET_TURN: usize = 1;
/// A slot with more commands shows that there is much to do: to stay awake would only take the processor from others.
const CROWDED_SLOT: usize = 8;
/// How long such a slot tells so.
const CROWDED_FOR: Duration = Duration::from_millis(2);
/// With more than that on its way to the disk, or twice the window, the node hears no more.
const UNSYNCED_BYTES: usize = 32 << 20;
/// After a pause longer than this many ticks every time-out has passed anyway.
const MAX_MISSED_TICKS: u128 = 10_000;

/// The driver of one node.
pub(crate) struct Driver<S> {
    settings: NodeSettings,
    replica: Replica,
    applier: Applier<S>,
    transport: Box<dyn Transport>,
    peers: Peers,
    writer: Writer,
    unsynced: Unsynced,
    results: mpsc::UnboundedReceiver<Done>,
    requests: mpsc::Receiver<Request>,
    stop: oneshot::Receiver<()>,
    status: watch::Sender<Status>,
    commands: PendingCommands,
    reads: PendingReads,
    own_snapshots: OwnSnapshots,
    counters: Counters,
    clock: Interval,
    started: Instant,
    ticks: u128,
    leader: Option<NodeId>,
    room: Room,
    turn: Turn,
    outcome: Outcome,
    /// When a crowded slot was last written.
    crowded_at: Option<Instant>,
}

/// What one turn of the loop has gathered.
#[derive(Default)]
struct Turn {
    results: Vec<Done>,
    received: Vec<Received>,
    requests: Vec<Request>,
    is_stopping: bool,
}

impl Turn {
    fn len(&self) -> usize {
        self.results.len() + self.received.len() + self.requests.len()
    }
}

/// The driver's ends of what it talks to.
pub(crate) struct Ends {
    pub(crate) transport: Box<dyn Transport>,
    pub(crate) peers: Peers,
    pub(crate) writer: Writer,
    pub(crate) results: mpsc::UnboundedReceiver<Done>,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) stop: oneshot::Receiver<()>,
    pub(crate) status: watch::Sender<Status>,
}

impl<S: StateMachine> Driver<S> {
    /// A driver for a replica that goes on from `recovered`, whose snapshot `applier` has restored already.
    pub(crate) fn new(
        settings: NodeSettings,
        recovered: Recovered,
        applier: Applier<S>,
        ends: Ends,
    ) -> Result<Driver<S>, NodeError> {
        let config = paxos_core::Config::new(settings.node, &settings.members, settings.protocol.clone())?;
        let snapshot = recovered.snapshot;
        let unsynced_limit = UNSYNCED_BYTES.max(2 * settings.protocol.window_bytes);
        let mut clock = interval(settings.tick);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Driver {
            replica: Replica::new(config, recovered, fastrand::u64(..))?,
            commands: PendingCommands::new(fastrand::u64(..), settings.retry_interval),
            reads: PendingReads::new(ReadId(fastrand::u64(..)), settings.retry_interval),
            own_snapshots: OwnSnapshots::new(settings.snapshot_after_bytes, snapshot),
            counters: Counters::new(),
            clock,
            started: Instant::now(),
            ticks: 0,
            leader: None,
            room: Room::Ample,
            turn: Turn::default(),
            outcome: Outcome::default(),
            crowded_at: None,
            settings,
            applier,
            transport: ends.transport,
            peers: ends.peers,
            writer: ends.writer,
            unsynced: Unsynced::new(unsynced_limit),
            results: ends.results,
            requests: ends.requests,
            stop: ends.stop,
            status: ends.status,
        })
    }

    /// Runs until asked to stop or until the storage fails.
    pub(crate) async fn run(mut self) -> Result<(), NodeError> {
        metrics::describe();
        let result = self.work().await;
        self.commands.stop();
        self.reads.stop();
        self.transport.close().await;
        self.writer.stop().await;
        // The last words of the writer: a disk that fails while the node stops has failed all the same.
        let mut failed = None;
        while let Ok(done) = self.results.try_recv() {
            if let Done::Failed(error) = done {
                failed = Some(error).filter(|error| error.kind() == ErrorKind::Failed);
            }
        }
        result.and(failed.map_or(Ok(()), |error| Err(NodeError::Storage(error))))
    }

    async fn work(&mut self) -> Result<(), NodeError> {
        let mut has_worked = false;
        loop {
            self.gather(has_worked).await;
            if self.turn.is_stopping {
                return Ok(());
            }
            has_worked = self.turn.len() > 0;
            let is_quiet = self.turn.len() <= QUIET_TURN;
            // Ticks first: after a pause no lease may outlive the time it stands for.
            self.tick();
            for done in std::mem::take(&mut self.turn.results) {
                self.on_done(done)?;
            }
            for received in std::mem::take(&mut self.turn.received) {
                self.on_received(received)?;
            }
            self.on_requests();
            self.finish_turn(is_quiet).await?;
            self.publish();
        }
    }

    /// Waits until there is something to do. Who `has_worked` just now stays awake for a while meanwhile.
    async fn gather(&mut self, has_worked: bool) {
        let since = Instant::now();
        let is_crowded = self.crowded_at.is_some_and(|crowded_at| since - crowded_at < CROWDED_FOR);
        let limit = if has_worked && !is_crowded { self.settings.busy_poll } else { Duration::ZERO };
        let mut has_waited = false;
        loop {
            let is_awake = since.elapsed() < limit;
            let has_gathered = poll_fn(|context| match self.poll_gather(context) {
                Poll::Pending if is_awake => Poll::Ready(false),
                gathered => gathered.map(|()| true),
            });
            if has_gathered.await {
                return;
            }
            if std::mem::replace(&mut has_waited, true) {
                std::thread::yield_now(); // No task here has anything to do: some other process may.
            }
            tokio::task::yield_now().await; // To all other tasks, and then the runtime looks at its sockets.
        }
    }

    /// Ready when there is anything to do: something has arrived or a tick has passed.
    fn poll_gather(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let ticked = self.clock.poll_tick(context).is_ready();
        if Pin::new(&mut self.stop).poll(context).is_ready() {
            self.turn.is_stopping = true;
        }
        while self.turn.results.len() < TURN_LIMIT {
            let Poll::Ready(Some(done)) = self.results.poll_recv(context) else { break };
            self.turn.results.push(done);
        }
        while self.turn.received.len() < TURN_LIMIT {
            let Poll::Ready(Some(received)) = self.transport.poll_receive(context) else { break };
            self.turn.received.push(received);
        }
        let room = TURN_LIMIT.saturating_sub(self.turn.requests.len());
        if room > 0 {
            let _ = self.requests.poll_recv_many(context, &mut self.turn.requests, room);
        }
        if ticked || self.turn.is_stopping || self.turn.len() > 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Feeds the ticks that have passed by the clock, however many were missed.
    fn tick(&mut self) {
        let passed = self.started.elapsed().as_nanos() / self.settings.tick.as_nanos();
        let missed = (passed - self.ticks).min(MAX_MISSED_TICKS);
        self.ticks = passed;
        // Until it may take part its replica stands still: it neither hears anything nor runs for leader.
        let ticks = if self.peers.may_take_part() { missed } else { 0 };
        for _ in 0..ticks {
            self.step(Input::Tick);
        }
        if missed > 0 {
            for (peer, hello) in self.peers.hellos(self.replica.config().peers(), self.ticks) {
                self.transport.send(peer, Lane::Control, hello);
            }
            let now = Instant::now();
            self.commands.expire(now);
            self.reads.expire(now);
            self.commands.retry_overdue(now);
            metrics::show(&self.status.borrow(), self.replica.log_bytes());
        }
    }

    fn on_done(&mut self, done: Done) -> Result<(), NodeError> {
        let input = match done {
            Done::Durable(durable) => {
                self.unsynced.on_durable(&durable);
                Input::Durable(durable)
            }
            Done::SnapshotStored { slot, offset } => Input::SnapshotStored { slot, offset },
            Done::SnapshotRejected { slot } => Input::SnapshotRejected { slot },
            Done::SnapshotLoaded { to, meta, offset, data } => {
                Input::SnapshotLoaded { to, meta, offset, data }
            }
            Done::SnapshotFinished { meta, is_own } => {
                self.counters.snapshots.increment(1);
                self.own_snapshots.on_saved(meta);
                self.writer.submit(Job::Compact { through: meta.slot });
                if is_own { Input::SnapshotSaved { meta } } else { Input::SnapshotInstalled { meta } }
            }
            Done::PeersRemembered { peers } => {
                self.peers.on_remembered(peers);
                return Ok(());
            }
            Done::Room(room) => {
                self.room = room;
                return Ok(());
            }
            Done::Failed(error) => return Err(NodeError::Storage(error)),
        };
        self.step(input);
        Ok(())
    }

    /// Takes the requests of this turn in, and hands all that is due to the replica.
    fn on_requests(&mut self) {
        let now = Instant::now();
        let deadline = now + self.settings.request_timeout;
        let longest = self.settings.protocol.command_bytes - SessionRequest::OVERHEAD_BYTES;
        let mut readers = Vec::new();
        for request in std::mem::take(&mut self.turn.requests) {
            match request {
                Request::Propose { command, reply } if command.len() > longest => {
                    let error = ClientError::TooLarge { size_bytes: command.len(), limit_bytes: longest };
                    let _ = reply.send(Err(error));
                }
                Request::Propose { reply, .. } if self.commands.len() >= self.settings.waiting_requests => {
                    self.counters.refused.increment(1);
                    let _ = reply.send(Err(ClientError::Overloaded));
                }
                Request::Propose { reply, .. } if self.room == Room::Low => {
                    self.counters.refused.increment(1);
                    let _ = reply.send(Err(ClientError::NoSpace));
                }
                Request::Propose { command, reply } => {
                    self.counters.commands.increment(1);
                    self.commands.add(command, reply, now, deadline);
                }
                Request::Read { reply } if self.reads.len() >= self.settings.waiting_requests => {
                    self.counters.refused.increment(1);
                    let _ = reply.send(Err(ClientError::Overloaded));
                }
                Request::Read { reply } => readers.push(reply),
            }
        }
        if !readers.is_empty() {
            self.counters.reads.increment(readers.len() as u64);
            self.reads.add(readers, now, deadline);
        }
        self.send_due(now);
    }

    fn send_due(&mut self, now: Instant) {
        if self.replica.leader().is_none() {
            return;
        }
        let commands = self.commands.take_unsent(now);
        if !commands.is_empty() {
            self.step(Input::Propose { commands });
        }
        for read in self.reads.due(now) {
            self.step(Input::Read { read });
        }
    }

    fn step(&mut self, input: Input) {
        let mut outputs = Vec::new();
        self.replica.step(input, &mut outputs);
        if self.replica.leader() != self.leader {
            self.on_new_leader();
        }
        for output in outputs {
            self.take_output(output);
        }
    }

    fn on_new_leader(&mut self) {
        self.leader = self.replica.leader();
        if let Some(leader) = self.leader {
            tracing::info!(node = self.settings.node.0, leader = leader.0, "a leader is there");
            self.commands.retry_all();
            self.reads.retry_all(Instant::now());
        } else {
            tracing::info!(node = self.settings.node.0, "the leader is lost");
        }
    }

    /// Shows the status to whoever watches, if it has changed.
    fn publish(&mut self) {
        let replica = &self.replica;
        self.status.send_if_modified(|status| {
            let now = Status {
                node: self.settings.node,
                role: replica.role(),
                leader: replica.leader(),
                ballot: replica.promised(),
                chosen: replica.chosen(),
                applied: replica.applied(),
                known_chosen: replica.known_chosen(),
                repairs_through: replica.repairs_through(),
            };
            match (status.repairs_through, now.repairs_through) {
                (None, Some(through)) => {
                    tracing::warn!(
                        "this node takes no part in elections until it has learned anew what was chosen through slot {through}"
                    );
                }
                (Some(_), None) => tracing::warn!("all that was lost has been learned anew"),
                _ => {}
            }
            let changed = *status != now;
            *status = now;
            changed
        });
    }
}
