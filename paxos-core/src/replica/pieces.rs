//! Fetching something long from a peer in pieces: several are asked for ahead of time, and they are handed
//! out in order.
//!
//! What is fetched is a range of positions: the bytes of a snapshot, or slots of the log. Each piece is asked
//! for by itself, so the peer keeps no state, and a piece that is lost is asked for again by itself.
//!
//! How many pieces may be under way begins with one and grows by one with each that comes, up to the window.
//! If nothing comes any more, all that is under way is taken for lost and it begins with one again. So a link
//! too slow for the window is not filled with questions that were asked twice.

use std::collections::BTreeMap;

use crate::config::ProtocolSettings;
use crate::mutant::{Mutant, mutated};

/// However short pieces are, no more than this many may be under way or wait to be stored.
const MAX_WINDOW_PIECES: usize = 256;
/// Slow answers prolong the patience up to this many times.
const MAX_PROLONGATION: u64 = 8;

/// A range of positions that is being fetched, piece by piece.
#[derive(Debug)]
pub(super) struct Pieces<T> {
    /// Everything before was handed out.
    handed: u64,
    /// Nothing from here on has been asked for.
    next: u64,
    /// Pieces that were asked for: where each begins, and where it ends.
    under_way: BTreeMap<u64, u64>,
    /// Pieces to be asked for again.
    lost: BTreeMap<u64, u64>,
    /// Pieces that have come and were not handed out, with their ends.
    arrived: BTreeMap<u64, (u64, T)>,
    /// How many of those handed out are not stored yet.
    storing: usize,
    /// How many may be under way.
    at_once: usize,
    /// When the first of those under way was asked for, or when one came after that.
    waits_since_ticks: u64,
    /// The same, but asking again does not change it.
    silent_since_ticks: u64,
    /// The longest silence that has ended.
    longest_silence_ticks: u64,
    /// How often in a row what was under way was taken for lost.
    silences: u32,
}

/// How many pieces of this length may be under way or wait to be stored.
pub(super) fn window_pieces(settings: &ProtocolSettings, piece_bytes: u64) -> usize {
    let piece_bytes = usize::try_from(piece_bytes).unwrap_or(usize::MAX).max(1);
    (settings.catch_up_window_bytes / piece_bytes).clamp(1, MAX_WINDOW_PIECES)
}

impl<T> Pieces<T> {
    /// All from `first` on, of which a first piece of unknown length is asked for.
    pub(super) fn ask_from(first: u64, now_ticks: u64) -> Pieces<T> {
        Pieces {
            handed: first,
            next: first + 1,
            under_way: BTreeMap::from([(first, first + 1)]),
            lost: BTreeMap::new(),
            arrived: BTreeMap::new(),
            storing: 0,
            at_once: 1,
            waits_since_ticks: now_ticks,
            silent_since_ticks: now_ticks,
            longest_silence_ticks: 0,
            silences: 0,
        }
    }

    /// Begins anew with a first piece that ends at `end` and is about to be taken in.
    pub(super) fn restart(&mut self, first: u64, end: u64) {
        (self.handed, self.next, self.storing) = (first, end, 0);
        self.lost.clear();
        self.arrived.clear();
        self.under_way = BTreeMap::from([(first, end)]);
    }

    /// The piece to ask for now: one that was lost, or the next `length` positions as far as `end`. `None` if
    /// as many as may be are under way, or nothing is left.
    pub(super) fn next_to_ask(
        &mut self,
        end: u64,
        length: u64,
        window: usize,
        now_ticks: u64,
    ) -> Option<(u64, u64)> {
        if self.under_way.len() >= self.at_once.min(window) {
            return None;
        }
        let has_room = self.under_way.len() + self.arrived.len() + self.storing < window;
        // All that has arrived waits for the piece at `handed`.
        let is_lost = self.lost.keys().next().is_some_and(|&first| has_room || first == self.handed);
        let lost = if is_lost { self.lost.pop_first() } else { None };
        let (first, until) = match lost {
            Some(lost) => lost,
            None if has_room && self.next < end => {
                let first = self.next;
                self.next = first.saturating_add(length.max(1)).min(end);
                (first, self.next)
            }
            None => return None,
        };
        if self.under_way.is_empty() {
            self.waits_since_ticks = now_ticks;
        }
        self.under_way.insert(first, until);
        Some((first, until))
    }

    /// Where a piece that begins at `first` may end at most; `None` if no such piece was asked for. The last
    /// one asked for may be longer than expected.
    pub(super) fn wanted(&self, first: u64) -> Option<u64> {
        let end = *self.under_way.get(&first).or_else(|| self.lost.get(&first))?;
        Some(if end == self.next { u64::MAX } else { end })
    }

