//! Every way to tamper that has a name, and what the proof says of it.

use std::path::Path;

use hoop_schema::EventHash;
use serde_json::Value;

use crate::fixture::{scene, write_scene};
use crate::run::replay;
use crate::writer::{self, TestFile, TestRow, files, put, write_all};

/// Verifies what `tamper` left of the scene, and gives the exit code and the findings.
fn verified(tamper: impl FnOnce(&Path)) -> (i32, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    write_scene(folder.path());
    tamper(folder.path());
    let said = replay(folder.path(), 80, &["verify", "-o", "json"]);
    let report: Value = serde_json::from_str(&said.out)
        .unwrap_or_else(|e| panic!("{e}: {} {}", said.out, said.err));
    let findings = report["findings"].as_array().unwrap().clone();
    (said.code, findings)
}

/// The files of the scene after `forge`, with all links made anew.
fn forged(forge: impl FnOnce(&mut Vec<TestFile>)) -> (i32, Vec<Value>) {
    verified(|folder| {
        let mut all = files(&scene(), 6);
        forge(&mut all);
        write_all(folder, &all);
    })
}

fn key(file: usize) -> String {
    writer::name(file as u64 * 6 + 1).to_string()
}

fn says(findings: &[Value], object: &str, what: &str) {
    let found = findings.iter().any(|f| {
        f["object"].as_str().unwrap().contains(object) && f["what"].as_str().unwrap().contains(what)
    });
    assert!(found, "no finding in {object} says {what:?}: {findings:#?}");
}

/// An event edited: Bob's denied delete becomes Carol's.
fn edit(event: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(event.to_vec()).unwrap();
    text.replace("\"username\":\"bob\"", "\"username\":\"carol\"")
        .into_bytes()
}

fn row_of_bob(file: &mut TestFile) -> &mut TestRow {
    let of_bob = |r: &&mut TestRow| edit(&r.event) != r.event;
    file.rows.iter_mut().find(of_bob).unwrap()
}

#[test]
fn nothing_tampered_is_proven() {
    let (code, findings) = forged(|_| {});
    assert_eq!((code, findings.len()), (0, 0), "{findings:#?}");
}

#[test]
fn an_edited_column_is_named_with_row_position_and_column() {
    let (code, findings) = forged(|files| {
        let row = row_of_bob(&mut files[1]);
        row.columns_of = edit(&row.event);
    });
    assert_eq!(code, 1);
    let first = &findings[0];
    assert_eq!(
        (&first["column"], &first["object"]),
        (&"username".into(), &Value::from(key(1)))
    );
    assert!(
        first["row"].is_u64() && first["position"].is_u64(),
        "{first}"
    );
    says(&findings, &key(1), "\"carol\"");
}

#[test]
fn a_dropped_row_is_found() {
    // With everything in the file computed anew.
    let (code, findings) = forged(|files| drop(files[1].rows.remove(1)));
    assert_ne!(code, 0);
    says(&findings, &key(1), "missing");
    // Without.
    let (code, findings) = forged(|files| {
        files[1].footer_of = Some(files[1].rows.clone());
        files[1].rows.remove(1);
    });
    assert_eq!(code, 1);
    says(&findings, &key(1), "rows, its footer says 6");
}

#[test]
fn a_dropped_file_is_named() {
    let (code, findings) = verified(|folder| std::fs::remove_file(folder.join(key(1))).unwrap());
    assert_eq!(code, 2);
    says(&findings, &key(1), "it is not there");
    assert!(
        findings.iter().all(|f| f["verdict"] == "incomplete"),
        "{findings:#?}"
    );
}

#[test]
fn swapped_files_are_named() {
    let (code, findings) = verified(|folder| {
        let (a, b) = (folder.join(key(0)), folder.join(key(1)));
        let bytes = std::fs::read(&a).unwrap();
        std::fs::copy(&b, &a).unwrap();
        std::fs::write(&b, bytes).unwrap();
    });
    assert_eq!(code, 1);
    says(&findings, &key(0), "another file under this name");
    says(&findings, &key(1), "another file under this name");
}

#[test]
fn a_truncated_file_is_named_and_the_others_are_read() {
    let (code, findings) = verified(|folder| {
        let bytes = std::fs::read(folder.join(key(1))).unwrap();
        std::fs::write(folder.join(key(1)), &bytes[..bytes.len() / 2]).unwrap();
    });
    assert_eq!(code, 1);
    says(&findings, &key(1), "footer cannot be read");
    assert_eq!(
        findings[0]["readable"],
        "nothing of this file; all other files are"
    );
}

