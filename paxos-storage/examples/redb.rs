//! A storage of your own on an embedded database: `redb/storage.rs` is the whole of it.
//!
//! `cargo run --release -p paxos-storage --example redb [DIRECTORY]` runs the conformance suite on it, and
//! then measures it beside the backend `file`, in the given directory or below `target/`.

use std::path::PathBuf;

#[path = "redb/figures.rs"]
mod figures;
#[path = "redb/storage.rs"]
mod storage;
#[cfg(test)]
#[path = "redb/tests.rs"]
mod tests;

fn main() -> figures::Outcome<()> {
    figures::run(std::env::args_os().nth(1).map(PathBuf::from))
}
