//! QUIC over UDP (quinn), with mutual TLS.
//!
//! `Control` has one stream, and `Log` several that take the next queued frames in turn: a lost packet delays
//! only the frames of its stream. `Bulk` has a second connection, because the streams of one share a
//! congestion window. These, and connections that survive a change of address, are the advantages over TCP.
//! On a network without loss, TCP has lower latency and needs less of the processor.
//!
//! A restarted node answers packets for its former connections with stateless resets, for which it derives a
//! key from its own. So peers reconnect at once instead of after the idle time-out.

mod calling;
#[cfg(unix)]
mod datagrams;
mod endpoints;
mod paths;
mod setup;

#[cfg(all(test, feature = "certs", feature = "tcp"))]
pub(crate) use self::calling::QuicCaller;
pub use self::calling::call;
pub use self::setup::{Packets, packets};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use paxos_core::NodeId;
use quinn::crypto::rustls::HandshakeData;
use quinn::{AsyncUdpSocket, ConnectionError, Endpoint, Incoming, VarInt};
use rustls::AlertDescription;
use rustls::pki_types::CertificateDer;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::endpoints::{Endpoints, STOPPED};
use self::paths::SendErrors;
use crate::backend::{Pulse, inbox, write_frames};
use crate::network::connection::Connection;
use crate::network::dialing::Dialer;
use crate::network::frames::read_all;
use crate::network::link::Ended;
use crate::network::link::{Claim, Class};
use crate::network::peers::Network;
use crate::network::tls::CALL_PROTOCOL;
use crate::network::tls::problems::{self, printable};
use crate::{Carrier, Error, Lane, NetworkConfig, NetworkTransport, TlsIdentity, Unreachable};

/// QUIC's error codes for TLS alerts start here.
const CRYPTO_ERRORS: u64 = 0x100;
const NOT_ADMITTED: VarInt = VarInt::from_u32(1);

/// Listens for peers and starts to connect to them.
///
/// # Errors
///
/// [`Error::Listen`] if the transport can't listen on its address; [`Error::Config`], [`Error::Name`] and
/// [`Error::Tls`] for invalid settings.
#[expect(clippy::unused_async, reason = "all backends are bound alike; this one needs the runtime only")]
pub async fn bind(config: NetworkConfig) -> Result<NetworkTransport, Error> {
    config.check()?;
    let send_errors = Arc::new(SendErrors::default());
    let listen = |source| Error::Listen { address: config.listen, source };
    let socket = setup::system_socket(config.listen, Arc::clone(&send_errors)).map_err(listen)?;
    start(config, socket, Some(send_errors), None)
}

/// Does what [`bind`] does, over the simulated network of a test. QUIC takes its random numbers from `seed`.
#[cfg(test)]
pub(crate) fn bind_over(
    config: NetworkConfig,
    socket: Arc<dyn AsyncUdpSocket>,
    seed: Option<[u8; 32]>,
) -> Result<NetworkTransport, Error> {
    start(config, socket, None, seed)
}

fn start(
    config: NetworkConfig,
    socket: Arc<dyn AsyncUdpSocket>,
    send_errors: Option<Arc<SendErrors>>,
    seed: Option<[u8; 32]>,
) -> Result<NetworkTransport, Error> {
    let listen = |source| Error::Listen { address: config.listen, source };
    let identities = config.identity.subscribe();
    let server = setup::server_config(&config)?;
    let endpoint = setup::endpoint(&config, Some(server), socket, seed).map_err(listen)?;
    let local_address = endpoint.local_addr().map_err(listen)?;
    let (sender, inbox) = inbox();
    let network = Arc::new(Network::new(config, sender));
    let endpoints = Arc::new(Endpoints::new(endpoint, local_address, send_errors));
    let dialer = QuicDialer { endpoints: Arc::clone(&endpoints), network: Arc::clone(&network) };
    let keeper = network.start(&Arc::new(dialer), local_address);
    network.spawn_until_closing(accept(Arc::clone(&network), endpoints.listening().clone()));
    let endpoint = endpoints.listening().clone();
    network.spawn_until_closing(accept_with_present_identity(Arc::clone(&network), endpoint, identities));
    Ok(NetworkTransport::new(network, keeper, inbox, local_address, Some(Box::new(endpoints))))
}

