//! Signed notes ([C2SP signed-note](https://c2sp.org/signed-note)) with Ed25519 keys, and the cosignatures of witnesses
//! ([C2SP tlog-cosignature](https://c2sp.org/tlog-cosignature), `cosignature/v1`).
//!
//! ```text
//! <text, each line ended>
//!
//! — <name> <base64 of key id (4 bytes) and signature>
//! ```
//! Keys are written as the reference implementation writes them (`golang.org/x/mod/sumdb/note`):
//! a verifier key `<name>+<key id>+<base64>`, a signing key `PRIVATE+KEY+<name>+<key id>+<base64>`.
//! Ed25519 is deterministic: the same key signs the same text to the same bytes, whoever holds it.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// The longest note that is read, in bytes: a text of three lines and the most signatures.
pub const NOTE_BYTES_MAX: usize = 256 * 1024;

/// The most signatures of a note: as many as the reference implementation takes.
const SIGNATURES_MAX: usize = 100;

/// What every signature line begins with.
const SIGNATURE_MARK: &str = "— ";

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyUse {
    /// Signs notes: the key of a log.
    Notes,
    /// Cosigns checkpoints with the time: the key of a witness.
    Cosignatures,
}

/// A public key with its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Verifier {
    name: String,
    id: [u8; 4],
    usage: KeyUse,
    key: [u8; 32],
}

/// A private key with its name. It cannot be printed but by [`SigningKey::secret_text`].
pub struct SigningKey {
    verifier: Verifier,
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

/// A text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(&'static str);

/// A note: its text and its signatures, none of them checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The text, with the end of its last line.
    pub text: String,
    /// The signatures.
    pub signatures: Vec<Signature>,
}

/// One signature of a note, not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Name of the key.
    pub name: String,
    /// Id of the key.
    pub id: [u8; 4],
    bytes: Vec<u8>,
}

/// A text that is no note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a signed note")]
pub struct NotANote;

/// What a key has to say of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    /// The key did not sign it.
    No,
    /// There is a signature in the name of the key, and it is wrong.
    Wrong,
    /// The key signed it; a witness at this time, in seconds since the Unix epoch.
    Yes(Option<u64>),
}

impl Verifier {
    /// A public key under this name.
    ///
    /// # Errors
    /// When the name cannot be one of a key.
    pub fn new(name: &str, usage: KeyUse, key: [u8; 32]) -> Result<Self, KeyError> {
        let unfit = |c: char| c == '+' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.contains(unfit) {
            return Err(KeyError("the name of a key has no space and no + in it"));
        }
        let id = Sha256::new()
            .chain_update(name.as_bytes())
            .chain_update(b"\n")
            .chain_update([usage.algorithm()])
            .chain_update(key)
            .finalize();
        Ok(Self {
            name: name.to_owned(),
            id: [id[0], id[1], id[2], id[3]],
            usage,
            key,
        })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is for.
    pub fn usage(&self) -> KeyUse {
        self.usage
    }

    fn accepts(&self, text: &str, signature: &[u8]) -> Option<Signed> {
        let key = UnparsedPublicKey::new(&ED25519, &self.key);
        match self.usage {
            KeyUse::Notes => {
                key.verify(text.as_bytes(), signature).ok()?;
                Some(Signed::Yes(None))
            }
            KeyUse::Cosignatures => {
                let (time, signature) = signature.split_first_chunk::<8>()?;
                let time = u64::from_be_bytes(*time);
                let message = format!("cosignature/v1\ntime {time}\n{text}");
                key.verify(message.as_bytes(), signature).ok()?;
                Some(Signed::Yes(Some(time)))
            }
        }
    }
}

impl KeyUse {
    fn algorithm(self) -> u8 {
        match self {
            Self::Notes => 1,
            Self::Cosignatures => 4,
        }
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = u32::from_be_bytes(self.id);
        let key = STANDARD.encode([&[self.usage.algorithm()][..], &self.key].concat());
        write!(f, "{}+{id:08x}+{key}", self.name)
    }
}

impl FromStr for Verifier {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        const SHAPE: KeyError =
            KeyError("not a verifier key, which reads <name>+<8 hexadecimal digits>+<base64>");
        let (name, rest) = text.trim().split_once('+').ok_or(SHAPE)?;
        let (id, key) = rest.split_once('+').ok_or(SHAPE)?;
        let key = STANDARD.decode(key).map_err(|_| SHAPE)?;
        let (algorithm, key) = key.split_first().ok_or(SHAPE)?;
        let usage = match algorithm {
            1 => KeyUse::Notes,
            4 => KeyUse::Cosignatures,
            _ => return Err(KeyError("a verifier key of an algorithm that is not known")),
        };
        let key = key.try_into().map_err(|_| SHAPE)?;
        let verifier = Self::new(name, usage, key)?;
        let said = u32::from_str_radix(id, 16).map_err(|_| SHAPE)?;
        if id.len() != 8 || said.to_be_bytes() != verifier.id {
            return Err(KeyError(
                "the id in the verifier key is not that of its name and key",
            ));
        }
        Ok(verifier)
    }
}

