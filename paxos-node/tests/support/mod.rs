//! What test files share: nodes as processes with a Redis client to talk to them, and nodes within the test.

#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]

mod client;
#[cfg(feature = "memory")]
pub(crate) mod embedded;
mod processes;

pub(crate) use client::Client;
pub(crate) use processes::{Cluster, PATIENCE, free_port, last_line, paxos_node, run, wait, wait_telling};
