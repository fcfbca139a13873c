//! Looks up the addresses of peers.
//!
//! The system's resolver may take any time, so look-ups run in tasks of their own. An attempt to connect
//! waits for at most [`NetworkConfig::lookup_timeout`](crate::NetworkConfig::lookup_timeout), then uses the
//! addresses found earlier, if any. A late answer serves the next attempt. Each peer has at most one look-up
//! under way.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use paxos_core::NodeId;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

use crate::Unreachable;
use crate::lock::lock;

/// A result is used for this long, so that both connections to a peer share one look-up.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// Looks up the addresses of a host.
#[async_trait]
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// Looks up the addresses of `HOST:PORT`. May take any time, but must not block the thread.
    ///
    /// # Errors
    ///
    /// If the name is unknown or the resolver fails.
    async fn resolve(&self, host_and_port: &str) -> io::Result<Vec<SocketAddr>>;
}

/// Asks the system's resolver (`/etc/hosts`, DNS and whatever else is configured), each time on a new thread.
/// A runtime that shuts down does not wait for that thread, as it would for one of its own pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host_and_port: &str) -> io::Result<Vec<SocketAddr>> {
        let (answer, answered) = oneshot::channel();
        let name = host_and_port.to_owned();
        std::thread::Builder::new().name(String::from("name look-up")).spawn(move || {
            // Fails if the transport is closing; then the answer is not needed.
            let _ = answer.send(name.to_socket_addrs().map(Iterator::collect));
        })?;
        answered.await.unwrap_or_else(|_| Err(io::Error::other("the look-up has failed")))
    }
}

/// The names of all peers, and the results of their last look-ups.
#[derive(Debug)]
pub(crate) struct Lookups {
    resolver: Arc<dyn Resolve>,
    limit: Duration,
    peers: Mutex<BTreeMap<NodeId, Arc<watch::Sender<Lookup>>>>,
}

/// The name of one peer, and the result of its last look-up.
#[derive(Debug, Default)]
struct Lookup {
    name: String,
    is_under_way: bool,
    ended_at: Option<Instant>,
    /// Why the last look-up failed, if it did.
    problem: Option<Unreachable>,
    /// The addresses of the last look-up that found any.
    addresses: Vec<SocketAddr>,
}

/// The addresses of a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    /// Outdated or empty if there is a problem.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) problem: Option<Unreachable>,
}

impl Lookups {
    pub(crate) fn new(
        resolver: Arc<dyn Resolve>,
        limit: Duration,
        names: &BTreeMap<NodeId, String>,
    ) -> Lookups {
        let lookups = Lookups { resolver, limit, peers: Mutex::default() };
        let _ = lookups.set_names(names);
        lookups
    }

    /// Replaces the names of all peers. What was found for a name that stays is kept. Returns the peers whose
    /// names have changed.
    pub(crate) fn set_names(&self, names: &BTreeMap<NodeId, String>) -> Vec<NodeId> {
        let mut peers = lock(&self.peers);
        peers.retain(|peer, _| names.contains_key(peer));
        let mut renamed = Vec::new();
        for (peer, name) in names {
            let is_changed = peers.entry(*peer).or_default().send_if_modified(|lookup| {
                let is_changed = lookup.name != *name;
                if is_changed {
                    let is_under_way = lookup.is_under_way;
                    *lookup = Lookup { name: name.clone(), is_under_way, ..Lookup::default() };
                }
                is_changed
            });
            if is_changed {
                renamed.push(*peer);
            }
        }
        renamed
    }

    fn lookup(&self, peer: NodeId) -> Option<Arc<watch::Sender<Lookup>>> {
        lock(&self.peers).get(&peer).cloned()
    }

    /// The addresses that are known already.
    pub(crate) fn known(&self, peer: NodeId) -> Vec<SocketAddr> {
        let Some(lookup) = self.lookup(peer) else { return Vec::new() };
        let lookup = lookup.borrow();
        lookup.name.parse().map_or_else(|_| lookup.addresses.clone(), |address| vec![address])
    }

    /// The peers with this address, on any port.
    pub(crate) fn peers_at(&self, host: IpAddr) -> Vec<NodeId> {
        let is_there =
            |peer: &NodeId| self.known(*peer).iter().any(|known| known.ip().to_canonical() == host);
        let peers: Vec<NodeId> = lock(&self.peers).keys().copied().collect();
        peers.into_iter().filter(is_there).collect()
    }

    /// Returns the addresses of a peer. If a look-up is needed, `spawn` gets it as a task.
    pub(crate) async fn find(
        self: &Arc<Self>,
        peer: NodeId,
        spawn: impl FnOnce(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>),
    ) -> Found {
        let Some(lookup) = self.lookup(peer) else {
            return Found { addresses: Vec::new(), problem: None };
        };
        if let Ok(address) = lookup.borrow().name.parse() {
            return Found { addresses: vec![address], problem: None };
        }
        let mut starts = None;
        lookup.send_if_modified(|lookup| {
            let is_fresh = lookup.ended_at.is_some_and(|ended_at| ended_at.elapsed() < FRESH_FOR);
            if !lookup.is_under_way && !is_fresh {
                lookup.is_under_way = true;
                starts = Some(lookup.name.clone());
            }
            false
        });
        if let Some(name) = starts {
            let lookups = Arc::clone(self);
            let lookup = Arc::clone(&lookup);
            spawn(Box::pin(async move { lookups.look_up(&lookup, name).await }));
        }
        let mut watched = lookup.subscribe();
        let found = timeout(self.limit, watched.wait_for(|lookup| !lookup.is_under_way)).await;
        let lookup = lookup.borrow();
        let problem = match found {
            Ok(_) => lookup.problem.clone(),
            Err(_) => Some(Unreachable::NameSlow { name: lookup.name.clone(), limit: self.limit }),
        };
        Found { addresses: lookup.addresses.clone(), problem }
    }

