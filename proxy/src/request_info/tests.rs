//! The table of the API server's behaviour, and what the gateway makes of it.

use super::*;

const TABLE: &str = include_str!("tests/table.tsv");

/// The API server's view of a request, in the words of the table.
fn upstream_says(method: &str, target: &str) -> String {
    // A URL in absolute form is its path to the API server.
    let target = target.strip_prefix("http://evil").unwrap_or(target);
    let (raw_path, raw_query) = target.split_once('?').unwrap_or((target, ""));
    let Some(path) = upstream::decode_path(raw_path) else {
        return "error".to_owned();
    };
    let query = Query::parse(raw_query).0;
    let Some(attributes) = upstream::attributes(method, &path, &query) else {
        return "error".to_owned();
    };
    if !attributes.is_resource {
        return format!("nonresource {}", attributes.verb);
    }
    let or = |text: &str, empty: &str| {
        if text.is_empty() {
            empty.to_owned()
        } else {
            text.to_owned()
        }
    };
    let object = &attributes.object;
    let resource = match object.subresource.as_str() {
        "" => or(&object.resource, "\"\""),
        sub => format!("{}/{sub}", or(&object.resource, "\"\"")),
    };
    format!(
        "{} {} {} {resource} {}",
        or(&attributes.verb, "\"\""),
        or(&object.api_group, "core"),
        or(&object.namespace, "-"),
        or(&object.name, "-"),
    )
}

fn info(method: &str, target: &str) -> RequestInfo {
    parse(method, target).unwrap_or_else(|error| panic!("{method} {target}: {error}"))
}

#[test]
fn every_row_is_read_as_the_api_server_reads_it_and_the_doubtful_are_refused() {
    let mut rows = std::collections::BTreeSet::new();
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [row, method, target, expected, gateway] = fields[..] else {
            panic!("a row has five fields: {line}");
        };
        rows.insert(row);
        let (expected, selector) = expected
            .split_once(" fs=")
            .map_or((expected, None), |(e, s)| (e, Some(s)));
        assert_eq!(
            upstream_says(method, target),
            expected,
            "row {row}: {method} {target}"
        );
        match parse(method, target) {
            Err(error) => assert_eq!(
                format!("{error:?}"),
                gateway,
                "row {row}: {method} {target}"
            ),
            Ok(info) => {
                assert_eq!(gateway, "ok", "row {row}: {method} {target}");
                assert!(!info.verb.is_empty() && info.is_resource == info.object.is_some());
                if let Some(selector) = selector {
                    assert_eq!(info.field_selector, selector, "row {row}");
                }
            }
        }
    }
    assert_eq!(rows.len(), 100);
}

#[test]
fn doubtful_paths_are_refused_wherever_they_mean_something() {
    for (target, why) in [
        ("", Malformed::NotAPath),
        ("*", Malformed::NotAPath),
        ("api/v1/pods", Malformed::NotAPath),
        ("/api/v1/pods#x", Malformed::NotAPath),
        ("https:/api/v1/pods", Malformed::NotAPath),
        ("/api/v1/pods//", Malformed::EmptySegment),
        ("/healthz//", Malformed::EmptySegment),
        ("/healthz/../api/v1/secrets", Malformed::DotSegment),
        ("/api/v1/namespaces/%2e%2e/secrets", Malformed::DotSegment),
        ("/api/v1/namespaces/ns1/pods/p%00", Malformed::BadCharacter),
        ("/api/v1/namespaces/ns1/pods/p%0Ax", Malformed::BadCharacter),
        ("/api/v1/namespaces/ns1/pods/p%7f", Malformed::BadCharacter),
        ("/api/v1/namespaces/ns1\\secrets", Malformed::BadCharacter),
        ("/api/v1/namespaces/ns1/pods/p%ff", Malformed::BadEncoding),
        ("/api/v1/namespaces/ns1/pods/p%", Malformed::BadEncoding),
        ("/api/v1/pods?watch=%zz", Malformed::BadQuery),
        (
            "/api/v1/pods?fieldSelector=metadata.name%3D%ff",
            Malformed::BadQuery,
        ),
        (
            "/api/v1/namespaces/ns1/pods%2Fp1/proxy/x",
            Malformed::BadCharacter,
        ),
        (
            "/api/v1/namespaces/ns1/pods/p1%2Fproxy/x",
            Malformed::BadCharacter,
        ),
    ] {
        assert_eq!(parse("GET", target), Err(why), "{target}");
    }
    for method in ["CONNECT", "TRACE", "PROPFIND", "Get", ""] {
        let error = parse(method, "/healthz").expect_err(method);
        assert_eq!((error.status(), error.reason()), (405, "MethodNotAllowed"));
    }
}

