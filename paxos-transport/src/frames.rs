//! Frames on a stream of bytes.
//!
//! Each frame is its length (4 bytes, little-endian), its lane (1 byte) and its bytes. Lane 255 with no bytes is a
//! sign of life: each stream starts with one, so that the other side knows it has been let in. A stream that
//! breaks these rules is given up; it came from a peer with a valid certificate, so it is worth a line in the log.

#[cfg(any(test, feature = "fuzz"))]
pub mod fuzzing;

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::Lane;
use crate::link::Claim;
use crate::queue::LaneQueue;

const HEADER_BYTES: usize = 5;
const SIGN_OF_LIFE: [u8; HEADER_BYTES] = [0, 0, 0, 0, SIGN_OF_LIFE_LANE];
const SIGN_OF_LIFE_LANE: u8 = 255;
/// Frames that wait are joined into writes of about this size.
const WRITE_BYTES: usize = 64 << 10;
/// A frame of this size is written by itself, without being copied first.
const LARGE_FRAME_BYTES: usize = 16 << 10;
/// How much is read at once. Longer frames are read into memory of their own.
const READ_BYTES: usize = 64 << 10;

/// What is between this node and silence on one stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pulse {
    /// A sign of life is sent after so long without a frame.
    pub(crate) interval: Option<Duration>,
    /// A stream on which nothing arrives for so long is given up.
    pub(crate) timeout: Option<Duration>,
}

/// Writes what comes into `queues`, the first of which goes first, until the stream breaks, or until all of it is
/// written and the queues are closed.
pub(crate) async fn write_all<W: AsyncWrite + Unpin>(
    claim: &Claim,
    queues: &[&LaneQueue],
    stream: &mut W,
    pulse: Pulse,
) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(WRITE_BYTES);
    stream.write_all(&SIGN_OF_LIFE).await?;
    stream.flush().await?;
    loop {
        if write_waiting(claim, queues, stream, &mut buffer).await? {
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

/// Writes what is waiting now, as far as it fits one write; `false` if nothing is.
async fn write_waiting<W: AsyncWrite + Unpin>(
    claim: &Claim,
    queues: &[&LaneQueue],
    stream: &mut W,
    buffer: &mut BytesMut,
) -> io::Result<bool> {
    buffer.clear();
    let mut large = None;
    'gather: for queue in queues {
        while buffer.len() < WRITE_BYTES {
            let Some(frame) = queue.pop() else { break };
            claim.counters().on_sent(frame.len());
            let length = u32::try_from(frame.len());
            buffer
                .put_u32_le(length.expect("frames are no longer than MAX_FRAME_BYTES when they are queued"));
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
        [first, second] => tokio::select! {
            () = first.filled() => {}
            () = second.filled() => {}
        },
        _ => unreachable!("a stream carries one lane or two"),
    }
}

/// Puts arriving frames into the inbox until the stream breaks (an error) or ends between two frames.
pub(crate) async fn read_all<R: AsyncRead + Unpin>(
    claim: &Claim,
    stream: &mut R,
    pulse: Pulse,
) -> io::Result<()> {
    let mut reader = Reader { stream, buffer: BytesMut::with_capacity(READ_BYTES), pulse };
    while let Some(header) = reader.header().await? {
        let Some((lane, length)) = parse(header, claim.max_frame_bytes()).map_err(|problem| {
            tracing::warn!(peer = claim.peer().0, problem, "closing a connection: the peer sends nonsense");
            io::Error::new(io::ErrorKind::InvalidData, problem)
        })?
        else {
            claim.opened();
            continue;
        };
        let Some(inbox) = claim.inbox(lane) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a frame is on a lane of another connection",
            ));
        };
        // Before any memory is taken for the frame.
        let Some(room) = inbox.room(length).await else {
            return Err(io::ErrorKind::ConnectionAborted.into());
        };
        let frame = reader.frame(length).await?;
        claim.counters().on_received(length);
        if !inbox.put(room, frame) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
    }
    Ok(())
}

/// The lane and length of a frame; `None` for a sign of life.
fn parse(header: [u8; HEADER_BYTES], max_frame_bytes: usize) -> Result<Option<(Lane, usize)>, &'static str> {
    if header == SIGN_OF_LIFE {
        return Ok(None);
    }
    let [length @ .., lane] = header;
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(|_| "a frame is longer than memory")?;
    if length > max_frame_bytes {
        return Err("a frame is longer than this node's max_frame_bytes");
    }
    let lane = *Lane::ALL.get(usize::from(lane)).ok_or("a frame is on no lane")?;
    Ok(Some((lane, length)))
}

