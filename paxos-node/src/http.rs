//! The HTTP front: health, status and metrics, for people and programs that look after a node.
//!
//! | path | answers |
//! |---|---|
//! | `/healthz` | 200 as long as the process runs |
//! | `/readyz` | 200 if the node knows a leader, has caught up and repairs nothing, else 503 |
//! | `/status` | a [`StatusReport`] as JSON |
//! | `/metrics` | all metrics in the text format of Prometheus |
//!
//! Connections are bounded in number, in the size of what they ask, and in time, each by a constant of this module.

use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

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
    /// While the node makes up for damage to its log: through which slot.
    pub repairs_through: Option<u64>,
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

/// How many connections there may be at once; a further one gets a 503 and is closed.
pub const MAX_CONNECTIONS: usize = 64;
/// How many bytes the head of a request may have; a longer one gets a 431.
pub const MAX_HEADER_BYTES: usize = 16 << 10;
/// How long the head of a request may take to come.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may last from its beginning to its end. It carries one request.
pub const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait after accepting has failed, for example because there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const TOO_MANY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 21\r\n\r\ntoo many connections\n";

/// Serves until `stop` turns true; then finishes what is under way.
///
/// # Errors
///
/// None at present: a connection that can't be accepted is tried again.
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
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stop.wait_for(|stop| *stop) => break, // A sender that is gone stops the front as well.
        };
        match accepted {
            Ok((stream, _)) if connections.len() >= MAX_CONNECTIONS => {
                // Whoever does not find it in an empty buffer would not wait for it either.
                let _ = stream.try_write(TOO_MANY);
            }
            Ok((stream, _)) => {
                connections.spawn(serve_connection(stream, router.clone(), stop.clone()));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn serve_connection(stream: TcpStream, router: Router, mut stop: watch::Receiver<bool>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .max_header_size(MAX_HEADER_BYTES)
        .max_buf_size(2 * MAX_HEADER_BYTES)
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let served = async {
        tokio::select! {
            served = connection.as_mut() => return served,
            _ = stop.wait_for(|stop| *stop) => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    };
    let result = tokio::time::timeout(CONNECTION_TIMEOUT, served).await;
    tracing::debug!(?result, "an HTTP connection has ended");
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
        repairs_through: status.repairs_through.map(|through| through.0),
        digest: format!("{digest:016x}"),
    })
}

async fn render_metrics<S: StateMachine>(State(front): State<Front<S>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], front.metrics.render())
}
