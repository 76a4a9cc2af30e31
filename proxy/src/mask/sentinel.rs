//! What stands in the place of a masked value, and how it is found again when it comes back in a write.

use memchr::memmem;

/// Every masked value begins with this. Its length is a multiple of three, so that its base64 form is fixed too.
pub const SENTINEL: &str = "**hoop-masked**";

/// [`SENTINEL`] in base64.
pub(super) const SENTINEL_BASE64: &str = "Kipob29wLW1hc2tlZCoq";

/// How a masked value came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskedForm {
    /// As text.
    Plain,
    /// In base64, as in `data` of a Secret.
    Base64,
}

/// Whether a request body, in any encoding, holds a value that was masked when it was read.
pub fn contains_masked_value(body: &[u8]) -> Option<MaskedForm> {
    if memmem::find(body, SENTINEL.as_bytes()).is_some() {
        Some(MaskedForm::Plain)
    } else if memmem::find(body, SENTINEL_BASE64.as_bytes()).is_some() {
        Some(MaskedForm::Base64)
    } else {
        None
    }
}
