//! One recorded request, decided again. Pure.

use std::borrow::Cow;
use std::net::IpAddr;

use hoop_proxy::policy::{Answer, BodyFact, Facts, Policy, Step, Through};
use hoop_proxy::request_info;
use hoop_schema::body::{Body, BodyEncoding};
use hoop_schema::kinds::request::{
    Cause, Decision, Effect, Intent, Level, RequestAttributes, User,
};

/// The longest target that a record surely has whole, in bytes: longer ones are cut at 8,192, and not within a
/// character.
const TARGET_BYTES_WHOLE: usize = 8_188;

/// The header by which people ask to act as somebody else, as the record names it.
const IMPERSONATE_USER: &str = "impersonate-user";

/// What a body in protobuf begins with; more of it does not matter, since conditions do not read it.
const PROTOBUF: &[u8] = b"k8s\0";

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was refused before any policy was asked, and would be again.
    NotAsked,
    /// The recorded effect of the policy, and the candidate's decision.
    Decided(Effect, Box<Decision>),
    /// The record does not have what the candidate wants to know; in words.
    CannotSay(String),
}

/// Decides about a recorded request. `webhooks` are answers that are assumed.
pub(super) fn decide(policy: &Policy, intent: &Intent, webhooks: &[(String, Answer)]) -> Outcome {
    let request = &intent.request;
    let (Some(recorded), Some(user)) = (recorded_effect(intent), &request.user) else {
        return Outcome::NotAsked;
    };
    if request.request_uri.len() > TARGET_BYTES_WHOLE {
        return Outcome::CannotSay("the recorded target is cut off".to_owned());
    }
    let Ok(info) = request_info::parse(&request.http_method, &request.request_uri) else {
        return Outcome::CannotSay("the recorded target cannot be read".to_owned());
    };
    let Ok(source_ip) = request.source_ip.parse::<IpAddr>() else {
        return Outcome::CannotSay("the record has no address".to_owned());
    };
    let through = Through {
        actor: request.actors.first().map(String::as_str),
        client: request.client_id.as_deref(),
    };
    let sent = sent(intent);
    let body = match &sent {
        Sent::Whole(bytes) => BodyFact::Read(bytes),
        Sent::Unknown(_) => BodyFact::Unread,
    };
    let mut facts = Facts::new(user, &info, source_ip, request.received)
        .through(through)
        .with_body(body);
    for (name, answer) in webhooks {
        if let Some(webhook) = policy.webhook(name) {
            facts.answer(webhook.clone(), answer.clone());
        }
    }
    if let Some(asked) = asked(request, intent) {
        let decision = policy.impersonate(&facts, asked);
        if decision.effect != Effect::Allow {
            return Outcome::Decided(recorded, Box::new(decision));
        }
    }
    match policy.decide(&facts) {
        Step::Decided(verdict) => Outcome::Decided(recorded, Box::new(verdict.decision)),
        Step::NeedsWebhook(webhook) => Outcome::CannotSay(format!(
            "webhook \"{}\" would be asked (assume an answer with --webhook)",
            webhook.name
        )),
        Step::NeedsBody => Outcome::CannotSay(match sent {
            Sent::Unknown(why) => format!("a condition needs the body, which {why}"),
            Sent::Whole(_) => "a condition needs the body".to_owned(),
        }),
    }
}

/// What the policy of then decided; nothing when it was not asked, or when no policy would decide otherwise.
fn recorded_effect(intent: &Intent) -> Option<Effect> {
    let decision = &intent.decision;
    match decision.cause {
        Cause::Rule | Cause::NoMatch | Cause::Webhook | Cause::WebhookFailed => {
            Some(decision.effect)
        }
        // Headers that name nobody are refused whatever the policy.
        Cause::ImpersonationRefused => intent
            .request
            .impersonated
            .as_ref()
            .map(|_| decision.effect),
        // What fails after a rule allowed it still names the rule.
        Cause::Unauthenticated
        | Cause::Malformed
        | Cause::TooLarge
        | Cause::UpgradeRefused
        | Cause::MaskedWrite
        | Cause::Uninspectable
        | Cause::LogUnavailable
        | Cause::CredentialExpired
        | Cause::AccessEnded => decision.profile.as_ref().map(|_| Effect::Allow),
    }
}

