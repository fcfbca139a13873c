//! TLS over TCP: the yardstick for QUIC, and the choice where UDP does not get through.
//!
//! `Control` and `Log` share a connection, on which control frames that wait go first; `Bulk` has its own. A
//! lost packet holds up everything on its connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::NodeId;
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::frames::{read_all, write_all};
use crate::inbox::{Inbox, inbox};
use crate::lane_queue::LaneQueue;
use crate::network::{Class, Connection, DialError, Dialer, Link, Network};
use crate::{Error, Lane, NetworkConfig, Received, SendOutcome, Transport};

const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// How long to wait after accepting has failed, for example because there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A node's end of a TCP network.
#[derive(Debug)]
pub struct TcpTransport {
    network: Arc<Network>,
    local_address: SocketAddr,
    inbox: Inbox,
    tasks: Vec<AbortHandle>,
    is_closed: bool,
}

impl TcpTransport {
    /// Listens for peers and starts to connect to them.
    ///
    /// # Errors
    ///
    /// [`Error::Listen`] if the address can't be listened on; [`Error::Tls`] if the keys do not fit together.
    pub async fn bind(config: NetworkConfig) -> Result<TcpTransport, Error> {
        let listen = |source| Error::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let local_address = listener.local_addr().map_err(listen)?;
        let acceptor = config.identity.server_config()?;
        let connector = |class: Class| config.identity.client_config(class.protocol()).map(Arc::new);
        let (main, bulk) = (connector(Class::Main)?.into(), connector(Class::Bulk)?.into());
        let (inbox_sender, inbox) = inbox();
        let network = Arc::new(Network::new(config, &inbox_sender));
        let dialer = Arc::new(TcpDialer { main, bulk, network: Arc::clone(&network) });
        let mut tasks = network.start_dialing(&dialer);
        tasks.push(tokio::spawn(accept(Arc::clone(&network), listener, acceptor)).abort_handle());
        Ok(TcpTransport { network, local_address, inbox, tasks, is_closed: false })
    }

    /// The address that is listened on: tells the port if 0 was asked for.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Dials `peer` at another address from now on.
    pub fn set_address(&self, peer: NodeId, address: String) {
        self.network.set_address(peer, address);
    }

    fn hang_up(&mut self) {
        self.is_closed = true;
        self.tasks.drain(..).for_each(|task| task.abort());
        self.network.hang_up();
        self.inbox.close();
    }
}

#[async_trait]
impl Transport for TcpTransport {
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
        self.hang_up();
        // Lets the aborted tasks end, and with them their sockets.
        tokio::task::yield_now().await;
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.hang_up();
    }
}

struct TcpDialer {
    main: TlsConnector,
    bulk: TlsConnector,
    network: Arc<Network>,
}

impl Dialer for TcpDialer {
    type Connection = TlsStream<TcpStream>;

    async fn dial(
        &self,
        peer: NodeId,
        address: SocketAddr,
        class: Class,
    ) -> Result<Self::Connection, DialError> {
        let unreachable = |error: std::io::Error| DialError::Unreachable(error.to_string());
        let stream = TcpStream::connect(address).await.map_err(unreachable)?;
        tune(&stream, &self.network).map_err(unreachable)?;
        let name = self.network.config.identity.server_name(peer);
        let name = name.map_err(|error| DialError::Refused(error.to_string()))?;
        let connector = match class {
            Class::Main => &self.main,
            Class::Bulk => &self.bulk,
        };
        let connected = connector.connect(name, stream).await.map_err(|error| {
            if is_about_identity(&error) { DialError::Refused(error.to_string()) } else { unreachable(error) }
        })?;
        Ok(connected.into())
    }
}

impl Connection for TlsStream<TcpStream> {
    async fn carry(self, link: Arc<Link>) -> String {
        let (reader, writer) = tokio::io::split(self);
        let queues: Vec<&LaneQueue> = link.queues.iter().collect();
        let error = tokio::select! {
            error = read_all(link.peer, reader, link.max_frame_bytes, link.inbox.clone()) => error,
            error = write_all(&queues, writer) => error,
        };
        error.to_string()
    }
}

/// Takes in the connections that peers open.
async fn accept(network: Arc<Network>, listener: TcpListener, tls: ServerConfig) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let handshakes = Arc::new(Semaphore::new(network.config.max_handshakes));
    loop {
        let Ok((stream, address)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // One too many is closed by being dropped.
        let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else { continue };
        let (network, acceptor) = (Arc::clone(&network), acceptor.clone());
        tokio::spawn(async move {
            admit(&network, &acceptor, stream, address).await;
            drop(permit);
        });
    }
}

async fn admit(network: &Network, acceptor: &TlsAcceptor, stream: TcpStream, address: SocketAddr) {
    if tune(&stream, network).is_err() {
        return;
    }
    let handshake = tokio::time::timeout(network.config.connect_timeout, acceptor.accept(stream));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if is_about_identity(&error) => {
            return network.complain(format!("refused a connection from {}: {error}", address.ip()));
        }
        Ok(Err(_)) | Err(_) => return,
    };
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().unwrap_or_default();
    match network.admit(chain, session.alpn_protocol().unwrap_or_default()) {
        Ok(link) => link.serve_accepted(TlsStream::from(stream)),
        Err(problem) => network.complain(format!("refused a connection from {}: {problem}", address.ip())),
    }
}

/// Whether one side does not take the other for what it should be: so rustls reports what it objects to.
fn is_about_identity(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::InvalidData
}

/// Sends at once, and notices when the other side is gone without a word.
fn tune(stream: &TcpStream, network: &Network) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE);
    socket.set_tcp_keepalive(&keep_alive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(network.config.idle_timeout))?;
    #[cfg(not(target_os = "linux"))]
    let _ = network;
    Ok(())
}
