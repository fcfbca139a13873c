//! Every command's reply to the byte, in both versions of the protocol: `src/fronts/resp`.
#![cfg(feature = "memory")]

use std::io::Write as _;
use std::time::Duration;

use paxos_core::NodeId;
use paxos_node::fronts::resp;
use paxos_node::kv::Store;
use paxos_node::{Node, NodeSettings, WriterMode};
use paxos_storage::{Identity, memory::MemoryStorage};
use paxos_transport::memory::MemoryNetwork;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// A cluster of one node with its front.
struct Server {
    address: std::net::SocketAddr,
    stop: watch::Sender<bool>,
    front: JoinHandle<std::io::Result<()>>,
    node: Node<Store>,
}

impl Server {
    async fn start(front: resp::RespSettings) -> Server {
        let id = NodeId(1);
        let settings = NodeSettings::new(id, vec![id]).with(|settings| settings.writer = WriterMode::Inline);
        let transport = Box::new(MemoryNetwork::new().bind(id));
        let storage = Box::new(MemoryStorage::new(Identity::new("golden", id)));
        let node = Node::start(settings, transport, storage, Store::default()).expect("the node starts");
        let mut status = node.status();
        let leads = status.wait_for(paxos_node::Status::is_ready);
        timeout(PATIENCE, leads).await.expect("it leads in time").expect("it runs");
        let listener = TcpListener::bind("127.4.0.1:0").await.expect("there are free ports");
        let address = listener.local_addr().expect("it is bound");
        let (stop, stopped) = watch::channel(false);
        let front = tokio::spawn(resp::serve(listener, node.client(), front, stopped));
        Server { address, stop, front, node }
    }

    async fn client(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the front listens")
    }

    async fn stop(self) {
        self.stop.send(true).expect("the front listens");
        timeout(PATIENCE, self.front).await.expect("it stops in time").expect("it ends").expect("and well");
        self.node.stop().await.expect("the node stops");
    }
}

/// Sends a line of words as a request and checks the reply to the byte. The words are divided by spaces; `\s`
/// in one stands for a space and `\n` for a line break.
async fn expect(client: &mut TcpStream, line: &str, expected: &str) {
    let words: Vec<String> =
        line.split(' ').map(|word| word.replace("\\s", " ").replace("\\n", "\n")).collect();
    let mut parts = vec![format!("*{}\r\n", words.len())];
    parts.extend(words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())));
    let request = parts.concat();
    client.write_all(request.as_bytes()).await.expect("it is sent");
    let mut reply = vec![0; expected.len()];
    let read = timeout(PATIENCE, client.read_exact(&mut reply)).await;
    let reply = String::from_utf8_lossy(&reply).into_owned();
    assert!(read.is_ok_and(|read| read.is_ok()), "{line}: all of {expected:?} comes, not only {reply:?}");
    assert_eq!(reply, expected, "{line}");
}

