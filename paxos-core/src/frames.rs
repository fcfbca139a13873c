//! Frames on a stream of bytes, without I/O: transports over streams use them, and the simulator.
//!
//! Each frame is its length (4 bytes, little-endian), its lane (1 byte, of the user's choice) and its bytes.
//! Lane 255 with no bytes is a sign of life, which carries nothing.
//!
//! A [`FrameEncoder`] joins frames into writes; a [`FrameDecoder`] takes bytes in whatever pieces they
//! arrive, and hands out exactly the bytes of each frame. Both work in buffers of a fixed size that they
//! never hand out: a small frame that is kept for long does not keep the memory of others.
//!
//! ```
//! use bytes::Bytes;
//! use paxos_core::frames::{Decoded, FrameDecoder, FrameEncoder, StreamSizes};
//!
//! let mut encoder = FrameEncoder::new(StreamSizes::default());
//! encoder.put(1, Bytes::from_static(b"ab"));
//! let stream = encoder.parts().collect::<Vec<_>>().concat();
//!
//! let mut decoder = FrameDecoder::new(StreamSizes::default(), 1000);
//! let mut decoded = Vec::new();
//! for byte in stream {
//!     decoder.space()[0] = byte;
//!     decoder.filled(1);
//!     while let Some(next) = decoder.decode()? {
//!         decoded.push(next);
//!     }
//! }
//! let frame = Decoded::Frame { lane: 1, frame: Bytes::from_static(b"ab") };
//! assert_eq!(decoded, [Decoded::Announced { lane: 1, frame_bytes: 2 }, frame]);
//! # Ok::<(), paxos_core::frames::FrameError>(())
//! ```
//!
//! Deliberately absent: checksums. The content of a frame must have its own, which also guards against
//! mistakes of this module; messages do (module `wire`).

#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;

use crate::mutant::{Mutant, mutated};

/// The length of the header before the bytes of a frame.
pub const HEADER_BYTES: usize = 5;
/// A sign of life as it goes over the stream.
pub const SIGN_OF_LIFE: [u8; HEADER_BYTES] = [0, 0, 0, 0, SIGN_OF_LIFE_LANE];
const SIGN_OF_LIFE_LANE: u8 = 255;

/// The sizes of the pieces in which a stream is written and read. They do not change the bytes on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct StreamSizes {
    /// How many bytes are read at once. Longer frames are read into memory of their own.
    pub read_bytes: usize,
    /// Frames that wait are joined into writes of about this size.
    pub write_bytes: usize,
    /// A frame of this size is written by itself, without being copied first.
    pub large_frame_bytes: usize,
}

impl StreamSizes {
    /// These sizes with a change.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for StreamSizes {
    fn default() -> Self {
        StreamSizes { read_bytes: 64 << 10, write_bytes: 64 << 10, large_frame_bytes: 16 << 10 }
    }
}

/// Joins frames into writes.
#[derive(Debug)]
pub struct FrameEncoder {
    sizes: StreamSizes,
    /// Headers and small frames. Never grows beyond what it was made with.
    joined: Vec<u8>,
    /// A large frame, whose header is the last thing joined.
    large: Option<Bytes>,
}

impl FrameEncoder {
    /// An encoder with nothing to write.
    #[must_use]
    pub fn new(sizes: StreamSizes) -> FrameEncoder {
        let joined = Vec::with_capacity(sizes.write_bytes + HEADER_BYTES + sizes.large_frame_bytes);
        FrameEncoder { sizes, joined, large: None }
    }

    /// Whether the write is large enough, so that it should be made before anything else is put into it.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.large.is_some() || self.joined.len() >= self.sizes.write_bytes
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.joined.is_empty()
    }

    /// Puts a frame into the next write.
    ///
    /// # Panics
    ///
    /// If the encoder is full, if the frame has 4 GiB, or if the lane is 255.
    pub fn put(&mut self, lane: u8, frame: Bytes) {
        assert!(!self.is_full(), "what is put into a write was written before the next one is begun");
        assert!(lane != SIGN_OF_LIFE_LANE, "lane 255 carries no frames");
        let length = u32::try_from(frame.len()).expect("a transport bounds its frames far below 4 GiB");
        self.joined.extend_from_slice(&length.to_le_bytes());
        self.joined.push(lane);
        if frame.len() >= self.sizes.large_frame_bytes {
            self.large = Some(frame);
        } else {
            self.joined.extend_from_slice(&frame);
        }
    }

    /// The bytes to write, in this order.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        [Some(&self.joined[..]), self.large.as_deref()].into_iter().flatten()
    }

    /// Begins the next write: everything has been written.
    pub fn clear(&mut self) {
        self.joined.clear();
        self.large = None;
    }
}

/// Takes bytes in any pieces, and returns the frames in them.
///
/// Fill its [space](FrameDecoder::space), say [how far](FrameDecoder::filled), and
/// [decode](FrameDecoder::decode) until that gives nothing more.
#[derive(Debug)]
pub struct FrameDecoder {
    max_frame_bytes: usize,
    /// The bytes at `start..end` have arrived and were not decoded yet. Its size is fixed.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    awaited: Awaited,
}

/// What comes next on a stream.
#[derive(Debug)]
enum Awaited {
    Header,
    /// A frame that has been announced.
    Frame {
        lane: u8,
        frame_bytes: usize,
    },
    /// A frame longer than the buffer, of which `arrived_bytes` have arrived.
    LongFrame {
        lane: u8,
        frame: Vec<u8>,
        arrived_bytes: usize,
    },
}

