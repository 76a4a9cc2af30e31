//! Who asks: ID tokens of an issuer, service accounts, and those who are nobody.

use std::time::Duration;

use bytes::Bytes;
use hoop_proxy::Limits;
use hoop_proxy::sample_cluster::SampleCluster;
use hoop_schema::kinds::request::{AuthMethod, Cause};
use http::Request;
use http_body_util::Full;
use serde_json::json;

use crate::authority::Authority;
use crate::harness::{Answer, Bed, Setup, eventually, kubeconfig};
use crate::issuer::{SigningKey, TestIssuer};

const PODS: &str = "/api/v1/namespaces/shop/pods";

const MAPPINGS: &str = "    claimMappings:
      username: {claim: sub, prefix: ''}
      groups: {expression: 'claims.?groups.orValue([])'}
      extra: [{key: example.com/tenant, valueExpression: claims.?tenant.orValue('')}]
    userValidationRules:
      - {expression: \"user.username != 'mallory'\", message: mallory may not come in}
";

async fn behind(issuer: &TestIssuer) -> Bed {
    let authentication = issuer.configuration(MAPPINGS);
    Setup {
        authentication,
        ..Setup::default()
    }
    .start()
    .await
}

async fn get(bed: &Bed, token: &str) -> Answer {
    let request = Request::get(PODS)
        .header("host", "gateway")
        .header("authorization", format!("Bearer {token}"))
        .body(Full::default())
        .unwrap();
    bed.client().await.send(request).await
}

#[tokio::test]
async fn an_id_token_names_its_user_and_the_record_names_its_login_and_its_actors() {
    let key = SigningKey::new("RS256", Some("k1"));
    let issuer = TestIssuer::start().await;
    issuer.publish(&[&key]);
    let bed = behind(&issuer).await;
    let token = key.sign(&issuer.claims(json!({
        "groups": ["dev"], "sid": "login-1", "azp": "build-agent", "act": {"sub": "agent-7"}, "tenant": "blue",
    })));
    assert_eq!(get(&bed, &token).await.status, 200);
    let seen = bed.cluster.seen().pop().unwrap();
    assert_eq!(seen.user.as_deref(), Some("alice"));
    let (intent, _) = bed.only().await;
    let request = &intent.request;
    let user = request.user.as_ref().unwrap();
    assert_eq!(
        (user.username.as_str(), &user.groups[..]),
        ("alice", &["dev".to_owned()][..])
    );
    assert_eq!(user.extra["example.com/tenant"], ["blue"]);
    assert_eq!(request.auth_method, AuthMethod::Oidc);
    assert_eq!(request.login.as_deref(), Some("login-1"));
    assert_eq!(request.client_id.as_deref(), Some("build-agent"));
    assert_eq!(request.actors, ["agent-7"]);
    assert!(!bed.written().await.contains(&token));

    // From then on it is known by its hash.
    assert_eq!(get(&bed, &token).await.status, 200);
    bed.assert_metric("hoop_gateway_tokens_verified_total{accepted=\"true\"} 1");
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn who_acts_for_a_person_may_less_and_the_record_names_both() {
    let key = SigningKey::new("RS256", Some("k1"));
    let issuer = TestIssuer::start().await;
    issuer.publish(&[&key]);
    for (act, status, rule) in [
        (
            json!({"sub": "agent-7", "act": {"sub": "agent-1"}}),
            200,
            Some("look"),
        ),
        // The one that sends the request counts, not the one before it.
        (json!({"sub": "tool", "act": {"sub": "agent-7"}}), 403, None),
    ] {
        let bed = behind(&issuer).await;
        let token = key.sign(&issuer.claims(json!({"act": act, "azp": "agent-platform"})));
        assert_eq!(get(&bed, &token).await.status, status);
        let (intent, _) = bed.only().await;
        assert_eq!(intent.decision.rule.as_deref(), rule);
        assert_eq!(intent.request.user.as_ref().unwrap().username, "alice");
        assert_eq!(intent.request.actors[0], act["sub"]);
        assert_eq!(intent.request.client_id.as_deref(), Some("agent-platform"));
    }
}

#[tokio::test]
async fn a_token_that_is_refused_is_recorded_with_the_reason() {
    let key = SigningKey::new("ES256", Some("k1"));
    let issuer = TestIssuer::start().await;
    issuer.publish(&[&key]);
    for (claims, why) in [
        (json!({"exp": 1_000_000}), "expired"),
        (json!({"aud": "another"}), "none of its audiences"),
        (json!({"sub": "mallory"}), "mallory may not come in"),
        (json!({"groups": ["system:masters"]}), "\"system:\""),
        (json!({"iss": "https://elsewhere"}), "not known here"),
    ] {
        let bed = behind(&issuer).await;
        let token = key.sign(&issuer.claims(claims));
        let answer = get(&bed, &token).await;
        assert_eq!(answer.status, 401, "{why}");
        assert!(answer.message().contains(why), "{}", answer.message());
        let (intent, _) = bed.only().await;
        assert_eq!(intent.decision.cause, Cause::Unauthenticated);
        assert!(intent.decision.message.contains(why));
        assert!(intent.request.user.is_none());
        let signature = token.rsplit('.').next().unwrap();
        assert!(!bed.written().await.contains(signature));
    }
}

#[tokio::test]
async fn an_issuer_that_is_down_at_the_start_is_used_when_it_is_up() {
    let key = SigningKey::new("ES256", Some("k1"));
    let issuer = TestIssuer::start().await;
    issuer.publish(&[&key]);
    issuer.set_down(true);
    let bed = Setup {
        authentication: issuer.configuration(MAPPINGS),
        limits: Limits {
            issuer_retry_interval: Duration::from_millis(50),
            issuer_fetch_pause: Duration::from_millis(20),
            failures_at_once: 10_000,
            ..Limits::default()
        },
        ..Setup::default()
    }
    .start()
    .await;
    let token = key.sign(&issuer.claims(json!({})));
    let answer = get(&bed, &token).await;
    assert_eq!(answer.status, 401);
    assert!(
        answer.message().contains("cannot be reached"),
        "{}",
        answer.message()
    );
    // Others are not kept from working.
    assert_eq!(get(&bed, "token-alice").await.status, 200);
    issuer.call_itself("https://elsewhere");
    issuer.set_down(false);
    eventually("another reason", async || {
        let answer = get(&bed, &token).await;
        answer
            .message()
            .contains("not the configured one")
            .then_some(())
    })
    .await;
    issuer.call_itself(&issuer.url);
    eventually("a user", async || {
        (get(&bed, &token).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_browser_sends_its_token_as_a_websocket_protocol() {
    let bed = Bed::start().await;
    let upgrade = |protocol: &str| {
        Request::get("/api/v1/namespaces/shop/pods?watch=1")
            .header("host", "gateway")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", protocol)
            .body(Full::<Bytes>::default())
            .unwrap()
    };
    // "token-alice"
    let token = "base64url.bearer.authorization.k8s.io.dG9rZW4tYWxpY2U";
    let answer = bed
        .client()
        .await
        .send(upgrade(&format!("{token}, x")))
        .await;
    assert_ne!(answer.status, 401);
    let intent = bed.intents().await.remove(0);
    assert_eq!(intent.request.user.as_ref().unwrap().username, "alice");
    assert!(!bed.written().await.contains("dG9rZW4tYWxpY2U"));
    let answer = bed.client().await.send(upgrade(token)).await;
    assert_eq!(answer.status, 401);
    assert!(
        answer
            .message()
            .contains("needs another subprotocol beside it"),
        "{}",
        answer.message()
    );
}

#[tokio::test]
async fn service_accounts_are_known_by_the_api_servers_review() {
    let cluster = SampleCluster::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, cluster.kubeconfig().unwrap()).unwrap();
    let start = async |review_service_accounts| {
        Setup {
            upstream: Some(kubeconfig(&path)),
            review_service_accounts,
            ..Setup::default()
        }
        .start()
        .await
    };
    let account = "system:serviceaccount:shop:robot";
    let groups = ["system:serviceaccounts", "system:serviceaccounts:shop"];
    let token = cluster.token(account, &groups);

    let bed = start(false).await;
    assert_eq!(get(&bed, &token).await.status, 401);

    let bed = start(true).await;
    // No rule knows it: it is forbidden, but not unknown.
    for _ in 0..3 {
        assert_eq!(get(&bed, &token).await.status, 403);
    }
    let intent = bed.intents().await.remove(0);
    let user = intent.request.user.as_ref().unwrap();
    assert_eq!(user.username, account);
    assert_eq!(user.groups, groups);
    assert_eq!(intent.request.auth_method, AuthMethod::TokenReview);
    bed.assert_metric("hoop_gateway_token_reviews_total{accepted=\"true\"} 1");

    // The gateway's own kind of credential does not come in this way.
    let admin = cluster.token("kubernetes-admin", &["system:masters"]);
    let answer = get(&bed, &admin).await;
    assert_eq!(answer.status, 401);
    assert!(
        answer.message().contains("not that of a service account"),
        "{}",
        answer.message()
    );
    // Static tokens go first.
    assert_eq!(get(&bed, "token-alice").await.status, 200);
}

#[tokio::test]
async fn an_address_that_fails_too_often_waits_and_those_who_are_known_do_not() {
    let bed = Setup {
        limits: Limits {
            failures_at_once: 3,
            failure_interval: Duration::from_secs(2),
            ..Limits::default()
        },
        ..Setup::default()
    }
    .start()
    .await;
    for _ in 0..3 {
        assert_eq!(get(&bed, "wrong").await.status, 401);
    }
    for _ in 0..5 {
        let answer = get(&bed, "wrong").await;
        assert_eq!(answer.status, 429);
        assert_eq!(answer.json()["reason"], "TooManyRequests");
        assert_eq!(answer.headers["retry-after"], "2");
    }
    assert_eq!(get(&bed, "token-alice").await.status, 200);
    bed.assert_metric("hoop_gateway_authentication_limited_total 5");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let answer = get(&bed, "wrong").await;
    assert_eq!(answer.status, 401);
    assert!(
        answer
            .message()
            .ends_with("5 more of this address were refused since the last record")
    );
    let refused = bed.intents().await;
    let refused = refused
        .iter()
        .filter(|intent| intent.decision.cause == Cause::Unauthenticated);
    assert_eq!(refused.count(), 4);
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_as_soon_as_the_list_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("revoked.pem");
    let ca = Authority::new();
    std::fs::write(&file, ca.revoke(&[6])).unwrap();
    let bed = Setup {
        client_revocations: Some(file.clone()),
        ca: Some(ca),
        limits: Limits {
            revocations_interval: Duration::from_millis(20),
            failures_at_once: 10_000,
            ..Limits::default()
        },
        ..Setup::default()
    }
    .start()
    .await;
    let get = async || {
        let certificate = bed.ca.client("carol", "certified", false);
        bed.client_as(Some(certificate)).await.get("", PODS).await
    };
    assert_eq!(get().await.status, 200);
    std::fs::write(&file, bed.ca.revoke(&[6, 7])).unwrap();
    let refused = eventually("a refusal", async || {
        let answer = get().await;
        (answer.status == 401).then_some(answer)
    })
    .await;
    assert!(
        refused.message().contains("is revoked"),
        "{}",
        refused.message()
    );
    // What is no list changes nothing.
    std::fs::write(
        &file,
        "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    )
    .unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(get().await.status, 401);
    std::fs::write(&file, "").unwrap();
    eventually("a pardon", async || {
        (get().await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_use_of_a_credential_for_emergencies_is_marked() {
    let bed = Bed::start().await;
    get(&bed, "token-glass").await;
    get(&bed, "token-alice").await;
    let marks: Vec<_> = bed
        .intents()
        .await
        .iter()
        .map(|intent| intent.request.break_glass)
        .collect();
    assert_eq!(marks, [true, false]);
    bed.assert_metric("hoop_gateway_break_glass_requests_total 1");
}
