//! Where the bytes of a shard's records lie: short ones one behind the other in pages, long ones apart.
//!
//! A record in a page is the revisions at which it was created and modified, 8 bytes each, a [`Head`], the
//! deadline if it has one, the key and the value. An allocation for each record would cost more memory than
//! that, and time.

use bytes::{Bytes, BytesMut};

use paxos_core::Time;

use super::record::{
    DEADLINE_BYTES, HEAD_BYTES, Head, History, MAX_LONG, Record, UNIT_BYTES, Value, is_short, is_short_key,
};

const PAGE_BYTES: usize = 4096;
/// The first page of a shard begins with this and doubles: a shard may have one key.
const FIRST_PAGE_BYTES: usize = 256;
const PAGE_UNITS: usize = PAGE_BYTES / UNIT_BYTES;
/// As many pages as a [`Place`] can tell apart.
const MAX_PAGES: usize = (u16::MAX as usize + 1) / PAGE_UNITS;
/// A heap with more pages than this may soon be unable to take a record.
const NEARLY_ALL_PAGES: usize = MAX_PAGES - 4;
/// The same for values that lie apart.
const NEARLY_ALL_LONG: usize = MAX_LONG as usize - 64;
/// A value that became shorter stays where it is unless more than one of this many parts of the record would
/// be unused, and more than this many units.
const PARTS_UNUSED: u8 = 4;
const FEW_UNITS: u8 = 4;
/// A long value that is appended to gets room for a further part of its length: an eighth. It is not counted
/// as memory of the state.
const ROOM_TO_APPEND: usize = 8;

/// Where a record begins: in units, over all pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place(u16);

/// What a record has apart from its page.
#[derive(Debug, Default)]
pub(super) struct Long {
    /// Empty if the key lies in the page.
    key: Box<[u8]>,
    value: Bytes,
}

/// The records of a shard.
#[derive(Debug, Default)]
pub(super) struct Heap {
    /// As long as they are filled.
    pages: Vec<Vec<u8>>,
    /// Empty pages for records to come.
    spare: Vec<Vec<u8>>,
    long: Vec<Long>,
    /// Which of `long` nobody uses.
    free_long: Vec<u16>,
    /// How many bytes of the pages records take that were removed.
    dead_bytes: usize,
    live_bytes: usize,
}

impl Heap {
    /// The bytes that records take in the pages, removed ones left out.
    pub(super) fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    /// Whether this much of the pages, as one part of that many, is of records that were removed.
    pub(super) fn is_wasteful(&self, parts: usize) -> bool {
        self.dead_bytes >= PAGE_BYTES / 2 && self.dead_bytes * parts > self.live_bytes + self.dead_bytes
    }

    /// Whether it may soon be unable to take a record.
    pub(super) fn is_nearly_full(&self) -> bool {
        self.pages.len() > NEARLY_ALL_PAGES || self.long.len() > NEARLY_ALL_LONG
    }

    /// Forgets all records; their pages stay for others.
    pub(super) fn clear(&mut self) {
        let Heap { mut pages, mut spare, .. } = std::mem::take(self);
        pages.iter_mut().for_each(Vec::clear);
        spare.append(&mut pages);
        self.spare = spare;
    }

    pub(super) fn free_spare(&mut self) {
        self.spare = Vec::new();
    }

