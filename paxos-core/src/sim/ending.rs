//! The end of a run: calm, in which those who are left must come to agree, and the verdict.

use std::collections::HashSet;

use super::disk::Disk;
use super::machine::Machine;
use super::node::{Node, State};
use super::rule::Rule;
use super::scenario::{CALM_TICKS, TICK_UNITS};
use super::world::World;
use crate::session::Outcome;

/// Who is still behind when the calm is over must come closer in this time, again and again.
pub(super) const CATCH_UP_TICKS: u64 = 200;

impl<M: Machine, D: Disk> World<M, D> {
    /// The chaos ends: the network works, disks and clocks do, and everybody who still can comes back.
    pub(super) fn calm(&mut self) {
        self.is_calm = true;
        self.network.calm();
        self.trace.event(self.schedule.now_units(), || String::from("calm returns"));
        if self.scenario.minority_stays_away {
            while self.may_lose_one() {
                let node = self.trouble_random.index(self.nodes.len());
                self.lose(node);
            }
        }
        // Progress needs time-outs that are longer than what they wait for: a clock that is five times too fast, beside
        // a disk that is slow, would call off every election.
        let timeout_units = u64::from(self.scenario.options.election_timeout_ticks) * TICK_UNITS;
        self.scenario.sync_units = self.scenario.sync_units.min(timeout_units / 8);
        for node in 0..self.nodes.len() {
            self.set_clock(node, 1000);
            self.nodes[node].disk_stuck_until_units = 0;
            self.nodes[node].is_doomed = false;
            self.start(node);
        }
    }

    /// Whether a node is behind and comes closer: where one value fits into a message, and a leader needs nobody
    /// to choose, thousands of slots are to be fetched one by one.
    pub(super) fn is_catching_up(&mut self) -> bool {
        let last = self.observer.last_applied().0;
        let stays = self.nodes.iter().filter(|node| !node.is_gone);
        let lag_slots = stays.map(|node| last - node.state.applied.0).max().unwrap_or(0);
        let before = std::mem::replace(&mut self.lag_slots, lag_slots);
        lag_slots > 0 && lag_slots < before
    }

    /// Whether calm has brought everybody to the same state, and every client its answers.
    pub(super) fn judge(&mut self) {
        let last = self.observer.last_applied();
        let behind = |node: &&Node<M, D>| !node.is_gone && (!node.is_up() || node.state.applied != last);
        let behind = self.nodes.iter().find(behind).map(|node| (node.id, node.state.applied));
        self.observer.check(behind.is_none(), Rule::Progress, || {
            format!(
                "{CALM_TICKS} ticks after calm returned, slot {last} has been applied, but not by {behind:?}"
            )
        });
        let waiting = self.clients.iter().position(|client| !client.is_idle());
        self.observer.check(waiting.is_none(), Rule::Progress, || {
            format!("{CALM_TICKS} ticks after calm returned, client {waiting:?} still waits for an answer")
        });
        self.replay();
        let history: Vec<_> = self.clients.iter().flat_map(|client| client.history.iter().cloned()).collect();
        if let Err(problem) = M::check(&history) {
            self.observer.check(false, Rule::Linearizable, || problem);
        }
    }

    /// Applies the whole log once more, from the first slot on and without any snapshot: the state must come out
    /// that the nodes have, and everything that clients were told must be in there.
    fn replay(&mut self) {
        let mut state = State::<M>::new(self.scenario.sessions);
        let mut applied = HashSet::new();
        for (slot, value) in self.observer.log() {
            state.apply(slot, value, |key, outcome| {
                if matches!(outcome, Outcome::Applied { .. }) {
                    applied.extend(key);
                }
            });
        }
        self.observer.on_replayed(state.digest(), &applied);
    }
}
