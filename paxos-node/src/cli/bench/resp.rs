//! A Redis client, as far as measuring needs one.

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::case::{Case, Work};
use super::load::Requester;
use super::target::Keys;
use crate::cli::Failure;

/// A connection to one node.
pub(super) struct Connection {
    stream: TcpStream,
    case: Case,
    keys: Keys,
    value: Bytes,
    random: fastrand::Rng,
    requests: BytesMut,
    replies: BytesMut,
}

impl Connection {
    pub(super) async fn open(
        address: &str,
        case: Case,
        keys: Keys,
        seed: u64,
    ) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(address).await.map_err(|error| {
            Failure::other(format!("--cluster {address}: {error}; is this an address given to --client?"))
        })?;
        stream.set_nodelay(true).map_err(Failure::other)?;
        let random = fastrand::Rng::with_seed(seed);
        let (requests, replies) = (BytesMut::new(), BytesMut::new());
        Ok(Connection { stream, case, keys, value: keys.value(), random, requests, replies })
    }

    /// Sets all keys.
    pub(super) async fn fill(&mut self) -> Result<(), String> {
        let value = self.value.clone();
        for chunk in self.keys.chunks() {
            let mut words: Vec<&[u8]> = vec![b"MSET"];
            words.extend(chunk.iter().flat_map(|key| [key.as_ref(), value.as_ref()]));
            add_request(&mut self.requests, &words);
            self.exchange(1).await?;
        }
        Ok(())
    }

    /// Sends what was added, and waits for so many replies.
    async fn exchange(&mut self, count: usize) -> Result<(), String> {
        let broken = |error: std::io::Error| format!("the connection has broken: {error}");
        self.stream.write_all_buf(&mut self.requests).await.map_err(broken)?;
        let mut left = count;
        let mut first_error = None;
        while left > 0 {
            match decode_bytes_mut(&mut self.replies) {
                Ok(Some((reply, ..))) => {
                    left -= 1;
                    if let BytesFrame::Error(error) = reply {
                        first_error.get_or_insert(error.to_string());
                    }
                }
                Ok(None) => {
                    if self.stream.read_buf(&mut self.replies).await.map_err(broken)? == 0 {
                        return Err(String::from("the node has closed the connection"));
                    }
                }
                Err(error) => return Err(format!("not a reply: {error}")),
            }
        }
        first_error.map_or(Ok(()), Err)
    }
}

impl Requester for Connection {
    async fn ask(&mut self) -> Result<u64, String> {
        for _ in 0..self.case.pipeline {
            let key = self.keys.draw(&mut self.random);
            match self.case.work {
                Work::Set => add_request(&mut self.requests, &[b"SET", &key, &self.value]),
                Work::Get | Work::GetThroughLog => add_request(&mut self.requests, &[b"GET", &key]),
            }
        }
        self.exchange(self.case.pipeline).await?;
        Ok(self.case.pipeline as u64)
    }
}

/// An array of bulk strings.
fn add_request(requests: &mut BytesMut, words: &[&[u8]]) {
    requests.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        requests.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        requests.extend_from_slice(word);
        requests.extend_from_slice(b"\r\n");
    }
}
