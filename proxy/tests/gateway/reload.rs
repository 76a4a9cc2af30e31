//! Another policy takes over, or does not.

use hoop_proxy::PolicySource;
use hoop_schema::Kind;
use hoop_schema::kinds::integrity::PolicyChanged;

use crate::harness::{Bed, POLICY, Setup, eventually};

const NODES: &str = "/api/v1/nodes";

async fn changes(bed: &Bed) -> Vec<PolicyChanged> {
    let events = bed.events().await;
    let change = |event: hoop_schema::Event| match event.kind {
        Kind::PolicyChanged(change) => Some(change),
        _ => None,
    };
    events.into_iter().filter_map(change).collect()
}

#[tokio::test]
async fn a_new_policy_takes_over_and_a_bad_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.yaml");
    std::fs::write(&path, POLICY).unwrap();
    let bed = Setup {
        policy: PolicySource::File(path.clone()),
        ..Setup::default()
    }
    .start()
    .await;
    assert_eq!(bed.get(NODES).await.status, 403);

    // Found without being told.
    std::fs::write(&path, POLICY.replace("effect: deny", "effect: allow")).unwrap();
    eventually("another decision", async || {
        (bed.get(NODES).await.status == 200).then_some(())
    })
    .await;

    std::fs::write(&path, "profiles: [").unwrap();
    bed.reloader.reload().await;
    assert_eq!(bed.get(NODES).await.status, 200, "the old one stays");
    std::fs::write(
        &path,
        POLICY.replace("effect: deny", "class: eternal, effect: deny"),
    )
    .unwrap();
    bed.reloader.reload().await;
    assert_eq!(bed.get(NODES).await.status, 200, "a class without a log");
    std::fs::remove_file(&path).unwrap();
    bed.reloader.reload().await;
    bed.reloader.reload().await;
    assert_eq!(bed.get(NODES).await.status, 200, "the old one stays");

    let changes = eventually("five notices", async || {
        let changes = changes(&bed).await;
        (changes.len() == 5).then_some(changes)
    })
    .await;
    assert_eq!(
        changes.iter().map(|c| c.accepted).collect::<Vec<_>>(),
        [true, true, false, false, false]
    );
    assert_eq!(changes[0].previous, None);
    assert_eq!(changes[1].previous.as_ref(), Some(&changes[0].revision));
    assert_eq!(changes[2].previous.as_ref(), Some(&changes[1].revision));
    assert!(changes[3].error.as_ref().unwrap().contains("eternal"));
    assert!(changes[2].error.is_some() && changes[4].error.is_some());
    let decided = bed.intents().await.pop().unwrap().decision.policy_revision;
    assert_eq!(decided, changes[1].revision);
    bed.assert_metric("hoop_gateway_policy_reloads_total{accepted=\"true\"} 2");
    bed.assert_metric("hoop_gateway_policy_reloads_total{accepted=\"false\"} 3");
}
