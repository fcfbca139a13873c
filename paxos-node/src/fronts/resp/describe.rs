//! `COMMAND`: what clients can ask about the commands of the table.
//!
//! Everything is derived from a command's row: where its keys are from what it holds, and whether it writes
//! from the operation that it becomes, or from what its row says if its options decide.

use bytes::Bytes;

use super::RespSettings;
use super::absent;
use super::commands::{Access, Action, COMMANDS, Command, find};
use super::errors::SYNTAX;
use super::local::ClientInfo;
use super::words::{CUT_NAME_BYTES, is, lower_case};
use super::write::Writer;
use crate::kv::{Operation, Pattern, Reply};

/// Where the keys of a request are, its name counted as the first word: none if `first` is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Keys {
    pub(super) first: usize,
    /// Negative places count from the end.
    pub(super) last: isize,
    pub(super) step: usize,
}

impl Keys {
    /// The keys of a request with these arguments whose second one is their number. If it is no number, all
    /// are taken for keys.
    pub(super) fn counted(arguments: &[Bytes]) -> Keys {
        let count = arguments.get(1).and_then(|count| std::str::from_utf8(count).ok()?.parse::<isize>().ok());
        match count {
            Some(0) => Keys::default(),
            Some(count @ 1..) => Keys { first: 3, last: count.saturating_add(2), step: 1 },
            _ => Keys { first: 1, last: -1, step: 1 },
        }
    }

    /// The keys among the arguments of a request.
    pub(super) fn among(self, arguments: &[Bytes]) -> impl Iterator<Item = &Bytes> + use<'_> {
        let last = usize::try_from(self.last).ok();
        let end = last.unwrap_or(arguments.len()).min(arguments.len());
        let keys = self.first.checked_sub(1).and_then(|first| arguments.get(first..end));
        keys.unwrap_or_default().iter().step_by(self.step.max(1))
    }
}

pub(super) fn command(_: &mut ClientInfo, arguments: &[Bytes], out: &mut Writer<'_>) {
    match arguments {
        [] => {
            out.array(COMMANDS.len());
            for command in COMMANDS {
                describe(command, out);
            }
        }
        [subcommand] if is(subcommand, "count") => {
            out.integer(i64::try_from(COMMANDS.len()).unwrap_or(i64::MAX));
        }
        [subcommand, rest @ ..] if is(subcommand, "list") => list(rest, out),
        [subcommand, names @ ..] if is(subcommand, "docs") => {
            let is_wanted =
                |command: &&Command| names.is_empty() || names.iter().any(|name| is(name, command.name));
            out.map(COMMANDS.iter().filter(is_wanted).count());
            for command in COMMANDS.iter().filter(is_wanted) {
                out.bulk(command.name.as_bytes());
                out.map(1);
                out.bulk(b"group");
                out.bulk(group(command).as_bytes());
            }
        }
        [subcommand] if is(subcommand, "info") => {
            out.array(COMMANDS.len());
            for command in COMMANDS {
                describe(command, out);
            }
        }
        [subcommand, names @ ..] if is(subcommand, "info") => {
            out.array(names.len());
            for name in names {
                match named(name) {
                    Some(command) => describe(command, out),
                    None => out.nil(),
                }
            }
        }
        // The number of arguments and the subcommands have been checked.
        [_, request @ ..] => keys_of(request, out),
    }
}

/// Refuses a subcommand of `COMMAND` that is unknown or has a wrong number of arguments.
pub(super) fn check(arguments: &[Bytes]) -> Result<(), Reply> {
    let many = usize::MAX;
    let known =
        [("count", 0, 0), ("list", 0, many), ("docs", 0, many), ("info", 0, many), ("getkeys", 1, many)];
    if arguments.is_empty() { Ok(()) } else { absent::check("command", &known, arguments) }
}

fn named(name: &[u8]) -> Option<&'static Command> {
    find(lower_case(name, &mut [0; CUT_NAME_BYTES]))
}

