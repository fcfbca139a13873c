//! Patterns of keys, as Redis has them: `*`, `?`, `[a-c]`, `[^a]` and `\` before what is meant literally.
//!
//! A pattern is cut at its stars into segments. The first must stand at the beginning of the text and the
//! last at its end; those between are searched from left to right, each behind the one before it. So each
//! segment is searched once, and a search for plain bytes takes time in proportion to the text. Only a
//! segment with `?` or sets is tried at each place, and [`Pattern::work`] is an upper bound of that work.

use memchr::memmem;

use super::work::{BYTE_MATCHED, BYTE_PARSED, SEGMENT_SEARCHED};

/// A pattern that has been read.
#[derive(Debug)]
pub(crate) struct Pattern {
    first: Segment,
    /// What follows the first star; `None` if there is no star.
    after_star: Option<AfterStar>,
    sets: Vec<Set>,
}

/// What follows the first star of a pattern.
#[derive(Debug, Default)]
struct AfterStar {
    /// The segments between two stars, without empty ones.
    middle: Vec<Segment>,
    last: Segment,
}

/// What stands between two stars.
#[derive(Debug)]
enum Segment {
    Bytes(Vec<u8>),
    Mixed(Vec<Element>),
}

/// What one byte of the text is compared with.
#[derive(Clone, Copy, Debug)]
enum Element {
    Byte(u8),
    Any,
    /// A set, by its place in the pattern's list.
    Set(usize),
}

/// A set of bytes, a bit for each.
#[derive(Clone, Copy, Default, Debug)]
struct Set([u64; 4]);

impl Pattern {
    pub(crate) fn new(pattern: &[u8]) -> Pattern {
        let mut sets = Vec::new();
        let (first, mut rest) = Segment::parse(pattern, &mut sets);
        let mut after_star = None;
        while let [b'*', after @ ..] = rest {
            let (segment, after) = Segment::parse(after, &mut sets);
            let AfterStar { middle, last } = after_star.get_or_insert_with(AfterStar::default);
            let earlier = std::mem::replace(last, segment);
            if earlier.len() > 0 {
                middle.push(earlier);
            }
            rest = after;
        }
        Pattern { first, after_star, sets }
    }

    /// The work of reading a pattern, at most.
    pub(super) fn parse_work(pattern: &[u8]) -> u64 {
        BYTE_PARSED * pattern.len() as u64
    }

    /// Whether the whole text matches.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let Some(AfterStar { middle, last }) = &self.after_star else {
            return self.first.len() == text.len() && self.first.stands_at(0, text, &self.sets);
        };
        if self.shortest_text() > text.len() {
            return false;
        }
        let end = text.len() - last.len();
        if !self.first.stands_at(0, text, &self.sets) || !last.stands_at(end, text, &self.sets) {
            return false;
        }
        let mut rest = &text[self.first.len()..end];
        middle.iter().all(|segment| match segment.find_in(rest, &self.sets) {
            Some(at) => {
                rest = &rest[at + segment.len()..];
                true
            }
            None => false,
        })
    }

    /// The work of [`matches`](Pattern::matches) for a text of this length, at most.
    pub(crate) fn work(&self, text_bytes: usize) -> u64 {
        let Some(AfterStar { middle, .. }) = &self.after_star else {
            return if self.first.len() == text_bytes { BYTE_MATCHED * text_bytes as u64 } else { 0 };
        };
        if self.shortest_text() > text_bytes {
            return 0;
        }
        let tried = |segment: &Segment| match segment {
            Segment::Bytes(_) => 1,
            Segment::Mixed(elements) => elements.len() as u64,
        };
        // Each segment searches only the text that those before it left over, so the most expensive one
        // bounds all.
        let longest = middle.iter().map(tried).max().unwrap_or(0);
        let bytes = (1 + longest).saturating_mul(BYTE_MATCHED * text_bytes as u64);
        bytes.saturating_add(SEGMENT_SEARCHED * middle.len() as u64)
    }

    /// The length of the shortest text that may match.
    fn shortest_text(&self) -> usize {
        let after = self.after_star.as_ref().map_or(0, |AfterStar { middle, last }| {
            middle.iter().map(Segment::len).sum::<usize>() + last.len()
        });
        self.first.len() + after
    }
}

impl Default for Segment {
    fn default() -> Self {
        Segment::Bytes(Vec::new())
    }
}

impl Segment {
    /// Reads up to the next star; also returns what follows, which begins with that star or is empty.
    fn parse<'a>(mut pattern: &'a [u8], sets: &mut Vec<Set>) -> (Segment, &'a [u8]) {
        let mut segment = Segment::default();
        loop {
            let (element, after) = match pattern {
                [] | [b'*', ..] => return (segment, pattern),
                [b'?', after @ ..] => (Element::Any, after),
                [b'[', after @ ..] => {
                    let (set, after) = Set::parse(after);
                    sets.push(set);
                    (Element::Set(sets.len() - 1), after)
                }
                [b'\\', literal, after @ ..] | [literal, after @ ..] => (Element::Byte(*literal), after),
            };
            segment.push(element);
            pattern = after;
        }
    }

    fn push(&mut self, element: Element) {
        match (&mut *self, element) {
            (Segment::Bytes(bytes), Element::Byte(byte)) => bytes.push(byte),
            (Segment::Bytes(bytes), element) => {
                let bytes = bytes.iter().map(|byte| Element::Byte(*byte));
                *self = Segment::Mixed(bytes.chain([element]).collect());
            }
            (Segment::Mixed(elements), element) => elements.push(element),
        }
    }

    /// How many bytes of text it matches.
    fn len(&self) -> usize {
        match self {
            Segment::Bytes(bytes) => bytes.len(),
            Segment::Mixed(elements) => elements.len(),
        }
    }

    fn stands_at(&self, at: usize, text: &[u8], sets: &[Set]) -> bool {
        let Some(text) = text.get(at..at + self.len()) else { return false };
        match self {
            Segment::Bytes(bytes) => bytes == text,
            Segment::Mixed(elements) => elements.iter().zip(text).all(|(element, byte)| match element {
                Element::Byte(expected) => expected == byte,
                Element::Any => true,
                Element::Set(set) => sets[*set].has(*byte),
            }),
        }
    }

    /// The first place at which it stands in `text`.
    fn find_in(&self, text: &[u8], sets: &[Set]) -> Option<usize> {
        match self {
            Segment::Bytes(bytes) => memmem::find(text, bytes),
            Segment::Mixed(_) => {
                let last = text.len().checked_sub(self.len())?;
                (0..=last).find(|at| self.stands_at(*at, text, sets))
            }
        }
    }
}

