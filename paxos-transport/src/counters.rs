//! What has happened between this node and a peer, while it happens.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Dropped, PeerCounters, SendOutcome, Traffic};

/// The counters of a peer while they count.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    sent_frames: AtomicU64,
    sent_bytes: AtomicU64,
    received_frames: AtomicU64,
    received_bytes: AtomicU64,
    full: AtomicU64,
    disconnected: AtomicU64,
    too_large: AtomicU64,
    connections: AtomicU64,
}

impl Counters {
    pub(crate) fn on_sent(&self, frame_bytes: usize) {
        add(&self.sent_frames, 1);
        add(&self.sent_bytes, frame_bytes);
    }

    pub(crate) fn on_received(&self, frame_bytes: usize) {
        add(&self.received_frames, 1);
        add(&self.received_bytes, frame_bytes);
    }

    /// Counts the frame if it was dropped.
    pub(crate) fn on_outcome(&self, outcome: SendOutcome) {
        match outcome {
            SendOutcome::Full => add(&self.full, 1),
            SendOutcome::Disconnected => add(&self.disconnected, 1),
            SendOutcome::TooLarge => add(&self.too_large, 1),
            SendOutcome::Queued | SendOutcome::UnknownPeer | SendOutcome::Closed => {}
        }
    }

    #[cfg(feature = "network")]
    pub(crate) fn on_disconnected(&self, waiting_frames: usize) {
        add(&self.disconnected, waiting_frames);
    }

    pub(crate) fn on_connected(&self) {
        add(&self.connections, 1);
    }

    pub(crate) fn snapshot(&self) -> PeerCounters {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PeerCounters {
            sent: Traffic { frames: value(&self.sent_frames), bytes: value(&self.sent_bytes) },
            received: Traffic { frames: value(&self.received_frames), bytes: value(&self.received_bytes) },
            dropped: Dropped {
                full: value(&self.full),
                disconnected: value(&self.disconnected),
                too_large: value(&self.too_large),
            },
            connections: value(&self.connections),
        }
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