    pub(super) fn record(&self, place: Place) -> Record<'_> {
        self.record_in(self.bytes_at(place))
    }

    pub(super) fn key(&self, place: Place) -> &[u8] {
        let bytes = self.bytes_at(place);
        self.key_in(bytes, head(bytes))
    }

    /// How much of the page with this record is filled.
    pub(super) fn page_bytes(&self, place: Place) -> usize {
        self.pages[place.page()].len()
    }

    /// The part of this record that lies in a page.
    pub(super) fn bytes(&self, place: Place) -> &[u8] {
        let bytes = self.bytes_at(place);
        &bytes[..head(bytes).size_bytes()]
    }

    /// All records, in the order in which they lie in the pages.
    pub(super) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.pages.iter().flat_map(move |page| {
            let mut rest = &page[..];
            std::iter::from_fn(move || {
                while !rest.is_empty() {
                    let (bytes, head) = (rest, head(rest));
                    rest = &rest[head.size_bytes()..];
                    if !head.is_dead {
                        return Some(self.record_in(bytes));
                    }
                }
                None
            })
        })
    }

    /// Stores a record.
    pub(super) fn add(&mut self, history: History, key: &[u8], value: &[u8]) -> Place {
        let paged_key = if is_short_key(key.len()) { key } else { &[] };
        if is_short(key.len(), value.len()) {
            let head = Head::new(key.len(), value.len(), history.deadline.is_some());
            return self.append(history, head, [key, value]);
        }
        let is_key_apart = paged_key.len() < key.len();
        let apart = if is_key_apart { Box::from(key) } else { Box::default() };
        let long = Long { key: apart, value: Bytes::copy_from_slice(value) };
        self.add_long(history, paged_key, is_key_apart, long)
    }

    fn add_long(&mut self, history: History, paged_key: &[u8], is_key_apart: bool, long: Long) -> Place {
        let at = self.free_long.pop().unwrap_or_else(|| {
            self.long.push(Long::default());
            u16::try_from(self.long.len() - 1).expect("a shard is split before it has so many")
        });
        self.long[usize::from(at)] = long;
        let head = Head::new(paged_key.len(), 0, history.deadline.is_some());
        let head = Head { value: at, is_long: true, is_key_apart, ..head };
        self.append(history, head, [paged_key, &[]])
    }

    /// Moves a record of another heap here.
    pub(super) fn take_over(&mut self, from: &mut Heap, place: Place) -> Place {
        let Heap { pages, long, .. } = from;
        let bytes = &pages[place.page()][place.offset()..];
        let head = head(bytes);
        let history = history(bytes, head);
        let paged_key = &bytes[head.key_at()..][..usize::from(head.key_bytes)];
        if head.is_long {
            let long = std::mem::take(&mut long[usize::from(head.value)]);
            return self.add_long(history, paged_key, head.is_key_apart, long);
        }
        let value = &bytes[head.key_at() + paged_key.len()..][..usize::from(head.value)];
        let new = Head::new(paged_key.len(), value.len(), head.expires);
        self.append(history, new, [paged_key, value])
    }

    /// Stores a record once more, with another history and in another place; the old one is to be removed
    /// then.
    pub(super) fn repeat(&mut self, place: Place, history: History) -> Place {
        let bytes = self.bytes_at(place);
        let head = head(bytes);
        let paged_key = bytes[head.key_at()..][..usize::from(head.key_bytes)].to_vec();
        if head.is_long {
            let long = std::mem::take(&mut self.long[usize::from(head.value)]);
            return self.add_long(history, &paged_key, head.is_key_apart, long);
        }
        let value = bytes[head.key_at() + paged_key.len()..][..usize::from(head.value)].to_vec();
        self.add(history, &paged_key, &value)
    }

    fn append(&mut self, history: History, head: Head, contents: [&[u8]; 2]) -> Place {
        let History { created, modified, deadline } = history;
        assert_eq!(head.expires, deadline.is_some(), "a record that expires has a deadline");
        let (size_bytes, [key, value]) = (head.size_bytes(), contents);
        if self.pages.last().is_none_or(|page| page.len() + size_bytes > PAGE_BYTES) {
            assert!(self.pages.len() < MAX_PAGES, "a shard is split before its pages run out");
            let capacity = if self.pages.is_empty() { FIRST_PAGE_BYTES } else { PAGE_BYTES };
            self.pages.push(self.spare.pop().unwrap_or_else(|| Vec::with_capacity(capacity)));
        }
        let number = self.pages.len() - 1;
        let page = &mut self.pages[number];
        if page.capacity() < page.len() + size_bytes {
            let capacity = (2 * page.capacity()).max(page.len() + size_bytes).min(PAGE_BYTES);
            page.reserve_exact(capacity - page.len());
        }
        let place = Place::new(number, page.len());
        let end = page.len() + size_bytes;
        page.extend_from_slice(&created.to_le_bytes());
        page.extend_from_slice(&modified.to_le_bytes());
        page.extend_from_slice(&head.bits().to_le_bytes());
        if let Some(deadline) = deadline {
            page.extend_from_slice(&deadline.0.to_le_bytes());
        }
        page.extend_from_slice(key);
        page.extend_from_slice(value);
        page.resize(end, 0);
        self.live_bytes += size_bytes;
        place
    }

    /// Removes a record. Its bytes stay until the pages are made anew.
    pub(super) fn remove(&mut self, place: Place) {
        let bytes = &mut self.pages[place.page()][place.offset()..];
        let head = head(bytes);
        assert!(!head.is_dead, "a record is removed once");
        put_head(bytes, Head { is_dead: true, ..head });
        self.live_bytes -= head.size_bytes();
        self.dead_bytes += head.size_bytes();
        if head.is_long {
            self.long[usize::from(head.value)] = Long::default();
            self.free_long.push(head.value);
        }
    }

    /// Replaces the value of a record and its deadline where it lies; `false` if there is no place for the
    /// new ones.
    pub(super) fn overwrite(
        &mut self,
        place: Place,
        modified: u64,
        deadline: Option<Time>,
        value: &[u8],
    ) -> bool {
        let bytes = &mut self.pages[place.page()][place.offset()..];
        let head = head(bytes);
        if head.expires != deadline.is_some() {
            return false;
        }
        if head.is_long {
            let long = &mut self.long[usize::from(head.value)];
            if !head.is_key_apart && is_short(usize::from(head.key_bytes), value.len()) {
                return false;
            }
            long.value = overwritten(std::mem::take(&mut long.value), value);
        } else {
            let key_bytes = usize::from(head.key_bytes);
            if !is_short(key_bytes, value.len()) {
                return false;
            }
            let new = Head::new(key_bytes, value.len(), head.expires);
            let may_be_unused = FEW_UNITS.max(head.units / PARTS_UNUSED);
            if new.units > head.units || head.units - new.units > may_be_unused {
                return false;
            }
            bytes[head.key_at() + key_bytes..][..value.len()].copy_from_slice(value);
            if new.value != head.value {
                put_head(bytes, Head { units: head.units, ..new });
            }
        }
        put_history(bytes, modified, deadline);
        true
    }

    /// Replaces the deadline of a record where it lies; `false` if it has none so far, or is to have none.
    pub(super) fn set_deadline(&mut self, place: Place, modified: u64, deadline: Option<Time>) -> bool {
        let bytes = &mut self.pages[place.page()][place.offset()..];
        let is_possible = head(bytes).expires == deadline.is_some();
        if is_possible {
            put_history(bytes, modified, deadline);
        }
        is_possible
    }

    /// Appends to a long value; `false` if it is a short one.
    pub(super) fn append_to(&mut self, place: Place, modified: u64, tail: &[u8]) -> bool {
        let bytes = &mut self.pages[place.page()][place.offset()..];
        let head = head(bytes);
        if head.is_long {
            let long = &mut self.long[usize::from(head.value)];
            long.value = extended(std::mem::take(&mut long.value), tail);
            bytes[8..16].copy_from_slice(&modified.to_le_bytes());
        }
        head.is_long
    }

    fn bytes_at(&self, place: Place) -> &[u8] {
        &self.pages[place.page()][place.offset()..]
    }

    fn key_in<'a>(&'a self, bytes: &'a [u8], head: Head) -> &'a [u8] {
        if head.is_key_apart {
            &self.long[usize::from(head.value)].key
        } else {
            &bytes[head.key_at()..][..usize::from(head.key_bytes)]
        }
    }

    fn record_in<'a>(&'a self, bytes: &'a [u8]) -> Record<'a> {
        let head = head(bytes);
        let History { created, modified, deadline } = history(bytes, head);
        let value = if head.is_long {
            Value::Long(&self.long[usize::from(head.value)].value)
        } else {
            let begin = head.key_at() + usize::from(head.key_bytes);
            Value::Short(&bytes[begin..begin + usize::from(head.value)])
        };
        Record { created, modified, deadline, key: self.key_in(bytes, head), value }
    }
}

