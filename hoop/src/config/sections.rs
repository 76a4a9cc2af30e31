//! The sections of the file, but for `people`: from texts to values, with their defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hoop_recorder::{SealConfig, Share};
use hoop_schema::{Class, EventHash, ProducerId};
use hoop_sinks::store::{BucketOptions, LockMode, Place};

use super::tree::Reader;
use super::values::{address, certificate_name, duration, host_and_port, http_url, size, truth};
use super::{
    AuthenticationConfig, ClassRetention, Config, Environment, EvidenceConfig, GatewayConfig,
    Overrides, RecorderConfig, Secret, UpstreamConfig, encryption, log, people,
};

/// Beside the usual port of an API server, so that both fit on one machine; only this machine, until told otherwise.
const LISTEN: &str = "127.0.0.1:8443";

/// Beside the gateway.
const ADMIN_LISTEN: &str = "127.0.0.1:9443";

/// Kubernetes kills a pod after 30 s.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// The names of the retention classes, each a log of its own.
pub(crate) const CLASSES: [&str; 3] = ["short", "standard", "long"];

/// Reads everything. What is wrong has been noted, and the default stands in its place.
pub(super) fn read(
    reader: &mut Reader,
    base: &Path,
    overrides: Overrides,
    environment: &Environment,
) -> Config {
    let listen = reader.value("gateway.listen", address);
    let data = path(reader, "data", base);
    let cluster = reader
        .value("cluster", cluster)
        .unwrap_or_else(|| "default".into());
    let log = log::read(reader, base, &cluster);
    let retention = retention(reader);
    let mut config = Config {
        file: None,
        data: overrides
            .data
            .or(data)
            .unwrap_or_else(|| "hoop-data".into()),
        cluster,
        producer_id: reader.value("producer_id", |text| {
            ProducerId::new(text)
                .map_err(|_| "no name: 1 to 128 characters of A-Z a-z 0-9 . _ -".into())
        }),
        gateway: GatewayConfig {
            listen: overrides
                .listen
                .or(listen)
                .unwrap_or_else(|| LISTEN.parse().expect("the default is an address")),
            address: reader.value("gateway.address", host_and_port),
            names: names(reader),
            drain_timeout: reader
                .value("gateway.drain_timeout", duration)
                .unwrap_or(DRAIN_TIMEOUT),
        },
        admin_listen: reader
            .value("admin.listen", |text| match text {
                "off" | "false" => Ok(None),
                text => address(text).map(Some),
            })
            .unwrap_or_else(|| Some(ADMIN_LISTEN.parse().expect("the default is an address"))),
        upstream: upstream(reader, base, environment),
        people: people::read(reader, environment),
        policy: path(reader, "policy", base),
        tokens: path(reader, "tokens", base),
        authentication: authentication(reader, base),
        mask_key: mask_key(reader),
        log,
        recorder: recorder(reader, base, environment),
        evidence: evidence(reader, base, &retention),
        retention,
        encryption: None,
    };
    config.encryption = encryption::read(reader, base, &config);
    config.policy = overrides.policy.or(config.policy);
    if overrides.kubeconfig.is_some() || overrides.context.is_some() {
        let (mut file, mut named) = match config.upstream {
            UpstreamConfig::Kubeconfig { path, context } => (path, context),
            UpstreamConfig::InCluster => (None, None),
        };
        if overrides.kubeconfig.is_some() {
            // Another file has other contexts.
            (file, named) = (overrides.kubeconfig, None);
        }
        config.upstream = UpstreamConfig::Kubeconfig {
            path: file,
            context: overrides.context.or(named),
        };
    }
    config
}

fn authentication(reader: &mut Reader, base: &Path) -> AuthenticationConfig {
    AuthenticationConfig {
        file: path(reader, "authentication.file", base),
        client_ca: path(reader, "authentication.client_ca", base),
        client_revocations: path(reader, "authentication.client_revocations", base),
        review_service_accounts: reader
            .value("authentication.service_accounts", |text| match text {
                "token_review" => Ok(true),
                // YAML reads a bare off as false.
                "off" | "false" => Ok(false),
                _ => Err("neither token_review nor off".into()),
            })
            .unwrap_or(false),
    }
}

fn mask_key(reader: &mut Reader) -> Option<Secret<[u8; 32]>> {
    let key = reader.value("mask_key", |text| {
        // The text is a secret: it must not be in the message.
        text.parse::<EventHash>()
            .map(|key| *key.as_bytes())
            .or(Ok::<_, String>([0; 32]))
    })?;
    if key == [0; 32] {
        let message = "mask_key: not 64 hexadecimal digits, or all of them 0";
        reader.note(0, message.into());
    }
    Some(Secret::new(key))
}

fn cluster(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.len() <= 253 && !text.chars().any(char::is_control);
    if fits {
        return Ok(text.to_owned());
    }
    Err("no name of a cluster: 1 to 253 characters".into())
}

pub(super) fn path(reader: &mut Reader, key: &str, base: &Path) -> Option<PathBuf> {
    reader.value(key, |text| match text {
        "" => Err("no path".into()),
        text => Ok(base.join(text)),
    })
}

fn names(reader: &mut Reader) -> Vec<String> {
    let mut names = Vec::new();
    for (line, text) in reader.list("gateway.names") {
        match certificate_name(&text) {
            Ok(name) => names.push(name),
            Err(why) => reader.note(line, format!("gateway.names: {text:?} is {why}")),
        }
    }
    names
}

