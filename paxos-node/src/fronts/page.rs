//! The page for people at `/`, and the events that keep it up to date at `/events`.
//!
//! The page is one file without anything from elsewhere. Each event holds the status and the metrics that the
//! page shows, as JSON. Who reads too slowly misses events, and nobody waits.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::MissedTickBehavior;

use super::http::{HttpFront, StatusReport, report};
use super::measured::Measured;
use super::{process, recorder::MetricsHandle};
use crate::state_machine::StateMachine;

/// How many may listen to events at once; a further one gets a 503.
pub const MAX_LISTENERS: usize = 8;
/// How often listeners get an event.
pub const EVENT_INTERVAL: Duration = Duration::from_secs(1);

const PAGE: &str = include_str!("page.html");
/// The page may load nothing, and asks nobody but this node.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                      frame-ancestors 'none'; base-uri 'none'";
/// What the page shows of the metrics, by the beginnings of their names.
const SHOWN: [&str; 5] = [
    "paxos_commands_total",
    "paxos_reads_total",
    "paxos_command_seconds_bucket",
    "paxos_disk_write_seconds_bucket",
    "process_resident_memory_bytes",
];

pub(super) async fn page() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE)
}

/// Sends events as long as the connection lasts; then the browser makes another one.
pub(super) async fn events<S: StateMachine>(State(front): State<HttpFront<S>>) -> Response {
    let Ok(place) = Arc::clone(&front.listeners).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many listen to events already\n").into_response();
    };
    let (events_to, events) = mpsc::channel(1);
    tokio::spawn(send_events(front, events_to, place));
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::new(Events(events))).into_response()
}

async fn send_events<S: StateMachine>(
    front: HttpFront<S>,
    events: mpsc::Sender<Bytes>,
    _place: OwnedSemaphorePermit,
) {
    let (mut clock, mut stop) = (tokio::time::interval(EVENT_INTERVAL), front.stop.clone());
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let began = Instant::now();
    loop {
        tokio::select! {
            _ = clock.tick() => {}
            () = events.closed() => return,
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let (metrics, now_seconds) = (front.metrics.clone(), began.elapsed().as_secs_f64());
        // To render all metrics takes a while, which the thread of the driver does not have.
        let read = tokio::task::spawn_blocking(move || (shown(&metrics), Measured::read(&metrics))).await;
        let (shown, measured) = read.unwrap_or_default();
        let status = report(&front.client.status().borrow(), measured);
        let event = Event { status, metrics: shown, now_seconds };
        let json = serde_json::to_string(&event).expect("it has no maps but those with names for keys");
        // One that has not read the last event misses this one.
        let _ = events.try_send(Bytes::from(format!("retry: 500\ndata: {json}\n\n")));
    }
}

#[derive(Serialize)]
struct Event {
    status: StatusReport,
    metrics: BTreeMap<String, f64>,
    /// Counts from some moment on, for rates.
    now_seconds: f64,
}

fn shown(metrics: &MetricsHandle) -> BTreeMap<String, f64> {
    process::show();
    metrics.samples(&SHOWN)
}

/// The body of an answer that goes on as long as there are events.
struct Events(mpsc::Receiver<Bytes>);

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}
