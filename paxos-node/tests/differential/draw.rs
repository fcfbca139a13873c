//! Draws requests: mostly valid ones, on few keys, so that they meet each other's values.

use fastrand::Rng;

/// Which of the two clients sends it, and its words.
pub(crate) type Request = (usize, Vec<Vec<u8>>);

const INTEGERS: [&str; 12] = [
    "0",
    "1",
    "-1",
    "3",
    "10",
    "-7",
    "100",
    "-100",
    "9223372036854775807",
    "-9223372036854775808",
    "x",
    "1.5",
];
/// Those of few digits, which a long double holds as exactly as a decimal number.
const FLOATS: [&str; 10] = ["0", "1", "0.5", "-0.25", "1.5e2", "3.0", "-2", ".5", "x", "1e"];
const VALUES: [&str; 10] =
    ["", "a", "Hello, World", "0", "12", "-5", "1.5", "007", "9223372036854775807", "\u{e9}"];
/// Times for deadlines that are none, or have passed.
const ODD_TIMES: [&str; 6] = ["0", "1", "-1", "9223372036854775807", "x", "1.5"];
/// Deadlines in seconds since 1970.
const LATE: [u64; 3] = [4_000_000_000, 5_000_000_000, 6_000_000_000];
const PATTERNS: [&str; 9] = ["*", "k?", "k[0-2]", "k[^0]", "*1", "none", "\\k*", "[a-z]*", ""];

/// One request, or several that belong together.
pub(crate) fn requests(random: &mut Rng) -> Vec<Request> {
    match random.u32(..20) {
        0 => transaction(random),
        1 => {
            // How a value is held depends on how it came to be: only a whole new one is compared.
            let (key, value) = (key(random), value(random));
            vec![(0, words(["SET"], [&key, &value])), (0, words(["OBJECT", "ENCODING"], [&key]))]
        }
        2 => meddled(random),
        _ => vec![(0, request(random))],
    }
}

/// A transaction, which the other client may meddle with after `WATCH`.
fn meddled(random: &mut Rng) -> Vec<Request> {
    let watched = key(random);
    let mut all = vec![(0, words(["WATCH"], [&watched, &key(random)]))];
    if random.bool() {
        all.push((0, words(["GET"], [&watched])));
    }
    (0..random.usize(..3)).for_each(|_| all.push((1, request(random))));
    if random.u32(..6) == 0 {
        all.push((0, words(["UNWATCH"], [])));
    }
    all.extend(transaction(random));
    all
}

fn transaction(random: &mut Rng) -> Vec<Request> {
    let mut all = vec![(0, words(["MULTI"], []))];
    let queued = (0..random.usize(..5)).map(|_| request(random));
    // The last is refused in a transaction here. The replies of the others may differ, and in those of a
    // transaction nobody can tell which they are.
    let left_out = [
        &b"RANDOMKEY"[..],
        b"MEMORY",
        b"OBJECT",
        b"TTL",
        b"PTTL",
        b"EXPIRETIME",
        b"PEXPIRETIME",
        b"UNSUBSCRIBE",
    ];
    let is_compared = |request: &Vec<Vec<u8>>| !left_out.contains(&&request[0][..]);
    all.extend(queued.filter(is_compared).map(|request| (0, request)));
    let end = if random.u32(..8) == 0 { "DISCARD" } else { "EXEC" };
    all.push((0, words([end], [])));
    all
}

fn words<const N: usize, const M: usize>(first: [&str; N], rest: [&Vec<u8>; M]) -> Vec<Vec<u8>> {
    let first = first.iter().map(|word| word.as_bytes().to_vec());
    first.chain(rest.into_iter().cloned()).collect()
}

fn of(random: &mut Rng, list: &[&str]) -> Vec<u8> {
    list[random.usize(..list.len())].as_bytes().to_vec()
}

fn key(random: &mut Rng) -> Vec<u8> {
    format!("k{}", random.u32(..6)).into_bytes()
}

fn value(random: &mut Rng) -> Vec<u8> {
    match random.u32(..8) {
        0 => vec![b'x'; random.usize(..100)],
        1 => (0..random.usize(..20)).map(|_| random.u8(..)).collect(),
        _ => of(random, &VALUES),
    }
}

