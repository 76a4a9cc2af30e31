//! Session files that this recorder did not commit.

use super::*;

#[tokio::test]
async fn a_file_that_nobody_with_a_key_wrote_is_not_logged() {
    for forger in [None, Some(signing(9, None))] {
        let mut bed = Bed::new();
        bed.commit(1).await;
        bed.signing = forger;
        bed.commit(1).await;
        bed.signing = Some(signing(1, None));
        bed.commit(1).await;
        let mut recorder = bed.recorder();
        recorder.look().await.unwrap();
        recorder.look().await.unwrap();
        let ours = [bed.files[0].clone(), bed.files[2].clone()];
        assert_eq!(bed.proven_files().await, ours);
        let labels = ShardLabels::new(&Class::standard(), Shard(0));
        let broken = &recorder.shared.metrics.proof_broken;
        assert_eq!(broken.get_or_create(&labels).get(), 1);
        // Once it is moved away, nothing is wrong any more.
        bed.store.delete(&bed.files[1]).await.unwrap();
        recorder.logs.listed = None;
        recorder.look_for(false).await.unwrap();
        let broken = &recorder.shared.metrics.proof_broken;
        assert_eq!(broken.get_or_create(&labels).get(), 0);
    }
}

#[tokio::test]
async fn what_a_recorder_committed_is_logged_without_a_listing() {
    let mut bed = Bed::new();
    bed.commit(1).await;
    let mut recorder = bed.recorder();
    recorder.look().await.unwrap();
    let (first, second) = (bed.next_file(), bed.next_file());
    for (key, file) in [&first, &second] {
        bed.put(key, file.clone()).await;
    }
    recorder
        .shared
        .proofs
        .committed(&first.0, EventHash::of(&first.1));
    recorder.look_for(false).await.unwrap();
    assert_eq!(bed.proven_files().await.len(), 2);
    // The second one is a rival's: it is found by the next listing.
    recorder.logs.listed = None;
    recorder.look_for(false).await.unwrap();
    assert_eq!(bed.proven_files().await.len(), 3);
}
