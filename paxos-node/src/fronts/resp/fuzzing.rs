//! What the fuzz target calls.

use bytes::{Bytes, BytesMut};
use paxos_core::{Slot, Time};

use super::RespSettings;
use super::commands::{self, Action, Meaning};
use super::local::ClientInfo;
use super::parse::{Parsed, Parser, ProtocolError, Request};
use super::words::{CUT_NAME_BYTES, lower_case};
use super::write::{Protocol, Writer};
use crate::kv::{Operation, Reply, Store};
use crate::state_machine::{Applying, StateMachine};

/// How many requests of one stream are carried out: more would take longer and find nothing new.
const MAX_REQUESTS: usize = 64;

/// Takes the bytes for what a client sends. The requests in them are the same however the stream is cut, and
/// each becomes an operation that the log can hold, or is answered.
///
/// # Panics
///
/// If not.
pub fn resp(bytes: &[u8]) {
    let settings = RespSettings { max_value_bytes: 4096, max_arguments: 100, ..RespSettings::default() };
    let whole = requests(bytes, bytes.len().max(1), settings);
    let piece = usize::from(bytes.first().copied().unwrap_or(0)) % 7 + 1;
    assert_eq!(whole, requests(bytes, piece, settings), "how it is cut makes no difference");
    let (mut store, mut client, mut output) = (Store::default(), ClientInfo::new(1), BytesMut::new());
    for request in whole.0.iter().filter(|request| !request.is_empty()).take(MAX_REQUESTS) {
        let (name, arguments) = (&request[0], &request[1..]);
        let Some(command) = commands::find(lower_case(name, &mut [0; CUT_NAME_BYTES])) else { continue };
        if command.check_arity(arguments).is_err() {
            continue;
        }
        match command.action {
            Action::Store(to_operation) => {
                if let Meaning::Operation(operation) = commands::meaning(to_operation, arguments, &settings) {
                    let response =
                        store.apply(Applying::new(Slot(1), Time::NONE), &Operation::command(&[operation]));
                    let replies = Reply::decode_all(response).expect("a response can be read");
                    assert_eq!(replies.len(), 1, "one operation has one reply");
                    assert_ne!(replies[0], Reply::error("ERR malformed command in the log"));
                }
            }
            Action::Local(answer) => {
                let mut out = Writer { buffer: &mut output, protocol: Protocol::Resp2 };
                answer(&mut client, arguments, &mut out);
                assert!(output.ends_with(b"\r\n"), "there is an answer, and it is whole");
                output.clear();
            }
            _ => {}
        }
    }
}

/// All requests of a stream that arrives in pieces of this many bytes, and the error that ended it.
fn requests(bytes: &[u8], piece: usize, settings: RespSettings) -> (Vec<Request>, Option<ProtocolError>) {
    let (mut parser, mut buffer, mut requests) = (Parser::new(settings), BytesMut::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match parser.next(&mut buffer) {
                Ok(Some(Parsed::Excess(excess))) => requests.push(vec![Bytes::from(format!("{excess:?}"))]),
                Ok(Some(Parsed::Request(request))) => {
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
