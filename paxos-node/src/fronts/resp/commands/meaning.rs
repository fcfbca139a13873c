//! What the arguments of a request mean for the store, and which are too long for it.

use bytes::Bytes;

use super::Holds::{KeyAndValue, KeysAndValues, Neither, OnlyKeys};
use super::find;
use crate::fronts::resp::RespSettings;
use crate::fronts::resp::errors::too_long;
use crate::fronts::resp::operations::ToOperation;
use crate::fronts::resp::parse::Excess;
use crate::kv::{Operation, Reply};

/// What the arguments of a store's command mean.
pub(in crate::fronts::resp) enum Meaning {
    /// Something for the store to do.
    Operation(Operation),
    /// The answer is known without the store; mostly it is an error.
    Answer(Reply),
    /// A key or value is too long; the request is not tried, and a transaction fails with it.
    TooLong(Reply),
}

/// Makes an operation of arguments whose number has been checked.
pub(in crate::fronts::resp) fn meaning(
    to_operation: ToOperation,
    arguments: &[Bytes],
    settings: &RespSettings,
) -> Meaning {
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
        | Operation::SetRange { key, value, .. }
        | Operation::SetExpiring { key, value, .. }
        | Operation::Publish { channel: key, message: value }
        | Operation::Append { key, value, .. } => pair(key, value),
        Operation::MSet { pairs } | Operation::MSetNx { pairs } => {
            pairs.iter().try_for_each(|(key, value)| pair(key, value))
        }
        Operation::SetAll { keys, value, .. } => keys.iter().try_for_each(|key| pair(key, value)),
        Operation::SlideWindow { previous, current, .. } => {
            pair(previous, &Bytes::new())?;
            pair(current, &Bytes::new())
        }
        Operation::Add { key, .. }
        | Operation::AddDecimal { key, .. }
        | Operation::Count { key, .. }
        | Operation::Rename { to: key, .. }
        | Operation::Copy { to: key, .. } => pair(key, &Bytes::new()),
        // No store has a key that is too long: looking for it or removing it does no harm.
        Operation::Get { .. }
        | Operation::GetDel { .. }
        | Operation::Counted { .. }
        | Operation::Delete { .. }
        | Operation::Exists { .. }
        | Operation::StrLen { .. }
        | Operation::MGet { .. }
        | Operation::DbSize
        | Operation::Scan { .. }
        | Operation::DeleteIf { .. }
        | Operation::DeleteEqual { .. }
        | Operation::Digest { .. }
        | Operation::GetRange { .. }
        | Operation::RandomKey { .. }
        | Operation::Keys { .. }
        | Operation::Object { .. }
        | Operation::Unchanged { .. }
        | Operation::FlushAll
        | Operation::GetExpiring { .. }
        | Operation::ChangeDeadline { .. }
        | Operation::ChangeDeadlineIfEqual { .. }
        | Operation::Extend { .. }
        | Operation::LeftIfEqual { .. }
        | Operation::Deadline { .. }
        | Operation::Created { .. }
        | Operation::Expire { .. }
        | Operation::Type { .. } => Ok(()),
    }
}

/// The answer to a request that was dropped while it was read, as it has too much of something.
pub(in crate::fronts::resp) fn excessive(excess: &Excess, settings: &RespSettings) -> Reply {
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
