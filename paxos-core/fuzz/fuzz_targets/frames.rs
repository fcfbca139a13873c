#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| paxos_core::frames::fuzzing::frames(bytes));
