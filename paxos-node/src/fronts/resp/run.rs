//! Carries out runs of operations that arrived together, in as many pieces as their work needs.
//!
//! Between two pieces of reads the other tasks of the node's thread run, above all the driver. Each operation
//! reads one state, and none an older one than the operation before it. Writes that are too much work for one
//! command of the log go into further commands: they are separate requests, and only a transaction must be
//! one command.

use std::time::Duration;

use paxos_core::Time;
use tokio::sync::Semaphore;
use tokio::task::yield_now;

use crate::client::{Client, ClientError};
use crate::kv::{NotAnswered, Operation, Picture, Reply, Store, Work};

/// The work of the first piece of a run of reads, in units of about a nanosecond: hundreds of them.
const FIRST_PIECE_WORK: u64 = 200_000;
/// The work of each further piece, in the same units.
const PIECE_WORK: u64 = 1_000_000;
/// How many keys of one command are looked up in a piece.
const PIECE_KEYS: usize = 2_000;
/// A scan of more keys gets a piece of its own: it would find fewer keys the more work was done before it. So
/// does a list of all keys.
const SHORT_SCAN_KEYS: u64 = 100;
/// How long a command waits for a node that starts before it is answered with `LOADING`.
const LOADING_PATIENCE: Duration = Duration::from_millis(250);
/// How many connections may work on a further piece at once.
pub(super) const LONG_RUNS: usize = 1;

/// Waits a moment for a node that recovers. Redis clients know how to treat a server that loads for longer.
pub(super) async fn check_recovered(client: &Client<Store>) -> Result<(), ClientError> {
    if !client.is_recovering() {
        return Ok(());
    }
    let mut status = client.status();
    let recovered = status.wait_for(|status| status.recovering.is_none());
    match tokio::time::timeout(LOADING_PATIENCE, recovered).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(ClientError::Stopped),
        Err(_) => Err(ClientError::Recovering),
    }
}

/// Answers operations that only read, from a state no older than this call.
///
/// A key that has expired by the leader's time is missing. But the log may not have come to that time yet,
/// and if the leader fails now, the time of the next one may be a little lower: so that the key does not come
/// back then, a command is applied first, which brings the log to that time.
pub(super) async fn read(
    client: &Client<Store>,
    long_runs: &Semaphore,
    operations: &[Operation],
) -> Result<Vec<Reply>, ClientError> {
    let mut replies = Vec::with_capacity(operations.len());
    let (mut time, mut stopped) = {
        let state = client.read().await?;
        let time = state.time();
        (time, answer(&state, time, operations, &mut replies, FIRST_PIECE_WORK))
    };
    while replies.len() < operations.len() {
        if stopped == Some(NotAnswered::AheadOfLog) {
            propose(client, &[Operation::Expire { at_most: 0 }]).await?;
            time = Time::NONE; // That of the log will do now.
        }
        let _turn = long_runs.acquire().await.expect("nobody closes it");
        let answered = replies.len();
        let next = &operations[answered];
        // The state is one to which this node has come since the first piece.
        let picture = {
            let store = client.read_stale().await?;
            stopped = answer(&store, time, operations, &mut replies, PIECE_WORK);
            match next {
                _ if replies.len() > answered || stopped == Some(NotAnswered::AheadOfLog) => None,
                // The guard would keep the node from applying commands; a picture does not.
                Operation::MGet { .. } | Operation::Exists { .. } => {
                    let is_ahead = store.is_behind_deadlines(time);
                    stopped = is_ahead.then_some(NotAnswered::AheadOfLog);
                    (!is_ahead).then(|| store.picture())
                }
                _ => {
                    stopped = answer_alone(&store, time, next, &mut replies);
                    None
                }
            }
        };
        if let Some(picture) = picture {
            replies.push(answer_from(&picture, next).await);
        }
        yield_now().await;
    }
    Ok(replies)
}

