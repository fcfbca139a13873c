//! One member of the cluster: proposer, acceptor and learner of every slot.
//!
//! A [`Replica`] is one deterministic function of its state and an [`Input`]. Each file of this module is one
//! part of the protocol, with the state it needs and the handlers of its messages:
//!
//! | file | what it does |
//! |---|---|
//! | `acceptor` | phases 1b and 2b |
//! | `candidacy` | finds out that the leader is lost; follows one; backs off |
//! | `takeover` | phase 1a, and what a new leader proposes again |
//! | `queue` | commands that wait to be proposed, here or forwarded to the leader |
//! | `leader` | phase 2a, and counting acceptances |
//! | `in_flight` | what the leader has proposed and does not know to be chosen yet |
//! | `heartbeats` | heartbeats, the leader's lease, and announcing what is chosen |
//! | `reads` | linearizable reads |
//! | `learner` | fetches chosen values that were missed |
//! | `membership` | changes the membership, and enters its epoch |
//! | `handover` | hands leadership over |
//! | `snapshot` | trims the log, serves snapshots, and keeps what is being fetched |
//! | `transfer` | fetches a snapshot from a peer |
//! | `pieces` | what both fetches share: pieces asked for ahead, and handed out in order |
//! | `crate::clock` | the time that a leader gives to what it proposes |
//! | `repair` | what a replica may do whose storage has lost acceptances |
//! | `input`, `requests` | inputs and outputs |
//! | `driver` | what a driver does for each output |
//! | `writes` | holds promises and acceptances back until the write that holds them is durable |
//!
//! A handler `on_<message>` first ignores what is stale, then changes the state, and then emits outputs.

mod acceptor;
mod candidacy;
mod driver;
mod handover;
mod heartbeats;
mod in_flight;
mod input;
mod leader;
mod learner;
mod membership;
mod pieces;
mod queue;
mod reads;
mod repair;
mod requests;
mod snapshot;
mod takeover;
mod transfer;
mod writes;

#[cfg(test)]
mod tests;

pub use driver::{Driver, carry_out_all};
pub use input::{Input, Output, Refusal, Role, Standing};
pub use requests::{ChangeRefusal, ChangeRequest, HandoverRefusal, RequestId};

use self::candidacy::{Election, Probing};
use self::handover::Handovers;
use self::heartbeats::Heartbeats;
use self::leader::Leading;
use self::learner::Learner;
use self::membership::Changes;
use self::queue::Queue;
use self::reads::Reads;
use self::snapshot::Snapshots;
use self::takeover::Preparing;
use self::writes::Writes;
use crate::clock::{Clock, Reading, Time};
use crate::config::Config;
use crate::durable::{Entry, HardState, RecoverError, Recovered, SnapshotMeta};
use crate::id::{Ballot, NodeId, Slot};
use crate::log::Log;
use crate::membership::Membership;
use crate::message::{Body, Message, SnapshotChunk};
use crate::mutant::{Mutant, mutated};
use crate::random::Random;

/// One member of a Multi-Paxos cluster, without I/O.
///
/// Guarantees, as long as the driver carries out every [`Output`] as documented: no two replicas apply
/// different values in one slot; every replica applies all slots in order, each once; a read that is
/// [ready](Output::ReadReady) sees everything that was chosen before it was asked for. Needs for progress a
/// quorum of members that can talk to each other, and ticks.
///
/// Deliberately absent: retrying commands (a driver proposes a command again that was not applied in time,
/// under a [session](crate::session) so that it is applied once), and deciding when to take a snapshot.
#[derive(Debug)]
pub struct Replica {
    config: Config,
    now_ticks: u64,
    clock: Clock,
    random: Random,
    /// The acceptor: no proposal below this ballot is accepted any more.
    promised: Ballot,
    /// The acceptor's and learner's memory of every slot.
    log: Log,
    /// Every slot up to here has been handed out to be applied.
    applied: Slot,
    /// Stable storage may have lost what was accepted in slots up to here.
    incomplete_through: Slot,
    writes: Writes,
    proposer: ProposerState,
    election: Election,
    heartbeats: Heartbeats,
    queue: Queue,
    reads: Reads,
    learner: Learner,
    snapshots: Snapshots,
    changes: Changes,
    handovers: Handovers,
    /// The outputs of the step under way. Empty between steps.
    outputs: Vec<Output>,
}

