//! The categories of commands, by which rules of users name many at once. They are those of Redis.

/// Some of the categories.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Categories(u16);

pub(super) const NONE: Categories = Categories(0);
pub(super) const READ: Categories = Categories(1);
pub(super) const WRITE: Categories = Categories(1 << 1);
pub(super) const KEYSPACE: Categories = Categories(1 << 2);
pub(super) const STRING: Categories = Categories(1 << 3);
pub(super) const FAST: Categories = Categories(1 << 4);
pub(super) const SLOW: Categories = Categories(1 << 5);
pub(super) const ADMIN: Categories = Categories(1 << 6);
pub(super) const DANGEROUS: Categories = Categories(1 << 7);
pub(super) const CONNECTION: Categories = Categories(1 << 8);
pub(super) const TRANSACTION: Categories = Categories(1 << 9);

/// The name of each category. Those of commands that are not here are known, and empty.
pub(super) const NAMES: &[(&str, Categories)] = &[
    ("keyspace", KEYSPACE),
    ("read", READ),
    ("write", WRITE),
    ("set", NONE),
    ("sortedset", NONE),
    ("list", NONE),
    ("hash", NONE),
    ("string", STRING),
    ("bitmap", NONE),
    ("hyperloglog", NONE),
    ("geo", NONE),
    ("stream", NONE),
    ("pubsub", NONE),
    ("admin", ADMIN),
    ("fast", FAST),
    ("slow", SLOW),
    ("blocking", NONE),
    ("dangerous", DANGEROUS),
    ("connection", CONNECTION),
    ("transaction", TRANSACTION),
    ("scripting", NONE),
];

impl Categories {
    /// These and others.
    pub(super) const fn and(self, others: Categories) -> Categories {
        Categories(self.0 | others.0)
    }

    /// Whether any of `others` is among these.
    pub(super) const fn has(self, others: Categories) -> bool {
        self.0 & others.0 != 0
    }

    /// The category of this name, in any case.
    pub(super) fn named(name: &str) -> Option<Categories> {
        let named = NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
        named.map(|(_, category)| *category)
    }
}
