use serde_json::{Value, json};

use super::super::tests::test_issuer::{SigningKey, unsigned};
use super::*;

const ALGORITHMS: [&str; 9] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512",
];

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({"keys": keys}).to_string().as_bytes()).unwrap()
}

fn verify(keys: &KeySet, token: &str) -> Result<(), Rejected> {
    keys.verify(&Jwt::parse(token).unwrap())
}

#[test]
fn every_allowed_algorithm_verifies_and_none_with_another_key_or_another_text() {
    for alg in ALGORITHMS {
        let (key, other) = (
            SigningKey::new(alg, Some("k")),
            SigningKey::new(alg, Some("k")),
        );
        let token = key.sign(&json!({"sub": "alice"}));
        let keys = set(&[key.jwk()]);
        assert_eq!(verify(&keys, &token), Ok(()), "{alg}");
        assert_eq!(
            verify(&set(&[other.jwk()]), &token),
            Err(Rejected::Signature),
            "{alg}"
        );
        let (_, signature) = token.rsplit_once('.').unwrap();
        let header = json!({"alg": alg, "kid": "k", "typ": "JWT"});
        let changed = format!("{}.{signature}", unsigned(&header, &json!({"sub": "root"})));
        assert_eq!(verify(&keys, &changed), Err(Rejected::Signature), "{alg}");
        let empty = format!("{}.", unsigned(&header, &json!({"sub": "root"})));
        assert_eq!(verify(&keys, &empty), Err(Rejected::Signature), "{alg}");
    }
}

#[test]
fn an_algorithm_that_is_not_allowed_is_refused_before_any_key_is_tried() {
    let key = SigningKey::new("RS256", Some("k"));
    let keys = set(&[key.jwk()]);
    for alg in [
        "none", "None", "NONE", "HS256", "HS384", "HS512", "EdDSA", "RS1", "rs256", "",
    ] {
        let header = json!({"alg": alg, "kid": "k"});
        let token = key.sign_as(&header, &json!({"sub": "root"}));
        assert_eq!(verify(&keys, &token), Err(Rejected::Algorithm), "{alg}");
        let bare = format!("{}.", unsigned(&header, &json!({"sub": "root"})));
        assert_eq!(verify(&keys, &bare), Err(Rejected::Algorithm), "{alg}");
    }
}

#[test]
fn an_algorithm_has_to_fit_its_key() {
    let (rsa, ec) = (
        SigningKey::new("RS256", Some("rsa")),
        SigningKey::new("ES256", Some("ec")),
    );
    let mut only = SigningKey::new("RS256", Some("only")).jwk();
    only["alg"] = json!("PS256");
    let keys = set(&[rsa.jwk(), ec.jwk(), only]);
    for (alg, kid) in [
        ("ES256", "rsa"),
        ("RS256", "ec"),
        ("ES384", "ec"),
        ("RS256", "only"),
    ] {
        let token = rsa.sign_as(&json!({"alg": alg, "kid": kid}), &json!({}));
        assert_eq!(verify(&keys, &token), Err(Rejected::Unfit), "{alg} {kid}");
    }
}

#[test]
fn a_key_need_not_be_named_when_only_one_fits() {
    let (rsa, ec) = (
        SigningKey::new("RS256", None),
        SigningKey::new("ES256", Some("ec")),
    );
    let token = rsa.sign(&json!({}));
    assert_eq!(verify(&set(&[rsa.jwk(), ec.jwk()]), &token), Ok(()));
    let second = SigningKey::new("RS256", Some("second"));
    assert_eq!(
        verify(&set(&[rsa.jwk(), second.jwk()]), &token),
        Err(Rejected::Ambiguous)
    );
    let named = second.sign(&json!({}));
    assert_eq!(
        verify(&set(&[rsa.jwk(), ec.jwk()]), &named),
        Err(Rejected::UnknownKey)
    );
}

#[test]
fn keys_that_are_of_no_use_are_passed_over() {
    let good = SigningKey::new("ES256", Some("good"));
    let with = |field: &str, value: Value| {
        let mut jwk = SigningKey::new("ES256", Some("other")).jwk();
        jwk[field] = value;
        jwk
    };
    let mut short = SigningKey::new("RS256", Some("short")).jwk();
    short["n"] = json!("AQAB");
    let mut slow = SigningKey::new("RS256", Some("slow")).jwk();
    slow["e"] = json!("A".repeat(300));
    let useless = [
        with("use", json!("enc")),
        with("alg", json!("ECDH-ES")),
        with("crv", json!("secp256k1")),
        with("x", json!("AAAA")),
        with("kty", json!("oct")),
        with("kty", json!(7)),
        json!("text"),
        short,
        slow,
    ];
    let mut all = useless.to_vec();
    all.push(good.jwk());
    assert_eq!(set(&all).len(), 1);
    assert_eq!(set(&all), set(&[good.jwk()]));
    let none = KeySet::parse(json!({"keys": useless}).to_string().as_bytes());
    assert!(none.unwrap_err().starts_with("have none"));
    let many = vec![good.jwk(); KEYS_MAX + 1];
    let many = KeySet::parse(json!({"keys": many}).to_string().as_bytes());
    assert!(many.unwrap_err().contains("more than 100"));
    assert!(
        KeySet::parse(b"<html>")
            .unwrap_err()
            .contains("not a JSON Web Key Set")
    );
}
