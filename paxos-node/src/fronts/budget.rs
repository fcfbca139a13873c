//! One bound for the memory that the buffers of all connections take.
//!
//! A connection whose buffers take more than [`FREE_BYTES`] holds a [`Lease`] of the budget. If the budget
//! does not have what a connection needs, the connection waits for others to give memory back. Those whose
//! requests are being carried out will do so; others may wait for their clients for ever. So if nothing is
//! given back for [`PATIENCE`], the budget tells the connection whose client has been silent for longest to
//! leave, and if that does not help for [`GRACE`], the one whose request began first. However many clients
//! never finish their requests, one that does is served.
//!
//! A connection whose buffers are empty gives their memory back within two [`SWEEP_INTERVAL`]s.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::lock::lock;

/// Each connection may hold this much beside the budget.
pub(crate) const FREE_BYTES: usize = 8 << 10;
/// How long a connection waits for others to give something back before one of them is told to leave.
const PATIENCE: Duration = Duration::from_millis(100);
/// Until it has waited this long, connections may stay whose clients sent something within [`PATIENCE`], and
/// those that wait for memory themselves.
const GRACE: Duration = Duration::from_secs(1);
/// How long it waits in all if none can be told to leave, as the requests of all are being carried out.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// How often idle connections are told to shrink their buffers.
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The memory that connections share.
#[derive(Debug)]
pub(crate) struct Budget {
    limit_bytes: usize,
    leases: Mutex<Leases>,
    /// Notified when memory is given back.
    freed: Notify,
    started: Instant,
}

#[derive(Debug, Default)]
struct Leases {
    used_bytes: usize,
    /// Leases of some bytes, by the numbers of their connections.
    holders: BTreeMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    holder: Arc<Holder>,
    /// When it first asked for what it holds, in microseconds since the budget was made.
    began_at: u64,
    /// Its `heard_at` when it was last swept.
    seen_at: u64,
    is_leaving: bool,
}

/// What the budget knows about a connection, and what it tells it.
#[derive(Debug, Default)]
struct Holder {
    /// When its client last sent something, in microseconds since the budget was made.
    heard_at: AtomicU64,
    /// It waits for its client, so ending it interrupts no request that is being carried out.
    waits_for_client: AtomicBool,
    /// It waits for memory.
    waits_for_memory: AtomicBool,
    order: Order,
}

#[derive(Debug, Default)]
struct Order {
    has_to_leave: AtomicBool,
    has_to_shrink: AtomicBool,
    given: Notify,
}

/// What a connection is told to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// Free buffers that are not needed.
    Shrink,
    /// Free everything, and end.
    Leave,
}

impl Holder {
    fn heard_at(&self) -> u64 {
        self.heard_at.load(Ordering::Relaxed)
    }
}

impl Budget {
    pub(crate) fn new(limit_bytes: usize) -> Arc<Budget> {
        let (leases, freed, started) = (Mutex::default(), Notify::new(), Instant::now());
        Arc::new(Budget { limit_bytes, leases, freed, started })
    }

    /// A connection's lease, of nothing at first. `number` is the connection's own.
    pub(crate) fn lease(self: &Arc<Self>, number: u64) -> Lease {
        Lease { budget: Arc::clone(self), number, bytes: 0, holder: Arc::default() }
    }

    /// How many bytes all leases hold.
    pub(crate) fn used_bytes(&self) -> usize {
        self.leases().used_bytes
    }

    /// Tells connections to shrink whose clients have sent nothing since the last call.
    pub(crate) fn sweep(&self) {
        for held in self.leases().holders.values_mut() {
            let heard_at = held.holder.heard_at();
            if std::mem::replace(&mut held.seen_at, heard_at) == heard_at {
                held.holder.order.has_to_shrink.store(true, Ordering::Relaxed);
                held.holder.order.given.notify_one();
            }
        }
    }

