//! Lanes, and the bounds of their queues.

/// The lane that a frame is sent on. A full lane does not delay the others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lane {
    /// For small, urgent frames: heartbeats, phase 1, reads.
    Control,
    /// For commands: accepts and their responses.
    Log,
    /// For large frames that may take their time: catching up, snapshots.
    Bulk,
}

impl Lane {
    /// All lanes, the most urgent first.
    pub const ALL: [Lane; 3] = [Lane::Control, Lane::Log, Lane::Bulk];
}

/// The upper limit of [`NetworkConfig::max_frame_bytes`](crate::NetworkConfig::max_frame_bytes).
pub const MAX_FRAME_BYTES: usize = 1 << 30;

/// The bounds of one lane's queues with one peer: the same for the queue of outgoing frames and for that of
/// received ones.
///
/// A single frame may exceed them if the queue is empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneLimit {
    /// The most frames in a queue.
    pub frames: usize,
    /// The most bytes in a queue, without what framing and encryption add.
    pub bytes: usize,
}

/// The bounds of all queues with one peer.
///
/// If a queue of outgoing frames is full, further frames are dropped. If a queue of received frames is full,
/// the transport stops reading, so that the sender's queue fills.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneLimits {
    /// The bounds of [`Lane::Control`].
    pub control: LaneLimit,
    /// The bounds of [`Lane::Log`].
    pub log: LaneLimit,
    /// The bounds of [`Lane::Bulk`].
    pub bulk: LaneLimit,
}

impl LaneLimits {
    /// The bounds of one lane.
    #[must_use]
    pub fn of(&self, lane: Lane) -> LaneLimit {
        match lane {
            Lane::Control => self.control,
            Lane::Log => self.log,
            Lane::Bulk => self.bulk,
        }
    }
}

impl Default for LaneLimits {
    fn default() -> Self {
        LaneLimits {
            control: LaneLimit { frames: 16 << 10, bytes: 4 << 20 },
            log: LaneLimit { frames: 64 << 10, bytes: 64 << 20 },
            bulk: LaneLimit { frames: 4 << 10, bytes: 16 << 20 },
        }
    }
}

#[cfg(feature = "backend")]
impl LaneLimit {
    /// The bytes that a frame counts for: at least [`bytes`](LaneLimit::bytes) /
    /// [`frames`](LaneLimit::frames), so that a queue which bounds the sum of costs bounds the number of
    /// frames, too.
    pub(crate) fn cost(self, frame_bytes: usize) -> usize {
        frame_bytes.max(self.bytes / self.frames.max(1)).clamp(1, self.bytes.max(1))
    }
}

#[cfg(all(test, feature = "backend"))]
mod tests {
    use super::*;

    #[test]
    fn bounding_the_cost_bounds_frames_and_bytes() {
        let limit = LaneLimit { frames: 4, bytes: 1000 };
        assert_eq!(limit.bytes / limit.cost(0), limit.frames);
        assert_eq!(limit.cost(300), 300);
        assert_eq!(limit.cost(5000), limit.bytes, "a frame that exceeds the limit waits alone");
        assert_eq!(LaneLimit { frames: 0, bytes: 0 }.cost(9), 1, "even then one frame fits");
    }
}
