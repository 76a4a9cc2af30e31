//! Keys are kept before they are used, read by their master key alone, and gone once destroyed.

use hoop_schema::encryption::Place as At;
use hoop_schema::kinds::request::BodyOf;

use super::*;
use crate::store::faulty::{Faulty, PutFault};
use crate::store::memory::Memory;

const SESSION: SessionId = SessionId::from_bytes([7; 16]);

struct Bed {
    folder: tempfile::TempDir,
    store: Arc<Memory>,
}

impl Bed {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            store: Arc::new(Memory::new()),
        }
    }

    fn master(&self, name: &str) -> Arc<dyn MasterKey> {
        let file = self.folder.path().join(name);
        let key = if file.exists() {
            FileMasterKey::read(&file)
        } else {
            FileMasterKey::make(&file)
        };
        Arc::new(key.unwrap())
    }

    fn maker(&self) -> KeyMaker {
        KeyMaker::new(self.store.clone(), self.master("one"))
    }

    fn ring(&self, masters: &[&str]) -> KeyRing {
        let masters = masters.iter().map(|name| self.master(name)).collect();
        KeyRing::new(self.store.clone(), masters)
    }
}

#[tokio::test]
async fn a_kept_key_reads_what_it_wrote_until_it_is_destroyed() {
    let bed = Bed::new();
    let made = bed.maker().make(SESSION).await.unwrap();
    let at = At::Body(BodyOf::Request);
    let text = made.encrypt(0, "a", at, b"content");
    let ring = bed.ring(&["other", "one"]);
    let read = ring.read(SESSION, made.key_id()).await.unwrap().unwrap();
    assert_eq!(read.decrypt("a", at, &text).unwrap(), b"content");
    bed.maker().make(SESSION).await.unwrap();
    let other = SessionId::from_bytes([8; 16]);
    bed.maker().make(other).await.unwrap();
    assert_eq!(ring.destroy(SESSION).await.unwrap(), 2);
    assert!(ring.read(SESSION, made.key_id()).await.unwrap().is_none());
    assert_eq!(ring.destroy(SESSION).await.unwrap(), 0);
    assert_eq!(ring.count(other).await.unwrap(), 1);
}

#[tokio::test]
async fn a_key_whose_put_is_not_certain_is_none() {
    let bed = Bed::new();
    let store = Arc::new(Faulty::new(bed.store.clone()));
    let maker = KeyMaker::new(store.clone(), bed.master("one"));
    store.fail_puts([PutFault::Refused, PutFault::LostBefore, PutFault::LostAfter]);
    for _ in 0..3 {
        assert!(matches!(maker.make(SESSION).await, Err(KeyError::Store(_))));
    }
    assert!(maker.make(SESSION).await.is_ok());
}

#[tokio::test]
async fn the_master_key_is_named_and_another_one_does_not_do() {
    let bed = Bed::new();
    let made = bed.maker().make(SESSION).await.unwrap();
    let error = bed.ring(&["two"]).read(SESSION, made.key_id()).await;
    let Err(KeyError::UnknownMaster(name)) = error else {
        panic!("{error:?}");
    };
    assert_eq!(name, bed.master("one").name());
}

#[tokio::test]
async fn a_changed_or_exchanged_key_is_damage() {
    let bed = Bed::new();
    let (one, two) = (
        bed.maker().make(SESSION).await.unwrap(),
        bed.maker().make(SESSION).await.unwrap(),
    );
    let ring = bed.ring(&["one"]);
    let name = |key: &ContentKey| key_object(SESSION, key.key_id());
    let text = |key: &ContentKey| {
        let (store, name) = (bed.store.clone(), name(key));
        async move { store.get(&name, 0..u64::MAX).await.unwrap() }
    };
    let put = |key: &ContentKey, bytes: Vec<u8>| {
        let (store, name) = (bed.store.clone(), name(key));
        async move {
            store.delete(&name).await.unwrap();
            let options = CreateOptions::default();
            store.create(&name, bytes.into(), &options).await.unwrap();
        }
    };
    // The other key's object under this one's name, as it is and with the name in it changed.
    let other = text(&two).await;
    put(&one, other.to_vec()).await;
    let error = ring.read(SESSION, one.key_id()).await.unwrap_err();
    assert!(error.is_damage(), "{error:?}");
    let other = String::from_utf8(other.to_vec()).unwrap();
    let renamed = other.replace(&two.key_id().to_string(), &one.key_id().to_string());
    put(&one, renamed.into_bytes()).await;
    let error = ring.read(SESSION, one.key_id()).await.unwrap_err();
    assert!(error.is_damage(), "{error:?}");
    put(&one, b"nonsense".to_vec()).await;
    assert!(
        ring.read(SESSION, one.key_id())
            .await
            .unwrap_err()
            .is_damage()
    );
}

#[tokio::test]
async fn a_master_key_wraps_for_its_context_alone() {
    let bed = Bed::new();
    let (one, two) = (bed.master("one"), bed.master("two"));
    let wrapped = one.wrap(&[5; 32], "a").await.unwrap();
    assert_eq!(*one.unwrap(&wrapped, "a").await.unwrap(), [5; 32]);
    assert_ne!(one.wrap(&[5; 32], "a").await.unwrap(), wrapped, "a nonce");
    for (master, context) in [(&one, "b"), (&two, "a")] {
        let error = master.unwrap(&wrapped, context).await.unwrap_err();
        assert!(matches!(error, MasterError::NotWrapped), "{error:?}");
    }
    for at in 0..wrapped.len() {
        let mut changed = wrapped.clone();
        changed[at] ^= 1;
        assert!(one.unwrap(&changed, "a").await.is_err());
        assert!(one.unwrap(&wrapped[..at], "a").await.is_err());
    }
    let text = std::fs::read_to_string(bed.folder.path().join("one")).unwrap();
    assert!(!format!("{one:?}").contains(text.trim()));
}

#[test]
fn a_master_key_is_made_once_and_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("master.key");
    let made = FileMasterKey::make(&file).unwrap();
    assert!(FileMasterKey::make(&file).is_err(), "never overwritten");
    let read = FileMasterKey::read(&file).unwrap();
    assert_eq!((made.name(), true), (read.name(), read.is_private()));
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
    assert!(!FileMasterKey::read(&file).unwrap().is_private());
    for wrong in ["", "c2hvcnQ=", "not base64!"] {
        std::fs::write(&file, wrong).unwrap();
        let error = FileMasterKey::read(&file).unwrap_err();
        assert!(matches!(error, KeyFileError::NoKey(_)), "{error}");
    }
}

#[test]
fn places_that_share_objects_are_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let place = |text: &str| -> Place {
        match text.strip_prefix('@') {
            Some(below) => Place::Dir(folder.path().join(below)),
            None => text.parse().unwrap(),
        }
    };
    std::fs::create_dir(folder.path().join("evidence")).unwrap();
    std::os::unix::fs::symlink("evidence", folder.path().join("link")).unwrap();
    for (one, other, same) in [
        ("@evidence", "@evidence", true),
        ("@evidence", "@link", true),
        ("@evidence", "@evidence/keys", true),
        ("@evidence", "@keys", false),
        ("@evidence", "s3://audit", false),
        ("s3://audit", "s3://audit/keys", true),
        ("s3://audit/a", "s3://audit/a", true),
        ("s3://audit/a", "s3://audit/ab", false),
        ("s3://audit/a", "s3://keys/a", false),
    ] {
        let (one, other) = (place(one), place(other));
        assert_eq!(overlap(&one, &other), same, "{one} {other}");
        assert_eq!(overlap(&other, &one), same, "{other} {one}");
    }
}
