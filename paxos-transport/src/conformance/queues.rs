//! Queues that are full, and empty again.

use super::{
    Bytes, FLOOD_BYTES, Instant, Lane, NODES, PATIENCE, PAUSE, SILENCE, SendOutcome, TransportExt,
    Transports, counters, timeout,
};

const FRAME_BYTES: usize = 64 << 10;
/// So often a frame may get lost.
const MAX_SILENCES: usize = 5;

/// Fills the queue of each lane, and empties it: it takes frames again.
pub(super) async fn full_queues_empty_again(transports: &mut Transports) {
    let frame = Bytes::from(vec![5; FRAME_BYTES.min(transports[2].max_frame_bytes())]);
    for lane in Lane::ALL {
        let before = counters(transports[2].as_ref(), NODES[1]).dropped.full;
        let mut is_full = false;
        for _ in 0..FLOOD_BYTES / frame.len() {
            is_full = transports[2].send(NODES[1], lane, frame.clone()) == SendOutcome::Full;
            if is_full {
                break;
            }
        }
        assert!(is_full, "the queue of {lane:?} is bounded");
        let full = counters(transports[2].as_ref(), NODES[1]).dropped.full;
        assert_eq!(full, before + 1, "what a full queue of {lane:?} drops is counted");
        let refreshed = Bytes::from(format!("the queue of {lane:?} takes frames again"));
        let deadline = Instant::now() + PATIENCE;
        while !transports[2].send(NODES[1], lane, refreshed.clone()).is_queued() {
            assert!(Instant::now() < deadline, "a queue of {lane:?} that was full takes frames again");
            let _ = timeout(PAUSE, transports[1].receive()).await;
        }
        let mut silences = 0;
        // On a slow network, everything before it takes its time.
        while silences < MAX_SILENCES {
            match timeout(SILENCE, transports[1].receive()).await {
                Ok(Some(received)) if received.frame == refreshed => break,
                Ok(_) => {}
                Err(_) => {
                    silences += 1;
                    let _ = transports[2].send(NODES[1], lane, refreshed.clone());
                }
            }
        }
        assert!(silences < MAX_SILENCES, "what is queued behind a full queue of {lane:?} arrives");
    }
}
