//! *bare-store*: three processes that do what a durable, replicated store over QUIC has to do and nothing
//! else.
//!
//! They are the three of *bare*, with the same batches and syncs, and with this beside them:
//!
//! - Copies and answers go over QUIC with mutual TLS: quinn with the settings of `paxos-transport`, on the
//!   certificates of a cluster, one stream each way between the leader and each follower.
//! - The leader parses what clients ask, PING, GET and SET of any key, and copies keys and values into a
//!   batch.
//! - A batch carries the CRC32C of what is in it, onto the disk too; a follower checks it on arrival.
//! - Each process applies each SET to a hash table, where a value overwrites the one before it in place. The
//!   leader does so before it answers, and followers when the next copy tells them what is chosen.
//! - A GET is answered when a follower has, after it arrived, heard and answered the leader; then the leader
//!   looks into its table.
//!
//! So what paxos-node costs above it is the price of the protocol and of all that is around it: ballots,
//! messages that may be lost or come twice, elections, recovery, sessions, snapshots, commands, limits.
//!
//! Each process is one thread, on which tokio, quinn and the disk's syncs take turns: while a process syncs,
//! what arrives waits in its socket and is taken in at once. A second thread for the disk cost more. A
//! process stays awake for a while after work, as a node does.
//!
//! What is under way is bounded by what the clients of the bench ask at once: no batch has more than
//! `MAX_COPY_BYTES`, or the leader ends.
//!
//! Deliberately absent is what is absent from *bare*, but for encryption, checksums, parsing and a state. It
//! is an error of the whole process if a connection breaks or a peer sends what it should not.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::Instant;

use paxos_core::NodeId;
use paxos_transport::TlsIdentity;
use paxos_transport::certs::write_cluster;

use super::super::disk::Disk;
use super::super::failure::Failure;
use super::super::node::NODES;
use crate::BUSY_POLL;

mod batch;
mod clients;
mod follower;
mod leader;
mod quic;
mod requests;

use self::follower::Follower;
use self::leader::Leader;
use self::quic::CLUSTER;

/// The leader's id; those of followers are behind it.
pub(super) const LEADER: u64 = 1;

/// Makes the certificates of all processes, and returns the directory that they are in.
pub(super) fn make_certificates(directory: &Path) -> Result<PathBuf, Failure> {
    let certificates = directory.join("certs");
    let nodes: Vec<NodeId> = (1..=NODES as u64).map(NodeId).collect();
    write_cluster(&certificates, CLUSTER, &nodes, &[])
        .map_err(|error| Failure::new(format!("bare-store has no certificates: {error}")))?;
    Ok(certificates)
}

/// Runs the leader.
pub(super) fn lead(
    listen: SocketAddr,
    disk: Disk,
    certificates: &Path,
    followers: &[SocketAddr],
) -> io::Result<()> {
    let identity = identity(certificates, LEADER)?;
    block_on(async { Leader::start(listen, disk, &identity, followers).await?.run().await })
}

/// Runs a follower.
pub(super) fn follow(listen: SocketAddr, disk: Disk, certificates: &Path, node: u64) -> io::Result<()> {
    let identity = identity(certificates, node)?;
    block_on(async { Follower::start(listen, disk, &identity).await?.run().await })
}

fn identity(certificates: &Path, node: u64) -> io::Result<TlsIdentity> {
    TlsIdentity::load(certificates, NodeId(node), CLUSTER).map_err(io::Error::other)
}

fn block_on(role: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(role)
}

/// Waits until `poll` is ready; for a while it polls instead of sleeping.
async fn stay_awake<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let since = Instant::now();
    let mut has_waited = false;
    loop {
        let is_awake = since.elapsed() < BUSY_POLL;
        let polled = poll_fn(|context| match poll(context) {
            Poll::Pending if is_awake => Poll::Ready(None),
            polled => polled.map(Some),
        });
        if let Some(value) = polled.await {
            return value;
        }
        if std::mem::replace(&mut has_waited, true) {
            // No task here has anything to do: another process may.
            std::thread::yield_now();
        }
        // The tasks of quinn run, and then the runtime looks at its sockets.
        tokio::task::yield_now().await;
    }
}
