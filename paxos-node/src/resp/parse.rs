//! Requests out of a stream of bytes.
//!
//! Lengths are checked against the limits as they come, so that nothing is buffered for a request that would be
//! refused anyway. Once all are known, so is the place of each argument; to have the `redis-protocol` crate find them
//! again took as long as all of this twice, and GETs were a twentieth slower. It reads the replies in `paxos-node
//! bench`, and in the tests it writes what is parsed here.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use super::Options;
use super::command::is;

/// The longest inline request.
const MAX_LINE_BYTES: usize = 64 << 10;
const LINE_END: &[u8] = b"\r\n";
/// For so many arguments a parser keeps memory from one request to the next.
const KEPT_PLACES: usize = 64;

/// A request: the name of a command and its arguments.
pub(super) type Request = Vec<Bytes>;

/// Takes requests from the front of a buffer.
#[derive(Debug)]
pub(super) struct Parser {
    limits: Options,
    /// How much of the request at the front has been looked at.
    at: usize,
    /// How many arguments it has; `None` before its first line has come.
    arguments: Option<usize>,
    /// Where those are that have come.
    places: Vec<Range<usize>>,
}

/// The client does not speak the protocol, or asks for too much; the connection ends after this line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ProtocolError(pub(super) String);

impl Parser {
    pub(super) fn new(limits: Options) -> Parser {
        Parser { limits, at: 0, arguments: None, places: Vec::new() }
    }

    /// The request at the front of the buffer, if all of it has come. An empty one means nothing.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Request>, ProtocolError> {
        match buffer.first() {
            None => Ok(None),
            Some(b'*') => Ok(self.has_come(buffer)?.then(|| self.cut_off(buffer))),
            Some(_) => inline(buffer),
        }
    }

    /// Looks at what has come of the request at the front; `true` if that is all.
    fn has_come(&mut self, buffer: &[u8]) -> Result<bool, ProtocolError> {
        let arguments = match self.arguments {
            Some(arguments) => arguments,
            None => match number(buffer, 0, b'*')? {
                None => return Ok(false),
                Some((count, end)) => {
                    let count = usize::try_from(count).unwrap_or(0);
                    if count > self.limits.max_arguments {
                        return Err(protocol_error("invalid multibulk length"));
                    }
                    self.at = end;
                    *self.arguments.insert(count)
                }
            },
        };
        while self.places.len() < arguments {
            let Some((length, start)) = number(buffer, self.at, b'$')? else { return Ok(false) };
            let length = usize::try_from(length).map_err(|_| protocol_error("invalid bulk length"))?;
            if length > self.limits.max_argument_bytes() {
                return Err(protocol_error("invalid bulk length"));
            }
            let end = start + length;
            let next = end + LINE_END.len();
            if next > self.limits.max_request_bytes() {
                return Err(protocol_error("too big request"));
            }
            match buffer.get(end..next) {
                None => return Ok(false),
                Some(line_end) if line_end != LINE_END => {
                    return Err(protocol_error("a bulk string is longer than its length"));
                }
                Some(_) => {}
            }
            self.places.push(start..end);
            self.at = next;
        }
        Ok(true)
    }

    /// Takes the request from the front of the buffer, all of which has come.
    fn cut_off(&mut self, buffer: &mut BytesMut) -> Request {
        let whole = buffer.split_to(self.at).freeze();
        let request = self.places.drain(..).map(|place| whole.slice(place)).collect();
        self.places.shrink_to(KEPT_PLACES);
        self.arguments = None;
        request
    }
}

/// The number in the line at `at`, which must begin with `kind`, and where the line ends; `None` if not all of it
/// has come.
fn number(buffer: &[u8], at: usize, kind: u8) -> Result<Option<(i64, usize)>, ProtocolError> {
    let rest = &buffer[at.min(buffer.len())..];
    match rest.first() {
        None => return Ok(None),
        Some(first) if *first != kind => {
            let (expected, found) = (char::from(kind), first.escape_ascii());
            return Err(ProtocolError(format!("ERR Protocol error: expected '{expected}', got '{found}'")));
        }
        Some(_) => {}
    }
    let Some(length) = rest.iter().take(32).position(|byte| *byte == b'\r') else {
        return if rest.len() < 32 { Ok(None) } else { Err(protocol_error("too long a length")) };
    };
    if rest.len() < length + 2 {
        return Ok(None);
    }
    let text = std::str::from_utf8(&rest[1..length]).ok();
    let number = text.and_then(|text| text.parse().ok()).filter(|_| rest[length + 1] == b'\n');
    match number {
        Some(number) => Ok(Some((number, at + length + 2))),
        None if kind == b'*' => Err(protocol_error("invalid multibulk length")),
        None => Err(protocol_error("invalid bulk length")),
    }
}

