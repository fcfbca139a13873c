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
//! A command may begin with [`Operation::Unchanged`]: then it is carried out only if keys are as a client has
//! seen them.
//!
//! A key may have a deadline. It is missing for every command whose slot has that time or a later one, and is
//! removed by a command that the leader proposes then ([`Operation::Expire`]). A key that is set after that
//! is created anew: the revision of its creation is a fencing number, which grows with every grant of a lock
//! and is never given twice. See [the guide](crate::guide::time).
//!
//! Deliberately absent: types other than strings.
//!
//! `store` holds the state: `records` found by key, their order in `creation`, those that expire in
//! `deadlines`, and what `watch` has to know of `removals`; `view` is how it is looked at at some time.
//! `operation` tells what can be asked of it, `execute` how that is done within the `work` that a command may
//! take (`strings`, `keys` and `expiry` have what takes more than a few lines), `estimate` how long that will
//! take here, `picture` how a state is read while it changes, `feed` who hears of what is applied, and
//! `state_machine` how the log and snapshots drive all of it.

mod copied;
mod creation;
mod deadlines;
mod decimal;
mod estimate;
mod execute;
mod expiry;
mod feed;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzzing;
mod glob;
mod keys;
mod limits;
mod operation;
mod picture;
mod reaper;
mod records;
mod removals;
mod reply;
mod snapshot;
mod state_machine;
mod store;
mod strings;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod view;
mod watch;
mod work;

pub use decimal::Decimal;
#[cfg(feature = "server")]
pub(crate) use decimal::NotDecimal;
#[cfg(feature = "server")]
pub(crate) use execute::{NotAnswered, parse_integer};
pub use feed::{Event, Feed, Listener, Lost};
#[cfg(feature = "server")]
pub(crate) use glob::Pattern;
pub use operation::{
    Condition, CountForm, DeadlineCondition, DeadlineForm, Expiry, Operation, Property, UnreadableCommand,
    WindowRequest,
};
pub use picture::Picture;
pub use reply::{MalformedResponse, Reply};
pub use store::Store;
pub use watch::Seen;
#[cfg(feature = "server")]
pub(crate) use work::Work;
