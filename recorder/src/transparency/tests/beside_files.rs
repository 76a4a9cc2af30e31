//! What is logged beside session files: deletions, holds, seals and keys.

use super::*;

#[tokio::test]
async fn only_a_deletion_at_the_end_of_the_term_is_logged() {
    let mut bed = Bed::new();
    bed.commit(1).await;
    let name: SessionFileName = bed.files[0].parse().unwrap();
    let sha256 = bed.store.head(&bed.files[0]).await.unwrap().unwrap().sha256;
    let due = end_of_term(&name.day, DAY).unwrap();
    let now = due.plus_micros(1);
    let hour = Duration::from_secs(3600);
    let forged = deletion(
        &bed.files[0],
        sha256,
        hour,
        end_of_term(&name.day, hour).unwrap(),
    );
    let real = deletion(&bed.files[0], sha256, DAY, due);
    let cases = [
        (forged.clone(), due.plus_micros(-1), false),
        // The term was another one when it was recorded; both are over.
        (forged, now, true),
        (real.clone(), due.plus_micros(-1), false),
        (real, now, true),
    ];
    for ((key, record), at, logged) in cases {
        let store = Arc::new(Faulty::new(Arc::new(Memory::new())));
        let file = bed.get(&bed.files[0]).await;
        store
            .create(&bed.files[0], file, &CreateOptions::default())
            .await
            .unwrap();
        store
            .create(&key, record, &CreateOptions::default())
            .await
            .unwrap();
        let here = Bed {
            store,
            files: bed.files.clone(),
            ..Bed::new()
        };
        let mut recorder = here.recorder();
        recorder.shared.clock = Clock::new(move || at);
        recorder.look().await.unwrap();
        let leaves = here.proven(&signing(1, None).key).await;
        let found = leaves.iter().any(|leaf| matches!(leaf, Leaf::Delete(_)));
        assert_eq!(found, logged);
        assert_eq!(recorder.shared.proofs.is_recorded(&key), logged);
    }
}

#[tokio::test]
async fn holds_erasures_and_seals_are_logged_once() {
    let mut bed = Bed::new();
    bed.commit(1).await;
    let (hold, seal) = (
        "holds/v1/case-7/0000000000.json",
        "seals/v1/class=standard/dt=2026-11-18.json",
    );
    bed.put(hold, "a hold").await;
    let erasure = "erasures/v1/0707/0000000000.json";
    bed.put(erasure, "an erasure").await;
    bed.put(seal, "a seal").await;
    bed.put("seals/v1/class=long/dt=2026-11-18.json", "of another class")
        .await;
    let mut recorder = bed.recorder();
    recorder.look().await.unwrap();
    // A seal waits until somebody has proven it.
    assert_eq!(recorder.shared.proofs.doubtful_seals(), [seal]);
    let proven = EventHash::of(b"a seal");
    recorder
        .shared
        .proofs
        .sealed(seal, EventHash::of(b"another"));
    recorder.look().await.unwrap();
    assert_eq!(recorder.shared.proofs.doubtful_seals(), [seal]);
    recorder.shared.proofs.sealed(seal, proven);
    recorder.look().await.unwrap();
    recorder.look().await.unwrap();
    bed.recorder().look().await.unwrap();
    let leaves = bed.proven(&signing(1, None).key).await;
    let acts: Vec<_> = leaves
        .iter()
        .filter(|l| !matches!(l, Leaf::File(_)))
        .map(|l| l.object().unwrap())
        .collect();
    assert_eq!(acts, [hold, erasure, seal]);
}

#[tokio::test]
async fn a_new_key_is_announced_in_a_checkpoint_that_the_old_one_signs() {
    let mut bed = Bed::new();
    bed.commit(2).await;
    bed.recorder().look().await.unwrap();
    bed.commit(1).await;
    // Without the old key, the log is not taken over.
    let mut alone = bed.recorder_with(signing(2, None), config());
    alone.look().await.unwrap();
    assert!(
        alone.said().contains("is signed by another key"),
        "{}",
        alone.said()
    );
    let mut both = bed.recorder_with(signing(2, Some(1)), config());
    both.look().await.unwrap();
    assert_eq!(both.said(), "");
    let leaves = bed.proven(&key(1)).await;
    assert_eq!(leaves, bed.proven(&key(2)).await);
    let vkey = key(2).verifier().to_string();
    assert_eq!(
        leaves
            .iter()
            .filter(|leaf| **leaf == Leaf::Key { vkey: vkey.clone() })
            .count(),
        1
    );
    bed.signing = Some(signing(2, None));
    bed.commit(1).await;
    let mut alone = bed.recorder_with(signing(2, None), config());
    alone.look().await.unwrap();
    assert_eq!(alone.said(), "");
    assert_eq!(bed.proven(&key(2)).await.len(), 5);
}

#[tokio::test]
async fn a_deletion_under_a_hold_or_of_another_file_is_not_logged() {
    let mut bed = Bed::new();
    bed.commit(2).await;
    let name: SessionFileName = bed.files[0].parse().unwrap();
    let due = end_of_term(&name.day, DAY).unwrap();
    let sha256 = bed.store.head(&bed.files[0]).await.unwrap().unwrap().sha256;
    let (record, bytes) = deletion(&bed.files[0], sha256, DAY, due);
    bed.put(&record, bytes).await;
    let (_, other) = deletion(&bed.files[1], sha256, DAY, due);
    let wrong = format!("{RETENTION_PREFIX}class=standard/dt=2026-11-18/wrong.json");
    bed.put(&wrong, other).await;
    let mut recorder = bed.recorder();
    recorder.shared.clock = Clock::new(move || due.plus_micros(1));
    let id = ProducerId::new("recorder-1").unwrap();
    let store = Arc::clone(&bed.store);
    let holds = hoop_sinks::store::holds::Holds::new(&*store, "sample", &id);
    let held = session_of(bed.get(&bed.files[0]).await);
    let hold = hoop_schema::kinds::recorder::RecorderHold {
        hold_id: "case-7".into(),
        held: true,
        held_session: Some(held),
        held_user: None,
        case: None,
        by: "auditor".into(),
        reason: "a case".into(),
    };
    holds.set(hold, due).await.unwrap();
    for _ in 0..3 {
        recorder.look().await.unwrap();
    }
    let deletions = |leaves: Vec<Leaf>| {
        let deletions = leaves.into_iter().filter_map(|leaf| match leaf {
            Leaf::Delete(leaf) => Some(leaf.object),
            _ => None,
        });
        deletions.collect::<Vec<_>>()
    };
    assert!(deletions(bed.proven(&key(1)).await).is_empty());
    assert!(recorder.logs.refused.contains(&wrong));
    assert!(!recorder.logs.refused.contains(&record));
    holds
        .release("case-7", "auditor", "closed", due)
        .await
        .unwrap();
    recorder.look().await.unwrap();
    assert_eq!(deletions(bed.proven(&key(1)).await), [record]);
}

/// The session of the first row of a file.
fn session_of(file: Bytes) -> hoop_schema::SessionId {
    use arrow::array::StringArray;
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file);
    let batch = reader.unwrap().build().unwrap().next().unwrap().unwrap();
    let column = batch.column_by_name("session_id").unwrap();
    let text = column.as_any().downcast_ref::<StringArray>().unwrap();
    text.value(0).parse().unwrap()
}
