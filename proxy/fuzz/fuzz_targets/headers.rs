//! A choice, then the head of a request: what is forwarded holds no credential, no identity but the gateway's, nothing of the
//! connection. See `proxy/src/fuzzing/headers.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    hoop_proxy::fuzzing::headers(bytes);
});
