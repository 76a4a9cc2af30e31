//! JSON Web Tokens (RFC 7519) in their compact form: taken apart here, believed nowhere before [`super::keys`] has
//! checked the signature.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hoop_schema::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::authenticate::Unauthenticated;

/// How far the clocks of issuer and gateway may be apart. The API server allows as much.
pub(super) const LEEWAY_MICROS: i64 = 10 * 1_000_000;

/// The claims of a token.
pub(crate) type Claims = Map<String, Value>;

/// A token, taken apart.
#[derive(Debug)]
pub(super) struct Jwt<'a> {
    pub(super) header: Header,
    pub(super) claims: Claims,
    /// What is signed: the first two parts with the dot between them.
    pub(super) signed: &'a str,
    pub(super) signature: Vec<u8>,
}

/// The part of the header that matters.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    #[serde(default)]
    pub(super) kid: Option<String>,
    /// Extensions that have to be understood (RFC 7515 §4.1.11). None is.
    #[serde(default)]
    crit: Option<Value>,
}

impl<'a> Jwt<'a> {
    /// Takes a token apart; `None` for something that is no signed JWT.
    pub(super) fn parse(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        // A text first, for a JSON reader passes over bytes that are none where it is not asked for the value.
        let text = |part: &str| String::from_utf8(decode(part)?).ok();
        let header: Header = serde_json::from_str(&text(header)?).ok()?;
        let claims: Claims = serde_json::from_str(&text(payload)?).ok()?;
        Some(Self {
            header,
            claims,
            signed,
            signature: decode(signature)?,
        })
    }