/// What the proposer of a replica is doing.
#[derive(Debug)]
enum ProposerState {
    /// Nothing: another replica leads, or none does yet.
    Following,
    /// Asking whether a quorum has lost the leader.
    Probing(Probing),
    /// Phase 1.
    Preparing(Preparing),
    /// Phase 2, for any number of values.
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
    pub fn new(mut config: Config, recovered: Recovered, seed: u64) -> Result<Replica, RecoverError> {
        let (snapshot, incomplete_through) = (recovered.snapshot.clone(), recovered.incomplete_through);
        let (log, mut promised) = recovered_log(recovered)?;
        let changes = recovered_memberships(&mut config, &log, snapshot.as_ref());
        promised = promised.max(config.membership().ballot());
        let is_alone = config.members().len() == 1;
        if is_alone && log.chosen() < incomplete_through {
            return Err(RecoverError::NobodyToRepairFrom { through: incomplete_through });
        }
        let mut random = Random::new(seed);
        let election = Election::at_start(&config, promised, &mut random);
        let heartbeats = Heartbeats::at_start(&config);
        Ok(Replica {
            now_ticks: 0,
            clock: Clock::default(),
            random,
            promised,
            applied: log.trimmed(),
            incomplete_through,
            learner: Learner::new(config.node(), log.chosen()),
            log,
            writes: Writes::default(),
            proposer: ProposerState::Following,
            election,
            heartbeats,
            changes,
            handovers: Handovers::default(),
            queue: Queue::default(),
            reads: Reads::default(),
            snapshots: Snapshots::new(snapshot),
            outputs: Vec::new(),
            config,
        })
    }

    /// Takes one input and appends the outputs that follow from it to `outputs`.
    ///
    /// Carry outputs out in order; only messages may go before all others, and writes next. No output that
    /// depends on a write comes before the write's [`Durable`](crate::Durable) has come back as an input.
    ///
    /// # Panics
    ///
    /// If an invariant of the protocol is broken by this crate or by the driver (a `Durable` out of order).
    /// No message from a peer does that.
    pub fn step(&mut self, input: Input, outputs: &mut Vec<Output>) {
        std::mem::swap(&mut self.outputs, outputs);
        self.on_input(input);
        self.release_durable();
        self.propose_change();
        self.propose_queued();
        self.apply_chosen();
        self.answer_reads();
        self.announce_chosen();
        let hard_state = HardState { promised: self.promised, chosen: self.log.chosen() };
        if let Some(write) = self.writes.take(hard_state) {
            self.outputs.push(Output::Persist(write));
        }
        std::mem::swap(&mut self.outputs, outputs);
    }

    /// Takes in what the driver's clocks show now. To be called before a step with whatever else has happened
    /// meanwhile, above all after a pause: a leader answers reads, and gives times to what it proposes, by
    /// the last reading. Where it is never called, the log has no times.
    pub fn read_clocks(&mut self, reading: Reading) {
        self.clock.read(reading);
    }

    /// Takes in the time of a state that was restored from a snapshot: at the start, and after
    /// [`Output::Restore`]. Not needed where no value has a time.
    pub fn restore_time(&mut self, time: Time) {
        self.clock.restore(time);
    }

