use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use test_issuer::{SigningKey, TestIssuer, unsigned};

use super::*;

#[path = "../../../tests/gateway/issuer.rs"]
pub(super) mod test_issuer;

const NAMES: &str = "    claimMappings:\n      username: {claim: sub, prefix: ''}\n      groups: {claim: groups, prefix: ''}\n";

/// Two tokens that arrive within this are not reason enough for two fetches.
const PAUSE: Duration = Duration::from_millis(300);

/// Issuers at work, and who keeps their keys.
struct Bed {
    issuer: TestIssuer,
    issuers: Arc<Issuers>,
    upkeep: tokio::task::JoinHandle<()>,
}

impl Bed {
    async fn start(keys: &[&SigningKey]) -> Self {
        let issuer = TestIssuer::start().await;
        issuer.publish(keys);
        Self::around(issuer)
    }

    fn around(issuer: TestIssuer) -> Self {
        let configuration =
            AuthenticationConfiguration::parse(&issuer.configuration(NAMES)).unwrap();
        let pacing = Pacing {
            refresh: Duration::from_secs(3600),
            retry: Duration::from_millis(50),
            pause: PAUSE,
        };
        let issuers = Arc::new(Issuers::open(configuration, pacing, Metrics::default()).unwrap());
        let kept = Arc::clone(&issuers);
        let upkeep = tokio::spawn(async move { kept.keep_keys().await });
        Self {
            issuer,
            issuers,
            upkeep,
        }
    }

    async fn verify(&self, token: &str) -> Result<Identity, String> {
        self.at(token, now()).await
    }

    async fn at(&self, token: &str, now: Timestamp) -> Result<Identity, String> {
        let hash = Sha256::digest(token.as_bytes()).into();
        if let Some(known) = self.issuers.known(&hash, now) {
            return Ok(known);
        }
        let verified = self.issuers.verify(token, &hash, now).await;
        verified
            .expect("the issuer is configured")
            .map_err(|Unauthenticated(why)| why)
    }

    fn is_known(&self, token: &str) -> bool {
        let hash = Sha256::digest(token.as_bytes()).into();
        self.issuers.known(&hash, now()).is_some()
    }

    fn claims(&self, more: Value) -> Value {
        self.issuer.claims(more)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.upkeep.abort();
    }
}

fn now() -> Timestamp {
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
}

#[tokio::test]
async fn a_token_is_verified_once_and_remembered_until_it_ends() {
    let key = SigningKey::new("RS256", Some("k1"));
    let bed = Bed::start(&[&key]).await;
    let token =
        key.sign(&bed.claims(json!({"groups": ["dev"], "sid": "s1", "jti": "j1", "azp": "cli"})));
    assert!(!bed.is_known(&token));
    let identity = bed.verify(&token).await.unwrap();
    assert_eq!(identity.user.username, "alice");
    assert_eq!(identity.user.groups, ["dev"]);
    assert_eq!(identity.login.as_deref(), Some("s1"));
    assert_eq!(
        identity.delegation.unwrap().client_id.as_deref(),
        Some("cli")
    );
    assert!(bed.is_known(&token));
    let expires = identity.expires.unwrap();
    let micros = bed.claims(json!({}))["exp"].as_i64().unwrap() * 1_000_000;
    assert!((micros - expires.as_micros()).abs() < 15_000_000);
    let after = bed.at(&token, expires).await.unwrap_err();
    assert!(after.contains("expired"), "{after}");
    assert_eq!(bed.issuer.fetches(), 1);
}

#[tokio::test]
async fn without_a_session_the_name_of_the_token_ties_a_login_together() {
    let key = SigningKey::new("ES256", Some("k1"));
    let bed = Bed::start(&[&key]).await;
    let token = key.sign(&bed.claims(json!({"jti": "j1", "act": {"sub": "agent"}})));
    let identity = bed.verify(&token).await.unwrap();
    assert_eq!(identity.login.as_deref(), Some("j1"));
    assert_eq!(identity.delegation.unwrap().actors, ["agent"]);
}

