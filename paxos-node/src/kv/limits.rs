//! Limiters: numbers that are counted within a time, as the scripts of rate limiters do it.

use bytes::Bytes;
use paxos_core::Time;

use super::execute::parse_integer;
use super::operation::{CountForm, DeadlineCondition, DeadlineForm, Expiry, WindowRequest};
use super::records::Value;
use super::store::NewDeadline;
use super::view::View;
use super::work::{self, CHANGE, LOOKUP, TooMuch, Work};
use super::{Operation, Reply, Store};

impl View<'_> {
    /// A number, and how many milliseconds are left of its window, as [`DeadlineForm::LeftMs`] tells it.
    pub(super) fn counted(&self, key: &[u8], work: &mut Work) -> Result<Reply, TooMuch> {
        let answered = work::answered(self.value_bytes(key).unwrap_or(0));
        work.take_for_one_key(work::operation(2, LOOKUP) + answered)?;
        let number = self.get(key).map_or(Reply::Nil, Reply::Bulk);
        Ok(Reply::Array(vec![number, self.tell_deadline(key, DeadlineForm::LeftMs)]))
    }

    /// A number of a window, and how many milliseconds are left until it is forgotten; 0 if there is none.
    fn number_and_left_ms(&self, key: &[u8]) -> (i64, u64) {
        let number = self.look(key, |value| value.as_ref().map(Value::as_bytes).and_then(parse_integer));
        let left_ms = self.deadline(key).flatten().map_or(0, |deadline| self.left_ms(deadline));
        (number.unwrap_or(0), left_ms)
    }
}

impl Store {
    /// Carries out an operation of a limiter that writes.
    pub(super) fn carry_out_limiting(
        &mut self,
        operation: &Operation,
        work: &mut Work,
    ) -> Result<Reply, TooMuch> {
        match operation {
            Operation::Count { key, by, window_ms, form } => {
                self.count_in_window((key, *by), *window_ms, *form, work)
            }
            Operation::SlideWindow { previous, current, window_ms, request } => {
                self.slide_window([previous, current], *window_ms, *request, work)
            }
            other => unreachable!("{other:?} is no writing operation of a limiter"),
        }
    }

    fn count_in_window(
        &mut self,
        (key, by): (&Bytes, i64),
        window_ms: i64,
        form: CountForm,
        work: &mut Work,
    ) -> Result<Reply, TooMuch> {
        let old_bytes = self.stored_bytes(key).unwrap_or(0);
        work.take_for_one_key(work::operation(1, 2 * CHANGE) + work::freed(old_bytes))?;
        let has_window = self.now().deadline(key).flatten().is_some();
        let sum = if has_window || form != CountForm::AnewAndLeft {
            match self.add(key, by) {
                Reply::Integer(sum) => sum,
                error => return Ok(error),
            }
        } else {
            self.put(key, by.to_string().as_bytes(), NewDeadline::Set(None));
            by
        };
        let begins = if form == CountForm::Sum { sum == by } else { !has_window };
        if begins {
            self.expire(key, Expiry::AfterMs(window_ms), DeadlineCondition::default());
        }
        if form == CountForm::Sum {
            return Ok(Reply::Integer(sum));
        }
        let left = self.now().tell_deadline(key, DeadlineForm::LeftMs);
        Ok(Reply::Array(vec![Reply::Integer(sum), left]))
    }

    /// Counts in the present window, if what was counted in it and, by the part of the window that reaches
    /// back into it, in the one before, leaves room. Answers 1 if so, else nil; without a request what is
    /// counted, and the milliseconds until that is forgotten.
    fn slide_window(
        &mut self,
        [previous, current]: [&Bytes; 2],
        window_ms: i64,
        request: Option<WindowRequest>,
        work: &mut Work,
    ) -> Result<Reply, TooMuch> {
        let bytes = [previous, current].map(|key| self.stored_bytes(key).unwrap_or(0));
        let moved = bytes.map(|bytes| work::freed(bytes) + work::copied(bytes) + work::answered(bytes));
        work.take_for_one_key(work::operation(2, 2 * CHANGE) + moved[0] + moved[1])?;
        if request.is_some_and(|request| request.amount > request.limit) {
            return Ok(Reply::Nil);
        }
        let window = u64::try_from(window_ms).unwrap_or(0);
        self.shift(previous, current, window);
        let Some(WindowRequest { limit, amount }) = request else {
            let mut told = Vec::with_capacity(4);
            for key in [previous, current] {
                told.push(self.get(key).map_or(Reply::Nil, Reply::Bulk));
                told.push(self.now().tell_deadline(key, DeadlineForm::LeftMs));
            }
            return Ok(Reply::Array(told));
        };
        let now = self.now();
        let ((before, before_left_ms), (counted, _)) =
            (now.number_and_left_ms(previous), now.number_and_left_ms(current));
        let reaching = i128::from(before) * i128::from(before_left_ms) / i128::from(window.max(1));
        if reaching + i128::from(counted) + i128::from(amount) > i128::from(limit) {
            return Ok(Reply::Nil);
        }
        if self.now().has(current) {
            if let error @ Reply::Error(_) = self.add(current, amount) {
                return Ok(error);
            }
        } else {
            let expiry = Expiry::AfterMs(window_ms.saturating_mul(2));
            self.set_expiring((current, &Bytes::from(amount.to_string())), None, false, expiry);
        }
        Ok(Reply::Integer(1))
    }

