//! Checks that it is enough to sync a write at once or never; see the front page.
//!
//! The model with syncs at any time is explored beside the one without. Whenever nothing waits for a disk,
//! both have been in the very same states: what nodes have promised, accepted, sent and applied, and how they
//! go on.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use stateright::Model;

use crate::model::{Bounds, MultiPaxos, State};
use crate::node::Node;
use crate::{NODES, ONE_LEADER_TWICE, SMALLEST, SYNCS_AT_ANY_TIME};

/// The states in which nothing waits for a disk, as a number for what is to be said of each node.
#[expect(clippy::mutable_key_type, reason = "a node is told from others by its number, which stays")]
fn settled_states(bounds: Bounds) -> HashSet<[u64; NODES.len()]> {
    let model = MultiPaxos::new(bounds);
    let mut found: HashSet<State> = model.init_states().into_iter().collect();
    let mut unvisited: Vec<State> = found.iter().copied().collect();
    let mut descriptions: HashMap<&Node, Option<u64>> = HashMap::new();
    let mut settled = HashSet::new();
    while let Some(state) = unvisited.pop() {
        let nodes = state.nodes.map(|node| {
            let describe = || node.facts.description_if_settled().map(|description| hash(&description));
            *descriptions.entry(node).or_insert_with(describe)
        });
        if let [Some(one), Some(two), Some(three), Some(nobody)] = nodes {
            settled.insert([one, two, three, nobody]);
        }
        unvisited.extend(model.next_states(&state).into_iter().filter(|next| found.insert(*next)));
    }
    settled
}

fn hash(description: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    description.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn syncs_at_any_time_lead_where_syncs_at_once_lead() {
    for campaigns in [SMALLEST.campaigns, ONE_LEADER_TWICE.campaigns] {
        let at_once = settled_states(Bounds { campaigns, ..SMALLEST });
        let at_any_time = settled_states(Bounds { campaigns, ..SYNCS_AT_ANY_TIME });
        println!("{campaigns:?}: {} states in which nothing waits for a disk", at_once.len());
        assert!(at_once.len() > 10_000, "most states are settled");
        let missed = at_any_time.difference(&at_once).count();
        assert_eq!(
            missed,
            0,
            "so many of {} states are missed if writes are synced at once",
            at_any_time.len()
        );
        assert_eq!(at_once.len(), at_any_time.len(), "syncing at once is one way of syncing at any time");
    }
}
