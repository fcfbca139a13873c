//! One client: read what has come, do it in order, answer.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Shared;
use super::command::{self, Meaning};
use super::parse::{Parser, ProtocolError, Request};
use super::session::{self, Next, Refusal, Session};
use super::transaction::{Queued, Transaction};
use super::write::{Writer, flatten};
use crate::client::{Client, ClientError};
use crate::kv::{Operation, Reply, Store};

/// How much is read at once.
const READ_BYTES: usize = 32 << 10;
/// Replies are sent when so many bytes of them have gathered; a client that does not read them holds up itself.
const WRITE_BYTES: usize = 64 << 10;
/// How many operations a run may have.
const MAX_RUN: usize = 4096;
/// How much of each word of an unknown request is repeated to the client, and of how many arguments.
const MAX_ECHO_BYTES: usize = 128;
const MAX_ECHO_ARGUMENTS: usize = 8;
const NEVER_READS: &str = "the client does not read its replies";

pub(super) struct Connection {
    stream: TcpStream,
    client: Client<Store>,
    shared: Arc<Shared>,
    session: Session,
    parser: Parser,
    input: BytesMut,
    output: BytesMut,
    run: Run,
    transaction: Option<Transaction>,
}

/// Operations of one kind that are done together.
#[derive(Default)]
struct Run {
    operations: Vec<Operation>,
    bytes: usize,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        client: Client<Store>,
        shared: Arc<Shared>,
        id: u64,
    ) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            client,
            session: Session::new(id),
            parser: Parser::new(shared.options),
            shared,
            input: BytesMut::new(),
            output: BytesMut::new(),
            run: Run::default(),
            transaction: None,
        })
    }

    /// Serves the client until it leaves or the node stops.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        // One for all requests: each would have to be entered into the list of those that wait.
        let mut stopping = pin!(stop.wait_for(|stop| *stop));
        loop {
            self.input.reserve(READ_BYTES);
            let read = tokio::select! {
                biased;
                _ = &mut stopping => return Ok(()),
                read = self.stream.read_buf(&mut self.input) => read?,
            };
            if read == 0 {
                return Ok(());
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
            if next == Next::Close {
                return self.stream.shutdown().await;
            }
        }
    }

    /// Does all requests that have come whole.
    async fn take_requests(&mut self) -> Result<Next, Broken> {
        while let Some(request) = self.parser.next(&mut self.input)? {
            if !request.is_empty() && self.take(&request).await? == Next::Close {
                return Ok(Next::Close);
            }
        }
        Ok(Next::GoOn)
    }

    async fn take(&mut self, request: &Request) -> io::Result<Next> {
        let mut lower = [0; command::CUT_NAME_BYTES];
        let name = command::lower_case(&request[0], &mut lower);
        match name {
            b"multi" | b"exec" | b"discard" => {
                self.finish_run().await?;
                self.take_transaction_word(name, request.len()).await?;
                return Ok(Next::GoOn);
            }
            _ => {}
        }
        match command::operation(name, request, &self.shared.options) {
            Meaning::Operation(operation) if self.transaction.is_some() => {
                self.queue(Queued::Operation(operation));
            }
            Meaning::Operation(operation) => self.add_to_run(operation).await?,
            Meaning::Error(error) if self.transaction.is_some() => self.queue(Queued::Error(error)),
            Meaning::Error(error) => {
                self.finish_run().await?;
                self.writer().head(&error);
            }
            Meaning::WrongArity => self.refuse(&command::wrong_arity(name)).await?,
            Meaning::Unknown => return self.take_local(name, request).await,
        }
        Ok(Next::GoOn)
    }

    /// Answers a request that can't even be tried; it spoils the transaction that it is in.
    async fn refuse(&mut self, error: &Reply) -> io::Result<()> {
        self.finish_run().await?;
        if let Some(transaction) = &mut self.transaction {
            transaction.spoil();
        }
        self.writer().head(error);
        Ok(())
    }

    /// Answers what does not concern the store.
    async fn take_local(&mut self, name: &[u8], request: &Request) -> io::Result<Next> {
        match session::check(name, &request[1..]) {
            Ok(()) => {}
            Err(Refusal::Known(error)) => return self.refuse(&error).await.map(|()| Next::GoOn),
            Err(Refusal::Unknown) => {
                let error = Reply::Error(Bytes::from(unknown(request)));
                return self.refuse(&error).await.map(|()| Next::GoOn);
            }
        }
        if self.transaction.is_some() {
            match name {
                b"quit" | b"reset" => self.transaction = None,
                b"watch" => {
                    self.writer().error(b"ERR WATCH inside MULTI is not allowed");
                    return Ok(Next::GoOn);
                }
                _ => {
                    self.queue(Queued::local(name, request));
                    return Ok(Next::GoOn);
                }
            }
        }
        self.finish_run().await?;
        Ok(self.answer(name, &request[1..]))
    }

    fn answer(&mut self, name: &[u8], arguments: &[Bytes]) -> Next {
        let status = self.client.status().borrow().clone();
        let mut out = Writer { buffer: &mut self.output, protocol: self.session.protocol };
        self.session.answer(name, arguments, &status, &mut out)
    }

    async fn take_transaction_word(&mut self, name: &[u8], words: usize) -> io::Result<()> {
        if words != 1 {
            return self.refuse(&command::wrong_arity(name)).await;
        }
        match (name, self.transaction.take()) {
            (b"multi", None) => {
                self.transaction = Some(Transaction::default());
                self.writer().simple("OK");
            }
            (b"multi", open) => {
                self.transaction = open;
                self.writer().error(b"ERR MULTI calls can not be nested");
            }
            (b"discard", Some(_)) => self.writer().simple("OK"),
            (b"discard", None) => self.writer().error(b"ERR DISCARD without MULTI"),
            (_, Some(transaction)) => self.execute(transaction).await?,
            (_, None) => self.writer().error(b"ERR EXEC without MULTI"),
        }
        Ok(())
    }

    fn queue(&mut self, request: Queued) {
        let Some(transaction) = &mut self.transaction else { return };
        match transaction.queue(request, &self.shared.options) {
            Ok(()) => self.writer().simple("QUEUED"),
            Err(error) => self.writer().head(&error),
        }
    }

    /// `EXEC`: all operations as one command in the log. What the connection answers by itself and what is known
    /// to fail does not go there, and is answered in its place.
    async fn execute(&mut self, transaction: Transaction) -> io::Result<()> {
        let Some(mut requests) = transaction.into_requests() else {
            self.writer().error(b"EXECABORT Transaction discarded because of previous errors.");
            return Ok(());
        };
        let operations = requests.iter_mut().filter_map(Queued::take_operation).collect::<Vec<_>>();
        let replies = if operations.is_empty() { Ok(Vec::new()) } else { self.propose(&operations).await };
        let mut replies = match replies {
            Ok(replies) => replies.into_iter(),
            Err(error) => {
                self.writer().error(&client_error(error));
                return Ok(());
            }
        };
        self.writer().array(requests.len());
        for request in requests {
            match request {
                Queued::Taken => {
                    let reply = replies.next().expect("each operation of a command has a reply");
                    self.write(vec![reply]).await?;
                }
                Queued::Error(error) => self.writer().head(&error),
                // None of these ends the connection: those that do are never queued.
                Queued::Local { name, arguments } => drop(self.answer(&name, &arguments)),
                Queued::Operation(_) => unreachable!("all operations have been taken out"),
            }
        }
        Ok(())
    }

    /// Lets an operation wait for others of its kind; what came before it of the other kind is done first.
    async fn add_to_run(&mut self, operation: Operation) -> io::Result<()> {
        let bytes = operation.size_bytes();
        let is_full = self.run.operations.first().is_some_and(|first| {
            first.is_read() != operation.is_read()
                || self.run.operations.len() >= MAX_RUN
                || self.run.bytes + bytes > self.shared.options.max_run_bytes
        });
        if is_full {
            self.finish_run().await?;
        }
        self.run.bytes += bytes;
        self.run.operations.push(operation);
        Ok(())
    }

    /// Does what has gathered, and puts the replies into the output.
    async fn finish_run(&mut self) -> io::Result<()> {
        let Run { operations, .. } = std::mem::take(&mut self.run);
        let Some(first) = operations.first() else { return Ok(()) };
        let result =
            if first.is_read() { self.read(&operations).await } else { self.propose(&operations).await };
        let replies = result.unwrap_or_else(|error| {
            let error = Reply::Error(Bytes::from(client_error(error)));
            vec![error; operations.len()]
        });
        self.write(replies).await
    }

    async fn read(&self, operations: &[Operation]) -> Result<Vec<Reply>, ClientError> {
        let store = self.client.read().await?;
        let answer = |operation| store.query(operation).expect("a run of reads holds only reads");
        Ok(operations.iter().map(answer).collect())
    }

    async fn propose(&self, operations: &[Operation]) -> Result<Vec<Reply>, ClientError> {
        let applied = self.client.propose(Operation::command(operations)).await?;
        // A response that can't be read would be a bug; the commands are applied, whatever their replies were.
        Reply::decode_all(applied.response).map_err(|_| ClientError::OutcomeUnknown)
    }

    /// Writes replies, sending them off whenever enough have gathered.
    async fn write(&mut self, replies: Vec<Reply>) -> io::Result<()> {
        for reply in flatten(replies) {
            self.writer().head(&reply);
            if self.output.len() >= WRITE_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Sends everything. A client that takes nothing for too long is cut off.
    async fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            // Almost always there is room, and no time-out need be set.
            match self.stream.try_write(&self.output) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.output.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.await_room().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn await_room(&self) -> io::Result<()> {
        let room = tokio::time::timeout(self.shared.options.write_timeout, self.stream.writable()).await;
        room.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, NEVER_READS))?
    }

    fn writer(&mut self) -> Writer<'_> {
        Writer { buffer: &mut self.output, protocol: self.session.protocol }
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

/// What a client is told when the cluster has not done what it asked for.
fn client_error(error: ClientError) -> Vec<u8> {
    let code = match error {
        ClientError::OutcomeUnknown => "TIMEOUT",
        ClientError::TooLarge { .. } => "ERR",
        _ => "CLUSTERDOWN",
    };
    format!("{code} {error}").into_bytes()
}

fn unknown(request: &Request) -> Vec<u8> {
    let shown = |word: &Bytes| String::from_utf8_lossy(&word[..word.len().min(MAX_ECHO_BYTES)]).into_owned();
    let mut line = format!("ERR unknown command '{}', with args beginning with: ", shown(&request[0]));
    for argument in request[1..].iter().take(MAX_ECHO_ARGUMENTS) {
        line.extend(["'", &shown(argument), "' "]);
    }
    line.into_bytes()
}
