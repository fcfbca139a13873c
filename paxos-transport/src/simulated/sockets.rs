//! Adapts the sockets of `turmoil` to the backends.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::sync::mpsc;
use turmoil::net::{TcpListener, TcpStream, UdpSocket};

use crate::lock::lock;
use crate::tcp::Listen;

/// Longer than any datagram that is sent.
const MAX_DATAGRAM_BYTES: usize = 2048;
/// How many datagrams may wait to be read.
const RECEIVE_QUEUE: usize = 4096;

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn bind(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        TcpListener::accept(self).await
    }

    async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }
}

/// Datagrams that a test loses, in addition to those that the network loses.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// The next datagram of at least this many bytes is lost; 0 for none.
    at_least_bytes: AtomicUsize,
}

impl Losses {
    /// Loses the next datagram of at least this many bytes.
    pub(super) fn lose_next(&self, at_least_bytes: usize) {
        self.at_least_bytes.store(at_least_bytes, Ordering::Relaxed);
    }

    /// Whether that datagram was lost.
    pub(super) fn is_done(&self) -> bool {
        self.at_least_bytes.load(Ordering::Relaxed) == 0
    }

    fn takes(&self, datagram_bytes: usize) -> bool {
        let at_least = self.at_least_bytes.load(Ordering::Relaxed);
        let takes = at_least > 0 && datagram_bytes >= at_least;
        if takes {
            self.lose_next(0);
        }
        takes
    }
}

/// A datagram socket on the simulated network.
pub(super) struct SimulatedUdp {
    socket: Arc<UdpSocket>,
    /// Filled by a task on the socket's host. Turmoil wants a socket to be dropped there, and the task, which
    /// ends when nobody reads any more, is the last to hold it.
    arrived: Mutex<mpsc::Receiver<(Vec<u8>, SocketAddr)>>,
    losses: Arc<Losses>,
}

impl SimulatedUdp {
    pub(super) async fn bind(address: SocketAddr, losses: Arc<Losses>) -> io::Result<SimulatedUdp> {
        let socket = Arc::new(UdpSocket::bind(address).await?);
        let (arriving, arrived) = mpsc::channel(RECEIVE_QUEUE);
        let reading = Arc::clone(&socket);
        tokio::spawn(async move {
            let mut buffer = [0; MAX_DATAGRAM_BYTES];
            loop {
                let read = tokio::select! {
                    biased;
                    () = arriving.closed() => return,
                    read = reading.recv_from(&mut buffer) => read,
                };
                if let Ok((length, from)) = read {
                    // A full queue loses it, as the system's would.
                    let _ = arriving.try_send((buffer[..length].to_vec(), from));
                }
            }
        });
        Ok(SimulatedUdp { socket, arrived: Mutex::new(arrived), losses })
    }
}

impl fmt::Debug for SimulatedUdp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SimulatedUdp").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for SimulatedUdp {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.losses.takes(transmit.contents.len()) {
            return Ok(());
        }
        self.socket.try_send_to(transmit.contents, transmit.destination).map(drop)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let arrived = ready!(lock(&self.arrived).poll_recv(context));
        let (bytes, addr) = arrived.ok_or(io::ErrorKind::BrokenPipe)?;
        let len = bytes.len().min(buffers[0].len());
        buffers[0][..len].copy_from_slice(&bytes[..len]);
        meta[0] = RecvMeta { addr, len, stride: len, ecn: None, dst_ip: None };
        Poll::Ready(Ok(1))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// A datagram is sent or lost; there is nothing to wait for.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
