//! What the disk of a stopped node holds.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use paxos_core::{Entry, Membership, NodeId, Slot};
use paxos_storage::file::{self, FileSettings, FileStorage, Inspection, MembershipPlace};
use paxos_storage::{Founding, Registry, Storage};
use ring::digest::{SHA256, digest};

use super::RescueError;

/// A disk, locked for as long as this lives.
pub(super) struct Disk {
    pub(super) directory: PathBuf,
    pub(super) storage: FileStorage,
    pub(super) registry: Registry,
    pub(super) founding: Founding,
    pub(super) inspection: Inspection,
    /// The entries behind the newest snapshot.
    pub(super) entries: BTreeMap<Slot, Entry>,
}

impl Disk {
    /// Locks a disk and reads it. Changes nothing.
    pub(super) fn open(directory: &Path) -> Result<Disk, RescueError> {
        let storage = FileStorage::open(directory, FileSettings::default())?;
        let (inspection, entries) = file::inspect_entries(directory)?;
        let directory = directory.to_owned();
        if !inspection.is_promise_intact() {
            return Err(RescueError::Damaged { directory });
        }
        let registry = storage.registry();
        match registry.founding.clone() {
            Some(founding) if founding.id.is_some() => {
                Ok(Disk { directory, storage, registry, founding, inspection, entries })
            }
            _ => Err(RescueError::NotFounded { directory }),
        }
    }

    pub(super) fn node(&self) -> NodeId {
        self.storage.identity().node()
    }

    pub(super) fn cluster(&self) -> &str {
        self.storage.identity().cluster()
    }

    /// The highest slot in which it has accepted something, or knows that it is chosen.
    pub(super) fn accepted_through(&self) -> Slot {
        let last = self.entries.last_key_value().map_or(Slot::ZERO, |(slot, _)| *slot);
        last.max(self.inspection.chosen)
    }

    /// The membership in force behind the slots that it knows to be chosen.
    pub(super) fn membership(&self) -> Membership {
        let is_in_force = |place: MembershipPlace| match place {
            MembershipPlace::Chosen { slot } => slot <= self.inspection.chosen,
            MembershipPlace::Snapshot { .. } => true,
            _ => false,
        };
        let found = self.inspection.memberships.iter().filter(|found| is_in_force(found.place));
        found.fold(self.founding.membership.clone(), |newest, found| {
            if found.membership.epoch() > newest.epoch() { found.membership.clone() } else { newest }
        })
    }

    /// A digest of everything that a decision rests on, but for the founding: it differs once the node was
    /// started again, or anything was written to its log.
    pub(super) fn digest(&self) -> String {
        let Inspection { segments, snapshots, promised, chosen, slots, damage, incomplete_through, .. } =
            &self.inspection;
        let mut text = format!(
            "{} {} {} {} {} {promised} {chosen} {slots:?} {incomplete_through}",
            self.cluster(),
            self.node(),
            self.storage.identity().storage(),
            self.registry.start.number,
            self.registry.is_superseded,
        );
        for snapshot in snapshots {
            let _ = write!(
                text,
                ";snapshot {} {} {} {}",
                snapshot.slot, snapshot.size_bytes, snapshot.checksum, snapshot.is_whole
            );
        }
        for segment in segments {
            let _ = write!(text, ";segment {} {}", segment.number, segment.size_bytes);
            for frame in &segment.frames {
                let _ = write!(text, ",{} {} {}", frame.offset, frame.length_bytes, frame.sequence);
            }
        }
        for damage in damage {
            let _ = write!(text, ";{damage}");
        }
        let digest = digest(&SHA256, text.as_bytes());
        digest.as_ref().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}