fn list(filter: &[Bytes], out: &mut Writer<'_>) {
    let pattern = match filter {
        [] => None,
        [word, kind, pattern] if is(word, "filterby") && is(kind, "pattern") => {
            Some(Pattern::new(&pattern.to_ascii_lowercase()))
        }
        // No command is one of a module.
        [word, kind, _] if is(word, "filterby") && is(kind, "module") => return out.array(0),
        _ => return out.error(SYNTAX.as_bytes()),
    };
    let is_wanted =
        |command: &&Command| pattern.as_ref().is_none_or(|pattern| pattern.matches(command.name.as_bytes()));
    out.array(COMMANDS.iter().filter(is_wanted).count());
    COMMANDS.iter().filter(is_wanted).for_each(|command| out.bulk(command.name.as_bytes()));
}

/// `COMMAND GETKEYS`.
fn keys_of(request: &[Bytes], out: &mut Writer<'_>) {
    let Some(command) = request.first().and_then(|name| named(name)) else {
        return out.error(b"ERR Invalid command specified");
    };
    if !command.has_keys() {
        return out.error(b"ERR The command has no key arguments");
    }
    if command.check_arity(&request[1..]).is_err() {
        return out.error(b"ERR Invalid number of arguments specified for command");
    }
    let keys: Vec<_> = command.keys_among(&request[1..]).collect();
    out.array(keys.len());
    for key in &keys {
        out.bulk(key);
    }
}

/// What a command of the store does, as far as its row tells; `None` if it is none.
fn operation(command: &Command) -> Option<Operation> {
    let Action::Store(to_operation) = command.action else { return None };
    // Different numbers are good arguments for everything but subcommands.
    let words = |(first, count): (&'static str, usize)| -> Vec<Bytes> {
        let words = [first, "1", "2", "3", "4", "5", "6"].into_iter().take(count);
        words.map(|word| Bytes::from_static(word.as_bytes())).collect()
    };
    let fewest = command.fewest_arguments();
    let tried = [("0", fewest), ("encoding", fewest + 1), ("usage", fewest + 1)].map(words);
    let mut fitting = tried.iter().filter(|words| command.check_arity(words).is_ok());
    fitting.find_map(|words| to_operation(words, &RespSettings::default()).ok())
}

/// The flags of a command, in the words of Redis.
fn flags(command: &Command) -> Vec<&'static str> {
    match command.action {
        Action::Store(_) => match operation(command) {
            Some(Operation::Publish { .. }) => vec!["pubsub", "loading", "stale", "fast"],
            Some(operation) if operation.is_read() && command.access(&[]) == Access::Read => vec!["readonly"],
            Some(operation) if operation.needs_memory() => vec!["write", "denyoom"],
            _ => vec!["write"],
        },
        Action::Subscribe(_) | Action::Unsubscribe(_) | Action::PubSub => {
            vec!["pubsub", "noscript", "loading", "stale"]
        }
        _ => vec!["noscript", "loading", "stale", "fast"],
    }
}

/// The group of commands that a command belongs to.
fn group(command: &Command) -> &'static str {
    match command.action {
        Action::Store(_) => match operation(command) {
            Some(Operation::Publish { .. }) => "pubsub",
            Some(
                Operation::Delete { .. }
                | Operation::Exists { .. }
                | Operation::Type { .. }
                | Operation::Scan { .. }
                | Operation::Rename { .. }
                | Operation::Copy { .. }
                | Operation::RandomKey { .. }
                | Operation::Keys { .. }
                | Operation::Object { .. }
                | Operation::ChangeDeadline { .. }
                | Operation::Deadline { .. }
                | Operation::Created { .. },
            ) => "generic",
            Some(Operation::DbSize | Operation::FlushAll) => "server",
            _ => "string",
        },
        Action::Multi | Action::Exec | Action::Discard | Action::Watch | Action::Unwatch => "transactions",
        Action::Subscribe(_) | Action::Unsubscribe(_) | Action::PubSub => "pubsub",
        Action::Ping | Action::Reset | Action::Quit | Action::Client => "connection",
        _ => "server",
    }
}

