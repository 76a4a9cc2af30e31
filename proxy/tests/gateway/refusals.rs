//! What never reaches the API server: each refusal's answer, record and number.

use bytes::Bytes;
use hoop_proxy::Limits;
use hoop_proxy::mask::SENTINEL;
use hoop_schema::kinds::request::{AnsweredBy, AuthMethod, Cause, Effect, Ended, Intent};
use http_body_util::Full;

use crate::harness::{Answer, Bed, Setup, request};

/// Sends one request, and checks what every refusal has in common.
async fn refused(
    bed: &Bed,
    request: http::Request<Full<Bytes>>,
    code: u16,
    reason: &str,
    cause: Cause,
) -> (Answer, Intent) {
    let answer = bed.client().await.send(request).await;
    assert_eq!(answer.status, code, "{answer:?}");
    let status = answer.json();
    assert_eq!(status["kind"], "Status");
    assert_eq!(status["reason"], reason);
    assert_eq!(status["code"], code);
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert!(!answer.headers.contains_key("retry-after"));
    assert!(bed.cluster.seen().is_empty(), "nothing goes upstream");

    let (intent, outcome) = bed.only().await;
    assert_eq!(intent.decision.cause, cause);
    assert_ne!(intent.decision.effect, Effect::Allow);
    assert_eq!(answer.headers["audit-id"], intent.request.audit_id.as_str());
    assert_eq!(outcome.status, code);
    assert_eq!(outcome.answered_by, AnsweredBy::Gateway);
    assert_eq!(outcome.ended, Ended::Complete);
    assert_eq!(outcome.reason.as_deref(), Some(reason));
    assert_eq!(outcome.response_bytes, answer.body.len() as u64);
    bed.assert_metric(&format!(
        "hoop_gateway_requests_total{{effect=\"{}\",cause=\"{}\",verb_class=\"{}\"}} 1",
        intent.decision.effect.as_str(),
        cause.as_str(),
        verb_class(&intent),
    ));
    (answer, intent)
}

fn verb_class(intent: &Intent) -> &'static str {
    match (intent.request.verb.as_str(), &intent.request.object_ref) {
        (_, None) => "other",
        ("get" | "list", _) => "read",
        ("create" | "update" | "patch" | "delete", _) => "write",
        _ => "other",
    }
}

fn bare(method: &str, user: &str, target: &str) -> http::Request<Full<Bytes>> {
    request(method, user, target).body(Full::default()).unwrap()
}

#[tokio::test]
async fn nobody_is_told_to_log_in() {
    for (authorization, why) in [
        (None, "no client certificate and no bearer token was sent"),
        (Some("Bearer wrong"), "the bearer token is not known here"),
        (Some("Bearer token-late"), "the bearer token has expired"),
        (
            Some("Basic dTpw"),
            "the Authorization header is not \"Bearer TOKEN\"",
        ),
    ] {
        let bed = Bed::start().await;
        let mut request = request("GET", "", "/api/v1/pods");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let request = request.body(Full::default()).unwrap();
        let (answer, intent) =
            refused(&bed, request, 401, "Unauthorized", Cause::Unauthenticated).await;
        assert_eq!(
            answer.message(),
            format!("the gateway does not know who you are: {why}")
        );
        assert_eq!(intent.request.user, None);
        assert_eq!(intent.request.auth_method, AuthMethod::None);
        assert_eq!(intent.request.verb, "list");
        bed.assert_metric("hoop_gateway_authentication_failures_total 1");
        let written = bed.written().await;
        assert!(
            !written.contains("Bearer") || why.contains("Bearer"),
            "{written}"
        );
        assert!(!written.contains("token-late") && !written.contains("dTpw"));
    }
}