/// What was found on a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decoded {
    /// A sign of life.
    SignOfLife,
    /// A frame is coming. No memory is taken for it before the next call of [`FrameDecoder::decode`], so a
    /// reader without room for it can wait until there is.
    Announced {
        /// Its lane.
        lane: u8,
        /// Its length.
        frame_bytes: usize,
    },
    /// The frame that was announced.
    Frame {
        /// Its lane.
        lane: u8,
        /// Its bytes: those that were put into the encoder, and no others.
        frame: Bytes,
    },
}

/// Why a stream can't be read any further: the place where the next frame begins is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame is longer than the reader takes.
    TooLong {
        /// The length in its header.
        frame_bytes: usize,
        /// The greatest length that the reader takes.
        max_frame_bytes: usize,
    },
    /// A sign of life has bytes.
    SignOfLifeWithBytes,
}

impl fmt::Display for FrameError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLong { frame_bytes, max_frame_bytes } => write!(
                formatter,
                "a frame of {frame_bytes} bytes is longer than this node's max_frame_bytes of {max_frame_bytes}"
            ),
            FrameError::SignOfLifeWithBytes => formatter.write_str("a sign of life with bytes"),
        }
    }
}

impl std::error::Error for FrameError {}

impl FrameDecoder {
    /// The decoder of a stream from its first byte on, which takes frames of up to `max_frame_bytes`.
    ///
    /// # Panics
    ///
    /// If no header fits into `read_bytes`.
    #[must_use]
    pub fn new(sizes: StreamSizes, max_frame_bytes: usize) -> FrameDecoder {
        assert!(sizes.read_bytes >= HEADER_BYTES, "a header is read at once");
        let buffer = vec![0; sizes.read_bytes].into_boxed_slice();
        FrameDecoder { max_frame_bytes, buffer, start: 0, end: 0, awaited: Awaited::Header }
    }

    /// Where the next bytes of the stream go; never empty.
    ///
    /// # Panics
    ///
    /// If there is something to decode first.
    pub fn space(&mut self) -> &mut [u8] {
        if let Awaited::LongFrame { frame, arrived_bytes, .. } = &mut self.awaited {
            return &mut frame[*arrived_bytes..];
        }
        let is_room_short = self.buffer.len() - self.end < self.buffer.len() / 2;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 && is_room_short {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        assert!(self.end < self.buffer.len(), "what has arrived is decoded before more is read");
        &mut self.buffer[self.end..]
    }

    /// The first `bytes` of the space have been filled.
    ///
    /// # Panics
    ///
    /// If it had fewer.
    pub fn filled(&mut self, bytes: usize) {
        let (end, limit) = match &mut self.awaited {
            Awaited::LongFrame { frame, arrived_bytes, .. } => (arrived_bytes, frame.len()),
            _ => (&mut self.end, self.buffer.len()),
        };
        assert!(bytes <= limit - *end, "no more has been read than there was space for");
        *end += bytes;
    }

    /// What comes next on the stream; `None` if more must arrive first.
    ///
    /// # Errors
    ///
    /// [`FrameError`] if what has arrived is no stream of frames. It is to be given up.
    pub fn decode(&mut self) -> Result<Option<Decoded>, FrameError> {
        match &mut self.awaited {
            Awaited::Header => self.decode_header(),
            Awaited::Frame { lane, frame_bytes } => {
                let (lane, frame_bytes) = (*lane, *frame_bytes);
                Ok(self.decode_frame(lane, frame_bytes))
            }
            Awaited::LongFrame { frame, arrived_bytes, .. } if *arrived_bytes < frame.len() => Ok(None),
            Awaited::LongFrame { lane, frame, .. } => {
                let decoded = Decoded::Frame { lane: *lane, frame: Bytes::from(std::mem::take(frame)) };
                self.awaited = Awaited::Header;
                Ok(Some(decoded))
            }
        }
    }

    /// Whether everything that has arrived was taken: a stream that ends here ends well.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        matches!(self.awaited, Awaited::Header) && self.start == self.end
    }

    fn decode_header(&mut self) -> Result<Option<Decoded>, FrameError> {
        let Some(header) = self.arrived().first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let decoded = parse(*header, self.max_frame_bytes)?;
        self.start += HEADER_BYTES;
        if let Decoded::Announced { lane, frame_bytes } = decoded {
            self.awaited = Awaited::Frame { lane, frame_bytes };
        }
        Ok(Some(decoded))
    }

    fn decode_frame(&mut self, lane: u8, frame_bytes: usize) -> Option<Decoded> {
        let arrived = self.arrived();
        if frame_bytes > self.buffer.len() {
            let arrived_bytes = arrived.len();
            let mut frame = vec![0; frame_bytes];
            frame[..arrived_bytes].copy_from_slice(arrived);
            self.start = self.end;
            self.awaited = Awaited::LongFrame { lane, frame, arrived_bytes };
            return None;
        }
        let frame = arrived.get(..frame_bytes)?;
        let frame = if mutated(Mutant::FrameTakesWhatIsBehindIt) { arrived } else { frame };
        let (frame, taken_bytes) = (Bytes::copy_from_slice(frame), frame.len());
        self.start += taken_bytes;
        self.awaited = Awaited::Header;
        Some(Decoded::Frame { lane, frame })
    }

    fn arrived(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }
}

fn parse(header: [u8; HEADER_BYTES], max_frame_bytes: usize) -> Result<Decoded, FrameError> {
    let [a, b, c, d, lane] = header;
    let frame_bytes = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    match lane {
        SIGN_OF_LIFE_LANE if frame_bytes == 0 => Ok(Decoded::SignOfLife),
        SIGN_OF_LIFE_LANE => Err(FrameError::SignOfLifeWithBytes),
        _ if frame_bytes > max_frame_bytes => Err(FrameError::TooLong { frame_bytes, max_frame_bytes }),
        _ => Ok(Decoded::Announced { lane, frame_bytes }),
    }
}
