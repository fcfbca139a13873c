//! Frames in datagrams: a frame that does not fit into one is cut into several.
//!
//! Each datagram is a header and a piece of a frame. The header holds, little-endian, the frame's number (8
//! bytes), its length (4 bytes), the place of the piece among those of the frame (4 bytes), the length of
//! each piece but the last (2 bytes), and the lane (1 byte). A frame of which a piece is lost is lost.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::Lane;

/// The length of the header before each piece of a frame.
pub const FRAGMENT_HEADER_BYTES: usize = 19;
/// What a frame that waits for pieces counts for, beyond its own bytes.
const OVERHEAD_BYTES: usize = 128;

/// Cuts a frame into pieces for datagrams of at most `datagram_bytes`, and returns each with its header. An
/// empty frame has one empty piece.
///
/// `number` must rise from frame to frame of one sender: the receiver gives up the lowest first.
///
/// # Panics
///
/// If `datagram_bytes` has no room for more than a header, or is above 65 535; if the frame has 4 GiB.
pub fn fragments(
    lane: Lane,
    number: u64,
    frame: &[u8],
    datagram_bytes: usize,
) -> impl Iterator<Item = ([u8; FRAGMENT_HEADER_BYTES], &[u8])> {
    assert!(datagram_bytes > FRAGMENT_HEADER_BYTES, "a datagram has room for a header and a byte");
    let piece_bytes = datagram_bytes - FRAGMENT_HEADER_BYTES;
    let short_piece_bytes = u16::try_from(piece_bytes).expect("a datagram has at most 65 535 bytes");
    let frame_bytes = u32::try_from(frame.len()).expect("a transport bounds its frames far below 4 GiB");
    let count = frame_bytes.div_ceil(u32::from(short_piece_bytes)).max(1);
    (0..count).map(move |index| {
        let header = Header { number, frame_bytes, index, piece_bytes: short_piece_bytes, lane };
        let start = index as usize * piece_bytes;
        (header.encode(), &frame[start..frame.len().min(start + piece_bytes)])
    })
}

/// Why a datagram is no piece of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FragmentError {
    /// It is shorter than a header.
    #[error("a datagram of {bytes} bytes has no header")]
    NoHeader {
        /// Its length.
        bytes: usize,
    },
    /// Its frame is longer than the receiver takes.
    #[error("a frame of {frame_bytes} bytes is longer than this node's max_frame_bytes of {max_frame_bytes}")]
    TooLong {
        /// The length in the header.
        frame_bytes: usize,
        /// The greatest length that the receiver takes.
        max_frame_bytes: usize,
    },
    /// Its header contradicts itself, its length, or an earlier piece.
    #[error("a datagram with a wrong header: {problem}")]
    Wrong {
        /// What is wrong.
        problem: &'static str,
    },
}

/// Puts frames of one sender together again. Pieces may come in any order, or twice.
///
/// ```
/// use paxos_transport::Lane;
/// use paxos_transport::backend::{Reassembler, fragments};
///
/// let mut reassembler = Reassembler::new(1 << 20, 4 << 20);
/// let mut datagrams: Vec<Vec<u8>> = Vec::new();
/// for (header, piece) in fragments(Lane::Log, 1, b"a frame of 20 bytes!", 30) {
///     datagrams.push([&header[..], piece].concat());
/// }
/// assert_eq!(datagrams.len(), 2);
/// assert_eq!(reassembler.put(&datagrams[1])?, None);
/// let (lane, frame) = reassembler.put(&datagrams[0])?.expect("that was the last piece");
/// assert_eq!((lane, &frame[..]), (Lane::Log, &b"a frame of 20 bytes!"[..]));
/// # Ok::<(), paxos_transport::backend::FragmentError>(())
/// ```
#[derive(Debug)]
pub struct Reassembler {
    max_frame_bytes: usize,
    max_waiting_bytes: usize,
    waiting: BTreeMap<u64, Waiting>,
    waiting_bytes: usize,
}

/// A frame of which pieces are missing.
#[derive(Debug)]
struct Waiting {
    lane: Lane,
    piece_bytes: usize,
    frame: Vec<u8>,
    has_arrived: Vec<bool>,
    missing: usize,
}

impl Waiting {
    fn cost(&self) -> usize {
        self.frame.len() + self.has_arrived.len() + OVERHEAD_BYTES
    }
}

impl Reassembler {
    /// Takes frames of up to `max_frame_bytes`, and keeps at most about `max_waiting_bytes` of frames that
    /// are not whole yet, or a single frame. To stay within that it gives up the frames with the lowest
    /// numbers.
    #[must_use]
    pub fn new(max_frame_bytes: usize, max_waiting_bytes: usize) -> Reassembler {
        Reassembler { max_frame_bytes, max_waiting_bytes, waiting: BTreeMap::new(), waiting_bytes: 0 }
    }

