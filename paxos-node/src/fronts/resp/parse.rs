//! Cuts a stream of bytes into requests.
//!
//! Lengths are checked against the limits as they arrive, so that nothing is buffered for a request that is
//! refused anyway. Such a request is read and dropped up to its end, within a limit of its own, and the
//! connection goes on behind it.
//!
//! Checking the lengths also finds the place of each argument. Having the `redis-protocol` crate find them
//! again took twice as long as all of this, and made GETs a twentieth slower. In the tests that crate writes
//! what is parsed here.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use super::RespSettings;
use super::inline;
use super::words::{CUT_NAME_BYTES, is, lower_case};

/// The most arguments and the most bytes that a request may announce: as many as Redis takes. A request with
/// more ends the connection. One with fewer than these but more than the settings allow is read and dropped.
const MAX_ANNOUNCED_ARGUMENTS: usize = 1 << 20;
const MAX_ANNOUNCED_BYTES: usize = 512 << 20;
/// The longest inline request.
const MAX_LINE_BYTES: usize = 64 << 10;
const LINE_END: &[u8] = b"\r\n";
/// For how many arguments a parser keeps memory from one request to the next.
const KEPT_PLACES: usize = 64;

/// A request: the name of a command and its arguments.
pub(super) type Request = Vec<Bytes>;

/// Takes requests from the front of a buffer.
#[derive(Debug)]
pub(super) struct Parser {
    limits: Limits,
    /// How much of the request at the front was parsed.
    at: usize,
    /// How many arguments it has; `None` before its first line has arrived.
    arguments: Option<usize>,
    /// Where the arguments are that have arrived.
    places: Vec<Range<usize>>,
    /// Set while a request with too much of something is read and dropped.
    dropping: Option<Dropping>,
}

/// What a request may have.
#[derive(Clone, Copy, Debug)]
struct Limits {
    arguments: usize,
    argument_bytes: usize,
    request_bytes: usize,
}

impl Limits {
    /// Before a client has logged in: enough for a long greeting.
    const BEFORE_LOGIN: Limits = Limits { arguments: 16, argument_bytes: 4 << 10, request_bytes: 8 << 10 };

    fn of(settings: RespSettings) -> Limits {
        Limits {
            arguments: settings.max_arguments,
            argument_bytes: settings.max_argument_bytes(),
            request_bytes: settings.max_request_bytes(),
        }
    }
}

/// What comes out of the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Parsed {
    Request(Request),
    /// A request that is not carried out and was dropped from the stream.
    Excess(Excess),
}

/// What a request has too much of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Excess {
    /// Arguments.
    Arguments,
    /// Bytes, in all.
    Bytes,
    /// Bytes in one argument.
    Argument {
        /// The command in lower case, cut at [`CUT_NAME_BYTES`]; empty if that itself is too long.
        name: Bytes,
        /// Which one: the command is 0.
        place: usize,
    },
}

/// The part that has not arrived yet of a request that is dropped.
#[derive(Debug)]
struct Dropping {
    excess: Excess,
    /// Of the current argument, with its line end.
    bytes: usize,
    /// Behind the current one.
    arguments: usize,
    /// How many bytes the arguments behind the current one may have together.
    allowance_bytes: usize,
}

/// The client does not speak the protocol, or announces too much; the connection ends after this line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ProtocolError(pub(super) String);

impl Parser {
    pub(super) fn new(settings: RespSettings) -> Parser {
        Parser { limits: Limits::of(settings), at: 0, arguments: None, places: Vec::new(), dropping: None }
    }

    /// Changes what requests may have from the next one on.
    pub(super) fn set_limits(&mut self, settings: RespSettings, is_before_login: bool) {
        self.limits = if is_before_login { Limits::BEFORE_LOGIN } else { Limits::of(settings) };
    }

    /// How much memory it takes beside the buffer.
    pub(super) fn size_bytes(&self) -> usize {
        self.places.capacity() * size_of::<Range<usize>>()
    }

