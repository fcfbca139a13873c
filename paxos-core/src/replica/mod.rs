//! One member of the cluster: proposer, acceptor and learner of every slot.
//!
//! A [`Replica`] is one deterministic function of its state and an [`Input`]. The files of this module follow
//! the roles: `acceptor` (phases 1b and 2b), `election` (who proposes, and phase 1a), `leader` (phase 2a and
//! what is chosen), `reads`, `learner` and `snapshot` (catching up), `repair` (what was lost), `writes` (what must be
//! durable first).

mod acceptor;
mod election;
mod input;
mod leader;
mod learner;
mod reads;
mod repair;
mod snapshot;
mod writes;

#[cfg(test)]
mod tests;

pub use input::{Input, Output, Refusal, Role};

use bytes::Bytes;

use self::election::{Election, Preparing, Probing};
use self::leader::{Leading, Queue};
use self::learner::Learner;
use self::reads::Reads;
use self::snapshot::Snapshots;
use self::writes::Writes;
use crate::config::Config;
use crate::durable::{Entry, HardState, RecoverError, Recovered};
use crate::id::{Ballot, NodeId, Slot};
use crate::log::Log;
use crate::message::{Body, Message};
use crate::mutant::{Mutant, mutated};
use crate::quorum::MemberIndex;
use crate::random::Random;

/// One member of a Multi-Paxos cluster, without I/O.
///
/// Guarantees, as long as every [`Output`] is carried out as its documentation says: no two replicas apply
/// different values in one slot; every replica applies all slots in order, each once; a read that is
/// [ready](Output::ReadReady) sees everything that was chosen before it was asked for. Needs for progress a
/// quorum of members that can talk to each other, and ticks.
///
/// Deliberately absent: retrying commands (a driver proposes again what it has not seen applied, under a
/// [session](crate::session) so that it is applied once), and deciding when to take a snapshot.
#[derive(Debug)]
pub struct Replica {
    config: Config,
    now_ticks: u64,
    random: Random,
    /// The acceptor: no proposal below this ballot is accepted any more.
    promised: Ballot,
    /// The acceptor's and learner's memory of every slot.
    log: Log,
    /// Every slot up to here has been handed out to be applied.
    applied: Slot,
    /// What was accepted in slots up to here may be forgotten.
    incomplete_through: Slot,
    writes: Writes,
    state: State,
    election: Election,
    queue: Queue,
    reads: Reads,
    learner: Learner,
    snapshots: Snapshots,
}

/// What the proposer in a replica is doing.
#[derive(Debug)]
enum State {
    /// Nothing: another one leads, or none does yet.
    Following,
    /// Asks whether a quorum has lost the leader.
    Probing(Probing),
    /// Phase 1.
    Preparing(Preparing),
    /// Phase 2, for as many values as come.
    Leading(Leading),
}

impl Replica {
    /// A replica that goes on from what its stable storage holds; from [`Recovered::default`] on a new one.
    ///
    /// `seed` feeds the only randomness there is, the election timeouts; give every member another.
    ///
    /// # Errors
    ///
    /// [`RecoverError`] if no correct storage can have held this.
    pub fn new(config: Config, recovered: Recovered, seed: u64) -> Result<Replica, RecoverError> {
        let (snapshot, incomplete_through) = (recovered.snapshot, recovered.incomplete_through);
        let (log, promised) = recovered_log(recovered)?;
        let is_alone = config.members().len() == 1;
        if is_alone && log.chosen() < incomplete_through {
            return Err(RecoverError::NobodyToRepairFrom { through: incomplete_through });
        }
        let mut random = Random::new(seed);
        let election = Election::at_start(&config, promised, &mut random);
        Ok(Replica {
            now_ticks: 0,
            random,
            promised,
            applied: log.trimmed(),
            incomplete_through,
            learner: Learner::new(config.node(), log.chosen()),
            log,
            writes: Writes::default(),
            state: State::Following,
            election,
            queue: Queue::default(),
            reads: Reads::default(),
            snapshots: Snapshots::new(snapshot),
            config,
        })
    }

