use std::sync::Arc;

use proptest::prelude::*;
use regex::bytes::RegexBuilder;

use super::super::detect::{DETECTORS, Detector};
use super::super::sentinel::SENTINEL;
use super::super::text::Sought;
use super::*;

fn key() -> Arc<MaskKey> {
    Arc::new(MaskKey::from_bytes([7; 32]))
}

fn detecting(names: &[&str]) -> Arc<TextRules> {
    let sought = names
        .iter()
        .map(|name| Sought::detector(Detector::named(name).unwrap(), MaskMode::Redact))
        .collect();
    Arc::new(TextRules::new(sought).unwrap())
}

fn all_detectors() -> Arc<TextRules> {
    let names: Vec<_> = DETECTORS.iter().map(Detector::name).collect();
    detecting(&names)
}

fn patterns(texts: &[&str]) -> Arc<TextRules> {
    let sought = texts
        .iter()
        .map(|text| {
            let pattern = Arc::new(Pattern::parse(text).unwrap());
            Sought::pattern(pattern, MaskMode::Redact)
        })
        .collect();
    Arc::new(TextRules::new(sought).unwrap())
}

fn in_pieces<'a>(rules: &Arc<TextRules>, pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut scanner = Scanner::new(Arc::clone(rules), key());
    scan(&mut scanner, pieces)
}

fn scan<'a>(scanner: &mut Scanner, pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut out = Vec::new();
    for piece in pieces {
        scanner.push(piece, &mut out);
    }
    scanner.finish(&mut out);
    assert_eq!(scanner.held(), 0);
    String::from_utf8(out).unwrap()
}

/// A text and where it is cut.
fn cut(text: &str, size: usize) -> impl Iterator<Item = &[u8]> {
    text.as_bytes().chunks(size)
}

fn mask(rules: &Arc<TextRules>, text: &str) -> String {
    let whole = in_pieces(rules, [text.as_bytes()]);
    for size in [1, 2, 3, 5, 7, 16, 61] {
        assert_eq!(
            in_pieces(rules, cut(text, size)),
            whole,
            "in pieces of {size}"
        );
    }
    whole
}

/// The model: all matches of every pattern over the whole text, by the `regex` crate; later ones give way.
fn model(texts: &[&str], text: &str) -> String {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for pattern in texts {
        let regex = RegexBuilder::new(pattern).unicode(false).build().unwrap();
        let matches = regex.find_iter(text.as_bytes());
        found.extend(matches.map(|found| (found.start(), found.end())));
    }
    found.sort_by_key(|(begin, end)| (*begin, std::cmp::Reverse(*end)));
    let (mut out, mut at) = (String::new(), 0);
    for (begin, end) in found {
        let begin = begin.max(at);
        if begin < end {
            out += &text[at..begin];
            out += SENTINEL;
            at = end;
        }
    }
    out + &text[at..]
}

