//! A client of all that speak as Redis does.
//!
//! Clients share the processors with the servers, so this one is lean: requests are copied together from prepared
//! pieces, and replies are checked and counted where they lie, not kept.

use bytes::{Buf, BytesMut};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::load::{KEY_BYTES, VALUE_BYTES, Work, key};
use super::server::Node;

/// Enough for the replies of a pipeline.
const BUFFER_BYTES: usize = 16 << 10;

/// What asks whether a server answers.
pub(super) const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// The first, if it answers, where it always leads.
pub(super) async fn leader(nodes: &[Node]) -> Option<usize> {
    Connection::open(nodes.first()?.status).await.ok()?.ping().await.ok()?;
    Some(0)
}

/// How long a request is.
pub(super) fn request_bytes(work: Work) -> usize {
    let pieces = Pieces::of(work);
    pieces.before.len() + KEY_BYTES + pieces.behind.len()
}

/// A connection.
pub(super) struct Connection {
    stream: TcpStream,
    set: Pieces,
    get: Pieces,
    requests: BytesMut,
    received: BytesMut,
}

/// What is before and behind the key of a request.
struct Pieces {
    before: Vec<u8>,
    behind: Vec<u8>,
}

/// What a server has answered.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Status,
    Bulk { bytes: usize },
    Nil,
    Error(String),
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> Result<Connection, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let [set, get] = [Work::Set, Work::Get].map(Pieces::of);
        let received = BytesMut::with_capacity(BUFFER_BYTES);
        Ok(Connection { stream, set, get, requests: BytesMut::new(), received })
    }

    /// Whether the server answers.
    pub(super) async fn ping(&mut self) -> Result<(), String> {
        self.requests.extend_from_slice(PING);
        self.exchange(&Reply::Status, 1).await
    }

    /// Sends a request for each key, all at once, and waits for all replies.
    pub(super) async fn ask(&mut self, work: Work, keys: &[u64]) -> Result<(), String> {
        let (pieces, wanted) = match work {
            Work::Set => (&self.set, Reply::Status),
            Work::Get => (&self.get, Reply::Bulk { bytes: VALUE_BYTES }),
        };
        for number in keys {
            self.requests.extend_from_slice(&pieces.before);
            self.requests.extend_from_slice(&key(*number));
            self.requests.extend_from_slice(&pieces.behind);
        }
        self.exchange(&wanted, keys.len()).await
    }

    async fn exchange(&mut self, wanted: &Reply, count: usize) -> Result<(), String> {
        let broken = |error: std::io::Error| format!("the connection has broken: {error}");
        self.stream.write_all_buf(&mut self.requests).await.map_err(broken)?;
        let mut left = count;
        let mut unwanted = None;
        while left > 0 {
            match take_reply(&mut self.received)? {
                Some(reply) => {
                    left -= 1;
                    if reply != *wanted {
                        unwanted.get_or_insert(reply);
                    }
                }
                None => {
                    if self.stream.read_buf(&mut self.received).await.map_err(broken)? == 0 {
                        return Err(String::from("the server has closed the connection"));
                    }
                }
            }
        }
        unwanted.map_or(Ok(()), |reply| Err(format!("not the answer that was expected: {reply:?}")))
    }
}

impl Pieces {
    fn of(work: Work) -> Pieces {
        let (before, behind) = match work {
            Work::Set => (
                format!("*3\r\n$3\r\nSET\r\n${KEY_BYTES}\r\n"),
                format!("\r\n${VALUE_BYTES}\r\n{}\r\n", "x".repeat(VALUE_BYTES)),
            ),
            Work::Get => (format!("*2\r\n$3\r\nGET\r\n${KEY_BYTES}\r\n"), String::from("\r\n")),
        };
        Pieces { before: before.into_bytes(), behind: behind.into_bytes() }
    }
}

/// The first reply of what was received, once all of it is there.
fn take_reply(received: &mut BytesMut) -> Result<Option<Reply>, String> {
    let Some(end) = received.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let line = received[..end].strip_suffix(b"\r").ok_or("a line does not end as it should")?;
    let (kind, text) = line.split_first().ok_or("an empty reply")?;
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    let mut length = end + 1;
    let reply = match kind {
        b'+' => Reply::Status,
        b'-' => Reply::Error(text.to_owned()),
        b'$' if text == "-1" => Reply::Nil,
        b'$' => {
            let bytes: usize = text.parse().map_err(|_| format!("'{text}' is no length"))?;
            length += bytes + 2;
            if received.len() < length {
                return Ok(None);
            }
            Reply::Bulk { bytes }
        }
        _ => return Err(format!("no request here is answered by '{}{text}'", kind.escape_ascii())),
    };
    received.advance(length);
    Ok(Some(reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_told_apart_wherever_they_are_cut() {
        let stream: &[u8] = b"+OK\r\n$3\r\na\nb\r\n$-1\r\n-ERR no\r\n$0\r\n\r\n+OK\r\n";
        let whole = [
            Reply::Status,
            Reply::Bulk { bytes: 3 },
            Reply::Nil,
            Reply::Error(String::from("ERR no")),
            Reply::Bulk { bytes: 0 },
            Reply::Status,
        ];
        for cut in 0..stream.len() {
            let mut received = BytesMut::new();
            let mut replies = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                received.extend_from_slice(part);
                while let Some(reply) = take_reply(&mut received).expect("well formed") {
                    replies.push(reply);
                }
            }
            assert_eq!(replies, whole, "cut at {cut}");
            assert!(received.is_empty());
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for wrong in ["OK\r\n", "$x\r\n", "+OK\n", "\r\n", ":1\r\n", "$-2\r\n"] {
            assert!(take_reply(&mut BytesMut::from(wrong)).is_err(), "{wrong:?}");
        }
    }

    /// A server that answers each connection with the same bytes, in pieces.
    async fn serve(answer: &'static [u8]) -> Connection {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
        let address = listener.local_addr().expect("a bound socket has an address");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("the client comes");
            for piece in answer.chunks(100) {
                stream.write_all(piece).await.expect("the client reads");
                tokio::task::yield_now().await;
            }
            let mut ignored = Vec::new();
            stream.read_to_end(&mut ignored).await.expect("the client ends");
        });
        Connection::open(address).await.expect("the server listens")
    }

    #[tokio::test]
    async fn a_pipeline_waits_for_all_and_fails_if_one_does() {
        let mut all = serve(b"+OK\r\n+OK\r\n+OK\r\n").await;
        assert_eq!(all.ask(Work::Set, &[1, 2]).await, Ok(()));
        assert_eq!(all.ask(Work::Set, &[3]).await, Ok(()));
        let mut one_fails = serve(b"+OK\r\n-ERR full\r\n+OK\r\n").await;
        let failed = one_fails.ask(Work::Set, &[1, 2, 3]).await.expect_err("the second failed");
        assert!(failed.contains("full"), "{failed}");
        let mut short = serve(b"$2\r\nxx\r\n").await;
        assert!(short.ask(Work::Get, &[1]).await.is_err(), "a value of another length is not what was set");
    }
}
