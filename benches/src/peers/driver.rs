//! One loop that drives a replica of any library that leaves messages and disks to its user.
//!
//! Each replica is a task with one inbox: what has gathered there, messages and commands alike, is taken in
//! one turn, and what the turn leads to goes straight into the inboxes of the others, as it is in memory:
//! nothing is encoded, and nothing gets lost unless an inbox is full. A replica that has a [`Disk`] hands
//! what it writes to a thread beside it, which merges all that has queued during the last sync into the next.
//! Like the driver of `paxos-node`, a replica that has just worked stays awake for a moment.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use crate::BUSY_POLL;

/// How often a replica hears that time has passed.
const TICK: Duration = Duration::from_millis(10);
/// How many messages and commands may wait for a replica; further messages are lost, further clients wait.
const INBOX_EVENTS: usize = 1 << 16;
/// How many of them a replica takes in one turn.
const TURN_EVENTS: usize = 8192;
/// A replica with so many writes under way takes nothing more from its inbox.
const UNSTORED_WRITES: usize = 1024;
/// How many writes may wait for the writer, and how many for their replica; far more than one turn makes
/// beyond that.
const QUEUED_WRITES: usize = 2 * UNSTORED_WRITES;

/// A replica of one of the libraries.
pub trait Replica: Send + Sized + 'static {
    /// What it sends to others.
    type Message: Send + 'static;
    /// What it has its disk store, if it can use one.
    type Write: Send + 'static;

    /// Ten milliseconds have passed.
    fn tick(&mut self);

    /// A message came from `from`.
    fn receive(&mut self, from: u64, message: Self::Message);

    /// Clients want these commands committed. Called on a leader alone, and not with none.
    fn propose(&mut self, commands: Vec<Bytes>);

    /// Tells what is to be done now.
    fn finish_turn(&mut self, turn: &mut Turn<Self>);

    /// A write is in stable storage; those come back in the order in which they were made.
    fn stored(&mut self, write: Self::Write, turn: &mut Turn<Self>);

    /// Whether commands may be proposed here.
    fn is_leader(&self) -> bool;
}

/// Stable storage for the writes of one replica.
pub trait Disk<W>: Send {
    /// Returns when all `writes` are in stable storage.
    fn store(&mut self, writes: &[W]);
}

/// What a turn has led to.
pub struct Turn<R: Replica> {
    /// Messages, and to whom.
    pub messages: Vec<(u64, R::Message)>,
    /// What its disk has to store.
    pub writes: Vec<R::Write>,
    /// How many commands of clients got committed. They do so in the order in which they were proposed.
    pub committed: usize,
}

/// What waits for a replica.
enum Event<M> {
    Message { from: u64, message: M },
    Command { command: Bytes, committed: oneshot::Sender<()> },
}

/// The inboxes of all replicas, and who leads: 0 for nobody.
pub struct Router<M> {
    inboxes: Vec<mpsc::Sender<Event<M>>>,
    leader: AtomicU64,
}

/// Where a replica takes its events from.
pub struct Inbox<M>(mpsc::Receiver<Event<M>>);

impl<M: Send + 'static> Router<M> {
    /// A router among replicas 1 to `replicas`, and the inbox of each.
    #[must_use]
    pub fn new(replicas: u64) -> (Arc<Router<M>>, Vec<Inbox<M>>) {
        let (inboxes, receivers) = (0..replicas).map(|_| mpsc::channel(INBOX_EVENTS)).unzip();
        let receivers: Vec<_> = receivers;
        let router = Router { inboxes, leader: AtomicU64::new(0) };
        (Arc::new(router), receivers.into_iter().map(Inbox).collect())
    }

    /// The replica that leads, if there is one.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        Some(self.leader.load(Ordering::Relaxed)).filter(|&leader| leader != 0)
    }

    /// Has `command` committed by `leader`.
    ///
    /// # Panics
    ///
    /// If the leader has stopped.
    pub async fn commit(&self, leader: u64, command: Bytes) {
        let (committed, hears) = oneshot::channel();
        let sent = self.inbox(leader).send(Event::Command { command, committed }).await;
        assert!(sent.is_ok(), "the replica runs as long as its clients");
        hears.await.expect("the leader stays the leader where nothing fails");
    }

    fn inbox(&self, replica: u64) -> &mpsc::Sender<Event<M>> {
        &self.inboxes[usize::try_from(replica - 1).expect("replicas are few")]
    }
}

