//! A real replica that takes steps, and a node that carries out its outputs.

use std::collections::VecDeque;
use std::convert::Infallible;

use bytes::Bytes;
use paxos_core::message::{Accept, Accepted, Consent, Fetch, Heartbeat, Prepare, Probe, Promise};
use paxos_core::{
    Ballot, Body, ChangeRequest, Config, Driver, Entry, HeartbeatRound, Input, Message, NodeId, Output,
    ProtocolSettings, ReadId, Replica, RequestId, Role, Slot, SnapshotMeta, Standing, Time, Value, Write,
};

use crate::catalogue::Catalogue;
use crate::model::{Bounds, Syncs};
use crate::node::{Event, Facts, Life, Step};
use crate::protocol_state::protocol_state;

pub(crate) struct Running<'a> {
    catalogue: &'a Catalogue,
    bounds: &'a Bounds,
    config: Config,
    replica: Replica,
    facts: Facts,
    /// The outputs that are still to be carried out.
    outputs: VecDeque<Output>,
}

impl Running<'_> {
    pub(crate) fn start<'a>(catalogue: &'a Catalogue, bounds: &'a Bounds, start: &Facts) -> Running<'a> {
        let settings = ProtocolSettings::default().with(|settings| {
            // A leader sends a heartbeat on every tick. Nothing is sent again, as the model loses messages
            // only where that makes a difference.
            settings.heartbeat_ticks = 1;
            settings.resend_ticks = u32::MAX;
            settings.eager_commands = usize::MAX;
            settings.chunk_bytes = bounds.chunk_bytes;
        });
        let config =
            Config::joining(start.id, bounds.founding(), settings).expect("these settings fit together");
        let replica = Replica::new(config.clone(), start.disk.recovered(), start.id.0);
        let replica = replica.expect("no step is taken after a disk is found senseless");
        Running { catalogue, bounds, config, replica, facts: start.clone(), outputs: VecDeque::new() }
    }

    pub(crate) fn facts(mut self) -> Facts {
        let writes_matter = self.bounds.syncs == Syncs::Separate;
        self.facts.role = self.replica.role();
        self.facts.replica = protocol_state(&format!("{:?}", self.replica), writes_matter);
        self.facts
    }

    /// `false` if the step is out of bounds.
    pub(crate) fn take(&mut self, step: Step) -> bool {
        let mut outputs = Vec::new();
        let before = self.state_that_waits(step);
        if !self.happen(step.event, &mut outputs) {
            return false;
        }
        // A message that comes again while a write is under way would be answered again after it.
        if outputs.is_empty() && before.is_some() && before == self.state_that_waits(step) {
            return false;
        }
        if step.is_lost {
            self.facts.life = Life::Doomed;
        }
        let writes = outputs.iter().any(|output| matches!(output, Output::Persist(_)));
        let is_in_bounds = (writes || !step.is_lost) && self.is_in_bounds(step, &outputs);
        self.carry_out(outputs);
        is_in_bounds
    }

    fn happen(&mut self, event: Event, outputs: &mut Vec<Output>) -> bool {
        match event {
            Event::Receive(letter) => {
                self.replica
                    .step(Input::Receive { from: letter.from, message: letter.message.clone() }, outputs);
            }
            Event::Campaign { rank } => {
                if self.replica.standing() != Standing::Voter {
                    return false;
                }
                self.campaign(rank, outputs);
            }
            Event::Change => self.change(outputs),
            Event::Propose => self.propose(outputs),
            Event::Announce => self.replica.step(Input::Tick, outputs),
            Event::Fetch { from, first } => self.receive(from, Body::Fetch(Fetch::all_from(first)), outputs),
            Event::Sync => {
                let Some(write) = self.facts.disk.unsynced.pop_front() else { return false };
                self.sync(write, outputs);
            }
            Event::Restart => unreachable!("a restart begins another history"),
        }
        true
    }

    /// The state apart from what waits for writes, if something does, and something is received.
    fn state_that_waits(&self, step: Step) -> Option<String> {
        let waits = !self.facts.disk.unsynced.is_empty() && matches!(step.event, Event::Receive(_));
        waits.then(|| protocol_state(&format!("{:?}", self.replica), false))
    }

    /// A campaign must not end up above the ballots that come later in the order, nor a command beyond the
    /// last slot.
    fn is_in_bounds(&self, step: Step, outputs: &[Output]) -> bool {
        let proposes_within = outputs.iter().all(|output| match output {
            Output::Broadcast { message: Message { body: Body::Accept(Accept { slot, .. }), .. } } => {
                *slot <= self.bounds.last_slot
            }
            _ => true,
        });
        let round = self.replica.promised().round;
        match step.event {
            Event::Campaign { rank } => round <= rank as u64 + 1,
            // A command that waits behind a membership is as good as one that comes later.
            Event::Propose if !outputs.iter().any(Output::is_message) => false,
            // A leader that enters an epoch may run phase 1 unasked, once.
            _ => proposes_within && round <= self.bounds.campaigns.len() as u64 + self.bounds.epochs_begun(),
        }
    }

    /// Receives a message of its own epoch.
    fn receive(&mut self, from: NodeId, body: Body, outputs: &mut Vec<Output>) {
        let message = Message { epoch: self.replica.membership().epoch(), body };
        self.replica.step(Input::Receive { from, message }, outputs);
    }

    fn change(&mut self, outputs: &mut Vec<Output>) {
        let epoch = self.replica.membership().epoch();
        let Some(change) = self.bounds.change(self.facts.id, epoch).cloned() else { return };
        let change = ChangeRequest { request: RequestId(0), change, if_epoch: Some(epoch), is_forced: true };
        self.replica.step(Input::Change(change), outputs);
    }

    /// Lets time pass until the replica probes, and lets one peer consent. The consent reports the ballot
    /// below, unless that was this node's own: it must know that from its disk.
    fn campaign(&mut self, rank: usize, outputs: &mut Vec<Output>) {
        self.facts.campaigns.insert(rank);
        let probe = loop {
            let mut ticked = Vec::new();
            self.replica.step(Input::Tick, &mut ticked);
            let probe = ticked.iter().find_map(|output| match output {
                Output::Broadcast { message: Message { body: Body::Probe(Probe { ballot }), .. } } => {
                    Some(*ballot)
                }
                _ => None,
            });
            outputs.extend(ticked.into_iter().filter(|output| !output.is_message()));
            if let Some(probe) = probe {
                break probe;
            }
        };
        let below = rank.checked_sub(1).map(|below| NodeId(self.bounds.campaigns[below]));
        let promised = match below {
            Some(node) if node != self.facts.id => Ballot { round: rank as u64, node },
            _ => Ballot::ZERO,
        };
        let own = self.facts.id;
        let peer = self.replica.membership().voters().find(|voter| *voter != own);
        let peer = peer.expect("it is not alone");
        self.receive(peer, Body::Consent(Consent { ballot: probe, promised }), outputs);
    }

    /// Proposes a command that no other step proposes.
    fn propose(&mut self, outputs: &mut Vec<Output>) {
        if self.replica.role() == Role::Leader {
            let command = format!("{}-{}", self.replica.promised(), self.facts.proposals().len());
            self.replica.step(Input::Propose { commands: vec![Bytes::from(command)] }, outputs);
        }
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        self.outputs.extend(outputs);
        while let Some(output) = self.outputs.pop_front() {
            let Ok(()) = output.carry_out(self);
        }
    }

    fn sync(&mut self, write: Write, outputs: &mut Vec<Output>) {
        self.facts.disk.store(&write);
        for (slot, entry) in write.entries() {
            if let Entry::Accepted { ballot, .. } = entry {
                self.facts.vote(*slot, *ballot);
                self.note_epoch_of_vote(*slot, *ballot);
            }
        }
        let started = Replica::new(self.config.clone(), self.facts.disk.recovered(), 0);
        self.facts.disk_was_senseless |= started.is_err();
        self.replica.step(Input::Durable(write.into_durable()), outputs);
    }

    /// Notes a vote in the epoch which, as far as this replica knows now, decides the slot.
    fn note_epoch_of_vote(&mut self, slot: Slot, ballot: Ballot) {
        if let Some(membership) = self.replica.membership_at(slot.previous())
            && !self.bounds.changes.is_empty()
        {
            self.facts.votes_in.insert((membership.epoch(), slot, ballot));
        }
    }

    fn send_letter(&mut self, to: Option<NodeId>, message: Message) {
        let Message { epoch, body } = message;
        let body = match body {
            Body::Prepare(Prepare { ballot, .. }) | Body::Promise(Promise { ballot, .. }) => {
                self.facts.promise_told = self.facts.promise_told.max(ballot);
                body
            }
            Body::Accepted(Accepted { ballot, first, last }) => {
                for slot in (first.0..=last.0).map(Slot) {
                    self.facts.vote(slot, ballot);
                    self.note_epoch_of_vote(slot, ballot);
                }
                body
            }
            Body::Accept(_) => body,
            Body::Reject(_) if self.bounds.rejects => body,
            // A receiver only sends the round back, and the answer is lost.
            Body::Heartbeat(Heartbeat { ballot, chosen, .. }) if self.bounds.heartbeats => {
                Body::Heartbeat(Heartbeat { ballot, chosen, round: HeartbeatRound(0), time: Time::NONE })
            }
            Body::Chosen(_) if self.bounds.fetches => body,
            _ => return, // It gets lost.
        };
        self.facts.sent.insert(self.catalogue.letter(self.facts.id, to, Message { epoch, body }));
    }
}

