//! Frames of every length up to the limit, and of one byte more.

use std::collections::BTreeSet;

use super::{
    Bytes, Lane, NODES, Received, SILENCE, SendOutcome, TransportExt, Transports, counters, pattern,
    send_until_received, timeout,
};

/// The lengths that are mixed on all lanes.
const MIXED_BYTES: [usize; 8] = [0, 1, 37, 1400, 4096, 16 << 10, 65_537, 150_000];
/// How many frames of each length each lane gets.
const MIXED_ROUNDS: usize = 4;

/// A frame of the greatest length arrives, one of one byte more is refused and counted.
pub(super) async fn the_limit_is_exact(transports: &mut Transports) {
    let max = transports[0].max_frame_bytes();
    let before = counters(transports[0].as_ref(), NODES[1]).dropped.too_large;
    for lane in Lane::ALL {
        let longest = Bytes::from(vec![9; max]);
        send_until_received(transports, 0, 1, lane, &longest).await;
        let outcome = transports[0].send(NODES[1], lane, Bytes::from(vec![9; max + 1]));
        assert_eq!(outcome, SendOutcome::TooLarge, "a frame is bounded on {lane:?}");
    }
    let dropped = counters(transports[0].as_ref(), NODES[1]).dropped;
    assert_eq!(dropped.too_large - before, 3, "frames that are too large are counted");
    assert_eq!(dropped.longest_too_large_bytes, max as u64 + 1, "so is the length of the longest");
}

/// A frame without bytes is a frame.
pub(super) async fn empty_frames_arrive(transports: &mut Transports) {
    let before = counters(transports[2].as_ref(), NODES[0]).received.frames;
    for lane in Lane::ALL {
        send_until_received(transports, 0, 2, lane, &Bytes::new()).await;
    }
    let after = counters(transports[2].as_ref(), NODES[0]).received.frames;
    assert!(after >= before + 3, "frames without bytes are counted, too");
}

/// Sends long and short frames on all lanes in turn, in one burst: each arrives as it was sent, on its lane.
pub(super) async fn frames_of_mixed_sizes_keep_to_their_lanes(transports: &mut Transports) {
    let max = transports[2].max_frame_bytes();
    let mut missing: BTreeSet<(Lane, Bytes)> = BTreeSet::new();
    let kinds = MIXED_BYTES.len();
    for turn in 0..MIXED_ROUNDS * kinds {
        for lane in Lane::ALL {
            // Neighbours differ in length as well as in lane.
            let length = MIXED_BYTES[(turn + 3 * lane as usize) % kinds].min(max);
            let number = 1000 + (3 * turn + lane as usize) as u64;
            let frame: Bytes = (0..length as u64).map(|place| pattern(number, place)).collect();
            if transports[2].send(NODES[1], lane, frame.clone()).is_queued() {
                missing.insert((lane, frame));
            }
        }
    }
    let (sent, queued) = (missing.clone(), missing.len());
    while !missing.is_empty() {
        let Ok(received) = timeout(SILENCE, transports[1].receive()).await else { break };
        let Received { from, lane, frame } = received.expect("an open transport goes on receiving");
        if from == NODES[2] {
            let (length, arrived) = (frame.len(), (lane, frame));
            let is_known = sent.contains(&arrived) || is_greeting(&arrived.1);
            assert!(is_known, "a frame of {length} bytes arrives on {lane:?} that nobody has sent there");
            missing.remove(&arrived);
        }
    }
    assert!(missing.len() <= queued / 2, "of {queued} mixed frames {} are lost", missing.len());
}

/// Whether the frame is one of an earlier step, which may arrive late or twice.
fn is_greeting(frame: &Bytes) -> bool {
    frame.starts_with(b"from ")
}
