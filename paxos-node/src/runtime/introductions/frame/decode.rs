//! Reads frames.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use paxos_core::wire::{self, WireError};
use paxos_core::{Ballot, Epoch, FormatLevel, Message, NodeId, Slot};
use paxos_storage::{FoundingId, KnownPeer, Registry, Start, StorageId};

use super::layout::{
    ABSENT, ANSWER, ASKS, CHECKPOINTS, CLUSTER, COPY, DIFFERENCES, EPOCH, FACTS, FAREWELL, FOUNDED, GIVEN_UP,
    HELLO, KNOWN_START, KNOWN_STORAGE, LEVELS, LEVELS_BYTES, MAX_CHECKPOINTS, MAX_DIFFERENCES,
    MAX_FRAME_BYTES, MAX_PAIRS, MESSAGE, MET_ALL, NEW, NEWS, OTHER_DISK, OTHER_FOUNDING, OTHER_SETTINGS,
    OWN_REACH, PEER_BYTES, PEERS, PREFIX_BYTES, REACH, REACH_BYTES, SETTINGS, SHARED_STORAGE, STANDING,
    STORAGE, TO, VERDICT, WELCOME,
};
use super::{Answer, Contents, Difference, FrameError, Hello, News, PeerNews, PeerRefusal, Standing};
use crate::runtime::introductions::levels::Levels;
use crate::runtime::introductions::reach::Reach;

/// The message in a frame of one.
pub(crate) fn decode_message(frame: Bytes) -> Result<Message, WireError> {
    wire::decode_behind(PREFIX_BYTES, frame)
}

/// Decodes a frame, except for a message in it.
pub(in crate::runtime::introductions) fn decode(frame: Bytes) -> Result<(Start, Contents), FrameError> {
    let Some((prefix, rest)) = frame.split_at_checked(PREFIX_BYTES) else { return Err(FrameError::Length) };
    let kind = prefix[0];
    let start = Start { number: (&prefix[1..]).get_u64_le(), nonce: (&prefix[9..]).get_u64_le() };
    if kind == MESSAGE {
        return Ok((start, Contents::Message(frame)));
    }
    let Some((checksum, fields)) = rest.split_at_checked(4) else { return Err(FrameError::Length) };
    if frame.len() > MAX_FRAME_BYTES {
        return Err(FrameError::Length);
    }
    if crc32c::crc32c_append(crc32c::crc32c(prefix), fields) != (&*checksum).get_u32_le() {
        return Err(FrameError::Checksum);
    }
    let fields = Parsed::parse(fields)?;
    let contents = match kind {
        HELLO => Contents::Hello(fields.hello()?),
        ANSWER => Contents::Answer(fields.answer()?),
        FAREWELL => Contents::Farewell,
        NEWS => Contents::News(fields.news()?),
        _ => return Err(FrameError::UnknownKind),
    };
    Ok((start, contents))
}

/// Decodes a reach.
fn reach(mut bytes: &[u8]) -> Reach {
    let promised = Ballot { round: bytes.get_u64_le(), node: NodeId(bytes.get_u64_le()) };
    Reach { promised, slot: Slot(bytes.get_u64_le()) }
}

/// The fields of a frame by their tags.
struct Parsed<'a>(BTreeMap<u8, &'a [u8]>);

impl<'a> Parsed<'a> {
    fn parse(mut rest: &'a [u8]) -> Result<Parsed<'a>, FrameError> {
        let mut fields = BTreeMap::new();
        while !rest.is_empty() {
            let (Ok(tag), Ok(length)) = (rest.try_get_u8(), rest.try_get_u16_le()) else {
                return Err(FrameError::Length);
            };
            let contents = rest.split_off(..usize::from(length)).ok_or(FrameError::Length)?;
            if fields.insert(tag, contents).is_some() {
                return Err(FrameError::FieldTwice(tag));
            }
        }
        Ok(Parsed(fields))
    }

    fn field(&self, tag: u8) -> Result<&'a [u8], FrameError> {
        self.0.get(&tag).copied().ok_or(FrameError::MissingField(tag))
    }

    fn fixed<const BYTES: usize>(&self, tag: u8) -> Result<[u8; BYTES], FrameError> {
        self.field(tag)?.try_into().map_err(|_| FrameError::MalformedField(tag))
    }