impl Place {
    fn new(page: usize, offset: usize) -> Place {
        let units = page * PAGE_UNITS + offset / UNIT_BYTES;
        Place(u16::try_from(units).expect("the number of pages is bounded"))
    }

    fn page(self) -> usize {
        usize::from(self.0) / PAGE_UNITS
    }

    fn offset(self) -> usize {
        usize::from(self.0) % PAGE_UNITS * UNIT_BYTES
    }
}

/// The head of the record that begins here.
fn head(bytes: &[u8]) -> Head {
    Head::of(u32::from_le_bytes(bytes[16..20].try_into().expect("it has 4 bytes")))
}

fn put_head(bytes: &mut [u8], head: Head) {
    bytes[16..20].copy_from_slice(&head.bits().to_le_bytes());
}

/// What the record that begins here has beside its key and value.
fn history(bytes: &[u8], head: Head) -> History {
    let number = |from: usize| u64::from_le_bytes(bytes[from..from + 8].try_into().expect("it has 8 bytes"));
    let deadline = head.expires.then(|| Time(number(HEAD_BYTES)));
    History { created: number(0), modified: number(8), deadline }
}

/// Notes that the record which begins here is changed. It has a deadline already if it is given one.
fn put_history(bytes: &mut [u8], modified: u64, deadline: Option<Time>) {
    bytes[8..16].copy_from_slice(&modified.to_le_bytes());
    if let Some(deadline) = deadline {
        bytes[HEAD_BYTES..HEAD_BYTES + DEADLINE_BYTES].copy_from_slice(&deadline.0.to_le_bytes());
    }
}

