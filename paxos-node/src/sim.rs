//! State machines in the simulator of [`paxos_core::sim`]: what is deployed is what is simulated.
//!
//! The simulator runs a [`Machine`]; a node runs a [`StateMachine`]. [`Simulated`] is the one made of the
//! other: whatever happens to the state goes through the methods that a node calls, as a node calls them.
//! What a simulation needs beside that is a [`Workload`]: what clients ask for, and what must hold for what
//! they have seen. [The guide](crate::guide::simulate) finds a bug with it.
//!
//! Guaranteed: commands are applied by [`StateMachine::try_apply`], once each, in the order of the log and
//! with its times; a snapshot is written when later commands have been applied, and is read in short pieces,
//! into a state that may have anything in it.
//!
//! Deliberately absent: the node around the state machine, with its threads, sessions of clients over a
//! network and limits. Tests of whole nodes are for these; see [`in_process`](crate::in_process).
//!
//! [`Deployed`] goes the other way: a [`Machine`] that was written for the simulator, on a whole node.

use std::fmt;
use std::io::{self, Read};
use std::marker::PhantomData;

use bytes::Bytes;
use paxos_core::sim::{Action, BegunSnapshot, Machine, Mark, Mutant, Operation, Random};
use paxos_core::{Slot, Time};

use crate::state_machine::{Applying, SnapshotWriter, StateMachine, UnknownCommand};

/// No read of a snapshot returns more than this.
const PIECE_BYTES: usize = 100;

/// What the clients of a simulated state machine do.
pub trait Workload {
    /// The state machine.
    type State: StateMachine;

    /// As [`Machine::HAS_EQUAL_SNAPSHOTS`]; a state machine need not promise it.
    const HAS_EQUAL_SNAPSHOTS: bool = false;

    /// As [`Machine::NEVER_MEETS`].
    const NEVER_MEETS: &'static [Mark] = &[Mark::ReadAheadOfLog];

    /// As [`Machine::NEVER_SHOWS`].
    const NEVER_SHOWS: &'static [Mutant] = &[Mutant::AppliedByOwnClock, Mutant::FencingNumberKept];

    /// The state of a node that has applied nothing: what a program gives to
    /// [`Node::start`](crate::Node::start).
    fn begin() -> Self::State;

    /// A command for a client to propose. `number` is another one each time.
    fn draw_command(number: u64, random: &mut Random) -> Bytes;

    /// A query for a client to ask. How it is written is up to the workload.
    fn draw_query(random: &mut Random) -> Bytes;

    /// Answers a query from the state, as a client does that [reads](crate::Client::read) it at this time.
    /// `None` if the answer depends on a time to which the log has not come yet: then the client asks again.
    fn answer(state: &Self::State, query: &Bytes, time: Time) -> Option<Bytes>;

    /// How a brief trace shows a command or query: by default its bytes, what is not printable escaped.
    fn show(action: &Action) -> String {
        let (Action::Command(bytes) | Action::Query(bytes)) = action;
        bytes.escape_ascii().to_string()
    }

    /// How a brief trace shows an answer: by default its bytes, what is not printable escaped.
    fn show_answer(action: &Action, answer: &Bytes) -> String {
        let _ = action;
        answer.escape_ascii().to_string()
    }

    /// Checks what all clients have asked for and seen, one client after the other. Nothing by default: even
    /// so it is checked that all nodes come to the same states and give the same answers.
    ///
    /// # Errors
    ///
    /// Says in a sentence what no order of the operations explains.
    fn check(history: &[Operation]) -> Result<(), String> {
        let _ = history;
        Ok(())
    }
}

/// The state machine of a [`Workload`], as a [`Machine`] of the simulator.
///
/// A run ends with a violation of [`Rule::Assertion`](paxos_core::sim::Rule::Assertion) if the state machine
/// panics, does not [know](StateMachine::knows) a command, or refuses a snapshot that it has written.
pub struct Simulated<W: Workload> {
    state: W::State,
    of: PhantomData<fn() -> W>,
}

impl<W: Workload> Simulated<W> {
    /// The state.
    #[must_use]
    pub fn state(&self) -> &W::State {
        &self.state
    }
}

impl<W: Workload> Default for Simulated<W> {
    fn default() -> Self {
        Simulated { state: W::begin(), of: PhantomData }
    }
}

impl<W: Workload<State: fmt::Debug>> fmt::Debug for Simulated<W> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Simulated").field(&self.state).finish()
    }
}