impl Driver for Running<'_> {
    type Error = Infallible;

    fn send(&mut self, to: NodeId, message: Message) -> Result<(), Infallible> {
        self.send_letter(Some(to), message);
        Ok(())
    }

    fn broadcast(&mut self, message: Message) -> Result<(), Infallible> {
        self.send_letter(None, message);
        Ok(())
    }

    fn persist(&mut self, write: Write) -> Result<(), Infallible> {
        if self.facts.life == Life::Doomed {
            return Ok(()); // It crashes before the write is synced.
        }
        if self.bounds.syncs == Syncs::Separate {
            self.facts.disk.unsynced.push_back(write);
            return Ok(());
        }
        // Nothing happens between the write and its sync, so that both are one step.
        let mut released = Vec::new();
        self.sync(write, &mut released);
        self.outputs.extend(released);
        Ok(())
    }

    fn apply(&mut self, slot: Slot, value: Value) -> Result<(), Infallible> {
        let before = self.facts.applied.insert(slot, value.clone());
        self.facts.has_contradicted_itself |= before.is_some_and(|before| before != value);
        Ok(())
    }

    // The model has no reads and no snapshots, and it does not matter which commands are refused.

    fn read_ready(&mut self, _: ReadId, _: Time) -> Result<(), Infallible> {
        Ok(())
    }

    fn restore(&mut self, _: SnapshotMeta) -> Result<(), Infallible> {
        Ok(())
    }

    fn load_snapshot(&mut self, _: NodeId, _: SnapshotMeta, _: u64, _: usize) -> Result<(), Infallible> {
        Ok(())
    }

    fn store_snapshot(&mut self, _: Slot, _: u64, _: Bytes) -> Result<(), Infallible> {
        Ok(())
    }

    fn install_snapshot(&mut self, _: SnapshotMeta) -> Result<(), Infallible> {
        Ok(())
    }
}