#[test]
fn re_ordered_rows_are_found() {
    let (code, findings) = forged(|files| {
        files[1].footer_of = Some(files[1].rows.clone());
        let last = files[1].rows.len() - 1;
        files[1].rows.swap(last, last - 1);
    });
    assert_eq!(code, 1);
    says(&findings, &key(1), "edited, dropped, added or moved");
}

#[test]
fn an_edited_event_with_its_columns_and_hash_is_found() {
    let (code, findings) = forged(|files| {
        files[1].footer_of = Some(files[1].rows.clone());
        let row = row_of_bob(&mut files[1]);
        row.event = edit(&row.event);
        row.columns_of = row.event.clone();
    });
    assert_eq!(code, 1);
    says(&findings, &key(1), "edited, dropped, added or moved");
}

#[test]
fn a_file_rewritten_as_a_whole_breaks_the_link_of_the_next_and_the_strand() {
    let (code, findings) = verified(|folder| {
        let mut all = files(&scene(), 6);
        let first = writer::write(&all[0], None);
        let link = hoop_schema::evidence::PreviousFile {
            key: all[0].name.to_string(),
            sha256: EventHash::of(&first),
        };
        let row = row_of_bob(&mut all[1]);
        row.event = edit(&row.event);
        row.columns_of = row.event.clone();
        put(folder, &key(1), &writer::write(&all[1], Some(link)));
    });
    assert_eq!(code, 1);
    says(&findings, &key(1), "was linked to");
    says(&findings, "", "does not name the hash");
}

#[test]
fn a_rewritten_history_with_all_links_made_anew_breaks_the_strand() {
    let (code, findings) = forged(|files| {
        let row = row_of_bob(&mut files[1]);
        row.event = edit(&row.event);
        row.columns_of = row.event.clone();
    });
    assert_eq!(code, 1);
    says(&findings, "", "does not name the hash");
}

#[test]
fn an_event_put_in_twice_is_found() {
    let (code, findings) = forged(|files| {
        let mut twice = files[1].rows[0].clone();
        twice.position = Some(files[1].pos_to - 1);
        files[1].rows.insert(1, twice);
    });
    assert_eq!(code, 1);
    says(&findings, &key(1), "twice");
}

#[test]
fn a_flipped_bit_anywhere_in_a_file_that_has_a_successor_is_found() {
    let folder = tempfile::tempdir().unwrap();
    write_scene(folder.path());
    let path = folder.path().join(key(0));
    let bytes = std::fs::read(&path).unwrap();
    let step = bytes.len() / 12;
    for at in (0..bytes.len()).step_by(step) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        std::fs::write(&path, &flipped).unwrap();
        let said = replay(folder.path(), 80, &["verify", "-o", "json"]);
        assert_eq!(said.code, 1, "bit in byte {at}: {}{}", said.out, said.err);
        assert!(said.out.contains(&key(0)), "bit in byte {at}: {}", said.out);
    }
}

#[test]
fn the_newest_file_cut_off_is_beyond_this_proof_and_the_output_says_so() {
    let folder = tempfile::tempdir().unwrap();
    write_scene(folder.path());
    let last = files(&scene(), 6).len() - 1;
    std::fs::remove_file(folder.path().join(key(last))).unwrap();
    let said = replay(folder.path(), 80, &["verify"]);
    assert_eq!(said.code, 0, "{}", said.out);
    let words = said.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("cut off the newest files"), "{words}");
}

#[test]
fn foreign_objects_are_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    write_scene(folder.path());
    put(
        folder.path(),
        "events/v1/class=standard/notes.txt",
        b"hello",
    );
    let said = replay(folder.path(), 200, &["verify"]);
    assert_eq!(said.code, 0);
    assert!(
        said.out
            .contains("not ours, and not looked into: events/v1/class=standard/notes.txt")
    );
}

#[test]
fn other_commands_show_what_a_damaged_file_leaves() {
    let folder = tempfile::tempdir().unwrap();
    write_scene(folder.path());
    std::fs::write(folder.path().join(key(0)), b"PAR1").unwrap();
    let said = replay(folder.path(), 80, &["show", "b0"]);
    assert_eq!(said.code, 65, "{}", said.err);
    assert!(said.out.contains("patch deployments"), "{}", said.out);
    assert!(said.err.contains(&key(0)), "{}", said.err);
}

/// Fuzzing begins with a file that is whole. `UPDATE_SNAPSHOTS=1` writes it anew.
#[test]
fn the_seed_of_the_fuzz_target_is_a_file_that_is_proven() {
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/session_file/scene");
    let first = &files(&scene(), 6)[0];
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&seed, writer::write(first, None)).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), &key(0), &std::fs::read(&seed).unwrap());
    let said = replay(folder.path(), 80, &["verify"]);
    assert_eq!(said.code, 0, "{}", said.out);
}
