//! Reads back what the storage of a node holds, on a thread of its own: to read a large log or to restore a
//! large snapshot takes seconds, and the node has to answer questions meanwhile.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use paxos_core::{Config, Membership, Recovered, Replica, SnapshotMeta};
use paxos_storage::{Founding, RecoveryProgress, Storage};
use tokio::sync::oneshot;

use crate::error::NodeError;
use crate::runtime::introductions::{self, Introductions, Reach};
use crate::runtime::replicated::{SharedState, message_of};
use crate::runtime::writer::read_stored;
use crate::settings::NodeSettings;
use crate::state_machine::StateMachine;
use crate::status::Recovering;

/// A recovery that is under way.
pub(crate) struct Recovery {
    pub(crate) result: oneshot::Receiver<Result<Ready, NodeError>>,
    progress: Arc<Progress>,
}

/// What a driver goes on from; the state is that of the snapshot.
pub(crate) struct Ready {
    pub(crate) replica: Replica,
    pub(crate) introductions: Introductions,
    pub(crate) storage: Box<dyn Storage>,
    pub(crate) snapshot: Option<SnapshotMeta>,
}

/// How much of the log is read, and of the snapshot restored; its size is 0 while the log is read.
#[derive(Debug, Default)]
struct Progress {
    log: RecoveryProgress,
    done_bytes: AtomicU64,
    size_bytes: AtomicU64,
}

impl Recovery {
    /// Starts the thread. It ends when recovery does, even if nobody waits for it any more.
    pub(crate) fn start<S: StateMachine>(
        settings: NodeSettings,
        storage: Box<dyn Storage>,
        shared: SharedState<S>,
    ) -> io::Result<Recovery> {
        let (result_to, result) = oneshot::channel();
        let progress = Arc::new(Progress { log: storage.recovery_progress(), ..Progress::default() });
        let theirs = Arc::clone(&progress);
        let work = move || {
            let recovered = catch_unwind(AssertUnwindSafe(|| recover(&settings, storage, &shared, &theirs)));
            let recovered =
                recovered.unwrap_or_else(|panic| Err(NodeError::Panicked(message_of(panic.as_ref()))));
            let _ = result_to.send(recovered); // The node may have been stopped meanwhile.
        };
        std::thread::Builder::new().name(String::from("paxos-recovery")).spawn(work)?;
        Ok(Recovery { result, progress })
    }

    /// How far it has come.
    pub(crate) fn progress(&self) -> Recovering {
        match self.progress.size_bytes.load(Ordering::Relaxed) {
            0 => Recovering::Log { percent: self.progress.log.percent() },
            size_bytes => {
                let done_bytes = self.progress.done_bytes.load(Ordering::Relaxed);
                Recovering::Snapshot { done_bytes, size_bytes }
            }
        }
    }
}

fn recover<S: StateMachine>(
    settings: &NodeSettings,
    mut storage: Box<dyn Storage>,
    shared: &SharedState<S>,
    progress: &Progress,
) -> Result<Ready, NodeError> {
    let founding = introductions::founding_membership(settings, storage.as_ref())?;
    let recovered = recover_storage(storage.as_mut(), &founding)?;
    let snapshot = recovered.snapshot.clone();
    if let Some(meta) = &snapshot {
        progress.size_bytes.store(meta.size_bytes, Ordering::Relaxed);
        let mut snapshot = CountedReader { reader: read_stored(storage.as_mut(), meta.slot), progress };
        shared.blocking_write().restore(meta.slot, &mut snapshot)?;
    }
    let config = Config::joining(settings.node, founding.clone(), settings.protocol.clone())?;
    let held = (recovered == Recovered::default(), Reach::of_recovered(&recovered));
    let mut replica = Replica::new(config, recovered, fastrand::u64(..))?;
    let time = shared.blocking_read().time;
    replica.restore_time(time);
    let present = replica.membership();
    let introductions = introductions::begin(settings, storage.as_mut(), held, founding, present)?;
    Ok(Ready { replica, introductions, storage, snapshot })
}

/// Reads back what the storage holds. A snapshot from before snapshots had memberships is of the founding
/// one, which the storage may know only in part: it must be whole first.
fn recover_storage(storage: &mut dyn Storage, founding: &Membership) -> Result<Recovered, NodeError> {
    let mut registry = storage.registry();
    if let Some(recorded) = &mut registry.founding
        && recorded.membership != *founding
    {
        recorded.membership = founding.clone();
        storage.remember(&registry)?;
    }
    match storage.recover() {
        Err(paxos_storage::Error::MembershipUnknown { .. }) => {
            registry.founding = Some(Founding { id: None, membership: founding.clone() });
            storage.remember(&registry)?;
            Ok(storage.recover()?)
        }
        recovered => Ok(recovered?),
    }
}

/// Counts what is read.
struct CountedReader<'a, R> {
    reader: R,
    progress: &'a Progress,
}

impl<R: Read> Read for CountedReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.progress.done_bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
