//! What a transport tells about its peers.

use paxos_core::NodeId;

/// A peer as it is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerStatus {
    /// Who it is.
    pub peer: NodeId,
    /// Whether frames can go both ways, on every lane.
    pub is_connected: bool,
    /// What has happened since the transport was bound.
    pub counters: PeerCounters,
}

/// What has happened between this node and a peer. Counters only grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeerCounters {
    /// Frames handed to the network.
    pub sent: Traffic,
    /// Frames that have arrived.
    pub received: Traffic,
    /// Frames that were not sent.
    pub dropped: Dropped,
    /// How many connections were made with the peer. Networked backends keep two at a time.
    pub connections: u64,
}

/// Frames and their bytes, without what framing and encryption add.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// How many frames.
    pub frames: u64,
    /// How many bytes they have.
    pub bytes: u64,
}

/// Frames that were not sent, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dropped {
    /// As much waited as may.
    pub full: u64,
    /// There was no connection, or it broke while the frame waited.
    pub disconnected: u64,
    /// The frame was longer than a frame may be.
    pub too_large: u64,
}
