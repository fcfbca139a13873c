//! The functions that fuzz targets call, and tests that replay earlier findings.
//!
//! Each crate that decodes something has a directory `fuzz` for `cargo fuzz`, with a corpus of chosen files
//! for each target. A target and its replay call the same function. No part of the interface: it changes
//! without notice.
//!
//! ```sh
//! cd paxos-core && cargo +nightly fuzz run wire /tmp/corpus fuzz/corpus/wire    # new finds go to /tmp/corpus
//! ```

use std::path::Path;

use bytes::Bytes;

use crate::message::{Consent, Promise};
use crate::random::Random;
use crate::{Ballot, Body, Epoch, Input, Message, NodeId, Output, Replica, Role, Slot};

/// Lengths that are wrong in any message of a realistic size.
const HOSTILE_NUMBERS: [u32; 6] = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];

/// Runs a target over each file of `corpus`, and over `mutations` of each.
///
/// # Panics
///
/// If the directory can't be read or is empty, and as the target does; the last line printed names what
/// repeats it.
pub fn replay(corpus: &Path, mutations: u64, run: impl Fn(&[u8])) {
    let mut files: Vec<_> = std::fs::read_dir(corpus)
        .expect("the corpus is beside the target")
        .map(|file| file.expect("the corpus can be listed").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "there are files in {}", corpus.display());
    for file in files {
        let bytes = std::fs::read(&file).expect("a file of the corpus can be read");
        println!("{}", file.display()); // Shown only if the test fails.
        run(&bytes);
        for seed in 0..mutations {
            let mutated = mutated(&bytes, &mut Random::new(seed));
            println!("{}, mutation {seed}: {}", file.display(), mutated.escape_ascii());
            run(&mutated);
        }
    }
}

/// The bytes with a few changes of the kinds that decoders get wrong.
fn mutated(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let at = index(random, bytes.len());
        let end = at + index(random, bytes.len() - at);
        match random.below(7) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.extend_from_within(at..end),
            3 => bytes.insert(at, u8::try_from(random.below(256)).unwrap_or(0)),
            4 => {
                let number = HOSTILE_NUMBERS[index(random, HOSTILE_NUMBERS.len())].to_le_bytes();
                let length = number.len().min(bytes.len() - at);
                bytes[at..at + length].copy_from_slice(&number[..length]);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    bytes
}

fn index(random: &mut Random, length: usize) -> usize {
    usize::try_from(random.below(length as u64)).unwrap_or(0)
}

/// Bytes from a peer, decoded as they are and behind a correct header. A decoded message must be the same
/// after it is encoded and decoded again.
///
/// # Panics
///
/// If it is not.
#[cfg(feature = "wire")]
pub fn wire(bytes: &[u8]) {
    use crate::wire::{decode, encode, encoded_len, framed_bytes};
    let _ = decode(Bytes::copy_from_slice(bytes));
    let Ok(message) = decode(framed_bytes(bytes)) else { return };
    let encoded = encode(&message);
    assert_eq!(encoded.len(), encoded_len(&message), "the length is known beforehand");
    assert_eq!(decode(encoded), Ok(message), "what was decoded can be sent on");
}

/// A replica that gets messages from its peers. The bits of the first byte say whether it leads, and whether
/// reads use a lease. Then comes, for each message, its sender, how many ticks pass after it, and its length
/// in two bytes.
///
/// # Panics
///
/// If the replica does.
#[cfg(feature = "wire")]
pub fn replica(bytes: &[u8]) {
    use crate::{Config, Membership, ProtocolSettings, ReadId, ReadMode, Recovered};
    let Some((flags, mut rest)) = bytes.split_first() else { return };
    let reads = match flags & 2 {
        0 => ReadMode::QuorumRound,
        _ => ReadMode::Lease { lease_ticks: 40, drift_ticks: 4 },
    };
    let members = [NodeId(1), NodeId(2), NodeId(3)];
    let membership = Membership::new(&members).expect("the members are distinct");
    let config =
        Config::new(NodeId(1), membership, ProtocolSettings { reads, ..ProtocolSettings::default() });
    let config = config.expect("the settings fit together");
    let mut replica = Replica::new(config, Recovered::default(), 1).expect("an empty disk is in order");
    if flags & 1 == 1 {
        make_leader(&mut replica);
    }
    let mut read = 0;
    while let [from, ticks, low, high, after @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(after.len());
        let (message, next) = after.split_at(length);
        if let Ok(message) = crate::wire::decode(crate::wire::framed_bytes(message)) {
            step(&mut replica, Input::Receive { from: NodeId(u64::from(from % 5)), message });
        }
        read += 1;
        step(&mut replica, Input::Read { read: ReadId(read) });
        for _ in 0..ticks % 16 {
            step(&mut replica, Input::Tick);
        }
        rest = next;
    }
}

/// Steps the replica, and carries out its outputs like a driver.
pub(crate) fn step(replica: &mut Replica, input: Input) {
    let mut inputs = vec![input];
    while let Some(input) = inputs.pop() {
        let mut outputs = Vec::new();
        replica.step(input, &mut outputs);
        for output in outputs {
            match output {
                Output::Persist(write) => inputs.insert(0, Input::Durable(write.into_durable())),
                Output::InstallSnapshot { meta } => {
                    inputs.insert(0, Input::SnapshotRejected { slot: meta.slot });
                }
                Output::StoreSnapshot { slot, offset, data } => {
                    let offset = offset.saturating_add(data.len() as u64);
                    inputs.insert(0, Input::SnapshotStored { slot, offset });
                }
                _ => {}
            }
        }
    }
}

/// Makes the replica lead, with the help of a peer that agrees to everything.
pub(crate) fn make_leader(replica: &mut Replica) {
    let from = NodeId(2);
    while replica.role() != Role::Leader {
        step(replica, Input::Tick);
        for round in 1..4 {
            let ballot = Ballot { round, node: NodeId(1) };
            let consent = Body::Consent(Consent { ballot, promised: Ballot::ZERO });
            let promise = Body::Promise(Promise {
                ballot,
                first: Slot(1),
                reports: Vec::new(),
                rest: None,
                time: None,
            });
            for body in [consent, promise] {
                step(replica, Input::Receive { from, message: Message { epoch: Epoch(0), body } });
            }
        }
    }
    step(replica, Input::Propose { commands: vec![Bytes::from_static(b"command")] });
}

/// Where the corpus of a target of this crate is.
#[cfg(test)]
pub(crate) fn corpus(target: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

#[cfg(all(test, feature = "wire"))]
mod tests {
    use super::*;

    const MUTATIONS: u64 = 300;

    #[test]
    fn frames_that_were_found_are_harmless() {
        replay(&corpus("wire"), MUTATIONS, wire);
    }

    #[test]
    fn messages_that_were_found_do_not_make_a_replica_panic() {
        replay(&corpus("replica"), MUTATIONS, replica);
    }
}
