//! What every backend of [`EvidenceStore`] owes its callers: one function per sentence of the trait's documentation.
//!
//! A backend's tests call [`evidence_store_conformance!`](crate::evidence_store_conformance) with a closure that gives
//! a fresh or shared store. Every test works below a prefix of its own, so stores may be shared. A harness of its own
//! kind calls the macro with `each` and the name of a macro, and gets the names of all functions.

use std::sync::Arc;

use bytes::Bytes;
use hoop_schema::{EventHash, Timestamp};

use super::{
    CreateOptions, Created, EvidenceStore, LockMode, Metadata, Protection, Retention, StoreError,
};

/// Rivals that create one name at the same time.
const RIVALS: usize = 32;

/// One `#[tokio::test]` per promise. The argument is `|| async { Arc::new(…) as Arc<dyn EvidenceStore> }`; or `each`
/// and the name of a macro that takes the names of the promises, separated by commas.
#[macro_export]
macro_rules! evidence_store_conformance {
    (each $then:ident) => {
        $crate::evidence_store_conformance!(@promises $then);
    };
    (@promises $then:ident $($make:expr)?) => {
        $crate::evidence_store_conformance!(
            @$then $($make)?;
            created_objects_can_be_read_back,
            an_object_that_exists_is_not_changed,
            of_many_rivals_exactly_one_creates,
            nobody_sees_a_part_of_an_object,
            head_tells_length_and_hash,
            head_of_a_missing_object_is_none,
            ranges_are_clipped_to_the_end,
            get_of_a_missing_object_is_not_found,
            listing_is_in_order_of_the_keys_bytes,
            listing_goes_on_after_a_key,
            a_prefix_without_objects_is_an_empty_list,
            a_prefix_need_not_end_at_a_slash,
            a_deleted_object_is_gone,
            deleting_a_missing_object_is_not_found,
            what_is_destroyed_is_gone_and_its_neighbours_are_not,
            keys_outside_the_alphabet_are_refused,
            empty_objects_are_objects,
            a_retention_term_is_kept_or_refused,
            a_legal_hold_is_kept_or_refused,
            what_is_not_locked_is_not_protected,
            who_may_delete_is_told,
            probe_passes_and_leaves_nothing_that_matters,
        );
    };
    (@tests $make:expr; $($name:ident),* $(,)?) => {
        mod conformance {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let store = ($make)().await;
                    $crate::store::conformance::$name(store, concat!("conformance/", stringify!($name), "/")).await;
                }
            )*
        }
    };
    (@$then:ident; $($name:ident),* $(,)?) => {
        $then!($($name),*);
    };
    ($make:expr) => {
        $crate::evidence_store_conformance!(@promises tests $make);
    };
}

async fn put(store: &dyn EvidenceStore, key: &str, bytes: &[u8]) -> Created {
    let options = Metadata::from([("pos-to", "7".to_owned())]).into();
    store
        .create(key, Bytes::copy_from_slice(bytes), &options)
        .await
        .expect("the store takes objects")
}

async fn keys(store: &dyn EvidenceStore, prefix: &str, after: Option<&str>) -> Vec<String> {
    let list = store
        .list(prefix, after)
        .await
        .expect("the store lists objects");
    list.into_iter()
        .map(|o| {
            o.key
                .trim_start_matches("conformance/")
                .split_once('/')
                .expect("below a test's prefix")
                .1
                .to_owned()
        })
        .collect()
}

/// "When it returns `Created`, the object is durable and whole."
pub async fn created_objects_can_be_read_back(store: Arc<dyn EvidenceStore>, at: &str) {
    let key = format!("{at}class=a/dt=2026-11-22/x_1.parquet");
    let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    assert_eq!(put(&*store, &key, &bytes).await, Created::Created);
    assert_eq!(
        store
            .get(&key, 0..u64::MAX)
            .await
            .expect("the store answers"),
        bytes
    );
    let listed = store.list(at, None).await.expect("the store answers");
    assert_eq!((listed[0].bytes, listed.len()), (bytes.len() as u64, 1));
    assert!(listed[0].created.as_micros() > 0);
}

/// "An object of this name was there before; nothing was changed."
pub async fn an_object_that_exists_is_not_changed(store: Arc<dyn EvidenceStore>, at: &str) {
    let key = format!("{at}a");
    assert_eq!(put(&*store, &key, b"first").await, Created::Created);
    assert_eq!(put(&*store, &key, b"second").await, Created::Exists);
    assert_eq!(
        put(&*store, &key, b"first").await,
        Created::Exists,
        "also for the same bytes"
    );
    assert_eq!(
        store.get(&key, 0..99).await.expect("the store answers"),
        "first"
    );
}

