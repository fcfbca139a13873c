use std::collections::BTreeSet;

use super::super::words::CUT_NAME_BYTES;
use super::*;

#[test]
fn names_are_in_lower_case_short_and_given_once() {
    let names: BTreeSet<&str> = COMMANDS.iter().map(|command| command.name).collect();
    assert_eq!(names.len(), COMMANDS.len());
    assert!(names.iter().all(|name| name.len() < CUT_NAME_BYTES && *name == name.to_lowercase()));
}

#[test]
fn every_command_of_the_store_reads_or_writes() {
    let of_store = COMMANDS.iter().filter(|command| matches!(command.action, Action::Store(_)));
    for command in of_store.filter(|command| !command.categories.has(PUBSUB.and(SCRIPTING))) {
        let (reads, writes) = (command.categories.has(READ), command.categories.has(WRITE));
        assert!(reads != writes, "{} needs one of reads, writes and changes", command.name);
        assert_eq!(reads, command.access == Access::Read, "{}", command.name);
    }
}

#[test]
fn rules_of_users_find_the_keys_and_subcommands_of_commands() {
    let words = |line: &str| -> Vec<Bytes> {
        line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    };
    let keys = |line: &str| {
        let words = words(line);
        let command = find(&words[0]).expect("it is in the table");
        let keys = command.keys_among(&words[1..]);
        keys.map(|key| String::from_utf8_lossy(key).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(keys("mget a b"), ["a", "b"]);
    assert_eq!(keys("mset a 1 b 2"), ["a", "b"]);
    assert_eq!(keys("set a 1 nx get"), ["a"]);
    assert_eq!(keys("incrby a 5"), ["a"]);
    assert_eq!(keys("setex a 10 v"), ["a"]);
    assert_eq!(keys("expire a 10 nx"), ["a"]);
    assert_eq!(keys("getex a ex 10"), ["a"]);
    assert_eq!(keys("getrange a 0 1"), ["a"]);
    assert_eq!(keys("rename a b"), ["a", "b"]);
    assert_eq!(keys("copy a b replace"), ["a", "b"]);
    assert_eq!(keys("object encoding a"), ["a"]);
    assert_eq!(keys("delex a ifeq b"), ["a"]);
    assert_eq!(keys("watch a b"), ["a", "b"]);
    assert_eq!(keys("eval text 2 a b c"), ["a", "b"]);
    assert_eq!(keys("eval text 9 a b"), ["a", "b"]);
    assert_eq!(keys("eval text 0 a"), [""; 0]);
    assert_eq!(keys("eval text -1 a"), ["text", "-1", "a"], "nobody knows which they are");
    assert_eq!(keys("publish channel a"), [""; 0]);
    assert_eq!(keys("scan 0 match x"), [""; 0]);
    let set = find(b"set").expect("it is in the table");
    assert_eq!(set.access(&words("a get")), Access::Write, "that is the value");
    assert_eq!(set.access(&words("a 1 NX")), Access::Write);
    assert_eq!(set.access(&words("a 1 nx GET")), Access::ReadWrite);
    assert_eq!(set.access(&words("a 1 EX 10 nx")), Access::Write);
    assert_eq!(set.access(&words("a 1 KEEPTTL")), Access::Write);
    assert_eq!(set.access(&words("a 1 EX 10 GET")), Access::ReadWrite);
    assert_eq!(set.access(&words("a 1 ifeq 2")), Access::ReadWrite, "whether it is set tells what it was");
    let client = find(b"client").expect("it is in the table");
    assert_eq!(client.full_name(&words("LIST")), "client|list");
    assert_eq!(client.units_of(&words("LIST")).count_ones(), 1);
    assert_eq!(client.units_of(&words("nonsense")), client.all_units());
    assert_eq!(set.all_units(), 1);
}

#[test]
fn arguments_are_counted_without_the_name() {
    let fits = |name: &str, count: usize| {
        let command = find(name.as_bytes()).expect("it is in the table");
        command.check_arity(&vec![Bytes::from_static(b"getname"); count]).is_ok()
    };
    for (name, right, wrong) in [
        ("get", &[1][..], &[0, 2][..]),
        ("set", &[2, 3, 6], &[0, 1]),
        ("mset", &[2, 3, 4], &[0, 1]),
        ("ping", &[0, 1], &[2]),
        ("quit", &[0, 9], &[]),
        ("client", &[1], &[0, 2]),
    ] {
        assert!(right.iter().all(|count| fits(name, *count)), "{name}");
        assert!(wrong.iter().all(|count| !fits(name, *count)), "{name}");
    }
}
