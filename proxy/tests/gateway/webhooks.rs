//! Rules that ask webhooks, through the whole gateway: answers, failures of every kind, and what is sent.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hoop_proxy::PolicySource;
use hoop_schema::kinds::request::{Cause, Effect};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::authority::Authority;
use crate::harness::{Bed, Fake, FakeBody, Setup, request, whole};

const POD: &str = "/api/v1/namespaces/shop/pods/web-6d4b75cb6d-hk2vp";

/// Alice gets pods when the webhook allows, and lists them in any case; the webhook may veto what bob does.
fn policy(webhook: &str) -> String {
    format!(
        r#"
webhooks:
  - {{name: desk, {webhook}}}
profiles:
  - name: developers
    subjects: {{users: [alice]}}
    rules:
      - {{name: asked, effect: allow, apiGroups: [""], resources: [pods, pods/exec], verbs: [get, create, exec], webhook: desk}}
      - {{name: lists, effect: allow, apiGroups: [""], resources: [pods], verbs: [list]}}
  - name: others
    subjects: {{users: [bob]}}
    rules:
      - {{name: veto, effect: deny, apiGroups: [""], resources: [pods], verbs: ["*"], webhook: desk}}
      - {{name: work, effect: allow, apiGroups: [""], resources: [pods], verbs: ["*"]}}
"#
    )
}

async fn gateway(webhook: &str) -> Bed {
    let setup = Setup {
        policy: PolicySource::Text(policy(webhook)),
        ..Setup::default()
    };
    setup.start().await
}

fn review(status: Value) -> String {
    json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {}, "status": status})
        .to_string()
}

/// A webhook that always answers the same.
async fn desk(status: u16, body: String) -> (Fake, String) {
    let answer = move |_: Request<Incoming>| {
        let body = body.clone();
        async move { whole(status, "application/json", body) }
    };
    let fake = Fake::start(answer).await;
    let url = format!("url: 'http://{}/authorize'", fake.address);
    (fake, url)
}

#[tokio::test]
async fn an_answer_decides_and_is_recorded() {
    let (_desk, url) = desk(200, review(json!({"allowed": true, "reason": "on call"}))).await;
    let bed = gateway(&url).await;
    assert_eq!(bed.get(POD).await.status, 200);
    let (intent, outcome) = bed.only().await;
    for decision in [&intent.decision, &outcome.decision] {
        assert_eq!(
            (decision.effect, decision.cause),
            (Effect::Allow, Cause::Rule)
        );
        assert_eq!(decision.rule.as_deref(), Some("asked"));
        assert_eq!(decision.message, "webhook \"desk\" allows it: on call");
    }
    bed.assert_metric("hoop_gateway_webhook_requests_total{webhook=\"desk\",result=\"allowed\"} 1");
    bed.assert_metric("hoop_gateway_webhook_seconds_count{webhook=\"desk\"} 1");

    let (_desk, url) = desk(
        200,
        review(json!({"allowed": false, "denied": true, "reason": "no ticket"})),
    )
    .await;
    let bed = gateway(&url).await;
    let answer = bed.get(POD).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["reason"].clone()),
        (403, json!("Forbidden"))
    );
    assert!(
        answer
            .message()
            .ends_with("since webhook \"desk\" denies it: no ticket"),
        "{}",
        answer.message()
    );
    assert!(bed.cluster.seen().is_empty(), "nothing goes upstream");
    let (intent, _) = bed.only().await;
    assert_eq!(intent.decision.cause, Cause::Webhook);
    assert_eq!(intent.decision.rule.as_deref(), Some("asked"));
}

#[tokio::test]
async fn without_an_opinion_the_next_rule_is_tried() {
    let (_desk, url) = desk(201, review(json!({"allowed": false}))).await;
    let bed = gateway(&url).await;
    let answer = bed.get(POD).await;
    assert_eq!(answer.status, 403);
    assert!(
        answer.message().contains("has no opinion"),
        "{}",
        answer.message()
    );
    let mut client = bed.client().await;
    assert_eq!(client.get("bob", POD).await.status, 200, "nobody objects");
    bed.assert_metric(
        "hoop_gateway_webhook_requests_total{webhook=\"desk\",result=\"no_opinion\"} 2",
    );
}

