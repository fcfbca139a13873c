//! Who clients may be, and what each of them may do: `src/fronts/resp/users`, and TLS:
//! `src/fronts/resp/tls.rs`.
#![cfg(feature = "memory")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paxos_core::NodeId;
use paxos_node::fronts::resp::users::{SharedUsers, Users};
use paxos_node::fronts::resp::{self, ClientTls, Ports, RespSettings};
use paxos_node::kv::Store;
use paxos_node::{Node, NodeSettings, WriterMode};
use paxos_storage::{Identity, memory::MemoryStorage};
use paxos_transport::certs::write_cluster;
use paxos_transport::memory::MemoryNetwork;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const PATIENCE: Duration = Duration::from_secs(20);
const NO_LOGIN: &str = "-NOAUTH Authentication required.\r\n";
const WRONG: &str = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
const NOT_THE_KEY: &str =
    "-NOPERM this user has no permissions to access one of the keys used as arguments\r\n";

fn not_the_command(name: &str) -> String {
    format!("-NOPERM this user has no permissions to run the '{name}' command\r\n")
}

fn users(text: &str) -> Users {
    Users::parse(text.as_bytes()).expect("the users are in order")
}

/// A cluster of one node with its front.
struct Server {
    plain: SocketAddr,
    tls: SocketAddr,
    certs: TempDir,
    shared_tls: ClientTls,
    stop: watch::Sender<bool>,
    front: JoinHandle<std::io::Result<()>>,
    node: Node<Store>,
}

fn make_certificates() -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    write_cluster(directory.path(), "home", &[NodeId(1)], &[]).expect("certificates are made");
    directory
}

fn client_tls(certs: &Path, asks_for_certificates: bool) -> ClientTls {
    let file = |name: &str| certs.join(name);
    let authority = asks_for_certificates.then(|| file("ca.pem"));
    let loaded = ClientTls::load(&file("node-1.pem"), &file("node-1-key.pem"), authority.as_deref());
    loaded.expect("the certificates are in order")
}

impl Server {
    async fn start(users: Option<SharedUsers>, asks_for_certificates: bool) -> Server {
        Server::start_with(users, asks_for_certificates, RespSettings::default()).await
    }

    async fn start_with(
        users: Option<SharedUsers>,
        asks_for_certificates: bool,
        settings: RespSettings,
    ) -> Server {
        let id = NodeId(1);
        let node_settings =
            NodeSettings::new(id, vec![id]).with(|settings| settings.writer = WriterMode::Inline);
        let transport = Box::new(MemoryNetwork::new().bind(id));
        let storage = Box::new(MemoryStorage::new(Identity::new("home", id)));
        let node = Node::start(node_settings, transport, storage, Store::default()).expect("the node starts");
        let mut status = node.status();
        let leads = status.wait_for(paxos_node::Status::is_ready);
        timeout(PATIENCE, leads).await.expect("it leads in time").expect("it runs");
        let certs = make_certificates();
        let shared_tls = client_tls(certs.path(), asks_for_certificates);
        let (plain, tls) = (listen().await, listen().await);
        let [plain_address, tls_address] =
            [&plain, &tls].map(|socket| socket.local_addr().expect("it is bound"));
        let ports = Ports::default().with(|ports| {
            ports.plain = Some(plain);
            ports.tls = Some((tls, shared_tls.clone()));
            ports.users = users;
        });
        let (stop, stopped) = watch::channel(false);
        let front = tokio::spawn(resp::serve_on(ports, node.client(), settings, stopped));
        Server { plain: plain_address, tls: tls_address, certs, shared_tls, stop, front, node }
    }

    async fn client(&self) -> Client<TcpStream> {
        Client(TcpStream::connect(self.plain).await.expect("the front listens"))
    }

    async fn tls_client(&self, config: &Arc<ClientConfig>) -> std::io::Result<Client<TlsStream<TcpStream>>> {
        let stream = TcpStream::connect(self.tls).await?;
        let name = ServerName::try_from("node-1.home").expect("it is a name");
        Ok(Client(TlsConnector::from(Arc::clone(config)).connect(name, stream).await?))
    }

