//! What can be asked of the store. [`codec`] is how the log holds it.

mod codec;
mod expiry;

use bytes::Bytes;

pub use self::codec::MalformedCommand;
pub(super) use self::codec::{decode, operations};

/// One thing that the store is asked to do.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Operation {
    /// The value of a key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Sets a key.
    #[non_exhaustive]
    Set {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// Sets it only if this holds.
        condition: Option<Condition>,
        /// Answers with the old value instead of whether it was set.
        returns_old: bool,
    },
    /// Sets a key that is missing, and answers 1 if it was.
    SetNx {
        /// The key.
        key: Bytes,
        /// Its value.
        value: Bytes,
    },
    /// Removes a key and answers with its value.
    GetDel {
        /// The key.
        key: Bytes,
    },
    /// Removes keys and answers how many of them existed.
    Delete {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// How many of these keys exist.
    Exists {
        /// The keys; a key that is named twice counts twice.
        keys: Vec<Bytes>,
    },
    /// Adds to an integer; a missing key is 0.
    Add {
        /// The key.
        key: Bytes,
        /// What to add.
        by: i64,
    },
    /// Appends to a value and answers its new length; a missing key is empty.
    Append {
        /// The key.
        key: Bytes,
        /// What to append.
        value: Bytes,
        /// The longest value that may result. It is part of the operation, so that all nodes decide alike
        /// whatever their own limits are.
        limit_bytes: u64,
    },
    /// The length of a value.
    StrLen {
        /// The key.
        key: Bytes,
    },
    /// The values of keys.
    MGet {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// Sets keys.
    MSet {
        /// The keys and their values.
        pairs: Vec<(Bytes, Bytes)>,
    },
    /// How many keys the store has.
    DbSize,
    /// A page of all keys.
    #[non_exhaustive]
    Scan {
        /// 0, or where the last page ended.
        cursor: u64,
        /// Leaves out keys that do not match it.
        pattern: Option<Bytes>,
        /// How many keys to look at.
        count: u64,
    },
    /// Removes all keys.
    FlushAll,
    /// The type of a value: `string`, or `none` if there is no such key.
    Type {
        /// The key.
        key: Bytes,
    },
    /// Sets a key, and when it expires.
    SetExpiring {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// Sets it only if this holds.
        condition: Option<Condition>,
        /// Answers with the old value instead of whether it was set.
        returns_old: bool,
        /// When it expires.
        expiry: Expiry,
    },
    /// Changes when a key expires, and answers with its value.
    GetExpiring {
        /// The key.
        key: Bytes,
        /// When it expires from now on.
        expiry: Expiry,
    },
    /// Changes when a key expires; answers 1 if it was changed.
    ChangeDeadline {
        /// The key.
        key: Bytes,
        /// When it expires from now on.
        expiry: Expiry,
        /// Changes it only if this holds.
        condition: DeadlineCondition,
    },
    /// When a key expires: -1 if it never does, -2 if there is no such key.
    Deadline {
        /// The key.
        key: Bytes,
        /// What to tell.
        form: DeadlineForm,
    },
    /// The revision at which a key was created, as a fencing number: it grows with every creation, and is never
    /// given twice.
    Created {
        /// The key.
        key: Bytes,
    },
    /// Removes keys that have expired, those that did first; answers how many.
    Expire {
        /// How many at most.
        at_most: u32,
    },
}

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

/// When a key is to be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// If it is missing (`NX`).
    IfMissing,
    /// If it is there (`XX`).
    IfPresent,
}

impl Operation {
    /// [`Operation::Get`].
    #[must_use]
    pub fn get(key: Bytes) -> Operation {
        Operation::Get { key }
    }

    /// [`Operation::Set`] without a condition, answered with [`Reply::Ok`](super::Reply::Ok).
    #[must_use]
    pub fn set(key: Bytes, value: Bytes) -> Operation {
        Operation::set_with(key, value, None, false)
    }

