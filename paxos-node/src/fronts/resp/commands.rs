//! The table of all commands, one row each. From it come dispatch, the errors for a wrong number of arguments
//! and for arguments that are too long, and the answers to `COMMAND`.
//!
//! To add a command, add a row to [`COMMANDS`] and the function that it names: to [`operations`] if the store
//! carries it out, to [`local`] if the connection answers it by itself. What the store can't do yet becomes
//! an [`Operation`](crate::kv::Operation) of its own; `.github/CONTRIBUTING.md` lists what that needs.

mod meaning;

use bytes::Bytes;

pub(super) use self::meaning::{Meaning, excessive, meaning};
use super::absent;
use super::acl;
use super::categories::{
    self, ADMIN, CONNECTION, Categories, DANGEROUS, FAST, KEYSPACE, PUBSUB, READ, SCRIPTING, SLOW, STRING,
    TRANSACTION, WRITE,
};
use super::client;
use super::conditions;
use super::config;
use super::describe::{self, Keys};
use super::errors::wrong_arity;
use super::expiry;
use super::keyspace;
use super::local::{self, AnswerLocally};
use super::operations::{self, ToOperation};
use super::pubsub::{self, Kind};
use super::scripts;
use super::values;
use super::words::is;
use crate::kv::Reply;

use Arity::{Any, AtLeast, Between, Exactly, Pairs};
use Holds::{KeyAndValue, KeysAndValues, Neither, OnlyKeys};