/// Patterns of every kind: bounded and not, with words' edges, with alternatives of which the first wins, overlapping, bound to
/// the beginning or the end.
const PATTERNS: [&str; 12] = [
    r"\bab{2,}\b",
    r"a[a-c]{3}",
    r"abcab|b",
    r"abc|a",
    r"c.*a",
    r"(?:ab)+c?",
    r"\b[a-c]{2,4}\b",
    r"b c|c b",
    r"(?i)A B+",
    r"^[ab]c",
    r"c.$",
    r"(?m)^a.?$",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn however_it_is_cut_the_text_comes_out_as_a_search_of_the_whole_masks_it(
        text in "[abcA \n-]{0,60}",
        chosen in proptest::sample::subsequence(PATTERNS.to_vec(), 1..=3),
        cuts in proptest::collection::vec(0usize..8, 1..20),
    ) {
        let expected = model(&chosen, &text);
        let rules = patterns(&chosen);
        prop_assert_eq!(&in_pieces(&rules, [text.as_bytes()]), &expected, "whole, {:?}", &chosen);
        prop_assert_eq!(&in_pieces(&rules, cut(&text, 1)), &expected, "byte by byte, {:?}", &chosen);
        let mut rest = text.as_bytes();
        let pieces: Vec<&[u8]> = cuts.iter().map_while(|length| {
            let (piece, after) = rest.split_at((*length).min(rest.len()));
            rest = after;
            Some(piece)
        }).collect();
        prop_assert_eq!(&in_pieces(&rules, pieces.into_iter().chain([rest])), &expected, "{:?}", &chosen);
    }

    #[test]
    fn with_a_small_window_the_cut_does_not_matter_either(
        text in "[abc ]{0,80}",
        chosen in proptest::sample::subsequence(PATTERNS.to_vec(), 1..=2),
        window in 1usize..6,
    ) {
        let rules = patterns(&chosen);
        let narrow = |size| {
            let mut scanner = Scanner::new(Arc::clone(&rules), key());
            scanner.held_bytes_max = window;
            scan(&mut scanner, cut(&text, size))
        };
        let whole = narrow(usize::MAX);
        for size in 1..5 {
            prop_assert_eq!(narrow(size), whole.clone(), "{:?}", &chosen);
        }
    }

    #[test]
    fn flushed_anywhere_nothing_is_lost_or_doubled(
        text in "[abc ]{0,40}",
        chosen in proptest::sample::subsequence(PATTERNS.to_vec(), 1..=2),
        size in 1usize..6,
    ) {
        let rules = patterns(&chosen);
        let mut scanner = Scanner::new(rules, key());
        let mut out = Vec::new();
        for piece in cut(&text, size) {
            scanner.push(piece, &mut out);
            scanner.flush(&mut out);
            prop_assert_eq!(scanner.held(), 0);
        }
        scanner.finish(&mut out);
        let out = String::from_utf8(out).unwrap();
        let mut rest = text.as_str();
        for plain in out.split(SENTINEL) {
            let Some(at) = rest.find(plain) else {
                return Err(TestCaseError::fail(format!("{out:?} is not of {text:?}")));
            };
            rest = &rest[at + plain.len()..];
        }
    }
}

