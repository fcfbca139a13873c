//! The leader: takes requests, sends copies to its followers, applies what is chosen, and answers.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use paxos_core::NodeId;
use paxos_transport::TlsIdentity;
use tokio::io::{AsyncRead, ReadBuf};

use super::super::super::disk::Disk;
use super::super::ANSWER_BYTES;
use super::batch::{Asked, Batch, HEADER_BYTES, Sent, Table, first_key};
use super::clients::Clients;
use super::quic::Link;
use super::stay_awake;

pub(super) struct Leader {
    followers: Vec<Follower>,
    clients: Clients,
    disk: Disk,
    gathered: Batch,
    /// Batches that no follower has acknowledged.
    under_way: VecDeque<Sent>,
    /// How many batches were sent.
    sent: u64,
    table: Table,
    /// The answers to one client.
    answers: Vec<u8>,
}

struct Follower {
    link: Link,
    answers: BytesMut,
    /// How many batches the follower has.
    copied: u64,
}

impl Leader {
    pub(super) async fn start(
        listen: SocketAddr,
        disk: Disk,
        identity: &TlsIdentity,
        followers: &[SocketAddr],
    ) -> io::Result<Leader> {
        let mut connected = Vec::new();
        for (id, address) in (identity.node().0 + 1..).zip(followers) {
            let link = Link::connect(identity, (NodeId(id), *address)).await?;
            connected.push(Follower { link, answers: BytesMut::new(), copied: 0 });
        }
        Ok(Leader {
            followers: connected,
            clients: Clients::listen(listen)?,
            disk,
            gathered: Batch::default(),
            under_way: VecDeque::new(),
            sent: 0,
            table: Table::default(),
            answers: Vec::new(),
        })
    }

    pub(super) async fn run(mut self) -> io::Result<()> {
        loop {
            stay_awake(|context| self.poll_gather(context)).await?;
            self.copy().await?;
            self.answer()?;
        }
    }

    /// Takes the requests of clients and the answers of followers that have arrived.
    fn poll_gather(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut has_come = self.clients.poll_take(context, &mut self.gathered)?.is_ready();
        for follower in &mut self.followers {
            has_come |= follower.poll_receive(context)?.is_ready();
        }
        if has_come { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Sends the gathered batch to the followers, and syncs it here while they do the same.
    async fn copy(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let chosen = self.sent - self.under_way.len() as u64;
        let batch = self.gathered.complete(chosen)?;
        for follower in &mut self.followers {
            follower.link.outgoing.write_chunk(batch.bytes.clone()).await?;
        }
        // The copies leave.
        tokio::task::yield_now().await;
        if batch.bytes.len() > HEADER_BYTES {
            self.disk.write(&batch.bytes)?;
        }
        self.sent += 1;
        self.under_way.push_back(batch);
        Ok(())
    }

    /// Applies and answers the batches that one follower has as well, as then two of three have them.
    fn answer(&mut self) -> io::Result<()> {
        let copied = self.followers.iter().map(|follower| follower.copied).max().unwrap_or(self.sent);
        while self.sent - (self.under_way.len() as u64) < copied {
            let Some(batch) = self.under_way.pop_front() else {
                return Err(io::Error::other("a follower has more than was sent"));
            };
            self.answer_batch(&batch)?;
        }
        Ok(())
    }

    fn answer_batch(&mut self, batch: &Sent) -> io::Result<()> {
        let (mut sets, mut keys) = (&batch.bytes[HEADER_BYTES..], &batch.keys[..]);
        let mut asked = batch.asked.iter().peekable();
        while let Some((client, request)) = asked.next() {
            match request {
                Asked::Ping => self.answers.extend_from_slice(b"+PONG\r\n"),
                Asked::Get => write_value(&mut self.answers, self.table.value(first_key(&mut keys)))?,
                Asked::Set => {
                    self.table.apply_first(&mut sets)?;
                    self.answers.extend_from_slice(b"+OK\r\n");
                }
            }
            if asked.peek().is_none_or(|(next, _)| next != client) {
                self.clients.answer(*client, &self.answers);
                self.answers.clear();
            }
        }
        Ok(())
    }
}

fn write_value(answers: &mut Vec<u8>, value: Option<&[u8]>) -> io::Result<()> {
    let Some(value) = value else { return answers.write_all(b"$-1\r\n") };
    write!(answers, "${}\r\n", value.len())?;
    answers.extend_from_slice(value);
    answers.write_all(b"\r\n")
}

impl Follower {
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut memory = [0; 8 * ANSWER_BYTES];
        let mut buffer = ReadBuf::new(&mut memory);
        let Poll::Ready(read) = Pin::new(&mut self.link.incoming).poll_read(context, &mut buffer) else {
            return Poll::Pending;
        };
        read?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Err(io::Error::other("a follower is gone")));
        }
        self.answers.extend_from_slice(buffer.filled());
        while let Some(answer) = self.answers.first_chunk::<ANSWER_BYTES>() {
            self.copied = u64::from_le_bytes(*answer);
            self.answers.advance(ANSWER_BYTES);
        }
        Poll::Ready(Ok(()))
    }
}
