//! Keeps copies of what the leader sends.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use bytes::{Buf, BytesMut};

use super::super::disk::Disk;
use super::{LENGTH_BYTES, MAX_COPY_BYTES};

/// As much as is read at once.
const READ_BYTES: usize = 256 << 10;

pub(super) struct Follower {
    leader: TcpStream,
    disk: Disk,
}

impl Follower {
    /// Waits for the leader.
    pub(super) fn start(listen: SocketAddr, disk: Disk) -> io::Result<Follower> {
        let (leader, _) = TcpListener::bind(listen)?.accept()?;
        leader.set_nodelay(true)?;
        Ok(Follower { leader, disk })
    }

    /// Writes and syncs all copies that have come, at once, and tells how many there were so far.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut memory = vec![0; READ_BYTES];
        let (mut received, mut copies) = (BytesMut::new(), Vec::new());
        let mut count = 0_u64;
        loop {
            match self.leader.read(&mut memory)? {
                0 => return Ok(()),
                bytes => received.extend_from_slice(&memory[..bytes]),
            }
            let before = count;
            while let Some(copy) = take_copy(&mut received)? {
                copies.extend_from_slice(&copy);
                count += 1;
            }
            if !copies.is_empty() {
                self.disk.write(&copies)?;
                copies.clear();
            }
            if count > before {
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
