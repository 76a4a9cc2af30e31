//! A choice of protocol, then pieces of both sides of a stream over SPDY, alone and inside WebSocket messages.
#![no_main]

mod stream;

use hoop_proxy::tunnel::negotiate::Protocol;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [choice, input @ ..] = bytes else {
        return;
    };
    let protocol = match choice & 7 {
        0 => Protocol::PortStreams,
        6 | 7 => Protocol::PortStreamsInWebSocket,
        version => Protocol::CommandStreams { version },
    };
    stream::check(&protocol, input);
});
