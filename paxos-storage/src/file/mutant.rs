//! Known mistakes, switched on one at a time by tests that must notice them.

/// A mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    /// What is left of an earlier use of a segment counts as part of its frames.
    NumberUnchecked,
    /// Blocks within a frame may begin like one.
    PayloadNotMasked,
    /// The header of a segment that is used again is not synced before the segment is.
    HeaderNotSynced,
    /// The new name of a segment that is used again is not synced before META names it.
    NameNotSynced,
    /// A segment is kept to be used again before META says that the log begins behind it.
    KeptTooEarly,
}

#[cfg(test)]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Switches a mistake on in this thread.
#[cfg(test)]
pub(crate) fn activate(mutant: Option<Mutant>) {
    ACTIVE.set(mutant);
}

/// Whether the mistake is made: never, but in tests.
#[cfg(test)]
pub(crate) fn mutated(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

/// Whether the mistake is made: never.
#[cfg(not(test))]
pub(crate) const fn mutated(_: Mutant) -> bool {
    false
}