struct QuicDialer {
    endpoints: Arc<Endpoints>,
    network: Arc<Network>,
}

impl Dialer for QuicDialer {
    type Connection = quinn::Connection;

    const CARRIER: Carrier = Carrier::Udp;

    async fn dial(
        &self,
        peer: NodeId,
        address: SocketAddr,
        class: Class,
    ) -> Result<quinn::Connection, Unreachable> {
        let lost = |problem: String| Unreachable::Lost { problem };
        let not_set_up = |error: Error| lost(error.to_string());
        let config = setup::client_config(&self.network.config, class).map_err(not_set_up)?;
        let name = self.network.config.identity.current().server_name(peer).map_err(not_set_up)?;
        let endpoint = self.endpoints.towards(address, &self.network.config)?;
        let connecting = endpoint.connect_with(config, address, &name.to_str());
        let connecting = connecting
            .map_err(|error| Unreachable::NoRoute { address, problem: printable(&error.to_string()) })?;
        connecting.await.map_err(|error| match ended(&error) {
            Ended::Because(problem) => problem,
            Ended::Closed => lost(String::from("this node is closing")),
        })
    }

    async fn probe(&self, address: SocketAddr) -> Unreachable {
        let Some(send_errors) = self.endpoints.send_errors() else {
            return Unreachable::Silent { address, carrier: Carrier::Udp };
        };
        // Only errors of the attempt before this probe count.
        let since = Instant::now().checked_sub(self.network.config.connect_timeout);
        match since.and_then(|since| send_errors.latest(address, since)) {
            Some(problem) => problem,
            None => paths::probe(address).await,
        }
    }
}

/// How often the round trip time of a connection is noted.
const ROUND_TRIP_INTERVAL: Duration = Duration::from_secs(1);

impl Connection for quinn::Connection {
    async fn carry(self, claim: &Arc<Claim>) -> Ended {
        let mut writers = JoinSet::new();
        for (index, outbox) in claim.outboxes().iter().enumerate() {
            let streams = if outbox.lane() == Lane::Log { claim.log_streams() } else { 1 };
            for _ in 0..streams {
                writers.spawn(write_stream(self.clone(), Arc::clone(claim), index));
            }
        }
        let mut readers = JoinSet::new();
        let mut looks = tokio::time::interval(ROUND_TRIP_INTERVAL);
        let ended = loop {
            tokio::select! {
                _ = looks.tick() => claim.counters().note_round_trip(self.rtt()),
                accepted = self.accept_uni() => match accepted {
                    Ok(mut stream) => {
                        let claim = Arc::clone(claim);
                        readers.spawn(async move { read_all(&claim, &mut stream, Pulse::default()).await });
                    }
                    Err(error) => break ended(&error),
                },
                Some(read) = readers.join_next() => if let Ok(Err(error)) = read {
                    // If the connection has broken, its error says more than that of a stream.
                    break self.close_reason().map_or_else(|| Ended::lost(error), |error| ended(&error));
                },
                written = writers.join_next() => match written {
                    Some(Ok(Ok(()))) => {}
                    None => break Ended::Closed,
                    Some(_) => break self.close_reason().map_or_else(
                        || Ended::lost("a stream has broken"),
                        |error| ended(&error),
                    ),
                },
            }
        };
        self.close(STOPPED, b"");
        ended
    }

    fn peer_address(&self) -> SocketAddr {
        self.remote_address()
    }

    fn peer_chain(&self) -> Vec<CertificateDer<'static>> {
        chain(self)
    }
}

/// The certificates that the peer has sent.
fn chain(connection: &quinn::Connection) -> Vec<CertificateDer<'static>> {
    let identity = connection.peer_identity().and_then(|chain| chain.downcast().ok());
    identity.map(|chain| *chain).unwrap_or_default()
}

