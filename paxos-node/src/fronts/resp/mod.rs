//! The front for Redis clients: RESP2 and RESP3 over TCP.
//!
//! Commands of a connection take effect in the order in which they were sent. Those that arrive together are
//! cut into runs: a run of writes becomes one command in the log, a run of reads shares one linearizable read
//! of the state. A `MULTI`/`EXEC` block is one command in the log.
//!
//! When the cluster does not answer, the client gets `CLUSTERDOWN` if its command was not applied and never
//! will be, `TIMEOUT` if that is not known, and `LOADING` while the node still reads its log. What a
//! client sent in one go with such a command is refused with it, even if the node could carry it out by then.
//!
//! [`RespSettings`] bounds everything: connections, requests, runs and buffers of replies.
//!
//! Where a command goes: `parse` cuts the stream into requests, `commands` finds the command's row,
//! `operations` makes an operation of it, and `run` has the cluster carry it out; `local` answers what does
//! not concern the store.

mod commands;
mod connection;
mod errors;
mod expiry;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzzing;
mod info;
mod inline;
mod keepalive;
mod local;
mod operations;
mod parse;
mod run;
mod transaction;
mod words;
mod write;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use self::connection::Connection;
use super::budget::{Budget, SWEEP_INTERVAL};
use super::listener::{ConnectionCounts, Listener};
use crate::client::Client;
use crate::kv::Store;
use crate::runtime::metrics;

/// How long a node that stops waits for requests under way.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(300);

/// Bounds of the front.
///
/// ```
/// use paxos_node::fronts::resp::RespSettings;
///
/// let settings = RespSettings::default().with(|settings| settings.max_clients = 100);
/// # assert_eq!(settings.max_clients, 100);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RespSettings {
    /// How many clients may be connected; a further one gets an error.
    pub max_clients: usize,
    /// The longest value, in bytes. A request with a longer one is answered with an error.
    pub max_value_bytes: usize,
    /// The longest key, in bytes.
    pub max_key_bytes: usize,
    /// How many arguments a request may have, the command's name included. A request with more is answered
    /// with an error.
    pub max_arguments: usize,
    /// How many bytes a run of writes may have, which becomes one command in the log.
    pub max_run_bytes: usize,
    /// How many commands a transaction may have.
    pub max_transaction: usize,
    /// How many bytes the requests and replies of all clients together may take, beside 8 KiB for each
    /// client. A client whose request does not fit waits. So that none waits for ever, the front then
    /// disconnects clients that neither send the rest of a request nor read their replies, the one that has
    /// been silent for longest first.
    pub buffer_bytes: usize,
    /// A client that reads nothing of its replies for this long is disconnected.
    pub write_timeout: Duration,
    /// After this long without a packet of a client the system probes whether its machine is still there, and
    /// disconnects it after as long again if not. `None`: never, and clients whose machine vanished stay
    /// connected.
    pub keepalive: Option<Duration>,
    /// A client that sends nothing for this long is disconnected. `None`: never.
    pub idle_timeout: Option<Duration>,
}

impl Default for RespSettings {
    fn default() -> Self {
        RespSettings {
            max_clients: 10_000,
            max_value_bytes: 1 << 20,
            max_key_bytes: 64 << 10,
            max_arguments: 64 << 10,
            max_run_bytes: 256 << 10,
            max_transaction: 16 << 10,
            buffer_bytes: 256 << 20,
            write_timeout: Duration::from_secs(30),
            keepalive: Some(Duration::from_secs(60)),
            idle_timeout: None,
        }
    }
}

impl RespSettings {
    /// These settings with a change.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut RespSettings)) -> RespSettings {
        change(&mut self);
        self
    }

    /// The longest argument that is kept. The rest of a request with a longer one is read and dropped, and
    /// the client gets an error.
    fn max_argument_bytes(&self) -> usize {
        self.max_value_bytes.max(self.max_key_bytes) + (64 << 10)
    }

    /// The longest request that is kept: a few values of full length.
    fn max_request_bytes(&self) -> usize {
        4 * self.max_argument_bytes()
    }
}

/// Serves Redis clients until `stop` turns true, then finishes the requests under way.
///
/// # Errors
///
/// None at present: a connection that can't be accepted is tried again.
pub async fn serve(
    socket: TcpListener,
    client: Client<Store>,
    settings: RespSettings,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let front = Arc::new(RespFront {
        counts: Arc::default(),
        requests: AtomicU64::new(0),
        started: Instant::now(),
        long_runs: Semaphore::new(run::LONG_RUNS),
        settings,
        budget: Budget::new(settings.buffer_bytes),
    });
    let listener = Listener {
        socket,
        clients: "Redis clients",
        max_connections: settings.max_clients,
        refusal: b"-ERR max number of clients reached\r\n",
        upkeep_interval: SWEEP_INTERVAL,
        counts: Arc::clone(&front.counts),
    };
    let budget = Arc::clone(&front.budget);
    let upkeep = move || {
        budget.sweep();
        metrics::show_client_buffers(budget.used_bytes());
    };
    let stopped = stop.clone();
    let serve_connection = move |stream, id| {
        let (front, client, stop) = (Arc::clone(&front), client.clone(), stopped.clone());
        async move {
            if let Ok(connection) = Connection::new(stream, client, front, id) {
                let result = connection.run(stop).await;
                tracing::debug!(client = id, ?result, "a client's connection has ended");
            }
        }
    };
    listener.serve(stop, upkeep, serve_connection).await;
    Ok(())
}

/// What all connections of the front share.
#[derive(Debug)]
struct RespFront {
    counts: Arc<ConnectionCounts>,
    /// Requests since the front was started.
    requests: AtomicU64,
    started: Instant,
    long_runs: Semaphore,
    settings: RespSettings,
    /// For what connections buffer.
    budget: Arc<Budget>,
}
