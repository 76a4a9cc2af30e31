//! Asking to act as somebody else: `kubectl --as`, which is the headers `Impersonate-User`, `-Group`, `-Uid` and
//! `-Extra-KEY`.
//!
//! What a client asks for is read here, in the one spelling that the API server reads; anything that looks like it in
//! another way is refused, not passed over. Whether it is allowed is for [`crate::policy`]; what goes upstream is
//! written anew from what was allowed, with the person's own name beside it.

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use hoop_schema::kinds::request::User;

/// The key of `extra` by which the cluster, and its audit log, see who is behind a user that was asked for.
pub(crate) const ORIGINAL_USER_EXTRA: &str = "gateway.hoop/original-user";

/// [`ORIGINAL_USER_EXTRA`] as a header.
const ORIGINAL_USER: HeaderName =
    HeaderName::from_static("impersonate-extra-gateway.hoop%2foriginal-user");

const USER: HeaderName = HeaderName::from_static("impersonate-user");
const GROUP: HeaderName = HeaderName::from_static("impersonate-group");
const UID: HeaderName = HeaderName::from_static("impersonate-uid");

/// How all of them begin.
const PREFIX: &str = "impersonate-";
const EXTRA_PREFIX: &str = "impersonate-extra-";

/// The most groups and extra values of a request: each costs the API server a question to its authorizer.
const VALUES_MAX: usize = 64;

/// Whom a request asks to act as; nothing when it does not ask.
///
/// # Errors
/// When it asks in a way that could be read as something else. The text is for the person.
pub(crate) fn asked(headers: &HeaderMap) -> Result<Option<User>, String> {
    let mut user = User::default();
    let (mut any, mut values) = (false, 0_usize);
    for (name, value) in headers {
        let name = name.as_str();
        if !looks_like_it(name) {
            continue;
        }
        any = true;
        values += 1;
        if values > VALUES_MAX {
            return Err(format!(
                "more than {VALUES_MAX} Impersonate headers were sent"
            ));
        }
        let text = value
            .to_str()
            .ok()
            .filter(|text| !text.is_empty() && text.trim() == *text)
            .ok_or_else(|| format!("the header {name} is empty or not plain text"))?
            .to_owned();
        if name == USER.as_str() && user.username.is_empty() {
            user.username = text;
        } else if name == GROUP.as_str() {
            user.groups.push(text);
        } else if name == UID.as_str() && user.uid.is_none() {
            user.uid = Some(text);
        } else if let Some(key) = name.strip_prefix(EXTRA_PREFIX) {
            let key = extra_key(key).ok_or_else(|| format!("the header {name} names no key"))?;
            user.extra.entry(key).or_default().push(text);
        } else {
            return Err(format!(
                "the header {name} is there twice, or is none that is known"
            ));
        }
    }
    if any && user.username.is_empty() {
        return Err("a group, uid or extra is asked for without a user".to_owned());
    }
    Ok(any.then_some(user))
}

/// Whether a header begins as one of them, `_` standing for `-`: some servers read the two alike.
fn looks_like_it(name: &str) -> bool {
    name.len() >= PREFIX.len()
        && name
            .bytes()
            .zip(PREFIX.bytes())
            .all(|(n, p)| n == p || (n == b'_' && p == b'-'))
}

/// The key of an extra: percent-decoded, in lower case as the API server has it. The person's own name is not theirs
/// to set.
fn extra_key(encoded: &str) -> Option<String> {
    let whole = crate::request_info::escapes_are_whole(encoded.as_bytes());
    let key = percent_decode_str(encoded).decode_utf8().ok()?.into_owned();
    let plain = !key.is_empty() && key == key.to_lowercase() && !key.chars().any(char::is_control);
    (whole && plain && key != ORIGINAL_USER_EXTRA).then_some(key)
}

/// A user that a request goes upstream as instead of the person.
pub(crate) fn write(headers: &mut HeaderMap, person: &HeaderValue, acting_as: &User) -> Option<()> {
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).ok();
    headers.insert(USER, value(&acting_as.username)?);
    for group in &acting_as.groups {
        headers.append(GROUP, value(group)?);
    }
    if let Some(uid) = &acting_as.uid {
        headers.insert(UID, value(uid)?);
    }
    for (key, values) in &acting_as.extra {
        let name = format!("{EXTRA_PREFIX}{}", encoded(key));
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        for text in values {
            headers.append(name.clone(), value(text)?);
        }
    }
    headers.insert(ORIGINAL_USER, person.clone());
    Some(())
}

/// A key as part of a header's name: everything but RFC 9110's token characters is escaped, and `%` itself.
fn encoded(key: &str) -> String {
    const PLAIN: &[u8] = b"!#$&'*+-.^_`|~";
    key.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || PLAIN.contains(&byte) {
            text.push(char::from(byte));
        } else {
            text += &format!("%{byte:02x}");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn what_is_asked_for_is_read_as_the_api_server_reads_it() {
        assert_eq!(asked(&headers(&[("accept", "*/*")])), Ok(None));
        let user = asked(&headers(&[
            ("Impersonate-User", "jane"),
            ("IMPERSONATE-GROUP", "a"),
            ("Impersonate-Group", "b"),
            ("Impersonate-Uid", "7"),
            ("Impersonate-Extra-Example.com%2Fteam", "x"),
            ("Impersonate-Extra-example.com%2fteam", "y"),
        ]))
        .unwrap()
        .unwrap();
        assert_eq!(
            (user.username.as_str(), user.uid.as_deref()),
            ("jane", Some("7"))
        );
        assert_eq!(user.groups, ["a", "b"]);
        assert_eq!(user.extra["example.com/team"], ["x", "y"]);
    }

    #[test]
    fn other_spellings_halves_and_doubles_are_refused() {
        for lines in [
            &[("impersonate_user", "root")][..],
            &[("impersonate-user", "a"), ("impersonate-user", "b")],
            &[
                ("impersonate-user", "a"),
                ("impersonate-uid", "1"),
                ("impersonate-uid", "2"),
            ],
            &[("impersonate-group", "g")],
            &[("impersonate-extra-x", "g")],
            &[("impersonate-user", "")],
            &[("impersonate-user", "a"), ("impersonate-group", "")],
            &[
                ("impersonate-user", "a"),
                ("impersonate_group", "system:masters"),
            ],
            &[("impersonate-user", "a"), ("impersonate-anything", "b")],
            &[("impersonate-user", "a"), ("impersonate-extra-", "b")],
            &[("impersonate-user", "a"), ("impersonate-extra-%zz", "b")],
            &[
                ("impersonate-user", "a"),
                (
                    "impersonate-extra-gateway.hoop%2foriginal-user",
                    "somebody-else",
                ),
            ],
        ] {
            assert!(asked(&headers(lines)).is_err(), "{lines:?}");
        }
        let many: Vec<_> = (0..100).map(|_| ("impersonate-group", "g")).collect();
        assert!(asked(&headers(&many)).is_err());
    }

    #[test]
    fn what_is_written_reads_back_and_names_the_person() {
        let user = User {
            username: "system:serviceaccount:shop:web".into(),
            uid: Some("7".into()),
            groups: vec!["g one".into()],
            extra: [("example.com/a b%".to_owned(), vec!["v".to_owned()])].into(),
        };
        let mut out = HeaderMap::new();
        write(&mut out, &HeaderValue::from_static("alice"), &user).unwrap();
        assert_eq!(out[ORIGINAL_USER], "alice");
        out.remove(ORIGINAL_USER);
        assert_eq!(asked(&out), Ok(Some(user)));
    }
}
