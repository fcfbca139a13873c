//! `ACL`: what users there are. They are made by the file of users alone, not by commands.

use bytes::Bytes;

use super::categories::{ADMIN, Categories, DANGEROUS, NAMES, SLOW};
use super::commands::{COMMANDS, Subcommand};
use super::errors;
use super::users::{User, Users};
use super::words::is;
use super::write::Writer;
use crate::kv::Reply;

const ABOUT_USERS: Categories = ADMIN.and(SLOW).and(DANGEROUS);

/// The subcommands of `ACL`.
pub(super) const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand { name: "whoami", categories: SLOW },
    Subcommand { name: "cat", categories: SLOW },
    Subcommand { name: "list", categories: ABOUT_USERS },
    Subcommand { name: "users", categories: ABOUT_USERS },
    Subcommand { name: "getuser", categories: ABOUT_USERS },
];
/// The one user where there is no file of users.
const EVERYBODY: &str = "user default on nopass ~* +@all";

/// Refuses a subcommand that is unknown or has a wrong number of arguments.
pub(super) fn check(arguments: &[Bytes]) -> Result<(), Reply> {
    let count = arguments.len() - 1;
    let lower = arguments[0].to_ascii_lowercase();
    let fits = match &lower[..] {
        b"whoami" | b"list" | b"users" => count == 0,
        b"getuser" => count == 1,
        b"cat" => count <= 1,
        b"setuser" | b"deluser" | b"load" | b"save" => {
            return Err(Reply::error(
                "ERR users are changed in the file of users of each node, not by commands",
            ));
        }
        _ => return Err(errors::unknown_subcommand("acl", &arguments[0])),
    };
    let full = || format!("acl|{}", String::from_utf8_lossy(&lower));
    if fits { Ok(()) } else { Err(errors::wrong_arity(&full())) }
}

/// Writes the answer to `ACL`, whose arguments have been checked, to a client who is `name`.
pub(super) fn answer(name: &str, users: Option<&Users>, arguments: &[Bytes], out: &mut Writer<'_>) {
    let everybody;
    let users = if let Some(users) = users {
        users
    } else {
        everybody = Users::parse(EVERYBODY.as_bytes()).expect("the line is in order");
        &everybody
    };
    match arguments {
        [subcommand] if is(subcommand, "whoami") => out.bulk(name.as_bytes()),
        [subcommand] if is(subcommand, "list") => {
            out.array(users.len());
            users.all().for_each(|user| out.bulk(user.in_words().as_bytes()));
        }
        [subcommand] if is(subcommand, "users") => {
            out.array(users.len());
            users.all().for_each(|user| out.bulk(user.name.as_bytes()));
        }
        [subcommand] if is(subcommand, "cat") => {
            out.array(NAMES.len());
            for (name, _) in NAMES {
                out.bulk(name.as_bytes());
            }
        }
        [_, category] if is(&arguments[0], "cat") => commands_in(category, out),
        [_, name] => match users.named(name) {
            Some(user) => describe(user, out),
            None => out.nil(),
        },
        _ => out.error(errors::SYNTAX.as_bytes()),
    }
}

/// The commands and subcommands of a category.
fn commands_in(name: &[u8], out: &mut Writer<'_>) {
    let Some(category) = std::str::from_utf8(name).ok().and_then(Categories::named) else {
        let shown = String::from_utf8_lossy(&name[..name.len().min(errors::MAX_ECHO_BYTES)]).into_owned();
        return out.error(format!("ERR Unknown category '{shown}'").as_bytes());
    };
    let names: Vec<String> = COMMANDS.iter().flat_map(|command| command.names_in(category)).collect();
    out.array(names.len());
    for name in names {
        out.bulk(name.as_bytes());
    }
}

/// The answer to `ACL GETUSER`.
fn describe(user: &User, out: &mut Writer<'_>) {
    out.map(6);
    for (name, words) in [
        ("flags", user.flags().into_iter().map(str::to_owned).collect()),
        ("passwords", user.password_hashes()),
    ] {
        out.bulk(name.as_bytes());
        out.array(words.len());
        for word in words {
            out.bulk(word.as_bytes());
        }
    }
    // There are no channels here.
    for (name, text) in
        [("commands", user.commands_in_words()), ("keys", user.keys_in_words()), ("channels", String::new())]
    {
        out.bulk(name.as_bytes());
        out.bulk(text.as_bytes());
    }
    out.bulk(b"selectors");
    out.array(0);
}
