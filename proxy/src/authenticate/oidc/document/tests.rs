use super::*;

const GOOD: &str = r#"
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
  - issuer:
      url: https://id.example.com/realms/people
      discoveryURL: https://id.internal:8443/realms/people/.well-known/openid-configuration
      audiences: [hoop, kubernetes]
      audienceMatchPolicy: MatchAny
    claimValidationRules:
      - claim: hd
        requiredValue: example.com
      - expression: claims.exp - claims.nbf <= 86400
        message: tokens live for a day at most
    claimMappings:
      username:
        expression: "claims.email_verified ? claims.email : claims.sub"
      groups:
        claim: groups
        prefix: "oidc:"
      uid:
        claim: sub
      extra:
        - key: example.com/tenant
          valueExpression: claims.tenant
    userValidationRules:
      - expression: "!user.username.startsWith('root')"
        message: root is nobody
  - issuer:
      url: https://other.example.com
      audiences: [hoop]
    claimMappings:
      username: {claim: sub, prefix: ""}
anonymous:
  enabled: false
"#;

fn wrong(text: &str) -> String {
    AuthenticationConfiguration::parse(text)
        .unwrap_err()
        .to_string()
}

/// The good file with one text replaced.
fn with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old}");
    GOOD.replacen(old, new, 1)
}

#[test]
fn a_file_of_the_api_server_is_read() {
    let read = AuthenticationConfiguration::parse(GOOD).unwrap();
    let [first, second] = &read.issuers[..] else {
        panic!("two issuers");
    };
    assert_eq!(first.url, "https://id.example.com/realms/people");
    assert_eq!(first.discovery.port(), Some(8443));
    assert_eq!(first.audiences, ["hoop", "kubernetes"]);
    assert_eq!(first.rules.claim_rules.len(), 2);
    assert_eq!(first.rules.extra[0].0, "example.com/tenant");
    assert_eq!(
        second.discovery.as_str(),
        "https://other.example.com/.well-known/openid-configuration"
    );
    assert!(second.rules.groups.is_none());
    let none = AuthenticationConfiguration::parse(
        "apiVersion: apiserver.config.k8s.io/v1beta1\nkind: AuthenticationConfiguration\n",
    );
    assert_eq!(none.unwrap().issuers(), 0);
}

/// What is replaced in the good file, by what, and what is said then.
const MISTAKES: &[(&str, &str, &str)] = &[
    (
        "url: https://id.example.com",
        "url: http://id.example.com",
        "line 6: \"url\" must be an https:// URL",
    ),
    (
        "/.well-known/openid-configuration",
        "/x?y=1",
        "line 7: \"discoveryURL\" must be",
    ),
    (
        "audiences: [hoop, kubernetes]",
        "audience: [hoop]",
        "line 8: issuer has no key \"audience\": did you mean \"audiences\"?",
    ),
    (
        "[hoop, kubernetes]",
        "[]",
        "line 8: an issuer needs at least one audience",
    ),
    (
        "[hoop, kubernetes]",
        "[hoop, hoop]",
        "line 8: the audience \"hoop\" is empty or there twice",
    ),
    (
        "      audienceMatchPolicy: MatchAny\n",
        "",
        "several audiences need",
    ),
    (
        "requiredValue: example.com",
        "expression: 'true'",
        "line 11: \"claim\" and \"expression\" do not go together",
    ),
    (
        "claims.nbf <= 86400",
        "claim.nbf <= 86400",
        "line 13: the expression in \"expression\" reads \"claim\"",
    ),
    (
        "claims.email_verified ? claims.email : claims.sub",
        "claims.email",
        "a username expression that reads claims.email needs",
    ),
    (
        "        prefix: \"oidc:\"\n",
        "",
        "\"groups\" needs a \"prefix\"",
    ),
    (
        "        claim: sub\n",
        "        prefix: x\n",
        "uid has no key \"prefix\"",
    ),
    (
        "example.com/tenant",
        "tenant",
        "must be lower case and begin with a domain",
    ),
    (
        "example.com/tenant",
        "k8s.io/tenant",
        "belongs to Kubernetes",
    ),
    ("!user.username", "!claims.username", "reads \"claims\""),
    (
        "https://other.example.com",
        "https://id.example.com/realms/people",
        "is there twice",
    ),
    (
        "enabled: false",
        "enabled: true",
        "\"enabled\" must be false",
    ),
    ("kind: Auth", "kind: Authn", "line 3: \"kind\" cannot be"),
    (
        "apiVersion: apiserver",
        "apiVersion: x",
        "line 2: \"apiVersion\" cannot be",
    ),
    (
        "username: {claim: sub, prefix: \"\"}",
        "groups: {claim: g, prefix: \"\"}",
        "claimMappings needs \"username\"",
    ),
    (
        "username: {claim: sub, prefix: \"\"}",
        "username: {}",
        "\"username\" needs either a claim or an expression",
    ),
    (
        "audiences: [hoop]\n",
        "audiences: [hoop]\n      certificateAuthority: /etc/ca.pem\n",
        "certificates in PEM",
    ),
];

#[test]
fn mistakes_are_named_with_their_lines() {
    for (old, new, message) in MISTAKES {
        let said = wrong(&with(old, new));
        assert!(said.contains(message), "{message:?} is not in\n{said}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let text = with("https://id.example.com", "id.example.com").replace("claims.tenant", "tenant(");
    assert_eq!(wrong(&text).lines().count(), 2, "{}", wrong(&text));
    assert!(wrong("jwt: [").starts_with("line "));
    assert!(wrong("- x").contains("must be a map"));
}
