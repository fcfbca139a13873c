//! Counters that several tasks update at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{Dropped, PeerCounters, SendOutcome, Traffic};

/// Counts the frames and connections of one peer, for [`PeerStatus`](crate::PeerStatus). All tasks of the
/// peer share it.
///
/// An [`Outbox`](super::Outbox) counts what is sent and dropped, and a [`FrameReader`](super::FrameReader)
/// what is received, so a backend counts only what they do not see.
#[derive(Debug, Default)]
pub struct Counters {
    sent_frames: AtomicU64,
    sent_bytes: AtomicU64,
    received_frames: AtomicU64,
    received_bytes: AtomicU64,
    full: AtomicU64,
    disconnected: AtomicU64,
    too_large: AtomicU64,
    longest_too_large_bytes: AtomicU64,
    connections: AtomicU64,
    nonsense: AtomicU64,
    rivals: AtomicU64,
    /// How long a packet and its acknowledgement take; 0 if it is not known.
    round_trip_micros: AtomicU64,
}

impl Counters {
    /// Counts a frame that is handed to the network.
    pub fn on_sent(&self, frame_bytes: usize) {
        add(&self.sent_frames, 1);
        add(&self.sent_bytes, frame_bytes);
    }

    /// Counts a frame that has arrived.
    pub fn on_received(&self, frame_bytes: usize) {
        add(&self.received_frames, 1);
        add(&self.received_bytes, frame_bytes);
    }

    /// Counts a frame if `outcome` says that it was dropped.
    pub fn on_outcome(&self, outcome: SendOutcome, frame_bytes: usize) {
        match outcome {
            SendOutcome::Full => add(&self.full, 1),
            SendOutcome::Disconnected => add(&self.disconnected, 1),
            SendOutcome::TooLarge => {
                add(&self.too_large, 1);
                self.longest_too_large_bytes.fetch_max(frame_bytes as u64, Ordering::Relaxed);
            }
            SendOutcome::Queued | SendOutcome::UnknownPeer | SendOutcome::Closed => {}
        }
    }

    /// Counts queued frames that are dropped because the connection has ended.
    pub fn on_disconnected(&self, waiting_frames: usize) {
        add(&self.disconnected, waiting_frames);
    }

    /// Counts a connection that was made.
    pub fn on_connected(&self) {
        add(&self.connections, 1);
    }

    /// Counts a connection that is closed because the peer has sent invalid frames.
    pub fn on_nonsense(&self) {
        add(&self.nonsense, 1);
    }

    /// Counts a connection that the peer has opened while an earlier one still worked.
    pub fn on_rival(&self) {
        add(&self.rivals, 1);
    }

    /// Notes how long a packet and its acknowledgement take.
    pub fn note_round_trip(&self, round_trip: Duration) {
        let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
        self.round_trip_micros.store(micros.max(1), Ordering::Relaxed);
    }

    /// What was noted last; `None` if nothing was.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        let micros = self.round_trip_micros.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// The present values.
    #[must_use]
    pub fn snapshot(&self) -> PeerCounters {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PeerCounters {
            sent: Traffic { frames: value(&self.sent_frames), bytes: value(&self.sent_bytes) },
            received: Traffic { frames: value(&self.received_frames), bytes: value(&self.received_bytes) },
            dropped: Dropped {
                full: value(&self.full),
                disconnected: value(&self.disconnected),
                too_large: value(&self.too_large),
                longest_too_large_bytes: value(&self.longest_too_large_bytes),
            },
            connections: value(&self.connections),
            nonsense: value(&self.nonsense),
            rivals: value(&self.rivals),
        }
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
