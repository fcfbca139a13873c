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
//! # A whole backend
//!
//! Part 1 stands for your database. It appends batches of changes to a file, each with its length and
//! checksum, and keeps all values in memory. With an embedded database in its place (redb, fjall and others)
//! part 2 is all that you write: each kind of data gets a key, and [`persist`](crate::Storage::persist) is
//! one transaction. Part 3 runs the conformance suite, which tests every promise of the trait with crashes
//! between the calls, and panics with the name of a promise that is broken.
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
//! use paxos_core::{
//!     Ballot, Durable, Entry, HardState, Membership, NodeId, Recovered, Slot, SnapshotMeta, Time,
//!     Value, ValueKind, Write,
//! };
//! use paxos_storage::{
//!     Founding, FoundingId, Identity, KnownPeer, Origin, Registry, RestoreId, Start, Storage, StorageId,
//! };
//!
//! const IDENTITY: u8 = 0;
//! const REGISTRY: u8 = 1;
//! const HARD_STATE: u8 = 2;
//! const ENTRY: u8 = 3;
//! const SNAPSHOT_META: u8 = 4;
//! const SNAPSHOT: u8 = 5;
//!
//! /// The storage of one node in a [`Database`].
//! struct DatabaseStorage {
//!     identity: Identity,
//!     database: Database,
//!     unfinished_snapshots: BTreeMap<Slot, Vec<u8>>,
//! }
//!
//! impl DatabaseStorage {
//!     /// Makes the storage of a new node. Making and opening are two functions: a node whose disk is
//!     /// not mounted must fail to start, and not start without its promises.
//!     fn make(path: &Path, identity: Identity) -> Result<DatabaseStorage, Error> {
//!         if path.exists() {
//!             return Err(Error::foreign(ErrorKind::Unusable, "there is a storage already"));
//!         }
//!         let mut database = Database::open(path).map_err(unusable)?;
//!         let mut bytes = Vec::new();
//!         bytes.put_u64_le(identity.node().0);
//!         bytes.put_u128_le(identity.storage().0);
//!         bytes.put_slice(identity.cluster().as_bytes());
//!         database.commit(&[((IDENTITY, 0), Some(bytes.into()))])?;
//!         Ok(DatabaseStorage { identity, database, unfinished_snapshots: BTreeMap::new() })
//!     }
//!
//!     fn open(path: &Path) -> Result<DatabaseStorage, Error> {
//!         if !path.exists() {
//!             return Err(Error::foreign(ErrorKind::Unusable, "there is no storage"));
//!         }
//!         let database = Database::open(path).map_err(unusable)?;
//!         let Some(mut bytes) = database.map.get(&(IDENTITY, 0)).cloned() else {
//!             return Err(Error::foreign(ErrorKind::Damaged, "the identity is missing"));
//!         };
//!         let (node, storage) = (NodeId(bytes.get_u64_le()), StorageId(bytes.get_u128_le()));
//!         let cluster = String::from_utf8_lossy(&bytes).into_owned();
//!         let identity = Identity::existing(cluster, node, storage);
//!         Ok(DatabaseStorage { identity, database, unfinished_snapshots: BTreeMap::new() })
//!     }
//!
//!     /// The finished snapshots, oldest first.
//!     fn snapshots(&self) -> impl DoubleEndedIterator<Item = SnapshotMeta> + '_ {
//!         let range = self.database.map.range((SNAPSHOT_META, 0)..=(SNAPSHOT_META, u64::MAX));
//!         range.map(|((_, slot), bytes)| {
//!             let mut bytes = bytes.clone();
//!             let (size_bytes, checksum) = (bytes.get_u64_le(), bytes.get_u32_le());
//!             let membership = Membership::decode(&bytes).expect("it was encoded by this storage");
//!             SnapshotMeta { slot: Slot(*slot), size_bytes, checksum, membership }
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
//!         let bytes = self.database.map.get(&(REGISTRY, 0));
//!         bytes.cloned().map(take_registry).unwrap_or_default()
//!     }
//!
//!     fn remember(&mut self, registry: &Registry) -> Result<(), Error> {
//!         registry.assert_bounded();
//!         self.database.commit(&[((REGISTRY, 0), Some(put_registry(registry)))])
//!     }
//!
//!     fn recover(&mut self) -> Result<Recovered, Error> {
//!         let map = &self.database.map;
//!         let mut recovered = Recovered::default();
//!         if let Some(mut bytes) = map.get(&(HARD_STATE, 0)).cloned() {
//!             let promised = take_ballot(&mut bytes);
//!             recovered.hard_state = HardState { promised, chosen: Slot(bytes.get_u64_le()) };
//!         }
//!         recovered.snapshot = self.snapshots().last();
//!         let after = recovered.snapshot.as_ref().map_or(Slot::ZERO, |meta| meta.slot).next();
//!         for ((_, slot), bytes) in map.range((ENTRY, after.0)..=(ENTRY, u64::MAX)) {
//!             recovered.entries.push((Slot(*slot), take_entry(bytes.clone())?));
//!         }
//!         Ok(recovered)
//!     }
//!
//!     fn persist(&mut self, write: Write) -> Result<Durable, Error> {
//!         let mut hard_state = Vec::new();
//!         put_ballot(&mut hard_state, write.hard_state().promised);
//!         hard_state.put_u64_le(write.hard_state().chosen.0);
//!         let mut changes = vec![((HARD_STATE, 0), Some(hard_state.into()))];
//!         for (slot, entry) in write.entries() {
//!             changes.push(((ENTRY, slot.0), Some(put_entry(entry))));
//!         }
//!         self.database.commit(&changes)?;
//!         Ok(write.into_durable()) // After the sync, and only then.
//!     }
//!
//!     fn write_snapshot(&mut self, slot: Slot, offset: u64, piece: &[u8]) -> Result<(), Error> {
//!         let snapshot = self.unfinished_snapshots.entry(slot).or_default();
//!         if offset == 0 {
//!             snapshot.clear();
//!         }
//!         if snapshot.len() as u64 != offset {
//!             return Err(Error::SnapshotMismatch { slot, problem: "a piece came out of order" });
//!         }
//!         snapshot.extend_from_slice(piece);
//!         Ok(())
//!     }
//!
//!     fn finish_snapshot(&mut self, meta: SnapshotMeta) -> Result<(), Error> {
//!         let slot = meta.slot;
//!         let bytes = self.unfinished_snapshots.remove(&slot).unwrap_or_default();
//!         if bytes.len() as u64 != meta.size_bytes || crc32c::crc32c(&bytes) != meta.checksum {
//!             return Err(Error::SnapshotMismatch { slot, problem: "size or checksum differ" });
//!         }
//!         let kept: Vec<Slot> = self.snapshots().map(|meta| meta.slot).collect();
//!         if kept.last().is_some_and(|newest| *newest >= slot) {
//!             return Ok(());
//!         }
//!         let mut encoded = Vec::new();
//!         encoded.put_u64_le(meta.size_bytes);
//!         encoded.put_u32_le(meta.checksum);
//!         encoded.put_slice(&meta.membership.encode());
//!         let mut changes = vec![
//!             ((SNAPSHOT, slot.0), Some(bytes.into())),
//!             ((SNAPSHOT_META, slot.0), Some(encoded.into())),
//!         ];
//!         // The newest two are kept: a peer may be reading the one before.
//!         for old in kept.iter().rev().skip(1) {
//!             changes.extend([((SNAPSHOT, old.0), None), ((SNAPSHOT_META, old.0), None)]);
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
//!         self.snapshots().last()
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
//! fn put_ballot(bytes: &mut Vec<u8>, ballot: Ballot) {
//!     bytes.put_u64_le(ballot.round);
//!     bytes.put_u64_le(ballot.node.0);
//! }
//!
//! fn take_ballot(bytes: &mut Bytes) -> Ballot {
//!     Ballot { round: bytes.get_u64_le(), node: NodeId(bytes.get_u64_le()) }
//! }
//!
//! fn put_entry(entry: &Entry) -> Bytes {
//!     let (is_chosen, ballot) = match entry {
//!         Entry::Accepted { ballot, .. } => (false, *ballot),
//!         _ => (true, Ballot::ZERO),
//!     };
//!     let mut bytes = vec![u8::from(is_chosen)];
//!     put_ballot(&mut bytes, ballot);
//!     bytes.put_u8(entry.value().kind().number());
//!     bytes.put_u64_le(entry.value().time().0);
//!     bytes.put_slice(entry.value().as_bytes());
//!     bytes.into()
//! }
//!
//! fn take_entry(mut bytes: Bytes) -> Result<Entry, Error> {
//!     let is_chosen = bytes.get_u8() == 1;
//!     let ballot = take_ballot(&mut bytes);
//!     let damaged = |error| Error::foreign(ErrorKind::Damaged, error);
//!     let kind = ValueKind::from_number(bytes.get_u8());
//!     // A newer program has written it: nothing is damaged.
//!     let kind = kind.ok_or_else(|| Error::foreign(ErrorKind::Unusable, "a value of an unknown kind"))?;
//!     let time = Time(bytes.get_u64_le());
//!     let value = Value::parse_at(kind, bytes, time).map_err(damaged)?;
//!     Ok(if is_chosen { Entry::Chosen { value } } else { Entry::Accepted { ballot, value } })
//! }
//!
//! fn put_registry(registry: &Registry) -> Bytes {
//!     let mut bytes = Vec::new();
//!     put_start(&mut bytes, registry.start);
//!     bytes.put_u8(u8::from(registry.is_superseded));
//!     bytes.put_u8(u8::from(registry.founding.is_some()));
//!     if let Some(Founding { id, membership }) = &registry.founding {
//!         let encoded = membership.encode();
//!         bytes.put_u128_le(id.map_or(0, |id| id.0));
//!         bytes.put_u64_le(encoded.len() as u64);
//!         bytes.put_slice(&encoded);
//!     }
//!     let (kind, id) = match registry.origin {
//!         None => (0, 0),
//!         Some(Origin::Backup(id)) => (1, id.0),
//!         Some(Origin::Rescue { of }) => (2, of.0),
//!     };
//!     bytes.put_u8(kind);
//!     bytes.put_u128_le(id);
//!     for (node, peer) in &registry.peers {
//!         bytes.put_u64_le(node.0);
//!         bytes.put_u128_le(peer.storage.0);
//!         put_start(&mut bytes, peer.start);
//!     }
//!     bytes.into()
//! }
//!
//! fn take_registry(mut bytes: Bytes) -> Registry {
//!     let start = take_start(&mut bytes);
//!     let (is_superseded, is_founded) = (bytes.get_u8() == 1, bytes.get_u8() == 1);
//!     let founding = is_founded.then(|| {
//!         let id = Some(FoundingId(bytes.get_u128_le())).filter(|id| id.0 != 0);
//!         let length = bytes.get_u64_le() as usize;
//!         let membership = Membership::decode(&bytes.split_to(length));
//!         Founding { id, membership: membership.expect("it was encoded by this storage") }
//!     });
//!     let origin = match (bytes.get_u8(), bytes.get_u128_le()) {
//!         (1, id) => Some(Origin::Backup(RestoreId(id))),
//!         (2, id) => Some(Origin::Rescue { of: FoundingId(id) }),
//!         _ => None,
//!     };
//!     let mut peers = BTreeMap::new();
//!     while bytes.has_remaining() {
//!         let (node, storage) = (NodeId(bytes.get_u64_le()), StorageId(bytes.get_u128_le()));
//!         peers.insert(node, KnownPeer { storage, start: take_start(&mut bytes) });
//!     }
//!     Registry { start, is_superseded, founding, origin, peers }
//! }
//!
//! fn put_start(bytes: &mut Vec<u8>, start: Start) {
//!     bytes.put_u64_le(start.number);
//!     bytes.put_u64_le(start.nonce);
//! }
//!
//! fn take_start(bytes: &mut Bytes) -> Start {
//!     Start { number: bytes.get_u64_le(), nonce: bytes.get_u64_le() }
//! }
//!
//! // ---- Part 3: the conformance suite ----
//!
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
//!         Box::new(DatabaseStorage::make(&path, identity).expect("the storage is made"))
//!     }
//!
//!     fn open_again(&mut self) -> Box<dyn Storage> {
//!         let path = self.directory.path().join(self.made.to_string());
//!         Box::new(DatabaseStorage::open(&path).expect("the storage is opened"))
//!     }
//! }
//!
//! let directory = tempfile::tempdir()?;
//! conformance::check(&mut Databases { directory, made: 0 });
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
