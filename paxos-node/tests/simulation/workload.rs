//! What clients of the key-value store do in a simulation: on a few keys, so that they meet each other.

use bytes::Bytes;
use paxos_core::Time;
use paxos_core::sim::{Action, Mark, Operation as Seen, Random};
use paxos_node::kv::{Condition, DeadlineForm, Expiry, Operation, Reply, Store};
use paxos_node::sim::Workload;

use crate::check;

/// Keys that are set to a number of its own each time, and answer the number before.
const REGISTERS: [&str; 3] = ["r0", "r1", "r2"];
/// Keys that are counted up.
const COUNTERS: [&str; 1] = ["c0"];
/// Keys that are set only if they are missing, and expire.
const LOCKS: [&str; 2] = ["l0", "l1"];
/// Who takes locks.
const HOLDERS: [&str; 2] = ["alice", "bob"];
/// For how long a lock is taken.
const LEASES_MS: [i64; 3] = [20, 500, 20_000];
/// A deadline that no run comes to.
const FAR_MS: i64 = 1 << 40;

/// Clients of the built-in store.
pub(crate) struct OfStore;

/// What a client asks for, read back from its command or query.
#[derive(Debug)]
pub(crate) enum Asked {
    /// To set a register to this number, and to tell the one before.
    Swap(Bytes, u64),
    /// To count up.
    Count(Bytes),
    /// To take a lock if it is free.
    Take(Bytes),
    /// To release a lock if somebody holds it.
    Release(Bytes),
    /// To read a key.
    Read(Bytes),
}

impl Asked {
    pub(crate) fn of(action: &Action) -> Asked {
        let command = match action {
            Action::Query(key) => return Asked::Read(key.clone()),
            Action::Command(command) => Operation::decode_all(command).expect("the workload has drawn it"),
        };
        match &command[..] {
            [
                Operation::Set { key, value, .. }
                | Operation::SetExpiring { key, value, condition: None, .. },
            ]
            | [Operation::GetDel { .. }, Operation::SetNx { key, value }] => {
                Asked::Swap(key.clone(), number(value))
            }
            [Operation::Add { key, .. }] => Asked::Count(key.clone()),
            [Operation::SetExpiring { key, .. }, ..] => Asked::Take(key.clone()),
            [Operation::Created { key }, Operation::DeleteIf { .. }] => Asked::Release(key.clone()),
            other => panic!("the workload does not draw {other:?}"),
        }
    }

    pub(crate) fn key(&self) -> &Bytes {
        match self {
            Asked::Swap(key, _)
            | Asked::Count(key)
            | Asked::Take(key)
            | Asked::Release(key)
            | Asked::Read(key) => key,
        }
    }
}

/// The number that a value holds: 0 for none.
pub(crate) fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn drawn(keys: &[&str], random: &mut Random) -> Bytes {
    Bytes::copy_from_slice(keys[random.index(keys.len())].as_bytes())
}

fn swap(number: u64, random: &mut Random) -> Vec<Operation> {
    let (key, value) = (drawn(&REGISTERS, random), Bytes::from(number.to_string()));
    match random.below(3) {
        0 => vec![Operation::set_with(key, value, None, true)],
        1 => {
            let expiry = Expiry::AfterMs(FAR_MS);
            vec![Operation::SetExpiring { key, value, condition: None, returns_old: true, expiry }]
        }
        _ => vec![Operation::get_del(key.clone()), Operation::set_nx(key, value)],
    }
}

/// Takes a lock, and tells who holds it then, until when, and how much time is left.
fn take(random: &mut Random) -> Vec<Operation> {
    let (key, value) = (drawn(&LOCKS, random), drawn(&HOLDERS, random));
    let expiry = Expiry::AfterMs(LEASES_MS[random.index(LEASES_MS.len())]);
    let (condition, returns_old) = (Some(Condition::IfMissing), false);
    let told = |form| Operation::Deadline { key: key.clone(), form };
    vec![
        Operation::SetExpiring { key: key.clone(), value, condition, returns_old, expiry },
        Operation::Created { key: key.clone() },
        told(DeadlineForm::AtMs),
        told(DeadlineForm::LeftMs),
    ]
}

fn release(random: &mut Random) -> Vec<Operation> {
    let (key, holder) = (drawn(&LOCKS, random), drawn(&HOLDERS, random));
    vec![Operation::Created { key: key.clone() }, Operation::delete_if(key, Condition::IfEqual(holder))]
}

impl Workload for OfStore {
    type State = Store;

    const NEVER_MEETS: &'static [Mark] = &[];

    fn begin() -> Store {
        Store::default()
    }

    fn draw_command(number: u64, random: &mut Random) -> Bytes {
        Operation::command(&match random.below(8) {
            0..=2 => swap(number, random),
            3 => vec![Operation::add(drawn(&COUNTERS, random), 1)],
            4..=6 => take(random),
            _ => release(random),
        })
    }

    fn draw_query(random: &mut Random) -> Bytes {
        let keys = [&REGISTERS[..], &COUNTERS, &LOCKS];
        drawn(keys[random.index(keys.len())], random)
    }

    /// The value of a register or counter. Of a lock, who holds it until when, and the time of the answer.
    fn answer(store: &Store, key: &Bytes, time: Time) -> Option<Bytes> {
        let time = time.max(store.time());
        let query = |operation| store.query(&operation).expect("it only reads");
        let told = match query(Operation::Deadline { key: key.clone(), form: DeadlineForm::AtMs }) {
            // The leader's clock says that it has expired; only the log decides.
            Reply::Integer(at_ms) if u64::try_from(at_ms).is_ok_and(|at_ms| at_ms <= time.0) => return None,
            Reply::Integer(at_ms) => at_ms,
            other => panic!("a deadline is a number, not {other:?}"),
        };
        let is_lock = key.starts_with(b"l");
        Some(match query(Operation::Created { key: key.clone() }) {
            Reply::Integer(created) if is_lock => Bytes::from(format!("{created} {told} {time}")),
            _ if is_lock => Bytes::from(format!("free {time}")),
            _ => store.get(key).unwrap_or_default(),
        })
    }

    fn show(action: &Action) -> String {
        format!("{:?}", Asked::of(action))
    }

    fn show_answer(action: &Action, answer: &Bytes) -> String {
        match action {
            Action::Query(_) => answer.escape_ascii().to_string(),
            Action::Command(_) => format!("{:?}", Reply::decode_all(answer.clone())),
        }
    }

    fn check(history: &[Seen]) -> Result<(), String> {
        check::check(history)
    }
}
