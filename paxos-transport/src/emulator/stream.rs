//! The proxy for streams of bytes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Route;
use super::schedule::Delivery;
use crate::lock::lock;

/// How many connections a proxy carries at a time; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// How many bytes of one direction of a connection may be under way. Enough for 1 Gbit/s over 64 ms.
const MAX_BYTES_UNDER_WAY: usize = 8 << 20;
/// How many bytes are read at once.
const MAX_READ_BYTES: usize = 64 << 10;
/// How long connecting to the target may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a proxy waits that can't accept a connection, as there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// The headers of IPv4 and TCP, with the time stamps that TCP adds.
const HEADER_BYTES: usize = 52;
/// The least that a segment carries, however small the MTU is.
const MIN_SEGMENT_BYTES: usize = 64;

/// What arrives at the end of a direction.
#[derive(Debug)]
pub(super) enum Piece {
    /// Bytes, with their part of [`MAX_BYTES_UNDER_WAY`].
    Bytes(Bytes, OwnedSemaphorePermit),
    /// The sender has ended this direction.
    End,
}

/// Cuts a connection, once, after all that was sent before; the other direction ends with it.
type CutSender = Mutex<Option<oneshot::Sender<()>>>;

/// Where a node dials.
pub(super) fn listening_socket() -> std::io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Carries connections until the emulator ends.
pub(super) async fn serve(listener: TcpListener, target: SocketAddr, route: Route) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((near, _)) => {
                    connections.spawn(carry(near, target, route.clone()));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries one connection to its end.
async fn carry(mut near: TcpStream, target: SocketAddr, route: Route) {
    let (forward_writer, forward_pieces) = mpsc::unbounded_channel();
    let (back_writer, back_pieces) = mpsc::unbounded_channel();
    let (cut_sender, cut_arrived) = oneshot::channel();
    let cut_sender = Mutex::new(Some(cut_sender));
    let forward = Direction::new(route.clone(), forward_writer, &cut_sender);
    let back = Direction::new(route.reversed(), back_writer, &cut_sender);
    // The three packets with which TCP connects, although the system has accepted the connection already.
    forward.pass_empty_segment().await;
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await;
    let Ok(Ok(mut far)) = connected else {
        back.pass_empty_segment().await;
        cut(&near);
        return;
    };
    let _ = near.set_nodelay(true);
    let _ = far.set_nodelay(true);
    let (near_reader, near_writer) = near.split();
    let (far_reader, far_writer) = far.split();
    let reading = async {
        let accepted_then_read = async {
            back.pass_empty_segment().await;
            forward.read(near_reader).await;
        };
        tokio::join!(accepted_then_read, back.read(far_reader));
        std::future::pending::<()>().await;
    };
    let writing = async {
        tokio::join!(write(forward_pieces, far_writer, &back), write(back_pieces, near_writer, &forward))
    };
    // In this order, so that what has arrived before a cut is written.
    let is_cut = tokio::select! {
        biased;
        ((), ()) = writing => false,
        _ = cut_arrived => true,
        () = reading => unreachable!("reading waits for the end of writing"),
    };
    if is_cut {
        cut(&near);
        cut(&far);
    }
}

/// Has the stream end with a reset when it is dropped.
fn cut(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Writes what arrives. If that fails, tells the other end, as a reset packet would.
async fn write(mut pieces: mpsc::UnboundedReceiver<Piece>, mut to: WriteHalf<'_>, back: &Direction<'_>) {
    while let Some(Piece::Bytes(bytes, room)) = pieces.recv().await {
        if to.write_all(&bytes).await.is_err() {
            back.send_cut();
            // The task ends when the cut arrives.
            return std::future::pending().await;
        }
        drop(room);
    }
    // What fails here has failed at the reading side, too.
    let _ = to.shutdown().await;
}

/// One direction of a connection, up to the link.
struct Direction<'a> {
    route: Route,
    writer: mpsc::UnboundedSender<Piece>,
    cut: &'a CutSender,
    /// The rest of [`MAX_BYTES_UNDER_WAY`].
    room: Arc<Semaphore>,
    /// When the last byte arrives that was read.
    last_arrival: Mutex<Duration>,
}

impl<'a> Direction<'a> {
    fn new(route: Route, writer: mpsc::UnboundedSender<Piece>, cut: &'a CutSender) -> Direction<'a> {
        let room = Arc::new(Semaphore::new(MAX_BYTES_UNDER_WAY));
        Direction { route, writer, cut, room, last_arrival: Mutex::default() }
    }

    /// Reads until the end, and sends everything over the link.
    async fn read(&self, mut from: ReadHalf<'_>) {
        let mut buffer = BytesMut::new();
        loop {
            let room = tokio::select! {
                biased;
                room = self.reserve() => room,
                // A reset is noticed without reading, too.
                _ = from.ready(Interest::ERROR) => return self.send_cut(),
            };
            buffer.reserve(room.num_permits());
            let read = from.read_buf(&mut (&mut buffer).limit(room.num_permits())).await;
            self.route.line.wait_while_cut().await;
            match read {
                Ok(0) => return self.send(self.arrival(0), Piece::End),
                Ok(_) => self.send_segments(buffer.split().freeze(), room),
                Err(_) => return self.send_cut(),
            }
        }
    }

    /// Waits until there is room for some bytes under way, and returns their number as permits.
    async fn reserve(&self) -> OwnedSemaphorePermit {
        let read_bytes = u32::try_from(self.wait_for_room().await).expect("a read is bounded");
        let room = Arc::clone(&self.room).acquire_many_owned(read_bytes).await;
        room.expect("the semaphore is never closed")
    }

    /// Waits until the bottleneck has room, and returns how many bytes to read.
    async fn wait_for_room(&self) -> usize {
        loop {
            let until = {
                let state = self.route.line.state();
                let queue_bytes = state.link().queue_bytes;
                let free_bytes = queue_bytes.saturating_sub(state.waiting_bytes(self.route.schedule.now()));
                if free_bytes > 0 || queue_bytes == 0 {
                    return free_bytes.clamp(MIN_SEGMENT_BYTES, MAX_READ_BYTES);
                }
                state.drained_to(queue_bytes - queue_bytes / 4)
            };
            self.route.schedule.sleep_until(until).await;
        }
    }

    /// Cuts the bytes into segments. Those that arrive at the same time stay together.
    fn send_segments(&self, mut bytes: Bytes, mut room: OwnedSemaphorePermit) {
        let mtu_bytes = self.route.line.state().link().mtu_bytes;
        let segment_bytes = mtu_bytes.saturating_sub(HEADER_BYTES).max(MIN_SEGMENT_BYTES);
        let (mut start, mut arrival) = (0, None);
        while start < bytes.len() {
            let length = segment_bytes.min(bytes.len() - start);
            let at = self.arrival(length);
            if let Some(earlier) = arrival.filter(|earlier| *earlier != at) {
                self.send_bytes(earlier, bytes.split_to(start), &mut room);
                start = 0;
            }
            arrival = Some(at);
            start += length;
        }
        if let Some(at) = arrival {
            self.send_bytes(at, bytes, &mut room);
        }
    }

    fn send_bytes(&self, at: Duration, bytes: Bytes, room: &mut OwnedSemaphorePermit) {
        let part = room.split(bytes.len()).expect("there was room for all that was read");
        self.send(at, Piece::Bytes(bytes, part));
    }

    /// When a segment arrives: not before those that were sent earlier.
    fn arrival(&self, segment_bytes: usize) -> Duration {
        let delay_back = self.route.way_back.delay();
        let segment = {
            let mut state = self.route.line.state();
            let round_trip = state.link().delay.saturating_add(delay_back);
            state.on_segment(self.route.schedule.now(), segment_bytes + HEADER_BYTES, round_trip)
        };
        if segment.retransmissions > 0 {
            self.route.schedule.record.on_lost(segment.retransmissions);
        }
        let mut last_arrival = lock(&self.last_arrival);
        *last_arrival = segment.at.max(*last_arrival);
        *last_arrival
    }

    /// Returns when a segment without bytes has arrived.
    async fn pass_empty_segment(&self) {
        self.route.line.wait_while_cut().await;
        let at = self.arrival(0);
        self.route.schedule.sleep_until(at).await;
    }

    fn send_cut(&self) {
        if let Some(cut) = lock(self.cut).take() {
            self.route.schedule.add(self.arrival(0), Delivery::Wake(cut));
        }
    }

    fn send(&self, at: Duration, piece: Piece) {
        self.route.schedule.add(at, Delivery::Stream { writer: self.writer.clone(), piece });
    }
}
