//! One node of a transcript: a replica, its disk, and a state machine that holds `key=value` pairs.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use paxos_core::{
    Config, Durable, Entry, Epoch, HardState, Membership, RecoverError, Recovered, Replica, Slot,
    SnapshotMeta, Standing, Value, Write,
};

/// A node, whether it runs or not.
#[derive(Default)]
pub(crate) struct Node {
    /// `None` while the node is down.
    pub(crate) replica: Option<Replica>,
    pub(crate) disk: Disk,
    pub(crate) state: State,
    /// How often the node was started; each start gets a seed of its own.
    pub(crate) starts: u64,
    /// Counted from the start of the node.
    pub(crate) now_ticks: u64,
    /// Of the newest write: the next one is shown by what it changes.
    pub(crate) written: HardState,
}

impl Node {
    /// Starts the node from what its disk holds.
    pub(crate) fn start(&mut self, config: Config) -> Result<(), RecoverError> {
        let recovered = self.disk.recovered();
        self.written = recovered.hard_state;
        self.state =
            self.disk.snapshot.as_ref().map_or_else(State::default, |(_, bytes)| State::restore(bytes));
        self.starts += 1;
        self.now_ticks = 0;
        let seed = self.starts << 32 | config.node().0;
        self.replica = Some(Replica::new(config, recovered, seed)?);
        Ok(())
    }

    /// What the node knows, in a line.
    pub(crate) fn status(&self) -> String {
        let Some(replica) = &self.replica else { return String::from("down") };
        let (promised, chosen) = (replica.promised(), replica.chosen());
        let role = match replica.standing() {
            Standing::Learner => String::from("learner"),
            Standing::Outsider => String::from("no member"),
            Standing::Removed { may_end: false } => String::from("removed"),
            Standing::Removed { may_end: true } => String::from("removed and may end"),
            _ => replica.role().to_string(),
        };
        let membership = match replica.membership() {
            founding if founding.epoch() == Epoch(0) => String::new(),
            later => format!(", {later}"),
        };
        format!("{role}, promised {promised}, chosen through {chosen}{membership}, state: {}", self.state)
    }

    /// Stops the node, and tells how many writes are lost with it.
    pub(crate) fn crash(&mut self) -> usize {
        self.replica = None;
        std::mem::take(&mut self.disk.unsynced).len()
    }
}

/// What a disk holds, and the writes that it has not synced.
#[derive(Default)]
pub(crate) struct Disk {
    hard_state: HardState,
    entries: BTreeMap<Slot, Entry>,
    pub(crate) snapshot: Option<(SnapshotMeta, Bytes)>,
    /// The one before, which a peer may still fetch.
    previous: Option<(SnapshotMeta, Bytes)>,
    /// The pieces of a snapshot that a peer sends.
    pub(crate) incoming: Vec<u8>,
    pub(crate) unsynced: VecDeque<Write>,
}

impl Disk {
    fn recovered(&self) -> Recovered {
        let snapshot = self.snapshot.as_ref().map(|(meta, _)| meta.clone());
        let entries = self.entries.iter().map(|(slot, entry)| (*slot, entry.clone())).collect();
        Recovered::new(self.hard_state, snapshot, entries)
    }

    /// Syncs all writes at once, as a group commit does. `None` if there was nothing to sync.
    pub(crate) fn sync(&mut self) -> Option<Durable> {
        let mut write = self.unsynced.pop_front()?;
        for next in self.unsynced.drain(..) {
            write.merge(next);
        }
        self.hard_state = write.hard_state();
        for (slot, entry) in write.entries() {
            self.entries.insert(*slot, entry.clone());
        }
        Some(write.into_durable())
    }

    pub(crate) fn save_snapshot(&mut self, meta: SnapshotMeta, bytes: Bytes) {
        self.entries = self.entries.split_off(&meta.slot.next());
        self.previous = self.snapshot.replace((meta, bytes));
    }

    /// The bytes of the last snapshot or of the one before.
    pub(crate) fn snapshot_of(&self, slot: Slot) -> Option<&Bytes> {
        let mut kept = [&self.snapshot, &self.previous].into_iter().flatten();
        kept.find(|(meta, _)| meta.slot == slot).map(|(_, bytes)| bytes)
    }
}

/// The state machine: the last value that was given to each key.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) applied: Slot,
    pairs: BTreeMap<String, String>,
}

impl State {
    pub(crate) fn apply(&mut self, slot: Slot, value: &Value) {
        assert_eq!(slot, self.applied.next(), "slots are applied in order, each once");
        self.applied = slot;
        for command in value.commands() {
            let command = String::from_utf8_lossy(&command).into_owned();
            let (key, value) = command.split_once('=').expect("a script proposes key=value");
            self.pairs.insert(key.to_owned(), value.to_owned());
        }
    }

    pub(crate) fn snapshot(&self, membership: Membership) -> (SnapshotMeta, Bytes) {
        let bytes = Bytes::from(format!("{} {self}", self.applied));
        // A real node stores a CRC32C; nothing damages the disks of a transcript.
        let meta =
            SnapshotMeta { slot: self.applied, size_bytes: bytes.len() as u64, checksum: 0, membership };
        (meta, bytes)
    }

    pub(crate) fn restore(bytes: &[u8]) -> State {
        let text = std::str::from_utf8(bytes).expect("a snapshot is text");
        let mut words = text.split_whitespace();
        let slot = words.next().and_then(|slot| slot.parse().ok()).expect("a snapshot begins with its slot");
        let pairs = words.filter_map(|pair| pair.split_once('='));
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        State { applied: Slot(slot), pairs }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs: Vec<String> = self.pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        formatter.write_str(&if pairs.is_empty() { String::from("empty") } else { pairs.join(" ") })
    }
}
