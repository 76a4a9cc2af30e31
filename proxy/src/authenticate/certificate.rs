//! Client certificates: the common name is the user, organisations are the groups, as in the API server.
//!
//! The handshake itself accepts any certificate whose key the client holds; whether it is *valid* is judged right
//! after. A handshake that failed would reach the person as `remote error: tls: bad certificate` and the record not at
//! all; this way kubectl says why, and the attempt is recorded.
//!
//! What a connection showed is judged again when other revocation lists have come since: with its next request, and at once
//! for what it has open.
//!
//! Revocation lists are those of a file, which is looked at again now and then. A certificate whose authority has no list
//! there is not revoked; that a list is out of date is the authority's business, and does not lock everybody out.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use hoop_schema::Timestamp;
use hoop_schema::kinds::request::{AuthMethod, User};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};

use super::{Identity, Presented, Unauthenticated};

/// Judges client certificates.
#[derive(Clone)]
pub(crate) struct CertificateAuthenticator(Option<Arc<Judge>>);

/// The trusted authorities, and what they have revoked.
struct Judge {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    verifier: ArcSwap<Verifier>,
    /// Grows with every change of `verifier`, after it.
    generation: AtomicU64,
}

/// A certificate that was valid when a connection showed it.
pub(crate) struct Certified {
    judge: Arc<Judge>,
    /// The certificate itself, and those between it and the authority.
    chain: Vec<CertificateDer<'static>>,
    /// The last generation of revocation lists that did not have it.
    valid_in: AtomicU64,
}

struct Verifier(Arc<dyn ClientCertVerifier>);

/// Why revocation lists cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    /// The file cannot be read.
    #[error("the revocation lists cannot be read")]
    Read(#[source] std::io::Error),
    /// It holds something else.
    #[error("the revocation lists must be PEM with BEGIN X509 CRL")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// One of them is no revocation list.
    #[error("a revocation list cannot be used")]
    List(#[source] Box<dyn std::error::Error + Send + Sync>),
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
            return Ok(Self(None));
        }
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.clone())?;
        }
        let roots = Arc::new(roots);
        let verifier = verifier(&roots, provider, Vec::new())
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Self(Some(Arc::new(Judge {
            roots,
            provider: Arc::clone(provider),
            verifier: ArcSwap::from_pointee(verifier),
            generation: AtomicU64::new(0),
        }))))
    }

    /// Takes the revocation lists of a PEM text, instead of those it had. None at all is an empty text.
    ///
    /// # Errors
    /// When there is something else in it; the lists from before stay.
    pub(crate) fn revoke(&self, pem: &[u8]) -> Result<(), RevocationError> {
        let Some(judge) = &self.0 else {
            return Ok(());
        };
        let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(RevocationError::Pem)?;
        let verifier = verifier(&judge.roots, &judge.provider, lists)
            .map_err(|error| RevocationError::List(error.into()))?;
        judge.verifier.store(Arc::new(verifier));
        judge.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// What the handshake checks; `None` when certificates are not asked for.
    pub(crate) fn in_handshake(&self) -> Option<Arc<ProofOfPossession>> {
        let inner = Arc::clone(&self.0.as_ref()?.verifier.load().0);
        Some(Arc::new(ProofOfPossession { inner }))
    }

    /// Judges what a connection showed, on a resumed session too: a certificate that expired since is refused.
    pub(crate) fn judge(&self, chain: Option<&[CertificateDer<'_>]>) -> Presented {
        let (Some(judge), Some([end_entity, intermediates @ ..])) = (&self.0, chain) else {
            return Presented::Nothing;
        };
        // Before the verifier: a list that comes in between is asked at the next request.
        let generation = judge.generation.load(Ordering::Acquire);
        if let Err(why) = judge.verify(end_entity, intermediates) {
            return Presented::Refused(why.into());
        }
        let certified = Certified {
            judge: Arc::clone(judge),
            chain: std::iter::once(end_entity)
                .chain(intermediates)
                .map(|certificate| certificate.clone().into_owned())
                .collect(),
            valid_in: AtomicU64::new(generation),
        };
        match identity(end_entity) {
            Ok(identity) => Presented::Certificate(identity.certified(certified)),
            Err(Unauthenticated(why)) => Presented::Refused(why.into()),
        }
    }
}

impl Judge {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), &'static str> {
        let verifier = self.verifier.load();
        let verified = verifier
            .0
            .verify_client_cert(end_entity, intermediates, UnixTime::now());
        verified.map(drop).map_err(|error| refusal(&error))
    }
}

impl Certified {
    /// Judges it again, if other revocation lists have come since; costs nothing else otherwise.
    ///
    /// # Errors
    /// Why it is not valid any longer, for its holder.
    pub(crate) fn still_valid(&self) -> Result<(), &'static str> {
        let generation = self.judge.generation.load(Ordering::Acquire);
        if self.valid_in.load(Ordering::Relaxed) == generation {
            return Ok(());
        }
        if let [end_entity, intermediates @ ..] = &self.chain[..] {
            self.judge.verify(end_entity, intermediates)?;
        }
        self.valid_in.store(generation, Ordering::Relaxed);
        Ok(())
    }
}

impl fmt::Debug for Certified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certified({} certificates)", self.chain.len())
    }
}

impl fmt::Debug for CertificateAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthenticator")
            .field("asks", &self.0.is_some())
            .finish_non_exhaustive()
    }
}

fn verifier(
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
    lists: Vec<CertificateRevocationListDer<'static>>,
) -> Result<Verifier, VerifierBuilderError> {
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider));
    let built = builder
        .with_crls(lists)
        .allow_unknown_revocation_status()
        .build()?;
    Ok(Verifier(built))
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
    let not_after = parsed.validity().not_after.timestamp();
    let expires = Timestamp::from_micros(not_after.saturating_mul(1_000_000));
    let identity = Identity::new(user, AuthMethod::ClientCertificate, Some(serial.into()))?;
    Ok(identity.until(expires))
}