    /// A window is kept for twice its time. In the second half it becomes the one before, and the next
    /// begins.
    fn shift(&mut self, previous: &Bytes, current: &Bytes, window_ms: u64) {
        let now = self.now();
        let Some(deadline) = now.deadline(current).flatten() else { return };
        if now.left_ms(deadline) >= window_ms {
            return;
        }
        let Some(counted) = now.get(current) else { return };
        self.put(previous, &counted, NewDeadline::Set(Some(deadline)));
        let next = Time(deadline.0.saturating_add(window_ms));
        self.put(current, b"0", NewDeadline::Set(Some(next)));
    }
}

#[cfg(test)]
mod tests {
    use paxos_core::Slot;

    use super::super::testing::{bytes, set};
    use super::*;
    use crate::state_machine::{Applying, StateMachine};

    const AT: u64 = 1_000_000;

    fn apply(store: &mut Store, after_ms: u64, operation: Operation) -> Reply {
        let at = Applying::new(Slot(1), Time(AT + after_ms));
        let replies = Reply::decode_all(store.apply(at, &Operation::command(&[operation])));
        replies.expect("well formed").remove(0)
    }

    fn count(form: CountForm) -> Operation {
        Operation::Count { key: bytes("k"), by: 2, window_ms: 100, form }
    }

    fn sum_and_left(sum: i64, left_ms: i64) -> Reply {
        Reply::Array(vec![Reply::Integer(sum), Reply::Integer(left_ms)])
    }

    #[test]
    fn a_window_begins_with_the_first_count_and_ends_by_itself() {
        let mut store = Store::default();
        for begins in [0, 100] {
            assert_eq!(apply(&mut store, begins, count(CountForm::SumAndLeft)), sum_and_left(2, 100));
            assert_eq!(apply(&mut store, begins + 40, count(CountForm::SumAndLeft)), sum_and_left(4, 60));
            assert_eq!(apply(&mut store, begins + 40, count(CountForm::Sum)), Reply::Integer(6));
            assert_eq!(apply(&mut store, begins + 50, count(CountForm::AnewAndLeft)), sum_and_left(8, 50));
            let told = apply(&mut store, begins + 60, Operation::Counted { key: bytes("k") });
            assert_eq!(told, Reply::Array(vec![Reply::Bulk(bytes("8")), Reply::Integer(40)]));
        }
        let told = apply(&mut store, 200, Operation::Counted { key: bytes("k") });
        assert_eq!(told, Reply::Array(vec![Reply::Nil, Reply::Integer(-2)]));
        assert_eq!(apply(&mut store, 200, count(CountForm::Sum)), Reply::Integer(2));
        assert_eq!(apply(&mut store, 299, count(CountForm::Sum)), Reply::Integer(4));
        assert_eq!(apply(&mut store, 300, count(CountForm::Sum)), Reply::Integer(2));
    }

    #[test]
    fn a_number_without_a_window_is_taken_as_each_limiter_takes_it() {
        for (form, reply) in [
            (CountForm::Sum, Reply::Integer(9)),
            (CountForm::SumAndLeft, sum_and_left(9, 100)),
            (CountForm::AnewAndLeft, sum_and_left(2, 100)),
        ] {
            let mut store = Store::default();
            apply(&mut store, 0, set("k", "7"));
            assert_eq!(apply(&mut store, 0, count(form)), reply, "{form:?}");
            apply(&mut store, 0, set("k", "no number"));
            if form != CountForm::AnewAndLeft {
                assert!(matches!(apply(&mut store, 0, count(form)), Reply::Error(_)), "{form:?}");
            }
        }
    }

    fn slide(limit: i64, amount: i64) -> Operation {
        let request = Some(WindowRequest { limit, amount });
        Operation::SlideWindow { previous: bytes("p"), current: bytes("c"), window_ms: 100, request }
    }

    #[test]
    fn a_sliding_window_counts_the_part_of_the_one_before_that_it_reaches_into() {
        let mut store = Store::default();
        let taken = Reply::Integer(1);
        assert_eq!(apply(&mut store, 0, slide(10, 8)), taken);
        assert_eq!(apply(&mut store, 50, slide(10, 3)), Reply::Nil, "8 and 3 are more than 10");
        assert_eq!(apply(&mut store, 50, slide(10, 2)), taken);
        assert_eq!(apply(&mut store, 100, slide(10, 1)), Reply::Nil, "the window is not yet over");
        // 50 of 100 ms reach back: 5 of the 10 count.
        assert_eq!(apply(&mut store, 150, slide(10, 6)), Reply::Nil);
        assert_eq!(apply(&mut store, 150, slide(10, 5)), taken);
        let tell = || Operation::SlideWindow {
            previous: bytes("p"),
            current: bytes("c"),
            window_ms: 100,
            request: None,
        };
        let told = |previous: Reply, previous_left, current: &str, current_left| {
            let current = Reply::Bulk(bytes(current));
            Reply::Array(vec![previous, Reply::Integer(previous_left), current, Reply::Integer(current_left)])
        };
        assert_eq!(apply(&mut store, 160, tell()), told(Reply::Bulk(bytes("10")), 40, "5", 140));
        assert_eq!(apply(&mut store, 200, tell()), told(Reply::Nil, -2, "5", 100));
        assert_eq!(apply(&mut store, 201, tell()), told(Reply::Bulk(bytes("5")), 99, "0", 199));
        assert_eq!(apply(&mut store, 201, slide(3, 4)), Reply::Nil, "more than ever allowed");
    }
}