    /// Takes in a piece that is [wanted](Pieces::wanted). If it is shorter than what was asked for, the rest
    /// will be asked for by itself.
    pub(super) fn take_in(&mut self, first: u64, end: u64, piece: T, now_ticks: u64) {
        let asked_end = self.under_way.remove(&first).or_else(|| self.lost.remove(&first));
        let asked_end = asked_end.expect("only a piece that was asked for is taken in");
        if end < asked_end {
            self.lose(end, asked_end);
        }
        self.next = self.next.max(end);
        self.arrived.insert(first, (end, piece));
        self.at_once = self.at_once.saturating_add(1);
        self.silences = 0;
        let silence_ticks = now_ticks.saturating_sub(self.silent_since_ticks);
        self.longest_silence_ticks = self.longest_silence_ticks.max(silence_ticks);
        self.hear(now_ticks);
    }

    /// The silence has ended, or does not count.
    pub(super) fn hear(&mut self, now_ticks: u64) {
        (self.waits_since_ticks, self.silent_since_ticks) = (now_ticks, now_ticks);
    }

    /// Hands out the next piece in order, with where it begins.
    pub(super) fn pop(&mut self) -> Option<(u64, T)> {
        let next = self.arrived.first_entry().filter(|piece| is_in_order(*piece.key(), self.handed))?;
        let (first, (end, piece)) = next.remove_entry();
        self.handed = self.handed.max(end);
        self.storing += 1;
        Some((first, piece))
    }

    /// A piece that was handed out is stored.
    pub(super) fn on_stored(&mut self) {
        self.storing = self.storing.saturating_sub(1);
    }

    /// How many of the pieces handed out are not stored yet.
    pub(super) fn storing(&self) -> usize {
        self.storing
    }

    /// Everything before was handed out.
    pub(super) fn handed(&self) -> u64 {
        self.handed
    }

    /// What lies before `position` is not needed any more.
    pub(super) fn forget_before(&mut self, position: u64) {
        if position <= self.handed {
            return;
        }
        self.handed = position;
        self.next = self.next.max(position);
        self.under_way.retain(|_, end| *end > position);
        self.arrived.retain(|_, (end, _)| *end > position);
        for (first, end) in std::mem::take(&mut self.lost) {
            self.lose(first, end);
        }
    }

    /// Whether an answer is awaited, or something has to be asked for again.
    pub(super) fn is_open(&self) -> bool {
        !(self.under_way.is_empty() && self.lost.is_empty())
    }

    /// Whether nothing has come for so long that what is under way must be lost. `patience_ticks` grows if
    /// answers have taken long before.
    pub(super) fn is_silent(&self, now_ticks: u64, patience_ticks: u64) -> bool {
        let most_ticks = patience_ticks.saturating_mul(MAX_PROLONGATION);
        let patience_ticks = (2 * self.longest_silence_ticks).clamp(patience_ticks, most_ticks);
        !self.under_way.is_empty() && now_ticks >= self.waits_since_ticks.saturating_add(patience_ticks)
    }

    /// Takes all that is under way for lost. Returns how often in a row that has happened.
    pub(super) fn lose_all(&mut self) -> u32 {
        for (first, end) in std::mem::take(&mut self.under_way) {
            self.lose(first, end);
        }
        self.at_once = 1;
        self.silences += 1;
        self.silences
    }

    /// Has a piece asked for again, as far as it is still needed.
    fn lose(&mut self, first: u64, end: u64) {
        if end > self.handed {
            self.lost.insert(first.max(self.handed), end);
        }
    }
}

