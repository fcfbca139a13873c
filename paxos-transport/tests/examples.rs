//! The transports in `examples/` pass the conformance suite.
#![cfg(all(feature = "certs", feature = "memory", feature = "quic", feature = "tcp"))]
#![allow(dead_code, reason = "what the examples measure is not run here")]
#![allow(clippy::duplicate_mod, reason = "each example has the module that they share")]

#[path = "../examples/noq.rs"]
mod noq_example;
#[path = "../examples/udp.rs"]
mod udp_example;
#[path = "../examples/unix.rs"]
mod unix_example;

use noq_example::Congestion;
use paxos_transport::conformance;

#[cfg(unix)]
#[tokio::test]
async fn unix_sockets_conform_on_one_thread() {
    conformance::check(&mut unix_example::unix::cluster()).await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unix_sockets_conform_on_several_threads() {
    conformance::check(&mut unix_example::unix::cluster()).await;
}

#[tokio::test]
async fn udp_conforms_on_one_thread() {
    conformance::check(&mut udp_example::cluster()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_conforms_on_several_threads() {
    conformance::check(&mut udp_example::cluster()).await;
}

#[tokio::test]
async fn noq_conforms_on_one_thread() {
    conformance::check(&mut noq_example::cluster(Congestion::Cubic)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noq_conforms_on_several_threads() {
    conformance::check(&mut noq_example::cluster(Congestion::Bbr3)).await;
}
