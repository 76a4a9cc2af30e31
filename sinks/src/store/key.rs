//! Names of objects: what is one, and what could leave the place where evidence is kept.

use super::StoreError;

/// The longest key, in bytes: S3's bound, and well below the longest path.
pub(super) const KEY_BYTES_MAX: usize = 1024;

/// The longest segment, in bytes: the longest file name of common file systems.
const SEGMENT_BYTES_MAX: usize = 255;

/// Checks that `key` is a path of `A-Z a-z 0-9 . _ = -` with `/` between segments, none of them `.`, `..` or empty.
pub(super) fn check(operation: &'static str, key: &str) -> Result<(), StoreError> {
    let segment_fits = |segment: &str| {
        !segment.is_empty()
            && segment.len() <= SEGMENT_BYTES_MAX
            && segment != "."
            && segment != ".."
            && segment.bytes().all(byte_fits)
    };
    if key.len() <= KEY_BYTES_MAX && key.split('/').all(segment_fits) {
        return Ok(());
    }
    Err(StoreError::Refused {
        operation,
        key: key.chars().take(KEY_BYTES_MAX).collect(),
        source: "an object's name is a path of A-Z a-z 0-9 . _ = - with / between segments".into(),
    })
}

fn byte_fits(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'=' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_could_leave_the_store_are_refused() {
        let long = "x".repeat(256);
        for key in [
            "",
            "/",
            "/etc/passwd",
            "a//b",
            "a/",
            "../a",
            "a/../b",
            "a/./b",
            ".",
            "..",
            "a b",
            "a\\b",
            "a\0b",
            "ä",
            "+tmp/x",
            &long,
        ] {
            assert!(check("put", key).is_err(), "{key:?}");
        }
        for key in [
            "a",
            "a/b",
            "events/v1/class=x/dt=2026-11-22/a-1.parquet",
            "..a",
            ".hidden",
        ] {
            assert!(check("put", key).is_ok(), "{key:?}");
        }
    }
}
