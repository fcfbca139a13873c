//! What the store answers, in a form that each front translates to its protocol.
//!
//! A response is its replies one after the other, each a tag and its contents; bytes and arrays stand behind
//! their length (4 bytes, little-endian).

use bytes::{Buf, BufMut, Bytes, BytesMut};

const OK: u8 = 0;
const NIL: u8 = 1;
const INTEGER: u8 = 2;
const BULK: u8 = 3;
const ARRAY: u8 = 4;
const ERROR: u8 = 5;
const TOO_MUCH: u8 = 6;
const WORD: u8 = 7;
/// How deep arrays may be nested; two levels are used.
const MAX_DEPTH: usize = 4;

/// The answer to one operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// It was done.
    Ok,
    /// There is no value.
    Nil,
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Bytes),
    /// A word that the store chose, such as the type of a value.
    Word(Bytes),
    /// Several answers.
    Array(Vec<Reply>),
    /// It could not be done; the text begins with a code such as `ERR`.
    Error(Bytes),
    /// It was not carried out, as it would have taken more work than its command had left. It may fit into a
    /// command of its own.
    TooMuch,
}

/// The bytes of a response are not a list of replies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed response")]
#[non_exhaustive]
pub struct MalformedResponse;

impl Reply {
    /// An error with this text.
    #[must_use]
    pub fn error(text: &str) -> Reply {
        Reply::Error(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// The replies of a response; they share its bytes.
    ///
    /// # Errors
    ///
    /// [`MalformedResponse`] if this store has not written it.
    pub fn decode_all(mut response: Bytes) -> Result<Vec<Reply>, MalformedResponse> {
        let mut replies = Vec::new();
        while !response.is_empty() {
            replies.push(decode(&mut response, MAX_DEPTH)?);
        }
        Ok(replies)
    }

    /// How many bytes it takes in a response.
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Reply::Ok | Reply::Nil | Reply::TooMuch => 1,
            Reply::Integer(_) => 9,
            Reply::Bulk(contents) | Reply::Word(contents) | Reply::Error(contents) => 5 + contents.len(),
            Reply::Array(replies) => 5 + replies.iter().map(Reply::size_bytes).sum::<usize>(),
        }
    }

    fn encode(&self, bytes: &mut BytesMut) {
        match self {
            Reply::Ok => bytes.put_u8(OK),
            Reply::Nil => bytes.put_u8(NIL),
            Reply::TooMuch => bytes.put_u8(TOO_MUCH),
            Reply::Integer(number) => {
                bytes.put_u8(INTEGER);
                bytes.put_i64_le(*number);
            }
            Reply::Bulk(value) => put(bytes, BULK, value),
            Reply::Word(word) => put(bytes, WORD, word),
            Reply::Error(text) => put(bytes, ERROR, text),
            Reply::Array(replies) => {
                bytes.put_u8(ARRAY);
                bytes.put_u32_le(length(replies.len()));
                for reply in replies {
                    reply.encode(bytes);
                }
            }
        }
    }
}

/// The response that holds `replies`. A single OK, by far the most frequent response, allocates nothing.
pub(super) fn encode(replies: &[Reply]) -> Bytes {
    if let [Reply::Ok] = replies {
        return Bytes::from_static(&[OK]);
    }
    let mut bytes = BytesMut::with_capacity(replies.iter().map(Reply::size_bytes).sum());
    for reply in replies {
        reply.encode(&mut bytes);
    }
    bytes.freeze()
}

fn decode(bytes: &mut Bytes, depth: usize) -> Result<Reply, MalformedResponse> {
    let tag = bytes.try_get_u8().map_err(|_| MalformedResponse)?;
    Ok(match tag {
        OK => Reply::Ok,
        NIL => Reply::Nil,
        TOO_MUCH => Reply::TooMuch,
        INTEGER => Reply::Integer(bytes.try_get_i64_le().map_err(|_| MalformedResponse)?),
        BULK => Reply::Bulk(take(bytes)?),
        WORD => Reply::Word(take(bytes)?),
        ERROR => Reply::Error(take(bytes)?),
        ARRAY if depth > 0 => {
            let count = bytes.try_get_u32_le().map_err(|_| MalformedResponse)?;
            Reply::Array((0..count).map(|_| decode(bytes, depth - 1)).collect::<Result<_, _>>()?)
        }
        _ => return Err(MalformedResponse),
    })
}

fn put(bytes: &mut BytesMut, tag: u8, contents: &Bytes) {
    bytes.put_u8(tag);
    bytes.put_u32_le(length(contents.len()));
    bytes.extend_from_slice(contents);
}

fn length(length: usize) -> u32 {
    u32::try_from(length).expect("replies are bounded far below 4 GiB")
}

fn take(bytes: &mut Bytes) -> Result<Bytes, MalformedResponse> {
    let length = bytes.try_get_u32_le().map_err(|_| MalformedResponse)? as usize;
    if length > bytes.len() { Err(MalformedResponse) } else { Ok(bytes.split_to(length)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn replies_come_back() {
        let replies = vec![
            Reply::Ok,
            Reply::Nil,
            Reply::TooMuch,
            Reply::Integer(-5),
            Reply::Bulk(Bytes::from_static(b"value")),
            Reply::Word(Bytes::from_static(b"string")),
            Reply::error("ERR no"),
            Reply::Array(vec![Reply::Bulk(Bytes::new()), Reply::Array(vec![Reply::Nil])]),
        ];
        let size_bytes = replies.iter().map(Reply::size_bytes).sum::<usize>();
        assert_eq!(encode(&replies).len(), size_bytes);
        assert_eq!(Reply::decode_all(encode(&replies)), Ok(replies));
        assert_eq!(Reply::decode_all(encode(&[Reply::Ok])), Ok(vec![Reply::Ok]));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            let _ = Reply::decode_all(Bytes::from(bytes));
        }
    }
}
