#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| paxos_node::fuzzing::users(bytes));