/// All commands. A look-up goes through them from the first on, so the most frequent ones stand there.
pub(super) static COMMANDS: &[Command] = &[
    // Values.
    store("get", Exactly(1), OnlyKeys, operations::get).reads(STRING.and(FAST)),
    store("set", AtLeast(2), KeyAndValue, expiry::set).writes(STRING.and(SLOW)).reading_with_conditions(),
    store("mget", AtLeast(1), OnlyKeys, operations::mget).reads(STRING.and(FAST)),
    store("mset", Pairs, KeysAndValues, operations::mset).writes(STRING.and(SLOW)),
    store("setnx", Exactly(2), KeyAndValue, operations::setnx).writes(STRING.and(FAST)),
    store("getset", Exactly(2), KeyAndValue, operations::getset).changes(STRING.and(FAST)),
    store("getdel", Exactly(1), OnlyKeys, operations::getdel).changes(STRING.and(FAST)),
    store("append", Exactly(2), KeyAndValue, operations::append).writes(STRING.and(FAST)),
    store("strlen", Exactly(1), OnlyKeys, operations::strlen).reads(STRING.and(FAST)),
    store("msetnx", Pairs, KeysAndValues, values::msetnx).writes(STRING.and(SLOW)),
    store("setrange", Exactly(3), KeyAndValue, values::setrange).writes(STRING.and(SLOW)),
    store("getrange", Exactly(3), OnlyKeys, values::getrange).reads(STRING.and(SLOW)),
    store("substr", Exactly(3), OnlyKeys, values::getrange).reads(STRING.and(SLOW)),
    store("digest", Exactly(1), OnlyKeys, values::digest).reads(STRING.and(FAST)),
    store("delex", AtLeast(1), KeyAndValue, conditions::delex).changes(STRING.and(FAST)),
    store("delifeq", Exactly(2), KeyAndValue, conditions::delifeq).changes(STRING.and(FAST)),
    // Expiry.
    store("expire", AtLeast(2), OnlyKeys, expiry::expire).writes(KEYSPACE.and(FAST)),
    store("pexpire", AtLeast(2), OnlyKeys, expiry::pexpire).writes(KEYSPACE.and(FAST)),
    store("ttl", Exactly(1), OnlyKeys, expiry::ttl).reads(KEYSPACE.and(FAST)),
    store("pttl", Exactly(1), OnlyKeys, expiry::pttl).reads(KEYSPACE.and(FAST)),
    store("setex", Exactly(3), KeyAndValue, expiry::setex).writes(STRING.and(SLOW)),
    store("psetex", Exactly(3), KeyAndValue, expiry::psetex).writes(STRING.and(SLOW)),
    store("getex", AtLeast(1), OnlyKeys, expiry::getex).with_keys(1, 1, 1).changes(STRING.and(FAST)),
    store("expireat", AtLeast(2), OnlyKeys, expiry::expireat).writes(KEYSPACE.and(FAST)),
    store("pexpireat", AtLeast(2), OnlyKeys, expiry::pexpireat).writes(KEYSPACE.and(FAST)),
    store("expiretime", Exactly(1), OnlyKeys, expiry::expiretime).reads(KEYSPACE.and(FAST)),
    store("pexpiretime", Exactly(1), OnlyKeys, expiry::pexpiretime).reads(KEYSPACE.and(FAST)),
    store("persist", Exactly(1), OnlyKeys, expiry::persist).writes(KEYSPACE.and(FAST)),
    store("paxos.fence", Exactly(1), OnlyKeys, expiry::fence).reads(KEYSPACE.and(FAST)),
    // Numbers.
    store("incr", Exactly(1), OnlyKeys, operations::incr).changes(STRING.and(FAST)),
    store("decr", Exactly(1), OnlyKeys, operations::decr).changes(STRING.and(FAST)),
    store("incrby", Exactly(2), OnlyKeys, operations::incrby).changes(STRING.and(FAST)),
    store("decrby", Exactly(2), OnlyKeys, operations::decrby).changes(STRING.and(FAST)),
    store("incrbyfloat", Exactly(2), OnlyKeys, values::incrbyfloat).changes(STRING.and(FAST)),
    // Keys.
    store("del", AtLeast(1), OnlyKeys, operations::del).writes(KEYSPACE.and(SLOW)),
    store("unlink", AtLeast(1), OnlyKeys, operations::del).writes(KEYSPACE.and(FAST)),
    store("exists", AtLeast(1), OnlyKeys, operations::exists).reads(KEYSPACE.and(FAST)),
    store("type", Exactly(1), OnlyKeys, operations::type_of).reads(KEYSPACE.and(FAST)),
    store("touch", AtLeast(1), OnlyKeys, operations::exists).reads(KEYSPACE.and(FAST)),
    store("rename", Exactly(2), OnlyKeys, keyspace::rename).with_keys(1, 2, 1).changes(KEYSPACE.and(SLOW)),
    store("renamenx", Exactly(2), OnlyKeys, keyspace::renamenx)
        .with_keys(1, 2, 1)
        .changes(KEYSPACE.and(FAST)),
    store("copy", AtLeast(2), OnlyKeys, keyspace::copy).with_keys(1, 2, 1).changes(KEYSPACE.and(SLOW)),
    store("randomkey", Exactly(0), Neither, keyspace::randomkey).reads(KEYSPACE.and(SLOW)),
    store("keys", Exactly(1), Neither, keyspace::keys).reads(KEYSPACE.and(SLOW).and(DANGEROUS)),
    store("object", AtLeast(1), OnlyKeys, keyspace::object)
        .with_keys(2, 2, 1)
        .reads(KEYSPACE.and(SLOW))
        .with_subcommands(keyspace::check_object, &[]),
    store("memory", AtLeast(1), OnlyKeys, keyspace::memory)
        .with_keys(2, 2, 1)
        .reads(SLOW)
        .with_subcommands(keyspace::check_memory, &[]),
    store("scan", AtLeast(1), Neither, operations::scan).reads(KEYSPACE.and(SLOW)),
    store("dbsize", Exactly(0), Neither, operations::dbsize).reads(KEYSPACE.and(FAST)),
    store("flushall", Any, Neither, operations::flush).writes(KEYSPACE.and(SLOW).and(DANGEROUS)),
    store("flushdb", Any, Neither, operations::flush).writes(KEYSPACE.and(SLOW).and(DANGEROUS)),
    // Transactions.
    row("multi", Exactly(0), Action::Multi).of(TRANSACTION.and(FAST)),
    row("exec", Exactly(0), Action::Exec).of(TRANSACTION.and(SLOW)),
    row("discard", Exactly(0), Action::Discard).of(TRANSACTION.and(FAST)),
    row("watch", AtLeast(1), Action::Watch).of(TRANSACTION.and(FAST)).with_keys(1, -1, 1).only_reading(),
    row("unwatch", Exactly(0), Action::Unwatch).of(TRANSACTION.and(FAST)),
    // Messages. They tell of all keys.
    store("publish", Exactly(2), KeyAndValue, pubsub::publish)
        .of(PUBSUB.and(FAST))
        .with_keys(0, 0, 0)
        .for_all_keys(),
    row("subscribe", AtLeast(1), Action::Subscribe(Kind::Channels)).of(PUBSUB.and(SLOW)).for_all_keys(),
    row("psubscribe", AtLeast(1), Action::Subscribe(Kind::Patterns)).of(PUBSUB.and(SLOW)).for_all_keys(),
    row("unsubscribe", Any, Action::Unsubscribe(Kind::Channels)).of(PUBSUB.and(SLOW)),
    row("punsubscribe", Any, Action::Unsubscribe(Kind::Patterns)).of(PUBSUB.and(SLOW)),
    row("pubsub", AtLeast(1), Action::PubSub)
        .of(PUBSUB.and(SLOW))
        .for_all_keys()
        .with_subcommands(pubsub::check_pubsub, &[]),
    // Scripts that are known.
    store("eval", AtLeast(2), Neither, scripts::eval).of(SCRIPTING.and(SLOW)).with_counted_keys(),
    store("evalsha", AtLeast(2), Neither, scripts::evalsha).of(SCRIPTING.and(SLOW)).with_counted_keys(),
    row("script", AtLeast(1), Action::Local(scripts::script))
        .of(SCRIPTING.and(SLOW))
        .with_subcommands(scripts::check_script, &[]),
    // The connection and the node.
    row("ping", Between(0, 1), Action::Ping).of(CONNECTION.and(FAST)),
    row("echo", Exactly(1), Action::Local(local::echo)).of(CONNECTION.and(FAST)),
    row("hello", Any, Action::Hello).of(CONNECTION.and(FAST)).before_login(),
    row("auth", AtLeast(1), Action::Auth).of(CONNECTION.and(FAST)).before_login(),
    row("select", Exactly(1), Action::Local(local::select)).of(CONNECTION.and(FAST)),
    row("client", AtLeast(1), Action::Client).with_subcommands(client::check, client::SUBCOMMANDS),
    row("config", AtLeast(1), Action::Config).with_subcommands(config::check, config::SUBCOMMANDS),
    row("acl", AtLeast(1), Action::Acl).with_subcommands(acl::check, acl::SUBCOMMANDS),
    row("command", Any, Action::Local(describe::command))
        .of(CONNECTION.and(SLOW))
        .with_subcommands(describe::check, &[]),
    row("info", Any, Action::Info).of(SLOW.and(DANGEROUS)),
    row("role", Exactly(0), Action::Role).of(ADMIN.and(FAST).and(DANGEROUS)),
    row("wait", Exactly(2), Action::Wait).of(SLOW.and(CONNECTION)),
    row("waitaof", Exactly(3), Action::WaitForDisks).of(SLOW.and(CONNECTION)),
    row("cluster", AtLeast(1), Action::Local(absent::cluster))
        .of(SLOW)
        .with_subcommands(absent::check_cluster, &[]),
    row("readonly", Exactly(0), Action::Local(absent::cluster)).of(CONNECTION.and(FAST)),
    row("readwrite", Exactly(0), Action::Local(absent::cluster)).of(CONNECTION.and(FAST)),
    row("slowlog", AtLeast(1), Action::Local(absent::slowlog))
        .of(ADMIN.and(SLOW).and(DANGEROUS))
        .with_subcommands(absent::check_slowlog, &[]),
    row("latency", AtLeast(1), Action::Local(absent::latency))
        .of(ADMIN.and(SLOW).and(DANGEROUS))
        .with_subcommands(absent::check_latency, &[]),
    row("module", AtLeast(1), Action::Local(absent::module))
        .of(ADMIN.and(SLOW).and(DANGEROUS))
        .with_subcommands(absent::check_module, &[]),
    row("reset", Exactly(0), Action::Reset).of(CONNECTION.and(FAST)).before_login(),
    row("quit", Any, Action::Quit).of(CONNECTION.and(FAST)).before_login(),
];

