//! Frames on a stream of bytes.
//!
//! Each frame is its length (4 bytes, little-endian), its lane (1 byte) and its bytes. A stream that breaks this
//! is given up; it came from a peer with a valid certificate, so it is worth a line in the log.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use paxos_core::NodeId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::Lane;
use crate::inbox::InboxSender;
use crate::lane_queue::LaneQueue;

const HEADER_BYTES: usize = 5;
/// Frames that wait are joined into writes of about this size.
const WRITE_BYTES: usize = 64 << 10;
/// A frame of this size is written by itself, without being copied first.
const LARGE_FRAME_BYTES: usize = 16 << 10;
/// How much is read at once.
const READ_BYTES: usize = 64 << 10;

/// Writes what comes into `queues`, the first of which goes first, until the stream breaks.
pub(crate) async fn write_all<W: AsyncWrite + Unpin>(queues: &[&LaneQueue], mut stream: W) -> io::Error {
    let mut buffer = BytesMut::with_capacity(WRITE_BYTES);
    loop {
        match write_waiting(queues, &mut stream, &mut buffer).await {
            Ok(true) => {}
            Ok(false) => wait_for_any(queues).await,
            Err(error) => return error,
        }
    }
}

/// Writes what is waiting now, as far as it fits one write; `false` if nothing is.
async fn write_waiting<W: AsyncWrite + Unpin>(
    queues: &[&LaneQueue],
    stream: &mut W,
    buffer: &mut BytesMut,
) -> io::Result<bool> {
    buffer.clear();
    let mut large = None;
    'gather: for queue in queues {
        while buffer.len() < WRITE_BYTES {
            let Some(frame) = queue.pop() else { break };
            // Lengths are bounded by the configured limit when frames are queued.
            buffer.put_u32_le(u32::try_from(frame.len()).map_err(io::Error::other)?);
            buffer.put_u8(queue.lane() as u8);
            if frame.len() >= LARGE_FRAME_BYTES {
                large = Some(frame);
                break 'gather;
            }
            buffer.extend_from_slice(&frame);
        }
    }
    if buffer.is_empty() {
        return Ok(false);
    }
    for queue in queues {
        queue.wake_another();
    }
    stream.write_all(buffer).await?;
    if let Some(frame) = large {
        stream.write_all(&frame).await?;
    }
    stream.flush().await?;
    Ok(true)
}

async fn wait_for_any(queues: &[&LaneQueue]) {
    match queues {
        [only] => only.filled().await,
        [first, second, ..] => tokio::select! {
            () = first.filled() => {}
            () = second.filled() => {}
        },
        [] => std::future::pending().await,
    }
}

/// Puts arriving frames into the inbox until the stream ends or breaks.
pub(crate) async fn read_all<R: AsyncRead + Unpin>(
    from: NodeId,
    mut stream: R,
    max_frame_bytes: usize,
    inbox: InboxSender,
) -> io::Error {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        loop {
            match take_frame(&mut buffer, max_frame_bytes) {
                Ok(Some((lane, frame))) => {
                    if !inbox.put(from, lane, frame).await {
                        return io::ErrorKind::ConnectionAborted.into();
                    }
                }
                Ok(None) => break,
                Err(problem) => {
                    tracing::warn!(
                        peer = from.0,
                        problem,
                        "closing the connection to a peer that sent nonsense"
                    );
                    return io::Error::new(io::ErrorKind::InvalidData, problem);
                }
            }
        }
        buffer.reserve(READ_BYTES);
        match stream.read_buf(&mut buffer).await {
            Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

/// Takes a whole frame from the front of the buffer, if there is one.
fn take_frame(buffer: &mut BytesMut, max_frame_bytes: usize) -> Result<Option<(Lane, Bytes)>, &'static str> {
    let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let [length @ .., lane] = *header;
    let length = u32::from_le_bytes(length) as usize;
    if length > max_frame_bytes {
        return Err("a frame is longer than allowed");
    }
    let lane = *Lane::ALL.get(usize::from(lane)).ok_or("a frame is on no lane")?;
    if buffer.len() < HEADER_BYTES + length {
        // Room for this frame only: what it claims is within the limit.
        buffer.reserve(HEADER_BYTES + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(HEADER_BYTES);
    Ok(Some((lane, buffer.split_to(length).freeze())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole_and_nonsense_is_refused() {
        let mut buffer = BytesMut::new();
        buffer.extend_from_slice(&[2, 0, 0, 0, 1, b'a']);
        assert_eq!(take_frame(&mut buffer, 10), Ok(None));
        buffer.extend_from_slice(b"b\0\0\0\0\x02");
        assert_eq!(take_frame(&mut buffer, 10), Ok(Some((Lane::Log, Bytes::from_static(b"ab")))));
        assert_eq!(take_frame(&mut buffer, 10), Ok(Some((Lane::Bulk, Bytes::new()))));
        for nonsense in [[11, 0, 0, 0, 0], [255, 255, 255, 255, 0], [1, 0, 0, 0, 3]] {
            let mut buffer = BytesMut::from(&nonsense[..]);
            assert!(take_frame(&mut buffer, 10).is_err(), "{nonsense:?}");
        }
    }
}