    /// Who says that they issued it.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// Checks what has to hold whoever issued it. Returns when it ends, the leeway included.
    pub(super) fn check(
        &self,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<Timestamp, Unauthenticated> {
        let refused = |why: &str| Err(Unauthenticated(why.to_owned()));
        if self.header.crit.is_some() {
            return refused("the token has critical extensions (crit), which are not supported");
        }
        let Some(expires) = self.time("exp")? else {
            return refused("the token has no expiry (exp)");
        };
        let ends = expires.plus_micros(LEEWAY_MICROS);
        if ends <= now {
            return refused("the token has expired; log in again");
        }
        if let Some(from) = self.time("nbf")?
            && from.plus_micros(-LEEWAY_MICROS) > now
        {
            return refused("the token is not valid yet (nbf); compare the clocks");
        }
        let meant = |audience: &Value| {
            audience
                .as_str()
                .is_some_and(|text| audiences.iter().any(|known| known == text))
        };
        let is_meant = match self.claims.get("aud") {
            Some(Value::Array(all)) => all.iter().any(meant),
            Some(one) => meant(one),
            None => false,
        };
        if !is_meant {
            return refused(
                "the token is not for this gateway: none of its audiences (aud) is configured",
            );
        }
        Ok(ends)
    }

    /// A claim that is a time in seconds since 1970, perhaps with a fraction.
    fn time(&self, claim: &str) -> Result<Option<Timestamp>, Unauthenticated> {
        time(&self.claims, claim)
    }
}

/// A claim that is a time in seconds since 1970, perhaps with a fraction.
fn time(claims: &Claims, claim: &str) -> Result<Option<Timestamp>, Unauthenticated> {
    let Some(value) = claims.get(claim) else {
        return Ok(None);
    };
    let micros = match (value.as_i64(), value.as_f64()) {
        (Some(seconds), _) => seconds.saturating_mul(1_000_000),
        // A cast of a float saturates; the timestamp is clamped.
        #[expect(clippy::cast_possible_truncation, reason = "it saturates, as is meant")]
        (None, Some(seconds)) => (seconds * 1e6) as i64,
        (None, None) => {
            return Err(Unauthenticated(format!(
                "the token's {claim} is not a number"
            )));
        }
    };
    Ok(Some(Timestamp::from_micros(micros)))
}

/// What a token says, unproven: for whoever has just got it from its issuer, or only passes it on. `None` for something
/// that is no signed JWT.
pub fn unverified_claims(token: &str) -> Option<Map<String, Value>> {
    Jwt::parse(token).map(|jwt| jwt.claims)
}

/// When a token says that it expires, unproven; `None` when it does not say.
pub(crate) fn claimed_expiry(token: &str) -> Option<Timestamp> {
    time(&Jwt::parse(token)?.claims, "exp").ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn encode(header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2ln", part(header), part(claims))
    }

    fn check(claims: &Value, now: i64) -> Result<i64, String> {
        let token = encode(&json!({"alg": "RS256"}), claims);
        let jwt = Jwt::parse(&token).unwrap();
        jwt.check(
            &["hoop".into(), "kubernetes".into()],
            Timestamp::from_micros(now * 1_000_000),
        )
        .map(|ends| ends.as_micros() / 1_000_000)
        .map_err(|Unauthenticated(why)| why)
    }

    #[test]
    fn a_token_holds_from_nbf_to_exp_give_or_take_ten_seconds() {
        let claims = json!({"exp": 200, "nbf": 100, "aud": "hoop"});
        assert_eq!(check(&claims, 100), Ok(210));
        assert_eq!(check(&claims, 90), Ok(210));
        assert!(check(&claims, 89).unwrap_err().contains("not valid yet"));
        assert_eq!(check(&claims, 209), Ok(210));
        assert!(check(&claims, 210).unwrap_err().contains("expired"));
        assert!(
            check(&json!({"aud": "hoop"}), 1)
                .unwrap_err()
                .contains("no expiry")
        );
        assert!(
            check(&json!({"aud": "hoop", "exp": "200"}), 1)
                .unwrap_err()
                .contains("not a number")
        );
        assert_eq!(check(&json!({"aud": "hoop", "exp": 200.9}), 1), Ok(210));
        assert!(check(&json!({"aud": "hoop", "exp": 1e300}), 1).is_ok());
        assert!(
            check(&json!({"aud": "hoop", "exp": i64::MIN}), 1)
                .unwrap_err()
                .contains("expired")
        );
    }

    #[test]
    fn one_of_the_audiences_has_to_be_known() {
        let with = |aud: Value| check(&json!({"exp": 200, "aud": aud}), 1);
        assert!(with(json!("kubernetes")).is_ok());
        assert!(with(json!(["other", "hoop"])).is_ok());
        for aud in [
            json!("other"),
            json!(["other"]),
            json!([]),
            json!(null),
            json!({"hoop": 1}),
        ] {
            assert!(
                with(aud.clone()).unwrap_err().contains("audiences"),
                "{aud}"
            );
        }
        assert!(
            check(&json!({"exp": 200}), 1)
                .unwrap_err()
                .contains("audiences")
        );
    }

    #[test]
    fn critical_extensions_are_refused() {
        let token = encode(
            &json!({"alg": "RS256", "crit": ["b64"], "b64": false}),
            &json!({"exp": 9, "aud": "hoop"}),
        );
        let jwt = Jwt::parse(&token).unwrap();
        assert!(jwt.check(&["hoop".into()], Timestamp::default()).is_err());
    }

    #[test]
    fn what_is_no_token_is_none() {
        let good = encode(&json!({"alg": "RS256"}), &json!({"iss": "i"}));
        assert_eq!(Jwt::parse(&good).unwrap().issuer(), Some("i"));
        for bad in [
            "",
            ".",
            "..",
            "a.b",
            "a.b.c",
            "token-alice",
            &format!("{good}="),
            &format!("x.{good}"),
        ] {
            assert!(Jwt::parse(bad).is_none(), "{bad}");
        }
        let header = URL_SAFE_NO_PAD.encode(b"{\"alg\":\"RS256\",\"typ\":\"\xff\"}");
        let (_, rest) = good.split_once('.').unwrap();
        assert!(Jwt::parse(&format!("{header}.{rest}")).is_none());
        let deep = URL_SAFE_NO_PAD.encode("[".repeat(5000));
        assert!(Jwt::parse(&format!("{deep}.{deep}.x")).is_none());
    }
}