/// Opens a stream, and writes frames of one lane to it.
async fn write_stream(connection: quinn::Connection, claim: Arc<Claim>, index: usize) -> std::io::Result<()> {
    let outbox = &claim.outboxes()[index];
    let mut stream = connection.open_uni().await?;
    if outbox.lane() == Lane::Control {
        stream.set_priority(1)?;
    }
    write_frames(&[outbox], &mut stream, Pulse::default()).await?;
    // Wait until the peer has acknowledged everything.
    stream.stopped().await?;
    Ok(())
}

/// Has the endpoint use each new identity of this node.
async fn accept_with_present_identity(
    network: Arc<Network>,
    endpoint: Endpoint,
    mut identities: watch::Receiver<Arc<TlsIdentity>>,
) {
    while identities.changed().await.is_ok() {
        match setup::server_config(&network.config) {
            Ok(server) => endpoint.set_server_config(Some(server)),
            Err(error) => tracing::error!(%error, "the new certificate is not used"),
        }
    }
}

/// Accepts connections of peers.
async fn accept(network: Arc<Network>, endpoint: Endpoint) {
    let handshakes = Arc::new(Semaphore::new(network.config.max_handshakes));
    while let Some(incoming) = endpoint.accept().await {
        let is_busy = handshakes.available_permits() <= network.config.max_handshakes / 2;
        if is_busy && !incoming.remote_address_validated() && incoming.may_retry() {
            // Makes the peer prove that its address is not spoofed before it takes one of the last places.
            let _ = incoming.retry();
            continue;
        }
        let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let admitting = Arc::clone(&network);
        network.spawn_until_closing(async move {
            admit(&admitting, incoming).await;
            drop(permit);
        });
    }
}

async fn admit(network: &Arc<Network>, incoming: Incoming) {
    let address = incoming.remote_address();
    let handshake = tokio::time::timeout(network.config.handshake_timeout, incoming);
    let Ok(handshake) = handshake.await else { return };
    let connection = match handshake {
        Ok(connection) => connection,
        Err(error) => {
            if let Ended::Because(problem) = ended(&error) {
                network.on_failed_handshake(address.ip(), problem);
            }
            return;
        }
    };
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let protocol = data.and_then(|data| data.protocol).unwrap_or_default();
    if protocol == CALL_PROTOCOL {
        calling::admit(network, connection, address).await;
        return;
    }
    match network.admit(&chain(&connection), &protocol) {
        Ok(link) => network.serve(&link, connection),
        Err(refusal) => {
            connection.close(NOT_ADMITTED, refusal.problem.as_bytes());
            network.on_refused(address.ip(), &refusal);
        }
    }
}

/// Why connecting has failed, or a connection has ended.
fn ended(error: &ConnectionError) -> Ended {
    Ended::Because(match error {
        ConnectionError::LocallyClosed => return Ended::Closed,
        ConnectionError::VersionMismatch => Unreachable::OtherVersion,
        ConnectionError::TransportError(error) => match alert(error.code.into()) {
            Some(alert) => problems::of_sent_alert(alert, &error.reason),
            None => return Ended::lost(printable(&error.to_string())),
        },
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code.into()) {
            Some(alert) => problems::of_received_alert(AlertDescription::from(alert)),
            None => return Ended::lost(printable(&close.to_string())),
        },
        ConnectionError::ApplicationClosed(close) if close.error_code == NOT_ADMITTED => {
            Unreachable::NotAdmitted { problem: printable(&String::from_utf8_lossy(&close.reason)) }
        }
        ConnectionError::ApplicationClosed(_) => return Ended::lost("it has closed the connection"),
        ConnectionError::TimedOut => return Ended::lost("no sign of life"),
        ConnectionError::Reset => return Ended::lost("it has been started again"),
        ConnectionError::CidsExhausted => return Ended::lost(error),
    })
}

/// The TLS alert in an error code of QUIC, if it holds one.
fn alert(error_code: u64) -> Option<u8> {
    u8::try_from(error_code.checked_sub(CRYPTO_ERRORS)?).ok()
}
