//! Frames of every length come out as they went in, in whatever pieces their stream is written and read.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::random::Random;

const MAX_FRAME_BYTES: usize = 1 << 20;
/// Sizes that make every path short enough to be tried often.
const SMALL: StreamSizes = StreamSizes { read_bytes: 16, write_bytes: 24, large_frame_bytes: 8 };

/// A frame whose bytes are like no other's.
fn frame(number: usize, length: usize) -> Bytes {
    let mut random = Random::new(number as u64);
    (0..length).map(|_| u8::try_from(random.below(256)).unwrap_or(0)).collect()
}

/// Everything that an encoder writes for frames of these lengths, the lane of each being its number, modulo
/// 3.
fn written(sizes: StreamSizes, frames: &[Bytes]) -> Vec<u8> {
    let mut encoder = FrameEncoder::new(sizes);
    let mut stream = SIGN_OF_LIFE.to_vec();
    for (lane, frame) in (0..3).cycle().zip(frames) {
        if encoder.is_full() {
            encoder.parts().for_each(|part| stream.extend_from_slice(part));
            encoder.clear();
        }
        encoder.put(lane, frame.clone());
    }
    encoder.parts().for_each(|part| stream.extend_from_slice(part));
    let capacity = sizes.write_bytes + HEADER_BYTES + sizes.large_frame_bytes;
    assert_eq!(encoder.joined.capacity(), capacity, "the writer's buffer does not grow");
    stream
}

/// The frames that a decoder finds in a stream that arrives in pieces of `cuts`, which are used again and
/// again.
fn read(sizes: StreamSizes, mut stream: &[u8], cuts: &[usize]) -> Result<Vec<(u8, Bytes)>, FrameError> {
    let mut decoder = FrameDecoder::new(sizes, MAX_FRAME_BYTES);
    let (mut frames, mut announced) = (Vec::new(), None);
    let mut cuts = cuts.iter().cycle();
    loop {
        while let Some(decoded) = decoder.decode()? {
            match decoded {
                Decoded::SignOfLife => {}
                Decoded::Announced { lane, frame_bytes } => announced = Some((lane, frame_bytes)),
                Decoded::Frame { lane, frame } => {
                    assert_eq!(announced.take(), Some((lane, frame.len())), "it was announced");
                    frames.push((lane, frame));
                }
            }
        }
        if stream.is_empty() {
            assert!(decoder.is_between_frames(), "the stream ends after a frame");
            assert_eq!(decoder.buffer.len(), sizes.read_bytes, "the reader's buffer does not grow");
            return Ok(frames);
        }
        let space = decoder.space();
        let cut = (*cuts.next().expect("there are cuts")).clamp(1, space.len().min(stream.len()));
        space[..cut].copy_from_slice(&stream[..cut]);
        decoder.filled(cut);
        stream = &stream[cut..];
    }
}

fn assert_come_back(sizes: StreamSizes, lengths: &[usize], cuts: &[usize]) {
    let frames: Vec<Bytes> =
        lengths.iter().enumerate().map(|(number, &length)| frame(number, length)).collect();
    let read = read(sizes, &written(sizes, &frames), cuts).expect("it is a stream of frames");
    assert_eq!(read.len(), frames.len(), "as many frames as went in");
    for (number, ((lane, read), sent)) in read.iter().zip(&frames).enumerate() {
        assert_eq!(usize::from(*lane), number % 3, "the lane of frame {number}");
        assert!(read == sent, "frame {number} of {} bytes came out with {} bytes", sent.len(), read.len());
    }
}

/// Lengths around everything that is a constant of the reader or the writer.
fn lengths(sizes: StreamSizes) -> impl Strategy<Value = usize> {
    let StreamSizes { read_bytes, write_bytes, large_frame_bytes } = sizes;
    let edges =
        [0, large_frame_bytes, read_bytes, 2 * read_bytes, 3 * read_bytes, write_bytes, 2 * write_bytes];
    let around = (select(edges.to_vec()), 0..2 * HEADER_BYTES + 2)
        .prop_map(|(edge, more)| (edge + more).saturating_sub(HEADER_BYTES + 1));
    prop_oneof![around, 0..3 * read_bytes + HEADER_BYTES, 0..large_frame_bytes]
}

