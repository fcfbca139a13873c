//! Connects to the peers that this node dials, and finds out why others do not connect.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use paxos_core::NodeId;
use tokio::time::{Instant, sleep, timeout};

use crate::network::connection::Connection;
use crate::network::link::{Class, Ended, Link, LinkStatus};
use crate::network::peers::Network;
use crate::network::report::Reporter;
use crate::network::resolve::Found;
use crate::network::table::PeerLinks;
use crate::{Carrier, Unreachable};

/// A peer that should dial this node may be missing for this long before this node dials.
const PROBE_AFTER: Duration = Duration::from_secs(3);
/// The time between such attempts, and between probes of a missing peer.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// How often this node checks whether an attempt is due.
const PROBE_TICK: Duration = Duration::from_secs(1);

/// Opens connections; implemented by each networked backend.
pub(crate) trait Dialer: Send + Sync + 'static {
    type Connection: Connection;

    const CARRIER: Carrier;

    fn dial(
        &self,
        peer: NodeId,
        address: SocketAddr,
        class: Class,
    ) -> impl Future<Output = Result<Self::Connection, Unreachable>> + Send;

    /// Finds out in about a second whether anything answers at an address, without a handshake:
    /// [`Unreachable::DoesNotDial`] if something does, otherwise why not.
    fn probe(&self, address: SocketAddr) -> impl Future<Output = Unreachable> + Send;
}

/// Keeps up the links to peers: what a transport needs of its [`Dialer`] when its peers change.
pub(crate) trait KeepLinks: fmt::Debug + Send + Sync {
    /// Starts the tasks that dial a peer with a lower id, or look after one with a higher id that does not
    /// dial.
    fn keep(&self, network: &Arc<Network>, peer: &Arc<PeerLinks>);
}

struct Keeper<D>(Arc<D>);

impl<D> fmt::Debug for Keeper<D> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl<D: Dialer> KeepLinks for Keeper<D> {
    fn keep(&self, network: &Arc<Network>, peer: &Arc<PeerLinks>) {
        let main = peer.link(Class::Main);
        if main.peer > network.config.node {
            let (looking, dialer, kept) = (Arc::clone(network), Arc::clone(&self.0), Arc::clone(peer));
            main.kept_by(network.spawn(async move {
                tokio::select! {
                    () = looking.keep_looking(&*dialer, &kept) => {}
                    () = kept.link(Class::Main).closing() => {}
                }
            }));
            return;
        }
        for link in peer.links() {
            let (keeping, dialer, kept) = (Arc::clone(network), Arc::clone(&self.0), Arc::clone(link));
            link.kept_by(network.spawn(async move { keeping.keep_dialing(&*dialer, &kept).await }));
        }
    }
}

impl Network {
    /// Reports to the operator, and starts to keep up the links to the first peers.
    pub(crate) fn start<D: Dialer>(
        self: &Arc<Self>,
        dialer: &Arc<D>,
        local_address: SocketAddr,
    ) -> Box<dyn KeepLinks> {
        self.spawn_until_closing(Reporter::default().run(Arc::clone(self), local_address));
        self.spawn_until_closing(Arc::clone(self).follow_identity(self.config.identity.subscribe()));
        let keeper = Keeper(Arc::clone(dialer));
        self.peer_table().values().for_each(|peer| keeper.keep(self, peer));
        Box::new(keeper)
    }

    async fn keep_dialing<D: Dialer>(self: &Arc<Self>, dialer: &D, link: &Arc<Link>) {
        let mut backoff = self.config.min_backoff;
        let mut probed_at = None;
        for attempt in 0.. {
            let attempted = tokio::select! {
                attempted = self.dial(dialer, link, attempt, &mut probed_at) => attempted,
                () = link.redialed() => continue,
                () = link.closing() => return,
            };
            match attempted {
                Ok(connection) => {
                    self.on_connection(link, &connection);
                    let claim = Arc::new(link.claim());
                    self.check_shown(link);
                    let ended = tokio::select! {
                        ended = connection.carry(&claim) => ended,
                        () = link.redialed() => Ended::lost("it is dialed anew"),
                    };
                    if claim.is_opened() {
                        backoff = self.config.min_backoff;
                    }
                    drop(claim);
                    link.on_ended(ended);
                }
                Err(problem) => {
                    tracing::debug!(peer = link.peer.0, class = ?link.class, %problem, "connection failed");
                    link.set_problem(problem);
                }
            }
            // Jitter from half to all of it keeps nodes from dialing at the same moments.
            let pause = backoff.mul_f64(0.5 + fastrand::f64() / 2.0);
            backoff = (backoff * 2).min(self.config.max_backoff);
            tokio::select! {
                () = sleep(pause) => {}
                () = link.redialed() => backoff = self.config.min_backoff,
                () = link.closing() => return,
            }
        }
    }