#[tokio::test]
async fn a_denying_rule_refuses_what_its_webhook_denies() {
    let (_desk, url) = desk(200, review(json!({"allowed": false, "denied": true}))).await;
    let bed = gateway(&url).await;
    let mut client = bed.client().await;
    assert_eq!(client.get("bob", POD).await.status, 403);
    let (_desk, url) = desk(200, review(json!({"allowed": true}))).await;
    let bed = gateway(&url).await;
    let mut client = bed.client().await;
    assert_eq!(client.get("bob", POD).await.status, 200);
}

/// What a webhook that fails in this way means to alice and bob, under both failure policies.
async fn fails(url: &str, expected: &str) {
    let bed = gateway(url).await;
    let answer = bed.get(POD).await;
    assert_eq!(answer.status, 403, "{expected}");
    let message = answer.message();
    assert!(
        message.contains(&format!("since webhook \"desk\" {expected}")),
        "{expected}: {message}"
    );
    assert!(
        !message.contains("127.0.0.1"),
        "no address is told: {message}"
    );
    let (intent, _) = bed.only().await;
    assert_eq!(intent.decision.cause, Cause::WebhookFailed);
    let mut client = bed.client().await;
    assert_eq!(client.get("bob", POD).await.status, 403);

    let bed = gateway(&format!("{url}, failurePolicy: NoOpinion")).await;
    assert_eq!(bed.get(POD).await.status, 403, "no other rule allows it");
    let mut client = bed.client().await;
    assert_eq!(client.get("bob", POD).await.status, 200);
    let intent = bed.intents().await.pop().unwrap();
    let message = &intent.decision.message;
    assert!(
        message.contains(expected) && message.ends_with("which counts as no opinion"),
        "{message}"
    );
}

#[tokio::test]
async fn a_webhook_that_is_down_has_failed() {
    let (desk, url) = desk(200, String::new()).await;
    drop(desk);
    fails(&url, "cannot be reached").await;
}

#[tokio::test]
async fn a_webhook_that_does_not_answer_in_time_has_failed() {
    let silent = Fake::start(|_| std::future::pending::<Response<FakeBody>>()).await;
    let url = format!("url: 'http://{}/', timeout: 100ms", silent.address);
    fails(&url, "did not answer in time").await;
}

#[tokio::test]
async fn rubbish_is_no_answer() {
    for body in [
        "yes".to_owned(),
        json!({"status": {"allowed": true}}).to_string(),
        review(json!({"allowed": true, "denied": true})),
        review(json!({"allowed": "true"})),
    ] {
        let (_desk, url) = desk(200, body).await;
        fails(
            &url,
            "answered with something else than one SubjectAccessReview",
        )
        .await;
    }
}

#[tokio::test]
async fn a_huge_answer_is_given_up() {
    let body = review(json!({"allowed": true, "reason": "x".repeat(300_000)}));
    let (_desk, url) = desk(200, body).await;
    fails(&url, "answered with more than").await;
}

#[tokio::test]
async fn redirections_and_errors_are_not_followed() {
    let (_target, target) = desk(200, review(json!({"allowed": true}))).await;
    let location = target
        .trim_start_matches("url: ")
        .trim_matches('\'')
        .to_owned();
    let redirects = Fake::start(move |_| {
        let mut answer = whole(307, "text/plain", "");
        let location = location.parse().unwrap();
        answer.headers_mut().insert("location", location);
        async move { answer }
    })
    .await;
    fails(
        &format!("url: 'http://{}/'", redirects.address),
        "answered with the HTTP status 307",
    )
    .await;
    let (_desk, url) = desk(500, review(json!({"allowed": true}))).await;
    fails(&url, "answered with the HTTP status 500").await;
}

