//! The side that is called.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::wire::{
    ANSWER_TOO_LARGE, ANSWERED, BUSY, NOT_SERVED, READY, REQUEST_TOO_LARGE, TIMED_OUT, UNANSWERED,
    read_bytes, write_byte, write_bytes,
};
use super::{CALL_TIMEOUT, Call, CallSender, Caller, MAX_ANSWER_BYTES, MAX_CALLS, MAX_REQUEST_BYTES};

/// Gives each call a place, as long as there are any.
#[derive(Debug)]
pub(crate) struct CallDesk {
    calls: Option<CallSender>,
    places: Arc<Semaphore>,
}

/// The place of a call that is served.
#[derive(Debug)]
pub(crate) struct Place {
    calls: CallSender,
    _permit: OwnedSemaphorePermit,
}

/// Why a call gets no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Declined(u8);

impl CallDesk {
    pub(crate) fn new(calls: Option<CallSender>) -> CallDesk {
        CallDesk { calls, places: Arc::new(Semaphore::new(MAX_CALLS)) }
    }

    pub(crate) fn enter(&self) -> Result<Place, Declined> {
        let calls = self.calls.clone().filter(|calls| !calls.0.is_closed()).ok_or(Declined(NOT_SERVED))?;
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Declined(BUSY))?;
        Ok(Place { calls, _permit: permit })
    }
}

impl Declined {
    /// Tells the caller.
    pub(crate) async fn tell(self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        write_byte(stream, self.0).await
    }
}

impl Place {
    /// Serves a call. The caller has `request_timeout` for sending its request.
    pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        caller: Caller,
        stream: &mut S,
        request_timeout: Duration,
    ) -> io::Result<()> {
        let deadline = Instant::now() + CALL_TIMEOUT;
        let asked = async {
            write_byte(stream, READY).await?;
            read_bytes(stream, MAX_REQUEST_BYTES).await
        };
        let Some(request) = timeout(request_timeout, asked).await?? else {
            return write_byte(stream, REQUEST_TOO_LARGE).await;
        };
        let (reply, replied) = oneshot::channel();
        if self.calls.0.try_send(Call { caller, request, reply }).is_err() {
            return write_byte(stream, UNANSWERED).await;
        }
        let mut surplus = [0];
        let answered = tokio::select! {
            answered = timeout_at(deadline, replied) => answered,
            // A caller sends nothing more; it has hung up, or does not follow the protocol.
            _ = stream.read(&mut surplus) => return Err(io::ErrorKind::ConnectionAborted.into()),
        };
        // A caller that does not read must not keep its place.
        timeout(request_timeout, async {
            match answered {
                Ok(Ok(answer)) if answer.len() > MAX_ANSWER_BYTES => {
                    tracing::warn!(answer_bytes = answer.len(), "the answer to a call is too long");
                    write_byte(stream, ANSWER_TOO_LARGE).await
                }
                Ok(Ok(answer)) => {
                    write_byte(stream, ANSWERED).await?;
                    write_bytes(stream, &answer).await
                }
                Ok(Err(_)) => write_byte(stream, UNANSWERED).await,
                Err(_) => write_byte(stream, TIMED_OUT).await,
            }
        })
        .await?
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::super::channel;
    use super::*;

    const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

    #[tokio::test(start_paused = true)]
    async fn a_call_that_nobody_answers_ends_in_time_and_leaves_its_place() {
        let (sender, mut receiver) = channel();
        let desk = CallDesk::new(Some(sender));
        let place = desk.enter().expect("nobody else calls");
        let (mut near, mut far) = duplex(1024);
        let serving =
            tokio::spawn(async move { place.serve(Caller::Operator, &mut near, REQUEST_TIMEOUT).await });
        assert_eq!(far.read_u8().await.expect("it is ready"), READY);
        write_bytes(&mut far, b"question").await.expect("it is read");
        let call = receiver.receive().await.expect("it is handed on");
        assert_eq!(
            (call.caller, &call.request[..], call.is_abandoned()),
            (Caller::Operator, &b"question"[..], false)
        );
        let started = Instant::now();
        assert_eq!(far.read_u8().await.expect("it is told"), TIMED_OUT);
        assert_eq!(started.elapsed().as_secs(), CALL_TIMEOUT.as_secs());
        serving.await.expect("it ends").expect("the caller has read everything");
        assert!(call.is_abandoned());
        assert_eq!(desk.places.available_permits(), MAX_CALLS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_sends_or_reads_slowly_loses_its_place() {
        let (sender, mut receiver) = channel();
        let desk = CallDesk::new(Some(sender));
        let place = desk.enter().expect("nobody else calls");
        let (mut near, mut far) = duplex(16);
        far.write_all(&[0, 0]).await.expect("there is room");
        let error = place.serve(Caller::Operator, &mut near, REQUEST_TIMEOUT).await;
        assert_eq!(error.expect_err("it sends half a length").kind(), io::ErrorKind::TimedOut);

        let (mut near, mut far) = duplex(16);
        write_bytes(&mut far, b"question").await.expect("there is room");
        let serve = place.serve(Caller::Operator, &mut near, REQUEST_TIMEOUT);
        let (served, ()) = tokio::join!(serve, async {
            receiver.receive().await.expect("it is handed on").answer(vec![0; 1000].into());
        });
        assert_eq!(served.expect_err("nobody reads the answer").kind(), io::ErrorKind::TimedOut);
    }
}
