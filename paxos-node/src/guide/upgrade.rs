//! Upgrades: which versions of the program work together, how to go to a new one and back, and what keeps
//! that true when a format changes.
//!
//! # The promise
//!
//! - A node works with nodes of the version before and after its own, on the wire, and with the directories
//!   that these have written. Versions are those of releases: 0.1, 0.2 and so on. Upgrade one version at a
//!   time.
//! - Until `paxos-node member finalize`, each node may go back to the version before, with its directory. A
//!   restart with another program is all that it takes.
//! - After that, a program which does not know the new format level is refused: by the directory when it
//!   starts (exit code 6, with the level; programs from before there were levels say that they can't read the
//!   format, with exit code 2), and by the other nodes when it introduces itself (`the format level is 1 at
//!   most with node 3 and 2 with this node`).
//! - Whatever a newer program has written, an older one never panics at it, and never skips it: states can't
//!   differ. It ends before the first slot that it can't apply, with exit code 6 and a line that says so.
//!   Started again with the newer program, it goes on.
//!
//! # How to upgrade
//!
//! One node after the other: stop it, replace the program, start it, and wait until `/readyz` says 200. The
//! leader last: it hands over when it is stopped. Clients notice as much as they do when a node is restarted.
//! Before the next node, look at `paxos-node status` (the states are compared, too) as long as you like:
//! weeks, if you are careful. To go back, do the same with the old program.
//!
//! When all run the new version and it is to stay:
//!
//! ```sh
//! paxos-node member list --via a:9001 --certs certs        # format level 1; which level each node knows
//! paxos-node member finalize --via a:9001 --certs certs    # epoch 5: 1 2 3, format level 2
//! ```
//!
//! It raises the level to the newest that the programs of all members know, learners included. For 30 s it
//! tries; then it ends with exit code 1 and names the node whose program is too old, or which is not heard:
//! start it, or `member remove` it, first. Run once more, it says `already so`, with exit code 0. Functions
//! of the new version that need the level work from then on. Nothing else forces you to finalize but the
//! upgrade after the next one, since a version reads the level of the version before, not older ones.
//!
//! A new cluster begins with the first level that its program writes, so that it can go back, too.
//! [`refound`](crate::refound()) changes members of a stopped cluster only if they were not changed while it
//! ran, and to finalize counts as such a change.
//!
//! # How it works
//!
//! A [`FormatLevel`](paxos_core::FormatLevel) is one number for everything that gives the log its meaning:
//! kinds of values, the layout of memberships, commands of the store, snapshots, directories. A program reads
//! the levels from [`OLDEST`](paxos_core::FormatLevel::OLDEST) to
//! [`NEWEST`](paxos_core::FormatLevel::NEWEST). The *finalized* level is a part of the
//! [membership](paxos_core::Membership): to finalize is a [change](paxos_core::Change::Finalize) of it,
//! chosen in one slot as any other, of the next epoch, and part of every snapshot. So all nodes raise the
//! level at the same place in the log; it is never lowered; there is no other machinery that could fail.
//!
//! Nodes tell each other in their introductions which levels their programs read, and the finalized one they
//! know of. The leader compares before it proposes the change. If a node goes back to the old program in that
//! very moment, nothing breaks: it can't decode the membership, so it does not accept it, and is refused.
//!
//! | level | programs | what is new |
//! |---|---|---|
//! | 1 | before levels, and all since | |
//! | 2 | 0.1 | memberships name the level (their version 2), and META does (its version 4) |
//!
//! # What an older program does with what it does not know
//!
//! | it meets | and | shown by |
//! |---|---|---|
//! | a message of an unknown kind, or with an unknown kind of value or membership | ignores it, as if it were lost; counts it (`misunderstood` in the status) and logs it | `paxos-core/src/wire/tests.rs`: `newer_kind` |
//! | a frame of an unknown kind | the same | `introductions::tests` |
//! | unknown fields of a message or a frame | ignores them: a message must be true without them | `fields_of_a_newer_version`, `fields_may_be_added` |
//! | a hello that tells a finalized level which it does not know | refuses the peer, and tells why | `introductions::levels` |
//! | an entry of the log, on its disk, of an unknown kind or level | does not start; exit code 6 | `paxos-storage/tests/golden.rs`, `layout::frame` |
//! | a directory of an unknown level or version | does not start, and has read nothing else; exit code 6 | `paxos-storage/tests/golden.rs`, `layout::meta` |
//! | an unknown command or request in the log | ends before the slot counts as applied; exit code 6 | `upgrade`, `replicated::tests` |
//! | a snapshot in an unknown form | ends; exit code 6 | `upgrade`, `replicated::tests` |
//! | an unknown request of an operator | answers that it can't read it | `operator::messages` |
//!
//! Before the level is finalized, none of that happens, as newer programs write nothing that is unknown.
//!
//! # Room in the formats
//!
//! | format | has | for what is unknown |
//! |---|---|---|
//! | value in the log and in messages | a kind (1 byte) of its own | refused |
//! | membership | a version, and from version 2 on the format level behind it in every later version | refused, with the level |
//! | message between replicas | Protocol Buffers: the epoch, that is the configuration, in every one; the group (tag 64); bodies up to tag 63 | another group or body is refused, fields are ignored |
//! | frame between nodes | kind and start of the sender (17 bytes), in all but messages fields with tags | an unknown kind is refused, fields are ignored |
//! | frame of the log | version, kind, flags (7 bits free), group (2 bytes), mask, and in each record 2 bytes that are zero and two kinds | anything but zero is refused as newer, not as damage |
//! | META | version, level, 600 bytes that are zero | refused, with the level |
//! | snapshot of a node | bits 48 to 62 of its first number; a version of the sessions | refused as newer |
//! | snapshot of the store | a digit in the magic; further parts with names | refused as newer |
//! | command of the store | version, and tags 16 to 39 and from those in use up to 255 | refused as newer |
//! | request in the log | a kind (1 byte) | refused as newer |
//! | backup | version, JSON with fields that may be added, kinds of blocks | another version is refused, fields are ignored |
//! | operators' requests | version, JSON | refused |
//!
//! The group stands in each frame of the log and in each message, not in front of the frame between nodes:
//! nodes introduce themselves once, for all groups that they will have.
//!
//! # When you change a format
//!
//! - Give what is new the next level: raise `FormatLevel::NEWEST`, and add a row to the table above.
//! - Write it only where [`Membership::format_level`](paxos_core::Membership::format_level) (or
//!   [`Status::format_level`](crate::Status::format_level)) is at least that level. A front answers a command
//!   that needs a higher one with an error that says so.
//! - A setting that must be equal on all nodes counts as a format: it is told from its level on, as an older
//!   program refuses one that it does not have.
//! - What is sent only between nodes, and is true without its new fields, needs no level.
//! - Tests hold what is written today against files that never change: `paxos-storage/tests/golden`
//!   (directories), `paxos-core/src/wire/tests.rs` (messages), `paxos-node/tests/formats` (snapshots, a
//!   backup, frames, commands). They fail when a level's format changes, or when there is a command without a
//!   file. Add files for the new level, and leave the others.
//! - After a release `FormatLevel::OLDEST` may go up to the level of the release before.
//!
//! `.ci/rolling` has the program of the last release and this one take turns under load: three nodes are
//! upgraded one by one, one goes back, they finalize, and the old program is refused. It checks that nothing
//! acknowledged is lost, that states are equal, and that no node ends by itself. While there is no release,
//! it takes the commit in `.ci/upgrade-from`.
//!
//! # A state machine of your own
//!
//! Its commands are yours, so their formats are, too. Give a command a version or a kind, and implement
//! [`StateMachine::knows`](crate::StateMachine::knows): then a node stops before what only a newer version of
//! your program knows, and refuses to propose it. Let `restore` fail with
//! [`std::io::ErrorKind::Unsupported`] at a snapshot of a newer version. Propose new commands once all your
//! nodes know them, for example when a command of your own says so: it is in the log at the same place for
//! all.
//!
//! Deliberately absent: to lower a level, and versions of the program in the log, which would mean something
//! else in each fork.
