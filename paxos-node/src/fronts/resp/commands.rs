//! The table of all commands, one row each. From it come dispatch, the errors for a wrong number of arguments
//! and for arguments that are too long, and the answers to `COMMAND`.
//!
//! To add a command, add a row to [`COMMANDS`] and the function that it names: to [`operations`] if the store
//! carries it out, to [`local`] if the connection answers it by itself. What the store can't do yet becomes
//! an [`Operation`] of its own; `.github/CONTRIBUTING.md` lists what that needs.

use bytes::Bytes;

use super::RespSettings;
use super::errors::{too_long, wrong_arity};
use super::expiry;
use super::local::{self, AnswerLocally, ClientInfo};
use super::operations::{self, ToOperation};
use super::parse::Excess;
use super::words::is;
use super::write::Writer;
use crate::kv::{Operation, Reply};

use Arity::{Any, AtLeast, Between, Exactly, Pairs};
use Holds::{KeyAndValue, KeysAndValues, Neither, OnlyKeys};

/// All commands. A look-up goes through them from the first on, so the most frequent ones stand there.
pub(super) static COMMANDS: &[Command] = &[
    // Values.
    store("get", Exactly(1), OnlyKeys, operations::get),
    store("set", AtLeast(2), KeyAndValue, expiry::set),
    store("mget", AtLeast(1), OnlyKeys, operations::mget),
    store("mset", Pairs, KeysAndValues, operations::mset),
    store("setnx", Exactly(2), KeyAndValue, operations::setnx),
    store("getset", Exactly(2), KeyAndValue, operations::getset),
    store("getdel", Exactly(1), OnlyKeys, operations::getdel),
    store("append", Exactly(2), KeyAndValue, operations::append),
    store("strlen", Exactly(1), OnlyKeys, operations::strlen),
    // Expiry.
    store("setex", Exactly(3), KeyAndValue, expiry::setex),
    store("psetex", Exactly(3), KeyAndValue, expiry::psetex),
    store("getex", AtLeast(1), OnlyKeys, expiry::getex),
    store("expire", AtLeast(2), OnlyKeys, expiry::expire),
    store("pexpire", AtLeast(2), OnlyKeys, expiry::pexpire),
    store("expireat", AtLeast(2), OnlyKeys, expiry::expireat),
    store("pexpireat", AtLeast(2), OnlyKeys, expiry::pexpireat),
    store("ttl", Exactly(1), OnlyKeys, expiry::ttl),
    store("pttl", Exactly(1), OnlyKeys, expiry::pttl),
    store("expiretime", Exactly(1), OnlyKeys, expiry::expiretime),
    store("pexpiretime", Exactly(1), OnlyKeys, expiry::pexpiretime),
    store("persist", Exactly(1), OnlyKeys, expiry::persist),
    store("paxos.fence", Exactly(1), OnlyKeys, expiry::fence),
    // Integers.
    store("incr", Exactly(1), OnlyKeys, operations::incr),
    store("decr", Exactly(1), OnlyKeys, operations::decr),
    store("incrby", Exactly(2), OnlyKeys, operations::incrby),
    store("decrby", Exactly(2), OnlyKeys, operations::decrby),
    // Keys.
    store("del", AtLeast(1), OnlyKeys, operations::del),
    store("unlink", AtLeast(1), OnlyKeys, operations::del),
    store("exists", AtLeast(1), OnlyKeys, operations::exists),
    store("type", Exactly(1), OnlyKeys, operations::type_of),
    store("scan", AtLeast(1), Neither, operations::scan),
    store("dbsize", Exactly(0), Neither, operations::dbsize),
    store("flushall", Between(0, 1), Neither, operations::flush),
    store("flushdb", Between(0, 1), Neither, operations::flush),
    // Transactions.
    row("multi", Exactly(0), Action::Multi),
    row("exec", Exactly(0), Action::Exec),
    row("discard", Exactly(0), Action::Discard),
    row("watch", AtLeast(1), Action::Watch),
    row("unwatch", Exactly(0), Action::Local(local::unwatch)),
    // The connection and the node.
    row("ping", Between(0, 1), Action::Ping),
    row("echo", Exactly(1), Action::Local(local::echo)),
    row("hello", Any, Action::Local(local::hello)),
    row("auth", AtLeast(1), Action::Local(local::auth)),
    row("select", Exactly(1), Action::Local(local::select)),
    row("client", AtLeast(1), Action::Local(local::client)).with_subcommands(local::check_client),
    row("config", AtLeast(1), Action::Local(local::config)).with_subcommands(local::check_config),
    row("command", Any, Action::Local(describe)),
    row("info", Any, Action::Info),
    row("role", Exactly(0), Action::Role),
    row("reset", Exactly(0), Action::Reset),
    row("quit", Any, Action::Quit),
];

