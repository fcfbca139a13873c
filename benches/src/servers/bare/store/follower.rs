//! A follower: writes copies of what the leader sends, and applies those that are chosen.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use paxos_transport::TlsIdentity;
use tokio::io::AsyncReadExt;

use super::super::super::disk::Disk;
use super::super::MAX_COPY_BYTES;
use super::batch::{Arrived, HEADER_BYTES, Table};
use super::quic::Link;
use super::stay_awake;

/// How much is read at once.
const READ_BYTES: usize = 256 << 10;

pub(super) struct Follower {
    link: Link,
    disk: Disk,
    received: BytesMut,
    /// How many batches have arrived.
    count: u64,
    /// Those that are not applied.
    waiting: VecDeque<Bytes>,
    chosen: u64,
    table: Table,
}

impl Follower {
    /// Waits for the leader.
    pub(super) async fn start(
        listen: SocketAddr,
        disk: Disk,
        identity: &TlsIdentity,
    ) -> io::Result<Follower> {
        Ok(Follower {
            link: Link::accept(identity, listen).await?,
            disk,
            received: BytesMut::new(),
            count: 0,
            waiting: VecDeque::new(),
            chosen: 0,
            table: Table::default(),
        })
    }

    /// Writes all copies that have arrived, syncs them together, returns how many there were so far, and
    /// applies those that are chosen.
    pub(super) async fn run(mut self) -> io::Result<()> {
        loop {
            stay_awake(|context| self.poll_receive(context)).await?;
            while self.write()? {
                self.link.outgoing.write_all(&self.count.to_le_bytes()).await?;
                // The answer leaves.
                tokio::task::yield_now().await;
                self.apply()?;
            }
        }
    }

    /// Reads all that has arrived.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let before = self.received.len();
        loop {
            self.received.reserve(READ_BYTES);
            let read = pin!(self.link.incoming.read_buf(&mut self.received)).poll(context);
            if read.is_pending() && self.received.len() > before {
                return Poll::Ready(Ok(()));
            }
            if ready!(read)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Writes the whole batches in what has arrived, as many as fit into one write; `false` if there are
    /// none.
    fn write(&mut self) -> io::Result<bool> {
        let (mut bytes, mut has_sets, mut lengths) = (0, false, Vec::new());
        while let Some(arrived) = Arrived::first_of(&self.received[bytes..])? {
            if bytes + arrived.bytes > MAX_COPY_BYTES {
                break;
            }
            bytes += arrived.bytes;
            has_sets |= arrived.bytes > HEADER_BYTES;
            self.chosen = arrived.chosen;
            lengths.push(arrived.bytes);
        }
        if has_sets {
            self.disk.write(&self.received[..bytes])?;
        }
        let has_any = !lengths.is_empty();
        self.count += lengths.len() as u64;
        self.waiting.extend(lengths.into_iter().map(|bytes| self.received.split_to(bytes).freeze()));
        Ok(has_any)
    }

    /// Applies the batches that are known to be chosen.
    fn apply(&mut self) -> io::Result<()> {
        while self.count - (self.waiting.len() as u64) < self.chosen {
            let Some(batch) = self.waiting.pop_front() else { return Ok(()) };
            let mut sets = &batch[HEADER_BYTES..];
            while !sets.is_empty() {
                self.table.apply_first(&mut sets)?;
            }
        }
        Ok(())
    }
}
