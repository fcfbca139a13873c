//! The loop that owns the replica. It waits for inputs and for nothing else: no disk, no lock, no user's
//! code.
//!
//! Each turn [gathers](gather) what has arrived (job results of the writer, frames of peers, requests of
//! clients, ticks), up to a bound, feeds it to the replica, and [carries out its outputs](outputs): messages
//! first, then the write, then all else. Requests that arrived in one turn share a proposal or a read, so
//! batches grow by themselves when there is much to do.
//!
//! | file | what the driver does there |
//! |---|---|
//! | [`recovering`] | waits for recovery before the first turn |
//! | [`gather`] | collects the inputs of a turn |
//! | [`ticks`] | feeds ticks, and does what is due from time to time |
//! | [`disk`], [`disk_watch`] | hands jobs to the writer and takes in their results |
//! | [`local_state`] | has chosen values applied, and answers reads behind them |
//! | [`messages`], [`introducing`], [`misunderstood`] | frames from peers and to them |
//! | [`early`] | keeps messages that come before the membership that begins their epoch |
//! | [`administration`] | changes of the membership, handovers, and the end of this node |
//! | [`clients`] | requests of clients, refused or handed to the replica |
//! | [`due`] | proposes what the state machine wants because time has come |
//! | [`fetches`] | peers that catch up here, and this node's own catching up |
//! | [`outputs`] | what the replica asks for |
//! | [`clock_watch`], [`turn_times`], [`thread_times`], [`status`] | what whoever runs the node gets to see |

mod administration;
mod clients;
mod clock_watch;
mod disk;
mod disk_watch;
mod due;
mod early;
mod fetches;
mod gather;
mod introducing;
mod local_state;
mod messages;
mod misunderstood;
mod outputs;
mod recovering;
mod status;
mod thread_times;
mod ticks;
mod turn_times;

pub(crate) use self::administration::AdministrationReply;
pub(crate) use self::recovering::run;

use std::sync::Arc;
use std::time::Duration;

use paxos_core::{Input, NodeId, Replica};
use paxos_storage::ErrorKind;
use paxos_transport::Transport;
use tokio::sync::{mpsc, oneshot, watch};

use crate::client::ClientRequest;
use crate::error::NodeError;
use crate::runtime::checkpoints::Checkpoints;
use crate::runtime::memory::MemoryWatch;
use crate::runtime::metrics::DriverMetrics;
use crate::runtime::pulse::Pulse;
use crate::runtime::recovery::Ready;
use crate::runtime::replicated::SharedState;
use crate::runtime::writer::{JobResult, Writer};
use crate::settings::NodeSettings;
use crate::state_machine::StateMachine;
use crate::status::{MemberProgress, Status};

use self::administration::Administration;
use self::clients::Clients;
use self::clock_watch::ClockWatch;
use self::disk::Disk;
use self::gather::{Inbox, TurnInputs};
use self::local_state::LocalState;
use self::messages::Peers;
use self::outputs::TurnOutputs;
use self::ticks::Clock;
use self::turn_times::TurnTimes;

/// How long a node that stops waits for its transport to close.
const CLOSE_PATIENCE: Duration = Duration::from_millis(100);

/// The driver of one node.
pub(crate) struct Driver<S> {
    settings: NodeSettings,
    replica: Replica,
    /// The leader when it was last looked at: a change makes waiting requests go to the new one.
    leader: Option<NodeId>,
    /// Whether a leader was known since the start.
    has_had_leader: bool,
    /// Where inputs come from, and those of the present turn.
    inbox: Inbox,
    /// What the present turn has to do before it ends.
    outputs: TurnOutputs,
    clock: Clock,
    clock_watch: ClockWatch,
    disk: Disk,
    local_state: LocalState<S>,
    peers: Peers,
    clients: Clients,
    administration: Administration,
    /// How far the members are, as of the last tick, if this node leads.
    progress: Arc<[MemberProgress]>,
    memory: MemoryWatch,
    status: watch::Sender<Status>,
    metrics: DriverMetrics,
    turn_times: TurnTimes,
    pulse: Pulse,
}

/// What connects a driver with the rest of its node.
pub(crate) struct Wiring {
    pub(crate) transport: Box<dyn Transport>,
    pub(crate) requests: mpsc::Receiver<ClientRequest>,
    pub(crate) stop: oneshot::Receiver<()>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) memory: MemoryWatch,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) pulse: Pulse,
}

