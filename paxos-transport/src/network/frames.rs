//! Frames on the streams of networked backends.
//!
//! A stream with invalid frames is closed, counted and logged: it comes from an authenticated peer, so that
//! peer is faulty.

use std::io;

use tokio::io::AsyncRead;

use crate::backend::{FrameReader, Pulse, StreamError};
use crate::network::link::Claim;

/// Moves frames from the stream to the inbox until the stream breaks (an error) or ends between two frames.
pub(crate) async fn read_all<R: AsyncRead + Unpin>(
    claim: &Claim,
    stream: &mut R,
    pulse: Pulse,
) -> io::Result<()> {
    let reader = FrameReader::new(claim.inboxes(), claim.counters(), claim.max_frame_bytes());
    match reader.read(stream, pulse.timeout, || claim.opened()).await {
        Ok(()) => Ok(()),
        Err(StreamError::Io(error)) => Err(error),
        Err(StreamError::Closed) => Err(io::ErrorKind::ConnectionAborted.into()),
        Err(StreamError::Nonsense { problem }) => {
            let peer = claim.peer().0;
            tracing::warn!(peer, problem, "closing a connection: the peer sends invalid frames");
            Err(io::Error::new(io::ErrorKind::InvalidData, problem))
        }
    }
}