/// Requests with their replies in RESP2 and, where they differ, in RESP3. Each reply must be followed by
/// nothing but the next one.
const GOLDEN: &[(&str, &str, Option<&str>)] = &[
    ("FLUSHALL", "+OK\r\n", None),
    ("PING", "+PONG\r\n", None),
    ("ping hello", "$5\r\nhello\r\n", None),
    ("PING a b", "-ERR wrong number of arguments for 'ping' command\r\n", None),
    ("ECHO hello", "$5\r\nhello\r\n", None),
    ("ECHO", "-ERR wrong number of arguments for 'echo' command\r\n", None),
    ("SELECT 0", "+OK\r\n", None),
    ("SELECT 1", "-ERR DB index is out of range: there is only database 0\r\n", None),
    ("SELECT x", "-ERR value is not an integer or out of range\r\n", None),
    (
        "AUTH secret",
        "-ERR AUTH <password> called without any password configured for the default user. Are you sure your \
         configuration is correct?\r\n",
        None,
    ),
    ("AUTH default secret", "+OK\r\n", None),
    ("AUTH user secret", "-WRONGPASS invalid username-password pair or user is disabled.\r\n", None),
    ("AUTH", "-ERR wrong number of arguments for 'auth' command\r\n", None),
    ("AUTH a b c", "-ERR syntax error\r\n", None),
    ("ACL WHOAMI", "$7\r\ndefault\r\n", None),
    ("ACL LIST", "*1\r\n$31\r\nuser default on nopass ~* +@all\r\n", None),
    ("ACL", "-ERR wrong number of arguments for 'acl' command\r\n", None),
    // Strings.
    ("GET k", "$-1\r\n", Some("_\r\n")),
    ("SET k v", "+OK\r\n", None),
    ("GET k", "$1\r\nv\r\n", None),
    ("SET k w NX", "$-1\r\n", Some("_\r\n")),
    ("SET k w XX", "+OK\r\n", None),
    ("SET k x GET", "$1\r\nw\r\n", None),
    ("SET new x XX GET", "$-1\r\n", Some("_\r\n")),
    ("SET k v NX XX", "-ERR syntax error\r\n", None),
    ("SET k v FOO", "-ERR syntax error\r\n", None),
    ("SET k", "-ERR wrong number of arguments for 'set' command\r\n", None),
    ("SETNX k y", ":0\r\n", None),
    ("SETNX l y", ":1\r\n", None),
    ("GETSET l z", "$1\r\ny\r\n", None),
    ("GETSET m z", "$-1\r\n", Some("_\r\n")),
    ("GETDEL m", "$1\r\nz\r\n", None),
    ("GETDEL m", "$-1\r\n", Some("_\r\n")),
    ("APPEND k yz", ":3\r\n", None),
    ("STRLEN k", ":3\r\n", None),
    ("STRLEN none", ":0\r\n", None),
    ("MSET a 1 b 2", "+OK\r\n", None),
    ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command\r\n", None),
    ("MGET a none b", "*3\r\n$1\r\n1\r\n$-1\r\n$1\r\n2\r\n", Some("*3\r\n$1\r\n1\r\n_\r\n$1\r\n2\r\n")),
    ("SET k w IFEQ no", "$-1\r\n", Some("_\r\n")),
    ("SET k w IFEQ xyz", "+OK\r\n", None),
    ("SET k x IFNE w GET", "$1\r\nw\r\n", None),
    ("SET none x IFEQ w", "$-1\r\n", Some("_\r\n")),
    ("SET k v IFEQ", "-ERR syntax error\r\n", None),
    ("SET k v IFEQ a IFNE b", "-ERR syntax error\r\n", None),
    ("SET k v IFDEQ 123", "-ERR digest must be exactly 16 hexadecimal characters\r\n", None),
    ("DIGEST k", "$16\r\naceee8f5de193e29\r\n", None),
    ("DIGEST none", "$-1\r\n", Some("_\r\n")),
    ("SET k v IFDNE aceee8f5de193e29", "$-1\r\n", Some("_\r\n")),
    ("SET k vyz IFDEQ ACEEE8F5DE193E29", "+OK\r\n", None),
    ("DELIFEQ k no", ":0\r\n", None),
    ("DELEX k IFNE vyz", ":0\r\n", None),
    ("DELEX none IFNE vyz", ":0\r\n", None),
    ("DELEX k NX vyz", "-ERR syntax error\r\n", None),
    ("DELEX k IFEQ", "-ERR wrong number of arguments for 'delex' command\r\n", None),
    ("DELEX k IFEQ vyz", ":1\r\n", None),
    ("DELEX k", ":0\r\n", None),
    ("MSETNX k 1 o 2", ":1\r\n", None),
    ("MSETNX p 1 o 2", ":0\r\n", None),
    ("SETRANGE o 3 xy", ":5\r\n", None),
    ("GETRANGE o 0 -1", "$5\r\n2\0\0xy\r\n", None),
    ("SETRANGE o -1 xy", "-ERR offset is out of range\r\n", None),
    ("SETRANGE o 1048576 x", "-ERR value exceeds the limit of 1048576 bytes\r\n", None),
    ("SUBSTR o -2 -1", "$2\r\nxy\r\n", None),
    ("TOUCH k k none", ":2\r\n", None),
    ("RENAME none p", "-ERR no such key\r\n", None),
    ("RENAME o p", "+OK\r\n", None),
    ("RENAMENX p k", ":0\r\n", None),
    ("COPY k p", ":0\r\n", None),
    ("COPY k p REPLACE", ":1\r\n", None),
    ("COPY k q DB 1", "-ERR DB index is out of range\r\n", None),
    ("COPY k k", "-ERR source and destination objects are the same\r\n", None),
    ("KEYS [kp]", "*2\r\n$1\r\np\r\n$1\r\nk\r\n", None),
    ("DEL p", ":1\r\n", None),
    ("OBJECT ENCODING k", "$3\r\nint\r\n", None),
    ("OBJECT REFCOUNT none", "$-1\r\n", Some("_\r\n")),
    ("OBJECT FOO k", "-ERR unknown subcommand 'FOO'. Try OBJECT HELP.\r\n", None),
    ("OBJECT ENCODING", "-ERR wrong number of arguments for 'object|encoding' command\r\n", None),
    ("MEMORY USAGE k", ":54\r\n", None),
    ("MEMORY USAGE none", "$-1\r\n", Some("_\r\n")),
    ("MEMORY USAGE k SAMPLES -1", "-ERR syntax error\r\n", None),
    ("APPEND k yz", ":3\r\n", None),
    ("TYPE k", "+string\r\n", None),
    ("TYPE none", "+none\r\n", None),
    // Keys that expire.
    ("SET e v EX 100", "+OK\r\n", None),
    ("TTL e", ":100\r\n", None),
    ("SET e w KEEPTTL GET", "$1\r\nv\r\n", None),
    ("TTL e", ":100\r\n", None),
    ("APPEND e x", ":2\r\n", None),
    ("TTL e", ":100\r\n", None),
    ("GETSET e v", "$2\r\nwx\r\n", None),
    ("TTL e", ":-1\r\n", None),
    ("PTTL none", ":-2\r\n", None),
    ("SET e v PXAT 4102444800123 NX", "$-1\r\n", Some("_\r\n")),
    ("SET e v xx pxat 4102444800123", "+OK\r\n", None),
    ("PEXPIRETIME e", ":4102444800123\r\n", None),
    ("EXPIRETIME e", ":4102444800\r\n", None),
    ("SET e v EXAT 4102444800", "+OK\r\n", None),
    ("EXPIRETIME e", ":4102444800\r\n", None),
    ("MULTI", "+OK\r\n", None),
    ("SET e v PX 1500", "+QUEUED\r\n", None),
    ("PTTL e", "+QUEUED\r\n", None),
    ("EXEC", "*2\r\n+OK\r\n:1500\r\n", None),
    ("GETEX e PERSIST", "$1\r\nv\r\n", None),
    ("TTL e", ":-1\r\n", None),
    ("GETEX e EX 50", "$1\r\nv\r\n", None),
    ("TTL e", ":50\r\n", None),
    ("GETEX e", "$1\r\nv\r\n", None),
    ("TTL e", ":50\r\n", None),
    ("GETEX none EX 50", "$-1\r\n", Some("_\r\n")),
    ("GETEX e PXAT 1", "$1\r\nv\r\n", None),
    ("GET e", "$-1\r\n", Some("_\r\n")),
    ("SETEX e 100 v", "+OK\r\n", None),
    ("EXPIRE e 200 NX", ":0\r\n", None),
    ("EXPIRE e 50 GT", ":0\r\n", None),
    ("EXPIRE e 200 XX GT", ":1\r\n", None),
    ("EXPIRE e 300 LT", ":0\r\n", None),
    ("TTL e", ":200\r\n", None),
    ("PERSIST e", ":1\r\n", None),
    ("PERSIST e", ":0\r\n", None),
    ("PERSIST none", ":0\r\n", None),
    ("EXPIRE e 100 XX", ":0\r\n", None),
    ("EXPIRE e 100 GT", ":0\r\n", None),
    ("EXPIRE e 100 LT", ":1\r\n", None),
    ("PEXPIREAT e 4102444800123", ":1\r\n", None),
    ("PEXPIRETIME e", ":4102444800123\r\n", None),
    ("EXPIREAT e 4102444800", ":1\r\n", None),
    ("PEXPIRETIME e", ":4102444800000\r\n", None),
    ("PEXPIRE e -1", ":1\r\n", None),
    ("EXISTS e", ":0\r\n", None),
    ("EXPIRE e 10", ":0\r\n", None),
    ("EXPIRETIME e", ":-2\r\n", None),
    ("PSETEX e 100000 v", "+OK\r\n", None),
    ("MSET e w", "+OK\r\n", None),
    ("PTTL e", ":-1\r\n", None),
    ("DEL e", ":1\r\n", None),
    ("SET e v EX 0", "-ERR invalid expire time in 'set' command\r\n", None),
    ("SET e v EX -1", "-ERR invalid expire time in 'set' command\r\n", None),
    ("SET e v PX 9223372036854775807", "-ERR invalid expire time in 'set' command\r\n", None),
    ("SET e v EX x", "-ERR value is not an integer or out of range\r\n", None),
    ("SET e v EX x FOO", "-ERR syntax error\r\n", None),
    ("SET e v EX", "-ERR syntax error\r\n", None),
    ("SET e v EX 10 PX 10", "-ERR syntax error\r\n", None),
    ("SET e v KEEPTTL EX 10", "-ERR syntax error\r\n", None),
    ("SETEX e 0 v", "-ERR invalid expire time in 'setex' command\r\n", None),
    ("PSETEX e -5 v", "-ERR invalid expire time in 'psetex' command\r\n", None),
    ("SETEX e v", "-ERR wrong number of arguments for 'setex' command\r\n", None),
    ("GETEX e EX 0", "-ERR invalid expire time in 'getex' command\r\n", None),
    ("GETEX e EX", "-ERR syntax error\r\n", None),
    ("GETEX e KEEPTTL", "-ERR syntax error\r\n", None),
    ("EXPIRE e x", "-ERR value is not an integer or out of range\r\n", None),
    ("EXPIRE e 9223372036854775807", "-ERR invalid expire time in 'expire' command\r\n", None),
    ("EXPIRE e 10 FOO", "-ERR Unsupported option FOO\r\n", None),
    ("EXPIRE e 10 NX GT", "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n", None),
    ("EXPIRE e 10 GT LT", "-ERR GT and LT options at the same time are not compatible\r\n", None),
    ("TTL", "-ERR wrong number of arguments for 'ttl' command\r\n", None),
    ("PAXOS.FENCE e", "$-1\r\n", Some("_\r\n")),
    // Integers.
    ("INCR n", ":1\r\n", None),
    ("DECR n", ":0\r\n", None),
    ("INCRBY n 40", ":40\r\n", None),
    ("DECRBY n 50", ":-10\r\n", None),
    ("INCRBY n x", "-ERR value is not an integer or out of range\r\n", None),
    ("INCR k", "-ERR value is not an integer or out of range\r\n", None),
    ("DECRBY n -9223372036854775808", "-ERR decrement would overflow\r\n", None),
    ("INCRBY n -9223372036854775808", "-ERR increment or decrement would overflow\r\n", None),
    ("INCRBYFLOAT f 0.1", "$3\r\n0.1\r\n", None),
    ("INCRBYFLOAT f 0.2", "$3\r\n0.3\r\n", None),
    ("INCRBYFLOAT f x", "-ERR value is not a valid float\r\n", None),
    (
        "INCRBYFLOAT f 1e21",
        "-ERR value is out of range: decimal numbers here are exact, and have at most 21 digits in front of the point\r\n",
        None,
    ),
    ("DEL f", ":1\r\n", None),
    // Keys.
    ("EXISTS a a none", ":2\r\n", None),
    ("DEL a none", ":1\r\n", None),
    ("UNLINK b", ":1\r\n", None),
    ("DBSIZE", ":3\r\n", None),
    ("SCAN 0 COUNT 100", "*2\r\n$1\r\n0\r\n*3\r\n$1\r\nn\r\n$1\r\nk\r\n$1\r\nl\r\n", None),
    ("SCAN 0 MATCH k* COUNT 100", "*2\r\n$1\r\n0\r\n*1\r\n$1\r\nk\r\n", None),
    ("SCAN 0 TYPE String MATCH l COUNT 100", "*2\r\n$1\r\n0\r\n*1\r\n$1\r\nl\r\n", None),
    ("SCAN 0 TYPE list", "*2\r\n$1\r\n0\r\n*0\r\n", None),
    ("SCAN 0 TYPE nonsense COUNT 5", "*2\r\n$1\r\n0\r\n*0\r\n", None),
    ("SCAN 0 TYPE list COUNT", "-ERR syntax error\r\n", None),
    ("SCAN 0 COUNT 0", "-ERR syntax error\r\n", None),
    ("SCAN x", "-ERR invalid cursor\r\n", None),
    ("FLUSHDB ASYNC", "+OK\r\n", None),
    ("RANDOMKEY", "$-1\r\n", Some("_\r\n")),
    // Messages: what a client hears is a reply behind the requests.
    ("PUBLISH news hello", ":0\r\n", None),
    ("PUBSUB CHANNELS", "*0\r\n", None),
    ("PUBSUB NUMSUB news", "*2\r\n$4\r\nnews\r\n:0\r\n", None),
    ("PUBSUB NUMPAT", ":0\r\n", None),
    ("PUBSUB FOO", "-ERR unknown subcommand 'FOO'. Try PUBSUB HELP.\r\n", None),
    (
        "UNSUBSCRIBE",
        "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n",
        Some(">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n"),
    ),
    (
        "SUBSCRIBE news",
        "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n",
        Some(">3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"),
    ),
    (
        "PSUBSCRIBE n*",
        "*3\r\n$10\r\npsubscribe\r\n$2\r\nn*\r\n:2\r\n",
        Some(">3\r\n$10\r\npsubscribe\r\n$2\r\nn*\r\n:2\r\n"),
    ),
    ("PING", "*2\r\n$4\r\npong\r\n$0\r\n\r\n", Some("+PONG\r\n")),
    (
        "PUNSUBSCRIBE n*",
        "*3\r\n$12\r\npunsubscribe\r\n$2\r\nn*\r\n:1\r\n",
        Some(">3\r\n$12\r\npunsubscribe\r\n$2\r\nn*\r\n:1\r\n"),
    ),
    (
        "UNSUBSCRIBE",
        "*3\r\n$11\r\nunsubscribe\r\n$4\r\nnews\r\n:0\r\n",
        Some(">3\r\n$11\r\nunsubscribe\r\n$4\r\nnews\r\n:0\r\n"),
    ),
    // Scripts.
    (
        "EVAL if\\sredis.call('get',KEYS[1])==ARGV[1]\\sthen\\sreturn\\sredis.call('del',KEYS[1])\\selse\\sreturn\\s0\\send 1 k v",
        ":0\r\n",
        None,
    ),
    (
        "EVAL return\\s1 0",
        "-ERR this script is not one that a node knows, and no script is interpreted. Use SET key value IFEQ old, DELEX \
         key IFEQ value, or WATCH with MULTI and EXEC\r\n",
        None,
    ),
    (
        "EVALSHA 0123456789012345678901234567890123456789 0",
        "-NOSCRIPT No matching script. Please use EVAL.\r\n",
        None,
    ),
    ("SCRIPT EXISTS 0123456789012345678901234567890123456789", "*1\r\n:0\r\n", None),
    ("SCRIPT KILL", "-NOTBUSY No scripts in execution right now.\r\n", None),
    ("SCRIPT FOO", "-ERR unknown subcommand 'FOO'. Try SCRIPT HELP.\r\n", None),
    ("FLUSHALL NOW", "-ERR syntax error\r\n", None),
    // About the connection.
    ("CLIENT GETNAME", "$-1\r\n", Some("_\r\n")),
    ("CLIENT SETNAME tester", "+OK\r\n", None),
    ("CLIENT GETNAME", "$6\r\ntester\r\n", None),
    (
        "CLIENT SETNAME two\\swords",
        "-ERR Client names cannot contain spaces, newlines or special characters.\r\n",
        None,
    ),
    (
        "CLIENT SETNAME two\\nlines",
        "-ERR Client names cannot contain spaces, newlines or special characters.\r\n",
        None,
    ),
    (
        "HELLO 3 SETNAME two\\nlines",
        "-ERR Client names cannot contain spaces, newlines or special characters.\r\n",
        None,
    ),
    ("CLIENT GETNAME", "$6\r\ntester\r\n", None),
    ("CLIENT ID", ":1\r\n", Some(":2\r\n")),
    ("CLIENT LIST ID 9", "$0\r\n\r\n", None),
    ("CLIENT KILL 127.4.0.1:1", "-ERR No such client\r\n", None),
    ("CLIENT KILL TYPE replica", ":0\r\n", None),
    ("CLIENT TRACKING ON", "-ERR CLIENT TRACKING needs RESP3 here: send HELLO 3 first\r\n", Some("+OK\r\n")),
    ("CLIENT TRACKING OFF", "+OK\r\n", None),
    ("CLIENT SETINFO LIB-NAME lib", "+OK\r\n", None),
    (
        "CLIENT SETINFO LIB-VER 1\\s2",
        "-ERR lib-ver cannot contain spaces, newlines or special characters.\r\n",
        None,
    ),
    ("CLIENT SETINFO foo bar", "-ERR Unrecognized option 'foo'\r\n", None),
    ("CLIENT NO-EVICT ON", "+OK\r\n", None),
    ("CLIENT NO-TOUCH ON", "+OK\r\n", None),
    ("CLIENT REPLY ON", "+OK\r\n", None),
    ("CLIENT REPLY OFF", "-ERR syntax error\r\n", None),
    ("CLIENT SETNAME", "-ERR wrong number of arguments for 'client|setname' command\r\n", None),
    ("CLIENT FOO", "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.\r\n", None),
    ("CLIENT", "-ERR wrong number of arguments for 'client' command\r\n", None),
    // About the node.
    ("ROLE now", "-ERR wrong number of arguments for 'role' command\r\n", None),
    ("COMMAND COUNT", ":85\r\n", None),
    (
        "COMMAND DOCS get",
        "*2\r\n$3\r\nget\r\n*2\r\n$5\r\ngroup\r\n$6\r\nstring\r\n",
        Some("%1\r\n$3\r\nget\r\n%1\r\n$5\r\ngroup\r\n$6\r\nstring\r\n"),
    ),
    ("COMMAND INFO nonsense", "*1\r\n$-1\r\n", Some("*1\r\n_\r\n")),
    ("COMMAND GETKEYS MSET a 1 b 2", "*2\r\n$1\r\na\r\n$1\r\nb\r\n", None),
    ("COMMAND LIST FILTERBY PATTERN *SETNX", "*2\r\n$5\r\nsetnx\r\n$6\r\nmsetnx\r\n", None),
    ("WAIT 0 0", ":0\r\n", None),
    ("WAITAOF 1 0 0", "*2\r\n:1\r\n:0\r\n", None),
    ("CLUSTER INFO", "-ERR This instance has cluster support disabled\r\n", None),
    ("READONLY", "-ERR This instance has cluster support disabled\r\n", None),
    ("READWRITE", "-ERR This instance has cluster support disabled\r\n", None),
    ("SLOWLOG GET", "*0\r\n", None),
    ("LATENCY LATEST", "*0\r\n", None),
    ("MODULE LIST", "*0\r\n", None),
    ("CONFIG SET notify-keyspace-events KEA", "+OK\r\n", None),
    ("CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n", Some("%1\r\n$4\r\nsave\r\n$0\r\n\r\n")),
    ("CONFIG GET", "-ERR wrong number of arguments for 'config|get' command\r\n", None),
    (
        "CONFIG SET save x",
        "-ERR only CONFIG GET is supported; a node is configured by flags, environment or file\r\n",
        None,
    ),
    ("WATCH k", "+OK\r\n", None),
    ("UNWATCH", "+OK\r\n", None),
    ("WATCH k", "+OK\r\n", None),
    ("SET k 1", "+OK\r\n", None),
    ("MULTI", "+OK\r\n", None),
    ("GET k", "+QUEUED\r\n", None),
    ("EXEC", "*-1\r\n", Some("_\r\n")),
    ("WATCH k none", "+OK\r\n", None),
    ("MULTI", "+OK\r\n", None),
    ("GET k", "+QUEUED\r\n", None),
    ("EXEC", "*1\r\n$1\r\n1\r\n", None),
    ("MULTI", "+OK\r\n", None),
    ("SUBSCRIBE c", "-ERR SUBSCRIBE inside MULTI is not allowed\r\n", None),
    ("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n", None),
    ("FOO bar", "-ERR unknown command 'FOO', with args beginning with: 'bar' \r\n", None),
    // Transactions.
    ("EXEC", "-ERR EXEC without MULTI\r\n", None),
    (
        "EXEC foo",
        "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n",
        None,
    ),
    ("DISCARD", "-ERR DISCARD without MULTI\r\n", None),
    ("MULTI", "+OK\r\n", None),
    ("MULTI", "-ERR MULTI calls can not be nested\r\n", None),
    ("WATCH k", "-ERR WATCH inside MULTI is not allowed\r\n", None),
    ("UNWATCH", "+QUEUED\r\n", None),
    ("SCAN 0 TYPE list", "+QUEUED\r\n", None),
    ("EXEC", "*2\r\n+OK\r\n*2\r\n$1\r\n0\r\n*0\r\n", None),
    ("MULTI", "+OK\r\n", None),
    ("PING", "+QUEUED\r\n", None),
    ("SET t 1", "+QUEUED\r\n", None),
    ("ECHO between", "+QUEUED\r\n", None),
    ("INCRBY t x", "+QUEUED\r\n", None),
    ("SET t 2 FOO", "+QUEUED\r\n", None),
    ("INCR t", "+QUEUED\r\n", None),
    ("CLIENT GETNAME", "+QUEUED\r\n", None),
    ("SELECT 0", "+QUEUED\r\n", None),
    ("SELECT 7", "+QUEUED\r\n", None),
    ("MGET t none", "+QUEUED\r\n", None),
    (
        "EXEC",
        "*10\r\n+PONG\r\n+OK\r\n$7\r\nbetween\r\n-ERR value is not an integer or out of range\r\n\
         -ERR syntax error\r\n:2\r\n$6\r\ntester\r\n+OK\r\n\
         -ERR DB index is out of range: there is only database 0\r\n*2\r\n$1\r\n2\r\n$-1\r\n",
        Some(
            "*10\r\n+PONG\r\n+OK\r\n$7\r\nbetween\r\n-ERR value is not an integer or out of range\r\n\
             -ERR syntax error\r\n:2\r\n$6\r\ntester\r\n+OK\r\n\
             -ERR DB index is out of range: there is only database 0\r\n*2\r\n$1\r\n2\r\n_\r\n",
        ),
    ),
    ("MULTI", "+OK\r\n", None),
    ("PING", "+QUEUED\r\n", None),
    ("EXEC", "*1\r\n+PONG\r\n", None),
    ("MULTI", "+OK\r\n", None),
    ("SET t", "-ERR wrong number of arguments for 'set' command\r\n", None),
    ("SET t 9", "+QUEUED\r\n", None),
    ("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n", None),
    ("MULTI", "+OK\r\n", None),
    ("PING a b", "-ERR wrong number of arguments for 'ping' command\r\n", None),
    ("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n", None),
    ("MULTI", "+OK\r\n", None),
    ("CLIENT FOO", "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.\r\n", None),
    ("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n", None),
    ("MULTI", "+OK\r\n", None),
    ("NONSENSE", "-ERR unknown command 'NONSENSE', with args beginning with: \r\n", None),
    ("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n", None),
    ("MULTI", "+OK\r\n", None),
    ("SET t 9", "+QUEUED\r\n", None),
    (
        "EXEC foo",
        "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n",
        None,
    ),
    ("EXEC", "-ERR EXEC without MULTI\r\n", None),
    ("MULTI", "+OK\r\n", None),
    ("SET t 9", "+QUEUED\r\n", None),
    ("DISCARD", "+OK\r\n", None),
    ("GET t", "$1\r\n2\r\n", None),
    // The version of the protocol.
    ("HELLO 4", "-NOPROTO unsupported protocol version\r\n", None),
    ("HELLO 2 FOO", "-ERR Syntax error in HELLO option 'FOO'\r\n", None),
    ("HELLO 3 AUTH user secret", "-WRONGPASS invalid username-password pair or user is disabled.\r\n", None),
    ("HELLO 3 AUTH default", "-ERR Syntax error in HELLO option 'AUTH'\r\n", None),
    (
        "HELLO",
        "*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.4.0\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:1\r\n\
         $4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
        Some(
            "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.4.0\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:2\r\n\
             $4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
        ),
    ),
    ("MULTI", "+OK\r\n", None),
    ("RESET", "+RESET\r\n", None),
    ("CLIENT GETNAME", "$-1\r\n", Some("$-1\r\n")),
    ("EXEC", "-ERR EXEC without MULTI\r\n", None),
    ("MULTI", "+OK\r\n", None),
    ("QUIT", "+OK\r\n", None),
];

