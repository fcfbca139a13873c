//! What Redis clients get from a cluster of processes: `src/fronts/resp`.

mod support;

use support::{Client, Cluster, wait};

#[test]
fn any_node_takes_any_command() {
    let cluster = Cluster::started(3, &[]);
    let mut clients: Vec<_> = (1..=3).map(|id| cluster.client(id)).collect();
    let script: &[(&[&str], &str)] = &[
        (&["PING"], "PONG"),
        (&["ECHO", "hello"], "hello"),
        (&["SET", "a", "1"], "OK"),
        (&["GET", "a"], "1"),
        (&["SET", "a", "2", "NX"], "(nil)"),
        (&["SET", "a", "2", "XX", "GET"], "1"),
        (&["SET", "b", "1", "XX"], "(nil)"),
        (&["SETNX", "b", "x"], "1"),
        (&["SETNX", "b", "y"], "0"),
        (&["GETSET", "b", "z"], "x"),
        (&["GETDEL", "b"], "z"),
        (&["GET", "b"], "(nil)"),
        (&["INCR", "a"], "3"),
        (&["DECR", "a"], "2"),
        (&["INCRBY", "a", "40"], "42"),
        (&["DECRBY", "a", "2"], "40"),
        (&["APPEND", "a", "!"], "3"),
        (&["INCR", "a"], "-ERR value is not an integer or out of range"),
        (&["STRLEN", "a"], "3"),
        (&["MSET", "x", "1", "y", "2"], "OK"),
        (&["MGET", "x", "y", "z"], "[1 2 (nil)]"),
        (&["EXISTS", "x", "x", "z"], "2"),
        (&["DBSIZE"], "3"),
        (&["SCAN", "0", "MATCH", "[xy]", "COUNT", "100"], "[0 [y x]]"),
        (&["DEL", "x", "y", "z"], "2"),
        (&["SELECT", "0"], "OK"),
        (&["SELECT", "1"], "-ERR DB index is out of range: there is only database 0"),
        (&["GET"], "-ERR wrong number of arguments for 'get' command"),
        (&["FOO", "bar"], "-ERR unknown command 'FOO', with args beginning with: 'bar' "),
        (&["SET", "a", "1", "EX", "10"], "OK"),
        (&["TTL", "a"], "10"),
        (&["PERSIST", "a"], "1"),
        (&["TTL", "a"], "-1"),
        (&["EXPIREAT", "a", "1"], "1"),
        (&["GET", "a"], "(nil)"),
        (&["TTL", "a"], "-2"),
        (&["FLUSHALL"], "OK"),
        (&["DBSIZE"], "0"),
    ];
    // Each command on another node: every one sees what the one before has done.
    for (index, (command, expected)) in script.iter().enumerate() {
        let reply = clients[index % 3].ask(command);
        assert_eq!(reply.trim_end(), expected.trim_end(), "{command:?}");
    }
}

#[test]
fn transactions_are_one_entry_in_the_log() {
    let cluster = Cluster::started(3, &[]);
    let mut client = cluster.client(2);
    assert_eq!(client.ask(&["EXEC"]), "-ERR EXEC without MULTI");
    assert_eq!(client.ask(&["MULTI"]), "OK");
    assert_eq!(client.ask(&["SET", "a", "1"]), "QUEUED");
    assert_eq!(client.ask(&["INCR", "a"]), "QUEUED");
    assert_eq!(client.ask(&["GET", "a"]), "QUEUED");
    assert_eq!(client.ask(&["EXEC"]), "[OK 2 2]");
    assert_eq!(client.ask(&["MULTI"]), "OK");
    assert_eq!(client.ask(&["SET", "a"]), "-ERR wrong number of arguments for 'set' command");
    assert!(client.ask(&["EXEC"]).starts_with("-EXECABORT"));
    assert_eq!(client.ask(&["MULTI"]), "OK");
    assert_eq!(client.ask(&["SET", "a", "9"]), "QUEUED");
    assert_eq!(client.ask(&["DISCARD"]), "OK");
    assert_eq!(client.ask(&["GET", "a"]), "2");
}

