//! The memory that clients take together, and clients that vanish: `src/fronts/budget.rs`.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::{Cluster, PATIENCE, wait};

const MEBIBYTE: usize = 1 << 20;

fn connect(cluster: &Cluster, id: usize) -> TcpStream {
    let stream = TcpStream::connect(cluster.client_address(id)).expect("the node accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out can be set");
    stream
}

#[test]
fn clients_that_once_sent_much_keep_nothing_of_it() {
    const CLIENTS: usize = 90;
    /// The allocator keeps some of what it has had.
    const EACH_BYTES: usize = 256 << 10;
    let cluster = Cluster::started(1, &[]);
    let mut request = format!("*2\r\n$4\r\nECHO\r\n${MEBIBYTE}\r\n").into_bytes();
    request.resize(request.len() + MEBIBYTE, b'x');
    request.extend(b"\r\n");
    let mut answer = vec![0; format!("${MEBIBYTE}\r\n").len() + MEBIBYTE + 2];
    let before = cluster.memory_bytes(1);
    let clients: Vec<TcpStream> = (0..CLIENTS)
        .map(|_| {
            let mut client = connect(&cluster, 1);
            client.write_all(&request).expect("it is sent");
            client.read_exact(&mut answer).expect("it is answered");
            client
        })
        .collect();
    wait("the buffers are given back", || {
        let growth = cluster.memory_bytes(1).saturating_sub(before);
        (growth < CLIENTS * EACH_BYTES).then_some(())
    });
    for mut client in clients {
        client.write_all(b"PING\r\n").expect("it is sent");
        let mut pong = [0; 7];
        client.read_exact(&mut pong).expect("it is still served");
        assert_eq!(&pong, b"+PONG\r\n");
    }
}

#[test]
fn requests_that_never_end_share_one_bound_and_keep_nobody_out() {
    const CLIENTS: usize = 90;
    const BOUND: usize = 16 << 20;
    let cluster = Cluster::started(1, &["--client-buffer-bytes", &BOUND.to_string()]);
    let mut begun = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${MEBIBYTE}\r\n").into_bytes();
    begun.resize(begun.len() + MEBIBYTE - 1, b'x');
    let before = cluster.memory_bytes(1);
    let mut highest = 0;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut client = connect(&cluster, 1);
        // What the node does not read waits in the system's buffers, and not here.
        client.set_nonblocking(true).expect("it can be set");
        clients.push((client.write(&begun).unwrap_or(0), client));
        if number % 10 == 0 {
            for (sent, client) in &mut clients {
                *sent += client.write(&begun[*sent..]).unwrap_or(0);
            }
            highest = highest.max(cluster.memory_bytes(1));
        }
    }
    let mut good = cluster.client(1);
    let value = "y".repeat(MEBIBYTE);
    let started = Instant::now();
    // Few: what they write stays in the log, whose memory is not looked at here.
    for number in 0..8 {
        assert_eq!(good.ask(&["SET", "good", &value]), "OK", "write {number}");
        assert_eq!(good.ask(&["PING"]), "PONG");
        for (sent, client) in &mut clients {
            *sent += client.write(&begun[*sent..]).unwrap_or(0);
        }
        highest = highest.max(cluster.memory_bytes(1));
    }
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    let growth = highest.saturating_sub(before);
    assert!(growth < 3 * BOUND, "{CLIENTS} unfinished requests take {growth} bytes");
    let told = clients.iter_mut().filter_map(|(_, client)| {
        let mut answer = [0; 4];
        client.read_exact(&mut answer).is_ok().then_some(answer)
    });
    let told: Vec<_> = told.collect();
    assert!(
        !told.is_empty() && told.iter().all(|answer| answer == b"-OOM"),
        "those cut off are told: {told:?}"
    );
}

#[test]
fn a_silent_client_is_cut_off_where_that_is_asked_for() {
    let cluster = Cluster::started(1, &["--client-idle-timeout", "500ms"]);
    let mut client = connect(&cluster, 1);
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(100));
        client.write_all(b"PING\r\n").expect("it is sent");
        let mut pong = [0; 7];
        client.read_exact(&mut pong).expect("it is answered");
    }
    assert_eq!(client.read(&mut [0]).expect("it is closed in order"), 0);
}