/// A row of the table.
#[derive(Debug)]
pub(super) struct Command {
    /// In lower case.
    pub(super) name: &'static str,
    arity: Arity,
    holds: Holds,
    keys: KeyPlaces,
    check_subcommand: Option<CheckSubcommand>,
    /// The subcommands, for rules of users; empty if the command has none.
    subcommands: &'static [Subcommand],
    /// For rules of users. Those of subcommands stand there.
    categories: Categories,
    /// What it does with its keys.
    access: Access,
    /// With an argument behind the value, such as `GET` or a condition, it may also read.
    reads_with_conditions: bool,
    /// Only for users who may use all keys: it may tell of each of them.
    is_for_all_keys: bool,
    /// May be sent before the client has logged in.
    pub(super) is_before_login: bool,
    pub(super) action: Action,
}

/// Where the keys of a request are.
#[derive(Clone, Copy, Debug)]
enum KeyPlaces {
    /// Where what the command holds tells.
    Held,
    At(Keys),
    /// Behind the second argument, which is their number.
    Counted,
}

/// A subcommand, such as `LIST` of `CLIENT LIST`.
#[derive(Debug)]
pub(super) struct Subcommand {
    /// In lower case.
    pub(super) name: &'static str,
    pub(super) categories: Categories,
}

/// What a command does with its keys, and a user may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    Read,
    Write,
    ReadWrite,
}

