//! Streams of real kubectl 1.20, 1.30 and 1.33, as they went over the wire (`tests/captures`).

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hoop_schema::kinds::stream::Channel;
use http::{HeaderMap, HeaderName};
use proptest::prelude::*;
use serde_json::Value;

use super::{Direction, Kept, Piece, Protocol, Status, content, decode};
use crate::mask::{MaskKey, MaskMode, Pattern, Sought, TextRules};
use crate::tunnel::Rewriter;
use crate::tunnel::negotiate::{Purpose, STREAM_PROTOCOL_VERSION, negotiate};

/// One connection of a capture.
struct Captured {
    name: String,
    /// What was run; empty for a port-forward.
    command: String,
    protocol: Protocol,
    pieces: Vec<Piece>,
}

/// Every connection that got past its handshake.
static CAPTURED: LazyLock<Vec<Captured>> = LazyLock::new(|| {
    let mut all = Vec::new();
    for file in ["websocket", "spdy"] {
        let path = format!(
            "{}/tests/captures/exec-portforward-{file}.jsonl",
            env!("CARGO_MANIFEST_DIR")
        );
        let text = std::fs::read_to_string(path).unwrap();
        let mut connections: BTreeMap<u32, Vec<Value>> = BTreeMap::new();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let id = line["id"].as_str().unwrap().parse().unwrap();
            connections.entry(id).or_default().push(line);
        }
        all.extend(
            connections
                .iter()
                .filter_map(|(id, lines)| connection(&format!("{file} {id}"), lines)),
        );
    }
    all
});

fn connection(name: &str, lines: &[Value]) -> Option<Captured> {
    let (request, rest) = lines.split_first()?;
    let target = request["req"].as_str()?;
    let headers = request["headers"].as_object()?;
    let headers: HeaderMap = headers
        .iter()
        .flat_map(|(name, values)| values.as_array().unwrap().iter().map(move |v| (name, v)))
        .map(|(name, value)| {
            let name: HeaderName = name.parse().unwrap();
            (name, value.as_str().unwrap().parse().unwrap())
        })
        .collect();
    let mut pieces: Vec<Piece> = rest
        .iter()
        .filter_map(|line| {
            let from = match line["dir"].as_str()? {
                "c2s" => Direction::FromClient,
                "s2c" => Direction::FromServer,
                _ => return None,
            };
            let bytes = BASE64_STANDARD.decode(line["b64"].as_str()?).unwrap();
            Some((from, bytes))
        })
        .collect();
    if pieces.is_empty() {
        return None;
    }
    let purpose = match target.contains("/portforward") {
        true => Purpose::PortForward { ports: Vec::new() },
        false => Purpose::Command,
    };
    let is_web_socket = headers["upgrade"] == "websocket";
    let response = if is_web_socket {
        let (_, head) = pieces.remove(0);
        response_headers(&String::from_utf8(head).unwrap())
    } else {
        // The head of the answer was not captured.
        let version = match purpose {
            Purpose::Command => "v4.channel.k8s.io",
            Purpose::PortForward { .. } => "portforward.k8s.io",
        };
        [
            ("upgrade".parse().unwrap(), "SPDY/3.1".parse().unwrap()),
            (STREAM_PROTOCOL_VERSION, version.parse().unwrap()),
        ]
        .into_iter()
        .collect()
    };
    let command = target.split("command=").nth(1).unwrap_or_default();
    Some(Captured {
        name: name.to_owned(),
        command: command.split('&').next().unwrap().to_owned(),
        protocol: negotiate(&purpose, &headers, &response).unwrap(),
        pieces,
    })
}

fn response_headers(head: &str) -> HeaderMap {
    let lines = head.strip_prefix("HTTP/1.1 101 Switching Protocols\r\n");
    lines
        .unwrap()
        .trim()
        .lines()
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            let name: HeaderName = name.parse().unwrap();
            (name, value.parse().unwrap())
        })
        .collect()
}

/// The server's pieces as a rewriter writes them that looks for `pattern`.
fn rewritten(captured: &Captured, pattern: &str) -> Option<Vec<Piece>> {
    let pattern = Arc::new(Pattern::parse(pattern).unwrap());
    let sought = Sought::pattern(pattern, MaskMode::Redact);
    let rules = Arc::new(TextRules::new(vec![sought]).unwrap());
    let key = Arc::new(MaskKey::from_bytes([7; 32]));
    let mut rewriter = Rewriter::new(&captured.protocol, &rules, &key)?;
    let mut pieces: Vec<Piece> = captured.pieces.clone();
    for (from, bytes) in &mut pieces {
        if *from == Direction::FromServer {
            let mut out = Vec::new();
            rewriter.push(bytes, &mut out).unwrap();
            *bytes = out;
        }
    }
    let mut rest = Vec::new();
    rewriter.finish(&mut rest);
    pieces.push((Direction::FromServer, rest));
    Some(pieces)
}

#[test]
fn what_real_servers_send_is_written_anew_so_that_clients_read_the_same() {
    let (mut same, mut masked) = (0, 0);
    for captured in CAPTURED.iter() {
        let Some(pieces) = rewritten(captured, "nowhere to be found") else {
            continue;
        };
        let (expected, _) = decode(&captured.protocol, &captured.pieces);
        let (items, result) = decode(&captured.protocol, &pieces);
        assert_eq!(result, Ok(()), "{}", captured.name);
        assert_eq!(items, expected, "{}", captured.name);
        same += 1;
        let pieces = rewritten(captured, "slow[a-z]+").unwrap();
        let (items, _) = decode(&captured.protocol, &pieces);
        let before = content(&expected, Channel::Stdout, 0);
        let after = content(&items, Channel::Stdout, 0);
        assert_eq!(after, before.replace("slowdone", "**hoop-masked**"));
        masked += usize::from(after != before);
    }
    assert!(same >= 4 && masked >= 1, "{same} streams, {masked} masked");
}