fn request(random: &mut Rng) -> Vec<Vec<u8>> {
    let [one, other] = [key(random), key(random)];
    let [value, second] = [value(random), value(random)];
    let [integer, end] = [of(random, &INTEGERS), of(random, &INTEGERS)];
    let flags = |random: &mut Rng, list: &[&str]| -> Vec<Vec<u8>> {
        (0..random.usize(..3)).map(|_| of(random, list)).collect()
    };
    let mut request = match random.u32(..46) {
        0..=2 => [words(["SET"], [&one, &value]), flags(random, &["NX", "xx", "GET", "get"])].concat(),
        3 => words(["GET"], [&one]),
        4 => words(["MSET"], [&one, &value, &other, &second]),
        5 => words(["MSETNX"], [&one, &value, &other, &second]),
        6 => words(["MGET"], [&one, &other, &one]),
        7 => words(["SETNX"], [&one, &value]),
        8 => words(["GETSET"], [&one, &value]),
        9 => words(["GETDEL"], [&one]),
        10 => words(["APPEND"], [&one, &value]),
        11 => words(["STRLEN"], [&one]),
        12 => {
            // A part far behind the end would make both hold much.
            let offset = random.u32(..30).to_string().into_bytes();
            words(["SETRANGE"], [&one, if random.u32(..8) == 0 { &integer } else { &offset }, &value])
        }
        13 => words(["GETRANGE"], [&one, &integer, &end]),
        14 => words(["SUBSTR"], [&one, &integer, &end]),
        15 => words(["INCR"], [&one]),
        16 => words(["DECR"], [&one]),
        17 => words(["INCRBY"], [&one, &integer]),
        18 => words(["DECRBY"], [&one, &integer]),
        19 => {
            // On keys of their own: of a large number a long double keeps no fraction.
            let key = format!("f{}", random.u32(..2)).into_bytes();
            words(["INCRBYFLOAT"], [&key, &of(random, &FLOATS)])
        }
        20 => words(["DEL"], [&one, &other]),
        21 => words(["UNLINK"], [&one]),
        22 => words(["EXISTS"], [&one, &other]),
        23 => words(["TOUCH"], [&one, &other, &one]),
        24 => words(["TYPE"], [&one]),
        25 => words(["RENAME"], [&one, &other]),
        26 => words(["RENAMENX"], [&one, &other]),
        27 => {
            let options: &[&str] = &["REPLACE", "replace", "DB", "0", "NOW"];
            [words(["COPY"], [&one, &other]), flags(random, options)].concat()
        }
        28 => words(["KEYS"], [&of(random, &PATTERNS)]),
        29 => {
            let pattern = of(random, &PATTERNS);
            words(["SCAN", "0", "COUNT", "1000", "MATCH"], [&pattern])
        }
        30 => words(["DBSIZE"], []),
        31 => words(["RANDOMKEY"], []),
        32 => {
            let subcommand = of(random, &["FREQ", "REFCOUNT", "NONSENSE"]);
            words(["OBJECT"], [&subcommand, &one])
        }
        33 => words(["MEMORY", "USAGE"], [&one]),
        34 => connection(random),
        35..=44 => expiring(random),
        _ => words(["ECHO"], [&value]),
    };
    // Now and then with a word too many or too few.
    match random.u32(..30) {
        // Of `PING` Redis counts the words only when it carries it out.
        0 if request[0] != b"PING" => request.push(of(random, &VALUES)),
        1 if request.len() > 1 => drop(request.pop()),
        _ => {}
    }
    request
}

/// A time for the command or option at this place: in seconds, in milliseconds, and the same since 1970. It
/// is longer than the test, told in thousands, and hardly ever given twice: which of two equal deadlines is
/// later, a millisecond decides.
fn time(random: &mut Rng, place: usize) -> Vec<u8> {
    let thousands = 1000 * random.u64(1..1_000_000);
    let time = match place {
        0 => thousands,
        1 => 1000 * thousands,
        2 => LATE[random.usize(..3)],
        _ => 1000 * LATE[random.usize(..3)],
    };
    time.to_string().into_bytes()
}

