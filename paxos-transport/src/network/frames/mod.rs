//! Frames on the streams of networked backends: tokio reads and writes, [`paxos_core::frames`] encodes and
//! decodes.
//!
//! Each stream starts with a sign of life, which tells the other side that its connection was accepted. A
//! stream with invalid frames is closed, counted and logged: it comes from an authenticated peer, so that
//! peer is faulty.

#[cfg(all(test, feature = "certs"))]
mod tests;

use std::io;
use std::time::Duration;

use paxos_core::frames::{Decoded, FrameDecoder, FrameEncoder, SIGN_OF_LIFE, StreamSizes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::Lane;
use crate::inbox::LaneInbox;
use crate::network::link::Claim;
use crate::network::queue::LaneQueue;

/// How a stream shows that it is alive, for protocols that do not do so themselves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pulse {
    /// After this time without a frame, a sign of life is sent.
    pub(crate) interval: Option<Duration>,
    /// A stream on which nothing arrives for this long is closed.
    pub(crate) timeout: Option<Duration>,
}

/// Writes the frames of `queues`, those of the first queue first, until the stream breaks or the queues are
/// closed and empty.
pub(crate) async fn write_all<W: AsyncWrite + Unpin>(
    claim: &Claim,
    queues: &[&LaneQueue],
    stream: &mut W,
    pulse: Pulse,
) -> io::Result<()> {
    let mut encoder = FrameEncoder::new(StreamSizes::default());
    stream.write_all(&SIGN_OF_LIFE).await?;
    stream.flush().await?;
    loop {
        if write_waiting(claim, queues, stream, &mut encoder).await? {
            continue;
        }
        if queues.iter().all(|queue| queue.is_done()) {
            for queue in queues {
                queue.wake_another();
            }
            return stream.shutdown().await;
        }
        let filled = wait_for_any(queues);
        let Some(interval) = pulse.interval else {
            filled.await;
            continue;
        };
        if timeout(interval, filled).await.is_err() {
            stream.write_all(&SIGN_OF_LIFE).await?;
            stream.flush().await?;
        }
    }
}

/// Writes queued frames, as many as fit into one write; `false` if there were none.
async fn write_waiting<W: AsyncWrite + Unpin>(
    claim: &Claim,
    queues: &[&LaneQueue],
    stream: &mut W,
    encoder: &mut FrameEncoder,
) -> io::Result<bool> {
    encoder.clear();
    for queue in queues {
        while !encoder.is_full() {
            let Some(frame) = queue.pop() else { break };
            claim.counters().on_sent(frame.len());
            encoder.put(queue.lane() as u8, frame);
        }
    }
    if encoder.is_empty() {
        return Ok(false);
    }
    for queue in queues {
        queue.wake_another();
    }
    for part in encoder.parts() {
        stream.write_all(part).await?;
    }
    stream.flush().await?;
    Ok(true)
}

async fn wait_for_any(queues: &[&LaneQueue]) {
    match queues {
        [only] => only.filled().await,
        [first, second] => tokio::select! {
            () = first.filled() => {}
            () = second.filled() => {}
        },
        _ => unreachable!("a stream carries one lane or two"),
    }
}

/// Moves frames from the stream to the inbox until the stream breaks (an error) or ends between two frames.
pub(crate) async fn read_all<R: AsyncRead + Unpin>(
    claim: &Claim,
    stream: &mut R,
    pulse: Pulse,
) -> io::Result<()> {
    let mut decoder = FrameDecoder::new(StreamSizes::default(), claim.max_frame_bytes());
    let mut announced = None;
    loop {
        match decoder.decode().map_err(|error| nonsense(claim, &error.to_string()))? {
            Some(Decoded::SignOfLife) => claim.opened(),
            Some(Decoded::Announced { lane, frame_bytes }) => {
                let inbox = inbox(claim, lane).map_err(|problem| nonsense(claim, problem))?;
                // Before any memory is allocated for the frame.
                let reservation = inbox.reserve(frame_bytes).await.ok_or(io::ErrorKind::ConnectionAborted)?;
                announced = Some((inbox, reservation));
            }
            Some(Decoded::Frame { frame, .. }) => {
                let (inbox, reservation) = announced.take().expect("a frame is announced before it comes");
                claim.counters().on_received(frame.len());
                if !inbox.put(reservation, frame) {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            }
            None => match within(pulse.timeout, stream.read(decoder.space())).await? {
                0 if decoder.is_between_frames() => return Ok(()),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => decoder.filled(read),
            },
        }
    }
}

/// The inbox of this lane.
fn inbox(claim: &Claim, lane: u8) -> Result<&LaneInbox, &'static str> {
    let lane = *Lane::ALL.get(usize::from(lane)).ok_or("a frame has an unknown lane")?;
    claim.inbox(lane).ok_or("a frame has a lane of the other connection")
}

/// Counts and logs that a peer sends invalid frames.
fn nonsense(claim: &Claim, problem: &str) -> io::Error {
    claim.counters().on_nonsense();
    tracing::warn!(peer = claim.peer().0, problem, "closing a connection: the peer sends invalid frames");
    io::Error::new(io::ErrorKind::InvalidData, problem.to_owned())
}

async fn within(limit: Option<Duration>, read: impl Future<Output = io::Result<usize>>) -> io::Result<usize> {
    match limit {
        Some(limit) => timeout(limit, read).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?,
        None => read.await,
    }
}