/// Whether a piece that begins at `first` may be handed out after everything before `handed`.
fn is_in_order(first: u64, handed: u64) -> bool {
    first <= handed || mutated(Mutant::PiecesAsTheyCome)
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = 100;

    /// Asks for as much as may be under way.
    fn ask(pieces: &mut Pieces<u64>, window: usize, now_ticks: u64) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| pieces.next_to_ask(END, 10, window, now_ticks)).collect()
    }

    fn come(pieces: &mut Pieces<u64>, first: u64, now_ticks: u64) {
        assert!(pieces.wanted(first).is_some(), "{first} was asked for");
        pieces.take_in(first, first + 10, first, now_ticks);
    }

    /// Of 100 positions, pieces of ten: two have come, and as many as the window allows are under way.
    fn begun(window: usize) -> Pieces<u64> {
        let mut pieces = Pieces::ask_from(0, 0);
        come(&mut pieces, 0, 0);
        assert_eq!(ask(&mut pieces, window, 0), [(10, 20), (20, 30)]);
        come(&mut pieces, 10, 0);
        assert_eq!(ask(&mut pieces, window, 0), [(30, 40), (40, 50)]);
        pieces
    }

    fn popped(pieces: &mut Pieces<u64>) -> Vec<u64> {
        std::iter::from_fn(|| pieces.pop().map(|(first, _)| first)).collect()
    }

    #[test]
    fn more_are_asked_for_with_each_that_comes_up_to_the_window() {
        let mut pieces = begun(9);
        assert_eq!(popped(&mut pieces), [0, 10]);
        let mut pieces = begun(5);
        come(&mut pieces, 20, 0);
        assert_eq!(ask(&mut pieces, 5, 0), [], "two are under way, and three were not stored yet");
        popped(&mut pieces);
        pieces.on_stored();
        assert_eq!(ask(&mut pieces, 5, 0), [(50, 60)]);
    }

    #[test]
    fn pieces_are_handed_out_in_order() {
        let mut pieces = begun(9);
        come(&mut pieces, 40, 0);
        assert_eq!(popped(&mut pieces), [0, 10]);
        assert_eq!(pieces.wanted(40), None, "it has come");
        come(&mut pieces, 30, 0);
        assert_eq!(popped(&mut pieces), [], "the one at 20 is missing");
        come(&mut pieces, 20, 0);
        assert_eq!(popped(&mut pieces), [20, 30, 40]);
        assert_eq!(pieces.handed(), 50);
    }

    #[test]
    fn after_a_silence_each_missing_piece_is_asked_for_again_beginning_with_one() {
        let mut pieces = begun(9);
        come(&mut pieces, 30, 5);
        assert!(!pieces.is_silent(24, 20) && pieces.is_silent(25, 20));
        assert_eq!(pieces.lose_all(), 1);
        assert_eq!(ask(&mut pieces, 9, 25), [(20, 30)]);
        assert!(!pieces.is_silent(44, 20) && pieces.is_silent(45, 20));
        assert_eq!(pieces.lose_all(), 2);
        assert_eq!(ask(&mut pieces, 9, 45), [(20, 30)]);
        come(&mut pieces, 20, 50);
        assert_eq!(ask(&mut pieces, 9, 50), [(40, 50), (50, 60)]);
        assert_eq!(popped(&mut pieces), [0, 10, 20, 30]);
        assert!(!pieces.is_silent(139, 20), "an answer has taken 45 ticks");
        assert!(pieces.is_silent(140, 20));
        assert_eq!(pieces.lose_all(), 1);
    }

    #[test]
    fn the_patience_is_prolonged_only_so_far() {
        let mut pieces = begun(9);
        come(&mut pieces, 20, 1000);
        assert!(!pieces.is_silent(1159, 20) && pieces.is_silent(1160, 20));
    }

    #[test]
    fn a_window_full_of_what_came_early_does_not_keep_the_missing_piece_from_being_asked_for() {
        let mut pieces = begun(5);
        popped(&mut pieces);
        pieces.on_stored();
        pieces.on_stored();
        assert_eq!(ask(&mut pieces, 5, 0), []);
        pieces.lose_all();
        for first in [30, 40] {
            come(&mut pieces, first, 1);
        }
        assert_eq!(ask(&mut pieces, 2, 1), [(20, 30)]);
        assert_eq!(ask(&mut pieces, 2, 1), []);
    }

    #[test]
    fn of_a_piece_that_comes_cut_short_the_rest_is_asked_for() {
        let mut pieces = begun(9);
        pieces.take_in(20, 24, 20, 0);
        assert_eq!(ask(&mut pieces, 9, 0), [(24, 30), (50, 60)]);
        assert_eq!(popped(&mut pieces), [0, 10, 20]);
        come(&mut pieces, 30, 0);
        assert_eq!(popped(&mut pieces), []);
        pieces.take_in(24, 30, 24, 0);
        assert_eq!(popped(&mut pieces), [24, 30]);
    }

    #[test]
    fn only_the_last_piece_may_be_longer_than_what_was_asked_for() {
        let mut pieces: Pieces<u64> = Pieces::ask_from(7, 0);
        assert_eq!((pieces.wanted(7), pieces.wanted(8)), (Some(u64::MAX), None));
        pieces.take_in(7, 27, 7, 0);
        assert_eq!(ask(&mut pieces, 9, 0), [(27, 37), (37, 47)]);
        assert_eq!((pieces.wanted(27), pieces.wanted(37)), (Some(37), Some(u64::MAX)));
    }

    #[test]
    fn what_is_known_by_other_means_is_forgotten() {
        let mut pieces = begun(9);
        come(&mut pieces, 40, 0);
        pieces.lose_all();
        pieces.forget_before(25);
        assert_eq!(popped(&mut pieces), []);
        assert_eq!(ask(&mut pieces, 9, 0), [(25, 30)], "the rest of a lost piece");
        pieces.forget_before(45);
        assert_eq!(popped(&mut pieces), [40], "its end is not known");
        assert!(!pieces.is_open());
        pieces.forget_before(60);
        assert_eq!(ask(&mut pieces, 9, 0), [(60, 70)]);
        pieces.forget_before(65);
        pieces.lose_all();
        assert_eq!(ask(&mut pieces, 9, 0), [(65, 70)], "the rest of one that was under way");
    }

    #[test]
    fn the_window_holds_one_piece_at_least_and_not_ever_more() {
        let window = |bytes, piece_bytes| {
            let settings =
                ProtocolSettings::default().with(|settings| settings.catch_up_window_bytes = bytes);
            window_pieces(&settings, piece_bytes)
        };
        assert_eq!((window(0, 100), window(199, 100), window(200, 100)), (1, 1, 2));
        assert_eq!((window(1 << 30, 1), window(10, 0)), (256, 10));
    }
}
