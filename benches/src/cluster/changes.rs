//! What a change of the membership or of the leader costs: for how long nothing can be proposed.

use std::time::Duration;

use bytes::Bytes;
use paxos_core::{
    Change, ChangeRequest, Config, Input, Membership, NodeId, ProtocolSettings, Recovered, Replica,
    RequestId, Role,
};

use super::{Cluster, DiskQueue, Event, Setting, command};

/// How long a message takes here. A sync takes a nanosecond: so no number of syncs is mistaken for a message.
const HOP: Duration = Duration::from_millis(1);
const SYNC: Duration = Duration::from_nanos(1);
/// The length of the command that waits.
const COMMAND_BYTES: usize = 256;

/// For how long nothing is proposed after the request for a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pause {
    /// Hops of messages, one after the other: two are a round trip.
    pub hops: u128,
    /// Syncs one after the other.
    pub syncs: u128,
}

/// The pauses of the changes that replace a node, and of a handover, on three nodes.
///
/// # Panics
///
/// If a change is refused although nothing fails: a bug.
#[must_use]
pub fn pauses() -> Vec<(&'static str, Pause)> {
    let mut cluster = Cluster::with_leader(Setting::new(HOP, SYNC));
    cluster.serve_one(COMMAND_BYTES);
    let leader = cluster.leader;
    let gone = cluster.members.iter().copied().find(|node| *node != leader).expect("there are three");
    let new = NodeId(4);
    cluster.join(new);
    let mut pauses = vec![
        ("add a learner", cluster.change(Change::AddLearner { node: new, address: String::from("four") })),
        ("promote it", cluster.change(Change::Promote { node: new })),
        ("remove a follower", cluster.change(Change::Remove { node: gone })),
        ("hand leadership over", cluster.hand_over()),
        ("the same, at the old leader", cluster.hand_over_with_command()),
    ];
    let leader = cluster.leader;
    pauses
        .push(("move a member", cluster.change(Change::Move { node: leader, address: String::from("new") })));
    pauses.push(("finish the change of a dead leader", cluster.finish_change_of_dead_leader()));
    pauses
}

impl Pause {
    fn of(time: Duration) -> Pause {
        let (hop, sync) = (HOP.as_nanos(), SYNC.as_nanos());
        Pause { hops: time.as_nanos() / hop, syncs: time.as_nanos() % hop / sync }
    }
}

impl Cluster {
    /// Starts a node that is no member yet.
    fn join(&mut self, node: NodeId) {
        let founding = Membership::new(&self.members).expect("the members are distinct");
        let config = Config::joining(node, founding, ProtocolSettings::default()).expect("the settings fit");
        let replica = Replica::new(config, Recovered::default(), node.0).expect("an empty disk is in order");
        self.replicas.insert(node, replica);
        self.disks.insert(node, DiskQueue::default());
        self.members.push(node);
    }

    fn change(&mut self, change: Change) -> Pause {
        let request = RequestId(self.next_number);
        let request = ChangeRequest { request, change, if_epoch: None, is_forced: false };
        let epoch = self.replicas[&self.leader].membership().epoch();
        let pause = self.pause_after(Input::Change(request));
        assert_eq!(self.replicas[&self.leader].membership().epoch(), epoch.next(), "the change is made");
        pause
    }

    /// Until another node leads, which can propose from then on.
    fn hand_over(&mut self) -> Pause {
        self.send_heartbeats();
        let started = self.now;
        self.step(self.leader, self.request_handover());
        while self
            .replicas
            .iter()
            .all(|(node, replica)| *node == self.leader || replica.role() != Role::Leader)
        {
            self.next_event();
        }
        let pause = Pause::of(self.now.saturating_sub(started));
        self.settle();
        self.note_leader();
        pause
    }

