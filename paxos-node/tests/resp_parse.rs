//! Requests that are too long, oddly quoted or broken: they are understood as in Redis, or refused with an
//! error. `src/fronts/resp/parse.rs`, `inline.rs`.

mod support;

use support::{Client, Cluster};

const EXECABORT: &str = "-EXECABORT Transaction discarded because of previous errors.";

/// Sends bytes as they are, and expects these replies to them.
fn expect(client: &mut Client, bytes: &[u8], replies: &[&str]) {
    client.send_raw(bytes);
    for reply in replies {
        let start = bytes[..bytes.len().min(100)].escape_ascii();
        assert_eq!(client.reply().as_deref(), Some(*reply), "{start}");
    }
}

#[test]
fn inline_requests_are_unquoted_as_in_redis() {
    let cluster = Cluster::started(1, &[]);
    let mut client = cluster.client(1);
    for (line, value) in [
        (&br#"SET k1 "v""#[..], "v"),
        (br#"SET k1 "two words""#, "two words"),
        (br"SET k1 'single \' quote'", "single ' quote"),
        (br#"SET "k1" "\x41\x62\t\"""#, "Ab\t\""),
        (br#"  SET   k1	pre"fix" "#, "prefix"),
        (br#"SET k1 """#, ""),
    ] {
        expect(&mut client, &[line, b"\r\n"].concat(), &["OK"]);
        expect(&mut client, b"GET k1\n", &[value]);
    }
    for line in [&br#"SET k1 "v"#[..], b"SET k1 'v", br#"SET k1 "v"x"#, b"SET k1 'v'x"] {
        let mut client = cluster.client(1);
        let error = "-ERR Protocol error: unbalanced quotes in request";
        expect(&mut client, &[b"PING\r\n", line, b"\r\nPING\r\n"].concat(), &["PONG", error]);
        assert_eq!(client.reply(), None, "the connection ends");
    }
    expect(&mut client, b"GET k1\r\n", &[""]);
}

#[test]
fn a_request_that_is_too_long_is_answered_in_its_place_and_the_connection_goes_on() {
    let cluster = Cluster::started(1, &[]);
    let long = "x".repeat(5_000_000);
    let many = vec!["x"; 100_000];
    let several = vec!["x".repeat(1_000_000); 7];
    let mset: Vec<&str> = ["MSET"].into_iter().chain(several.iter().map(String::as_str)).collect();
    let del: Vec<&str> = ["DEL"].into_iter().chain(many).collect();
    let requests: &[(&[&str], &str)] = &[
        (&["SET", "k", &long], "-ERR value exceeds the limit of 1048576 bytes"),
        (&["MSET", "j", "v", "k", &long], "-ERR value exceeds the limit of 1048576 bytes"),
        (&["SET", &long, "v"], "-ERR key exceeds the limit of 65536 bytes"),
        (&["GET", &long], "-ERR key exceeds the limit of 65536 bytes"),
        (&["ECHO", &long], "-ERR argument exceeds the limit of 1114112 bytes"),
        (&[&long], "-ERR argument exceeds the limit of 1114112 bytes"),
        (&["SET", &long[..65_537], "v"], "-ERR key exceeds the limit of 65536 bytes"),
        (&["SET", "k", &long[..1_048_577]], "-ERR value exceeds the limit of 1048576 bytes"),
        (&mset, "-ERR request exceeds the limit of 4456448 bytes"),
        (&del, "-ERR request exceeds the limit of 65536 arguments"),
    ];
    let mut client = cluster.client(1);
    for (request, error) in requests {
        // Alone, in a pipeline, and in a transaction.
        assert_eq!(client.ask(request), *error);
        client.send(&["SET", "before", "1"]);
        client.send(request);
        client.send(&["GET", "before"]);
        assert_eq!(client.reply().as_deref(), Some("OK"));
        assert_eq!(client.reply().as_deref(), Some(*error));
        assert_eq!(client.reply().as_deref(), Some("1"));
    }
    for (request, error) in requests {
        assert_eq!(client.ask(&["MULTI"]), "OK");
        assert_eq!(client.ask(&["SET", "k", "done"]), "QUEUED");
        assert_eq!(client.ask(request), *error);
        assert_eq!(client.ask(&["EXEC"]), EXECABORT);
    }
    assert_eq!(client.ask(&["EXISTS", "j", "k"]), "0", "nothing of all that was stored");
}

#[test]
fn the_last_error_can_be_read_however_much_the_client_had_sent() {
    let cluster = Cluster::started(1, &[]);
    let junk = vec![b'x'; 3_000_000];
    for (bytes, error) in [
        (&b"*3\r\n$999999999\r\n"[..], "-ERR Protocol error: invalid bulk length"),
        (b"*99999999\r\n", "-ERR Protocol error: invalid multibulk length"),
        (b"*1\r\n+x\r\n", "-ERR Protocol error: expected '$', got '+'"),
        (b"SET k \"v\r\n", "-ERR Protocol error: unbalanced quotes in request"),
        (b"QUIT\r\n", "OK"),
    ] {
        let mut client = cluster.client(1);
        // All of it is sent before anything is read, as clients do: the connection must not break meanwhile.
        expect(&mut client, &[bytes, &junk].concat(), &[error]);
        assert_eq!(client.reply(), None, "the connection ends");
    }
}

#[test]
fn a_node_tells_what_redis_tells_of_itself() {
    let cluster = Cluster::started(1, &["--max-clients", "77"]);
    let mut client = cluster.client(1);
    assert_eq!(client.ask(&["INFO", "keyspace"]), "# Keyspace\r\n");
    for number in 0..3 {
        assert_eq!(client.ask(&["SET", &format!("k{number}"), "v"]), "OK");
    }
    assert_eq!(client.ask(&["INFO", "keyspace"]), "# Keyspace\r\ndb0:keys=3,expires=0,avg_ttl=0\r\n");
    assert_eq!(client.ask(&["INFO", "nonsense"]), "");
    let everything = client.ask(&["INFO"]);
    for name in ["all", "default", "everything"] {
        let headings = |text: &str| text.matches("# ").count();
        assert_eq!(headings(&client.ask(&["INFO", name])), headings(&everything));
    }
    let port = cluster.client_address(1).rsplit_once(':').map(|(_, port)| format!("tcp_port:{port}"));
    for field in [
        "redis_version:7.4.0",
        &port.expect("an address has a port"),
        "connected_clients:1",
        "maxclients:77",
        "used_memory_rss:",
        "loading:0",
        "total_connections_received:1",
        "total_commands_processed:",
        "rejected_connections:0",
        "role:master",
        "connected_slaves:0",
        "paxos_role:leader",
        "cluster_enabled:0",
        "db0:keys=3,expires=0,avg_ttl=0",
    ] {
        assert!(everything.contains(&format!("\r\n{field}")), "{field} in {everything}");
    }
    let role = client.ask(&["ROLE"]);
    assert!(role.starts_with("[master ") && role.ends_with(" []]"), "{role}");
}
