//! Embeds a state machine: a counter, on three nodes in one process.
//! `cargo run -p paxos-node --example counter`

use std::io::{Read, Result as IoResult};

use paxos_node::prelude::*;

/// The sum of all numbers that were ever proposed.
#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    fn apply(&mut self, _: Applying, command: &Bytes) -> Bytes {
        let number = command.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        self.0 = self.0.wrapping_add(number);
        Bytes::copy_from_slice(&self.0.to_le_bytes())
    }

    fn snapshot(&self) -> SnapshotWriter {
        let sum = self.0;
        Box::new(move |target| target.write_all(&sum.to_le_bytes()))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> IoResult<()> {
        let mut bytes = [0; 8];
        snapshot.read_exact(&mut bytes)?;
        self.0 = u64::from_le_bytes(bytes);
        Ok(())
    }

    fn digest(&self) -> u64 {
        self.0
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (members, network) = (vec![NodeId(1), NodeId(2), NodeId(3)], MemoryNetwork::default());
    let start = |id| {
        let storage = MemoryStorage::new(Identity::new("counter", id));
        let settings = NodeSettings::new(id, members.clone());
        Node::start(settings, Box::new(network.bind(id)), Box::new(storage), Counter::default())
    };
    let nodes = members.iter().map(|id| start(*id)).collect::<Result<Vec<_>, _>>()?;
    for (number, node) in (1..=9u64).zip(nodes.iter().cycle()) {
        let applied = node.client().propose(Bytes::copy_from_slice(&number.to_le_bytes())).await?;
        println!("node {} added {number} in slot {}", node.status().borrow().node, applied.slot);
    }
    println!("the sum, read on the last node: {}", nodes[2].client().read_with(|counter| counter.0).await?);
    Ok(())
}
