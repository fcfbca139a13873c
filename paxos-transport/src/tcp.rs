//! TLS over TCP: the yardstick for QUIC, and the choice where UDP does not get through.
//!
//! `Control` and `Log` share a connection, on which control frames that wait go first; `Bulk` has its own. A
//! lost packet holds up everything on its connection, and so does a user who takes no frames of one of its lanes.
//! Every second without a frame a sign of life is sent, so that a peer that is stopped, whose kernel goes on
//! acknowledging, is found out too.

use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use paxos_core::NodeId;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::frames::{Pulse, read_all, write_all};
use crate::inbox::inbox;
use crate::link::{Claim, Class};
use crate::network::{Connection, Dialer, Ended, Network, SIGN_OF_LIFE_INTERVAL};
use crate::queue::LaneQueue;
use crate::{Error, NetworkConfig, NetworkTransport};

/// How long to wait after accepting has failed, for example because there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens for peers and starts to connect to them.
///
/// # Errors
///
/// [`Error::Listen`] if the address can't be listened on; [`Error::Config`], [`Error::Name`] and [`Error::Tls`]
/// if the settings do not fit together.
pub async fn bind(config: NetworkConfig) -> Result<NetworkTransport, Error> {
    bind_over::<TcpListener>(config).await
}

/// Where streams come from: the system, or the simulated network of a test.
pub(crate) trait Listen: Sized + Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    fn bind(address: SocketAddr) -> impl Future<Output = io::Result<Self>> + Send;

    fn local_address(&self) -> io::Result<SocketAddr>;

    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    fn connect(address: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn bind(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, address) = TcpListener::accept(self).await?;
        // It fails only if the peer is gone already, and then so does the handshake.
        let _ = stream.set_nodelay(true);
        Ok((stream, address))
    }

    async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// As [`bind`], over any kind of streams.
pub(crate) async fn bind_over<L: Listen>(config: NetworkConfig) -> Result<NetworkTransport, Error> {
    config.check()?;
    let acceptor = config.identity.server_config()?;
    let connector = |class: Class| config.identity.client_config(class.protocol()).map(Arc::new);
    let (main, bulk) = (connector(Class::Main)?.into(), connector(Class::Bulk)?.into());
    let listen = |source| Error::Listen { address: config.listen, source };
    let listener = L::bind(config.listen).await.map_err(listen)?;
    let local_address = listener.local_address().map_err(listen)?;
    let (sender, inbox) = inbox();
    let network = Arc::new(Network::new(config, &sender));
    let dialer = TcpDialer { main, bulk, network: Arc::clone(&network), streams: PhantomData::<L> };
    network.start_dialing(&Arc::new(dialer));
    network.spawn_until_closing(accept(Arc::clone(&network), listener, acceptor));
    Ok(NetworkTransport::new(network, inbox, local_address, None))
}

struct TcpDialer<L> {
    main: TlsConnector,
    bulk: TlsConnector,
    network: Arc<Network>,
    streams: PhantomData<L>,
}

impl<L: Listen> Dialer for TcpDialer<L> {
    type Connection = TcpConnection<L::Stream>;

    fn can_reach(&self, _: SocketAddr) -> bool {
        true
    }

    async fn dial(&self, peer: NodeId, address: SocketAddr, class: Class) -> Result<Self::Connection, Ended> {
        let stream = L::connect(address).await.map_err(|error| ended(&error))?;
        let name = self.network.config.identity.server_name(peer);
        let name = name.map_err(|error| Ended::Refused(error.to_string()))?;
        let connector = match class {
            Class::Main => &self.main,
            Class::Bulk => &self.bulk,
        };
        let connected = connector.connect(name, stream).await.map_err(|error| ended(&error))?;
        Ok(TcpConnection { stream: connected.into(), idle_timeout: self.network.config.idle_timeout })
    }
}

struct TcpConnection<S> {
    stream: TlsStream<S>,
    idle_timeout: Duration,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for TcpConnection<S> {
    async fn carry(self, claim: &Arc<Claim>) -> Ended {
        let pulse = Pulse { interval: Some(SIGN_OF_LIFE_INTERVAL), timeout: Some(self.idle_timeout) };
        let (mut reader, mut writer) = tokio::io::split(self.stream);
        let queues: Vec<&LaneQueue> = claim.queues().iter().collect();
        let read = read_all(claim, &mut reader, pulse);
        let write = write_all(claim, &queues, &mut writer, pulse);
        tokio::pin!(read, write);
        let result = tokio::select! {
            result = &mut read => return result.map_or_else(|error| ended(&error), |()| peer_has_closed()),
            result = &mut write => result,
        };
        if let Err(error) = result {
            return ended(&error);
        }
        // Everything is sent. What arrives is read until the peer ends too: to hang up on it could undo the sending.
        let _ = read.await;
        Ended::Closed
    }
}

/// Takes in the connections that peers open.
async fn accept(network: Arc<Network>, listener: impl Listen, tls: ServerConfig) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let handshakes = Arc::new(Semaphore::new(network.config.max_handshakes));
    loop {
        let Ok((stream, address)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // One too many is closed by being dropped.
        let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else { continue };
        let (admitting, acceptor) = (Arc::clone(&network), acceptor.clone());
        network.spawn_until_closing(async move {
            admit(&admitting, &acceptor, stream, address).await;
            drop(permit);
        });
    }
}

async fn admit<S>(network: &Arc<Network>, acceptor: &TlsAcceptor, stream: S, address: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let handshake = tokio::time::timeout(network.config.handshake_timeout, acceptor.accept(stream));
    let Ok(handshake) = handshake.await else { return };
    let stream = match handshake {
        Ok(stream) => stream,
        Err(error) => {
            if let Ended::Refused(problem) = ended(&error) {
                network.complain_of(address, &problem);
            }
            return;
        }
    };
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().unwrap_or_default();
    match network.admit(chain, session.alpn_protocol().unwrap_or_default()) {
        Ok(link) => {
            let idle_timeout = network.config.idle_timeout;
            network.serve(&link, TcpConnection { stream: stream.into(), idle_timeout });
        }
        Err(problem) => network.complain_of(address, &problem),
    }
}

/// What TLS objects to is about who is who; everything else passes.
fn ended(error: &io::Error) -> Ended {
    if matches!(error.get_ref(), Some(inner) if inner.is::<rustls::Error>()) {
        Ended::Refused(error.to_string())
    } else {
        Ended::Broken(error.to_string())
    }
}

fn peer_has_closed() -> Ended {
    Ended::Broken(String::from("the peer has closed the connection"))
}
