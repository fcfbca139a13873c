//! The connections between the leader and its followers: quinn with the settings of `paxos-transport`, as far
//! as they cost or save anything while all is well.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use paxos_core::NodeId;
use paxos_transport::TlsIdentity;
use paxos_transport::backend::tls;
use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig, RecvStream, SendStream,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use socket2::SockRef;

/// What the certificates call the cluster.
pub(super) const CLUSTER: &str = "bare-store";
/// The protocol, as TLS negotiates it (ALPN).
const PROTOCOL: &[u8] = b"bare-store/1";
/// The longest packet, without the headers of UDP and IP.
const MAX_PACKET_BYTES: u16 = 1452;
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// More than a leader has under way: the stream never waits for its receiver.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 24 << 20;
const INITIAL_RTT: Duration = Duration::from_millis(10);

/// A connection with a stream each way.
pub(super) struct Link {
    pub(super) outgoing: SendStream,
    pub(super) incoming: RecvStream,
    /// It ends when this is dropped.
    _connection: Connection,
}

impl Link {
    /// Connects the leader to a follower.
    pub(super) async fn connect(identity: &TlsIdentity, to: (NodeId, SocketAddr)) -> io::Result<Link> {
        let (follower, address) = to;
        let tls = tls::client_config(identity, PROTOCOL).map_err(io::Error::other)?;
        let tls = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
        let mut config = ClientConfig::new(Arc::new(tls));
        config.transport_config(Arc::new(transport_config()));
        let endpoint = endpoint((Ipv4Addr::LOCALHOST, 0).into(), None)?;
        let name = tls::server_name(identity, follower).map_err(io::Error::other)?;
        let connection = endpoint.connect_with(config, address, &name).map_err(io::Error::other)?.await?;
        let (outgoing, incoming) = connection.open_bi().await?;
        Ok(Link { outgoing, incoming, _connection: connection })
    }

    /// Waits for the leader to connect, and for its first copy.
    pub(super) async fn accept(identity: &TlsIdentity, listen: SocketAddr) -> io::Result<Link> {
        let tls = tls::server_config(identity, &[PROTOCOL]).map_err(io::Error::other)?;
        let tls = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
        let mut config = ServerConfig::with_crypto(Arc::new(tls));
        config.transport_config(Arc::new(transport_config()));
        let endpoint = endpoint(listen, Some(config))?;
        let incoming = endpoint.accept().await.ok_or(io::ErrorKind::NotConnected)?;
        let connection = incoming.await?;
        let (outgoing, incoming) = connection.accept_bi().await?;
        Ok(Link { outgoing, incoming, _connection: connection })
    }
}

fn endpoint(address: SocketAddr, server: Option<ServerConfig>) -> io::Result<Endpoint> {
    let socket = UdpSocket::bind(address)?;
    SockRef::from(&socket).set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    SockRef::from(&socket).set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    Endpoint::new(EndpointConfig::default(), server, socket, Arc::new(TokioRuntime))
}

fn transport_config() -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MAX_PACKET_BYTES);
    let mut transport = TransportConfig::default();
    transport
        .congestion_controller_factory(Arc::new(CubicConfig::default()))
        // While other servers are measured, these processes are paused for minutes.
        .max_idle_timeout(None)
        .initial_rtt(INITIAL_RTT)
        .mtu_discovery_config(Some(mtu))
        .enable_segmentation_offload(true)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(u64::from(CONNECTION_WINDOW_BYTES))
        .datagram_receive_buffer_size(None);
    transport
}
