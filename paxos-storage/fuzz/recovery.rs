//! The function that the fuzz target calls, and the test that replays its corpus (`tests/fuzz.rs`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use bytes::Bytes;
use paxos_core::{
    Ballot, Entry, Epoch, HardState, Member, Membership, NodeId, Slot, SnapshotMeta, Value, Write,
    WriteNumber,
};
use paxos_storage::file::{self, FileSettings, FileStorage};
use paxos_storage::{Error, ErrorKind, Founding, FoundingId, Identity, Registry, Storage};

/// How many slots are in the log before it is changed.
const SLOTS: u64 = 6;
/// The slot that holds a membership.
const MEMBERSHIP_SLOT: u64 = 4;
const BLOCK: usize = 4096;
const SNAPSHOT: &[u8] = b"a state as it was given";
const SNAPSHOT_SLOT: Slot = Slot(2);

/// The files of a directory that a node has written to and closed, without zeros at their ends.
static TEMPLATE: LazyLock<Vec<TemplateFile>> = LazyLock::new(template);

struct TemplateFile {
    name: String,
    length: u64,
    contents: Vec<u8>,
}

/// Changes the directory of a node and recovers it. Recovery must fail, or return what was written so that
/// the node can continue with it.
///
/// The bytes are a list of changes: the file (1 byte; its number in the order of names), the kind of change
/// (1 byte), the offset (3 bytes), the count of bytes that follow (1 byte), and these. If the kind is above
/// 127, the block gets right checksums again, as an attacker would do. Then the recovered data may be wrong,
/// but recovery must not panic or allocate memory without bound.
///
/// # Panics
///
/// If recovery breaks this.
pub(crate) fn recovery(changes: &[u8]) {
    let directory = tempfile::tempdir().expect("there is room for temporary files");
    let path = directory.path();
    for file in TEMPLATE.iter() {
        write(&path.join(&file.name), &file.contents, file.length);
    }
    let (mut rest, mut is_forged) = (changes, false);
    while let [file, kind, at @ .., length] = rest.first_chunk::<6>().copied().unwrap_or_default()
        && rest.len() >= 6
    {
        let length = usize::from(length).min(rest.len() - 6);
        let (bytes, next) = rest[6..].split_at(length);
        let at = u64::from(u32::from_le_bytes([at[0], at[1], at[2], 0]));
        let name = &TEMPLATE[usize::from(file) % TEMPLATE.len()].name;
        change(path, name, kind, at, bytes);
        if kind > 127 {
            is_forged = true;
            reseal(&path.join(name), usize::try_from(at).unwrap_or(0) / BLOCK * BLOCK);
        }
        rest = next;
    }
    if is_forged {
        drop(FileStorage::open(path, FileSettings::default()).and_then(|mut storage| storage.recover()));
        drop(file::inspect(path));
        return;
    }
    if let Err(error) = check(path) {
        let is_refusal = matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unusable);
        assert!(is_refusal, "what is wrong with a directory is no failure of the disk: {error}");
    }
}

/// Opens the directory twice and checks what comes back.
fn check(path: &Path) -> Result<(), Error> {
    let mut storage = FileStorage::open(path, FileSettings::default())?;
    let recovered = storage.recover()?;
    let mut next = recovered.snapshot.as_ref().map_or(Slot::ZERO, |meta| meta.slot).next();
    for (slot, entry) in &recovered.entries {
        let is_told = *slot == next || *slot <= recovered.incomplete_through.next();
        assert!(is_told, "slots {next} to {slot} are missing in between, and nothing is said of it");
        assert_eq!(entry.value(), entry_of(*slot).value(), "slot {slot} holds what was written");
        next = slot.next();
    }
    assert!(recovered.hard_state.promised <= ballot(), "no promise comes from nowhere");
    let is_ours = |meta: &SnapshotMeta| meta.membership == membership();
    assert!(recovered.snapshot.as_ref().is_none_or(is_ours), "a snapshot has the membership that was given");
    if recovered.snapshot.is_some()
        && let Some(state) = storage.read_snapshot(SNAPSHOT_SLOT, 0, 1000)?
    {
        assert!(state.len() <= 1000, "no more is read than was asked for");
    }
    let slot = Slot(SLOTS + 1);
    let write = Write::new(WriteNumber(1), hard_state(slot), vec![(slot, entry_of(slot))]);
    drop(storage.persist(write)?);
    drop(storage);
    let mut storage = FileStorage::open(path, FileSettings::default())?;
    let again = storage.recover()?;
    let is_it = |(found, entry): &(Slot, Entry)| *found == slot && entry.value() == entry_of(slot).value();
    let is_there = again.entries.iter().any(is_it);
    assert!(is_there, "what was acknowledged after a recovery is there after the next");
    assert!(again.entries.len() > recovered.entries.len(), "and so is all else");
    Ok(())
}