#[tokio::test]
async fn neither_credential_nor_body_is_sent() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let desk = Fake::start(move |request: Request<Incoming>| {
        let kept = Arc::clone(&kept);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            kept.lock().push((head, body));
            whole(200, "application/json", review(json!({"allowed": true})))
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "s3same\n").unwrap();
    let bed = gateway(&format!(
        "url: 'http://{}/authorize?cluster=a', tokenFile: {}",
        desk.address,
        token.display()
    ))
    .await;
    let pod = json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "a", "env": [{"value": "p4ssword"}]}]}});
    let request = request("POST", "alice", "/api/v1/namespaces/shop/pods")
        .header("content-type", "application/json")
        .body(Full::new(pod.to_string().into()))
        .unwrap();
    assert_eq!(bed.client().await.send(request).await.status, 201);
    let (head, body) = seen.lock().pop().unwrap();
    assert_eq!(head.method, "POST");
    assert_eq!(head.uri, "/authorize?cluster=a");
    assert_eq!(head.headers["authorization"], "Bearer s3same");
    assert_eq!(head.headers["content-type"], "application/json");
    let body = String::from_utf8(body.to_vec()).unwrap();
    assert!(
        !body.contains("p4ssword") && !body.contains("token-alice"),
        "{body}"
    );
    let spec = &serde_json::from_str::<Value>(&body).unwrap()["spec"];
    assert_eq!(spec["user"], "alice");
    assert_eq!(spec["groups"], json!(["people", "system:authenticated"]));
    assert_eq!(
        spec["resourceAttributes"],
        json!({"namespace": "shop", "verb": "create", "version": "v1", "resource": "pods"})
    );
    assert!(!bed.written().await.contains("s3same"));
}

#[tokio::test]
async fn connections_and_answers_that_are_good_are_used_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let desk = Fake::start(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        async { whole(200, "application/json", review(json!({"allowed": true}))) }
    })
    .await;
    let bed = gateway(&format!("url: 'http://{}/'", desk.address)).await;
    for _ in 0..3 {
        assert_eq!(bed.get(POD).await.status, 200);
    }
    assert_eq!(
        (asked.swap(0, Ordering::SeqCst), desk.connections()),
        (3, 1)
    );

    let bed = gateway(&format!(
        "url: 'http://{}/', authorizedTTL: 1m",
        desk.address
    ))
    .await;
    for _ in 0..3 {
        assert_eq!(bed.get(POD).await.status, 200);
    }
    let other = bed.get("/api/v1/namespaces/shop/pods/none").await;
    assert_eq!(other.status, 404, "allowed, and not there");
    assert_eq!(asked.load(Ordering::SeqCst), 2, "once for each pod");
    bed.assert_metric("hoop_gateway_webhook_answers_reused_total{webhook=\"desk\"} 2");
}

#[tokio::test]
async fn may_i_asks_the_webhook_too() {
    let (_desk, url) = desk(
        200,
        review(json!({"allowed": false, "denied": true, "reason": "no ticket"})),
    )
    .await;
    let bed = gateway(&url).await;
    let asks = async |verb: &str| {
        let attributes = json!({"namespace": "shop", "verb": verb, "resource": "pods"});
        let question = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}});
        let target = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let request = request("POST", "alice", target)
            .header("content-type", "application/json")
            .body(Full::new(question.to_string().into()))
            .unwrap();
        bed.client().await.send(request).await.json()["status"].clone()
    };
    let status = asks("get").await;
    assert_eq!(status["allowed"], false);
    assert!(
        status["reason"]
            .as_str()
            .unwrap()
            .ends_with("denies it: no ticket"),
        "{status}"
    );
    assert_eq!(asks("list").await["allowed"], true);
}

/// A webhook over TLS that takes nobody without a certificate of its own authority, and the files it takes to ask it.
struct TlsDesk {
    url: String,
    server: tokio::task::JoinHandle<()>,
    folder: tempfile::TempDir,
}

