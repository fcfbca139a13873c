//! A Redis client of a few lines.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use super::PATIENCE;

/// A Redis client.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// A client of the node at this address, if it takes clients.
    pub(crate) fn connect(address: &str) -> Option<Client> {
        TcpStream::connect(address).ok().map(Client::new)
    }

    pub(super) fn new(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        Client { stream: BufReader::new(stream) }
    }

    /// Sends a command and returns its reply as text: errors with their `-`, nil as `(nil)`, arrays in
    /// brackets.
    pub(crate) fn ask(&mut self, command: &[&str]) -> String {
        self.send(command);
        self.reply().expect("the node answers")
    }

    /// The same, where the connection may break instead.
    pub(crate) fn try_ask(&mut self, command: &[&str]) -> Option<String> {
        self.send(command);
        self.reply()
    }

    pub(crate) fn send(&mut self, command: &[&str]) {
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for word in command {
            bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
        self.send_raw(&bytes);
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.get_mut().write_all(bytes); // If it is broken, so is reading the reply.
    }

    pub(crate) fn reply(&mut self) -> Option<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).ok().filter(|length| *length > 0)?;
        let line = line.trim_end().to_owned();
        let (kind, rest) = line.split_at(1);
        match kind {
            "$" | "*" if rest == "-1" => Some(String::from("(nil)")),
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().ok()? + 2];
                self.stream.read_exact(&mut bytes).ok()?;
                bytes.truncate(bytes.len() - 2);
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
            "*" | "%" | "~" | ">" => {
                let count = rest.parse::<usize>().ok()? * if kind == "%" { 2 } else { 1 };
                let elements: Option<Vec<String>> = (0..count).map(|_| self.reply()).collect();
                Some(format!("[{}]", elements?.join(" ")))
            }
            "_" => Some(String::from("(nil)")),
            "-" => Some(line),
            _ => Some(rest.to_owned()),
        }
    }
}
