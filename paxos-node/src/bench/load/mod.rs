//! Closed-loop load, for `paxos-node bench` and the benches of whole servers: each client sends its next
//! request as soon as the one before is answered.
//!
//! It is public for the benches of this workspace alone.

pub mod resp;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::lock::lock;

/// Longer times count as this.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Recorded times are off by a thousandth at most.
const SIGNIFICANT_DIGITS: u8 = 3;
/// After an error a client waits this long, so that a server that refuses everything is not flooded.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(20);

/// A client.
pub trait Requester: Send + 'static {
    /// Sends a request, or several at once, waits for all answers, and returns how many requests that was.
    fn ask(&mut self) -> impl Future<Output = Result<u64, String>> + Send;
}

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How long clients ask before anything is counted.
    pub warm_up: Duration,
    /// How long their requests are counted then.
    pub time: Duration,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Requests that were answered in time.
    pub requests: u64,
    /// How often a client had an error instead of an answer.
    pub errors: u64,
    /// The first of these errors.
    pub first_error: Option<String>,
    /// How long requests were counted.
    pub elapsed: Duration,
    /// How long clients waited for each request, in nanoseconds.
    waits: Histogram<u64>,
}

impl Measured {
    /// Requests in each second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// How long the given part of all requests waited at most, in milliseconds; the longest wait for 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "times are far below 2^52 ns")]
    pub fn milliseconds(&self, quantile: f64) -> f64 {
        self.waits.value_at_quantile(quantile) as f64 / 1e6
    }
}

/// Has all requesters send requests until the time is over. `at_edge` is called when counting begins, and
/// again when it ends.
pub async fn drive<R: Requester>(
    requesters: Vec<R>,
    plan: Plan,
    mut at_edge: impl FnMut() + Send,
) -> Measured {
    let begin = Instant::now() + plan.warm_up;
    let record = Arc::new(Record::new(begin, begin + plan.time));
    let mut clients = JoinSet::new();
    for requester in requesters {
        clients.spawn(ask_until_end(requester, Arc::clone(&record)));
    }
    tokio::time::sleep_until(record.begin.into()).await;
    at_edge();
    tokio::time::sleep_until(record.end.into()).await;
    at_edge();
    let measured = record.measured();
    // Requests that are still under way don't count, but would disturb the next measurement.
    clients.join_all().await;
    measured
}

async fn ask_until_end<R: Requester>(mut requester: R, record: Arc<Record>) {
    let mut asked = Instant::now();
    while asked < record.end {
        let answer = requester.ask().await;
        let answered = Instant::now();
        let has_failed = answer.is_err();
        record.add(asked, answered, answer);
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
        let mut counted = lock(&self.counted);
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
        let counted = lock(&self.counted);
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

    /// Answers after a while, each third time with an error.
    struct Slow {
        asked: u64,
    }

    impl Requester for Slow {
        async fn ask(&mut self) -> Result<u64, String> {
            self.asked += 1;
            tokio::time::sleep(Duration::from_millis(2)).await;
            if self.asked.is_multiple_of(3) { Err(format!("request {}", self.asked)) } else { Ok(2) }
        }
    }

    #[test]
    fn only_what_is_answered_within_the_time_is_counted() {
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

    #[tokio::test]
    async fn clients_ask_until_the_time_is_over_and_pause_after_an_error() {
        let plan = Plan { warm_up: Duration::from_millis(50), time: Duration::from_millis(200) };
        let mut edges = 0;
        let measured = drive(vec![Slow { asked: 0 }, Slow { asked: 0 }], plan, || edges += 1).await;
        assert_eq!(edges, 2);
        assert_eq!(measured.elapsed, plan.time);
        // Two answers of two requests, and an error with its pause, take 26 ms at least.
        assert!((4..=72).contains(&measured.requests), "{} requests", measured.requests);
        assert!((1..=18).contains(&measured.errors), "{} errors", measured.errors);
        assert!(measured.first_error.is_some_and(|error| error.starts_with("request")));
        assert_eq!(measured.waits.len(), measured.requests);
        assert!(measured.waits.min() >= nanoseconds(Duration::from_millis(2)));
    }
}