#[tokio::test]
async fn forged_and_foreign_tokens_are_refused() {
    let key = SigningKey::new("RS256", Some("k1"));
    let bed = Bed::start(&[&key]).await;
    let good = bed.claims(json!({}));
    let none = format!("{}.", unsigned(&json!({"alg": "none"}), &good));
    let hmac = key.sign_as(&json!({"alg": "HS256", "kid": "k1"}), &good);
    let other_key = SigningKey::new("RS256", Some("k1")).sign(&good);
    let past = json!({"exp": 1_000_000});
    let future = json!({"nbf": good["exp"].as_i64().unwrap()});
    for (token, why) in [
        (none, "algorithm"),
        (hmac, "algorithm"),
        (other_key, "signature is wrong"),
        (key.sign(&bed.claims(json!({"aud": "other"}))), "audiences"),
        (key.sign(&bed.claims(past)), "expired"),
        (key.sign(&bed.claims(future)), "not valid yet"),
        (
            key.sign(&bed.claims(json!({"sub": "system:admin"}))),
            "system:",
        ),
        (
            key.sign(&bed.claims(json!({"groups": ["system:masters"]}))),
            "system:",
        ),
        (
            key.sign(&bed.claims(json!({"sub": "a\nb"}))),
            "control character",
        ),
        (key.sign(&bed.claims(json!({"act": "agent"}))), "act"),
    ] {
        let said = bed.verify(&token).await.unwrap_err();
        assert!(said.contains(why), "{why:?} is not in {said:?}");
        assert!(!bed.is_known(&token));
    }
    // Another issuer is none of ours: somebody else may know the token.
    let foreign = key.sign(&bed.claims(json!({"iss": "https://elsewhere"})));
    assert!(
        bed.issuers
            .verify(&foreign, &[0; 32], now())
            .await
            .is_none()
    );
    assert!(bed.issuers.verify("token", &[0; 32], now()).await.is_none());
}

#[tokio::test]
async fn new_keys_are_fetched_when_a_token_names_one_and_old_ones_are_forgotten() {
    let (first, second) = (
        SigningKey::new("ES256", Some("k1")),
        SigningKey::new("ES256", Some("k2")),
    );
    let bed = Bed::start(&[&first]).await;
    let old = first.sign(&bed.claims(json!({})));
    bed.verify(&old).await.unwrap();
    bed.issuer.publish(&[&second]);
    tokio::time::sleep(PAUSE).await;
    let new = second.sign(&bed.claims(json!({})));
    bed.verify(&new).await.unwrap();
    assert_eq!(bed.issuer.fetches(), 2);
    assert!(
        !bed.is_known(&old),
        "what was verified with other keys is verified again"
    );
    let said = bed.verify(&old).await.unwrap_err();
    assert!(said.contains("does not publish"), "{said}");
}

