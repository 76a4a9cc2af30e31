//! Every key of the configuration, and the reference that is written from them.

use std::fmt::Write;

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its path, such as `gateway.listen`.
    pub path: &'static str,
    /// What its value looks like.
    pub form: &'static str,
    /// Its default, for people.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
}

const fn key(
    path: &'static str,
    form: &'static str,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        path,
        form,
        default,
        doc,
    }
}

/// All keys of the file.
pub const KEYS: &[Key] = &[
    key(
        "data",
        "directory",
        "`./hoop-data`",
        "Where log, evidence, certificates and kubeconfigs are kept. `--data` wins.",
    ),
    key(
        "cluster",
        "text",
        "`default`",
        "Name of the Kubernetes cluster in every event.",
    ),
    key(
        "producer_id",
        "name",
        "made on the first start",
        "Name of this gateway in every event; stays the same over restarts.",
    ),
    key(
        "gateway.listen",
        "address",
        "`127.0.0.1:8443`",
        "Where the gateway listens. `--listen` wins.",
    ),
    key(
        "gateway.address",
        "host:port",
        "as `gateway.listen`",
        "What kubeconfigs name, when clients reach the gateway under another address.",
    ),
    key(
        "gateway.names",
        "list of names",
        "none",
        "Further DNS names and addresses in the gateway's certificate. `localhost`, the name of this machine and the host of `gateway.address` are always in it.",
    ),
    key(
        "gateway.drain_timeout",
        "duration",
        "`25s`",
        "For open watches and logs to end when the gateway is stopped. Kubernetes kills a pod after 30 s.",
    ),
    key(
        "admin.listen",
        "address or `off`",
        "`127.0.0.1:9443`",
        "Where `/metrics`, `/healthz` and `/readyz` are served, over plain HTTP.",
    ),
    key(
        "upstream.kubeconfig",
        "file",
        "the default of kubectl, else the pod's service account",
        "The API server, and the gateway's own credential for it. `--kubeconfig` wins.",
    ),
    key(
        "upstream.context",
        "text",
        "the current one",
        "Context of that kubeconfig. `--context` wins.",
    ),
    key(
        "upstream.in_cluster",
        "`true` or `false`",
        "`false`",
        "Take the service account of the pod that the gateway runs in.",
    ),
    key(
        "people",
        "list",
        "the user who starts it, in group `administrators`",
        "Who gets a client certificate and a kubeconfig; see below.",
    ),
    key(
        "policy",
        "file",
        "`policy.yaml` in the data directory",
        "Who may do what. Written on the first start when there is none: `administrators` may do everything, secrets masked. `--policy` wins.",
    ),
    key(
        "tokens",
        "file",
        "none",
        "Hashed static tokens, for robots and for breaking the glass.",
    ),
    key(
        "authentication.file",
        "file",
        "none",
        "Issuers of ID tokens (OpenID Connect), in the words of the API server's `AuthenticationConfiguration`; see [identity](identity.md).",
    ),
    key(
        "authentication.service_accounts",
        "`token_review` or `off`",
        "`off`",
        "Whether the API server is asked about bearer tokens that nobody else knows, so that service accounts of the cluster can use the gateway.",
    ),
    key(
        "authentication.client_ca",
        "file",
        "none",
        "Further authorities whose client certificates are accepted, as PEM: common name is the user, organisations are the groups. The gateway's own is always accepted.",
    ),
    key(
        "authentication.client_revocations",
        "file",
        "none",
        "Revocation lists (PEM) of these authorities; read again when it changes.",
    ),
    key(
        "mask_key",
        "64 hexadecimal digits",
        "made on the first start",
        "Key of the masking mode `hmac`: gateways that share it show equal secrets as equal.",
    ),
    key(
        "log.size_max",
        "size",
        "`16GiB`",
        "The most bytes of one retention class in the embedded log or the spool. When nothing of it is committed as evidence, requests are refused rather than left unrecorded.",
    ),
    key(
        "log.age_max",
        "duration",
        "`1d`",
        "How long committed events stay in the embedded log for those who read it.",
    ),
    key(
        "log.spool",
        "`true` or `false`",
        "`true`",
        "Whether a log on NATS or Kafka has a spool before it: an embedded log in the data directory, which takes what the brokers cannot, and ships it in order when they can. Rules of the policy with `durability: spool` go on while the brokers are down.",
    ),
    key(
        "log.nats.servers",
        "list of URLs",
        "none: the embedded log",
        "Servers of NATS JetStream, `nats://host:port` or `tls://host:port`: the event log is there.",
    ),
    key(
        "log.nats.credentials_file",
        "file",
        "none",
        "A user's JWT and NKey, as `nsc` writes them.",
    ),
    key("log.nats.nkey_file", "file", "none", "The seed of an NKey."),
    key("log.nats.token_file", "file", "none", "A token."),
    key(
        "log.nats.user",
        "text",
        "none",
        "Name of a user; with `log.nats.password_file`.",
    ),
    key(
        "log.nats.password_file",
        "file",
        "none",
        "The password of that user.",
    ),
    key(
        "log.nats.ca",
        "file",
        "those of the system",
        "Authorities (PEM) of the servers' certificates.",
    ),
    key(
        "log.nats.certificate",
        "file",
        "none",
        "Client certificate (PEM); with `log.nats.key`.",
    ),
    key("log.nats.key", "file", "none", "Its private key (PEM)."),
    key(
        "log.nats.shards",
        "number",
        "`8`",
        "Shards of each class, fixed when its stream is created: as many recorders can share the work.",
    ),
    key(
        "log.nats.replicas",
        "number",
        "`3`",
        "Copies of each record.",
    ),
    key(
        "log.nats.age_max",
        "duration",
        "`7d`",
        "How long streams keep records.",
    ),
    key(
        "log.nats.bytes_max",
        "size",
        "`64GiB`",
        "The most bytes of one class; beyond, appends are refused.",
    ),
    key(
        "log.kafka.brokers",
        "list of host:port",
        "none: the embedded log",
        "Brokers of Kafka to begin with: the event log is there.",
    ),
    key(
        "log.kafka.tls",
        "`true` or `false`",
        "`true` where certificates are named",
        "Whether connections to the brokers are encrypted.",
    ),
    key(
        "log.kafka.ca",
        "file",
        "those of the system",
        "Authorities (PEM) of the brokers' certificates.",
    ),
    key(
        "log.kafka.certificate",
        "file",
        "none",
        "Client certificate (PEM); with `log.kafka.key`.",
    ),
    key("log.kafka.key", "file", "none", "Its private key (PEM)."),
    key(
        "log.kafka.sasl",
        "`plain`, `scram-sha-256`, `scram-sha-512` or `oauthbearer`",
        "none",
        "How we log in at the brokers.",
    ),
    key("log.kafka.user", "text", "none", "Name of the user."),
    key(
        "log.kafka.password_file",
        "file",
        "none",
        "The password of that user.",
    ),
    key(
        "log.kafka.token_file",
        "file",
        "none",
        "For `oauthbearer`: a JSON Web Token that somebody keeps fresh.",
    ),
    key(
        "log.kafka.topic_prefix",
        "text",
        "`audit`",
        "Topics are named `<prefix>.<cluster>.<class>`.",
    ),
    key(
        "log.kafka.shards",
        "number",
        "`8`",
        "Partitions of each topic, fixed when it is created: as many recorders can share the work.",
    ),
    key(
        "log.kafka.replicas",
        "number",
        "`3`",
        "Copies of each record.",
    ),
    key(
        "log.kafka.min_in_sync_replicas",
        "number",
        "`2`",
        "Copies that must be there before a record counts as durable.",
    ),
    key(
        "log.kafka.retention",
        "duration",
        "`7d`",
        "How long topics keep records.",
    ),
    key(
        "log.kafka.create_topics",
        "`true` or `false`",
        "`true`",
        "Whether topics that do not exist are created.",
    ),
    key(
        "recorder.share",
        "`N/M` or `ordinal/M`",
        "`1/1`",
        "Which shards are this recorder's own, when M share the work: the N-th share, or the one that the number at the end of the machine's name says, from 0, as in a StatefulSet. Never needed for safety.",
    ),
    key(
        "recorder.takeover_after",
        "duration",
        "`15m`",
        "How long a shard of another recorder's share may wait to be recorded before this one does it meanwhile.",
    ),
    key(
        "recorder.flush_bytes",
        "size",
        "`128MiB`",
        "Bytes of events after which a session file is written. The recorder takes up to three times as much memory.",
    ),
    key(
        "recorder.flush_age",
        "duration",
        "`5m`",
        "Age of the oldest unwritten event after which a session file is written.",
    ),
    key(
        "recorder.hole_open_time",
        "duration",
        "`2m`",
        "How long a hole in a gateway's sequence is held open for an event that is sent again, before it is recorded as a gap.",
    ),
    key(
        "recorder.signing_key",
        "file",
        "`evidence.key` in the data directory, made on the first start",
        "Key that signs the transparency log of the evidence, as `hoop key` writes it. Keep it where those who may write to the evidence cannot read it.",
    ),
    key(
        "recorder.previous_signing_key",
        "file",
        "`evidence.key.previous` in the data directory, if it is there",
        "The key before it: both sign from then on, and the log announces the new one. Remove it once every log has a newer checkpoint.",
    ),
    key(
        "recorder.seal.enabled",
        "`true` or `false`",
        "`true`",
        "Whether the session files of a finished day are merged into a few large objects, and deleted afterwards.",
    ),
    key(
        "recorder.seal.after",
        "duration",
        "`3h`",
        "How long a day (UTC) has to be over before it is sealed.",
    ),
    key(
        "recorder.seal.grace",
        "duration",
        "`24h`",
        "How long the small files of a sealed day stay, for whoever is reading them.",
    ),
    key(
        "evidence.place",
        "directory or `s3://BUCKET/PREFIX`",
        "`evidence` in the data directory",
        "Where evidence is kept; see [evidence in S3](s3.md).",
    ),
    key(
        "evidence.endpoint",
        "URL",
        "`AWS_ENDPOINT_URL`, else AWS",
        "Server of the bucket, where it is not AWS: MinIO, Ceph, R2.",
    ),
    key(
        "evidence.region",
        "text",
        "as of `AWS_REGION`, the profile or the machine",
        "Region of the bucket.",
    ),
    key(
        "evidence.path_style",
        "`true` or `false`",
        "`true` where an endpoint is named",
        "Whether requests name the bucket in the path instead of the host name.",
    ),
    key(
        "evidence.credentials_file",
        "file",
        "the sources that every tool for AWS knows",
        "Credentials for the bucket, in the form of `~/.aws/credentials`. Read again when they are no longer taken.",
    ),
    key(
        "evidence.object_lock",
        "`true` or `false`",
        "`true` where a class has a mode",
        "Whether the bucket must have Object Lock; without it, the start is refused.",
    ),
    key(
        "retention.short.term",
        "duration",
        "for ever",
        "How long evidence of class `short` is kept, from the end of its day on; see [retention](retention.md).",
    ),
    key(
        "retention.short.mode",
        "`none`, `governance` or `compliance`",
        "`none`",
        "How the objects of class `short` are locked until then; takes a bucket with Object Lock.",
    ),
    key(
        "retention.short.encrypt_bodies",
        "`true` or `false`",
        "`false`",
        "Whether bodies and streams that go to class `short` are encrypted, so that they can be erased; takes `encryption.keys`. See [erasure](retention.md#erasure).",
    ),
    key(
        "retention.standard.term",
        "duration",
        "for ever",
        "How long evidence of class `standard` is kept, from the end of its day on; see [retention](retention.md).",
    ),
    key(
        "retention.standard.mode",
        "`none`, `governance` or `compliance`",
        "`none`",
        "How the objects of class `standard` are locked until then; takes a bucket with Object Lock.",
    ),
    key(
        "retention.standard.encrypt_bodies",
        "`true` or `false`",
        "`false`",
        "Whether bodies and streams that go to class `standard` are encrypted, so that they can be erased; takes `encryption.keys`. See [erasure](retention.md#erasure).",
    ),
    key(
        "retention.long.term",
        "duration",
        "for ever",
        "How long evidence of class `long` is kept, from the end of its day on; see [retention](retention.md).",
    ),
    key(
        "retention.long.mode",
        "`none`, `governance` or `compliance`",
        "`none`",
        "How the objects of class `long` are locked until then; takes a bucket with Object Lock.",
    ),
    key(
        "retention.long.encrypt_bodies",
        "`true` or `false`",
        "`false`",
        "Whether bodies and streams that go to class `long` are encrypted, so that they can be erased; takes `encryption.keys`. See [erasure](retention.md#erasure).",
    ),
    key(
        "encryption.keys",
        "directory or `s3://BUCKET/PREFIX`",
        "none",
        "Where the keys of encrypted content are kept, wrapped: never in the place of the evidence, nor in a bucket with Object Lock. Erasing destroys them.",
    ),
    key(
        "encryption.master_key",
        "file",
        "`master.key` in the data directory",
        "The master key that wraps them, as `hoop key master` makes it; the same for all gateways of one key store.",
    ),
    key(
        "encryption.endpoint",
        "URL",
        "as `evidence.endpoint`",
        "Server of the keys' bucket, where it is not AWS.",
    ),
    key(
        "encryption.region",
        "text",
        "as `evidence.region`",
        "Region of the keys' bucket.",
    ),
    key(
        "encryption.path_style",
        "`true` or `false`",
        "as `evidence.path_style`",
        "Whether requests name the keys' bucket in the path instead of the host name.",
    ),
    key(
        "encryption.credentials_file",
        "file",
        "as `evidence.credentials_file`",
        "Credentials for the keys' bucket, in the form of `~/.aws/credentials`.",
    ),
];

