//! A choice of protocol and cuts, then pieces of both sides: what the client gets decodes to the masked output. See
//! `proxy/src/tunnel/rewrite/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    hoop_proxy::fuzzing::rewriter(bytes);
});
