//! Nodes as processes that take up new certificates and users while they serve, and clients with TLS:
//! `src/cli/reread.rs`.
#![cfg(feature = "file")]

mod support;

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::{Cluster, free_port, run, wait};

/// Starts a node whose standard output is kept.
fn start(cluster: &mut Cluster, id: usize, arguments: &[String]) {
    let file = |name: String| {
        let opened = std::fs::File::options().create(true).append(true).open(cluster.path(&name));
        Stdio::from(opened.expect("the file opens"))
    };
    let (output, error) = (file(format!("node-{id}.out")), file(format!("node-{id}.log")));
    cluster.start_on(id, arguments, output, error);
}

fn start_all(cluster: &mut Cluster, size: usize) {
    for id in 1..=size {
        let arguments = cluster.serve_arguments(id);
        start(cluster, id, &arguments);
    }
    cluster.wait_for_leader();
}

/// How often a node has said that it has taken something up.
fn taken_up(cluster: &Cluster, id: usize, what: &str) -> usize {
    let output = std::fs::read_to_string(cluster.path(&format!("node-{id}.out"))).unwrap_or_default();
    output.lines().filter(|line| line.contains(&format!("node {id} has taken up: {what}"))).count()
}

/// Has all nodes read their files again, and waits until they have.
fn hang_up(cluster: &Cluster, size: usize) {
    let what = "certificates for peers";
    let before: Vec<usize> = (1..=size).map(|id| taken_up(cluster, id, what)).collect();
    for id in 1..=size {
        cluster.signal(id, "-HUP");
        wait("the certificates are taken up", || {
            (taken_up(cluster, id, what) > before[id - 1]).then_some(())
        });
    }
}

fn certs(arguments: &[&str]) {
    let output = run(&[&["certs"], arguments].concat());
    assert!(output.status.success(), "{output:?}");
}

/// Writes through node 1 until `work` is done; fails if any write does. Returns how many there were.
fn while_a_client_writes(cluster: &mut Cluster, work: impl FnOnce(&mut Cluster)) -> usize {
    let is_over = AtomicBool::new(false);
    let mut client = cluster.client(1);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(client.ask(&["SET", "key", &count.to_string()]), "OK");
                count += 1;
            }
            count
        });
        work(cluster);
        is_over.store(true, Ordering::Relaxed);
        writer.join().expect("every write was acknowledged")
    })
}

fn peers_are_connected(cluster: &Cluster, size: usize) {
    for id in 1..=size {
        wait("all peers are connected", || {
            let (_, metrics) = cluster.http(id, "/metrics")?;
            let connected = metrics
                .lines()
                .filter(|line| line.starts_with("paxos_peer_connected") && line.ends_with(" 1"));
            (connected.count() == size - 1).then_some(())
        });
    }
}

#[test]
fn renewed_certificates_are_taken_up_while_clients_write() {
    for transport in ["quic", "tcp"] {
        let mut cluster = Cluster::new(3, &["--transport", transport]);
        start_all(&mut cluster, 3);
        let directory = cluster.path("certs");
        let count = while_a_client_writes(&mut cluster, |cluster| {
            certs(&["renew", "--out", &directory]);
            hang_up(cluster, 3);
            certs(&["renew", "--out", &directory, "--new-keys"]);
            // Without a signal, too.
            let what = "certificates for peers";
            let again = |id| (taken_up(cluster, id, what) >= 2).then_some(());
            (1..=3).for_each(|id| wait("the files are looked at", || again(id)));
            peers_are_connected(cluster, 3);
        });
        assert!(count > 0);
        // Only the new certificates are on its disk, and all handshakes are new.
        cluster.stop(3);
        let arguments = cluster.serve_arguments(3);
        start(&mut cluster, 3, &arguments);
        peers_are_connected(&cluster, 3);
        assert_eq!(cluster.client(3).ask(&["GET", "key"]), (count - 1).to_string(), "{transport}");
    }
}

