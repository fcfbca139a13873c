//! Sets many keys as fast as a server takes them, for benches that need a large state.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use paxos_node::bench::load::resp::{Connection, RawReply};
use tokio::task::JoinSet;

use super::failure::Failure;

pub(super) const KEY_BYTES: usize = 16;
pub(super) const VALUE_BYTES: usize = 100;
const CLIENTS: u64 = 16;
const PIPELINE: u64 = 64;
/// How often something is looked at that is waited for.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(300);
/// How the error begins with which a node refuses what it has no room for; nothing was carried out.
const REFUSED: &str = "CLUSTERDOWN";
const REFUSED_PAUSE: Duration = Duration::from_millis(20);

/// Looks again and again until there is something to see.
pub(super) async fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, Failure> {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        if let Some(found) = look() {
            return Ok(found);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Err(Failure::new(format!("waited for {PATIENCE:?} in vain until {what}")))
}

/// Which keys are set.
#[derive(Clone, Copy)]
pub(super) enum Load {
    /// Each of so many once.
    All(u64),
    /// So many times any.
    Random(u64),
    /// Each in turn, without end, so many in a second.
    Paced(u64),
}

/// Sets keys by several clients, all of which wait for their answers.
pub(super) async fn set_all(address: SocketAddr, keys: u64, load: Load) -> Result<(), Failure> {
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(set(address, keys, load, Arc::clone(&next)));
    }
    while let Some(client) = clients.join_next().await {
        client.map_err(|error| Failure::new(error.to_string()))??;
    }
    Ok(())
}

/// One client.
async fn set(address: SocketAddr, keys: u64, load: Load, next: Arc<AtomicU64>) -> Result<(), Failure> {
    let mut connection = Connection::open(address).await.map_err(failed)?;
    let count = match load {
        Load::All(count) | Load::Random(count) => count,
        Load::Paced(_) => u64::MAX,
    };
    let began = tokio::time::Instant::now();
    loop {
        let first = next.fetch_add(PIPELINE, Ordering::Relaxed);
        let numbers = first..count.min(first + PIPELINE);
        if numbers.is_empty() {
            return Ok(());
        }
        if let Load::Paced(per_second) = load {
            tokio::time::sleep_until(began + Duration::from_millis(first * 1000 / per_second.max(1))).await;
        }
        exchange(&mut connection, keys, load, numbers).await?;
    }
}

/// Sends a pipeline until all of it is carried out. A node that has too much to do refuses some of it and
/// says so: then it gets a pause, and all of it again.
async fn exchange(
    connection: &mut Connection,
    keys: u64,
    load: Load,
    numbers: Range<u64>,
) -> Result<(), Failure> {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        for number in numbers.clone() {
            let key = match load {
                Load::All(_) => number,
                Load::Random(_) => fastrand::u64(0..keys),
                Load::Paced(_) => number % keys,
            };
            let value = format!("{number:0VALUE_BYTES$}");
            connection.add_request(&[b"SET", format!("key:{key:012}").as_bytes(), value.as_bytes()]);
        }
        let replies = usize::try_from(numbers.end - numbers.start).expect("a pipeline is short");
        let mut is_refused = false;
        let check = |reply: RawReply<'_>| match reply {
            RawReply::Status => Ok(()),
            RawReply::Error(error) if error.starts_with(REFUSED) => {
                is_refused = true;
                Ok(())
            }
            other => Err(format!("unexpected reply: {other:?}")),
        };
        connection.exchange(replies, check).await.map_err(failed)?;
        if !is_refused {
            return Ok(());
        }
        tokio::time::sleep(REFUSED_PAUSE).await;
    }
    Err(Failure::new(format!("SET: refused for {PATIENCE:?}")))
}

fn failed(error: impl fmt::Display) -> Failure {
    Failure::new(format!("SET: {error}"))
}
