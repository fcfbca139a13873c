//! A lock that expires, and what it protects, which refuses a holder who comes back too late.
//! `cargo run -p paxos-node --example fencing`

use std::time::Duration;

use paxos_node::kv::{Condition, Expiry, Operation, Reply, Store};
use paxos_node::prelude::*;

/// How long a holder may use the lock, in milliseconds.
const LEASE_MS: i64 = 300;

/// What the lock protects: it remembers the highest fencing number that it has seen.
#[derive(Default)]
struct Resource {
    newest_fence: i64,
}

impl Resource {
    fn write(&mut self, who: &str, fence: i64) {
        if fence < self.newest_fence {
            println!("{who} is refused: its grant {fence} is older than {}", self.newest_fence);
        } else {
            self.newest_fence = fence;
            println!("{who} writes under grant {fence}");
        }
    }
}

/// Takes the lock if nobody has it, and returns the number of the grant.
async fn take(client: &Client<Store>, who: &str) -> Result<Option<i64>, Box<dyn std::error::Error>> {
    let key = Bytes::from_static(b"lock");
    let set = Operation::SetExpiring {
        key: key.clone(),
        value: Bytes::copy_from_slice(who.as_bytes()),
        condition: Some(Condition::IfMissing),
        returns_old: false,
        expiry: Expiry::AfterMs(LEASE_MS),
    };
    // Both in one entry of the log: the number is that of this grant.
    let applied = client.propose(Operation::command(&[set, Operation::Created { key }])).await?;
    let replies = Reply::decode_all(applied.response)?;
    Ok(match replies[..] {
        [Reply::Ok, Reply::Integer(fence)] => Some(fence),
        _ => None,
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (members, network) = (vec![NodeId(1), NodeId(2), NodeId(3)], MemoryNetwork::default());
    let start = |id| {
        let storage = MemoryStorage::new(Identity::new("fencing", id));
        let settings = NodeSettings::new(id, members.clone());
        Node::start(settings, Box::new(network.bind(id)), Box::new(storage), Store::default())
    };
    let nodes = members.iter().map(|id| start(*id)).collect::<Result<Vec<_>, _>>()?;
    let [alice, bob] = [nodes[0].client(), nodes[1].client()];
    let mut resource = Resource::default();

    let of_alice = take(&alice, "alice").await?.ok_or("nobody has the lock")?;
    resource.write("alice", of_alice);
    if take(&bob, "bob").await?.is_none() {
        println!("bob waits, as alice has the lock");
    }
    println!("alice is paused for longer than her lease");
    let of_bob = loop {
        if let Some(fence) = take(&bob, "bob").await? {
            break fence;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    resource.write("bob", of_bob);
    resource.write("alice", of_alice);
    Ok(())
}
