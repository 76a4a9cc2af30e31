use std::path::Path;

use hoop_schema::kinds::request::{AuthMethod, User};

use super::*;
use crate::authenticate::Identity;

const LATER: i64 = 2_000_000_000_000_000;

fn ending(session: Option<u8>, login: Option<&str>, user: Option<&str>) -> Ending {
    Ending {
        session: session.map(|byte| SessionId::from_bytes([byte; 16])),
        login: login.map(str::to_owned),
        user: user.map(str::to_owned),
        at: Timestamp::from_micros(1_000_000),
        until: Timestamp::from_micros(LATER),
        by: "root".into(),
        reason: "laptop lost".into(),
    }
}

fn who(user: &str, login: Option<&str>) -> Identity {
    let user = User {
        username: user.into(),
        ..User::default()
    };
    Identity::new(user, AuthMethod::Oidc, login.map(Into::into)).unwrap()
}

fn in_session(byte: u8) -> SessionNames {
    [Some(SessionId::from_bytes([byte; 16])), None, None]
}

fn is_ended(by: &Ending, who: &Identity, session: u8) -> bool {
    let endings = Endings::new(std::slice::from_ref(by));
    let now = Timestamp::from_micros(1_500_000);
    endings.find(who, &in_session(session), now).is_some()
}

#[test]
fn what_is_written_is_read_again() {
    let endings = [
        ending(Some(1), None, Some("alice")),
        ending(None, Some("l1"), None),
        ending(None, None, Some("alice")),
    ];
    let text = write(&endings).unwrap();
    assert_eq!(text.lines().count(), 3);
    assert_eq!(parse(&text).unwrap(), endings);
    assert_eq!(parse("").unwrap(), []);
}

#[test]
fn a_file_that_is_not_right_is_refused_with_its_line() {
    let good = write(&[ending(None, Some("l1"), None)]).unwrap();
    let wrong = |text: &str| parse(text).unwrap_err().to_string();
    assert!(wrong(good.trim_end()).contains("no line break"));
    assert!(wrong(&format!("{good}{{}}\n")).starts_with("line 2: "));
    let unknown = good.replace("\"by\"", "\"whom\":\"me\",\"by\"");
    assert!(wrong(&unknown).starts_with("line 1: "));
    let nobody = good.replace("\"login\":\"l1\",", "");
    assert!(wrong(&nobody).contains("names no session, login or user"));
    let unnamed = good.replace("l1", "");
    assert!(wrong(&unnamed).contains("has no name"));
    let mut colourful = ending(None, Some("l1"), None);
    colourful.reason = "\u{1b}[31mred".into();
    assert!(write(&[colourful]).is_err());
    let many = vec![ending(None, Some("l1"), None); ENDINGS_MAX + 1];
    assert_eq!(write(&many), Err(EndingsParseError::TooMany));
    assert_eq!(
        parse(&good.repeat(ENDINGS_MAX + 1)),
        Err(EndingsParseError::TooMany)
    );
}

#[test]
fn all_that_an_ending_names_has_to_fit() {
    let alice = who("alice", Some("l1"));
    assert!(is_ended(&ending(Some(1), None, None), &alice, 1));
    assert!(!is_ended(&ending(Some(1), None, None), &alice, 2));
    assert!(!is_ended(&ending(Some(1), None, Some("bob")), &alice, 1));
    assert!(is_ended(&ending(None, Some("l1"), None), &alice, 1));
    assert!(is_ended(
        &ending(None, Some("l1"), Some("alice")),
        &alice,
        1
    ));
    assert!(!is_ended(&ending(None, Some("l1"), Some("bob")), &alice, 1));
    assert!(!is_ended(&ending(None, Some("l2"), None), &alice, 1));
    assert!(is_ended(&ending(None, None, Some("alice")), &alice, 1));
    assert!(is_ended(
        &ending(None, None, Some("alice")),
        &who("alice", None),
        1
    ));
    assert!(!is_ended(&ending(None, None, Some("bob")), &alice, 1));
    // The serial numbers of two authorities may be the same.
    assert!(!is_ended(
        &ending(None, Some("l1"), Some("alice")),
        &who("bob", Some("l1")),
        1
    ));
}

