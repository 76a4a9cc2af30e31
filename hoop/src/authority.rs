//! A small certificate authority of the data directory's own.
//!
//! ```text
//! ca/ca.crt, ca.key          made on the first start, valid for ten years, ECDSA P-256; the key is 0600
//! ca/server.crt, server.key  the gateway's certificate, 397 days
//! ```
//! Promise: nothing is issued anew without need. The gateway's certificate is renewed when its names change, when its
//! last 30 days begin, or when the authority is another; the authority itself never is.
//!
//! Client certificates name the person (`CN`) and each of their groups (`O`), as the API server reads them. There is
//! no revocation list: to take a certificate back, end its login (`hoop sessions end --login SERIAL`), which lasts longer than
//! it, or remove the person's rules from the policy.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::{Timestamp, ToSpan};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SigningKey,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::data_dir::{DataError, create_private_dir, hex, random, read_if_there, write_private};

/// Years that the authority lasts: longer than anybody keeps one machine.
const CA_YEARS: i64 = 10;

/// Days that what it issues lasts: as long as browsers accept.
const LEAF_DAYS: i64 = 397;

/// Days before its end from which a certificate is renewed: time enough to hand kubeconfigs out again.
const RENEW_DAYS: i64 = 30;

/// `AlgorithmIdentifier` of ECDSA with SHA-256, which every key of ours signs with.
const ECDSA_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";

/// The certificate authority.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
}

/// A certificate and its private key, PEM.
pub struct Credential {
    /// The certificate.
    pub certificate_pem: String,
    /// The key.
    pub key_pem: String,
}

/// Why the authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file.
    #[error(transparent)]
    File(#[from] DataError),
    /// What a file holds.
    #[error("{file} in {} is missing or damaged; restore it, or move the folder aside to have a new authority made", folder.display())]
    Damaged {
        /// Where.
        folder: PathBuf,
        /// Which.
        file: &'static str,
    },
    /// A certificate cannot be made.
    #[error("cannot issue a certificate for {name}")]
    Issue {
        /// For whom.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({}, key ****)", self.folder.display())
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(****)")
    }
}

