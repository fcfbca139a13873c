//! The functions that fuzz targets call, and tests that replay earlier findings. No part of the interface.

use bytes::Bytes;

use super::{Decoded, FrameDecoder, FrameEncoder, SIGN_OF_LIFE, StreamSizes};

/// The longest frame that is read: longer than the buffer, so that both ways to read a frame are tried.
const MAX_FRAME_BYTES: usize = 128 << 10;
/// The longest frame that is built.
const MAX_BUILT_BYTES: usize = 200 << 10;
/// How many bytes describe a frame and the piece in which the stream arrives.
const DESCRIPTION_BYTES: usize = 6;
/// No more frames than this are built of a description.
const MAX_FRAMES: usize = 64;

/// A stream from a peer, in pieces: the first byte is the length of a piece. It is decoded up to the first
/// error, and the decoded frames, encoded again, must be the same bytes.
///
/// # Panics
///
/// If they are not.
pub fn stream(bytes: &[u8]) {
    let Some((piece, stream)) = bytes.split_first() else { return };
    let pieces = std::iter::repeat(1 + usize::from(*piece) * usize::from(*piece) * 3);
    let mut again = Vec::new();
    for item in read(stream, MAX_FRAME_BYTES, pieces) {
        match item {
            None => again.extend_from_slice(&SIGN_OF_LIFE),
            Some((lane, frame)) => {
                assert!(frame.len() <= MAX_FRAME_BYTES, "a frame is bounded");
                again.extend_from_slice(&u32::try_from(frame.len()).unwrap_or(u32::MAX).to_le_bytes());
                again.push(lane);
                again.extend_from_slice(&frame);
            }
        }
    }
    assert!(stream.starts_with(&again), "frames are what was sent");
}

/// Builds frames from a description: for each its lane, its length in three bytes, and in two bytes the
/// length of a piece in which the stream arrives. The decoder must read the frames that the encoder writes.
///
/// # Panics
///
/// If it does not.
pub fn frames(bytes: &[u8]) {
    let (descriptions, _) = bytes.as_chunks::<DESCRIPTION_BYTES>();
    let (mut encoder, mut stream) = (FrameEncoder::new(StreamSizes::default()), Vec::new());
    let (mut sent, mut pieces) = (Vec::new(), Vec::new());
    for (number, [lane, low, middle, high, piece @ ..]) in descriptions.iter().take(MAX_FRAMES).enumerate() {
        let length = u32::from_le_bytes([*low, *middle, *high, 0]) as usize % (MAX_BUILT_BYTES + 1);
        let frame: Bytes = (0..length)
            .map(|place| (place.wrapping_mul(31) ^ (place >> 8) ^ number).to_le_bytes()[0])
            .collect();
        if encoder.is_full() {
            encoder.parts().for_each(|part| stream.extend_from_slice(part));
            encoder.clear();
        }
        encoder.put(lane % 3, frame.clone());
        sent.push(Some((lane % 3, frame)));
        pieces.push(1 + usize::from(u16::from_le_bytes(*piece)) * 2);
    }
    encoder.parts().for_each(|part| stream.extend_from_slice(part));
    let received = read(&stream, MAX_BUILT_BYTES, pieces.into_iter().cycle());
    assert!(received == sent, "frames are what was sent");
}

/// The decoded frames and signs of life (`None`), up to the first error.
fn read(
    mut stream: &[u8],
    max_frame_bytes: usize,
    mut pieces: impl Iterator<Item = usize>,
) -> Vec<Option<(u8, Bytes)>> {
    let mut decoder = FrameDecoder::new(StreamSizes::default(), max_frame_bytes);
    let mut taken = Vec::new();
    loop {
        match decoder.decode() {
            Err(_) => return taken,
            Ok(Some(Decoded::SignOfLife)) => taken.push(None),
            Ok(Some(Decoded::Announced { .. })) => {}
            Ok(Some(Decoded::Frame { lane, frame })) => taken.push(Some((lane, frame))),
            Ok(None) if stream.is_empty() => return taken,
            Ok(None) => {
                let space = decoder.space();
                let length = pieces.next().unwrap_or(1).min(space.len()).min(stream.len());
                space[..length].copy_from_slice(&stream[..length]);
                decoder.filled(length);
                stream = &stream[length..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::{corpus, replay};

    #[test]
    fn streams_that_were_found_are_harmless() {
        replay(&corpus("stream"), 300, stream);
    }

    #[test]
    fn frames_as_described_come_back() {
        replay(&corpus("frames"), 300, frames);
    }
}
