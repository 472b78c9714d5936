//! Looks for input that breaks the law of the target with this name.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tests_fuzz::run("streaming_engine", input));
