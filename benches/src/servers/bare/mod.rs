//! Three processes that do what every replicated log has to do and nothing else: what the machine allows.
//!
//! The leader takes all that has come from its clients, sends it to two followers, writes and syncs it as they do, and
//! answers once one of them has. For reads it does the same without a write. Each process is one thread in which
//! it also syncs, so that nobody is woken but by the network, and which stays awake between them as a node does.
//!
//! Deliberately absent is all that makes it a protocol and a server: ballots, elections, recovery, retransmission,
//! checksums, encryption, parsing, a state. It serves no other clients than those of this bench, and knows a request by
//! its first bytes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser;
use mio::{Events, Poll};

use super::process::{Process, free_ports};
use super::server::{NODES, Node};
use super::{Failure, disk::Disk};
use crate::BUSY_POLL;

mod follower;
mod leader;

use self::follower::Follower;
use self::leader::Leader;

/// Before each copy its length; 0 asks for an answer only.
const LENGTH_BYTES: usize = 4;
/// More than all requests together that the bench has under way.
const MAX_COPY_BYTES: usize = 1 << 20;
const EVENTS: usize = 256;
/// A follower answers how many copies it has.
const ANSWER_BYTES: usize = 8;

/// What one of the processes is.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "bare",
    version,
    about = "One of three processes that copy and sync; started by the bench 'servers'"
)]
pub enum Role {
    /// Serves clients.
    Leader {
        /// Where they come to.
        #[arg(long)]
        listen: SocketAddr,
        /// What it writes to.
        #[arg(long)]
        log: PathBuf,
        /// Who gets a copy.
        #[arg(long = "follower")]
        followers: Vec<SocketAddr>,
    },
    /// Keeps copies.
    Follower {
        /// Where the leader comes to.
        #[arg(long)]
        listen: SocketAddr,
        /// What it writes to.
        #[arg(long)]
        log: PathBuf,
    },
}

impl Role {
    /// Plays it until standard input ends, or whoever it needs is gone.
    ///
    /// # Errors
    ///
    /// Of the disk and of the network.
    pub fn play(self) -> io::Result<()> {
        std::thread::spawn(|| {
            // Whatever it is, it has ended.
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            std::process::exit(0);
        });
        match self {
            Role::Leader { listen, log, followers } => {
                Leader::start(listen, Disk::create(&log)?, &followers)?.run()
            }
            Role::Follower { listen, log } => Follower::start(listen, Disk::create(&log)?)?.run(),
        }
    }
}

pub(super) fn start(program: &Path, directory: &Path) -> Result<Vec<Node>, Failure> {
    let addresses: Vec<SocketAddr> =
        free_ports(NODES).into_iter().map(|port| (Ipv4Addr::LOCALHOST, port).into()).collect();
    let (leader, followers) = addresses.split_first().expect("a cluster has nodes");
    let mut nodes = Vec::new();
    for address in &addresses {
        let role = if address == leader { "leader" } else { "follower" };
        let name = format!("{role}-{}", address.port());
        let mut command = Command::new(program);
        command.args([role, "--listen", &address.to_string()]);
        command.arg("--log").arg(directory.join(format!("{name}.data")));
        if address == leader {
            for follower in followers {
                command.args(["--follower", &follower.to_string()]);
            }
        }
        let process = Process::start(&name, command, directory)?;
        nodes.push(Node { process, clients: *address, status: *address });
    }
    Ok(nodes)
}

/// Waits until there are events, for a while without sleep.
fn wait(poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    let since = Instant::now();
    loop {
        let timeout = (since.elapsed() < BUSY_POLL).then_some(Duration::ZERO);
        match poll.poll(events, timeout) {
            // As it is when the process was paused.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        if !events.is_empty() {
            return Ok(());
        }
        std::thread::yield_now();
    }
}

fn unless_blocked<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
