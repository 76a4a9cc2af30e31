//! Client certificates: the common name is the user, organisations are the groups, as in the API server.
//!
//! The handshake itself accepts any certificate whose key the client holds; whether it is *valid* is judged right
//! after. A handshake that failed would reach the person as `remote error: tls: bad certificate` and the record not at
//! all; this way kubectl says why, and the attempt is recorded.

use std::fmt;
use std::sync::Arc;

use hoop_schema::kinds::request::{AuthMethod, User};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{Identity, Presented, Unauthenticated};

/// Judges client certificates.
#[derive(Clone)]
pub(crate) struct CertificateAuthenticator {
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

/// In the handshake: proof that the client holds the key of the certificate it shows, nothing more.
#[derive(Debug)]
pub(crate) struct ProofOfPossession {
    inner: Arc<dyn ClientCertVerifier>,
}

impl CertificateAuthenticator {
    /// Trusts these authorities; none, and no certificate is asked for.
    ///
    /// # Errors
    /// When one of them is not a certificate that can sign others.
    pub(crate) fn new(
        authorities: &[CertificateDer<'static>],
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, rustls::Error> {
        if authorities.is_empty() {
            return Ok(Self { verifier: None });
        }
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.clone())?;
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .build()
                .map_err(|e| rustls::Error::General(e.to_string()))?;
        Ok(Self {
            verifier: Some(verifier),
        })
    }

    /// What the handshake checks; `None` when certificates are not asked for.
    pub(crate) fn in_handshake(&self) -> Option<Arc<ProofOfPossession>> {
        let inner = Arc::clone(self.verifier.as_ref()?);
        Some(Arc::new(ProofOfPossession { inner }))
    }

    /// Judges what a connection showed, on a resumed session too: a certificate that expired since is refused.
    pub(crate) fn judge(&self, chain: Option<&[CertificateDer<'_>]>) -> Presented {
        let (Some(verifier), Some([end_entity, intermediates @ ..])) = (&self.verifier, chain)
        else {
            return Presented::Nothing;
        };
        if let Err(error) = verifier.verify_client_cert(end_entity, intermediates, UnixTime::now())
        {
            return Presented::Refused(refusal(&error).into());
        }
        match identity(end_entity) {
            Ok(identity) => Presented::Certificate(identity),
            Err(Unauthenticated(why)) => Presented::Refused(why.into()),
        }
    }
}

impl fmt::Debug for CertificateAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthenticator")
            .field("asks", &self.verifier.is_some())
            .finish_non_exhaustive()
    }
}

impl ClientCertVerifier for ProofOfPossession {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: a Go client that finds no certificate of a hinted authority sends nothing, and the person would not
    /// learn that theirs is of another one.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Why a certificate is refused, in words for its holder.
fn refusal(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the client certificate has expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the client certificate is not valid yet"
            }
            // An authority of the same name with another key shows as a bad signature.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the client certificate is of an authority that is not trusted here"
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "the client certificate is not for client authentication"
            }
            CertificateError::Revoked => "the client certificate is revoked",
            _ => "the client certificate is not valid",
        },
        _ => "the client certificate is not valid",
    }
}

/// Name, groups and serial out of a certificate that is valid.
fn identity(certificate: &CertificateDer<'_>) -> Result<Identity, Unauthenticated> {
    let unreadable = || Unauthenticated("the client certificate's subject cannot be read".into());
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| unreadable())?;
    let subject = parsed.subject();
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        attribute
            .as_str()
            .map(str::to_owned)
            .map_err(|_| unreadable())
    };
    // Of several common names the last counts, as in Go.
    let username = match subject.iter_common_name().last() {
        Some(attribute) => text(attribute)?,
        None => String::new(),
    };
    let groups = subject
        .iter_organization()
        .map(text)
        .collect::<Result<_, _>>()?;
    let user = User {
        username,
        groups,
        ..User::default()
    };
    let serial = format!("{:x}", parsed.serial);
    Identity::new(user, AuthMethod::ClientCertificate, Some(serial.into()))
}