/// A row of the table.
#[derive(Debug)]
pub(super) struct Command {
    /// In lower case.
    pub(super) name: &'static str,
    arity: Arity,
    holds: Holds,
    check_subcommand: Option<CheckSubcommand>,
    pub(super) action: Action,
}

/// How many arguments a command takes, its name not counted.
#[derive(Clone, Copy, Debug)]
enum Arity {
    Any,
    Exactly(usize),
    AtLeast(usize),
    Between(usize, usize),
    /// One pair at least.
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
    /// What the node says about itself.
    Info,
    Role,
    Multi,
    Exec,
    Discard,
    Watch,
    /// The end of a transaction and of what the client has told about itself.
    Reset,
    /// The end of the connection.
    Quit,
}

const fn store(name: &'static str, arity: Arity, holds: Holds, to_operation: ToOperation) -> Command {
    Command { holds, ..row(name, arity, Action::Store(to_operation)) }
}

const fn row(name: &'static str, arity: Arity, action: Action) -> Command {
    Command { name, arity, holds: Neither, check_subcommand: None, action }
}

impl Command {
    const fn with_subcommands(self, check: CheckSubcommand) -> Command {
        Command { check_subcommand: Some(check), ..self }
    }

    /// Refuses arguments whose number does not fit, before anything else is looked at.
    pub(super) fn check_arity(&self, arguments: &[Bytes]) -> Result<(), Reply> {
        let count = arguments.len();
        let fits = match self.arity {
            Any => true,
            Exactly(exact) => count == exact,
            AtLeast(least) => count >= least,
            Between(least, most) => (least..=most).contains(&count),
            Pairs => count >= 2 && count.is_multiple_of(2),
        };
        match self.check_subcommand {
            _ if !fits => Err(wrong_arity(self.name)),
            Some(check) => check(arguments),
            None => Ok(()),
        }
    }
}

/// The command of this name, in lower case.
pub(super) fn find(name: &[u8]) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name.as_bytes() == name)
}

/// `COMMAND`. It does not describe single commands: clients that ask for that go on without it.
fn describe(_: &mut ClientInfo, arguments: &[Bytes], out: &mut Writer<'_>) {
    match arguments {
        [subcommand] if is(subcommand, "count") => {
            out.integer(i64::try_from(COMMANDS.len()).unwrap_or(i64::MAX));
        }
        [subcommand] if is(subcommand, "list") => {
            out.array(COMMANDS.len());
            for command in COMMANDS {
                out.bulk(command.name.as_bytes());
            }
        }
        [subcommand, ..] if is(subcommand, "docs") => out.map(0),
        [subcommand, names @ ..] if is(subcommand, "info") => {
            out.array(names.len());
            for _ in names {
                out.nil();
            }
        }
        _ => out.array(0),
    }
}

/// What the arguments of a store's command mean.
pub(super) enum Meaning {
    /// Something for the store to do.
    Operation(Operation),
    /// The answer is known without the store; mostly it is an error.
    Answer(Reply),
    /// A key or value is too long; the request is not tried, and a transaction fails with it.
    TooLong(Reply),
}

