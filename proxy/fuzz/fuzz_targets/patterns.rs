//! Choices, perhaps a pattern, then a text: however it is cut it comes out as a search of the whole masks it. See
//! `proxy/src/mask/scan/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    hoop_proxy::fuzzing::patterns(bytes);
});
