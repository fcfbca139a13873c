//! Tells the service manager how the node is, in the protocol of systemd's `sd_notify`: datagrams of lines to
//! the socket that `NOTIFY_SOCKET` names. Without that variable nothing is told.
//!
//! | line | when |
//! |---|---|
//! | `READY=1` | once the node has recovered, so that it answers clients; a cluster without a quorum is no reason to wait |
//! | `STATUS=...` | what the node waits for or is, when that changes |
//! | `EXTEND_TIMEOUT_USEC=...` | while it recovers, so that its start may take as long as its log is |
//! | `WATCHDOG=1` | if `WATCHDOG_USEC` asks for it, as long as the driver goes on |
//! | `STOPPING=1` | when it has begun to stop |
//!
//! A service manager that does not read loses datagrams: the node never waits for it.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use paxos_node::kv::Store;
use paxos_node::{Client, Role, Status};
use tokio::time::MissedTickBehavior;

/// How often the status is looked at; more often if the watchdog is impatient.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How much longer the start may take, told at each look: some looks may be late.
const EXTENSION: Duration = Duration::from_secs(30);
/// The watchdog hears of the driver this many times within its time.
const FEEDS: u32 = 4;

/// The way to the service manager.
#[derive(Debug)]
pub(super) struct Supervisor {
    socket: UnixDatagram,
    /// The silence after which the service manager ends the node.
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The service manager that the environment names, if it does.
    pub(super) fn of_environment() -> Option<Supervisor> {
        let address = std::env::var("NOTIFY_SOCKET").ok().filter(|address| !address.is_empty())?;
        match connect(&address) {
            Ok(socket) => Some(Supervisor { socket, watchdog: watchdog() }),
            Err(error) => {
                tracing::warn!(%error, address, "the service manager that NOTIFY_SOCKET names can't be reached");
                None
            }
        }
    }

    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    fn tell(&self, lines: &str) {
        if let Err(error) = self.socket.send(lines.as_bytes()) {
            tracing::debug!(%error, lines, "the service manager was not told");
        }
    }

    /// Tells how the node of `client` is, as long as it runs.
    pub(super) async fn watch(&self, client: Client<Store>) {
        let interval = self.watchdog.map_or(LOOK_INTERVAL, |patience| LOOK_INTERVAL.min(patience / FEEDS));
        let mut clock = tokio::time::interval(interval);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut is_ready, mut told) = (false, String::new());
        loop {
            clock.tick().await;
            let status = client.status().borrow().clone();
            let mut lines = Vec::new();
            let words = in_words(&status);
            if words != told {
                lines.push(format!("STATUS={words}"));
                told = words;
            }
            if status.recovering.is_some() {
                lines.push(format!("EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros()));
            } else if !is_ready {
                is_ready = true;
                lines.push(String::from("READY=1"));
            }
            if self.watchdog.is_some_and(|patience| client.silence() < patience / 2) {
                lines.push(String::from("WATCHDOG=1"));
            }
            if !lines.is_empty() {
                self.tell(&lines.join("\n"));
            }
        }
    }
}

fn in_words(status: &Status) -> String {
    match (status.why_not_ready(), status.leader) {
        (Some(reason), _) => reason,
        (None, _) if status.role == Role::Leader => String::from("ready: leads"),
        (None, Some(leader)) => format!("ready: follows node {leader}"),
        (None, None) => String::from("ready"),
    }
}

fn connect(address: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match address.strip_prefix('@') {
        None => socket.connect(address)?,
        Some(name) => connect_abstract(&socket, name)?,
    }
    Ok(socket)
}

#[cfg(target_os = "linux")]
fn connect_abstract(socket: &UnixDatagram, name: &str) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)
}

#[cfg(not(target_os = "linux"))]
fn connect_abstract(_: &UnixDatagram, _: &str) -> io::Result<()> {
    Err(io::Error::other("only Linux has sockets without a path"))
}

/// The time of the watchdog, if it watches this process.
fn watchdog() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let is_of_other = number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id()));
    let micros = number("WATCHDOG_USEC").filter(|micros| *micros > 0 && !is_of_other)?;
    Some(Duration::from_micros(micros))
}
