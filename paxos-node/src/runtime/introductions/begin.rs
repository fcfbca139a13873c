//! Begins a start of a node on its storage, and checks its settings against what the storage remembers.

use std::collections::{BTreeMap, BTreeSet};

use paxos_core::{FormatLevel, Membership, NodeId, Quorums, ReadMode};
use paxos_storage::{Founding, Origin, Registry, Start, Storage};

use super::rules::RESTORED_FROM;
use super::{Introductions, Levels, OwnNode, Reach, list};
use crate::error::NodeError;
use crate::runtime::memory::PeerLimit;
use crate::settings::NodeSettings;

/// The name of the fact with the memory limit of a node, in bytes; missing if it has none.
const MEMORY_LIMIT: &str = "memory_limit_bytes";

/// Has the storage remember one more start of the node.
///
/// `founding` comes from [`founding_membership`], and `present` is the membership in force. A storage that
/// holds data (`is_new` is false) but knows of no cluster dates from before foundings were recorded: it
/// counts as founded with the members in the settings. One that was restored from a backup is told by its
/// origin, and its cluster is yet to be founded.
pub(crate) fn begin(
    settings: &NodeSettings,
    storage: &mut dyn Storage,
    (is_new, reach): (bool, Reach),
    founding: Membership,
    present: &Membership,
) -> Result<Introductions, NodeError> {
    let mut registry = storage.registry();
    check_members(settings, &founding, present)?;
    let own = own(settings, storage, (reach, present.format_level()), &founding);
    check_registry(&own, &registry)?;
    let is_restored = matches!(registry.origin, Some(Origin::Backup(_)));
    if is_restored && registry.founding.is_none() && is_new {
        return Err(NodeError::HalfRestored);
    }
    let is_founded = registry.founding.is_some() || (!is_new && !is_restored);
    if is_founded {
        let id = registry.founding.and_then(|recorded| recorded.id);
        registry.founding = Some(Founding { id, membership: founding.clone() });
    }
    let number = registry.start.number.saturating_add(1);
    registry.start = Start { number, nonce: fastrand::u64(1..) };
    storage.remember(&registry)?;
    let is_changed = present.epoch() != founding.epoch();
    let mut introductions = Introductions::new(own, founding, registry);
    introductions.set_removed(present.removed(), present.epoch());
    if is_changed {
        introductions.set_members(present.members());
    } else if !is_founded && !settings.present_members.is_empty() {
        // Some founders may be gone for good: who are members now let this node in.
        introductions.set_members(&settings.present_members);
    }
    Ok(introductions)
}

/// Checks the settings against what the storage remembers of the node's cluster. Whether members that are not
/// the founders are those in force is known only after recovery.
pub(crate) fn check(settings: &NodeSettings, storage: &dyn Storage) -> Result<(), NodeError> {
    let founding = founding_membership(settings, storage)?;
    let held = (Reach::default(), founding.format_level());
    check_registry(&own(settings, storage, held, &founding), &storage.registry())
}

/// The membership that the cluster was founded with: as the storage remembers it, else that of the settings.
/// Settings that name the same members may know more of them than a storage of earlier versions.
pub(crate) fn founding_membership(
    settings: &NodeSettings,
    storage: &dyn Storage,
) -> Result<Membership, NodeError> {
    let Some(founding) = storage.registry().founding else {
        if settings.joins && settings.members.is_empty() {
            return Err(NodeError::Settings(
                "a node that joins must be given the founding members, unless its storage knows them",
            ));
        }
        return Ok(settings.membership()?);
    };
    let recorded = founding.membership;
    if settings.joins || settings.epoch != recorded.epoch() {
        return Ok(recorded);
    }
    let given = settings.membership()?;
    Ok(if given.members() == recorded.members() { given } else { recorded })
}

/// Whether the members in the settings are the founders, or the present members.
fn check_members(
    settings: &NodeSettings,
    founding: &Membership,
    present: &Membership,
) -> Result<(), NodeError> {
    let given: BTreeSet<NodeId> = settings.members.iter().copied().collect();
    let is_founding = given.iter().eq(founding.members()) && settings.epoch == founding.epoch();
    if settings.joins || is_founding || given.iter().eq(present.members()) {
        return Ok(());
    }
    Err(NodeError::OtherMembers {
        founded: list(&present.members().iter().copied().collect()),
        founded_epoch: present.epoch(),
        given: list(&given),
        given_epoch: settings.epoch,
    })
}

