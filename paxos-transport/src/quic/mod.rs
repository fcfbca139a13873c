//! QUIC over UDP (quinn), with mutual TLS.
//!
//! `Control` has a stream of its own, and `Log` several, each taking the next frames that wait: a lost packet
//! holds up the frames of its stream, not those of the others. `Bulk` has a connection of its own, because
//! streams share a congestion window. That is all that is gained over TCP, besides connections that survive a
//! change of address; on a network that loses nothing, TCP needs less time and less of the processor.
//!
//! A node that has been started again tells its peers so as soon as they send to what it was before (stateless
//! resets, by a key derived from the node's own), instead of leaving them to the idle time-out.

#[cfg(unix)]
mod datagrams;
mod setup;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use paxos_core::NodeId;
use quinn::crypto::rustls::HandshakeData;
use quinn::{AsyncUdpSocket, ClientConfig, ConnectionError, Endpoint, Incoming, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::end::Farewell;
use crate::frames::{Pulse, read_all, write_all};
use crate::inbox::inbox;
use crate::link::{Claim, Class};
use crate::network::{Connection, Dialer, Ended, Network};
use crate::{Error, Lane, NetworkConfig, NetworkTransport};

/// How long closing waits for peers to hear of it.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(200);
/// TLS alerts travel as QUIC errors from here on.
const CRYPTO_ERRORS: std::ops::Range<u64> = 0x100..0x200;
const STOPPED: VarInt = VarInt::from_u32(0);
const NOT_ADMITTED: VarInt = VarInt::from_u32(1);

/// Listens for peers and starts to connect to them.
///
/// # Errors
///
/// [`Error::Listen`] if the address can't be listened on; [`Error::Config`], [`Error::Name`] and [`Error::Tls`]
/// if the settings do not fit together.
#[expect(clippy::unused_async, reason = "all backends are bound alike; this one needs the runtime only")]
pub async fn bind(config: NetworkConfig) -> Result<NetworkTransport, Error> {
    config.check()?;
    let socket = setup::system_socket(&config)?;
    bind_over(config, socket, None)
}

/// How packets leave this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packets {
    /// The longest packet that is tried, in bytes, without the headers of UDP and IP.
    pub max_bytes: u16,
    /// How many packets the system takes in one call (GSO); 1 if it can't segment.
    pub segments: usize,
}

/// What this system does with packets: for whoever compares measurements. Within a tokio runtime.
///
/// # Errors
///
/// If no socket can be opened.
pub fn packets() -> std::io::Result<Packets> {
    setup::packets()
}

/// As [`bind`], over any kind of datagrams: those of the system, or of the simulated network of a test, which
/// also has QUIC draw its random numbers from `seed`.
pub(crate) fn bind_over(
    config: NetworkConfig,
    socket: Arc<dyn AsyncUdpSocket>,
    seed: Option<[u8; 32]>,
) -> Result<NetworkTransport, Error> {
    let endpoint = setup::endpoint(&config, socket, seed)?;
    let listen = |source| Error::Listen { address: config.listen, source };
    let local_address = endpoint.local_addr().map_err(listen)?;
    let main = setup::client_config(&config, Class::Main)?;
    let bulk = setup::client_config(&config, Class::Bulk)?;
    let (sender, inbox) = inbox();
    let network = Arc::new(Network::new(config, &sender));
    let dialer =
        QuicDialer { endpoint: endpoint.clone(), local_address, main, bulk, network: Arc::clone(&network) };
    network.start_dialing(&Arc::new(dialer));
    network.spawn_until_closing(accept(Arc::clone(&network), endpoint.clone()));
    Ok(NetworkTransport::new(network, inbox, local_address, Some(Box::new(endpoint))))
}

#[async_trait]
impl Farewell for Endpoint {
    fn begin(&self) {
        self.close(STOPPED, b"stopped");
    }

    async fn finish(&self) {
        self.begin();
        // Peers that do not hear of it find out by themselves.
        let _ = tokio::time::timeout(FAREWELL_TIMEOUT, self.wait_idle()).await;
    }
}

struct QuicDialer {
    endpoint: Endpoint,
    local_address: SocketAddr,
    main: ClientConfig,
    bulk: ClientConfig,
    network: Arc<Network>,
}

impl Dialer for QuicDialer {
    type Connection = quinn::Connection;

