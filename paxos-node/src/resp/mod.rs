//! The front for Redis clients: RESP2 and RESP3 over TCP.
//!
//! Commands of a connection take effect in the order in which they were sent. Those that arrive together are cut
//! into runs: a run of writes becomes one command in the log, a run of reads shares one linearizable look at the
//! state. A `MULTI`/`EXEC` block is one command in the log.
//!
//! What a client is told when the cluster does not answer: `CLUSTERDOWN` if its command has certainly not been
//! applied and never will be, `TIMEOUT` if that is not known.
//!
//! Everything is bounded by [`Options`]: connections, requests, runs and what is buffered for slow readers.

mod command;
mod connection;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzzing;
mod parse;
mod session;
mod transaction;
mod write;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::connection::Connection;
use crate::client::Client;
use crate::kv::Store;

/// How long stopping waits for requests that are under way.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait after accepting has failed, for example because there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bounds of the front.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// How many clients may be connected; further ones get an error.
    pub max_clients: usize,
    /// The longest value, in bytes. A request with a longer one is answered with an error.
    pub max_value_bytes: usize,
    /// The longest key, in bytes.
    pub max_key_bytes: usize,
    /// How many arguments a request may have, the command included; one with more ends the connection.
    pub max_arguments: usize,
    /// How many bytes a run of writes may have: they become one command in the log.
    pub max_run_bytes: usize,
    /// How many commands a transaction may have.
    pub max_transaction: usize,
    /// How long a client may take nothing of its replies, which wait in a buffer of bounded size, before it is
    /// cut off.
    pub write_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            max_clients: 10_000,
            max_value_bytes: 1 << 20,
            max_key_bytes: 64 << 10,
            max_arguments: 64 << 10,
            max_run_bytes: 256 << 10,
            max_transaction: 16 << 10,
            write_timeout: Duration::from_secs(30),
        }
    }
}

impl Options {
    /// The longest single argument that is read at all; anything longer ends the connection.
    fn max_argument_bytes(&self) -> usize {
        self.max_value_bytes.max(self.max_key_bytes) + (64 << 10)
    }

    /// The longest request that is read at all: several values of full length.
    fn max_request_bytes(&self) -> usize {
        4 * self.max_argument_bytes()
    }
}

/// Serves Redis clients until `stop` turns true; then finishes what is under way.
///
/// # Errors
///
/// None at present: a connection that can't be accepted is tried again.
pub async fn serve(
    listener: TcpListener,
    client: Client<Store>,
    options: Options,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let shared = Arc::new(Shared { connected: AtomicUsize::new(0), next_id: AtomicU64::new(1), options });
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if shared.connected.fetch_add(1, Ordering::Relaxed) >= options.max_clients {
            shared.connected.fetch_sub(1, Ordering::Relaxed);
            refuse(stream).await;
            continue;
        }
        let (shared, client, stop) = (Arc::clone(&shared), client.clone(), stop.clone());
        connections.spawn(async move {
            let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
            if let Ok(connection) = Connection::new(stream, client, Arc::clone(&shared), id) {
                let result = connection.run(stop).await;
                tracing::debug!(client = id, ?result, "a client is gone");
            }
            shared.connected.fetch_sub(1, Ordering::Relaxed);
        });
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    connected: AtomicUsize,
    next_id: AtomicU64,
    options: Options,
}

async fn refuse(mut stream: TcpStream) {
    // Whether the client reads it is its own affair.
    let line = stream.write_all(b"-ERR max number of clients reached\r\n");
    let _ = tokio::time::timeout(ACCEPT_PAUSE, line).await;
}
