//! The front for Redis clients: RESP2 and RESP3 over TCP.
//!
//! Commands of a connection take effect in the order in which they were sent. Those that arrive together are
//! cut into runs: a run of writes becomes one command in the log, a run of reads shares one linearizable read
//! of the state. A `MULTI`/`EXEC` block is one command in the log, together with what the client has seen of
//! the keys that it watches: so it is carried out only if they have not changed, on whatever node they were.
//!
//! When the cluster does not answer, the client gets `CLUSTERDOWN` if its command was not applied and never
//! will be, `TIMEOUT` if that is not known, and `LOADING` while the node still reads its log. What a
//! client sent in one go with such a command is refused with it, even if the node could carry it out by then.
//!
//! [`RespSettings`] bounds everything: connections, requests, runs and buffers of replies.
//!
//! [`Ports`] says where clients come in, plainly or by TLS, and who they may be. Without users everybody who
//! reaches a port may do everything.
//!
//! Where a command goes: `parse` cuts the stream into requests, `commands` finds the command's row,
//! `operations` (with `conditions`, `values` and `keyspace`) makes an operation of it, and `run` has the
//! cluster carry it out; `local` answers what does not concern the store. What a client may do is checked
//! between the first two, by the rules in `users`.

mod absent;
mod acl;
mod categories;
mod client;
mod clients;
mod commands;
mod conditions;
mod config;
mod connection;
mod describe;
mod errors;
mod expiry;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzzing;
mod info;
mod inline;
mod keepalive;
mod keyspace;
mod local;
mod logins;
mod operations;
mod parse;
mod pubsub;
mod run;
mod scripts;
mod stream;
mod tls;
mod transaction;
pub mod users;
mod values;
mod warnings;
mod watched;
mod words;
mod write;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use self::connection::Connection;
use self::logins::Logins;
use self::stream::Stream;
use self::tls::Handshakes;
pub use self::tls::{ClientTls, ClientTlsError};
use self::users::SharedUsers;
use self::warnings::Warnings;
use super::budget::{Budget, SWEEP_INTERVAL};
use super::listener::{ConnectionCounts, Listener};
use crate::client::Client;
use crate::kv::Store;
use crate::runtime::metrics;

const TOO_MANY_CLIENTS: &[u8] = b"-ERR max number of clients reached\r\n";
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

/// Where clients come in, and who they may be.
///
/// All ports together serve [`RespSettings::max_clients`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Ports {
    /// For clients without TLS. Whoever is between them and the node reads and changes everything, passwords
    /// included.
    pub plain: Option<TcpListener>,
    /// For clients with TLS 1.3.
    pub tls: Option<(TcpListener, ClientTls)>,
    /// Who clients may be. Without users everybody may do everything.
    pub users: Option<SharedUsers>,
}

impl Ports {
    /// These ports with a change.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Ports)) -> Ports {
        change(&mut self);
        self
    }
}

/// Serves Redis clients on one port, plainly and without users. See [`serve_on`].
///
/// # Errors
///
/// As [`serve_on`].
pub async fn serve(
    socket: TcpListener,
    client: Client<Store>,
    settings: RespSettings,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    serve_on(Ports { plain: Some(socket), ..Ports::default() }, client, settings, stop).await
}

/// Serves Redis clients until `stop` turns true, then finishes the requests under way.
///
/// # Errors
///
/// If the thread for the handshakes of TLS can't be started. A connection that can't be accepted is none:
/// that is tried again.
pub async fn serve_on(
    ports: Ports,
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
        users: ports.users,
        logins: Logins::default(),
        login_warnings: Warnings::default(),
        handshake_warnings: Warnings::default(),
        registry: Arc::default(),
        clients: Arc::default(),
        traffic: Traffic::default(),
        commands: commands::COMMANDS.iter().map(|_| AtomicU64::new(0)).collect(),
        run_id: fastrand::u128(..),
    });
    metrics::describe_clients();
    let plain = async {
        if let Some(socket) = ports.plain {
            front.listen(socket, None, client.clone(), stop.clone()).await;
        }
    };
    let handshakes = match ports.tls {
        Some((socket, tls)) => Some((socket, Arc::new(Handshakes::start(tls)?))),
        None => None,
    };
    let tls = async {
        if let Some((socket, handshakes)) = handshakes {
            front.listen(socket, Some(handshakes), client.clone(), stop.clone()).await;
        }
    };
    tokio::join!(plain, tls);
    Ok(())
}