    /// Takes one input and appends what follows from it to `outputs`.
    ///
    /// Carry outputs out in order; messages may go before all else and writes next, as neither says more for what is
    /// applied here. What a write makes true is in no output before the write's [`Durable`](crate::Durable) has
    /// come back as an input.
    ///
    /// # Panics
    ///
    /// If an invariant of the protocol is broken by this crate or by the driver (a `Durable` out of order).
    /// No message from a peer does that.
    pub fn step(&mut self, input: Input, outputs: &mut Vec<Output>) {
        match input {
            Input::Tick => self.on_tick(outputs),
            Input::Receive { from, message } => self.on_message(from, message, outputs),
            Input::Propose { commands } => self.on_propose(commands, outputs),
            Input::Read { read } => self.on_read(read, outputs),
            Input::Durable(durable) => self.writes.on_durable(&durable),
            Input::SnapshotSaved { meta } => self.on_snapshot_saved(meta),
            Input::SnapshotLoaded { to, meta, offset, data } => {
                self.send(to, Body::SnapshotChunk { meta, offset, data }, outputs);
            }
            Input::SnapshotStored { slot, offset } => self.on_snapshot_stored(slot, offset, outputs),
            Input::SnapshotInstalled { meta } => self.on_snapshot_installed(meta, outputs),
            Input::SnapshotRejected { slot } => self.on_snapshot_rejected(slot),
        }
        self.release_durable(outputs);
        self.propose_queued(outputs);
        self.apply_chosen(outputs);
        self.answer_reads(outputs);
        self.announce_chosen(outputs);
        if let Some(write) =
            self.writes.take(HardState { promised: self.promised, chosen: self.log.chosen() })
        {
            outputs.push(Output::Persist(write));
        }
    }

