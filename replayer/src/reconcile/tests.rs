use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::sighting::Sighting;
use super::*;

/// The items in another order, the same for each seed.
fn shuffled<T: Clone>(items: &[T], mut seed: u64) -> Vec<T> {
    let mut items = items.to_vec();
    for i in (1..items.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        items.swap(i, (seed >> 33) as usize % (i + 1));
    }
    items
}

const START: &str = "2026-11-22T10:00:00.000000Z";
const END: &str = "2026-11-22T12:00:00.000000Z";

fn time(minute: u32) -> Timestamp {
    format!("2026-11-22T11:{minute:02}:00.000000Z")
        .parse()
        .unwrap()
}

/// One stage of a GET of a pod in the API server's log.
fn line(id: &str, user: &str, acting: Option<&str>, minute: u32) -> Value {
    let mut event = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": id,
        "stage": "ResponseComplete", "requestURI": "/api/v1/namespaces/shop/pods/web?x=y", "verb": "get",
        "user": {"username": user, "groups": ["system:authenticated"]}, "sourceIPs": ["10.0.0.7"],
        "objectRef": {"resource": "pods", "namespace": "shop", "name": "web", "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 200},
        "requestReceivedTimestamp": time(minute), "stageTimestamp": time(minute),
        "annotations": {"authorization.k8s.io/decision": "allow"},
    });
    if let Some(acting) = acting {
        event["impersonatedUser"] = json!({"username": acting});
    }
    event
}

/// The first stage of the same request, which knows less.
fn begun(line: &Value) -> Value {
    let mut line = line.clone();
    let fields = line.as_object_mut().unwrap();
    fields.remove("responseStatus");
    fields.remove("impersonatedUser");
    fields["stage"] = json!("RequestReceived");
    line
}

/// What the record has of a GET of a pod.
fn recorded(id: &str, user: &str, sent: Sent, minute: u32) -> Sighting {
    Sighting {
        id: id.into(),
        side: Side::Record,
        user: user.into(),
        at: time(minute),
        verb: "get".into(),
        what: "pods".into(),
        namespace: "shop".into(),
        code: 0,
        acting: String::new(),
        name: "web".into(),
        sent,
    }
}

fn text(lines: &[Value]) -> Vec<u8> {
    let lines = lines.iter().map(|line| format!("{line}\n"));
    lines.collect::<String>().into_bytes()
}

fn compared(record: &[Sighting], log: &[Value], memory: usize, users: &[&str]) -> Report {
    let mut sorter = Sorter::new(memory);
    let mut report = Report::default();
    let mut all = log.to_vec();
    // What bounds the time of the log: a health check before, one after.
    for at in [START, END] {
        let mut health = line(at, "system:anonymous", None, 0);
        health["requestURI"] = json!("/livez?verbose");
        health.as_object_mut().unwrap().remove("objectRef");
        health["requestReceivedTimestamp"] = json!(at);
        all.push(health);
    }
    let push = |sighting| sorter.push(sighting);
    let lines = Cursor::new(text(&all));
    report.log.read(lines, push, |_| {}).unwrap();
    for sighting in record {
        sorter.push(sighting.clone()).unwrap();
    }
    report.record.first = Some(START.parse().unwrap());
    let expected = Expected {
        users: users.iter().map(|user| (*user).to_owned()).collect(),
        gateway_users: Vec::new(),
    };
    compare(&mut sorter, &expected, &mut report).unwrap();
    report
}

/// Twenty requests of Alice through the gateway, complete on both sides.
fn both() -> (Vec<Sighting>, Vec<Value>) {
    let (mut record, mut log) = (Vec::new(), Vec::new());
    for number in 0..20 {
        let id = format!("id-{number:02}");
        record.push(recorded(&id, "alice", Sent::Perhaps, number));
        record.push(recorded(&id, "alice", Sent::Yes, number));
        let seen = line(&id, "gateway", Some("alice"), number);
        log.extend([begun(&seen), seen]);
    }
    (record, log)
}