/// Whom the person asked to act as. A record names the service account that a profile pins people to in the same
/// place; only who asks sends a header.
fn asked<'a>(request: &'a RequestAttributes, intent: &Intent) -> Option<&'a User> {
    let asked = request.impersonated.as_ref()?;
    intent
        .claims
        .contains_key(IMPERSONATE_USER)
        .then_some(asked)
}

/// What was sent along.
enum Sent<'a> {
    Whole(Cow<'a, [u8]>),
    /// Why that is not known.
    Unknown(&'static str),
}

fn sent(intent: &Intent) -> Sent<'_> {
    let Some(body) = &intent.body else {
        let never_has_one = matches!(intent.request.http_method.as_str(), "GET" | "HEAD");
        return match () {
            () if never_has_one => Sent::Whole(Cow::Borrowed(b"")),
            () if intent.decision.effect != Effect::Allow => {
                Sent::Unknown("is not recorded of what was refused")
            }
            () if intent.level == Level::Metadata => {
                Sent::Unknown("the rule of then did not record")
            }
            () => Sent::Whole(Cow::Borrowed(b"")),
        };
    };
    if body.truncated_at.is_some() {
        return Sent::Unknown("is not recorded whole");
    }
    if !intent.masked.is_empty() {
        return Sent::Unknown("was masked in the record");
    }
    if is_protobuf(body) {
        // Recorded in JSON for people; conditions did not read it, and would not.
        return Sent::Whole(Cow::Borrowed(PROTOBUF));
    }
    match (body.encoding, &body.content) {
        (BodyEncoding::Json, Some(raw)) => Sent::Whole(Cow::Borrowed(raw.get().as_bytes())),
        (BodyEncoding::Text, Some(raw)) => match serde_json::from_str::<String>(raw.get()) {
            Ok(text) => Sent::Whole(Cow::Owned(text.into_bytes())),
            Err(_) => Sent::Unknown("the record has in a form that cannot be read"),
        },
        (BodyEncoding::Chunks, _) => Sent::Unknown("is recorded in pieces"),
        (BodyEncoding::Encrypted, _) => Sent::Unknown("is encrypted in the record"),
        _ => Sent::Unknown("the record has in a form that cannot be read"),
    }
}

fn is_protobuf(body: &Body) -> bool {
    let media_type = body.media_type.as_deref().unwrap_or_default();
    media_type.contains("protobuf")
}

#[cfg(test)]
mod tests {
    use hoop_proxy::policy::FailurePolicy;
    use serde_json::{Value, json};

    use super::*;

    fn policy(rules: &str) -> Policy {
        let text = format!(
            "webhooks:\n- {{name: desk, url: 'https://desk.example.com/', authorizedTTL: 1m}}\n\
             profiles:\n- name: p\n  subjects: {{users: [alice]}}\n  rules:\n{rules}"
        );
        Policy::parse(&text).expect("a good policy")
    }

    /// An intent of alice as a gateway writes it; `more` replaces fields of the event.
    fn intent(method: &str, target: &str, more: &Value) -> Intent {
        let mut event = json!({
            "request": {
                "audit_id": "a", "received": "2026-11-23T10:00:00.000000Z", "user": {"username": "alice"},
                "auth_method": "oidc", "source_ip": "192.0.2.7", "http_method": method, "request_uri": target, "verb": "x",
            },
            "decision": {"effect": "allow", "cause": "rule", "profile": "then", "rule": "work"},
            "level": "RequestResponse", "durability": "log",
        });
        for (key, value) in more.as_object().expect("an object") {
            match (event[key].as_object_mut(), value) {
                (Some(fields), Value::Object(more)) => fields.extend(more.clone()),
                _ => event[key] = value.clone(),
            }
        }
        serde_json::from_str(&event.to_string()).expect("an intent")
    }

