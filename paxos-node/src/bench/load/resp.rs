//! A Redis client for load.
//!
//! Clients share the processors with the servers, so this one is lean: requests are gathered in one buffer,
//! and replies are checked where they lie, not kept.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, ToSocketAddrs};

/// Enough for the replies of a pipeline.
const BUFFER_BYTES: usize = 16 << 10;
const LINE_END_BYTES: usize = 2;

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    requests: BytesMut,
    received: BytesMut,
}

/// A reply of a server, in its buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RawReply<'a> {
    /// A word such as `OK`.
    Status,
    /// A number.
    Integer(i64),
    /// The bytes of a value.
    Bulk(&'a [u8]),
    /// There is no value.
    Nil,
    /// An error with its code.
    Error(&'a str),
}

impl Connection {
    /// Connects to a server.
    ///
    /// # Errors
    ///
    /// Those of the network.
    pub async fn open(address: impl ToSocketAddrs) -> io::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, requests: BytesMut::new(), received: BytesMut::with_capacity(BUFFER_BYTES) })
    }

    /// Adds a request to those that are sent next.
    pub fn add_request(&mut self, words: &[&[u8]]) {
        self.requests.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            self.requests.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            self.requests.extend_from_slice(word);
            self.requests.extend_from_slice(b"\r\n");
        }
    }

    /// Where requests are put that are sent next, for those that are encoded already.
    pub fn requests(&mut self) -> &mut BytesMut {
        &mut self.requests
    }

    /// Sends all requests that were added, and waits for this many replies, each of which `check` sees.
    ///
    /// # Errors
    ///
    /// The first error of `check`, once all replies have come; or why the connection has broken.
    pub async fn exchange(
        &mut self,
        replies: usize,
        mut check: impl FnMut(RawReply<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let broken = |error: io::Error| format!("the connection has broken: {error}");
        self.stream.write_all_buf(&mut self.requests).await.map_err(broken)?;
        let mut result = Ok(());
        for _ in 0..replies {
            loop {
                if let Some((reply, length)) = first_reply(&self.received)? {
                    result = result.and(check(reply));
                    self.received.advance(length);
                    break;
                }
                if self.stream.read_buf(&mut self.received).await.map_err(broken)? == 0 {
                    return Err(String::from("the server has closed the connection"));
                }
            }
        }
        result
    }
}

/// The first reply of what was received and how many bytes it has, once all of it is there.
fn first_reply(received: &[u8]) -> Result<Option<(RawReply<'_>, usize)>, String> {
    let Some(end) = received.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let line = received[..end].strip_suffix(b"\r").ok_or("a line does not end as it should")?;
    let (kind, text) = line.split_first().ok_or("an empty reply")?;
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    let start = end + 1;
    Ok(Some(match kind {
        b'+' => (RawReply::Status, start),
        b'-' => (RawReply::Error(text), start),
        b':' => (RawReply::Integer(text.parse().map_err(|_| format!("'{text}' is no number"))?), start),
        b'$' if text == "-1" => (RawReply::Nil, start),
        b'$' => {
            let bytes: usize = text.parse().map_err(|_| format!("'{text}' is no length"))?;
            let Some((value, rest)) = received[start..].split_at_checked(bytes) else { return Ok(None) };
            if rest.len() < LINE_END_BYTES {
                return Ok(None);
            }
            (RawReply::Bulk(value), start + bytes + LINE_END_BYTES)
        }
        _ => return Err(format!("no request here is answered by '{}{text}'", kind.escape_ascii())),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_told_apart_wherever_they_are_cut() {
        let stream: &[u8] = b"+OK\r\n$3\r\na\nb\r\n$-1\r\n-ERR no\r\n:-7\r\n$0\r\n\r\n+OK\r\n";
        let whole = [
            RawReply::Status,
            RawReply::Bulk(b"a\nb"),
            RawReply::Nil,
            RawReply::Error("ERR no"),
            RawReply::Integer(-7),
            RawReply::Bulk(b""),
            RawReply::Status,
        ];
        for cut in 0..stream.len() {
            let (mut received, mut expected) = (BytesMut::new(), whole.iter());
            for part in [&stream[..cut], &stream[cut..]] {
                received.extend_from_slice(part);
                while let Some((reply, length)) = first_reply(&received).expect("well formed") {
                    assert_eq!(Some(&reply), expected.next(), "cut at {cut}");
                    received.advance(length);
                }
            }
            assert!(received.is_empty() && expected.next().is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for wrong in ["OK\r\n", "$x\r\n", "+OK\n", "\r\n", ":1x\r\n", "*1\r\n", "$-2\r\n"] {
            assert!(first_reply(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }
}