impl Authority {
    /// Opens the authority in a folder, or makes it.
    ///
    /// # Errors
    /// When files cannot be read or written, or half of the authority is there.
    pub fn open(folder: &Path, now: Timestamp) -> Result<Self, AuthorityError> {
        create_private_dir(folder)?;
        let (certificate, key) = (folder.join("ca.crt"), folder.join("ca.key"));
        let damaged = |file| AuthorityError::Damaged {
            folder: folder.to_owned(),
            file,
        };
        let (certificate_pem, key_pem) = match (read_if_there(&certificate)?, read_if_there(&key)?)
        {
            (Some(certificate_pem), Some(key_pem)) => (certificate_pem, key_pem),
            // The key is written first, so a key alone is a start that was cut short: nothing was issued with it.
            (None, _) => {
                let made = make_authority(now).map_err(issuing("the authority"))?;
                write_private(&key, &made.key_pem)?;
                write_private(&certificate, &made.certificate_pem)?;
                (made.certificate_pem, made.key_pem)
            }
            (Some(_), None) => return Err(damaged("ca.key")),
        };
        let key = KeyPair::from_pem(&key_pem).map_err(|_| damaged("ca.key"))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key);
        Ok(Self {
            folder: folder.to_owned(),
            issuer: issuer.map_err(|_| damaged("ca.crt"))?,
            certificate: CertificateDer::from_pem_slice(certificate_pem.as_bytes())
                .map_err(|_| damaged("ca.crt"))?,
            certificate_pem,
        })
    }

    /// Its certificate: what clients trust.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The same in PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The gateway's certificate for these DNS names and addresses: the one that is there, or a new one.
    ///
    /// # Errors
    /// When a name cannot be in a certificate, or files cannot be written.
    pub fn server(&self, names: &[String], now: Timestamp) -> Result<Credential, AuthorityError> {
        let (certificate, key) = (
            self.folder.join("server.crt"),
            self.folder.join("server.key"),
        );
        if let (Some(certificate_pem), Some(key_pem)) =
            (read_if_there(&certificate)?, read_if_there(&key)?)
            && self.serves(&certificate_pem, &key_pem, names, now)
        {
            return Ok(Credential {
                certificate_pem,
                key_pem,
            });
        }
        let made = self
            .make_server(names, now)
            .map_err(issuing("the gateway"))?;
        write_private(&key, &made.key_pem)?;
        write_private(&certificate, &made.certificate_pem)?;
        tracing::info!("issued a certificate for the gateway");
        Ok(made)
    }

    /// A new client certificate for a person.
    ///
    /// # Errors
    /// When the name cannot be in a certificate.
    pub fn client(
        &self,
        name: &str,
        groups: &[String],
        now: Timestamp,
    ) -> Result<Credential, AuthorityError> {
        let make = || {
            let mut params = leaf(now)?;
            params.distinguished_name.push(DnType::CommonName, "-");
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &self.issuer)?;
            let der = with_subject(certificate.der(), &subject(name, groups), self.issuer.key())?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Credential {
                certificate_pem: pem(&der),
                key_pem: key.serialize_pem(),
            })
        };
        make().map_err(issuing(name))
    }

    /// Whether this certificate is ours, names this person and these groups, and lasts long enough.
    pub fn still_names(
        &self,
        certificate_pem: &str,
        name: &str,
        groups: &[String],
        now: Timestamp,
    ) -> bool {
        self.lasting(certificate_pem, now, |certificate| {
            let subject = certificate.subject();
            let texts = |values: Vec<&x509_parser::x509::AttributeTypeAndValue<'_>>| {
                values
                    .iter()
                    .filter_map(|value| value.as_str().ok().map(str::to_owned))
                    .collect::<Vec<_>>()
            };
            texts(subject.iter_common_name().collect()) == [name]
                && texts(subject.iter_organization().collect()) == groups
        })
    }

    fn make_server(&self, names: &[String], now: Timestamp) -> Made {
        let mut params = CertificateParams::new(names.to_vec())?;
        let lasting = leaf(now)?;
        (params.not_before, params.not_after) = (lasting.not_before, lasting.not_after);
        params
            .distinguished_name
            .push(DnType::CommonName, "hoop gateway");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Credential {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    fn serves(
        &self,
        certificate_pem: &str,
        key_pem: &str,
        names: &[String],
        now: Timestamp,
    ) -> bool {
        let Ok(key) = KeyPair::from_pem(key_pem) else {
            return false;
        };
        let mut wanted: Vec<String> = names.to_vec();
        wanted.sort_unstable();
        self.lasting(certificate_pem, now, |certificate| {
            let mut found = alternative_names(certificate);
            found.sort_unstable();
            let public = &certificate.public_key().subject_public_key.data;
            found == wanted && public.as_ref() == key.public_key_raw()
        })
    }

    fn lasting(
        &self,
        certificate_pem: &str,
        now: Timestamp,
        and: impl FnOnce(&X509Certificate<'_>) -> bool,
    ) -> bool {
        let Ok(der) = CertificateDer::from_pem_slice(certificate_pem.as_bytes()) else {
            return false;
        };
        let (Ok((_, leaf)), Ok((_, ca))) = (
            X509Certificate::from_der(&der),
            X509Certificate::from_der(&self.certificate),
        ) else {
            return false;
        };
        let renew_from = leaf.validity().not_after.timestamp() - RENEW_DAYS * 24 * 3600;
        now.as_second() < renew_from
            && leaf.issuer().as_raw() == ca.subject().as_raw()
            && and(&leaf)
    }
}

type Made = Result<Credential, Box<dyn std::error::Error + Send + Sync>>;

fn make_authority(now: Timestamp) -> Made {
    let mut params = lasting(now, CA_YEARS * 365)?;
    // Every authority has a name of its own, so that its certificates can be told from those of another.
    let name = format!("hoop CA {}", hex(&random::<4>()?));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Credential {
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    })
}

fn leaf(now: Timestamp) -> io::Result<CertificateParams> {
    lasting(now, LEAF_DAYS)
}

/// Valid from yesterday, since clocks of clients go wrong, for so many days.
fn lasting(now: Timestamp, days: i64) -> io::Result<CertificateParams> {
    let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    let date = |days: i64| {
        let date = today.checked_add(days.days()).map_err(io::Error::other)?;
        let part = |n: i8| u8::try_from(n).map_err(io::Error::other);
        Ok::<_, io::Error>(rcgen::date_time_ymd(
            date.year().into(),
            part(date.month())?,
            part(date.day())?,
        ))
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    (params.not_before, params.not_after) = (date(-1)?, date(days)?);
    Ok(params)
}

fn issuing<E>(name: &str) -> impl FnOnce(E) -> AuthorityError + '_
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |source| AuthorityError::Issue {
        name: name.to_owned(),
        source: source.into(),
    }
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let sixteen = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            four.or(sixteen).ok().map(|address| address.to_string())
        }
        _ => None,
    };
    extension
        .value
        .general_names
        .iter()
        .filter_map(name)
        .collect()
}

