#!/usr/bin/env bash
# raft-engine 0.4.2 (the log of TiKV's Raft groups): what Engine::sync does for writes that were made without
# a sync, to pay for one sync after many of them.
#
# Guessed: `sync()`, as well as `write` of an empty batch with `sync: true`, makes what was written before
#          durable: one fdatasync of the newest log file. It may skip that when nothing was written since the
#          last one.
# Seen:    Both return Ok and sync nothing at all, however much was written without a sync. `sync()` writes an
#          empty batch, and `write` returns at once for a batch that has no items, before it looks at `sync`.
#          What does sync: `write` of a batch that has an item, and the end of each log file.
#
# What follows: to write first and sync once, give the last batch an item of its own (a `put` of some key) and
# write that one with `sync: true`. Who answers a client after `sync()` promises what a power failure can take
# back.
#
# Needs cargo. Prints what it saw; exits 1 if any of it has changed.
set -euo pipefail
command -v cargo >/dev/null || { echo "cargo is missing"; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "syncs"
version = "0.1.0"
edition = "2021"

[dependencies]
raft-engine = { version = "=0.4.2", default-features = false }
TOML
cat > src/main.rs <<'RUST'
use std::io::Result;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use raft_engine::env::{DefaultFileSystem, FileSystem, Handle, Permission};
use raft_engine::{Config, Engine, LogBatch, ReadableSize};

static SYNCS: AtomicUsize = AtomicUsize::new(0);

/// The ordinary files of the library, which count how often they are synced: it has no other way to do so.
struct Files(DefaultFileSystem);
struct File(Arc<<DefaultFileSystem as FileSystem>::Handle>);

impl Handle for File {
    fn truncate(&self, offset: usize) -> Result<()> { self.0.truncate(offset) }
    fn file_size(&self) -> Result<usize> { self.0.file_size() }
    fn sync(&self) -> Result<()> {
        SYNCS.fetch_add(1, SeqCst);
        self.0.sync()
    }
}

impl FileSystem for Files {
    type Handle = File;
    type Reader = <DefaultFileSystem as FileSystem>::Reader;
    type Writer = <DefaultFileSystem as FileSystem>::Writer;

    fn create<P: AsRef<Path>>(&self, path: P) -> Result<File> { Ok(File(Arc::new(self.0.create(path)?))) }
    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> Result<File> {
        Ok(File(Arc::new(self.0.open(path, permission)?)))
    }
    fn delete<P: AsRef<Path>>(&self, path: P) -> Result<()> { self.0.delete(path) }
    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> Result<()> { self.0.rename(from, to) }
    fn new_reader(&self, file: Arc<File>) -> Result<Self::Reader> { self.0.new_reader(file.0.clone()) }
    fn new_writer(&self, file: Arc<File>) -> Result<Self::Writer> { self.0.new_writer(file.0.clone()) }
}

fn batch(key: &str) -> LogBatch {
    let mut batch = LogBatch::default();
    batch.put(1, key.as_bytes().to_vec(), incompressible(key)).unwrap();
    batch
}

/// 1000 bytes that the library can't shorten.
fn incompressible(key: &str) -> Vec<u8> {
    let mut state = key.bytes().fold(1_u64, |state, byte| state * 31 + u64::from(byte));
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..1000).map(|_| next()).collect()
}

fn show(what: &str, act: impl FnOnce()) {
    let before = SYNCS.load(SeqCst);
    act();
    println!("{what}: {} syncs", SYNCS.load(SeqCst) - before);
}

fn main() {
    let config = Config { dir: "log".to_owned(), ..Config::default() };
    let engine = Engine::open_with_file_system(config, Arc::new(Files(DefaultFileSystem))).unwrap();
    let write = |key: &str, sync: bool| {
        engine.write(&mut batch(key), sync).unwrap();
    };
    show("100 writes without a sync", || (0..100).for_each(|key| write(&format!("{key}"), false)));
    show("Engine::sync behind them", || engine.sync().unwrap());
    show("an empty batch with a sync", || assert_eq!(engine.write(&mut LogBatch::default(), true).unwrap(), 0));
    show("a batch of one item with a sync", || write("last", true));

    let config = Config { dir: "short".to_owned(), target_file_size: ReadableSize::kb(50), ..Config::default() };
    let engine = Engine::open_with_file_system(config, Arc::new(Files(DefaultFileSystem))).unwrap();
    show("100 writes without a sync, in log files of 50 KiB", || {
        (0..100).for_each(|key| _ = engine.write(&mut batch(&format!("{key}")), false).unwrap());
    });
}
RUST
cargo run --quiet 2>errors | tee seen || { cat errors; exit 1; }
cat > expected <<'TEXT'
100 writes without a sync: 0 syncs
Engine::sync behind them: 0 syncs
an empty batch with a sync: 0 syncs
a batch of one item with a sync: 1 syncs
100 writes without a sync, in log files of 50 KiB: 2 syncs
TEXT
diff expected seen || { echo "raft-engine behaves otherwise now"; exit 1; }
