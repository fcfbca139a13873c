//! When keys expire, and how that is told.

/// When a key expires. Milliseconds are those of the log's time: see [`Time`](paxos_core::Time).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    /// Never.
    Never,
    /// When it would have expired before.
    Kept,
    /// So many milliseconds after the time of the slot; at once if there are none.
    AfterMs(i64),
    /// At this time, in milliseconds since 1970; at once if that has passed.
    AtMs(i64),
}

/// When a deadline is to be changed. All that is set must hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own, as in Redis")]
pub struct DeadlineCondition {
    /// The key has no deadline (`NX`).
    pub if_none: bool,
    /// It has one (`XX`).
    pub if_any: bool,
    /// The new one is later (`GT`); none is later than any.
    pub if_later: bool,
    /// The new one is earlier (`LT`).
    pub if_earlier: bool,
}

/// How a deadline is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeadlineForm {
    /// As the milliseconds that are left.
    LeftMs,
    /// As the seconds that are left, rounded.
    LeftSeconds,
    /// As milliseconds since 1970.
    AtMs,
    /// As seconds since 1970, rounded.
    AtSeconds,
}
