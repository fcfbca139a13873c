//! Takes snapshots of this node's own state, on a thread of its own.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc as blocking;
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use paxos_core::{Membership, Slot, SnapshotMeta};

use crate::runtime::replicated::message_of;
use crate::runtime::snapshot_interval::SnapshotInterval;
use crate::runtime::writer::{Job, JobSender};
use crate::state_machine::SnapshotWriter;

/// A snapshot goes to the writer in pieces of this size, one at a time.
const PIECE_BYTES: usize = 1 << 20;
/// How many bytes a slot is assumed to add to the log on disk, beside its value.
const SLOT_BYTES: u64 = 512;

/// Decides when a snapshot of this node's own state is due.
#[derive(Debug)]
pub(crate) struct OwnSnapshots {
    interval: SnapshotInterval,
    grown_bytes: u64,
    /// Whether the applier was asked for a snapshot that has not come yet.
    is_awaited: bool,
    /// Alive while a snapshot is being written.
    under_way: Weak<()>,
}

impl OwnSnapshots {
    pub(crate) fn new(interval: SnapshotInterval) -> OwnSnapshots {
        OwnSnapshots { interval, grown_bytes: 0, is_awaited: false, under_way: Weak::new() }
    }

    /// Counts a value that is applied; `true` if a snapshot of the state after it is due, to be
    /// [taken](Self::take) when the applier delivers it.
    pub(crate) fn on_applied(&mut self, value_bytes: usize) -> bool {
        self.grown_bytes += value_bytes as u64 + SLOT_BYTES;
        let is_free = !self.is_awaited && self.under_way.strong_count() == 0;
        let is_due = is_free && self.interval.is_over(self.grown_bytes);
        if is_due {
            self.is_awaited = true;
            self.grown_bytes = 0;
        }
        is_due
    }

    pub(crate) fn on_saved(&mut self, meta: &SnapshotMeta) {
        self.interval.begin(meta.size_bytes);
    }

    /// The snapshot that the applier was asked for is not wanted any more.
    pub(crate) fn give_up(&mut self) {
        self.is_awaited = false;
    }

    /// Writes the snapshot of `slot`, behind which `membership` is in force, on a thread of its own.
    pub(crate) fn take(
        &mut self,
        slot: Slot,
        membership: Membership,
        write: SnapshotWriter,
        jobs: JobSender,
    ) {
        let under_way = Arc::new(());
        self.under_way = Arc::downgrade(&under_way);
        self.is_awaited = false;
        let work = move || {
            report(slot, write_all(slot, membership, write, jobs));
            drop(under_way);
        };
        let spawned = std::thread::Builder::new().name(String::from("paxos-snapshot")).spawn(work);
        if let Err(error) = spawned {
            report(slot, Err(error));
        }
    }
}

fn report(slot: Slot, result: io::Result<()>) {
    match result {
        Ok(()) => tracing::debug!(slot = slot.0, "snapshot written"),
        Err(error) => {
            tracing::warn!(slot = slot.0, %error, "no snapshot could be written: the log keeps growing");
        }
    }
}

fn write_all(slot: Slot, membership: Membership, write: SnapshotWriter, jobs: JobSender) -> io::Result<()> {
    let mut pieces = Pieces { slot, jobs, buffer: BytesMut::new(), offset: 0, checksum: 0 };
    // It is the user's code; its panic leaves the state as it is.
    catch_unwind(AssertUnwindSafe(|| write(&mut pieces))).unwrap_or_else(|panic| {
        Err(io::Error::other(format!("it panicked: {}", message_of(panic.as_ref()))))
    })?;
    pieces.flush()?;
    let meta = SnapshotMeta { slot, size_bytes: pieces.offset, checksum: pieces.checksum, membership };
    pieces.submit(Job::FinishSnapshot { meta, is_own: true })
}

/// Cuts a stream into pieces; hands each over only after the one before is written.
struct Pieces {
    slot: Slot,
    jobs: JobSender,
    buffer: BytesMut,
    offset: u64,
    checksum: u32,
}

impl Pieces {
    fn submit(&self, job: Job) -> io::Result<()> {
        if self.jobs.submit(job) { Ok(()) } else { Err(stopped()) }
    }

    fn hand_over(&mut self, data: Bytes) -> io::Result<()> {
        let (author, written) = blocking::sync_channel(1);
        let (slot, offset) = (self.slot, self.offset);
        self.checksum = crc32c::crc32c_append(self.checksum, &data);
        self.offset += data.len() as u64;
        self.submit(Job::StoreSnapshot { slot, offset, data, author: Some(author) })?;
        written.recv().map_err(|_| stopped())
    }
}

impl Write for Pieces {
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

#[cfg(all(test, feature = "memory"))]
mod tests {
    use paxos_core::NodeId;
    use paxos_storage::{Identity, memory::MemoryStorage};

    use super::*;
    use crate::runtime::writer::Writer;
    use crate::settings::WriterMode;

    #[tokio::test]
    async fn a_snapshot_writer_that_panics_is_an_error_with_what_it_said() {
        let storage = Box::new(MemoryStorage::new(Identity::new("snapshots", NodeId(1))));
        let (writer, _results) = Writer::start(storage, WriterMode::Inline).expect("it needs no thread");
        let membership = Membership::new(&[NodeId(1)]).expect("one member");
        let result = write_all(Slot(1), membership, Box::new(|_| panic!("no more ink")), writer.sender());
        assert_eq!(result.expect_err("it panicked").to_string(), "it panicked: no more ink");
    }
}
