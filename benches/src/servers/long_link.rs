//! A long link to one node: a proxy in front of it that delays all bytes, and may limit their rate.
//!
//! It runs on a thread of its own. Streams are acknowledged by the proxy's own kernel at once, so what is
//! seen over TCP is what the nodes make of a round trip, not what TCP does. Datagrams are only passed on, so
//! that QUIC sees the whole round trip itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

use super::failure::Failure;

/// The most bytes of a stream that are passed on at once.
const PIECE_BYTES: usize = 64 << 10;
/// How many bytes of one stream may be on their way: more than a second's worth of any rate that is limited.
const STREAM_BYTES: usize = 64 << 20;
/// Datagrams that would have to wait for the link for longer than this are lost, as in a router.
const LONGEST_QUEUE: Duration = Duration::from_millis(200);
const MAX_DATAGRAM_BYTES: usize = 2048;
/// How many bytes of datagrams the kernel is asked to hold for the proxy.
const SOCKET_BYTES: usize = 4 << 20;

/// What a link is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinkSettings {
    pub(super) round_trip: Duration,
    /// In bits per second, in each direction; `None` for no limit.
    pub(super) rate: Option<u64>,
    pub(super) carries: Carries,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Carries {
    Streams,
    Datagrams,
}

/// The link to a node. Its thread ends when this is dropped.
pub(super) struct LongLink {
    /// Where other nodes reach the node.
    pub(super) port: u16,
    to_node: Arc<Direction>,
    end: Arc<Notify>,
}

/// One direction of a link, shared by all connections.
struct Direction {
    delay: Duration,
    rate: Option<u64>,
    bytes: AtomicU64,
    /// When the link has sent everything that it was given.
    free_at: Mutex<Instant>,
}

impl LongLink {
    /// A link to the node that listens on `target`, entered at `port`.
    pub(super) fn start(port: u16, target: u16, settings: LinkSettings) -> Result<LongLink, Failure> {
        let fail = |error: std::io::Error| Failure::new(format!("the long link can't be made: {error}"));
        let direction = || Arc::new(Direction::new(settings));
        let (to_node, from_node, end) = (direction(), direction(), Arc::new(Notify::new()));
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, target));
        let entry = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fail)?;
        let (to, ended) = (Arc::clone(&to_node), Arc::clone(&end));
        let run = move || {
            runtime.block_on(async {
                let carry = async {
                    match settings.carries {
                        Carries::Streams => carry_streams(entry, target, to, from_node).await,
                        Carries::Datagrams => carry_datagrams(entry, target, to, from_node).await,
                    }
                };
                tokio::select! {
                    result = carry => if let Err(error) = result { eprintln!("the long link has broken: {error}") },
                    () = ended.notified() => {}
                }
            });
        };
        std::thread::Builder::new().name(String::from("long-link")).spawn(run).map_err(fail)?;
        Ok(LongLink { port, to_node, end })
    }

    /// How many bytes have gone to the node.
    pub(super) fn bytes_to_node(&self) -> u64 {
        self.to_node.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for LongLink {
    fn drop(&mut self) {
        self.end.notify_one();
    }
}

impl Direction {
    fn new(settings: LinkSettings) -> Direction {
        Direction {
            delay: settings.round_trip / 2,
            rate: settings.rate,
            bytes: AtomicU64::new(0),
            free_at: Mutex::new(Instant::now()),
        }
    }

    /// When these bytes arrive, if they are given to the link now. `None` if they would have to wait for
    /// longer than `longest`.
    fn arrival(&self, bytes: usize, longest: Option<Duration>) -> Option<Instant> {
        let now = Instant::now();
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = (*free_at).max(now);
        if longest.is_some_and(|longest| begins > now + longest) {
            return None;
        }
        let takes = self.rate.map_or(Duration::ZERO, |rate| {
            Duration::from_nanos(bytes as u64 * 8 * 1_000_000_000 / rate.max(1))
        });
        *free_at = begins + takes;
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Some(begins + takes + self.delay)
    }
}

async fn carry_streams(
    entry: SocketAddr,
    target: SocketAddr,
    to_node: Arc<Direction>,
    from_node: Arc<Direction>,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(entry).await?;
    loop {
        let (near, _) = listener.accept().await?;
        let (to_node, from_node) = (Arc::clone(&to_node), Arc::clone(&from_node));
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(target).await else { return };
            if near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).is_err() {
                return;
            }
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::select! {
                () = carry(near_in, far_out, to_node) => {}
                () = carry(far_in, near_out, from_node) => {}
            }
        });
    }
}