/// "Of rivals that create one name, exactly one gets `Created`."
pub async fn of_many_rivals_exactly_one_creates(store: Arc<dyn EvidenceStore>, at: &str) {
    for round in 0..4 {
        let key = format!("{at}{round}/a");
        let start = Arc::new(tokio::sync::Barrier::new(RIVALS));
        let rivals: Vec<_> = (0..RIVALS)
            .map(|rival| {
                let (store, key, start) = (Arc::clone(&store), key.clone(), Arc::clone(&start));
                tokio::spawn(async move {
                    start.wait().await;
                    put(&*store, &key, format!("rival {rival}").as_bytes()).await
                })
            })
            .collect();
        let mut winners = Vec::new();
        for (rival, task) in rivals.into_iter().enumerate() {
            if task.await.expect("a rival does not panic") == Created::Created {
                winners.push(format!("rival {rival}"));
            }
        }
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert_eq!(
            store.get(&key, 0..99).await.expect("the store answers"),
            winners[0]
        );
    }
}

/// "Nobody ever sees a part of one."
pub async fn nobody_sees_a_part_of_an_object(store: Arc<dyn EvidenceStore>, at: &str) {
    const LENGTH: u64 = 8 << 20;
    let key = format!("{at}a");
    let writer = {
        let (store, key) = (Arc::clone(&store), key.clone());
        tokio::spawn(async move { put(&*store, &key, &vec![7; 8 << 20]).await })
    };
    while !writer.is_finished() {
        for object in store.list(at, None).await.expect("the store answers") {
            assert_eq!(object.bytes, LENGTH);
        }
        if let Some(head) = store.head(&key).await.expect("the store answers") {
            assert_eq!(head.bytes, LENGTH);
        }
    }
    assert_eq!(
        writer.await.expect("the writer does not panic"),
        Created::Created
    );
    assert_eq!(
        store
            .head(&key)
            .await
            .expect("the store answers")
            .map(|h| h.bytes),
        Some(LENGTH)
    );
}

/// "Length and SHA-256 of the object."
pub async fn head_tells_length_and_hash(store: Arc<dyn EvidenceStore>, at: &str) {
    let key = format!("{at}a");
    put(&*store, &key, b"abc").await;
    let head = store
        .head(&key)
        .await
        .expect("the store answers")
        .expect("it was created");
    assert_eq!((head.bytes, head.sha256), (3, EventHash::of(b"abc")));
}

/// "`None` if there is none."
pub async fn head_of_a_missing_object_is_none(store: Arc<dyn EvidenceStore>, at: &str) {
    put(&*store, &format!("{at}a/b"), b"x").await;
    for key in ["missing", "a", "a/b/c", "a/c"] {
        assert_eq!(
            store
                .head(&format!("{at}{key}"))
                .await
                .expect("the store answers"),
            None,
            "{key}"
        );
    }
}

/// "The bytes of the object in `range`, clipped to its end."
pub async fn ranges_are_clipped_to_the_end(store: Arc<dyn EvidenceStore>, at: &str) {
    let key = format!("{at}a");
    put(&*store, &key, b"0123456789").await;
    for (range, expected) in [
        (0..10, "0123456789"),
        (3..5, "34"),
        (8..99, "89"),
        (10..12, ""),
        (50..u64::MAX, ""),
        (4..4, ""),
    ] {
        assert_eq!(
            store
                .get(&key, range.clone())
                .await
                .expect("the store answers"),
            expected,
            "{range:?}"
        );
    }
}

/// "`NotFound`."
pub async fn get_of_a_missing_object_is_not_found(store: Arc<dyn EvidenceStore>, at: &str) {
    let answer = store.get(&format!("{at}missing"), 0..1).await;
    assert!(
        matches!(answer, Err(StoreError::NotFound { .. })),
        "{answer:?}"
    );
}

/// "In order of their keys' bytes."
pub async fn listing_is_in_order_of_the_keys_bytes(store: Arc<dyn EvidenceStore>, at: &str) {
    // `-` and `.` sort before `/`, which sorts before digits and letters: a walk of folders would get this wrong.
    let ordered = ["A", "a-b", "a.b", "a/1", "a/b", "a0", "a=b", "aa", "b/c/d"];
    for key in ordered.iter().rev() {
        put(&*store, &format!("{at}{key}"), b"x").await;
    }
    assert_eq!(keys(&*store, at, None).await, ordered);
}

