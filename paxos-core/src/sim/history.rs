//! What clients did and saw, and whether one order of events explains it.
//!
//! Linearizability is local (Herlihy and Wing, *Linearizability: A Correctness Condition for Concurrent Objects*,
//! section 3): a history is linearizable if its part for each register is. For one register the search is that of
//! Wing and Gong, *Testing and Verifying Concurrent Objects*, with states that were seen remembered.

use std::collections::{BTreeMap, HashSet};

use bytes::{Buf, Bytes};

/// The search for an order remembers no more states than this. As values are written once, it needs about one for
/// each operation; histories that need more are refused rather than believed.
const MAX_STATES: usize = 1 << 20;

/// One operation of a client.
#[derive(Clone, Debug)]
pub struct Operation {
    /// When the client asked.
    pub invoked_units: u64,
    /// When it was answered, and what; `None` if it never was, and may have taken place or not.
    pub answered: Option<(u64, Bytes)>,
    /// What it asked for.
    pub action: Action,
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub enum Action {
    /// A command that changes the state.
    Command(Bytes),
    /// A linearizable read.
    Query(Bytes),
}

/// An operation on one register.
#[derive(Clone, Copy, Debug)]
struct Access {
    invoked: u64,
    /// When it was answered; never is later than everything.
    answered: u64,
    /// The value that a swap writes.
    writes: Option<u64>,
    /// The value that was seen; a swap that was not answered may have seen any.
    saw: Option<u64>,
}

/// Checks a history of [`Registers`](super::Registers).
pub(super) fn check_registers(history: &[Operation]) -> Result<(), String> {
    let mut by_register: BTreeMap<u8, Vec<Access>> = BTreeMap::new();
    for operation in history {
        let saw = operation.answered.as_ref().map(|(_, reply)| {
            let mut reply = &reply[..];
            reply.get_u64_le()
        });
        let (register, writes) = match &operation.action {
            Action::Command(command) => {
                let mut command = &command[..];
                (command.get_u8(), Some(command.get_u64_le()))
            }
            Action::Query(_) if saw.is_none() => continue, // It neither changed nor saw anything.
            Action::Query(query) => (query[0], None),
        };
        let answered = operation.answered.as_ref().map_or(u64::MAX, |(at, _)| *at);
        let access = Access { invoked: operation.invoked_units, answered, writes, saw };
        by_register.entry(register).or_default().push(access);
    }
    for (register, mut accesses) in by_register {
        let seen: HashSet<u64> = accesses.iter().filter_map(|access| access.saw).collect();
        // A swap without an answer whose value nobody saw may as well not have taken place.
        accesses.retain(|access| {
            access.saw.is_some() || access.writes.is_some_and(|value| seen.contains(&value))
        });
        accesses.sort_by_key(|access| access.invoked);
        if let Some(stuck) = first_unexplained(&accesses) {
            return Err(format!(
                "register {register}: no order of its {} operations explains {stuck:?}",
                accesses.len()
            ));
        }
    }
    Ok(())
}

/// Where the search has got to: everything before `floor` is in order, and of the rest those in `beyond`.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Progress {
    floor: usize,
    /// Ascending; holds only positions above `floor`.
    beyond: Vec<usize>,
    value: u64,
}

/// Searches for an order; if there is none, returns the access that no attempt got past.
///
/// No two swaps write the same value, so whoever saw a value saw it before the next swap: while such an access is
/// left, no swap that saw another value can come next. That keeps the search narrow.
fn first_unexplained(accesses: &[Access]) -> Option<Access> {
    let mut seers: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (position, access) in accesses.iter().enumerate() {
        seers.entry(access.saw.unwrap_or(u64::MAX)).or_default().push(position);
    }
    let mut known = HashSet::new();
    let mut furthest = 0;
    let mut open = vec![Progress { floor: 0, beyond: Vec::new(), value: 0 }];
    while let Some(progress) = open.pop() {
        furthest = furthest.max(progress.floor);
        let mut left = (progress.floor..accesses.len()).filter(|&position| !progress.has(position));
        if left.all(|position| accesses[position].saw.is_none()) {
            return None;
        }
        if known.len() >= MAX_STATES {
            break;
        }
        if !known.insert(progress.clone()) {
            continue;
        }
        let is_awaited =
            seers.get(&progress.value).is_some_and(|all| all.iter().any(|&at| !progress.has(at)));
        for position in candidates(accesses, &progress) {
            let access = accesses[position];
            let fits = access.saw.map_or(!is_awaited, |saw| saw == progress.value);
            if fits {
                open.push(progress.with(position, access.writes.unwrap_or(progress.value)));
            }
        }
    }
    accesses.get(furthest).copied()
}

