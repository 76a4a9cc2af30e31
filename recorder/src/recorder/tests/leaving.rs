//! What keeps files, and what has to happen before they leave.

use hoop_schema::evidence::end_of_term;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_file_past_its_term_is_deleted_only_once_that_is_signed() {
    let mut bed = Bed::new();
    signing(&mut bed);
    let term = Duration::from_secs(10 * 86_400);
    bed.config.terms.insert(Class::standard(), term);
    let clock = Clocked::default();
    let today = Clock::system().now();
    clock.set(today);
    bed.clock = clock.clock();
    bed.append(200).await;
    let recorder = bed.start();
    recorder.handle.flush().await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let files = bed.files().await.len() as u64;
    assert_eq!(leaves_signed(&bed).await, files);
    clock.set(today.plus_micros(20 * 86_400_000_000));
    tokio::time::sleep(Duration::from_secs(3000)).await;
    let recorded = bed.store.list("retention/v1/", None).await.unwrap().len() as u64;
    assert_eq!(recorded, 0, "the next look for them is not yet due");
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert_eq!(
        bed.files().await.len() as u64,
        files,
        "they wait for the log"
    );
    assert_eq!(leaves_signed(&bed).await, files + files - 1);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(bed.files().await.len(), 1);
    recorder.stop().await;
}

#[tokio::test(start_paused = true)]
async fn new_objects_are_locked_until_their_term_is_over_and_held_if_a_hold_covers_them() {
    let mut bed = Bed::new();
    let term = Duration::from_secs(10 * 86_400);
    bed.config.terms.insert(Class::standard(), term);
    bed.config
        .locks
        .insert(Class::standard(), LockMode::Governance);
    bed.append(20).await;
    let recorder = bed.start();
    recorder.handle.flush().await.unwrap();
    let first = bed.files().await;
    let file = bed.store.get(&first[0].0.to_string(), 0..u64::MAX).await;
    let session = Row::read(&events(&file.unwrap())[1]).unwrap().session_id;
    let id = ProducerId::new("legal").unwrap();
    let holds = Holds::new(&*bed.store, "sample", &id);
    let now = Clock::system().now();
    holds
        .set(hold("case-7", Some(session), None), now)
        .await
        .unwrap();
    bed.append(200).await;
    recorder.handle.flush().await.unwrap();
    let mut held = 0;
    for (name, _) in bed.files().await {
        for key in [name.to_string(), name.index_key()] {
            let protection = bed.store.protection(&key).await.unwrap();
            let lock = protection.retention.unwrap();
            assert_eq!(lock.mode, LockMode::Governance, "{key}");
            assert_eq!(Some(lock.until), end_of_term(&name.day, term), "{key}");
            let index = bed.store.get(&name.index_key(), 0..u64::MAX).await;
            let sessions = sessions_of(index.unwrap()).unwrap();
            let is_new = first.iter().all(|(old, _)| *old != name);
            let covered = sessions.iter().any(|(s, _)| *s == session);
            assert_eq!(protection.held, is_new && covered, "{key}");
            held += usize::from(protection.held);
        }
    }
    assert!(held > 0, "the session goes on");
    // What was put while the hold was set is held later.
    tokio::time::sleep(Duration::from_secs(4000)).await;
    let protection = bed.store.protection(&first[0].0.to_string()).await.unwrap();
    assert!(protection.held);
    let terms = terms::in_force(&*bed.store).await.unwrap();
    assert_eq!(terms[0].0.term_s, Some(864_000));
    assert_eq!(terms[0].0.mode, RetentionMode::Governance);
    recorder.stop().await;
}

#[tokio::test]
async fn a_store_that_cannot_lock_is_not_recorded_to_where_a_class_is_to_be_locked() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(hoop_sinks::store::dir::Dir::open(folder.path()).unwrap());
    let bed = Bed::new();
    let mut config = bed.config.clone();
    config.locks.insert(Class::standard(), LockMode::Compliance);
    let reader = Arc::clone(&bed.log) as Arc<dyn EventReader>;
    let recorder = Recorder::new(config, vec![reader], store, &mut Registry::default()).unwrap();
    let ended = recorder.run(std::future::pending()).await;
    let Err(RecorderError::Store(error @ StoreError::CannotLock { .. })) = ended else {
        panic!("{ended:?}");
    };
    assert!(error.to_string().contains("no retention mode"), "{error}");
}
