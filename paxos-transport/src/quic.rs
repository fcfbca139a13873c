//! QUIC over UDP (quinn), with mutual TLS.
//!
//! `Control` has a stream of its own, and `Log` several, each taking the next frames that wait: a lost packet
//! holds up the frames of its stream, not those of the others. `Bulk` has a connection of its own, because
//! streams share a congestion window.
//!
//! How it is tuned, and why: packets of up to 1452 bytes with segmentation offload (larger ones switch the
//! offload off); cubic; a first estimate of the round trip far below the default of 333 ms, which would make the
//! first loss cost a second; keep-alives each second; no 0-RTT, as it can be replayed. A node that has been
//! started again tells its peers so at once (stateless resets, by a key derived from the node's own), instead of
//! leaving them to the idle time-out.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::NodeId;
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, ConnectionError, Endpoint, EndpointConfig, IdleTimeout, Incoming, MtuDiscoveryConfig,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use crate::frames::{read_all, write_all};
use crate::inbox::{Inbox, inbox};
use crate::lane_queue::LaneQueue;
use crate::network::{Class, Connection, DialError, Dialer, Link, Network};
use crate::{Error, Lane, NetworkConfig, Received, SendOutcome, Transport};

/// How many streams the `Log` lane is spread over.
const LOG_STREAMS: usize = 4;
/// How many streams a peer may open.
const MAX_STREAMS: u32 = 16;
/// The largest packet tried: with larger ones the system no longer segments for us.
const MAX_PACKET_BYTES: u16 = 1452;
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
const KEEP_ALIVE: Duration = Duration::from_secs(1);
const INITIAL_RTT: Duration = Duration::from_millis(10);
/// How long closing waits for peers to hear of it.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// TLS alerts travel as QUIC errors from here on.
const CRYPTO_ERRORS: std::ops::Range<u64> = 0x100..0x200;

/// A node's end of a QUIC network.
#[derive(Debug)]
pub struct QuicTransport {
    network: Arc<Network>,
    endpoint: Endpoint,
    inbox: Inbox,
    tasks: Vec<AbortHandle>,
    is_closed: bool,
}

impl QuicTransport {
    /// Listens for peers and starts to connect to them.
    ///
    /// # Errors
    ///
    /// [`Error::Listen`] if the address can't be listened on; [`Error::Tls`] if the keys do not fit together.
    #[expect(clippy::unused_async, reason = "all backends are bound alike; this one needs the runtime only")]
    pub async fn bind(config: NetworkConfig) -> Result<QuicTransport, Error> {
        let transport = Arc::new(transport_config(config.idle_timeout));
        let server = server_config(&config, &transport)?;
        let dialer = Arc::new(QuicDialer {
            endpoint: bind_endpoint(&config, server)?,
            main: client_config(&config, Class::Main, &transport)?,
            bulk: client_config(&config, Class::Bulk, &transport)?,
            names: names(&config)?,
        });
        let endpoint = dialer.endpoint.clone();
        let (inbox_sender, inbox) = inbox();
        let network = Arc::new(Network::new(config, &inbox_sender));
        let mut tasks = network.start_dialing(&dialer);
        tasks.push(tokio::spawn(accept(Arc::clone(&network), endpoint.clone())).abort_handle());
        Ok(QuicTransport { network, endpoint, inbox, tasks, is_closed: false })
    }

    /// The address that is listened on: tells the port if 0 was asked for.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Dials `peer` at another address from now on.
    pub fn set_address(&self, peer: NodeId, address: String) {
        self.network.set_address(peer, address);
    }
}

#[async_trait]
impl Transport for QuicTransport {
    fn local_node(&self) -> NodeId {
        self.network.config.node
    }

    fn send(&self, to: NodeId, lane: Lane, frame: Bytes) -> SendOutcome {
        self.network.send(to, lane, frame)
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Received>> {
        if self.is_closed { Poll::Ready(None) } else { self.inbox.poll(context) }
    }

    fn is_connected(&self, peer: NodeId) -> bool {
        self.network.is_connected(peer)
    }

    async fn close(&mut self) {
        self.is_closed = true;
        self.tasks.drain(..).for_each(|task| task.abort());
        self.network.hang_up();
        self.inbox.close();
        self.endpoint.close(VarInt::from_u32(0), b"stopped");
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.endpoint.wait_idle()).await;
    }
}

impl Drop for QuicTransport {
    fn drop(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
        self.network.hang_up();
        self.endpoint.close(VarInt::from_u32(0), b"stopped");
    }
}

struct QuicDialer {
    endpoint: Endpoint,
    main: ClientConfig,
    bulk: ClientConfig,
    names: std::collections::BTreeMap<NodeId, String>,
}

impl Dialer for QuicDialer {
    type Connection = quinn::Connection;

    async fn dial(
        &self,
        peer: NodeId,
        address: SocketAddr,
        class: Class,
    ) -> Result<quinn::Connection, DialError> {
        let config = match class {
            Class::Main => self.main.clone(),
            Class::Bulk => self.bulk.clone(),
        };
        let unreachable = |error: quinn::ConnectError| DialError::Unreachable(error.to_string());
        let connecting =
            self.endpoint.connect_with(config, address, &self.names[&peer]).map_err(unreachable)?;
        connecting.await.map_err(|error| {
            let text = error.to_string();
            if is_about_identity(&error) { DialError::Refused(text) } else { DialError::Unreachable(text) }
        })
    }
}