impl Access {
    /// Whether who may do this may do `other`.
    pub(super) fn includes(self, other: Access) -> bool {
        self == Access::ReadWrite || self == other
    }
}

/// How many arguments a command takes, its name not counted.
#[derive(Clone, Copy, Debug)]
enum Arity {
    Any,
    Exactly(usize),
    AtLeast(usize),
    Between(usize, usize),
    /// One pair at least; whether the last one is whole is seen by the command.
    Pairs,
}

/// Which arguments of a command are keys and values, to say what is too long.
#[derive(Clone, Copy, Debug)]
enum Holds {
    /// Keys, or what is no longer than a key, such as a number.
    OnlyKeys,
    /// A key, then its value.
    KeyAndValue,
    /// Keys and values in turns.
    KeysAndValues,
    Neither,
}

/// Refuses a subcommand that is unknown or has a wrong number of arguments.
type CheckSubcommand = fn(&[Bytes]) -> Result<(), Reply>;

/// What carries a command out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    /// The store: the function makes an operation of the arguments.
    Store(ToOperation),
    /// The connection, from what it knows of its client and its node.
    Local(AnswerLocally),
    /// An answer only after the node has recovered.
    Ping,
    /// What the connection is, and others are.
    Client,
    /// What the node says about itself.
    Info,
    Role,
    /// Who the client is.
    Auth,
    Hello,
    /// What users there are.
    Acl,
    Config,
    /// How many nodes have what was written.
    Wait,
    WaitForDisks,
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
    /// Begins to listen.
    Subscribe(Kind),
    Unsubscribe(Kind),
    /// Who listens to what.
    PubSub,
    /// The end of a transaction and of what the client has told about itself.
    Reset,
    /// The end of the connection.
    Quit,
}

const fn store(name: &'static str, arity: Arity, holds: Holds, to_operation: ToOperation) -> Command {
    Command { holds, ..row(name, arity, Action::Store(to_operation)) }
}

