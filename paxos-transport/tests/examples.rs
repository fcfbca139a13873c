//! The transports in `examples/` pass the conformance suite.
#![cfg(all(feature = "certs", feature = "memory", feature = "quic", feature = "tcp"))]
#![allow(dead_code, reason = "what the examples measure is not run here")]

#[path = "../examples/unix.rs"]
mod unix_example;

use paxos_transport::conformance;

#[cfg(unix)]
#[tokio::test]
async fn unix_sockets_conform_on_one_thread() {
    conformance::check(&mut unix_example::unix::Cluster::new()).await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unix_sockets_conform_on_several_threads() {
    conformance::check(&mut unix_example::unix::Cluster::new()).await;
}