impl Connection for quinn::Connection {
    async fn carry(self, link: Arc<Link>) -> String {
        let mut tasks = JoinSet::new();
        for (index, queue) in link.queues.iter().enumerate() {
            let streams = if queue.lane() == Lane::Log { LOG_STREAMS } else { 1 };
            for _ in 0..streams {
                tasks.spawn(write_stream(self.clone(), Arc::clone(&link), index));
            }
        }
        let reason = loop {
            tokio::select! {
                accepted = self.accept_uni() => match accepted {
                    Ok(stream) => {
                        let (peer, limit, inbox) = (link.peer, link.max_frame_bytes, link.inbox.clone());
                        tasks.spawn(async move { read_all(peer, stream, limit, inbox).await.to_string() });
                    }
                    Err(error) => break error.to_string(),
                },
                Some(ended) = tasks.join_next() => break ended.unwrap_or_else(|error| error.to_string()),
            }
        };
        self.close(VarInt::from_u32(0), b"a stream has ended");
        reason
    }
}

/// Writes the frames of one lane to a stream of its own.
async fn write_stream(connection: quinn::Connection, link: Arc<Link>, queue: usize) -> String {
    let queue: &LaneQueue = &link.queues[queue];
    match connection.open_uni().await {
        Ok(stream) => {
            if queue.lane() == Lane::Control {
                let _ = stream.set_priority(1); // A stream that is closed already ends the connection below.
            }
            write_all(&[queue], stream).await.to_string()
        }
        Err(error) => error.to_string(),
    }
}

/// Takes in the connections that peers open.
async fn accept(network: Arc<Network>, endpoint: Endpoint) {
    let handshakes = Arc::new(Semaphore::new(network.config.max_handshakes));
    while let Some(incoming) = endpoint.accept().await {
        match Arc::clone(&handshakes).try_acquire_owned() {
            Ok(permit) => {
                let network = Arc::clone(&network);
                tokio::spawn(async move {
                    admit(&network, incoming).await;
                    drop(permit);
                });
            }
            Err(_) => incoming.refuse(),
        }
    }
}

async fn admit(network: &Network, incoming: Incoming) {
    let address = incoming.remote_address();
    let Ok(handshake) = tokio::time::timeout(network.config.connect_timeout, incoming).await else { return };
    let connection = match handshake {
        Ok(connection) => connection,
        Err(error) if is_about_identity(&error) => {
            return network.complain(format!("refused a connection from {}: {error}", address.ip()));
        }
        Err(_) => return,
    };
    let chain =
        connection.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let protocol = data.and_then(|data| data.protocol).unwrap_or_default();
    match network.admit(&chain.unwrap_or_default(), &protocol) {
        Ok(link) => link.serve_accepted(connection),
        Err(problem) => {
            connection.close(VarInt::from_u32(1), problem.as_bytes());
            network.complain(format!("refused a connection from {}: {problem}", address.ip()));
        }
    }
}

/// Whether one side does not take the other for what it should be, as opposed to not being there.
fn is_about_identity(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::TransportError(error) => CRYPTO_ERRORS.contains(&u64::from(error.code)),
        ConnectionError::ConnectionClosed(close) => CRYPTO_ERRORS.contains(&u64::from(close.error_code)),
        ConnectionError::ApplicationClosed(close) => close.error_code == VarInt::from_u32(1),
        _ => false,
    }
}

fn bind_endpoint(config: &NetworkConfig, server: ServerConfig) -> Result<Endpoint, Error> {
    let listen = |source| Error::Listen { address: config.listen, source };
    let socket = UdpSocket::bind(config.listen).map_err(listen)?;
    let options = socket2::SockRef::from(&socket);
    // The system may grant less; then bursts are lost a little earlier.
    let _ = options.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = options.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    let secret = ring::digest::digest(&ring::digest::SHA256, config.identity.secret());
    let reset_key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_ref());
    let endpoint_config = EndpointConfig::new(Arc::new(reset_key));
    Endpoint::new(endpoint_config, Some(server), socket, Arc::new(TokioRuntime)).map_err(listen)
}

fn names(config: &NetworkConfig) -> Result<std::collections::BTreeMap<NodeId, String>, Error> {
    let name = |peer: &NodeId| Ok((*peer, config.identity.server_name(*peer)?.to_str().into_owned()));
    config.peers.keys().map(name).collect()
}

fn server_config(config: &NetworkConfig, transport: &Arc<TransportConfig>) -> Result<ServerConfig, Error> {
    let tls = config.identity.server_config()?;
    let tls = QuicServerConfig::try_from(tls).map_err(|error| Error::Tls(error.to_string()))?;
    let mut server = ServerConfig::with_crypto(Arc::new(tls));
    server.transport_config(Arc::clone(transport));
    server.max_incoming(config.max_handshakes);
    Ok(server)
}

fn client_config(
    config: &NetworkConfig,
    class: Class,
    transport: &Arc<TransportConfig>,
) -> Result<ClientConfig, Error> {
    let tls = config.identity.client_config(class.protocol())?;
    let tls = QuicClientConfig::try_from(tls).map_err(|error| Error::Tls(error.to_string()))?;
    let mut client = ClientConfig::new(Arc::new(tls));
    client.transport_config(Arc::clone(transport));
    Ok(client)
}

fn transport_config(idle_timeout: Duration) -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MAX_PACKET_BYTES);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(MAX_STREAMS))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_idle_timeout(IdleTimeout::try_from(idle_timeout).ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(INITIAL_RTT)
        .mtu_discovery_config(Some(mtu))
        .enable_segmentation_offload(true)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(u64::from(CONNECTION_WINDOW_BYTES))
        .datagram_receive_buffer_size(None);
    transport
}
