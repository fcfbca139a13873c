//! Cuts what a client has sent into requests, by the lengths in it.

use std::io;

const LINE_END: &[u8] = b"\r\n";
/// The longest argument, and with it the longest key and the longest value.
pub(super) const MAX_ARGUMENT_BYTES: usize = 64 << 10;
/// The most arguments that a request has.
const MAX_ARGUMENTS: usize = 3;
/// The longest line with a length.
const MAX_LINE_BYTES: usize = 16;

/// A request, with its arguments where they lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Request<'a> {
    Ping,
    Get { key: &'a [u8] },
    Set { key: &'a [u8], value: &'a [u8] },
}

impl<'a> Request<'a> {
    /// The first request of `received` and its length; `None` if not all of it has arrived.
    ///
    /// # Errors
    ///
    /// `InvalidData` if it is none that this server knows, or if an argument is too long.
    pub(super) fn first_of(received: &'a [u8]) -> io::Result<Option<(Request<'a>, usize)>> {
        let Some((count, mut at)) = length(received, 0, b'*')? else { return Ok(None) };
        let mut words = [&[][..]; MAX_ARGUMENTS];
        let words = words.get_mut(..count).ok_or_else(unknown)?;
        for word in &mut *words {
            let Some((bytes, start)) = length(received, at, b'$')? else { return Ok(None) };
            if bytes > MAX_ARGUMENT_BYTES {
                return Err(unknown());
            }
            at = start + bytes + LINE_END.len();
            let Some(argument) = received.get(start..at) else { return Ok(None) };
            *word = argument.strip_suffix(LINE_END).ok_or_else(unknown)?;
        }
        let request = match *words {
            [name] if name.eq_ignore_ascii_case(b"PING") => Request::Ping,
            [name, key] if name.eq_ignore_ascii_case(b"GET") => Request::Get { key },
            [name, key, value] if name.eq_ignore_ascii_case(b"SET") => Request::Set { key, value },
            _ => return Err(unknown()),
        };
        Ok(Some((request, at)))
    }
}

/// The number in the line at `at`, which begins with `kind`, and where the next line begins.
fn length(received: &[u8], at: usize, kind: u8) -> io::Result<Option<(usize, usize)>> {
    let line = received.get(at..).unwrap_or_default();
    let Some((first, digits)) = line.split_first() else { return Ok(None) };
    if *first != kind {
        return Err(unknown());
    }
    let mut number = 0;
    for (place, byte) in digits.iter().enumerate().take(MAX_LINE_BYTES) {
        match byte {
            b'0'..=b'9' => number = number * 10 + usize::from(byte - b'0'),
            b'\r' if place > 0 => {
                let next = at + 1 + place + LINE_END.len();
                return match digits.get(place + 1) {
                    None => Ok(None),
                    Some(b'\n') => Ok(Some((number, next))),
                    Some(_) => Err(unknown()),
                };
            }
            _ => return Err(unknown()),
        }
    }
    if digits.len() < MAX_LINE_BYTES { Ok(None) } else { Err(unknown()) }
}

fn unknown() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a PING, a GET or a SET of this bench")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPELINE: &[u8] =
        b"*3\r\n$3\r\nset\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n*1\r\n$4\r\nPING\r\n";

    #[test]
    fn requests_of_a_pipeline_are_found_one_after_the_other() {
        let mut rest = PIPELINE;
        let expected =
            [Request::Set { key: b"k", value: b"a\r\nb" }, Request::Get { key: b"" }, Request::Ping];
        for expected in expected {
            let (request, bytes) = Request::first_of(rest).expect("they are known").expect("all has arrived");
            assert_eq!(request, expected);
            for arrived in 0..bytes {
                assert_eq!(Request::first_of(&rest[..arrived]).expect("so far it is right"), None);
            }
            rest = &rest[bytes..];
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn what_the_bench_never_sends_is_an_error() {
        let requests: [&[u8]; 7] = [
            b"PING\r\n",
            b"*4\r\n$3\r\nSET\r\n",
            b"*1\r\n$3\r\nGET\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n$99999999\r\n",
            b"*1\r\n$4\r\nPINGxx",
            b"*00000000000000000",
        ];
        for request in requests {
            assert!(Request::first_of(request).is_err(), "{}", request.escape_ascii());
        }
    }
}
