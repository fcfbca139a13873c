#![no_main]

#[path = "../recovery.rs"]
mod recovery;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| recovery::recovery(bytes));
