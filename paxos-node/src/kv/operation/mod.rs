//! What can be asked of the store. [`codec`] is how the log holds it.

mod codec;
mod condition;
mod constructors;
mod deadline;
mod expiry;
mod limit;

use bytes::Bytes;

use super::decimal::Decimal;
use super::{Reply, Seen};

pub use self::codec::UnreadableCommand;
pub(super) use self::codec::{PlainSet, PlainSets, decode, operations, plain_sets};
pub use self::condition::Condition;
pub(crate) use self::condition::digest;
pub use self::deadline::{DeadlineCondition, DeadlineForm, Expiry};
pub use self::limit::{CountForm, WindowRequest};

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
    /// Removes a key if a condition holds, and answers 1 if it was removed.
    DeleteIf {
        /// The key.
        key: Bytes,
        /// What must hold.
        condition: Condition,
    },
    /// Removes those keys that have a value, and answers how many they were.
    DeleteEqual {
        /// The keys.
        keys: Vec<Bytes>,
        /// The value.
        value: Bytes,
    },
    /// The digest of a value: XXH3 of 64 bits, in hexadecimal.
    Digest {
        /// The key.
        key: Bytes,
    },
    /// Sets keys if all of them are missing, and answers 1 if they were.
    MSetNx {
        /// The keys and their values.
        pairs: Vec<(Bytes, Bytes)>,
    },
    /// Overwrites a part of a value and answers its new length; a missing key is empty, and what lies between
    /// the end of the old value and the part becomes zeros.
    SetRange {
        /// The key.
        key: Bytes,
        /// Where the part begins, in bytes.
        offset: u64,
        /// The part. If it is empty, nothing changes.
        value: Bytes,
        /// The longest value that may result; see [`Append`](Operation::Append).
        limit_bytes: u64,
    },
    /// A part of a value. Negative places count from its end.
    GetRange {
        /// The key.
        key: Bytes,
        /// The first byte.
        first: i64,
        /// The last byte.
        last: i64,
    },
    /// Adds to a decimal number; a missing key is 0.
    AddDecimal {
        /// The key.
        key: Bytes,
        /// What to add.
        by: Decimal,
    },
    /// Gives a value to another key, and removes the one that had it.
    Rename {
        /// The key that has the value.
        from: Bytes,
        /// The key that gets it.
        to: Bytes,
        /// Only if `to` is missing; then the answer is whether it was.
        only_if_missing: bool,
    },
    /// Sets a key to the value of another one, and answers 1 if it was set.
    Copy {
        /// The key that has the value.
        from: Bytes,
        /// The key that gets it.
        to: Bytes,
        /// Also if `to` is there already.
        replaces: bool,
    },
    /// Any key.
    RandomKey {
        /// Decides which. It is part of the operation, so that all nodes decide alike.
        seed: u64,
    },
    /// All keys, if they are few enough for one command.
    Keys {
        /// Leaves out keys that do not match it.
        pattern: Bytes,
    },
    /// What Redis tells of a value beside its contents.
    Object {
        /// The key.
        key: Bytes,
        /// What to tell.
        property: Property,
    },
    /// Whether keys are as they were seen: 1 if so. If it answers 0, the operations behind it in its command
    /// are not carried out, and each is answered with [`Reply::Nil`](super::Reply::Nil).
    Unchanged {
        /// The keys, and what was seen of them.
        watched: Vec<(Bytes, Seen)>,
    },
    /// Tells a message to all who listen, on each node, and answers 0: who listens is not part of the state.
    Publish {
        /// Where it is published.
        channel: Bytes,
        /// The message.
        message: Bytes,
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
    /// The revision at which a key was created, as a fencing number: it grows with every creation, and is
    /// never given twice.
    Created {
        /// The key.
        key: Bytes,
    },
    /// Changes when a key expires if it has a value, and answers 1 if it was changed: a lock is renewed by
    /// the one who holds it.
    ChangeDeadlineIfEqual {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// When it expires from now on.
        expiry: Expiry,
        /// What must hold beside that.
        condition: DeadlineCondition,
    },
    /// Lets a key expire later if it has a value and expires at all, and answers 1 if it was changed.
    Extend {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// By how many milliseconds.
        by_ms: i64,
    },
    /// How many milliseconds are left until a key expires; 0 if it has another value, or never does.
    LeftIfEqual {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
    },
    /// Sets keys to one value, and when they expire, if a condition holds for each of them; answers how many
    /// were set: all or none.
    SetAll {
        /// The keys.
        keys: Vec<Bytes>,
        /// Their new value.
        value: Bytes,
        /// What must hold for each of them.
        condition: Condition,
        /// When they expire.
        expiry: Expiry,
    },
    /// Adds to a number that is forgotten when its window ends, as limiters do that count within a time.
    Count {
        /// The key of the number.
        key: Bytes,
        /// What to add.
        by: i64,
        /// How long a window lasts.
        window_ms: i64,
        /// When a window begins, and what is answered.
        form: CountForm,
    },
    /// A number, and how many milliseconds are left of its window: -1 if it has none, -2 if there is no
    /// number.
    Counted {
        /// The key of the number.
        key: Bytes,
    },
    /// Counts in a window that slides: what was counted in the window before counts by the part that this one
    /// still reaches back into. Answers 1 if there was room for the request, else nil. Without a request the
    /// answer is what was counted in both, each with the milliseconds until it is forgotten.
    SlideWindow {
        /// The key of the window before.
        previous: Bytes,
        /// The key of the present window.
        current: Bytes,
        /// How long a window lasts.
        window_ms: i64,
        /// What to count.
        request: Option<WindowRequest>,
    },
    /// Removes keys that have expired, those that did first; answers how many.
    Expire {
        /// How many at most.
        at_most: u32,
    },
}

