//! Frees states of many keys on a thread of its own: it takes a second for every few million keys.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};

use super::creation::ByCreation;
use super::deadlines::Deadlines;
use super::records::Records;

/// Up to this many records are freed by whoever drops the store: that takes less than a millisecond.
pub(super) const FREED_AT_ONCE: usize = 2000;
/// How many states may wait to be freed.
const QUEUE: usize = 64;

/// What a state holds.
type Contents = (Arc<Records>, Orders);

/// The orders in which it holds keys.
type Orders = (ByCreation, Deadlines);

/// Has the contents of a large state freed, unless something else shares them, by a thread that all stores of
/// the process use.
pub(super) fn free(records: Arc<Records>, orders: Orders) {
    static REAPER: OnceLock<Option<SyncSender<Contents>>> = OnceLock::new();
    if let Some(reaper) = REAPER.get_or_init(start) {
        // If its queue is full, this thread frees the contents itself, as they are dropped here.
        drop(reaper.try_send((records, orders)));
    }
}

fn start() -> Option<SyncSender<Contents>> {
    let (reaper, contents) = sync_channel::<Contents>(QUEUE);
    let work = move || contents.into_iter().for_each(drop);
    let spawned = std::thread::Builder::new().name(String::from("paxos-free")).spawn(work);
    if let Err(error) = &spawned {
        tracing::warn!(%error, "can't start the thread that frees memory: FLUSHALL will delay this node");
    }
    spawned.ok().map(|_| reaper)
}
