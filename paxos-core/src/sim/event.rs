//! What the schedule of a run holds.

use bytes::Bytes;

use super::network::Parcel;
use super::node::PendingSnapshot;
use crate::{NodeId, Slot, SnapshotMeta};

/// What happens at a time of the schedule.
#[derive(Debug)]
pub(super) enum Event {
    Tick(usize, u64),
    Deliver(Parcel),
    /// More of what is on the stream from one node to another.
    Arrive(usize, usize),
    Synced(usize, u64),
    Client(usize, u64),
    Operator(usize),
    Trouble,
    Flap,
    WallJump,
    Start(usize),
    SnapshotTaken(usize, u64, PendingSnapshot),
    SnapshotLoaded(usize, u64, NodeId, SnapshotMeta, u64, Bytes),
    SnapshotStored(usize, u64, Slot, u64),
    SnapshotWhole(usize, u64, SnapshotMeta, Bytes),
    Calm,
    LastCall,
    End,
}
