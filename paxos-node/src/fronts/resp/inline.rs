//! Inline requests: words on a line, as a person types them.
//!
//! As in Redis: a word may be quoted, wholly or from somewhere in its middle on. Between `"` the escapes
//! `\n`, `\r`, `\t`, `\b`, `\a` and `\xHH` mean bytes, and `\` before anything else means that; between `'`
//! only `\'` is an escape. A closing quote ends its word.

use bytes::Bytes;

/// A quote is not closed, or something follows the closing one at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct UnbalancedQuotes;

/// The words of a line.
pub(super) fn words(mut line: &[u8]) -> Result<Vec<Bytes>, UnbalancedQuotes> {
    let mut words = Vec::new();
    loop {
        let Some(start) = line.iter().position(|byte| !is_space(*byte)) else { return Ok(words) };
        let (word, rest) = word(&line[start..])?;
        words.push(word);
        line = rest;
    }
}

/// The word at the front of a line, and what follows it.
fn word(line: &[u8]) -> Result<(Bytes, &[u8]), UnbalancedQuotes> {
    // Fewer than all spaces: Redis lets the others stand within a word.
    let is_end = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | b'"' | b'\'');
    let plain = line.iter().position(is_end).unwrap_or(line.len());
    let mut word = line[..plain].to_vec();
    let rest = match &line[plain..] {
        [b'"', quoted @ ..] => double_quoted(quoted, &mut word)?,
        [b'\'', quoted @ ..] => single_quoted(quoted, &mut word)?,
        rest => return Ok((Bytes::from(word), rest)),
    };
    match rest.first() {
        Some(byte) if !is_space(*byte) => Err(UnbalancedQuotes),
        _ => Ok((Bytes::from(word), rest)),
    }
}

/// Appends what stands before the closing double quote to `word`, and returns what follows that quote.
fn double_quoted<'a>(mut text: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        let (byte, rest) = match text {
            [b'"', rest @ ..] => return Ok(rest),
            [b'\\', b'x', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex_value(*high) << 4 | hex_value(*low), rest)
            }
            [b'\\', escaped, rest @ ..] => (unescaped(*escaped), rest),
            [byte, rest @ ..] => (*byte, rest),
            [] => return Err(UnbalancedQuotes),
        };
        word.push(byte);
        text = rest;
    }
}

/// Appends what stands before the closing single quote to `word`, and returns what follows that quote.
fn single_quoted<'a>(mut text: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        let (byte, rest) = match text {
            [b'\'', rest @ ..] => return Ok(rest),
            [b'\\', b'\'', rest @ ..] => (b'\'', rest),
            [byte, rest @ ..] => (*byte, rest),
            [] => return Err(UnbalancedQuotes),
        };
        word.push(byte);
        text = rest;
    }
}

/// Whether the byte is a space in C.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn unescaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit.to_ascii_lowercase() - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_quoted_as_in_redis() {
        for (line, expected) in [
            (&b""[..], &[][..]),
            (b" \t ", &[]),
            (b"PING", &[&b"PING"[..]]),
            (b"  SET  k\tv ", &[b"SET", b"k", b"v"]),
            (br#"SET k1 "v""#, &[b"SET", b"k1", b"v"]),
            (br#"SET k "two words""#, &[b"SET", b"k", b"two words"]),
            (br#"SET k '' "" "#, &[b"SET", b"k", b"", b""]),
            (br#""\n\r\t\b\a\\\"\q""#, &[b"\n\r\t\x08\x07\\\"q"]),
            (br#""\x00\xfF\x4""#, &[b"\x00\xffx4"]),
            (br"'a\'b\n\\ '", &[br"a'b\n\\ "]),
            (br#"'"' "'""#, &[b"\"", b"'"]),
            (br#"ab"cd" e'f'"#, &[b"abcd", b"ef"]),
            (br"a\nb", &[br"a\nb"]),
            (b"\x0b\x0ca\x0bb\x0c \x0c", &[b"a\x0bb\x0c"]),
            (b"\xff\x00", &[b"\xff\x00"]),
        ] {
            let words = words(line).expect("its quotes are balanced");
            assert_eq!(words, expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        for line in [
            &br#"SET k "v"#[..],
            b"SET k 'v",
            br#"SET k "v\""#,
            br"SET k 'v\'",
            br#""a"b"#,
            b"'a'b",
            br#""a""b""#,
            br#"a""b"#,
            b"\"",
            b"'",
        ] {
            assert_eq!(words(line), Err(UnbalancedQuotes), "{}", line.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_words_can_be_quoted(given in prop::collection::vec(any::<Vec<u8>>(), 0..5)) {
            let quoted = given.iter().map(|word| {
                let escaped = word.iter().map(|byte| format!("\\x{byte:02x}")).collect::<Vec<_>>().concat();
                format!("\"{escaped}\"")
            });
            let line = quoted.collect::<Vec<_>>().join(" ");
            prop_assert_eq!(words(line.as_bytes()), Ok(given.into_iter().map(Bytes::from).collect()));
        }

        #[test]
        fn no_bytes_make_it_panic(line: Vec<u8>) {
            let _ = words(&line);
        }
    }
}
