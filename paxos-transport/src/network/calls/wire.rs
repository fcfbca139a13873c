//! The bytes of a call.
//!
//! 1. The node that is called sends one byte: [`READY`], or why it does not serve the call. Until then
//!    nothing is asked, so that the caller may ask another node.
//! 2. The caller sends its request: its length as 4 bytes, big-endian, then its bytes.
//! 3. The node sends one byte: [`ANSWERED`], with the answer behind it like the request, or why there is
//!    none.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The node waits for the request.
pub(super) const READY: u8 = 1;
/// It serves as many calls as it can.
pub(super) const BUSY: u8 = 2;
/// Nobody in it answers calls.
pub(super) const NOT_SERVED: u8 = 3;

/// The answer follows.
pub(super) const ANSWERED: u8 = 1;
/// The one who answers has dropped the call.
pub(super) const UNANSWERED: u8 = 2;
/// The answer takes too long.
pub(super) const TIMED_OUT: u8 = 3;
/// The request is longer than allowed.
pub(super) const REQUEST_TOO_LARGE: u8 = 4;
/// The answer is longer than allowed.
pub(super) const ANSWER_TOO_LARGE: u8 = 5;

pub(super) async fn write_byte(stream: &mut (impl AsyncWrite + Unpin), byte: u8) -> io::Result<()> {
    stream.write_all(&[byte]).await?;
    stream.flush().await
}

pub(super) async fn write_bytes(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).expect("requests and answers have at most a MiB");
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Reads a request or an answer; `None` if it is longer than `limit`.
pub(super) async fn read_bytes(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> io::Result<Option<Bytes>> {
    let length = stream.read_u32().await? as usize;
    if length > limit {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(Some(bytes.into()))
}
