//! The clients of a node: what `CLIENT LIST` shows of them, and how `CLIENT KILL` ends their connections.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;

use super::errors::SYNTAX;
use super::users::DEFAULT_USER;
use super::words::is;
use crate::kv::{Reply, parse_integer};
use crate::lock::lock;

/// All clients that are connected.
#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<BTreeMap<u64, Arc<OpenClient>>>);

/// A client that is connected, as other clients see it.
#[derive(Debug)]
pub(super) struct OpenClient {
    id: u64,
    address: SocketAddr,
    local_address: SocketAddr,
    since: Instant,
    shown: Mutex<Shown>,
    is_killed: AtomicBool,
    killed: Notify,
}

/// What is shown of a client beside what never changes.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) name: Bytes,
    pub(super) library: Bytes,
    pub(super) library_version: Bytes,
    /// Who it is; `None` for `default`.
    pub(super) user: Option<String>,
    pub(super) is_resp3: bool,
    /// The last command.
    pub(super) command: &'static str,
    pub(super) heard_at: Instant,
    pub(super) channels: usize,
    pub(super) patterns: usize,
    pub(super) is_tracking: bool,
    pub(super) watched: usize,
    /// How many commands wait for `EXEC`, if there was a `MULTI`.
    pub(super) queued: Option<usize>,
    pub(super) memory_bytes: usize,
}

impl Clients {
    /// Adds a client until what is returned is dropped.
    pub(super) fn add(
        self: &Arc<Clients>,
        id: u64,
        address: SocketAddr,
        local_address: SocketAddr,
    ) -> Connected {
        let now = Instant::now();
        let shown = Shown {
            name: Bytes::new(),
            library: Bytes::new(),
            library_version: Bytes::new(),
            user: None,
            is_resp3: false,
            command: "NULL",
            heard_at: now,
            channels: 0,
            patterns: 0,
            is_tracking: false,
            watched: 0,
            queued: None,
            memory_bytes: 0,
        };
        let client = Arc::new(OpenClient {
            id,
            address,
            local_address,
            since: now,
            shown: Mutex::new(shown),
            is_killed: AtomicBool::new(false),
            killed: Notify::new(),
        });
        lock(&self.0).insert(id, Arc::clone(&client));
        Connected { clients: Arc::clone(self), client }
    }

    /// `CLIENT LIST`: a line for each client that is wanted.
    pub(super) fn list(&self, filters: &[Bytes]) -> Result<String, Reply> {
        let filter = Filter::parse_list(filters)?;
        let mut lines = String::new();
        for client in lock(&self.0).values().filter(|client| filter.wants(client)) {
            lines.push_str(&client.line());
            lines.push('\n');
        }
        Ok(lines)
    }

    /// `CLIENT KILL`, asked for by this client.
    pub(super) fn kill(&self, filters: &[Bytes], by: u64) -> Result<Reply, Reply> {
        let (filter, is_old_form) = match filters {
            [address] => (Filter { address: Some(parse_address(address)), ..Filter::default() }, true),
            _ => (Filter::parse_kill(filters, by)?, false),
        };
        let clients = lock(&self.0);
        let mut count = 0;
        for client in clients.values().filter(|client| filter.wants(client)) {
            client.kill();
            count += 1;
        }
        match (is_old_form, count) {
            (true, 0) => Err(Reply::error("ERR No such client")),
            (true, _) => Ok(Reply::Ok),
            (false, _) => Ok(Reply::Integer(count)),
        }
    }

    /// How many clients listen, and how many track keys.
    pub(super) fn listening(&self) -> (usize, usize) {
        let clients = lock(&self.0);
        let count = |is_wanted: fn(&Shown) -> bool| {
            clients.values().filter(|client| is_wanted(&lock(&client.shown))).count()
        };
        (count(|shown| shown.channels + shown.patterns > 0), count(|shown| shown.is_tracking))
    }
}

/// A client's place among all that are connected.
#[derive(Debug)]
pub(super) struct Connected {
    clients: Arc<Clients>,
    client: Arc<OpenClient>,
}

