//! Write a storage of your own: a whole backend on a small database, which passes the conformance suite.
//!
//! # What a backend must do
//!
//! - **Store a [`Write`](paxos_core::Write) as a whole or not at all.** It holds the hard state (the newest
//!   promise, and the watermark of chosen slots) and entries of slots. Half of a write would break the
//!   protocol, for example an acceptance without the promise that it follows from.
//! - **Return the [`Durable`](paxos_core::Durable) after the sync.** The replica sends promises and
//!   acceptances on the strength of it. A backend that returns it early can make a cluster lose values that
//!   were chosen.
//! - **Stop after a failed write or sync.** Whether the data is on the disk is unknown then, and a second
//!   `fsync` that succeeds does not change that. Report [`ErrorKind::Failed`](crate::ErrorKind::Failed) for
//!   this call and for all later ones.
//! - **Report damage.** If acknowledged data is missing or altered, return
//!   [`ErrorKind::Damaged`](crate::ErrorKind::Damaged) rather than recover without it.
//! - **Keep memberships.** A value of the log is of a [kind](paxos_core::ValueKind), and each snapshot has
//!   the membership that is in force behind its slot; a node that loses one counts the wrong quorums.
//! - **Keep an [`Identity`](crate::Identity).** Peers remember the storage id of each member, so that a node
//!   with an empty disk can't vote under its old name.
//!
//! # Errors
//!
//! A backend's own errors travel in [`Error::foreign`](crate::Error::foreign). It keeps the original error as
//! its source, and takes the [`ErrorKind`](crate::ErrorKind) that tells the node how to react. A backend that
//! can run out of space while the node runs returns [`ErrorKind::Full`](crate::ErrorKind::Full) from a call
//! that has changed nothing, and reports [`Capacity::Low`](crate::Capacity::Low) before that happens.
//!
//! # What is there already
//!
//! - [`codec`](crate::codec) turns entries, hard states, registries, identities and descriptions of snapshots
//!   into bytes and back. The bytes have a version and a checksum, so that damage is noticed.
//! - [`UnfinishedSnapshots`](crate::UnfinishedSnapshots) keeps track of the pieces of snapshots.
//! - [`Error::foreign`](crate::Error::foreign) carries your own errors.
//! - [`conformance`](crate::conformance) tests every promise of the trait with crashes between the calls, and
//!   panics with the name of a promise that is broken.
//!
//! # A whole backend
//!
//! ```toml
//! [dependencies]
//! bytes = "1"
//! crc32c = "0.6"
//! paxos-core = "0.1"
//! paxos-storage = { version = "0.1", default-features = false }
//! ```
//!
//! Part 1 stands for your database. It appends batches of changes to a file, each with its length and
//! checksum, and keeps all values in memory. With an embedded database in its place part 2 is all that you
//! write: each kind of data gets a key, and [`persist`](crate::Storage::persist) is one transaction. Part 3
//! runs the conformance suite.
//!
//! The example `redb` of this crate does the same on a real database, keeps the pieces of snapshots there,
//! and measures itself beside the backend `file`: `cargo run --release -p paxos-storage --example redb`.
//!
//! ```
//! // ---- Part 1: a database ----
//!
//! use std::collections::BTreeMap;
//! use std::fs::{self, File, OpenOptions};
//! use std::io::{self, Write as _};
//! use std::path::Path;
//!
//! use bytes::{Buf, BufMut, Bytes};
//! use paxos_storage::{Error, ErrorKind};
//!
//! /// A kind of value, and a number: a slot, or 0.
//! type Key = (u8, u64);
//!
//! /// Stands for your database: a sorted map whose changes are atomic and durable.
//! struct Database {
//!     journal: File,
//!     map: BTreeMap<Key, Bytes>,
//!     has_failed: bool,
//! }
//!
//! impl Database {
//!     fn open(path: &Path) -> io::Result<Database> {
//!         let mut rest = match fs::read(path) {
//!             Err(error) if error.kind() == io::ErrorKind::NotFound => Bytes::new(),
//!             read => Bytes::from(read?),
//!         };
//!         let (mut map, file_bytes) = (BTreeMap::new(), rest.len());
//!         while let Some(batch) = take_batch(&mut rest) {
//!             apply(&mut map, batch);
//!         }
//!         let journal = OpenOptions::new().create(true).append(true).open(path)?;
//!         // Cuts off what a crash has left unfinished.
//!         journal.set_len((file_bytes - rest.len()) as u64)?;
//!         journal.sync_all()?;
//!         File::open(path.parent().unwrap_or(path))?.sync_all()?;
//!         Ok(Database { journal, map, has_failed: false })
//!     }
//!
//!     /// Makes all changes or, after an error, perhaps none. `None` removes a key.
//!     fn commit(&mut self, changes: &[(Key, Option<Bytes>)]) -> Result<(), Error> {
//!         if self.has_failed {
//!             return Err(Error::foreign(ErrorKind::Failed, "an earlier commit has failed"));
//!         }
//!         let mut batch = Vec::new();
//!         for ((kind, number), value) in changes {
//!             batch.put_u8(*kind);
//!             batch.put_u64_le(*number);
//!             batch.put_u8(u8::from(value.is_some()));
//!             batch.put_u32_le(value.as_ref().map_or(0, Bytes::len) as u32);
//!             batch.put_slice(value.as_deref().unwrap_or_default());
//!         }
//!         let mut record = Vec::new();
//!         record.put_u32_le(batch.len() as u32);
//!         record.put_u32_le(crc32c::crc32c(&batch));
//!         record.put_slice(&batch);
//!         let stored = self.journal.write_all(&record).and_then(|()| self.journal.sync_data());
//!         self.has_failed = stored.is_err();
//!         stored.map_err(|error| Error::foreign(ErrorKind::Failed, error))?;
//!         apply(&mut self.map, batch.into());
//!         Ok(())
//!     }
//! }
//!
//! /// The next batch of a journal, if it is whole.
//! fn take_batch(journal: &mut Bytes) -> Option<Bytes> {
//!     let mut head = journal.get(..8)?;
//!     let (length, checksum) = (head.get_u32_le() as usize, head.get_u32_le());
//!     let batch = journal.get(8..)?.get(..length)?;
//!     if crc32c::crc32c(batch) != checksum {
//!         return None;
//!     }
//!     let batch = journal.slice_ref(batch);
//!     journal.advance(8 + length);
//!     Some(batch)
//! }
//!
//! fn apply(map: &mut BTreeMap<Key, Bytes>, mut batch: Bytes) {
//!     while batch.has_remaining() {
//!         let key = (batch.get_u8(), batch.get_u64_le());
//!         let (is_put, length) = (batch.get_u8() == 1, batch.get_u32_le() as usize);
//!         let value = batch.split_to(length);
//!         if is_put { map.insert(key, value) } else { map.remove(&key) };
//!     }
//! }
//!
//! // ---- Part 2: the storage ----
//!
//! use paxos_core::{Durable, Recovered, Slot, SnapshotMeta, Write};
//! use paxos_storage::codec::{decode, encode};
//! use paxos_storage::{Identity, Registry, Storage, UnfinishedSnapshots};
//!
//! const IDENTITY: Key = (0, 0);
//! const REGISTRY: Key = (1, 0);
//! const HARD_STATE: Key = (2, 0);
//! const ENTRY: u8 = 3;
//! const SNAPSHOT_META: u8 = 4;
//! const SNAPSHOT: u8 = 5;
//!
//! /// The storage of one node in a [`Database`].
//! struct DatabaseStorage {
//!     identity: Identity,
//!     registry: Registry,
//!     /// The finished snapshots, oldest first.
//!     snapshots: Vec<SnapshotMeta>,
//!     unfinished: UnfinishedSnapshots<Vec<u8>>,
//!     database: Database,
//! }
//!
//! impl DatabaseStorage {
//!     /// Makes the storage of a new node. Making and opening are two functions: a node whose disk is
//!     /// not mounted must fail to start, and not start without its promises.
//!     fn make(path: &Path, identity: &Identity) -> Result<DatabaseStorage, Error> {
//!         if path.exists() {
//!             return Err(Error::foreign(ErrorKind::Unusable, "there is a storage already"));
//!         }
//!         let mut database = Database::open(path).map_err(unusable)?;
//!         database.commit(&[(IDENTITY, Some(encode(identity)))])?;
//!         drop(database);
//!         DatabaseStorage::open(path)
//!     }
//!
//!     /// Decoding tells damage, which it finds by a checksum, from what only a newer version knows; its
//!     /// error becomes an [`Error`] of the right kind by `?`.
//!     fn open(path: &Path) -> Result<DatabaseStorage, Error> {
//!         if !path.exists() {
//!             return Err(Error::foreign(ErrorKind::Unusable, "there is no storage"));
//!         }
//!         let database = Database::open(path).map_err(unusable)?;
//!         let identity = database.map.get(&IDENTITY).cloned();
//!         let identity = identity.ok_or_else(|| Error::foreign(ErrorKind::Damaged, "no identity"))?;
//!         let registry = database.map.get(&REGISTRY).cloned().map(decode).transpose()?;
//!         let snapshots = database.map.range((SNAPSHOT_META, 0)..=(SNAPSHOT_META, u64::MAX));
//!         Ok(DatabaseStorage {
//!             identity: decode(identity)?,
//!             registry: registry.unwrap_or_default(),
//!             snapshots: snapshots.map(|(_, meta)| decode(meta.clone())).collect::<Result<_, _>>()?,
//!             unfinished: UnfinishedSnapshots::default(),
//!             database,
//!         })
//!     }
//! }
//!
//! impl Storage for DatabaseStorage {
//!     fn identity(&self) -> &Identity {
//!         &self.identity
//!     }
//!
//!     fn registry(&self) -> Registry {
//!         self.registry.clone()
//!     }
//!
//!     fn remember(&mut self, registry: &Registry) -> Result<(), Error> {
//!         self.database.commit(&[(REGISTRY, Some(encode(registry)))])?;
//!         self.registry.clone_from(registry);
//!         Ok(())
//!     }
//!
//!     fn recover(&mut self) -> Result<Recovered, Error> {
//!         let map = &self.database.map;
//!         let hard_state = map.get(&HARD_STATE).cloned().map(decode).transpose()?;
//!         let snapshot = self.newest_snapshot();
//!         let after = snapshot.as_ref().map_or(Slot::ZERO, |meta| meta.slot).next();
//!         let mut entries = Vec::new();
//!         for ((_, slot), entry) in map.range((ENTRY, after.0)..=(ENTRY, u64::MAX)) {
//!             entries.push((Slot(*slot), decode(entry.clone())?));
//!         }
//!         Ok(Recovered::new(hard_state.unwrap_or_default(), snapshot, entries))
//!     }
//!
//!     fn persist(&mut self, write: Write) -> Result<Durable, Error> {
//!         let mut changes = vec![(HARD_STATE, Some(encode(&write.hard_state())))];
//!         for (slot, entry) in write.entries() {
//!             changes.push(((ENTRY, slot.0), Some(encode(entry))));
//!         }
//!         self.database.commit(&changes)?;
//!         Ok(write.into_durable()) // After the sync, and only then.
//!     }
//!
//!     fn write_snapshot(&mut self, slot: Slot, offset: u64, piece: &[u8]) -> Result<(), Error> {
//!         if offset == 0 {
//!             // Too many at once: one is given up, and its buffer is dropped here.
//!             let _ = self.unfinished.begin(slot, Vec::new());
//!         }
//!         self.unfinished.write(slot, offset, piece, |bytes| Ok(bytes.extend_from_slice(piece)))
//!     }
//!
//!     fn finish_snapshot(&mut self, meta: SnapshotMeta) -> Result<(), Error> {
//!         let bytes = self.unfinished.finish(&meta)?.unwrap_or_default();
//!         if self.snapshots.last().is_some_and(|newest| newest.slot >= meta.slot) {
//!             return Ok(());
//!         }
//!         let mut changes = vec![
//!             ((SNAPSHOT, meta.slot.0), Some(bytes.into())),
//!             ((SNAPSHOT_META, meta.slot.0), Some(encode(&meta))),
//!         ];
//!         self.snapshots.push(meta);
//!         // The newest two are kept: a peer may be reading the one before.
//!         for old in self.snapshots.drain(..self.snapshots.len().saturating_sub(2)) {
//!             changes.extend([((SNAPSHOT, old.slot.0), None), ((SNAPSHOT_META, old.slot.0), None)]);
//!         }
//!         self.database.commit(&changes)
//!     }
//!
//!     fn read_snapshot(
//!         &mut self,
//!         slot: Slot,
//!         offset: u64,
//!         max_bytes: usize,
//!     ) -> Result<Option<Bytes>, Error> {
//!         Ok(self.database.map.get(&(SNAPSHOT, slot.0)).map(|bytes| {
//!             let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
//!             bytes.slice(start..start.saturating_add(max_bytes).min(bytes.len()))
//!         }))
//!     }
//!
//!     fn newest_snapshot(&self) -> Option<SnapshotMeta> {
//!         self.snapshots.last().cloned()
//!     }
//!
//!     fn compact(&mut self, through: Slot) -> Result<(), Error> {
//!         let newest = self.newest_snapshot().map_or(Slot::ZERO, |meta| meta.slot);
//!         let through = through.min(newest);
//!         let old = self.database.map.range((ENTRY, 0)..=(ENTRY, through.0));
//!         let changes: Vec<_> = old.map(|(key, _)| (*key, None)).collect();
//!         self.database.commit(&changes)
//!     }
//!
//!     fn prove_last_write(&mut self) -> Result<(), Error> {
//!         Ok(()) // A real database tells a torn write from a damaged one by itself.
//!     }
//! }
//!
//! fn unusable(error: io::Error) -> Error {
//!     Error::foreign(ErrorKind::Unusable, error)
//! }
//!
//! // ---- Part 3: the conformance suite ----
//!
//! use paxos_core::NodeId;
//! use paxos_storage::conformance::{self, Backend};
//!
//! struct Databases {
//!     directory: tempfile::TempDir,
//!     made: u64,
//! }
//!
//! impl Backend for Databases {
//!     fn make(&mut self) -> Box<dyn Storage> {
//!         self.made += 1;
//!         let path = self.directory.path().join(self.made.to_string());
//!         let identity = Identity::new("example", NodeId(1));
//!         Box::new(DatabaseStorage::make(&path, &identity).expect("the storage is made"))
//!     }
//!
//!     fn open_again(&mut self) -> Box<dyn Storage> {
//!         let path = self.directory.path().join(self.made.to_string());
//!         Box::new(DatabaseStorage::open(&path).expect("the storage is opened"))
//!     }
//! }
//!
//! let directory = tempfile::tempdir()?;
//! let report = conformance::check(&mut Databases { directory, made: 0 });
//! assert_eq!(report.skipped(), ["a full disk"], "there is no `Backend::set_full` for it");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # What it leaves out
//!
//! The database of part 1 never gives space back, and it takes a damaged batch for the torn end of the file
//! and drops what follows it. The [`file`](crate::file) backend and real databases do better.
//!
//! The suite can't test what a power failure does below a backend. The tests of the [`file`](crate::file)
//! backend show how to: its log writes through a small trait (`file/disk`), which a simulated disk that loses
//! unsynced data implements, too (`file/disk/simulated.rs`); the tests crash that disk at every operation
//! (`file/tests/crash.rs`).
//!
//! # Simulate it
//!
//! The suite calls a storage as no node would. With the feature `sim`, simulated clusters run on it, crash in
//! the middle of writes and snapshots, and check that nothing which any node was told is forgotten: the
//! module `sim` takes a function that makes an empty storage and one that opens it again.
//!
//! # Use it
//!
//! `paxos_node::Node::start` takes any `Box<dyn Storage>`. Open the storage first, and leave
//! [`recover`](crate::Storage::recover) to the node.
