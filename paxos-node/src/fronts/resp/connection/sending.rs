//! Sends replies to clients that may not read them, and ends connections so that clients can read the last
//! reply.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Connection, MAX_READ_BYTES};
use crate::fronts::budget::{NoMemory, Told};
use crate::fronts::resp::write::flatten;
use crate::kv::Reply;

/// Replies are sent when they have gathered this many bytes. A client that does not read them delays only
/// itself.
const WRITE_BYTES: usize = 64 << 10;
/// After reading or writing this many bytes a connection lets the other tasks of its thread run.
const TURN_BYTES: usize = 256 << 10;
/// How much is read, and for how long, from a client that got its last reply.
const LINGER_BYTES: usize = 64 << 20;
const LINGER_TIME: Duration = Duration::from_secs(1);
const NEVER_READS: &str = "the client does not read its replies";
const NO_MEMORY: &str = "OOM this request has waited too long for its rest, or for the memory that it takes while other \
                         clients need it: send it again";

impl Connection {
    /// Writes replies, and sends them whenever enough have gathered.
    pub(super) async fn write(&mut self, replies: Vec<Reply>) -> io::Result<()> {
        self.reply_bytes = replies.iter().map(Reply::size_bytes).sum();
        for reply in flatten(replies) {
            self.writer().head(&reply);
            self.flush_if_full().await?;
        }
        self.reply_bytes = 0;
        Ok(())
    }

    pub(super) async fn flush_if_full(&mut self) -> io::Result<()> {
        if self.output.len() >= WRITE_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Sends everything that was written.
    ///
    /// # Errors
    ///
    /// If the client reads nothing for too long, or the connection is broken.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write_now(&self.output).await {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.output.advance(written);
                    self.count_turn(written).await;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.await_room().await?,
                Err(error) => return Err(error),
            }
        }
        match self.stream.flush_now().await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.await_room().await,
            flushed => flushed,
        }
    }

    /// Lets other tasks run now and then. As long as there is something to read and room to write, neither
    /// waits, and one client could keep the node from its peers.
    pub(super) async fn count_turn(&mut self, bytes: usize) {
        self.turn_bytes += bytes;
        if self.turn_bytes >= TURN_BYTES {
            self.turn_bytes = 0;
            tokio::task::yield_now().await;
        }
    }

    async fn await_room(&mut self) -> io::Result<()> {
        let out_of_memory = || io::Error::new(io::ErrorKind::OutOfMemory, NEVER_READS);
        self.lease.hold(self.held_bytes()).await.map_err(|NoMemory| out_of_memory())?;
        self.lease.waits_for_client(true);
        let (stream, lease) = (&mut self.stream, &self.lease);
        let room = tokio::time::timeout(self.front.settings.write_timeout, async {
            loop {
                tokio::select! {
                    room = stream.room() => return room,
                    // Buffers that hold replies can't shrink.
                    told = lease.told() => if told == Told::Leave { return Err(out_of_memory()) },
                }
            }
        })
        .await;
        self.lease.waits_for_client(false);
        room.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, NEVER_READS))?
    }

    /// Answers that there is no memory for the request, and ends the connection.
    pub(super) async fn leave(&mut self) -> io::Result<()> {
        self.writer().error(NO_MEMORY.as_bytes());
        self.input = BytesMut::new();
        self.parser = self.new_parser();
        self.transaction = None;
        self.flush().await?;
        self.output = BytesMut::new();
        // It is less than before, so this does not wait.
        let _ = self.lease.hold(0).await;
        self.linger().await
    }

    /// Ends the connection so that the client can read the last reply. If a socket is closed while it holds
    /// unread bytes, the kernel resets the connection, and the client may lose replies that it has not read.
    pub(super) async fn linger(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        let read_off = async {
            let mut read_bytes = 0;
            while read_bytes < LINGER_BYTES {
                self.input.clear();
                self.input.reserve(MAX_READ_BYTES);
                match self.stream.read_buf(&mut self.input).await {
                    Ok(0) | Err(_) => return,
                    Ok(read) => read_bytes += read,
                }
            }
        };
        let _ = tokio::time::timeout(LINGER_TIME, read_off).await; // After that the client may lose the reply.
        Ok(())
    }
}
