//! Building blocks for a transport of your own; the backends of this crate are made of the same.
//!
//! [The guide](crate::guide) builds a transport with them, and `examples/` has three more: over Unix sockets,
//! plain UDP, and another QUIC library.
//!
//! | block | what it does |
//! |---|---|
//! | [`Inbox`], [`LaneInbox`] | frames that have arrived, bounded for each peer and lane, urgent ones first |
//! | [`Outbox`] | frames that wait to be sent on one lane; says what becomes of each, and counts it |
//! | [`Counters`] | the counters behind [`PeerCounters`](crate::PeerCounters) |
//! | [`Roster`] | who is a peer and who a guest, and what changes when the peers are set |
//! | [`write_frames`], [`FrameReader`] | frames on a stream of bytes |
//! | [`fragments`], [`Reassembler`] | frames in datagrams |
//! | [`Window`] | how much is on the way to a peer |
//! | [`Hub`], [`Link`], [`Claim`] | all of the above for every peer and guest, and the tasks that serve them |
//! | [`HubTransport`], [`Dialer`] | a whole transport over a hub: a backend adds how to connect |
//! | `tls` (with `quic` or `tcp`) | the certificates of the cluster, for a protocol over rustls |
//!
//! Guaranteed: every queue has a bound, and so have the guests; what is dropped is counted; a connection that
//! was replaced by a later one neither sends nor disconnects the peer any more.
//!
//! Deliberately absent: encryption, and the proof of who a peer is. A backend has them from its protocol, or
//! says in its documentation that it does without.

mod counters;
mod fragments;
mod hub;
mod inbox;
mod link;
mod outbox;
mod roster;
mod streams;
#[cfg(feature = "network")]
pub mod tls;
mod transport;
mod window;

pub use counters::Counters;
pub use fragments::{FRAGMENT_HEADER_BYTES, FragmentError, Reassembler, fragments};
pub use hub::{Hub, HubConfig, Refused};
pub use inbox::{Inbox, InboxSender, LaneInbox, Reservation, inbox};
pub use link::{Claim, Link};
pub use outbox::{Outbox, pop_any, wait_for_any};
pub use roster::{Changes, GUEST_IDLE_TIMEOUT, GUEST_LANES, MAX_GUESTS, Roster, guest_has_left};
pub use streams::{FrameReader, Pulse, StreamError, write_frames};
pub use transport::{Dialer, HubTransport};
pub use window::Window;