    async fn stop(self) {
        self.stop.send(true).expect("the front listens");
        timeout(PATIENCE, self.front).await.expect("it stops in time").expect("it ends").expect("and well");
        self.node.stop().await.expect("the node stops");
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("there are free ports")
}

struct Client<S>(S);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn send(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let mut parts = vec![format!("*{}\r\n", words.len())];
        parts.extend(words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())));
        self.0.write_all(parts.concat().as_bytes()).await.expect("it is sent");
        self.0.flush().await.expect("it is sent");
    }

    /// Sends a line of words as a request, and checks the reply to the byte.
    async fn expect(&mut self, line: &str, expected: &str) {
        self.send(line).await;
        let mut reply = vec![0; expected.len()];
        let read = timeout(PATIENCE, self.0.read_exact(&mut reply)).await;
        let reply = String::from_utf8_lossy(&reply).into_owned();
        assert!(read.is_ok_and(|read| read.is_ok()), "{line}: all of {expected:?} comes, not only {reply:?}");
        assert_eq!(reply, expected, "{line}");
    }

    /// Sends a line of words as a request whose reply is a text.
    async fn ask_for_text(&mut self, line: &str) -> String {
        self.send(line).await;
        let mut reply = BufReader::new(&mut self.0);
        let mut length = String::new();
        reply.read_line(&mut length).await.expect("the reply comes");
        let length = length.strip_prefix('$').and_then(|length| length.trim_end().parse::<usize>().ok());
        let mut text = vec![0; length.expect("it is a text") + 2];
        reply.read_exact(&mut text).await.expect("all of it comes");
        String::from_utf8_lossy(&text).into_owned()
    }

    async fn expect_all(&mut self, dialogue: &[(&str, &str)]) {
        for (line, expected) in dialogue {
            self.expect(line, expected).await;
        }
    }
}

/// What a client trusts and shows: the certificates in a directory, and the operator's if it shows any.
fn client_config(certs: &Path, shows_certificate: bool) -> Arc<ClientConfig> {
    let certificate = |name: &str| CertificateDer::from_pem_file(certs.join(name)).expect("it is one");
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca.pem")).expect("it is a CA");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("it is supported")
        .with_root_certificates(roots);
    Arc::new(if shows_certificate {
        let key = PrivateKeyDer::from_pem_file(certs.join("admin-key.pem")).expect("it is a key");
        builder.with_client_auth_cert(vec![certificate("admin.pem")], key).expect("they fit")
    } else {
        builder.with_no_client_auth()
    })
}

#[tokio::test]
async fn nobody_does_anything_before_a_login() {
    let text = "user app on >secret ~app:* +@all -@dangerous\nuser reader on >pw ~* +@read +@connection";
    let server = Server::start(Some(users(text).into()), false).await;
    let mut client = server.client().await;
    let hello = "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> \
                 <pass> option can be used to authenticate the client and select the RESP protocol version at the same \
                 time\r\n";
    client
        .expect_all(&[
            ("GET app:1", NO_LOGIN),
            ("PING", NO_LOGIN),
            ("MULTI", NO_LOGIN),
            ("ACL WHOAMI", NO_LOGIN),
            ("INFO", NO_LOGIN),
            ("HELLO 3", hello),
            ("RESET", "+RESET\r\n"),
            ("AUTH secret", WRONG),
            ("AUTH app wrong", WRONG),
            ("AUTH app secret", "+OK\r\n"),
            ("ACL WHOAMI", "$3\r\napp\r\n"),
            ("SET app:1 x", "+OK\r\n"),
            ("GET app:1", "$1\r\nx\r\n"),
            ("SET other x", NOT_THE_KEY),
            ("MGET app:1 other", NOT_THE_KEY),
            ("FLUSHALL", &not_the_command("flushall")),
            ("CLIENT LIST", &not_the_command("client|list")),
            ("ACL LIST", &not_the_command("acl|list")),
            // A failed login changes nothing.
            ("AUTH reader wrong", WRONG),
            ("ACL WHOAMI", "$3\r\napp\r\n"),
            ("AUTH reader pw", "+OK\r\n"),
            ("GET app:1", "$1\r\nx\r\n"),
            ("SET app:1 y", &not_the_command("set")),
            ("RESET", "+RESET\r\n"),
            ("GET app:1", NO_LOGIN),
            ("QUIT", "+OK\r\n"),
        ])
        .await;
    let mut client = server.client().await;
    client.send("HELLO 3 AUTH app secret SETNAME me").await;
    let mut greeting = [0; 4];
    client.0.read_exact(&mut greeting).await.expect("it is answered");
    assert_eq!(&greeting, b"%7\r\n");
    server.stop().await;
}

