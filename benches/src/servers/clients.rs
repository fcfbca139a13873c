//! The clients of any server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use paxos_node::bench::load::Requester;
use tokio::task::JoinSet;

use super::contender::Contender;
use super::failure::Failure;
use super::row::Row;
use super::work::{KEYS, Work};
use super::{grpc, resp};

/// A client of any server.
pub(super) enum Client {
    Resp(resp::RespClient),
    Grpc(grpc::Caller),
}

impl Client {
    /// The clients of a row. Etcd's protocol has no pipelines, so each request of one gets a client of its
    /// own there, and these clients share `connections`.
    pub(super) async fn open_all(
        contender: Contender,
        address: SocketAddr,
        row: Row,
        connections: usize,
    ) -> Result<Vec<Client>, Failure> {
        let failed = |error: String| {
            Failure::new(format!("{} takes no clients at {address}: {error}", contender.name()))
        };
        if contender == Contender::Etcd {
            let callers = row.clients() * row.pipeline();
            let callers = grpc::Caller::open(address, callers, connections).await.map_err(failed)?;
            return Ok(callers.into_iter().map(Client::Grpc).collect());
        }
        let mut clients = Vec::new();
        for _ in 0..row.clients() {
            clients.push(Client::Resp(resp::RespClient::open(address).await.map_err(failed)?));
        }
        Ok(clients)
    }

    /// A client with a connection of its own.
    pub(super) async fn open(contender: Contender, address: SocketAddr) -> Result<Client, String> {
        if contender == Contender::Etcd {
            let caller = grpc::Caller::open(address, 1, 1).await?.pop();
            return caller.map(Client::Grpc).ok_or_else(|| String::from("there is no caller"));
        }
        Ok(Client::Resp(resp::RespClient::open(address).await?))
    }

    /// Sends a request for each key, and waits for all answers.
    pub(super) async fn ask(&mut self, work: Work, keys: &[u64]) -> Result<(), String> {
        match self {
            Client::Resp(connection) => connection.ask(work, keys).await,
            Client::Grpc(caller) => caller.ask(work, keys).await,
        }
    }

    /// How many requests it sends at once.
    fn pipeline(&self, row: Row) -> usize {
        match self {
            Client::Resp(_) => row.pipeline(),
            Client::Grpc(_) => 1,
        }
    }
}

/// Sets each key once.
pub(super) async fn fill(clients: Vec<Client>, row: Row) -> Result<(), Failure> {
    let next = Arc::new(AtomicU64::new(0));
    let mut filling = JoinSet::new();
    for mut client in clients {
        let next = Arc::clone(&next);
        filling.spawn(async move {
            let step = client.pipeline(row) as u64;
            loop {
                let first = next.fetch_add(step, Ordering::Relaxed);
                let keys: Vec<u64> = (first..KEYS.min(first + step)).collect();
                if keys.is_empty() {
                    return Ok(());
                }
                client.ask(Work::Set, &keys).await?;
            }
        });
    }
    let filled: Result<(), String> = filling.join_all().await.into_iter().collect();
    filled.map_err(|error| Failure::new(format!("the keys can't be set: {error}")))
}

/// A client that sends random requests of a row.
pub(super) struct RowClient {
    client: Client,
    row: Row,
    random: fastrand::Rng,
    keys: Vec<u64>,
    /// Which of all clients it is.
    place: u64,
    /// How many there are.
    clients: u64,
}

impl RowClient {
    pub(super) fn all(clients: Vec<Client>, row: Row) -> Vec<RowClient> {
        let count = clients.len() as u64;
        let one = |(place, client): (u64, Client)| {
            let random = fastrand::Rng::with_seed(fastrand::u64(..));
            let keys = vec![0; client.pipeline(row)];
            RowClient { client, row, random, keys, place, clients: count }
        };
        (0..).zip(clients).map(one).collect()
    }
}

impl Requester for RowClient {
    async fn ask(&mut self) -> Result<u64, String> {
        let RowClient { client, row, random, keys, place, clients } = self;
        keys.fill_with(|| match row.work() {
            Work::Set | Work::Get => random.u64(..KEYS),
            // Each client has locks of its own, and none of them is a key that was set: nobody waits for
            // another.
            Work::Lock => KEYS + *place + *clients * random.u64(..KEYS / *clients),
        });
        client.ask(row.work(), keys).await?;
        Ok(keys.len() as u64)
    }
}
