//! How many instructions the core takes for a command, compared with what it took before.
//!
//! A clock on a shared machine does not show that something has become 5 % slower; a count of instructions
//! does, as it is the same in every run. Each [`Scenario`] is run twice under valgrind's callgrind, the
//! second time with twice as many commands, and the difference counts: so starting the program and electing a
//! leader do not.
//!
//! The [`Ledger`] in `benches/instructions.toml` holds the counts that are compared with. They depend on the
//! compiler and on the C library, whose `malloc` and `memcpy` are part of them, so it names both; with others
//! more is tolerated. The C library is told to do without the largest vector registers, so that the processor
//! matters little.
//!
//! Deliberately absent: caches and branches. A change that takes the same instructions and misses the cache
//! more often does not show here; the benches with a clock are for that.

mod callgrind;
mod ledger;
mod scenario;

pub use callgrind::{CountError, Toolchain, per_command};
pub use ledger::{Comparison, Ledger, LedgerError, Verdict};
pub use scenario::Scenario;
