//! The Redis clients of a running cluster.

use bytes::Bytes;

use super::case::{Case, Work};
use super::error::Error;
use super::keys::Keys;
use super::load::Requester;
use super::load::resp::{Connection, RawReply};

/// A client of one node.
pub(super) struct RespClient {
    connection: Connection,
    case: Case,
    keys: Keys,
    value: Bytes,
    random: fastrand::Rng,
}

impl RespClient {
    pub(super) async fn open(address: &str, case: Case, keys: Keys, seed: u64) -> Result<RespClient, Error> {
        let connection = connect(address).await?;
        let random = fastrand::Rng::with_seed(seed);
        Ok(RespClient { connection, case, keys, value: keys.value(), random })
    }

    /// Sets all keys.
    pub(super) async fn fill(&mut self) -> Result<(), String> {
        for chunk in self.keys.chunks() {
            let mut words: Vec<&[u8]> = vec![b"MSET"];
            words.extend(chunk.iter().flat_map(|key| [key.as_ref(), self.value.as_ref()]));
            self.connection.add_request(&words);
            self.connection.exchange(1, unless_error).await?;
        }
        Ok(())
    }
}

impl Requester for RespClient {
    async fn ask(&mut self) -> Result<u64, String> {
        for _ in 0..self.case.pipeline {
            let key = self.keys.draw(&mut self.random);
            match self.case.work {
                Work::Set => self.connection.add_request(&[b"SET", &key, &self.value]),
                Work::Get | Work::GetThroughLog => self.connection.add_request(&[b"GET", &key]),
            }
        }
        self.connection.exchange(self.case.pipeline, unless_error).await?;
        Ok(self.case.pipeline as u64)
    }
}

fn unless_error(reply: RawReply<'_>) -> Result<(), String> {
    match reply {
        RawReply::Error(error) => Err(error.to_owned()),
        _ => Ok(()),
    }
}

/// How often a node has not understood its peers; 0 for a server of another kind, which does not tell.
pub(super) async fn misunderstood(address: &str) -> Result<u64, Error> {
    let mut connection = connect(address).await?;
    connection.add_request(&[b"INFO"]);
    let mut count = None;
    let read_count = |reply: RawReply<'_>| {
        if let RawReply::Bulk(info) = reply {
            let info = String::from_utf8_lossy(info);
            let line = info.lines().find_map(|line| line.strip_prefix("misunderstood:"));
            count = line.and_then(|count| count.parse().ok());
        }
        Ok(())
    };
    let exchanged = connection.exchange(1, read_count).await;
    exchanged.map_err(|error| Error::Request { what: address.to_owned(), error })?;
    Ok(count.unwrap_or(0))
}

async fn connect(address: &str) -> Result<Connection, Error> {
    let opened = Connection::open(address).await;
    opened.map_err(|error| Error::NotConnected { address: address.to_owned(), error })
}
