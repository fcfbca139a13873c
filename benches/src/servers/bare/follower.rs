//! A follower: writes copies of what the leader sends.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};

use bytes::{Buf, BytesMut};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::super::disk::Disk;
use super::{EVENTS, LENGTH_BYTES, MAX_COPY_BYTES, unless_blocked, wait};

/// How much is read at once.
const READ_BYTES: usize = 256 << 10;

pub(super) struct Follower {
    poll: Poll,
    leader: TcpStream,
    disk: Disk,
}

impl Follower {
    /// Waits for the leader.
    pub(super) fn start(listen: SocketAddr, disk: Disk) -> io::Result<Follower> {
        let (leader, _) = TcpListener::bind(listen)?.accept()?;
        leader.set_nodelay(true)?;
        leader.set_nonblocking(true)?;
        let (poll, mut leader) = (Poll::new()?, TcpStream::from_std(leader));
        poll.registry().register(&mut leader, Token(0), Interest::READABLE)?;
        Ok(Follower { poll, leader, disk })
    }

    /// Writes all copies that have arrived, syncs them together, and returns how many there were so far.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut memory = vec![0; READ_BYTES];
        let (mut received, mut copies) = (BytesMut::new(), Vec::new());
        let (mut count, mut events) = (0_u64, Events::with_capacity(EVENTS));
        loop {
            wait(&mut self.poll, &mut events)?;
            // All of it: the event does not come again for what is left.
            while let Some(bytes) = unless_blocked(self.leader.read(&mut memory))? {
                if bytes == 0 {
                    return Ok(());
                }
                received.extend_from_slice(&memory[..bytes]);
            }
            let before = count;
            while let Some(copy) = take_copy(&mut received)? {
                // A follower that was behind has more than fits into one write.
                if copies.len() + copy.len() > MAX_COPY_BYTES {
                    self.disk.write(&copies)?;
                    copies.clear();
                }
                copies.extend_from_slice(&copy);
                count += 1;
            }
            if !copies.is_empty() {
                self.disk.write(&copies)?;
                copies.clear();
            }
            if count > before {
                // One is under way at most, so it fits into what the system keeps for a connection.
                self.leader.write_all(&count.to_le_bytes())?;
            }
        }
    }
}

fn take_copy(received: &mut BytesMut) -> io::Result<Option<BytesMut>> {
    let Some(length) = received.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > MAX_COPY_BYTES {
        return Err(io::Error::other("a copy is longer than anything that the leader sends"));
    }
    if received.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    received.advance(LENGTH_BYTES);
    Ok(Some(received.split_to(length)))
}
