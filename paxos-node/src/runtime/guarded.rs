//! Turns a panic of the storage into an error of it; the storage is not called any more after that.
//!
//! A storage may be the user's own code. Whether a call that panicked has reached the disk is as unknown as
//! after [`ErrorKind::Failed`], so the error has that kind.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use paxos_core::{Durable, Recovered, Slot, SnapshotMeta, Write};
use paxos_storage::{
    Capacity, DeferredWork, Error, ErrorKind, Identity, RecoveryProgress, Registry, Storage,
};

use crate::runtime::replicated::message_of;

/// A storage whose panics are errors.
pub(crate) struct GuardedStorage {
    storage: Box<dyn Storage>,
    /// The message of the first panic.
    panicked: RefCell<Option<String>>,
}

impl GuardedStorage {
    pub(crate) fn new(storage: Box<dyn Storage>) -> GuardedStorage {
        GuardedStorage { storage, panicked: RefCell::new(None) }
    }

    fn call<T>(&mut self, call: impl FnOnce(&mut dyn Storage) -> Result<T, Error>) -> Result<T, Error> {
        let GuardedStorage { storage, panicked } = self;
        caught(panicked, || call(storage.as_mut())).unwrap_or_else(|| Err(failed(panicked)))
    }
}

/// The result of the call; `None` if it panics, or if an earlier one has.
fn caught<T>(panicked: &RefCell<Option<String>>, call: impl FnOnce() -> T) -> Option<T> {
    if panicked.borrow().is_some() {
        return None;
    }
    let result = catch_unwind(AssertUnwindSafe(call));
    result.map_err(|panic| *panicked.borrow_mut() = Some(message_of(panic.as_ref()))).ok()
}

fn failed(panicked: &RefCell<Option<String>>) -> Error {
    let said = panicked.borrow();
    let said = said.as_deref().unwrap_or_default();
    Error::foreign(ErrorKind::Failed, format!("the storage panicked: {said}"))
}

impl Storage for GuardedStorage {
    fn identity(&self) -> &Identity {
        self.storage.identity()
    }

    fn registry(&self) -> Registry {
        self.storage.registry()
    }

    fn remember(&mut self, registry: &Registry) -> Result<(), Error> {
        self.call(|storage| storage.remember(registry))
    }

    fn recover(&mut self) -> Result<Recovered, Error> {
        self.call(|storage| storage.recover())
    }

    fn recovery_progress(&self) -> RecoveryProgress {
        self.storage.recovery_progress()
    }

    fn persist(&mut self, write: Write) -> Result<Durable, Error> {
        self.call(|storage| storage.persist(write))
    }

    fn write_snapshot(&mut self, slot: Slot, offset: u64, piece: &[u8]) -> Result<(), Error> {
        self.call(|storage| storage.write_snapshot(slot, offset, piece))
    }

    fn deferred_work(&mut self) -> Option<DeferredWork> {
        let GuardedStorage { storage, panicked } = self;
        // After a panic here the next call fails.
        caught(panicked, || storage.deferred_work()).flatten()
    }

    fn finish_snapshot(&mut self, meta: SnapshotMeta) -> Result<(), Error> {
        self.call(|storage| storage.finish_snapshot(meta))
    }

    fn read_snapshot(&mut self, slot: Slot, offset: u64, max_bytes: usize) -> Result<Option<Bytes>, Error> {
        self.call(|storage| storage.read_snapshot(slot, offset, max_bytes))
    }

    fn newest_snapshot(&self) -> Option<SnapshotMeta> {
        caught(&self.panicked, || self.storage.newest_snapshot()).flatten()
    }

    fn compact(&mut self, through: Slot) -> Result<(), Error> {
        self.call(|storage| storage.compact(through))
    }

    fn prove_last_write(&mut self) -> Result<(), Error> {
        self.call(|storage| storage.prove_last_write())
    }

    fn capacity(&self) -> Capacity {
        // After a panic here the next call that can fail does.
        caught(&self.panicked, || self.storage.capacity()).unwrap_or(Capacity::Ample)
    }
}
