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

/// How often escapes may be escaped again, as in an annotation that holds JSON: enough for what anybody nests.
const ESCAPES_DEPTH: usize = 3;

/// Whether a request body, in any encoding, holds a value that was masked when it was read: as text, or in base64,
/// also inside a longer text, also behind escapes of JSON and YAML and between line breaks, which base64 may have.
pub fn contains_masked_value(body: &[u8]) -> Option<MaskedForm> {
    if let Some(form) = find(body) {
        return Some(form);
    }
    let mut text = std::borrow::Cow::Borrowed(body);
    for _ in 0..ESCAPES_DEPTH {
        if memchr::memchr(b'\\', &text).is_none() {
            break;
        }
        text = unescaped(&text).into();
        if let Some(form) = find(&text) {
            return Some(form);
        }
    }
    if !text.iter().any(u8::is_ascii_whitespace) {
        return None;
    }
    let mut squeezed = text.into_owned();
    squeezed.retain(|byte| !byte.is_ascii_whitespace());
    // Text does not lose its spaces when it is read.
    find(&squeezed).filter(|form| *form == MaskedForm::Base64)
}

fn find(text: &[u8]) -> Option<MaskedForm> {
    static PLAIN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(SENTINEL));
    static BASE64: LazyLock<[Finder<'static>; 3]> =
        LazyLock::new(|| [SENTINEL_BASE64, SHIFTED_BASE64[0], SHIFTED_BASE64[1]].map(Finder::new));
    if PLAIN.find(text).is_some() {
        return Some(MaskedForm::Plain);
    }
    let is_found = BASE64.iter().any(|finder| finder.find(text).is_some());
    is_found.then_some(MaskedForm::Base64)
}

/// The text with what escapes of JSON and YAML stand for, wherever they stand. What is none stays.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        plain.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let Some((kind, after)) = rest.split_first() else {
            break;
        };
        rest = after;
        let digits = match kind {
            b'x' => 2,
            b'u' => 4,
            b'U' => 8,
            _ => 0,
        };
        let code = after
            .get(..digits)
            .filter(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match (kind, code) {
            (_, Some(code)) => {
                let c = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                plain.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &after[digits..];
            }
            (b'n', None) => plain.push(b'\n'),
            (b'r', None) => plain.push(b'\r'),
            (b't', None) => plain.push(b'\t'),
            // YAML goes on after the indentation of the next line.
            (b'\n', None) => rest = after.trim_ascii_start(),
            (other, None) => plain.push(*other),
        }
    }
    plain.extend_from_slice(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_value_is_found_behind_escapes() {
        for (body, form) in [
            (r#"{"a":"**hoop-masked**"}"#, MaskedForm::Plain),
            (r#"{"a":"\u002a*hoop\u002Dmasked**"}"#, MaskedForm::Plain),
            (
                r#"{"a":"{\"b\":\"\\u002a*hoop-masked**\"}"}"#,
                MaskedForm::Plain,
            ),
            (r#"a: "\x2a*hoop-masked**""#, MaskedForm::Plain),
            ("a: \"**hoop-\\\n   masked**\"", MaskedForm::Plain),
            (r#"{"a":"Kipob29wLW1hc2tlZCoq"}"#, MaskedForm::Base64),
            (r#"{"a":"Kipob29\u0077LW1hc2tlZCoq"}"#, MaskedForm::Base64),
            (r#"{"a":"Kipob29w\nLW1hc2tlZCoq"}"#, MaskedForm::Base64),
            ("a: >-\n  Kipob29w\n  LW1hc2tlZCoq\n", MaskedForm::Base64),
        ] {
            assert_eq!(contains_masked_value(body.as_bytes()), Some(form), "{body}");
        }
        for body in [
            r#"{"a":"hoop-masked"}"#,
            r#"{"a":"** hoop-masked **"}"#,
            r#"{"a":"\\"#,
            r#"\u00"#,
            "\\",
        ] {
            assert_eq!(contains_masked_value(body.as_bytes()), None, "{body}");
        }
    }
}
