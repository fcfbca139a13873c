//! What the fuzz target calls.

use bytes::{Bytes, BytesMut};
use paxos_core::Slot;

use super::Options;
use super::command::{self, Meaning};
use super::parse::{Parser, ProtocolError, Request};
use super::session::{self, Session};
use super::write::{Protocol, Writer};
use crate::kv::{Operation, Reply, Store};
use crate::state_machine::StateMachine;
use crate::status::Status;

/// How many requests of one stream are carried out: more take longer and show nothing new.
const MAX_REQUESTS: usize = 64;

/// What a client sends. The requests in it are the same however it is cut; each becomes operations that the log can
/// hold, or an answer.
///
/// # Panics
///
/// If not.
pub fn resp(bytes: &[u8]) {
    let options = Options { max_value_bytes: 4096, max_arguments: 100, ..Options::default() };
    let whole = requests(bytes, bytes.len().max(1), options);
    let piece = usize::from(bytes.first().copied().unwrap_or(0)) % 7 + 1;
    assert_eq!(whole, requests(bytes, piece, options), "how it is cut makes no difference");
    let (mut store, mut session, mut output) = (Store::default(), Session::new(1), BytesMut::new());
    for request in whole.0.iter().filter(|request| !request.is_empty()).take(MAX_REQUESTS) {
        let mut lower = [0; command::CUT_NAME_BYTES];
        let name = command::lower_case(&request[0], &mut lower);
        match command::operation(name, request, &options) {
            Meaning::Operation(operation) => {
                let response = store.apply(Slot(1), &Operation::command(&[operation]));
                let replies = Reply::decode_all(response).expect("a response can be read");
                assert_eq!(replies.len(), 1, "one operation has one reply");
                assert_ne!(replies[0], Reply::error("ERR malformed command in the log"));
            }
            Meaning::Error(_) | Meaning::WrongArity => {}
            Meaning::Unknown => {
                if session::check(name, &request[1..]).is_ok() {
                    let mut out = Writer { buffer: &mut output, protocol: Protocol::Resp2 };
                    let _ = session.answer(name, &request[1..], &Status::default(), &mut out);
                    assert!(output.ends_with(b"\r\n"), "there is an answer, and it is whole");
                    output.clear();
                }
            }
        }
    }
}

/// All requests of a stream that arrives in pieces of so many bytes, and what ended it.
fn requests(bytes: &[u8], piece: usize, options: Options) -> (Vec<Request>, Option<ProtocolError>) {
    let (mut parser, mut buffer, mut requests) = (Parser::new(options), BytesMut::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match parser.next(&mut buffer) {
                Ok(Some(request)) => {
                    let words = request.iter().map(|word| Bytes::copy_from_slice(word));
                    requests.push(words.collect());
                }
                Ok(None) => break,
                Err(error) => return (requests, Some(error)),
            }
        }
    }
    (requests, None)
}
