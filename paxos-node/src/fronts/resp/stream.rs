//! The stream of bytes to a client: plain, or TLS over it.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A client's stream.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<Socket>>),
}

/// A socket that can go from one runtime to another, as the handshake is made elsewhere.
#[derive(Debug)]
pub(super) enum Socket {
    /// On the present runtime.
    Here(TcpStream),
    /// On its way: it can't be used.
    Moving(std::net::TcpStream),
    /// It could not be moved, and is closed.
    Lost,
}

impl Stream {
    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Stream::Plain(socket) => Some(socket),
            Stream::Tls(stream) => match stream.get_ref().0 {
                Socket::Here(socket) => Some(socket),
                Socket::Moving(_) | Socket::Lost => None,
            },
        }
    }

    /// The client's address; one that nobody has if it is gone already.
    pub(super) fn peer_ip(&self) -> IpAddr {
        let address = self.socket().and_then(|socket| socket.peer_addr().ok());
        address.map_or(Ipv6Addr::UNSPECIFIED.into(), |address| address.ip().to_canonical())
    }

    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        self.socket()?.local_addr().ok()
    }

    /// Whether the client has sent more than was read so far.
    pub(super) async fn has_unread(&mut self) -> bool {
        let (socket, is_decrypted) = match self {
            Stream::Plain(socket) => (socket, false),
            Stream::Tls(stream) => {
                let (socket, session) = stream.get_mut();
                let Socket::Here(socket) = socket else { return false };
                let state = session.process_new_packets();
                (socket, state.is_ok_and(|state| state.plaintext_bytes_to_read() > 0))
            }
        };
        let mut next = [0];
        let peeked = poll_fn(|context| {
            Poll::Ready(socket.poll_peek(context, &mut ReadBuf::new(&mut next)).is_ready())
        });
        is_decrypted || peeked.await
    }

    /// Writes as much as there is room for now.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if there is no room; others if the connection is broken.
    pub(super) async fn write_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            // The socket almost always has room; looking whether it has would cost more.
            Stream::Plain(socket) => socket.try_write(bytes),
            Stream::Tls(stream) => {
                poll_fn(|context| Poll::Ready(now(Pin::new(&mut *stream).poll_write(context, bytes)))).await
            }
        }
    }

    /// Sends what was written and is kept back, as far as there is room for it now.
    ///
    /// # Errors
    ///
    /// As [`write_now`](Stream::write_now).
    pub(super) async fn flush_now(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(_) => Ok(()),
            Stream::Tls(stream) => {
                poll_fn(|context| Poll::Ready(now(Pin::new(&mut *stream).poll_flush(context)))).await
            }
        }
    }

    /// Waits for room.
    pub(super) async fn room(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.writable().await,
            Stream::Tls(stream) => poll_fn(|context| Pin::new(&mut *stream).poll_flush(context)).await,
        }
    }
}

fn now<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Socket {
    /// Takes the socket from its runtime.
    pub(super) fn leave(&mut self) -> io::Result<()> {
        self.replace(|socket| match socket {
            Socket::Here(socket) => socket.into_std().map(Socket::Moving),
            other => Ok(other),
        })
    }

    /// Gives the socket to the present runtime.
    pub(super) fn arrive(&mut self) -> io::Result<()> {
        self.replace(|socket| match socket {
            Socket::Moving(socket) => TcpStream::from_std(socket).map(Socket::Here),
            other => Ok(other),
        })
    }

    fn replace(&mut self, change: impl FnOnce(Socket) -> io::Result<Socket>) -> io::Result<()> {
        *self = change(std::mem::replace(self, Socket::Lost))?;
        Ok(())
    }

    fn here(self: Pin<&mut Self>) -> io::Result<Pin<&mut TcpStream>> {
        match self.get_mut() {
            Socket::Here(socket) => Ok(Pin::new(socket)),
            Socket::Moving(_) | Socket::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.here()?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.here()?.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.here()?.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.here()?.poll_shutdown(context)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
