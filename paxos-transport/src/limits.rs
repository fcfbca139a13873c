//! How much may wait.

use crate::Lane;

/// The longest frame that networked backends can be set up for.
pub const MAX_FRAME_BYTES: usize = 1 << 30;

/// How much may wait on one lane between one pair of nodes, separately on the way out and on the way in.
///
/// A single frame may exceed it: it waits alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneLimit {
    /// How many frames.
    pub frames: usize,
    /// How many bytes they have.
    pub bytes: usize,
}

/// How much may wait between one pair of nodes.
///
/// On the way out, what does not fit is dropped. On the way in, nothing more is read until the user has taken
/// something, and then the sender's queue fills.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneLimits {
    /// On [`Lane::Control`].
    pub control: LaneLimit,
    /// On [`Lane::Log`].
    pub log: LaneLimit,
    /// On [`Lane::Bulk`].
    pub bulk: LaneLimit,
}

impl LaneLimits {
    /// The limit of one lane.
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
    /// What a frame takes of [`bytes`](LaneLimit::bytes), so that bounding these alone bounds the frames as well.
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