    fn numbers(&self, tag: u8, limit: usize) -> Result<Vec<u64>, FrameError> {
        let (numbers, rest) = self.field(tag)?.as_chunks::<8>();
        if !rest.is_empty() || numbers.len() > limit {
            return Err(FrameError::MalformedField(tag));
        }
        Ok(numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
    }

    fn start(&self, tag: u8) -> Result<Start, FrameError> {
        let bytes = self.fixed::<16>(tag)?;
        Ok(Start { number: (&bytes[..]).get_u64_le(), nonce: (&bytes[8..]).get_u64_le() })
    }

    fn text(tag: u8, bytes: &[u8]) -> Result<String, FrameError> {
        String::from_utf8(bytes.to_vec()).map_err(|_| FrameError::MalformedField(tag))
    }

    fn strings(&self, tag: u8, limit: usize) -> Result<Vec<String>, FrameError> {
        let mut rest = self.field(tag)?;
        let mut strings = Vec::new();
        while !rest.is_empty() {
            let length = rest.try_get_u16_le().map_err(|_| FrameError::MalformedField(tag))?;
            let string = rest.split_off(..usize::from(length)).ok_or(FrameError::MalformedField(tag))?;
            strings.push(Parsed::text(tag, string)?);
            if strings.len() > limit {
                return Err(FrameError::MalformedField(tag));
            }
        }
        Ok(strings)
    }

    /// Pairs of name and value, in ascending order of names.
    fn pairs(&self, tag: u8) -> Result<BTreeMap<String, String>, FrameError> {
        let strings = self.strings(tag, 2 * MAX_PAIRS)?;
        let (pairs, rest) = strings.as_chunks::<2>();
        let is_ascending = pairs.windows(2).all(|two| two[0][0] < two[1][0]);
        if !rest.is_empty() || !is_ascending {
            return Err(FrameError::MalformedField(tag));
        }
        Ok(pairs.iter().cloned().map(|[name, value]| (name, value)).collect())
    }

    fn hello(&self) -> Result<Hello, FrameError> {
        let standing = self.fixed::<17>(STANDING)?;
        let id = Some((&standing[1..]).get_u128_le()).filter(|id| *id != 0).map(FoundingId);
        let standing = match (standing[0], id) {
            (NEW, None) => Standing::New { met: None },
            (MET_ALL, Some(id)) => Standing::New { met: Some(id) },
            (FOUNDED, id) => Standing::Founded { id },
            _ => return Err(FrameError::MalformedField(STANDING)),
        };
        let absent = self.numbers(ABSENT, paxos_core::MAX_MEMBERS)?.into_iter().map(NodeId);
        Ok(Hello {
            cluster: Parsed::text(CLUSTER, self.field(CLUSTER)?)?,
            storage: StorageId(u128::from_le_bytes(self.fixed(STORAGE)?)),
            standing,
            settings: self.pairs(SETTINGS)?,
            facts: self.pairs(FACTS)?,
            absent: absent.collect(),
            asks: self.fixed::<1>(ASKS)? != [0],
            reach: reach(&self.fixed::<REACH_BYTES>(REACH)?),
            levels: self.levels()?,
        })
    }

    fn levels(&self) -> Result<Levels, FrameError> {
        if !self.0.contains_key(&LEVELS) {
            return Ok(Levels::UNTOLD);
        }
        let bytes = self.fixed::<LEVELS_BYTES>(LEVELS)?;
        let mut rest = &bytes[..];
        let mut level = || FormatLevel(rest.get_u16_le());
        Ok(Levels { oldest: level(), newest: level(), finalized: level() })
    }

    fn answer(&self) -> Result<Answer, FrameError> {
        let refusal = match self.fixed::<1>(VERDICT)? {
            [WELCOME] => None,
            [OTHER_SETTINGS] => {
                let strings = self.strings(DIFFERENCES, 3 * MAX_DIFFERENCES)?;
                let (differences, rest) = strings.as_chunks::<3>();
                if !rest.is_empty() {
                    return Err(FrameError::MalformedField(DIFFERENCES));
                }
                let difference =
                    |[name, refusing, refused]: [String; 3]| Difference { name, refusing, refused };
                Some(PeerRefusal::Settings(differences.iter().cloned().map(difference).collect()))
            }
            [OTHER_DISK] => {
                let known = StorageId(u128::from_le_bytes(self.fixed(KNOWN_STORAGE)?));
                Some(PeerRefusal::OtherDisk { known })
            }
            [OTHER_FOUNDING] => Some(PeerRefusal::OtherFounding),
            [COPY] => Some(PeerRefusal::Copy { known: self.start(KNOWN_START)? }),
            [SHARED_STORAGE] => Some(PeerRefusal::SharedStorage),
            [GIVEN_UP] => {
                let epoch = Epoch(u64::from_le_bytes(self.fixed(EPOCH)?));
                Some(PeerRefusal::GivenUp { epoch })
            }
            _ => return Err(FrameError::MalformedField(VERDICT)),
        };
        Ok(Answer { to: self.start(TO)?, refusal })
    }

    fn news(&self) -> Result<News, FrameError> {
        let numbers = self.numbers(CHECKPOINTS, 2 * MAX_CHECKPOINTS)?;
        let (pairs, rest) = numbers.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(FrameError::MalformedField(CHECKPOINTS));
        }
        let checkpoints = pairs.iter().map(|[slot, digest]| (Slot(*slot), *digest)).collect();
        let (peers, rest) = self.field(PEERS)?.as_chunks::<PEER_BYTES>();
        if !rest.is_empty() || peers.len() > Registry::MAX_PEERS {
            return Err(FrameError::MalformedField(PEERS));
        }
        let peer = |bytes: &[u8; PEER_BYTES]| {
            let mut bytes = &bytes[..];
            let (node, storage) = (NodeId(bytes.get_u64_le()), StorageId(bytes.get_u128_le()));
            let start = Start { number: bytes.get_u64_le(), nonce: bytes.get_u64_le() };
            let is_heard = bytes.get_u8() != 0;
            (node, PeerNews { known: KnownPeer { storage, start }, is_heard, reach: reach(bytes) })
        };
        let reach = reach(&self.fixed::<REACH_BYTES>(OWN_REACH)?);
        Ok(News { checkpoints, peers: peers.iter().map(peer).collect(), reach })
    }
}
