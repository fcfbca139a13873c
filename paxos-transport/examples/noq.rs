//! A transport over a second QUIC library, noq, to compare it with `quic`, which is over quinn:
//! `cargo run --release -p paxos-transport --features certs --example noq`
//!
//! Chosen, of two: noq 1.4.0, a fork of quinn with multipath and the third version of BBR. It builds with
//! Rust 1.88, its TLS is rustls with ring, and it needs no more of a C compiler than quinn does. s2n-quic
//! 1.91.0 needs Rust 1.95, and 1.83.0, the last for this workspace, always takes its packet protection from
//! aws-lc-rs, whichever TLS it is given: a second crypto provider, which CI refuses here, and a C library to
//! build. noq leaves the buffers of its sockets as the system has them; this example asks for larger ones, as
//! `quic` does.
//!
//! What it measures, beside quinn and with BBR where packets get lost, is in the README of the crate.
//!
//! A node has a connection for each lane with each peer, where `quic` has two with several streams. The
//! certificates of the cluster prove who the peer is. Multipath stays off: a node has one address.

pub(crate) mod support;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use noq::congestion::{Bbr3Config, ControllerFactory, CubicConfig};
use noq::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use noq::rustls::pki_types::CertificateDer;
use noq::{
    ClientConfig, Connection, Endpoint, EndpointConfig, IdleTimeout, Incoming, ServerConfig, TokioRuntime,
    TransportConfig,
};
use paxos_core::NodeId;
use paxos_transport::backend::{Claim, Dialer, Hub, HubConfig, HubTransport, Pulse, tls};
use paxos_transport::conformance::NODES;
use paxos_transport::{Error, Lane, Peer, TlsIdentity, Unreachable};
use socket2::{Domain, Protocol, Socket, Type};
use support::lossy::measure_with_losses;
use tempfile::TempDir;
use tokio::net::lookup_host;
use tokio::time::timeout;

/// The protocols of the lanes.
const PROTOCOLS: [&[u8]; 3] = [b"noq-control/1", b"noq-log/1", b"noq-bulk/1"];
const MAX_FRAME_BYTES: usize = 5 << 20;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(1);
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// As `quic` has it: with the default of 333 ms, the first lost packet costs a second.
const INITIAL_RTT: Duration = Duration::from_millis(10);
const MAX_HANDSHAKES: usize = 64;
const WINDOW_BYTES: u32 = 4 << 20;
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    support::check_and_measure("noq", &mut cluster(Congestion::Cubic), true).await;
    measure_with_losses(&[
        ("noq, cubic", || cluster(Congestion::Cubic)),
        ("noq, bbr3", || cluster(Congestion::Bbr3)),
    ])
    .await;
}

pub(crate) fn cluster(congestion: Congestion) -> support::Cluster<Noq> {
    support::Cluster::new(Noq::new(&NODES, congestion), MAX_FRAME_BYTES)
}

#[derive(Clone, Copy)]
pub(crate) enum Congestion {
    Cubic,
    Bbr3,
}

pub(crate) struct Noq {
    certs: TempDir,
    congestion: Congestion,
}

impl Noq {
    /// With certificates for the nodes of a cluster, which are made now.
    pub(crate) fn new(nodes: &[NodeId], congestion: Congestion) -> Noq {
        Noq { certs: support::certificates(nodes), congestion }
    }
}

#[async_trait]
impl support::Bind for Noq {
    async fn bind(&self, config: HubConfig, address: &str, peers: &[Peer]) -> Result<HubTransport, Error> {
        let identity = Arc::new(support::identity(self.certs.path(), config.node));
        let address: SocketAddr = address.parse().map_err(Error::foreign)?;
        let transport = transport_config(self.congestion);
        let tls = tls::server_config(&identity, &PROTOCOLS)?;
        let tls = QuicServerConfig::try_from(tls).map_err(Error::foreign)?;
        let mut server = ServerConfig::with_crypto(Arc::new(tls));
        server.transport_config(Arc::clone(&transport)).max_incoming(MAX_HANDSHAKES);
        let socket = socket(address);
        let socket = socket.map_err(|error| Error::foreign(format!("can't listen on {address}: {error}")))?;
        let (config_of_all, runtime) = (EndpointConfig::default(), Arc::new(TokioRuntime));
        let endpoint = Endpoint::new(config_of_all, Some(server), socket, runtime).map_err(Error::foreign)?;
        let (hub, inbox) = Hub::new(config);
        hub.spawn(accept(Arc::clone(&hub), endpoint.clone(), Arc::clone(&identity)));
        let dialer = NoqDialer { endpoint, identity, transport };
        HubTransport::start(hub, inbox, dialer, peers).map_err(Error::foreign)
    }
}

