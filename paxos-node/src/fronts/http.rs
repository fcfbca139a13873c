//! The HTTP front: health, status and metrics, for people and programs that look after a node.
//!
//! | path | answers |
//! |---|---|
//! | `/healthz` | 200, or 503 if the node has been silent for [`DRIVER_PATIENCE`]: to start it anew may help |
//! | `/readyz` | 200 if the node knows a leader, has caught up and repairs nothing, else 503 |
//! | `/startedz` | 200 if the node is ready, or would be if other nodes were there, else 503: so nodes can be started one after the other |
//! | `/status` | a [`StatusReport`] as JSON |
//! | `/metrics` | all metrics in the text format of Prometheus |
//! | `/` | a page for people, kept up to date by the server-sent events of `/events` |
//!
//! Constants of this module bound the number of connections, the length of a request's head, and how long a
//! connection may last.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use paxos_core::{FormatLevel, Standing};
use paxos_transport::{CertificateStatus, PeerStatus};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::MemberReport;
use super::listener::Listener;
use super::measured::Measured;
use super::page::{self, MAX_LISTENERS};
use super::process;
use crate::client::Client;
use crate::runtime::metrics::show_sessions;
use crate::state_machine::StateMachine;
use crate::status::Status;

pub use super::measured::{ClientsReport, DiskReport};
pub use super::recorder::{MetricsHandle, MetricsRecorder, recorder};

/// The answer to `/status`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StatusReport {
    /// The node's id.
    pub node: u64,
    /// `leader`, `candidate` or `follower`.
    pub role: String,
    /// The leader that the node knows, if any.
    pub leader: Option<u64>,
    /// The epoch of the membership in force, as far as the node knows.
    #[serde(default)]
    pub epoch: u64,
    /// The format level that the cluster has finalized, as far as the node knows.
    #[serde(default)]
    pub format_level: u16,
    /// The newest format level that the program of this node reads.
    #[serde(default)]
    pub newest_level: u16,
    /// What the node is in that membership: `voter`, `learner`, `outsider` before it was added, or `removed`.
    /// None until it has recovered.
    #[serde(default)]
    pub standing: Option<String>,
    /// What keeps the node from being ready; none if it is.
    #[serde(default)]
    pub ready: Option<String>,
    /// The members, as far as the node knows. Only a leader knows how far they lag.
    #[serde(default)]
    pub members: Vec<MemberReport>,
    /// The highest promised ballot, as `ROUND.NODE`.
    pub ballot: String,
    /// Every slot up to here is chosen.
    pub chosen: u64,
    /// Every slot up to here is applied.
    pub applied: u64,
    /// How many slots are known to be chosen and not yet applied here.
    pub lag: u64,
    /// The id of the founding of the node's cluster, in hexadecimal; none until the node takes part in one.
    #[serde(default)]
    pub founding: Option<String>,
    /// While the cluster is not founded: the nodes that this node has to meet first.
    #[serde(default)]
    pub waiting_for: Vec<u64>,
    /// Peers that this node does not listen to, or that do not listen to it.
    #[serde(default)]
    pub refused: Vec<u64>,
    /// Peers whose state differs from that of this node.
    #[serde(default)]
    pub diverged: Vec<u64>,
    /// While the node learns anew what damage to its log has lost: up to which slot.
    pub repairs_through: Option<u64>,
    /// While the node starts: what it is doing.
    pub recovering: Option<String>,
    /// By how many milliseconds the node's wall clock is ahead of the cluster's time, or behind if negative;
    /// none while it knows no leader.
    #[serde(default)]
    pub clock_ahead_milliseconds: Option<i64>,
    /// How many malformed messages and frames peers have sent: 0 unless a node is faulty.
    #[serde(default)]
    pub misunderstood: u64,
    /// The digest of the state at `applied`, in hexadecimal: nodes with equal `applied` have equal digests.
    pub digest: String,
    /// The disk of the log, as the metrics have it.
    #[serde(default)]
    pub disk: DiskReport,
    /// Redis clients, as the metrics have them.
    #[serde(default)]
    pub clients: ClientsReport,
    /// How the peers are connected.
    #[serde(default)]
    pub peers: Vec<PeerReport>,
    /// Until when the certificates of this node, its peers and their CA are valid.
    #[serde(default)]
    pub certificates: Vec<CertificateReport>,
}