/// "After `after` if given."
pub async fn listing_goes_on_after_a_key(store: Arc<dyn EvidenceStore>, at: &str) {
    for key in ["a", "b/1", "b/2", "c/d/1", "e"] {
        put(&*store, &format!("{at}{key}"), b"x").await;
    }
    for (after, expected) in [
        ("a", &["b/1", "b/2", "c/d/1", "e"][..]),
        ("b/1", &["b/2", "c/d/1", "e"]),
        ("b", &["b/1", "b/2", "c/d/1", "e"]),
        ("c/d/0", &["c/d/1", "e"]),
        ("d", &["e"]),
        ("e", &[]),
        ("", &["a", "b/1", "b/2", "c/d/1", "e"]),
    ] {
        assert_eq!(
            keys(&*store, at, Some(&format!("{at}{after}"))).await,
            expected,
            "{after}"
        );
    }
    assert_eq!(
        keys(&*store, &format!("{at}b/"), Some(&format!("{at}a"))).await,
        ["b/1", "b/2"]
    );
}

/// "A prefix without objects is an empty list."
pub async fn a_prefix_without_objects_is_an_empty_list(store: Arc<dyn EvidenceStore>, at: &str) {
    for prefix in ["", "nothing/here/", "nothing"] {
        assert_eq!(
            store
                .list(&format!("{at}{prefix}"), None)
                .await
                .expect("the store answers"),
            [],
            "{prefix}"
        );
    }
}

/// "All objects whose key begins with `prefix`."
pub async fn a_prefix_need_not_end_at_a_slash(store: Arc<dyn EvidenceStore>, at: &str) {
    for key in [
        "dt=2026-11-21/a",
        "dt=2026-11-22/a",
        "dt=2026-12-01/a",
        "dx",
    ] {
        put(&*store, &format!("{at}{key}"), b"x").await;
    }
    assert_eq!(
        keys(&*store, &format!("{at}dt=2026-11"), None).await,
        ["dt=2026-11-21/a", "dt=2026-11-22/a"]
    );
    assert_eq!(
        keys(&*store, &format!("{at}dt=2026-11-22/a"), None).await,
        ["dt=2026-11-22/a"]
    );
}

/// "Deletes the object."
pub async fn a_deleted_object_is_gone(store: Arc<dyn EvidenceStore>, at: &str) {
    let key = format!("{at}a/b");
    put(&*store, &key, b"x").await;
    put(&*store, &format!("{at}a/c"), b"x").await;
    store.delete(&key).await.expect("the store answers");
    assert_eq!(store.head(&key).await.expect("the store answers"), None);
    assert_eq!(keys(&*store, at, None).await, ["a/c"]);
}

/// "Deletes every object whose key begins with `prefix`; returns how many there were."
pub async fn what_is_destroyed_is_gone_and_its_neighbours_are_not(
    store: Arc<dyn EvidenceStore>,
    at: &str,
) {
    for key in ["a/b", "a/c", "a/d/e", "ab", "b"] {
        put(&*store, &format!("{at}{key}"), b"x").await;
    }
    let prefix = format!("{at}a/");
    for expected in [3, 0] {
        let destroyed = store.destroy(&prefix).await.expect("the store answers");
        assert_eq!(destroyed, expected);
        assert_eq!(keys(&*store, at, None).await, ["ab", "b"]);
    }
}

/// "`NotFound` if there is none."
pub async fn deleting_a_missing_object_is_not_found(store: Arc<dyn EvidenceStore>, at: &str) {
    let answer = store.delete(&format!("{at}missing")).await;
    assert!(
        matches!(answer, Err(StoreError::NotFound { .. })),
        "{answer:?}"
    );
}

/// "Keys are paths of `A-Z a-z 0-9 . _ = -` with `/` between segments; no segment is `.`, `..` or empty."
pub async fn keys_outside_the_alphabet_are_refused(store: Arc<dyn EvidenceStore>, at: &str) {
    for key in [
        "../x",
        "a/../../x",
        "a//b",
        "a b",
        "a%2e",
        "ä",
        "a/",
        "a\nb",
    ] {
        let key = format!("{at}{key}");
        let answer = store
            .create(&key, Bytes::new(), &CreateOptions::default())
            .await;
        assert!(
            matches!(answer, Err(StoreError::Refused { .. })),
            "{key:?}: {answer:?}"
        );
        assert!(store.get(&key, 0..1).await.is_err(), "{key:?}");
        assert!(store.delete(&key).await.is_err(), "{key:?}");
    }
    assert_eq!(store.list(at, None).await.expect("the store answers"), []);
}

/// An object without bytes is one like any other.
pub async fn empty_objects_are_objects(store: Arc<dyn EvidenceStore>, at: &str) {
    let key = format!("{at}a");
    assert_eq!(put(&*store, &key, b"").await, Created::Created);
    assert_eq!(put(&*store, &key, b"x").await, Created::Exists);
    assert_eq!(
        store
            .head(&key)
            .await
            .expect("the store answers")
            .map(|h| h.bytes),
        Some(0)
    );
    assert_eq!(store.get(&key, 0..1).await.expect("the store answers"), "");
}