/// The same certificate for another subject, signed anew. The library that makes certificates keeps one value per
/// kind of attribute, and a person has several groups.
fn with_subject(
    der: &[u8],
    subject: &[u8],
    signer: &KeyPair,
) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let (_, certificate) = X509Certificate::from_der(der)?;
    let body: &[u8] = certificate.tbs_certificate.as_ref();
    let old = certificate.tbs_certificate.subject.as_raw();
    // Both are slices of the same bytes, so the difference of their addresses is where one begins in the other.
    let begin = old.as_ptr() as usize - body.as_ptr() as usize;
    let head = body.len() - tagged_content(body)?.len();
    let mut content = body[head..begin].to_vec();
    content.extend_from_slice(subject);
    content.extend_from_slice(&body[begin + old.len()..]);
    let body = tagged(0x30, &content);
    let mut signature = vec![0];
    signature.extend(signer.sign(&body)?);
    let mut whole = body;
    whole.extend_from_slice(ECDSA_SHA256);
    whole.extend(tagged(0x03, &signature));
    Ok(tagged(0x30, &whole))
}

/// `Name` in DER: one `O` per group, then `CN`.
fn subject(name: &str, groups: &[String]) -> Vec<u8> {
    const ORGANIZATION: &[u8] = b"\x06\x03\x55\x04\x0a";
    const COMMON_NAME: &[u8] = b"\x06\x03\x55\x04\x03";
    let attribute = |kind: &[u8], text: &str| {
        let mut pair = kind.to_vec();
        pair.extend(tagged(0x0c, text.as_bytes()));
        tagged(0x31, &tagged(0x30, &pair))
    };
    let mut names: Vec<u8> = groups
        .iter()
        .flat_map(|group| attribute(ORGANIZATION, group))
        .collect();
    names.extend(attribute(COMMON_NAME, name));
    tagged(0x30, &names)
}

/// A DER value with its tag and length.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut value = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length) if length < 0x80 => value.push(length),
        _ => {
            let bytes = content.len().to_be_bytes();
            let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
            // At most eight bytes of length.
            value.push(0x80 | bytes.len() as u8);
            value.extend_from_slice(bytes);
        }
    }
    value.extend_from_slice(content);
    value
}

/// The content of one DER value.
fn tagged_content(value: &[u8]) -> io::Result<&[u8]> {
    let cut = || io::Error::other("a certificate is cut short");
    let first = *value.get(1).ok_or_else(cut)?;
    let head = if first < 0x80 {
        2
    } else {
        2 + usize::from(first & 0x7f)
    };
    value.get(head..).ok_or_else(cut)
}

fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .map(|at| &text[at..text.len().min(at + 64)])
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["localhost", "127.0.0.1", "::1"]
            .map(str::to_owned)
            .to_vec()
    }

    fn open(folder: &Path) -> Authority {
        Authority::open(folder, Timestamp::now()).unwrap()
    }

    #[test]
    fn nothing_is_issued_anew_without_need() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let first = open(folder.path());
        let server = first.server(&names(), now).unwrap();
        let again = open(folder.path());
        assert_eq!(again.certificate_pem(), first.certificate_pem());
        let mut other_order = names();
        other_order.reverse();
        let kept = again.server(&other_order, now).unwrap();
        assert_eq!(kept.certificate_pem, server.certificate_pem);
    }

    #[test]
    fn the_server_certificate_is_renewed_for_new_names_and_near_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let authority = open(folder.path());
        let first = authority.server(&names(), now).unwrap();
        let mut more = names();
        more.push("hoop.example.com".into());
        let second = authority.server(&more, now).unwrap();
        assert_ne!(first.certificate_pem, second.certificate_pem);
        let near_end = now + jiff::SignedDuration::from_hours(24 * (LEAF_DAYS - RENEW_DAYS + 1));
        let third = authority.server(&more, near_end).unwrap();
        assert_ne!(second.certificate_pem, third.certificate_pem);
    }

    #[test]
    fn a_person_is_named_with_all_groups() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let authority = open(folder.path());
        let long = "g".repeat(200);
        let groups = ["developers".to_owned(), "on-call".to_owned(), long];
        let made = authority.client("zoë@example.com", &groups, now).unwrap();
        let still = |name: &str, groups: &[String]| {
            authority.still_names(&made.certificate_pem, name, groups, now)
        };
        assert!(still("zoë@example.com", &groups));
        assert!(!still("zoë@example.com", &groups[..2]));
        assert!(!still("mallory", &groups));
        let other = tempfile::tempdir().unwrap();
        assert!(!open(other.path()).still_names(
            &made.certificate_pem,
            "zoë@example.com",
            &groups,
            now
        ));
    }

    #[test]
    fn a_lost_key_is_said_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path());
        std::fs::remove_file(folder.path().join("ca.key")).unwrap();
        let error = Authority::open(folder.path(), Timestamp::now()).unwrap_err();
        assert!(error.to_string().contains("ca.key"), "{error}");
    }
}
