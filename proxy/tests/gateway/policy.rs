//! Conditions, acting as somebody else, and "may I?", through the whole gateway.

use hoop_proxy::PolicySource;
use hoop_schema::kinds::request::{Cause, Effect};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use crate::harness::{Answer, Bed, Fake, Setup, request, whole};

const POLICY: &str = r#"
profiles:
  - name: developers
    subjects: {users: [alice]}
    rules:
      - name: unsafe
        effect: deny
        apiGroups: [""]
        resources: [pods]
        verbs: [create]
        when: "containers.exists(c, c.?securityContext.?privileged.orValue(false))"
        message: no privileged pods
      - {name: no-nodes, effect: deny, apiGroups: [""], resources: [nodes], verbs: ["*"]}
      - {name: work, effect: allow, apiGroups: ["*"], resources: ["*"], verbs: ["*"]}
      - name: as-jane
        effect: allow
        impersonate: {users: [jane], groups: [staff], serviceAccounts: ["shop:web"]}
  - name: pinned
    subjects: {users: [bob]}
    actAs: {serviceAccount: "shop:viewer"}
    rules:
      - {name: look, effect: allow, apiGroups: [""], resources: [pods], verbs: [get, list]}
"#;

const SELF: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const MAY_I: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const RULES: &str = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
const ORIGINAL: &str = "gateway.hoop/original-user";

fn setup() -> Setup {
    Setup {
        policy: PolicySource::Text(POLICY.to_owned()),
        ..Setup::default()
    }
}

async fn post(
    bed: &Bed,
    user: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Answer {
    let mut request = request("POST", user, target).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Full::new(body.to_string().into());
    bed.client().await.send(request.body(body).unwrap()).await
}

fn review(kind: &str, spec: Value) -> Value {
    json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec})
}

#[tokio::test]
async fn a_condition_looks_into_the_body_that_then_goes_upstream() {
    let bed = setup().start().await;
    let pod = |name: &str, privileged: bool| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [
            {"name": "a", "image": "a", "securityContext": {"privileged": privileged}}
        ]}})
    };
    let target = "/api/v1/namespaces/shop/pods";
    let answer = post(&bed, "alice", target, &[], &pod("bad", true)).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(
        answer.message().ends_with("no privileged pods"),
        "{}",
        answer.message()
    );
    assert!(bed.cluster.seen().is_empty(), "nothing goes upstream");
    let (intent, _) = bed.only().await;
    assert_eq!(intent.decision.rule.as_deref(), Some("unsafe"));

    let answer = post(&bed, "alice", target, &[], &pod("good", false)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.json()["metadata"]["name"], "good");
}

#[tokio::test]
async fn an_allowed_impersonation_goes_upstream_as_the_target_and_names_the_person() {
    let bed = setup().start().await;
    let headers = [("Impersonate-User", "jane"), ("impersonate-group", "staff")];
    let answer = post(
        &bed,
        "alice",
        SELF,
        &headers,
        &review("SelfSubjectReview", json!({})),
    )
    .await;
    let info = &answer.json()["status"]["userInfo"];
    assert_eq!(info["username"], "jane", "{answer:?}");
    assert_eq!(info["groups"], json!(["staff", "system:authenticated"]));
    assert_eq!(info["extra"], json!({ORIGINAL: ["alice"]}));
    let (intent, outcome) = bed.only().await;
    assert_eq!(intent.request.user.as_ref().unwrap().username, "alice");
    let impersonated = outcome.request.impersonated.as_ref().unwrap();
    assert_eq!(
        (impersonated.username.as_str(), &impersonated.groups[..]),
        ("jane", &["staff".to_owned()][..])
    );
}