/// Runs replica `id` until its task is dropped. Without a disk all writes count as stored.
///
/// # Panics
///
/// If the disk fails.
pub async fn drive<R: Replica>(
    id: u64,
    mut replica: R,
    disk: Option<Box<dyn Disk<R::Write>>>,
    mut inbox: Inbox<R::Message>,
    router: Arc<Router<R::Message>>,
) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut events = Vec::with_capacity(TURN_EVENTS);
    let mut waiting: VecDeque<oneshot::Sender<()>> = VecDeque::new();
    let mut turn = Turn { messages: Vec::new(), writes: Vec::new(), committed: 0 };
    let mut writer = disk.map(Writer::start);
    let mut worked_at = Instant::now();
    loop {
        let (has_room, is_writing) =
            writer.as_ref().map_or((true, false), |w| (w.unstored < UNSTORED_WRITES, w.unstored > 0));
        tokio::select! {
            biased;
            _ = ticks.tick() => replica.tick(),
            stored = next_stored(&mut writer), if is_writing => {
                for write in stored {
                    replica.stored(write, &mut turn);
                }
                worked_at = Instant::now();
            }
            taken = inbox.0.recv_many(&mut events, TURN_EVENTS), if has_room => {
                assert!(taken > 0, "the router holds every inbox");
                worked_at = Instant::now();
            }
            () = give_way(), if worked_at.elapsed() < BUSY_POLL => continue,
        }
        let mut commands = Vec::new();
        for event in events.drain(..) {
            match event {
                Event::Message { from, message } => replica.receive(from, message),
                Event::Command { command, committed } => {
                    commands.push(command);
                    waiting.push_back(committed);
                }
            }
        }
        if !commands.is_empty() {
            replica.propose(commands);
        }
        replica.finish_turn(&mut turn);
        store(&mut replica, &mut turn, writer.as_mut());
        for (to, message) in turn.messages.drain(..) {
            // An inbox that is full loses it, as a network would.
            let _ = router.inbox(to).try_send(Event::Message { from: id, message });
        }
        for committed in waiting.drain(..turn.committed) {
            let _ = committed.send(()); // The client may have stopped.
        }
        turn.committed = 0;
        if replica.is_leader() {
            router.leader.store(id, Ordering::Relaxed);
        }
    }
}

/// To all other tasks, and if none has anything to do, to other threads.
async fn give_way() {
    tokio::task::yield_now().await;
    std::thread::yield_now();
}

fn store<R: Replica>(replica: &mut R, turn: &mut Turn<R>, writer: Option<&mut Writer<R::Write>>) {
    if let Some(writer) = writer {
        turn.writes.drain(..).for_each(|write| writer.write(write));
        return;
    }
    while !turn.writes.is_empty() {
        for write in std::mem::take(&mut turn.writes) {
            replica.stored(write, turn);
        }
        replica.finish_turn(turn);
    }
}

/// A thread that stores the writes of one replica.
struct Writer<W> {
    /// There until it is dropped.
    writes: Option<std::sync::mpsc::SyncSender<W>>,
    thread: Option<JoinHandle<()>>,
    stored: mpsc::Receiver<Vec<W>>,
    /// How many writes it has been given that have not come back.
    unstored: usize,
}

impl<W: Send + 'static> Writer<W> {
    fn start(mut disk: Box<dyn Disk<W>>) -> Writer<W> {
        let (writes, given) = std::sync::mpsc::sync_channel::<W>(QUEUED_WRITES);
        let (done, stored) = mpsc::channel(QUEUED_WRITES);
        let thread = std::thread::spawn(move || {
            while let Ok(first) = given.recv() {
                let mut batch = vec![first];
                batch.extend(given.try_iter());
                disk.store(&batch);
                if done.blocking_send(batch).is_err() {
                    break; // The replica has stopped.
                }
            }
        });
        Writer { writes: Some(writes), thread: Some(thread), stored, unstored: 0 }
    }

    fn write(&mut self, write: W) {
        self.unstored += 1;
        let writes = self.writes.as_ref().expect("it is not dropped yet");
        writes.send(write).expect("the writer runs as long as its replica");
    }
}

impl<W> Drop for Writer<W> {
    fn drop(&mut self) {
        self.writes = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // What has failed there has been told.
        }
    }
}

async fn next_stored<W>(writer: &mut Option<Writer<W>>) -> Vec<W> {
    let Some(writer) = writer else { return std::future::pending().await };
    let stored = writer.stored.recv().await.expect("the writer runs as long as its replica");
    writer.unstored -= stored.len();
    stored
}
