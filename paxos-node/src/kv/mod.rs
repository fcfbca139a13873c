//! A key-value store: what the program `paxos-node` replicates.
//!
//! Each change gets the next *revision*, and a key remembers the revisions at which it was created and last
//! modified. A command in the log is a list of [`Operation`]s, which are applied together; its response is
//! the list of their [`Reply`]s.
//!
//! The work of one command is bounded: an operation that would take more work than its command has left is
//! answered with [`Reply::TooMuch`] and not carried out, and so are all operations behind it. Every node
//! decides this alike, from the command and the state. An operation on a single key is always carried out if
//! it stands first in its command.
//!
//! A key may have a deadline. It is missing for every command whose slot has that time or a later one, and is
//! removed by a command that the leader proposes then ([`Operation::Expire`]). A key that is set after that is
//! created anew: the revision of its creation is a fencing number, which grows with every grant of a lock and
//! is never given twice. See [the guide](crate::guide::time).
//!
//! Deliberately absent: types other than strings.
//!
//! `store` holds the state: `records` found by key, their order in `creation`, and those that expire in
//! `deadlines`; `view` is how it is looked at at some time. `operation` tells what can
//! be asked of it, `execute` how that is done within the `work` that a command may take, `estimate` how long
//! that will take here, `picture` how a state is read while it changes, and `state_machine` how the log and
//! snapshots drive all of it.

mod copied;
mod creation;
mod deadlines;
mod estimate;
mod execute;
mod expiry;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzzing;
mod glob;
mod operation;
mod picture;
mod reaper;
mod records;
mod reply;
mod snapshot;
mod state_machine;
mod store;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod view;
mod work;

#[cfg(feature = "server")]
pub(crate) use execute::{NotAnswered, parse_integer};
pub use operation::{Condition, DeadlineCondition, DeadlineForm, Expiry, MalformedCommand, Operation};
pub use picture::Picture;
pub use reply::{MalformedResponse, Reply};
pub use store::Store;
#[cfg(feature = "server")]
pub(crate) use work::Work;