/// Keys of each entry of `people`.
pub const PERSON_KEYS: [Key; 2] = [
    key(
        "name",
        "text",
        "required",
        "Name of the user, as policy and events know them.",
    ),
    key("groups", "list of texts", "none", "Groups of the user."),
];

const INTRODUCTION: &str = "\
# Configuration

<!-- Written from the keys in the code by a test; change them there. -->

`hoop up` works without a configuration file. With `--config FILE` it reads one YAML file; `hoop check --config FILE`
says everything that is wrong with it at once, and probes what it names. An unknown key is an error. Relative paths are
relative to the file.

- **duration**: a number with a unit, such as `30s`, `5m`, `12h`, `30d`.
- **size**: a number with a unit, such as `512MiB`, `16GiB`; `MB` and `GB` are powers of ten.
- **address**: an IP address with a port, such as `127.0.0.1:8443` or `[::]:8443`.

```yaml
data: /var/lib/hoop
cluster: production
gateway:
  listen: 0.0.0.0:8443
  address: hoop.example.com:8443
upstream:
  kubeconfig: /etc/hoop/upstream.kubeconfig
people:
  - name: alice
    groups: [developers]
policy: /etc/hoop/policy.yaml
retention:
  short: {term: 30d}
  standard: {term: 365d}
```
";

/// The reference of all keys, as Markdown.
pub fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut table = |title: &str, keys: &[Key]| {
        let head = "| key | value | default | |\n|---|---|---|---|\n";
        text.push_str(&format!("\n## {title}\n\n{head}"));
        for Key {
            path,
            form,
            default,
            doc,
        } in keys
        {
            writeln!(text, "| `{path}` | {form} | {default} | {doc} |")
                .expect("a String takes everything");
        }
    };
    table("Keys", KEYS);
    table("Keys of a person", &PERSON_KEYS);
    text
}