#[tokio::test]
async fn a_command_that_is_not_allowed_spoils_its_transaction() {
    let server = Server::start(Some(users("user app on >secret ~app:* +@all").into()), false).await;
    let mut client = server.client().await;
    let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    client
        .expect_all(&[
            ("AUTH app secret", "+OK\r\n"),
            ("MULTI", "+OK\r\n"),
            ("SET app:1 x", "+QUEUED\r\n"),
            ("SET other x", NOT_THE_KEY),
            ("EXEC", aborted),
            ("MULTI", "+OK\r\n"),
            ("SET app:1 x", "+QUEUED\r\n"),
            ("AUTH app secret", "-ERR Command not allowed inside a transaction\r\n"),
            ("EXEC", aborted),
            ("GET app:1", "$-1\r\n"),
            ("MULTI", "+OK\r\n"),
            ("SET app:1 x", "+QUEUED\r\n"),
            ("ACL WHOAMI", "+QUEUED\r\n"),
            ("EXEC", "*2\r\n+OK\r\n$3\r\napp\r\n"),
        ])
        .await;
    server.stop().await;
}

#[tokio::test]
async fn new_users_are_in_force_for_clients_that_are_connected() {
    let shared = SharedUsers::from(users("user app on >secret ~* +@all\nuser other on >pw ~* +@all"));
    let server = Server::start(Some(shared.clone()), false).await;
    let (mut app, mut other) = (server.client().await, server.client().await);
    app.expect_all(&[("AUTH app secret", "+OK\r\n"), ("MULTI", "+OK\r\n"), ("SET a 1", "+QUEUED\r\n")]).await;
    other.expect("AUTH other pw", "+OK\r\n").await;
    shared.replace(users("user app on >secret ~* +@read +@transaction"));
    let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    app.expect_all(&[("EXEC", aborted), ("GET a", "$-1\r\n"), ("SET a 1", &not_the_command("set"))]).await;
    other.expect_all(&[("GET a", NO_LOGIN), ("AUTH other pw", WRONG)]).await;
    shared.replace(users("user default on nopass ~* +get"));
    app.expect("GET a", NO_LOGIN).await;
    other.expect("GET a", "$-1\r\n").await;
    server.stop().await;
}

#[tokio::test]
async fn who_may_is_told_of_all_users() {
    let hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    let text = format!("user admin on #{hash} ~* +@all\nuser default on nopass %R~pub:* +get +acl|whoami");
    let server = Server::start(Some(users(&text).into()), false).await;
    let mut client = server.client().await;
    let line = format!("user admin on #{hash} ~* +@all");
    let other = "user default on nopass %R~pub:* -@all +get +acl|whoami";
    let list = format!("*2\r\n${}\r\n{line}\r\n${}\r\n{other}\r\n", line.len(), other.len());
    let user = format!(
        "*12\r\n$5\r\nflags\r\n*1\r\n$2\r\non\r\n$9\r\npasswords\r\n*1\r\n$64\r\n{hash}\r\n$8\r\ncommands\r\n$5\r\n+@all\r\n\
         $4\r\nkeys\r\n$2\r\n~*\r\n$8\r\nchannels\r\n$0\r\n\r\n$9\r\nselectors\r\n*0\r\n"
    );
    client
        .expect_all(&[
            ("ACL WHOAMI", "$7\r\ndefault\r\n"),
            ("GET pub:1", "$-1\r\n"),
            ("GET a", NOT_THE_KEY),
            ("ACL USERS", &not_the_command("acl|users")),
            ("AUTH admin secret", "+OK\r\n"),
            ("ACL LIST", &list),
            ("ACL USERS", "*2\r\n$5\r\nadmin\r\n$7\r\ndefault\r\n"),
            ("ACL GETUSER admin", &user),
            ("ACL GETUSER nobody", "$-1\r\n"),
            (
                "ACL CAT transaction",
                "*5\r\n$5\r\nmulti\r\n$4\r\nexec\r\n$7\r\ndiscard\r\n$5\r\nwatch\r\n$7\r\nunwatch\r\n",
            ),
            ("ACL CAT nonsense", "-ERR Unknown category 'nonsense'\r\n"),
            (
                "ACL SETUSER x",
                "-ERR users are changed in the file of users of each node, not by commands\r\n",
            ),
            ("ACL NONSENSE", "-ERR unknown subcommand 'NONSENSE'. Try ACL HELP.\r\n"),
            ("ACL LIST x", "-ERR wrong number of arguments for 'acl|list' command\r\n"),
        ])
        .await;
    let shown = client.ask_for_text("CLIENT INFO").await;
    assert!(shown.contains(" user=admin "), "{shown}");
    server.stop().await;
}