/// Copies `new`, into the memory of `old` if the lengths match and nothing else shares it.
fn overwritten(old: Bytes, new: &[u8]) -> Bytes {
    match old.try_into_mut() {
        Ok(mut place) if place.len() == new.len() => {
            place.copy_from_slice(new);
            place.freeze()
        }
        _ => Bytes::copy_from_slice(new),
    }
}

/// Appends `tail` to `old`, in its memory if that has room and nothing else shares it. To copy a value of a
/// megabyte into new memory took ten times as long as to hash it.
fn extended(old: Bytes, tail: &[u8]) -> Bytes {
    let joined_bytes = old.len() + tail.len();
    let mut joined = match old.try_into_mut() {
        Ok(place) if place.capacity() >= joined_bytes => place,
        old => {
            let old = old.map_or_else(|shared| shared, BytesMut::freeze);
            let mut copy = BytesMut::with_capacity(joined_bytes + joined_bytes / ROOM_TO_APPEND);
            copy.extend_from_slice(&old);
            copy
        }
    };
    joined.extend_from_slice(tail);
    joined.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cleared_heap_fills_the_pages_that_it_has() {
        let (mut heap, value) = (Heap::default(), [7; 400]);
        let fill = |heap: &mut Heap, count: u64| {
            for revision in 1..=count {
                heap.add(History { created: revision, modified: revision, deadline: None }, b"key", &value);
            }
        };
        fill(&mut heap, 100);
        let mut pages: Vec<_> = heap.pages.iter().map(Vec::as_ptr).collect();
        heap.clear();
        assert_eq!((heap.records().count(), heap.live_bytes()), (0, 0));
        fill(&mut heap, 50);
        assert_eq!(heap.records().count(), 50);
        assert!(heap.pages.iter().all(|page| pages.contains(&page.as_ptr())), "it has new pages");
        pages.retain(|page| heap.spare.iter().any(|spare| spare.as_ptr() == *page));
        assert!(!pages.is_empty(), "half of the records need half of the pages");
        heap.free_spare();
        assert!(heap.spare.is_empty());
    }
}