#[test]
fn requests_of_both_sides_are_joined_whatever_their_order_and_the_memory() {
    let (record, log) = both();
    let whole = compared(&record, &log, sorter::MEMORY_BYTES, &[]);
    assert_eq!(
        (whole.joined, whole.join_rate, whole.coverage),
        (20, Some(1.0), Some(1.0))
    );
    assert_eq!(whole.gateway_users, ["gateway"]);
    assert!(whole.is_complete() && !whole.is_contradicted());
    assert_eq!(whole.expected["system:anonymous"], 2);
    for seed in 0..20 {
        // One in three sightings ends a run on disk.
        let memory = 3 * recorded("", "", Sent::No, 0).bytes();
        let (record, log) = (shuffled(&record, seed), shuffled(&log, seed + 100));
        assert_eq!(compared(&record, &log, memory, &[]), whole, "{seed}");
    }
}

#[test]
fn what_the_gateway_never_saw_bypassed_it() {
    let (record, mut log) = both();
    for (id, user, code) in [("a", "eve", 200), ("b", "eve", 403), ("c", "", 401)] {
        let mut seen = line(id, user, None, 30);
        seen["responseStatus"]["code"] = json!(code);
        log.extend([begun(&seen), seen]);
    }
    let report = compared(&record, &log, sorter::MEMORY_BYTES, &[]);
    assert_eq!((report.joined, report.bypassed.requests), (20, 3));
    let groups = report.bypassed.groups();
    let (key, group) = groups[0];
    assert_eq!(
        (key.user.as_str(), group.requests, group.refused),
        ("eve", 2, 1)
    );
    assert_eq!(groups[1].0.user, "");
    assert!(!report.is_complete() && !report.is_contradicted());
    let expected = compared(&record, &log, sorter::MEMORY_BYTES, &["e*e", ""]);
    assert!(expected.is_complete());
    assert_eq!(expected.expected["eve"], 2);
}

#[test]
fn the_gateways_credential_without_a_record_is_not_the_gateway_at_work() {
    let (record, mut log) = both();
    log.push(line("stolen", "gateway", Some("alice"), 30));
    let mut own = line("own", "gateway", None, 30);
    own["verb"] = json!("create");
    own["objectRef"] =
        json!({"resource": "selfsubjectaccessreviews", "apiGroup": "authorization.k8s.io"});
    log.push(own.clone());
    // The same question in somebody's name is that person's.
    own["auditID"] = json!("asked for alice");
    own["impersonatedUser"] = json!({"username": "alice"});
    log.push(own);
    let report = compared(&record, &log, sorter::MEMORY_BYTES, &["*"]);
    assert_eq!((report.own, report.unrecorded.requests), (1, 2));
    assert!(!report.is_complete());
}

#[test]
fn a_borrowed_id_does_not_hide_a_request() {
    let (record, log) = both();
    let contradictions = [
        line("id-03", "eve", None, 3),
        line("id-03", "gateway", Some("mallory"), 4),
        {
            let mut other = line("id-03", "gateway", Some("alice"), 3);
            other["verb"] = json!("delete");
            other
        },
    ];
    for contradiction in contradictions {
        let all = [log.clone(), vec![contradiction]].concat();
        let report = compared(&record, &all, sorter::MEMORY_BYTES, &["eve"]);
        assert_eq!((report.joined, report.contradicted.requests), (20, 1));
        assert!(report.is_contradicted());
    }
}

#[test]
fn a_denied_request_that_arrived_contradicts_the_record() {
    let (mut record, mut log) = both();
    record.push(recorded("denied", "bob", Sent::No, 40));
    let quiet = compared(&record, &log, sorter::MEMORY_BYTES, &[]);
    assert!(quiet.is_complete() && !quiet.is_contradicted());
    log.push(line("denied", "gateway", Some("bob"), 40));
    assert!(compared(&record, &log, sorter::MEMORY_BYTES, &[]).is_contradicted());
}

#[test]
fn what_never_arrived_is_missing_only_where_it_is_known_to_have_been_answered() {
    let (mut record, log) = both();
    record.push(recorded("answered", "bob", Sent::Yes, 40));
    record.push(recorded("let through", "bob", Sent::Perhaps, 41));
    let mut later = recorded("later", "bob", Sent::Yes, 0);
    later.at = "2026-11-23T00:00:00.000000Z".parse().unwrap();
    record.push(later);
    let report = compared(&record, &log, sorter::MEMORY_BYTES, &[]);
    assert_eq!(
        (
            report.missing.requests,
            report.perhaps,
            report.record_outside
        ),
        (1, 1, 1)
    );
    assert_eq!(report.missing.groups()[0].1.audit_id, "answered");
    assert_eq!(report.join_rate, Some(20.0 / 21.0));
}

