//! A choice, then a token: as it comes, or to be signed by one of several keys and altered. Only what an issuer signed is
//! accepted. See `proxy/src/authenticate/oidc/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    hoop_proxy::fuzzing::jwt(bytes);
});
