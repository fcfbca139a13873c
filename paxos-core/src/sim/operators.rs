//! Operators: they change the membership and hand leadership over, while everything else goes on.
//!
//! An operator has a plan of one or several steps, such as adding a node, promoting it and removing another,
//! and asks for each step until it is made or refused too often. What it asks for always leaves a quorum of
//! nodes that are not lost for good, so that progress can be judged at the end.

use std::collections::VecDeque;

use super::disk::Disk;
use super::event::Event;
use super::machine::Machine;
use super::marks::Mark;
use super::rule::Rule;
use super::scenario::TICK_UNITS;
use super::world::World;
use crate::{
    Ballot, Change, ChangeError, ChangeRefusal, ChangeRequest, Epoch, FormatLevel, HandoverRefusal, Input,
    Membership, NodeId, RequestId, Role, Standing,
};

/// After so many refusals an operator drops its plan.
const MAX_REFUSALS: u32 = 12;

/// One operator.
#[derive(Debug, Default)]
pub(super) struct Operator {
    plan: VecDeque<Step>,
    refusals: u32,
    /// The request that it waits for.
    waits_for: Option<RequestId>,
}

#[derive(Clone, Debug)]
enum Step {
    Change(Change),
    HandOver(Option<NodeId>),
}

/// A request that was not answered yet.
#[derive(Debug)]
pub(super) struct Asked {
    operator: usize,
    node: usize,
    life: u64,
    change: Option<Change>,
}

impl<M: Machine, D: Disk> World<M, D> {
    pub(super) fn on_operator(&mut self, index: usize) {
        if !self.clients_may_begin {
            return;
        }
        let interval = self.scenario.operator_ticks * TICK_UNITS;
        let delay = 1 + self.operator_random.below(2 * interval);
        self.schedule.after(delay, Event::Operator(index));
        if self.operators[index].waits_for.is_some() {
            if self.operator_random.one_in(8) {
                self.operators[index].waits_for = None; // It asks again; the first request may still be met.
            }
            return;
        }
        if self.operators[index].plan.is_empty() {
            if self.is_calm {
                return;
            }
            self.operators[index].plan = self.draw_plan();
            self.operators[index].refusals = 0;
        }
        if let Some(step) = self.operators[index].plan.front().cloned() {
            self.ask(index, step);
        }
    }

    fn draw_plan(&mut self) -> VecDeque<Step> {
        let membership = self.observer.membership().clone();
        let random = &mut self.operator_random;
        let member = |random: &mut crate::random::Random| {
            let members = membership.members();
            members[random.index(members.len())]
        };
        let plan = match random.index(12) {
            0 => self.add().into_iter().collect(),
            1 => membership.learners().take(1).map(|node| Change::Promote { node }).collect(),
            2 => vec![Change::Demote { node: member(random) }],
            3 => vec![Change::Remove { node: member(random) }],
            4 => vec![Change::Move { node: member(random), address: self.draw_address(NodeId(0)) }],
            5 => {
                let prioritize = Change::Prioritize { node: member(random), priority: random.below(3) as u8 };
                let is_next =
                    membership.epoch().0 % 3 == 2 && membership.format_level() < FormatLevel::NEWEST;
                vec![if is_next { Change::Finalize { level: FormatLevel::NEWEST } } else { prioritize }]
            }
            6 => match membership.removed() {
                [] => Vec::new(),
                removed => {
                    let node = removed[random.index(removed.len())];
                    vec![Change::AddLearner { node, address: format!("again-{node}") }]
                }
            },
            7..=9 => self.draw_replacement(&membership),
            _ => {
                let to = (!random.one_in(3)).then(|| member(random));
                return VecDeque::from([Step::HandOver(to)]);
            }
        };
        plan.into_iter().map(Step::Change).collect()
    }

    /// A node that was never a member replaces a member, if possible one whose disk is lost: one that comes
    /// back with an empty disk must have a new id.
    fn draw_replacement(&mut self, membership: &Membership) -> Vec<Change> {
        let Some(add) = self.add() else { return Vec::new() };
        let is_lost = |id: &&NodeId| self.nodes.iter().any(|node| node.id == **id && node.is_gone);
        let members = membership.members();
        let lost = members.iter().find(is_lost).copied();
        let old = lost.unwrap_or_else(|| members[self.operator_random.index(members.len())]);
        let new = add.node().expect("the change adds a node");
        let mut plan = vec![add, Change::Promote { node: new }, Change::Remove { node: old }];
        if self.operator_random.one_in(4) {
            plan.swap(1, 2);
        }
        plan
    }

