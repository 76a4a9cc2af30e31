//! Files that left, and whether that explains that they are gone.

use super::*;

/// The record of a deletion as a recorder writes it, of a file that is there.
fn record_of_deletion(copy: &Copy, file: &str) -> (String, Vec<u8>, DeleteLeaf) {
    let due: Timestamp = "2025-01-02T00:00:00.000000Z".parse().unwrap();
    let sha256 = EventHash::of(&copy.read(file)).to_string();
    let expired = hoop_schema::kinds::recorder::RecorderExpired {
        key: file.to_owned(),
        sha256: sha256.clone(),
        of_class: class("standard"),
        of_shard: Shard(0),
        pos_from: 0,
        pos_to: 1,
        rows: 1,
        term_s: 0,
        due,
    };
    let mut gateway = crate::fixture::Gateway::new();
    gateway.emit([1; 16], expired);
    let record = gateway.events.remove(0);
    let object = "retention/v1/class=standard/dt=2025-01-01/forged.json".to_owned();
    let leaf = DeleteLeaf {
        object: object.clone(),
        sha256: EventHash::of(&record),
        file: file.to_owned(),
        file_sha256: sha256,
        term_s: 0,
        due,
    };
    (object, record, leaf)
}

#[test]
fn a_forged_deletion_explains_nothing() {
    let copy = Copy::new();
    let file = copy.files()[2].clone();
    let (object, record, leaf) = record_of_deletion(&copy, &file);
    copy.write(&object, record);
    copy.remove(&file);
    copy.expect(
        &[],
        2,
        &file,
        "the transparency log has it and no deletion of it",
    );
    // With a leaf of it, but without the key.
    let entries = [copy.entries(), vec![Leaf::Delete(leaf).bytes()]].concat();
    copy.rewrite(&entries, &key(9));
    copy.expect(&[], 3, &copy.checkpoint(7), "none of these keys is known");
}

#[test]
fn a_deletion_before_its_term_is_found_even_when_it_is_signed() {
    let copy = Copy::new();
    let file = copy.files()[0].clone();
    let (object, record, leaf) = record_of_deletion(&copy, &file);
    copy.write(&object, record);
    copy.remove(&file);
    let early = DeleteLeaf {
        term_s: 86_400_000_000,
        ..leaf.clone()
    };
    let entries = |leaf| [copy.entries_before(), vec![Leaf::Delete(leaf).bytes()]].concat();
    copy.rewrite(&entries(leaf), &key(1));
    assert_eq!(copy.verify(&[]).code, 0, "{}", copy.verify(&[]).out);
    copy.rewrite(&entries(early), &key(1));
    copy.expect(&[], 1, &file, "it was deleted before its term was over");
}

#[test]
fn files_that_left_by_their_term_are_explained() {
    let copy = Copy::new();
    let (folder, events) = (
        copy.0.path().to_owned(),
        copy.path("events/v1/class=standard/dt=2025-01-01/shard=000"),
    );
    block_on(async move {
        let gone = || std::fs::read_dir(&events).unwrap().count() == 1;
        record(&folder, (1, None), Some(Duration::from_secs(86_400)), gone).await;
    });
    let said = copy.verify(&[]);
    assert_eq!(said.code, 0, "{}", said.out);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(report["files_expired"], 5);
    let logs: BTreeMap<&str, &Value> = report["logs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|log| (log["origin"].as_str().unwrap(), log))
        .collect();
    assert_eq!(logs["hoop/sample/standard/000"]["files_deleted"], 5);
    // The record of a deletion is evidence too.
    let records = copy.path("retention/v1/class=standard/dt=2025-01-01");
    let record = std::fs::read_dir(records).unwrap().next().unwrap().unwrap();
    std::fs::remove_file(record.path()).unwrap();
    copy.expect(
        &[],
        2,
        "retention/v1/",
        "it is not there, though the transparency log has it",
    );
}
