//! The keys that a connection watches, with what it has seen of them.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::kv::{Operation, Reply, Seen, Store};

/// How many keys a connection may watch at once, and their bytes together. They become part of the
/// transaction's command in the log.
const MAX_KEYS: usize = 1024;
const MAX_KEYS_BYTES: usize = 256 << 10;

/// Watched keys. `WATCH` adds to them; what ends a transaction, or `UNWATCH`, clears them.
#[derive(Debug, Default)]
pub(super) struct Watched {
    keys: BTreeMap<Bytes, Seen>,
    bytes: usize,
}

impl Watched {
    /// Watches further keys from this state on; a key that is watched already stays as it was seen first.
    ///
    /// # Errors
    ///
    /// The answer if they would be too many: then none is added.
    pub(super) fn add(&mut self, keys: &[Bytes], store: &Store) -> Result<(), Reply> {
        let added_bytes: usize = keys.iter().map(Bytes::len).sum();
        if self.keys.len() + keys.len() > MAX_KEYS || self.bytes + added_bytes > MAX_KEYS_BYTES {
            return Err(Reply::error(&format!(
                "ERR too much is watched: at most {MAX_KEYS} keys, and {MAX_KEYS_BYTES} bytes of keys"
            )));
        }
        for key in keys {
            if !self.keys.contains_key(key) {
                // A copy: the key is a small part of all that was read with it.
                self.keys.insert(Bytes::copy_from_slice(key), store.seen(key));
                self.bytes += key.len();
            }
        }
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        *self = Watched::default();
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// How much memory they take.
    pub(super) fn size_bytes(&self) -> usize {
        self.bytes + self.keys.len() * 64
    }

    /// The condition under which the transaction is carried out, if there is one.
    pub(super) fn into_operation(self) -> Option<Operation> {
        (!self.keys.is_empty()).then(|| Operation::Unchanged { watched: self.keys.into_iter().collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stays_as_it_was_seen_first_and_not_too_many_are_watched() {
        let (mut store, mut watched) = (Store::default(), Watched::default());
        let key = Bytes::from_static(b"k");
        watched.add(&[key.clone(), key.clone()], &store).expect("they are few");
        store.execute(&Operation::set(key.clone(), key.clone()));
        watched.add(std::slice::from_ref(&key), &store).expect("they are few");
        let many: Vec<Bytes> = (0..MAX_KEYS).map(|number| Bytes::from(number.to_string())).collect();
        assert!(watched.add(&many, &store).is_err(), "too many keys");
        let long = Bytes::from(vec![b'k'; MAX_KEYS_BYTES]);
        assert!(watched.add(&[long], &store).is_err(), "too many bytes");
        assert_eq!(watched.size_bytes(), 65);
        assert_eq!(
            watched.into_operation(),
            Some(Operation::Unchanged { watched: vec![(key, Seen::Missing(0))] })
        );
    }
}