    /// Starts a node that was never a member, if one is left, to be added as a learner.
    fn add(&mut self) -> Option<Change> {
        let membership = self.observer.membership();
        let is_new = |id: NodeId| membership.member(id).is_none() && !membership.was_removed(id);
        let spares: Vec<usize> = (self.scenario.nodes..self.nodes.len())
            .filter(|&node| {
                is_new(self.nodes[node].id) && (self.nodes[node].is_spare || !self.nodes[node].is_gone)
            })
            .collect();
        if spares.is_empty() {
            return None;
        }
        let spare = spares[self.operator_random.index(spares.len())];
        let node = self.nodes[spare].id;
        if std::mem::take(&mut self.nodes[spare].is_spare) {
            self.nodes[spare].is_gone = false;
            self.draw_clock(spare);
            self.start(spare);
        }
        let address = self.draw_address(node);
        Some(Change::AddLearner { node, address })
    }

    /// An address, sometimes one that a member has or had.
    fn draw_address(&mut self, node: NodeId) -> String {
        if self.operator_random.one_in(4) {
            let other = self.operator_random.index(self.nodes.len());
            return address_of(self.nodes[other].id);
        }
        match node {
            NodeId(0) => format!("moved-{}", self.operator_random.below(1000)),
            node => address_of(node),
        }
    }

    /// Asks the leader, or now and then any node.
    fn ask(&mut self, index: usize, step: Step) {
        let now = self.schedule.now_units();
        let is_awake = |&node: &usize| self.nodes[node].is_up() && self.nodes[node].paused_until_units <= now;
        let up: Vec<usize> = (0..self.nodes.len()).filter(is_awake).collect();
        let leads = |&node: &usize| self.nodes[node].role() == Some(Role::Leader);
        let leaders: Vec<usize> = up.iter().copied().filter(leads).collect();
        let asked = if leaders.is_empty() || self.operator_random.one_in(10) { up } else { leaders };
        if asked.is_empty() {
            return;
        }
        let node = asked[self.operator_random.index(asked.len())];
        self.last_request += 1;
        let request = RequestId(self.last_request);
        let input = match &step {
            Step::HandOver(to) => Input::HandOver { request, to: *to },
            Step::Change(change) if self.leaves_quorum(change) => {
                let epoch = self.observer.membership().epoch();
                let if_epoch = self
                    .operator_random
                    .one_in(3)
                    .then(|| if self.operator_random.one_in(8) { Epoch(epoch.0 + 1) } else { epoch });
                let is_forced = self.operator_random.one_in(4);
                Input::Change(ChangeRequest { request, change: change.clone(), if_epoch, is_forced })
            }
            Step::Change(_) => {
                self.operators[index].plan.clear();
                return;
            }
        };
        let id = self.nodes[node].id;
        self.trace.event(now, || format!("operator {index} asks node {id}: {step:?}"));
        let change = match step {
            Step::Change(change) => Some(change),
            Step::HandOver(_) => None,
        };
        let life = self.nodes[node].life;
        self.operators[index].waits_for = Some(request);
        self.asked.insert(request, Asked { operator: index, node, life, change });
        self.step(node, input);
    }

    fn leaves_quorum(&self, change: &Change) -> bool {
        let next = self.observer.membership().changed(change, Ballot::ZERO);
        next.map_or(true, |next| self.can_work(&next, None)) // One that does not fit will be refused.
    }

    /// Whether the sound voters, without one, are a quorum of each phase, and one of them may lead.
    fn can_work(&self, membership: &Membership, without: Option<usize>) -> bool {
        let is_sound = |id: NodeId| {
            let node = self.nodes.iter().position(|node| node.id == id);
            node.is_some_and(|node| Some(node) != without && self.nodes[node].is_sound())
        };
        let sound: Vec<NodeId> = membership.voters().filter(|&id| is_sound(id)).collect();
        let may_lead = |&id: &NodeId| membership.may_lead(id);
        sound.len() >= membership.quorums().prepare().max(membership.quorums().accept())
            && sound.iter().any(may_lead)
    }

    /// Whether a node can be lost for good, whichever of the memberships that are possible now is in force.
    /// Somebody must be left who finds out that the present one is.
    pub(super) fn may_lose(&self, node: usize) -> bool {
        if self.operators.is_empty() {
            return self.may_lose_one();
        }
        let open = self.asked.values().filter(|asked| self.nodes[asked.node].life == asked.life);
        let changes = open.filter_map(|asked| asked.change.as_ref());
        let asked_for =
            changes.filter_map(|change| self.observer.membership().changed(change, Ballot::ZERO).ok());
        let mut possible = self.observer.possible_memberships().cloned().chain(asked_for);
        possible.all(|membership| self.can_work(&membership, Some(node))) && self.can_find_out(node)
    }