/// Requests about keys that expire.
fn expiring(random: &mut Rng) -> Vec<Vec<u8>> {
    let (key, value) = (key(random), value(random));
    let place = random.usize(..4);
    let option = ["EX", "PX", "EXAT", "PXAT"][place];
    let ordinary = time(random, place);
    let time = if random.u32(..3) == 0 { of(random, &ODD_TIMES) } else { ordinary.clone() };
    // No key expires during the test: it might be counted still.
    let lasting = if time == b"1" { ordinary.clone() } else { time.clone() };
    let passed = if place < 2 { &lasting } else { &time };
    match random.u32(..12) {
        0..=1 => {
            let mut all = words(["SET"], [&key, &value]);
            all.extend(words([option], [&lasting]));
            all.extend((0..random.usize(..2)).map(|_| of(random, &["NX", "XX", "GET", "KEEPTTL", "PX"])));
            all
        }
        2 => [words(["SET"], [&key, &value]), words(["KEEPTTL"], [])].concat(),
        3..=4 if place < 2 => words([["SETEX", "PSETEX"][place]], [&key, &lasting, &value]),
        5 => {
            let mut all = words(["GETEX"], [&key]);
            match random.u32(..4) {
                0 => {}
                1 => all.push(b"PERSIST".to_vec()),
                2 => all.extend(words([option, "9", option], [&ordinary])),
                // Redis looks for the key before it looks at a time that is none.
                _ => all.extend(words([option], [&ordinary])),
            }
            all
        }
        6..=8 => {
            let name = ["EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"][place];
            let mut all = words([name], [&key, passed]);
            let flags = (0..random.usize(..3)).map(|_| of(random, &["NX", "xx", "GT", "LT", "NO"]));
            all.extend(flags);
            all
        }
        9 => words(["PERSIST"], [&key]),
        _ => words([["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"][place]], [&key]),
    }
}

/// Requests about the connection and the server.
fn connection(random: &mut Rng) -> Vec<Vec<u8>> {
    let lines = [
        "PING",
        "PING hello",
        "SELECT 0",
        "SELECT x",
        "CLIENT GETNAME",
        "CLIENT SETNAME tester",
        "CLIENT NO-EVICT on",
        "CLIENT FOO",
        "CLIENT KILL 127.0.0.1:1",
        "CLIENT KILL ID 0",
        "CLIENT KILL TYPE nonsense",
        "CLIENT LIST TYPE nonsense",
        "CLIENT GETREDIR",
        "CLIENT TRACKING OFF",
        "CLIENT TRACKINGINFO",
        "CLIENT UNBLOCK 99999",
        "CLUSTER INFO",
        "CLUSTER SLOTS",
        "CLUSTER SHARDS",
        "READONLY",
        "COMMAND GETKEYS PING a b c",
        "COMMAND GETKEYS GET a b",
        "COMMAND GETKEYS EVAL x 0",
        "COMMAND GETKEYS EVAL x 1 a",
        "SLOWLOG GET",
        "SLOWLOG GET -1",
        "SLOWLOG GET -2",
        "SLOWLOG GET x",
        "SLOWLOG GET 1 2",
        "SLOWLOG LEN",
        "SLOWLOG NONSENSE",
        "LATENCY LATEST",
        "LATENCY HISTORY command",
        "LATENCY RESET",
        "MODULE LIST",
        "PUBSUB CHANNELS",
        "PUBSUB NUMSUB a b",
        "PUBSUB NUMPAT",
        "PUBSUB NONSENSE",
        "PUBLISH channel message",
        "CONFIG GET appendfsync-nonsense",
        "CONFIG GET databases",
        "CONFIG GET",
        "COMMAND GETKEYS MSET a 1 b 2",
        "COMMAND GETKEYS GET a b",
        "COMMAND GETKEYS PING a",
        "COMMAND GETKEYS NONSENSE a",
        "COMMAND NONSENSE",
        "COMMAND INFO nonsense",
        "SCRIPT EXISTS 0123456789012345678901234567890123456789",
        "SCRIPT KILL",
        "EVALSHA 0123456789012345678901234567890123456789 0",
        "EVALSHA 0123456789012345678901234567890123456789 x",
        "UNSUBSCRIBE",
        "WAIT 0 0",
        "WAIT x 0",
        "WAIT 0 -1",
        "FLUSHALL NONSENSE",
        "OBJECT",
        "OBJECT ENCODING",
        "MEMORY",
        "MEMORY USAGE",
        "MEMORY USAGE k0 SAMPLES -1",
        "MEMORY NONSENSE",
        "NONSENSE a b",
        "GET",
        "SCAN x",
        "SCAN 0 COUNT 0",
        "SCAN 0 TYPE list",
        "EXEC",
        "DISCARD",
        "UNWATCH",
        "RESET",
    ];
    lines[random.usize(..lines.len())].split(' ').map(|word| word.as_bytes().to_vec()).collect()
}
