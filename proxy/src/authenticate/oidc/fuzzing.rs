//! Tokens of any kind before the authenticator: nothing panics, and only what an issuer has signed is accepted.
//!
//! The input is a choice (one byte) and what it is about. The lower two bits choose who signs: the issuers' RSA key,
//! their EC key, a stranger's RSA key, or HMAC with the public key as its secret. Then:
//! - `0x80`: a key set, to be parsed;
//! - `0x40`: an `Authorization` header, as it is;
//! - else three lines: header and claims, which are signed, and an alteration. Bits `0x18` say what becomes of that:
//!   nothing, bytes that are written over the token's from a place on, other claims, another signature. `0x04` sends the
//!   token among the subprotocols of a WebSocket.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use x509_parser::prelude::FromDer;

use super::keys::KeySet;
use super::token::LEEWAY_MICROS;
use super::*;
use crate::authenticate::{Authenticator, Presented, StaticTokens, TokenReviewer};

/// 2027-01-15T08:00:00Z.
const NOW_SECONDS: i64 = 1_800_000_000;

/// Names an issuer by its claims, and one by expressions.
const ISSUERS: &str = "apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
  - issuer:
      url: https://id.example.com/plain
      audiences: [hoop, kubernetes]
      audienceMatchPolicy: MatchAny
      certificateAuthority: CA
    claimMappings:
      username: {claim: sub, prefix: ''}
      groups: {claim: groups, prefix: ''}
      uid: {claim: uid}
  - issuer:
      url: https://id.example.com/computed
      audiences: [hoop]
      certificateAuthority: CA
    claimValidationRules:
      - claim: hd
        requiredValue: example.com
      - expression: claims.exp - claims.nbf <= 86400
        message: tokens live for a day at most
    claimMappings:
      username:
        expression: 'claims.email_verified ? claims.email : claims.sub'
      groups:
        expression: claims.roles
      uid:
        claim: sub
      extra:
        - key: example.com/tenant
          valueExpression: claims.tenant
    userValidationRules:
      - expression: \"!user.username.startsWith('root')\"
        message: root is nobody
";

/// The issuers, and everybody who signs.
struct Bed {
    authenticator: Authenticator,
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    stranger: RsaKeyPair,
}

/// Nobody is asked.
struct NoReview;

#[async_trait::async_trait]
impl TokenReviewer for NoReview {
    async fn review(&self, _: Bytes) -> Option<Bytes> {
        None
    }
}

static BED: LazyLock<Bed> = LazyLock::new(Bed::new);

/// See the module. Returns whether a token was accepted, or a key set read.
pub(crate) fn check(input: &[u8]) -> bool {
    let [choice, rest @ ..] = input else {
        return false;
    };
    if choice & 0x80 != 0 {
        return KeySet::parse(rest).is_ok();
    }
    let mut headers = HeaderMap::new();
    if choice & 0x40 != 0 {
        let Ok(value) = HeaderValue::from_bytes(rest) else {
            return false;
        };
        headers.insert(AUTHORIZATION, value);
        assert!(BED.identify(&headers).is_err(), "nobody signed it");
        return false;
    }
    let mut lines = rest.splitn(3, |byte| *byte == b'\n');
    let (Some(header), Some(claims)) = (lines.next(), lines.next()) else {
        return false;
    };
    let signed = BED.sign(*choice, header, claims);
    let sent = altered(&signed, *choice, lines.next().unwrap_or_default());
    let value = if choice & 4 == 0 {
        format!("Bearer {sent}")
    } else {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        let token = URL_SAFE_NO_PAD.encode(&sent);
        format!("v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.{token}")
    };
    let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) else {
        return false;
    };
    let name = match choice & 4 {
        0 => AUTHORIZATION,
        _ => SEC_WEBSOCKET_PROTOCOL,
    };
    headers.insert(name, value);
    let Ok(identity) = BED.identify(&headers) else {
        return false;
    };
    // What follows a space is not read.
    let read = sent.split(' ').next();
    assert_eq!(read, Some(&*signed), "what was signed is what is believed");
    assert!(choice & 3 < 2, "no issuer signed it");
    holds(&identity, header, claims);
    let again = BED.identify(&headers).expect("it was good just now");
    assert_eq!(again.user, identity.user);
    true
}

/// What is true of everybody whom a token of these parts makes known.
fn holds(identity: &Identity, header: &[u8], claims: &[u8]) {
    let header: Value = serde_json::from_slice(header).expect("it was read");
    let claims: Value = serde_json::from_slice(claims).expect("it was read");
    let algorithm = header["alg"].as_str().expect("it has an algorithm");
    assert!(["RS", "PS", "ES"].contains(&&algorithm[..2]), "{algorithm}");
    let now = Timestamp::from_micros(NOW_SECONDS * 1_000_000);
    let ends = identity.expires.expect("a token ends");
    assert!(ends > now);
    let seconds = claims["exp"].as_f64().expect("a token ends");
    assert!(seconds * 1e6 + LEEWAY_MICROS as f64 > now.as_micros() as f64);
    let is_for = |wanted: &str| match &claims["aud"] {
        Value::Array(all) => all.contains(&json!(wanted)),
        one => one == wanted,
    };
    assert!(is_for("hoop") || is_for("kubernetes"));
    let user = &identity.user;
    assert_eq!(identity.user_header.as_bytes(), user.username.as_bytes());
    for name in user.groups.iter().chain([&user.username]) {
        assert!(!name.is_empty() && !name.starts_with("system:"), "{name:?}");
        assert!(!name.contains(char::is_control) && name.trim() == name);
    }
    if claims["iss"] == "https://id.example.com/plain" {
        assert_eq!(claims["sub"], user.username);
    } else {
        assert_eq!(claims["iss"], "https://id.example.com/computed");
        assert_eq!(claims["hd"], "example.com");
        assert!(!user.username.starts_with("root"));
    }
}

