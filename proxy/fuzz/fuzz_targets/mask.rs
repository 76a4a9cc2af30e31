//! Hint, cut, then a body: masking never panics, the cut of the body does not matter, JSON stays JSON.
#![no_main]

use std::sync::Arc;

use hoop_proxy::mask::{MaskHint, MaskKey, MaskMode, Masker};

const HINTS: [MaskHint; 4] = [
    MaskHint::Unknown,
    MaskHint::Secrets,
    MaskHint::TokenRequest,
    MaskHint::Other,
];

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [choice, size, body @ ..] = bytes else {
        return;
    };
    let hint = HINTS[usize::from(choice % 4)];
    let mode = if choice & 4 == 0 {
        MaskMode::Redact
    } else {
        MaskMode::Hmac
    };
    let whole = mask(hint, mode, body, usize::MAX);
    assert_eq!(whole, mask(hint, mode, body, usize::from(*size).max(1)));
    if whole.1 && serde_json::from_slice::<serde_json::Value>(body).is_ok() {
        let parsed = serde_json::from_slice::<serde_json::Value>(&whole.0);
        assert!(parsed.is_ok(), "{:?}", String::from_utf8_lossy(&whole.0));
    }
});

/// What came out, and whether it was all.
fn mask(hint: MaskHint, mode: MaskMode, body: &[u8], size: usize) -> (Vec<u8>, bool) {
    let mut masker = Masker::new(hint, mode, Arc::new(MaskKey::from_bytes([7; 32])));
    let mut out = Vec::new();
    let is_taken = body
        .chunks(size)
        .all(|chunk| masker.push(chunk, &mut out).is_ok());
    let is_whole = is_taken && masker.finish(&mut out).is_ok();
    (out, is_whole)
}