/// Without rights of its own, a command is in no category, and reads and writes its keys.
const fn row(name: &'static str, arity: Arity, action: Action) -> Command {
    Command {
        name,
        arity,
        holds: Neither,
        keys: KeyPlaces::Held,
        check_subcommand: None,
        subcommands: &[],
        categories: categories::NONE,
        access: Access::ReadWrite,
        reads_with_conditions: false,
        is_for_all_keys: false,
        is_before_login: false,
        action,
    }
}

impl Command {
    const fn with_subcommands(self, check: CheckSubcommand, subcommands: &'static [Subcommand]) -> Command {
        Command { check_subcommand: Some(check), subcommands, ..self }
    }

    const fn of(self, categories: Categories) -> Command {
        Command { categories, ..self }
    }

    /// It only reads its keys.
    const fn reads(self, others: Categories) -> Command {
        Command { access: Access::Read, ..self.of(others.and(READ)) }
    }

    /// It only writes its keys: its answer tells nothing about values.
    const fn writes(self, others: Categories) -> Command {
        Command { access: Access::Write, ..self.of(others.and(WRITE)) }
    }

    /// It writes its keys, and answers with what they held.
    const fn changes(self, others: Categories) -> Command {
        Command { access: Access::ReadWrite, ..self.of(others.and(WRITE)) }
    }

    /// It only reads its keys, and is in no category for that.
    const fn only_reading(self) -> Command {
        Command { access: Access::Read, ..self }
    }

    const fn reading_with_conditions(self) -> Command {
        Command { reads_with_conditions: true, ..self }
    }

    const fn for_all_keys(self) -> Command {
        Command { is_for_all_keys: true, ..self }
    }

    const fn with_counted_keys(self) -> Command {
        Command { keys: KeyPlaces::Counted, ..self }
    }

    const fn before_login(self) -> Command {
        Command { is_before_login: true, ..self }
    }

    const fn with_keys(self, first: usize, last: isize, step: usize) -> Command {
        Command { keys: KeyPlaces::At(Keys { first, last, step }), ..self }
    }

    /// Where the keys of a request are, as the row says or what it holds tells.
    pub(super) fn keys(&self) -> Keys {
        let (first, last, step) = match (self.keys, self.holds, self.arity) {
            (KeyPlaces::At(keys), ..) => return keys,
            (KeyPlaces::Counted, ..) | (KeyPlaces::Held, Neither, _) => return Keys::default(),
            (KeyPlaces::Held, KeysAndValues, _) => (1, -1, 2),
            // All arguments are keys, and not one key with what belongs to it.
            (KeyPlaces::Held, OnlyKeys, AtLeast(1)) => (1, -1, 1),
            (KeyPlaces::Held, OnlyKeys | KeyAndValue, _) => (1, 1, 1),
        };
        Keys { first, last, step }
    }

    /// How many words a request has, its name included; negative if it may have more.
    pub(super) fn arity(&self) -> i64 {
        let words = i64::try_from(self.fewest_arguments() + 1).unwrap_or(i64::MAX);
        if matches!(self.arity, Exactly(_)) { words } else { -words }
    }

    pub(super) fn fewest_arguments(&self) -> usize {
        match self.arity {
            Any => 0,
            Exactly(count) | AtLeast(count) | Between(count, _) => count,
            Pairs => 2,
        }
    }

    /// Refuses arguments whose number does not fit, before anything else is looked at.
    pub(super) fn check_arity(&self, arguments: &[Bytes]) -> Result<(), Reply> {
        let count = arguments.len();
        let fits = match self.arity {
            Any => true,
            Exactly(exact) => count == exact,
            AtLeast(least) => count >= least,
            Between(least, most) => (least..=most).contains(&count),
            Pairs => count >= 2,
        };
        match self.check_subcommand {
            _ if !fits => Err(wrong_arity(self.name)),
            Some(check) => check(arguments),
            None => Ok(()),
        }
    }
}

/// What rules of users need to know. The units of a command are its subcommands, a bit for each; a command
/// without subcommands has one.
impl Command {
    /// The place in the table.
    pub(super) fn index(&self) -> usize {
        COMMANDS.iter().position(|row| row.name == self.name).expect("every command is a row of the table")
    }

