//! Against the published example of the reference implementation, and damage.

use super::*;

/// The example of `golang.org/x/mod/sumdb/note`.
const SKEY: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
const SIGNATURE: &str = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";

fn cosign(name: &str, seed: [u8; 32], time: u64, note: &mut Note) -> Verifier {
    let key = SigningKey::new(name, seed).unwrap();
    let witness = Verifier::new(name, KeyUse::Cosignatures, key.verifier.key).unwrap();
    let message = format!("cosignature/v1\ntime {time}\n{}", note.text);
    let bytes = [&time.to_be_bytes()[..], &key.sign(&message).bytes].concat();
    note.signatures.push(Signature {
        name: name.to_owned(),
        id: witness.id,
        bytes,
    });
    witness
}

#[test]
fn the_example_of_the_reference_is_signed_to_the_same_bytes() {
    let key = SigningKey::parse(SKEY).unwrap();
    assert_eq!(key.verifier().to_string(), VKEY);
    assert_eq!(key.secret_text(), SKEY);
    let note = Note::sign(TEXT.to_owned(), [&key]);
    assert_eq!(note.to_string(), format!("{TEXT}\n{SIGNATURE}\n"));
    let read: Note = note.to_string().parse().unwrap();
    assert_eq!(read.signed_by(&VKEY.parse().unwrap()), Signed::Yes(None));
}

#[test]
fn another_text_or_another_key_is_not_signed() {
    let verifier: Verifier = VKEY.parse().unwrap();
    let altered: Note = format!("{}\n{SIGNATURE}\n", TEXT.replace("answer", "problem"))
        .parse()
        .unwrap();
    assert_eq!(altered.signed_by(&verifier), Signed::Wrong);
    let other = SigningKey::new("PeterNeumann", [7; 32]).unwrap();
    let note = Note::sign(TEXT.to_owned(), [&other]);
    assert_eq!(note.signed_by(&verifier), Signed::No);
}

#[test]
fn a_witness_adds_the_time_to_a_checkpoint() {
    let log = SigningKey::new("log", [1; 32]).unwrap();
    let mut note = Note::sign("log\n1\nx\n".to_owned(), [&log]);
    let witness = cosign("witness.example/w1", [2; 32], 1_679_315_147, &mut note);
    let read: Note = note.to_string().parse().unwrap();
    assert_eq!(read.signed_by(&witness), Signed::Yes(Some(1_679_315_147)));
    assert_eq!(read.signed_by(log.verifier()), Signed::Yes(None));
    let again: Verifier = witness.to_string().parse().unwrap();
    assert_eq!((again.usage(), &again), (KeyUse::Cosignatures, &witness));
    // A key of a log is none of a witness, even when it is the same key.
    let as_log = Verifier::new("witness.example/w1", KeyUse::Notes, witness.key).unwrap();
    assert_eq!(read.signed_by(&as_log), Signed::No);
}

#[test]
fn keys_that_are_damaged_are_refused() {
    for text in [
        "",
        "PeterNeumann",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc",
        "PeterNeumann+c74f20a3+AxpcARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        SKEY,
    ] {
        assert!(text.parse::<Verifier>().is_err(), "{text}");
    }
    assert!(SigningKey::parse(VKEY).is_err());
    assert!(SigningKey::parse(&SKEY.replace("c74f20a3", "c74f20a4")).is_err());
    assert!(SigningKey::new("a+b", [0; 32]).is_err());
}

#[test]
fn a_signing_key_does_not_print_itself() {
    let key = SigningKey::parse(SKEY).unwrap();
    assert!(!format!("{key:?}").contains("AYEKFALVFGyN"));
}

#[test]
fn what_is_no_note_is_refused() {
    for text in [
        String::new(),
        TEXT.to_owned(),
        format!("{TEXT}\n"),
        format!("{TEXT}\n{SIGNATURE}"),
        format!("{TEXT}\n{SIGNATURE}\nmore\n"),
        format!("{TEXT}{SIGNATURE}\n"),
        format!("{TEXT}\t\n\n{SIGNATURE}\n"),
        format!("{TEXT}\n— x AAAA\n"),
    ] {
        assert_eq!(text.parse::<Note>(), Err(NotANote), "{text:?}");
    }
}

#[test]
fn notes_that_follow_one_another_are_read_one_by_one() {
    let (a, b) = (
        SigningKey::new("a", [1; 32]).unwrap(),
        SigningKey::new("b", [2; 32]).unwrap(),
    );
    let notes = [
        Note::sign("one\n\nwith a gap\n".to_owned(), [&a, &b]),
        Note::sign("two\n".to_owned(), [&b]),
        Note::sign("three\n".to_owned(), [&a]),
    ];
    let text = notes.each_ref().map(Note::to_string).join("\n");
    assert_eq!(Note::parse_all(&text), Ok(notes.to_vec()));
    assert_eq!(Note::parse_all(&text[..text.len() - 1]), Err(NotANote));
    assert_eq!(Note::parse_all(""), Ok(Vec::new()));
}
