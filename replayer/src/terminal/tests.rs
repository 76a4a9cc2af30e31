use std::time::Duration;

use hoop_schema::Timestamp;
use serde_json::Value;

use super::safe::Filter;
use super::{Moment, Recording, What, asciicast};

fn filtered(pieces: &[&[u8]]) -> String {
    let (mut filter, mut out) = (Filter::default(), Vec::new());
    for piece in pieces {
        filter.push(piece, &mut out);
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn recording(moments: &[(u64, What)]) -> Recording {
    Recording {
        began: Timestamp::from_micros(1_800_000_000_000_000),
        argv: vec!["sh".into(), "-c".into(), "date".into()],
        tty: true,
        size: (100, 30),
        moments: moments
            .iter()
            .map(|(millis, what)| Moment {
                at: Duration::from_millis(*millis),
                what: what.clone(),
            })
            .collect(),
        exit_code: Some(0),
    }
}

#[test]
fn drawing_passes() {
    for text in [
        "plain text, täxt and 日本\r\n",
        "\u{1b}[1;31mred\u{1b}[0m \u{1b}[38:2:1:2:3mtrue colour",
        "\u{1b}[2J\u{1b}[H\u{1b}[10;20Hx\u{1b}[K\u{1b}7\u{1b}8",
        "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?1049l",
        "\u{1b}(0lqk\u{1b}(B",
    ] {
        assert_eq!(filtered(&[text.as_bytes()]), text);
    }
}

#[test]
fn what_would_answer_reach_out_or_stay_is_left_out() {
    for sequence in [
        "\u{1b}[c",                      // what terminal are you
        "\u{1b}[>0q",                    // which version
        "\u{1b}[6n",                     // where is the cursor
        "\u{1b}[21t",                    // what is the title
        "\u{1b}[8;1;1t",                 // be one character large
        "\u{1b}[5i",                     // print
        "\u{1b}[?1000h",                 // report the mouse
        "\u{1b}[?2004h",                 // bracket what is pasted
        "\u{1b}]0;title\u{7}",           // a title
        "\u{1b}]52;c;aGk=\u{1b}\\",      // the clipboard
        "\u{1b}]8;;http://evil\u{1b}\\", // a link
        "\u{1b}P$qm\u{1b}\\",            // a request for a status
        "\u{1b}_payload\u{1b}\\",        // an application's command
        "\u{1b}c",                       // a reset
        "\u{1b}Z",                       // who are you
        "\u{9b}6n",                      // the same in 8 bits
        "\u{9d}0;title\u{7}",
        "\u{5}", // answer back
    ] {
        let text = format!("a{sequence}b");
        assert_eq!(filtered(&[text.as_bytes()]), "ab", "{sequence:?}");
    }
    let endless = format!("\u{1b}[{}m!", "1;".repeat(1000));
    assert_eq!(filtered(&[endless.as_bytes()]), "!");
}

#[test]
fn it_does_not_matter_where_pieces_are_cut() {
    let text =
        "é\u{a0}\u{9b}31mx\u{1b}[31mred\u{1b}]0;t\u{1b}\\\u{1b}(0q\u{1b}[?25l\u{85}end".as_bytes();
    let whole = filtered(&[text]);
    for at in 0..=text.len() {
        assert_eq!(filtered(&[&text[..at], &text[at..]]), whole, "cut at {at}");
    }
    let single: Vec<&[u8]> = text.chunks(1).collect();
    assert_eq!(filtered(&single), whole);
}

#[test]
fn waiting_is_cut_short_and_nothing_else_moves() {
    let recording = recording(&[
        (100, What::Output(b"$ ".to_vec())),
        (60_000, What::Input(b"date\r".to_vec())),
        (60_050, What::Output(b"date\r\n".to_vec())),
    ]);
    let at: Vec<u128> = recording
        .without_idling(Duration::from_secs(2))
        .moments
        .iter()
        .map(|moment| moment.at.as_millis())
        .collect();
    assert_eq!(at, [100, 2_100, 2_150]);
}

#[test]
fn asciicast_has_a_header_and_a_line_a_moment() {
    let recording = recording(&[
        (0, What::Resize(100, 30)),
        (500, What::Output("é".as_bytes()[..1].to_vec())),
        (
            1_500,
            What::Output([&"é".as_bytes()[1..], b"\x1b[1m"].concat()),
        ),
        (2_000, What::Input(b"secret\r".to_vec())),
        (2_500, What::Missing(7)),
    ]);
    let parsed = |input| -> Vec<Value> {
        let lines = asciicast::lines(&recording, input);
        lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let lines = parsed(false);
    assert_eq!(lines[0]["version"], 2);
    assert_eq!(
        (&lines[0]["width"], &lines[0]["height"]),
        (&100.into(), &30.into())
    );
    assert_eq!(lines[0]["title"], "sh -c date");
    let rest = [
        serde_json::json!([0.0, "r", "100x30"]),
        serde_json::json!([1.5, "o", "é\u{1b}[1m"]),
        serde_json::json!([2.5, "m", "7 bytes are missing"]),
    ];
    assert_eq!(lines[1..], rest);
    assert!(parsed(true).contains(&serde_json::json!([2.0, "i", "secret\r"])));
}