    /// Tells a connection to leave: the one whose client has been silent for longest, and for [`PATIENCE`] at
    /// least. If there is none, and it `is_urgent` or all connections wait for memory so that no client can
    /// be heard, the one whose request began first, and no other until that is gone: so a request that began
    /// late, and goes on, is not given up for those that never end. Returns `false` if no connection can be
    /// told and none is leaving.
    fn make_way(&self, is_urgent: bool) -> bool {
        let patience = u64::try_from(PATIENCE.as_micros()).unwrap_or(u64::MAX);
        let latest = self.now().saturating_sub(patience);
        let mut leases = self.leases();
        let waits_for_memory = |held: &Held| held.holder.waits_for_memory.load(Ordering::Relaxed);
        let waits_for_client = |held: &Held| held.holder.waits_for_client.load(Ordering::Relaxed);
        let is_any_leaving = leases.holders.values().any(|held| held.is_leaving);
        let goes_by_age = !is_any_leaving && (is_urgent || leases.holders.values().all(waits_for_memory));
        let staying = || leases.holders.iter().filter(|(_, held)| !held.is_leaving);
        let is_silent = |held: &Held| waits_for_client(held) && held.holder.heard_at() <= latest;
        let silent =
            staying().filter(|(_, held)| is_silent(held)).min_by_key(|(_, held)| held.holder.heard_at());
        let oldest = || {
            let waiting = staying().filter(|(_, held)| waits_for_client(held) || waits_for_memory(held));
            waiting.min_by_key(|(_, held)| held.began_at)
        };
        let told = silent.or_else(|| if goes_by_age { oldest() } else { None }).map(|(number, _)| *number);
        let told = told.and_then(|number| leases.holders.get_mut(&number));
        let Some(held) = told else { return is_any_leaving };
        held.is_leaving = true;
        held.holder.order.has_to_leave.store(true, Ordering::Relaxed);
        held.holder.order.given.notify_one();
        true
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        lock(&self.leases)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// The part of the budget that one connection holds; given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    budget: Arc<Budget>,
    number: u64,
    bytes: usize,
    holder: Arc<Holder>,
}

/// There is no memory for the request that the connection's client has begun to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoMemory;

impl Lease {
    /// Holds this many bytes from now on; waits if they are more than before and the budget has too few left.
    ///
    /// # Errors
    ///
    /// [`NoMemory`] if the connection has to leave, because others need the memory.
    pub(crate) async fn hold(&mut self, bytes: usize) -> Result<(), NoMemory> {
        let bytes = if bytes <= FREE_BYTES { 0 } else { bytes };
        if bytes <= self.bytes {
            if bytes < self.bytes {
                self.give_back(bytes);
            }
            return Ok(());
        }
        let began_at = self.budget.now();
        if self.try_take(bytes, began_at) {
            return Ok(());
        }
        self.holder.waits_for_memory.store(true, Ordering::Relaxed);
        let result = self.wait_for(bytes, began_at).await;
        self.holder.waits_for_memory.store(false, Ordering::Relaxed);
        result
    }

    pub(crate) fn is_held(&self) -> bool {
        self.bytes > 0
    }

    /// Notes that the client has sent something.
    pub(crate) fn heard_of_client(&self) {
        if self.bytes > 0 {
            self.holder.heard_at.store(self.budget.now(), Ordering::Relaxed);
        }
    }

    /// Notes whether the connection waits for its client: only then may it be told to leave.
    pub(crate) fn waits_for_client(&self, waits: bool) {
        self.holder.waits_for_client.store(waits, Ordering::Relaxed);
    }

    /// Resolves when the budget tells the connection something. Cancel-safe.
    pub(crate) async fn told(&self) -> Told {
        let order = &self.holder.order;
        loop {
            if order.has_to_leave.load(Ordering::Relaxed) {
                return Told::Leave;
            }
            if order.has_to_shrink.swap(false, Ordering::Relaxed) {
                return Told::Shrink;
            }
            order.given.notified().await;
        }
    }

    async fn wait_for(&mut self, bytes: usize, began_at: u64) -> Result<(), NoMemory> {
        let asked_at = Instant::now();
        let budget = Arc::clone(&self.budget);
        loop {
            let freed = budget.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable(); // Before looking, so that nothing freed from here on is missed.
            if self.holder.order.has_to_leave.load(Ordering::Relaxed) {
                return Err(NoMemory);
            }
            if self.try_take(bytes, began_at) {
                return Ok(());
            }
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep(PATIENCE) => {
                    // A connection that holds nothing yet frees nothing by leaving, so it may wait for long.
                    let waited = asked_at.elapsed();
                    if !budget.make_way(waited >= GRACE) && waited > MAX_WAIT {
                        return Err(NoMemory);
                    }
                }
            }
        }
    }

    /// `began_at` is when it first asked for what it does not have yet.
    fn try_take(&mut self, bytes: usize, began_at: u64) -> bool {
        let mut leases = self.budget.leases();
        let used_bytes = leases.used_bytes - self.bytes + bytes;
        // A request larger than the budget gets all of it, alone.
        if used_bytes > self.budget.limit_bytes && leases.used_bytes > self.bytes {
            return false;
        }
        leases.used_bytes = used_bytes;
        if self.bytes == 0 {
            self.holder.heard_at.store(self.budget.now(), Ordering::Relaxed);
            let (holder, seen_at) = (Arc::clone(&self.holder), u64::MAX);
            let held = Held { holder, began_at, seen_at, is_leaving: false };
            leases.holders.insert(self.number, held);
        }
        drop(leases);
        self.bytes = bytes;
        true
    }