#[test]
fn tail_of_a_proxy_path_may_hold_anything() {
    for tail in [
        "",
        "/",
        "/a//b",
        "/../x",
        "/%2F%00",
        "/a;b?x=1;y=%zz",
        "/%ff",
    ] {
        let target = format!("/api/v1/namespaces/ns1/services/web/proxy{tail}");
        let info = info("GET", &target);
        assert!(
            info.is_proxy_subresource() && info.is_long_running(),
            "{target}"
        );
        assert_eq!(info.name(), "web");
    }
    assert!(info("GET", "/api/v1/nodes/n1/proxy/run/x").is_proxy_subresource());
    assert!(!info("GET", "/apis/example.com/v1/namespaces/a/pods/p/proxy").is_proxy_subresource());
}

#[test]
fn trailing_slash_is_served() {
    let plain = info("GET", "/api/v1/namespaces/ns1/pods/p1/log?follow");
    let slashed = info("GET", "/api/v1/namespaces/ns1/pods/p1/log/?follow");
    assert_eq!(plain.object, slashed.object);
    assert!(plain.is_log_follow() && slashed.is_log_follow() && slashed.is_long_running());
}

#[test]
fn kinds_of_request_are_told_apart() {
    assert!(info("GET", "/api/v1/pods?watch").is_watch());
    assert!(!info("GET", "/api/v1/namespaces/a/pods/p?watch").is_watch());
    for method in ["GET", "POST"] {
        for sub in ["exec", "attach", "portforward"] {
            assert!(info(method, &format!("/api/v1/namespaces/a/pods/p/{sub}")).is_exec_like());
        }
    }
    assert!(!info("GET", "/apis/x.io/v1/namespaces/a/pods/p/exec").is_exec_like());
    for target in [
        "/api",
        "/apis/",
        "/api/v1",
        "/apis/apps",
        "/apis/apps/v1",
        "/openapi/v2",
        "/version",
    ] {
        assert!(info("GET", target).is_discovery(), "{target}");
        assert!(!info("POST", target).is_discovery(), "{target}");
    }
    for target in [
        "/",
        "/apisx",
        "/versions",
        "/version/x",
        "/metrics",
        "/api/v1/pods",
    ] {
        assert!(!info("GET", target).is_discovery(), "{target}");
    }
    assert!(info("GET", "/livez/etcd").is_health() && !info("GET", "/livezz").is_health());
    assert!(info("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews").is_self_review());
    assert!(info("POST", "/api/v1/namespaces?dryRun=All").is_dry_run());
}

#[test]
fn query_is_read_as_go_reads_it() {
    let (query, is_clear) = Query::parse("command=sh&command=-c&command=echo+a%26b&tty&x=a=b&&");
    assert!(is_clear);
    assert_eq!(
        query.all("command").collect::<Vec<_>>(),
        ["sh", "-c", "echo a&b"]
    );
    assert_eq!(
        (query.first("x"), query.first("tty"), query.first("y")),
        (Some("a=b"), Some(""), None)
    );
    assert!(query.flag("tty") && !query.flag("y"));
    assert_eq!(query.pairs().len(), 5);
}

#[test]
fn escapes_in_field_selectors_are_decoded() {
    let named = |selector: &str| {
        let encoded =
            percent_encoding::utf8_percent_encode(selector, percent_encoding::NON_ALPHANUMERIC);
        let info = info("GET", &format!("/api/v1/pods?fieldSelector={encoded}"));
        info.name().to_owned()
    };
    assert_eq!(named(r"metadata.name=a\,b"), "a,b");
    assert_eq!(
        named(r"metadata.name=a\x"),
        "",
        "an escape that is none spoils the selector"
    );
    assert_eq!(named("metadata.name=a=b"), "");
    assert_eq!(named(",metadata.name=a,"), "a");
    assert_eq!(named("spec.nodeName=n,metadata.name==a"), "a");
    assert_eq!(named("metadata.name="), "");
}
