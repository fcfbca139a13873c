//! A stored snapshot as a stream of bytes.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::Slot;
use paxos_storage::{Error, ErrorKind, Storage};

/// How much of a snapshot is read at once to restore it.
pub(super) const READ_BYTES: usize = 1 << 20;
/// How long a reader waits for a file descriptor, and how long between attempts.
const READ_PATIENCE: Duration = Duration::from_secs(10);
const READ_PAUSE: Duration = Duration::from_millis(50);

/// Reads a snapshot through a function that reads the piece at an offset.
pub(super) struct SnapshotReader<R> {
    read_piece: R,
    offset: u64,
    buffered: Bytes,
}

impl<R: FnMut(u64) -> io::Result<Option<Bytes>>> SnapshotReader<R> {
    pub(super) fn new(read_piece: R) -> Self {
        SnapshotReader { read_piece, offset: 0, buffered: Bytes::new() }
    }

    /// Waits for a file descriptor if there is none.
    fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        let asked_at = Instant::now();
        loop {
            let piece = (self.read_piece)(self.offset);
            let is_short = piece.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull);
            if !is_short || asked_at.elapsed() > READ_PATIENCE {
                return piece;
            }
            std::thread::sleep(READ_PAUSE);
        }
    }
}

impl<R: FnMut(u64) -> io::Result<Option<Bytes>>> io::Read for SnapshotReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.buffered.is_empty() {
            let piece = self.next_piece()?;
            self.buffered = piece.ok_or_else(|| io::Error::other("the snapshot is gone"))?;
            self.offset += self.buffered.len() as u64;
        }
        let length = self.buffered.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.buffered.split_to(length));
        Ok(length)
    }
}

/// The bytes of a snapshot in a storage that has no writer yet.
pub(crate) fn read_stored(storage: &mut dyn Storage, slot: Slot) -> impl io::Read {
    SnapshotReader::new(move |offset| storage.read_snapshot(slot, offset, READ_BYTES).map_err(to_io))
}

pub(super) fn to_io(error: Error) -> io::Error {
    match error.kind() {
        ErrorKind::Full => io::Error::new(io::ErrorKind::StorageFull, error),
        _ => io::Error::other(error),
    }
}
