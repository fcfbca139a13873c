//! Who may talk to a node: TLS, users and certificates.
//!
//! | port | who comes in | what protects it |
//! |---|---|---|
//! | `--listen` | nodes and operators | mutual TLS 1.3, always: a certificate of the cluster's CA says who it is |
//! | `--client-tls` | Redis clients | TLS 1.3; `--client-ca` also asks them for certificates |
//! | `--client` | Redis clients | nothing but the users; there is none unless this option is given |
//! | `--http` | status and metrics | nothing: keep it inside |
//!
//! # Clients with TLS
//!
//! ```sh
//! paxos-node certs --out certs --nodes 3 --hosts a.example.org,b.example.org,c.example.org
//! paxos-node serve ... --client-tls 0.0.0.0:6380 --users users.acl
//! redis-cli --tls --cacert certs/ca.pem -p 6380 --user app --askpass
//! ```
//!
//! Clients see the node's own certificate, which names its host if `certs` was given `--hosts`. One of
//! another CA, such as a public one, is given by `--client-cert` and `--client-key`. With `--client-ca` only
//! clients with a certificate of that CA come in; which user a client is, it says by a password all the same.
//!
//! TLS is of version 1.3, and no session is resumed, neither of clients nor of nodes: a resumed handshake
//! shows no certificates, so one that has expired or was withdrawn would go on to work. A client that
//! connects for each command pays for a whole handshake; one that keeps its connections pays nothing.
//!
//! # Users
//!
//! Without `--users` everybody who reaches a port for clients may do everything. With it, clients are who the
//! file says, and nobody else: not even `default` exists unless a line says so, which differs from Redis.
//!
//! ```text
//! # name       login  password: its SHA-256 in hexadecimal digits                                keys    commands
//! user app     on     #2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b ~app:*  +@all -@admin -@dangerous
//! user reader  on     #2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b ~*      +@read +@connection
//! user admin   on     #2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b ~*      +@all
//! user default on     nopass                                                             %R~pub:* +get +ping
//! ```
//!
//! `printf %s "$password" | sha256sum` makes the hash. It is quick to compute, also for whoever gets hold of
//! the file: use long random passwords, such as those of `openssl rand -hex 32`.
//!
//! The format is that of Redis's ACL files, and these rules are understood; a file with any other is refused
//! with its line:
//!
//! | rule | meaning |
//! |---|---|
//! | `on`, `off` | may log in, or not |
//! | `#HASH`, `>PASSWORD`, `nopass` | one of the passwords, or any password will do |
//! | `!HASH`, `<PASSWORD`, `resetpass` | takes passwords away |
//! | `~PREFIX*`, `~KEY` | keys to read and write; `%R~` to read only, `%W~` to write only; `allkeys`, `resetkeys` |
//! | `+COMMAND`, `-COMMAND` | allows or forbids a command, or a subcommand: `-client|list` |
//! | `+@CATEGORY`, `-@CATEGORY` | the same for a category: `ACL CAT` lists them; `+@all`, `-@all` |
//! | `reset` | forgets all rules before it |
//! | `&CHANNEL`, `resetchannels`, `sanitize-payload` | accepted, as there are no channels and payloads |
//!
//! Rules apply in their order. Patterns within keys (`a?c`, `*x`) and selectors in parentheses are not
//! supported. As in Redis, `SCAN` and `DBSIZE` see all keys and `FLUSHALL` removes all, whatever keys a user
//! may use: take these commands away with `-scan -dbsize -@dangerous`. Other than in Redis, `EXISTS` takes
//! the right to read the key.
//!
//! Rights are checked before a command is queued or proposed, and those of a transaction when each of its
//! commands is queued; if users change before `EXEC`, the transaction fails. `ACL WHOAMI`, `LIST`, `USERS`,
//! `GETUSER` and `CAT` tell what is in force. Each node reads a file of its own: give all the same.
//!
//! Three wrong passwords from one address cost nothing; then attempts from there wait for turns that get
//! rarer, up to one in two seconds, and whoever would wait for more than five seconds is turned away. Before
//! a login requests are short, and a client has half a minute for it. Neither names nor passwords are logged.
//!
//! # New certificates and users while a node runs
//!
//! A node looks every two seconds whether its certificates (`--certs`, `--client-cert`, `--client-key`,
//! `--client-ca`) or its users have changed, and takes them up when they have settled; on `SIGHUP` at once.
//! It says so on standard output. Files that are broken, expired or do not fit each other are told at level
//! `error`, and what was there before stays in force. `SIGHUP` also takes up `log` of the `--config` file.
//!
//! ```sh
//! paxos-node certs renew --out certs            # --new-keys for new keys, too
//! scp certs/ca.pem certs/node-1.pem certs/node-1-key.pem a:/etc/paxos/certs/     # and so on
//! ```
//!
//! Connections go on as they are, but for those of nodes for whose certificates the present CA does not vouch
//! any more: these are closed, and refused until they show others. A client whose user is gone, switched off
//! or has its password no more is logged out before its next command. To replace the CA, let all nodes trust
//! both first (`cat old/ca.pem new/ca.pem`), then give each its new certificate, and last take the old CA
//! away.
//!
//! Programs that embed a node do the same with [`SharedIdentity`](paxos_transport::SharedIdentity),
#![cfg_attr(
    feature = "server",
    doc = "[`ClientTls`](crate::fronts::resp::ClientTls) and [`SharedUsers`](crate::fronts::resp::users::SharedUsers)."
)]
#![cfg_attr(not(feature = "server"), doc = "and with `ClientTls` and `SharedUsers` of the feature `server`.")]