#[test]
fn a_watch_sees_what_other_nodes_have_changed() {
    let mut cluster = Cluster::started(3, &[]);
    let leader = cluster.wait_for_leader();
    let [follower, other] = [1, 2].map(|step| (leader - 1 + step) % 3 + 1);
    let (mut watching, mut meddling) = (cluster.client(follower), cluster.client(other));
    let exec = |watching: &mut Client| {
        assert_eq!(watching.ask(&["MULTI"]), "OK");
        assert_eq!(watching.ask(&["INCR", "done"]), "QUEUED");
        watching.ask(&["EXEC"])
    };
    assert_eq!(watching.ask(&["WATCH", "a", "b"]), "OK");
    assert_eq!(exec(&mut watching), "[1]");
    for changes in [&[&["SET", "a", "1"][..]][..], &[&["SET", "b", "1"], &["DEL", "b"]]] {
        assert_eq!(watching.ask(&["WATCH", "a", "b"]), "OK");
        for change in changes {
            meddling.ask(change);
        }
        assert_eq!(exec(&mut watching), "(nil)", "{changes:?}");
    }
    // Another leader decides by the same revisions.
    assert_eq!(watching.ask(&["WATCH", "a"]), "OK");
    cluster.kill(leader);
    cluster.wait_for_leader();
    assert_eq!(exec(&mut watching), "[2]");
}

#[test]
fn clients_of_all_nodes_hear_the_same_in_the_same_order() {
    let cluster = Cluster::started(3, &[]);
    let mut listening: Vec<Client> = (1..=3).map(|id| cluster.client(id)).collect();
    for client in &mut listening {
        assert_eq!(client.ask(&["SUBSCRIBE", "news"]), "[subscribe news 1]");
        assert_eq!(client.ask(&["PSUBSCRIBE", "__keyevent@0__:*"]), "[psubscribe __keyevent@0__:* 2]");
    }
    let mut publishing: Vec<Client> = (1..=3).map(|id| cluster.client(id)).collect();
    for number in 0..30 {
        let client = &mut publishing[number % 3];
        if number % 2 == 0 {
            assert_eq!(
                client.ask(&["PUBLISH", "news", &number.to_string()]),
                "1",
                "the subscriber of this node"
            );
        } else {
            assert_eq!(client.ask(&["SET", &format!("k{number}"), "v"]), "OK");
        }
    }
    let heard = listening.iter_mut().map(|client| -> Vec<_> { (0..30).map(|_| client.reply()).collect() });
    let heard: Vec<Vec<Option<String>>> = heard.collect();
    assert_eq!(heard[0][0].as_deref(), Some("[message news 0]"));
    assert_eq!(heard[0][1].as_deref(), Some("[pmessage __keyevent@0__:* __keyevent@0__:set k1]"));
    assert!(heard.iter().all(|one| *one == heard[0]), "{heard:?}");
}

#[test]
fn a_client_that_was_killed_is_disconnected() {
    let cluster = Cluster::started(1, &[]);
    let (mut victim, mut killer) = (cluster.client(1), cluster.client(1));
    let id = victim.ask(&["CLIENT", "ID"]);
    let list = killer.ask(&["CLIENT", "LIST"]);
    assert!(list.contains(&format!("id={id} addr=127.0.0.1:")) && list.contains("cmd=client"), "{list}");
    assert_eq!(killer.ask(&["CLIENT", "KILL", "ID", &id]), "1");
    assert_eq!(victim.reply(), None);
    assert_eq!(killer.ask(&["PING"]), "PONG");
}

#[test]
fn pipelined_commands_take_effect_in_order() {
    let cluster = Cluster::started(3, &[]);
    let leader = cluster.wait_for_leader();
    for id in 1..=3 {
        let mut client = cluster.client(id);
        client.ask(&["DEL", "n"]);
        for _ in 0..200 {
            client.send(&["INCR", "n"]);
            client.send(&["GET", "n"]);
        }
        for number in 1..=200 {
            assert_eq!(client.reply(), Some(number.to_string()), "INCR on node {id}, leader {leader}");
            assert_eq!(client.reply(), Some(number.to_string()), "GET on node {id}, leader {leader}");
        }
    }
}