    pub(super) fn all_units(&self) -> u64 {
        u64::MAX >> (u64::BITS as usize - self.subcommands.len().max(1))
    }

    /// The unit of the subcommand with this name.
    pub(super) fn unit_named(&self, name: &[u8]) -> Option<u64> {
        let place = self.subcommands.iter().position(|known| is(name, known.name))?;
        Some(1 << place)
    }

    /// The units that are in a category.
    pub(super) fn units_in(&self, category: Categories) -> u64 {
        if self.subcommands.is_empty() {
            return u64::from(self.categories.has(category));
        }
        let units = self.subcommands.iter().enumerate();
        units.map(|(place, known)| u64::from(known.categories.has(category)) << place).sum()
    }

    /// The units that running the command with these arguments takes.
    pub(super) fn units_of(&self, arguments: &[Bytes]) -> u64 {
        let named = arguments.first().and_then(|name| self.unit_named(name));
        named.unwrap_or(self.all_units())
    }

    /// The name, with that of the subcommand: `client|list`.
    pub(super) fn full_name(&self, arguments: &[Bytes]) -> String {
        let named =
            arguments.first().and_then(|name| self.subcommands.iter().find(|known| is(name, known.name)));
        named.map_or_else(|| self.name.to_owned(), |known| format!("{}|{}", self.name, known.name))
    }

    /// The names of the command, or of its subcommands, as far as they are in a category.
    pub(super) fn names_in(&self, category: Categories) -> Vec<String> {
        if self.subcommands.is_empty() {
            return self.categories.has(category).then(|| self.name.to_owned()).into_iter().collect();
        }
        let known = self.subcommands.iter().filter(|known| known.categories.has(category));
        known.map(|known| format!("{}|{}", self.name, known.name)).collect()
    }

    /// What the command does with its keys.
    pub(super) fn access(&self, arguments: &[Bytes]) -> Access {
        let reads = self.reads_with_conditions && !only_write(arguments.iter().skip(2));
        if reads { Access::ReadWrite } else { self.access }
    }

    /// Whether only a user of all keys may run it with these arguments.
    pub(super) fn is_for_all_keys(&self, arguments: &[Bytes]) -> bool {
        let tracks = || arguments.first().is_some_and(|subcommand| is(subcommand, "tracking"));
        self.is_for_all_keys || matches!(self.action, Action::Client) && tracks()
    }

    /// Whether any of its arguments may be keys.
    pub(super) fn has_keys(&self) -> bool {
        matches!(self.keys, KeyPlaces::Counted) || self.keys().first > 0
    }

    /// The arguments that are keys.
    pub(super) fn keys_among<'a>(&self, arguments: &'a [Bytes]) -> impl Iterator<Item = &'a Bytes> + use<'a> {
        let keys = match self.keys {
            KeyPlaces::Counted => Keys::counted(arguments),
            KeyPlaces::Held | KeyPlaces::At(_) => self.keys(),
        };
        keys.among(arguments)
    }
}

/// Whether these options of `SET` tell nothing about the old value.
fn only_write<'a>(mut options: impl Iterator<Item = &'a Bytes>) -> bool {
    let any_of = |option: &Bytes, names: &[&str]| names.iter().any(|name| is(option, name));
    while let Some(option) = options.next() {
        if any_of(option, &["ex", "px", "exat", "pxat"]) {
            options.next();
        } else if !any_of(option, &["nx", "xx", "keepttl"]) {
            return false;
        }
    }
    true
}

/// The command of this name, in lower case.
pub(super) fn find(name: &[u8]) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name.as_bytes() == name)
}

/// The place of a command in the table.
pub(super) fn place_of(command: &'static Command) -> usize {
    let offset = std::ptr::from_ref(command).addr() - COMMANDS.as_ptr().addr();
    offset / size_of::<Command>()
}

#[cfg(test)]
mod tests;