/// Passes a stream on until either end is gone.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, direction: Arc<Direction>) {
    let room = Arc::new(Semaphore::new(STREAM_BYTES));
    let (under_way, mut arriving) = mpsc::unbounded_channel();
    let read = async {
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            let held = Arc::clone(&room).acquire_many_owned(u32::try_from(count).unwrap_or(u32::MAX)).await;
            let Some(at) = direction.arrival(count, None) else { return };
            if under_way.send((at, piece[..count].to_vec(), held)).is_err() {
                return;
            }
        }
    };
    let write = async {
        while let Some((at, piece, _held)) = arriving.recv().await {
            sleep_until(at).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}

/// A datagram on its way, and when it arrives.
type Datagram = (Instant, Vec<u8>);

/// Passes datagrams on. Each sender gets a socket of its own to the node.
async fn carry_datagrams(
    entry: SocketAddr,
    target: SocketAddr,
    to_node: Arc<Direction>,
    from_node: Arc<Direction>,
) -> std::io::Result<()> {
    let near = Arc::new(socket(entry)?);
    let mut senders: Vec<(SocketAddr, mpsc::UnboundedSender<Datagram>)> = Vec::new();
    let mut datagram = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        let (count, from) = near.recv_from(&mut datagram).await?;
        let place = senders.iter().position(|(sender, _)| *sender == from);
        let place = if let Some(place) = place {
            place
        } else {
            let far = Arc::new(socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?);
            far.connect(target).await?;
            let (there, arriving) = mpsc::unbounded_channel();
            tokio::spawn(deliver(arriving, Arc::clone(&far), None));
            tokio::spawn(carry_back(far, Arc::clone(&near), from, Arc::clone(&from_node)));
            senders.push((from, there));
            senders.len() - 1
        };
        if let Some(at) = to_node.arrival(count, Some(LONGEST_QUEUE)) {
            let _ = senders[place].1.send((at, datagram[..count].to_vec()));
        }
    }
}

async fn carry_back(far: Arc<UdpSocket>, near: Arc<UdpSocket>, to: SocketAddr, direction: Arc<Direction>) {
    let (there, arriving) = mpsc::unbounded_channel();
    tokio::spawn(deliver(arriving, near, Some(to)));
    let mut datagram = vec![0; MAX_DATAGRAM_BYTES];
    // A node that is not there has the kernel refuse datagrams, which are lost then.
    loop {
        let Ok(count) = far.recv(&mut datagram).await else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        if let Some(at) = direction.arrival(count, Some(LONGEST_QUEUE)) {
            let _ = there.send((at, datagram[..count].to_vec()));
        }
    }
}

/// Sends datagrams when they arrive.
async fn deliver(
    mut arriving: mpsc::UnboundedReceiver<Datagram>,
    socket: Arc<UdpSocket>,
    to: Option<SocketAddr>,
) {
    while let Some((at, datagram)) = arriving.recv().await {
        sleep_until(at).await;
        let _ = match to {
            Some(to) => socket.send_to(&datagram, to).await,
            None => socket.send(&datagram).await,
        };
    }
}

fn socket(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    let _ = socket.set_recv_buffer_size(SOCKET_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}