/// Pieces around everything that is a constant of the reader.
fn cuts(sizes: StreamSizes) -> impl Strategy<Value = Vec<usize>> {
    let StreamSizes { read_bytes, .. } = sizes;
    let cut = prop_oneof![1..=2 * HEADER_BYTES, 1..=read_bytes, read_bytes - 1..=3 * read_bytes];
    vec(cut, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn frames_of_all_lengths_come_out_as_they_went_in(
        lengths in vec(lengths(StreamSizes::default()), 0..8),
        cuts in cuts(StreamSizes::default()),
    ) {
        assert_come_back(StreamSizes::default(), &lengths, &cuts);
    }

    #[test]
    fn so_they_do_where_little_is_read_and_written_at_once(
        lengths in vec(lengths(SMALL), 0..60),
        cuts in cuts(SMALL),
    ) {
        assert_come_back(SMALL, &lengths, &cuts);
    }
}

#[test]
fn a_long_frame_behind_others_takes_nothing_of_the_next() {
    let lengths = [25_000, 60_000, 66_000, 30_000, 58_000, 70_000, 9_000];
    for cut in [1 << 20, 1 << 16, 1 << 14, 1000, 7] {
        assert_come_back(StreamSizes::default(), &lengths, &[cut]);
    }
}

#[test]
fn every_pair_of_short_lengths_comes_back_in_pieces_of_every_size() {
    for first in 0..40 {
        for second in 0..40 {
            for cut in 1..=20 {
                assert_come_back(SMALL, &[first, second, 1], &[cut]);
            }
        }
    }
}

#[test]
fn a_header_is_checked_before_it_is_believed() {
    let announced = |lane, frame_bytes| Ok(Decoded::Announced { lane, frame_bytes });
    assert_eq!(parse([10, 0, 0, 0, 1], 10), announced(1, 10));
    assert_eq!(parse([0, 0, 0, 0, 254], 10), announced(254, 0));
    assert_eq!(parse(SIGN_OF_LIFE, 10), Ok(Decoded::SignOfLife));
    let too_long = |frame_bytes| Err(FrameError::TooLong { frame_bytes, max_frame_bytes: 10 });
    assert_eq!(parse([11, 0, 0, 0, 0], 10), too_long(11));
    assert_eq!(parse([255, 255, 255, 255, 0], 10), too_long(0xffff_ffff));
    assert_eq!(parse([1, 0, 0, 0, 255], 10), Err(FrameError::SignOfLifeWithBytes));
}

#[test]
fn a_stream_that_ends_within_a_frame_or_a_header_does_not_end_well() {
    for stream in [&[0, 0][..], &[2, 0, 0, 0, 1], &[2, 0, 0, 0, 1, 7], &[40, 0, 0, 0, 1, 7]] {
        let mut decoder = FrameDecoder::new(SMALL, MAX_FRAME_BYTES);
        decoder.space()[..stream.len()].copy_from_slice(stream);
        decoder.filled(stream.len());
        while let Some(decoded) = decoder.decode().expect("nothing is wrong so far") {
            assert!(!matches!(decoded, Decoded::Frame { .. }), "{stream:?} is no whole frame");
        }
        assert!(!decoder.is_between_frames(), "{stream:?}");
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let too_long = FrameError::TooLong { frame_bytes: 11, max_frame_bytes: 10 };
    assert_eq!(too_long.to_string(), "a frame of 11 bytes is longer than this node's max_frame_bytes of 10");
    assert_eq!(FrameError::SignOfLifeWithBytes.to_string(), "a sign of life with bytes");
}

#[test]
#[should_panic(expected = "no more has been read than there was space for")]
fn more_than_the_space_can_not_be_filled() {
    FrameDecoder::new(SMALL, MAX_FRAME_BYTES).filled(SMALL.read_bytes + 1);
}
