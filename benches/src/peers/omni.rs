//! `omnipaxos` under the driver that all share.

use std::convert::Infallible;

use bytes::Bytes;
use omnipaxos::messages::Message;
use omnipaxos::storage::{Entry, NoSnapshot};
use omnipaxos::{ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;

use super::driver::{self, Turn};

/// The log is trimmed whenever so many entries more are decided; on the leader, as the library has it.
const TRIM_ENTRIES: usize = 100_000;
/// Ticks between rounds of its leader election.
const ELECTION_TICKS: u64 = 10;

/// A command.
#[derive(Clone, Debug)]
pub struct Command(pub Bytes);

impl Entry for Command {
    type Snapshot = NoSnapshot;
}

/// A replica with its log in the storage that the library ships for memory.
pub struct Omni {
    id: u64,
    replica: OmniPaxos<Command, MemoryStorage<Command>>,
    outgoing: Vec<Message<Command>>,
    decided: usize,
    trim_at: usize,
}

impl Omni {
    /// Replica `id` of 1 to `replicas`.
    ///
    /// # Panics
    ///
    /// If `id` is none of them.
    #[must_use]
    pub fn new(id: u64, replicas: u64) -> Omni {
        let cluster_config = ClusterConfig {
            configuration_id: 1,
            nodes: (1..=replicas).collect(),
            ..ClusterConfig::default()
        };
        let server_config =
            ServerConfig { pid: id, election_tick_timeout: ELECTION_TICKS, ..ServerConfig::default() };
        let config = OmniPaxosConfig { cluster_config, server_config };
        let replica = config.build(MemoryStorage::default()).expect("the configuration is whole");
        Omni { id, replica, outgoing: Vec::new(), decided: 0, trim_at: TRIM_ENTRIES }
    }
}

impl driver::Replica for Omni {
    type Message = Message<Command>;
    type Write = Infallible;

    fn tick(&mut self) {
        self.replica.tick();
    }

    fn receive(&mut self, _: u64, message: Message<Command>) {
        self.replica.handle_incoming(message);
    }

    fn propose(&mut self, commands: Vec<Bytes>) {
        for command in commands {
            self.replica.append(Command(command)).expect("no reconfiguration is under way");
        }
    }

    fn finish_turn(&mut self, turn: &mut Turn<Self>) {
        self.replica.take_outgoing_messages(&mut self.outgoing);
        turn.messages.extend(self.outgoing.drain(..).map(|message| (message.get_receiver(), message)));
        let decided = self.replica.get_decided_idx();
        if decided > self.decided {
            // As a state machine would.
            let entries = self.replica.read_decided_suffix(self.decided).expect("they are decided");
            self.decided = decided;
            turn.committed = if self.is_leader() { entries.len() } else { 0 };
        }
        if self.decided >= self.trim_at && self.is_leader() && self.replica.trim(None).is_ok() {
            self.trim_at = self.decided + TRIM_ENTRIES;
        }
    }

    fn stored(&mut self, never: Infallible, _: &mut Turn<Self>) {
        match never {}
    }

    fn is_leader(&self) -> bool {
        self.replica.get_current_leader() == Some((self.id, true))
    }
}
