//! TLS over TCP: to compare QUIC with, and for networks that block UDP.
//!
//! `Control` and `Log` share a connection, on which queued `Control` frames go first; `Bulk` has its own. A
//! lost packet delays all frames of its connection, and so does a user who does not receive from one of its
//! lanes. After each second without a frame a node sends a sign of life. A peer that sends none is noticed
//! even if its process is stopped while its kernel still acknowledges packets.

use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use paxos_core::NodeId;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::backend::{Outbox, Pulse, inbox, write_frames};
use crate::calls::{self, CallDialer, CallError, CallIdentity, CallProblem, Caller};
use crate::network::connection::Connection;
use crate::network::dialing::Dialer;
use crate::network::frames::read_all;
use crate::network::link::{Claim, Class, Ended};
use crate::network::peers::{Network, Refusal, SIGN_OF_LIFE_INTERVAL};
use crate::network::tls::{CALL_PROTOCOL, problems};
use crate::{Carrier, Error, NetworkConfig, NetworkTransport, TlsIdentity, Unreachable};

/// The pause after a failed accept, for example because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many connections the system queues until they are accepted.
const BACKLOG: i32 = 1024;
/// How long a probe waits for an answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait until a refused peer has read why.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);

/// Listens for peers and starts to connect to them.
///
/// # Errors
///
/// [`Error::Listen`] if the transport can't listen on its address; [`Error::Config`], [`Error::Name`] and
/// [`Error::Tls`] for invalid settings.
pub async fn bind(config: NetworkConfig) -> Result<NetworkTransport, Error> {
    bind_over::<TcpListener>(config).await
}