/// A text for each detector, with the secret between braces.
const SAMPLES: [(&str, &str); 28] = [
    ("ai-api-key", "OPENAI={sk-proj-abcdefghijklmnopqrstuvwx}"),
    (
        "authorization-header",
        "> Authorization: Bearer {abcdefgh.ijklm}",
    ),
    (
        "authorization-header",
        r#""Authorization": "Basic {dXNlcjpwYXNz}""#,
    ),
    ("aws-access-key", "id={AKIAIOSFODNN7EXAMPLE} x"),
    (
        "aws-secret-key",
        "aws_secret_access_key = {wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY12}",
    ),
    (
        "aws-secret-key",
        r#""AWS_SECRET_ACCESS_KEY": "{wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY}""#,
    ),
    (
        "connection-string",
        "postgres://app:{hunter2}@db:5432/shop?sslmode=off",
    ),
    ("connection-string", "redis://:{p@ss:word}@cache"),
    (
        "connection-string",
        "Server=db;User Id=sa;Password={s3cret!};Encrypt=on",
    ),
    ("credit-card", "card {4111111111111111}, thanks"),
    ("credit-card", "card {4111 1111 1111 1111}"),
    ("credit-card", "amex {3782-822463-10005}."),
    ("docker-token", "{dckr_pat_abcdefghijklmnopqrst-1}"),
    (
        "github-token",
        "https://x:y {ghp_abcdefghijklmnopqrstuvwxyz0123456789}",
    ),
    (
        "github-token",
        "token {github_pat_11ABCDEFG0abcdefghijkl_abcdef}",
    ),
    (
        "gitlab-token",
        "PRIVATE-TOKEN: {glpat-abcdefghij_1234567890}",
    ),
    (
        "google-api-key",
        "key={AIzaSyabcdefghijklmnopqrstuvwxyz0123456}",
    ),
    (
        "hashicorp-token",
        "VAULT_TOKEN={hvs.abcdefghijklmnopqrstuvwx}",
    ),
    (
        "jwt",
        "t={eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0x.c2lnbmF0dXJl} end",
    ),
    (
        "npm-token",
        "//r/:_authToken={npm_abcdefghijklmnopqrstuvwxyz0123456789}",
    ),
    (
        "private-key",
        "x\n{-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIE/+==\n-----END RSA PRIVATE KEY-----}\ny",
    ),
    ("private-key", r#""{-----BEGIN PRIVATE KEY-----\nMIIE\n}""#),
    (
        "pypi-token",
        "{pypi-AgEIcHlwaSabcdefghijklmnopqrstuvwxyz0123}",
    ),
    (
        "sendgrid-key",
        "{SG.abcdefghijklmnopqr.abcdefghijklmnopqr-_}",
    ),
    ("shopify-token", "{shpat_0123456789abcdef0123456789ABCDEF}"),
    ("slack-token", "SLACK={xoxb-1234567890-abcdef}"),
    ("stripe-key", "{sk_live_abcdefghijklmnop1234}"),
    (
        "age-key",
        "# {AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ}",
    ),
];

#[test]
fn every_detector_finds_what_it_is_for_and_no_more() {
    let all = all_detectors();
    for (name, sample) in SAMPLES {
        let (before, rest) = sample.split_once('{').unwrap();
        let (secret, after) = rest.rsplit_once('}').unwrap();
        let text = format!("{before}{secret}{after}");
        let expected = format!("{before}{SENTINEL}{after}");
        assert_eq!(mask(&detecting(&[name]), &text), expected, "{name}");
        assert!(!mask(&all, &text).contains(secret), "{name}");
    }
    for detector in &DETECTORS {
        assert!(
            SAMPLES.iter().any(|(name, _)| *name == detector.name()),
            "{} has a sample",
            detector.name()
        );
        assert!(!detector.about().is_empty());
    }
}

#[test]
fn ordinary_text_is_left_alone() {
    let text = "2026-11-23T10:00:00.123456789Z INFO http://shop:8080/a?b=c user@example.com took 4111111111111112 ns\n\
                id 0b1c2d3e-4555-8666-9777-4111111111111 sha256:4242424242424242424242424242424242424242 3141592653589793\n\
                -----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\npasswordless, ghpages, AKIA, eyJhbGciOi\n";
    assert_eq!(mask(&all_detectors(), text), text);
}

#[test]
fn what_stands_at_the_edges_of_a_text_is_found() {
    let rules = detecting(&["aws-access-key", "github-token"]);
    assert_eq!(mask(&rules, "AKIAIOSFODNN7EXAMPLE"), SENTINEL);
    let two = "AKIAIOSFODNN7EXAMPLE AKIAIOSFODNN7EXAMPLE";
    assert_eq!(mask(&rules, two), format!("{SENTINEL} {SENTINEL}"));
    // A word around it makes it something else.
    assert_eq!(
        mask(&rules, "xAKIAIOSFODNN7EXAMPLE"),
        "xAKIAIOSFODNN7EXAMPLE"
    );
    assert_eq!(mask(&rules, ""), "");
}

#[test]
fn a_pattern_for_the_beginning_of_a_text_is_looked_for_there_only() {
    let rules = patterns(&["^-p.+", "^key: "]);
    assert_eq!(mask(&rules, "-psecret"), SENTINEL);
    assert_eq!(mask(&rules, "key: value"), format!("{SENTINEL}value"));
    for text in ["mysql", "x -psecret", "\n-psecret", "-p", "ke -p", ""] {
        assert_eq!(mask(&rules, text), text);
    }
}

#[test]
fn nothing_is_held_back_but_what_may_be_a_beginning() {
    let mut scanner = Scanner::new(all_detectors(), key());
    let mut out = Vec::new();
    for typed in [
        "l",
        "s",
        " ",
        "/",
        "v",
        "\r\n",
        "total 4 ",
        "cat file\n",
        "$ ",
    ] {
        out.clear();
        scanner.push(typed.as_bytes(), &mut out);
        assert_eq!(out, typed.as_bytes());
    }
    out.clear();
    scanner.push(b"echo AKIA", &mut out);
    assert_eq!(out, b"echo ");
    assert_eq!(scanner.held(), 4);
    scanner.push(b"!", &mut out);
    assert_eq!(out, b"echo AKIA!");
}

#[test]
fn what_is_flushed_is_seen_and_the_rest_of_the_secret_is_not() {
    let mut scanner = Scanner::new(detecting(&["github-token"]), key());
    let mut out = Vec::new();
    scanner.push(b"ghp_abcdef", &mut out);
    assert!(out.is_empty());
    scanner.flush(&mut out);
    assert_eq!(out, b"ghp_abcdef");
    scanner.push(b"ghijklmnopqrstuvwxyz0123456789 and on", &mut out);
    assert_eq!(
        String::from_utf8_lossy(&out),
        format!("ghp_abcdef{SENTINEL} and on")
    );
    // A match that has ended and may go on is masked when it is flushed, and so is what makes it longer.
    out.clear();
    scanner.push(b" ghp_abcdefghijklmnopqrstuvwxyz0123456789", &mut out);
    scanner.flush(&mut out);
    assert_eq!(String::from_utf8_lossy(&out), format!(" {SENTINEL}"));
    scanner.push(b"MORE.", &mut out);
    scanner.finish(&mut out);
    assert_eq!(
        String::from_utf8_lossy(&out),
        format!(" {SENTINEL}{SENTINEL}.")
    );
    assert_eq!(scanner.masked(), 3);
}

#[test]
fn a_secret_longer_than_the_window_is_masked_to_its_end() {
    let rules = detecting(&["private-key"]);
    let body = "MIIE".repeat(HELD_BYTES_MAX);
    let text = format!("a -----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----. b");
    let masked = mask(&rules, &text);
    assert!(!masked.contains("MIIE"), "{}", masked.len());
    assert_eq!(masked.replace(SENTINEL, ""), "a . b");
    let mut scanner = Scanner::new(rules, key());
    let mut out = Vec::new();
    for piece in cut(&text, 1024) {
        scanner.push(piece, &mut out);
        assert!(scanner.held() <= HELD_BYTES_MAX + 1024);
    }
}

#[test]
fn modes_show_as_much_as_they_say() {
    let with = |mode| {
        let sought = Sought::detector(Detector::named("credit-card").unwrap(), mode);
        let rules = Arc::new(TextRules::new(vec![sought]).unwrap());
        in_pieces(&rules, [b"4111111111111111".as_slice()])
    };
    assert_eq!(with(MaskMode::Redact), SENTINEL);
    assert_eq!(with(MaskMode::Partial), format!("{SENTINEL}last:1111"));
    let hashed = with(MaskMode::Hmac);
    assert!(
        hashed.starts_with(&format!("{SENTINEL}hmac:")) && hashed.len() == 52,
        "{hashed}"
    );
    assert_eq!(with(MaskMode::Hmac), hashed);
}

#[test]
fn what_two_patterns_match_is_not_shown_by_the_weaker_of_them() {
    let pattern = |text| Arc::new(Pattern::parse(text).unwrap());
    let rules = Arc::new(
        TextRules::new(vec![
            Sought::pattern(pattern("ab[c-z]{14,20}"), MaskMode::Partial),
            Sought::pattern(pattern("xyz[0-9]*"), MaskMode::Redact),
        ])
        .unwrap(),
    );
    assert_eq!(
        mask(&rules, "abcdefghijklmnopxyz12 "),
        format!("{SENTINEL}{SENTINEL} ")
    );
    assert_eq!(
        mask(&rules, "abcdefghijklmnopqr "),
        format!("{SENTINEL}last:opqr ")
    );
}

#[test]
fn patterns_that_cannot_be_searched_for_say_why() {
    for (text, why) in [
        ("a*", "it matches the empty text"),
        ("(", "unclosed group"),
        (r"[^\x00-\xff]", "nothing can match it"),
        ("[a-z]{5000}{5000}", "too large"),
    ] {
        let error = Pattern::parse(text).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
    assert!(Pattern::parse(&"a".repeat(5000)).is_err());
}