/// "Until when nobody may delete the object", and "where it does not, every lock is refused".
pub async fn a_retention_term_is_kept_or_refused(store: Arc<dyn EvidenceStore>, at: &str) {
    let locks = store.locks().await.expect("the store answers");
    for (name, mode) in [("g", LockMode::Governance), ("c", LockMode::Compliance)] {
        let key = format!("{at}{name}");
        let retention = Retention {
            mode,
            until: soon(),
        };
        let options = CreateOptions {
            retention: Some(retention),
            ..CreateOptions::default()
        };
        let put = store.create(&key, Bytes::from_static(b"x"), &options).await;
        if !locks {
            assert!(matches!(put, Err(StoreError::CannotLock { .. })), "{put:?}");
            assert_eq!(store.head(&key).await.expect("the store answers"), None);
            continue;
        }
        assert_eq!(put.expect("the store locks"), Created::Created);
        let found = store.protection(&key).await.expect("the store answers");
        let kept = found.retention.expect("it was asked for");
        assert_eq!((kept.mode, found.held), (mode, false));
        let late = kept.until.as_micros() - retention.until.as_micros();
        assert!((0..1_000_000).contains(&late), "late by {late} µs");
        expect_locked(&*store, &key).await;
    }
}

/// "Sets the object's legal hold, or releases it. Neither changes its retention; both may be done again."
pub async fn a_legal_hold_is_kept_or_refused(store: Arc<dyn EvidenceStore>, at: &str) {
    let locks = store.locks().await.expect("the store answers");
    let (later, first) = (format!("{at}later"), format!("{at}first"));
    put(&*store, &later, b"x").await;
    let missing = store.hold(&format!("{at}missing"), true).await;
    assert!(
        matches!(missing, Err(StoreError::NotFound { .. })),
        "{missing:?}"
    );
    let options = CreateOptions {
        held: true,
        ..CreateOptions::default()
    };
    let put = store
        .create(&first, Bytes::from_static(b"x"), &options)
        .await;
    if !locks {
        assert!(matches!(put, Err(StoreError::CannotLock { .. })), "{put:?}");
        let held = store.hold(&later, true).await;
        assert!(
            matches!(held, Err(StoreError::CannotLock { .. })),
            "{held:?}"
        );
        return;
    }
    assert_eq!(put.expect("the store locks"), Created::Created);
    for held in [true, true, false, false] {
        for key in [&first, &later] {
            store.hold(key, held).await.expect("the store answers");
            let protection = Protection {
                held,
                retention: None,
            };
            assert_eq!(
                store.protection(key).await.expect("the store answers"),
                protection
            );
            if held {
                expect_locked(&*store, key).await;
            }
        }
    }
    store.delete(&later).await.expect("it is held no longer");
}

/// "What keeps the object from being deleted", and "`NotFound`".
pub async fn what_is_not_locked_is_not_protected(store: Arc<dyn EvidenceStore>, at: &str) {
    put(&*store, &format!("{at}a"), b"x").await;
    let found = store.protection(&format!("{at}a")).await;
    assert_eq!(found.expect("the store answers"), Protection::default());
    for key in ["missing", "a/b"] {
        let answer = store.protection(&format!("{at}{key}")).await;
        assert!(
            matches!(answer, Err(StoreError::NotFound { .. })),
            "{answer:?}"
        );
    }
}

/// "Whether whoever asks could delete objects that are not locked. Nothing is deleted to find out."
pub async fn who_may_delete_is_told(store: Arc<dyn EvidenceStore>, at: &str) {
    put(&*store, &format!("{at}a"), b"x").await;
    // The suite deletes, so it may.
    assert!(store.may_delete().await.expect("the store answers"));
    assert_eq!(keys(&*store, at, None).await, ["a"]);
}

/// "`Refused` if it is locked."
async fn expect_locked(store: &dyn EvidenceStore, key: &str) {
    let answer = store.delete(key).await;
    assert!(
        matches!(answer, Err(StoreError::Refused { .. })),
        "{answer:?}"
    );
    let head = store.head(key).await.expect("the store answers");
    assert!(head.is_some(), "{key} is locked and still there");
}

/// Long enough for the tests, and short enough that a place is free again soon.
fn soon() -> Timestamp {
    super::memory::timestamp(std::time::SystemTime::now()).plus_micros(60_000_000)
}

/// "Makes sure that this store keeps its promise."
pub async fn probe_passes_and_leaves_nothing_that_matters(store: Arc<dyn EvidenceStore>, at: &str) {
    put(&*store, &format!("{at}a"), b"x").await;
    store.probe().await.expect("the store answers");
    store.probe().await.expect("the store answers");
    assert_eq!(keys(&*store, at, None).await, ["a"]);
}
