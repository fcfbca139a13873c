//! Requests out of a stream of bytes.
//!
//! The parser of the `redis-protocol` crate takes a request apart; before it sees one, its lengths are checked
//! against the limits, so that nothing is buffered for a request that would be refused anyway.

use bytes::{Buf, Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;

use super::Options;
use super::command::is;

/// The longest inline request, and the longest line that announces a length.
const MAX_LINE_BYTES: usize = 64 << 10;

/// A request: the name of a command and its arguments.
pub(super) type Request = Vec<Bytes>;

/// Takes requests from the front of a buffer.
#[derive(Debug)]
pub(super) struct Parser {
    limits: Options,
    /// How far the request at the front has been measured already.
    measured: Measured,
}

/// Progress in measuring a request of which not all has come.
#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    at: usize,
    arguments_left: Option<usize>,
}

/// The client does not speak the protocol, or asks for too much; the connection ends after this line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ProtocolError(pub(super) String);

impl Parser {
    pub(super) fn new(limits: Options) -> Parser {
        Parser { limits, measured: Measured::default() }
    }

    /// The request at the front of the buffer, if all of it has come. An empty one means nothing.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Request>, ProtocolError> {
        match buffer.first() {
            None => Ok(None),
            Some(b'*') => {
                if !self.measure(buffer)? {
                    return Ok(None);
                }
                self.measured = Measured::default();
                let decoded = decode_bytes_mut(buffer);
                let frame = decoded.map_err(|error| ProtocolError(format!("ERR Protocol error: {error}")))?;
                Ok(frame.map(|(frame, _, _)| arguments(frame)).transpose()?)
            }
            Some(_) => inline(buffer),
        }
    }

    /// Checks the lengths in a request as far as it has come; `true` if all has.
    fn measure(&mut self, buffer: &[u8]) -> Result<bool, ProtocolError> {
        let Measured { mut at, arguments_left } = self.measured;
        let mut left = match arguments_left {
            Some(left) => left,
            None => match number(buffer, at, b'*')? {
                None => return Ok(false),
                Some((count, end)) => {
                    let count = usize::try_from(count).unwrap_or(0);
                    if count > self.limits.max_arguments {
                        return Err(protocol_error("invalid multibulk length"));
                    }
                    at = end;
                    count
                }
            },
        };
        while left > 0 {
            self.measured = Measured { at, arguments_left: Some(left) };
            let Some((length, end)) = number(buffer, at, b'$')? else { return Ok(false) };
            let length = usize::try_from(length).map_err(|_| protocol_error("invalid bulk length"))?;
            if length > self.limits.max_argument_bytes() {
                return Err(protocol_error("invalid bulk length"));
            }
            at = end + length + 2;
            if at > self.limits.max_request_bytes() {
                return Err(protocol_error("too big request"));
            }
            if at > buffer.len() {
                return Ok(false);
            }
            left -= 1;
        }
        Ok(true)
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

fn arguments(frame: BytesFrame) -> Result<Request, ProtocolError> {
    let BytesFrame::Array(frames) = frame else { return Ok(Vec::new()) };
    let bulk = |frame| match frame {
        BytesFrame::BulkString(bytes) => Ok(bytes),
        _ => Err(protocol_error("expected a bulk string")),
    };
    frames.into_iter().map(bulk).collect()
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

    fn all(bytes: &[u8]) -> Result<Vec<Vec<Bytes>>, ProtocolError> {
        let mut parser = Parser::new(Options { max_arguments: 10, ..Options::default() });
        let mut buffer = BytesMut::new();
        let mut requests = Vec::new();
        // Byte by byte, as a slow network might bring them.
        for byte in bytes {
            buffer.extend_from_slice(&[*byte]);
            while let Some(request) = parser.next(&mut buffer)? {
                requests.push(request);
            }
        }
        Ok(requests)
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
            (b"*1000000000000000000000000000000000000000", "too long a length"),
            (b"POST / HTTP/1.1\r\n", "no HTTP server"),
            (b"GET / HTTP/1.1\r\nhost: x\r\n", "no HTTP server"),
        ] {
            let error = all(bytes).expect_err("it must be refused");
            assert!(error.0.contains(problem), "{}: {}", bytes.escape_ascii(), error.0);
        }
    }

    proptest! {
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
