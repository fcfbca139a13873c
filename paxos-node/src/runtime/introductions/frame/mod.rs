//! Frames between nodes as bytes.
//!
//! ```text
//! offset size
//!      0    1  kind: 0 a message, 1 a hello, 2 an answer, 3 a farewell, 4 news
//!      1    8  number of the sender's start, little-endian like all that follows
//!      9    8  nonce of the sender's start
//!     17       of a message: the message (`paxos_core::wire`), whose checksum covers byte 0 to 16, too
//! ```
//!
//! Every other kind goes on with the CRC32C of the rest of the frame, bytes 0 to 16 included (4 bytes), and
//! then fields: tag (1 byte), length (2 bytes), contents. No tag comes twice. Unknown tags are skipped, so
//! that a newer version may add fields; none of the known ones may be missing, except for those that were
//! added later: the levels of a hello.

mod decode;
mod encode;
mod layout;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use paxos_core::{Epoch, NodeId, Slot};
use paxos_storage::{FoundingId, KnownPeer, Start, StorageId};

use super::levels::Levels;
use super::reach::Reach;

pub(super) use self::decode::decode;
pub(crate) use self::decode::decode_message;
pub(super) use self::encode::{encode, message_prefix};
#[cfg(test)]
pub(super) use self::layout::PREFIX_BYTES;
pub(super) use self::layout::{MAX_CHECKPOINTS, MAX_DIFFERENCES};

/// What a node says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Hello {
    pub(super) cluster: String,
    pub(super) storage: StorageId,
    pub(super) standing: Standing,
    /// Must be the same on all nodes.
    pub(super) settings: BTreeMap<String, String>,
    /// Not compared.
    pub(super) facts: BTreeMap<String, String>,
    /// The members that the founding does not wait for.
    pub(super) absent: BTreeSet<NodeId>,
    /// The sender is not introduced to the receiver yet, and wants a hello in return.
    pub(super) asks: bool,
    /// What its storage held when it started.
    pub(super) reach: Reach,
    /// Which format levels its program reads.
    pub(super) levels: Levels,
}

/// Whether a node is a member of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Of none yet. `met` is set once it remembers the storages of all founders: the name of their founding.
    New { met: Option<FoundingId> },
    /// Of this one; `id` is `None` if it was founded before foundings had names.
    Founded { id: Option<FoundingId> },
}

/// The answer to a peer's hello.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    /// The start that is answered.
    pub(super) to: Start,
    /// `None` if the peer is admitted.
    pub(super) refusal: Option<PeerRefusal>,
}

/// What a node tells its peers again and again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct News {
    /// Digests of its state after some slots, the newest first.
    pub(super) checkpoints: Vec<(Slot, u64)>,
    /// What it knows of its other peers.
    pub(super) peers: BTreeMap<NodeId, PeerNews>,
    /// What its storage holds by now.
    pub(super) reach: Reach,
}

/// What a node tells of another node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PeerNews {
    pub(super) known: KnownPeer,
    /// Whether this start was heard a moment ago.
    pub(super) is_heard: bool,
    /// The most that its storage is known to have held.
    pub(super) reach: Reach,
}

/// Why a node does not listen to a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum PeerRefusal {
    /// Settings that must be equal are not.
    Settings(Vec<Difference>),
    /// It is known by another storage.
    OtherDisk { known: StorageId },
    /// It belongs to a cluster of the same name that was founded apart from this one.
    OtherFounding,
    /// A newer start on its storage is known, or another one with the same number: it runs on a copy.
    Copy { known: Start },
    /// Its storage is also that of another node.
    SharedStorage,
    /// It counted as lost when a cluster without a majority was rescued: its id was removed in this epoch.
    GivenUp { epoch: Epoch },
}

/// A setting in which two nodes differ; a value is empty if that node does not have the setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Difference {
    pub(crate) name: String,
    /// The value of the node that refuses.
    pub(crate) refusing: String,
    /// The value of the node that is refused.
    pub(crate) refused: String,
}

/// What a frame holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Contents {
    /// The whole frame, for [`decode_message`].
    Message(Bytes),
    Hello(Hello),
    Answer(Answer),
    /// The sender stops.
    Farewell,
    News(News),
}

/// Why bytes are no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum FrameError {
    #[error("its length is not that of a frame")]
    Length,
    #[error("it is of an unknown kind, perhaps of a newer version")]
    UnknownKind,
    #[error("its checksum is wrong")]
    Checksum,
    #[error("field {0} comes twice")]
    FieldTwice(u8),
    #[error("field {0} is missing")]
    MissingField(u8),
    #[error("field {0} makes no sense")]
    MalformedField(u8),
}

/// For the fuzz target: bytes that decode as a frame decode to the same after they are encoded again.
///
/// # Panics
///
/// If they do not.
#[cfg(any(test, feature = "fuzz"))]
pub fn fuzz(bytes: &[u8]) {
    use self::layout::PREFIX_BYTES;

    // With a right checksum, so that mistakes in the fields are reached.
    let mut frame = bytes.to_vec();
    if let Some((prefix, rest)) = bytes.split_at_checked(PREFIX_BYTES)
        && let Some((_, fields)) = rest.split_at_checked(4)
    {
        let checksum = crc32c::crc32c_append(crc32c::crc32c(prefix), fields);
        frame[PREFIX_BYTES..PREFIX_BYTES + 4].copy_from_slice(&checksum.to_le_bytes());
    }
    let Ok((start, contents)) = decode(Bytes::from(frame)) else { return };
    if matches!(contents, Contents::Message(_)) {
        return;
    }
    // That loses unknown fields and the order of fields, but nothing that is known.
    let again = decode(encode(start, &contents)).expect("what was encoded just now is a frame");
    assert_eq!(again, (start, contents));
}