    async fn look_up(&self, lookup: &watch::Sender<Lookup>, name: String) {
        // Also if this is dropped midway, because the node is closing.
        let ended = EndOfLookup { lookup };
        let result = self.resolver.resolve(&name).await;
        ended.lookup.send_modify(|lookup| {
            if lookup.name != name {
                return; // It was given another name meanwhile, which is to be looked up next.
            }
            lookup.ended_at = Some(Instant::now());
            let unknown = |problem: String| Some(Unreachable::NameUnknown { name, problem });
            lookup.problem = match result {
                Ok(addresses) if addresses.is_empty() => unknown(String::from("it has no address")),
                Ok(addresses) => {
                    lookup.addresses = addresses;
                    None
                }
                Err(error) => unknown(error.to_string()),
            };
        });
    }
}

/// Marks a look-up as ended when dropped.
struct EndOfLookup<'a> {
    lookup: &'a watch::Sender<Lookup>,
}

impl Drop for EndOfLookup<'_> {
    fn drop(&mut self) {
        self.lookup.send_modify(|lookup| lookup.is_under_way = false);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::sleep;

    use super::*;

    const PEER: NodeId = NodeId(1);
    const LIMIT: Duration = Duration::from_secs(2);

    /// Takes its time, and gives another address each time; without any time it knows no name.
    #[derive(Debug)]
    struct Slow {
        takes: Duration,
        asked: AtomicUsize,
    }

    #[async_trait]
    impl Resolve for Slow {
        async fn resolve(&self, _: &str) -> io::Result<Vec<SocketAddr>> {
            let asked = self.asked.fetch_add(1, Ordering::Relaxed);
            sleep(self.takes).await;
            if self.takes.is_zero() {
                return Err(io::Error::other("no such host"));
            }
            Ok(vec![address(asked)])
        }
    }

    fn address(number: usize) -> SocketAddr {
        ([127, 0, 0, 1], 9000 + u16::try_from(number).expect("few are asked for")).into()
    }

    fn lookups(takes: Duration, name: &str) -> (Arc<Lookups>, Arc<Slow>) {
        let resolver = Arc::new(Slow { takes, asked: AtomicUsize::new(0) });
        let names = BTreeMap::from([(PEER, name.to_owned())]);
        (Arc::new(Lookups::new(Arc::<Slow>::clone(&resolver), LIMIT, &names)), resolver)
    }

    async fn find(lookups: &Arc<Lookups>) -> Found {
        lookups.find(PEER, |lookup| drop(tokio::spawn(lookup))).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_is_used_and_nobody_is_asked_twice_meanwhile() {
        let (lookups, resolver) = lookups(Duration::from_secs(5), "one:9000");
        let slow = Unreachable::NameSlow { name: String::from("one:9000"), limit: LIMIT };
        for _ in 0..2 {
            let (first, second) = tokio::join!(find(&lookups), find(&lookups));
            assert_eq!(first, second);
            assert_eq!(first, Found { addresses: Vec::new(), problem: Some(slow.clone()) });
        }
        assert_eq!(find(&lookups).await, Found { addresses: vec![address(0)], problem: None });
        assert_eq!(resolver.asked.load(Ordering::Relaxed), 1);
        sleep(2 * FRESH_FOR).await;
        let outdated = Found { addresses: vec![address(0)], problem: Some(slow) };
        assert_eq!(find(&lookups).await, outdated, "what was found before serves meanwhile");
        sleep(Duration::from_secs(3)).await;
        assert_eq!(find(&lookups).await, Found { addresses: vec![address(1)], problem: None });
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_for_a_former_name_is_ignored() {
        let (lookups, resolver) = lookups(Duration::from_secs(1), "one:9000");
        let (before, ()) = tokio::join!(find(&lookups), async {
            sleep(Duration::from_millis(500)).await;
            lookups.set_names(&BTreeMap::from([(PEER, String::from("two:9000"))]));
        });
        assert_eq!(before, Found { addresses: Vec::new(), problem: None });
        assert_eq!(find(&lookups).await, Found { addresses: vec![address(1)], problem: None });
        assert_eq!(resolver.asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_name_is_told_and_an_address_is_not_looked_up() {
        let (lookups, resolver) = lookups(Duration::ZERO, "one:9000");
        let problem = find(&lookups).await.problem.expect("the name is unknown");
        assert_eq!(problem.to_string(), "its name one:9000 can't be looked up: no such host");
        lookups.set_names(&BTreeMap::from([(PEER, String::from("127.0.0.1:9007"))]));
        assert_eq!(find(&lookups).await, Found { addresses: vec![address(7)], problem: None });
        assert_eq!(resolver.asked.load(Ordering::Relaxed), 1);
        assert_eq!(lookups.peers_at(address(7).ip()), [PEER]);
    }

    #[tokio::test]
    async fn the_system_knows_this_machine() {
        let found = SystemResolver.resolve("localhost:9000").await.expect("every system knows it");
        assert!(
            found.iter().all(|address| address.ip().is_loopback() && address.port() == 9000),
            "{found:?}"
        );
        assert!(SystemResolver.resolve("no-port").await.is_err());
    }
}
