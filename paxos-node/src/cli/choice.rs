//! Options that take one of a few names.

use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};

/// A parser that takes the names of these choices and shows them in the help.
pub(crate) fn one_of<T>(
    choices: &[T],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> + use<T>
where
    T: FromStr + Copy + Send + Sync + 'static,
{
    let names: Vec<&'static str> = choices.iter().map(|choice| name(*choice)).collect();
    PossibleValuesParser::new(names)
        .try_map(|name| name.parse::<T>().map_err(|_| format!("{name} is no choice")))
}
