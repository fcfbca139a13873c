//! Waits for recovery before the first turn: meanwhile requests queue, and the node can be stopped.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::oneshot::error::RecvError;
use tokio::time::interval;

use super::{Driver, Wiring, close};
use crate::client::{ClientError, ClientRequest};
use crate::error::NodeError;
use crate::runtime::metrics;
use crate::runtime::recovery::{Ready, Recovery};
use crate::runtime::replicated::SharedState;
use crate::settings::NodeSettings;
use crate::state_machine::StateMachine;

/// How often the status shows the progress of recovery.
const SHOW_INTERVAL: Duration = Duration::from_millis(100);
/// How often a recovery that takes long is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Recovers and then drives the replica, until asked to stop or until something fails.
pub(crate) async fn run<S: StateMachine>(
    settings: NodeSettings,
    recovery: Recovery,
    shared: SharedState<S>,
    mut wiring: Wiring,
) -> Result<(), NodeError> {
    metrics::describe();
    wiring.pulse.beat(Instant::now());
    let mut waiting = Waiting { limit: settings.waiting_requests, requests: VecDeque::new() };
    let result = wait(&settings, recovery, &mut wiring, &mut waiting).await;
    let ready = match result {
        Ok(Some(ready)) => ready,
        ended => {
            waiting.refuse_until(None);
            close(wiring.transport.as_mut()).await;
            return ended.map(drop);
        }
    };
    let requests = waiting.requests.into_iter().map(|(_, request)| request).collect();
    Driver::new(settings, ready, shared, requests, wiring)?.drive().await
}

/// Waits until the node has recovered; `None` if it is stopped before that.
async fn wait(
    settings: &NodeSettings,
    mut recovery: Recovery,
    wiring: &mut Wiring,
    waiting: &mut Waiting,
) -> Result<Option<Ready>, NodeError> {
    let mut clock = interval(SHOW_INTERVAL);
    let (started, mut told_at) = (Instant::now(), Instant::now());
    loop {
        tokio::select! {
            biased;
            _ = &mut wiring.stop => return Ok(None),
            recovered = &mut recovery.result => {
                if started.elapsed() > LOG_INTERVAL {
                    tracing::info!(node = settings.node.0, seconds = started.elapsed().as_secs(), "recovered");
                }
                let ended = |_: RecvError| NodeError::Panicked(String::from("the recovery thread has ended without a result"));
                return recovered.map_err(ended)?.map(Some);
            }
            Some(request) = wiring.requests.recv() => {
                waiting.add(request, Instant::now() + settings.request_timeout);
            }
            _ = clock.tick() => {
                wiring.pulse.beat(Instant::now());
                waiting.refuse_until(Some(Instant::now()));
                let progress = recovery.progress();
                wiring.status.send_modify(|status| status.recovering = Some(progress));
                if told_at.elapsed() > LOG_INTERVAL {
                    told_at = Instant::now();
                    let seconds = started.elapsed().as_secs();
                    tracing::warn!(node = settings.node.0, seconds, "the node is still {progress}");
                }
            }
        }
    }
}

/// Requests that have come before the node can serve them, each with its deadline.
struct Waiting {
    limit: usize,
    requests: VecDeque<(Instant, ClientRequest)>,
}

impl Waiting {
    fn add(&mut self, request: ClientRequest, deadline: Instant) {
        if self.requests.len() < self.limit {
            self.requests.push_back((deadline, request));
        } else {
            request.refuse(ClientError::Overloaded);
        }
    }

    /// Refuses those whose deadline has passed by `now`; all, without it.
    fn refuse_until(&mut self, now: Option<Instant>) {
        let has_passed = |deadline: Instant| now.is_none_or(|now| deadline <= now);
        while self.requests.front().is_some_and(|(deadline, _)| has_passed(*deadline)) {
            if let Some((_, request)) = self.requests.pop_front() {
                request.refuse(ClientError::NotApplied);
            }
        }
    }
}
