//! From the claims of a verified token to a user: claim validation rules, claim mappings, user validation rules, each as
//! the API server applies them.

use std::collections::BTreeMap;

use hoop_schema::kinds::request::User;
use serde_json::Value as Json;

use super::expression::{self, Expression};
use super::token::Claims;
use crate::authenticate::Unauthenticated;

/// What an issuer's tokens have to fulfil, and how they become users.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) claim_rules: Vec<ClaimRule>,
    pub(super) username: Mapping,
    pub(super) groups: Option<Mapping>,
    pub(super) uid: Option<Mapping>,
    /// Keys of `extra`, each with what it holds.
    pub(super) extra: Vec<(String, Expression)>,
    pub(super) user_rules: Vec<Rule>,
}

/// What the claims have to fulfil.
#[derive(Debug)]
pub(super) enum ClaimRule {
    /// A claim has exactly this value.
    Required { claim: String, value: String },
    /// An expression holds.
    Holds(Rule),
}

/// An expression that has to be true.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) expression: Expression,
    pub(super) message: Option<String>,
}

/// Where something about the user comes from.
#[derive(Debug)]
pub(super) enum Mapping {
    /// From a claim, with a text put before it.
    Claim { claim: String, prefix: String },
    /// From an expression over the claims.
    Expression(Expression),
}

impl Rules {
    /// The user of a token with these claims.
    pub(super) fn user(&self, claims: &Claims) -> Result<User, Unauthenticated> {
        let claims_value = self.has_expressions().then(|| {
            expression::map(
                claims
                    .iter()
                    .map(|(name, claim)| (name.as_str(), expression::value(claim))),
            )
        });
        let claims_value = claims_value.unwrap_or(cel::Value::Null);
        let variables = [("claims", &claims_value)];
        for rule in &self.claim_rules {
            rule.check(claims, &variables)?;
        }
        let username = match &self.username {
            Mapping::Claim { claim, prefix } => format!("{prefix}{}", username(claims, claim)?),
            Mapping::Expression(expression) => one(expression, &variables)?,
        };
        let groups = match &self.groups {
            None => Vec::new(),
            Some(Mapping::Claim { claim, prefix }) => groups(claims, claim, prefix)?,
            Some(Mapping::Expression(expression)) => many(expression, &variables)?,
        };
        let uid = match &self.uid {
            None => None,
            Some(Mapping::Claim { claim, .. }) => Some(string(claims, claim)?.to_owned()),
            Some(Mapping::Expression(expression)) => Some(one(expression, &variables)?),
        };
        let mut extra = BTreeMap::new();
        for (key, expression) in &self.extra {
            let values = many(expression, &variables)?;
            if !values.is_empty() {
                extra.insert(key.clone(), values);
            }
        }
        let user = User {
            username,
            uid: uid.filter(|uid| !uid.is_empty()),
            groups,
            extra,
        };
        if !self.user_rules.is_empty() {
            let value = user_value(&user);
            for rule in &self.user_rules {
                rule.check(&[("user", &value)])?;
            }
        }
        Ok(user)
    }

    fn has_expressions(&self) -> bool {
        let computed = |mapping: &Mapping| matches!(mapping, Mapping::Expression(_));
        computed(&self.username)
            || self.groups.as_ref().is_some_and(computed)
            || self.uid.as_ref().is_some_and(computed)
            || !self.extra.is_empty()
            || self
                .claim_rules
                .iter()
                .any(|rule| matches!(rule, ClaimRule::Holds(_)))
    }
}

impl ClaimRule {
    fn check(
        &self,
        claims: &Claims,
        variables: &expression::Variables<'_>,
    ) -> Result<(), Unauthenticated> {
        match self {
            Self::Holds(rule) => rule.check(variables),
            Self::Required { claim, value } => match claims.get(claim).and_then(Json::as_str) {
                Some(found) if found == value => Ok(()),
                _ => Err(Unauthenticated(format!(
                    "the token's claim {claim:?} does not have the required value"
                ))),
            },
        }
    }
}

