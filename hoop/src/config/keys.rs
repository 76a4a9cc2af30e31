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
        "The most bytes of one retention class in the embedded log. When nothing of it is committed as evidence, requests are refused rather than left unrecorded.",
    ),
    key(
        "log.age_max",
        "duration",
        "`1d`",
        "How long committed events stay in the embedded log for those who read it.",
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
        "recorder.keep.short",
        "duration",
        "for ever",
        "How long session files of class `short` are kept.",
    ),
    key(
        "recorder.keep.standard",
        "duration",
        "for ever",
        "How long session files of class `standard` are kept.",
    ),
    key(
        "recorder.keep.long",
        "duration",
        "for ever",
        "How long session files of class `long` are kept.",
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
recorder:
  keep:
    short: 30d
    standard: 365d
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
