//! Chaos: the faults that strike nodes, disks, clocks and links.

use super::disk::Disk;
use super::event::Event;
use super::machine::Machine;
use super::marks::Mark;
use super::node::Health;
use super::scenario::{Fault, TICK_UNITS};
use super::world::World;
use crate::Role;

impl<M: Machine, D: Disk> World<M, D> {
    pub(super) fn on_trouble(&mut self) {
        if self.is_calm {
            return;
        }
        let interval = self.scenario.trouble_ticks * TICK_UNITS;
        self.schedule.after(1 + self.trouble_random.below(2 * interval), Event::Trouble);
        if self.trouble_random.one_in(3) {
            self.network.mend();
            self.trace.trouble(self.schedule.now_units(), || String::from("all links work again"));
        }
        if self.scenario.faults.is_empty() {
            return;
        }
        let faults = &self.scenario.faults;
        let drawn = faults[self.trouble_random.index(faults.len())];
        let is_lost_leader = faults.contains(&Fault::LostLeader) && self.trouble_random.one_in(4);
        let fault = if is_lost_leader { Fault::LostLeader } else { drawn };
        let node = self.trouble_random.index(self.nodes.len());
        let other = self.trouble_random.index(self.nodes.len());
        let id = self.nodes[node].id;
        self.trace.trouble(self.schedule.now_units(), || format!("trouble: {fault:?}, node {id}"));
        self.befall(fault, node, other);
    }

    fn befall(&mut self, fault: Fault, node: usize, other: usize) {
        let now = self.schedule.now_units();
        let long_units = self.trouble_random.below(400 * TICK_UNITS);
        let sides: Vec<u8> = self.nodes.iter().map(|_| 1 + self.trouble_random.below(2) as u8).collect();
        match fault {
            Fault::Crash => self.crash_at_a_bad_moment(node),
            Fault::CrashAll => {
                self.marks.hit(Mark::EverybodyCrashed);
                (0..self.nodes.len()).for_each(|node| self.crash(node));
            }
            Fault::LateLeader => {
                let leader = self.leader().unwrap_or(node);
                self.network.set_late(leader, long_units / 4);
                if self.trouble_random.one_in(2) {
                    (0..self.nodes.len()).for_each(|to| self.network.set_cut(leader, to, true));
                }
            }
            Fault::Middlemen => self.crash_middlemen(other),
            Fault::LostLeader => {
                let alone = self.leader().unwrap_or(node);
                // The leader is the last to find out: its clock is the slowest that there may be, and the
                // others' clocks are the fastest.
                let error = self.scenario.clock_error;
                for at in 0..self.nodes.len() {
                    self.set_clock(at, if at == alone { 1000 + error } else { 1000 - error });
                }
                self.network.split(|at| if at == alone { 1 } else { 2 });
            }
            Fault::Partition => self.network.split(|node| sides[node]),
            Fault::Bridge => self.network.split(|at| if at == node { 3 } else { sides[at] }),
            Fault::LinkCut => self.network.set_cut_both_ways(node, other, true),
            Fault::OneWayCut => self.network.set_cut(node, other, true),
            Fault::Flapping => {
                self.network.set_flapping(node, other);
                self.schedule.after(TICK_UNITS, Event::Flap);
            }
            Fault::Pause => {
                let is_leader = self.nodes[node].role() == Some(Role::Leader);
                if is_leader && long_units > 150 * TICK_UNITS {
                    self.marks.hit(Mark::LeaderOverslept);
                }
                self.nodes[node].paused_until_units = now + long_units;
            }
            Fault::StuckDisk => self.nodes[node].disk_stuck_until_units = now + long_units,
            Fault::FailingDisk => self.crash(node),
            Fault::LostDisk => {
                if self.may_lose(node) {
                    self.lose(node);
                }
            }
            Fault::LyingDisk => {
                if self.may_lose(node) && self.nodes[node].is_sound() {
                    self.nodes[node].disk_health = Health::Lies;
                }
            }
            Fault::RottenDisk => {
                let is_known_bad = self.nodes[node].is_gone || self.nodes[node].disk_health == Health::Lies;
                if !is_known_bad && self.may_lose(node) && self.nodes[node].disk.decay(&mut self.disk_random)
                {
                    self.nodes[node].disk_health = Health::Rotten;
                }
            }
            Fault::ClockSpeed => self.draw_clock(node),
        }
    }

    fn leader(&self) -> Option<usize> {
        self.nodes.iter().position(|node| node.role() == Some(Role::Leader))
    }

    /// Cuts a leader off from `other`; if it is cut off from some node already, crashes the nodes that still
    /// hear it.
    fn crash_middlemen(&mut self, other: usize) {
        let Some(leader) = self.leader() else { return };
        let hear_it: Vec<usize> =
            (0..self.nodes.len()).filter(|&at| at != leader && !self.network.is_cut(leader, at)).collect();
        if hear_it.len() + 1 == self.nodes.len() {
            self.network.set_cut_both_ways(leader, other, true);
        } else {
            for at in hear_it {
                self.crash_briefly(at);
            }
        }
    }

    /// Prefers a node that has something on the way to its disk, or waits until it has.
    fn crash_at_a_bad_moment(&mut self, node: usize) {
        match self.nodes.iter().position(|node| !node.writes.is_empty()) {
            Some(busy) => self.crash(busy),
            None if self.trouble_random.one_in(2) => self.nodes[node].is_doomed = true,
            None => self.crash(node),
        }
    }

    /// Whether the others would still be a quorum of each phase.
    pub(super) fn may_lose_one(&self) -> bool {
        let quorums = self.scenario.quorums;
        let majority = crate::Quorums::majority(self.nodes.len());
        let quorums = quorums.unwrap_or(majority);
        let sound = self.nodes.iter().filter(|node| node.is_sound()).count();
        sound > quorums.prepare().max(quorums.accept())
    }

    /// Loses a node for good.
    pub(super) fn lose(&mut self, node: usize) {
        if !self.nodes[node].is_gone {
            self.marks.hit(Mark::NodeLost);
            self.crash(node);
            self.nodes[node].is_gone = true;
        }
    }

    pub(super) fn draw_clock(&mut self, node: usize) {
        let error = self.scenario.clock_error;
        let thousandths = match self.trouble_random.below(3) {
            0 => 1000 - error,
            1 => 1000 + error,
            _ => 1000 - error + self.trouble_random.below(2 * error + 1),
        };
        self.set_clock(node, thousandths);
    }

    /// Sets how long a tick takes.
    pub(super) fn set_clock(&mut self, node: usize, thousandths: u64) {
        self.nodes[node].tick_units = TICK_UNITS * thousandths / 1000;
    }

    pub(super) fn on_flap(&mut self) {
        if !self.is_calm && self.network.flap() {
            let interval = 1 + self.trouble_random.below(30 * TICK_UNITS);
            self.schedule.after(interval, Event::Flap);
        }
    }
}
