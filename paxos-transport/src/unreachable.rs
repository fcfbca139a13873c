//! Reasons why a peer is not connected, with advice for the operator.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Why a peer is not connected, as far as this node can know. The text says what is wrong, and [`advice`]
/// what the operator can do.
///
/// [`advice`]: Unreachable::advice
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unreachable {
    /// The first attempt to connect is still under way.
    #[error("it has not connected yet")]
    NotYet,
    /// The resolver does not find the peer's name.
    #[error("its name {name} can't be looked up: {problem}")]
    NameUnknown {
        /// The name, with its port.
        name: String,
        /// The resolver's error.
        problem: String,
    },
    /// The resolver does not answer in time. A late answer is used for the next attempt.
    #[error("looking up its name {name} takes longer than {limit:?}")]
    NameSlow {
        /// The name, with its port.
        name: String,
        /// How long an attempt waits for the answer.
        limit: Duration,
    },
    /// The peer's machine reports that no process listens there.
    #[error("nobody listens at {address} ({carrier})")]
    Refused {
        /// The peer's address.
        address: SocketAddr,
        /// The protocol below TLS.
        carrier: Carrier,
    },
    /// The address does not answer at all.
    #[error("no answer from {address} over {carrier}")]
    Silent {
        /// The peer's address.
        address: SocketAddr,
        /// The protocol below TLS.
        carrier: Carrier,
    },
    /// The address answers, but the handshake does not end in time.
    #[error("what listens at {address} ({carrier}) answers, but does not complete a handshake in time")]
    Unresponsive {
        /// The peer's address.
        address: SocketAddr,
        /// The protocol below TLS.
        carrier: Carrier,
    },
    /// This machine can't send packets to the address.
    #[error("this machine can't send to {address}: {problem}")]
    NoRoute {
        /// The peer's address.
        address: SocketAddr,
        /// The system's error.
        problem: String,
    },
    /// The path to the peer is too narrow for the smallest packets that QUIC allows.
    #[error("packets of the {needed_bytes} bytes that QUIC needs at least do not get to {address}")]
    NarrowPath {
        /// The peer's address.
        address: SocketAddr,
        /// The packet length that the path must allow, with headers of IP and UDP.
        needed_bytes: u16,
    },
    /// Another program answers at the address.
    #[error("what answers at {address} is no node of a cluster: {problem}")]
    OtherProgram {
        /// The peer's address.
        address: SocketAddr,
        /// What is wrong with the answer.
        problem: String,
    },
    /// The peer uses another version of the protocol between nodes.
    #[error("it speaks another version of the protocol between nodes")]
    OtherVersion,
    /// This node refuses the peer's certificate.
    #[error("its certificate is refused by this node: {problem}{}", origin(from.as_ref()))]
    Certificate {
        /// What is wrong with it.
        problem: CertificateProblem,
        /// Where the connection came from, if this node was dialed.
        from: Option<IpAddr>,
    },
    /// The peer refuses this node's certificate.
    #[error("it refuses the certificate of this node: {problem}")]
    OwnCertificate {
        /// What is wrong with it.
        problem: CertificateProblem,
    },
    /// The peer refuses this node, for example because it has too many guests.
    #[error("it does not let this node in: {problem}")]
    NotAdmitted {
        /// The reason that the peer gives.
        problem: String,
    },
    /// The peer answers, but does not connect to this node, although it should: of two nodes, the one with
    /// the higher id dials.
    #[error("it answers at {address} ({carrier}), but does not connect to this node")]
    DoesNotDial {
        /// The peer's address.
        address: SocketAddr,
        /// The protocol below TLS.
        carrier: Carrier,
    },
    /// The connection has broken, and there is no new one yet.
    #[error("the connection was lost: {problem}")]
    Lost {
        /// How it ended.
        problem: String,
    },
    /// What a backend outside this crate reports, if nothing else here fits.
    #[error("{problem}")]
    Foreign {
        /// Why it can't connect.
        problem: String,
    },
}

/// The protocol below TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Carrier {
    /// TLS over TCP.
    Tcp,
    /// QUIC over UDP.
    Udp,
}

impl std::fmt::Display for Carrier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Carrier::Tcp => "TCP",
            Carrier::Udp => "UDP",
        })
    }
}