/// A peer in the answer to `/status`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerReport {
    /// The peer's id.
    pub node: u64,
    /// Whether frames can go both ways.
    pub connected: bool,
    /// How many seconds ago that last changed, if the transport knows.
    pub for_seconds: Option<u64>,
    /// Why it is not connected, as [`Unreachable::code`](paxos_transport::Unreachable::code).
    pub reason: Option<String>,
    /// The same in words, with what to do.
    pub problem: Option<String>,
    /// How long a packet and its acknowledgement take at present, if the transport knows; else how long a
    /// heartbeat and its answer take, if the node leads.
    #[serde(default)]
    pub round_trip_microseconds: Option<u64>,
    /// Bytes of frames that were sent to it.
    #[serde(default)]
    pub sent_bytes: u64,
    /// Bytes of frames that came from it.
    #[serde(default)]
    pub received_bytes: u64,
    /// Frames for it that were dropped.
    #[serde(default)]
    pub dropped_frames: u64,
}

/// A certificate in the answer to `/status`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CertificateReport {
    /// Whose it is: `node ID`, or `the CA`.
    pub owner: String,
    /// When it expires, in seconds since 1970.
    pub not_after_unix_seconds: u64,
}

impl From<&PeerStatus> for PeerReport {
    fn from(status: &PeerStatus) -> PeerReport {
        let (problem, dropped) = (status.unreachable.as_ref(), &status.counters.dropped);
        PeerReport {
            node: status.peer.0,
            connected: status.is_connected,
            for_seconds: status.since.map(|since| since.elapsed().as_secs()),
            reason: problem.map(|problem| problem.code().to_owned()),
            problem: problem.map(|problem| format!("{problem}; {}", problem.advice())),
            round_trip_microseconds: status
                .round_trip
                .map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            sent_bytes: status.counters.sent.bytes,
            received_bytes: status.counters.received.bytes,
            dropped_frames: dropped.full + dropped.disconnected + dropped.too_large,
        }
    }
}

impl From<&CertificateStatus> for CertificateReport {
    fn from(status: &CertificateStatus) -> CertificateReport {
        let since_1970 = status.not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        CertificateReport { owner: status.owner.to_string(), not_after_unix_seconds: since_1970.as_secs() }
    }
}

pub(super) struct HttpFront<S> {
    pub(super) client: Client<S>,
    pub(super) metrics: MetricsHandle,
    /// A permit for each who may listen to events.
    pub(super) listeners: Arc<Semaphore>,
    pub(super) stop: watch::Receiver<bool>,
}

impl<S> Clone for HttpFront<S> {
    fn clone(&self) -> Self {
        HttpFront {
            client: self.client.clone(),
            metrics: self.metrics.clone(),
            listeners: Arc::clone(&self.listeners),
            stop: self.stop.clone(),
        }
    }
}

/// A node that has ended no turn for this long hangs. It takes a hundred a second at least.
pub const DRIVER_PATIENCE: Duration = Duration::from_secs(10);
/// How many connections may be open at once; a further one gets a 503 and is closed.
pub const MAX_CONNECTIONS: usize = 64;
/// How many bytes the head of a request may have; a longer one gets a 431.
pub const MAX_HEADER_BYTES: usize = 16 << 10;
/// How long a client may take to send the head of a request.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may last from its beginning to its end. It carries one request.
pub const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// How often recorded times are sorted into their buckets. Until then each takes memory.
pub const UPKEEP_INTERVAL: Duration = Duration::from_millis(100);

const TOO_MANY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 21\r\n\r\ntoo many connections\n";

