use serde_json::json;

use super::super::AuthenticationConfiguration;
use super::*;

/// The rules of a file whose only issuer has these, as YAML below `jwt[0]`.
fn rules(more: &str) -> Rules {
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n  - issuer: {{url: 'https://i', \
         audiences: [a]}}\n{more}"
    );
    let mut read = AuthenticationConfiguration::parse(&text).unwrap();
    read.issuers.remove(0).rules
}

fn user(more: &str, claims: Json) -> Result<User, String> {
    let Json::Object(claims) = claims else {
        panic!("claims are an object");
    };
    rules(more)
        .user(&claims)
        .map_err(|Unauthenticated(why)| why)
}

const CLAIMED: &str = "    claimMappings:\n      username: {claim: email, prefix: 'u:'}\n      groups: {claim: groups, prefix: 'g:'}\n      \
                       uid: {claim: sub}\n";

#[test]
fn claims_become_names_with_their_prefixes() {
    let mapped = user(
        CLAIMED,
        json!({"email": "a@x", "groups": ["dev", "ops"], "sub": "1"}),
    )
    .unwrap();
    assert_eq!(mapped.username, "u:a@x");
    assert_eq!(mapped.groups, ["g:dev", "g:ops"]);
    assert_eq!(mapped.uid.as_deref(), Some("1"));
    let one = user(
        CLAIMED,
        json!({"email": "a@x", "groups": "dev", "sub": "1"}),
    )
    .unwrap();
    assert_eq!(one.groups, ["g:dev"]);
    assert!(
        user(CLAIMED, json!({"email": "a@x", "sub": "1"}))
            .unwrap()
            .groups
            .is_empty()
    );
    for (claims, why) in [
        (json!({"sub": "1"}), "no claim \"email\""),
        (json!({"email": 1, "sub": "1"}), "\"email\" is not a text"),
        (json!({"email": "", "sub": "1"}), "\"email\" is empty"),
        (json!({"email": "a@x"}), "no claim \"sub\""),
        (
            json!({"email": "a@x", "sub": "1", "groups": 5}),
            "neither a text nor a list",
        ),
        (
            json!({"email": "a@x", "sub": "1", "groups": ["a", 5]}),
            "neither a text nor a list",
        ),
    ] {
        let said = user(CLAIMED, claims).unwrap_err();
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn an_address_that_is_not_verified_names_nobody() {
    for (verified, good) in [
        (json!(true), true),
        (json!(false), false),
        (json!("true"), false),
        (json!(null), false),
    ] {
        let mapped = user(
            CLAIMED,
            json!({"email": "a@x", "sub": "1", "email_verified": verified}),
        );
        assert_eq!(mapped.is_ok(), good, "{mapped:?}");
    }
}

const COMPUTED: &str = r#"
    claimValidationRules:
      - {claim: hd, requiredValue: example.com}
      - {expression: "claims.level >= 2", message: use the second factor}
    claimMappings:
      username: {expression: "claims.sub + '@' + claims.hd"}
      groups: {expression: "claims.roles.filter(r, r.startsWith('k8s-')).map(r, r.substring(4))"}
      uid: {expression: "string(claims.n)"}
      extra:
        - {key: example.com/team, valueExpression: "claims.?team.orValue('')"}
        - {key: example.com/roles, valueExpression: claims.roles}
    userValidationRules:
      - {expression: "user.groups.all(g, g != 'root')", message: nobody is root}
      - {expression: "user.extra['example.com/roles'].size() < 4"}
"#;

#[test]
fn expressions_decide_and_compute() {
    let claims = |more: Json| {
        let mut claims = json!({"sub": "a", "hd": "example.com", "level": 2, "n": 7, "roles": ["k8s-dev", "", "x"]});
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    };
    let mapped = user(COMPUTED, claims(json!({}))).unwrap();
    assert_eq!(mapped.username, "a@example.com");
    assert_eq!(mapped.groups, ["dev"]);
    assert_eq!(mapped.uid.as_deref(), Some("7"));
    assert_eq!(mapped.extra.len(), 1, "what is empty is left out");
    assert_eq!(mapped.extra["example.com/roles"], ["k8s-dev", "x"]);
    for (more, why) in [
        (
            json!({"hd": "evil.com"}),
            "\"hd\" does not have the required value",
        ),
        (json!({"level": 1}), "use the second factor"),
        (json!({"level": "2"}), "cannot be evaluated"),
        (json!({"roles": ["k8s-root"]}), "nobody is root"),
        (json!({"roles": ["a", "b", "c", "d"]}), "does not fulfil"),
        (json!({"roles": 5}), "cannot be evaluated"),
        (json!({"team": 5}), "neither a text nor a list of texts"),
        (json!({"team": [5]}), "neither a text nor a list of texts"),
    ] {
        let said = user(COMPUTED, claims(more)).unwrap_err();
        assert!(said.contains(why), "{why:?} is not in {said:?}");
    }
}
