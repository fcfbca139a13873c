//! Messages over streams: their real encoding, and the real writer and reader of frames, over bytes that
//! arrive in pieces of any size.
//!
//! Each pair of nodes has a stream in each direction, which lasts until one of them crashes. What comes out
//! of a stream is compared with what was put in. Some frames are damaged before they are sent, as a mistake
//! of framing, of memory or of a peer's encoder would do: the receiver must refuse these.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::frames::{Decoded, FrameDecoder, FrameEncoder, SIGN_OF_LIFE, StreamSizes};
use crate::random::Random;
use crate::{Message, wire};

/// Longer frames than this are no longer messages of a simulation.
const MAX_FRAME_BYTES: usize = 1 << 26;
/// One frame in this many is damaged while there is chaos.
const DAMAGE_SHARE: u64 = 100;
/// One frame in this many has a sign of life before it.
const SIGN_OF_LIFE_SHARE: u64 = 20;
const LANES: u64 = 3;

/// The streams between all nodes.
#[derive(Debug)]
pub(super) struct Streams {
    nodes: usize,
    sizes: StreamSizes,
    /// From the first node to all, from the second to all, and so on.
    by_pair: Vec<Stream>,
    pub(super) is_calm: bool,
    random: Random,
}

#[derive(Debug)]
struct Stream {
    encoder: FrameEncoder,
    decoder: FrameDecoder,
    under_way: VecDeque<u8>,
    /// What the frames under way must be decoded as: a message, or nothing if the frame was damaged.
    expected: VecDeque<(u8, Option<Message>)>,
    /// The frame before.
    before: Bytes,
    /// Whether an event is planned that reads what is under way.
    is_planned: bool,
}

/// What has arrived over a stream.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    /// Messages, in the order in which they were sent.
    pub(super) messages: Vec<Message>,
    /// Damaged messages that were noticed.
    pub(super) refused: u64,
    /// The last frame has not arrived whole.
    pub(super) is_in_pieces: bool,
    /// More is under way, and no event is planned yet that reads it.
    pub(super) is_to_be_planned: bool,
    /// Something has arrived that was not sent.
    pub(super) problem: Option<String>,
}

impl Streams {
    pub(super) fn new(nodes: usize, seed: u64) -> Streams {
        let mut random = Random::stream(seed, "streams");
        let sizes = StreamSizes {
            read_bytes: [8, 64, 300, 5_000][random.index(4)],
            write_bytes: [16, 200, 5_000][random.index(3)],
            large_frame_bytes: [8, 100, 3_000][random.index(3)],
        };
        let by_pair = (0..nodes * nodes).map(|_| Stream::new(sizes)).collect();
        Streams { nodes, sizes, by_pair, is_calm: false, random }
    }

    /// Cuts off everything that is under way to or from a node that crashes.
    pub(super) fn reset(&mut self, node: usize) {
        for other in 0..self.nodes {
            for place in [node * self.nodes + other, other * self.nodes + node] {
                self.by_pair[place] = Stream::new(self.sizes);
            }
        }
    }

    /// The event that was planned for a stream has come.
    pub(super) fn begin_planned(&mut self, from: usize, to: usize) {
        self.by_pair[from * self.nodes + to].is_planned = false;
    }

    /// Sends a message, or a damaged frame in its place.
    pub(super) fn put(&mut self, from: usize, to: usize, message: Message) {
        let random = &mut self.random;
        let stream = &mut self.by_pair[from * self.nodes + to];
        if random.one_in(SIGN_OF_LIFE_SHARE) {
            stream.under_way.extend(SIGN_OF_LIFE);
        }
        let lane = random.below(LANES) as u8;
        let frame = wire::encode(&message);
        let damaged =
            (!self.is_calm && random.one_in(DAMAGE_SHARE)).then(|| damaged(&frame, &stream.before, random));
        stream.expected.push_back((lane, damaged.is_none().then_some(message)));
        stream.before = frame.clone();
        stream.encoder.put(lane, damaged.unwrap_or(frame));
        for part in stream.encoder.parts() {
            stream.under_way.extend(part);
        }
        stream.encoder.clear();
    }

    /// Reads all or a part of what is under way.
    pub(super) fn arrive(&mut self, from: usize, to: usize) -> Arrived {
        let stream = &mut self.by_pair[from * self.nodes + to];
        let mut arrived = Arrived::default();
        let all = stream.under_way.len();
        let mut rest = if self.random.one_in(2) { all } else { self.random.index(all + 1) };
        loop {
            match stream.decoder.decode() {
                Ok(Some(Decoded::Frame { lane, frame })) => stream.take(lane, frame, &mut arrived),
                Ok(Some(_)) => {}
                Ok(None) if rest == 0 => break,
                Ok(None) => {
                    let space = stream.decoder.space();
                    let piece = rest.min(space.len());
                    for (place, byte) in space.iter_mut().zip(stream.under_way.drain(..piece)) {
                        *place = byte;
                    }
                    stream.decoder.filled(piece);
                    rest -= piece;
                }
                Err(error) => arrived.problem = Some(format!("a stream has lost its place: {error}")),
            }
            if arrived.problem.is_some() {
                break;
            }
        }
        arrived.is_in_pieces = !stream.decoder.is_between_frames();
        arrived.is_to_be_planned = !stream.under_way.is_empty() && !stream.is_planned;
        stream.is_planned |= arrived.is_to_be_planned;
        arrived
    }

    /// The time until more arrives.
    pub(super) fn delay_units(&mut self) -> u64 {
        1 + self.random.below(40)
    }
}

impl Stream {
    fn new(sizes: StreamSizes) -> Stream {
        Stream {
            encoder: FrameEncoder::new(sizes),
            decoder: FrameDecoder::new(sizes, MAX_FRAME_BYTES),
            under_way: SIGN_OF_LIFE.into(),
            expected: VecDeque::new(),
            before: Bytes::new(),
            is_planned: false,
        }
    }

    fn take(&mut self, lane: u8, frame: Bytes, arrived: &mut Arrived) {
        let frame_bytes = frame.len();
        let decoded = wire::decode(frame);
        let (expected_lane, expected) = self.expected.pop_front().unwrap_or_default();
        match (decoded, expected) {
            (Ok(message), Some(expected)) if message == expected && lane == expected_lane => {
                arrived.messages.push(message);
            }
            (Err(_), None) => arrived.refused += 1,
            (decoded, expected) => {
                arrived.problem = Some(format!(
                    "a frame of {frame_bytes} bytes was {expected:?} and arrives as {decoded:?}"
                ));
            }
        }
    }
}

/// A damaged frame, which its receiver must refuse.
fn damaged(frame: &Bytes, before: &[u8], random: &mut Random) -> Bytes {
    let mut bytes = frame.to_vec();
    match random.below(4) {
        0 => bytes[random.index(frame.len())] ^= 1 << random.below(8),
        1 => bytes.truncate(random.index(frame.len())),
        // Some of another message is behind it, as if the reader had not found its end.
        2 => {
            let behind = if before.is_empty() { frame } else { before };
            bytes.extend_from_slice(&behind[..=random.index(behind.len())]);
        }
        // It was encoded wrongly, and has a checksum of its own.
        _ => {
            let other = if before.is_empty() { frame } else { before };
            return wire::framed_bytes(&[wire::unframed_part(frame), wire::unframed_part(other)].concat());
        }
    }
    Bytes::from(bytes)
}
