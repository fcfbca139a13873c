//! Three processes that do what every replicated log has to do and nothing else: what the machine allows.
//!
//! The leader takes the requests that have arrived, sends them to two followers, writes and syncs them as the
//! followers do, and answers when one follower has synced them. For reads it does the same without a write.
//! Each process is one thread, which also syncs, so that only the network wakes it; like a node it stays
//! awake for a while after work.
//!
//! Deliberately absent is all that makes it a protocol and a server: ballots, elections, recovery,
//! retransmission, checksums, encryption, parsing, a state. It serves only the clients of this bench, and
//! knows a request by its first bytes. [`store`] adds what a durable store over QUIC can't do without.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::{Args, Parser};
use mio::{Events, Poll};

use super::disk::Disk;
use super::failure::Failure;
use super::node::{NODES, Node};
use super::process::{Process, free_ports};
use crate::BUSY_POLL;

mod follower;
mod leader;
mod store;

use self::follower::Follower;
use self::leader::Leader;

/// The length in front of each copy; 0 only asks for an answer.
const LENGTH_BYTES: usize = 4;
/// More than all requests that the bench has under way together.
const MAX_COPY_BYTES: usize = 1 << 20;
const EVENTS: usize = 256;
/// A follower's answer: how many copies it has.
const ANSWER_BYTES: usize = 8;

/// The role of one of the processes.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "bare",
    version,
    about = "One of three processes that copy and sync; started by the bench 'servers'"
)]
pub enum Role {
    /// Serves clients.
    Leader {
        /// Where it listens and writes.
        #[command(flatten)]
        place: Place,
        /// The addresses of the followers.
        #[arg(long = "follower")]
        followers: Vec<SocketAddr>,
    },
    /// Keeps copies.
    Follower {
        /// Where it listens and writes.
        #[command(flatten)]
        place: Place,
    },
    /// Serves clients, as the leader of a store over QUIC.
    StoreLeader {
        /// Where it listens and writes.
        #[command(flatten)]
        place: Place,
        /// The directory with the certificates.
        #[arg(long)]
        certs: PathBuf,
        /// The addresses of the followers: those of nodes 2 and 3.
        #[arg(long = "follower")]
        followers: Vec<SocketAddr>,
    },
    /// Keeps copies for the leader of a store over QUIC.
    StoreFollower {
        /// Where it listens and writes.
        #[command(flatten)]
        place: Place,
        /// The directory with the certificates.
        #[arg(long)]
        certs: PathBuf,
        /// Which node it is.
        #[arg(long)]
        node: u64,
    },
}

/// Where a process listens and writes.
#[derive(Args, Clone, Debug)]
pub struct Place {
    /// The address for clients, or for the leader.
    #[arg(long)]
    listen: SocketAddr,
    /// The file to write to.
    #[arg(long)]
    log: PathBuf,
}

impl Place {
    fn disk(&self) -> io::Result<Disk> {
        Disk::create(&self.log)
    }
}

impl Role {
    /// Runs the process until standard input ends, or the connection that it needs is gone.
    ///
    /// # Errors
    ///
    /// Those of the disk and of the network.
    pub fn play(self) -> io::Result<()> {
        std::thread::spawn(|| {
            // Standard input has ended, or failed.
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            std::process::exit(0);
        });
        match self {
            Role::Leader { place, followers } => {
                Leader::start(place.listen, place.disk()?, &followers)?.run()
            }
            Role::Follower { place } => Follower::start(place.listen, place.disk()?)?.run(),
            Role::StoreLeader { place, certs, followers } => {
                store::lead(place.listen, place.disk()?, &certs, &followers)
            }
            Role::StoreFollower { place, certs, node } => {
                store::follow(place.listen, place.disk()?, &certs, node)
            }
        }
    }
}

/// Starts *bare*.
pub(super) fn start(program: &Path, directory: &Path) -> Result<Vec<Node>, Failure> {
    start_all(program, directory, None)
}

/// Starts *bare-store*.
pub(super) fn start_store(program: &Path, directory: &Path) -> Result<Vec<Node>, Failure> {
    let certificates = store::make_certificates(directory)?;
    start_all(program, directory, Some(&certificates))
}

/// Starts three processes, those of *bare-store* if there are certificates.
fn start_all(program: &Path, directory: &Path, certificates: Option<&Path>) -> Result<Vec<Node>, Failure> {
    let addresses: Vec<SocketAddr> =
        free_ports(NODES).into_iter().map(|port| (Ipv4Addr::LOCALHOST, port).into()).collect();
    let (leader, followers) = addresses.split_first().expect("a cluster has nodes");
    let mut nodes = Vec::new();
    for (node, address) in (store::LEADER..).zip(&addresses) {
        let kind = if certificates.is_some() { "store-" } else { "" };
        let role = format!("{kind}{}", if address == leader { "leader" } else { "follower" });
        let name = format!("{role}-{node}");
        let mut command = Command::new(program);
        command.args([&role, "--listen", &address.to_string()]);
        command.arg("--log").arg(directory.join(format!("{name}.data")));
        if let Some(certificates) = certificates {
            command.arg("--certs").arg(certificates);
        }
        if address == leader {
            command.args(followers.iter().map(|follower| format!("--follower={follower}")));
        } else if certificates.is_some() {
            command.args(["--node", &node.to_string()]);
        }
        let process = Process::start(&name, command, directory)?;
        nodes.push(Node { process, clients: *address, status: *address });
    }
    Ok(nodes)
}

/// Waits for events; for a while it polls instead of sleeping.
fn wait(poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    let since = Instant::now();
    loop {
        let timeout = (since.elapsed() < BUSY_POLL).then_some(Duration::ZERO);
        match poll.poll(events, timeout) {
            // This happens when the process was paused.
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