/// Makes an operation of arguments whose number has been checked.
pub(super) fn meaning(to_operation: ToOperation, arguments: &[Bytes], settings: &RespSettings) -> Meaning {
    match to_operation(arguments, settings) {
        Ok(operation) => match check_lengths(&operation, settings) {
            Ok(()) => Meaning::Operation(operation),
            Err(error) => Meaning::TooLong(error),
        },
        Err(answer) => Meaning::Answer(answer),
    }
}

fn check_lengths(operation: &Operation, settings: &RespSettings) -> Result<(), Reply> {
    let pair = |key: &Bytes, value: &Bytes| {
        let (keys, values) = (settings.max_key_bytes, settings.max_value_bytes);
        if key.len() > keys {
            return Err(too_long("key", keys));
        }
        if value.len() > values {
            return Err(too_long("value", values));
        }
        Ok(())
    };
    match operation {
        Operation::Set { key, value, .. }
        | Operation::SetNx { key, value }
        | Operation::SetExpiring { key, value, .. }
        | Operation::Append { key, value, .. } => pair(key, value),
        Operation::MSet { pairs } => pairs.iter().try_for_each(|(key, value)| pair(key, value)),
        Operation::Add { key, .. } => pair(key, &Bytes::new()),
        // No store has a key that is too long: looking for it or removing it does no harm.
        Operation::Get { .. }
        | Operation::GetDel { .. }
        | Operation::Delete { .. }
        | Operation::Exists { .. }
        | Operation::StrLen { .. }
        | Operation::MGet { .. }
        | Operation::DbSize
        | Operation::Scan { .. }
        | Operation::FlushAll
        | Operation::GetExpiring { .. }
        | Operation::ChangeDeadline { .. }
        | Operation::Deadline { .. }
        | Operation::Created { .. }
        | Operation::Expire { .. }
        | Operation::Type { .. } => Ok(()),
    }
}

/// The answer to a request that was dropped while it was read, as it has too much of something.
pub(super) fn excessive(excess: &Excess, settings: &RespSettings) -> Reply {
    let RespSettings { max_key_bytes, max_value_bytes, max_arguments, .. } = settings;
    let (name, place) = match excess {
        Excess::Arguments => {
            return Reply::error(&format!("ERR request exceeds the limit of {max_arguments} arguments"));
        }
        Excess::Bytes => {
            let limit_bytes = settings.max_request_bytes();
            return Reply::error(&format!("ERR request exceeds the limit of {limit_bytes} bytes"));
        }
        Excess::Argument { name, place } => (&name[..], *place),
    };
    match find(name).map_or(Neither, |command| command.holds) {
        KeyAndValue if place > 1 => too_long("value", *max_value_bytes),
        KeysAndValues if place.is_multiple_of(2) => too_long("value", *max_value_bytes),
        OnlyKeys | KeyAndValue | KeysAndValues => too_long("key", *max_key_bytes),
        Neither => too_long("argument", settings.max_argument_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::words::CUT_NAME_BYTES;
    use super::*;

    #[test]
    fn names_are_in_lower_case_short_and_given_once() {
        let names: BTreeSet<&str> = COMMANDS.iter().map(|command| command.name).collect();
        assert_eq!(names.len(), COMMANDS.len());
        assert!(names.iter().all(|name| name.len() < CUT_NAME_BYTES && *name == name.to_lowercase()));
    }

    #[test]
    fn arguments_are_counted_without_the_name() {
        let fits = |name: &str, count: usize| {
            let command = find(name.as_bytes()).expect("it is in the table");
            command.check_arity(&vec![Bytes::from_static(b"getname"); count]).is_ok()
        };
        for (name, right, wrong) in [
            ("get", &[1][..], &[0, 2][..]),
            ("set", &[2, 3, 6], &[0, 1]),
            ("mset", &[2, 4], &[0, 1, 3]),
            ("flushall", &[0, 1], &[2]),
            ("quit", &[0, 9], &[]),
            ("client", &[1], &[0, 2]),
        ] {
            assert!(right.iter().all(|count| fits(name, *count)), "{name}");
            assert!(wrong.iter().all(|count| !fits(name, *count)), "{name}");
        }
    }
}
