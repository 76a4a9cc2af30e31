//! The gateway, and the certificates of all.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use hoop_proxy::mask::MaskKey;
use hoop_proxy::{
    AuthenticationConfiguration, Config, Limits, PolicySource, ServerIdentity, StaticTokens,
    UpstreamSource, certificates_from_pem,
};
use hoop_schema::{Class, EventHash, ProducerId};
use hoop_sinks::log::EventWriter;
use hoop_sinks::log::embedded::{EmbeddedLog, Options};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// `masked` works under the default rule; `plain` sees secrets, and bodies are not recorded: what passes through.
const POLICY: &str = r#"
profiles:
  - name: masked
    subjects: {users: [masked]}
    rules: [{effect: allow, apiGroups: ["*"], resources: ["*"], verbs: ["*"]}]
  - name: plain
    subjects: {users: [plain]}
    rules: [{effect: allow, apiGroups: ["*"], resources: ["*"], verbs: ["*"], mask: none, record: Metadata}]
"#;

/// Writes `ca.pem`, `cert.pem` and `key.pem`.
pub(crate) fn write_certificates(dir: &Path) {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "load-ca");
    let issuer =
        rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let params = rcgen::CertificateParams::new(names).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(dir.join("ca.pem"), issuer.pem()).unwrap();
    std::fs::write(dir.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
}

/// TLS of the upstream.
pub(crate) fn tls(dir: &Path) -> rustls::ServerConfig {
    let chain = CertificateDer::pem_file_iter(dir.join("cert.pem"))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap()
}

pub(crate) async fn run(dir: &Path, address: &str, upstream: &str) {
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    let mut kube = kube::Config::new(format!("https://{upstream}").parse().unwrap());
    let roots = certificates_from_pem(&read("ca.pem")).unwrap();
    kube.root_cert = Some(roots.iter().map(|der| der.to_vec()).collect());
    let token = |name: &str| {
        let hash = EventHash::of(name.as_bytes());
        format!("  - {{name: {name}, groups: [people], sha256: {hash}}}\n")
    };
    let tokens = format!("tokens:\n{}{}", token("masked"), token("plain"));
    let options = Options {
        size_max: 32 << 30,
        ..Options::default()
    };
    let log = EmbeddedLog::open(&dir.join("log"), Class::standard(), options).unwrap();
    let log: Arc<dyn EventWriter> = Arc::new(log);
    let config = Config {
        listen: address.parse::<SocketAddr>().unwrap(),
        server_identity: ServerIdentity::from_pem(&read("cert.pem"), &read("key.pem")).unwrap(),
        client_cas: Vec::new(),
        client_revocations: None,
        endings: None,
        tokens: StaticTokens::parse(&tokens).unwrap(),
        authentication: AuthenticationConfiguration::default(),
        review_service_accounts: false,
        upstream: UpstreamSource::Explicit(Box::new(kube)),
        policy: PolicySource::Text(POLICY.to_owned()),
        mask_key: Arc::new(MaskKey::from_bytes([1; 32])),
        encryption: None,
        cluster: "load".into(),
        producer_id: ProducerId::new("load").unwrap(),
        limits: Limits::default(),
    };
    let mut registry = prometheus_client::registry::Registry::default();
    let gateway = hoop_proxy::build(config, vec![log], &mut registry)
        .await
        .unwrap();
    gateway.run(std::future::pending()).await;
}
