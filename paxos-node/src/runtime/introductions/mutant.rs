//! Known mistakes, switched on one at a time by tests that must notice them.

/// A mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mutant {
    /// A cluster is founded by more than half of its founders.
    FoundedByMost,
    /// A node that has met all founders still accepts another storage of one.
    NotBound,
    /// A new storage joins a cluster when a single peer has admitted it.
    JoinsByOne,
    /// What is remembered of a peer counts before it is durable.
    NotDurable,
    /// A node that was forgotten, and takes itself for introduced, is not asked to introduce itself.
    StrangerNotAsked,
}

#[cfg(test)]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Switches a mistake on in this thread while `work` runs.
#[cfg(test)]
pub(super) fn with<T>(mutant: Option<Mutant>, work: impl FnOnce() -> T) -> T {
    ACTIVE.set(mutant);
    let result = work();
    ACTIVE.set(None);
    result
}

/// Whether the mistake is made: never, but in tests.
#[cfg(test)]
pub(super) fn mutated(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

/// Whether the mistake is made: never.
#[cfg(not(test))]
pub(super) const fn mutated(_: Mutant) -> bool {
    false
}
