//! What the store answers, in a form of its own: each client's protocol makes of it what it must.
//!
//! A response is the replies one after the other, each a tag and its contents; bytes and arrays behind their
//! length (4 bytes, little-endian).

use bytes::{Buf, BufMut, Bytes, BytesMut};

const OK: u8 = 0;
const NIL: u8 = 1;
const INTEGER: u8 = 2;
const BULK: u8 = 3;
const ARRAY: u8 = 4;
const ERROR: u8 = 5;
/// An array in an array is as deep as replies get.
const MAX_DEPTH: usize = 4;

/// The answer to one operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Done.
    Ok,
    /// There is nothing.
    Nil,
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Bytes),
    /// Several answers.
    Array(Vec<Reply>),
    /// It could not be done; the text begins with a code such as `ERR`.
    Error(Bytes),
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

    /// Takes a response apart; the replies share its bytes.
    ///
    /// # Errors
    ///
    /// [`MalformedResponse`] if it is not one of this store's.
    pub fn decode_all(mut response: Bytes) -> Result<Vec<Reply>, MalformedResponse> {
        let mut replies = Vec::new();
        while !response.is_empty() {
            replies.push(decode(&mut response, MAX_DEPTH)?);
        }
        Ok(replies)
    }

    /// How many bytes it is encoded in.
    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Reply::Ok | Reply::Nil => 1,
            Reply::Integer(_) => 9,
            Reply::Bulk(contents) | Reply::Error(contents) => 5 + contents.len(),
            Reply::Array(replies) => 5 + replies.iter().map(Reply::size_bytes).sum::<usize>(),
        }
    }

    fn encode(&self, bytes: &mut BytesMut) {
        match self {
            Reply::Ok => bytes.put_u8(OK),
            Reply::Nil => bytes.put_u8(NIL),
            Reply::Integer(number) => {
                bytes.put_u8(INTEGER);
                bytes.put_i64_le(*number);
            }
            Reply::Bulk(value) => put(bytes, BULK, value),
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

/// The response that holds `replies`. A lone OK, by far the most frequent one, allocates nothing.
pub(super) fn encode(replies: &[Reply]) -> Bytes {
    if let [Reply::Ok] = replies {
        return Bytes::from_static(&[OK]);
    }
    let mut bytes = BytesMut::new();
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
        INTEGER => Reply::Integer(bytes.try_get_i64_le().map_err(|_| MalformedResponse)?),
        BULK => Reply::Bulk(take(bytes)?),
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
            Reply::Integer(-5),
            Reply::Bulk(Bytes::from_static(b"value")),
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
