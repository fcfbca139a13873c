//! Replays the fuzz corpus and past findings, through the function that the fuzz target calls.
#![cfg(feature = "file")]

#[path = "../fuzz/recovery.rs"]
mod recovery;

#[test]
fn directories_that_were_found_are_refused_or_right() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/recovery");
    paxos_core::fuzzing::replay(&corpus, 10, recovery::recovery);
}
