//! Recorders that seal finished days beside recording.

use super::*;

/// What readers see: sealed days from `sealed/v1`, all others from `events/v1`.
async fn readable(store: &dyn EvidenceStore) -> BTreeMap<Bytes, u64> {
    let seals = store.list("seals/v1/", None).await.unwrap();
    let mut readable: BTreeMap<Bytes, u64> = BTreeMap::new();
    for prefix in ["events/v1/", "sealed/v1/"] {
        for object in store.list(prefix, None).await.unwrap() {
            let day = &object.key.split("/dt=").nth(1).unwrap()[..10];
            let is_sealed = seals.iter().any(|seal| seal.key.contains(day));
            if is_sealed == (prefix == "sealed/v1/") {
                let file = store.get(&object.key, 0..u64::MAX).await.unwrap();
                for event in events(&file) {
                    *readable.entry(event).or_default() += 1;
                }
            }
        }
    }
    readable
}

const HOUR_MICROS: i64 = 3_600_000_000;

impl Bed {
    /// A bed that has recorded a day of several files, by a clock that says how long ago that was.
    async fn with_a_day() -> (Self, Clocked, Timestamp) {
        let mut bed = Self::new();
        let clock = Clocked::default();
        let today = Clock::system().now();
        clock.set(today);
        bed.clock = clock.clock();
        bed.append(200).await;
        let recorder = bed.start();
        recorder.handle.flush().await.unwrap();
        recorder.stop().await;
        (bed, clock, today)
    }

    /// Lets a recorder look after the store for a while.
    async fn care(&self) {
        let recorder = self.start();
        tokio::time::sleep(Duration::from_secs(5)).await;
        recorder.stop().await;
    }

    async fn count(&self, prefix: &str) -> usize {
        self.store.list(prefix, None).await.unwrap().len()
    }
}