#[test]
fn a_session_stays_ended_when_its_basis_comes_back() {
    let endings = Endings::new(&[ending(Some(1), None, None)]);
    let id = |byte: u8| Some(SessionId::from_bytes([byte; 16]));
    let now = Timestamp::from_micros(1_500_000);
    let alice = who("alice", None);
    for names in [
        [id(1), id(9), None],
        [id(2), id(1), None],
        [id(3), id(9), id(1)],
    ] {
        assert!(endings.find(&alice, &names, now).is_some(), "{names:?}");
    }
    assert!(endings.find(&alice, &[id(3), id(4), id(5)], now).is_none());
}

#[test]
fn an_ending_is_over_at_its_time() {
    let endings = Endings::new(&[ending(None, None, Some("alice"))]);
    let at = |micros| {
        endings.find(
            &who("alice", None),
            &in_session(1),
            Timestamp::from_micros(micros),
        )
    };
    assert!(at(LATER - 1).is_some());
    assert!(at(LATER).is_none());
}

#[test]
fn the_person_reads_what_was_ended_by_whom_and_why() {
    let message = ending(None, Some("l1"), Some("alice")).message();
    assert!(
        message.starts_with("this login was ended by root: laptop lost; log in anew"),
        "{message}"
    );
    assert_eq!(
        ending(Some(1), None, None).message(),
        "this session was ended by root: laptop lost"
    );
    let mut of_alice = ending(None, None, Some("alice"));
    of_alice.reason.clear();
    let message = of_alice.message();
    assert!(
        message.starts_with("the access of alice was ended until 2033-")
            && message.ends_with(" by root"),
        "{message}"
    );
}

async fn open(path: &Path) -> Result<EndingsFile, EndingsError> {
    EndingsFile::open(path.to_owned()).await
}

#[tokio::test]
async fn nobody_is_pardoned_by_a_file_that_is_just_being_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ended.jsonl");
    let (alice, bob) = (
        ending(None, Some("l1"), None),
        ending(None, Some("l2"), None),
    );
    let only_alice = write(std::slice::from_ref(&alice)).unwrap();
    let both = write(&[alice.clone(), bob.clone()]).unwrap();
    std::fs::write(&path, &both).unwrap();
    let mut file = open(&path).await.unwrap();
    let endings = file.endings();
    let now = Timestamp::from_micros(1_500_000);
    let ended = |login: &str| {
        endings
            .find(&who("x", Some(login)), &in_session(1), now)
            .is_some()
    };
    assert!(ended("l1") && ended("l2"));

    for halfway in [
        "",
        &both[..both.len() - 5],
        &only_alice[..10],
        &only_alice,
        "\u{0}\n",
    ] {
        // What cannot be read is an error, and what can is not believed at once.
        drop(file.look(halfway.as_bytes(), now));
        assert!(ended("l1") && ended("l2"), "{halfway:?}");
        file.look(both.as_bytes(), now).unwrap();
        assert!(ended("l1") && ended("l2"));
    }
    file.look(only_alice.as_bytes(), now).unwrap();
    file.look(only_alice.as_bytes(), now).unwrap();
    assert!(ended("l1") && !ended("l2"), "taken out, and still out");
    file.look(b"", now).unwrap();
    file.gone();
    assert!(ended("l1"), "a file that is gone pardons nobody");
    file.look(b"", now).unwrap();
    file.look(b"", now).unwrap();
    assert!(!ended("l1"));
}

#[tokio::test]
async fn what_is_new_counts_at_once_and_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ended.jsonl");
    let mut file = open(&path).await.unwrap();
    let endings = file.endings();
    let mut changes = endings.changes();
    let text = write(&[ending(None, Some("l1"), None)]).unwrap();
    let now = Timestamp::from_micros(1_500_000);
    file.look(text.as_bytes(), now).unwrap();
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    let found = endings.find(&who("x", Some("l1")), &in_session(1), now);
    assert_eq!(found.unwrap().by, "root");
    assert!(!is_taken(&path, text.as_bytes()));
    file.acknowledge(text.as_bytes()).await;
    assert!(is_taken(&path, text.as_bytes()));
    assert!(!is_taken(&path, b"something else"));
    // One that is over may be taken out without ado.
    file.look(b"", Timestamp::from_micros(LATER)).unwrap();
    assert!(
        endings
            .find(&who("x", Some("l1")), &in_session(1), now)
            .is_none()
    );
}

#[tokio::test]
async fn a_gateway_does_not_start_with_a_file_that_it_cannot_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ended.jsonl");
    std::fs::write(&path, "alice\n").unwrap();
    let error = open(&path).await.unwrap_err();
    assert!(error.to_string().contains("ended.jsonl"), "{error}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.starts_with("line 1: "), "{cause}");
}
