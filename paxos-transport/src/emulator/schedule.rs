//! What is under way, in the order of its arrival, and the loop that delivers it.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot};

use super::accuracy::Record;
use super::stream::Piece;
use super::timer::Timer;
use crate::backend::{LaneInbox, Reservation};
use crate::lock::lock;

/// How many deliveries are made before other tasks of the thread have their turn.
const DELIVERIES_PER_TURN: usize = 32;

/// Something that arrives. Whoever schedules it has made sure that its kind is bounded.
#[derive(Debug)]
pub(super) enum Delivery {
    /// A datagram is sent by `socket`.
    Datagram {
        socket: Arc<UdpSocket>,
        /// `None` if the socket is connected.
        to: Option<SocketAddr>,
        payload: Bytes,
        room: OwnedSemaphorePermit,
    },
    /// A piece of a stream is handed to the task that writes it.
    Stream { writer: mpsc::UnboundedSender<Piece>, piece: Piece },
    /// A frame is put into the inbox of a transport.
    Frame { inbox: Arc<LaneInbox>, reservation: Reservation, frame: Bytes },
    /// A task goes on.
    Wake(oneshot::Sender<()>),
}

/// All that is under way.
#[derive(Debug)]
pub(super) struct Schedule {
    started: Instant,
    under_way: Mutex<UnderWay>,
    /// Something was added that arrives before all else.
    is_sooner: Notify,
    pub(super) record: Record,
}

#[derive(Debug, Default)]
struct UnderWay {
    heap: BinaryHeap<Entry>,
    next_number: u64,
}

#[derive(Debug)]
struct Entry {
    at: Duration,
    /// What arrives at the same time does so in the order in which it was added.
    number: u64,
    delivery: Delivery,
}

impl Schedule {
    pub(super) fn new() -> Schedule {
        Schedule {
            started: Instant::now(),
            under_way: Mutex::default(),
            is_sooner: Notify::new(),
            record: Record::new(),
        }
    }

    /// The time since the emulator was started.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Delivers at this time, or at once if it is over and nothing that arrives until then is under way.
    pub(super) fn add(&self, at: Duration, delivery: Delivery) {
        let mut under_way = lock(&self.under_way);
        let is_first = under_way.heap.peek().is_none_or(|first| at < first.at);
        if is_first && at <= self.now() {
            drop(under_way);
            self.deliver(at, delivery);
            return;
        }
        let number = under_way.next_number;
        under_way.next_number += 1;
        under_way.heap.push(Entry { at, number, delivery });
        drop(under_way);
        if is_first {
            self.is_sooner.notify_one();
        }
    }

    /// Returns at this time.
    pub(super) async fn sleep_until(&self, at: Duration) {
        let (sender, receiver) = oneshot::channel();
        self.add(at, Delivery::Wake(sender));
        // The sender is dropped only with the emulator, and this task with it.
        let _ = receiver.await;
    }

    /// Delivers everything at its time, until the timer fails.
    pub(super) async fn run(&self, timer: &Timer) -> io::Error {
        loop {
            for _ in 0..DELIVERIES_PER_TURN {
                let Some(due) = self.take_due() else { break };
                self.deliver(due.at, due.delivery);
            }
            let wait = lock(&self.under_way).heap.peek().map(|first| first.at.saturating_sub(self.now()));
            match wait {
                Some(Duration::ZERO) => tokio::task::yield_now().await,
                Some(wait) => tokio::select! {
                    biased;
                    slept = timer.sleep(wait) => if let Err(error) = slept { return error },
                    () = self.is_sooner.notified() => {}
                },
                None => self.is_sooner.notified().await,
            }
        }
    }

    fn take_due(&self) -> Option<Entry> {
        let mut under_way = lock(&self.under_way);
        let is_due = under_way.heap.peek().is_some_and(|first| first.at <= self.now());
        if is_due { under_way.heap.pop() } else { None }
    }

    fn deliver(&self, at: Duration, delivery: Delivery) {
        match delivery {
            Delivery::Datagram { socket, to, payload, room } => {
                // Refused by a full buffer or an absent receiver, it is lost, as it would be elsewhere.
                // `try_send` of tokio also refuses while it has not yet heard from the system that a new
                // socket has room.
                let socket = SockRef::from(&*socket);
                let _ = match to {
                    Some(to) => socket.send_to(&payload, &to.into()),
                    None => socket.send(&payload),
                };
                drop(room);
            }
            // A receiver that is gone needs nothing any more, here and below.
            Delivery::Stream { writer, piece } => drop(writer.send(piece)),
            Delivery::Frame { inbox, reservation, frame } => {
                let _ = inbox.put(reservation, frame);
            }
            Delivery::Wake(sender) => {
                let _ = sender.send(());
                return;
            }
        }
        self.record.on_delivered(self.now().saturating_sub(at));
    }

    /// Forgets all that is under way.
    pub(super) fn clear(&self) {
        let cleared = std::mem::take(&mut lock(&self.under_way).heap);
        drop(cleared);
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap keeps the largest on top: here the one that arrives first.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}
