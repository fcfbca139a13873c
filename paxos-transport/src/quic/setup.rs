//! The settings of quinn, with reasons.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AsyncUdpSocket, ClientConfig, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, IdleTimeout,
    MtuDiscoveryConfig, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use ring::hmac;
use socket2::{Domain, Protocol, Socket, Type};

use super::paths::SendErrors;
use crate::calls::CallIdentity;
use crate::network::config::MAX_LOG_STREAMS;
use crate::network::link::Class;
use crate::network::peers::SIGN_OF_LIFE_INTERVAL;
use crate::{Error, NetworkConfig};

/// How many streams a peer may open on one connection: one for `Control`, and those of the `Log` lane.
const MAX_STREAMS: u32 = 8;
const _: () = assert!(1 + MAX_LOG_STREAMS == MAX_STREAMS as usize);
/// The longest packet that is tried. Beyond this, systems do not segment packets (GSO).
const MAX_PACKET_BYTES: u16 = 1452;
/// The requested size of socket buffers. If the system grants less, bursts lose packets a little earlier.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// How many bytes of one stream may be in flight or unread.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// The same for a connection: more than all `Log` streams together, so that `Control` has room when they are
/// full.
const CONNECTION_WINDOW_BYTES: u32 = 24 << 20;
/// The first estimate of the round-trip time. With quinn's 333 ms, the first lost packet would cost a second.
const INITIAL_RTT: Duration = Duration::from_millis(10);
/// A caller gives up on a node from which nothing arrives for this long.
const CALL_IDLE_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_ID_BYTES: usize = 8;

/// Opens a socket that notes errors of sending in `send_errors`. A socket on all IPv6 addresses serves IPv4,
/// too.
pub(super) fn system_socket(
    address: SocketAddr,
    send_errors: Arc<SendErrors>,
) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    wrap(socket.into(), send_errors)
}

#[cfg(unix)]
fn wrap(socket: UdpSocket, send_errors: Arc<SendErrors>) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    Ok(Arc::new(super::datagrams::Datagrams::new(socket, send_errors)?))
}

#[cfg(not(unix))]
fn wrap(socket: UdpSocket, _: Arc<SendErrors>) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    quinn::Runtime::wrap_udp_socket(&TokioRuntime, socket)
}

/// How this system sends packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Packets {
    /// The longest packet that QUIC tries, in bytes, without the headers of UDP and IP.
    pub max_bytes: u16,
    /// How many packets the system accepts in one call (GSO); 1 if it can't segment.
    pub segments: usize,
}

/// Tells how this system sends packets, to explain measurements. Call it within a tokio runtime.
///
/// # Errors
///
/// If no socket can be opened.
pub fn packets() -> io::Result<Packets> {
    let socket = wrap(UdpSocket::bind("127.0.0.1:0")?, Arc::default())?;
    Ok(Packets { max_bytes: MAX_PACKET_BYTES, segments: socket.max_transmit_segments() })
}

/// Makes an endpoint. It accepts connections only if `server` is given.
pub(super) fn endpoint(
    config: &NetworkConfig,
    server: Option<ServerConfig>,
    socket: Arc<dyn AsyncUdpSocket>,
    seed: Option<[u8; 32]>,
) -> io::Result<Endpoint> {
    // It stays the same if the identity is replaced: peers remember the resets of this endpoint.
    let secret = hmac::Key::new(hmac::HMAC_SHA256, config.identity.current().secret());
    let reset_secret = hmac::sign(&secret, b"paxos-transport: QUIC stateless resets");
    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, reset_secret.as_ref());
    let mut endpoint = EndpointConfig::new(Arc::new(reset_key));
    endpoint.cid_generator(|| Box::new(AnyConnectionId)).rng_seed(seed);
    Endpoint::new_with_abstract_socket(endpoint, server, socket, Arc::new(TokioRuntime))
}

/// Makes an endpoint for calls, which can reach `address`.
pub(super) fn calling_endpoint(address: SocketAddr) -> io::Result<Endpoint> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = system_socket((any, 0).into(), Arc::default())?;
    Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))
}

pub(super) fn client_config(config: &NetworkConfig, class: Class) -> Result<ClientConfig, Error> {
    let tls = config.identity.current().client_config(class.protocol())?;
    client_config_of(tls, transport_config(config.idle_timeout))
}

/// The settings of calls: the node that is called opens one stream in both directions.
pub(super) fn calling_config(identity: &CallIdentity) -> Result<ClientConfig, Error> {
    let mut transport = transport_config(CALL_IDLE_TIMEOUT);
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_concurrent_bidi_streams(VarInt::from_u32(1));
    client_config_of(identity.client_config()?, transport)
}

fn client_config_of(tls: rustls::ClientConfig, transport: TransportConfig) -> Result<ClientConfig, Error> {
    let tls = QuicClientConfig::try_from(tls).map_err(|error| Error::Tls { problem: error.to_string() })?;
    let mut client = ClientConfig::new(Arc::new(tls));
    client.transport_config(Arc::new(transport));
    Ok(client)
}

pub(super) fn server_config(config: &NetworkConfig) -> Result<ServerConfig, Error> {
    let tls = config.identity.current().server_config()?;
    let tls = QuicServerConfig::try_from(tls).map_err(|error| Error::Tls { problem: error.to_string() })?;
    let mut server = ServerConfig::with_crypto(Arc::new(tls));
    server.transport_config(Arc::new(transport_config(config.idle_timeout)));
    server.max_incoming(config.max_handshakes);
    Ok(server)
}

fn transport_config(idle_timeout: Duration) -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MAX_PACKET_BYTES);
    let mut transport = TransportConfig::default();
    transport
        .congestion_controller_factory(Arc::new(CubicConfig::default()))
        .max_concurrent_uni_streams(VarInt::from_u32(MAX_STREAMS))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_idle_timeout(IdleTimeout::try_from(idle_timeout).ok())
        .keep_alive_interval(Some(SIGN_OF_LIFE_INTERVAL))
        .initial_rtt(INITIAL_RTT)
        .mtu_discovery_config(Some(mtu))
        .enable_segmentation_offload(true)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(u64::from(CONNECTION_WINDOW_BYTES))
        .datagram_receive_buffer_size(None);
    transport
}

/// Makes connection ids without a mark of this process. quinn's own ids have one, by which it recognises
/// packets for an earlier process and ignores them. Here such packets must be answered with a stateless
/// reset: otherwise peers would wait for the idle time-out before they reconnect to the restarted node.
#[derive(Debug)]
struct AnyConnectionId;

impl ConnectionIdGenerator for AnyConnectionId {
    fn generate_cid(&mut self) -> ConnectionId {
        // Ids must differ, but need not be secret.
        ConnectionId::new(&fastrand::u64(..).to_le_bytes())
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