    /// Takes a datagram, and returns the frame that is whole now, if one is.
    ///
    /// # Errors
    ///
    /// [`FragmentError`]; the datagram is ignored.
    pub fn put(&mut self, datagram: &[u8]) -> Result<Option<(Lane, Bytes)>, FragmentError> {
        let no_header = FragmentError::NoHeader { bytes: datagram.len() };
        let (header, piece) = datagram.split_first_chunk().ok_or(no_header)?;
        let header = Header::decode(header)?;
        let place = header.place(piece.len(), self.max_frame_bytes)?;
        if place.count == 1 {
            return Ok(Some((header.lane, Bytes::copy_from_slice(piece))));
        }
        let piece_bytes = usize::from(header.piece_bytes);
        if !self.waiting.contains_key(&header.number) {
            self.start(header, place.count);
        }
        let Some(waiting) = self.waiting.get_mut(&header.number) else { return Ok(None) };
        let (lane, frame_bytes) = (waiting.lane, waiting.frame.len());
        if (lane, frame_bytes, waiting.piece_bytes) != (header.lane, header.frame_bytes as usize, piece_bytes)
        {
            return Err(FragmentError::Wrong { problem: "an earlier piece of its frame says otherwise" });
        }
        if std::mem::replace(&mut waiting.has_arrived[place.index], true) {
            return Ok(None);
        }
        waiting.frame[place.start..place.start + piece.len()].copy_from_slice(piece);
        waiting.missing -= 1;
        if waiting.missing > 0 {
            return Ok(None);
        }
        Ok(self.remove(header.number).map(|whole| (whole.lane, Bytes::from(whole.frame))))
    }

    /// Makes room for a frame, and waits for its pieces.
    fn start(&mut self, header: Header, count: usize) {
        let new = Waiting {
            lane: header.lane,
            piece_bytes: usize::from(header.piece_bytes),
            frame: vec![0; header.frame_bytes as usize],
            has_arrived: vec![false; count],
            missing: count,
        };
        self.make_room(new.cost());
        self.waiting_bytes += new.cost();
        self.waiting.insert(header.number, new);
    }

    fn make_room(&mut self, cost: usize) {
        while self.waiting_bytes + cost > self.max_waiting_bytes {
            let Some((&oldest, _)) = self.waiting.first_key_value() else { return };
            self.remove(oldest);
        }
    }

    fn remove(&mut self, number: u64) -> Option<Waiting> {
        let removed = self.waiting.remove(&number)?;
        self.waiting_bytes -= removed.cost();
        Some(removed)
    }
}

#[derive(Clone, Copy)]
struct Header {
    number: u64,
    frame_bytes: u32,
    index: u32,
    piece_bytes: u16,
    lane: Lane,
}

/// Where a piece belongs.
struct Place {
    index: usize,
    count: usize,
    start: usize,
}

impl Header {
    fn encode(self) -> [u8; FRAGMENT_HEADER_BYTES] {
        let mut encoded = [0; FRAGMENT_HEADER_BYTES];
        encoded[..8].copy_from_slice(&self.number.to_le_bytes());
        encoded[8..12].copy_from_slice(&self.frame_bytes.to_le_bytes());
        encoded[12..16].copy_from_slice(&self.index.to_le_bytes());
        encoded[16..18].copy_from_slice(&self.piece_bytes.to_le_bytes());
        encoded[18] = self.lane as u8;
        encoded
    }

    fn decode(encoded: &[u8; FRAGMENT_HEADER_BYTES]) -> Result<Header, FragmentError> {
        let (number, rest) = encoded.split_first_chunk().expect("the header has 19 bytes");
        let (length, rest) = rest.split_first_chunk().expect("of which 11 are left");
        let (index, rest) = rest.split_first_chunk().expect("of which 7 are left");
        let (piece, lane) = rest.split_first_chunk().expect("of which 3 are left");
        let unknown = FragmentError::Wrong { problem: "an unknown lane" };
        Ok(Header {
            number: u64::from_le_bytes(*number),
            frame_bytes: u32::from_le_bytes(*length),
            index: u32::from_le_bytes(*index),
            piece_bytes: u16::from_le_bytes(*piece),
            lane: *Lane::ALL.get(usize::from(lane[0])).ok_or(unknown)?,
        })
    }