    const PODS: &str = "/api/v1/namespaces/shop/pods";

    fn effects(policy: &Policy, intent: &Intent) -> (Effect, Effect) {
        match decide(policy, intent, &[]) {
            Outcome::Decided(recorded, decision) => (recorded, decision.effect),
            other => panic!("{other:?}"),
        }
    }

    fn why(policy: &Policy, intent: &Intent) -> String {
        match decide(policy, intent, &[]) {
            Outcome::CannotSay(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_is_decided_with_the_facts_of_then() {
        let rule = |when: &str| {
            policy(&format!(
                "  - {{effect: allow, apiGroups: [''], resources: [pods], verbs: [list], when: [\"{when}\"]}}\n"
            ))
        };
        let request = json!({"request": {
            "user": {"username": "alice", "groups": ["dev"], "extra": {"team": ["web"]}}, "client_id": "cli",
        }});
        let intent = intent("GET", PODS, &request);
        for when in [
            "time.hour == 10 && time.weekday == 'Monday'",
            "source.ip == '192.0.2.7'",
            "'dev' in user.groups && user.extra.team == ['web'] && user.client == 'cli'",
            "request.namespace == 'shop' && request.resource == 'pods'",
        ] {
            let same = (Effect::Allow, Effect::Allow);
            assert_eq!(effects(&rule(when), &intent), same, "{when}");
        }
        let never = rule("time.hour == 11");
        assert_eq!(effects(&never, &intent), (Effect::Allow, Effect::Deny));
    }

    #[test]
    fn who_acted_for_the_user_counts_again() {
        let policy =
            policy("  - {effect: allow, apiGroups: [''], resources: [pods], verbs: [list]}\n");
        let actors = json!({"request": {"actors": ["agent-7", "other"]}});
        let by_agent = intent("GET", PODS, &actors);
        assert_eq!(effects(&policy, &by_agent), (Effect::Allow, Effect::Deny));
    }

    #[test]
    fn a_body_counts_where_the_record_has_all_of_it() {
        let policy = policy(
            "  - {effect: deny, apiGroups: [''], resources: [pods], verbs: [create], when: object.x == 1}
  - {effect: allow, apiGroups: [''], resources: [pods], verbs: ['*']}
",
        );
        let post = |more: Value| intent("POST", PODS, &more);
        let body = |more: Value| {
            let mut body = json!({"encoding": "json", "content": {"x": 1}, "bytes": 7});
            let more = more.as_object().expect("an object").clone();
            body.as_object_mut().expect("an object").extend(more);
            post(json!({"body": body}))
        };
        assert_eq!(
            effects(&policy, &body(json!({}))),
            (Effect::Allow, Effect::Deny)
        );
        let other = json!({"content": {"x": 2}});
        assert_eq!(
            effects(&policy, &body(other)),
            (Effect::Allow, Effect::Allow)
        );
        let text = json!({"encoding": "text", "content": "{\"x\":1}"});
        assert_eq!(effects(&policy, &body(text)), (Effect::Allow, Effect::Deny));
        // Conditions did not read protobuf, whatever the record shows of it: in doubt it is refused.
        let protobuf =
            json!({"media_type": "application/vnd.kubernetes.protobuf", "content": {"x": 2}});
        assert_eq!(
            effects(&policy, &body(protobuf)),
            (Effect::Allow, Effect::Deny)
        );
        // A request without a body is one with an empty object, in which there is no x.
        assert_eq!(
            effects(&policy, &post(json!({}))),
            (Effect::Allow, Effect::Deny)
        );
        assert_eq!(
            effects(&policy, &intent("GET", PODS, &json!({}))),
            (Effect::Allow, Effect::Allow)
        );

        for (intent, expected) in [
            (body(json!({"truncated_at": 3})), "is not recorded whole"),
            (
                body(json!({"encoding": "chunks", "content": null, "chunks": 2})),
                "is recorded in pieces",
            ),
            (
                post(json!({"level": "Metadata"})),
                "the rule of then did not record",
            ),
            (
                post(json!({"decision": {"effect": "deny", "cause": "no_match"}})),
                "is not recorded of what was refused",
            ),
        ] {
            let why = why(&policy, &intent);
            assert!(why.ends_with(expected), "{expected}: {why}");
        }
        let mut masked = body(json!({}));
        masked.masked.count = 1;
        assert!(why(&policy, &masked).ends_with("was masked in the record"));
    }

    #[test]
    fn what_never_came_to_a_policy_stays_out_and_what_failed_later_was_allowed() {
        let policy =
            policy("  - {effect: allow, apiGroups: [''], resources: [pods], verbs: ['*']}\n");
        let nobody = json!({"decision": {"effect": "deny", "cause": "unauthenticated", "profile": null}, "request": {"user": null}});
        assert_eq!(
            decide(&policy, &intent("GET", PODS, &nobody), &[]),
            Outcome::NotAsked
        );
        let malformed =
            json!({"decision": {"effect": "deny", "cause": "malformed", "profile": null}});
        assert_eq!(
            decide(&policy, &intent("GET", "/a//b", &malformed), &[]),
            Outcome::NotAsked
        );
        let masked = json!({"decision": {"effect": "deny", "cause": "masked_write"}});
        assert_eq!(
            effects(&policy, &intent("PUT", PODS, &masked)),
            (Effect::Allow, Effect::Allow)
        );
    }

    #[test]
    fn acting_as_somebody_is_decided_again_and_a_pinned_account_is_not_asked_for() {
        let policy =
            policy("  - {effect: allow, apiGroups: [''], resources: [pods], verbs: [list]}\n");
        let jane = json!({"impersonated": {"username": "jane"}});
        let asked = json!({"request": jane, "claims": {"impersonate-user": "jane"}});
        assert_eq!(
            effects(&policy, &intent("GET", PODS, &asked)),
            (Effect::Allow, Effect::Deny)
        );
        let pinned =
            json!({"request": {"impersonated": {"username": "system:serviceaccount:shop:viewer"}}});
        assert_eq!(
            effects(&policy, &intent("GET", PODS, &pinned)),
            (Effect::Allow, Effect::Allow)
        );
    }

    #[test]
    fn a_webhook_is_not_asked_but_an_answer_can_be_assumed() {
        let policy = policy(
            "  - {effect: allow, apiGroups: [''], resources: [pods], verbs: [list], webhook: desk}\n",
        );
        let webhook = policy.webhook("desk").expect("it is there");
        assert_eq!(webhook.failure_policy, FailurePolicy::Deny);
        let list = intent("GET", PODS, &json!({}));
        assert!(why(&policy, &list).contains("webhook \"desk\" would be asked"));
        let denied = [("desk".to_owned(), Answer::Denied(String::new()))];
        let Outcome::Decided(_, decision) = decide(&policy, &list, &denied) else {
            panic!("all is known");
        };
        assert_eq!(
            (decision.effect, decision.cause),
            (Effect::Deny, Cause::Webhook)
        );
    }

    #[test]
    fn a_target_that_was_cut_off_cannot_be_told() {
        let policy =
            policy("  - {effect: allow, apiGroups: [''], resources: [pods], verbs: [list]}\n");
        let long = format!("{PODS}?labelSelector={}", "a".repeat(8192));
        assert_eq!(
            why(&policy, &intent("GET", &long[..8192], &json!({}))),
            "the recorded target is cut off"
        );
    }
}