/// A request as a person types it: words in a line.
fn inline(buffer: &mut BytesMut) -> Result<Option<Request>, ProtocolError> {
    let Some(end) = buffer.iter().take(MAX_LINE_BYTES).position(|byte| *byte == b'\n') else {
        return if buffer.len() < MAX_LINE_BYTES {
            Ok(None)
        } else {
            Err(protocol_error("too big inline request"))
        };
    };
    let line = buffer.split_to(end).freeze();
    buffer.advance(1);
    let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let request: Request = words.map(|word| line.slice_ref(word)).collect();
    // A web page can have a browser send this here, and commands as its body. They must not be carried out.
    if request.first().is_some_and(|word| ["post", "host:"].iter().any(|http| is(word, http))) {
        return Err(protocol_error("this is no HTTP server"));
    }
    Ok(Some(request))
}

fn protocol_error(problem: &str) -> ProtocolError {
    ProtocolError(format!("ERR Protocol error: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use redis_protocol::resp2::encode::extend_encode;
    use redis_protocol::resp2::types::BytesFrame;

    /// The requests in `bytes`, which come in pieces as a slow network might bring them.
    fn all_of(bytes: &[u8], piece_bytes: usize) -> Result<Vec<Vec<Bytes>>, ProtocolError> {
        let mut parser = Parser::new(Options { max_arguments: 10, ..Options::default() });
        let mut buffer = BytesMut::new();
        let mut requests = Vec::new();
        for piece in bytes.chunks(piece_bytes) {
            buffer.extend_from_slice(piece);
            while let Some(request) = parser.next(&mut buffer)? {
                requests.push(request);
            }
        }
        Ok(requests)
    }

    fn all(bytes: &[u8]) -> Result<Vec<Vec<Bytes>>, ProtocolError> {
        all_of(bytes, 1)
    }

    fn words(words: &[&str]) -> Vec<Bytes> {
        words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    #[test]
    fn requests_come_out_however_they_are_cut() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING  hello\r\n\r\n*1\r\n$4\r\nPING\r\n*0\r\n";
        let expected = [words(&["GET", "k"]), words(&["PING", "hello"]), vec![], words(&["PING"]), vec![]];
        assert_eq!(all(bytes), Ok(expected.to_vec()));
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_has_come() {
        for (bytes, problem) in [
            (&b"*11\r\n"[..], "invalid multibulk length"),
            (b"*x\r\n", "invalid multibulk length"),
            (b"*1\r\n$99999999\r\n", "invalid bulk length"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n:1\r\n", "expected '$', got ':'"),
            (b"*1\r\n$1\r\nabc\r\n", "longer than its length"),
            (b"*1000000000000000000000000000000000000000", "too long a length"),
            (b"POST / HTTP/1.1\r\n", "no HTTP server"),
            (b"GET / HTTP/1.1\r\nhost: x\r\n", "no HTTP server"),
        ] {
            let error = all(bytes).expect_err("it must be refused");
            assert!(error.0.contains(problem), "{}: {}", bytes.escape_ascii(), error.0);
        }
    }

    #[test]
    fn an_argument_and_a_request_may_have_just_the_length_that_is_allowed() {
        let limits = Options { max_value_bytes: 0, max_key_bytes: 0, ..Options::default() };
        let (argument_bytes, request_bytes) = (limits.max_argument_bytes(), limits.max_request_bytes());
        let three = format!("${argument_bytes}\r\n{}\r\n", "x".repeat(argument_bytes)).repeat(3);
        let before = format!("*4\r\n{three}");
        let fits = request_bytes - before.len() - "$12345\r\n".len() - LINE_END.len();
        let refusal = |bytes: String| Parser::new(limits).next(&mut BytesMut::from(bytes.as_bytes())).err();
        assert_eq!(refusal(format!("*1\r\n${argument_bytes}\r\n")), None);
        let longer = refusal(format!("*1\r\n${}\r\n", argument_bytes + 1));
        assert_eq!(longer, Some(protocol_error("invalid bulk length")));
        assert_eq!(refusal(format!("{before}${fits}\r\n")), None);
        assert_eq!(refusal(format!("{before}${}\r\n", fits + 1)), Some(protocol_error("too big request")));
    }

    proptest! {
        #[test]
        fn any_bytes_may_be_arguments(
            requests in prop::collection::vec(prop::collection::vec(any::<Vec<u8>>(), 0..=10), 0..5),
            piece_bytes in 1..300usize,
        ) {
            let mut bytes = BytesMut::new();
            for request in &requests {
                let arguments = request.iter().map(|argument| BytesFrame::BulkString(argument.clone().into()));
                extend_encode(&mut bytes, &BytesFrame::Array(arguments.collect()), false).expect("it is a frame");
            }
            prop_assert_eq!(all_of(&bytes, piece_bytes).expect("they are well-formed"), requests);
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>, cut in 0..40usize) {
            let _ = all(&bytes);
            let mut request = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n".to_vec();
            let at = cut.min(request.len() - 1);
            request[at] = bytes.first().copied().unwrap_or(0);
            let _ = all(&request);
        }
    }
}