/// What [`Operation::Object`] tells of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Property {
    /// How Redis would hold it: `int`, `embstr` or `raw`.
    Encoding,
    /// How often it is used, which nobody counts here.
    Frequency,
    /// How long it was not used, which nobody counts here.
    IdleTime,
    /// How many hold it: 1.
    References,
    /// The memory that it takes with its key, in bytes.
    MemoryBytes,
}

impl Operation {
    /// Whether the operations behind it in its command are not carried out, after this reply to it.
    pub(super) fn gives_up(&self, reply: &Reply) -> bool {
        matches!((self, reply), (Operation::Unchanged { .. }, Reply::Integer(0)))
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
            | Operation::LeftIfEqual { .. }
            | Operation::Created { .. }
            | Operation::Counted { .. }
            | Operation::DbSize
            | Operation::Digest { .. }
            | Operation::GetRange { .. }
            | Operation::RandomKey { .. }
            | Operation::Keys { .. }
            | Operation::Object { .. }
            | Operation::Unchanged { .. }
            | Operation::Scan { .. } => true,
            Operation::Set { .. }
            | Operation::SetNx { .. }
            | Operation::GetDel { .. }
            | Operation::Delete { .. }
            | Operation::Add { .. }
            | Operation::Append { .. }
            | Operation::MSet { .. }
            | Operation::DeleteIf { .. }
            | Operation::DeleteEqual { .. }
            | Operation::MSetNx { .. }
            | Operation::SetRange { .. }
            | Operation::AddDecimal { .. }
            | Operation::Rename { .. }
            | Operation::Copy { .. }
            | Operation::Publish { .. }
            | Operation::SetExpiring { .. }
            | Operation::GetExpiring { .. }
            | Operation::ChangeDeadline { .. }
            | Operation::ChangeDeadlineIfEqual { .. }
            | Operation::Extend { .. }
            | Operation::SetAll { .. }
            | Operation::Count { .. }
            | Operation::SlideWindow { .. }
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
            | Operation::SetAll { .. }
            | Operation::Count { .. }
            | Operation::SlideWindow { .. }
            | Operation::MSet { .. }
            | Operation::MSetNx { .. }
            | Operation::SetRange { .. }
            | Operation::AddDecimal { .. }
            | Operation::Rename { .. }
            | Operation::Copy { .. } => true,
            Operation::GetExpiring { expiry, .. }
            | Operation::ChangeDeadline { expiry, .. }
            | Operation::ChangeDeadlineIfEqual { expiry, .. } => *expiry != Expiry::Never,
            Operation::Deadline { .. }
            | Operation::LeftIfEqual { .. }
            | Operation::Extend { .. }
            | Operation::Created { .. }
            | Operation::Counted { .. }
            | Operation::Expire { .. }
            | Operation::GetDel { .. }
            | Operation::DeleteIf { .. }
            | Operation::DeleteEqual { .. }
            | Operation::Publish { .. }
            | Operation::Delete { .. }
            | Operation::FlushAll
            | Operation::Get { .. }
            | Operation::Exists { .. }
            | Operation::StrLen { .. }
            | Operation::Type { .. }
            | Operation::MGet { .. }
            | Operation::DbSize
            | Operation::Digest { .. }
            | Operation::GetRange { .. }
            | Operation::RandomKey { .. }
            | Operation::Keys { .. }
            | Operation::Object { .. }
            | Operation::Unchanged { .. }
            | Operation::Scan { .. } => false,
        }
    }
}
