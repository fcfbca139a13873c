//! Clients that write all the time, on a thread of their own, and note how long they wait.
//!
//! Each has one request under way. A request that fails, or whose connection breaks, is sent again through
//! the next of the nodes that it may use, as the usual client of a cluster does; all of that is one wait.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::super::clients::Client;
use super::super::contender::Contender;
use super::super::failure::Failure;
use super::super::work::{KEYS, Work};
use super::arguments::{Arguments, Server};
use super::waits::{Wait, Window};

/// How long it pauses after an error.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(1);
/// How long the last requests of a window may take.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL_PAUSE: Duration = Duration::from_millis(2);
/// A client that notes more waits than this in one window forgets the oldest half.
const MAX_WAITS: usize = 1 << 20;

/// The clients of a server. They stop when this is dropped.
pub(super) struct Writers {
    /// Through which nodes they write.
    nodes: Option<watch::Sender<Vec<SocketAddr>>>,
    journals: Vec<Arc<Journal>>,
    thread: Option<JoinHandle<()>>,
}

/// What all clients have in common.
#[derive(Clone, Copy)]
struct Setting {
    contender: Contender,
    /// A client that gets no answer for so long asks another node.
    answer_timeout: Duration,
}

/// What one client has noted.
struct Journal(Mutex<Notes>);

struct Notes {
    waits: Vec<Wait>,
    /// When it asked for what it waits for now.
    asking_since: Instant,
    errors: u64,
    first_error: Option<String>,
}

/// What all clients have noted in a window.
pub(super) struct Noted {
    pub(super) longest: Wait,
    pub(super) answers: usize,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
}

impl Writers {
    pub(super) fn start(
        server: Server,
        arguments: &Arguments,
        nodes: Vec<SocketAddr>,
    ) -> Result<Writers, Failure> {
        let fail = |error: std::io::Error| Failure::new(format!("the clients can't be run: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fail)?;
        let (sender, receiver) = watch::channel(nodes);
        let setting = Setting { contender: server.contender(), answer_timeout: arguments.answer_timeout() };
        let journals: Vec<_> = (0..arguments.clients).map(|_| Arc::new(Journal::new())).collect();
        let own = journals.clone();
        let run = move || {
            runtime.block_on(async {
                let mut writing = JoinSet::new();
                for (place, journal) in own.into_iter().enumerate() {
                    writing.spawn(write(setting, place, receiver.clone(), journal));
                }
                drop(receiver);
                while writing.join_next().await.is_some() {}
            });
        };
        let thread = std::thread::Builder::new().name(String::from("clients")).spawn(run).map_err(fail)?;
        Ok(Writers { nodes: Some(sender), journals, thread: Some(thread) })
    }

    /// Has all clients connect anew, to these nodes, which share them.
    pub(super) fn write_through(&self, nodes: Vec<SocketAddr>) {
        if let Some(sender) = &self.nodes {
            sender.send_replace(nodes);
        }
    }

    /// Forgets what was noted so far.
    pub(super) fn forget(&self) {
        for journal in &self.journals {
            let mut notes = journal.lock();
            (notes.errors, notes.first_error) = (0, None);
            notes.waits.clear();
        }
    }

    /// What was noted in a window, once all have the answers for which they asked in it. Forgets everything.
    pub(super) async fn take(&self, window: Window) -> Result<Noted, Failure> {
        let deadline = Instant::now() + PATIENCE;
        while self.journals.iter().any(|journal| journal.lock().asking_since <= window.ended) {
            if Instant::now() >= deadline {
                return Err(self.unanswered());
            }
            sleep(POLL_PAUSE).await;
        }
        let (mut waits, mut errors, mut first_error) = (Vec::new(), 0, None);
        for journal in &self.journals {
            let mut notes = journal.lock();
            waits.append(&mut notes.waits);
            errors += std::mem::take(&mut notes.errors);
            first_error = first_error.or(notes.first_error.take());
        }
        let longest = window.longest(&waits);
        let (longest, answers) = longest.ok_or_else(|| Failure::new("no client was answered"))?;
        Ok(Noted { longest, answers, errors, first_error })
    }

    fn unanswered(&self) -> Failure {
        let error = self.journals.iter().find_map(|journal| journal.lock().first_error.clone());
        let error = error.map_or_else(String::new, |error| format!("; the first error was: {error}"));
        Failure::new(format!("a client was not answered for {} s{error}", PATIENCE.as_secs()))
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.nodes = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // It fails if a client has panicked, which has been printed.
        }
    }
}

impl Journal {
    fn new() -> Journal {
        let asking_since = Instant::now();
        Journal(Mutex::new(Notes { waits: Vec::new(), asking_since, errors: 0, first_error: None }))
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_asked(&self, asked: Instant) {
        self.lock().asking_since = asked;
    }

    fn note_answered(&self) {
        let mut notes = self.lock();
        if notes.waits.len() >= MAX_WAITS {
            notes.waits.drain(..MAX_WAITS / 2);
        }
        let wait = Wait { asked: notes.asking_since, answered: Instant::now() };
        notes.waits.push(wait);
    }

    fn note_error(&self, error: String) {
        let mut notes = self.lock();
        notes.errors += 1;
        notes.first_error.get_or_insert(error);
    }
}

/// Writes until nobody says any more through which nodes.
async fn write(
    Setting { contender, answer_timeout }: Setting,
    place: usize,
    mut nodes: watch::Receiver<Vec<SocketAddr>>,
    journal: Arc<Journal>,
) {
    let mut random = fastrand::Rng::new();
    let (mut client, mut next) = (None, place);
    loop {
        journal.note_asked(Instant::now());
        let key = random.u64(..KEYS);
        loop {
            match nodes.has_changed() {
                Ok(false) => {}
                Ok(true) => (client, next) = (None, place),
                Err(_) => return,
            }
            let address = {
                let nodes = nodes.borrow_and_update();
                nodes[next % nodes.len()]
            };
            let asked = timeout(answer_timeout, set(contender, &mut client, address, key));
            let asked = tokio::select! {
                asked = asked => asked,
                () = ended(nodes.clone()) => return,
            };
            match asked.unwrap_or_else(|_| Err(format!("no answer for {} s", answer_timeout.as_secs()))) {
                Ok(()) => break,
                Err(error) => {
                    journal.note_error(format!("{address}: {error}"));
                    (client, next) = (None, next + 1);
                    sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
        journal.note_answered();
    }
}

/// Sets a key, over the connection that there is or a new one.
async fn set(
    contender: Contender,
    client: &mut Option<Client>,
    address: SocketAddr,
    key: u64,
) -> Result<(), String> {
    let client = match client {
        Some(client) => client,
        None => client.insert(Client::open(contender, address).await?),
    };
    client.ask(Work::Set, &[key]).await
}

/// Resolves when the sender is gone.
async fn ended(mut nodes: watch::Receiver<Vec<SocketAddr>>) {
    while nodes.changed().await.is_ok() {}
}
