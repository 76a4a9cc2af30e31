//! What a recorder signs of a session file when it writes it, before any log has it: that it wrote it.
//!
//! The statement is a signed note among the file's key-value metadata, under
//! [`SIGNATURE_KEY`](crate::evidence::SIGNATURE_KEY). Its text:
//!
//! ```text
//! hoop session file
//! <name of the object>
//! <SHA-256 of the text of its footer, hexadecimal>
//! ```
//! The footer has the root over the events, the positions and the file before it, so nobody without the key can put a
//! file in the place of one that is not in a log yet and have it logged.

use crate::ids::EventHash;

/// The text of the statement of a file with this name and this text of its footer.
pub fn statement(object: &str, footer: &str) -> String {
    let footer = EventHash::of(footer.as_bytes());
    format!("hoop session file\n{object}\n{footer}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_of_one_name_and_one_footer() {
        let text = statement("events/v1/a", "{}");
        assert!(text.starts_with("hoop session file\nevents/v1/a\n") && text.ends_with('\n'));
        assert_ne!(text, statement("events/v1/b", "{}"));
        assert_ne!(text, statement("events/v1/a", "{} "));
    }
}
