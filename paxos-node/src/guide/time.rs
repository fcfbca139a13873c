//! How time gets into the log, and what a lock can rely on.
//!
//! # One time for all nodes
//!
//! The leader gives each batch of commands its time, and that time is a part of the value that is chosen. So
//! all nodes see the same time in the same slot, in whatever year their own clocks are. A state machine gets
//! it as [`Applying::time`](crate::Applying::time) and must look at no other clock; one that needs no time
//! ignores it. Time never goes back from one command to the next.
//!
//! The time is not the leader's wall clock, which may jump. It begins with the wall clock of the first
//! leader, and from then on goes as fast as the leader's monotonic clock does, one part in a thousand faster
//! or slower at most, until it has come to the wall clock. A new leader goes on from what it has heard of the
//! time, or what any node of its quorum has heard. See [`Time`](crate::Time) for how.
//!
//! A node compares its own wall clock with the cluster's time, and says at level `warn` if the two differ by
//! more than [`CLOCK_TOLERANCE`](crate::CLOCK_TOLERANCE) beyond the round trip for five seconds, and again
//! when they agree. If one node says so, its clock is wrong; if all but the leader do, the leader's is, or
//! was when the cluster was started. `/status` and metrics have the difference.
//!
//! # Keys that expire
//!
//! `SET k v PX 2000` gives a key a deadline, two seconds after the time of its slot. From the first slot on
//! that has the deadline or a later time, every command finds the key missing, on every node alike. A command
//! that the leader proposes then removes it, some hundred keys at once. What happens meanwhile:
//!
//! - A command that sets the key creates it anew. `INCR` and `APPEND` begin from nothing.
//! - A read never shows a key that has expired by its leader's time. If the log has not come to that time
//!   yet, the read has a command chosen first: what was found to be gone once stays gone, even if the leader
//!   fails in the next moment.
//! - `RENAME` and `COPY` take the deadline along with the value. `SET` drops it unless it says `KEEPTTL`, and
//!   so do `GETSET`, `MSET` and `MSETNX`; what changes a part of a value keeps it.
//! - A transaction whose watched key has expired is not carried out, as if somebody had removed the key.
//! - Who listens to changes of keys is told `expired` when the key is removed.
//! - `DBSIZE` and `INFO` count keys that have expired and were not removed yet, for some milliseconds.
//!
//! # What a lock can rely on
//!
//! Take a lock by `SET lock TOKEN NX PX 10000`, and count its time from *before* you send that. It is yours
//! for these ten seconds, as a perfect clock shows them, but for
//!
//! | what | how much |
//! |---|---|
//! | the leader's time approaches its wall clock | one part in a thousand: 10 ms |
//! | monotonic clocks are not perfect | mostly less than one part in ten thousand: 1 ms |
//! | the leader fails | how late the last heartbeat of the old leader came that the new leader's quorum has heard: mostly some milliseconds, and never more than an election time-out |
//! | **all** nodes of a quorum are started again | what their wall clocks have jumped |
//!
//! So stop using it some percent early. No fail-over gives a lock more time than it was granted: nothing is
//! renewed but by `EXPIRE` and its like. It may last *longer*, by the delay of that heartbeat, while there is
//! no leader, and by as long as the leader's machine was suspended: a monotonic clock stands still then.
//!
//! After a restart of the whole cluster nobody knows how long it was down but by wall clocks. The first
//! leader begins with its own then, or with the last time of the log if that is later. If this clock is an
//! hour fast, leases of an hour end at once; if it is an hour slow, they last an hour longer. A single node
//! that starts again asks the others, and its wall clock does not count.
//!
//! To renew a lock and to release it, compare its token in the same command. The scripts by which redis-py,
//! valkey-py, pottery, redsync and redlock for Node.js do that are known, and each is one entry of the log.
//!
//! # Fencing
//!
//! Whoever holds a lock may be paused, and come back after it has expired. So what the lock protects should
//! refuse whoever comes with an older grant than it has seen. `PAXOS.FENCE lock` tells the number of a grant,
//! or nil if nobody has the lock:
//!
//! ```text
//! > SET lock TOKEN NX PX 10000
//! OK
//! > PAXOS.FENCE lock
//! (integer) 4711
//! ```
//!
//! It is the revision at which the key was created: it grows with every grant, and is never given twice,
//! whatever happens meanwhile (`FLUSHALL`, a snapshot, another leader). To renew a lock does not change it.
//! Ask for it in one `MULTI` with the `SET`, or check that the lock still has your token. The example
//! `fencing` shows a holder that comes back too late and is refused.
//!
//! # For a state machine of your own
//!
//! - Keep deadlines in the state, compare them with [`Applying::time`](crate::Applying::time) in each
//!   command, and have both in snapshots.
//! - Let [`StateMachine::due`](crate::StateMachine::due) return a command that removes what has expired. It
//!   may be applied late, or twice.
//! - A reader gets the leader's time from [`StateGuard::time`](crate::StateGuard::time), and must not show
//!   what has expired by then. If the state's own time is not there yet, have a command applied first that
//!   does nothing, and look again by the state's time.
//!
//! # Upgrades
//!
//! Versions from before there were times refuse a log that has some, and do not understand the commands
//! above. So nodes of such versions and newer ones refuse each other: upgrade all nodes of a cluster at once.
