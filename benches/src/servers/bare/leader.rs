//! The leader: takes requests, sends copies to its followers, and answers.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, BytesMut};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::super::disk::Disk;
use super::super::resp;
use super::super::work::{VALUE_BYTES, Work};
use super::{ANSWER_BYTES, EVENTS, MAX_COPY_BYTES, unless_blocked, wait};

const LISTENER: Token = Token(0);
/// The followers' tokens begin here, those of clients behind them.
const FIRST_FOLLOWER: usize = 1;
const READ_BYTES: usize = 64 << 10;
/// How long the leader waits for its followers at the start.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY_PAUSE: Duration = Duration::from_millis(20);

pub(super) struct Leader {
    poll: Poll,
    listener: TcpListener,
    followers: Vec<Follower>,
    /// By their tokens. Places are not used again, so that no client gets the answers to another.
    clients: Vec<Option<Client>>,
    disk: Disk,
    memory: Vec<u8>,
    gathered: Batch,
    /// Batches that a follower has not acknowledged.
    under_way: VecDeque<Batch>,
    /// How many batches were sent.
    sent: u64,
}

struct Follower {
    stream: TcpStream,
    outgoing: BytesMut,
    answers: BytesMut,
    /// How many batches the follower has.
    copied: u64,
}

struct Client {
    stream: TcpStream,
    received: BytesMut,
    /// Answers to its requests, held back until they may be sent.
    answers: BytesMut,
}

/// The requests that arrived in one turn.
#[derive(Default)]
struct Batch {
    /// The bytes of requests that must be on disk.
    writes: BytesMut,
    /// How many bytes of each client's answers wait for this batch.
    answers: Vec<(usize, usize)>,
}

/// A request of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Request {
    Ping,
    Get,
    Set,
}

impl Leader {
    pub(super) fn start(listen: SocketAddr, disk: Disk, followers: &[SocketAddr]) -> io::Result<Leader> {
        let poll = Poll::new()?;
        let mut connected = Vec::new();
        for (token, address) in (FIRST_FOLLOWER..).zip(followers) {
            let mut stream = connect(*address)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(token), interest)?;
            let (outgoing, answers) = (BytesMut::new(), BytesMut::new());
            connected.push(Follower { stream, outgoing, answers, copied: 0 });
        }
        let mut listener = TcpListener::bind(listen)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Leader {
            poll,
            listener,
            followers: connected,
            clients: Vec::new(),
            disk,
            memory: vec![0; READ_BYTES],
            gathered: Batch::default(),
            under_way: VecDeque::new(),
            sent: 0,
        })
    }

    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            wait(&mut self.poll, &mut events)?;
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(token) if token < self.first_client() => {
                        let follower = &mut self.followers[token - FIRST_FOLLOWER];
                        follower.send()?;
                        follower.receive(&mut self.memory)?;
                    }
                    Token(token) => self.take(token - self.first_client()),
                }
            }
            self.copy()?;
            self.answer();
        }
    }

    fn first_client(&self) -> usize {
        FIRST_FOLLOWER + self.followers.len()
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Some((mut stream, _)) = unless_blocked(self.listener.accept())? {
            stream.set_nodelay(true)?;
            let token = Token(self.first_client() + self.clients.len());
            self.poll.registry().register(&mut stream, token, Interest::READABLE)?;
            let (received, answers) = (BytesMut::new(), BytesMut::new());
            self.clients.push(Some(Client { stream, received, answers }));
        }
        Ok(())
    }

    /// Gathers the requests of a client; a client that fails is dropped.
    fn take(&mut self, place: usize) {
        let Some(client) = &mut self.clients[place] else { return };
        if client.take(place, &mut self.memory, &mut self.gathered).is_err() {
            self.clients[place] = None;
        }
    }

    /// Sends the gathered batch to the followers, and syncs it here while they do the same.
    fn copy(&mut self) -> io::Result<()> {
        if self.gathered.answers.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.gathered);
        if batch.writes.len() > MAX_COPY_BYTES {
            return Err(io::Error::other("more is under way than the bench ever asks for"));
        }
        let length = u32::try_from(batch.writes.len()).expect("it was compared with what is allowed");
        for follower in &mut self.followers {
            follower.outgoing.put_u32_le(length);
            follower.outgoing.extend_from_slice(&batch.writes);
            follower.send()?;
        }
        if !batch.writes.is_empty() {
            self.disk.write(&batch.writes)?;
        }
        self.sent += 1;
        self.under_way.push_back(batch);
        Ok(())
    }

    /// Sends the answers to requests that one follower has as well, as then two of three have them.
    fn answer(&mut self) {
        let copied = self.followers.iter().map(|follower| follower.copied).max().unwrap_or(self.sent);
        while self.sent - (self.under_way.len() as u64) < copied {
            let batch = self.under_way.pop_front().expect("followers have no more than was sent");
            for (place, bytes) in batch.answers {
                let Some(client) = &mut self.clients[place] else { continue };
                let answers = client.answers.split_to(bytes);
                // The answers to one pipeline always fit into what the system keeps for a connection.
                if client.stream.write_all(&answers).is_err() {
                    self.clients[place] = None;
                }
            }
        }
    }
}