/// noq leaves the buffers of its sockets as they are; those of most systems lose a part of each burst.
fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind(&address.into())?;
    // If the system grants less, bursts lose packets a little earlier.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    Ok(socket.into())
}

fn transport_config(congestion: Congestion) -> Arc<TransportConfig> {
    let controller: Arc<dyn ControllerFactory + Send + Sync> = match congestion {
        Congestion::Cubic => Arc::new(CubicConfig::default()),
        Congestion::Bbr3 => Arc::new(Bbr3Config::default()),
    };
    let mut transport = TransportConfig::default();
    transport
        .congestion_controller_factory(controller)
        .max_concurrent_uni_streams(0_u8.into())
        .max_concurrent_bidi_streams(1_u8.into())
        .max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok())
        .keep_alive_interval(Some(KEEP_ALIVE_INTERVAL))
        .initial_rtt(INITIAL_RTT)
        .stream_receive_window(WINDOW_BYTES.into())
        .send_window(WINDOW_BYTES.into())
        .datagram_receive_buffer_size(None);
    Arc::new(transport)
}

struct NoqDialer {
    endpoint: Endpoint,
    identity: Arc<TlsIdentity>,
    transport: Arc<TransportConfig>,
}

#[async_trait]
impl Dialer for NoqDialer {
    async fn connect(&self, claim: &Claim) -> Unreachable {
        match self.dial(claim).await {
            Ok(connection) => carry(claim, &connection, true).await,
            Err(error) => Unreachable::Foreign { problem: error.to_string() },
        }
    }
}

impl NoqDialer {
    async fn dial(&self, claim: &Claim) -> Result<Connection, Error> {
        let link = claim.link();
        let found = lookup_host(link.address()).await.map_err(Error::foreign)?.next();
        let address = found.ok_or_else(|| Error::foreign("its name has no address"))?;
        let tls = tls::client_config(&self.identity, PROTOCOLS[claim.lanes()[0] as usize])?;
        let tls = QuicClientConfig::try_from(tls).map_err(Error::foreign)?;
        let mut client = ClientConfig::new(Arc::new(tls));
        client.transport_config(Arc::clone(&self.transport));
        let name = tls::server_name(&self.identity, link.node())?;
        let connecting = self.endpoint.connect_with(client, address, &name).map_err(Error::foreign)?;
        connecting.await.map_err(Error::foreign)
    }
}

/// Accepts connections; noq bounds those that wait.
async fn accept(hub: Arc<Hub>, endpoint: Endpoint, identity: Arc<TlsIdentity>) {
    while let Some(incoming) = endpoint.accept().await {
        let (serving, identity) = (Arc::clone(&hub), Arc::clone(&identity));
        hub.spawn(async move {
            // A connection that fails or is refused is closed.
            let _ = timeout(HANDSHAKE_TIMEOUT, serve(&serving, &identity, incoming)).await;
        });
    }
}

async fn serve(hub: &Arc<Hub>, identity: &TlsIdentity, incoming: Incoming) -> Result<(), Error> {
    let connection = incoming.await.map_err(Error::foreign)?;
    let chain = connection.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer>>().ok());
    let node = tls::proved_node(identity, &chain.unwrap_or_default())?;
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let protocol = data.and_then(|data| data.protocol);
    let lane = Lane::ALL.into_iter().find(|lane| protocol.as_deref() == Some(PROTOCOLS[*lane as usize]));
    let lane = lane.ok_or_else(|| Error::foreign("it speaks another protocol"))?;
    let carry = |claim: Arc<Claim>| async move { carry(&claim, &connection, false).await };
    hub.serve(node, &[lane], carry).map_err(Error::foreign)
}

/// Carries a lane on the one stream of a connection, which the side that has dialed opens.
async fn carry(claim: &Claim, connection: &Connection, has_dialed: bool) -> Unreachable {
    let opened = if has_dialed { connection.open_bi().await } else { connection.accept_bi().await };
    let carried = match opened {
        // noq keeps the connection alive, and notices when it is silent.
        Ok((mut writer, mut reader)) => claim.carry(&mut reader, &mut writer, Pulse::default()).await,
        Err(error) => Unreachable::Lost { problem: error.to_string() },
    };
    connection.close(0_u8.into(), b"");
    carried
}
