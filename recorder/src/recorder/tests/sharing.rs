//! Shards of others.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_neglected_shard_is_taken_over_and_given_back() {
    let mut bed = Bed::new();
    bed.config.flush.age = Duration::from_secs(60);
    bed.config.takeover_after = Duration::from_secs(300);
    // The clock of tokio, which the test lets run.
    let (begun, wall) = (tokio::time::Instant::now(), Clock::system().now());
    bed.clock =
        Clock::new(move || wall.plus_micros(i64::try_from(begun.elapsed().as_micros()).unwrap()));
    let with_share = |bed: &mut Bed, number: u32| {
        bed.config.share = Share::new(number, 2).unwrap();
        bed.start_as(&format!("recorder-{number}"))
    };
    // The only shard is the first one's.
    let standby = with_share(&mut bed, 2);
    let owner = with_share(&mut bed, 1);
    bed.append(10).await;
    tokio::time::sleep(Duration::from_secs(90)).await;
    let made_by = async |bed: &Bed| {
        let files = bed.files().await;
        let mut names = Vec::new();
        for (name, _) in files {
            let bytes = bed.store.get(&name.to_string(), 0..u64::MAX).await.unwrap();
            let own = events(&bytes).iter().find_map(|event| {
                let row = Row::read(event).unwrap();
                row.kind
                    .starts_with("recorder.")
                    .then(|| row.producer_id.to_string())
            });
            names.push(own.unwrap_or_default());
        }
        names
    };
    assert_eq!(made_by(&bed).await, ["recorder-1"]);
    standby.handle.flush().await.unwrap();

    owner.kill().await;
    bed.append(10).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(bed.files().await.len(), 1, "not neglected yet");
    tokio::time::sleep(Duration::from_secs(400)).await;
    assert_eq!(made_by(&bed).await, ["recorder-1", "recorder-2"]);

    // Back again, the first one is faster, and the second one leaves its shard to it.
    let owner = with_share(&mut bed, 1);
    for _ in 0..4 {
        bed.append(10).await;
        tokio::time::sleep(Duration::from_secs(200)).await;
    }
    let later = made_by(&bed).await;
    assert!(later.len() > 4, "{later:?}");
    assert!(!later[2..].contains(&"recorder-2".to_owned()), "{later:?}");
    standby.stop().await;
    owner.stop().await;
    bed.check().await;
}