#[tokio::test]
async fn any_other_impersonation_is_refused_in_every_spelling_and_recorded() {
    for headers in [
        &[("impersonate-user", "root")][..],
        &[
            ("IMPERSONATE-USER", "jane"),
            ("Impersonate-Group", "system:masters"),
        ],
        &[("impersonate-user", "jane"), ("impersonate-uid", "0")],
        &[("impersonate-user", "jane"), ("impersonate-user", "root")],
        &[("impersonate_user", "jane")],
        &[("impersonate-group", "staff")],
        &[
            ("impersonate-user", "jane"),
            ("impersonate-extra-scopes", "all"),
        ],
        &[("impersonate-user", "jane"), ("impersonate-new", "x")],
        &[(
            "impersonate-user",
            "system:serviceaccount:kube-system:admin",
        )],
        &[
            ("connection", "impersonate-user"),
            ("impersonate-user", "root"),
        ],
    ] {
        let bed = setup().start().await;
        let answer = post(&bed, "alice", SELF, headers, &json!({})).await;
        assert_eq!(answer.status, 403, "{headers:?} {answer:?}");
        assert!(bed.cluster.seen().is_empty(), "{headers:?}");
        let (intent, _) = bed.only().await;
        assert_eq!(
            intent.decision.cause,
            Cause::ImpersonationRefused,
            "{headers:?}"
        );
        assert_eq!(intent.decision.effect, Effect::Deny);
        assert!(!intent.claims.is_empty(), "{headers:?}");
    }
    let bed = setup().start().await;
    let headers = [("impersonate-user", "jane")];
    let answer = post(&bed, "bob", SELF, &headers, &json!({})).await;
    assert_eq!(answer.status, 403, "another profile");
}

#[tokio::test]
async fn a_pinned_profile_is_seen_as_its_service_account() {
    let bed = setup().start().await;
    let answer = post(
        &bed,
        "bob",
        SELF,
        &[],
        &review("SelfSubjectReview", json!({})),
    )
    .await;
    let info = &answer.json()["status"]["userInfo"];
    assert_eq!(
        info["username"], "system:serviceaccount:shop:viewer",
        "{answer:?}"
    );
    assert_eq!(info["extra"], json!({ORIGINAL: ["bob"]}));
    let (intent, outcome) = bed.only().await;
    for request in [&intent.request, &outcome.request] {
        assert_eq!(request.user.as_ref().unwrap().username, "bob");
        let impersonated = request.impersonated.as_ref().unwrap();
        assert_eq!(impersonated.username, "system:serviceaccount:shop:viewer");
    }
}

#[tokio::test]
async fn may_i_is_yes_only_when_both_say_so() {
    let bed = setup().start().await;
    let asks = async |user: &str, verb: &str, resource: &str| {
        let attributes = json!({"namespace": "shop", "verb": verb, "resource": resource});
        let question = review(
            "SelfSubjectAccessReview",
            json!({"resourceAttributes": attributes}),
        );
        let answer = post(&bed, user, MAY_I, &[], &question).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["status"].clone()
    };
    assert_eq!(asks("alice", "list", "pods").await["allowed"], true);
    assert_eq!(
        asks("alice", "create", "pods").await["allowed"],
        true,
        "for most bodies"
    );
    let status = asks("alice", "list", "nodes").await;
    assert_eq!(status["allowed"], false);
    assert!(
        status["reason"]
            .as_str()
            .unwrap()
            .contains("by rule \"no-nodes\""),
        "{status}"
    );
    assert_eq!(asks("bob", "list", "pods").await["allowed"], true);
    assert_eq!(asks("bob", "list", "secrets").await["allowed"], false);
}

#[tokio::test]
async fn the_list_of_rules_is_what_both_allow() {
    let cluster = async |request: http::Request<hyper::body::Incoming>| {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut review: Value = serde_json::from_slice(&body).unwrap();
        review["status"] = json!({
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": null,
            "incomplete": false,
        });
        whole(201, "application/json", review.to_string())
    };
    let fake = Fake::start(cluster).await;
    let bed = Setup {
        policy: PolicySource::Text(POLICY.to_owned()),
        ..Setup::before(&fake)
    }
    .start()
    .await;
    let question = review("SelfSubjectRulesReview", json!({"namespace": "shop"}));
    let status = post(&bed, "bob", RULES, &[], &question).await.json()["status"].clone();
    let expected = json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]);
    assert_eq!(
        (&status["resourceRules"], &status["incomplete"]),
        (&expected, &json!(false))
    );
    let status = post(&bed, "alice", RULES, &[], &question).await.json()["status"].clone();
    assert_eq!(status["incomplete"], true, "{status}");
}