#[tokio::test]
async fn what_no_rule_allows_is_forbidden_in_the_words_of_the_api_server() {
    let bed = Bed::start().await;
    let request = bare("DELETE", "bob", "/api/v1/namespaces/shop/pods/web");
    let (answer, intent) = refused(&bed, request, 403, "Forbidden", Cause::NoMatch).await;
    assert_eq!(
        answer.message(),
        "pods \"web\" is forbidden: User \"bob\" cannot delete resource \"pods\" in API group \"\" in the namespace \"shop\": \
         no rule of the gateway's policy allows it"
    );
    assert_eq!(intent.request.user.as_ref().unwrap().username, "bob");
    assert_eq!(intent.request.source_ip, "127.0.0.1");
}

#[tokio::test]
async fn a_rule_that_denies_says_so() {
    let bed = Bed::start().await;
    let request = bare("GET", "alice", "/api/v1/nodes/n1");
    let (answer, intent) = refused(&bed, request, 403, "Forbidden", Cause::Rule).await;
    assert!(
        answer.message().ends_with("ask the platform team"),
        "{}",
        answer.message()
    );
    assert_eq!(intent.decision.rule.as_deref(), Some("no-nodes"));
    assert_eq!(intent.decision.profile.as_deref(), Some("developers"));
}

#[tokio::test]
async fn a_rule_that_wants_an_approval_holds() {
    let bed = Bed::start().await;
    let request = bare(
        "PATCH",
        "alice",
        "/apis/apps/v1/namespaces/shop/deployments/web/scale",
    );
    let (answer, intent) = refused(&bed, request, 403, "ApprovalRequired", Cause::Rule).await;
    let id = &intent.request.audit_id;
    assert!(answer.message().ends_with(id), "{}", answer.message());
    assert_eq!(answer.json()["details"]["uid"], id.as_str());
    assert_eq!(intent.decision.effect, Effect::Hold);
}

#[tokio::test]
async fn paths_that_could_be_read_in_two_ways_are_malformed() {
    for target in [
        "/api/v1/namespaces//pods",
        "/api/v1/namespaces/a/../b/pods",
        "/api/v1/pods/a%2Fb",
    ] {
        let bed = Bed::start().await;
        refused(
            &bed,
            bare("GET", "alice", target),
            400,
            "BadRequest",
            Cause::Malformed,
        )
        .await;
    }
    let bed = Bed::start().await;
    let request = bare("BREW", "alice", "/api/v1/pods");
    refused(&bed, request, 405, "MethodNotAllowed", Cause::Malformed).await;
}

#[tokio::test]
async fn upgrades_that_could_not_be_recorded_are_refused() {
    let exec = "/api/v1/namespaces/shop/pods/web/exec?command=sh";
    let forward = "/api/v1/namespaces/shop/pods/web/portforward";
    let needs = "exec, attach and port-forward need an HTTP/1.1 connection";
    let upgrade = |protocol| vec![("connection", "Upgrade"), ("upgrade", protocol)];
    for (method, target, headers, says) in [
        ("POST", exec, vec![], needs),
        ("GET", exec, vec![("upgrade", "websocket")], needs),
        ("GET", exec, vec![("connection", "Upgrade")], needs),
        ("GET", exec, upgrade("h2c"), needs),
        ("POST", exec, upgrade("SPDY/3.1, websocket"), needs),
        (
            "POST",
            exec,
            [upgrade("SPDY/3.1"), upgrade("websocket")].concat(),
            needs,
        ),
        ("POST", forward, vec![], needs),
        (
            "GET",
            "/api/v1/namespaces/shop/pods/web/portforward?ports=none",
            upgrade("websocket"),
            "the query parameter ports",
        ),
        (
            "GET",
            "/api/v1/pods?watch=true",
            upgrade("websocket"),
            "a WebSocket needs the header Sec-WebSocket-Version",
        ),
        (
            "GET",
            "/api/v1/pods",
            vec![("upgrade", "h2c")],
            "an upgraded connection is not served",
        ),
    ] {
        let bed = Bed::start().await;
        let mut request = request(method, "alice", target);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::default()).unwrap();
        let answer = bed.client().await.send(request).await;
        assert_eq!(answer.status, 403, "{target}");
        assert!(answer.message().starts_with(says), "{}", answer.message());
        let (intent, _) = bed.only().await;
        assert_eq!(intent.decision.cause, Cause::UpgradeRefused);
        assert!(bed.cluster.seen().is_empty());
    }
}