#[tokio::test]
async fn without_users_everybody_is_default() {
    let server = Server::start(None, false).await;
    let mut client = server.client().await;
    client
        .expect_all(&[
            ("ACL WHOAMI", "$7\r\ndefault\r\n"),
            ("ACL LIST", "*1\r\n$31\r\nuser default on nopass ~* +@all\r\n"),
            ("AUTH default x", "+OK\r\n"),
            ("MULTI", "+OK\r\n"),
            ("AUTH default x", "+QUEUED\r\n"),
            ("EXEC", "*1\r\n+OK\r\n"),
        ])
        .await;
    server.stop().await;
}

#[tokio::test]
async fn wrong_passwords_slow_down_whoever_tries_many_and_nothing_else() {
    let server = Server::start(Some(users("user app on >secret ~* +@all").into()), false).await;
    let mut user = server.client().await;
    user.expect("AUTH app secret", "+OK\r\n").await;
    let started = Instant::now();
    let mut attackers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let address = server.plain;
        attackers.spawn(async move {
            let mut client = Client(TcpStream::connect(address).await.expect("the front listens"));
            client.send("AUTH app wrong").await;
            let mut reply = [0; 10];
            client.0.read_exact(&mut reply).await.expect("it is answered");
            String::from_utf8_lossy(&reply).into_owned()
        });
    }
    let mut replies = Vec::new();
    while let Some(reply) = attackers.join_next().await {
        replies.push(reply.expect("it is answered"));
        let asked = Instant::now();
        user.expect("GET a", "$-1\r\n").await;
        assert!(asked.elapsed() < Duration::from_secs(1), "others are served meanwhile");
    }
    let wrong = replies.iter().filter(|reply| *reply == "-WRONGPASS").count();
    let turned_away = replies.iter().filter(|reply| *reply == "-ERR too m").count();
    assert!(wrong + turned_away == 20 && (4..=12).contains(&wrong), "{replies:?}");
    assert!(started.elapsed() > Duration::from_secs(1), "{:?}", started.elapsed());
    server.stop().await;
}

