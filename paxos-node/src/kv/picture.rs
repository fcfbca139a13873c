//! The state as it was at one revision, while the store goes on.
//!
//! A picture shares the records with the store and copies nothing up front. Whoever changes or removes a
//! record first keeps it, as it was, for each picture that shows it and has not written it yet. Which records
//! those are their revisions tell: what was modified after the picture was taken is not in it. So a picture
//! costs as much memory as changes while it is written, less what it has written already.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use paxos_core::Time;

use super::copied::Copied;
use super::reaper;
use super::records::{END, Hash, Rank, Record, Records, STRIPES, Value};
use crate::lock::lock;

/// The records of a store at one revision; later changes of the store do not show in it.
///
/// While it lives, the store keeps what it changes for it: do not hold it for long.
pub struct Picture {
    /// `None` once it is dropped.
    records: Option<Arc<Records>>,
    kept: Arc<Kept>,
    pub(super) revision: u64,
    /// The time of the state: what has expired by then is not there.
    pub(super) time: Time,
    pub(super) len: usize,
    pub(super) digest: u64,
}

/// What the store keeps for a picture.
#[derive(Debug)]
pub(super) struct Kept {
    /// The picture shows what was modified up to here.
    revision: u64,
    /// What lies before this [`position`] is written. Changed only by who reads the stripe in question.
    written: AtomicU64,
    /// For each stripe, records that are shown and were changed since, if they were not yet written.
    old: Box<[Mutex<Copied>]>,
}

/// All pictures of a store that may still be alive.
#[derive(Debug, Default)]
pub(super) struct Pictures(Vec<Weak<Kept>>);

impl Pictures {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps a record that is about to be changed for the pictures that show it. To be called while its
    /// stripe is locked.
    pub(super) fn keep(&mut self, hash: Hash, record: Record<'_>) {
        self.0.retain(|kept| {
            let Some(kept) = kept.upgrade() else { return false };
            let is_written = position(hash.stripe(), hash.rank()) < kept.written.load(Ordering::Relaxed);
            if record.modified <= kept.revision && !is_written {
                lock(&kept.old[hash.stripe()]).add(record);
            }
            true
        });
    }

    fn add(&mut self, kept: &Arc<Kept>) {
        self.0.retain(|kept| kept.strong_count() > 0);
        self.0.push(Arc::downgrade(kept));
    }
}

/// A place in the order in which a picture is written.
fn position(stripe: usize, rank: Rank) -> u64 {
    (stripe as u64) << u32::BITS | u64::from(rank.0)
}

impl Picture {
    pub(super) fn new(
        records: &Arc<Records>,
        (revision, time): (u64, Time),
        len: usize,
        digest: u64,
        pictures: &mut Pictures,
    ) -> Picture {
        let kept = Kept {
            revision,
            written: AtomicU64::new(0),
            old: (0..STRIPES).map(|_| Mutex::default()).collect(),
        };
        let kept = Arc::new(kept);
        pictures.add(&kept);
        Picture { records: Some(Arc::clone(records)), kept, revision, time, len, digest }
    }

    /// How many keys there were.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there were no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value that a key had.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.look(key, |value| value.map(Value::to_bytes))
    }

    /// Whether there was this key.
    #[must_use]
    pub fn has(&self, key: &[u8]) -> bool {
        self.look(key, |value| value.is_some())
    }

    /// Calls `look` with the value that a key had.
    fn look<R>(&self, key: &[u8], look: impl FnOnce(Option<Value<'_>>) -> R) -> R {
        let hash = self.records().hasher().hash(key);
        let stripe = self.records().read(hash.stripe());
        let present = stripe.find(hash, key).map(|at| stripe.record(at));
        let is_live = |record: &Record<'_>| !record.is_expired(self.time);
        if let Some(record) = present.filter(|record| record.modified <= self.revision) {
            look(Some(record).filter(is_live).map(|record| record.value))
        } else {
            // It was changed since, or it was not there.
            let old = lock(&self.kept.old[hash.stripe()]);
            look(old.find(key).filter(is_live).map(|record| record.value))
        }
    }

    /// Calls `write` with all records, some hundred at a time, in no order.
    ///
    /// Nobody waits for `write`: only copying what it gets holds up changes of the stripe in question.
    ///
    /// # Panics
    ///
    /// If it finds other records than there were: then nothing that was written may be used.
    pub(super) fn for_each_piece(self, mut write: impl FnMut(&Copied) -> io::Result<()>) -> io::Result<()> {
        let (mut count, mut digest) = (0, 0_u64);
        let mut copied = Copied::default();
        for stripe in 0..STRIPES {
            let mut rank = Rank(0);
            while rank < END {
                rank = self.copy_shard(stripe, rank, &mut copied);
                if rank == END {
                    copied.append(std::mem::take(&mut lock(&self.kept.old[stripe])));
                }
                let count_before = count;
                for record in copied.records() {
                    count += 1;
                    digest = digest.wrapping_add(record.hash());
                }
                write(&copied)?;
                copied.clear();
                if count > count_before {
                    // Whoever waits for this processor comes first. Most shards of a small state are empty.
                    std::thread::yield_now();
                }
            }
        }
        assert_eq!((count, digest), (self.len, self.digest), "a picture shows each record once, as it was");
        Ok(())
    }

    fn records(&self) -> &Records {
        self.records.as_ref().expect("it is not dropped yet")
    }

    /// Copies what the picture shows of the shard that has `from`, from there on; returns where the next one
    /// begins.
    fn copy_shard(&self, stripe: usize, from: Rank, copied: &mut Copied) -> Rank {
        let records = self.records().read(stripe);
        let (shown, first, end) = records.at_rank(from);
        let hasher = self.records().hasher();
        for record in shown {
            // Shards may have been merged since the last step.
            let is_next = first == from || hasher.hash(record.key).rank() >= from;
            if is_next && record.modified <= self.revision {
                copied.add(record);
            }
        }
        self.kept.written.store(position(stripe, end), Ordering::Relaxed);
        end
    }
}

impl Drop for Picture {
    fn drop(&mut self) {
        // The store may have begun anew meanwhile.
        if self.len > reaper::FREED_AT_ONCE
            && let Some(records) = self.records.take()
        {
            reaper::free(records, Default::default());
        }
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Picture").field("revision", &self.revision).finish_non_exhaustive()
    }
}
