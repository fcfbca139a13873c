//! A connection to either server, and replies as values.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A reply with its type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Value {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    /// No bulk, no array, or nothing at all: in which form, tells the byte.
    Nil(char),
    Array(Vec<Value>),
    /// Pairs, in turns.
    Map(Vec<Value>),
    Set(Vec<Value>),
    Push(Vec<Value>),
}

impl Value {
    pub(crate) fn text(&self) -> String {
        match self {
            Value::Simple(text) | Value::Error(text) => text.clone(),
            Value::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("a text, not {other:?}"),
        }
    }

    fn elements(&self) -> Option<&[Value]> {
        match self {
            Value::Array(elements) | Value::Set(elements) => Some(elements),
            _ => None,
        }
    }
}

pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("it can be set");
        stream.set_nodelay(true).expect("it can be set");
        Connection(BufReader::new(stream))
    }

    pub(crate) fn ask(&mut self, words: &[impl AsRef<[u8]>]) -> Value {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words.iter().map(AsRef::as_ref) {
            request.extend(format!("${}\r\n", word.len()).bytes());
            request.extend_from_slice(word);
            request.extend(b"\r\n");
        }
        self.0.get_mut().write_all(&request).expect("the server reads");
        self.reply()
    }

    fn reply(&mut self) -> Value {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).expect("the server answers in time");
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r\n").expect("a whole line")).into_owned();
        let (kind, rest) = (line.chars().next().expect("a type"), &line[1..]);
        let length = || rest.parse::<usize>().expect("a length");
        match kind {
            '+' => Value::Simple(rest.to_owned()),
            '-' => Value::Error(rest.to_owned()),
            ':' => Value::Integer(rest.parse().expect("an integer")),
            '$' | '*' if rest == "-1" => Value::Nil(kind),
            '_' => Value::Nil('_'),
            '$' | '=' => {
                let mut bytes = vec![0; length() + 2];
                self.0.read_exact(&mut bytes).expect("the server answers in time");
                bytes.truncate(bytes.len() - 2);
                Value::Bulk(bytes)
            }
            '*' => Value::Array((0..length()).map(|_| self.reply()).collect()),
            '%' => Value::Map((0..2 * length()).map(|_| self.reply()).collect()),
            '~' => Value::Set((0..length()).map(|_| self.reply()).collect()),
            '>' => Value::Push((0..length()).map(|_| self.reply()).collect()),
            other => panic!("no type of a reply that is known: {other}{rest}"),
        }
    }
}

pub(crate) fn shown(request: &[Vec<u8>]) -> String {
    let words: Vec<String> = request.iter().map(|word| word.escape_ascii().to_string()).collect();
    words.join(" ")
}

/// What `COMMAND INFO` tells of one command: the number of its words, whether it writes, and where its keys
/// are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Description {
    words: i64,
    is_write: bool,
    is_read: bool,
    keys: [i64; 3],
}

pub(crate) fn description(reply: &Value) -> Option<Description> {
    let fields = reply.elements()?.first()?.elements()?;
    let integer = |place: usize| match &fields[place] {
        Value::Integer(number) => *number,
        other => panic!("a number, not {other:?}"),
    };
    let has =
        |flag: &str| fields[2].elements().is_some_and(|flags| flags.iter().any(|given| given.text() == flag));
    Some(Description {
        words: integer(1),
        is_write: has("write"),
        is_read: has("readonly"),
        keys: [integer(3), integer(4), integer(5)],
    })
}
