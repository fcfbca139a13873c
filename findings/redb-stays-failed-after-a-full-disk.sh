#!/usr/bin/env bash
# redb 4.1.0 (an embedded database): what can be done with an open database after one write had no space, once
# there is space again.
#
# Guessed: The transaction that had no space is given up, as with SQLite; reads go on all the time, and the next
#          transaction that fits is committed.
# Seen:    From the first failed write on, every later call fails with "Previous I/O error", transactions that only
#          read included, though nothing that they read was touched. Reopened on the same file, the database has all
#          that was committed before, and takes writes again.
#
# What follows: who stores a log in redb can't wait for space and go on; the database has to be closed and opened
# again. Keep a reserve, and stop taking work on before the disk is full.
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
name = "full"
version = "0.1.0"
edition = "2021"

[dependencies]
redb = "=4.1.0"
TOML
cat > src/main.rs <<'RUST'
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, StorageBackend, TableDefinition};

const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("log");

/// A file on a disk that is full as long as the flag says so.
#[derive(Debug)]
struct Disk {
    file: FileBackend,
    is_full: Arc<AtomicBool>,
}

impl Disk {
    fn room(&self) -> io::Result<()> {
        if self.is_full.load(SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> { self.file.len() }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> { self.file.read(offset, out) }
    fn set_len(&self, len: u64) -> io::Result<()> { self.room()?; self.file.set_len(len) }
    fn sync_data(&self) -> io::Result<()> { self.file.sync_data() }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> { self.room()?; self.file.write(offset, data) }
    fn close(&self) -> io::Result<()> { self.file.close() }
}

fn set(database: &Database, key: u64, value: &[u8]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(TABLE)?.insert(key, value)?;
    Ok(transaction.commit()?)
}

fn look(database: &Database, key: u64) -> Result<bool, redb::Error> {
    Ok(database.begin_read()?.open_table(TABLE)?.get(key)?.is_some())
}

fn show<T: std::fmt::Debug>(what: &str, result: Result<T, redb::Error>) {
    match result {
        Ok(value) => println!("{what}: {value:?}"),
        Err(redb::Error::PreviousIo) => println!("{what}: refused for the error before"),
        Err(_) => println!("{what}: failed"),
    }
}

fn main() {
    let is_full = Arc::new(AtomicBool::new(false));
    let options = || std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open("log.redb");
    let disk = Disk { file: FileBackend::new(options().unwrap()).unwrap(), is_full: is_full.clone() };
    let database = Database::builder().create_with_backend(disk).unwrap();
    show("the first write", set(&database, 1, b"one"));
    is_full.store(true, SeqCst);
    show("a write to the full disk", set(&database, 2, &[7; 1 << 20]));
    show("a read while it is full", look(&database, 1));
    is_full.store(false, SeqCst);
    show("a read when there is space again", look(&database, 1));
    show("a write when there is space again", set(&database, 3, b"three"));
    drop(database);
    let database = Database::create("log.redb").unwrap();
    show("the first value, reopened", look(&database, 1));
    show("a write, reopened", set(&database, 4, b"four"));
}
RUST
cargo run --quiet 2>errors | tee seen || { cat errors; exit 1; }
cat > expected <<'TEXT'
the first write: ()
a write to the full disk: failed
a read while it is full: refused for the error before
a read when there is space again: refused for the error before
a write when there is space again: refused for the error before
the first value, reopened: true
a write, reopened: ()
TEXT
diff expected seen || { echo "redb behaves otherwise now"; exit 1; }
