//! Running nodes under systemd, in containers and in Kubernetes: what a node tells those who start, watch
//! and stop it, and what it needs of them.
//!
//! Files to begin with are in `deploy/` of this crate: a unit for systemd, a Dockerfile, a `StatefulSet`,
//! alert rules for Prometheus, and a dashboard for Grafana.
//!
//! # Starting
//!
//! `paxos-node check --config FILE` reads all that `serve` would read, and starts nothing: it names the first
//! thing that is wrong, with exit code 2. It may run beside the node, so check before you start anew.
//!
//! A node answers from its start on, whatever it is waiting for:
//!
//! | who asks | is told |
//! |---|---|
//! | `/healthz` | 200; 503 if the node hangs, so that to start it anew may help: for ten seconds it has ended no turn |
//! | `/readyz` | 200 if the node has a leader and has caught up; else 503 and why: `replaying the log: 40 %`, `reading the snapshot: 12 %`, `no leader`, `catching up: 1234 slots` |
//! | `/startedz` | 200 if the node is ready, or would be if other nodes were there; else 503 and why |
//! | a Redis client | `LOADING` until the node has recovered: libraries try again |
//! | systemd | `READY=1` once the node has recovered, and the line of `/readyz` as its status |
//! | a person | the page at `/` of the HTTP port |
//!
//! A node that is ready may get no leader later, as its peers are gone: so let `/readyz` decide who gets
//! clients, `/startedz` when the next node is started or updated, and `/healthz` alone who is started anew.
//! When peers vanish without a word, by a power cut for example, `/startedz` says 503, too, until the node
//! has noticed: for about five seconds. A node that joins says 503 there until it was added.
//!
//! # Stopping
//!
//! SIGTERM ends a node within a second, also while it reads its log, waits for members of the cluster that
//! it joins, or for a disk that hangs. A leader hands over first. SIGHUP has it read certificates, users
//! and what to log again.
//!
//! # systemd
//!
//! The unit has `Type=notify`. The start is over when the node has recovered, not when it is ready: the
//! first of three nodes waits for the second. A long recovery tells again and again that it takes longer
//! (`EXTEND_TIMEOUT_USEC`). With `WatchdogSec` systemd kills a node that hangs; only the task that runs the
//! protocol feeds it.
//!
//! The exit codes 2 (configuration), 4 (damaged data), 5 (removed) and 6 (the data needs a newer version) are
//! no reason to start anew: a person is needed. The unit says so with `RestartPreventExitStatus`.
//!
//! # Containers and Kubernetes
//!
//! - The node may be process 1.
//! - It reads its limit of memory from the cgroup.
//! - Each node needs a volume of its own that stays with it. An empty one under an old id is refused by its
//!   peers, as it has forgotten promises: replace such a node by one with a new id, as the README tells.
//! - Peers may be names. A name is looked up for each new connection, so it may have no address yet, get
//!   another one, or have several, which are tried in turn. Have the node listen on all addresses
//!   (`--listen 0.0.0.0:9001`), as its own name may come late.
//! - A headless service needs `publishNotReadyAddresses`: nodes find each other before they are ready.
//! - A `StatefulSet` makes each pod when the one before is ready (`OrderedReady`), but the first of three
//!   nodes has no leader before it has met the second. So let its readiness probe ask `/startedz`, with
//!   `minReadySeconds`, as a node that has just recovered has not met the others yet. Then an update goes on
//!   to the next pod when this one has caught up, and pods that are lost, even most of them at once, are made
//!   again one after the other.
//! - A pod has one readiness, which also says whether a service leads clients to it: with `/startedz` they
//!   may come to a node that the others do not reach. It answers `CLUSTERDOWN`, and the client tries another
//!   one. If no client may ever come there, let the probe ask `/readyz`, with `podManagementPolicy:
//!   Parallel`, or have a load balancer outside of Kubernetes ask `/readyz`.
