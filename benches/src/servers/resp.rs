//! The clients of all servers that speak the protocol of Redis. Their requests are copied together from
//! prepared pieces, as clients share the processors with the servers.

use std::net::SocketAddr;

use paxos_node::load::resp::{Connection, RawReply};

use super::node::Node;
use super::work::{KEY_BYTES, VALUE_BYTES, Work, key};

/// What asks whether a server answers.
pub(super) const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// The first node, which always leads, if it answers.
pub(super) async fn leader(nodes: &[Node]) -> Option<usize> {
    RespClient::open(nodes.first()?.status).await.ok()?.ping().await.ok()?;
    Some(0)
}

/// How long a request is.
pub(super) fn request_bytes(work: Work) -> usize {
    let pieces = Pieces::of(work);
    pieces.before.len() + KEY_BYTES + pieces.behind.len()
}

/// A client.
pub(super) struct RespClient {
    connection: Connection,
    set: Pieces,
    get: Pieces,
}

/// What is before and behind the key of a request.
struct Pieces {
    before: Vec<u8>,
    behind: Vec<u8>,
}

impl RespClient {
    pub(super) async fn open(address: SocketAddr) -> Result<RespClient, String> {
        let connection = Connection::open(address).await.map_err(|error| error.to_string())?;
        let [set, get] = [Work::Set, Work::Get].map(Pieces::of);
        Ok(RespClient { connection, set, get })
    }

    /// Whether the server answers.
    pub(super) async fn ping(&mut self) -> Result<(), String> {
        self.connection.requests().extend_from_slice(PING);
        self.connection.exchange(1, is_status).await
    }

    /// Sends a request for each key, all at once, and waits for all replies.
    pub(super) async fn ask(&mut self, work: Work, keys: &[u64]) -> Result<(), String> {
        let pieces = match work {
            Work::Set => &self.set,
            Work::Get => &self.get,
        };
        let requests = self.connection.requests();
        for number in keys {
            requests.extend_from_slice(&pieces.before);
            requests.extend_from_slice(&key(*number));
            requests.extend_from_slice(&pieces.behind);
        }
        match work {
            Work::Set => self.connection.exchange(keys.len(), is_status).await,
            Work::Get => self.connection.exchange(keys.len(), is_value).await,
        }
    }
}

fn is_status(reply: RawReply<'_>) -> Result<(), String> {
    if reply == RawReply::Status { Ok(()) } else { Err(unexpected(reply)) }
}

fn is_value(reply: RawReply<'_>) -> Result<(), String> {
    match reply {
        RawReply::Bulk(value) if value.len() == VALUE_BYTES => Ok(()),
        other => Err(unexpected(other)),
    }
}

fn unexpected(reply: RawReply<'_>) -> String {
    match reply {
        RawReply::Bulk(value) => format!("unexpected reply: a value of {} bytes", value.len()),
        other => format!("unexpected reply: {other:?}"),
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A server that answers each connection with the same bytes, in pieces.
    async fn serve(answer: &'static [u8]) -> RespClient {
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
        RespClient::open(address).await.expect("the server listens")
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
