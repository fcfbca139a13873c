//! The side that calls.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, timeout, timeout_at};

use super::error::{CallError, CallProblem, FailedAttempt};
use super::wire::{
    ANSWER_TOO_LARGE, ANSWERED, BUSY, NOT_SERVED, READY, TIMED_OUT, UNANSWERED, read_bytes, write_bytes,
};
use super::{CALL_TIMEOUT, MAX_ANSWER_BYTES, MAX_REQUEST_BYTES};
use crate::{Resolve, SystemResolver};

/// How long the look-up of a name may take, and then the attempt to connect to each of its addresses.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How many addresses of one name are tried.
const MAX_HOST_ADDRESSES: usize = 4;

/// Opens connections for calls; implemented by each networked backend.
pub(crate) trait CallDialer: Sync {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin;

    /// What must live as long as the stream.
    type Guard: Send;

    fn dial(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = Result<(Self::Stream, Self::Guard), CallProblem>> + Send;

    /// Why a stream has broken.
    fn explain(&self, error: &io::Error, address: SocketAddr) -> CallProblem;
}

/// Asks the nodes at these addresses in turn, until one has taken the request.
pub(crate) async fn call<D: CallDialer>(
    dialer: &D,
    addresses: &[String],
    request: &Bytes,
) -> Result<Bytes, CallError> {
    if request.len() > MAX_REQUEST_BYTES {
        return Err(CallError::RequestTooLarge { bytes: request.len() });
    }
    let deadline = Instant::now() + CALL_TIMEOUT;
    let mut attempts = Vec::new();
    for address in addresses {
        let failed = |problem| FailedAttempt { address: address.clone(), problem };
        let entered = timeout_at(deadline, enter(dialer, address)).await;
        let (mut stream, guard, at) = match entered.unwrap_or(Err(CallProblem::TimedOut)) {
            Ok(entered) => entered,
            Err(problem) => {
                attempts.push(failed(problem));
                continue;
            }
        };
        let asked = timeout_at(deadline, ask(&mut stream, request)).await;
        drop(guard);
        return match asked {
            Ok(Ok(answer)) => answer.map_err(|problem| CallError::NotAnswered { last: failed(problem) }),
            Ok(Err(error)) => Err(CallError::NotAnswered { last: failed(dialer.explain(&error, at)) }),
            Err(_) => Err(CallError::NotAnswered { last: failed(CallProblem::TimedOut) }),
        };
    }
    match attempts[..] {
        [] => Err(CallError::NoAddress),
        _ => Err(CallError::NotTaken { attempts }),
    }
}

/// Connects to a node that is ready for the request.
async fn enter<D: CallDialer>(
    dialer: &D,
    name: &str,
) -> Result<(D::Stream, D::Guard, SocketAddr), CallProblem> {
    let mut problem = CallProblem::NameUnknown { problem: String::from("it has no address") };
    for address in look_up(name).await?.into_iter().take(MAX_HOST_ADDRESSES) {
        let connected = timeout(CONNECT_TIMEOUT, async {
            let (mut stream, guard) = dialer.dial(address).await?;
            match stream.read_u8().await.map_err(|error| dialer.explain(&error, address))? {
                READY => Ok((stream, guard, address)),
                BUSY => Err(CallProblem::Busy),
                NOT_SERVED => Err(CallProblem::NotServed),
                _ => Err(CallProblem::OtherVersion),
            }
        });
        problem = match connected.await {
            Ok(Ok(entered)) => return Ok(entered),
            Ok(Err(problem)) => problem,
            Err(_) => CallProblem::NotConnected {
                problem: format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
            },
        };
    }
    Err(problem)
}

async fn look_up(name: &str) -> Result<Vec<SocketAddr>, CallProblem> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let unknown = |problem: String| CallProblem::NameUnknown { problem };
    match timeout(CONNECT_TIMEOUT, SystemResolver.resolve(name)).await {
        Ok(found) => found.map_err(|error| unknown(error.to_string())),
        Err(_) => Err(unknown(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))),
    }
}

/// Sends the request and reads the answer.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    request: &[u8],
) -> io::Result<Result<Bytes, CallProblem>> {
    write_bytes(stream, request).await?;
    Ok(match stream.read_u8().await? {
        ANSWERED => read_bytes(stream, MAX_ANSWER_BYTES).await?.ok_or(CallProblem::AnswerTooLarge),
        UNANSWERED => Err(CallProblem::Dropped),
        TIMED_OUT => Err(CallProblem::TimedOut),
        ANSWER_TOO_LARGE => Err(CallProblem::AnswerTooLarge),
        _ => Err(CallProblem::OtherVersion),
    })
}
