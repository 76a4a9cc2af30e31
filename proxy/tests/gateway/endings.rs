//! Sessions, logins and people that are ended before their time, and certificates that are revoked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use hoop_proxy::Limits;
use hoop_proxy::endings::{Ending, write};
use hoop_schema::kinds::request::{Cause, Ended, Outcome};
use hoop_schema::kinds::session::AccessEnded;
use hoop_schema::{Kind, SessionId, Timestamp};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::authority::Authority;
use crate::harness::{Answer, Bed, Client, PATIENCE, Setup, eventually, request};
use crate::issuer::{SigningKey, TestIssuer};
use crate::tunnels::{EXEC, Stream, V5, message, switching};

const PODS: &str = "/api/v1/namespaces/shop/pods";
const WATCH: &str = "/api/v1/namespaces/shop/pods?watch=true";
const FOLLOW: &str = "/api/v1/namespaces/shop/pods/web-6d4b75cb6d-hk2vp/log?follow=true";

const MAPPINGS: &str = "    claimMappings:
      username: {claim: sub, prefix: ''}
      groups: {expression: '[]'}
";

/// An ending that names nobody yet.
fn ending() -> Ending {
    let now = Timestamp::from_micros(jiff::Timestamp::now().as_microsecond());
    Ending {
        session: None,
        login: None,
        user: None,
        at: now,
        until: now.plus_micros(3_600_000_000),
        by: "root".into(),
        reason: "laptop lost".into(),
    }
}

fn end(file: &Path, endings: &[Ending]) {
    let temporary = file.with_extension("new");
    std::fs::write(&temporary, write(endings).unwrap()).unwrap();
    std::fs::rename(temporary, file).unwrap();
}

struct Behind {
    bed: Bed,
    issuer: TestIssuer,
    key: SigningKey,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Behind {
    async fn start(setup: Setup) -> Self {
        let key = SigningKey::new("RS256", Some("k1"));
        let issuer = TestIssuer::start().await;
        issuer.publish(&[&key]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ended.jsonl");
        let bed = Setup {
            authentication: issuer.configuration(MAPPINGS),
            endings: Some(file.clone()),
            ..setup
        };
        Self {
            bed: bed.start().await,
            issuer,
            key,
            file,
            _folder: folder,
        }
    }

    /// A token of alice.
    fn token(&self, claims: Value) -> String {
        self.key.sign(&self.issuer.claims(claims))
    }

    async fn get(&self, token: &str) -> Answer {
        self.bed.client().await.send(asking(token, PODS)).await
    }

    async fn outcome_with(&self, cause: Cause) -> Outcome {
        eventually("such an outcome", async || {
            let outcomes = self.bed.outcomes().await.into_iter();
            let mut outcomes = outcomes.filter(|outcome| outcome.decision.cause == cause);
            outcomes.next()
        })
        .await
    }

    async fn ended(&self) -> Vec<AccessEnded> {
        let ended = |event: hoop_schema::Event| match event.kind {
            Kind::AccessEnded(ended) => Some(ended),
            _ => None,
        };
        self.bed
            .events()
            .await
            .into_iter()
            .filter_map(ended)
            .collect()
    }
}

fn asking(token: &str, target: &str) -> Request<Full<Bytes>> {
    request("GET", "", target)
        .header("authorization", format!("Bearer {token}"))
        .body(Full::default())
        .unwrap()
}

/// Reads to the end, which must be an orderly one.
async fn to_the_end(body: Incoming) -> String {
    let body = tokio::time::timeout(PATIENCE, body.collect())
        .await
        .expect("the stream ends");
    String::from_utf8(body.unwrap().to_bytes().to_vec()).unwrap()
}

async fn open(client: &mut Client, request: Request<Full<Bytes>>) -> Incoming {
    let response = client.open(request).await;
    assert_eq!(response.status(), 200);
    response.into_body()
}

/// What the record says of three refused requests of a login, and of its streams.
async fn recorded_as_ended(behind: &Behind, login: &Ending) {
    let ended = behind.outcome_with(Cause::AccessEnded).await;
    assert_eq!((ended.status, ended.ended), (200, Ended::GatewayClosed));
    let outcomes = behind.bed.outcomes().await;
    let refused: Vec<_> = outcomes
        .iter()
        .filter(|outcome| outcome.status == 401)
        .collect();
    assert_eq!(refused.len(), 3);
    for refused in refused {
        assert_eq!(refused.decision.cause, Cause::AccessEnded);
        assert_eq!(refused.request.login.as_deref(), Some("login-1"));
        assert_eq!(refused.request.user.as_ref().unwrap().username, "alice");
    }
    let events = behind.ended().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].ended_login.as_deref(), Some("login-1"));
    assert_eq!(
        (events[0].by.as_str(), events[0].reason.as_str()),
        ("root", "laptop lost")
    );
    assert_eq!(events[0].until, login.until);
}