fn change(path: &Path, name: &str, kind: u8, at: u64, bytes: &[u8]) {
    let path = path.join(name);
    let Ok(mut contents) = fs::read(&path) else { return };
    let place = usize::try_from(at).unwrap_or(0).min(contents.len());
    let end = contents.len().min(place + bytes.len());
    match kind % 8 {
        0..=2 => contents[place..end].copy_from_slice(&bytes[..end - place]),
        3 => contents.iter_mut().skip(place).zip(bytes).for_each(|(byte, mask)| *byte ^= mask),
        // A whole block of zeros, as if the disk had lost it.
        4 => contents.iter_mut().skip(place & !4095).take(4096).for_each(|byte| *byte = 0),
        5 => contents.truncate(place),
        6 => contents = bytes.to_vec(),
        _ => return drop(fs::remove_file(&path)),
    }
    write(&path, &contents, contents.len() as u64);
}

/// Corrects the checksums of a block of any kind.
fn reseal(path: &Path, at: usize) {
    let Ok(mut contents) = fs::read(path) else { return };
    let Some(block) = contents.get_mut(at..) else { return };
    let number = |block: &[u8], at: usize| {
        block.get(at..at + 4).map_or(0, |bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    let (covered, sum_at) = match block.get(..8) {
        Some(magic) if magic.starts_with(b"pxfr") => {
            let payload_bytes = number(block, 12) as usize;
            if let Some(payload) = block.get(128..128 + payload_bytes) {
                let sum = crc32c::crc32c(payload).to_le_bytes();
                block[112..116].copy_from_slice(&sum);
            }
            (0..124, 124)
        }
        Some(b"paxosmet") => (0..BLOCK - 4, BLOCK - 4),
        Some(_) => (0..40, 40), // The header of a segment.
        None => return,
    };
    if let Some(covered) = block.get(covered) {
        let sum = crc32c::crc32c(covered).to_le_bytes();
        if let Some(place) = block.get_mut(sum_at..sum_at + 4) {
            place.copy_from_slice(&sum);
        }
    }
    write(path, &contents, contents.len() as u64);
}

fn write(path: &Path, contents: &[u8], length: u64) {
    let written = fs::write(path, contents)
        .and_then(|()| fs::OpenOptions::new().write(true).open(path)?.set_len(length));
    written.expect("there is room for temporary files");
}

fn template() -> Vec<TemplateFile> {
    let directory = tempfile::tempdir().expect("there is room for temporary files");
    let path = directory.path();
    fill(path).expect("an empty directory can be written to");
    let mut files = BTreeMap::new();
    for file in fs::read_dir(path).expect("the directory is there") {
        let file = file.expect("the directory can be listed");
        let mut contents = fs::read(file.path()).expect("the file can be read");
        let length = contents.len() as u64;
        let used = contents.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        contents.truncate(used);
        let name = file.file_name().to_string_lossy().into_owned();
        files.insert(name.clone(), TemplateFile { name, length, contents });
    }
    files.into_values().collect()
}

fn fill(path: &Path) -> Result<(), Error> {
    file::format(path, &Identity::new("fuzz", NodeId(1)))?;
    let mut storage = FileStorage::open(path, FileSettings::default())?;
    let founding = Founding { id: Some(FoundingId(1)), membership: membership() };
    storage.remember(&Registry { founding: Some(founding), ..Registry::default() })?;
    storage.recover()?;
    for number in 1..=SLOTS {
        let slot = Slot(number);
        let write = Write::new(WriteNumber(number), hard_state(slot), vec![(slot, entry_of(slot))]);
        drop(storage.persist(write)?);
    }
    storage.write_snapshot(SNAPSHOT_SLOT, 0, SNAPSHOT)?;
    let (size_bytes, checksum) = (SNAPSHOT.len() as u64, crc32c::crc32c(SNAPSHOT));
    let meta = SnapshotMeta { slot: SNAPSHOT_SLOT, size_bytes, checksum, membership: membership() };
    storage.finish_snapshot(meta)?;
    storage.prove_last_write()
}

fn membership() -> Membership {
    let members = [1, 2, 3].map(|id| Member::voter(NodeId(id), format!("host-{id}:7000")));
    Membership::of(members.to_vec()).expect("these members fit")
}

fn ballot() -> Ballot {
    Ballot { round: 3, node: NodeId(2) }
}

fn hard_state(slot: Slot) -> HardState {
    HardState { promised: ballot(), chosen: Slot(slot.0 - 1) }
}

fn entry_of(slot: Slot) -> Entry {
    let command = Bytes::from(format!("the command in slot {slot}"));
    let value = match slot.0 {
        MEMBERSHIP_SLOT => Value::membership(&membership().in_epoch(Epoch(1))),
        _ => Value::batch(&[command]),
    };
    Entry::Accepted { ballot: ballot(), value }
}
