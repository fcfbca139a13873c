//! Replies as bytes, in the version of the protocol that the client has asked for.

use bytes::{BufMut, BytesMut};

use crate::kv::Reply;

const TOO_MUCH: &[u8] =
    b"ERR not carried out: this is too much work at once, use smaller commands or transactions";

/// Which version of the protocol a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

/// Appends replies to a buffer.
pub(super) struct Writer<'a> {
    pub(super) buffer: &'a mut BytesMut,
    pub(super) protocol: Protocol,
}

impl Writer<'_> {
    pub(super) fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error. Control characters become spaces: a line break would end it.
    pub(super) fn error(&mut self, text: &[u8]) {
        let clean: Vec<u8> =
            text.iter().map(|byte| if byte.is_ascii_control() { b' ' } else { *byte }).collect();
        self.line(b'-', &clean);
    }

    pub(super) fn integer(&mut self, number: i64) {
        self.line(b':', number.to_string().as_bytes());
    }

    pub(super) fn bulk(&mut self, bytes: &[u8]) {
        self.length(b'$', bytes.len());
        self.buffer.extend_from_slice(bytes);
        self.buffer.extend_from_slice(b"\r\n");
    }

    pub(super) fn nil(&mut self) {
        self.buffer.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// No array: a transaction that was not carried out.
    pub(super) fn nil_array(&mut self) {
        self.buffer.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// Begins a message of this many elements that answers no request; in RESP2 it is an array.
    pub(super) fn push(&mut self, length: usize) {
        self.length(if self.protocol == Protocol::Resp3 { b'>' } else { b'*' }, length);
    }

    /// Begins an array of this many elements.
    pub(super) fn array(&mut self, length: usize) {
        self.length(b'*', length);
    }

    /// Begins a set of this many elements; in RESP2 it is an array.
    pub(super) fn set(&mut self, length: usize) {
        self.length(if self.protocol == Protocol::Resp3 { b'~' } else { b'*' }, length);
    }

    /// Begins a map of this many pairs; in RESP2 it is an array of keys and values in turns.
    pub(super) fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.length(b'*', 2 * pairs),
            Protocol::Resp3 => self.length(b'%', pairs),
        }
    }

    /// The answer to the beginning or the end of a subscription: its name, and how many there are now.
    pub(super) fn subscription(&mut self, what: &str, name: Option<&[u8]>, count: usize) {
        self.push(3);
        self.bulk(what.as_bytes());
        match name {
            Some(name) => self.bulk(name),
            None => self.nil(),
        }
        self.integer(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A reply without the elements of an array, which the caller writes after it.
    pub(super) fn head(&mut self, reply: &Reply) {
        match reply {
            Reply::Ok => self.buffer.extend_from_slice(b"+OK\r\n"),
            Reply::Nil => self.nil(),
            Reply::Integer(number) => self.integer(*number),
            Reply::Bulk(bytes) => self.bulk(bytes),
            Reply::Word(word) => self.line(b'+', word),
            Reply::Error(text) => self.error(text),
            Reply::TooMuch => self.error(TOO_MUCH),
            Reply::Array(replies) => self.array(replies.len()),
        }
    }

    fn length(&mut self, kind: u8, length: usize) {
        self.line(kind, length.to_string().as_bytes());
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.buffer.put_u8(kind);
        self.buffer.extend_from_slice(text);
        self.buffer.extend_from_slice(b"\r\n");
    }
}

/// The replies in the order in which they are written: each array stands before its elements.
pub(super) fn flatten(replies: Vec<Reply>) -> impl Iterator<Item = Reply> {
    let (mut current, mut outer) = (replies.into_iter(), Vec::new());
    std::iter::from_fn(move || {
        loop {
            match current.next() {
                None => current = outer.pop()?,
                Some(Reply::Array(elements)) => {
                    let head = Reply::Array(vec![Reply::Nil; elements.len()]);
                    outer.push(std::mem::replace(&mut current, elements.into_iter()));
                    return Some(head);
                }
                Some(reply) => return Some(reply),
            }
        }
    })
}
