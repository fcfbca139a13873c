//! Writer and reader together, over a stream that reads and writes in pieces of any size.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use paxos_core::NodeId;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tokio::io::{DuplexStream, ReadBuf};
use tokio::task::unconstrained;

use super::*;
use crate::backend::{InboxSender, inbox};
use crate::lane::LaneLimits;

const ONE: NodeId = NodeId(1);
const MAX_FRAME_BYTES: usize = 16 << 20;
const KIB: usize = 1 << 10;

/// A stream that reads and writes at most this many bytes at a time.
struct Cut {
    stream: DuplexStream,
    random: fastrand::Rng,
    most: usize,
}

impl Cut {
    fn pair(seed: u64, most: usize) -> (Cut, Cut) {
        let (one, two) = tokio::io::duplex(4 * most);
        let random = fastrand::Rng::with_seed(seed);
        (Cut { stream: one, random: random.clone(), most }, Cut { stream: two, random, most })
    }

    fn cut(&mut self) -> usize {
        self.random.usize(1..=self.most)
    }
}

impl AsyncWrite for Cut {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let cut = self.cut().min(bytes.len());
        Pin::new(&mut self.stream).poll_write(context, &bytes[..cut])
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut piece = vec![0; self.cut().min(bytes.remaining())];
        let mut space = ReadBuf::new(&mut piece);
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut space);
        bytes.put_slice(space.filled());
        polled
    }
}

/// The inboxes of a node's connection for `Control` and `Log`.
fn inboxes(sender: &InboxSender) -> [LaneInbox; 2] {
    [Lane::Control, Lane::Log].map(|lane| sender.for_peer(ONE, lane, &LaneLimits::default()))
}

/// Sends frames of these lengths from one node to another, in pieces of up to `most` bytes.
async fn sent_and_received(lengths: &[usize], seed: u64, most: usize) -> (Vec<Bytes>, Vec<Bytes>) {
    let sending = Arc::default();
    let outboxes = [Lane::Control, Lane::Log]
        .map(|lane| Outbox::new(lane, &LaneLimits::default(), MAX_FRAME_BYTES, Arc::clone(&sending)));
    let (sender, mut inbox) = inbox();
    let (receiving, inboxes) = (Counters::default(), inboxes(&sender));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut frame = |length: usize| (0..length).map(|_| random.u8(..)).collect::<Bytes>();
    let sent: Vec<Bytes> = lengths.iter().map(|length| frame(*length)).collect();
    outboxes.iter().for_each(Outbox::open);
    for frame in &sent {
        assert!(outboxes[1].push(frame.clone()).is_queued(), "there is room");
    }
    outboxes.iter().for_each(Outbox::close);
    let (mut out, mut into) = Cut::pair(seed, most);
    let outboxes = outboxes.each_ref();
    let write = write_frames(&outboxes, &mut out, Pulse::default());
    let mut received = Vec::new();
    let mut signs_of_life = 0;
    let reader = FrameReader::new(&inboxes, &receiving, MAX_FRAME_BYTES);
    let (written, read) = tokio::join!(write, reader.read(&mut into, None, || signs_of_life += 1));
    written.expect("everything is read");
    read.expect("the stream ends well");
    // Everything has arrived already; tokio's budget must not make this task wait.
    let mut next = async || unconstrained(poll_fn(|context| Poll::Ready(inbox.poll(context)))).await;
    while let Poll::Ready(Some(arrived)) = next().await {
        assert_eq!((arrived.from, arrived.lane), (ONE, Lane::Log), "they are told apart by their header");
        received.push(arrived.frame);
    }
    assert_eq!(signs_of_life, 1, "the stream starts with one");
    assert_eq!(receiving.snapshot().nonsense, 0);
    assert_eq!(receiving.snapshot().received, sending.snapshot().sent, "both sides count the same");
    (sent, received)
}

/// Lengths around every constant of the frame code.
fn length() -> impl Strategy<Value = usize> {
    let around = (select(vec![0, 16 * KIB, 64 * KIB, 128 * KIB, 192 * KIB]), 0..16_usize)
        .prop_map(|(edge, more)| (edge + more).saturating_sub(8));
    prop_oneof![around, 0..192 * KIB, 16 * KIB..68 * KIB, 0..3000_usize]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn what_is_written_in_any_pieces_is_read_as_it_was_sent(
        lengths in vec(length(), 0..30),
        seed: u64,
        most in select(vec![200, 16 * KIB, 64 * KIB, 256 * KIB, 1 << 20]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime is built");
        let (sent, received) = runtime.block_on(sent_and_received(&lengths, seed, most));
        let lengths = |frames: &[Bytes]| frames.iter().map(Bytes::len).collect::<Vec<_>>();
        prop_assert_eq!(lengths(&received), lengths(&sent));
        prop_assert!(received == sent, "the bytes are the same");
    }
}

#[tokio::test]
async fn a_long_frame_behind_others_takes_nothing_of_the_next() {
    let lengths = [25_000, 60_000, 66_000, 30_000, 58_000, 70_000, 9_000];
    let (sent, received) = sent_and_received(&lengths, 1, 1 << 20).await;
    assert_eq!(received.iter().map(Bytes::len).collect::<Vec<_>>(), lengths);
    assert!(received == sent, "the bytes are the same");
}

/// The result of reading these bytes from a peer.
async fn read(bytes: &[u8]) -> (Result<(), StreamError>, u64) {
    let (sender, _inbox) = inbox();
    let (counters, inboxes) = (Counters::default(), inboxes(&sender));
    let read =
        FrameReader::new(&inboxes, &counters, MAX_FRAME_BYTES).read(&mut &bytes[..], None, || {}).await;
    (read, counters.snapshot().nonsense)
}

#[tokio::test]
async fn nonsense_ends_a_stream_and_is_counted_but_a_stream_that_breaks_off_is_none() {
    for nonsense in [
        &[255, 255, 255, 255, 0][..], // Too long.
        &[0, 0, 0, 0, 7],             // On no lane.
        &[0, 0, 0, 0, 2],             // On the lane of another connection.
        &[1, 0, 0, 0, 255, 0],        // A sign of life with bytes.
    ] {
        let (read, count) = read(nonsense).await;
        assert!(matches!(read, Err(StreamError::Nonsense { .. })), "{nonsense:?}: {read:?}");
        assert_eq!(count, 1, "{nonsense:?}");
    }
    for broken in [&[9, 0][..], &[9, 0, 0, 0, 0, 1, 2, 3]] {
        let (read, count) = read(broken).await;
        let is_cut =
            matches!(&read, Err(StreamError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof);
        assert!(is_cut && count == 0, "{broken:?}: {read:?}");
    }
    let (read, count) = read(&SIGN_OF_LIFE).await;
    assert!(read.is_ok() && count == 0);
}