impl Connected {
    /// Changes what is shown.
    pub(super) fn show(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut lock(&self.client.shown));
    }

    /// `CLIENT INFO`.
    pub(super) fn line(&self) -> String {
        self.client.line()
    }

    /// Whether somebody has ended this connection.
    pub(super) fn is_killed(&self) -> bool {
        self.client.is_killed.load(Ordering::Acquire)
    }

    /// Waits until somebody ends this connection.
    pub(super) async fn killed(&self) {
        while !self.is_killed() {
            self.client.killed.notified().await;
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        lock(&self.clients.0).remove(&self.client.id);
    }
}

impl Shown {
    fn user(&self) -> &str {
        self.user.as_deref().unwrap_or(DEFAULT_USER)
    }
}

impl OpenClient {
    fn kill(&self) {
        self.is_killed.store(true, Ordering::Release);
        self.killed.notify_one();
    }

    fn kind(&self) -> Kind {
        let shown = lock(&self.shown);
        if shown.channels + shown.patterns > 0 { Kind::PubSub } else { Kind::Normal }
    }

    fn line(&self) -> String {
        let shown = lock(&self.shown).clone();
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let flags = [
            (shown.channels + shown.patterns > 0, 'P'),
            (shown.queued.is_some(), 'x'),
            (shown.is_tracking, 't'),
        ];
        let flags: String = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| *flag).collect();
        let mut line = format!("id={} addr={} laddr={} fd=0", self.id, self.address, self.local_address);
        let rest = write!(
            line,
            " name={} age={} idle={} flags={} db=0 sub={} psub={} ssub=0 multi={} watch={} tot-mem={} events=r cmd={} \
             user={} redir=-1 resp={} lib-name={} lib-ver={}",
            text(&shown.name),
            self.since.elapsed().as_secs(),
            shown.heard_at.elapsed().as_secs(),
            if flags.is_empty() { "N" } else { &flags },
            shown.channels,
            shown.patterns,
            shown.queued.map_or(-1, |queued| i64::try_from(queued).unwrap_or(i64::MAX)),
            shown.watched,
            shown.memory_bytes,
            shown.command,
            shown.user(),
            if shown.is_resp3 { 3 } else { 2 },
            text(&shown.library),
            text(&shown.library_version),
        );
        rest.expect("memory takes everything");
        line
    }
}

/// Of which kind a client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Normal,
    PubSub,
    /// Kinds that no client of a node is of: other nodes do not come this way.
    Nobody,
}

/// Which clients are wanted.
#[derive(Debug, Default)]
struct Filter {
    ids: Option<Vec<u64>>,
    kind: Option<Kind>,
    address: Option<SocketAddr>,
    local_address: Option<SocketAddr>,
    user: Option<Bytes>,
    min_age_seconds: Option<u64>,
    except: Option<u64>,
}

impl Filter {
    fn parse_list(words: &[Bytes]) -> Result<Filter, Reply> {
        match words {
            [] => Ok(Filter::default()),
            [word, kind] if is(word, "type") => {
                Ok(Filter { kind: Some(parse_kind(kind)?), ..Filter::default() })
            }
            [word, ids @ ..] if is(word, "id") && !ids.is_empty() => {
                let ids = ids.iter().map(|id| parse_id(id)).collect::<Result<_, _>>()?;
                Ok(Filter { ids: Some(ids), ..Filter::default() })
            }
            _ => Err(Reply::error(SYNTAX)),
        }
    }