impl Set {
    /// Reads what follows an opening bracket; also returns what follows the one that closes it (nothing, if
    /// none does).
    fn parse(pattern: &[u8]) -> (Set, &[u8]) {
        let (is_negated, mut rest) = match pattern {
            [b'^', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let mut set = Set::default();
        let rest = loop {
            rest = match rest {
                [] => break rest,
                [b']', after @ ..] => break after,
                [b'\\', literal, after @ ..] => {
                    set.add(*literal);
                    after
                }
                [low, b'-', high, after @ ..] if *high != b']' => {
                    (*low.min(high)..=*low.max(high)).for_each(|byte| set.add(byte));
                    after
                }
                [literal, after @ ..] => {
                    set.add(*literal);
                    after
                }
            };
        };
        (if is_negated { Set(set.0.map(|bits| !bits)) } else { set }, rest)
    }

    fn add(&mut self, byte: u8) {
        self.0[usize::from(byte / 64)] |= 1 << (byte % 64);
    }

    fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte / 64)] >> (byte % 64) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;
    use proptest::prelude::*;

    fn matches(pattern: &[u8], text: &[u8]) -> bool {
        Pattern::new(pattern).matches(text)
    }

    /// A slow matcher that follows the definition.
    fn matches_plainly(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', after @ ..] => (0..=text.len()).any(|at| matches_plainly(after, &text[at..])),
            _ => text.split_first().is_some_and(|(byte, text_after)| {
                let (is_in, after) = match_one(pattern, *byte);
                is_in && matches_plainly(after, text_after)
            }),
        }
    }

    /// Whether the first element of a pattern, which is no star, matches the byte, and what follows that
    /// element.
    fn match_one(pattern: &[u8], byte: u8) -> (bool, &[u8]) {
        match pattern {
            [b'?', after @ ..] => (true, after),
            [b'[', b'^', set @ ..] => {
                let (is_in, after) = match_set(set, byte);
                (!is_in, after)
            }
            [b'[', set @ ..] => match_set(set, byte),
            [b'\\', literal, after @ ..] | [literal, after @ ..] => (*literal == byte, after),
            [] => (false, pattern),
        }
    }

    fn match_set(mut set: &[u8], byte: u8) -> (bool, &[u8]) {
        let mut is_in = false;
        loop {
            (is_in, set) = match set {
                [] => return (is_in, set),
                [b']', after @ ..] => return (is_in, after),
                [b'\\', literal, after @ ..] => (is_in || *literal == byte, after),
                [low, b'-', high, after @ ..] if *high != b']' => {
                    (is_in || (*low.min(high)..=*low.max(high)).contains(&byte), after)
                }
                [literal, after @ ..] => (is_in || *literal == byte, after),
            }
        }
    }

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("*b*b*", "abab", true),
            ("h?llo", "hello", true),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("[a", "a", true),
            ("a", "ab", false),
            ("ab", "a", false),
            ("a*a", "a", false),
            ("*ab*b", "ab", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} against {text}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = "a*".repeat(200) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(5000).as_bytes()));
    }

    #[test]
    fn plain_bytes_are_searched_in_time_proportional_to_the_text() {
        let key = "a".repeat(65_000);
        for pattern in
            ["*".to_owned() + &"a".repeat(16_384) + "b", "*".to_owned() + &"a".repeat(16_384) + "b*"]
        {
            let pattern = Pattern::new(pattern.as_bytes());
            assert!(pattern.work(key.len()) < 1_000_000, "{}", pattern.work(key.len()));
            assert!(!pattern.matches(key.as_bytes()));
        }
    }

    #[test]
    fn what_must_be_tried_at_each_place_is_counted() {
        let pattern = Pattern::new(("*".to_owned() + &"?a".repeat(8192) + "b*").as_bytes());
        assert!(pattern.work(65_000) > 100_000_000, "{}", pattern.work(65_000));
        assert_eq!(pattern.work(1000), 0, "no text of this length can match");
    }

    proptest! {
        #[test]
        fn patterns_match_by_their_definition(
            pattern in prop::collection::vec(prop::sample::select(b"ab*?[]^-\\".to_vec()), 0..14),
            text in prop::collection::vec(prop::sample::select(b"ab*[]^-\\c".to_vec()), 0..12),
        ) {
            prop_assert_eq!(matches(&pattern, &text), matches_plainly(&pattern, &text));
        }

        #[test]
        fn segments_are_found_by_their_definition(
            pattern in "(\\*?[ab?]{0,3}){0,5}\\*?",
            text in "[ab]{0,12}",
        ) {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern, text), matches_plainly(pattern, text));
        }

        #[test]
        fn any_bytes_are_a_pattern(pattern: Vec<u8>, text: Vec<u8>) {
            let _ = matches(&pattern, &text);
        }
    }
}
