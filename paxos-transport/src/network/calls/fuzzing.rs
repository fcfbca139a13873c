//! What the fuzz target calls, and a test that replays what was found. No part of the interface.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wire::{ANSWERED, READY, REQUEST_TOO_LARGE};
use super::{CallDesk, CallDialer, CallProblem, Caller, MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, call, channel};

/// What one side of a call sends, whatever the other one says. Is the first byte even, the rest is what a
/// caller sends to a node, else what a node sends to a caller. Each side must take from it what the protocol
/// says, and nothing else.
///
/// # Panics
///
/// If it does not.
pub fn calls(bytes: &[u8]) {
    let Some((side, sent)) = bytes.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime of one thread needs only memory");
    if side % 2 == 0 { runtime.block_on(caller_sends(sent)) } else { runtime.block_on(node_sends(sent)) }
}

/// The node answers each request with its own bytes.
async fn caller_sends(sent: &[u8]) {
    let (sender, mut receiver) = channel();
    let desk = CallDesk::new(Some(sender));
    let place = desk.enter().expect("nobody else calls");
    drop(desk);
    // Nothing more comes, and the caller stays.
    let mut stream = Script { rest: sent, hangs_up: false, written: Vec::new() };
    let serve = async {
        let served = place.serve(Caller::Operator, &mut stream, Duration::ZERO).await;
        drop(place);
        served
    };
    let answer = async {
        let call = receiver.receive().await?;
        let request = call.request.clone();
        call.answer(request.clone());
        Some(request)
    };
    let (served, request) = tokio::join!(serve, answer);
    let expected = match framed(sent, MAX_REQUEST_BYTES) {
        Framed::Whole { body, surplus } => {
            assert_eq!(request.as_deref(), Some(body), "the request is handed on as it was sent");
            assert_eq!(served.is_ok(), surplus.is_empty(), "a caller says nothing behind its request");
            let answered = [&[READY, ANSWERED][..], &sent[..4], body].concat();
            if surplus.is_empty() { answered } else { vec![READY] }
        }
        Framed::TooLong => vec![READY, REQUEST_TOO_LARGE],
        Framed::Cut => {
            assert_eq!(served.expect_err("the rest never comes").kind(), io::ErrorKind::TimedOut);
            vec![READY]
        }
    };
    assert!(stream.written == expected, "{:?} in place of {expected:?}", stream.written);
}

async fn node_sends(sent: &[u8]) {
    const QUESTION: &[u8] = b"question";
    let dialer = Dialer { sent };
    let addresses = [String::from("127.0.0.1:1")];
    let answer = call(&dialer, &addresses, &Bytes::from_static(QUESTION)).await;
    let expected = match sent {
        [READY, ANSWERED, rest @ ..] => match framed(rest, MAX_ANSWER_BYTES) {
            Framed::Whole { body, .. } => Some(body),
            Framed::TooLong | Framed::Cut => None,
        },
        _ => None,
    };
    assert_eq!(answer.as_deref().ok(), expected);
    if let Err(error) = answer {
        assert!(error.to_string().contains("127.0.0.1:1"), "it says who has not answered: {error}");
    }
}

/// Bytes behind their length.
enum Framed<'a> {
    Whole { body: &'a [u8], surplus: &'a [u8] },
    TooLong,
    Cut,
}

fn framed(sent: &[u8], limit: usize) -> Framed<'_> {
    let Some((length, rest)) = sent.split_first_chunk() else { return Framed::Cut };
    let length = u32::from_be_bytes(*length) as usize;
    if length > limit {
        return Framed::TooLong;
    }
    rest.split_at_checked(length).map_or(Framed::Cut, |(body, surplus)| Framed::Whole { body, surplus })
}

/// Connects to a node that sends these bytes and hangs up.
struct Dialer<'a> {
    sent: &'a [u8],
}

impl<'a> CallDialer for Dialer<'a> {
    type Stream = Script<'a>;
    type Guard = ();

    async fn dial(&self, _: SocketAddr) -> Result<(Script<'a>, ()), CallProblem> {
        Ok((Script { rest: self.sent, hangs_up: true, written: Vec::new() }, ()))
    }

    fn explain(&self, error: &io::Error, _: SocketAddr) -> CallProblem {
        CallProblem::NotConnected { problem: error.to_string() }
    }
}

/// The stream of a peer that does not care what it is told.
struct Script<'a> {
    rest: &'a [u8],
    /// Whether it hangs up when all is said.
    hangs_up: bool,
    /// What it was told.
    written: Vec<u8>,
}

impl AsyncRead for Script<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() && !self.hangs_up {
            return Poll::Pending; // Nothing will ever come: a time-out ends this.
        }
        let (piece, rest) = self.rest.split_at(self.rest.len().min(buffer.remaining()));
        buffer.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn calls_that_were_found_are_harmless() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/calls");
        paxos_core::fuzzing::replay(&corpus, 200, calls);
    }
}
