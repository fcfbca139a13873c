//! The scripts that are known.
//!
//! Each has a row with the operation that does the same: a function from keys and arguments to one
//! [`Operation`], so that the script is one entry of the log. `forms` and `shipped` hold sums, not texts:
//! those of [normal forms](super::normal), and those of the texts exactly as libraries send them, by which
//! `EVALSHA` finds a script on a node that has never seen it. The test `the_sums_of_a_text` prints both for a
//! file.

use bytes::Bytes;

use super::super::expiry;
use crate::kv::{Condition, CountForm, DeadlineCondition, Expiry, Operation, WindowRequest, parse_integer};

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
            "005a2d211705dc7b1866ada631b98666fb00dcdc", // the first without an else
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
    // Lets a lock expire after some milliseconds from now if it is held with this token, and answers 1 if it
    // was.
    Script {
        needs: "one key, the value that it must have, and milliseconds",
        operation: |keys, values| {
            Some(renew(keys.first()?, values.first()?, expiry::after_ms(values.get(1)?)?))
        },
        forms: &[
            "dc8ad6110baa7f60ed379b4db40a165d3c7e1ae1", // pottery, redsync
            "082108eb19de4cceb632ff0a5992f93f9c20b37d", // the same without an else
            "54c22695a63285771d8cba88230f08902feb221e", // redis-py
        ],
        shipped: &[
            "ba015a80261b616e7a62d35df0b8e3edbe6c9414", // pottery 3.0.1
            "1cac51482acf5858da00f6d685d68f886cd6b6b2", // redis-py 8.1.0, valkey-py 6.2.0
        ],
    },
    // The same after some seconds.
    Script {
        needs: "one key, the value that it must have, and seconds",
        operation: |keys, values| {
            Some(renew(keys.first()?, values.first()?, expiry::after_seconds(values.get(1)?)?))
        },
        forms: &[
            "92501c2233520d90f49109a7bf0c4a1fc04a2a46",
            "e066c29571457d490ee6799982d45a8e9c495285", // without an else
        ],
        shipped: &[],
    },
    // Lets a lock that expires do so later if it is held with this token, and answers 1 if it was: after some
    // milliseconds more, or, if the last argument is not 0, from now.
    Script {
        needs: "one key, the value that it must have, milliseconds, and 0 or 1",
        operation: |keys, values| {
            let [value, ms, replaces] = values else { return None };
            let (key, value, after) = (keys.first()?.clone(), value.clone(), expiry::after_ms(ms)?);
            if &replaces[..] == b"0" {
                return Some(Operation::Extend { key, value, by_ms: parse_integer(ms)? });
            }
            let condition = DeadlineCondition { if_any: true, ..DeadlineCondition::default() };
            Some(Operation::ChangeDeadlineIfEqual { key, value, expiry: after, condition })
        },
        forms: &["1a56cc3f8883296f35bc3f370938be59661f7aa1"], // redis-py
        shipped: &["a4e8783852e6b949f9ef3a97212805108459a890"], // redis-py 8.1.0, valkey-py 6.2.0
    },
    // Answers how many milliseconds a lock is left to who holds it with this token, and 0 to all others.
    Script {
        needs: "one key and the value that it must have",
        operation: |keys, values| {
            Some(Operation::LeftIfEqual { key: keys.first()?.clone(), value: values.first()?.clone() })
        },
        forms: &["0a5d06e9c6dbfbcaa4fa0479cb52f9abdecd98ef"], // pottery
        shipped: &["f5f7bd3a3aa4a63c507c1155c5ea1219b350d992"], // pottery 3.0.1
    },
    // Takes several locks with one token for some milliseconds if all are free; answers how many were taken.
    Script {
        needs: "keys, their value, and milliseconds",
        operation: |keys, values| set_all(keys, values, |_| Condition::IfMissing),
        forms: &["69dbe7f8f05bf6b306be60e1a7f42d2df7b82f3e"], // redlock 4 and 5 for Node.js
        shipped: &[
            "e5a322e2634ef59a516e8ea150cb085afafee684", // redlock 4.2.0
            "96da70f7716f27d278a5218544df37fd8b0a5e4c", // redlock 5.0.0-beta.2
        ],
    },
    // Renews several locks if all are held with this token; answers how many were renewed.
    Script {
        needs: "keys, the value that they must have, and milliseconds",
        operation: |keys, values| set_all(keys, values, |value| Condition::IfEqual(value.clone())),
        forms: &["4a33d6c40f62ccc824f0fe205685c41e03ce28d6"], // redlock 4 and 5 for Node.js
        shipped: &[
            "ce46f80993d5dac20dd066eb301a4e37994bdbed", // redlock 4.2.0
            "aed6f382e410db8ba7926d4e5e9aab410bf2a78a", // redlock 5.0.0-beta.2
        ],
    },
    // Counts in a window of some seconds, which begins with the first that is counted; answers with the sum.
    Script {
        needs: "one key, seconds, and a number",
        operation: |keys, values| {
            let (key, by) = (keys.first()?.clone(), parse_integer(values.get(1)?)?);
            let window_ms = window_ms(expiry::after_seconds(values.first()?))?;
            Some(Operation::Count { key, by, window_ms, form: CountForm::Sum })
        },
        forms: &["dec6506601d895872db6bb7ec82fb4907d71ab16"], // limits
        shipped: &["628bd136a573a06b346879695681af12ccef300f"], // limits 5.8.0
    },
    // The same; answers with the sum and the milliseconds that are left.
    Script {
        needs: "one key, a number, and seconds",
        operation: |keys, values| {
            let (key, by) = (keys.first()?.clone(), parse_integer(values.first()?)?);
            let window_ms = window_ms(expiry::after_seconds(values.get(1)?))?;
            Some(Operation::Count { key, by, window_ms, form: CountForm::SumAndLeft })
        },
        forms: &["be662dc911647113497e3b2ebd967a1885237274"], // rate-limiter-flexible
        shipped: &["a1de965f42e177aa339706bd580f049065eca79a"], // rate-limiter-flexible 11.4.0
    },
    // Counts one more in a window of some milliseconds; answers as the one before.
    Script {
        needs: "one key and milliseconds",
        operation: |keys, values| {
            let window_ms = window_ms(expiry::after_ms(values.first()?))?;
            Some(Operation::Count {
                key: keys.first()?.clone(),
                by: 1,
                window_ms,
                form: CountForm::AnewAndLeft,
            })
        },
        forms: &["59ce8db95028e8686967ead3fcbc8216cae7eec7"], // rate-limit-redis
        shipped: &["895b92e1712734e1b464999be23953485475357b"], // rate-limit-redis 6.0.1
    },
    // Answers with a count and the milliseconds that are left.
    Script {
        needs: "one key",
        operation: |keys, _| Some(Operation::Counted { key: keys.first()?.clone() }),
        forms: &["b9bede34731107fe95e4d87eeaefd1186cc0fd1e"], // rate-limit-redis
        shipped: &["6aeb97ed6086dcdeafdc6fda3999a0d0e38ec96a"], // rate-limit-redis 6.0.1
    },
    // Counts in a window that slides, if there is room; answers 1 if there was.
    Script {
        needs: "the keys of the window before and of the present one, a limit, seconds, and a number",
        operation: |keys, values| {
            let [limit, seconds, amount, ..] = values else { return None };
            let (limit, amount) = (parse_integer(limit)?, parse_integer(amount)?);
            slide(keys, seconds, Some(WindowRequest { limit, amount }))
        },
        forms: &["a71fa478983dba3fe221b50ee6294c015e88fe8d"], // limits
        shipped: &["e8ac2a60cb040b0dbb56815a1e9c6fd032ce62e7"], // limits 5.8.0
    },
    // Answers with what such a window and the one before have counted.
    Script {
        needs: "the keys of the window before and of the present one, and seconds",
        operation: |keys, values| slide(keys, values.first()?, None),
        forms: &["180432dfab6671cb6931e21e18a4cf9a90a98cfa"], // limits
        shipped: &["e7a0a27d4101baabb124af209bb0245197a359a1"], // limits 5.8.0
    },
];

