//! How quinn is set up, and why.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AsyncUdpSocket, ClientConfig, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, IdleTimeout,
    MtuDiscoveryConfig, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use ring::hmac;

use super::Packets;
use crate::config::MAX_LOG_STREAMS;
use crate::link::Class;
use crate::network::SIGN_OF_LIFE_INTERVAL;
use crate::{Error, NetworkConfig};

/// How many streams a peer may open on one connection: one for `Control`, and those of the `Log` lane.
const MAX_STREAMS: u32 = 8;
const _: () = assert!(1 + MAX_LOG_STREAMS == MAX_STREAMS as usize);
/// The largest packet tried: with larger ones the system no longer segments for us.
const MAX_PACKET_BYTES: u16 = 1452;
/// What is asked for; the system may grant less, and then bursts are lost a little earlier.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// How much of one stream may be under way or unread.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// The same for a connection: more than all `Log` streams together, so that `Control` has room when they are full.
const CONNECTION_WINDOW_BYTES: u32 = 24 << 20;
/// The first estimate. quinn's 333 ms would make the first loss cost a second.
const INITIAL_RTT: Duration = Duration::from_millis(10);
const CONNECTION_ID_BYTES: usize = 8;

pub(super) fn system_socket(config: &NetworkConfig) -> Result<Arc<dyn AsyncUdpSocket>, Error> {
    let listen = |source| Error::Listen { address: config.listen, source };
    let socket = UdpSocket::bind(config.listen).map_err(listen)?;
    let options = socket2::SockRef::from(&socket);
    let _ = options.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = options.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    wrap(socket).map_err(listen)
}

#[cfg(unix)]
fn wrap(socket: UdpSocket) -> std::io::Result<Arc<dyn AsyncUdpSocket>> {
    Ok(Arc::new(super::datagrams::Datagrams::new(socket)?))
}

#[cfg(not(unix))]
fn wrap(socket: UdpSocket) -> std::io::Result<Arc<dyn AsyncUdpSocket>> {
    quinn::Runtime::wrap_udp_socket(&TokioRuntime, socket)
}

pub(super) fn packets() -> std::io::Result<Packets> {
    let socket = wrap(UdpSocket::bind("127.0.0.1:0")?)?;
    Ok(Packets { max_bytes: MAX_PACKET_BYTES, segments: socket.max_transmit_segments() })
}

pub(super) fn endpoint(
    config: &NetworkConfig,
    socket: Arc<dyn AsyncUdpSocket>,
    seed: Option<[u8; 32]>,
) -> Result<Endpoint, Error> {
    let listen = |source| Error::Listen { address: config.listen, source };
    let server = server_config(config)?;
    let secret = hmac::Key::new(hmac::HMAC_SHA256, config.identity.secret());
    let reset_secret = hmac::sign(&secret, b"paxos-transport: QUIC stateless resets");
    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, reset_secret.as_ref());
    let mut endpoint = EndpointConfig::new(Arc::new(reset_key));
    endpoint.cid_generator(|| Box::new(AnyConnectionId)).rng_seed(seed);
    Endpoint::new_with_abstract_socket(endpoint, Some(server), socket, Arc::new(TokioRuntime)).map_err(listen)
}

pub(super) fn client_config(config: &NetworkConfig, class: Class) -> Result<ClientConfig, Error> {
    let tls = config.identity.client_config(class.protocol())?;
    let tls = QuicClientConfig::try_from(tls).map_err(|error| Error::Tls { problem: error.to_string() })?;
    let mut client = ClientConfig::new(Arc::new(tls));
    client.transport_config(Arc::new(transport_config(config.idle_timeout)));
    Ok(client)
}

fn server_config(config: &NetworkConfig) -> Result<ServerConfig, Error> {
    let tls = config.identity.server_config()?;
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

/// Connection ids that carry no mark of the process that made them. quinn's own do, so that packets for a process
/// that is no more are ignored; here they must be answered by a reset, or else peers would wait for the idle
/// time-out before they connect to the process that has taken its place.
#[derive(Debug)]
struct AnyConnectionId;

impl ConnectionIdGenerator for AnyConnectionId {
    fn generate_cid(&mut self) -> ConnectionId {
        // They need to be different, not secret.
        ConnectionId::new(&fastrand::u64(..).to_le_bytes())
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
