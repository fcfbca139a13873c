//! A state machine that hands out tickets, and what its clients do in a simulation.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read};

use paxos_core::sim::{Action, Operation, Random};
use paxos_node::prelude::*;
use paxos_node::sim::Workload;

/// A queue of tickets: `take` answers the next number, `serve` the one that has waited longest.
///
/// If it is `FORGETFUL` it has a bug: its snapshots do not hold the next number.
#[derive(Default)]
pub(crate) struct Tickets<const FORGETFUL: bool> {
    last: u64,
    waiting: VecDeque<u64>,
}

impl<const FORGETFUL: bool> StateMachine for Tickets<FORGETFUL> {
    fn apply(&mut self, _: Applying, command: &Bytes) -> Bytes {
        match &command[..] {
            b"take" => {
                self.last += 1;
                self.waiting.push_back(self.last);
                Bytes::from(self.last.to_string())
            }
            b"serve" => match self.waiting.pop_front() {
                Some(ticket) => Bytes::from(ticket.to_string()),
                None => Bytes::from_static(b"nobody"),
            },
            _ => Bytes::from_static(b"no such command"),
        }
    }

    fn snapshot(&self) -> SnapshotWriter {
        let (last, waiting) = (self.last, self.waiting.clone());
        Box::new(move |target| {
            if !FORGETFUL {
                target.write_all(&last.to_le_bytes())?;
            }
            waiting.iter().try_for_each(|ticket| target.write_all(&ticket.to_le_bytes()))
        })
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        snapshot.read_to_end(&mut bytes)?;
        let (numbers, _) = bytes.as_chunks();
        let mut numbers: VecDeque<u64> = numbers.iter().copied().map(u64::from_le_bytes).collect();
        // It seems to be enough to go on behind the last ticket that waits.
        let last = if FORGETFUL { numbers.back().copied() } else { numbers.pop_front() };
        (self.last, self.waiting) = (last.unwrap_or(0), numbers);
        Ok(())
    }

    fn digest(&self) -> u64 {
        self.waiting.iter().fold(0, |digest, ticket| digest.wrapping_mul(31).wrapping_add(*ticket))
    }
}

/// Clients that take tickets, serve them, and look how many wait.
pub(crate) struct Counter<const FORGETFUL: bool>;

impl<const FORGETFUL: bool> Workload for Counter<FORGETFUL> {
    type State = Tickets<FORGETFUL>;

    fn begin() -> Tickets<FORGETFUL> {
        Tickets::default()
    }

    fn draw_command(_: u64, random: &mut Random) -> Bytes {
        Bytes::from_static(if random.one_in(2) { b"take" } else { b"serve" })
    }

    fn draw_query(_: &mut Random) -> Bytes {
        Bytes::from_static(b"how many wait?")
    }

    fn answer(state: &Tickets<FORGETFUL>, _: &Bytes, _: Time) -> Option<Bytes> {
        Some(Bytes::from(state.waiting.len().to_string()))
    }

    /// No two clients are ever given the same ticket.
    fn check(history: &[Operation]) -> Result<(), String> {
        let mut taken = BTreeSet::new();
        for operation in history {
            if let (Action::Command(command), Some((_, answer))) = (&operation.action, &operation.answered)
                && command[..] == *b"take"
                && !taken.insert(answer)
            {
                return Err(format!("ticket {} was given twice", answer.escape_ascii()));
            }
        }
        Ok(())
    }
}
