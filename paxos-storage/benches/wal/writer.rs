//! The log with a writer thread, as in a node: appends that queue during a sync are merged into the next
//! write.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use paxos_core::{Slot, Value, Write};
use paxos_storage::Storage;
use paxos_storage::file::FileStorage;

use super::log;

/// At most this many appends share a sync, so that with more in flight, some always wait for the next one.
pub(crate) const MAX_MERGED: usize = 64;

/// Submits entries to the thread, from any thread.
pub(crate) struct Writer {
    queue: Mutex<Queue>,
    syncs: Arc<AtomicU32>,
}

/// Writes are numbered in the order in which they queue.
struct Queue {
    last_number: u64,
    jobs: Sender<Job>,
}

struct Job {
    write: Write,
    client: Client,
}

/// Receives the number of its appends that became durable, once for each write to the log, as a node's driver
/// does.
pub(crate) type Client = Arc<Sender<u32>>;

/// How often the thread frees old segments: each time this many bytes of values were written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrimEvery(pub(crate) u64);

/// Waits for the thread, which ends when no writer is left. Drop it after the writers.
pub(crate) struct Ending(JoinHandle<()>);

impl Ending {
    pub(crate) fn wait(self, writer: Writer) {
        drop(writer);
        assert!(self.0.join().is_ok(), "the writer thread panicked: the log failed, see above");
    }
}

impl Writer {
    pub(crate) fn start(storage: FileStorage, trim: Option<TrimEvery>) -> std::io::Result<(Writer, Ending)> {
        let (jobs, queue) = channel();
        let syncs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&syncs);
        let thread = std::thread::Builder::new().name(String::from("writer"));
        let thread = thread.spawn(move || work(storage, &queue, &counted, trim))?;
        Ok((Writer { queue: Mutex::new(Queue { last_number: 0, jobs }), syncs }, Ending(thread)))
    }

    /// `client` is notified when the entry is durable.
    pub(crate) fn submit(&self, value: &Value, client: &Client) {
        let mut queue = self.queue.lock().expect("nobody panics while holding it");
        queue.last_number += 1;
        let write = log::write(queue.last_number, 1, value);
        queue.jobs.send(Job { write, client: Arc::clone(client) }).expect("the thread lives as long as this");
    }

    /// How many writes went to the log.
    pub(crate) fn syncs(&self) -> u32 {
        self.syncs.load(Ordering::Relaxed)
    }
}

fn work(mut storage: FileStorage, queue: &Receiver<Job>, syncs: &AtomicU32, trim: Option<TrimEvery>) {
    let mut waiting = Vec::new();
    let mut untrimmed_bytes = 0;
    while let Ok(Job { mut write, client }) = queue.recv() {
        waiting.push((client, 1));
        for Job { write: next, client } in queue.try_iter().take(MAX_MERGED - 1) {
            write.merge(next);
            match waiting.last_mut() {
                Some((last, count)) if Arc::ptr_eq(last, &client) => *count += 1,
                _ => waiting.push((client, 1)),
            }
        }
        untrimmed_bytes +=
            write.entries().iter().map(|(_, entry)| entry.value().size_bytes() as u64).sum::<u64>();
        let last = write.entries().last().map_or(Slot::ZERO, |(slot, _)| *slot);
        if let Err(error) = storage.persist(write) {
            panic!("the log failed: {error}");
        }
        if trim.is_some_and(|TrimEvery(bytes)| untrimmed_bytes >= bytes) {
            untrimmed_bytes = 0;
            log::trim(&mut storage, last).expect("old segments can be freed");
        }
        syncs.fetch_add(1, Ordering::Relaxed);
        for (client, count) in waiting.drain(..) {
            let _ = client.send(count); // A client that has stopped waiting is ignored.
        }
    }
}
