//! The scripts that are known.
//!
//! Each has a row with the operation that does the same: a function from keys and arguments to one
//! [`Operation`], so that the script is one entry of the log. `forms` and `shipped` hold sums, not texts:
//! those of [normal forms](super::normal), and those of the texts exactly as libraries send them, by which
//! `EVALSHA` finds a script on a node that has never seen it. The test `the_sums_of_a_text` prints both for a
//! file.
//!
//! Deliberately absent so far: scripts that set how long a key lives.

use bytes::Bytes;

use crate::kv::{Condition, Operation};

/// A script.
#[derive(Debug)]
pub(super) struct Script {
    /// What it needs, for the error if that is missing.
    pub(super) needs: &'static str,
    /// The operation that does the same; `None` if keys or arguments are missing.
    pub(super) operation: fn(&[Bytes], &[Bytes]) -> Option<Operation>,
    /// The SHA-1 of each normal form that it is known in.
    forms: &'static [&'static str],
    /// The SHA-1 of each text as a library ships it.
    shipped: &'static [&'static str],
}

static SCRIPTS: &[Script] = &[
    // Removes a lock if it is held with this token, and answers 1 if it was.
    Script {
        needs: "one key and the value that it must have",
        operation: |keys, values| {
            let condition = Condition::IfEqual(values.first()?.clone());
            Some(Operation::delete_if(keys.first()?.clone(), condition))
        },
        forms: &[
            "8f4d42e76cbb4fad0f45e575441b8a269ebc173c", // redlock-py, pottery, and the page of Redis about locks
            "505bedb5c2250dbf94e4b14d7c9e1d8f8909561a", // redis-py
            "941cd58834c9b9b974d5d40d0cc09df6e9ef235c", // the same with a variable for the value
        ],
        shipped: &[
            "c3f8721cbb97f72bc19e972846bd7aaf91901658", // redis-py 8.1.0, sync and asyncio
            "4e92fdc63815b3a0a2dd1c1df3694de73607c88d", // redlock-py 1.0.8
            "a4aada0b36710970eedaaaeec4a6b7d8c78c4f80", // pottery 3.0.1
        ],
    },
    // The same for several keys with one token; answers how many were removed.
    Script {
        needs: "keys and the value that they must have",
        operation: |keys, values| {
            Some(Operation::DeleteEqual { keys: keys.to_vec(), value: values.first()?.clone() })
        },
        forms: &["89750fdc1a1acd44ad6f2373c9446eb35322eb45"], // redlock 4 and 5 for Node.js
        shipped: &[
            "0f0f23b9048b36752b5be114f357ba083449f908", // redlock 4.2.0
            "e4612211c9f8f51c257e26e056b0a654b3187242", // redlock 5.0.0-beta.2
        ],
    },
];

/// The script with this normal form.
pub(super) fn of_normal_form(form: &str) -> Option<&'static Script> {
    let sum = super::hex(super::sum(form));
    SCRIPTS.iter().find(|script| script.forms.contains(&&sum[..]))
}

/// The script of the text with this sum, as a library ships it.
pub(super) fn shipped(sum: &str) -> Option<&'static Script> {
    SCRIPTS.iter().find(|script| script.shipped.contains(&sum))
}

#[cfg(test)]
mod tests {
    use super::super::{hex, normal, sum};
    use super::*;

    /// `SCRIPT_TEXT=file cargo test -p paxos-node --lib the_sums_of_a_text -- --nocapture`
    #[test]
    #[expect(clippy::print_stdout, reason = "it is for whoever adds a script")]
    fn the_sums_of_a_text() {
        let file = std::env::var("SCRIPT_TEXT");
        let known = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";
        let read = |file| std::fs::read_to_string(file).expect("it is there");
        let text = file.as_ref().map_or_else(|_| String::from(known), read);
        let form = normal::form(&text).expect("it can be read");
        let (of_text, of_form) = (hex(sum(&text)), hex(sum(&form)));
        println!("text {of_text}\nform {of_form}\n{form}");
        assert!(file.is_ok() || of_normal_form(&form).is_some(), "the first row has this form");
    }

    #[test]
    fn sums_are_given_once_and_are_whole() {
        let sums: Vec<&str> =
            SCRIPTS.iter().flat_map(|script| script.forms.iter().chain(script.shipped)).copied().collect();
        let unique: std::collections::BTreeSet<_> = sums.iter().collect();
        assert_eq!(unique.len(), sums.len());
        assert!(sums.iter().all(|sum| sum.len() == 40 && sum.bytes().all(|digit| digit.is_ascii_hexdigit())));
    }
}