    /// A leader dies when the others have accepted its change. Until the next one, from when it leads, has
    /// had the change chosen and can propose a command.
    fn finish_change_of_dead_leader(&mut self) -> Pause {
        let dead = self.leader;
        let change = Change::Move { node: dead, address: String::from("newest") };
        let request = RequestId(self.next_number);
        self.step(dead, Input::Change(ChangeRequest { request, change, if_epoch: None, is_forced: false }));
        self.end(dead);
        self.settle();
        self.leader = self.next_leader();
        let (started, epoch) = (self.now, self.replicas[&self.leader].membership().epoch());
        self.proposed_at = None;
        self.step(self.leader, Input::Propose { commands: vec![waiting_command()] });
        self.tick_later();
        while self.proposed_at.is_none() {
            self.next_event();
        }
        let pause = Pause::of(self.now.saturating_sub(started));
        assert_eq!(self.replicas[&self.leader].membership().epoch(), epoch.next(), "the change is made");
        self.settle();
        pause
    }

    /// Ends a node. What it has sent still arrives.
    fn end(&mut self, node: NodeId) {
        self.replicas.remove(&node);
        self.members.retain(|member| *member != node);
        self.events.retain(|_, event| match event {
            Event::Deliver { to, .. } => *to != node,
            Event::Synced { node: of, .. } => *of != node,
            Event::Tick => true,
        });
    }

    /// Lets time pass until somebody leads, and not any further.
    fn next_leader(&mut self) -> NodeId {
        self.tick_later();
        loop {
            self.next_event();
            let mut replicas = self.replicas.iter();
            if let Some((leader, _)) = replicas.find(|(_, replica)| replica.role() == Role::Leader) {
                return *leader;
            }
        }
    }

    /// Until the new leader has heard of a command that waits at the old one, and proposes it.
    fn hand_over_with_command(&mut self) -> Pause {
        let pause = self.pause_after(self.request_handover());
        self.note_leader();
        pause
    }

    fn request_handover(&self) -> Input {
        Input::HandOver { request: RequestId(self.next_number), to: None }
    }

    fn note_leader(&mut self) {
        let leader = self.replicas[&self.leader].leader().expect("without faults somebody leads");
        assert_ne!(std::mem::replace(&mut self.leader, leader), leader, "another node leads");
    }

    /// So that the leader knows how far the others are.
    fn send_heartbeats(&mut self) {
        for _ in 0..self.setting.options.heartbeat_ticks {
            self.tick();
            self.settle();
        }
    }

    /// Gives the leader `input`, and a command right behind it; returns when that is proposed.
    fn pause_after(&mut self, input: Input) -> Pause {
        self.send_heartbeats();
        let started = self.now;
        self.proposed_at = None;
        self.step(self.leader, input);
        self.step(self.leader, Input::Propose { commands: vec![waiting_command()] });
        self.settle();
        let proposed_at = self.proposed_at.expect("the command is proposed");
        Pause::of(proposed_at.saturating_sub(started))
    }

    /// Notes that a value is proposed.
    pub(super) fn note_proposal(&mut self, value: &paxos_core::Value) {
        let waiting = waiting_command();
        if self.proposed_at.is_none() && value.commands().any(|command| command == waiting) {
            self.proposed_at = Some(self.now);
        }
    }
}

/// A command of a client that is not served.
fn waiting_command() -> Bytes {
    command(u64::MAX, COMMAND_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_the_membership_pauses_for_a_round_trip_and_a_handover_for_one_and_a_half() {
        let pauses: Vec<(&str, u128, u128)> =
            pauses().into_iter().map(|(what, pause)| (what, pause.hops, pause.syncs)).collect();
        assert_eq!(
            pauses,
            [
                ("add a learner", 2, 1),
                ("promote it", 2, 1),
                ("remove a follower", 2, 1),
                ("hand leadership over", 3, 2),
                ("the same, at the old leader", 5, 2),
                ("move a member", 2, 1),
                ("finish the change of a dead leader", 4, 3),
            ]
        );
    }
}
