//! What a person sees, on narrow and on wide terminals.

use std::io::Read;
use std::process::Stdio;

use crate::fixture::{scene, write_scene};
use crate::run::{Said, command, replay};

fn look(columns: usize, args: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    write_scene(folder.path());
    replay(folder.path(), columns, args)
}

fn lines_fit(said: &Said, columns: usize) {
    for line in said.out.lines() {
        assert!(line.chars().count() <= columns, "{line}");
    }
}

#[test]
fn a_list_fits_80_columns() {
    let said = look(80, &["list"]);
    lines_fit(&said, 80);
    insta::assert_snapshot!(said.out);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
}

#[test]
fn a_list_uses_200_columns() {
    insta::assert_snapshot!(look(200, &["list", "--all"]).out);
}

#[test]
fn a_list_as_json_has_everything() {
    let said = look(80, &["list", "-o", "json"]);
    insta::assert_snapshot!(said.out);
}

#[test]
fn lists_are_filtered() {
    for (args, expected) in [
        (&["list", "--user", "alice"][..], &["a1a1a1a1"][..]),
        (&["list", "--decision", "deny"], &["b0b0b0b0"]),
        (&["list", "--resource", "secrets"], &["a1a1a1a1"]),
        (&["list", "--verb", "watch"], &["b0b0b0b0"]),
        (
            &["list", "--namespace", "shop", "--reverse"],
            &["a1a1a1a1", "b0b0b0b0"],
        ),
        (&["list", "--namespace", "shop"], &["b0b0b0b0", "a1a1a1a1"]),
        (&["list", "--limit", "1"], &["b0b0b0b0"]),
        (&["list", "--since", "2026-11-22T10:00:04Z"], &["b0b0b0b0"]),
        (&["list", "--until", "2026-11-22T10:00:04Z"], &["a1a1a1a1"]),
        (&["list", "--text", "KUBECTL DELETE"], &["b0b0b0b0"]),
        (&["list", "--since", "2026-12-01"], &[]),
    ] {
        let said = look(80, args);
        let ids: Vec<&str> = said
            .out
            .lines()
            .filter_map(|l| l.get(..8))
            .filter(|id| id.bytes().all(|b| b.is_ascii_hexdigit()))
            .collect();
        assert_eq!(ids, expected, "{args:?}: {}{}", said.out, said.err);
    }
}

#[test]
fn a_timeline_fits_80_columns() {
    let said = look(80, &["show", "b0"]);
    lines_fit(&said, 80);
    insta::assert_snapshot!(said.out);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
}

#[test]
fn a_timeline_uses_200_columns_and_shows_bodies() {
    insta::assert_snapshot!(look(200, &["show", "b0", "--bodies"]).out);
}

#[test]
fn a_masked_secret_is_shown_masked() {
    insta::assert_snapshot!(look(80, &["show", "a1a1", "--bodies"]).out);
}

#[test]
fn colour_is_only_for_those_who_ask() {
    assert!(!look(80, &["show", "b0"]).out.contains('\u{1b}'));
    assert!(
        look(80, &["show", "b0", "--color", "always"])
            .out
            .contains("\u{1b}[31m")
    );
    assert!(
        !look(80, &["list", "-o", "json", "--color", "always"])
            .out
            .contains('\u{1b}')
    );
}

#[test]
fn recorded_control_characters_never_reach_the_terminal() {
    let said = look(200, &["show", "b0"]);
    assert!(said.out.contains("kubectl\\x1b[31m evil"), "{}", said.out);
}

#[test]
fn grep_finds_what_was_in_bodies() {
    insta::assert_snapshot!(look(80, &["grep", "replicas|masked"]).out);
    let said = look(80, &["grep", "MODIFIED", "-o", "json"]);
    let found: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(found[0]["at"], "/content");
    assert_eq!(look(80, &["grep", "no such text"]).code, 66);
    assert_eq!(look(80, &["grep", "("]).code, 64);
}

#[test]
fn exported_events_are_the_exact_bytes_in_the_order_of_the_log() {
    let said = look(80, &["export"]);
    let expected: Vec<String> = scene()
        .into_iter()
        .map(|e| String::from_utf8(e).unwrap())
        .collect();
    assert_eq!(said.out.lines().collect::<Vec<_>>(), expected);
    let one = look(80, &["export", "--session", "a1", "--verb", "get"]);
    assert_eq!(one.out.lines().count(), 2, "{}", one.out);
}

#[test]
fn exported_audit_events_are_those_of_kubernetes() {
    let said = look(80, &["export", "--format", "audit"]);
    let list: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&"EventList".into(), &"audit.k8s.io/v1".into())
    );
    let stages: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["stage"].as_str().unwrap())
        .collect();
    let complete = "ResponseComplete";
    assert_eq!(
        stages,
        [
            complete,
            complete,
            complete,
            complete,
            "ResponseStarted",
            complete
        ]
    );
    insta::assert_snapshot!(serde_json::to_string_pretty(&list["items"][1]).unwrap());
    let lines = look(
        80,
        &[
            "export",
            "--format",
            "audit",
            "-o",
            "jsonl",
            "--request-received",
        ],
    );
    assert_eq!(lines.out.lines().count(), 11);
}

#[test]
fn a_whole_scene_is_proven() {
    let said = look(80, &["verify"]);
    lines_fit(&said, 80);
    insta::assert_snapshot!(said.out);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let one = look(80, &["verify", "--session", "b0", "-o", "json"]);
    assert_eq!(one.code, 0, "{}", one.out);
    insta::assert_snapshot!(one.out);
}

#[test]
fn the_schema_is_the_published_one() {
    let said = look(80, &["schema"]);
    assert_eq!(said.out, include_str!("../../../schema/events.schema.json"));
    insta::assert_snapshot!(look(80, &["schema", "--columns"]).out);
}

#[test]
fn questions_that_cannot_be_answered_say_what_to_do() {
    for (args, code, says) in [
        (&["show", "zz"][..], 64, "is no session id"),
        (&["show", "ff"], 66, "no session begins with ff"),
        (&["list", "--since", "soon"], 64, "is no point in time"),
        (&["list", "--frobnicate"], 64, "--frobnicate"),
    ] {
        let said = look(80, args);
        assert_eq!(said.code, code, "{args:?}: {}", said.err);
        assert!(said.err.contains(says), "{args:?}: {}", said.err);
    }
    let nowhere = tempfile::tempdir().unwrap();
    let said = replay(nowhere.path(), 80, &["list"]);
    assert_eq!(said.code, 66, "{}", said.err);
    assert!(said.err.contains("holds events/v1"), "{}", said.err);
}

#[test]
fn a_closed_pipe_is_not_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    write_scene(folder.path());
    let mut child = command(folder.path(), 80)
        .args(["schema"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}
