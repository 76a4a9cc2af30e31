//! Kubeconfigs for people, with their certificates inside.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::authority::{Authority, AuthorityError};
use crate::config::Person;
use crate::data_dir::{create_private_dir, read_if_there, write_private};

/// Writes the kubeconfig of a person, or leaves the one that is there when it still says all of this and its
/// certificate lasts. Returns where it is.
///
/// # Errors
/// When files cannot be read or written, or no certificate can be made for the name.
pub fn write(
    folder: &Path,
    authority: &Authority,
    person: &Person,
    server: &str,
    now: Timestamp,
) -> Result<PathBuf, AuthorityError> {
    create_private_dir(folder)?;
    let path = folder.join(format!("{}.kubeconfig", file_name(&person.name)));
    if let Some(text) = read_if_there(&path)?
        && is_current(&text, authority, person, server, now)
    {
        return Ok(path);
    }
    let credential = authority.client(&person.name, &person.groups, now)?;
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "hoop",
        "clusters": [{"name": "hoop", "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(authority.certificate_pem()),
        }}],
        "contexts": [{"name": "hoop", "context": {"cluster": "hoop", "user": person.name}}],
        "users": [{"name": person.name, "user": {
            "client-certificate-data": STANDARD.encode(&credential.certificate_pem),
            "client-key-data": STANDARD.encode(&credential.key_pem),
        }}],
    });
    // JSON is YAML; kubectl rewrites it as it likes when somebody sets a namespace.
    write_private(&path, &format!("{document:#}\n"))?;
    Ok(path)
}

/// Whether the text is a kubeconfig that still serves. One that kubectl has rewritten as YAML counts too.
fn is_current(
    text: &str,
    authority: &Authority,
    person: &Person,
    server: &str,
    now: Timestamp,
) -> bool {
    let Ok(document) = serde_saphyr::from_str::<Value>(text) else {
        return false;
    };
    let decoded = |pointer: &str| {
        let bytes = STANDARD.decode(document.pointer(pointer)?.as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let ca = decoded("/clusters/0/cluster/certificate-authority-data");
    let certificate = decoded("/users/0/user/client-certificate-data");
    document
        .pointer("/clusters/0/cluster/server")
        .and_then(Value::as_str)
        == Some(server)
        && ca.as_deref() == Some(authority.certificate_pem())
        && certificate
            .is_some_and(|pem| authority.still_names(&pem, &person.name, &person.groups, now))
}

/// A person's name as the name of a file: what could be more than a name becomes `_`.
fn file_name(name: &str) -> String {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '@' | '_' | '-' | '.' | '+');
    let text: String = name
        .chars()
        .map(|c| if fits(c) { c } else { '_' })
        .collect();
    text.trim_start_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_is_written_once_and_again_when_something_changed() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let authority = Authority::open(&folder.path().join("ca"), now).unwrap();
        let mut alice = Person {
            name: "alice".into(),
            groups: vec!["developers".into()],
        };
        let write = |person: &Person, server: &str| {
            let path = write(folder.path(), &authority, person, server, now).unwrap();
            std::fs::read_to_string(path).unwrap()
        };
        let first = write(&alice, "https://127.0.0.1:1");
        assert_eq!(write(&alice, "https://127.0.0.1:1"), first);
        let moved = write(&alice, "https://127.0.0.1:2");
        assert_ne!(moved, first);
        alice.groups.push("on-call".into());
        assert_ne!(write(&alice, "https://127.0.0.1:2"), moved);
    }

    #[test]
    fn a_name_cannot_leave_the_folder() {
        assert_eq!(file_name("../../etc/passwd"), "_.._etc_passwd");
        assert_eq!(file_name("jo@example.com"), "jo@example.com");
    }
}
