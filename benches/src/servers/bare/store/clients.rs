//! The leader's clients: what they ask is gathered, what they are answered is sent.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Token};
use tokio::io::unix::AsyncFd;

use super::super::{EVENTS, unless_blocked};
use super::batch::Batch;
use super::requests::{MAX_ARGUMENT_BYTES, Request};

const LISTENER: Token = Token(0);
/// The tokens of clients begin here.
const FIRST_CLIENT: usize = 1;
const READ_BYTES: usize = 64 << 10;
/// The most that is kept of a request that has not arrived in full.
const MAX_RECEIVED_BYTES: usize = 3 * MAX_ARGUMENT_BYTES;

/// All clients, watched together: to the runtime they are one thing that becomes readable.
pub(super) struct Clients {
    poll: AsyncFd<mio::Poll>,
    events: Events,
    listener: TcpListener,
    /// Places are not used again, so that no client gets the answers to another.
    by_token: Vec<Option<Client>>,
    memory: Vec<u8>,
}

struct Client {
    stream: TcpStream,
    /// The beginning of a request.
    received: BytesMut,
}

impl Clients {
    pub(super) fn listen(address: SocketAddr) -> io::Result<Clients> {
        let poll = mio::Poll::new()?;
        let mut listener = TcpListener::bind(address)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Clients {
            poll: watch(poll)?,
            events: Events::with_capacity(EVENTS),
            listener,
            by_token: Vec::new(),
            memory: vec![0; READ_BYTES],
        })
    }

    /// Gathers what clients have asked; ready if there was anything.
    pub(super) fn poll_take(
        &mut self,
        context: &mut Context<'_>,
        gathered: &mut Batch,
    ) -> Poll<io::Result<()>> {
        // It is reported again for what comes from now on.
        ready!(self.poll.poll_read_ready(context))?.clear_ready();
        loop {
            match self.poll.get_mut().poll(&mut self.events, Some(Duration::ZERO)) {
                // This happens when the process was paused.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            let mut count = 0;
            for event in &self.events {
                count += 1;
                match event.token() {
                    LISTENER => accept(&self.listener, self.poll.get_ref(), &mut self.by_token)?,
                    Token(token) => {
                        let place = token - FIRST_CLIENT;
                        let Some(client) = &mut self.by_token[place] else { continue };
                        if client.take(place, &mut self.memory, gathered).is_err() {
                            self.by_token[place] = None;
                        }
                    }
                }
            }
            if count < EVENTS {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Sends answers to a client; one that fails is dropped.
    pub(super) fn answer(&mut self, place: usize, answers: &[u8]) {
        let Some(client) = &mut self.by_token[place] else { return };
        // The answers to one pipeline always fit into what the system keeps for a connection.
        if client.stream.write_all(answers).is_err() {
            self.by_token[place] = None;
        }
    }
}

fn accept(listener: &TcpListener, poll: &mio::Poll, clients: &mut Vec<Option<Client>>) -> io::Result<()> {
    while let Some((mut stream, _)) = unless_blocked(listener.accept())? {
        stream.set_nodelay(true)?;
        let token = Token(FIRST_CLIENT + clients.len());
        poll.registry().register(&mut stream, token, Interest::READABLE)?;
        clients.push(Some(Client { stream, received: BytesMut::new() }));
    }
    Ok(())
}

impl Client {
    fn take(&mut self, place: usize, memory: &mut [u8], gathered: &mut Batch) -> io::Result<()> {
        // A pipeline is shorter than what is read at once, and no client asks again before it is answered.
        let Some(bytes) = unless_blocked(self.stream.read(memory))? else { return Ok(()) };
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.received.is_empty() {
            let rest = gather(&memory[..bytes], place, gathered)?;
            self.received.extend_from_slice(rest);
        } else {
            self.received.extend_from_slice(&memory[..bytes]);
            let rest = gather(&self.received, place, gathered)?.len();
            self.received.advance(self.received.len() - rest);
        }
        if self.received.len() > MAX_RECEIVED_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }
}

/// Gathers the requests of a client, and returns the beginning of one that has not arrived in full.
fn gather<'a>(mut received: &'a [u8], place: usize, gathered: &mut Batch) -> io::Result<&'a [u8]> {
    while let Some((request, bytes)) = Request::first_of(received)? {
        match request {
            Request::Ping => gathered.ping(place),
            Request::Get { key } => gathered.get(place, key),
            Request::Set { key, value } => gathered.set(place, key, value),
        }
        received = &received[bytes..];
    }
    Ok(received)
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, as it wants a promise that the descriptor stays the same: mio keeps it"
)]
fn watch(poll: mio::Poll) -> io::Result<AsyncFd<mio::Poll>> {
    AsyncFd::with_interest(poll, tokio::io::Interest::READABLE)
}
