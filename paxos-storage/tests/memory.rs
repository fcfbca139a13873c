//! The memory backend passes the conformance suite.
#![cfg(feature = "memory")]

use paxos_core::NodeId;
use paxos_storage::conformance::{self, Backend};
use paxos_storage::memory::MemoryStorage;
use paxos_storage::{Identity, Storage};

struct Memory(MemoryStorage);

fn empty() -> MemoryStorage {
    MemoryStorage::new(Identity::new("conformance", NodeId(1)))
}

impl Backend for Memory {
    fn make(&mut self) -> Box<dyn Storage> {
        self.0 = empty();
        Box::new(self.0.clone())
    }

    fn open_again(&mut self) -> Box<dyn Storage> {
        Box::new(self.0.clone())
    }
}

#[test]
fn conforms() {
    conformance::check(&mut Memory(empty()));
}
