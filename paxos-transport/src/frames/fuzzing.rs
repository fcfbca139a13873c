//! What the fuzz target calls, and the test that replays what was found. No part of the interface.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::{Bytes, BytesMut, Lane, Pulse, READ_BYTES, Reader, SIGN_OF_LIFE, parse};

/// The longest frame that is taken: more than is read at once, so that both ways to read one are tried.
const MAX_FRAME_BYTES: usize = 2 * READ_BYTES;

/// A stream from a peer. It is read up to the first thing that is wrong, and what comes out is what went in.
///
/// # Panics
///
/// If it is not.
pub fn stream(bytes: &[u8]) {
    let Poll::Ready(taken) = pin!(read(bytes)).poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("bytes that are in memory are waited for");
    };
    let mut again = Vec::new();
    for item in taken {
        match item {
            None => again.extend_from_slice(&SIGN_OF_LIFE),
            Some((lane, frame)) => {
                assert!(frame.len() <= MAX_FRAME_BYTES, "a frame is bounded");
                again.extend_from_slice(&u32::try_from(frame.len()).unwrap_or(u32::MAX).to_le_bytes());
                again.push(lane as u8);
                again.extend_from_slice(&frame);
            }
        }
    }
    assert!(bytes.starts_with(&again), "frames are what was sent");
}

/// The frames, and signs of life, as long as everything is right.
async fn read(mut bytes: &[u8]) -> Vec<Option<(Lane, Bytes)>> {
    let buffer = BytesMut::with_capacity(READ_BYTES);
    let mut reader = Reader { stream: &mut bytes, buffer, pulse: Pulse::default() };
    let mut taken = Vec::new();
    while let Ok(Some(header)) = reader.header().await {
        match parse(header, MAX_FRAME_BYTES) {
            Err(_) => break,
            Ok(None) => taken.push(None),
            Ok(Some((lane, length))) => {
                let Ok(frame) = reader.frame(length).await else { break };
                taken.push(Some((lane, frame)));
            }
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_were_found_are_harmless() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/stream");
        paxos_core::fuzzing::replay(&corpus, 300, stream);
    }
}