    /// The set-up this replica was made with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The membership in force, as far as this replica knows.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        self.config.membership()
    }

    /// What it is doing.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.proposer {
            ProposerState::Following | ProposerState::Probing(_) => Role::Follower,
            ProposerState::Preparing(_) if self.is_distinguished() => Role::Leader,
            ProposerState::Preparing(_) => Role::Candidate,
            ProposerState::Leading(_) => Role::Leader,
        }
    }

    /// The leader as far as this replica knows, which may be itself.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.election.leader()
    }

    /// The highest ballot that it has promised; the write of that promise may still be under way.
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

    /// The highest slot that any member has reported as chosen; ahead of [`chosen`](Replica::chosen) while
    /// this replica lags.
    #[must_use]
    pub fn known_chosen(&self) -> Slot {
        self.learner.known_chosen().max(self.log.chosen())
    }

    /// The present time of the cluster, if this replica leads; else [`Time::NONE`].
    #[must_use]
    pub fn leader_time(&self) -> Time {
        if matches!(self.proposer, ProposerState::Leading(_)) { self.clock.leader_time() } else { Time::NONE }
    }

    /// The present time of the cluster as far as this replica knows: its own if it leads, else that of the
    /// latest leader that it has heard of, carried on by its monotonic clock; [`Time::NONE`] if there is
    /// none. It lags behind the leader's time by the delay of the last heartbeat.
    #[must_use]
    pub fn heard_time(&self) -> Time {
        self.clock.leader_time()
    }

    /// Roughly how much memory the log takes, in bytes.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        self.log.bytes()
    }

    /// Slots up to here are only in a snapshot.
    #[cfg(feature = "sim")]
    pub(crate) fn trimmed(&self) -> Slot {
        self.log.trimmed()
    }

    fn on_input(&mut self, input: Input) {
        match input {
            Input::Tick => self.on_tick(),
            Input::Receive { from, message } => self.on_message(from, message),
            Input::Propose { commands } => self.on_propose(commands),
            Input::Read { read } => self.on_read(read),
            Input::Change(request) => self.on_change(request),
            Input::HandOver { request, to } => self.on_hand_over(request, to),
            Input::Durable(durable) => {
                self.writes.on_durable(&durable);
                self.fetch_more();
            }
            Input::PauseFetching { is_paused } => self.on_pause_fetching(is_paused),
            Input::SnapshotSaved { meta } => self.on_snapshot_saved(meta),
            Input::SnapshotLoaded { to, meta, offset, data } => {
                self.send(to, SnapshotChunk { meta: Box::new(meta), offset, data });
            }
            Input::SnapshotStored { slot, offset } => self.on_snapshot_stored(slot, offset),
            Input::SnapshotInstalled { meta } => self.on_snapshot_installed(meta),
            Input::SnapshotRejected { slot } => self.on_snapshot_rejected(slot),
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message) {
        if from == self.config.node() {
            return;
        }
        match message.body {
            Body::Trimmed(trimmed) => self.on_trimmed(from, trimmed),
            Body::Forward(forward) => self.on_forward(from, forward),
            Body::TooLong(too_long) => self.on_too_long(from, too_long),
            Body::ReadRequest(request) => self.on_read_request(from, request),
            Body::ReadGrant(grant) => self.on_read_grant(from, grant),
            Body::Fetch(fetch) => self.on_fetch(from, fetch),
            Body::Chosen(chosen) => self.on_chosen(from, chosen),
            Body::FetchSnapshot(fetch) => self.on_fetch_snapshot(from, fetch),
            Body::SnapshotChunk(chunk) => self.on_snapshot_chunk(from, chunk),
            Body::NewEpoch(new_epoch) => self.on_new_epoch(from, message.epoch, new_epoch),
            _ => self.on_vote(from, message),
        }
    }

    /// Messages that matter only in their epoch: those of an election, of either phase, and heartbeats.
    fn on_vote(&mut self, from: NodeId, message: Message) {
        if message.epoch != self.config.membership().epoch() && !self.enters_epoch_of(from, &message) {
            return;
        }
        let Some(peer) = self.config.member_map().index_of(from) else { return };
        match message.body {
            Body::Probe(probe) => self.on_probe(from, probe),
            Body::Consent(consent) => self.on_consent(peer, consent),
            Body::Prepare(prepare) => self.on_prepare(from, prepare),
            Body::Promise(promise) => self.on_promise(peer, promise),
            Body::Accept(accept) => self.on_accept(from, accept),
            Body::Accepted(accepted) => self.on_accepted(peer, accepted),
            Body::Reject(reject) => self.on_reject(reject),
            Body::Heartbeat(heartbeat) => self.on_heartbeat(from, heartbeat),
            Body::HeartbeatAck(ack) => self.on_heartbeat_ack(peer, ack),
            Body::TakeOver(take_over) => self.on_take_over(from, take_over),
            Body::Decline(decline) => self.on_decline(from, decline),
            body => unreachable!("a message of any epoch is handled by on_message: {body}"),
        }
    }

    /// A message of another epoch may bring this replica into that epoch. Returns whether it did.
    fn enters_epoch_of(&mut self, from: NodeId, message: &Message) -> bool {
        if message.epoch < self.config.membership().epoch() {
            self.on_outdated(from, &message.body);
        } else {
            self.on_newer_epoch(from, message);
        }
        message.epoch == self.config.membership().epoch() || mutated(Mutant::OldEpochVotesCounted)
    }

    fn on_tick(&mut self) {
        self.now_ticks += 1;
        match self.proposer {
            ProposerState::Following => self.tick_following(),
            ProposerState::Probing(_) => self.tick_probing(),
            ProposerState::Preparing(_) => self.tick_preparing(),
            ProposerState::Leading(_) => self.tick_leading(),
        }
        self.tick_learner();
        self.tick_snapshots();
        self.tick_removed();
    }

    /// Hands out every chosen slot that has not been handed out yet, in order.
    fn apply_chosen(&mut self) {
        while self.applied < self.log.chosen() {
            let slot = self.applied.next();
            let entry = self.log.entry(slot).expect("a chosen slot that is not applied is in the log");
            let value = entry.value().clone();
            self.clock.apply(&value);
            self.outputs.push(Output::Apply { slot, value });
            self.applied = slot;
        }
    }

    fn message(&self, body: impl Into<Body>) -> Message {
        Message::new(self.config.membership().epoch(), body)
    }

    fn send(&mut self, to: NodeId, body: impl Into<Body>) {
        let message = self.message(body);
        self.outputs.push(Output::Send { to, message });
    }

    fn broadcast(&mut self, body: impl Into<Body>) {
        if self.config.members().len() > 1 {
            let message = self.message(body);
            self.outputs.push(Output::Broadcast { message });
        }
    }
}