    fn give_back(&mut self, bytes: usize) {
        let mut leases = self.budget.leases();
        leases.used_bytes -= self.bytes - bytes;
        if bytes == 0 {
            leases.holders.remove(&self.number);
            self.holder.order.has_to_leave.store(false, Ordering::Relaxed);
        }
        drop(leases);
        self.bytes = bytes;
        self.budget.freed.notify_waiters();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.give_back(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: usize = 100 << 10;

    /// A connection that holds a part and waits for its client until it is told to leave.
    async fn wait_for_client(mut lease: Lease) {
        lease.hold(PART).await.expect("there is room");
        lease.waits_for_client(true);
        while lease.told().await == Told::Shrink {}
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_wait_for_their_clients_make_way_the_oldest_first() {
        let budget = Budget::new(3 * PART);
        let mut waiting = Vec::new();
        for number in 0..3 {
            waiting.push(tokio::spawn(wait_for_client(budget.lease(number))));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(budget.used_bytes(), 3 * PART);
        let mut late = budget.lease(7);
        late.hold(2 * PART).await.expect("two have made way");
        assert_eq!(budget.used_bytes(), 3 * PART);
        assert_eq!(
            waiting.iter().map(tokio::task::JoinHandle::is_finished).collect::<Vec<_>>(),
            [true, true, false]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_being_carried_out_is_waited_for() {
        let budget = Budget::new(2 * PART);
        let (mut first, mut second) = (budget.lease(1), budget.lease(2));
        first.hold(2 * PART).await.expect("there is room");
        let waits = tokio::spawn(async move { second.hold(PART).await.map(|()| second) });
        tokio::time::sleep(2 * PATIENCE).await;
        assert!(!waits.is_finished(), "the first is not told to leave");
        first.hold(PART).await.expect("it is less than before");
        let second = waits.await.expect("it does not panic").expect("there is room now");
        assert_eq!(budget.used_bytes(), 2 * PART);
        drop((first, second));
        assert_eq!(budget.used_bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_memory_is_not_told_to_leave_while_others_wait_for_their_clients() {
        let budget = Budget::new(3 * PART);
        let mut early = budget.lease(1);
        early.hold(PART).await.expect("there is room");
        let late: Vec<_> = (2..4).map(|number| tokio::spawn(wait_for_client(budget.lease(number)))).collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        early.hold(3 * PART).await.expect("the others make way, though this one is older");
        assert!(late.iter().all(tokio::task::JoinHandle::is_finished));
    }

    #[tokio::test(start_paused = true)]
    async fn of_those_that_all_wait_for_memory_the_one_that_began_first_makes_way() {
        let budget = Budget::new(2 * PART);
        let (mut first, mut second) = (budget.lease(1), budget.lease(2));
        first.hold(PART).await.expect("there is room");
        tokio::time::sleep(Duration::from_millis(1)).await;
        second.hold(PART).await.expect("there is room");
        tokio::time::sleep(Duration::from_millis(1)).await;
        first.heard_of_client(); // What the system has buffered of it, before it waits.
        let first = tokio::spawn(async move { first.hold(2 * PART).await });
        second.hold(2 * PART).await.expect("the first makes way");
        assert_eq!(first.await.expect("it does not panic"), Err(NoMemory));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_request_that_goes_on_is_not_given_up_for_earlier_ones_that_wait_for_memory() {
        let budget = Budget::new(2 * PART);
        let (mut early, mut late) = (budget.lease(1), budget.lease(2));
        early.hold(PART).await.expect("there is room");
        tokio::time::sleep(Duration::from_millis(1)).await;
        late.hold(PART).await.expect("there is room");
        late.waits_for_client(true);
        let early = tokio::spawn(async move { early.hold(2 * PART).await });
        while !early.is_finished() {
            late.heard_of_client();
            let told = tokio::time::timeout(PATIENCE / 2, late.told()).await;
            assert!(told.is_err(), "it is told {told:?}");
        }
        assert_eq!(early.await.expect("it does not panic"), Err(NoMemory));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_larger_than_the_budget_has_it_alone_and_little_is_free() {
        let budget = Budget::new(PART);
        let (mut large, mut little) = (budget.lease(1), budget.lease(2));
        little.hold(FREE_BYTES).await.expect("that is free");
        large.hold(5 * PART).await.expect("nobody else holds anything");
        assert_eq!(little.hold(FREE_BYTES + 1).await, Err(NoMemory), "it has waited for long");
    }

    #[tokio::test(start_paused = true)]
    async fn only_who_does_nothing_is_told_to_shrink() {
        let budget = Budget::new(4 * PART);
        let (mut busy, mut idle) = (budget.lease(1), budget.lease(2));
        for lease in [&mut busy, &mut idle] {
            lease.hold(PART).await.expect("there is room");
        }
        budget.sweep();
        tokio::time::sleep(Duration::from_millis(1)).await;
        busy.heard_of_client();
        budget.sweep();
        assert_eq!(idle.told().await, Told::Shrink);
        let told = tokio::time::timeout(PATIENCE, busy.told()).await;
        assert!(told.is_err(), "the busy one is told {told:?}");
    }
}