/// What is wrong with a certificate.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// It is signed by a CA that the other side does not trust.
    #[error("it is signed by another CA")]
    OtherAuthority,
    /// It has expired, by the clock of the node that refuses it.
    #[error("it has expired")]
    Expired,
    /// It is not valid yet, by the clock of the node that refuses it.
    #[error("it is not valid yet")]
    NotYetValid,
    /// It has expired or is not valid yet; a peer that refuses a certificate does not say which.
    #[error("it has expired, or is not valid yet")]
    OutOfTime,
    /// It belongs to another node or cluster.
    #[error("it is that of another node or cluster{}", if names.is_empty() { String::new() } else { format!(": {names}") })]
    OtherName {
        /// The names in it, if they are known.
        names: String,
    },
    /// No certificate was sent.
    #[error("none was shown")]
    Missing,
    /// Anything else.
    #[error("{problem}")]
    Invalid {
        /// The text of the TLS library.
        problem: String,
    },
}

fn origin(from: Option<&IpAddr>) -> String {
    from.map(|from| format!(" (a connection from {from})")).unwrap_or_default()
}

impl Unreachable {
    /// A stable name of the reason for programs, in lower case with hyphens.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Unreachable::NotYet => "not-yet",
            Unreachable::NameUnknown { .. } => "name-unknown",
            Unreachable::NameSlow { .. } => "name-slow",
            Unreachable::Refused { .. } => "refused",
            Unreachable::Silent { .. } => "silent",
            Unreachable::Unresponsive { .. } => "unresponsive",
            Unreachable::NoRoute { .. } => "no-route",
            Unreachable::NarrowPath { .. } => "narrow-path",
            Unreachable::OtherProgram { .. } => "other-program",
            Unreachable::OtherVersion => "other-version",
            Unreachable::Certificate { .. } => "certificate",
            Unreachable::OwnCertificate { .. } => "own-certificate",
            Unreachable::NotAdmitted { .. } => "not-admitted",
            Unreachable::DoesNotDial { .. } => "does-not-dial",
            Unreachable::Lost { .. } => "lost",
            Unreachable::Foreign { .. } => "foreign",
        }
    }

    /// What the operator can do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Unreachable::NotYet | Unreachable::Lost { .. } => "look at its log",
            Unreachable::Foreign { .. } => "is it running, and its address right? If so, look at its log",
            Unreachable::NameUnknown { .. } => {
                "correct its address among this node's peers, or make the name known"
            }
            Unreachable::NameSlow { .. } => "look after the name server of this machine",
            Unreachable::Refused { .. } => {
                "start it, have it listen on an address that others reach, or correct its address among this node's peers"
            }
            Unreachable::Silent { carrier: Carrier::Udp, .. } => {
                "is its machine up, the address right, and UDP with packets of 1280 bytes let through in both \
                 directions? Where it is not, TCP may be"
            }
            Unreachable::Silent { .. } => {
                "is its machine up, the address right, and the port let through by firewalls?"
            }
            Unreachable::Unresponsive { .. } => {
                "is it stopped or overloaded, does another program listen there, or do large packets get lost?"
            }
            Unreachable::NoRoute { .. } => {
                "correct its address among this node's peers, or the routes of this machine"
            }
            Unreachable::NarrowPath { .. } => {
                "raise the MTU on the way to 1280 bytes or more, or use TCP on all nodes"
            }
            Unreachable::OtherProgram { .. } => {
                "correct its address among this node's peers; all nodes need the same transport"
            }
            Unreachable::OtherVersion => "run versions on all nodes that can talk to each other",
            Unreachable::Certificate { problem, .. } | Unreachable::OwnCertificate { problem } => {
                problem.advice()
            }
            Unreachable::NotAdmitted { .. } => {
                "list the same peers on all nodes, and stop nodes that were removed"
            }
            Unreachable::DoesNotDial { .. } => {
                "look at its log: it may have another address for this node among its peers, or a firewall between"
            }
        }
    }

    /// Whether a person must change something before the peer can connect. A restart or a short network
    /// failure ends by itself.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        matches!(
            self,
            Unreachable::Certificate { .. }
                | Unreachable::OwnCertificate { .. }
                | Unreachable::NotAdmitted { .. }
                | Unreachable::OtherVersion
        )
    }
}

impl CertificateProblem {
    fn advice(&self) -> &'static str {
        match self {
            CertificateProblem::OtherAuthority => {
                "give both nodes certificates by the same CA, and its ca.pem"
            }
            CertificateProblem::Expired | CertificateProblem::NotYetValid | CertificateProblem::OutOfTime => {
                "renew the certificate, if the clocks of both machines are right"
            }
            CertificateProblem::OtherName { .. } => {
                "is another node or cluster at this address? Correct the addresses, or give each node its own certificate"
            }
            CertificateProblem::Missing | CertificateProblem::Invalid { .. } => {
                "give each node a certificate by the CA of the cluster"
            }
        }
    }
}