#[tokio::test]
async fn an_ended_login_is_refused_with_all_its_tokens_and_what_it_has_open_ends() {
    let behind = Behind::start(Setup::default()).await;
    let token = behind.token(json!({"sid": "login-1"}));
    let refreshed = behind.token(json!({"sid": "login-1", "jti": "another"}));
    let other = behind.token(json!({"sid": "login-2"}));
    let (mut one, mut two, mut three) = (
        behind.bed.client().await,
        behind.bed.client().await,
        behind.bed.client().await,
    );
    let watch = open(&mut one, asking(&token, WATCH)).await;
    let log = open(&mut two, asking(&token, FOLLOW)).await;
    let mut others_watch = open(&mut three, asking(&other, WATCH)).await;
    assert!(others_watch.frame().await.unwrap().is_ok());
    assert_eq!(behind.get(&refreshed).await.status, 200);

    let login = Ending {
        login: Some("login-1".into()),
        user: Some("alice".into()),
        ..ending()
    };
    end(&behind.file, std::slice::from_ref(&login));
    let text = to_the_end(watch).await;
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["type"], &last["object"]["code"]),
        (&json!("ERROR"), &json!(401))
    );
    let said = last["object"]["message"].as_str().unwrap();
    assert!(
        said.contains("login was ended by root: laptop lost"),
        "{said}"
    );
    let text = to_the_end(log).await;
    let said = text.lines().last().unwrap();
    assert!(
        said.starts_with("hoop: this login was ended by root"),
        "{said}"
    );

    for token in [&token, &refreshed] {
        let answer = behind.get(token).await;
        assert_eq!(answer.status, 401);
        assert!(answer.message().contains("laptop lost"), "{answer:?}");
    }
    // A kept connection is no way around it.
    let answer = one.send(asking(&token, PODS)).await;
    assert_eq!(answer.status, 401);
    // Whoever logs in anew comes in, and what another login has open goes on.
    assert_eq!(behind.get(&other).await.status, 200);
    let quiet = tokio::time::timeout(Duration::from_millis(300), async {
        while let Some(frame) = others_watch.frame().await {
            frame.unwrap();
        }
    });
    assert!(
        quiet.await.is_err(),
        "the watch of another login is still open"
    );

    recorded_as_ended(&behind, &login).await;
}

#[tokio::test]
async fn an_ended_session_takes_nothing_else_of_the_login_with_it() {
    let behind = Behind::start(Setup::default()).await;
    let token = behind.token(json!({"sid": "login-1"}));
    let of_session = |name: &str, target: &str| {
        let mut request = asking(&token, target);
        let header = http::HeaderValue::from_str(name).unwrap();
        request.headers_mut().insert("kubectl-session", header);
        request
    };
    let mut one = behind.bed.client().await;
    let watch = open(&mut one, of_session("s-1", WATCH)).await;
    let mut started = None;
    for event in behind.bed.events().await {
        if let (Kind::SessionStart(_), id) = (&event.kind, event.envelope.session_id)
            && event.envelope.producer_seq > 0
        {
            started = Some(id);
        }
    }
    let session: SessionId = started.expect("a session has begun");
    end(
        &behind.file,
        &[Ending {
            session: Some(session),
            ..ending()
        }],
    );
    let text = to_the_end(watch).await;
    assert!(
        text.contains("this session was ended by root: laptop lost"),
        "{text}"
    );
    // Over another connection as well: the session is that of the command.
    let mut two = behind.bed.client().await;
    assert_eq!(two.send(of_session("s-1", PODS)).await.status, 401);
    assert_eq!(two.send(of_session("s-2", PODS)).await.status, 200);
    assert_eq!(two.send(asking(&token, PODS)).await.status, 200);
}

