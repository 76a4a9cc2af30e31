//! Base64 that comes in pieces, read as Go's `base64.StdEncoding` does: line ends are skipped, padding is demanded.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::DecodeError;

const GO_STANDARD: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Decoded in pieces of this size.
const PIECE_BYTES: usize = 16 * 1024;

/// Decodes the payload of one message after the other.
#[derive(Debug, Default)]
pub(in crate::tunnel) struct Base64Text {
    /// Characters that have not been decoded: less than four between two pieces.
    text: Vec<u8>,
    is_padded: bool,
    decoded: Vec<u8>,
}

impl Base64Text {
    pub(in crate::tunnel) fn push(
        &mut self,
        bytes: &[u8],
        emit: &mut impl FnMut(&[u8]) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        for piece in bytes.chunks(PIECE_BYTES) {
            let kept = self.text.len();
            self.text
                .extend(piece.iter().filter(|c| !matches!(c, b'\r' | b'\n')));
            if self.is_padded && self.text.len() > kept {
                return Err(DecodeError::Base64);
            }
            let whole = self.text.len() / 4 * 4;
            if whole == 0 {
                continue;
            }
            let is_base64 = self.decode(whole);
            self.is_padded = self.text[whole - 1] == b'=';
            self.text.drain(..whole);
            if !self.decoded.is_empty() {
                emit(&self.decoded)?;
            }
            if !is_base64 || self.is_padded && !self.text.is_empty() {
                return Err(DecodeError::Base64);
            }
        }
        Ok(())
    }

    /// Decodes the first `whole` characters, or as many groups of them as come before one that is wrong: what is handed
    /// on must not depend on how the text is cut.
    fn decode(&mut self, whole: usize) -> bool {
        let text = &self.text[..whole];
        self.decoded.clear();
        if GO_STANDARD.decode_vec(text, &mut self.decoded).is_ok() {
            return true;
        }
        self.decoded.clear();
        for group in text.chunks(4) {
            let before = self.decoded.len();
            if GO_STANDARD.decode_vec(group, &mut self.decoded).is_err() {
                self.decoded.truncate(before);
                break;
            }
            if group[3] == b'=' {
                break;
            }
        }
        false
    }

    /// The message is whole.
    pub(in crate::tunnel) fn end(&mut self) -> Result<(), DecodeError> {
        self.is_padded = false;
        if self.text.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Base64)
        }
    }
}
