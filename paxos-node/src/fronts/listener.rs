//! The accept loop of a front: how many connections are open at once, what happens when the system has no
//! more of them, and how a front stops.
//!
//! It guarantees that no more than [`Listener::max_connections`] are served at once, that a connection beyond
//! them is told why it ends, and that an error of the system - no file descriptor is left, say - pauses the
//! loop instead of ending or spinning it, and is logged once. What a connection carries is its front's
//! affair, and so are the bounds on memory and time of each.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// How long to wait after accepting has failed, for example because there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a front takes connections, and how many.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    /// What the log calls those that connect, such as `HTTP clients`.
    pub(crate) clients: &'static str,
    /// How many connections are served at once.
    pub(crate) max_connections: usize,
    /// What a connection beyond them gets before it is closed.
    pub(crate) refusal: &'static [u8],
    /// How often `upkeep` is called while the front listens.
    pub(crate) upkeep_interval: Duration,
    pub(crate) counts: Arc<ConnectionCounts>,
}

/// How many connections a front has and had since it was started.
#[derive(Debug, Default)]
pub(crate) struct ConnectionCounts {
    open: AtomicUsize,
    accepted: AtomicU64,
    refused: AtomicU64,
}

impl ConnectionCounts {
    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections that were served, those that are open included.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections that were refused because too many were open.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Listener {
    /// Serves connections until `stop` turns true or its sender is gone, then waits for those that are open.
    ///
    /// `serve` makes the future that serves a connection; its second argument is the connection's number,
    /// counted from 1. Each future runs in a task of its own, and has to watch for `stop` itself.
    pub(crate) async fn serve<F>(
        self,
        mut stop: watch::Receiver<bool>,
        mut upkeep: impl FnMut(),
        mut serve: impl FnMut(TcpStream, u64) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut accept_errors = AcceptErrors { clients: self.clients, is_failing: false };
        let mut upkeep_ticks = tokio::time::interval(self.upkeep_interval);
        upkeep_ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                _ = upkeep_ticks.tick() => {
                    upkeep();
                    continue;
                }
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let Some((stream, _)) = accept_errors.check(accepted).await else { continue };
            let Some((open, number)) = OpenConnection::new(&self.counts, self.max_connections) else {
                // It fits into the socket's buffer, to which nothing was written; the client may not read it.
                let _ = stream.try_write(self.refusal);
                continue;
            };
            let served = serve(stream, number);
            connections.spawn(async move {
                served.await;
                drop(open);
            });
        }
        while connections.join_next().await.is_some() {}
    }
}

/// Counts a connection as open until it is dropped, also if the connection's task panics.
struct OpenConnection(Arc<ConnectionCounts>);

impl OpenConnection {
    /// The connection with its number; `None` if as many are open as may be.
    fn new(counts: &Arc<ConnectionCounts>, max_connections: usize) -> Option<(OpenConnection, u64)> {
        // Several accept loops may count together.
        let one_more = |open: usize| (open < max_connections).then_some(open + 1);
        if counts.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            counts.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let number = counts.accepted.fetch_add(1, Ordering::Relaxed) + 1;
        Some((OpenConnection(Arc::clone(counts)), number))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Logs once when the system lets no more connections be accepted, and once when it does again.
#[derive(Debug)]
struct AcceptErrors {
    clients: &'static str,
    is_failing: bool,
}

impl AcceptErrors {
    /// The connection, if there is one; pauses if the system has failed to accept any.
    async fn check<T>(&mut self, accepted: io::Result<T>) -> Option<T> {
        match accepted {
            Ok(accepted) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::warn!("connections of {} are accepted again", self.clients);
                }
                Some(accepted)
            }
            Err(error) if is_of_one_connection(&error) => None,
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(%error, "connections of {} can't be accepted for now", self.clients);
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }
}

/// Whether only one connection has failed, before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_connection_beyond_the_limit_is_told_so_and_a_place_is_free_again_after_a_panic() {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("there are free ports");
        let address = socket.local_addr().expect("it is bound");
        let counts = Arc::<ConnectionCounts>::default();
        let listener = Listener {
            socket,
            clients: "clients",
            max_connections: 1,
            refusal: b"full",
            upkeep_interval: Duration::from_secs(1),
            counts: Arc::clone(&counts),
        };
        let (stop, stopped) = watch::channel(false);
        let serve = |mut stream: TcpStream, _| async move {
            let read = stream.read_u8().await;
            assert!(read.is_ok(), "the first client sends nothing, so this task panics");
        };
        let served = tokio::spawn(listener.serve(stopped, || (), serve));
        let first = TcpStream::connect(address).await.expect("it listens");
        let mut told = String::new();
        let mut second = TcpStream::connect(address).await.expect("it listens");
        second.read_to_string(&mut told).await.expect("it is closed in order");
        assert_eq!((told.as_str(), counts.open(), counts.accepted(), counts.refused()), ("full", 1, 1, 1));
        drop(first);
        while counts.open() > 0 {
            tokio::task::yield_now().await;
        }
        stop.send(true).expect("it listens");
        served.await.expect("the panic of a connection's task is not one of the loop");
    }
}