/// The token with the alteration that the choice asks for.
fn altered(token: &str, choice: u8, alteration: &[u8]) -> String {
    let (signed, signature) = token.rsplit_once('.').expect("it was made so");
    let (header, _) = signed.split_once('.').expect("it was made so");
    let text = String::from_utf8_lossy(alteration);
    match choice & 0x18 {
        0x08 => {
            let [high, low, bytes @ ..] = alteration else {
                return token.to_owned();
            };
            let place = usize::from(u16::from_be_bytes([*high, *low])) % token.len();
            let mut token = token.as_bytes().to_vec();
            for (old, new) in token[place..].iter_mut().zip(bytes) {
                *old = *new;
            }
            String::from_utf8_lossy(&token).into_owned()
        }
        0x10 => format!(
            "{header}.{}.{signature}",
            URL_SAFE_NO_PAD.encode(alteration)
        ),
        0x18 => format!("{signed}.{text}"),
        _ => token.to_owned(),
    }
}

impl Bed {
    fn new() -> Self {
        let rsa = || RsaKeyPair::generate(KeySize::Rsa2048).expect("a key can be made");
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let (rsa, stranger, ec) = (rsa(), rsa(), ec.expect("a key can be made"));
        let names = vec!["id.example.com".to_owned()];
        let authority = rcgen::generate_simple_self_signed(names).expect("a key can be made");
        let authority = serde_json::to_string(&authority.cert.pem()).expect("a text is JSON");
        let text = ISSUERS.replace(
            "certificateAuthority: CA",
            &format!("certificateAuthority: {authority}"),
        );
        let configuration = AuthenticationConfiguration::parse(&text).expect("it is a literal");
        let with = |name: &str, mut key: Value| {
            key["kid"] = json!(name);
            key
        };
        let mut only = with("only-ps", rsa_jwk(&rsa));
        only["alg"] = json!("PS256");
        // The second issuer has one key of a kind, which need not be named.
        let sets = [
            json!({"keys": [with("rsa", rsa_jwk(&rsa)), with("ec", ec_jwk(&ec)), only]}),
            json!({"keys": [rsa_jwk(&rsa), ec_jwk(&ec)]}),
        ];
        let issuers = configuration.issuers.into_iter().zip(sets);
        let issuers = issuers.map(|(config, set)| {
            let set = KeySet::parse(set.to_string().as_bytes()).expect("the keys are good");
            Arc::new(Issuer::with_keys(config, set).expect("the authority is good"))
        });
        let issuers = Issuers {
            issuers: issuers.collect(),
            verified: TokenCache::new(TOKENS_MAX),
            metrics: Metrics::default(),
        };
        let tokens = StaticTokens::default();
        Self {
            authenticator: Authenticator::new(tokens, issuers, false, Metrics::default()),
            rsa,
            ec,
            stranger,
        }
    }

    fn identify(&self, headers: &HeaderMap) -> Result<Identity, Unauthenticated> {
        let now = Timestamp::from_micros(NOW_SECONDS * 1_000_000);
        let identified =
            self.authenticator
                .authenticate(&Presented::Nothing, headers, &NoReview, now);
        identified
            .now_or_never()
            .expect("there is nothing to wait for")
    }

    /// A token whose signature fits the algorithm that its header names, where the key can.
    fn sign(&self, choice: u8, header: &[u8], claims: &[u8]) -> String {
        let signed = [header, claims]
            .map(|part| URL_SAFE_NO_PAD.encode(part))
            .join(".");
        let message = signed.as_bytes();
        let header: Value = serde_json::from_slice(header).unwrap_or_default();
        let algorithm = header["alg"].as_str().unwrap_or_default();
        let signature = match choice & 3 {
            0 => sign_rsa(&self.rsa, algorithm, message),
            1 => {
                let signature = self.ec.sign(&SystemRandom::new(), message);
                signature.expect("a key can sign").as_ref().to_vec()
            }
            2 => sign_rsa(&self.stranger, algorithm, message),
            // The classic confusion.
            _ => {
                let secret = hmac::Key::new(hmac::HMAC_SHA256, self.rsa.public_key().as_ref());
                hmac::sign(&secret, message).as_ref().to_vec()
            }
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn sign_rsa(pair: &RsaKeyPair, algorithm: &str, message: &[u8]) -> Vec<u8> {
    let encoding: &'static dyn RsaEncoding = match algorithm {
        "RS384" => &RSA_PKCS1_SHA384,
        "RS512" => &RSA_PKCS1_SHA512,
        "PS256" => &RSA_PSS_SHA256,
        "PS384" => &RSA_PSS_SHA384,
        "PS512" => &RSA_PSS_SHA512,
        _ => &RSA_PKCS1_SHA256,
    };
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(encoding, &SystemRandom::new(), message, &mut signature)
        .expect("a key can sign");
    signature
}

fn rsa_jwk(pair: &RsaKeyPair) -> Value {
    let der = pair.public_key().as_ref();
    let (_, key) = x509_parser::public_key::RSAPublicKey::from_der(der).expect("it is a key");
    let number = |bytes: &[u8]| {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        URL_SAFE_NO_PAD.encode(&bytes[zeros..])
    };
    json!({"kty": "RSA", "use": "sig", "n": number(key.modulus), "e": number(key.exponent)})
}

fn ec_jwk(pair: &EcdsaKeyPair) -> Value {
    let [x, y] =
        [1..33, 33..65].map(|part| URL_SAFE_NO_PAD.encode(&pair.public_key().as_ref()[part]));
    json!({"kty": "EC", "crv": "P-256", "use": "sig", "x": x, "y": y})
}
