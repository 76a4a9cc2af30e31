//! On whose behalf, and through what: the `act` claim (RFC 8693 §4.1) and the client that the token was issued to.

use std::sync::Arc;

use serde_json::Value;

use super::token::Claims;
use crate::authenticate::{Delegation, Unauthenticated};

/// The longest chain of actors. A person, an agent and its tool are two.
const ACTORS_MAX: usize = 8;

/// The longest name of an actor or a client.
const NAME_BYTES_MAX: usize = 256;

/// What a token says about it. A claim that is there and cannot be understood is an error: rights may depend on it.
pub(super) fn read(claims: &Claims) -> Result<Option<Arc<Delegation>>, Unauthenticated> {
    let client = match claims.get("azp").or_else(|| claims.get("client_id")) {
        None => None,
        Some(client) => {
            Some(name(client).ok_or_else(|| wrong("azp or client_id", "a short text"))?)
        }
    };
    let mut actors = Vec::new();
    let mut next = claims.get("act");
    while let Some(actor) = next {
        let actor = actor.as_object();
        let subject = actor.and_then(|actor| name(actor.get("sub")?));
        let subject = subject.ok_or_else(|| wrong("act", "an object with a \"sub\""))?;
        if actors.len() == ACTORS_MAX {
            return Err(wrong("act", "a chain of at most 8"));
        }
        actors.push(subject.to_owned());
        next = actor.and_then(|actor| actor.get("act"));
    }
    if client.is_none() && actors.is_empty() {
        return Ok(None);
    }
    Ok(Some(Arc::new(Delegation {
        client_id: client.map(str::to_owned),
        actors,
    })))
}

fn name(value: &Value) -> Option<&str> {
    let text = value.as_str()?;
    (!text.is_empty() && text.len() <= NAME_BYTES_MAX).then_some(text)
}

fn wrong(claim: &str, expected: &str) -> Unauthenticated {
    Unauthenticated(format!("the token's {claim} is not {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(claims: Value) -> Result<Option<Delegation>, Unauthenticated> {
        let Value::Object(claims) = claims else {
            panic!("claims are an object");
        };
        read(&claims).map(|found| found.map(|found| (*found).clone()))
    }

    #[test]
    fn the_chain_of_actors_and_the_client_are_read() {
        let found = of(
            json!({"azp": "ci", "client_id": "x", "act": {"sub": "agent", "act": {"sub": "tool"}}}),
        );
        let expected = Delegation {
            client_id: Some("ci".into()),
            actors: vec!["agent".into(), "tool".into()],
        };
        assert_eq!(found, Ok(Some(expected)));
        assert_eq!(of(json!({"sub": "alice"})), Ok(None));
        assert_eq!(
            of(json!({"client_id": "x"}))
                .unwrap()
                .unwrap()
                .client_id
                .as_deref(),
            Some("x")
        );
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        let mut deep = json!({"sub": "a"});
        for _ in 0..8 {
            deep = json!({"sub": "a", "act": deep});
        }
        for act in [
            json!("agent"),
            json!({}),
            json!({"sub": 1}),
            json!({"sub": "a", "act": 1}),
            json!(null),
            deep,
        ] {
            assert!(of(json!({"act": act})).is_err(), "{act}");
        }
        assert!(of(json!({"azp": ["a"]})).is_err());
        assert!(of(json!({"azp": "a".repeat(300)})).is_err());
    }
}
