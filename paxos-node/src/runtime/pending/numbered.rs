//! A queue whose items are numbered as they come, and leave in any order.
//!
//! Most leave in the order in which they came. So each is found by its number without a search. In return an
//! item that stays long keeps the places of those behind it, so a bound has to be put on [`Numbered::span`].

use std::collections::VecDeque;

/// Items by consecutive numbers, from 1 on.
#[derive(Debug)]
pub(crate) struct Numbered<T> {
    /// The number of the first place, which is never empty.
    first: u64,
    places: VecDeque<Option<T>>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Numbered { first: 1, places: VecDeque::new() }
    }
}

impl<T> Numbered<T> {
    /// Takes one more item, and gives it the next number.
    pub(crate) fn push(&mut self, item: T) -> u64 {
        self.places.push_back(Some(item));
        self.first + (self.places.len() - 1) as u64
    }

    /// The number of the oldest item; that of the next one, if there is none.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// How many items have come since the oldest, itself included: they take memory.
    pub(crate) fn span(&self) -> usize {
        self.places.len()
    }

    /// All items, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        (self.first..).zip(&self.places).filter_map(|(number, place)| Some((number, place.as_ref()?)))
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let position = self.position(number)?;
        self.places.get_mut(position)?.as_mut()
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<T> {
        let position = self.position(number)?;
        let removed = self.places.get_mut(position)?.take();
        while let Some(None) = self.places.front() {
            self.places.pop_front();
            self.first += 1;
        }
        removed
    }

    /// Removes the oldest item if `condition` holds for it.
    pub(crate) fn pop_first_if(&mut self, condition: impl FnOnce(&T) -> bool) -> Option<T> {
        let first = self.places.front()?.as_ref()?;
        if condition(first) { self.remove(self.first) } else { None }
    }

    fn position(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn items_are_found_by_their_numbers_whatever_left_before(changes: Vec<Option<u8>>) {
            let (mut numbered, mut model) = (Numbered::default(), BTreeMap::new());
            let mut next = 1;
            for change in changes {
                if let Some(number) = change {
                    let number = u64::from(number);
                    prop_assert_eq!(numbered.remove(number), model.remove(&number));
                } else {
                    prop_assert_eq!(numbered.push(next), next);
                    model.insert(next, next);
                    next += 1;
                }
                let first = model.first_key_value().map_or(next, |(first, _)| *first);
                prop_assert_eq!(numbered.first(), first);
                prop_assert_eq!(numbered.span() as u64, next - first);
                prop_assert!(numbered.iter().eq(model.iter().map(|(number, item)| (*number, item))));
                for number in 0..=next {
                    prop_assert_eq!(numbered.get_mut(number), model.get_mut(&number));
                }
            }
        }
    }

    #[test]
    fn the_oldest_goes_first_and_only_if_it_may() {
        let mut numbered = Numbered::default();
        for (number, item) in (1..).zip(["one", "two", "three"]) {
            assert_eq!(numbered.push(item), number);
        }
        assert_eq!(numbered.remove(2), Some("two"));
        assert_eq!(numbered.pop_first_if(|item| *item == "three"), None);
        assert_eq!(numbered.pop_first_if(|item| *item == "one"), Some("one"));
        assert_eq!(
            (numbered.first(), numbered.span()),
            (3, 1),
            "what left in between takes no place any more"
        );
        assert_eq!(numbered.pop_first_if(|_| true), Some("three"));
        assert_eq!(numbered.pop_first_if(|_| true), None);
        assert_eq!(numbered.push("four"), 4);
    }
}
