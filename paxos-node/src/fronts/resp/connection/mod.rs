//! One client: reads what has come, carries it out in order, and answers.

mod access;
mod dispatch;
mod listening;
mod sending;
mod transactions;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use self::access::Session;
use super::RespFront;
use super::clients::Connected;
use super::errors::client_error;
use super::local::ClientInfo;
use super::parse::{Parser, ProtocolError};
use super::pubsub::{Kind, Subscriber};
use super::run;
use super::stream::Stream;
use super::transaction::Transaction;
use super::watched::Watched;
use super::write::Writer;
use crate::client::{Client, ClientError};
use crate::fronts::budget::{Lease, Told};
use crate::kv::{Operation, Store};

/// How much is read at once: from a client that sends little, and from one that fills that buffer.
const MIN_READ_BYTES: usize = 4 << 10;
const MAX_READ_BYTES: usize = 32 << 10;
/// Larger buffers are freed at once, and smaller ones when they have not been used for a while.
const LARGE_BYTES: usize = 256 << 10;
/// How many operations a run may have.
const MAX_RUN: usize = 4096;
pub(super) struct Connection {
    stream: Stream,
    client: Client<Store>,
    front: Arc<RespFront>,
    client_info: ClientInfo,
    /// `None` where there are no users.
    session: Option<Session>,
    /// Where others see this client.
    connected: Connected,
    last_command: &'static str,
    parser: Parser,
    input: BytesMut,
    /// The largest capacity that `input` has had since it was made: operations may still share parts of it.
    input_bytes: usize,
    read_bytes: usize,
    output: BytesMut,
    /// The size of replies that are not in `output` yet.
    reply_bytes: usize,
    lease: Lease,
    run: Run,
    transaction: Option<Transaction>,
    watched: Watched,
    /// What the client listens to, if it does.
    subscriber: Option<Subscriber>,
    /// The client was told `LOADING`, and may have sent more before it heard that.
    is_told_loading: bool,
    /// How much was read and written since other tasks could run.
    turn_bytes: usize,
    /// Requests that are not in the front's count yet.
    requests: u64,
}

/// Operations that are carried out together: all of them read, or all of them write.
#[derive(Default)]
struct Run {
    operations: Vec<Operation>,
    bytes: usize,
}

impl Connection {
    pub(super) fn new(stream: Stream, client: Client<Store>, front: Arc<RespFront>, id: u64) -> Connection {
        let (address, local_address) = stream.addresses();
        let connected = front.clients.add(id, address, local_address);
        let mut connection = Connection {
            stream,
            client,
            connected,
            last_command: "NULL",
            client_info: ClientInfo::new(id),
            session: front.users.as_ref().map(Session::new),
            parser: Parser::new(front.settings),
            lease: front.budget.lease(id),
            front,
            input: BytesMut::new(),
            input_bytes: 0,
            read_bytes: MIN_READ_BYTES,
            output: BytesMut::new(),
            reply_bytes: 0,
            run: Run::default(),
            transaction: None,
            watched: Watched::default(),
            subscriber: None,
            is_told_loading: false,
            turn_bytes: 0,
            requests: 0,
        };
        connection.limit_requests();
        connection
    }

