//! Writes frames.

use bytes::{BufMut, Bytes};
use paxos_storage::Start;

use super::layout::{
    ABSENT, ANSWER, ASKS, CHECKPOINTS, CLUSTER, COPY, DIFFERENCES, EPOCH, FACTS, FAREWELL, FOUNDED, GIVEN_UP,
    HELLO, KNOWN_START, KNOWN_STORAGE, LEVELS, MESSAGE, MET_ALL, NEW, NEWS, OTHER_DISK, OTHER_FOUNDING,
    OTHER_SETTINGS, OWN_REACH, PEER_BYTES, PEERS, PREFIX_BYTES, REACH, REACH_BYTES, SETTINGS, SHARED_STORAGE,
    STANDING, STORAGE, TO, VERDICT, WELCOME,
};
use super::{Answer, Contents, Hello, News, PeerNews, PeerRefusal, Standing};
use crate::runtime::introductions::levels::Levels;
use crate::runtime::introductions::reach::Reach;

/// The prefix of each message of this start.
pub(in crate::runtime::introductions) fn message_prefix(start: Start) -> [u8; PREFIX_BYTES] {
    prefix(MESSAGE, start)
}

fn prefix(kind: u8, start: Start) -> [u8; PREFIX_BYTES] {
    let mut prefix = [kind; PREFIX_BYTES];
    prefix[1..9].copy_from_slice(&start.number.to_le_bytes());
    prefix[9..].copy_from_slice(&start.nonce.to_le_bytes());
    prefix
}

/// A frame of any kind but a message.
pub(in crate::runtime::introductions) fn encode(start: Start, contents: &Contents) -> Bytes {
    let mut fields = Fields(Vec::new());
    let kind = match contents {
        Contents::Message(_) => unreachable!("a message is encoded behind its prefix"),
        Contents::Hello(hello) => fields.put_hello(hello),
        Contents::Answer(answer) => fields.put_answer(answer),
        Contents::Farewell => FAREWELL,
        Contents::News(news) => fields.put_news(news),
    };
    let prefix = prefix(kind, start);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&prefix), &fields.0);
    let mut frame = Vec::with_capacity(PREFIX_BYTES + 4 + fields.0.len());
    frame.put_slice(&prefix);
    frame.put_u32_le(checksum);
    frame.put_slice(&fields.0);
    Bytes::from(frame)
}

/// The fields of a frame as they are written.
struct Fields(Vec<u8>);

impl Fields {
    fn put(&mut self, tag: u8, contents: &[u8]) {
        self.0.put_u8(tag);
        self.0.put_u16_le(
            u16::try_from(contents.len()).expect("settings and facts are bounded when a node starts"),
        );
        self.0.put_slice(contents);
    }

    fn put_hello(&mut self, hello: &Hello) -> u8 {
        let (standing, id) = match hello.standing {
            Standing::New { met: None } => (NEW, None),
            Standing::New { met } => (MET_ALL, met),
            Standing::Founded { id } => (FOUNDED, id),
        };
        let mut standing = vec![standing];
        standing.put_u128_le(id.map_or(0, |id| id.0));
        let absent: Vec<u8> = hello.absent.iter().flat_map(|node| node.0.to_le_bytes()).collect();
        self.put(CLUSTER, hello.cluster.as_bytes());
        self.put(STORAGE, &hello.storage.0.to_le_bytes());
        self.put(STANDING, &standing);
        self.put(SETTINGS, &strings(hello.settings.iter().flat_map(|(name, value)| [name, value])));
        self.put(FACTS, &strings(hello.facts.iter().flat_map(|(name, value)| [name, value])));
        self.put(ABSENT, &absent);
        self.put(ASKS, &[u8::from(hello.asks)]);
        self.put(REACH, &reach_bytes(hello.reach));
        if hello.levels != Levels::UNTOLD {
            let Levels { oldest, newest, finalized } = hello.levels;
            let levels = [oldest, newest, finalized].map(|level| level.0.to_le_bytes());
            self.put(LEVELS, levels.as_flattened());
        }
        HELLO
    }

    fn put_answer(&mut self, answer: &Answer) -> u8 {
        self.put(TO, &start_bytes(answer.to));
        let verdict = match &answer.refusal {
            None => WELCOME,
            Some(PeerRefusal::Settings(differences)) => {
                let all = differences.iter().flat_map(|one| [&one.name, &one.refusing, &one.refused]);
                self.put(DIFFERENCES, &strings(all));
                OTHER_SETTINGS
            }
            Some(PeerRefusal::OtherDisk { known }) => {
                self.put(KNOWN_STORAGE, &known.0.to_le_bytes());
                OTHER_DISK
            }
            Some(PeerRefusal::OtherFounding) => OTHER_FOUNDING,
            Some(PeerRefusal::Copy { known }) => {
                self.put(KNOWN_START, &start_bytes(*known));
                COPY
            }
            Some(PeerRefusal::SharedStorage) => SHARED_STORAGE,
            Some(PeerRefusal::GivenUp { epoch }) => {
                self.put(EPOCH, &epoch.0.to_le_bytes());
                GIVEN_UP
            }
        };
        self.put(VERDICT, &[verdict]);
        ANSWER
    }

    fn put_news(&mut self, news: &News) -> u8 {
        let numbers = news.checkpoints.iter().flat_map(|(slot, digest)| [slot.0, *digest]);
        let bytes: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
        self.put(CHECKPOINTS, &bytes);
        let mut bytes = Vec::with_capacity(news.peers.len() * PEER_BYTES);
        for (node, PeerNews { known, is_heard, reach }) in &news.peers {
            bytes.put_u64_le(node.0);
            bytes.put_u128_le(known.storage.0);
            bytes.put_slice(&start_bytes(known.start));
            bytes.put_u8(u8::from(*is_heard));
            bytes.put_slice(&reach_bytes(*reach));
        }
        self.put(PEERS, &bytes);
        self.put(OWN_REACH, &reach_bytes(news.reach));
        NEWS
    }
}

fn start_bytes(start: Start) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&start.number.to_le_bytes());
    bytes[8..].copy_from_slice(&start.nonce.to_le_bytes());
    bytes
}

fn reach_bytes(reach: Reach) -> [u8; REACH_BYTES] {
    let mut bytes = [0; REACH_BYTES];
    bytes[..8].copy_from_slice(&reach.promised.round.to_le_bytes());
    bytes[8..16].copy_from_slice(&reach.promised.node.0.to_le_bytes());
    bytes[16..].copy_from_slice(&reach.slot.0.to_le_bytes());
    bytes
}

/// Strings, each behind its length in two bytes.
fn strings<'a>(strings: impl Iterator<Item = &'a String>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for string in strings {
        bytes.put_u16_le(
            u16::try_from(string.len()).expect("settings and facts are bounded when a node starts"),
        );
        bytes.put_slice(string.as_bytes());
    }
    bytes
}