#[tokio::test]
async fn a_person_whose_access_is_ended_does_not_come_in_by_another_login() {
    let behind = Behind::start(Setup::default()).await;
    assert_eq!(behind.get("token-alice").await.status, 200);
    end(
        &behind.file,
        &[Ending {
            user: Some("alice".into()),
            ..ending()
        }],
    );
    let refused = eventually("a refusal", async || {
        let answer = behind.get("token-alice").await;
        (answer.status == 401).then_some(answer)
    })
    .await;
    let said = refused.message();
    assert!(
        said.starts_with("the access of alice was ended until "),
        "{said}"
    );
    assert_eq!(
        behind
            .get(&behind.token(json!({"sid": "new"})))
            .await
            .status,
        401
    );
    assert_eq!(behind.get("token-bob").await.status, 200);
}

#[tokio::test]
async fn a_command_ends_with_its_login_and_says_so() {
    let serve = |mut stream: Stream| async move {
        stream.write_all(&message(false, 1, b"$ ")).await.unwrap();
        stream.flush().await.unwrap();
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest).await);
    };
    let (fake, _) = switching(Some(V5), serve).await;
    let behind = Behind::start(Setup::before(&fake)).await;
    let token = behind.token(json!({"sid": "login-1"}));
    let exec = request("GET", "", EXEC)
        .header("authorization", format!("Bearer {token}"))
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", V5)
        .body(Full::default())
        .unwrap();
    let mut response = behind.bed.client().await.open(exec).await;
    assert_eq!(response.status(), 101);
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let mut prompt = vec![0; message(false, 1, b"$ ").len()];
    stream.read_exact(&mut prompt).await.unwrap();
    end(
        &behind.file,
        &[Ending {
            login: Some("login-1".into()),
            ..ending()
        }],
    );
    let mut got = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut got))
        .await
        .expect("the stream ends")
        .unwrap();
    let text = String::from_utf8_lossy(&got);
    assert!(text.contains("this login was ended by root"), "{text}");
    let outcome = behind.outcome_with(Cause::AccessEnded).await;
    assert_eq!(outcome.ended, Ended::GatewayClosed);
}

#[tokio::test]
async fn a_certificate_that_is_revoked_ends_what_its_connections_have_open_and_ask() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("revoked.pem");
    let ca = Authority::new();
    std::fs::write(&file, ca.revoke(&[6])).unwrap();
    let setup = Setup {
        client_revocations: Some(file.clone()),
        ca: Some(ca),
        limits: Limits {
            revocations_interval: Duration::from_millis(20),
            ..Limits::default()
        },
        ..Setup::default()
    };
    let behind = Behind::start(setup).await;
    let certificate = || Some(behind.bed.ca.client("carol", "certified", false));
    let mut kept = behind.bed.client_as(certificate()).await;
    assert_eq!(kept.get("", PODS).await.status, 200);
    let mut watching = behind.bed.client_as(certificate()).await;
    let request = request("GET", "", WATCH).body(Full::default()).unwrap();
    let watch = open(&mut watching, request).await;

    // A list that has others leaves it as it is.
    std::fs::write(&file, behind.bed.ca.revoke(&[5, 6])).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(kept.get("", PODS).await.status, 200);

    std::fs::write(&file, behind.bed.ca.revoke(&[6, 7])).unwrap();
    let text = to_the_end(watch).await;
    assert!(text.contains("the client certificate is revoked"), "{text}");
    let answer = kept.get("", PODS).await;
    assert_eq!(answer.status, 401);
    assert!(answer.message().contains("is revoked"), "{answer:?}");
    let outcome = behind.outcome_with(Cause::AccessEnded).await;
    assert_eq!(outcome.request.user.as_ref().unwrap().username, "carol");
    assert_eq!(outcome.ended, Ended::GatewayClosed);
}