impl Rule {
    fn check(&self, variables: &expression::Variables<'_>) -> Result<(), Unauthenticated> {
        match self.expression.evaluate(variables) {
            Ok(cel::Value::Bool(true)) => Ok(()),
            Ok(cel::Value::Bool(false)) => Err(Unauthenticated(match &self.message {
                Some(message) => message.clone(),
                None => format!("the token does not fulfil {:?}", self.expression.text()),
            })),
            Ok(_) => Err(Unauthenticated(format!(
                "{:?} is neither true nor false",
                self.expression.text()
            ))),
            Err(why) => Err(Unauthenticated(why)),
        }
    }
}

/// The user's name. An address that the issuer has not verified is none.
fn username<'a>(claims: &'a Claims, claim: &str) -> Result<&'a str, Unauthenticated> {
    let name = string(claims, claim)?;
    let unverified = claims
        .get("email_verified")
        .is_some_and(|verified| *verified != Json::Bool(true));
    if claim == "email" && unverified {
        return Err(Unauthenticated(
            "the issuer has not verified the e-mail address (email_verified)".into(),
        ));
    }
    if name.is_empty() {
        return Err(Unauthenticated(format!(
            "the token's claim {claim:?} is empty"
        )));
    }
    Ok(name)
}

fn string<'a>(claims: &'a Claims, claim: &str) -> Result<&'a str, Unauthenticated> {
    match claims.get(claim) {
        Some(Json::String(text)) => Ok(text),
        Some(_) => Err(Unauthenticated(format!(
            "the token's claim {claim:?} is not a text"
        ))),
        None => Err(Unauthenticated(format!("the token has no claim {claim:?}"))),
    }
}

fn groups(claims: &Claims, claim: &str, prefix: &str) -> Result<Vec<String>, Unauthenticated> {
    let wrong = || {
        Unauthenticated(format!(
            "the token's claim {claim:?} is neither a text nor a list of texts"
        ))
    };
    let group = |text: &Json| Some(format!("{prefix}{}", text.as_str()?));
    match claims.get(claim) {
        None | Some(Json::Null) => Ok(Vec::new()),
        Some(Json::Array(all)) => all
            .iter()
            .map(group)
            .collect::<Option<_>>()
            .ok_or_else(wrong),
        Some(one) => Ok(vec![group(one).ok_or_else(wrong)?]),
    }
}

fn one(
    expression: &Expression,
    variables: &expression::Variables<'_>,
) -> Result<String, Unauthenticated> {
    match expression.evaluate(variables) {
        Ok(cel::Value::String(text)) => Ok(text.to_string()),
        Ok(_) => Err(Unauthenticated(format!(
            "{:?} is not a text",
            expression.text()
        ))),
        Err(why) => Err(Unauthenticated(why)),
    }
}

/// Texts; empty ones are left out, as in the API server.
fn many(
    expression: &Expression,
    variables: &expression::Variables<'_>,
) -> Result<Vec<String>, Unauthenticated> {
    let wrong = || {
        Unauthenticated(format!(
            "{:?} is neither a text nor a list of texts",
            expression.text()
        ))
    };
    let text = |value: &cel::Value| match value {
        cel::Value::String(text) => Some(text.to_string()),
        _ => None,
    };
    let mut all = match expression.evaluate(variables).map_err(Unauthenticated)? {
        cel::Value::Null => Vec::new(),
        cel::Value::List(items) => {
            let items: Option<Vec<_>> = items.iter().map(text).collect();
            items.ok_or_else(wrong)?
        }
        one => vec![text(&one).ok_or_else(wrong)?],
    };
    all.retain(|text| !text.is_empty());
    Ok(all)
}

/// The variable `user`.
fn user_value(user: &User) -> cel::Value {
    let list = |texts: &[String]| {
        cel::Value::List(std::sync::Arc::new(
            texts.iter().map(|text| expression::text(text)).collect(),
        ))
    };
    let extra = user
        .extra
        .iter()
        .map(|(key, values)| (key.as_str(), list(values)));
    let fields = [
        ("username", expression::text(&user.username)),
        (
            "uid",
            expression::text(user.uid.as_deref().unwrap_or_default()),
        ),
        ("groups", list(&user.groups)),
        ("extra", expression::map(extra)),
    ];
    expression::map(fields.into_iter())
}

#[cfg(test)]
mod tests;
