//! The clients of all servers that speak the protocol of Redis. Their requests are copied together from
//! prepared pieces, as clients share the processors with the servers.

use std::net::SocketAddr;

use paxos_node::bench::load::resp::{Connection, RawReply};

use super::node::Node;
use super::work::{KEY_BYTES, LEASE, VALUE_BYTES, Work, key};

/// What asks whether a server answers.
pub(super) const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// The first node, which always leads, if it answers.
pub(super) async fn leader(nodes: &[Node]) -> Option<usize> {
    RespClient::open(nodes.first()?.status).await.ok()?.ping().await.ok()?;
    Some(0)
}

/// What clients write into their locks, and the script that lock libraries release them with.
const TOKEN: &str = "d6f3a2b41c7e4f50";
const RELEASE: &str =
    "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";

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
    lock: Pieces,
    release: Pieces,
}

/// What is before and behind the key of a request.
struct Pieces {
    before: Vec<u8>,
    behind: Vec<u8>,
}

impl RespClient {
    pub(super) async fn open(address: SocketAddr) -> Result<RespClient, String> {
        let connection = Connection::open(address).await.map_err(|error| error.to_string())?;
        let [set, get, lock] = [Work::Set, Work::Get, Work::Lock].map(Pieces::of);
        Ok(RespClient { connection, set, get, lock, release: Pieces::of_release() })
    }

    /// Whether the server answers.
    pub(super) async fn ping(&mut self) -> Result<(), String> {
        self.connection.requests().extend_from_slice(PING);
        self.connection.exchange(1, is_status).await
    }

    /// Sends a request for each key, all at once, and waits for all replies; then those of a second kind, if
    /// there are any.
    pub(super) async fn ask(&mut self, work: Work, keys: &[u64]) -> Result<(), String> {
        let RespClient { connection, set, get, lock, release } = self;
        match work {
            Work::Set => exchange(connection, set, keys, is_status).await,
            Work::Get => exchange(connection, get, keys, is_value).await,
            Work::Lock => {
                exchange(connection, lock, keys, is_status).await?;
                exchange(connection, release, keys, is_one).await
            }
        }
    }
}

async fn exchange(
    connection: &mut Connection,
    pieces: &Pieces,
    keys: &[u64],
    check: fn(RawReply<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let requests = connection.requests();
    for number in keys {
        requests.extend_from_slice(&pieces.before);
        requests.extend_from_slice(&key(*number));
        requests.extend_from_slice(&pieces.behind);
    }
    connection.exchange(keys.len(), check).await
}

fn is_status(reply: RawReply<'_>) -> Result<(), String> {
    if reply == RawReply::Status { Ok(()) } else { Err(unexpected(reply)) }
}

fn is_one(reply: RawReply<'_>) -> Result<(), String> {
    if reply == RawReply::Integer(1) { Ok(()) } else { Err(unexpected(reply)) }
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
            Work::Lock => {
                let lease = LEASE.as_millis().to_string();
                (
                    format!("*6\r\n$3\r\nSET\r\n${KEY_BYTES}\r\n"),
                    format!(
                        "\r\n${}\r\n{TOKEN}\r\n$2\r\nNX\r\n$2\r\nPX\r\n${}\r\n{lease}\r\n",
                        TOKEN.len(),
                        lease.len()
                    ),
                )
            }
        };
        Pieces { before: before.into_bytes(), behind: behind.into_bytes() }
    }

    fn of_release() -> Pieces {
        let before =
            format!("*5\r\n$4\r\nEVAL\r\n${}\r\n{RELEASE}\r\n$1\r\n1\r\n${KEY_BYTES}\r\n", RELEASE.len());
        let behind = format!("\r\n${}\r\n{TOKEN}\r\n", TOKEN.len());
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
        let mut locks = serve(b"+OK\r\n:1\r\n+OK\r\n:0\r\n$-1\r\n").await;
        assert_eq!(locks.ask(Work::Lock, &[1]).await, Ok(()));
        assert!(locks.ask(Work::Lock, &[1]).await.is_err(), "it was another's when it was released");
        assert!(locks.ask(Work::Lock, &[1]).await.is_err(), "another had it");
    }
}