#[tokio::test]
async fn a_flood_of_unknown_keys_is_not_passed_on_to_the_issuer() {
    let key = SigningKey::new("ES256", Some("k1"));
    let bed = Bed::start(&[&key]).await;
    bed.verify(&key.sign(&bed.claims(json!({})))).await.unwrap();
    let unknown = SigningKey::new("ES256", Some("unknown"));
    let begin = std::time::Instant::now();
    for n in 0..200 {
        let token = unknown.sign(&bed.claims(json!({"n": n})));
        let said = bed.verify(&token).await.unwrap_err();
        assert!(said.contains("does not publish"), "{said}");
    }
    let pauses = begin.elapsed().as_millis() / PAUSE.as_millis();
    let fetches = bed.issuer.fetches() as u128;
    assert!(
        fetches <= 2 + pauses,
        "{fetches} fetches within {pauses} pauses"
    );
    // And whoever is known is so all the while.
    bed.verify(&key.sign(&bed.claims(json!({"n": 1}))))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_issuer_that_comes_up_later_is_used_and_one_that_goes_down_keeps_its_keys() {
    let key = SigningKey::new("ES256", Some("k1"));
    let issuer = TestIssuer::start().await;
    issuer.publish(&[&key]);
    issuer.set_down(true);
    let bed = Bed::around(issuer);
    let token = key.sign(&bed.claims(json!({})));
    let said = bed.verify(&token).await.unwrap_err();
    assert!(
        said.contains("not known yet") && said.contains("cannot be reached"),
        "{said}"
    );
    bed.issuer.set_down(false);
    let mut tries = 0;
    while bed.verify(&token).await.is_err() {
        tries += 1;
        assert!(tries < 100, "it never came up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bed.issuer.set_down(true);
    tokio::time::sleep(PAUSE).await;
    let unknown = SigningKey::new("ES256", Some("k2"));
    bed.verify(&unknown.sign(&bed.claims(json!({}))))
        .await
        .unwrap_err();
    bed.verify(&key.sign(&bed.claims(json!({"n": 2}))))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_no_honest_issuer_has_no_keys() {
    type Spoil<'a> = &'a dyn Fn(&TestIssuer);
    let key = SigningKey::new("ES256", Some("k1"));
    let huge = json!({"keys": [key.jwk()], "padding": "x".repeat(600 * 1024)}).to_string();
    let cases: [(&str, Spoil<'_>); 4] = [
        ("not the configured one", &|issuer| {
            issuer.call_itself("https://elsewhere")
        }),
        ("larger than 524288 bytes", &|issuer| {
            issuer.publish_raw(huge.clone())
        }),
        ("not a JSON Web Key Set", &|issuer| {
            issuer.publish_raw("<html>".into())
        }),
        ("have none that is for", &|issuer| {
            issuer.publish_raw(r#"{"keys": []}"#.into())
        }),
    ];
    for (why, spoil) in cases {
        let issuer = TestIssuer::start().await;
        issuer.publish(&[&key]);
        spoil(&issuer);
        let bed = Bed::around(issuer);
        let said = bed
            .verify(&key.sign(&bed.claims(json!({}))))
            .await
            .unwrap_err();
        assert!(said.contains(why), "{why:?} is not in {said:?}");
    }
    // Certified by somebody else.
    let (issuer, other) = (TestIssuer::start().await, TestIssuer::start().await);
    let text = issuer.configuration(NAMES).replace(&issuer.url, &other.url);
    let probes = AuthenticationConfiguration::parse(&text)
        .unwrap()
        .probe()
        .await
        .unwrap();
    let said = probes[0].keys.clone().unwrap_err();
    assert!(said.contains("cannot be reached"), "{said}");
}

/// A request pays for its token once: what is known costs a fraction of what is verified.
#[tokio::test]
async fn a_known_token_costs_a_fraction_of_a_verified_one() {
    const ROUNDS: usize = 200;
    for alg in ["RS256", "ES256"] {
        let key = SigningKey::new(alg, Some("k1"));
        let bed = Bed::start(&[&key]).await;
        let groups: Vec<String> = (0..20).map(|n| format!("team-{n}")).collect();
        let token = key.sign(&bed.claims(json!({"groups": groups, "sid": "s"})));
        let hash = Sha256::digest(token.as_bytes()).into();
        let now = now();
        bed.verify(&token).await.unwrap();
        let (mut verified, mut known) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let begin = std::time::Instant::now();
            let identity = bed.issuers.verify(&token, &hash, now).await;
            verified.push(begin.elapsed());
            identity.unwrap().unwrap();
            let begin = std::time::Instant::now();
            let hash = Sha256::digest(token.as_bytes()).into();
            let identity = bed.issuers.known(&hash, now);
            known.push(begin.elapsed());
            identity.unwrap();
        }
        verified.sort_unstable();
        known.sort_unstable();
        let (verified, known) = (verified[ROUNDS / 2], known[ROUNDS / 2]);
        assert!(
            known * 3 < verified,
            "{alg}: {known:?}, verified {verified:?}"
        );
    }
}
