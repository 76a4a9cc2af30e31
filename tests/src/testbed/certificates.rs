//! Keys and certificates of the test bed: one authority, a server, and clients with a group.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};

/// The authority of one test run.
pub(crate) struct Authority {
    folder: PathBuf,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM, and where they are.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) certificate_path: PathBuf,
    pub(crate) key_path: PathBuf,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes one; its certificate is `ca.crt` in `folder`, and its key `ca.key`.
    pub(crate) fn make(folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name("hoop-test-bed", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        std::fs::write(folder.join("ca.crt"), &pem)?;
        std::fs::write(folder.join("ca.key"), key.serialize_pem())?;
        Ok(Self {
            folder: folder.to_owned(),
            pem,
            issuer: Issuer::new(params, key),
        })
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    pub(crate) fn key_path(&self) -> PathBuf {
        self.folder.join("ca.key")
    }

    /// A server on the loopback interface.
    pub(crate) fn server(&self, file: &str) -> Result<Identity> {
        let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"].map(str::to_owned);
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = name("kube-apiserver", None);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(file, &params)
    }

    /// A client as Kubernetes reads one: the user is the common name, the group is the organization.
    pub(crate) fn client(&self, file: &str, user: &str, group: Option<&str>) -> Result<Identity> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name(user, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(file, &params)
    }

    fn sign(&self, file: &str, params: &CertificateParams) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let identity = Identity {
            certificate: params.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
            certificate_path: self.folder.join(format!("{file}.crt")),
            key_path: self.folder.join(format!("{file}.key")),
        };
        std::fs::write(&identity.certificate_path, &identity.certificate)?;
        std::fs::write(&identity.key_path, &identity.key)?;
        Ok(identity)
    }
}

/// A key pair for signing service account tokens: `NAME.key` and `NAME.pub` in `folder`.
pub(crate) fn signing_key(folder: &Path, file: &str) -> Result<(PathBuf, PathBuf)> {
    let key = KeyPair::generate()?;
    let (private, public) = (
        folder.join(format!("{file}.key")),
        folder.join(format!("{file}.pub")),
    );
    std::fs::write(&private, key.serialize_pem())?;
    std::fs::write(&public, key.public_key_pem())?;
    Ok((private, public))
}

fn name(common: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common);
    name
}