impl<W: Workload> Machine for Simulated<W> {
    const HAS_EQUAL_SNAPSHOTS: bool = W::HAS_EQUAL_SNAPSHOTS;
    const NEVER_MEETS: &'static [Mark] = W::NEVER_MEETS;
    const NEVER_SHOWS: &'static [Mutant] = W::NEVER_SHOWS;

    fn draw_command(number: u64, random: &mut Random) -> Bytes {
        W::draw_command(number, random)
    }

    fn draw_query(random: &mut Random) -> Bytes {
        W::draw_query(random)
    }

    fn apply(&mut self, slot: Slot, time: Time, command: &Bytes) -> Bytes {
        // A node asks for both with each command; here it matters only that they can be asked for.
        let _ = (self.state.takes_long(command), W::State::needs_memory(command));
        let applied = self.state.try_apply(Applying::new(slot, time), command);
        let _ = self.state.memory_bytes();
        applied.unwrap_or_else(|UnknownCommand| {
            panic!("the state machine does not know this command: {}", command.escape_ascii())
        })
    }

    fn query(&self, query: &Bytes, time: Time) -> Option<Bytes> {
        W::answer(&self.state, query, time)
    }

    fn due(&self, time: Time) -> Vec<Bytes> {
        self.state.due(time)
    }

    fn digest(&self) -> u64 {
        self.state.digest()
    }

    fn snapshot(&self) -> Bytes {
        self.begin_snapshot()()
    }

    fn begin_snapshot(&self) -> BegunSnapshot {
        let write = self.state.snapshot();
        Box::new(move || {
            let mut bytes = Vec::new();
            if let Err(error) = write(&mut bytes) {
                panic!("the state machine does not write its snapshot: {error}");
            }
            Bytes::from(bytes)
        })
    }

    fn restore(&mut self, snapshot: &[u8]) {
        if let Err(error) = self.state.restore(&mut ShortReads(snapshot)) {
            panic!("the state machine refuses a snapshot that it has written: {error}");
        }
    }

    fn show(action: &Action) -> String {
        W::show(action)
    }

    fn show_answer(action: &Action, answer: &Bytes) -> String {
        W::show_answer(action, answer)
    }

    fn check(history: &[Operation]) -> Result<(), String> {
        W::check(history)
    }
}

/// A [`Machine`] of the simulator as the state machine of a node, for experiments with whole nodes.
///
/// The simulator gives a machine no bytes but those that it has drawn. On a node whoever can propose chooses
/// them, so a machine that trusts its commands must not be deployed: where it panics, every node stops.
#[derive(Clone, Debug, Default)]
pub struct Deployed<M>(pub M);

impl<M: Machine + Send + Sync + 'static> StateMachine for Deployed<M> {
    fn apply(&mut self, at: Applying, command: &Bytes) -> Bytes {
        self.0.apply(at.slot, at.time, command)
    }

    fn due(&self, time: Time) -> Vec<Bytes> {
        self.0.due(time)
    }

    fn snapshot(&self) -> SnapshotWriter {
        let bytes = self.0.snapshot();
        Box::new(move |target| target.write_all(&bytes))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        snapshot.read_to_end(&mut bytes)?;
        self.0.restore(&bytes);
        Ok(())
    }

    fn digest(&self) -> u64 {
        self.0.digest()
    }
}

/// Reads these bytes in short pieces, as a snapshot on a disk may be read.
struct ShortReads<'a>(&'a [u8]);

impl Read for ShortReads<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(PIECE_BYTES);
        self.0.read(&mut buffer[..count])
    }
}

#[cfg(test)]
mod tests {
    use paxos_core::sim::Registers;

    use super::*;

    #[test]
    fn a_deployed_machine_does_what_the_machine_does_and_survives_a_snapshot() {
        let (mut machine, mut deployed) = (Registers::default(), Deployed(Registers::default()));
        let mut random = Random::new(1);
        for number in 1..=50 {
            let (slot, time) = (Slot(number), Time(1_000 * number));
            let command = Registers::draw_command(number, &mut random);
            let answer = machine.apply(slot, time, &command);
            assert_eq!(deployed.apply(Applying::new(slot, time), &command), answer, "command {number}");
        }
        assert_eq!(deployed.digest(), machine.digest());
        let mut bytes = Vec::new();
        deployed.snapshot()(&mut bytes).expect("it is written to memory");
        let mut restored = Deployed(Registers::default());
        restored.restore(&mut &bytes[..]).expect("it is a snapshot");
        assert_eq!(restored.0, machine);
    }
}