impl Follower {
    fn send(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            let Some(bytes) = unless_blocked(self.stream.write(&self.outgoing))? else { return Ok(()) };
            self.outgoing.advance(bytes);
        }
        Ok(())
    }

    fn receive(&mut self, memory: &mut [u8]) -> io::Result<()> {
        if let Some(bytes) = unless_blocked(self.stream.read(memory))? {
            if bytes == 0 {
                return Err(io::Error::other("a follower is gone"));
            }
            self.answers.extend_from_slice(&memory[..bytes]);
        }
        while let Some(answer) = self.answers.first_chunk::<ANSWER_BYTES>() {
            self.copied = u64::from_le_bytes(*answer);
            self.answers.advance(ANSWER_BYTES);
        }
        Ok(())
    }
}

impl Client {
    fn take(&mut self, place: usize, memory: &mut [u8], gathered: &mut Batch) -> io::Result<()> {
        // A pipeline is shorter than what is read at once, and no client asks again before it is answered.
        let Some(bytes) = unless_blocked(self.stream.read(memory))? else { return Ok(()) };
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.received.extend_from_slice(&memory[..bytes]);
        let before = self.answers.len();
        while let Some(request) = Request::first_of(&self.received)? {
            if self.received.len() < request.bytes() {
                break;
            }
            let bytes = self.received.split_to(request.bytes());
            match request {
                Request::Ping => self.answers.extend_from_slice(b"+PONG\r\n"),
                Request::Get => {
                    self.answers.extend_from_slice(format!("${VALUE_BYTES}\r\n").as_bytes());
                    self.answers.put_bytes(b'x', VALUE_BYTES);
                    self.answers.extend_from_slice(b"\r\n");
                }
                Request::Set => {
                    gathered.writes.extend_from_slice(&bytes);
                    self.answers.extend_from_slice(b"+OK\r\n");
                }
            }
        }
        if self.answers.len() > before {
            gathered.answers.push((place, self.answers.len() - before));
        }
        Ok(())
    }
}

impl Request {
    /// Those of the bench differ in their number of words.
    fn first_of(received: &[u8]) -> io::Result<Option<Request>> {
        match received {
            [] | [b'*'] => Ok(None),
            [b'*', b'1', ..] => Ok(Some(Request::Ping)),
            [b'*', b'2', ..] => Ok(Some(Request::Get)),
            [b'*', b'3', ..] => Ok(Some(Request::Set)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn bytes(self) -> usize {
        match self {
            Request::Ping => resp::PING.len(),
            Request::Get => resp::request_bytes(Work::Get),
            Request::Set => resp::request_bytes(Work::Set),
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match std::net::TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                return Ok(TcpStream::from_std(stream));
            }
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => std::thread::sleep(RETRY_PAUSE),
        }
    }
}