/// The log and the promise that stable storage holds, checked.
fn recovered_log(recovered: Recovered) -> Result<(Log, Ballot), RecoverError> {
    let snapshot_slot = recovered.snapshot.as_ref().map_or(Slot::ZERO, |meta| meta.slot);
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
    let chosen = chosen_at_start(&log, recovered.hard_state.chosen);
    log.recover_chosen(chosen).map_err(|slot| RecoverError::MissingChosen { slot })?;
    Ok((log, promised_at_start(promised)))
}

/// The membership in force at the start, which the configuration then has, and those before it: that of the
/// snapshot or the founding one, and those chosen after it.
///
/// A snapshot of the founding epoch has the founding membership, so that of the configuration counts: a
/// stopped cluster may have been given others.
fn recovered_memberships(config: &mut Config, log: &Log, snapshot: Option<&SnapshotMeta>) -> Changes {
    let mut after = snapshot.map_or(Slot::ZERO, |meta| meta.slot);
    if mutated(Mutant::MembershipForgottenAtRestart) {
        return Changes::new(log.chosen(), config.membership().clone());
    }
    if let Some(meta) = snapshot
        && meta.membership.epoch() > config.membership().epoch()
    {
        config.enter(meta.membership.clone());
    }
    let mut changes = Changes::new(after, config.membership().clone());
    while let Some((slot, membership)) = log.membership_after(after) {
        after = slot;
        if membership.epoch() == config.membership().epoch().next() {
            config.enter(membership.clone());
            changes.push(slot, membership);
        }
    }
    changes
}

/// The watermark to start with: the one in stable storage.
fn chosen_at_start(log: &Log, stored: Slot) -> Slot {
    if mutated(Mutant::AcceptedTakenForChosenAtRestart) { stored.max(log.last()) } else { stored }
}

/// The promise to start with: the one in stable storage.
fn promised_at_start(stored: Ballot) -> Ballot {
    if mutated(Mutant::PromiseForgottenAtRestart) { Ballot::ZERO } else { stored }
}
