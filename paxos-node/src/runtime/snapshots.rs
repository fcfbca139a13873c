//! Takes snapshots of this node's own state, on a thread of its own.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc as blocking;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use paxos_core::{Membership, Slot, SnapshotMeta};

use crate::runtime::replicated::message_of;
use crate::runtime::snapshot_interval::SnapshotInterval;
use crate::runtime::writer::{Author, Job, JobSender};
use crate::state_machine::SnapshotWriter;

/// A snapshot goes to the writer in pieces of this size, one at a time.
const PIECE_BYTES: usize = 1 << 20;
/// How many bytes a slot is assumed to add to the log on disk, beside its value.
const SLOT_BYTES: u64 = 512;

/// How long the state of a peer's snapshot is kept out while one of this node's own state is being written:
/// the state that this one needs would be in memory beside the new one.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Alive from when a snapshot is asked for until it is written or given up.
pub(crate) type UnderWay = Arc<()>;

/// A snapshot of this node's own state that is yet to be written.
pub(crate) struct Unwritten {
    pub(crate) slot: Slot,
    pub(crate) write: SnapshotWriter,
    /// Dropped last, when nothing of the state is needed any more.
    pub(crate) under_way: UnderWay,
}

/// Decides when a snapshot of this node's own state is due.
#[derive(Debug)]
pub(crate) struct OwnSnapshots {
    interval: SnapshotInterval,
    grown_bytes: u64,
    under_way: Weak<()>,
}

impl OwnSnapshots {
    pub(crate) fn new(interval: SnapshotInterval) -> OwnSnapshots {
        OwnSnapshots { interval, grown_bytes: 0, under_way: Weak::new() }
    }

    /// Counts a value that is applied.
    pub(crate) fn on_applied(&mut self, value_bytes: usize) {
        self.grown_bytes += value_bytes as u64 + SLOT_BYTES;
    }

    /// Begins a snapshot of the present state if one is due, to be [written](Unwritten::write) when the
    /// applier delivers it. With `may_take` false it is put off.
    pub(crate) fn begin_if_due(&mut self, may_take: bool) -> Option<UnderWay> {
        let is_free = self.under_way.strong_count() == 0;
        if !(may_take && is_free && self.interval.is_over(self.grown_bytes)) {
            return None;
        }
        self.grown_bytes = 0;
        let under_way = UnderWay::default();
        self.under_way = Arc::downgrade(&under_way);
        Some(under_way)
    }

    /// The snapshot that is under way, if there is one.
    pub(crate) fn under_way(&self) -> Weak<()> {
        self.under_way.clone()
    }

    pub(crate) fn on_saved(&mut self, meta: &SnapshotMeta) {
        self.interval.begin(meta.size_bytes);
    }
}

impl Unwritten {
    /// Writes it on a thread of its own. Behind its slot `membership` is in force.
    pub(crate) fn write(self, membership: Membership, jobs: JobSender) {
        let slot = self.slot;
        let work = move || {
            report(slot, write_all(slot, membership, self.write, jobs));
            drop(self.under_way);
        };
        let spawned = std::thread::Builder::new().name(String::from("paxos-snapshot")).spawn(work);
        if let Err(error) = spawned {
            report(slot, Err(error));
        }
    }
}