/// Makes streams: the system's, or those of a test's simulated network.
pub(crate) trait Listen: Sized + Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    fn bind(address: SocketAddr) -> impl Future<Output = io::Result<Self>> + Send;

    fn local_address(&self) -> io::Result<SocketAddr>;

    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    fn connect(address: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    /// One on all addresses of IPv6 is for those of IPv4 too.
    async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() && address.ip().is_unspecified() {
            socket.set_only_v6(false)?;
        }
        // Connections of a node that ran here before may still be ending.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
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

/// Does what [`bind`] does, over any kind of streams.
pub(crate) async fn bind_over<L: Listen>(config: NetworkConfig) -> Result<NetworkTransport, Error> {
    config.check()?;
    let identities = config.identity.subscribe();
    let acceptor = config.identity.current().server_config()?;
    let listen = |source| Error::Listen { address: config.listen, source };
    let listener = L::bind(config.listen).await.map_err(listen)?;
    let local_address = listener.local_address().map_err(listen)?;
    let (sender, inbox) = inbox();
    let network = Arc::new(Network::new(config, sender));
    let dialer = TcpDialer { network: Arc::clone(&network), streams: PhantomData::<L> };
    let keeper = network.start(&Arc::new(dialer), local_address);
    network.spawn_until_closing(accept(Arc::clone(&network), listener, acceptor, identities));
    Ok(NetworkTransport::new(network, keeper, inbox, local_address, None))
}

/// Asks the nodes at these addresses (`HOST:PORT`) in turn, until one has taken the request, and returns its
/// answer. See [`calls`].
///
/// # Errors
///
/// [`CallError`], which names each address and why it did not do.
pub async fn call(addresses: &[String], identity: &CallIdentity, request: Bytes) -> Result<Bytes, CallError> {
    let caller = TcpCaller::new(identity).map_err(|error| CallError::Tls { problem: error.to_string() })?;
    calls::call(&caller, addresses, &request).await
}

pub(crate) struct TcpCaller {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl TcpCaller {
    pub(crate) fn new(identity: &CallIdentity) -> Result<TcpCaller, Error> {
        let connector = TlsConnector::from(Arc::new(identity.client_config()?));
        Ok(TcpCaller { connector, name: identity.any_name()? })
    }
}

impl CallDialer for TcpCaller {
    type Guard = ();
    type Stream = TlsStream<TcpStream>;

    async fn dial(&self, address: SocketAddr) -> Result<(Self::Stream, ()), CallProblem> {
        let connected = <TcpListener as Listen>::connect(address).await;
        let stream = connected.map_err(|error| no_connection(&error, address))?;
        let connected = self.connector.connect(self.name.clone(), stream).await;
        Ok((connected.map_err(|error| self.explain(&error, address))?.into(), ()))
    }

    fn explain(&self, error: &io::Error, address: SocketAddr) -> CallProblem {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return CallProblem::Lost { problem: String::from("it has closed the connection") };
        }
        broken(error, address).into()
    }
}

struct TcpDialer<L> {
    network: Arc<Network>,
    streams: PhantomData<L>,
}

impl<L: Listen> Dialer for TcpDialer<L> {
    type Connection = TcpConnection<L::Stream>;

    const CARRIER: Carrier = Carrier::Tcp;

    async fn dial(
        &self,
        peer: NodeId,
        address: SocketAddr,
        class: Class,
    ) -> Result<Self::Connection, Unreachable> {
        let stream = L::connect(address).await.map_err(|error| no_connection(&error, address))?;
        let identity = self.network.config.identity.current();
        let not_set_up = |error: Error| Unreachable::Lost { problem: error.to_string() };
        let name = identity.server_name(peer).map_err(not_set_up)?;
        let config = identity.client_config(class.protocol()).map_err(not_set_up)?;
        let connector = TlsConnector::from(Arc::new(config));
        let connected = connector.connect(name, stream).await.map_err(|error| broken(&error, address))?;
        let idle_timeout = self.network.config.idle_timeout;
        Ok(TcpConnection { stream: connected.into(), address, idle_timeout })
    }

    async fn probe(&self, address: SocketAddr) -> Unreachable {
        let carrier = Carrier::Tcp;
        match tokio::time::timeout(PROBE_TIMEOUT, L::connect(address)).await {
            Ok(Ok(_)) => Unreachable::DoesNotDial { address, carrier },
            Ok(Err(error)) => no_connection(&error, address),
            Err(_) => Unreachable::Silent { address, carrier },
        }
    }
}

struct TcpConnection<S> {
    stream: TlsStream<S>,
    address: SocketAddr,
    idle_timeout: Duration,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for TcpConnection<S> {
    async fn carry(self, claim: &Arc<Claim>) -> Ended {
        let pulse = Pulse { interval: Some(SIGN_OF_LIFE_INTERVAL), timeout: Some(self.idle_timeout) };
        let address = self.address;
        let ended = |error: &io::Error| Ended::Because(broken(error, address));
        let (mut reader, mut writer) = tokio::io::split(self.stream);
        let outboxes: Vec<&Outbox> = claim.outboxes().iter().collect();
        let read = read_all(claim, &mut reader, pulse);
        let write = write_frames(&outboxes, &mut writer, pulse);
        tokio::pin!(read, write);
        let result = tokio::select! {
            result = &mut read => return result.map_or_else(|error| ended(&error), |()| closed_by_peer(claim)),
            result = &mut write => result,
        };
        if let Err(error) = result {
            return ended(&error);
        }
        // Everything is sent. Read until the peer closes its side, too: closing a socket with unread data
        // would reset the connection, and the peer could lose what was sent.
        let _ = read.await;
        Ended::Closed
    }

    fn peer_address(&self) -> SocketAddr {
        self.address
    }

    fn peer_chain(&self) -> Vec<CertificateDer<'static>> {
        let (_, session) = self.stream.get_ref();
        session.peer_certificates().unwrap_or_default().to_vec()
    }
}

/// Accepts connections of peers.
async fn accept(
    network: Arc<Network>,
    listener: impl Listen,
    tls: ServerConfig,
    mut identities: watch::Receiver<Arc<TlsIdentity>>,
) {
    let mut acceptor = TlsAcceptor::from(Arc::new(tls));
    let handshakes = Arc::new(Semaphore::new(network.config.max_handshakes));
    let mut has_failed = false;
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if !std::mem::replace(&mut has_failed, true) {
                    tracing::warn!(%error, "can't accept connections of peers for now");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if std::mem::take(&mut has_failed) {
            tracing::warn!("accepting connections of peers again");
        }
        // Dropping the stream closes a connection beyond the limit.
        let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else { continue };
        if identities.has_changed().unwrap_or_default() {
            match identities.borrow_and_update().server_config() {
                Ok(tls) => acceptor = TlsAcceptor::from(Arc::new(tls)),
                Err(error) => tracing::error!(%error, "the new certificate is not used"),
            }
        }
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
    let accepted = acceptor.accept(stream).into_fallible();
    let handshake = tokio::time::timeout(network.config.handshake_timeout, accepted);
    let Ok(handshake) = handshake.await else { return };
    let stream = match handshake {
        Ok(stream) => stream,
        Err((error, stream)) => {
            network.on_failed_handshake(address.ip(), broken(&error, address));
            // Closing a socket with unread data could discard the alert that tells the peer why.
            let _ = tokio::time::timeout(REFUSAL_TIMEOUT, read_off(stream)).await;
            return;
        }
    };
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().unwrap_or_default();
    if session.alpn_protocol() == Some(CALL_PROTOCOL) {
        let caller = network.admit_caller(chain);
        admit_call(network, stream.into(), caller, address).await;
        return;
    }
    match network.admit(chain, session.alpn_protocol().unwrap_or_default()) {
        Ok(link) => {
            let idle_timeout = network.config.idle_timeout;
            network.serve(&link, TcpConnection { stream: stream.into(), address, idle_timeout });
        }
        Err(refusal) => {
            network.on_refused(address.ip(), &refusal);
            // A stream that ends before any frame tells the peer that it was refused.
            let _ = tokio::time::timeout(REFUSAL_TIMEOUT, read_off(stream)).await;
        }
    }
}

/// Serves a call, unless the caller is refused or all places are taken.
async fn admit_call<S>(
    network: &Arc<Network>,
    mut stream: TlsStream<S>,
    caller: Result<Caller, Refusal>,
    address: SocketAddr,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let caller = match caller {
        Ok(caller) => caller,
        Err(refusal) => {
            network.on_refused(address.ip(), &refusal);
            let _ = tokio::time::timeout(REFUSAL_TIMEOUT, read_off(stream)).await;
            return;
        }
    };
    let place = match network.calls.enter() {
        Ok(place) => place,
        Err(declined) => {
            let told = async {
                if declined.tell(&mut stream).await.is_ok() {
                    read_off(stream).await;
                }
            };
            let _ = tokio::time::timeout(REFUSAL_TIMEOUT, told).await;
            return;
        }
    };
    let request_timeout = network.config.handshake_timeout;
    network.spawn_until_closing(async move {
        match place.serve(caller, &mut stream, request_timeout).await {
            Ok(()) => tracing::debug!(%address, %caller, "call served"),
            Err(error) => tracing::debug!(%address, %caller, %error, "a call has broken"),
        }
        drop(place);
        let _ = tokio::time::timeout(REFUSAL_TIMEOUT, read_off(stream)).await;
    });
}

/// Closes the sending side, and reads until the other side has closed its own.
async fn read_off<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let mut ignored = [0; 1024];
    if stream.shutdown().await.is_ok() {
        while matches!(stream.read(&mut ignored).await, Ok(count) if count > 0) {}
    }
}

/// Why a peer has closed a connection. A peer that accepts a connection sends a sign of life first.
fn closed_by_peer(claim: &Claim) -> Ended {
    if claim.is_opened() {
        Ended::lost("it has closed the connection")
    } else {
        Ended::Because(Unreachable::NotAdmitted {
            problem: String::from("it has closed the connection at once"),
        })
    }
}

/// Why connecting has failed.
fn no_connection(error: &io::Error, address: SocketAddr) -> Unreachable {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Unreachable::Refused { address, carrier: Carrier::Tcp },
        io::ErrorKind::TimedOut => Unreachable::Silent { address, carrier: Carrier::Tcp },
        io::ErrorKind::ConnectionReset => Unreachable::Unresponsive { address, carrier: Carrier::Tcp },
        _ => Unreachable::NoRoute { address, problem: error.to_string() },
    }
}

/// Why a connection has broken, or its handshake has failed.
fn broken(error: &io::Error, address: SocketAddr) -> Unreachable {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(error) => problems::of_error(error, address),
        None if error.kind() == io::ErrorKind::TimedOut => {
            Unreachable::Lost { problem: String::from("no sign of life") }
        }
        None => Unreachable::Lost { problem: error.to_string() },
    }
}