/// Serves HTTP clients until `stop` turns true, then finishes the requests under way. Meanwhile it does the
/// upkeep of the recorder that `metrics` belongs to.
///
/// # Errors
///
/// None at present: a connection that can't be accepted is tried again.
pub async fn serve<S: StateMachine>(
    socket: TcpListener,
    client: Client<S>,
    metrics: MetricsHandle,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(healthy::<S>))
        .route("/readyz", get(ready::<S>))
        .route("/startedz", get(started::<S>))
        .route("/status", get(status::<S>))
        .route("/metrics", get(render_metrics::<S>))
        .route("/", get(page::page))
        .route("/events", get(page::events::<S>))
        .with_state(HttpFront {
            client,
            metrics: metrics.clone(),
            listeners: Arc::new(Semaphore::new(MAX_LISTENERS)),
            stop: stop.clone(),
        });
    let listener = Listener {
        socket,
        clients: "HTTP clients",
        max_connections: MAX_CONNECTIONS,
        refusal: TOO_MANY,
        upkeep_interval: UPKEEP_INTERVAL,
        counts: Arc::default(),
    };
    let stopped = stop.clone();
    let serve = move |stream, _| serve_connection(stream, router.clone(), stopped.clone());
    listener.serve(stop, move || metrics.run_upkeep(), serve).await;
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

async fn healthy<S: StateMachine>(State(front): State<HttpFront<S>>) -> (StatusCode, String) {
    let silence = front.client.silence();
    if silence < DRIVER_PATIENCE {
        return (StatusCode::OK, String::from("alive\n"));
    }
    let seconds = silence.as_secs();
    (StatusCode::SERVICE_UNAVAILABLE, format!("the node hangs: it has done nothing for {seconds} s\n"))
}

async fn ready<S: StateMachine>(State(front): State<HttpFront<S>>) -> (StatusCode, String) {
    answer("ready", front.client.status().borrow().why_not_ready())
}

async fn started<S: StateMachine>(State(front): State<HttpFront<S>>) -> (StatusCode, String) {
    answer("started", front.client.status().borrow().why_not_started())
}

fn answer(well: &str, problem: Option<String>) -> (StatusCode, String) {
    match problem {
        None => (StatusCode::OK, format!("{well}\n")),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn status<S: StateMachine>(State(front): State<HttpFront<S>>) -> axum::Json<StatusReport> {
    let metrics = front.metrics.clone();
    // It fails only if the node ends.
    let measured = tokio::task::spawn_blocking(move || Measured::read(&metrics)).await.unwrap_or_default();
    axum::Json(report(&front.client.status().borrow(), measured))
}

/// What is shown of a status, with what is measured.
pub(super) fn report(status: &Status, measured: Measured) -> StatusReport {
    let applied = status.digest.slot;
    StatusReport {
        node: status.node.0,
        role: status.role.to_string(),
        leader: status.leader.map(|leader| leader.0),
        epoch: status.epoch().0,
        format_level: status.format_level().0,
        newest_level: FormatLevel::NEWEST.0,
        standing: status.standing.map(|standing| name_of(standing).to_owned()),
        members: MemberReport::all(status),
        ready: status.why_not_ready(),
        ballot: status.ballot.to_string(),
        chosen: status.chosen.0.max(applied.0),
        applied: applied.0,
        lag: status.known_chosen.0.saturating_sub(applied.0),
        founding: status.founding.map(|id| id.to_string()),
        waiting_for: status.waiting_for.iter().map(|node| node.0).collect(),
        refused: status.refused.iter().map(|node| node.0).collect(),
        diverged: status.diverged.iter().map(|node| node.0).collect(),
        repairs_through: status.repairs_through.map(|through| through.0),
        recovering: status.recovering.map(|recovering| recovering.to_string()),
        clock_ahead_milliseconds: status.clock_ahead_ms,
        misunderstood: status.misunderstood,
        digest: format!("{:016x}", status.digest.value),
        disk: measured.disk,
        clients: measured.clients,
        peers: status.peers.iter().map(PeerReport::from).collect(),
        certificates: status.certificates.iter().map(CertificateReport::from).collect(),
    }
}

fn name_of(standing: Standing) -> &'static str {
    match standing {
        Standing::Voter => "voter",
        Standing::Learner => "learner",
        Standing::Outsider => "outsider",
        Standing::Removed { .. } => "removed",
        _ => "unknown",
    }
}

async fn render_metrics<S: StateMachine>(State(front): State<HttpFront<S>>) -> impl IntoResponse {
    if let Some(count) = front.client.session_count() {
        show_sessions(count);
    }
    // It fails only if the node ends.
    let _ = tokio::task::spawn_blocking(process::show).await;
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], front.metrics.render())
}