#[test]
fn bad_input_is_answered_and_harms_nobody() {
    let cluster = Cluster::started(1, &["--max-value-bytes", "1000"]);
    let mut client = cluster.client(1);
    let long = "x".repeat(1001);
    assert_eq!(client.ask(&["SET", "k", &long]), "-ERR value exceeds the limit of 1000 bytes");
    assert_eq!(client.ask(&["SET", "k", &long[1..]]), "OK", "the connection goes on");
    assert_eq!(client.ask(&["APPEND", "k", "x"]), "-ERR value exceeds the limit of 1000 bytes");
    for (bytes, expected) in [
        (&b"*1\r\n$999999999\r\n"[..], "-ERR Protocol error: invalid bulk length"),
        (b"*99999999\r\n", "-ERR Protocol error: invalid multibulk length"),
        (b"*1\r\n+x\r\n", "-ERR Protocol error: expected '$', got '+'"),
    ] {
        let mut client = cluster.client(1);
        client.send_raw(bytes);
        assert_eq!(client.reply().as_deref(), Some(expected));
        assert_eq!(client.reply(), None, "the connection ends");
    }
    let mut garbage = cluster.client(1);
    garbage.send_raw(&vec![0xff; 200_000]);
    while garbage.reply().is_some() {}
    let mut half = cluster.client(1);
    half.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\n");
    drop(half);
    assert_eq!(client.ask(&["STRLEN", "k"]), "1000", "everyone else is served");
}

#[test]
fn a_client_that_does_not_read_holds_up_only_itself() {
    let cluster = Cluster::started(1, &[]);
    let mut client = cluster.client(1);
    let value = "x".repeat(100_000);
    assert_eq!(client.ask(&["SET", "k", &value]), "OK");
    let mut lazy = cluster.client(1);
    let reader = std::thread::spawn(move || {
        for _ in 0..2000 {
            lazy.send(&["GET", "k"]); // 200 MB of replies, if anyone took them
        }
    });
    for _ in 0..50 {
        assert_eq!(client.ask(&["STRLEN", "k"]), "100000");
    }
    drop(cluster);
    reader.join().expect("its connection has broken, which is no failure");
}

#[test]
fn resp3_and_the_greetings_of_client_libraries_are_understood() {
    let cluster = Cluster::started(1, &[]);
    let mut client = cluster.client(1);
    let hello = client.ask(&["HELLO", "3", "SETNAME", "tester"]);
    assert!(hello.contains("proto 3") && hello.contains("role master"), "{hello}");
    assert_eq!(client.ask(&["CLIENT", "GETNAME"]), "tester");
    client.send(&["GET", "missing"]);
    assert_eq!(client.reply().as_deref(), Some("(nil)"));
    assert_eq!(client.ask(&["CLIENT", "SETINFO", "LIB-NAME", "x"]), "OK");
    assert!(client.ask(&["COMMAND", "DOCS"]).contains("get [group string]"));
    assert!(client.ask(&["HELLO", "4"]).starts_with("-NOPROTO"));
    assert!(client.ask(&["HELLO", "2", "AUTH", "u", "p"]).starts_with("-WRONGPASS"));
    let info = client.ask(&["INFO"]);
    for field in ["role:master", "paxos_role:leader", "leader_id:1", "ballot:", "chosen:", "applied:"] {
        assert!(info.contains(field), "{field} in {info}");
    }
    assert_eq!(client.ask(&["QUIT"]), "OK");
    assert_eq!(client.reply(), None);
}

#[test]
fn status_and_metrics_tell_how_a_node_is() {
    let cluster = Cluster::started(3, &[]);
    assert_eq!(cluster.client(1).ask(&["SET", "k", "v"]), "OK");
    cluster.wait_for_equal_states();
    let leader = cluster.wait_for_leader();
    assert_eq!(cluster.status(leader, "role").as_deref(), Some("\"leader\""));
    let (code, metrics) = cluster.http(leader, "/metrics").expect("metrics are served");
    assert_eq!(code, 200);
    wait("the gauges are up to date", || {
        let (_, metrics) = cluster.http(leader, "/metrics")?;
        (metrics.contains(&format!("paxos_leader{{node=\"{leader}\"}} 1"))
            && metrics.contains("paxos_chosen_slot"))
        .then_some(())
    });
    assert!(metrics.contains("# TYPE paxos_messages_sent_total counter"), "{metrics}");
    assert_eq!(cluster.http(leader, "/nothing").map(|(code, _)| code), Some(404));
}