fn upstream(reader: &mut Reader, base: &Path, environment: &Environment) -> UpstreamConfig {
    let file = path(reader, "upstream.kubeconfig", base);
    let context = reader.value("upstream.context", |text| Ok(text.to_owned()));
    let in_cluster = reader.value("upstream.in_cluster", truth);
    if in_cluster == Some(true) {
        if file.is_some() || context.is_some() {
            reader.note(
                0,
                "upstream: in_cluster goes without kubeconfig and context; remove one of them"
                    .into(),
            );
        }
        return UpstreamConfig::InCluster;
    }
    let in_pod = environment.contains_key("KUBERNETES_SERVICE_HOST");
    let named = file.is_some() || context.is_some() || environment.contains_key("KUBECONFIG");
    if in_pod && !named && in_cluster.is_none() {
        return UpstreamConfig::InCluster;
    }
    UpstreamConfig::Kubeconfig {
        path: file,
        context,
    }
}

fn recorder(reader: &mut Reader, base: &Path, environment: &Environment) -> RecorderConfig {
    let bytes = reader.value("recorder.flush_bytes", size);
    RecorderConfig {
        share: reader
            .value("recorder.share", |text| share(text, environment))
            .unwrap_or(Share::ALL),
        takeover_after: reader
            .value("recorder.takeover_after", duration)
            .unwrap_or(hoop_recorder::config::TAKEOVER_AFTER),
        flush_bytes: bytes
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(hoop_recorder::config::FLUSH_BYTES),
        flush_age: reader
            .value("recorder.flush_age", duration)
            .unwrap_or(hoop_recorder::config::FLUSH_AGE),
        hole_open_time: reader
            .value("recorder.hole_open_time", duration)
            .unwrap_or(hoop_recorder::config::HOLE_OPEN_TIME),
        signing_key: path(reader, "recorder.signing_key", base),
        previous_signing_key: path(reader, "recorder.previous_signing_key", base),
        seal: seal(reader),
    }
}

fn seal(reader: &mut Reader) -> SealConfig {
    let defaults = SealConfig::default();
    SealConfig {
        enabled: reader
            .value("recorder.seal.enabled", truth)
            .unwrap_or(defaults.enabled),
        after: reader
            .value("recorder.seal.after", duration)
            .unwrap_or(defaults.after),
        grace: reader
            .value("recorder.seal.grace", duration)
            .unwrap_or(defaults.grace),
        ..defaults
    }
}

/// A share: `2/3`, or `ordinal/3` for the one that the number at the end of this machine's name says, from 0, as the pods
/// of a StatefulSet have it.
fn share(text: &str, environment: &Environment) -> Result<Share, String> {
    let Some(of) = text.strip_prefix("ordinal/") else {
        return text.parse().map_err(|_| {
            "no share: write N/M, such as 2/3 for the second of three, or ordinal/M".into()
        });
    };
    let name = environment.get("HOSTNAME").map_or("", String::as_str);
    let digits = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let ordinal = name[digits..].parse::<u32>().ok();
    let share =
        ordinal.and_then(|ordinal| Share::new(ordinal.checked_add(1)?, of.parse().ok()?).ok());
    share.ok_or_else(|| {
        format!("no share: {name:?}, the name of this machine, does not end with a number below that of the recorders")
    })
}

fn retention(reader: &mut Reader) -> BTreeMap<Class, ClassRetention> {
    let mut retention = BTreeMap::new();
    for name in CLASSES {
        let term = reader.value(&format!("retention.{name}.term"), duration);
        let mode = reader
            .value(&format!("retention.{name}.mode"), |text| match text {
                "none" => Ok(None),
                "governance" => Ok(Some(LockMode::Governance)),
                "compliance" => Ok(Some(LockMode::Compliance)),
                _ => Err("neither none, governance nor compliance".into()),
            })
            .flatten();
        match term {
            Some(term) => {
                let class = Class::new(name).expect("a class of ours");
                retention.insert(class, ClassRetention { term, mode });
            }
            None if mode.is_some() => reader.note(
                0,
                format!("retention.{name}: a mode locks until a term is over; set retention.{name}.term too"),
            ),
            None => {}
        }
    }
    retention
}

fn evidence(
    reader: &mut Reader,
    base: &Path,
    retention: &BTreeMap<Class, ClassRetention>,
) -> EvidenceConfig {
    let place = reader.value("evidence.place", |text| match text.parse() {
        Ok(Place::Dir(root)) => Ok(Place::Dir(base.join(root))),
        Ok(place) => Ok(place),
        Err(_) => Err("no place for evidence: write a directory, or s3://BUCKET/PREFIX".into()),
    });
    let locks = retention.values().any(|kept| kept.mode.is_some());
    if locks && !matches!(place, Some(Place::Bucket(_))) {
        reader.note(
            0,
            "retention: only a bucket with Object Lock can lock; name one with evidence.place, or set the modes to none".into(),
        );
    }
    let object_lock = reader.value("evidence.object_lock", truth);
    if locks && object_lock == Some(false) {
        reader.note(
            0,
            "evidence.object_lock: false does not go with a retention mode; remove one of them"
                .into(),
        );
    }
    EvidenceConfig {
        place,
        bucket: BucketOptions {
            endpoint: reader.value("evidence.endpoint", http_url),
            region: reader.value("evidence.region", |text| Ok(text.to_owned())),
            path_style: reader.value("evidence.path_style", truth),
            credentials_file: path(reader, "evidence.credentials_file", base),
            object_lock: object_lock.unwrap_or(locks),
            terms: None,
        },
    }
}
