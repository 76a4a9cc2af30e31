//! Any bytes: decoding never panics; what decodes encodes to an event that decodes to the same; rows agree.
#![no_main]

use hoop_schema::bytes::{decode, encode};
use hoop_schema::row::Row;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let row = Row::read(bytes);
    let Ok(event) = decode(bytes) else { return };
    if let Ok(row) = row {
        assert_eq!((row.event_id, row.session_id), (event.envelope.event_id, event.envelope.session_id));
        assert_eq!(&*row.kind, event.kind.name());
    }
    let Ok(encoded) = encode(&event.envelope, &event.kind) else { return };
    let again = decode(&encoded.bytes).expect("what was encoded decodes");
    assert_eq!(again.envelope, event.envelope);
    assert_eq!(encode(&again.envelope, &again.kind).expect("encodes again"), encoded);
});
