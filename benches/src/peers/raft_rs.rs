//! `raft` (raft-rs, of `TiKV`) under the driver that all share, and `raft-engine`, the log that `TiKV` keeps
//! for it.

use std::path::Path;

use bytes::Bytes;
use raft::eraftpb::{Entry, HardState, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};
use raft_engine::{Config as EngineConfig, Engine, LogBatch, MessageExt};
use slog::{Discard, Logger, o};

use super::driver::{self, Disk, Turn};

/// The log is compacted whenever so many entries are applied, to as many as that.
const COMPACT_ENTRIES: u64 = 100_000;

/// A replica with its log in the storage that the library ships for memory.
pub struct RaftRs {
    id: u64,
    replica: RawNode<MemStorage>,
    /// Whether the first entry of its own term is applied, which has no command of a client.
    leads: bool,
    compact_at: u64,
    /// Whether its entries are stored by a disk beside the replica, and not by the replica alone.
    has_disk: bool,
}

/// What is to be stored before raft hears that it is.
pub struct Write {
    number: u64,
    entries: Vec<Entry>,
    hard_state: Option<HardState>,
    must_sync: bool,
    /// What may be sent then.
    messages: Vec<Message>,
    /// Entries before this one are not needed any more.
    first_kept: u64,
}

impl RaftRs {
    /// Replica `id` of 1 to `replicas`, which has its entries stored in memory, and on a disk if `has_disk`.
    ///
    /// # Panics
    ///
    /// If `id` is none of them.
    #[must_use]
    pub fn new(id: u64, replicas: u64, has_disk: bool) -> RaftRs {
        let config = Config {
            id,
            election_tick: 50,
            heartbeat_tick: 5,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 256,
            // As in TiKV. What is committed is told with the next append, as `paxos-core` does it.
            skip_bcast_commit: true,
            // What is not yet sent to a follower grows instead of becoming one more message.
            batch_append: true,
            ..Config::default()
        };
        let voters: Vec<u64> = (1..=replicas).collect();
        let storage = MemStorage::new_with_conf_state((voters, vec![]));
        let replica = RawNode::new(&config, storage, &Logger::root(Discard, o!())).expect("the settings fit");
        RaftRs { id, replica, leads: false, compact_at: 2 * COMPACT_ENTRIES, has_disk }
    }

    /// Stores what the library wants stored.
    fn finish_ready(&mut self, turn: &mut Turn<RaftRs>) {
        let mut ready = self.replica.ready();
        send(turn, ready.take_messages());
        self.apply(turn, &ready.take_committed_entries());
        {
            let mut storage = self.replica.mut_store().wl();
            storage.append(ready.entries()).expect("entries come without gaps");
            if let Some(state) = ready.hs() {
                storage.set_hardstate(state.clone());
            }
        }
        send(turn, ready.take_persisted_messages());
        let mut rest = self.replica.advance(ready);
        if let Some(commit) = rest.commit_index() {
            self.replica.mut_store().wl().mut_hard_state().set_commit(commit);
        }
        send(turn, rest.take_messages());
        self.apply(turn, &rest.take_committed_entries());
        self.replica.advance_apply();
    }

    /// The same for a disk that takes its time, which is told to raft by `stored`. Until then, and later for
    /// followers, the entries are in memory, as `TiKV` has them in its cache.
    fn begin_ready(&mut self, turn: &mut Turn<RaftRs>) {
        let mut ready = self.replica.ready();
        send(turn, ready.take_messages());
        self.apply(turn, &ready.take_committed_entries());
        let mut storage = self.replica.mut_store().wl();
        storage.append(ready.entries()).expect("entries come without gaps");
        if let Some(state) = ready.hs() {
            storage.set_hardstate(state.clone());
        }
        drop(storage);
        turn.writes.push(Write {
            number: ready.number(),
            entries: ready.take_entries(),
            hard_state: ready.hs().cloned(),
            must_sync: ready.must_sync(),
            messages: ready.take_persisted_messages(),
            first_kept: self.compact_at - 2 * COMPACT_ENTRIES,
        });
        self.replica.advance_append_async(ready);
        self.replica.advance_apply();
    }

    fn apply(&mut self, turn: &mut Turn<RaftRs>, entries: &[Entry]) {
        let Some(last) = entries.last() else { return };
        if self.leads {
            turn.committed += entries.len();
        }
        self.leads = self.replica.raft.state == StateRole::Leader && last.term == self.replica.raft.term;
        if last.index >= self.compact_at {
            self.compact_at += COMPACT_ENTRIES;
            let compacted = self.replica.mut_store().wl().compact(last.index - COMPACT_ENTRIES);
            compacted.expect("these entries are applied");
        }
    }
}

/// The log that `TiKV` keeps, with its defaults. One sync for all that is written together.
pub struct EngineDisk {
    engine: Engine,
    batch: LogBatch,
    first_kept: u64,
}

/// There is one group of replicas.
const REGION: u64 = 1;

impl EngineDisk {
    /// An empty one.
    ///
    /// # Panics
    ///
    /// If it can't be made in `directory`.
    #[must_use]
    pub fn new(directory: &Path) -> EngineDisk {
        let dir = directory.to_str().expect("paths for measurements are plain").to_owned();
        let config = EngineConfig { dir, ..EngineConfig::default() };
        let engine = Engine::open(config).expect("a new directory takes a log");
        EngineDisk { engine, batch: LogBatch::default(), first_kept: 0 }
    }
}

struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

impl Disk<Write> for EngineDisk {
    fn store(&mut self, writes: &[Write]) {
        for write in writes {
            self.batch.add_entries::<Entries>(REGION, &write.entries).expect("a batch is far below 2 GiB");
        }
        if let Some(state) = writes.iter().rev().find_map(|write| write.hard_state.as_ref()) {
            self.batch.put_message(REGION, b"hard state".to_vec(), state).expect("it is a few bytes");
        }
        let must_sync = writes.iter().any(|write| write.must_sync);
        if !self.batch.is_empty() {
            self.engine.write(&mut self.batch, must_sync).expect("the disk takes it");
        }
        let first_kept = writes.last().map_or(0, |write| write.first_kept);
        if first_kept > self.first_kept {
            self.first_kept = first_kept;
            self.engine.compact_to(REGION, first_kept);
            self.engine.purge_expired_files().expect("its files can be removed");
        }
    }
}

fn send(turn: &mut Turn<RaftRs>, messages: Vec<Message>) {
    turn.messages.extend(messages.into_iter().map(|message| (message.to, message)));
}

impl driver::Replica for RaftRs {
    type Message = Message;
    type Write = Write;

    fn tick(&mut self) {
        self.replica.tick();
    }

    fn receive(&mut self, _: u64, message: Message) {
        self.replica.step(message).expect("messages come from members");
    }

    fn propose(&mut self, commands: Vec<Bytes>) {
        // All in one message: proposing one after the other makes an append of each for each follower.
        let mut message = Message::new();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.id;
        message.entries =
            commands.into_iter().map(|data| Entry { data, ..Entry::new() }).collect::<Vec<_>>().into();
        self.replica.raft.step(message).expect("the leader takes what is proposed");
    }

    fn finish_turn(&mut self, turn: &mut Turn<RaftRs>) {
        while self.replica.has_ready() {
            if self.has_disk { self.begin_ready(turn) } else { self.finish_ready(turn) }
        }
    }

    fn stored(&mut self, write: Write, turn: &mut Turn<RaftRs>) {
        self.replica.on_persist_ready(write.number);
        send(turn, write.messages);
    }

    fn is_leader(&self) -> bool {
        self.leads
    }
}
