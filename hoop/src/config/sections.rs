//! The sections of the file, but for `people`: from texts to values, with their defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hoop_schema::{Class, EventHash, ProducerId};

use super::tree::Reader;
use super::values::{address, certificate_name, duration, host_and_port, size, truth};
use super::{
    AuthenticationConfig, Config, Environment, GatewayConfig, LogConfig, Overrides, RecorderConfig,
    Secret, UpstreamConfig, people,
};

/// Beside the usual port of an API server, so that both fit on one machine; only this machine, until told otherwise.
const LISTEN: &str = "127.0.0.1:8443";

/// Beside the gateway.
const ADMIN_LISTEN: &str = "127.0.0.1:9443";

/// Kubernetes kills a pod after 30 s.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// The least size of a class's log: room for two segments, and a recorder that stood still for a while.
const LOG_SIZE_MIN: u64 = 256 << 20;

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
    let mut config = Config {
        data: overrides
            .data
            .or(data)
            .unwrap_or_else(|| "hoop-data".into()),
        cluster: reader
            .value("cluster", cluster)
            .unwrap_or_else(|| "default".into()),
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
        log: log(reader),
        recorder: recorder(reader),
    };
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

fn path(reader: &mut Reader, key: &str, base: &Path) -> Option<PathBuf> {
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

fn log(reader: &mut Reader) -> LogConfig {
    let defaults = hoop_sinks::log::embedded::Options::default();
    let large_enough = |text: &str| match size(text)? {
        bytes if bytes < LOG_SIZE_MIN => Err("too little: at least 256MiB".into()),
        bytes => Ok(bytes),
    };
    LogConfig {
        size_max: reader
            .value("log.size_max", large_enough)
            .unwrap_or(defaults.size_max),
        age_max: reader
            .value("log.age_max", duration)
            .unwrap_or(defaults.age_max),
    }
}

fn recorder(reader: &mut Reader) -> RecorderConfig {
    let bytes = reader.value("recorder.flush_bytes", size);
    let mut keep = BTreeMap::new();
    for name in CLASSES {
        let term = reader.value(&format!("recorder.keep.{name}"), duration);
        keep.extend(term.map(|term| (Class::new(name).expect("a class of ours"), term)));
    }
    RecorderConfig {
        flush_bytes: bytes
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(hoop_recorder::config::FLUSH_BYTES),
        flush_age: reader
            .value("recorder.flush_age", duration)
            .unwrap_or(hoop_recorder::config::FLUSH_AGE),
        keep,
    }
}