impl<S: StateMachine> Driver<S> {
    /// A driver that goes on from what was recovered; its first turn takes in `requests`.
    fn new(
        settings: NodeSettings,
        ready: Ready,
        shared: SharedState<S>,
        requests: Vec<ClientRequest>,
        wiring: Wiring,
    ) -> Result<Driver<S>, NodeError> {
        let Ready { replica, introductions, storage, snapshot } = ready;
        let local_state = LocalState::start(&settings, shared, snapshot.as_ref(), replica.membership())
            .map_err(NodeError::Thread)?;
        let (writer, job_results) = Writer::start(storage, settings.writer).map_err(NodeError::Thread)?;
        let inbox = Inbox {
            job_results,
            requests: wiring.requests,
            stop: Some(wiring.stop),
            turn: TurnInputs { requests, ..TurnInputs::default() },
        };
        let mut driver = Driver {
            leader: None,
            has_had_leader: false,
            inbox,
            outputs: TurnOutputs::default(),
            clock: Clock::new(settings.tick),
            clock_watch: ClockWatch::default(),
            disk: Disk::new(writer, &settings),
            local_state,
            peers: Peers::new(wiring.transport, introductions, wiring.checkpoints, replica.config()),
            clients: Clients::new(settings.retry_interval),
            administration: Administration::default(),
            progress: [].into(),
            memory: wiring.memory,
            status: wiring.status,
            pulse: wiring.pulse,
            metrics: DriverMetrics::new(),
            turn_times: TurnTimes::new(settings.turn_limit),
            replica,
            settings,
        };
        let membership = driver.replica.membership().clone();
        if membership.epoch() == driver.settings.epoch {
            driver.note_reached(&membership);
        } else {
            driver.follow_membership(&membership);
        }
        Ok(driver)
    }

    /// Runs until asked to stop or until the storage or the state machine fails.
    async fn drive(mut self) -> Result<(), NodeError> {
        let result = self.run_turns().await;
        self.clients.stop();
        self.administration.stop();
        self.say_farewell();
        close(self.peers.transport.as_mut()).await;
        let is_closed = self.disk.writer.stop().await;
        // A disk that fails while the node stops has failed all the same.
        let mut failed = None;
        while let Ok(result) = self.inbox.job_results.try_recv() {
            if let JobResult::Failed(error) = result {
                failed = Some(error).filter(|error| error.kind() == ErrorKind::Failed);
            }
        }
        let silent = if is_closed { Ok(()) } else { Err(NodeError::StorageSilent) };
        result.and(failed.map_or(Ok(()), |error| Err(NodeError::Storage(error)))).and(silent)
    }

    async fn run_turns(&mut self) -> Result<(), NodeError> {
        let mut has_worked = false;
        loop {
            self.gather(has_worked).await;
            if self.inbox.turn.is_stopping && self.may_stop()? {
                return Ok(());
            }
            if self.inbox.turn.is_transport_closed {
                return Err(NodeError::TransportClosed);
            }
            has_worked = self.inbox.turn.len() > 0;
            self.turn_times.begin(self.inbox.turn.work());
            if let Some(delay) = self.inbox.turn.delay.take() {
                self.turn_times.on_delay(delay);
            }
            // Ticks first: after a pause no lease may outlive the time it stands for.
            self.tick()?;
            for result in std::mem::take(&mut self.inbox.turn.job_results) {
                self.on_job_result(result)?;
            }
            for result in std::mem::take(&mut self.inbox.turn.apply_results) {
                self.on_apply_result(result)?;
            }
            for received in std::mem::take(&mut self.inbox.turn.received) {
                self.on_received(received)?;
            }
            self.answer_fetches()?;
            self.take_in_early()?;
            self.carry_out_introductions()?;
            self.on_requests()?;
            self.propose_due()?;
            self.finish_turn().await?;
            self.pause_fetching_if_behind()?;
            self.publish_status();
            let now = self.turn_times.end();
            self.pulse.beat(now);
        }
    }

    /// Feeds an input to the replica.
    fn step(&mut self, input: Input) -> Result<(), NodeError> {
        let mut outputs = Vec::new();
        self.replica.step(input, &mut outputs);
        if self.replica.leader() != self.leader {
            self.on_leader_changed();
        }
        outputs.into_iter().try_for_each(|output| self.take_output(output))
    }

    fn on_leader_changed(&mut self) {
        self.leader = self.replica.leader();
        self.peers.mesh.round_trips.forget();
        self.metrics.leader_changes.increment(1);
        if let Some(leader) = self.leader {
            self.has_had_leader = true;
            tracing::info!(node = self.settings.node.0, leader = leader.0, "leader elected");
            self.clients.retry_all();
        } else {
            tracing::info!(node = self.settings.node.0, "leader lost");
        }
    }
}

/// Closes a transport. If that takes too long, peers find out by its silence.
async fn close(transport: &mut dyn Transport) {
    if tokio::time::timeout(CLOSE_PATIENCE, transport.close()).await.is_err() {
        tracing::debug!("the transport did not close in time and is dropped");
    }
}