impl RespFront {
    /// Serves the clients of a port: with TLS if there are `handshakes`.
    async fn listen(
        self: &Arc<Self>,
        socket: TcpListener,
        handshakes: Option<Arc<Handshakes>>,
        client: Client<Store>,
        stop: watch::Receiver<bool>,
    ) {
        let listener = Listener {
            socket,
            clients: "Redis clients",
            max_connections: self.settings.max_clients,
            // Without a handshake nothing can be said to a client with TLS.
            refusal: if handshakes.is_some() { &[] } else { TOO_MANY_CLIENTS },
            upkeep_interval: SWEEP_INTERVAL,
            counts: Arc::clone(&self.counts),
        };
        let (budget, front) = (Arc::clone(&self.budget), Arc::clone(self));
        let upkeep = move || {
            budget.sweep();
            metrics::show_client_buffers(budget.used_bytes());
            front.show_counts();
        };
        let stopped = stop.clone();
        let serve_connection = move |stream: TcpStream, id| {
            let (front, client, mut stop) = (Arc::clone(self), client.clone(), stopped.clone());
            let handshakes = handshakes.clone();
            async move {
                let stream = tokio::select! {
                    stream = front.set_up(stream, handshakes.as_deref()) => stream,
                    _ = stop.wait_for(|stop| *stop) => return,
                };
                let Some(stream) = stream else { return };
                let result = Connection::new(stream, client, front, id).run(stop).await;
                tracing::debug!(client = id, ?result, "a client's connection has ended");
            }
        };
        listener.serve(stop, upkeep, serve_connection).await;
    }

    /// Counts a command that has come.
    fn count_command(&self, command: &'static commands::Command) {
        if let Some(count) = self.commands.get(commands::place_of(command)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Shows in metrics what clients have done.
    fn show_counts(&self) {
        metrics::show_clients(&metrics::ClientCounts {
            open: self.counts.open(),
            accepted: self.counts.accepted(),
            refused: self.counts.refused(),
            received_bytes: self.traffic.received_bytes.load(Ordering::Relaxed),
            sent_bytes: self.traffic.sent_bytes.load(Ordering::Relaxed),
        });
        for (command, count) in commands::COMMANDS.iter().zip(&self.commands) {
            // Those that nobody uses are left out.
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                metrics::show_command(command.name, count);
            }
        }
    }

    /// Sets up the stream to a client; `None` if that fails.
    async fn set_up(&self, socket: TcpStream, handshakes: Option<&Handshakes>) -> Option<Stream> {
        let from = socket.peer_addr().ok()?.ip().to_canonical();
        keepalive::set_up(&socket, self.settings.keepalive).ok()?;
        let Some(handshakes) = handshakes else { return Some(Stream::Plain(socket)) };
        let error = match handshakes.make(socket).await {
            Ok(stream) => {
                metrics::on_client_handshake();
                return Some(stream);
            }
            Err(error) => error,
        };
        metrics::on_client_handshake_failed();
        // Whoever only looks whether the port is open is no trouble.
        if error.kind() != io::ErrorKind::UnexpectedEof
            && let Some(count) = self.handshake_warnings.count(Instant::now())
        {
            tracing::warn!(%from, count, %error, "clients have failed in their TLS handshake, the last one from there");
        }
        None
    }
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
    users: Option<SharedUsers>,
    logins: Logins,
    login_warnings: Warnings,
    handshake_warnings: Warnings,
    /// Who listens to what.
    registry: Arc<pubsub::Registry>,
    /// Who is connected.
    clients: Arc<clients::Clients>,
    traffic: Traffic,
    /// How often each command was sent, in the order of the table.
    commands: Box<[AtomicU64]>,
    /// A number that differs after each start.
    run_id: u128,
}

/// What went to and fro since the front was started.
#[derive(Debug, Default)]
struct Traffic {
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}
