//! The address on which a node listens for peers: the one that the user gives, or this node's own entry in
//! `--peers`.
//!
//! That entry may be a name that other machines look up. On the node's own machine the name may have an
//! address of loopback (Debian gives each machine 127.0.1.1) or none yet, and peers on other machines could
//! not reach a node that listens there. As the port is known, the node then listens on all addresses, which
//! only peers with a certificate can use.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::mpsc;
use std::time::Duration;

use paxos_core::NodeId;

use super::Failure;

/// How long to wait for the look-up of this node's own name.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);

/// The address to listen on: `given`, or the entry of node `id` in `peers`, which must have one then.
pub(super) fn address(
    given: Option<&str>,
    id: NodeId,
    peers: &BTreeMap<NodeId, String>,
) -> Result<SocketAddr, Failure> {
    if let Some(given) = given {
        return resolve("listen", given);
    }
    let own = &peers[&id];
    if own.parse::<SocketAddr>().is_ok() {
        return resolve("peers", own);
    }
    let others = peers.iter().filter(|(peer, _)| **peer != id).map(|(_, entry)| entry.as_str());
    let are_elsewhere = others.into_iter().any(|other| is_elsewhere(own, other));
    match choose(look_up(own.clone()), are_elsewhere) {
        Ok(address) => Ok(address),
        Err(problem) => {
            let (_, port) = host_and_port(own);
            let address = SocketAddr::new(wildcard(), port);
            tracing::warn!(
                "this node's own address {own} {problem}; listening for peers on all addresses instead ({address}): \
                 name another one with --listen if that is too many"
            );
            Ok(address)
        }
    }
}

/// The first address that `HOST:PORT` stands for.
pub(super) fn resolve(option: &str, address: &str) -> Result<SocketAddr, Failure> {
    let fail = |problem: String| Failure::usage(format!("--{option} {address}: {problem}"));
    let mut addresses = address.to_socket_addrs().map_err(|error| fail(error.to_string()))?;
    addresses.next().ok_or_else(|| fail(String::from("the name has no address")))
}

/// The address, of those that were found, on which peers can reach this node, or why there is none.
fn choose(found: io::Result<Vec<SocketAddr>>, are_elsewhere: bool) -> Result<SocketAddr, String> {
    let found = found.map_err(|error| format!("can't be looked up ({error})"))?;
    let is_good = |address: &&SocketAddr| !are_elsewhere || !address.ip().is_loopback();
    match (found.iter().find(is_good), found.first()) {
        (Some(address), _) => Ok(*address),
        (None, Some(loopback)) => Err(format!(
            "stands for {} on this machine, where peers on others do not reach it",
            loopback.ip()
        )),
        (None, None) => Err(String::from("has no address")),
    }
}

/// Whether a peer is on another machine than this node, as far as their entries show.
fn is_elsewhere(own: &str, other: &str) -> bool {
    let ((own, _), (other, _)) = (host_and_port(own), host_and_port(other));
    let is_loopback = other.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    own != other && other != "localhost" && !is_loopback
}

/// The parts of an entry; its form has been checked when the options were read.
fn host_and_port(entry: &str) -> (&str, u16) {
    let (host, port) = entry.rsplit_once(':').unwrap_or((entry, ""));
    (host, port.parse().unwrap_or_default())
}

fn look_up(name: String) -> io::Result<Vec<SocketAddr>> {
    let (answer, answered) = mpsc::channel();
    std::thread::Builder::new().name(String::from("name look-up")).spawn(move || {
        // If it took too long, nothing waits for the answer any more.
        let _ = answer.send(name.to_socket_addrs().map(Iterator::collect));
    })?;
    let too_slow = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {LOOKUP_TIMEOUT:?}"));
    answered.recv_timeout(LOOKUP_TIMEOUT).unwrap_or_else(|_| Err(too_slow()))
}

/// All addresses of this machine: of both families, if it has both.
fn wildcard() -> IpAddr {
    let all = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    if UdpSocket::bind((all, 0)).is_ok() { all } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(addresses: &[&str]) -> Vec<SocketAddr> {
        addresses.iter().map(|address| address.parse().expect("it is an address")).collect()
    }

    #[test]
    fn loopback_is_for_peers_on_the_same_machine_only() {
        let loopback = || Ok(found(&["127.0.1.1:9001"]));
        assert_eq!(choose(loopback(), false), Ok(([127, 0, 1, 1], 9001).into()));
        assert!(choose(loopback(), true).is_err_and(|problem| problem.contains("stands for 127.0.1.1")));
        let both = found(&["127.0.1.1:9001", "10.0.0.1:9001"]);
        assert_eq!(choose(Ok(both), true), Ok(([10, 0, 0, 1], 9001).into()));
        assert!(choose(Ok(Vec::new()), true).is_err());
        let unknown = Err(io::Error::other("no such name"));
        assert_eq!(choose(unknown, false), Err(String::from("can't be looked up (no such name)")));
    }

    #[test]
    fn peers_of_the_same_host_are_not_elsewhere() {
        for other in ["a:9002", "localhost:9002", "127.0.0.1:9002", "[::1]:9002"] {
            assert!(!is_elsewhere("a:9001", other), "{other}");
        }
        for other in ["b:9001", "10.0.0.1:9001", "[fd00::1]:9001"] {
            assert!(is_elsewhere("a:9001", other), "{other}");
        }
    }
}
