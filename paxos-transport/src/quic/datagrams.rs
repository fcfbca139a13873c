//! A UDP socket that wakes its task only when packets arrive.
//!
//! tokio's socket is registered for both directions. When a sent packet leaves the machine, or its receiver
//! on the same machine reads it, the send buffer has more space and the system reports that: a node woke up
//! once more for each packet it had sent, on loopback just when the receiver needed the processor. This
//! socket is registered for arrivals alone and assumes that there is space to send. After a send that found
//! none, a second registration waits for it.
//!
//! A read that returns fewer packets than it could has emptied the socket, so it is not read again in vain.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::paths::SendErrors;

/// A UDP socket that is registered for arrivals.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: AsyncFd<UdpSocket>,
    state: UdpSocketState,
    errors: Arc<SendErrors>,
    /// Whether a send has found no space in the buffer, and none has been reported since.
    is_full: AtomicBool,
}

impl Datagrams {
    /// Registers `socket` with the current tokio runtime. Errors of sending are noted in `errors`.
    pub(super) fn new(socket: UdpSocket, errors: Arc<SendErrors>) -> io::Result<Datagrams> {
        // Sets the options that QUIC needs, and non-blocking mode.
        let state = UdpSocketState::new((&socket).into())?;
        let socket = watch(socket, Interest::READABLE)?;
        Ok(Datagrams { socket, state, errors, is_full: AtomicBool::new(false) })
    }
}

impl AsyncUdpSocket for Datagrams {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(SendSpace { datagrams: self, watched: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match self.state.try_send(self.socket.get_ref().into(), transmit) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_full.store(true, Ordering::Relaxed);
                Err(error)
            }
            // To QUIC, a packet that can't be sent is a lost packet.
            Err(error) => {
                self.errors.note(transmit, &error);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.socket.poll_read_ready(context))?;
            let read = ready.try_io(|socket| self.state.recv(socket.get_ref().into(), buffers, meta));
            let Ok(received) = read else { continue }; // The readiness was outdated.
            if received.as_ref().is_ok_and(|count| *count < buffers.len()) {
                ready.clear_ready();
            }
            return Poll::Ready(received);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }
}

/// Waits for space in the send buffer if there was none, with a registration that ends as soon as there is
/// some.
#[derive(Debug)]
struct SendSpace {
    datagrams: Arc<Datagrams>,
    watched: Option<AsyncFd<UdpSocket>>,
}

impl UdpPoller for SendSpace {
    /// quinn calls this before each send.
    fn poll_writable(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let watched = match self.watched.take() {
            Some(watched) => watched,
            None if !self.datagrams.is_full.load(Ordering::Relaxed) => return Poll::Ready(Ok(())),
            None => watch(self.datagrams.socket.get_ref().try_clone()?, Interest::WRITABLE)?,
        };
        if watched.poll_write_ready(context)?.is_ready() {
            self.datagrams.is_full.store(false, Ordering::Relaxed);
            return Poll::Ready(Ok(()));
        }
        self.watched = Some(watched);
        Poll::Pending
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, as it wants a promise that the descriptor stays the same: a socket of std keeps it"
)]
fn watch(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
    AsyncFd::with_interest(socket, interest)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const DATAGRAM: [u8; 1000] = [7; 1000];
    /// More than fit into the smallest send buffer of any system.
    const MANY: usize = 1000;

    fn poll_now(room: &mut Pin<Box<dyn UdpPoller>>) -> Poll<io::Result<()>> {
        room.as_mut().poll_writable(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn a_sender_without_space_is_woken_when_there_is_some() -> io::Result<()> {
        let receiver = UdpSocket::bind("127.0.0.1:0")?;
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        // What waits at the receiver takes room at the sender, if it is not lost there.
        socket2::SockRef::from(&receiver).set_recv_buffer_size(1 << 20)?;
        socket2::SockRef::from(&socket).set_send_buffer_size(1)?;
        let sender = Arc::new(Datagrams::new(socket, Arc::default())?);
        let transmit = Transmit {
            destination: receiver.local_addr()?,
            ecn: None,
            contents: &DATAGRAM,
            segment_size: None,
            src_ip: None,
        };
        let mut room = Arc::clone(&sender).create_io_poller();
        assert!(poll_now(&mut room).is_ready(), "a send that may succeed is not held up");
        let refused = (0..MANY).find_map(|_| sender.try_send(&transmit).err());
        let Some(refused) = refused else { return Ok(()) }; // A system that takes all of them has no such case.
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        let waits =
            timeout(Duration::from_millis(20), poll_fn(|context| room.as_mut().poll_writable(context)));
        assert!(waits.await.is_err(), "there is no room before the receiver reads");
        receiver.set_nonblocking(true)?;
        while receiver.recv(&mut [0; 1000]).is_ok() {}
        let woken = timeout(Duration::from_secs(10), poll_fn(|context| room.as_mut().poll_writable(context)));
        woken.await.expect("whoever waits is woken")?;
        assert!(poll_now(&mut room).is_ready(), "there is room until a send finds none");
        sender.try_send(&transmit)
    }

    #[tokio::test]
    async fn datagrams_that_come_one_by_one_are_all_read() -> io::Result<()> {
        let sender = UdpSocket::bind("127.0.0.1:0")?;
        let receiver = Datagrams::new(UdpSocket::bind("127.0.0.1:0")?, Arc::default())?;
        for _ in 0..3 {
            // Each comes to a socket that the read before has emptied.
            sender.send_to(&DATAGRAM, receiver.local_addr()?)?;
            let (mut bytes, mut meta) = ([[0; 2000]; 2], [RecvMeta::default(); 2]);
            let mut buffers = bytes.each_mut().map(|bytes| IoSliceMut::new(bytes));
            let read = poll_fn(|context| receiver.poll_recv(context, &mut buffers, &mut meta));
            let count = timeout(Duration::from_secs(10), read).await.expect("it arrives")?;
            assert_eq!((count, meta[0].len), (1, DATAGRAM.len()));
        }
        Ok(())
    }
}
