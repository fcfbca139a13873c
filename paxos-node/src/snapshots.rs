//! Taking snapshots of this node's own state, beside its work.

use std::io::{self, Write};
use std::sync::mpsc as blocking;
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use paxos_core::{Slot, SnapshotMeta};

use crate::state_machine::SnapshotWriter;
use crate::writer::{Job, JobSender, Writer};

/// A snapshot is handed to the writer in pieces of this size, one at a time.
const PIECE_BYTES: usize = 1 << 20;
/// What a slot is taken to add to the log on disk beside its value.
const SLOT_BYTES: u64 = 512;

/// When a snapshot of this node's own state is due.
#[derive(Debug)]
pub(crate) struct OwnSnapshots {
    after_bytes: u64,
    last_size_bytes: u64,
    grown_bytes: u64,
    /// Alive as long as a snapshot is being written.
    under_way: Weak<()>,
}

impl OwnSnapshots {
    pub(crate) fn new(after_bytes: u64, last: Option<SnapshotMeta>) -> OwnSnapshots {
        let last_size_bytes = last.map_or(0, |meta| meta.size_bytes);
        OwnSnapshots { after_bytes, last_size_bytes, grown_bytes: 0, under_way: Weak::new() }
    }

    /// Counts a value that was applied; `true` if it is time for a snapshot.
    pub(crate) fn on_applied(&mut self, value_bytes: usize) -> bool {
        self.grown_bytes += value_bytes as u64 + SLOT_BYTES;
        self.under_way.strong_count() == 0 && self.grown_bytes >= self.after_bytes.max(self.last_size_bytes)
    }

    pub(crate) fn on_saved(&mut self, meta: SnapshotMeta) {
        self.last_size_bytes = meta.size_bytes;
    }

    /// Has the snapshot of `slot` written, on a thread of its own unless the storage is inline.
    pub(crate) fn take(&mut self, slot: Slot, write: SnapshotWriter, writer: &mut Writer) {
        let under_way = Arc::new(());
        self.under_way = Arc::downgrade(&under_way);
        self.grown_bytes = 0;
        match writer.sender() {
            Some(jobs) => {
                let work = move || {
                    report(slot, write_all(slot, write, PieceTarget::Thread(jobs)));
                    drop(under_way);
                };
                let spawned = std::thread::Builder::new().name(String::from("paxos-snapshot")).spawn(work);
                if let Err(error) = spawned {
                    report(slot, Err(error));
                }
            }
            None => report(slot, write_all(slot, write, PieceTarget::Inline(writer))),
        }
    }
}

fn report(slot: Slot, result: io::Result<()>) {
    match result {
        Ok(()) => tracing::debug!(slot = slot.0, "a snapshot is written"),
        Err(error) => {
            tracing::warn!(slot = slot.0, %error, "no snapshot could be written; the log goes on growing");
        }
    }
}

fn write_all(slot: Slot, write: SnapshotWriter, target: PieceTarget<'_>) -> io::Result<()> {
    let mut pieces = Pieces { slot, target, buffer: BytesMut::new(), offset: 0, checksum: 0 };
    write(&mut pieces)?;
    pieces.flush()?;
    let meta = SnapshotMeta { slot, size_bytes: pieces.offset, checksum: pieces.checksum };
    pieces.target.submit(Job::FinishSnapshot { meta, is_own: true })
}

/// Where the pieces go.
enum PieceTarget<'a> {
    Thread(JobSender),
    Inline(&'a mut Writer),
}

impl PieceTarget<'_> {
    fn submit(&mut self, job: Job) -> io::Result<()> {
        match self {
            PieceTarget::Thread(jobs) => jobs.submit(job).then_some(()).ok_or_else(stopped),
            PieceTarget::Inline(writer) => {
                writer.submit(job);
                Ok(())
            }
        }
    }
}

/// Cuts a stream into pieces, each handed over only after the one before is written.
struct Pieces<'a> {
    slot: Slot,
    target: PieceTarget<'a>,
    buffer: BytesMut,
    offset: u64,
    checksum: u32,
}

impl Pieces<'_> {
    fn hand_over(&mut self, data: Bytes) -> io::Result<()> {
        let (author, written) = blocking::sync_channel(1);
        let (slot, offset) = (self.slot, self.offset);
        self.checksum = crc32c::crc32c_append(self.checksum, &data);
        self.offset += data.len() as u64;
        self.target.submit(Job::StoreSnapshot { slot, offset, data, author: Some(author) })?;
        written.recv().map_err(|_| stopped())
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        while self.buffer.len() >= PIECE_BYTES {
            let piece = self.buffer.split_to(PIECE_BYTES).freeze();
            self.hand_over(piece)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let rest = self.buffer.split().freeze();
        if rest.is_empty() { Ok(()) } else { self.hand_over(rest) }
    }
}

fn stopped() -> io::Error {
    io::Error::other("the node has stopped")
}
