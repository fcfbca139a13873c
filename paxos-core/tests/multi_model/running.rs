//! A real replica that takes steps, and what its node does with its outputs.

use std::collections::VecDeque;

use bytes::Bytes;
use paxos_core::{
    Ballot, Body, Config, Entry, Epoch, HeartbeatRound, Input, Message, NodeId, Options, Output, Replica,
    Role, Slot, Write,
};

use crate::MEMBERS;
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
}

impl Running<'_> {
    pub(crate) fn start<'a>(catalogue: &'a Catalogue, bounds: &'a Bounds, start: &Facts) -> Running<'a> {
        let options = Options {
            // Every tick of a leader is one for a heartbeat; nothing is sent again, as nothing need get lost.
            heartbeat_ticks: 1,
            resend_ticks: u32::MAX,
            eager_commands: usize::MAX,
            chunk_bytes: bounds.chunk_bytes,
            ..Options::default()
        };
        let config =
            Config::new(start.id, &MEMBERS.map(NodeId), options).expect("these options fit together");
        let replica = Replica::new(config.clone(), start.disk.recovered(), start.id.0);
        let replica = replica.expect("no step is taken after a disk is found senseless");
        Running { catalogue, bounds, config, replica, facts: start.clone() }
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
        // What comes again while a write is under way waits for it again, and again.
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
            Event::Receive(letter) => self.receive(letter.from, letter.body.clone(), outputs),
            Event::Campaign { rank } => self.campaign(rank, outputs),
            Event::Propose => self.propose(outputs),
            Event::Announce => self.replica.step(Input::Tick, outputs),
            Event::Fetch { from, first } => self.receive(from, Body::Fetch { first }, outputs),
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

    /// A campaign must not end up above the ballots that come later in the order, nor a command beyond the last slot.
    fn is_in_bounds(&self, step: Step, outputs: &[Output]) -> bool {
        match step.event {
            Event::Campaign { rank } => self.replica.promised().round <= rank as u64 + 1,
            Event::Propose => outputs.iter().all(|output| match output {
                Output::Broadcast { message: Message { body: Body::Accept { slot, .. }, .. } } => {
                    *slot <= self.bounds.last_slot
                }
                _ => true,
            }),
            _ => true,
        }
    }

    fn receive(&mut self, from: NodeId, body: Body, outputs: &mut Vec<Output>) {
        self.replica.step(Input::Receive { from, message: Message { epoch: Epoch(0), body } }, outputs);
    }

    /// Lets time pass until the replica asks whether others have lost the leader too, and lets one of them say so.
    /// That one knows of the ballot below, unless it was this node's own, of which only its disk may tell it.
    fn campaign(&mut self, rank: usize, outputs: &mut Vec<Output>) {
        self.facts.campaigns.insert(rank);
        let probe = loop {
            let mut ticked = Vec::new();
            self.replica.step(Input::Tick, &mut ticked);
            let probe = ticked.iter().find_map(|output| match output {
                Output::Broadcast { message: Message { body: Body::Probe { ballot }, .. } } => Some(*ballot),
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
        let peer = self.config.peers().next().expect("it is not alone");
        self.receive(peer, Body::Consent { ballot: probe, promised }, outputs);
    }

    /// Proposes a command that nobody else ever proposes.
    fn propose(&mut self, outputs: &mut Vec<Output>) {
        if self.replica.role() == Role::Leader {
            let command = format!("{}-{}", self.replica.promised(), self.facts.proposals().len());
            self.replica.step(Input::Propose { commands: vec![Bytes::from(command)] }, outputs);
        }
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        let mut outputs = VecDeque::from(outputs);
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Persist(_) if self.facts.life == Life::Doomed => {}
                Output::Persist(write) if self.bounds.syncs == Syncs::Separate => {
                    self.facts.disk.unsynced.push_back(write);
                }
                Output::Persist(write) => {
                    let mut released = Vec::new();
                    self.sync(write, &mut released);
                    outputs.extend(released);
                }
                Output::Send { to, message } => self.send(Some(to), message.body),
                Output::Broadcast { message } => self.send(None, message.body),
                Output::Apply { slot, value } => {
                    let before = self.facts.applied.insert(slot, value.clone());
                    self.facts.has_contradicted_itself |= before.is_some_and(|before| before != value);
                }
                _ => {} // There are no reads and no snapshots, and no command is refused that matters.
            }
        }
    }

    fn sync(&mut self, write: Write, outputs: &mut Vec<Output>) {
        self.facts.disk.store(&write);
        for (slot, entry) in write.entries() {
            if let Entry::Accepted { ballot, .. } = entry {
                self.facts.vote(*slot, *ballot);
            }
        }
        let started = Replica::new(self.config.clone(), self.facts.disk.recovered(), 0);
        self.facts.disk_was_senseless |= started.is_err();
        self.replica.step(Input::Durable(write.into_durable()), outputs);
    }

    fn send(&mut self, to: Option<NodeId>, body: Body) {
        let body = match body {
            Body::Prepare { ballot, .. } | Body::Promise { ballot, .. } => {
                self.facts.promise_told = self.facts.promise_told.max(ballot);
                body
            }
            Body::Accepted { ballot, first, last } => {
                (first.0..=last.0).for_each(|slot| self.facts.vote(Slot(slot), ballot));
                body
            }
            Body::Accept { .. } => body,
            Body::Reject { .. } if self.bounds.rejects => body,
            // The round is only ever sent back, and the answer is lost.
            Body::Heartbeat { ballot, chosen, .. } if self.bounds.heartbeats => {
                Body::Heartbeat { ballot, chosen, round: HeartbeatRound(0) }
            }
            Body::Chosen { .. } if self.bounds.fetches => body,
            _ => return, // It gets lost.
        };
        self.facts.sent.insert(self.catalogue.letter(self.facts.id, to, body));
    }
}