/// The accesses that may come next: asked before any other that is left was answered.
fn candidates(accesses: &[Access], progress: &Progress) -> Vec<usize> {
    let mut deadline = u64::MAX;
    let mut candidates = Vec::new();
    for (position, access) in accesses.iter().enumerate().skip(progress.floor) {
        if access.invoked > deadline {
            break;
        }
        if !progress.has(position) {
            deadline = deadline.min(access.answered);
            candidates.push(position);
        }
    }
    candidates.retain(|&position| accesses[position].invoked <= deadline);
    candidates
}

impl Progress {
    fn has(&self, position: usize) -> bool {
        position < self.floor || self.beyond.binary_search(&position).is_ok()
    }

    fn with(&self, position: usize, value: u64) -> Progress {
        let mut beyond = self.beyond.clone();
        let place = beyond.binary_search(&position).unwrap_or_else(|place| place);
        beyond.insert(place, position);
        let mut floor = self.floor;
        while beyond.first() == Some(&floor) {
            beyond.remove(0);
            floor += 1;
        }
        Progress { floor, beyond, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut, BytesMut};

    fn swap(invoked_units: u64, answered: Option<(u64, u64)>, value: u64) -> Operation {
        let mut command = BytesMut::new();
        command.put_u8(0);
        command.put_u64_le(value);
        let answered = answered.map(|(at, saw)| (at, Bytes::copy_from_slice(&saw.to_le_bytes())));
        Operation { invoked_units, answered, action: Action::Command(command.freeze()) }
    }

    fn read(invoked_units: u64, answered: u64, saw: u64) -> Operation {
        let answered = Some((answered, Bytes::copy_from_slice(&saw.to_le_bytes())));
        Operation { invoked_units, answered, action: Action::Query(Bytes::from_static(&[0])) }
    }

    #[test]
    fn what_can_be_put_in_order_passes() {
        let overlapping =
            [swap(0, Some((10, 2)), 1), swap(0, Some((10, 0)), 2), read(5, 6, 2), read(11, 12, 1)];
        assert_eq!(check_registers(&overlapping), Ok(()));
        let lost_and_seen = [swap(0, None, 1), read(1, 2, 0), read(3, 4, 1), swap(5, Some((6, 1)), 2)];
        assert_eq!(check_registers(&lost_and_seen), Ok(()));
        let never_took_place = [swap(0, None, 1), read(1, 2, 0), swap(5, Some((6, 0)), 2)];
        assert_eq!(check_registers(&never_took_place), Ok(()));
    }

    #[test]
    fn what_can_not_be_put_in_order_is_refused() {
        let stale_read = [swap(0, Some((1, 0)), 1), read(2, 3, 0)];
        assert!(check_registers(&stale_read).is_err());
        let lost_write = [swap(0, Some((1, 0)), 1), swap(2, Some((3, 0)), 2)];
        assert!(check_registers(&lost_write).is_err());
        let back_and_forth = [swap(0, None, 1), read(1, 2, 1), read(3, 4, 0)];
        assert!(check_registers(&back_and_forth).is_err());
        let applied_twice = [swap(0, Some((1, 1)), 1)];
        assert!(check_registers(&applied_twice).is_err());
        let from_nowhere = [read(0, 1, 7)];
        assert!(check_registers(&from_nowhere).is_err());
    }

    #[test]
    fn registers_are_judged_one_by_one() {
        let mut other = swap(0, Some((1, 0)), 5);
        other.action = Action::Command(Bytes::from_static(&[1, 5, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(check_registers(&[other, read(2, 3, 0)]), Ok(()));
    }
}