struct Reader<'a, R> {
    stream: &'a mut R,
    /// Never handed out, so it never grows: a small frame that the user keeps must not keep all of it.
    buffer: BytesMut,
    pulse: Pulse,
}

impl<R: AsyncRead + Unpin> Reader<'_, R> {
    /// The next header; `None` if the stream ends before it.
    async fn header(&mut self) -> io::Result<Option<[u8; HEADER_BYTES]>> {
        loop {
            if let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() {
                let header = *header;
                self.buffer.advance(HEADER_BYTES);
                return Ok(Some(header));
            }
            if self.fill(HEADER_BYTES).await? == 0 {
                let is_between_frames = self.buffer.is_empty();
                return if is_between_frames { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    async fn frame(&mut self, length: usize) -> io::Result<Bytes> {
        if length <= READ_BYTES {
            while self.buffer.len() < length {
                if self.fill(length).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            let frame = Bytes::copy_from_slice(&self.buffer[..length]);
            self.buffer.advance(length);
            return Ok(frame);
        }
        let mut frame = BytesMut::with_capacity(length);
        frame.extend_from_slice(&self.buffer);
        self.buffer.clear();
        while frame.len() < length {
            let missing = length - frame.len();
            let mut rest = (&mut frame).limit(missing);
            if within(self.pulse.timeout, self.stream.read_buf(&mut rest)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(frame.freeze())
    }

    /// Reads once into the buffer, which has room for `wanted` bytes in all; 0 at the end of the stream.
    async fn fill(&mut self, wanted: usize) -> io::Result<usize> {
        self.buffer.reserve(wanted.saturating_sub(self.buffer.len()));
        within(self.pulse.timeout, self.stream.read_buf(&mut self.buffer)).await
    }
}

async fn within(limit: Option<Duration>, read: impl Future<Output = io::Result<usize>>) -> io::Result<usize> {
    match limit {
        Some(limit) => timeout(limit, read).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?,
        None => read.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_checked_before_it_is_believed() {
        assert_eq!(parse([10, 0, 0, 0, 1], 10), Ok(Some((Lane::Log, 10))));
        assert_eq!(parse([0, 0, 0, 0, 2], 10), Ok(Some((Lane::Bulk, 0))));
        assert_eq!(parse(SIGN_OF_LIFE, 10), Ok(None));
        for nonsense in [[11, 0, 0, 0, 0], [255, 255, 255, 255, 0], [1, 0, 0, 0, 3], [1, 0, 0, 0, 255]] {
            assert!(parse(nonsense, 10).is_err(), "{nonsense:?}");
        }
    }

    #[tokio::test]
    async fn small_and_large_frames_are_read_whole_from_any_pieces() {
        let large: Vec<u8> = (0..=255).cycle().take(3 * READ_BYTES + 7).collect();
        let mut bytes = b"\x02\0\0\0\x01ab".to_vec();
        bytes.extend_from_slice(&u32::try_from(large.len()).expect("it is small").to_le_bytes());
        bytes.push(2);
        bytes.extend_from_slice(&large);
        for piece in [1, 6, 8, READ_BYTES, bytes.len()] {
            let (mut writer, mut stream) = tokio::io::duplex(piece);
            let mut reader = Reader {
                stream: &mut stream,
                buffer: BytesMut::with_capacity(READ_BYTES),
                pulse: Pulse::default(),
            };
            let sent = bytes.clone();
            let writing = tokio::spawn(async move { writer.write_all(&sent).await });
            for expected in [&b"ab"[..], &large] {
                let header = reader.header().await.expect("the stream is whole").expect("a frame follows");
                let (_, length) = parse(header, 1 << 20).expect("it is no nonsense").expect("it is a frame");
                assert_eq!(reader.frame(length).await.expect("the stream is whole"), expected);
                assert!(reader.buffer.capacity() <= 2 * READ_BYTES, "the buffer does not grow");
            }
            writing.await.expect("the writer ends").expect("everything is read");
            assert_eq!(reader.header().await.expect("the stream ends well"), None);
        }
    }
}