/// One command, as `COMMAND` and `COMMAND INFO` show it.
fn describe(command: &Command, out: &mut Writer<'_>) {
    let keys = command.keys();
    let flags = flags(command);
    let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    out.array(10);
    out.bulk(command.name.as_bytes());
    out.integer(command.arity());
    out.set(flags.len());
    for flag in &flags {
        out.simple(flag);
    }
    out.integer(number(keys.first));
    out.integer(i64::try_from(keys.last).unwrap_or(i64::MAX));
    out.integer(number(keys.step));
    let is_read = flags.contains(&"readonly");
    let categories: &[&str] = match command.action {
        Action::Store(_) if is_read => &["@read"],
        Action::Store(_) => &["@write"],
        _ => &["@connection"],
    };
    out.set(categories.len());
    for category in categories {
        out.simple(category);
    }
    // No tips.
    out.set(0);
    if keys == Keys::default() {
        out.set(0);
    } else {
        out.set(1);
        describe_keys(keys, is_read, out);
    }
    // No subcommands.
    out.set(0);
}

fn describe_keys(keys: Keys, is_read: bool, out: &mut Writer<'_>) {
    let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    // Here, the place of the last key counts from the first one.
    let last = if keys.last < 0 { keys.last } else { keys.last - isize::try_from(keys.first).unwrap_or(0) };
    out.map(3);
    out.bulk(b"flags");
    out.set(1);
    out.simple(if is_read { "RO" } else { "RW" });
    for (part, kind) in [("begin_search", "index"), ("find_keys", "range")] {
        out.bulk(part.as_bytes());
        out.map(2);
        out.bulk(b"type");
        out.bulk(kind.as_bytes());
        out.bulk(b"spec");
        if kind == "index" {
            out.map(1);
            out.bulk(b"index");
            out.integer(number(keys.first));
        } else {
            out.map(3);
            for (name, value) in [
                ("lastkey", i64::try_from(last).unwrap_or(i64::MAX)),
                ("keystep", number(keys.step)),
                ("limit", 0),
            ] {
                out.bulk(name.as_bytes());
                out.integer(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_where_keys_are_and_whether_the_command_writes() {
        for (name, arity, flag, (first, last, step)) in [
            ("get", 2, "readonly", (1, 1, 1)),
            ("set", -3, "write", (1, 1, 1)),
            ("mget", -2, "readonly", (1, -1, 1)),
            ("mset", -3, "write", (1, -1, 2)),
            ("del", -2, "write", (1, -1, 1)),
            ("incrby", 3, "write", (1, 1, 1)),
            ("getrange", 4, "readonly", (1, 1, 1)),
            ("setrange", 4, "write", (1, 1, 1)),
            ("rename", 3, "write", (1, 2, 1)),
            ("copy", -3, "write", (1, 2, 1)),
            ("object", -2, "readonly", (2, 2, 1)),
            ("memory", -2, "readonly", (2, 2, 1)),
            ("scan", -2, "readonly", (0, 0, 0)),
            ("keys", 2, "readonly", (0, 0, 0)),
            ("watch", -2, "noscript", (1, -1, 1)),
            ("publish", 3, "pubsub", (0, 0, 0)),
            ("ping", -1, "fast", (0, 0, 0)),
        ] {
            let command = find(name.as_bytes()).expect("it is in the table");
            assert_eq!(command.arity(), arity, "{name}");
            assert!(flags(command).contains(&flag), "{name}: {:?}", flags(command));
            assert_eq!(command.keys(), Keys { first, last, step }, "{name}");
        }
    }

    #[test]
    fn each_command_of_the_store_tells_what_it_does() {
        let is_scripted = |command: &&Command| ["eval", "evalsha"].contains(&command.name);
        let is_of_store = |command: &&Command| matches!(command.action, Action::Store(_));
        for command in COMMANDS.iter().filter(is_of_store).filter(|command| !is_scripted(command)) {
            assert!(operation(command).is_some(), "{} needs other arguments", command.name);
        }
    }
}
