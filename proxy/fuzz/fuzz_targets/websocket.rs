//! A choice of protocol, then pieces of both sides of a stream over WebSocket messages.
#![no_main]

mod stream;

use hoop_proxy::tunnel::negotiate::{Encoding, Protocol};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [choice, input @ ..] = bytes else {
        return;
    };
    let encoding = if choice & 8 == 0 {
        Encoding::Binary
    } else {
        Encoding::Base64
    };
    let protocol = match choice & 7 {
        version @ 1..=5 => Protocol::CommandMessages { encoding, version },
        _ => Protocol::PortMessages {
            encoding,
            ports: vec![80, 8080],
        },
    };
    stream::check(&protocol, input);
});
