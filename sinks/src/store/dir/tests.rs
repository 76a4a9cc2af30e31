use super::*;

fn fresh() -> (tempfile::TempDir, Dir) {
    let place = tempfile::tempdir().unwrap();
    let store = Dir::open(&place.path().join("evidence")).unwrap();
    (place, store)
}

async fn put(store: &Dir, key: &str, bytes: &'static [u8]) -> Result<Created, StoreError> {
    store
        .create(key, Bytes::from_static(bytes), &CreateOptions::default())
        .await
}

crate::evidence_store_conformance!(|| async {
    let place = tempfile::tempdir().unwrap().keep();
    Arc::new(Dir::open(&place).unwrap()) as Arc<dyn EvidenceStore>
});

#[tokio::test]
async fn objects_are_there_after_opening_again() {
    let (place, store) = fresh();
    put(&store, "a/b/c", b"bytes").await.unwrap();
    let again = Dir::open(&place.path().join("evidence")).unwrap();
    assert_eq!(again.get("a/b/c", 0..9).await.unwrap(), "bytes");
    assert_eq!(
        put(&again, "a/b/c", b"other").await.unwrap(),
        Created::Exists
    );
}

#[tokio::test]
async fn a_put_that_crashed_leaves_no_object_and_is_cleared_away() {
    let (_place, store) = fresh();
    let leftover = store.root.join(TEMPORARY).join("1-0-1");
    fs::write(&leftover, b"half of an obj").unwrap();
    assert_eq!(store.list("", None).await.unwrap(), []);
    Dir::open(&store.root).unwrap();
    assert!(
        leftover.exists(),
        "young files may belong to a put under way"
    );
    let old = SystemTime::now() - LEFTOVER_AGE - Duration::from_secs(1);
    File::options()
        .write(true)
        .open(&leftover)
        .unwrap()
        .set_modified(old)
        .unwrap();
    Dir::open(&store.root).unwrap();
    assert!(!leftover.exists());
}

#[tokio::test]
async fn a_put_leaves_nothing_beside_its_object() {
    let (_place, store) = fresh();
    put(&store, "a/b", b"1").await.unwrap();
    put(&store, "a/b", b"2").await.unwrap();
    put(&store, "a/b/c", b"a path through an object")
        .await
        .unwrap_err();
    assert_eq!(fs::read_dir(store.root.join(TEMPORARY)).unwrap().count(), 0);
    assert_eq!(store.head("a/b/c").await.unwrap(), None);
}

#[tokio::test]
async fn a_directory_opened_for_reading_is_not_changed() {
    let (_place, store) = fresh();
    put(&store, "a", b"1").await.unwrap();
    let reading = Dir::read_only(&store.root).unwrap();
    assert_eq!(reading.get("a", 0..1).await.unwrap(), "1");
    assert!(matches!(
        put(&reading, "b", b"1").await,
        Err(StoreError::Refused { .. })
    ));
    assert!(matches!(
        reading.delete("a").await,
        Err(StoreError::Refused { .. })
    ));
    assert!(Dir::read_only(&store.root.join("missing")).is_err());
}

#[tokio::test]
async fn a_place_that_cannot_be_written_to_is_unfit() {
    let (place, _) = fresh();
    let file = place.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(matches!(
        Dir::open(&file.join("evidence")),
        Err(StoreError::Unfit { .. })
    ));
}

#[test]
fn a_rename_does_not_replace_either() {
    let place = tempfile::tempdir().unwrap();
    let (new, taken) = (place.path().join("new"), place.path().join("taken"));
    fs::write(&new, b"new").unwrap();
    fs::write(&taken, b"taken").unwrap();
    assert_eq!(
        rename_without_replacing(&new, &taken).unwrap_err().kind(),
        io::ErrorKind::AlreadyExists
    );
    assert_eq!(fs::read(&taken).unwrap(), b"taken");
    rename_without_replacing(&new, &place.path().join("free")).unwrap();
}
