//! State machines under simulation.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::history::{self, Action, Operation};
use super::locks::{self, Locks};
use super::marks::Mark;
#[cfg(doc)]
use super::rule::Rule;
use crate::mutant::Mutant;
use crate::random::Random;
use crate::{Slot, Time};

/// A snapshot that was begun: makes its bytes, perhaps after later commands were applied.
pub type BegunSnapshot = Box<dyn FnOnce() -> Bytes>;

/// A state machine that the simulation replicates, with the commands and queries that its clients draw.
///
/// If it panics, the run ends with a violation of [`Rule::Assertion`] that has the message of the panic.
pub trait Machine: Default {
    /// Whether snapshots of equal states have equal bytes. If not, only digests and answers are compared.
    const HAS_EQUAL_SNAPSHOTS: bool = true;

    /// Rare events that runs of this machine never meet. A [`Suite`](super::Suite) does not miss them. By
    /// default that which needs a query that is [answered](Machine::query) with `None`.
    const NEVER_MEETS: &'static [Mark] = &[Mark::ReadAheadOfLog];

    /// Mutants that runs of this machine can't show. A [`MutantHunt`](super::MutantHunt) does not look for
    /// them. By default those that only a machine notices whose answers depend on time.
    const NEVER_SHOWS: &'static [Mutant] = &[Mutant::AppliedByOwnClock, Mutant::FencingNumberKept];

    /// A command for a client to propose. `number` is another one each time.
    fn draw_command(number: u64, random: &mut Random) -> Bytes;

    /// A query for a client to ask; it must not change the state.
    fn draw_query(random: &mut Random) -> Bytes;

    /// Carries a command out in this slot, at this time of the log, and answers it. Must depend on nothing
    /// but the state and the arguments.
    fn apply(&mut self, slot: Slot, time: Time, command: &Bytes) -> Bytes;

    /// Answers a query, given the time of the leader that has let it go. `None` if the answer depends on a
    /// time to which the log has not come yet: then the client asks again.
    fn query(&self, query: &Bytes, time: Time) -> Option<Bytes>;

    /// Commands that the leader is to propose by itself, as they are due at this time; none by default. They
    /// may be applied more than once.
    fn due(&self, time: Time) -> Vec<Bytes> {
        let _ = time;
        Vec::new()
    }

    /// A fingerprint of the state: the same for equal states, and cheap, as it is taken after every slot.
    fn digest(&self) -> u64;

    /// The state as bytes.
    fn snapshot(&self) -> Bytes;

    /// Begins a snapshot of the present state. What is returned is called later, when other commands may have
    /// been applied. By default the snapshot is made at once.
    fn begin_snapshot(&self) -> BegunSnapshot {
        let snapshot = self.snapshot();
        Box::new(move || snapshot)
    }

    /// Replaces any state by that which [`snapshot`](Machine::snapshot) made the bytes of.
    fn restore(&mut self, snapshot: &[u8]);

    /// How a brief trace shows a command or query: by default its bytes, what is not printable escaped.
    fn show(action: &Action) -> String {
        let (Action::Command(bytes) | Action::Query(bytes)) = action;
        bytes.escape_ascii().to_string()
    }

    /// How a brief trace shows the answer to a command or query: by default as
    /// [`show`](Machine::show).
    fn show_answer(action: &Action, answer: &Bytes) -> String {
        let _ = action;
        answer.escape_ascii().to_string()
    }

    /// Checks the history of all clients after a run: what each has asked for, one client after the other.
    ///
    /// # Errors
    ///
    /// Says in a sentence what no order of the operations explains.
    fn check(history: &[Operation]) -> Result<(), String> {
        let _ = history;
        Ok(())
    }
}

/// How many registers there are, the locks behind them included.
const REGISTERS: usize = 8;
/// The numbers from here on are locks.
const FIRST_LOCK: usize = 6;
/// In place of a register's number: what has expired is removed.
const EXPIRE: u8 = u8::MAX;

/// The machine of the simulator's own runs: registers that are swapped and read, and locks that expire.
///
/// A swap answers the value before, and every swap writes another value, so that a history can be linearized
/// in one way at most, and a command that is applied twice can't hide. A lock is taken for some time, under a
/// fencing number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    values: [u64; FIRST_LOCK],
    locks: Locks,
}

impl Machine for Registers {
    const NEVER_MEETS: &'static [Mark] = &[];
    const NEVER_SHOWS: &'static [Mutant] = &[];

    fn draw_command(number: u64, random: &mut Random) -> Bytes {
        let mut command = BytesMut::with_capacity(9);
        command.put_u8(random.index(REGISTERS) as u8);
        command.put_u64_le(number);
        command.freeze()
    }

    fn draw_query(random: &mut Random) -> Bytes {
        Bytes::copy_from_slice(&[random.index(REGISTERS) as u8])
    }

    fn apply(&mut self, _: Slot, time: Time, command: &Bytes) -> Bytes {
        let mut command = &command[..];
        let register = command.get_u8();
        if register == EXPIRE {
            self.locks.expire(time);
            return Bytes::new();
        }
        let (register, number) = (usize::from(register), command.get_u64_le());
        if let Some(lock) = register.checked_sub(FIRST_LOCK) {
            return self.locks.take(lock, number, time);
        }
        let before = std::mem::replace(&mut self.values[register], number);
        Bytes::copy_from_slice(&before.to_le_bytes())
    }

    fn query(&self, query: &Bytes, time: Time) -> Option<Bytes> {
        let register = usize::from(query[0]);
        match register.checked_sub(FIRST_LOCK) {
            Some(lock) => self.locks.look(lock, time),
            None => Some(Bytes::copy_from_slice(&self.values[register].to_le_bytes())),
        }
    }

    fn due(&self, time: Time) -> Vec<Bytes> {
        self.locks.is_due(time).then(|| Bytes::from_static(&[EXPIRE])).into_iter().collect()
    }

    fn digest(&self) -> u64 {
        self.numbers().fold(0, |digest, value| mix(digest ^ value))
    }

    fn snapshot(&self) -> Bytes {
        self.numbers().flat_map(u64::to_le_bytes).collect()
    }

    fn restore(&mut self, mut snapshot: &[u8]) {
        self.values = std::array::from_fn(|_| snapshot.get_u64_le());
        self.locks = Locks::restore(&mut snapshot);
    }

    fn check(history: &[Operation]) -> Result<(), String> {
        let lock_of = |action: &Action| {
            let (Action::Command(bytes) | Action::Query(bytes)) = action;
            usize::from(bytes[0]).checked_sub(FIRST_LOCK)
        };
        let of_registers = history.iter().filter(|operation| lock_of(&operation.action).is_none());
        history::check_registers(of_registers)?;
        locks::check(history, lock_of)
    }
}

impl Registers {
    /// All the state.
    fn numbers(&self) -> impl Iterator<Item = u64> {
        self.values.iter().copied().chain(self.locks.numbers())
    }
}

/// Spreads the bits of a number over all of it.
pub(super) fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}
