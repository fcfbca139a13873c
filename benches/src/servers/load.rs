//! Closed-loop load: each client asks again as soon as it is answered.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use super::{Contender, Failure, Row, grpc, resp};

/// So many keys are set and read, all of them set before anything is measured.
const KEYS: u64 = 10_000;
pub(super) const KEY_BYTES: usize = 16;
pub(super) const VALUE_BYTES: usize = 256;
/// Times are kept up to here, and told as this if they are longer.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// With three digits an error of a thousandth at most.
const SIGNIFICANT_DIGITS: u8 = 3;
/// After an error a client waits this long, so that a server that refuses everything is not flooded.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(20);

/// What clients do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Work {
    /// They set values, and each is on disk before it is answered.
    Set,
    /// They read values, and no older ones than there are.
    Get,
}

/// A key by its number.
pub(super) fn key(number: u64) -> [u8; KEY_BYTES] {
    let mut key = *b"key:000000000000";
    let mut left = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + u8::try_from(left % 10).expect("a digit");
        left /= 10;
    }
    key
}

/// A client of any server.
pub(super) enum Client {
    Resp(resp::Connection),
    Grpc(grpc::Caller),
}

impl Client {
    /// The clients of a row. To etcd each request of a pipeline has a client of its own, as its protocol has none; and
    /// clients share so many connections.
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
            clients.push(Client::Resp(resp::Connection::open(address).await.map_err(failed)?));
        }
        Ok(clients)
    }

    async fn ask(&mut self, work: Work, keys: &[u64]) -> Result<(), String> {
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

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Before anything is counted.
    pub(super) warm_up: Duration,
    /// While it is.
    pub(super) time: Duration,
}

/// What was measured.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
    pub(super) elapsed: Duration,
    /// How long clients waited, in nanoseconds.
    pub(super) waits: Histogram<u64>,
}

impl Measured {
    /// Requests in each second.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(super) fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    #[expect(clippy::cast_precision_loss, reason = "times are far below 2^52 ns")]
    pub(super) fn milliseconds(&self, quantile: f64) -> f64 {
        self.waits.value_at_quantile(quantile) as f64 / 1e6
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

/// Has all clients ask until the time is over. `at_edge` is called when measuring begins, and again at its end.
pub(super) async fn drive(clients: Vec<Client>, row: Row, plan: Plan, mut at_edge: impl FnMut()) -> Measured {
    let begin = Instant::now() + plan.warm_up;
    let record = Arc::new(Record::new(begin, begin + plan.time));
    let mut asking = JoinSet::new();
    for client in clients {
        asking.spawn(ask_until_end(client, row, fastrand::u64(..), Arc::clone(&record)));
    }
    tokio::time::sleep_until(record.begin.into()).await;
    at_edge();
    tokio::time::sleep_until(record.end.into()).await;
    at_edge();
    let measured = record.measured();
    // What is still under way is of no interest any more, but should not disturb what is measured next.
    asking.join_all().await;
    measured
}

async fn ask_until_end(mut client: Client, row: Row, seed: u64, record: Arc<Record>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut keys = vec![0; client.pipeline(row)];
    let mut asked = Instant::now();
    while asked < record.end {
        keys.fill_with(|| random.u64(..KEYS));
        let answer = client.ask(row.work(), &keys).await;
        let answered = Instant::now();
        let has_failed = answer.is_err();
        record.add(asked, answered, answer.map(|()| keys.len() as u64));
        if has_failed {
            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
        }
        asked = if has_failed { Instant::now() } else { answered };
    }
}

struct Record {
    begin: Instant,
    end: Instant,
    counted: Mutex<Counted>,
}

struct Counted {
    requests: u64,
    errors: u64,
    first_error: Option<String>,
    waits: Histogram<u64>,
}

impl Record {
    fn new(begin: Instant, end: Instant) -> Record {
        let waits = Histogram::new_with_max(nanoseconds(MAX_WAIT), SIGNIFICANT_DIGITS);
        let waits = waits.expect("a histogram may have three digits");
        Record {
            begin,
            end,
            counted: Mutex::new(Counted { requests: 0, errors: 0, first_error: None, waits }),
        }
    }

    /// Counts what was answered in the time that is measured.
    fn add(&self, asked: Instant, answered: Instant, answer: Result<u64, String>) {
        if answered < self.begin || answered >= self.end {
            return;
        }
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(requests) => {
                counted.requests += requests;
                counted.waits.saturating_record_n(nanoseconds(answered - asked), requests);
            }
            Err(error) => {
                counted.errors += 1;
                counted.first_error.get_or_insert(error);
            }
        }
    }

    fn measured(&self) -> Measured {
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        Measured {
            requests: counted.requests,
            errors: counted.errors,
            first_error: counted.first_error.clone(),
            elapsed: self.end - self.begin,
            waits: counted.waits.clone(),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_numbered_and_of_one_length() {
        assert_eq!(&key(0), b"key:000000000000");
        assert_eq!(&key(9_876), b"key:000000009876");
    }

    #[test]
    fn only_what_is_answered_in_time_counts() {
        let second = Duration::from_secs(1);
        let start = Instant::now();
        let begin = start + second;
        let record = Record::new(begin, begin + second);
        let at = |tenths: u32| begin + second * tenths / 10;
        record.add(start, start + second / 2, Ok(16));
        record.add(start + second / 2, at(0), Ok(16));
        record.add(at(2), at(4), Ok(16));
        record.add(at(4), at(5), Err(String::from("first")));
        record.add(at(4), at(6), Err(String::from("second")));
        record.add(at(9), at(10), Ok(16));
        let measured = record.measured();
        assert_eq!((measured.requests, measured.errors), (32, 2));
        assert_eq!(measured.first_error.as_deref(), Some("first"));
        assert!((measured.rate() - 32.0).abs() < 1e-9);
        assert_eq!(measured.waits.len(), 32);
        assert!((measured.milliseconds(0.5) - 200.0).abs() < 1.0, "{}", measured.milliseconds(0.5));
        assert!((measured.milliseconds(0.99) - 500.0).abs() < 1.0, "{}", measured.milliseconds(0.99));
    }
}
