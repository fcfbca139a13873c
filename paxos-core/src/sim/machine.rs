//! State machines under simulation.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::history::{self, Operation};
use crate::random::Random;

/// A state machine that the simulation replicates, with the commands and queries that its clients draw.
pub trait Machine: Default {
    /// A command for a client to propose. `number` is another one each time.
    fn draw_command(number: u64, random: &mut Random) -> Bytes;

    /// A query for a client to ask; it must not change the state.
    fn draw_query(random: &mut Random) -> Bytes;

    /// Carries a command out and answers it. Must depend on nothing but the state and the command.
    fn apply(&mut self, command: &[u8]) -> Bytes;

    /// Answers a query.
    fn query(&self, query: &[u8]) -> Bytes;

    /// A fingerprint of the state: the same for equal states, and cheap, as it is taken after every slot.
    fn digest(&self) -> u64;

    /// The state as bytes: the same for equal states.
    fn snapshot(&self) -> Bytes;

    /// The state that [`snapshot`](Machine::snapshot) made the bytes of.
    fn restore(snapshot: &[u8]) -> Self;

    /// Checks the history of all clients after a run.
    ///
    /// # Errors
    ///
    /// Says in a sentence what no order of the operations explains.
    fn check(history: &[Operation]) -> Result<(), String> {
        let _ = history;
        Ok(())
    }
}

/// How many registers there are.
const REGISTERS: usize = 8;

/// The machine of the simulator's own runs: registers that are swapped and read.
///
/// A swap answers the value before, and every swap writes another value, so that a history can be linearized
/// in one way at most, and a command that is applied twice can't hide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers([u64; REGISTERS]);

impl Machine for Registers {
    fn draw_command(number: u64, random: &mut Random) -> Bytes {
        let mut command = BytesMut::with_capacity(9);
        command.put_u8(random.index(REGISTERS) as u8);
        command.put_u64_le(number);
        command.freeze()
    }

    fn draw_query(random: &mut Random) -> Bytes {
        Bytes::copy_from_slice(&[random.index(REGISTERS) as u8])
    }

    fn apply(&mut self, mut command: &[u8]) -> Bytes {
        let register = usize::from(command.get_u8());
        let before = std::mem::replace(&mut self.0[register], command.get_u64_le());
        Bytes::copy_from_slice(&before.to_le_bytes())
    }

    fn query(&self, query: &[u8]) -> Bytes {
        Bytes::copy_from_slice(&self.0[usize::from(query[0])].to_le_bytes())
    }

    fn digest(&self) -> u64 {
        self.0.iter().fold(0, |digest, value| mix(digest ^ value))
    }

    fn snapshot(&self) -> Bytes {
        self.0.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn restore(mut snapshot: &[u8]) -> Self {
        Registers(std::array::from_fn(|_| snapshot.get_u64_le()))
    }

    fn check(history: &[Operation]) -> Result<(), String> {
        history::check_registers(history)
    }
}

/// Spreads the bits of a number over all of it.
pub(super) fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}