#[test]
fn a_ca_is_replaced_while_clients_write() {
    let mut cluster = Cluster::new(3, &[]);
    start_all(&mut cluster, 3);
    let (directory, new) = (cluster.path("certs"), cluster.path("new-certs"));
    certs(&["--out", &new, "--nodes", "3"]);
    let read = |directory: &str| std::fs::read_to_string(format!("{directory}/ca.pem")).expect("it is there");
    let (old_ca, new_ca) = (read(&directory), read(&new));
    while_a_client_writes(&mut cluster, |cluster| {
        // First all trust both, then each shows a certificate of the new one, and last the old one goes.
        std::fs::write(format!("{directory}/ca.pem"), old_ca + &new_ca).expect("it is written");
        hang_up(cluster, 3);
        for file in (1..=3).flat_map(|id| [format!("node-{id}.pem"), format!("node-{id}-key.pem")]) {
            std::fs::copy(format!("{new}/{file}"), format!("{directory}/{file}")).expect("it is copied");
        }
        hang_up(cluster, 3);
        std::fs::write(format!("{directory}/ca.pem"), &new_ca).expect("it is written");
        hang_up(cluster, 3);
    });
    peers_are_connected(&cluster, 3);
    // Connections of the old CA are over. What the operator has is of the old one, until it is replaced, too.
    let (code, line) = cluster.try_member(&[1], &["list"]);
    assert_ne!(code, Some(0), "{line}");
    for file in ["admin.pem", "admin-key.pem"] {
        std::fs::copy(format!("{new}/{file}"), format!("{directory}/{file}")).expect("it is copied");
    }
    cluster.member(&[1], &["list"]);
}

#[test]
fn certificates_that_are_broken_change_nothing_and_are_told() {
    let mut cluster = Cluster::new(3, &[]);
    start_all(&mut cluster, 3);
    let key = format!("{}/node-1-key.pem", cluster.path("certs"));
    let kept = std::fs::read(&key).expect("it is there");
    std::fs::copy(format!("{}/node-2-key.pem", cluster.path("certs")), &key).expect("it is written");
    cluster.signal(1, "-HUP");
    let text = "what was there before stays in force, as these can't be used: certificates for peers";
    let told = || cluster.log(1).lines().find(|line| line.contains(text)).map(str::to_owned);
    let line = wait("it is told", told);
    assert!(line.contains("node-1-key.pem: does not fit the certificate in"), "{line}");
    assert!(!line.contains("PRIVATE"), "{line}");
    peers_are_connected(&cluster, 3);
    std::fs::write(&key, kept).expect("it is written");
    cluster.signal(1, "-HUP");
    wait("they are in order again", || (taken_up(&cluster, 1, "certificates for peers") == 1).then_some(()));
    assert_eq!(cluster.client(1).ask(&["SET", "a", "1"]), "OK");
}

/// The arguments of `serve` for a node with TLS and users, and no plain port.
fn with_tls_alone(cluster: &Cluster, id: usize, port: u16) -> Vec<String> {
    let mut arguments = cluster.serve_arguments(id);
    let at = arguments.iter().position(|argument| argument == "--client").expect("it is given");
    arguments.drain(at..at + 2);
    let options = ["--client-tls", &format!("127.0.0.1:{port}"), "--users", &cluster.path("users.acl")];
    arguments.extend(options.map(str::to_owned));
    arguments
}

