//! Bounds what is on the way to a peer, for protocols that do not do so themselves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// How many bytes may be on the way to a peer that tells now and then how much it has received in all.
///
/// It only bounds: it does not learn how much the network takes, and shares nothing fairly with others, as
/// the congestion control of TCP and QUIC does.
#[derive(Debug)]
pub struct Window {
    limit_bytes: u64,
    /// What takes longer than this counts as lost.
    lost_after: Duration,
    sent: AtomicU64,
    received: AtomicU64,
    lost: AtomicU64,
    is_told: Notify,
}

impl Window {
    /// At most about `limit_bytes` are on the way. What the peer has not told to have received after
    /// `lost_after` counts as lost.
    #[must_use]
    pub fn new(limit_bytes: u64, lost_after: Duration) -> Window {
        let (sent, received, lost) = Default::default();
        Window { limit_bytes, lost_after, sent, received, lost, is_told: Notify::new() }
    }

    /// Waits until there is room, and counts `bytes` as sent. For one task.
    pub async fn send(&self, bytes: usize) {
        while self.on_the_way() + bytes as u64 > self.limit_bytes && self.on_the_way() > 0 {
            let before = self.received.load(Ordering::Relaxed);
            let told = timeout(self.lost_after, self.is_told.notified()).await;
            if told.is_err() && self.received.load(Ordering::Relaxed) == before {
                self.lost.fetch_add(self.on_the_way(), Ordering::Relaxed);
            }
        }
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The peer has received so many bytes in all. Earlier news that come late change nothing.
    pub fn on_received(&self, bytes: u64) {
        self.received.fetch_max(bytes, Ordering::Relaxed);
        self.is_told.notify_one();
    }

    fn on_the_way(&self) -> u64 {
        let arrived = self.received.load(Ordering::Relaxed).saturating_add(self.lost.load(Ordering::Relaxed));
        self.sent.load(Ordering::Relaxed).saturating_sub(arrived)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    fn is_sent(window: &Window, bytes: usize) -> bool {
        let mut sending = std::pin::pin!(window.send(bytes));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        sending.as_mut().poll(&mut context) == Poll::Ready(())
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_on_the_way_than_may_be_and_what_is_lost_makes_room() {
        let window = Window::new(100, Duration::from_millis(5));
        assert!(is_sent(&window, 500), "a single one may be longer");
        assert!(!is_sent(&window, 1));
        window.on_received(450);
        assert!(is_sent(&window, 50) && !is_sent(&window, 1));
        window.on_received(100);
        assert!(!is_sent(&window, 1), "news that come late make no room");
        window.send(100).await;
        assert!(!is_sent(&window, 1), "what was lost is given up, and the room is taken again");
        window.on_received(550);
        assert!(is_sent(&window, 100), "the loss is not forgotten: 450 + 100 have arrived, 100 are lost");
    }
}