#[test]
fn what_came_before_the_record_begins_did_not_bypass_it() {
    let (record, mut log) = both();
    let mut before = line("before", "eve", None, 0);
    before["requestReceivedTimestamp"] = json!("2026-11-22T09:00:00.000000Z");
    log.push(before);
    let report = compared(&record, &log, sorter::MEMORY_BYTES, &[]);
    assert_eq!((report.log_outside, report.bypassed.requests), (1, 0));
    assert!(report.is_complete());
}

#[test]
fn rotated_and_compressed_files_of_a_folder_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let gzip = |text: &[u8]| {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(text).unwrap();
        packed.finish().unwrap()
    };
    let put = |name: &str, bytes: Vec<u8>| std::fs::write(folder.path().join(name), bytes).unwrap();
    put("audit.log", text(&[line("a", "x", None, 1)]));
    put("audit-1.log.gz", gzip(&text(&[line("b", "x", None, 2)])));
    // Two packed files, one after the other, are one packed file.
    let (c, d) = (
        text(&[line("c", "x", None, 3)]),
        text(&[line("d", "x", None, 4)]),
    );
    put("audit-2.log.gz", [gzip(&c), gzip(&d)].concat());
    put("audit-3.log", Vec::new());
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    let (mut read, mut ids) = (log::LogRead::default(), Vec::new());
    for file in log::files(folder.path()).unwrap() {
        let take = |sighting: Sighting| {
            ids.push(sighting.id);
            Ok(())
        };
        let lines = std::fs::File::open(&file).unwrap();
        read.read(lines, take, |_| {}).unwrap();
    }
    ids.sort_unstable();
    assert_eq!(ids, ["a", "b", "c", "d"]);
    assert_eq!((read.files, read.lines, read.lines_unreadable), (4, 4, 0));
    assert_eq!((read.first, read.last), (Some(time(1)), Some(time(4))));
}

#[test]
fn lines_that_are_no_events_are_counted() {
    let torn = text(&[line("b", "x", None, 2)]);
    let all = [
        text(&[line("a", "x", None, 1)]),
        b"\n{\"kind\":\"Pod\"}\nnot JSON\n\xff\xfe\n".to_vec(),
        torn[..torn.len() / 2].to_vec(),
    ]
    .concat();
    let (mut read, mut count) = (log::LogRead::default(), 0);
    let take = |_: Sighting| {
        count += 1;
        Ok(())
    };
    read.read(Cursor::new(all), take, |_| {}).unwrap();
    assert_eq!((count, read.lines, read.lines_unreadable), (1, 5, 4));
    let report = Report {
        log: read,
        ..Report::default()
    };
    assert!(!report.is_complete());
}

#[test]
fn a_line_without_an_end_takes_no_more_memory_than_a_line_may() {
    let endless = std::io::Read::take(std::io::repeat(b'x'), feed::LINE_BYTES_MAX as u64 * 2);
    let rest = Cursor::new([b"\n".to_vec(), text(&[line("a", "x", None, 1)])].concat());
    let (mut read, mut count) = (log::LogRead::default(), 0);
    let lines = std::io::Read::chain(endless, rest);
    let take = |_: Sighting| {
        count += 1;
        Ok(())
    };
    read.read(lines, take, |_| {}).unwrap();
    assert_eq!((count, read.lines, read.lines_unreadable), (1, 2, 1));
}

#[test]
fn patterns_of_users() {
    for (pattern, user, expected) in [
        ("system:node:*", "system:node:a", true),
        ("system:node:*", "system:nodes", false),
        ("*", "", true),
        ("", "", true),
        ("", "a", false),
        ("a*a", "a", false),
        ("a*a", "aa", true),
        ("*:ci:*", "system:serviceaccount:ci:robot", true),
        ("alice", "alice2", false),
    ] {
        assert_eq!(matches(pattern, user), expected, "{pattern} {user}");
    }
}

#[test]
fn more_groups_than_there_is_room_for_are_counted() {
    let mut findings = Findings::default();
    for number in 0..groups::GROUPS_MAX + 5 {
        let user = format!("user-{number}");
        findings.add(&recorded("id", &user, Sent::Yes, 0));
    }
    assert_eq!(findings.groups().len(), groups::GROUPS_MAX);
    assert_eq!(findings.ungrouped, 5);
    assert_eq!(findings.requests, groups::GROUPS_MAX as u64 + 5);
}
