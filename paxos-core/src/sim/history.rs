//! The history of the clients' operations, and a check whether it is linearizable.
//!
//! Linearizability is local (Herlihy and Wing, *Linearizability: A Correctness Condition for Concurrent
//! Objects*, section 3): a history is linearizable if its part for each register is. For one register the
//! search is that of Wing and Gong, *Testing and Verifying Concurrent Objects*, with states that were seen
//! remembered.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use bytes::{Buf, Bytes};

/// The search for an order remembers no more states than this. It needs one where it has a choice, which is
/// seldom; histories that need more are refused rather than believed.
const MAX_STATES: usize = 1 << 16;

/// One operation of a client.
#[derive(Clone, Debug)]
pub struct Operation {
    /// When the client asked.
    pub invoked_units: u64,
    /// When it was answered, and the answer. `None` if it was never answered: then it may have taken place or
    /// not.
    pub answered: Option<(u64, Bytes)>,
    /// What the client asked for.
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

/// An operation on one register: it reads a value, writes one that no other access writes, or does both at
/// once. Before the first write the register holds 0.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    invoked: u64,
    /// When it was answered; never is later than everything.
    answered: u64,
    /// The value that a swap writes.
    writes: Option<u64>,
    /// The value that was seen; a swap that was not answered may have seen any.
    saw: Option<u64>,
}

impl Access {
    /// What an operation of a client comes to, if it writes this value, and has seen that one. `None` if it
    /// neither changed nor saw anything.
    #[must_use]
    pub fn of(operation: &Operation, writes: Option<u64>, saw: Option<u64>) -> Option<Access> {
        let answered = operation.answered.as_ref().map_or(u64::MAX, |(at, _)| *at);
        let is_any = writes.is_some() || saw.is_some();
        is_any.then_some(Access { invoked: operation.invoked_units, answered, writes, saw })
    }
}

/// Checks a history of [`Registers`](super::Registers).
pub(super) fn check_registers<'a>(history: impl IntoIterator<Item = &'a Operation>) -> Result<(), String> {
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
            Action::Query(query) => (query[0], None),
        };
        by_register.entry(register).or_default().extend(Access::of(operation, writes, saw));
    }
    by_register.into_iter().try_for_each(|(register, accesses)| {
        check_register(accesses).map_err(|problem| format!("register {register}: {problem}"))
    })
}

/// Checks whether the history of one register is linearizable: a [`Machine`](super::Machine) whose commands
/// write values of their own can check itself with it, key by key.
///
/// # Errors
///
/// Says what no order explains, or that it would take too long to find one.
pub fn check_register(mut accesses: Vec<Access>) -> Result<(), String> {
    let seen: HashSet<u64> = accesses.iter().filter_map(|access| access.saw).collect();
    // A swap without an answer whose value nobody saw may as well not have taken place.
    accesses
        .retain(|access| access.saw.is_some() || access.writes.is_some_and(|value| seen.contains(&value)));
    accesses.sort_by_key(|access| access.invoked);
    match first_unexplained(&accesses) {
        None => Ok(()),
        Some(stuck) => Err(format!("no order of its {} operations explains {stuck:?}", accesses.len())),
    }
}

/// The state of the search: which accesses are in order already, and the value after them.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Progress {
    /// Their positions as ranges, ascending, with gaps between them: few, as only slow accesses are
    /// overtaken.
    placed: Vec<Range<usize>>,
    value: u64,
}

/// Searches for an order; if there is none, returns the access that no attempt got past.
///
/// No two swaps write the same value. So a read that saw the current one may come next at once, as that is in
/// nobody's way; and every other access that saw it comes before any swap that saw another. The only choice
/// left is which of the swaps without an answer comes next, once nobody waits for the current value any more.
fn first_unexplained(accesses: &[Access]) -> Option<Access> {
    let mut seers: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (position, access) in accesses.iter().enumerate() {
        seers.entry(access.saw.unwrap_or(u64::MAX)).or_default().push(position);
    }
    let mut known = HashSet::new();
    let mut furthest = 0;
    let mut open = vec![Progress { placed: Vec::new(), value: 0 }];
    while let Some(mut progress) = open.pop() {
        let next = loop {
            let next = next_ones(accesses, &seers, &progress);
            match next[..] {
                [only] => progress.place(only, accesses[only].writes),
                _ => break next,
            }
        };
        furthest = furthest.max(progress.left(accesses.len()).next().unwrap_or(accesses.len()));
        if progress.left(accesses.len()).all(|position| accesses[position].saw.is_none()) {
            return None;
        }
        if known.len() >= MAX_STATES {
            break;
        }
        if known.insert(progress.clone()) {
            for position in next {
                let mut further = progress.clone();
                further.place(position, accesses[position].writes);
                open.push(further);
            }
        }
    }
    accesses.get(furthest).copied()
}

/// The accesses to try next; the last one seems the most urgent, by who was answered that saw what it writes.
fn next_ones(accesses: &[Access], seers: &BTreeMap<u64, Vec<usize>>, progress: &Progress) -> Vec<usize> {
    let seers_of = |value| seers.get(&value).map_or(&[][..], Vec::as_slice);
    let mut next = candidates(accesses, progress);
    let sees_it = |position: &usize| accesses[*position].saw == Some(progress.value);
    let is_read = |position: &usize| accesses[*position].writes.is_none();
    if let Some(read) = next.iter().copied().find(|position| is_read(position) && sees_it(position)) {
        return vec![read];
    }
    if seers_of(progress.value).iter().any(|&at| !progress.has(at)) {
        next.retain(sees_it);
    } else {
        next.retain(|&position| accesses[position].saw.is_none());
        let needed = |&position: &usize| {
            let value = accesses[position].writes.unwrap_or(progress.value);
            seers_of(value).iter().map(|&at| accesses[at].answered).min()
        };
        next.sort_by_key(|position| Reverse(needed(position)));
    }
    next
}

/// The accesses that may come next in time: asked before any other that is left was answered.
fn candidates(accesses: &[Access], progress: &Progress) -> Vec<usize> {
    let mut deadline = u64::MAX;
    let mut candidates = Vec::new();
    for position in progress.left(accesses.len()) {
        let access = accesses[position];
        if access.invoked > deadline {
            break;
        }
        deadline = deadline.min(access.answered);
        candidates.push(position);
    }
    candidates.retain(|&position| accesses[position].invoked <= deadline);
    candidates
}

impl Progress {
    fn has(&self, position: usize) -> bool {
        let after = self.placed.partition_point(|range| range.start <= position);
        after > 0 && self.placed[after - 1].contains(&position)
    }

    /// What is not placed yet of so many, ascending.
    fn left(&self, all: usize) -> impl Iterator<Item = usize> {
        let starts = std::iter::once(0).chain(self.placed.iter().map(|range| range.end));
        let ends = self.placed.iter().map(|range| range.start).chain(std::iter::once(all));
        starts.zip(ends).flat_map(|(start, end)| start..end)
    }

    fn place(&mut self, position: usize, writes: Option<u64>) {
        let after = self.placed.partition_point(|range| range.start <= position);
        let follows = after > 0 && self.placed[after - 1].end == position;
        let precedes = self.placed.get(after).is_some_and(|range| range.start == position + 1);
        match (follows, precedes) {
            (true, true) => self.placed[after - 1].end = self.placed.remove(after).end,
            (true, false) => self.placed[after - 1].end += 1,
            (false, true) => self.placed[after].start = position,
            (false, false) => self.placed.insert(after, position..position + 1),
        }
        self.value = writes.unwrap_or(self.value);
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