#[test]
fn redis_cli_talks_tls_as_a_user_and_new_users_are_taken_up() {
    if Command::new("redis-cli").arg("--version").output().is_err() {
        eprintln!("skipped: redis-cli is not installed");
        return;
    }
    let mut cluster = Cluster::new(1, &[]);
    let users = cluster.path("users.acl");
    std::fs::write(&users, "user app on >first ~app:* +@all\n").expect("it is written");
    let port = free_port();
    let arguments = with_tls_alone(&cluster, 1, port);
    start(&mut cluster, 1, &arguments);
    cluster.wait_for_leader();
    let authority = format!("{}/ca.pem", cluster.path("certs"));
    let ask = |password: &str, words: &[&str]| {
        let mut command = Command::new("redis-cli");
        command.args(["--tls", "--cacert", &authority, "-p", &port.to_string(), "--user", "app"]);
        let output = command.args(["--pass", password, "--no-auth-warning"]).args(words).output();
        let output = output.expect("redis-cli runs");
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).trim().to_owned()
    };
    assert_eq!(ask("first", &["set", "app:1", "x"]), "OK");
    assert_eq!(ask("first", &["get", "app:1"]), "x");
    assert_eq!(ask("first", &["acl", "whoami"]), "app");
    assert!(
        ask("first", &["set", "other", "x"]).starts_with("NOPERM"),
        "{}",
        ask("first", &["set", "b", "x"])
    );
    assert!(ask("wrong", &["get", "app:1"]).contains("WRONGPASS"), "{}", ask("wrong", &["get", "a"]));
    std::fs::write(&users, "user app on hunter2 ~* +@all\n").expect("it is written");
    cluster.signal(1, "-HUP");
    let text = "what was there before stays in force, as these can't be used: users in";
    wait("it is told", || cluster.log(1).contains(text).then_some(()));
    assert!(cluster.log(1).contains("users.acl: line 1: rule 2 of user 'app'"), "{}", cluster.log(1));
    assert_eq!(ask("first", &["get", "app:1"]), "x", "the old users are in force");
    std::fs::write(&users, "user app on >second ~* +@all\n").expect("it is written");
    wait("the file is looked at", || (ask("second", &["set", "other", "x"]) == "OK").then_some(()));
    assert!(ask("first", &["get", "app:1"]).contains("WRONGPASS"));
    let (_, metrics) = cluster.http(1, "/metrics").expect("it answers");
    for name in ["paxos_logins_refused_total", "paxos_commands_denied_total", "paxos_client_handshakes_total"]
    {
        let line = metrics.lines().find(|line| line.starts_with(name)).expect("it is shown");
        assert!(!line.ends_with(" 0"), "{line}");
    }
    for secret in ["first", "second", "hunter2"] {
        assert!(!cluster.log(1).contains(secret), "{}", cluster.log(1));
    }
}

#[test]
fn redis_cli_shows_a_certificate_where_it_has_to() {
    if Command::new("redis-cli").arg("--version").output().is_err() {
        eprintln!("skipped: redis-cli is not installed");
        return;
    }
    let mut cluster = Cluster::new(1, &[]);
    let port = free_port();
    let mut arguments = cluster.serve_arguments(1);
    let authority = format!("{}/ca.pem", cluster.path("certs"));
    let options = ["--client-tls", &format!("127.0.0.1:{port}"), "--client-ca", &authority];
    arguments.extend(options.map(str::to_owned));
    start(&mut cluster, 1, &arguments);
    cluster.wait_for_leader();
    let ask = |more: &[&str]| {
        let mut command = Command::new("redis-cli");
        command.args(["--tls", "--cacert", &authority, "-p", &port.to_string()]).args(more).arg("ping");
        let output = command.output().expect("redis-cli runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let file = |name: &str| format!("{}/{name}", cluster.path("certs"));
    assert_eq!(ask(&["--cert", &file("admin.pem"), "--key", &file("admin-key.pem")]), "PONG");
    assert_ne!(ask(&[]), "PONG");
    assert_eq!(cluster.client(1).ask(&["PING"]), "PONG", "the plain port was asked for");
    let text = "clients have failed in their TLS handshake";
    wait("it is told", || cluster.log(1).contains(text).then_some(()));
}

#[test]
fn a_hang_up_changes_what_is_logged() {
    let mut cluster = Cluster::new(1, &[]);
    let config = cluster.path("node.toml");
    std::fs::write(&config, "log = 'warn'\n").expect("it is written");
    let mut arguments = cluster.serve_arguments(1);
    arguments.extend([String::from("--config"), config.clone()]);
    start(&mut cluster, 1, &arguments);
    cluster.wait_for_leader();
    assert!(!cluster.log(1).contains("DEBUG"), "{}", cluster.log(1));
    std::fs::write(&config, "log = 'debug'\n").expect("it is written");
    cluster.signal(1, "-HUP");
    wait("the log has more", || {
        drop(cluster.client(1)); // Its end is logged.
        std::thread::sleep(Duration::from_millis(50));
        cluster.log(1).contains("DEBUG").then_some(())
    });
    std::fs::write(&config, "log = '==='\n").expect("it is written");
    cluster.signal(1, "-HUP");
    wait("it is told", || cluster.log(1).contains("these can't be used: what to log").then_some(()));
}