#[tokio::test]
async fn requests_are_short_before_a_login() {
    let server = Server::start(Some(users("user app on >secret ~* +@all").into()), false).await;
    let mut client = server.client().await;
    let long = "x".repeat(100_000);
    client.expect(&format!("SET a {long}"), NO_LOGIN).await;
    client.expect(&vec!["DEL"; 100].join(" "), NO_LOGIN).await;
    client.expect("AUTH app secret", "+OK\r\n").await;
    client.expect(&format!("SET a {long}"), "+OK\r\n").await;
    client.expect("GET a", &format!("$100000\r\n{long}\r\n")).await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_with_tls_is_served_like_any_other() {
    let server = Server::start(None, false).await;
    let config = client_config(server.certs.path(), false);
    let mut client = server.tls_client(&config).await.expect("the certificate is the server's");
    let long = "x".repeat(1_000_000);
    client.expect("PING", "+PONG\r\n").await;
    client.expect(&format!("SET long {long}"), "+OK\r\n").await;
    for _ in 0..20 {
        client.send("GET long").await;
    }
    // Replies of 20 MB are read late: the server waits for room, and serves others.
    let mut other = server.tls_client(&config).await.expect("there is room");
    other.expect("SET a 1", "+OK\r\n").await;
    let expected = format!("$1000000\r\n{long}\r\n");
    let mut reply = vec![0; expected.len()];
    for _ in 0..20 {
        timeout(PATIENCE, client.0.read_exact(&mut reply)).await.expect("in time").expect("it comes whole");
        assert!(reply == expected.as_bytes());
    }
    client.expect("QUIT", "+OK\r\n").await;
    assert_eq!(client.0.read(&mut [0; 8]).await.expect("it is closed in order"), 0);
    server.stop().await;
}

#[tokio::test]
async fn no_session_is_resumed_and_a_new_certificate_is_shown_at_once() {
    let server = Server::start(None, false).await;
    let config = client_config(server.certs.path(), false);
    for _ in 0..3 {
        let mut client = server.tls_client(&config).await.expect("the certificate is the server's");
        client.expect("PING", "+PONG\r\n").await;
        assert_eq!(client.0.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
    let mut before = server.tls_client(&config).await.expect("the certificate is the server's");
    let new = make_certificates();
    server.shared_tls.replace(&client_tls(new.path(), false));
    assert!(server.tls_client(&config).await.is_err(), "the old CA has not signed it");
    let mut client = server.tls_client(&client_config(new.path(), false)).await.expect("the new one has");
    client.expect("PING", "+PONG\r\n").await;
    before.expect("PING", "+PONG\r\n").await;
    server.stop().await;
}

#[tokio::test]
async fn clients_must_show_a_certificate_where_that_is_asked_for() {
    let server = Server::start(None, true).await;
    let refused = |config: Arc<ClientConfig>| {
        let server = &server;
        async move {
            // With TLS 1.3 a client hears only afterwards that it is refused.
            let Ok(mut client) = server.tls_client(&config).await else { return true };
            let sent = client.0.write_all(b"PING\r\n").await;
            sent.is_err() || client.0.read_exact(&mut [0; 7]).await.is_err()
        }
    };
    assert!(refused(client_config(server.certs.path(), false)).await, "it shows none");
    let (foreign, own) = (make_certificates(), server.certs.path());
    for file in ["admin.pem", "admin-key.pem"] {
        std::fs::copy(own.join(file), own.join(format!("own-{file}"))).expect("it is copied");
        std::fs::copy(foreign.path().join(file), own.join(file)).expect("it is copied");
    }
    assert!(refused(client_config(own, true)).await, "it shows that of another CA");
    for file in ["admin.pem", "admin-key.pem"] {
        std::fs::copy(own.join(format!("own-{file}")), own.join(file)).expect("it is copied");
    }
    let mut client = server.tls_client(&client_config(own, true)).await.expect("it is known");
    client.expect("PING", "+PONG\r\n").await;
    server.stop().await;
}

#[tokio::test]
async fn strangers_on_the_port_for_tls_keep_nobody_waiting() {
    let server = Server::start(None, false).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(server.tls).await.expect("the front listens"));
    }
    let mut plain = Client(TcpStream::connect(server.tls).await.expect("the front listens"));
    plain.send("PING").await;
    let config = client_config(server.certs.path(), false);
    let asked = Instant::now();
    let mut client = server.tls_client(&config).await.expect("there is room");
    client.expect("PING", "+PONG\r\n").await;
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, plain.0.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "who does not speak TLS is disconnected");
    assert!(!rest.starts_with(b"+"), "and not served: {rest:?}");
    let ended = timeout(PATIENCE, silent[0].read(&mut [0; 8])).await.expect("whoever is silent, too");
    assert!(!matches!(ended, Ok(1..)));
    server.stop().await;
}

#[test]
fn files_that_do_not_fit_are_refused_by_name() {
    let (certs, other) = (make_certificates(), make_certificates());
    let problem = |certificate: &str, key: &Path| {
        let loaded = ClientTls::load(&certs.path().join(certificate), key, None);
        loaded.expect_err("it is refused").to_string()
    };
    let key = certs.path().join("node-1-key.pem");
    assert!(problem("nothing.pem", &key).contains("nothing.pem: No such file"));
    assert!(problem("node-1-key.pem", &key).contains("there is no certificate in PEM form in it"));
    let foreign = other.path().join("node-1-key.pem");
    assert!(problem("node-1.pem", &foreign).contains("node-1.pem: "), "the key is another one's");
    assert!(problem("node-1.pem", &certs.path().join("ca.pem")).contains("not a private key in PEM form"));
}
