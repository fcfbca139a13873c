//! What a transport reports about its peers.

use std::time::{Duration, Instant};

use paxos_core::NodeId;

use crate::Unreachable;

/// The present status of a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PeerStatus {
    /// The peer.
    pub peer: NodeId,
    /// Whether both nodes can send each other frames on every lane.
    pub is_connected: bool,
    /// When the peer was connected or disconnected last; `None` if the backend does not know.
    pub since: Option<Instant>,
    /// Why the peer is not connected, as far as the backend knows.
    pub unreachable: Option<Unreachable>,
    /// How long a packet and its acknowledgement take at present; `None` if the backend does not know.
    pub round_trip: Option<Duration>,
    /// Counters since the transport was bound.
    pub counters: PeerCounters,
}

impl PeerStatus {
    /// The status of a peer with all else unknown or zero; a backend sets the fields that it knows.
    #[must_use]
    pub fn new(peer: NodeId, is_connected: bool) -> PeerStatus {
        PeerStatus {
            peer,
            is_connected,
            since: None,
            unreachable: None,
            round_trip: None,
            counters: PeerCounters::default(),
        }
    }

    /// Changes fields in one expression.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut PeerStatus)) -> PeerStatus {
        change(&mut self);
        self
    }
}

/// Counters of the frames and connections with one peer. They never decrease.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeerCounters {
    /// Frames that were handed to the network.
    pub sent: Traffic,
    /// Frames that were received.
    pub received: Traffic,
    /// Frames that were dropped instead of being sent.
    pub dropped: Dropped,
    /// Connections that were made with the peer. Networked backends keep two at a time.
    pub connections: u64,
    /// Connections that were closed because the peer sent invalid frames. As peers are authenticated, even
    /// one means that a node is faulty, not the network.
    pub nonsense: u64,
    /// Connections that the peer opened while an earlier one still worked. If this keeps growing, two
    /// processes run under the peer's id.
    pub rivals: u64,
}

impl PeerCounters {
    /// Changes fields in one expression; all are zero in the default.
    ///
    /// ```
    /// use paxos_transport::{Dropped, PeerCounters, Traffic};
    ///
    /// let counters = PeerCounters::default().with(|counters| {
    ///     counters.sent = Traffic::new(3, 4096);
    ///     counters.dropped = Dropped::default().with(|dropped| dropped.full = 1);
    /// });
    /// assert_eq!((counters.sent.frames, counters.received.frames), (3, 0));
    /// ```
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut PeerCounters)) -> PeerCounters {
        change(&mut self);
        self
    }
}

/// A number of frames, and their bytes without what framing and encryption add.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// The number of frames.
    pub frames: u64,
    /// The sum of their lengths, in bytes.
    pub bytes: u64,
}

impl Traffic {
    /// So many frames, of so many bytes in all.
    #[must_use]
    pub fn new(frames: u64, bytes: u64) -> Traffic {
        Traffic { frames, bytes }
    }
}

/// Dropped frames, by reason.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dropped {
    /// The queue was full.
    pub full: u64,
    /// The peer was not connected, or the connection broke while the frame was queued.
    pub disconnected: u64,
    /// The frame was longer than the limit.
    pub too_large: u64,
    /// The length of the longest frame that was dropped for that, in bytes.
    pub longest_too_large_bytes: u64,
}

impl Dropped {
    /// Changes fields in one expression; all are zero in the default.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Dropped)) -> Dropped {
        change(&mut self);
        self
    }
}
