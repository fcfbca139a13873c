//! Finds out why a peer does not answer a QUIC handshake.
//!
//! QUIC's first packets have 1200 bytes, and whatever happens to them on the way, the sender sees only
//! silence. There are two more sources. [`SendErrors`] remembers what the system refuses to send: a packet
//! longer than an interface allows, or to an address without a route. And [`probe`] sends packets of an
//! unknown connection from a socket of its own. A node answers these with a stateless reset. If no process
//! listens, the system reports that to a connected socket, which QUIC's are not. If short packets are
//! answered, but those of 1200 bytes are not, the path is too narrow.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use quinn::udp::{Transmit, UdpSocketState};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use crate::lock::lock;
use crate::{Carrier, Unreachable};

/// The length of QUIC's first packets, without the headers of UDP and IP.
const FIRST_PACKET_BYTES: usize = 1200;
/// Long enough for a stateless reset in response, and short enough for any path.
const SHORT_PACKET_BYTES: usize = 100;
/// How many packets are sent before the address counts as silent.
const ATTEMPTS: usize = 3;
/// How long to wait for the answer to each.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(150);
/// For how many addresses errors are remembered: more than there are peers.
const MAX_ADDRESSES: usize = 256;

/// The system's last error for each address.
#[derive(Debug, Default)]
pub(super) struct SendErrors(Mutex<BTreeMap<SocketAddr, (Instant, Unreachable)>>);

impl SendErrors {
    /// Remembers the error of a packet that was not sent, unless it was one with which QUIC probes for the
    /// longest packet.
    pub(super) fn note(&self, transmit: &Transmit<'_>, error: &io::Error) {
        let packet_bytes = transmit.segment_size.unwrap_or(transmit.contents.len());
        if is_too_long(error) && packet_bytes > FIRST_PACKET_BYTES {
            return;
        }
        let address = canonical(transmit.destination);
        let mut errors = lock(&self.0);
        if errors.len() < MAX_ADDRESSES || errors.contains_key(&address) {
            errors.insert(address, (Instant::now(), not_sent(error, address)));
        }
    }

    /// The last error for an address, if it happened since `since`.
    pub(super) fn latest(&self, address: SocketAddr, since: Instant) -> Option<Unreachable> {
        let errors = lock(&self.0);
        let (at, problem) = errors.get(&canonical(address))?;
        (*at >= since).then(|| problem.clone())
    }
}

/// Finds out whether a node answers at an address: [`Unreachable::DoesNotDial`] if one does, otherwise why
/// not.
pub(super) async fn probe(address: SocketAddr) -> Unreachable {
    let carrier = Carrier::Udp;
    let answered = async {
        let socket = open(address).await?;
        if !is_answered(&socket, SHORT_PACKET_BYTES).await? {
            return Ok(Unreachable::Silent { address, carrier });
        }
        let is_wide = is_answered(&socket, FIRST_PACKET_BYTES).await?;
        Ok(if is_wide { Unreachable::DoesNotDial { address, carrier } } else { narrow(address) })
    };
    answered.await.unwrap_or_else(|error: io::Error| not_sent(&error, address))
}

async fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    // Forbids fragmentation, as QUIC does.
    UdpSocketState::new((&socket).into())?;
    socket.connect(address).await?;
    Ok(socket)
}

async fn is_answered(socket: &UdpSocket, packet_bytes: usize) -> io::Result<bool> {
    let mut answer = [0; FIRST_PACKET_BYTES];
    for _ in 0..ATTEMPTS {
        let mut packet: Vec<u8> = (0..packet_bytes).map(|_| fastrand::u8(..)).collect();
        packet[0] = 0x40 | (packet[0] & 0x3f); // Looks like a packet of an established connection.
        socket.send(&packet).await?;
        if let Ok(received) = timeout(ANSWER_TIMEOUT, socket.recv(&mut answer)).await {
            return received.map(|_| true);
        }
    }
    Ok(false)
}

fn not_sent(error: &io::Error, address: SocketAddr) -> Unreachable {
    match error.kind() {
        _ if is_too_long(error) => narrow(address),
        io::ErrorKind::ConnectionRefused => Unreachable::Refused { address, carrier: Carrier::Udp },
        _ => Unreachable::NoRoute { address, problem: error.to_string() },
    }
}

fn narrow(address: SocketAddr) -> Unreachable {
    // With the headers of IP and UDP.
    Unreachable::NarrowPath { address, needed_bytes: if address.is_ipv4() { 1228 } else { 1248 } }
}

/// Turns an IPv4-mapped IPv6 address into the IPv4 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    (address.ip().to_canonical(), address.port()).into()
}

#[cfg(unix)]
fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

#[cfg(not(unix))]
fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(10_040) // WSAEMSGSIZE
}
