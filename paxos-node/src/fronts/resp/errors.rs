//! The errors that clients are told, in the words of Redis wherever it has some: clients look for them.

use bytes::Bytes;

use super::parse::Request;
use crate::client::ClientError;
use crate::kv::Reply;

/// How much of a word is repeated to the client, and of how many arguments.
pub(super) const MAX_ECHO_BYTES: usize = 128;
const MAX_ECHO_ARGUMENTS: usize = 8;

pub(super) const SYNTAX: &str = "ERR syntax error";
pub(super) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
pub(super) const NO_MEMORY_LEFT: &str = "OOM command not allowed when used memory > 'maxmemory'.";

pub(super) const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
pub(super) const NOT_LOGGED_IN: &str = "NOAUTH Authentication required.";
pub(super) const HELLO_WITHOUT_LOGIN: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise \
                                              the HELLO AUTH <user> <pass> option can be used to \
                                              authenticate the client and select the RESP protocol version at \
                                              the same time";
pub(super) const NOT_IN_TRANSACTION: &str = "ERR Command not allowed inside a transaction";
pub(super) const TOO_MANY_WRONG_PASSWORDS: &str = "ERR too many wrong passwords from this address: try again in a few \
                                                   seconds";

/// The user may not run a command.
pub(super) fn no_permission_to_run(command: &str) -> Reply {
    Reply::error(&format!("NOPERM this user has no permissions to run the '{command}' command"))
}

/// The user may not do that with one of the keys.
pub(super) fn no_permission_for_key() -> Reply {
    Reply::error("NOPERM this user has no permissions to access one of the keys used as arguments")
}

/// The answer to a command about channels, which may tell of any key, from a user of some keys.
pub(super) fn no_permission_for_channel() -> Reply {
    Reply::error("NOPERM this user has no permissions to access one of the channels used as arguments")
}

/// The error of a command that the cluster has not carried out, or may not have.
pub(super) fn client_error(error: ClientError) -> Reply {
    let code = match error {
        ClientError::OutcomeUnknown => "TIMEOUT",
        ClientError::TooLarge { .. } => "ERR",
        ClientError::Recovering => "LOADING",
        ClientError::NoMemory => return Reply::error(NO_MEMORY_LEFT),
        _ => "CLUSTERDOWN",
    };
    Reply::error(&format!("{code} {error}"))
}

pub(super) fn unknown_command(request: &Request) -> Reply {
    let mut line = format!("ERR unknown command '{}', with args beginning with: ", shown(&request[0]));
    for argument in request[1..].iter().take(MAX_ECHO_ARGUMENTS) {
        line.extend(["'", &shown(argument), "' "]);
    }
    Reply::Error(Bytes::from(line))
}

/// The error of a command that a client may not send as long as it listens.
pub(super) fn only_listens(name: &str) -> Reply {
    Reply::error(&format!(
        "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
    ))
}

/// The answer to an `EXEC` that has ended its transaction without carrying anything out.
pub(super) fn transaction_discarded(because: &Reply) -> Reply {
    let because = if let Reply::Error(text) = because { text.as_ref() } else { b"" };
    let because = String::from_utf8_lossy(because.strip_prefix(b"ERR ").unwrap_or(because));
    Reply::error(&format!("EXECABORT Transaction discarded because of: {because}"))
}

/// `name` is a command's, or that of a subcommand behind it: `client|setname`.
pub(super) fn wrong_arity(name: &str) -> Reply {
    Reply::error(&format!("ERR wrong number of arguments for '{name}' command"))
}

pub(super) fn unknown_subcommand(command: &str, subcommand: &[u8]) -> Reply {
    let (shown, command) = (shown(subcommand), command.to_uppercase());
    Reply::error(&format!("ERR unknown subcommand '{shown}'. Try {command} HELP."))
}

/// What Redis says of some subcommands that have too many arguments.
pub(super) fn unknown_or_wrong_arity(command: &str, subcommand: &[u8]) -> Reply {
    let (shown, command) = (shown(subcommand), command.to_uppercase());
    Reply::error(&format!(
        "ERR unknown subcommand or wrong number of arguments for '{shown}'. Try {command} HELP."
    ))
}

pub(super) fn too_long(what: &str, limit_bytes: usize) -> Reply {
    Reply::error(&format!("ERR {what} exceeds the limit of {limit_bytes} bytes"))
}

/// The beginning of a word.
fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(&word[..word.len().min(MAX_ECHO_BYTES)]).into_owned()
}