    fn place(self, arrived_bytes: usize, max_frame_bytes: usize) -> Result<Place, FragmentError> {
        let frame_bytes = self.frame_bytes as usize;
        let (index, piece_bytes) = (self.index as usize, usize::from(self.piece_bytes));
        if frame_bytes > max_frame_bytes {
            return Err(FragmentError::TooLong { frame_bytes, max_frame_bytes });
        }
        if piece_bytes == 0 {
            return Err(FragmentError::Wrong { problem: "pieces without bytes" });
        }
        let count = frame_bytes.div_ceil(piece_bytes).max(1);
        if index >= count {
            return Err(FragmentError::Wrong { problem: "a piece behind the last one" });
        }
        let start = index * piece_bytes;
        if arrived_bytes != piece_bytes.min(frame_bytes - start) {
            return Err(FragmentError::Wrong { problem: "a piece of another length" });
        }
        Ok(Place { index, count, start })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn datagrams(lane: Lane, number: u64, frame: &[u8], datagram_bytes: usize) -> Vec<Vec<u8>> {
        fragments(lane, number, frame, datagram_bytes)
            .map(|(header, piece)| [&header[..], piece].concat())
            .collect()
    }

    proptest! {
        #[test]
        fn frames_arrive_whole_from_pieces_in_any_order_and_doubled(
            frames in vec(vec(any::<u8>(), 0..400), 1..8),
            datagram_bytes in 20_usize..100,
            seed: u64,
        ) {
            let mut sent: Vec<Vec<u8>> = Vec::new();
            for (number, frame) in (1..).zip(&frames) {
                sent.extend(datagrams(Lane::Bulk, number, frame, datagram_bytes));
            }
            prop_assert!(sent.iter().all(|datagram| datagram.len() <= datagram_bytes));
            fastrand::Rng::with_seed(seed).shuffle(&mut sent);
            let mut reassembler = Reassembler::new(400, 1 << 20);
            let mut whole = Vec::new();
            for datagram in sent {
                let is_first_of_several = datagram[8..12] > [0; 4][..] && seed % 2 == 0;
                let arrived = reassembler.put(&datagram).expect("it is well-formed");
                if arrived.is_none() && is_first_of_several {
                    prop_assert_eq!(reassembler.put(&datagram), Ok(None), "a doubled piece adds nothing");
                }
                whole.extend(arrived.map(|(_, frame)| frame.to_vec()));
            }
            let mut frames = frames;
            frames.sort();
            whole.sort();
            prop_assert_eq!(whole, frames);
            prop_assert_eq!(reassembler.waiting_bytes, 0);
        }

        #[test]
        fn no_datagram_makes_it_panic_or_keep_more_than_its_bound(
            datagrams in vec(vec(any::<u8>(), 0..40), 0..50),
            lengths in vec(0_u8..3, 50),
        ) {
            let mut reassembler = Reassembler::new(1000, 3000);
            for (mut datagram, length) in datagrams.into_iter().zip(lengths) {
                if let Some(field) = datagram.get_mut(9..19) {
                    field.fill(0); // Else nearly all are too long.
                    field[0] = length;
                    field[7] = 1 + length;
                }
                let _ = reassembler.put(&datagram);
                prop_assert!(reassembler.waiting_bytes <= 3000);
            }
        }
    }

    #[test]
    fn what_waits_is_bounded_and_the_oldest_frame_is_given_up_first() {
        let mut reassembler = Reassembler::new(1000, 2500);
        let sent: Vec<_> = (1..=3).map(|number| datagrams(Lane::Log, number, &[7; 1000], 519)).collect();
        for pieces in &sent {
            assert_eq!(reassembler.put(&pieces[0]), Ok(None));
        }
        assert!(reassembler.waiting_bytes <= 2500);
        assert_eq!(reassembler.waiting.keys().copied().collect::<Vec<_>>(), [2, 3]);
        assert!(reassembler.put(&sent[1][1]).is_ok_and(|frame| frame.is_some()));
    }

    #[test]
    fn wrong_headers_are_told() {
        let mut reassembler = Reassembler::new(100, 1000);
        let pieces = datagrams(Lane::Log, 1, &[7; 100], 69);
        assert_eq!(reassembler.put(&pieces[0][..18]), Err(FragmentError::NoHeader { bytes: 18 }));
        let with = |place: usize, value: u8| {
            let mut datagram = pieces[1].clone();
            datagram[place] = value;
            datagram
        };
        let too_long = FragmentError::TooLong { frame_bytes: 356, max_frame_bytes: 100 };
        assert_eq!(reassembler.put(&with(9, 1)), Err(too_long));
        for (datagram, problem) in [
            (with(12, 2), "a piece behind the last one"),
            (with(16, 0), "pieces without bytes"),
            (with(8, 99), "a piece of another length"),
            (with(18, 3), "an unknown lane"),
        ] {
            assert_eq!(reassembler.put(&datagram), Err(FragmentError::Wrong { problem }));
        }
        assert_eq!(reassembler.put(&pieces[0]), Ok(None));
        let problem = "an earlier piece of its frame says otherwise";
        assert_eq!(reassembler.put(&with(18, 0)), Err(FragmentError::Wrong { problem }));
    }
}
