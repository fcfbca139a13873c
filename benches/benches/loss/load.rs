//! Writers, each of which asks again as soon as it is answered.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use benches::nothing::Nothing;
use bytes::Bytes;
use paxos_node::in_process::Member;
use rustix::time::{ClockId, clock_gettime};

use super::{TIME, WARM_UP};

const COMMAND_BYTES: usize = 256;
/// After an error a writer waits this long.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(20);

/// What came of it.
pub(crate) struct Measured {
    /// How long writers waited for each commit, in ascending order.
    pub(crate) waits: Vec<Duration>,
    pub(crate) errors: u64,
    /// Of this process: all nodes and writers.
    pub(crate) processor_time: Duration,
}

impl Measured {
    /// Commits in each second.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(crate) fn rate(&self) -> f64 {
        self.waits.len() as f64 / TIME.as_secs_f64()
    }
}

/// Has so many writers ask `leader`, on its own thread.
pub(crate) fn measure(leader: &Member<Nothing>, writers: usize) -> Measured {
    let begin = Instant::now() + WARM_UP;
    let end = begin + TIME;
    let (finished, results) = mpsc::channel();
    for _ in 0..writers {
        let (client, finished) = (leader.client.clone(), finished.clone());
        leader.runtime.spawn(async move {
            let command = Bytes::from(vec![b'x'; COMMAND_BYTES]);
            let (mut waits, mut errors) = (Vec::new(), 0_u64);
            let mut asked = Instant::now();
            while asked < end {
                let answer = client.propose(command.clone()).await;
                let answered = Instant::now();
                let counts = (begin..end).contains(&answered);
                if answer.is_err() {
                    errors += u64::from(counts);
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                } else if counts {
                    waits.push(answered - asked);
                }
                asked = Instant::now();
            }
            // Whoever measures waits for it.
            let _ = finished.send((waits, errors));
        });
    }
    drop(finished);
    std::thread::sleep(begin.saturating_duration_since(Instant::now()));
    let before = processor_time();
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
    let processor_time = processor_time().saturating_sub(before);
    let (mut waits, mut errors) = (Vec::new(), 0);
    for (more, failed) in results {
        waits.extend(more);
        errors += failed;
    }
    waits.sort_unstable();
    Measured { waits, errors, processor_time }
}

/// How many packets QUIC hands the system in one call.
pub(crate) fn quic_segments() -> Result<usize, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let _entered = runtime.enter();
    let packets = paxos_transport::quic::packets().map_err(|error| error.to_string())?;
    Ok(packets.segments)
}

fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).expect("processor time counts up from zero")
}
