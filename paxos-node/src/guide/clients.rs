//! Which client libraries of Redis work, and what they do when an answer is lost.
//!
//! `paxos-node/tests/clients/run` runs these over the network against three nodes, each asked by clients of
//! the others as well; it installs the versions that are named here. Where a library needs what a node does
//! not have, the error says so on its first use.
//!
//! | library | what runs | |
//! |---|---|---|
//! | redis-py 8.1.0, sync and asyncio, alone and with hiredis 3.5.0 | commands, pipelines, `WATCH`, publish and subscribe, `Lock`, scripts of locks, its cache of RESP3 | works |
//! | valkey-py 6.2.0 | the same without the cache | works |
//! | valkey-glide 2.6.0 (Python) | commands, expiry, transactions, `WATCH`, scripts | works |
//! | redis-rs 1.8.1 | commands, expiry, pipelines, `transaction`, messages, scripts | works |
//! | ioredis 6.0.0 | commands, pipelines, `WATCH`, messages, `defineCommand` of a lock, scans | works |
//! | node-redis 6.3.1 | the same, and its cache of RESP3 | works |
//! | redlock-py 1.0.8, pottery 3.0.1 (`Redlock`) | locks: taken, prolonged, released, expired | works |
//! | redlock 4.2.0 and 5.0.0-beta.2 (Node.js) | locks on several keys | works |
//! | django-redis 7.0.0, with Django 5.2.19 | cache, sessions, counters, patterns, locks | works |
//! | Flask-Caching 2.5.1 | cache, `memoize`, views | works |
//! | limits 5.8.0 (Flask-Limiter, slowapi) | fixed windows, sliding windows | works; moving windows need lists |
//! | rate-limiter-flexible 11.4.0 | over ioredis and node-redis | works |
//! | rate-limit-redis 6.0.1 (express-rate-limit) | | works |
//! | connect-redis 9.0.0 | sessions of Express | works |
//! | keyv 5.6.0 with @keyv/redis 5.1.6 | cache with namespaces | works |
//! | redis-cli 7.0.15 | `--pipe --scan --bigkeys --memkeys --stat --latency --eval --json` | works |
//! | `redis_exporter` 1.45.0 (Debian's prometheus-redis-exporter) | its metrics, and those of a key | works |
//! | python-redis-lock 4.0.1 | `acquire(blocking=False)`, `extend` | `release` wakes those who wait by a list |
//! | Celery, RQ, `BullMQ` | | queues are lists and streams, which a node does not have |
//!
//! # When an answer is lost
//!
//! A node applies each request that it reads at most once, however often the request is sent again *between
//! nodes*. It can't tell whether a client that sends the same command over a new connection means the same
//! command or another one. So an increment is applied twice if the connection breaks after the node has read
//! it, and the client library sends it again by itself. Several libraries do so by default, and give their
//! caller an ordinary answer.
//!
//! The table shows default settings but for a socket time-out of one second, with a server that takes `INCR`
//! and then closes the connection, or says nothing more. `findings/redis-clients-send-again.sh` repeats the
//! first five rows.
//!
//! | library | the connection closes | the connection stalls | so that it is sent once |
//! |---|---|---|---|
//! | redis-py 8.1.0 | **sent again**, counted twice | **sent again**, counted twice | `Redis(retry=Retry(NoBackoff(), 0))` |
//! | valkey-py 6.2.0 | `ConnectionError` | `TimeoutError` | as it is |
//! | coredis 6.9.0 | **sent again**, counted twice | sent again, then an error | |
//! | ioredis 6.0.0 (and 5) | **sent again**, counted twice | **sent again**, counted twice | `maxRetriesPerRequest: 0` |
//! | node-redis 6.3.1 | `SocketClosedUnexpectedlyError` | `SocketTimeoutError` | as it is |
//! | `redis` 1.8.1 (Rust), multiplexed or `ConnectionManager` | error | error | as it is |
//! | `fred` 10.1.0 (Rust) | error | error | as it is |
//!
//! `SET`, `DEL` and `MSET` have the same effect when they are applied twice in a row, unless another client
//! has written in between. For `INCR`, `APPEND` and `GETDEL` switch sending again off and decide on an
//! error yourself. Programs in Rust can use the library's own client: under a
//! [`ClientSession`](crate::ClientSession) a command may be sent again, through any node, and is applied
//! once.
//!
//! # A pipeline that meets a node that starts
//!
//! redis-py 8.1.0 sends a whole pipeline again, over a new connection and up to 10 times, if one of its
//! replies is `LOADING`; commands that were carried out behind it would be carried out again. So a node
//! refuses with `LOADING` all that a client has sent in one go with the first command that it refuses so,
//! even if it could carry out the rest by then. `findings/redis-py-repeats-a-pipeline-that-loads.sh` shows
//! the client alone; valkey-py 6.2.0 and coredis 6.9.0 send a pipeline once.
//!
//! # What the answers mean
//!
//! | answer | the command |
//! |---|---|
//! | a reply of the command | is applied, and survives as long as a majority of disks does |
//! | `CLUSTERDOWN ...` | is not applied and never will be: send it again, here or to another node |
//! | `LOADING ...` | is not applied and never will be: the node still reads its log |
//! | `TIMEOUT ...`, or a connection that breaks | may be applied, or may be yet |