    /// Tries one of the peer's addresses. `probed_at` is the time of the last probe.
    async fn dial<D: Dialer>(
        self: &Arc<Self>,
        dialer: &D,
        link: &Link,
        attempt: usize,
        probed_at: &mut Option<Instant>,
    ) -> Result<D::Connection, Unreachable> {
        let Found { addresses, problem: name_problem } = self.find(link.peer).await;
        // Attempts take turns, as some addresses of a host may not work.
        let Some(&address) = addresses.get(attempt % addresses.len().max(1)) else {
            return Err(name_problem.unwrap_or(Unreachable::NotYet));
        };
        let outcome = timeout(self.config.connect_timeout, dialer.dial(link.peer, address, link.class)).await;
        let problem = match outcome {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(problem)) => problem,
            Err(_) => {
                let link_status = link.status();
                if !is_probe_due(*probed_at, &link_status) {
                    // The result of the last probe still holds.
                    return Err(link_status.problem.unwrap_or(Unreachable::NotYet));
                }
                *probed_at = Some(Instant::now());
                match dialer.probe(address).await {
                    Unreachable::DoesNotDial { address, carrier } => {
                        Unreachable::Unresponsive { address, carrier }
                    }
                    problem => problem,
                }
            }
        };
        // If the look-up failed, too, that is what the operator must correct.
        Err(name_problem.unwrap_or(problem))
    }

    /// Looks after a peer that should dial this node, but does not: dials it, to be a guest there if this
    /// node is none of its peers, and to find out what is wrong otherwise.
    async fn keep_looking<D: Dialer>(self: &Arc<Self>, dialer: &D, peer: &PeerLinks) {
        let mut dialed_at = [None; Class::ALL.len()];
        let mut attempt = 0;
        loop {
            sleep(PROBE_TICK).await;
            for (link, dialed_at) in peer.links().iter().zip(&mut dialed_at) {
                let link_status = link.status();
                let is_missing = !link_status.is_open && link_status.since.elapsed() >= PROBE_AFTER;
                // Where the first connection is refused, so is the second.
                let is_hopeless = link.class != Class::Main && !peer.link(Class::Main).is_open();
                if !is_missing || is_hopeless || !is_probe_due(*dialed_at, &link_status) {
                    continue;
                }
                attempt += 1;
                match self.dial(dialer, link, attempt, &mut None).await {
                    Ok(connection) => self.serve_as_guest(link, connection, D::CARRIER),
                    Err(problem) => link.suspect(problem),
                }
                *dialed_at = Some(Instant::now());
            }
        }
    }

    /// Serves a connection to a peer that should have dialed, unless it has done so meanwhile.
    fn serve_as_guest<C: Connection>(&self, link: &Arc<Link>, connection: C, carrier: Carrier) {
        let Some(claim) = link.claim_if_free() else { return };
        self.on_connection(link, &connection);
        let address = connection.peer_address();
        let number = claim.number();
        let (claim, served) = (Arc::new(claim), Arc::clone(link));
        let task = self.spawn(async move {
            let ended = connection.carry(&claim).await;
            drop(claim);
            match ended {
                // It takes this node for a peer, and so for one that it dials itself.
                Ended::Because(Unreachable::NotAdmitted { .. }) => {
                    served.suspect(Unreachable::DoesNotDial { address, carrier });
                }
                ended => served.on_ended(ended),
            }
        });
        link.served_by(number, task);
        self.check_shown(link);
    }

    async fn find(self: &Arc<Self>, peer: NodeId) -> Found {
        self.lookups.find(peer, |lookup| self.spawn_until_closing(lookup)).await
    }
}

/// Whether a probe is due: at intervals, and at once after a connection was lost.
fn is_probe_due(probed_at: Option<Instant>, link_status: &LinkStatus) -> bool {
    probed_at.is_none_or(|probed_at| probed_at < link_status.since || probed_at.elapsed() >= PROBE_INTERVAL)
}
