//! The end of a run: calm, in which the remaining nodes must come to agree, and the final checks.

use std::collections::HashSet;

use super::disk::Disk;
use super::machine::Machine;
use super::node::{Application, Node};
use super::rule::Rule;
use super::scenario::{CALM_TICKS, TICK_UNITS};
use super::world::World;
use crate::Time;
use crate::session::Outcome;

impl<M: Machine, D: Disk> World<M, D> {
    /// The chaos ends: network, disks and clocks work, and every node that is not lost comes back.
    pub(super) fn calm(&mut self) {
        self.is_calm = true;
        self.network.calm();
        if let Some(streams) = &mut self.streams {
            streams.is_calm = true;
        }
        self.trace.trouble(self.schedule.now_units(), || String::from("calm returns"));
        if self.scenario.minority_stays_away {
            while self.may_lose_one() {
                let node = self.trouble_random.index(self.nodes.len());
                if !self.may_lose(node) {
                    break;
                }
                self.lose(node);
            }
        }
        // Progress needs time-outs that are longer than what they wait for: with a clock that is five times
        // too fast beside a slow disk, every election would time out.
        let timeout_units = u64::from(self.scenario.settings.election_timeout_ticks) * TICK_UNITS;
        self.scenario.sync_units = self.scenario.sync_units.min(timeout_units / 8);
        for node in 0..self.nodes.len() {
            self.set_clock(node, 1000);
            self.nodes[node].disk_stuck_until_units = 0;
            self.nodes[node].is_doomed = false;
            self.start(node);
        }
    }

    /// Whether a node is behind and comes closer. Where a message holds only one value, it may have to fetch
    /// thousands of slots one by one.
    pub(super) fn is_catching_up(&mut self) -> bool {
        let last = self.observer.last_applied().0;
        let stays = self.nodes.iter().filter(|node| self.must_agree(node));
        let lag_slots = stays.map(|node| last - node.application.applied.0).max().unwrap_or(0);
        let before = std::mem::replace(&mut self.lag_slots, lag_slots);
        lag_slots > 0 && lag_slots < before
    }

    /// Whether a node is a member that was not lost.
    pub(super) fn must_agree(&self, node: &Node<M, D>) -> bool {
        !node.is_gone && self.observer.membership().member(node.id).is_some()
    }

    /// Checks that calm has brought all nodes to the same state, and every client its answers.
    pub(super) fn judge(&mut self) {
        let last = self.observer.last_applied();
        let behind =
            |node: &&Node<M, D>| self.must_agree(node) && (!node.is_up() || node.application.applied != last);
        let behind = self.nodes.iter().find(behind).map(|node| (node.id, node.application.applied));
        self.observer.check(behind.is_none(), Rule::Progress, || {
            format!(
                "{CALM_TICKS} ticks after calm returned, slot {last} has been applied, but not by {behind:?}"
            )
        });
        let waiting = self.clients.iter().position(|client| !client.is_idle());
        self.observer.check(waiting.is_none(), Rule::Progress, || {
            format!("{CALM_TICKS} ticks after calm returned, client {waiting:?} still waits for an answer")
        });
        let unanswered = self.unanswered();
        self.observer.check(unanswered.is_none(), Rule::RequestsAnswered, || {
            format!(
                "{CALM_TICKS} ticks after calm returned, a request to a node is not answered: {unanswered:?}"
            )
        });
        self.replay();
        let history: Vec<_> = self.clients.iter().flat_map(|client| client.history.iter().cloned()).collect();
        if let Err(problem) = M::check(&history) {
            self.observer.check(false, Rule::Linearizable, || problem);
        }
    }

    /// Applies the whole log once more, from the first slot on and without any snapshot: the result must
    /// equal the state of the nodes, and the log must hold every command that clients were told was applied.
    fn replay(&mut self) {
        let mut state = Application::<M>::new(self.scenario.sessions);
        let mut applied = HashSet::new();
        for (slot, value) in self.observer.log() {
            let told = |key, outcome: &Outcome| {
                if matches!(outcome, Outcome::Applied { .. }) {
                    applied.extend(key);
                }
            };
            state.apply(slot, value, Time::NONE, |_, _| (), told);
        }
        self.observer.on_replayed(state.digest(), &applied);
    }
}