    /// The request at the front of the buffer, if all of it has arrived. An empty one is to be ignored.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Parsed>, ProtocolError> {
        if self.dropping.is_none() {
            match buffer.first().copied() {
                None => return Ok(None),
                Some(b'*') if self.has_arrived(buffer)? => {
                    return Ok(Some(Parsed::Request(self.cut_off(buffer))));
                }
                Some(b'*') => {}
                Some(_) => return Ok(inline(buffer)?.map(Parsed::Request)),
            }
        }
        Ok(self.drop_rest(buffer)?.map(Parsed::Excess))
    }

    /// Parses what has arrived of the request at the front; `true` if that is all of it.
    fn has_arrived(&mut self, buffer: &mut BytesMut) -> Result<bool, ProtocolError> {
        let arguments = match self.arguments {
            Some(arguments) => arguments,
            None => match number(buffer, 0, b'*')? {
                None => return Ok(false),
                Some((count, end)) => {
                    let count = usize::try_from(count).unwrap_or(0);
                    self.at = end;
                    if count > self.limits.arguments {
                        if count > MAX_ANNOUNCED_ARGUMENTS {
                            return Err(protocol_error("invalid multibulk length"));
                        }
                        self.begin_dropping(Excess::Arguments, 0, count, buffer);
                        return Ok(false);
                    }
                    *self.arguments.insert(count)
                }
            },
        };
        while self.places.len() < arguments {
            let Some((length, start)) = bulk_length(buffer, self.at)? else { return Ok(false) };
            let end = start + length;
            let next = end + LINE_END.len();
            let excess = if length > self.limits.argument_bytes {
                Some(Excess::Argument { name: self.name(buffer), place: self.places.len() })
            } else if next > self.limits.request_bytes {
                Some(Excess::Bytes)
            } else {
                None
            };
            if let Some(excess) = excess {
                self.at = start;
                let behind = arguments - self.places.len() - 1;
                self.begin_dropping(excess, length + LINE_END.len(), behind, buffer);
                return Ok(false);
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

    /// The command's name in the current request; empty if it has not arrived.
    fn name(&self, buffer: &[u8]) -> Bytes {
        let word = self.places.first().map_or(&[][..], |place| &buffer[place.clone()]);
        Bytes::copy_from_slice(lower_case(word, &mut [0; CUT_NAME_BYTES]))
    }

    /// Drops what has arrived of a request. `bytes` of the current argument and then `arguments` more are
    /// still to arrive.
    fn begin_dropping(&mut self, excess: Excess, bytes: usize, arguments: usize, buffer: &mut BytesMut) {
        buffer.advance(self.at);
        self.at = 0;
        self.arguments = None;
        self.places = Vec::new();
        let allowance_bytes = MAX_ANNOUNCED_BYTES.saturating_sub(bytes);
        self.dropping = Some(Dropping { excess, bytes, arguments, allowance_bytes });
    }

    /// Drops what has arrived of a request that is not carried out; when that is all, returns why it is not.
    fn drop_rest(&mut self, buffer: &mut BytesMut) -> Result<Option<Excess>, ProtocolError> {
        let Some(request) = &mut self.dropping else { return Ok(None) };
        loop {
            let come = request.bytes.min(buffer.len());
            buffer.advance(come);
            request.bytes -= come;
            if request.bytes > 0 {
                return Ok(None);
            }
            if request.arguments == 0 {
                return Ok(self.dropping.take().map(|request| request.excess));
            }
            let Some((length, start)) = bulk_length(buffer, 0)? else { return Ok(None) };
            buffer.advance(start);
            request.arguments -= 1;
            request.bytes = length + LINE_END.len();
            let allowance = request.allowance_bytes.checked_sub(request.bytes);
            request.allowance_bytes = allowance.ok_or_else(|| protocol_error("too big request"))?;
        }
    }

    /// Takes the request, all of which has arrived, from the front of the buffer.
    fn cut_off(&mut self, buffer: &mut BytesMut) -> Request {
        let whole = buffer.split_to(self.at).freeze();
        let request = self.places.drain(..).map(|place| whole.slice(place)).collect();
        self.places.shrink_to(KEPT_PLACES);
        self.arguments = None;
        request
    }
}

/// How many bytes the argument at `at` has, and where they begin; `None` if its first line has not arrived.
fn bulk_length(buffer: &[u8], at: usize) -> Result<Option<(usize, usize)>, ProtocolError> {
    let Some((length, start)) = number(buffer, at, b'$')? else { return Ok(None) };
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_ANNOUNCED_BYTES);
    length.map(|length| Some((length, start))).ok_or_else(|| protocol_error("invalid bulk length"))
}

/// The number in the line at `at`, which must begin with `kind`, and where the line ends; `None` if not all
/// of it has arrived.
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
    let Some(end) = memchr::memchr(b'\n', &buffer[..buffer.len().min(MAX_LINE_BYTES)]) else {
        return if buffer.len() < MAX_LINE_BYTES {
            Ok(None)
        } else {
            Err(protocol_error("too big inline request"))
        };
    };
    let line = buffer.split_to(end);
    buffer.advance(1);
    let request = inline::words(&line).map_err(|_| protocol_error("unbalanced quotes in request"))?;
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

    /// The requests in `bytes`, which come in pieces as a slow network might bring them. One that has too
    /// much of something is a word that tells so.
    fn all_of(bytes: &[u8], piece_bytes: usize) -> Result<Vec<Vec<Bytes>>, ProtocolError> {
        all_by(
            &mut Parser::new(RespSettings { max_arguments: 10, ..RespSettings::default() }),
            bytes,
            piece_bytes,
        )
    }

    fn all_by(
        parser: &mut Parser,
        bytes: &[u8],
        piece_bytes: usize,
    ) -> Result<Vec<Vec<Bytes>>, ProtocolError> {
        let mut buffer = BytesMut::new();
        let mut requests = Vec::new();
        for piece in bytes.chunks(piece_bytes) {
            buffer.extend_from_slice(piece);
            while let Some(parsed) = parser.next(&mut buffer)? {
                requests.push(match parsed {
                    Parsed::Request(request) => request,
                    Parsed::Excess(excess) => words(&[&format!("{excess:?}")]),
                });
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
            (&b"*1048577\r\n"[..], "invalid multibulk length"),
            (b"*x\r\n", "invalid multibulk length"),
            (b"*1\r\n$536870913\r\n", "invalid bulk length"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n:1\r\n", "expected '$', got ':'"),
            (b"*1\r\n$1\r\nabc\r\n", "longer than its length"),
            (b"*1000000000000000000000000000000000000000", "too long a length"),
            (b"SET k \"v\r\n", "unbalanced quotes in request"),
            (b"POST / HTTP/1.1\r\n", "no HTTP server"),
            (b"GET / HTTP/1.1\r\nhost: x\r\n", "no HTTP server"),
        ] {
            let error = all(bytes).expect_err("it must be refused");
            assert!(error.0.contains(problem), "{}: {}", bytes.escape_ascii(), error.0);
        }
    }

    #[test]
    fn what_is_dropped_is_bounded_too() {
        let long = "x".repeat(2 << 20);
        let stream = format!("*3\r\n${}\r\n{long}\r\n${MAX_ANNOUNCED_BYTES}\r\n", long.len());
        assert_eq!(all_of(stream.as_bytes(), 100_000), Err(protocol_error("too big request")));
    }

    #[test]
    fn an_argument_and_a_request_may_have_just_the_length_that_is_allowed() {
        let limits = RespSettings { max_value_bytes: 0, max_key_bytes: 0, ..RespSettings::default() };
        let (argument_bytes, request_bytes) = (limits.max_argument_bytes(), limits.max_request_bytes());
        let three = format!("${argument_bytes}\r\n{}\r\n", "x".repeat(argument_bytes)).repeat(3);
        let before = format!("*4\r\n{three}");
        let fits = request_bytes - before.len() - "$12345\r\n".len() - LINE_END.len();
        let dropped = |bytes: String| {
            let mut parser = Parser::new(limits);
            assert_eq!(parser.next(&mut BytesMut::from(bytes.as_bytes())), Ok(None));
            parser.dropping.map(|request| request.excess)
        };
        assert_eq!(dropped(format!("*1\r\n${argument_bytes}\r\n")), None);
        let longer = dropped(format!("*1\r\n${}\r\n", argument_bytes + 1));
        assert_eq!(longer, Some(Excess::Argument { name: Bytes::new(), place: 0 }));
        assert_eq!(dropped(format!("{before}${fits}\r\n")), None);
        assert_eq!(dropped(format!("{before}${}\r\n", fits + 1)), Some(Excess::Bytes));
    }

    #[test]
    fn a_request_that_has_too_much_is_dropped_to_its_end_and_no_further() {
        let limits = RespSettings { max_value_bytes: 0, max_key_bytes: 0, ..RespSettings::default() };
        let long = "x".repeat(limits.max_argument_bytes() + 1);
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let quarter = bulk(&long[1..]);
        for (request, excess) in [
            (
                format!("*3\r\n{}{}{}", bulk("SET"), bulk("k"), bulk(&long)),
                "Argument { name: b\"set\", place: 2 }",
            ),
            (format!("*2\r\n{}{}", bulk(&long), bulk(&long)), "Argument { name: b\"\", place: 0 }"),
            (format!("*5\r\n{}", quarter.repeat(5)), "Bytes"),
            (format!("*11\r\n{}", bulk("x").repeat(11)), "Arguments"),
        ] {
            let stream = format!("PING\r\n{request}*1\r\n{}PING\r\n", bulk("PING"));
            for piece_bytes in [7, 1000, stream.len()] {
                let expected = ["PING", excess, "PING", "PING"].map(|word| words(&[word]));
                let mut parser = Parser::new(RespSettings { max_arguments: 10, ..limits });
                assert_eq!(all_by(&mut parser, stream.as_bytes(), piece_bytes), Ok(expected.to_vec()));
            }
        }
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
