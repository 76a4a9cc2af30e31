use super::*;
use bytes::Bytes;
use hoop_sinks::store::CreateOptions;
use hoop_sinks::store::memory::Memory;

#[test]
fn bytes_that_are_no_session_file_are_refused_in_words() {
    for bytes in [
        &b""[..],
        b"PAR1",
        b"\xff\xff\xff\xffPAR1",
        b"\x00\x00\x00\x00PAR1",
        b"\x09\x00\x00\x00PAR1",
        b"\x04\x00\x00\x00PAR1xxxx",
    ] {
        assert!(parse_footer(bytes).is_err(), "{bytes:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_missing_or_damaged_is_told_apart() {
    let store = Memory::new();
    assert!(matches!(
        read_footer(&store, "a").await,
        Err(FooterError::Store(StoreError::NotFound { .. }))
    ));
    store
        .create(
            "a",
            Bytes::from_static(b"not Parquet"),
            &CreateOptions::default(),
        )
        .await
        .unwrap();
    assert!(matches!(
        read_footer(&store, "a").await,
        Err(FooterError::Damaged { .. })
    ));
}
