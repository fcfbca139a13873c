//! Kinds, tags and bounds of frames.

/// The length of the prefix: kind, and number and nonce of the sender's start.
pub(in crate::runtime::introductions) const PREFIX_BYTES: usize = 17;
/// A frame that is not a message may be this long.
pub(in crate::runtime::introductions) const MAX_FRAME_BYTES: usize = 32 << 10;
/// A hello has at most this many settings, and at most this many facts.
pub(super) const MAX_PAIRS: usize = 64;
/// An answer names at most this many differences.
pub(in crate::runtime::introductions) const MAX_DIFFERENCES: usize = 8;
/// News hold at most this many checkpoints.
pub(in crate::runtime::introductions) const MAX_CHECKPOINTS: usize = 8;

/// Kinds of frames.
pub(super) const MESSAGE: u8 = 0;
pub(super) const HELLO: u8 = 1;
pub(super) const ANSWER: u8 = 2;
pub(super) const FAREWELL: u8 = 3;
pub(super) const NEWS: u8 = 4;

/// Tags of the fields of a hello.
pub(super) const CLUSTER: u8 = 1;
pub(super) const STORAGE: u8 = 2;
pub(super) const STANDING: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const FACTS: u8 = 5;
pub(super) const ABSENT: u8 = 6;
pub(super) const ASKS: u8 = 7;
pub(super) const REACH: u8 = 8;
/// Not told by programs from before there were levels.
pub(super) const LEVELS: u8 = 9;
/// Oldest and newest level that is known, and the level of the cluster.
pub(super) const LEVELS_BYTES: usize = 2 + 2 + 2;

/// Tags of the fields of an answer.
pub(super) const TO: u8 = 1;
pub(super) const VERDICT: u8 = 2;
pub(super) const DIFFERENCES: u8 = 3;
pub(super) const KNOWN_STORAGE: u8 = 4;
pub(super) const KNOWN_START: u8 = 5;
pub(super) const EPOCH: u8 = 6;

/// Tags of the fields of news.
pub(super) const CHECKPOINTS: u8 = 1;
pub(super) const PEERS: u8 = 2;
pub(super) const OWN_REACH: u8 = 3;
/// Node, storage id, number and nonce of the start, whether it is heard, what its storage holds.
pub(super) const PEER_BYTES: usize = 8 + 16 + 16 + 1 + REACH_BYTES;
/// Round and node of the ballot, slot.
pub(super) const REACH_BYTES: usize = 8 + 8 + 8;

/// A standing is a byte, and the id of a founding or zero.
pub(super) const NEW: u8 = 0;
pub(super) const MET_ALL: u8 = 1;
pub(super) const FOUNDED: u8 = 2;

/// Verdicts.
pub(super) const WELCOME: u8 = 0;
pub(super) const OTHER_SETTINGS: u8 = 1;
pub(super) const OTHER_DISK: u8 = 2;
pub(super) const OTHER_FOUNDING: u8 = 3;
pub(super) const COPY: u8 = 4;
pub(super) const SHARED_STORAGE: u8 = 5;
pub(super) const GIVEN_UP: u8 = 6;