    fn can_reach(&self, address: SocketAddr) -> bool {
        address.is_ipv4() || self.local_address.is_ipv6()
    }

    async fn dial(
        &self,
        peer: NodeId,
        address: SocketAddr,
        class: Class,
    ) -> Result<quinn::Connection, Ended> {
        let config = match class {
            Class::Main => self.main.clone(),
            Class::Bulk => self.bulk.clone(),
        };
        let name = self.network.config.identity.server_name(peer);
        let name = name.map_err(|error| Ended::Refused(error.to_string()))?;
        let connecting = self.endpoint.connect_with(config, address, &name.to_str());
        connecting.map_err(|error| Ended::Broken(error.to_string()))?.await.map_err(|error| ended(&error))
    }
}

impl Connection for quinn::Connection {
    async fn carry(self, claim: &Arc<Claim>) -> Ended {
        let mut writers = JoinSet::new();
        for (index, queue) in claim.queues().iter().enumerate() {
            let streams = if queue.lane() == Lane::Log { claim.log_streams() } else { 1 };
            for _ in 0..streams {
                writers.spawn(write_stream(self.clone(), Arc::clone(claim), index));
            }
        }
        let mut readers = JoinSet::new();
        let ended = loop {
            tokio::select! {
                accepted = self.accept_uni() => match accepted {
                    Ok(mut stream) => {
                        let claim = Arc::clone(claim);
                        readers.spawn(async move { read_all(&claim, &mut stream, Pulse::default()).await });
                    }
                    Err(error) => break ended(&error),
                },
                Some(read) = readers.join_next() => if let Ok(Err(error)) = read {
                    // If the connection has broken, that tells more than a stream does.
                    break self.close_reason().map_or(Ended::Broken(error.to_string()), |error| ended(&error));
                },
                written = writers.join_next() => match written {
                    Some(Ok(Ok(()))) => {}
                    None => break Ended::Closed,
                    Some(_) => break self.close_reason().map_or(
                        Ended::Broken(String::from("a stream has broken")),
                        |error| ended(&error),
                    ),
                },
            }
        };
        self.close(STOPPED, b"");
        ended
    }
}

/// Writes frames of one lane to a stream of its own.
async fn write_stream(connection: quinn::Connection, claim: Arc<Claim>, index: usize) -> std::io::Result<()> {
    let queue = &claim.queues()[index];
    let mut stream = connection.open_uni().await?;
    if queue.lane() == Lane::Control {
        stream.set_priority(1)?;
    }
    write_all(&claim, &[queue], &mut stream, Pulse::default()).await?;
    // Until the peer has everything.
    stream.stopped().await?;
    Ok(())
}

/// Takes in the connections that peers open.
async fn accept(network: Arc<Network>, endpoint: Endpoint) {
    let handshakes = Arc::new(Semaphore::new(network.config.max_handshakes));
    while let Some(incoming) = endpoint.accept().await {
        let is_busy = handshakes.available_permits() <= network.config.max_handshakes / 2;
        if is_busy && !incoming.remote_address_validated() && incoming.may_retry() {
            // Makes sure that the address is not a made-up one, before it takes one of the last places.
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
            if let Ended::Refused(problem) = ended(&error) {
                network.complain_of(address, &problem);
            }
            return;
        }
    };
    let chain =
        connection.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let protocol = data.and_then(|data| data.protocol).unwrap_or_default();
    match network.admit(&chain.unwrap_or_default(), &protocol) {
        Ok(link) => network.serve(&link, connection),
        Err(problem) => {
            connection.close(NOT_ADMITTED, problem.as_bytes());
            network.complain_of(address, &problem);
        }
    }
}

/// Whether one side does not take the other for what it should be, as opposed to not being there.
fn ended(error: &ConnectionError) -> Ended {
    let is_about_identity = match error {
        ConnectionError::TransportError(error) => CRYPTO_ERRORS.contains(&u64::from(error.code)),
        ConnectionError::ConnectionClosed(close) => CRYPTO_ERRORS.contains(&u64::from(close.error_code)),
        ConnectionError::ApplicationClosed(close) => close.error_code == NOT_ADMITTED,
        _ => false,
    };
    if is_about_identity { Ended::Refused(error.to_string()) } else { Ended::Broken(error.to_string()) }
}