impl TlsDesk {
    async fn start() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
        let issue = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.signed_by(&key, &ca).unwrap(), key)
        };
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = issue("hoop");
        for (name, pem) in [
            ("ca.pem", ca.pem()),
            ("client.pem", certificate.pem()),
            ("client.key", key.serialize_pem()),
            ("other.pem", Authority::new().pem()),
        ] {
            std::fs::write(folder.path().join(name), pem).unwrap();
        }
        let (certificate, key) = issue("localhost");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "https://localhost:{}/",
            listener.local_addr().unwrap().port()
        );
        let tls = TlsAcceptor::from(Arc::new(tls));
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let tls = tls.clone();
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else {
                        return;
                    };
                    let service = hyper::service::service_fn(async |_| {
                        let yes = review(json!({"allowed": true}));
                        Ok::<_, Infallible>(whole(200, "application/json", yes))
                    });
                    // A client that goes away is no failure of the test.
                    drop(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .await,
                    );
                });
            }
        });
        Self {
            url,
            server,
            folder,
        }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

#[tokio::test]
async fn over_tls_the_named_authority_is_believed_and_the_own_certificate_shown() {
    let desk = TlsDesk::start().await;
    let ca = |name: &str| {
        format!(
            "url: '{}', certificateAuthority: {}",
            desk.url,
            desk.file(name)
        )
    };
    let own = format!(
        ", clientCertificate: {}, clientKey: {}",
        desk.file("client.pem"),
        desk.file("client.key")
    );
    let good = ca("ca.pem") + &own;
    let bed = gateway(&good).await;
    assert_eq!(bed.get(POD).await.status, 200);
    for bad in [
        ca("other.pem") + &own,
        ca("ca.pem"),
        format!("url: '{}'", desk.url),
    ] {
        let bed = gateway(&bad).await;
        let answer = bed.get(POD).await;
        assert_eq!(answer.status, 403, "{bad}");
        assert!(
            answer.message().contains("since webhook \"desk\""),
            "{}",
            answer.message()
        );
        assert_eq!(bed.only().await.0.decision.cause, Cause::WebhookFailed);
    }
    for (url, reached) in [(good, true), (ca("other.pem"), false)] {
        let policy = hoop_proxy::policy::Policy::parse(&policy(&url)).unwrap();
        let probes = hoop_proxy::probe_webhooks(&policy).await;
        assert_eq!(probes[0].reached.is_ok(), reached, "{probes:?}");
    }
    desk.server.abort();
}

#[tokio::test]
async fn a_new_policy_with_another_webhook_takes_over_and_one_without_its_files_does_not() {
    let (_yes, yes) = desk(200, review(json!({"allowed": true}))).await;
    let (_no, no) = desk(200, review(json!({"allowed": false, "denied": true}))).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.yaml");
    std::fs::write(&path, policy(&yes)).unwrap();
    let bed = Setup {
        policy: PolicySource::File(path.clone()),
        ..Setup::default()
    }
    .start()
    .await;
    assert_eq!(bed.get(POD).await.status, 200);
    let lost = format!("{no}, tokenFile: {}", folder.path().join("none").display());
    std::fs::write(&path, policy(&lost)).unwrap();
    bed.reloader.reload().await;
    assert_eq!(bed.get(POD).await.status, 200, "the old one stays");
    std::fs::write(&path, policy(&no)).unwrap();
    bed.reloader.reload().await;
    assert_eq!(bed.get(POD).await.status, 403);
    bed.assert_metric("hoop_gateway_policy_reloads_total{accepted=\"false\"} 1");
}

#[tokio::test]
async fn a_slow_webhook_holds_up_nobody_whom_it_is_not_asked_about() {
    let silent = Fake::start(|_| std::future::pending::<Response<FakeBody>>()).await;
    let bed = Arc::new(gateway(&format!("url: 'http://{}/', timeout: 30s", silent.address)).await);
    let waits: Vec<_> = (0..100)
        .map(|_| {
            let bed = Arc::clone(&bed);
            tokio::spawn(async move { bed.get(POD).await })
        })
        .collect();
    crate::harness::eventually("all its turns taken", async || {
        (silent.open() == 64).then_some(())
    })
    .await;
    assert_eq!(bed.get("/api/v1/namespaces/shop/pods").await.status, 200);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(silent.connections(), 64, "no more than its turns");
    for wait in waits {
        wait.abort();
    }
}
