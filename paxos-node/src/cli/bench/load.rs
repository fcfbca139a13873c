//! Closed-loop load: each client asks again as soon as it is answered.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

/// Times are kept up to here, and told as this if they are longer.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// With three digits an error of a thousandth at most.
const SIGNIFICANT_DIGITS: u8 = 3;
/// After an error a client waits this long, so that a cluster that refuses everything is not flooded.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(20);

/// A client.
pub(super) trait Requester: Send + 'static {
    /// Asks, waits for the answer, and tells how many requests that was: more than one if it sends several at once.
    fn ask(&mut self) -> impl Future<Output = Result<u64, String>> + Send;
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
}

/// Has all requesters ask until the time is over. `at_edge` is called when measuring begins, and again at its end.
pub(super) async fn drive<R: Requester>(
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
    // What is still under way is of no interest any more, but should not disturb what is measured next.
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

    #[tokio::test]
    async fn only_what_is_answered_in_time_counts() {
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
