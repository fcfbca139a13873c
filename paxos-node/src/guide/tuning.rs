//! What each setting of the program costs and buys, with a figure where one was measured.
//!
//! The defaults are for three nodes in one data centre. Change one setting at a time, and measure it on your
//! machines: `paxos-node bench --cluster HOST:PORT` puts a running cluster under load, and `paxos-node bench`
//! compares transports, storages, value sizes and numbers of clients in one process.
//!
//! The figures are from `benches/README.md` of the source tree, which has the machine, the command and the
//! whole table of each, under the heading that is named here. They were taken on two processors that three
//! nodes and their clients shared: compare figures of one row, and expect others elsewhere.
//!
//! # What decides most
//!
//! - **The disk.** A lone command waits for one sync on a majority, so the disk's sync is the floor of its
//!   latency: a lone SET takes 2.7 syncs where three nodes share a disk (*Beside whole servers*).
//!   `paxos_disk_write_seconds` tells what yours takes.
//! - **Many commands at once.** Commands that wait share a sync and a round: 3 141 SETs a second with one
//!   client, 46 828 with 64, and 220 128 if each of these sends 16 at once (*Beside whole servers*). Use
//!   pipelines, `MSET` or more connections before any setting below.
//! - **The number of nodes.** A command on 3, 5 and 7 nodes takes 4, 8 and 12 messages and 3, 5 and 7 syncs,
//!   side by side (*In a time of its own*). Five nodes survive two failures, three survive one.
//! - **The distance.** A command takes one round trip from the leader to the nearest majority; a client of
//!   another node adds that node's round trip to the leader. Give nodes near the clients a higher priority
//!   (`member priority`).
//!
//! # Peers
//!
//! | setting | buys | costs | figure |
//! |---|---|---|---|
//! | `transport quic` (default) | a lost packet holds less up | processor time | where 1 % of packets are lost, 64 writers keep 0.75 to 0.85 of their rate, with TCP 0.60; the p99 is 0.6 of TCP's (*Where packets get lost*) |
//! | `transport tcp` | less work for each message | long waits where packets are lost | on a network without loss 1.2 to 1.3 times the rate of QUIC with the log in memory, 1.05 to 1.1 times on disk (*All backends against each other*) |
//! | `heartbeat`, shorter | a new watermark sooner at idle followers, fresher estimates of time | a message to each peer and its answer, each time | an idle cluster of three takes 0.9 % of a core at 50 ms (*Beside whole servers*) |
//! | `election-timeout`, shorter | a dead leader is replaced sooner: others look for a new one after between one and two time-outs | leaders that are only slow are replaced, too: keep it ten times the heartbeat, and far above the longest turn and the slowest sync | turns are meant to stay below 5 ms, and have (*The longest turn*) |
//! | `reads quorum` (default) | linearizable reads without trust in clocks | a round of heartbeats for all reads that wait | 133 534 GETs a second with 64 clients (*Beside whole servers*) |
//! | `reads lease` | no round for a read at the leader | trust that clocks go at nearly the right speed; a machine that is suspended may serve a stale read when it wakes | with 64 clients 0.84 of the rate of one Redis in place of 0.65, 5.2 µs of processor time for each GET in place of 8.9 (*Beside whole servers*) |
//! | `window-slots`, larger | more slots under way on a long way: a window of one slot for each command and 8 slots gives an eighth of the rate that 64 do, with 64 clients and a hop of 1 ms | memory for what is under way; more to prove for a new leader | with batches, as they are by default, one slot is enough for all clients that wait (*In a time of its own*) |
//! | `found-without`, `peers`, `join`, `listen`, `cluster`, `id`, `certs` | - | - | nothing: they say who is who |
//!
//! # Log and memory
//!
//! | setting | buys | costs | figure |
//! |---|---|---|---|
//! | `storage memory` | no disk in the way: to measure what the disk costs | everything is forgotten when the process ends | a lone SET over QUIC 0.027 ms in place of 0.239, and 330 337 SETs a second in place of 86 666 with 64 clients (*All backends against each other*) |
//! | `snapshot-after-bytes`, larger | fewer snapshots; each is due when the log has grown by this or by half of the last one, if that is more | a longer log on disk and in memory, and a longer replay after a restart | with a million keys a node that was stopped is ready again in 1.74 s (*Catching up, and starting again*) |
//! | `retained-bytes`, larger | a node that was away for a while gets the log, and no snapshot | so much memory on each node, and up to twice that before a snapshot | a snapshot of a million keys over a link of 200 Mbit/s takes 34 s to catch up by (*Catching up, and starting again*) |
//! | `segment-bytes`, smaller | less space: up to four old files are kept beside those in use; fits a small volume | new files more often, which are filled with zeros first | old files used again let 1.26 bytes reach the disk for each byte of a command, new ones 2.51 (README of `paxos-storage`) |
//! | `memory-limit` | an error `-OOM` in place of a node that the system kills: beyond half of it commands that need memory are refused | the smallest limit counts on all nodes | a million keys of 16 bytes with values of 100 take 240 MiB at rest, where one Redis takes 207 (*In memory*) |
//! | `max-value-bytes`, larger | longer values | memory for frames and commands in proportion; long values on a slow link hold others up | 1000 GETs of a value of 900 KiB cost turns of 1.7 ms at most (*The longest turn*) |
//! | `busy-poll`, longer | no sleep between two commands of few clients: a virtual processor takes 25 to 50 µs to wake | processor time that nobody else wants | 0.1 ms against none: SET 1.24 times with one and with 8 clients, GET twice with one; 8 000 lone SETs take 3.3 s of processor time in place of 2.7. 0.2 ms has 1.38 with 8 clients, 0.05 ms 1.1 (*Beside whole servers*) |
//!
//! # Clients
//!
//! | setting | buys | costs | figure |
//! |---|---|---|---|
//! | `request-timeout`, longer | fewer `TIMEOUT` and `CLUSTERDOWN` in an election | clients hear later that there is no quorum | while a live leader is replaced clients wait for 13 ms in the median (*While members change*) |
//! | `max-clients`, larger | more connections | a file descriptor each, and buffers | - |
//! | `client-buffer-bytes`, larger | more and longer requests and replies under way | memory: an eighth of the limit at most | - |
//! | `client-keepalive`, shorter | connections of machines that are gone end sooner | a packet to each silent client | - |
//! | `client-idle-timeout` | connections that nobody uses end | clients that are only silent connect again | - |
//! | `client-tls`, `client-cert`, `client-key`, `client-ca`, `users` | privacy, and rights of their own for clients: see [`access`](super::access) | processor time to encrypt | - |
//! | `http`, `log`, `log-format` | what [`monitor`](super::monitor) tells | lines at level `debug` cost the thread of the driver; nobody waits for who reads the log, and lines that nobody reads are dropped and counted | - |
//!
//! # The system
//!
//! - Huge pages for the program's memory (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`, where the system allows
//!   `madvise`), for many keys and clients that send many commands at once: with a million keys SET at 16 at
//!   once 1.07 times, GET 1.28; 64 clients with one command each have 0.86 (*Beside whole servers*).
//! - The data directory on ext4 or xfs, which are level, as are sectors of 4 KiB and an overlay on ext4. On
//!   btrfs a lone command took 4.6 times as long, mounted with `ssd`, and 29 times with `nossd`; 64 clients
//!   had 0.34 and 0.05 times the rate. tmpfs has 2.1 times the rate, and forgets (*File systems*).
//! - A disk of its own, as a sync waits for the writes of others.
//! - Limits on open files (`ulimit -n`) above `max-clients` and about a hundred.
