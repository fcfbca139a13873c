//! The HTTP front: health, status and metrics, for people and programs that look after a node.
//!
//! | path | answers |
//! |---|---|
//! | `/healthz` | 200 as long as the process runs |
//! | `/readyz` | 200 if the node knows a leader and has caught up, else 503 |
//! | `/status` | a [`StatusReport`] as JSON |
//! | `/metrics` | all metrics in the text format of Prometheus |

use std::io;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::client::Client;
use crate::state_machine::StateMachine;

/// What `/status` tells.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StatusReport {
    /// The node's id.
    pub node: u64,
    /// `leader`, `candidate` or `follower`.
    pub role: String,
    /// Whom the node takes for the leader, if anyone.
    pub leader: Option<u64>,
    /// The highest promised ballot, as `ROUND.NODE`.
    pub ballot: String,
    /// Every slot up to here is chosen.
    pub chosen: u64,
    /// Every slot up to here is applied.
    pub applied: u64,
    /// Slots known to be chosen and not yet applied here.
    pub lag: u64,
    /// The digest of the state at `applied`, in hexadecimal: nodes with equal `applied` have equal digests.
    pub digest: String,
}

struct Front<S> {
    client: Client<S>,
    metrics: PrometheusHandle,
}

impl<S> Clone for Front<S> {
    fn clone(&self) -> Self {
        Front { client: self.client.clone(), metrics: self.metrics.clone() }
    }
}

/// Serves until `stop` turns true.
///
/// # Errors
///
/// Whatever accepting connections fails with.
pub async fn serve<S: StateMachine>(
    listener: TcpListener,
    client: Client<S>,
    metrics: PrometheusHandle,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready::<S>))
        .route("/status", get(status::<S>))
        .route("/metrics", get(render_metrics::<S>))
        .with_state(Front { client, metrics });
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await; // A sender that is gone stops the front as well.
    };
    axum::serve(listener, router).with_graceful_shutdown(stopped).await
}

async fn ready<S: StateMachine>(State(front): State<Front<S>>) -> (StatusCode, &'static str) {
    let status = front.client.status().borrow().clone();
    if status.is_ready() {
        (StatusCode::OK, "ready\n")
    } else if status.leader.is_none() {
        (StatusCode::SERVICE_UNAVAILABLE, "knows no leader\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "catching up\n")
    }
}

async fn status<S: StateMachine>(State(front): State<Front<S>>) -> axum::Json<StatusReport> {
    let status = front.client.status().borrow().clone();
    let state = front.client.read_stale();
    let (applied, digest) = (state.applied(), state.digest());
    drop(state);
    axum::Json(StatusReport {
        node: status.node.0,
        role: status.role.to_string(),
        leader: status.leader.map(|leader| leader.0),
        ballot: status.ballot.to_string(),
        chosen: status.chosen.0.max(applied.0),
        applied: applied.0,
        lag: status.known_chosen.0.saturating_sub(applied.0),
        digest: format!("{digest:016x}"),
    })
}

async fn render_metrics<S: StateMachine>(State(front): State<Front<S>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], front.metrics.render())
}
