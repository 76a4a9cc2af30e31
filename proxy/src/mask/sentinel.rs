//! What stands in the place of a masked value, and how it is found again when it comes back in a write.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// Every masked value begins with this. Its length is a multiple of three, so that its base64 form is fixed too.
pub const SENTINEL: &str = "**hoop-masked**";

/// [`SENTINEL`] in base64.
pub(super) const SENTINEL_BASE64: &str = "Kipob29wLW1hc2tlZCoq";

/// The characters of base64 that only [`SENTINEL`] gives, when it begins one and two bytes after a group of three.
const SHIFTED_BASE64: [&str; 2] = ["qKmhvb3AtbWFza2VkKi", "qaG9vcC1tYXNrZWQqK"];

/// How a masked value came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskedForm {
    /// As text.
    Plain,
    /// In base64, as in `data` of a Secret.
    Base64,
}

/// Whether a request body, in any encoding, holds a value that was masked when it was read: as text, or in base64,
/// also inside a longer text.
pub fn contains_masked_value(body: &[u8]) -> Option<MaskedForm> {
    static PLAIN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(SENTINEL));
    static BASE64: LazyLock<[Finder<'static>; 3]> =
        LazyLock::new(|| [SENTINEL_BASE64, SHIFTED_BASE64[0], SHIFTED_BASE64[1]].map(Finder::new));
    if PLAIN.find(body).is_some() {
        return Some(MaskedForm::Plain);
    }
    let is_found = BASE64.iter().any(|finder| finder.find(body).is_some());
    is_found.then_some(MaskedForm::Base64)
}