    /// The set-up this replica was made with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What it is doing.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.state {
            State::Following | State::Probing(_) => Role::Follower,
            State::Preparing(_) if self.is_distinguished() => Role::Leader,
            State::Preparing(_) => Role::Candidate,
            State::Leading(_) => Role::Leader,
        }
    }

    /// Whom it takes for the leader, which may be itself.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.election.leader()
    }

    /// The highest ballot that it has promised, durably or about to be.
    #[must_use]
    pub fn promised(&self) -> Ballot {
        self.promised
    }

    /// Every slot up to here is known to be chosen.
    #[must_use]
    pub fn chosen(&self) -> Slot {
        self.log.chosen()
    }

    /// Every slot up to here has been given out as [`Output::Apply`] or is part of a snapshot.
    #[must_use]
    pub fn applied(&self) -> Slot {
        self.applied
    }

    /// The highest slot that anybody has told to be chosen; ahead of [`chosen`](Replica::chosen) while this
    /// replica lags.
    #[must_use]
    pub fn known_chosen(&self) -> Slot {
        self.learner.known_chosen().max(self.log.chosen())
    }

    /// Roughly how much memory the log takes, in bytes.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        self.log.bytes()
    }

    fn on_message(&mut self, from: NodeId, message: Message, outputs: &mut Vec<Output>) {
        let Some(peer) = self.config.member_map().index_of(from) else { return };
        if from == self.config.node() || message.epoch != self.config.options().epoch {
            return;
        }
        match message.body {
            Body::Probe { ballot } => self.on_probe(from, ballot, outputs),
            Body::Consent { ballot, promised } => self.on_consent(peer, ballot, promised),
            Body::Prepare { ballot, first } => self.on_prepare(from, ballot, first, outputs),
            Body::Promise { ballot, first, reports, rest } => {
                self.on_promise(peer, ballot, first, reports, rest, outputs);
            }
            Body::Trimmed { below } => self.on_trimmed(peer, below, outputs),
            Body::Accept { ballot, slot, value, chosen } => {
                self.on_accept(from, ballot, slot, value, chosen, outputs);
            }
            Body::Accepted { ballot, first, last } => self.on_accepted(peer, ballot, first, last),
            Body::Reject { ballot, promised } => self.on_reject(ballot, promised, outputs),
            Body::Heartbeat { ballot, chosen, round } => {
                self.on_heartbeat(from, ballot, chosen, round, outputs);
            }
            Body::HeartbeatAck { ballot, round } => self.on_heartbeat_ack(peer, ballot, round),
            Body::Forward { commands } => self.on_forward(peer, commands),
            Body::ReadRequest { read } => self.on_read_request(from, read, outputs),
            Body::ReadGrant { read, slot, ballot, chosen } => {
                self.on_read_grant(from, read, slot, ballot, chosen);
            }
            Body::Fetch { first } => self.on_fetch(from, first, outputs),
            Body::Chosen { first, values, chosen } => self.on_chosen(from, first, values, chosen, outputs),
            Body::FetchSnapshot { slot, offset } => self.on_fetch_snapshot(from, slot, offset, outputs),
            Body::SnapshotChunk { meta, offset, data } => {
                self.on_snapshot_chunk(from, meta, offset, data, outputs);
            }
        }
    }

    fn on_tick(&mut self, outputs: &mut Vec<Output>) {
        self.now_ticks += 1;
        match self.state {
            State::Following => self.tick_following(outputs),
            State::Probing(_) => self.tick_probing(outputs),
            State::Preparing(_) => self.tick_preparing(outputs),
            State::Leading(_) => self.tick_leading(outputs),
        }
        self.tick_learner(outputs);
    }

    fn on_propose(&mut self, mut commands: Vec<Bytes>, outputs: &mut Vec<Output>) {
        let limit = self.config.options().command_bytes;
        let too_long: Vec<Bytes> = commands.extract_if(.., |command| command.len() > limit).collect();
        if !too_long.is_empty() {
            outputs.push(Output::Refused { commands: too_long, reason: Refusal::TooLong });
        }
        if commands.is_empty() {
            return;
        }
        match self.leader() {
            None => outputs.push(Output::Refused { commands, reason: Refusal::NoLeader }),
            Some(leader) if leader == self.config.node() => {
                let refused = self.enqueue(commands, None);
                if !refused.is_empty() {
                    outputs.push(Output::Refused { commands: refused, reason: Refusal::Overloaded });
                }
            }
            Some(leader) => self.forward(leader, commands, outputs),
        }
    }

    /// Hands out every chosen slot that has not been, in order.
    fn apply_chosen(&mut self, outputs: &mut Vec<Output>) {
        while self.applied < self.log.chosen() {
            let slot = self.applied.next();
            let entry = self.log.entry(slot).expect("a chosen slot that is not applied is in the log");
            outputs.push(Output::Apply { slot, value: entry.value().clone() });
            self.applied = slot;
        }
    }

    fn message(&self, body: Body) -> Message {
        Message { epoch: self.config.options().epoch, body }
    }

    fn send(&self, to: NodeId, body: Body, outputs: &mut Vec<Output>) {
        outputs.push(Output::Send { to, message: self.message(body) });
    }

    fn broadcast(&self, body: Body, outputs: &mut Vec<Output>) {
        if self.config.members().len() > 1 {
            outputs.push(Output::Broadcast { message: self.message(body) });
        }
    }

    fn own_index(&self) -> MemberIndex {
        let own = self.config.member_map().index_of(self.config.node());
        own.expect("Config::new has checked that the node is a member")
    }
}

fn recovered_log(recovered: Recovered) -> Result<(Log, Ballot), RecoverError> {
    let snapshot_slot = recovered.snapshot.map_or(Slot::ZERO, |meta| meta.slot);
    let promised = recovered.hard_state.promised;
    let mut log = Log::after_snapshot(snapshot_slot);
    let mut previous = Slot::ZERO;
    for (slot, entry) in recovered.entries {
        if slot <= previous {
            return Err(RecoverError::OutOfOrder { slot });
        }
        previous = slot;
        if matches!(&entry, Entry::Accepted { ballot, .. } if *ballot > promised) {
            return Err(RecoverError::AcceptedAbovePromise { slot });
        }
        if slot > snapshot_slot {
            log.put(slot, entry);
        }
    }
    let chosen = recovered.hard_state.chosen;
    let chosen =
        if mutated(Mutant::AcceptedTakenForChosenAtRestart) { chosen.max(log.last()) } else { chosen };
    log.recover_chosen(chosen).map_err(|slot| RecoverError::MissingChosen { slot })?;
    let promised = if mutated(Mutant::PromiseForgottenAtRestart) { Ballot::ZERO } else { promised };
    Ok((log, promised))
}