fn check_registry(own: &OwnNode, registry: &Registry) -> Result<(), NodeError> {
    if registry.is_superseded {
        return Err(NodeError::OldCopy { node: own.node, by: None });
    }
    let absent = &own.absent;
    let is_majority = 2 * (own.members.len() - absent.len()) > own.members.len();
    let are_others = absent.is_subset(&own.members) && !absent.contains(&own.node);
    let fits = absent.is_empty() || (are_others && is_majority);
    if !fits {
        return Err(NodeError::Settings(
            "found_without must name members other than this node, and leave more than half of them",
        ));
    }
    if registry.founding.is_some() && !absent.is_empty() {
        return Err(NodeError::Settings(
            "found_without is for the first start of a new cluster, and this one is founded: leave it out",
        ));
    }
    Ok(())
}

fn own(
    settings: &NodeSettings,
    storage: &dyn Storage,
    (reach, format_level): (Reach, FormatLevel),
    founding: &Membership,
) -> OwnNode {
    let identity = storage.identity();
    OwnNode {
        node: settings.node,
        cluster: identity.cluster().to_owned(),
        storage: identity.storage(),
        members: founding.members().iter().copied().collect(),
        absent: settings.found_without.clone(),
        settings: equal_settings(settings, founding),
        facts: facts(settings, storage.registry().origin),
        reach,
        levels: Levels::own(format_level),
    }
}

/// What peers are told that may differ between nodes.
fn facts(settings: &NodeSettings, origin: Option<Origin>) -> BTreeMap<String, String> {
    let mut facts = settings.facts.clone();
    // Only the setting and the storage count.
    facts.remove(MEMORY_LIMIT);
    facts.remove(RESTORED_FROM);
    if let Some(Origin::Backup(id)) = origin {
        facts.insert(RESTORED_FROM.to_owned(), id.to_string());
    }
    let limit = settings.memory_limit_bytes.map(|bytes| (MEMORY_LIMIT.to_owned(), bytes.to_string()));
    facts.extend(limit);
    facts
}

impl Introductions {
    /// The memory limits of the peers that this node listens to, or listened to last.
    pub(crate) fn memory_limits(&self) -> impl Iterator<Item = PeerLimit> + '_ {
        self.peers.iter().filter_map(|(node, peer)| {
            let bytes = peer.hello.as_ref()?.facts.get(MEMORY_LIMIT)?.parse().ok()?;
            Some(PeerLimit { node: *node, bytes })
        })
    }
}

/// The settings that must be the same on all nodes, as peers are told of them.
fn equal_settings(settings: &NodeSettings, founding: &Membership) -> BTreeMap<String, String> {
    let (protocol, sessions) = (&settings.protocol, &settings.sessions);
    let members: BTreeSet<NodeId> = founding.members().iter().copied().collect();
    let reads = match protocol.reads {
        ReadMode::QuorumRound => String::from("quorum"),
        ReadMode::Lease { lease_ticks, drift_ticks } => {
            format!("lease of {lease_ticks}, drift {drift_ticks} ticks")
        }
    };
    let quorums = match founding.quorums() {
        quorums if quorums == Quorums::majority(founding.voters().count()) => String::from("majorities"),
        quorums => format!("{} to prepare, {} to accept", quorums.prepare(), quorums.accept()),
    };
    let own = [
        ("members", list(&members)),
        ("epoch", founding.epoch().0.to_string()),
        ("quorums", quorums),
        ("phase_one", format!("{:?}", protocol.phase_one)),
        ("reads", reads),
        ("tick", format!("{:?}", settings.tick)),
        // Not understood by versions that have no such setting.
        ("log", String::from("with times")),
        ("window_slots", protocol.window_slots.to_string()),
        ("command_bytes", protocol.command_bytes.to_string()),
        ("sessions.sessions", sessions.sessions.to_string()),
        ("sessions.unanswered", sessions.unanswered.to_string()),
        ("sessions.reply_bytes", sessions.reply_bytes.to_string()),
        ("sessions.total_bytes", sessions.total_bytes.to_string()),
    ];
    let named = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    // The node's own come last, so that none of the user's can replace them.
    settings.equal.clone().into_iter().chain(named).collect()
}
