//! The processes of a server.

use std::net::SocketAddr;

use super::process::Process;

/// How many nodes a cluster has.
pub(super) const NODES: usize = 3;

/// One process of a server.
pub(super) struct Node {
    pub(super) process: Process,
    /// Where it takes clients.
    pub(super) clients: SocketAddr,
    /// Where it answers who leads.
    pub(super) status: SocketAddr,
}
