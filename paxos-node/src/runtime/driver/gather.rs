//! Gathers the inputs of a turn.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use paxos_transport::Received;
use tokio::sync::{mpsc, oneshot};

use super::Driver;
use super::turn_times::TurnWork;
use crate::client::ClientRequest;
use crate::runtime::applier::ApplyResult;
use crate::runtime::writer::JobResult;
use crate::state_machine::StateMachine;

/// How many inputs of each kind one turn takes in, so that no kind keeps the others waiting.
const MAX_INPUTS_OF_A_KIND: usize = 512;
/// How many bytes of frames one turn takes in: of short values that are thousands of slots to learn.
const MAX_RECEIVED_BYTES: usize = 1 << 20;
/// For how long after a crowded slot busy polling ends as soon as somebody else wants the processor.
const CROWDED_FOR: Duration = Duration::from_millis(2);
/// Giving the processor away takes longer than this if another thread or process has used it.
const UNUSED: Duration = Duration::from_micros(4);
/// While a write is on its way to the disk, busy polling lasts this many times `busy_poll` longer: a sync
/// takes as long.
const SYNC_POLLS: u32 = 3;

/// Where inputs come from, and those that the present turn has gathered.
pub(super) struct Inbox {
    pub(super) job_results: mpsc::UnboundedReceiver<JobResult>,
    pub(super) requests: mpsc::Receiver<ClientRequest>,
    /// `None` once it was told.
    pub(super) stop: Option<oneshot::Receiver<()>>,
    pub(super) turn: TurnInputs,
}

/// What one turn has gathered.
#[derive(Default)]
pub(super) struct TurnInputs {
    pub(super) job_results: Vec<JobResult>,
    pub(super) apply_results: Vec<ApplyResult>,
    pub(super) received: Vec<Received>,
    pub(super) requests: Vec<ClientRequest>,
    pub(super) is_stopping: bool,
    pub(super) is_transport_closed: bool,
    /// How late the driver noticed the tick that has passed, if one has.
    pub(super) delay: Option<Duration>,
}

impl TurnInputs {
    pub(super) fn work(&self) -> TurnWork {
        TurnWork {
            job_results: self.job_results.len(),
            apply_results: self.apply_results.len(),
            received: self.received.len(),
            requests: self.requests.len(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.job_results.len() + self.apply_results.len() + self.received.len() + self.requests.len()
    }
}

impl<S: StateMachine> Driver<S> {
    /// Waits for input. After a turn with work (`has_worked`) it polls for `busy_poll` before it sleeps; where
    /// slots are crowded only as long as nobody else wants the processor.
    pub(super) async fn gather(&mut self, has_worked: bool) {
        if self.outputs.has_backlog() || self.peers.fetches.is_waiting() {
            tokio::task::yield_now().await; // The next turn has work anyway: other tasks run first.
        }
        let since = Instant::now();
        let is_crowded = self.disk.crowded_at.is_some_and(|crowded_at| since - crowded_at < CROWDED_FOR);
        let syncs = if self.disk.unsynced.is_pending() { 1 + SYNC_POLLS } else { 1 };
        let mut limit = if has_worked { self.settings.busy_poll * syncs } else { Duration::ZERO };
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
                let given_away_at = Instant::now();
                std::thread::yield_now(); // No task here has anything to do: another process may.
                if is_crowded && given_away_at.elapsed() > UNUSED {
                    limit = Duration::ZERO;
                }
            }
            tokio::task::yield_now().await; // All other tasks run, and then the runtime looks at its sockets.
        }
    }

    /// Ready when anything has arrived or a tick has passed.
    fn poll_gather(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Inbox { job_results, requests, stop, turn } = &mut self.inbox;
        let ticked = self.clock.interval.poll_tick(context);
        if let Poll::Ready(due) = ticked {
            turn.delay = Some(due.elapsed());
        }
        let is_told = stop.as_mut().is_some_and(|stop| Pin::new(stop).poll(context).is_ready());
        if is_told {
            *stop = None;
            turn.is_stopping = true;
        }
        while turn.job_results.len() < MAX_INPUTS_OF_A_KIND {
            let Poll::Ready(Some(result)) = job_results.poll_recv(context) else { break };
            turn.job_results.push(result);
        }
        let mut received_bytes: usize = turn.received.iter().map(|received| received.frame.len()).sum();
        while turn.received.len() < MAX_INPUTS_OF_A_KIND && received_bytes < MAX_RECEIVED_BYTES {
            match self.peers.transport.poll_receive(context) {
                Poll::Ready(Some(received)) => {
                    received_bytes += received.frame.len();
                    turn.received.push(received);
                }
                Poll::Ready(None) => {
                    turn.is_transport_closed = true;
                    break;
                }
                Poll::Pending => break,
            }
        }
        while turn.apply_results.len() < MAX_INPUTS_OF_A_KIND {
            let Poll::Ready(result) = self.local_state.applier.poll_result(context) else { break };
            turn.apply_results.push(result);
        }
        let room = MAX_INPUTS_OF_A_KIND.saturating_sub(turn.requests.len());
        if room > 0 {
            let _ = requests.poll_recv_many(context, &mut turn.requests, room);
        }
        let is_ending = is_told || turn.is_transport_closed;
        let has_rest = self.outputs.has_backlog() || self.peers.fetches.is_waiting();
        let is_ready = ticked.is_ready() || is_ending || turn.len() > 0 || has_rest;
        if is_ready { Poll::Ready(()) } else { Poll::Pending }
    }
}