    /// Serves the client until it leaves or the node stops.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        // One future for all requests: each new one would be registered with the channel.
        let mut stopping = pin!(stop.wait_for(|stop| *stop));
        loop {
            if self.is_told_loading {
                self.is_told_loading = self.stream.has_unread().await;
            }
            self.input.reserve(self.read_bytes);
            self.input_bytes = self.input_bytes.max(self.input.capacity());
            if self.lease.hold(self.held_bytes()).await.is_err() {
                return self.leave().await;
            }
            self.lease.waits_for_client(true);
            let (is_held, is_listening) = (self.lease.is_held(), self.subscriber.is_some());
            let silence_timeout = self.silence_timeout();
            let event = tokio::select! {
                biased;
                _ = &mut stopping => return Ok(()),
                () = self.connected.killed() => return Ok(()),
                read = self.stream.read_buf(&mut self.input) => Event::Read(read?),
                told = self.lease.told(), if is_held => Event::Told(told),
                () = news(&mut self.subscriber), if is_listening => Event::News,
                () = silence(silence_timeout), if !is_listening => return Ok(()),
            };
            self.lease.waits_for_client(false);
            let read = match event {
                Event::Read(0) => return Ok(()),
                Event::Read(read) => read,
                Event::Told(Told::Leave) if !self.is_idle() => return self.leave().await,
                Event::Told(_) => {
                    self.shrink().await;
                    continue;
                }
                // The client finds that it has missed something by the end of the connection.
                Event::News if !self.may_listen() => return Ok(()),
                Event::News => {
                    self.tell().await?;
                    continue;
                }
            };
            self.lease.heard_of_client();
            if self.input.len() == self.input.capacity() {
                self.read_bytes = MAX_READ_BYTES;
            }
            let next = match self.take_requests().await {
                Ok(next) => next,
                Err(Broken::Protocol(ProtocolError(line))) => {
                    self.finish_run().await?;
                    self.writer().error(line.as_bytes());
                    Next::Close
                }
                Err(Broken::Stream(error)) => return Err(error),
            };
            self.finish_run().await?;
            self.flush().await?;
            // A client that never pauses hears of something, too.
            self.tell().await?;
            self.front.requests.fetch_add(std::mem::take(&mut self.requests), Ordering::Relaxed);
            self.front.traffic.received_bytes.fetch_add(read as u64, Ordering::Relaxed);
            self.show();
            self.count_turn(read).await;
            if next == Next::Close {
                return self.linger().await;
            }
            if self.held_bytes() > LARGE_BYTES {
                self.shrink().await;
            }
        }
    }

    /// How much memory this connection takes.
    fn held_bytes(&self) -> usize {
        let queued_bytes = self.transaction.as_ref().map_or(0, Transaction::size_bytes);
        let buffers_bytes = self.input_bytes + self.parser.size_bytes() + self.output.capacity();
        let listening_bytes = self.subscriber.as_ref().map_or(0, Subscriber::size_bytes);
        buffers_bytes + self.reply_bytes + queued_bytes + self.watched.size_bytes() + listening_bytes
    }

    /// Whether no request, reply or transaction is incomplete.
    fn is_idle(&self) -> bool {
        self.input.is_empty() && self.output.is_empty() && self.transaction.is_none()
    }

    /// Frees the buffers that are not needed now.
    async fn shrink(&mut self) {
        if self.input.len() <= MIN_READ_BYTES {
            self.input = BytesMut::from(&self.input[..]);
            self.input_bytes = self.input.capacity();
            self.read_bytes = MIN_READ_BYTES;
        }
        if self.output.is_empty() {
            self.output = BytesMut::new();
        }
        // It is no more than before, so this does not wait.
        let _ = self.lease.hold(self.held_bytes()).await;
    }

    /// Adds an operation to the run, after the run was carried out if it is full or of the other kind.
    async fn add_to_run(&mut self, operation: Operation) -> io::Result<()> {
        let bytes = operation.size_bytes();
        let is_full = self.run.operations.first().is_some_and(|first| {
            first.is_read() != operation.is_read()
                || self.run.operations.len() >= MAX_RUN
                || self.run.bytes + bytes > self.front.settings.max_run_bytes
        });
        if is_full {
            self.finish_run().await?;
        }
        self.run.bytes += bytes;
        self.run.operations.push(operation);
        Ok(())
    }

    /// Carries out the operations of the run, and writes their replies.
    async fn finish_run(&mut self) -> io::Result<()> {
        let Run { operations, .. } = std::mem::take(&mut self.run);
        let Some(first) = operations.first() else { return Ok(()) };
        let replies = if let Err(error) = self.check_recovered().await {
            vec![client_error(error); operations.len()]
        } else if first.is_read() {
            let read = run::read(&self.client, &self.front.long_runs, &operations).await;
            read.unwrap_or_else(|error| vec![client_error(error); operations.len()])
        } else {
            let mut replies = run::write(&self.client, &operations, client_error).await;
            listening::count_receivers(&self.front.registry, &operations, &mut replies);
            replies
        };
        self.write(replies).await
    }

    /// Waits a moment for a node that recovers, unless the client was told just now that it does.
    ///
    /// Once one request of a pipeline is answered with `LOADING`, so are all behind it: redis-py 8.1 sends a
    /// whole pipeline again if one of its replies is `LOADING`, and what had been carried out would be so
    /// twice.
    async fn check_recovered(&mut self) -> Result<(), ClientError> {
        if self.is_told_loading {
            return Err(ClientError::Recovering);
        }
        let recovered = run::check_recovered(&self.client).await;
        self.is_told_loading = matches!(recovered, Err(ClientError::Recovering));
        recovered
    }

    /// Shows others what this client does.
    fn show(&self) {
        let kinds = [Kind::Channels, Kind::Patterns];
        let [channels, patterns] =
            kinds.map(|kind| self.subscriber.as_ref().map_or(0, |subscriber| subscriber.count_of(kind)));
        self.connected.show(|shown| {
            self.client_info.show_in(shown);
            shown.command = self.last_command;
            shown.heard_at = Instant::now();
            (shown.channels, shown.patterns) = (channels, patterns);
            shown.is_tracking = self.tracking().is_some();
            shown.watched = self.watched.len();
            shown.queued = self.transaction.as_ref().map(Transaction::len);
            shown.memory_bytes = self.held_bytes();
        });
    }

    fn writer(&mut self) -> Writer<'_> {
        Writer { buffer: &mut self.output, protocol: self.client_info.protocol }
    }
}

/// Whether the connection goes on after a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    GoOn,
    /// The client has asked for the end.
    Close,
}

/// What a connection has waited for.
enum Event {
    /// This many bytes were read.
    Read(usize),
    Told(Told),
    /// Something has happened to which the client may listen.
    News,
}

/// Resolves when something has happened.
async fn news(subscriber: &mut Option<Subscriber>) {
    match subscriber {
        Some(subscriber) => subscriber.ready().await,
        None => std::future::pending().await,
    }
}

/// Resolves after a client has been silent for too long.
async fn silence(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}

/// Why a connection ends before its client wants it to.
enum Broken {
    Protocol(ProtocolError),
    Stream(io::Error),
}

impl From<ProtocolError> for Broken {
    fn from(error: ProtocolError) -> Broken {
        Broken::Protocol(error)
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        Broken::Stream(error)
    }
}