#[tokio::test]
async fn each_command_answers_to_the_byte_in_both_versions() {
    let server = Server::start(resp::RespSettings::default()).await;
    for is_resp3 in [false, true] {
        let mut client = server.client().await;
        if is_resp3 {
            let hello = GOLDEN.iter().find(|(line, ..)| *line == "HELLO").and_then(|(.., reply)| *reply);
            expect(&mut client, "HELLO 3", hello.expect("it is in the table")).await;
        }
        for (line, resp2, resp3) in GOLDEN {
            expect(&mut client, line, if is_resp3 { resp3.unwrap_or(resp2) } else { resp2 }).await;
        }
        let mut rest = Vec::new();
        timeout(PATIENCE, client.read_to_end(&mut rest)).await.expect("in time").expect("it ends well");
        assert_eq!(String::from_utf8_lossy(&rest), "", "the connection ends after QUIT");
    }
    server.stop().await;
}

#[tokio::test]
async fn each_command_is_in_the_table() {
    let server = Server::start(resp::RespSettings::default()).await;
    let mut client = server.client().await;
    client.write_all(b"COMMAND LIST\r\nINFO\r\nQUIT\r\n").await.expect("it is sent");
    let mut reply = String::new();
    timeout(PATIENCE, client.read_to_string(&mut reply)).await.expect("in time").expect("it is text");
    let (names, info) = reply.split_once("# Server").expect("the list ends where INFO begins");
    let names: Vec<&str> = names
        .split("\r\n")
        .filter(|word| word.starts_with(|letter: char| letter.is_ascii_lowercase()))
        .collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names.iter().filter(|name| **name != "info") {
        let is_tried = GOLDEN.iter().any(|(line, ..)| line.to_lowercase().split(' ').next() == Some(name));
        assert!(is_tried, "{name} is missing in the table");
    }
    for field in
        ["redis_version:7.4.0\r\n", "node_id:1\r\n", "paxos_role:leader\r\n", "leader_id:1\r\n", "lag:0\r\n"]
    {
        assert!(info.contains(field), "{field:?} in {info}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_never_reads_its_replies_is_cut_off() {
    let settings =
        resp::RespSettings::default().with(|settings| settings.write_timeout = Duration::from_millis(300));
    let server = Server::start(settings).await;
    let mut lazy = server.client().await;
    let value = "x".repeat(1 << 20);
    let set = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n{value}\r\n", value.len());
    lazy.write_all(set.as_bytes()).await.expect("it is sent");
    let asking = async {
        // Far more replies than fit between them, until the connection is broken.
        while lazy.write_all(b"GET k\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, asking).await.expect("it is cut off in time");
    let mut other = server.client().await;
    expect(&mut other, "STRLEN k", ":1048576\r\n").await;
    server.stop().await;
}

#[tokio::test]
async fn a_node_stops_while_a_client_never_pauses() {
    let server = Server::start(resp::RespSettings::default()).await;
    let mut asking = std::net::TcpStream::connect(server.address).expect("the front listens");
    let mut answered = asking.try_clone().expect("it can be shared");
    let reader = std::thread::spawn(move || std::io::copy(&mut answered, &mut std::io::sink()));
    let writer = std::thread::spawn(move || while asking.write_all(&b"PING\r\n".repeat(10_000)).is_ok() {});
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.stop().await;
    writer.join().expect("it has lost its connection");
    let _ = reader.join().expect("it has been told the end of it, or lost it");
}