    fn can_find_out(&self, without: usize) -> bool {
        let Some(before) = self.observer.membership_before() else { return true };
        let stays = |&node: &usize| node != without && self.nodes[node].is_sound();
        let mut nodes = 0..self.nodes.len();
        if nodes.any(|node| stays(&node) && self.observer.knows_membership(node)) {
            return true;
        }
        // A node that has ended was told that the others can do without it.
        let counts = |node: &usize| stays(node) || self.nodes[*node].has_ended;
        let voters =
            (0..self.nodes.len()).filter(|&node| before.is_voter(self.nodes[node].id) && counts(&node));
        voters.count() >= before.quorums().prepare().max(before.quorums().accept())
    }

    pub(super) fn on_change_in_force(&mut self, request: RequestId) {
        self.marks.hit(Mark::ChangeInForce);
        self.trace.event(self.schedule.now_units(), || format!("request {} is met", request.0));
        self.on_answer(request, true);
    }

    pub(super) fn on_handed_over(&mut self, request: RequestId) {
        self.marks.hit(Mark::HandedOver);
        self.trace.event(self.schedule.now_units(), || format!("request {} is met", request.0));
        self.on_answer(request, true);
    }

    pub(super) fn on_change_refused(&mut self, request: RequestId, refusal: &ChangeRefusal) {
        self.trace.event(self.schedule.now_units(), || format!("request {}: {refusal}", request.0));
        let mark = match refusal {
            ChangeRefusal::UnderWay { .. } => Some(Mark::ChangeUnderWay),
            ChangeRefusal::LeaderHandsOver { .. } => Some(Mark::LeaderMakesWay),
            ChangeRefusal::OtherEpoch { .. } => Some(Mark::OtherEpochExpected),
            ChangeRefusal::LearnerLags { .. } => Some(Mark::LearnerLags),
            ChangeRefusal::NoLiveQuorum { .. } => Some(Mark::NoLiveQuorum),
            ChangeRefusal::Lost => Some(Mark::ChangeLost),
            ChangeRefusal::Impossible(ChangeError::WasRemoved { .. }) => Some(Mark::RemovedIdRefused),
            ChangeRefusal::Impossible(ChangeError::AddressTaken { .. }) => Some(Mark::AddressRefused),
            _ => None,
        };
        if let Some(mark) = mark {
            self.marks.hit(mark);
        }
        self.on_answer(request, matches!(refusal, ChangeRefusal::Impossible(_)));
    }

    pub(super) fn on_handover_refused(&mut self, request: RequestId, refusal: HandoverRefusal) {
        self.trace.event(self.schedule.now_units(), || format!("request {}: {refusal}", request.0));
        let mark = match refusal {
            HandoverRefusal::Declined { .. } => Some(Mark::HandoverDeclined),
            HandoverRefusal::NotInTime { .. } => Some(Mark::HandoverNotInTime),
            HandoverRefusal::Lags { .. } => Some(Mark::SuccessorLags),
            _ => None,
        };
        if let Some(mark) = mark {
            self.marks.hit(mark);
        }
        self.on_answer(request, false);
    }

    /// Ends a step of the plan that waits for this request, or counts the refusal.
    fn on_answer(&mut self, request: RequestId, ends_step: bool) {
        let asked = self.asked.remove(&request);
        self.observer.check(asked.is_some(), Rule::RequestsAnswered, || {
            format!("request {} is answered a second time", request.0)
        });
        let Some(asked) = asked else { return };
        let operator = &mut self.operators[asked.operator];
        if operator.waits_for != Some(request) {
            return;
        }
        operator.waits_for = None;
        if ends_step {
            operator.plan.pop_front();
            operator.refusals = 0;
        } else {
            operator.refusals += 1;
            if operator.refusals > MAX_REFUSALS {
                operator.plan.clear();
            }
        }
    }

    /// A request that a node has neither answered nor lost in a crash.
    pub(super) fn unanswered(&self) -> Option<(RequestId, NodeId)> {
        let mut open = self.asked.iter().filter(|(_, asked)| self.nodes[asked.node].life == asked.life);
        open.next().map(|(request, asked)| (*request, self.nodes[asked.node].id))
    }

    /// A node that is removed ends once it may.
    pub(super) fn end_if_removed(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        let Some(replica) = &state.replica else { return };
        if replica.membership().member(state.id).is_some() {
            return;
        }
        if let Standing::Removed { may_end } = replica.standing() {
            if state.was_away {
                state.was_away = false;
                self.marks.hit(Mark::RemovedCameBack);
            }
            if may_end && self.scenario.removed_end {
                self.observer.on_end(node, replica.membership().epoch());
                state.replica = None;
                state.life += 1;
                (state.is_gone, state.has_ended) = (true, true);
                state.reads.clear();
                state.writes.clear();
                state.syncing = 0;
                self.marks.hit(Mark::RemovedEnded);
                self.trace.event(self.schedule.now_units(), || format!("node {} ends", state.id));
            }
        }
    }
}

pub(super) fn address_of(node: NodeId) -> String {
    format!("host-{node}")
}