    fn parse_kill(words: &[Bytes], by: u64) -> Result<Filter, Reply> {
        let mut filter = Filter { except: Some(by), ..Filter::default() };
        for pair in words.chunks(2) {
            let [word, value] = pair else { return Err(Reply::error(SYNTAX)) };
            match () {
                () if is(word, "id") => filter.ids = Some(vec![parse_id(value)?]),
                () if is(word, "type") => filter.kind = Some(parse_kind(value)?),
                () if is(word, "addr") => filter.address = Some(parse_address(value)),
                () if is(word, "laddr") => filter.local_address = Some(parse_address(value)),
                () if is(word, "user") => filter.user = Some(value.clone()),
                () if is(word, "maxage") => filter.min_age_seconds = Some(parse_id(value)?),
                () if is(word, "skipme") && is(value, "yes") => filter.except = Some(by),
                () if is(word, "skipme") && is(value, "no") => filter.except = None,
                () => return Err(Reply::error(SYNTAX)),
            }
        }
        Ok(filter)
    }

    fn wants(&self, client: &OpenClient) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(&client.id))
            && self.kind.is_none_or(|kind| kind == client.kind())
            && self.address.is_none_or(|address| address == client.address)
            && self.local_address.is_none_or(|address| address == client.local_address)
            && self.min_age_seconds.is_none_or(|seconds| client.since.elapsed().as_secs() >= seconds)
            && self.except != Some(client.id)
            && self.user.as_ref().is_none_or(|user| user == lock(&client.shown).user())
    }
}

fn parse_id(text: &[u8]) -> Result<u64, Reply> {
    let id = parse_integer(text).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
    id.ok_or_else(|| Reply::error("ERR client-id should be greater than 0"))
}

fn parse_kind(text: &[u8]) -> Result<Kind, Reply> {
    match () {
        () if is(text, "normal") => Ok(Kind::Normal),
        () if is(text, "pubsub") => Ok(Kind::PubSub),
        () if ["master", "replica", "slave"].iter().any(|kind| is(text, kind)) => Ok(Kind::Nobody),
        () => {
            let shown = String::from_utf8_lossy(&text[..text.len().min(128)]);
            Err(Reply::error(&format!("ERR Unknown client type '{shown}'")))
        }
    }
}

/// An address; one that no client has if it is none.
fn parse_address(text: &[u8]) -> SocketAddr {
    let address = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    address.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<Bytes> {
        line.split_whitespace().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    #[test]
    fn clients_are_listed_and_killed_by_what_they_are() {
        let clients = Arc::new(Clients::default());
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let [first, second, third] = [1, 2, 3].map(|id| {
            clients.add(id, address(1_000 + u16::try_from(id).expect("it is small")), address(6_379))
        });
        third.show(|shown| shown.channels = 1);
        second.show(|shown| shown.user = Some(String::from("app")));
        let listed = |filter: &str| clients.list(&words(filter)).map(|lines| lines.lines().count());
        assert_eq!(listed(""), Ok(3));
        assert_eq!(listed("TYPE pubsub"), Ok(1));
        assert_eq!(listed("TYPE replica"), Ok(0));
        assert_eq!(listed("ID 1 3 9"), Ok(2));
        assert!(listed("TYPE nonsense").is_err() && listed("ID 0").is_err() && listed("ID").is_err());
        let kill = |filter: &str| clients.kill(&words(filter), 1);
        assert_eq!(kill("127.0.0.1:9"), Err(Reply::error("ERR No such client")));
        assert_eq!(kill("USER nobody"), Ok(Reply::Integer(0)));
        assert_eq!(kill("ID 1"), Ok(Reply::Integer(0)), "not the one that asks");
        assert_eq!(kill("USER default ID 2"), Ok(Reply::Integer(0)), "it is another user's");
        assert!(second.line().contains(" user=app ") && first.line().contains(" user=default "));
        assert_eq!(kill("USER app TYPE normal LADDR 127.0.0.1:6379"), Ok(Reply::Integer(1)));
        assert!(second.is_killed() && !first.is_killed() && !third.is_killed());
        assert_eq!(kill("127.0.0.1:1003"), Ok(Reply::Ok));
        assert_eq!(kill("ID 1 SKIPME no"), Ok(Reply::Integer(1)));
        assert!(first.is_killed() && third.is_killed());
        drop(second);
        assert_eq!(listed(""), Ok(2));
    }
}