/// Blocks until a snapshot is written or given up, for a minute at most.
pub(crate) fn wait_until_written(under_way: &Weak<()>) {
    let since = Instant::now();
    while under_way.strong_count() > 0 && since.elapsed() < PATIENCE {
        std::thread::sleep(LOOK_INTERVAL);
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
    pieces.submit(|author| Job::FinishSnapshot { meta, author })
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
    /// Submits a job, waits until it is done, and does what the storage has deferred.
    fn submit(&self, job: impl FnOnce(Option<Author>) -> Job) -> io::Result<()> {
        let (author, done) = blocking::sync_channel(1);
        if !self.jobs.submit(job(Some(author))) {
            return Err(stopped());
        }
        let work = done.recv().map_err(|_| stopped())?;
        // After a failed sync the storage must not be used any more, as after one of the log.
        work.map_or(Ok(()), |work| work()).map_err(|error| {
            self.jobs.submit(Job::FailSnapshot(error));
            stopped()
        })
    }

    fn hand_over(&mut self, data: Bytes) -> io::Result<()> {
        let (slot, offset) = (self.slot, self.offset);
        self.checksum = crc32c::crc32c_append(self.checksum, &data);
        self.offset += data.len() as u64;
        self.submit(|author| Job::StoreSnapshot { slot, offset, data, author })
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
    use paxos_core::{Durable, NodeId, Recovered, Write as LogWrite};
    use paxos_storage::memory::MemoryStorage;
    use paxos_storage::{DeferredWork, Error, ErrorKind, Identity, Registry, Storage};

    use super::*;
    use crate::runtime::snapshot_interval::Turn;
    use crate::runtime::writer::{JobResult, Writer};
    use crate::settings::WriterMode;

    /// A storage that can't sync snapshots.
    struct Failing(MemoryStorage);

    impl Storage for Failing {
        fn identity(&self) -> &Identity {
            self.0.identity()
        }

        fn registry(&self) -> Registry {
            self.0.registry()
        }

        fn remember(&mut self, registry: &Registry) -> Result<(), Error> {
            self.0.remember(registry)
        }

        fn recover(&mut self) -> Result<Recovered, Error> {
            self.0.recover()
        }

        fn persist(&mut self, write: LogWrite) -> Result<Durable, Error> {
            self.0.persist(write)
        }

        fn write_snapshot(&mut self, slot: Slot, offset: u64, piece: &[u8]) -> Result<(), Error> {
            self.0.write_snapshot(slot, offset, piece)
        }

        fn deferred_work(&mut self) -> Option<DeferredWork> {
            Some(Box::new(|| Err(Error::foreign(ErrorKind::Failed, "no contact"))))
        }

        fn finish_snapshot(&mut self, meta: SnapshotMeta) -> Result<(), Error> {
            self.0.finish_snapshot(meta)
        }

        fn read_snapshot(&mut self, slot: Slot, offset: u64, bytes: usize) -> Result<Option<Bytes>, Error> {
            self.0.read_snapshot(slot, offset, bytes)
        }

        fn newest_snapshot(&self) -> Option<SnapshotMeta> {
            self.0.newest_snapshot()
        }

        fn compact(&mut self, through: Slot) -> Result<(), Error> {
            self.0.compact(through)
        }

        fn prove_last_write(&mut self) -> Result<(), Error> {
            self.0.prove_last_write()
        }
    }

    fn storage() -> MemoryStorage {
        MemoryStorage::new(Identity::new("snapshots", NodeId(1)))
    }

    fn membership() -> Membership {
        Membership::new(&[NodeId(1)]).expect("one member")
    }

    #[test]
    fn a_snapshot_that_was_put_off_is_due_though_nothing_more_is_applied() {
        let turn = Turn::of(NodeId(1), &membership());
        let mut own = OwnSnapshots::new(SnapshotInterval::new(turn, 1000, 1000, 0));
        assert!(own.begin_if_due(true).is_none(), "nothing has been applied");
        own.on_applied(1000);
        assert!(own.begin_if_due(false).is_none(), "a peer fetches the one that would be dropped");
        let under_way = own.begin_if_due(true).expect("it is due");
        own.on_applied(1000);
        assert!(own.begin_if_due(true).is_none(), "the first one is under way");
        drop(under_way);
        assert!(own.begin_if_due(true).is_some(), "the next one is due");
    }

    #[tokio::test]
    async fn a_snapshot_writer_that_panics_is_an_error_with_what_it_said() {
        let (writer, _results) =
            Writer::start(Box::new(storage()), WriterMode::Inline).expect("it needs no thread");
        let result = write_all(Slot(1), membership(), Box::new(|_| panic!("no more ink")), writer.sender());
        assert_eq!(result.expect_err("it panicked").to_string(), "it panicked: no more ink");
    }

    #[tokio::test]
    async fn a_sync_of_a_snapshot_that_fails_ends_the_use_of_the_storage() {
        let storage = Box::new(Failing(storage()));
        let (writer, mut results) = Writer::start(storage, WriterMode::Inline).expect("it needs no thread");
        let write = Box::new(|target: &mut dyn Write| target.write_all(b"state"));
        assert!(write_all(Slot(1), membership(), write, writer.sender()).is_err());
        let result = results.recv().await;
        let Some(JobResult::Failed(error)) = result else { panic!("no failure but {result:?}") };
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Failed, String::from("no contact")));
    }
}
