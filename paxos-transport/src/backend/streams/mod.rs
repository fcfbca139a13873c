//! Frames on a stream of bytes: tokio reads and writes, [`paxos_core::frames`] encodes and decodes.
//!
//! Each stream starts with a sign of life, which tells the other side that its connection was accepted.

#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

use paxos_core::frames::{Decoded, FrameDecoder, FrameEncoder, SIGN_OF_LIFE, StreamSizes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::inbox::Reservation;
use super::{Counters, LaneInbox, Outbox, wait_for_any};
use crate::Lane;

/// How a stream shows that it is alive, for protocols that do not do so themselves. The default does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pulse {
    /// After this time without a frame, a sign of life is sent.
    pub interval: Option<Duration>,
    /// A stream on which nothing arrives for this long is given up.
    pub timeout: Option<Duration>,
}

/// Why frames can't be read from a stream any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The stream has broken, or was silent for too long ([`TimedOut`](io::ErrorKind::TimedOut)).
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer sends what are no frames. This was counted.
    #[error("the peer sends invalid frames: {problem}")]
    Nonsense {
        /// What is wrong with them.
        problem: String,
    },
    /// The inbox is closed, and with it this node's transport.
    #[error("this node's transport is closed")]
    Closed,
}

/// Writes the frames of `outboxes`, those of the first one first, until the stream breaks or the outboxes are
/// closed and empty; then it shuts the stream down.
///
/// # Errors
///
/// Those of the stream.
///
/// # Panics
///
/// If there are no outboxes, or more than one for each lane.
pub async fn write_frames<W: AsyncWrite + Unpin>(
    outboxes: &[&Outbox],
    stream: &mut W,
    pulse: Pulse,
) -> io::Result<()> {
    let mut encoder = FrameEncoder::new(StreamSizes::default());
    stream.write_all(&SIGN_OF_LIFE).await?;
    stream.flush().await?;
    loop {
        if write_waiting(outboxes, stream, &mut encoder).await? {
            continue;
        }
        if outboxes.iter().all(|outbox| outbox.is_done()) {
            for outbox in outboxes {
                outbox.wake_another();
            }
            return stream.shutdown().await;
        }
        let filled = wait_for_any(outboxes);
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
    outboxes: &[&Outbox],
    stream: &mut W,
    encoder: &mut FrameEncoder,
) -> io::Result<bool> {
    encoder.clear();
    for outbox in outboxes {
        while !encoder.is_full() {
            let Some(frame) = outbox.pop() else { break };
            encoder.put(outbox.lane() as u8, frame);
        }
    }
    if encoder.is_empty() {
        return Ok(false);
    }
    for outbox in outboxes {
        outbox.wake_another();
    }
    for part in encoder.parts() {
        stream.write_all(part).await?;
    }
    stream.flush().await?;
    Ok(true)
}

/// Moves frames from the streams of one node to its inboxes.
#[derive(Clone, Copy, Debug)]
pub struct FrameReader<'a> {
    inboxes: &'a [LaneInbox],
    counters: &'a Counters,
    max_frame_bytes: usize,
}

impl<'a> FrameReader<'a> {
    /// Reads frames of the lanes of `inboxes`, of up to `max_frame_bytes`. Others are nonsense.
    #[must_use]
    pub fn new(inboxes: &'a [LaneInbox], counters: &'a Counters, max_frame_bytes: usize) -> FrameReader<'a> {
        FrameReader { inboxes, counters, max_frame_bytes }
    }

    /// Reads until the stream breaks (an error) or ends between two frames. `on_sign_of_life` is called for
    /// each sign of life, the first of which says that the other side has accepted the connection.
    ///
    /// It takes no more memory for a frame than its inbox has space, and while there is none it does not
    /// read, so that the sender's outbox fills. What arrives is counted.
    ///
    /// # Errors
    ///
    /// [`StreamError`]. The stream can't be used any further.
    ///
    /// # Panics
    ///
    /// Never: the decoder announces each frame before it hands it out.
    pub async fn read<R: AsyncRead + Unpin>(
        self,
        stream: &mut R,
        idle_timeout: Option<Duration>,
        mut on_sign_of_life: impl FnMut(),
    ) -> Result<(), StreamError> {
        let mut decoder = FrameDecoder::new(StreamSizes::default(), self.max_frame_bytes);
        let mut announced: Option<(&LaneInbox, Reservation)> = None;
        loop {
            match decoder.decode().map_err(|error| self.nonsense(error.to_string()))? {
                Some(Decoded::SignOfLife) => on_sign_of_life(),
                Some(Decoded::Announced { lane, frame_bytes }) => {
                    let inbox = self.inbox(lane)?;
                    // Before any memory is allocated for the frame.
                    let reservation = inbox.reserve(frame_bytes).await.ok_or(StreamError::Closed)?;
                    announced = Some((inbox, reservation));
                }
                Some(Decoded::Frame { frame, .. }) => {
                    let announced = announced.take();
                    let (inbox, reservation) = announced.expect("a frame is announced before it comes");
                    self.counters.on_received(frame.len());
                    if !inbox.put(reservation, frame) {
                        return Err(StreamError::Closed);
                    }
                }
                None => match within(idle_timeout, stream.read(decoder.space())).await? {
                    0 if decoder.is_between_frames() => return Ok(()),
                    0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                    read => decoder.filled(read),
                },
            }
        }
    }

    /// The inbox of this lane.
    fn inbox(self, lane: u8) -> Result<&'a LaneInbox, StreamError> {
        let Some(lane) = Lane::ALL.get(usize::from(lane)) else {
            return Err(self.nonsense(String::from("a frame has an unknown lane")));
        };
        let inbox = self.inboxes.iter().find(|inbox| inbox.lane() == *lane);
        inbox.ok_or_else(|| self.nonsense(String::from("a frame has a lane of another connection")))
    }

    fn nonsense(self, problem: String) -> StreamError {
        self.counters.on_nonsense();
        StreamError::Nonsense { problem }
    }
}

async fn within(limit: Option<Duration>, read: impl Future<Output = io::Result<usize>>) -> io::Result<usize> {
    match limit {
        Some(limit) => timeout(limit, read).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?,
        None => read.await,
    }
}
