//! The public keys of an issuer (RFC 7517) and what they verify (RFC 7518): RS, PS and ES with SHA-256, -384 and -512,
//! as in the API server. Nothing else is there to be asked for: no `none`, no HMAC.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::token::Jwt;

/// The most keys of one issuer. Large providers publish ten.
const KEYS_MAX: usize = 100;

/// Lengths of an RSA modulus in bytes: 2048 to 8192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The longest RSA exponent in bytes: a longer one only makes verification slow.
const RSA_EXPONENT_BYTES_MAX: usize = 4;

/// The keys of an issuer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct KeySet(Vec<PublicKey>);

/// One key.
#[derive(Debug)]
struct PublicKey {
    kid: Option<String>,
    /// The only algorithm that it is for, where the issuer says so.
    alg: Option<Algorithm>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    Ec(Algorithm, Vec<u8>, ParsedPublicKey),
}

/// A signature algorithm by its name in RFC 7518.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
}

/// Why a signature is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejected {
    /// Another than the known algorithms.
    Algorithm,
    /// There is no key of this name: there may be one when the keys are fetched again.
    UnknownKey,
    /// The key is not for this algorithm.
    Unfit,
    /// No key is named, and several might be meant.
    Ambiguous,
    /// The signature is wrong.
    Signature,
}

/// The document of an issuer's `jwks_uri`.
#[derive(Deserialize)]
struct Jwks {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

impl Algorithm {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "ES512" => Self::Es512,
            _ => return None,
        })
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        Some(match self {
            Self::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &RSA_PSS_2048_8192_SHA512,
            Self::Es256 | Self::Es384 | Self::Es512 => return None,
        })
    }
}

impl KeySet {
    /// Reads a JWKS document; keys of other kinds and for other uses are passed over. The error completes the sentence
    /// "the keys …".
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        let document: Jwks = serde_json::from_slice(json)
            .map_err(|error| format!("are not a JSON Web Key Set: {error}"))?;
        if document.keys.len() > KEYS_MAX {
            return Err(format!("are more than {KEYS_MAX}"));
        }
        let keys: Vec<_> = document
            .keys
            .into_iter()
            .filter_map(PublicKey::read)
            .collect();
        if keys.is_empty() {
            return Err(
                "have none that is for RS, PS or ES signatures of 256, 384 or 512 bits".into(),
            );
        }
        Ok(Self(keys))
    }

    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Checks the signature of a token.
    pub(super) fn verify(&self, jwt: &Jwt<'_>) -> Result<(), Rejected> {
        let algorithm = Algorithm::named(&jwt.header.alg).ok_or(Rejected::Algorithm)?;
        let named = |key: &&PublicKey| match &jwt.header.kid {
            Some(kid) => key.kid.as_ref() == Some(kid),
            None => true,
        };
        let mut candidates = self.0.iter().filter(named).peekable();
        if candidates.peek().is_none() {
            return Err(Rejected::UnknownKey);
        }
        let mut fitting = candidates.filter(|key| key.fits(algorithm));
        let key = fitting.next().ok_or(Rejected::Unfit)?;
        if fitting.next().is_some() {
            return Err(Rejected::Ambiguous);
        }
        key.verify(algorithm, jwt)
    }
}

impl PublicKey {
    fn read(json: serde_json::Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(json).ok()?;
        if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let alg = match &jwk.alg {
            Some(name) => Some(Algorithm::named(name)?),
            None => None,
        };
        let material = match jwk.kty.as_str() {
            "RSA" => Material::rsa(&jwk)?,
            "EC" => Material::ec(&jwk)?,
            _ => return None,
        };
        Some(Self {
            kid: jwk.kid,
            alg,
            material,
        })
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        self.alg.is_none_or(|only| only == algorithm)
            && match &self.material {
                Material::Rsa(_) => algorithm.rsa().is_some(),
                Material::Ec(only, ..) => *only == algorithm,
            }
    }

    fn verify(&self, algorithm: Algorithm, jwt: &Jwt<'_>) -> Result<(), Rejected> {
        let signed = jwt.signed.as_bytes();
        let verified = match &self.material {
            Material::Rsa(key) => {
                let parameters = algorithm.rsa().ok_or(Rejected::Unfit)?;
                key.verify(parameters, signed, &jwt.signature)
            }
            Material::Ec(_, _, key) => key.verify_sig(signed, &jwt.signature),
        };
        verified.map_err(|_| Rejected::Signature)
    }
}

impl Material {
    fn rsa(jwk: &Jwk) -> Option<Self> {
        let number = |text: &Option<String>| {
            let bytes = URL_SAFE_NO_PAD.decode(text.as_deref()?).ok()?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            Some(bytes[zeros..].to_vec())
        };
        let (n, e) = (number(&jwk.n)?, number(&jwk.e)?);
        let usable =
            RSA_BYTES.contains(&n.len()) && (1..=RSA_EXPONENT_BYTES_MAX).contains(&e.len());
        if !usable {
            return None;
        }
        let key = RsaPublicKeyComponents { n, e };
        key.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()?;
        Some(Self::Rsa(key))
    }

    fn ec(jwk: &Jwk) -> Option<Self> {
        let (only, verification, bytes) = match jwk.crv.as_deref()? {
            "P-256" => (Algorithm::Es256, &ECDSA_P256_SHA256_FIXED, 32_usize),
            "P-384" => (Algorithm::Es384, &ECDSA_P384_SHA384_FIXED, 48),
            "P-521" => (Algorithm::Es512, &ECDSA_P521_SHA512_FIXED, 66),
            _ => return None,
        };
        // An uncompressed point.
        let mut point = vec![4];
        for coordinate in [&jwk.x, &jwk.y] {
            let decoded = URL_SAFE_NO_PAD.decode(coordinate.as_deref()?).ok()?;
            // Some issuers leave out leading zeros.
            let missing = bytes.checked_sub(decoded.len())?;
            point.extend(std::iter::repeat_n(0, missing));
            point.extend(decoded);
        }
        let key = ParsedPublicKey::new(verification, &point).ok()?;
        Some(Self::Ec(only, point, key))
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.material, &other.material) {
            (Material::Rsa(a), Material::Rsa(b)) => a.n == b.n && a.e == b.e,
            (Material::Ec(_, a, _), Material::Ec(_, b, _)) => a == b,
            _ => false,
        };
        same && self.kid == other.kid && self.alg == other.alg
    }
}

impl Eq for PublicKey {}

#[cfg(test)]
mod tests;