    /// [`Operation::Set`].
    #[must_use]
    pub fn set_with(key: Bytes, value: Bytes, condition: Option<Condition>, returns_old: bool) -> Operation {
        Operation::Set { key, value, condition, returns_old }
    }

    /// [`Operation::SetNx`].
    #[must_use]
    pub fn set_nx(key: Bytes, value: Bytes) -> Operation {
        Operation::SetNx { key, value }
    }

    /// [`Operation::GetDel`].
    #[must_use]
    pub fn get_del(key: Bytes) -> Operation {
        Operation::GetDel { key }
    }

    /// [`Operation::Delete`].
    #[must_use]
    pub fn delete(keys: Vec<Bytes>) -> Operation {
        Operation::Delete { keys }
    }

    /// [`Operation::Exists`].
    #[must_use]
    pub fn exists(keys: Vec<Bytes>) -> Operation {
        Operation::Exists { keys }
    }

    /// [`Operation::Add`].
    #[must_use]
    pub fn add(key: Bytes, by: i64) -> Operation {
        Operation::Add { key, by }
    }

    /// [`Operation::Append`].
    #[must_use]
    pub fn append(key: Bytes, value: Bytes, limit_bytes: u64) -> Operation {
        Operation::Append { key, value, limit_bytes }
    }

    /// [`Operation::StrLen`].
    #[must_use]
    pub fn str_len(key: Bytes) -> Operation {
        Operation::StrLen { key }
    }

    /// [`Operation::MGet`].
    #[must_use]
    pub fn m_get(keys: Vec<Bytes>) -> Operation {
        Operation::MGet { keys }
    }

    /// [`Operation::MSet`].
    #[must_use]
    pub fn m_set(pairs: Vec<(Bytes, Bytes)>) -> Operation {
        Operation::MSet { pairs }
    }

    /// [`Operation::Scan`].
    #[must_use]
    pub fn scan(cursor: u64, pattern: Option<Bytes>, count: u64) -> Operation {
        Operation::Scan { cursor, pattern, count }
    }

    /// [`Operation::Type`].
    #[must_use]
    pub fn type_of(key: Bytes) -> Operation {
        Operation::Type { key }
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_read(&self) -> bool {
        match self {
            Operation::Get { .. }
            | Operation::Exists { .. }
            | Operation::StrLen { .. }
            | Operation::Type { .. }
            | Operation::MGet { .. }
            | Operation::Deadline { .. }
            | Operation::Created { .. }
            | Operation::DbSize
            | Operation::Scan { .. } => true,
            Operation::Set { .. }
            | Operation::SetNx { .. }
            | Operation::GetDel { .. }
            | Operation::Delete { .. }
            | Operation::Add { .. }
            | Operation::Append { .. }
            | Operation::MSet { .. }
            | Operation::SetExpiring { .. }
            | Operation::GetExpiring { .. }
            | Operation::ChangeDeadline { .. }
            | Operation::Expire { .. }
            | Operation::FlushAll => false,
        }
    }

    /// Whether it may make the store larger. It may still make it smaller: whether the old value is longer is
    /// known only when it is carried out.
    #[must_use]
    pub fn needs_memory(&self) -> bool {
        match self {
            Operation::Set { .. }
            | Operation::SetNx { .. }
            | Operation::Add { .. }
            | Operation::Append { .. }
            | Operation::SetExpiring { .. }
            | Operation::GetExpiring { .. }
            | Operation::ChangeDeadline { .. }
            | Operation::MSet { .. } => true,
            Operation::Deadline { .. }
            | Operation::Created { .. }
            | Operation::Expire { .. }
            | Operation::GetDel { .. }
            | Operation::Delete { .. }
            | Operation::FlushAll
            | Operation::Get { .. }
            | Operation::Exists { .. }
            | Operation::StrLen { .. }
            | Operation::Type { .. }
            | Operation::MGet { .. }
            | Operation::DbSize
            | Operation::Scan { .. } => false,
        }
    }
}