#[tokio::test(start_paused = true)]
async fn a_finished_day_is_sealed_its_small_files_leave_and_recording_goes_on() {
    let (mut bed, clock, today) = Bed::with_a_day().await;
    let before = readable(&*bed.store).await;
    let files = bed.files().await;
    assert!(files.len() > 3);
    clock.set(today.plus_micros(2 * HOUR_MICROS));
    bed.care().await;
    assert_eq!(
        bed.count("seals/v1/").await,
        0,
        "the day is not over, or not for long enough"
    );
    clock.set(today.plus_micros(28 * HOUR_MICROS));
    bed.care().await;
    assert_eq!(bed.count("seals/v1/").await, 1);
    assert_eq!(
        bed.files().await.len(),
        files.len(),
        "somebody may be reading them"
    );
    assert_eq!(readable(&*bed.store).await, before);
    clock.set(today.plus_micros(53 * HOUR_MICROS));
    bed.care().await;
    let left = bed.files().await;
    assert_eq!(left.len(), 1, "but the newest leave");
    assert_eq!(left[0].0, files[files.len() - 1].0);
    assert_eq!(
        bed.count(SESSIONS_PREFIX).await,
        2,
        "its index, and that of the sealed object"
    );
    assert_eq!(readable(&*bed.store).await, before);
    // The log's clock is that of this machine, where it is still the sealed day: what comes now is late.
    bed.append(20).await;
    let recorder = bed.start();
    recorder.handle.flush().await.unwrap();
    recorder.stop().await;
    let after = readable(&*bed.store).await;
    let newest = bed.files().await.pop().unwrap();
    assert_eq!(newest.1.pos_from, left[0].1.pos_to);
    assert!(newest.0.day > left[0].0.day);
    assert_eq!(
        newest.1.previous.map(|p| p.key),
        Some(left[0].0.to_string())
    );
    assert!(bed.sent.iter().all(|event| after.get(event) == Some(&1)));
    assert_eq!(after.len(), before.len() + 20 + 1, "and a recorder.started");
    // Now that there is a newer one, the last small file may leave too.
    bed.care().await;
    assert_eq!(bed.files().await.len(), 1);
    assert_eq!(readable(&*bed.store).await, after);
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_any_two_deletions_loses_nothing() {
    for deletes in 0..7 {
        let (bed, clock, today) = Bed::with_a_day().await;
        let before = readable(&*bed.store).await;
        clock.set(today.plus_micros(28 * HOUR_MICROS));
        bed.care().await;
        clock.set(today.plus_micros(53 * HOUR_MICROS));
        bed.store.hang_deletes_after(Some(deletes));
        let recorder = bed.start();
        tokio::time::sleep(Duration::from_secs(5)).await;
        recorder.kill().await;
        assert_eq!(readable(&*bed.store).await, before);
        bed.store.hang_deletes_after(None);
        bed.care().await;
        assert_eq!(readable(&*bed.store).await, before);
        assert_eq!(bed.files().await.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_while_what_replaces_it_cannot_be_read_back() {
    let (bed, clock, today) = Bed::with_a_day().await;
    let files = bed.files().await.len();
    clock.set(today.plus_micros(28 * HOUR_MICROS));
    bed.care().await;
    let sealed = bed.store.list("sealed/v1/", None).await.unwrap().remove(0);
    let bytes = bed.store.get(&sealed.key, 0..u64::MAX).await.unwrap();
    let mut damaged = bytes.to_vec();
    damaged[bytes.len() / 3] ^= 1;
    for bytes in [damaged.into(), Bytes::from_static(b"nonsense")] {
        bed.store.delete(&sealed.key).await.unwrap();
        let options = CreateOptions::default();
        bed.store
            .create(&sealed.key, bytes, &options)
            .await
            .unwrap();
        clock.set(today.plus_micros(53 * HOUR_MICROS));
        bed.care().await;
        assert_eq!(bed.files().await.len(), files);
    }
}

#[tokio::test(start_paused = true)]
async fn a_recorder_that_slept_until_its_day_was_sealed_and_gone_commits_nothing_twice() {
    let (mut bed, clock, today) = Bed::with_a_day().await;
    bed.append(30).await;
    // It reads what there is, and sleeps before it commits.
    let sleeper = bed.start_as("recorder-2");
    tokio::time::sleep(Duration::from_secs(2)).await;
    bed.store.set_away(true);
    let handle = sleeper.handle.clone();
    let flush = tokio::spawn(async move { handle.flush().await });
    tokio::time::sleep(Duration::from_secs(60)).await;
    // Meanwhile another one commits the same positions, seals the day, and lets all small files go.
    let other = Bed {
        log: Arc::clone(&bed.log),
        store: Arc::new(Faulty::new(
            Arc::clone(&bed.memory) as Arc<dyn EvidenceStore>
        )),
        generator: Generator::new("standard", 6),
        sent: Vec::new(),
        config: bed.config.clone(),
        clock: bed.clock.clone(),
        memory: Arc::clone(&bed.memory),
    };
    let recorder = other.start();
    recorder.handle.flush().await.unwrap();
    recorder.stop().await;
    clock.set(today.plus_micros(28 * HOUR_MICROS));
    other.care().await;
    bed.append(5).await;
    let recorder = other.start();
    recorder.handle.flush().await.unwrap();
    recorder.stop().await;
    clock.set(today.plus_micros(53 * HOUR_MICROS));
    other.care().await;
    assert_eq!(
        other.files().await.len(),
        1,
        "only the file after the sealed day"
    );
    bed.store.set_away(false);
    flush.await.unwrap().unwrap();
    sleeper.stop().await;
    let after = readable(&*bed.memory).await;
    for event in &bed.sent {
        assert_eq!(after.get(event), Some(&1));
    }
}

#[tokio::test(start_paused = true)]
async fn sealed_objects_leave_with_a_record_when_their_term_is_over_unless_they_are_held() {
    let (mut bed, clock, today) = Bed::with_a_day().await;
    bed.config
        .terms
        .insert(Class::standard(), Duration::from_secs(10 * 86_400));
    clock.set(today.plus_micros(28 * HOUR_MICROS));
    bed.care().await;
    clock.set(today.plus_micros(53 * HOUR_MICROS));
    bed.care().await;
    let sealed = bed.store.list("sealed/v1/", None).await.unwrap();
    let file = bed.store.get(&sealed[0].key, 0..u64::MAX).await.unwrap();
    let session = Row::read(&events(&file)[1]).unwrap().session_id;
    let id = ProducerId::new("legal").unwrap();
    let holds = Holds::new(&*bed.store, "sample", &id);
    let hold = hold("case-7", Some(session), None);
    holds.set(hold, today).await.unwrap();
    clock.set(today.plus_micros(20 * 24 * HOUR_MICROS));
    bed.care().await;
    assert_eq!(bed.count("sealed/v1/").await, 1, "it is held");
    holds
        .release("case-7", "carol", "settled", today)
        .await
        .unwrap();
    bed.care().await;
    assert_eq!(bed.count("sealed/v1/").await, 0);
    assert_eq!(bed.count("retention/v1/").await, 1);
    assert_eq!(bed.count("seals/v1/").await, 1, "the seal stays");
    assert_eq!(bed.files().await.len(), 1, "as does the newest file");
}

#[tokio::test(start_paused = true)]
async fn what_seals_held_files_is_held_and_all_others_leave() {
    let (bed, clock, today) = Bed::with_a_day().await;
    let before = readable(&*bed.store).await;
    let files = bed.files().await;
    let first = bed.store.get(&files[0].0.to_string(), 0..u64::MAX).await;
    let session = Row::read(&events(&first.unwrap())[1]).unwrap().session_id;
    let id = ProducerId::new("legal").unwrap();
    let holds = Holds::new(&*bed.store, "sample", &id);
    let hold = hold("case-7", Some(session), None);
    holds.set(hold, today).await.unwrap();
    bed.care().await;
    let mut held = Vec::new();
    for (name, _) in &files {
        if bed.store.protection(&name.to_string()).await.unwrap().held {
            held.push(name.clone());
        }
    }
    assert!(!held.is_empty() && held.len() < files.len() - 1, "{held:?}");
    clock.set(today.plus_micros(28 * HOUR_MICROS));
    bed.care().await;
    for prefix in ["sealed/v1/", SESSIONS_PREFIX] {
        let listed = bed.store.list(prefix, None).await.unwrap();
        // The name of a sealed object has two positions, beside the dashes of its day.
        let sealed = listed.iter().find(|o| o.key.matches('-').count() == 4);
        let sealed = &sealed.unwrap().key;
        assert!(bed.store.protection(sealed).await.unwrap().held, "{sealed}");
    }
    clock.set(today.plus_micros(53 * HOUR_MICROS));
    bed.care().await;
    let left: Vec<_> = bed
        .files()
        .await
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let newest = files[files.len() - 1].0.clone();
    let mut stay = held.clone();
    stay.retain(|name| *name != newest);
    stay.push(newest);
    assert_eq!(left, stay, "what is held, and the newest");
    assert_eq!(readable(&*bed.store).await, before);
    holds
        .release("case-7", "carol", "settled", today)
        .await
        .unwrap();
    // Whoever releases a hold lets go of the objects; here nobody has, so the recorder's next round does.
    for name in &held {
        for key in [name.to_string(), name.index_key()] {
            bed.store.hold(&key, false).await.unwrap();
        }
    }
    bed.care().await;
    assert_eq!(bed.files().await.len(), 1);
    assert_eq!(readable(&*bed.store).await, before);
}

#[tokio::test(start_paused = true)]
async fn what_seals_locked_files_is_locked_as_long_and_they_stay() {
    let (mut bed, clock, today) = Bed::with_a_day().await;
    let term = Duration::from_secs(10 * 86_400);
    bed.config.terms.insert(Class::standard(), term);
    bed.config
        .locks
        .insert(Class::standard(), LockMode::Compliance);
    bed.append(200).await;
    let recorder = bed.start();
    recorder.handle.flush().await.unwrap();
    recorder.stop().await;
    let before = readable(&*bed.store).await;
    let files = bed.files().await;
    clock.set(today.plus_micros(28 * HOUR_MICROS));
    bed.care().await;
    let day = &files[0].0.day;
    for prefix in ["sealed/v1/", "seals/v1/"] {
        for object in bed.store.list(prefix, None).await.unwrap() {
            let lock = bed.store.protection(&object.key).await.unwrap().retention;
            let lock = lock.unwrap_or_else(|| panic!("{} is not locked", object.key));
            assert_eq!(lock.mode, LockMode::Compliance);
            assert_eq!(
                Some(lock.until),
                hoop_schema::evidence::end_of_term(day, term)
            );
        }
    }
    clock.set(today.plus_micros(53 * HOUR_MICROS));
    bed.care().await;
    let mut locked = 0;
    for (name, _) in bed.files().await {
        let found = bed.store.protection(&name.to_string()).await.unwrap();
        locked += usize::from(found.retention.is_some());
    }
    assert!(locked > 3, "those that were locked stay");
    assert!(
        bed.files().await.len() < files.len(),
        "those that were recorded before the lock was wanted leave"
    );
    assert_eq!(readable(&*bed.store).await, before);
}

#[tokio::test(start_paused = true)]
async fn sealing_can_be_turned_off() {
    let (mut bed, clock, today) = Bed::with_a_day().await;
    bed.config.seal.enabled = false;
    clock.set(today.plus_micros(28 * HOUR_MICROS));
    bed.care().await;
    assert_eq!(bed.count("seals/v1/").await, 0);
}

#[tokio::test(start_paused = true)]
async fn small_files_leave_only_once_their_seal_is_signed() {
    let mut bed = Bed::new();
    signing(&mut bed);
    let (clock, today) = (Clocked::default(), Clock::system().now());
    clock.set(today);
    bed.clock = clock.clock();
    bed.append(200).await;
    let recorder = bed.start();
    recorder.handle.flush().await.unwrap();
    recorder.stop().await;
    let files = bed.files().await.len();
    let before = readable(&*bed.store).await;
    // The seal of a recorder that died before it signed it, by one that does not sign.
    let signing = bed.config.signing.take();
    clock.set(today.plus_micros(28 * HOUR_MICROS));
    bed.care().await;
    assert_eq!(bed.count("seals/v1/").await, 1);
    bed.config.signing = signing;
    clock.set(today.plus_micros(53 * HOUR_MICROS));
    assert_eq!(leaves_signed(&bed).await, files as u64);
    let recorder = bed.start();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(bed.files().await.len(), files, "the seal is not proven yet");
    // The next round proves it, the one after it deletes.
    tokio::time::sleep(Duration::from_secs(4000)).await;
    assert_eq!(leaves_signed(&bed).await, files as u64 + 1);
    assert_eq!(bed.files().await.len(), 1);
    recorder.stop().await;
    assert_eq!(readable(&*bed.store).await, before);
}