impl SigningKey {
    /// A key of these 32 secret bytes under this name.
    ///
    /// # Errors
    /// When the name cannot be one of a key.
    pub fn new(name: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
            .map_err(|_| KeyError("these 32 bytes make no Ed25519 key"))?;
        let public = pair.public_key().as_ref();
        let key = public
            .try_into()
            .map_err(|_| KeyError("an Ed25519 public key has 32 bytes"))?;
        Ok(Self {
            verifier: Verifier::new(name, KeyUse::Notes, key)?,
            seed,
            pair,
        })
    }

    /// Reads what [`SigningKey::secret_text`] wrote.
    ///
    /// # Errors
    /// When it is no signing key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        const SHAPE: KeyError =
            KeyError("not a signing key, which reads PRIVATE+KEY+<name>+<id>+<base64>");
        let rest = text.trim().strip_prefix("PRIVATE+KEY+").ok_or(SHAPE)?;
        let (name, rest) = rest.split_once('+').ok_or(SHAPE)?;
        let (id, key) = rest.split_once('+').ok_or(SHAPE)?;
        let key = STANDARD.decode(key).map_err(|_| SHAPE)?;
        let Some((1, seed)) = key.split_first() else {
            return Err(SHAPE);
        };
        let key = Self::new(name, seed.try_into().map_err(|_| SHAPE)?)?;
        if id != format!("{:08x}", u32::from_be_bytes(key.verifier.id)) {
            return Err(KeyError(
                "the id in the signing key is not that of its name and key",
            ));
        }
        Ok(key)
    }

    /// The key as a file keeps it. A secret.
    pub fn secret_text(&self) -> String {
        let id = u32::from_be_bytes(self.verifier.id);
        let key = STANDARD.encode([&[1][..], &self.seed].concat());
        format!("PRIVATE+KEY+{}+{id:08x}+{key}", self.verifier.name)
    }

    /// The public half.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Signs a text, which must end with the end of a line.
    pub fn sign(&self, text: &str) -> Signature {
        Signature {
            name: self.verifier.name.clone(),
            id: self.verifier.id,
            bytes: self.pair.sign(text.as_bytes()).as_ref().to_vec(),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("verifier", &self.verifier.to_string())
            .finish_non_exhaustive()
    }
}

impl Note {
    /// Signs a text with these keys.
    pub fn sign<'a>(text: String, keys: impl IntoIterator<Item = &'a SigningKey>) -> Self {
        let signatures = keys.into_iter().map(|key| key.sign(&text)).collect();
        Self { text, signatures }
    }

    /// Whether a key signed it.
    pub fn signed_by(&self, verifier: &Verifier) -> Signed {
        let mut said = Signed::No;
        for signature in &self.signatures {
            if signature.name == verifier.name && signature.id == verifier.id {
                match verifier.accepts(&self.text, &signature.bytes) {
                    Some(yes) => return yes,
                    None => said = Signed::Wrong,
                }
            }
        }
        said
    }

    /// Reads all notes of a text in which they follow one another, an empty line between them.
    ///
    /// # Errors
    /// When there is anything else in it.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, NotANote> {
        let mut notes = Vec::new();
        let mut one = String::new();
        let mut signed = false;
        for line in text.split_inclusive('\n') {
            if signed && !line.starts_with(SIGNATURE_MARK) {
                notes.push(one.parse()?);
                (one, signed) = (String::new(), false);
                if line == "\n" {
                    continue;
                }
            }
            signed = line.starts_with(SIGNATURE_MARK);
            one.push_str(line);
        }
        if !one.trim().is_empty() {
            notes.push(one.parse()?);
        }
        Ok(notes)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for signature in &self.signatures {
            let bytes = STANDARD.encode([&signature.id[..], &signature.bytes].concat());
            writeln!(f, "{SIGNATURE_MARK}{} {bytes}", signature.name)?;
        }
        Ok(())
    }
}

impl FromStr for Note {
    type Err = NotANote;

    fn from_str(note: &str) -> Result<Self, NotANote> {
        let odd = |c: char| c < ' ' && c != '\n';
        if note.len() > NOTE_BYTES_MAX || note.contains(odd) {
            return Err(NotANote);
        }
        let split = note.rfind("\n\n").ok_or(NotANote)?;
        let (text, signatures) = (&note[..=split], &note[split + 2..]);
        let signatures = signatures.strip_suffix('\n').ok_or(NotANote)?;
        let signatures = signatures
            .split('\n')
            .map(Signature::parse)
            .collect::<Option<Vec<_>>>()
            .ok_or(NotANote)?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(NotANote);
        }
        Ok(Self {
            text: text.to_owned(),
            signatures,
        })
    }
}

impl Signature {
    fn parse(line: &str) -> Option<Self> {
        let (name, bytes) = line.strip_prefix(SIGNATURE_MARK)?.split_once(' ')?;
        let bytes = STANDARD.decode(bytes).ok()?;
        let (id, bytes) = bytes.split_first_chunk::<4>()?;
        (!name.is_empty() && !bytes.is_empty()).then(|| Self {
            name: name.to_owned(),
            id: *id,
            bytes: bytes.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests;