#[tokio::test]
async fn acting_as_somebody_else_is_refused_in_every_spelling() {
    for (name, value) in [
        ("Impersonate-User", "root"),
        ("impersonate-group", "system:masters"),
        ("IMPERSONATE-UID", "0"),
        ("Impersonate-Extra-acme.com%2fproject", "x"),
        ("Impersonate_User", "root"),
        ("Impersonate-Something-New", "x"),
    ] {
        let bed = Bed::start().await;
        let request = request("GET", "alice", "/api/v1/pods")
            .header(name, value)
            .body(Full::default())
            .unwrap();
        let (_, intent) =
            refused(&bed, request, 403, "Forbidden", Cause::ImpersonationRefused).await;
        assert_eq!(intent.claims[&name.to_ascii_lowercase()], value);
    }
}

#[tokio::test]
async fn too_much_is_too_large() {
    let limits = Limits {
        header_bytes_max: 8 * 1024,
        headers_max: 40,
        body_bytes_max: 1000,
        ..Limits::default()
    };
    let setup = || Setup {
        limits: limits.clone(),
        ..Setup::default()
    };

    let bed = setup().start().await;
    let big = request("GET", "alice", "/api/v1/pods")
        .header("x-big", "b".repeat(9000))
        .body(Full::default())
        .unwrap();
    refused(
        &bed,
        big,
        431,
        "RequestHeaderFieldsTooLarge",
        Cause::TooLarge,
    )
    .await;

    let bed = setup().start().await;
    let mut many = request("GET", "alice", "/api/v1/pods");
    for i in 0..120 {
        many = many.header(format!("x-{i}"), "1");
    }
    let many = many.body(Full::default()).unwrap();
    refused(
        &bed,
        many,
        431,
        "RequestHeaderFieldsTooLarge",
        Cause::TooLarge,
    )
    .await;

    let bed = setup().start().await;
    let body = Full::from("x".repeat(1001));
    let long = request("POST", "alice", "/api/v1/namespaces/shop/configmaps")
        .body(body)
        .unwrap();
    refused(&bed, long, 413, "RequestEntityTooLarge", Cause::TooLarge).await;
}

#[tokio::test]
async fn a_masked_value_that_comes_back_is_not_written() {
    let bed = Bed::start().await;
    let body = format!(
        r#"{{"kind":"Secret","apiVersion":"v1","stringData":{{"password":"{SENTINEL}"}}}}"#
    );
    let request = request(
        "PUT",
        "alice",
        "/api/v1/namespaces/shop/secrets/db-credentials",
    )
    .header("content-type", "application/json")
    .body(Full::from(body))
    .unwrap();
    let (answer, _) = refused(&bed, request, 422, "Invalid", Cause::MaskedWrite).await;
    assert!(
        answer
            .message()
            .starts_with("stringData.password holds a value that was masked")
    );
}

#[tokio::test]
async fn discovery_errors_are_plain_text_since_kubectl_shows_no_other() {
    let bed = Bed::start().await;
    let request = request("GET", "alice", "/apis")
        .header("impersonate-user", "root")
        .body(Full::default())
        .unwrap();
    let answer = bed.client().await.send(request).await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    assert!(
        answer
            .body
            .starts_with(b"user \"alice\" may not act as user \"root\"")
    );
}

#[tokio::test]
async fn a_refused_head_request_has_no_body_and_an_outcome() {
    let bed = Bed::start().await;
    let answer = bed
        .client()
        .await
        .send(bare("HEAD", "bob", "/api/v1/nodes"))
        .await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (403, 0));
    let (_, outcome) = bed.only().await;
    assert_eq!(
        (outcome.status, outcome.ended, outcome.response_bytes),
        (403, Ended::Complete, 0)
    );
}