/// The milliseconds of a window; a script fails if there are none.
fn window_ms(expiry: Option<Expiry>) -> Option<i64> {
    match expiry? {
        Expiry::AfterMs(window_ms @ 1..) => Some(window_ms),
        _ => None,
    }
}

fn slide(keys: &[Bytes], window: &Bytes, request: Option<WindowRequest>) -> Option<Operation> {
    let [previous, current, ..] = keys else { return None };
    let window_ms = window_ms(expiry::after_seconds(window))?;
    Some(Operation::SlideWindow { previous: previous.clone(), current: current.clone(), window_ms, request })
}

fn renew(key: &Bytes, value: &Bytes, expiry: Expiry) -> Operation {
    let condition = DeadlineCondition::default();
    Operation::ChangeDeadlineIfEqual { key: key.clone(), value: value.clone(), expiry, condition }
}

fn set_all(keys: &[Bytes], values: &[Bytes], condition: fn(&Bytes) -> Condition) -> Option<Operation> {
    let [value, ms, ..] = values else { return None };
    let expiry = expiry::after_ms(ms).filter(|expiry| matches!(expiry, Expiry::AfterMs(1..)))?;
    Some(Operation::SetAll { keys: keys.to_vec(), value: value.clone(), condition: condition(value), expiry })
}

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