/// Answers the operations that have no replies yet, in order, until this much work is used up; returns why it
/// has stopped, if it has.
fn answer(
    store: &Store,
    time: Time,
    operations: &[Operation],
    replies: &mut Vec<Reply>,
    units: u64,
) -> Option<NotAnswered> {
    let mut work = Work::of(units);
    for operation in &operations[replies.len()..] {
        let looks_at_many = match operation {
            Operation::Scan { count, .. } => *count > SHORT_SCAN_KEYS,
            Operation::Keys { .. } => true,
            _ => false,
        };
        if looks_at_many {
            return Some(NotAnswered::TooMuch);
        }
        match store.answer(operation, time, &mut work).expect("a run of reads holds only reads") {
            Ok(reply) => replies.push(reply),
            Err(reason) => return Some(reason),
        }
    }
    None
}

/// Answers a read that is too much work for a piece: it gets as much as a command of its own has.
fn answer_alone(
    store: &Store,
    time: Time,
    operation: &Operation,
    replies: &mut Vec<Reply>,
) -> Option<NotAnswered> {
    let mut work = Work::of_command();
    match store.answer(operation, time, &mut work).expect("a run of reads holds only reads") {
        Ok(reply) => replies.push(reply),
        Err(NotAnswered::TooMuch) => replies.push(Reply::TooMuch),
        Err(NotAnswered::AheadOfLog) => return Some(NotAnswered::AheadOfLog),
    }
    None
}

/// Answers a read of many keys in as many pieces as it needs.
async fn answer_from(picture: &Picture, operation: &Operation) -> Reply {
    match operation {
        Operation::MGet { keys } => {
            let mut values = Vec::with_capacity(keys.len());
            for keys in keys.chunks(PIECE_KEYS) {
                values.extend(keys.iter().map(|key| picture.get(key).map_or(Reply::Nil, Reply::Bulk)));
                yield_now().await;
            }
            Reply::Array(values)
        }
        Operation::Exists { keys } => {
            let mut count = 0;
            for keys in keys.chunks(PIECE_KEYS) {
                count += keys.iter().filter(|key| picture.has(key)).count();
                yield_now().await;
            }
            Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX))
        }
        other => unreachable!("{other:?} is not read key by key"),
    }
}

/// Carries out operations that write, in order. `failed` makes the reply of an operation that the cluster has
/// not carried out.
pub(super) async fn write(
    client: &Client<Store>,
    operations: &[Operation],
    failed: impl Fn(ClientError) -> Reply,
) -> Vec<Reply> {
    let mut replies = Vec::new();
    let mut piece = operations.len();
    while replies.len() < operations.len() {
        let rest = &operations[replies.len()..];
        let mut answers = match propose(client, &rest[..piece.min(rest.len())]).await {
            Ok(answers) => answers,
            Err(ClientError::NoMemory) => {
                replies.append(&mut write_what_frees(client, rest, &failed).await);
                return replies;
            }
            Err(error) => {
                replies.resize(operations.len(), failed(error));
                return replies;
            }
        };
        piece = answers.len().saturating_mul(2);
        if answers.last() == Some(&Reply::TooMuch) {
            // An operation that is too much even as the first of its command keeps this answer; those behind
            // it are tried again in the next command.
            let carried_out = answers.iter().take_while(|answer| **answer != Reply::TooMuch).count();
            piece = carried_out.max(1);
            answers.truncate(piece);
        }
        replies.append(&mut answers);
    }
    replies
}

/// Carries out the operations that need no memory, each as a command of its own; the others fail.
async fn write_what_frees(
    client: &Client<Store>,
    operations: &[Operation],
    failed: &impl Fn(ClientError) -> Reply,
) -> Vec<Reply> {
    let mut replies = Vec::with_capacity(operations.len());
    for operation in operations {
        let answer = if operation.needs_memory() {
            Err(ClientError::NoMemory)
        } else {
            propose(client, std::slice::from_ref(operation)).await.map(|mut answers| answers.remove(0))
        };
        replies.push(answer.unwrap_or_else(failed));
    }
    replies
}

/// Carries out operations as one command of the log; returns a reply for each.
pub(super) async fn propose(
    client: &Client<Store>,
    operations: &[Operation],
) -> Result<Vec<Reply>, ClientError> {
    let applied = client.propose_known(Operation::command(operations)).await?;
    // A response that can't be read would be a bug. The operations were applied in any case.
    let replies = Reply::decode_all(applied.response).map_err(|_| ClientError::OutcomeUnknown)?;
    if replies.len() == operations.len() { Ok(replies) } else { Err(ClientError::OutcomeUnknown) }
}