/// What the decoders must find in it.
fn check(captured: &Captured, items: &[Kept]) {
    let name = &captured.name;
    let output = |channel| content(items, channel, 0);
    let exit = |code, reason: &str, message: &str| {
        let status = Status {
            exit_code: Some(code),
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        assert!(items.contains(&Kept::Status(status)), "{name}: {items:?}");
    };
    match captured.command.as_str() {
        "id" | "slow" => {
            let end = if captured.command == "slow" {
                "slowdone\n"
            } else {
                ""
            };
            assert_eq!(
                output(Channel::Stdout),
                format!("out:{}\n{end}", captured.command)
            );
            assert_eq!(
                output(Channel::Stderr),
                format!("err:{}\n", captured.command)
            );
            exit(0, "", "");
        }
        "exit3" => {
            assert_eq!(output(Channel::Stdout), "out:exit3\n");
            exit(
                3,
                "NonZeroExitCode",
                "command terminated with non-zero exit code: exit status 3",
            );
        }
        "cat" => {
            assert_eq!(output(Channel::Stdin), "hello\nworld\n");
            assert!(items.contains(&Kept::Closed(Channel::Stdin, 0)), "{name}");
            assert_eq!(output(Channel::Stdout), "got 12 bytes\n");
            exit(0, "", "");
        }
        "sh" => {
            assert!(items.contains(&Kept::Resize(97, 31)), "{name}");
            let typed = output(Channel::Stdin);
            assert!(typed.ends_with('\x04') && typed.contains("ls"), "{typed:?}");
            let got = format!("got {} bytes\n", typed.len());
            // The client of some captures had left before the server wrote.
            assert!(
                ["", &got].contains(&output(Channel::Stdout).as_str()),
                "{name}"
            );
        }
        "" => {
            for (connection, request_id) in [(1, "0"), (2, "1")] {
                let opened = Kept::PortOpened(connection, 80, request_id.into());
                assert!(items.contains(&opened), "{name}: {items:?}");
                let sent = content(items, Channel::PortIn, connection);
                assert!(
                    sent.starts_with("GET /") && sent.contains("Host: 127.0.0.1:"),
                    "{sent}"
                );
                let got = content(items, Channel::PortOut, connection);
                assert!(got.starts_with("HTTP/1.0 200 OK\r\n\r\nhi "), "{got}");
                for channel in [Channel::PortIn, Channel::PortOut] {
                    assert!(items.contains(&Kept::Closed(channel, connection)), "{name}");
                }
            }
        }
        other => panic!("{name}: unknown command {other}"),
    }
}

/// The same bytes in pieces of other sizes.
fn cut(pieces: &[Piece], mut size: impl FnMut() -> usize) -> Vec<Piece> {
    let mut out = Vec::new();
    for (from, bytes) in pieces {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(size().clamp(1, rest.len()));
            out.push((*from, piece.to_vec()));
            rest = after;
        }
    }
    out
}

#[test]
fn every_capture_is_decoded_whole_and_byte_by_byte() {
    assert_eq!(CAPTURED.len(), 25);
    for captured in CAPTURED.iter() {
        let (items, result) = decode(&captured.protocol, &captured.pieces);
        assert_eq!(result, Ok(()), "{}: {items:?}", captured.name);
        check(captured, &items);
        let single = cut(&captured.pieces, || 1);
        assert_eq!(decode(&captured.protocol, &single), (items, Ok(())));
    }
}

#[test]
fn captures_have_every_protocol_of_kubectl() {
    let mut protocols: Vec<_> = CAPTURED
        .iter()
        .map(|captured| format!("{:?}", captured.protocol))
        .collect();
    protocols.sort();
    protocols.dedup();
    assert_eq!(
        protocols,
        [
            "CommandMessages { encoding: Binary, version: 5 }",
            "CommandStreams { version: 4 }",
            "PortStreams",
            "PortStreamsInWebSocket"
        ]
    );
}

#[test]
fn aborted_stream_says_so_and_keeps_what_came() {
    for captured in CAPTURED.iter() {
        let mut pieces = captured.pieces.clone();
        let last = pieces
            .iter()
            .rposition(|(_, bytes)| bytes.len() > 1)
            .unwrap();
        pieces.truncate(last + 1);
        pieces[last].1.pop();
        let (items, result) = decode(&captured.protocol, &pieces);
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with("the connection ended inside"), "{error}");
        assert!(!items.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn cuts_change_nothing(sizes in prop::collection::vec(1_usize..40, 1..50)) {
        for captured in CAPTURED.iter() {
            let mut sizes = sizes.iter().cycle();
            let pieces = cut(&captured.pieces, || *sizes.next().unwrap());
            prop_assert_eq!(
                decode(&captured.protocol, &pieces),
                decode(&captured.protocol, &captured.pieces)
            );
        }
    }

    #[test]
    fn damage_never_panics(
        at in any::<prop::sample::Index>(),
        change in 1_u8..,
        choice in any::<prop::sample::Index>(),
    ) {
        let captured = &CAPTURED[choice.index(CAPTURED.len())];
        let mut pieces = cut(&captured.pieces, || usize::MAX);
        let place = at.index(pieces.len());
        let byte = at.index(pieces[place].1.len());
        pieces[place].1[byte] ^= change;
        let whole = decode(&captured.protocol, &pieces);
        prop_assert_eq!(decode(&captured.protocol, &cut(&pieces, || 1)), whole);
    }
}
