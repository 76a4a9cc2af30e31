//! Configurations, right and wrong.

use super::*;
use hoop_replayer::installation::{Brokers, Installation};
use hoop_sinks::log::nats::Options as NatsOptions;

fn parse(text: &str) -> Result<Config, ConfigError> {
    let environment = Environment::from([("USER".into(), "jo".into())]);
    Config::parse(
        Path::new("/etc/hoop/hoop.yaml"),
        text,
        Overrides::default(),
        &environment,
    )
}

#[test]
fn nothing_is_needed() {
    let config = parse("# nothing\n").unwrap();
    assert_eq!(config.gateway.listen.to_string(), "127.0.0.1:8443");
    assert_eq!(config.people[0].name, "jo");
    assert_eq!(config.people[0].groups, ["administrators"]);
    assert_eq!(config.recorder.flush_age, Duration::from_secs(300));
}

#[test]
fn the_example_of_the_reference_is_read() {
    let reference = keys::reference();
    let example = reference
        .split("```yaml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let config = parse(example).unwrap();
    assert_eq!(
        config.public_address(config.gateway.listen),
        "hoop.example.com:8443"
    );
    assert!(
        config
            .certificate_names(&Environment::new())
            .contains(&"hoop.example.com".to_owned())
    );
    let standard = config.terms()[&Class::standard()];
    assert_eq!(standard, Duration::from_secs(365 * 24 * 3600));
}

#[test]
fn everything_wrong_is_said_at_once() {
    let text = "\
gateway:
  listn: 127.0.0.1:8443
  drain_timeout: soon
  names: [fine.example.com, 'not fine']
listen: 127.0.0.1:1
upstream:
  in_cluster: perhaps
people:
  - groups: [developers]
  - {name: 'system:admin'}
  - {name: bob, grups: []}
  - name: bob
log: {size_max: 16}
evidence: {place: 's4://audit', endpoint: 'minio:9000', path_style: perhaps}
recorder:
  flush_bytes: 1MiB
  flush_age: 5
retention:
  standart: {term: 1d}
  short: {mode: governence}
  long: {mode: compliance}
mask_key: abc
";
    insta::assert_snapshot!(parse(text).unwrap_err(), @r#"
    /etc/hoop/hoop.yaml: retention.long: a mode locks until a term is over; set retention.long.term too
    /etc/hoop/hoop.yaml: mask_key: not 64 hexadecimal digits, or all of them 0
    /etc/hoop/hoop.yaml:2: unknown key "gateway.listn": did you mean "listen"?
    /etc/hoop/hoop.yaml:3: gateway.drain_timeout: "soon" is no duration: write a number with its unit, such as 30s, 5m, 12h or 30d
    /etc/hoop/hoop.yaml:4: gateway.names: "not fine" is neither a DNS name nor an IP address, such as hoop.example.com
    /etc/hoop/hoop.yaml:5: unknown key "listen": did you mean "gateway.listen"?
    /etc/hoop/hoop.yaml:7: upstream.in_cluster: "perhaps" is neither true nor false
    /etc/hoop/hoop.yaml:9: a person needs a name, such as name: alice
    /etc/hoop/hoop.yaml:10: "system:admin" cannot be used: names that begin with system: belong to the cluster's own components
    /etc/hoop/hoop.yaml:11: a person has no key "grups": did you mean "groups"?
    /etc/hoop/hoop.yaml:12: "bob" is there twice among people
    /etc/hoop/hoop.yaml:13: log.size_max: "16" is no size: write a whole number with its unit, such as 512MiB or 16GiB
    /etc/hoop/hoop.yaml:14: evidence.place: "s4://audit" is no place for evidence: write a directory, or s3://BUCKET/PREFIX
    /etc/hoop/hoop.yaml:14: evidence.endpoint: "minio:9000" is no URL of a server, such as https://minio.example.com:9000
    /etc/hoop/hoop.yaml:14: evidence.path_style: "perhaps" is neither true nor false
    /etc/hoop/hoop.yaml:17: recorder.flush_age: "5" is no duration: write a number with its unit, such as 30s, 5m, 12h or 30d
    /etc/hoop/hoop.yaml:19: unknown key "retention.standart": did you mean "standard"?
    /etc/hoop/hoop.yaml:20: retention.short.mode: "governence" is neither none, governance nor compliance
    "#);
}

#[test]
fn a_mode_takes_a_bucket_that_locks() {
    let retention = "retention: {standard: {term: 365d, mode: compliance}}\n";
    let bucket = "evidence: {place: 's3://audit/prod'}\n";
    let config = parse(&format!("{bucket}{retention}")).unwrap();
    assert!(config.evidence.bucket.object_lock, "the probe asks for it");
    let kept = config.retention[&Class::standard()];
    assert_eq!(kept.mode, Some(LockMode::Compliance));
    let error = parse(retention).unwrap_err().to_string();
    assert!(error.contains("only a bucket with Object Lock"), "{error}");
    let unlocked = "evidence: {place: 's3://audit/prod', object_lock: false}\n";
    let error = parse(&format!("{unlocked}{retention}")).unwrap_err();
    assert!(error.to_string().contains("remove one of them"), "{error}");
}

#[test]
fn what_is_no_yaml_is_said_with_its_line() {
    let error = parse("gateway:\n  listen: [1\n").unwrap_err();
    assert!(
        error.to_string().contains("not readable as YAML"),
        "{error}"
    );
    assert!(error.mistakes[0].line > 0);
    assert!(
        parse("- a list\n")
            .unwrap_err()
            .to_string()
            .contains("the file must be a map")
    );
}

#[test]
fn the_command_line_wins_and_paths_are_relative_to_the_file() {
    let overrides = Overrides {
        data: Some("/data".into()),
        kubeconfig: Some("/other".into()),
        ..Overrides::default()
    };
    let text = "data: d\npolicy: p.yaml\nupstream: {kubeconfig: k, context: c}\n";
    let config = Config::parse(
        Path::new("/etc/hoop.yaml"),
        text,
        overrides,
        &Environment::new(),
    )
    .unwrap();
    assert_eq!(config.data, Path::new("/data"));
    assert_eq!(config.policy.as_deref(), Some(Path::new("/etc/p.yaml")));
    let UpstreamConfig::Kubeconfig { path, context } = config.upstream else {
        panic!("a kubeconfig was named");
    };
    assert_eq!(
        (path.as_deref(), context),
        (Some(Path::new("/other")), None)
    );
}

#[test]
fn evidence_is_kept_in_the_data_directory_or_where_it_is_told() {
    let config = parse("data: d\n").unwrap();
    assert_eq!(
        config.evidence_place(),
        Place::Dir("/etc/hoop/d/evidence".into())
    );
    let config = parse("evidence: {place: e}\n").unwrap();
    assert_eq!(config.evidence_place(), Place::Dir("/etc/hoop/e".into()));
    let text =
        "evidence: {place: 's3://audit/prod', endpoint: 'http://minio:9000', object_lock: true}\n";
    let config = parse(text).unwrap();
    assert_eq!(config.evidence_place().to_string(), "s3://audit/prod");
    assert_eq!(
        config.evidence.bucket.endpoint.as_deref(),
        Some("http://minio:9000")
    );
    assert!(config.evidence.bucket.object_lock);
}

#[test]
fn who_may_come_in_is_configured_beside_the_policy() {
    let config =
        parse("authentication: {file: oidc.yaml, service_accounts: token_review}\n").unwrap();
    assert_eq!(
        config.authentication.file.as_deref(),
        Some(Path::new("/etc/hoop/oidc.yaml"))
    );
    assert!(config.authentication.review_service_accounts);
    assert!(
        !parse("authentication: {service_accounts: off}\n")
            .unwrap()
            .authentication
            .review_service_accounts
    );
    let error = parse("authentication:\n  fil: x\n  service_accounts: perhaps\n").unwrap_err();
    insta::assert_snapshot!(error, @r#"
    /etc/hoop/hoop.yaml:2: unknown key "authentication.fil": did you mean "file"?
    /etc/hoop/hoop.yaml:3: authentication.service_accounts: "perhaps" is neither token_review nor off
    "#);
}

#[test]
fn secrets_do_not_print() {
    let config = parse(&format!("mask_key: {}\n", "ab".repeat(32))).unwrap();
    let printed = format!("{config:?}");
    assert!(
        printed.contains("****") && !printed.contains("171, 171"),
        "{printed}"
    );
}

#[test]
fn the_reference_says_what_the_code_reads() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&file, keys::reference()).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(
        written == keys::reference(),
        "run this test with UPDATE_REFERENCE=1"
    );
}

/// `hoop-replay` reads parts of the same file by itself: it must find the same log and the same evidence.
#[test]
fn the_replayer_understands_the_same_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "s3cret\n").unwrap();
    let secret = secret.display();
    for log in [
        "nats: {servers: ['tls://a:4222', 'tls://b:4222'], credentials_file: x.creds, ca: ca.crt}"
            .to_owned(),
        "nats: {servers: ['nats://a:4222'], user: u, password_file: pass}".to_owned(),
        "nats: {servers: ['nats://a:4222'], nkey_file: seed, certificate: cert, key: priv}"
            .to_owned(),
        "nats: {servers: ['nats://a:4222'], token_file: token}".to_owned(),
        "kafka: {brokers: ['a:9092', 'b:9092'], topic_prefix: other}".to_owned(),
        format!(
            "kafka: {{brokers: ['a:9092'], sasl: scram-sha-512, user: u, password_file: '{secret}', ca: '{secret}'}}"
        ),
        format!(
            "kafka: {{brokers: ['a:9092'], sasl: plain, user: u, password_file: '{secret}', tls: true}}"
        ),
        format!(
            "kafka: {{brokers: ['a:9092'], sasl: oauthbearer, token_file: token, certificate: '{secret}', key: '{secret}'}}"
        ),
    ] {
        let text = format!(
            "cluster: prod-1\ndata: d\nlog: {{{log}}}\nevidence: {{place: 's3://audit/x', endpoint: 'http://m:9000', region: r, \
             path_style: true, credentials_file: c}}\n"
        );
        let ours = parse(&text).unwrap();
        let theirs = Installation::parse(&text, Path::new("/etc/hoop")).unwrap();
        assert_eq!(theirs.data.as_ref(), Some(&ours.data));
        assert_eq!(theirs.evidence, ours.evidence.place);
        assert_eq!(theirs.bucket, ours.evidence.bucket);
        match (theirs.brokers().unwrap().unwrap(), ours.log.backend) {
            (Brokers::Nats(theirs), LogBackend::Nats(ours)) => {
                let expected = NatsOptions {
                    create_stream: false,
                    ..*ours
                };
                assert_eq!(*theirs, expected);
            }
            (Brokers::Kafka(theirs), LogBackend::Kafka(ours)) => {
                assert!(!theirs.create_topic);
                let mut expected = *ours;
                expected.create_topic = false;
                assert_eq!(format!("{theirs:?}"), format!("{expected:?}"));
            }
            (theirs, ours) => panic!("{theirs:?} and {ours:?}"),
        }
    }
    let embedded = Installation::parse("log: {size_max: 1GiB}", Path::new("")).unwrap();
    assert!(embedded.brokers().unwrap().is_none());
}
