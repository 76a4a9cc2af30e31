//! `play`: what somebody saw in a terminal, seen again.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hoop_schema::body::TextEncoding;
use hoop_schema::kinds::stream::{Channel, StreamData, StreamResize};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::fixture::{ALICE, Asked, Gateway};
use crate::run::{command, replay};
use crate::writer;

const SESSION: &str = "a1a1";

/// The command, and what came on its channels after so many milliseconds.
struct Shell<'a> {
    argv: &'a [&'a str],
    pieces: &'a [(u64, Channel, &'a str)],
}

fn exec(gateway: &mut Gateway, shell: &Shell<'_>) {
    let asked = Asked {
        username: "alice",
        verb: "exec",
        resource: "pods",
        name: "web-1",
        command: "kubectl exec",
        ..Asked::default()
    };
    let (mut intent, mut outcome) = asked.events(gateway);
    let mut request = (*intent.request).clone();
    request.request_uri.push_str("/exec?tty=true");
    request.argv = shell.argv.iter().map(|word| (*word).to_owned()).collect();
    request.object_ref.as_mut().unwrap().subresource = "exec".into();
    let audit_id = request.audit_id.clone();
    intent.request = Arc::new(request);
    outcome.request = Arc::clone(&intent.request);
    outcome.exit_code = Some(7);
    gateway.emit(ALICE, intent);
    gateway.emit(
        ALICE,
        StreamResize {
            audit_id: audit_id.clone(),
            at_us: 1,
            width: 100,
            height: 30,
        },
    );
    let mut offsets = std::collections::HashMap::new();
    for (millis, channel, text) in shell.pieces {
        let offset = offsets.entry(*channel).or_insert(0);
        gateway.emit(
            ALICE,
            StreamData {
                audit_id: audit_id.clone(),
                channel: *channel,
                connection: None,
                offset: *offset,
                at_us: millis * 1000,
                encoding: TextEncoding::Text,
                content: (*text).to_owned(),
                encryption: None,
            },
        );
        *offset += text.len() as u64;
    }
    gateway.emit(ALICE, outcome);
}

const DATE: Shell<'static> = Shell {
    argv: &["sh", "-c", "date"],
    pieces: &[
        (100, Channel::Stdout, "$ "),
        (200, Channel::Stdin, "s3cret\r"),
        (
            400,
            Channel::Stdout,
            "\u{1b}[32mtoday\u{1b}[0m\r\n\u{1b}]52;c;aGk=\u{7}",
        ),
        (90_000, Channel::Stdout, "bye\r\n"),
    ],
};

fn write(folder: &Path, shells: &[Shell<'_>]) {
    let mut gateway = Gateway::new();
    gateway.start(ALICE, "alice", "kubectl exec", "kubectl/v1.36.3");
    for shell in shells {
        exec(&mut gateway, shell);
    }
    gateway.end(ALICE);
    writer::write_all(folder, &writer::files(&gateway.events, 4));
}

#[test]
fn into_a_pipe_it_comes_at_once_and_cannot_hurt() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[DATE]);
    let said = replay(folder.path(), 80, &["play", SESSION]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(said.out, "$ \u{1b}[32mtoday\u{1b}[0m\r\nbye\r\n");
    assert_eq!(said.err, "hoop-replay: exit code 7, 1m 30s\n");
    let shown = replay(folder.path(), 80, &["show", SESSION]).out;
    assert!(shown.contains("$ sh -c date\n"), "{shown}");
    assert!(shown.contains("exit code 7"), "{shown}");
    let raw = replay(folder.path(), 80, &["play", SESSION, "--raw"]);
    assert!(raw.out.contains("\u{1b}]52;c;aGk="), "{:?}", raw.out);
}

#[test]
fn an_asciicast_has_what_was_typed_only_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[DATE]);
    let cast = |more: &[&str]| {
        let arguments = [&["play", SESSION, "--asciicast", "-"], more].concat();
        let said = replay(folder.path(), 80, &arguments);
        assert_eq!(said.code, 0, "{}", said.err);
        said.out
    };
    let lines = cast(&[]);
    let header: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&header["width"], &header["title"]),
        (&100.into(), &"sh -c date".into())
    );
    assert!(!lines.contains("s3cret"));
    // Nobody waits for a minute and a half of nothing.
    assert!(lines.ends_with("[2.4,\"o\",\"bye\\r\\n\"]\n"), "{lines}");
    assert!(cast(&["--input"]).contains("s3cret"));
    assert!(cast(&["--idle-max", "0s"]).contains("[90.0,\"o\",\"bye"));
}

#[test]
fn of_several_commands_one_is_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let list = Shell {
        argv: &["ls"],
        pieces: &[(5, Channel::Stdout, "a b\r\n")],
    };
    write(folder.path(), &[DATE, list]);
    let said = replay(folder.path(), 80, &["play", SESSION]);
    assert_eq!(said.code, 64);
    assert!(said.err.contains("--command 2: ls (0 s)"), "{}", said.err);
    let said = replay(folder.path(), 80, &["play", SESSION, "--command", "2"]);
    assert_eq!((said.code, &*said.out), (0, "a b\r\n"));
    let said = replay(folder.path(), 80, &["play", SESSION, "--command", "3"]);
    assert_eq!(said.code, 64);
}

#[test]
fn a_session_without_a_terminal_says_so() {
    let folder = tempfile::tempdir().unwrap();
    crate::fixture::write_scene(folder.path());
    let said = replay(folder.path(), 80, &["play", SESSION]);
    assert_eq!(said.code, 66);
    assert!(said.err.contains("no exec or attach"), "{}", said.err);
}

#[test]
fn in_a_terminal_it_keeps_time_and_keys_work() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[DATE]);
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let path = ptsname(&terminal, Vec::new()).unwrap();
    let side = || {
        let path = path.to_str().unwrap();
        std::fs::File::options()
            .read(true)
            .write(true)
            .open(path)
            .unwrap()
    };
    let kept = side();
    let terminal = std::fs::File::from(terminal);
    let begun = Instant::now();
    let mut child = command(folder.path(), 80)
        .args(["play", SESSION])
        .stdin(side())
        .stdout(side())
        .stderr(side())
        .spawn()
        .unwrap();
    let mut seen = String::new();
    let mut until = |what: &str| {
        let mut piece = [0; 1024];
        while !seen.contains(what) {
            let length = (&terminal).read(&mut piece).unwrap();
            seen += &String::from_utf8_lossy(&piece[..length]);
        }
    };
    until("today");
    assert!(
        begun.elapsed() >= Duration::from_millis(400),
        "it keeps time"
    );
    assert!(
        !tcgetattr(&kept)
            .unwrap()
            .local_modes
            .contains(LocalModes::ECHO)
    );
    // The rest is two seconds away: the person does not wait for it.
    (&terminal).write_all(b">").unwrap();
    until("bye");
    until("exit code 7");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(20));
    let after = tcgetattr(&kept).unwrap().local_modes;
    assert!(
        after.contains(LocalModes::ECHO | LocalModes::ICANON),
        "given back"
    );
    assert!(
        seen.contains("space pauses") && !seen.contains("]52;"),
        "{seen:?}"
    );
}
