//! Lifecycle rules of the bucket that would delete evidence before its term. The bucket does that by itself, without
//! asking and without a record, and only a verification would find out.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_s3::types::{ExpirationStatus, LifecycleRule, LifecycleRuleFilter};
use hoop_schema::Class;

use super::S3;
use super::failure::Meaning;

/// What is kept for ever whatever the terms say: without it nothing is proven.
const FOR_EVER: [&str; 5] = ["erasures/", "holds/", "seals/", "terms/", "tlog/"];

/// Folders of what is kept for the term of its class.
const BY_CLASS: [&str; 3] = ["events/v1", "sealed/v1", "sessions/v1"];

impl S3 {
    /// Names the rules that delete too early, or says that it cannot tell.
    pub(super) async fn probe_lifecycle(&self, odd: &mut Vec<String>) {
        let Some(terms) = &self.terms else { return };
        let answer = self
            .connection
            .ask(|client| {
                client
                    .get_bucket_lifecycle_configuration()
                    .bucket(&self.place.bucket)
                    .send()
            })
            .await;
        match answer {
            Ok(found) => {
                let early = found
                    .rules()
                    .iter()
                    .filter_map(|rule| too_early(rule, &self.full_key(""), terms));
                odd.extend(early);
            }
            Err(failure)
                if failure.is("NoSuchLifecycleConfiguration")
                    || failure.meaning == Meaning::NotImplemented => {}
            Err(failure) => odd.push(format!(
                "cannot tell whether a lifecycle rule of {} deletes evidence too early: {failure}; allow s3:GetLifecycleConfiguration",
                self.place
            )),
        }
    }
}

/// What is wrong with a rule, in a sentence. `root` is the prefix of everything of this installation.
fn too_early(
    rule: &LifecycleRule,
    root: &str,
    terms: &BTreeMap<Class, Duration>,
) -> Option<String> {
    if rule.status() != &ExpirationStatus::Enabled || !may_match(rule.filter()) {
        return None;
    }
    let expiration = rule.expiration()?;
    let after = match (expiration.days(), expiration.date()) {
        (Some(days), _) => u64::try_from(days).unwrap_or_default(),
        // Everything that is there on that day goes.
        (None, Some(_)) => 0,
        // Markers of what was deleted already.
        (None, None) => return None,
    };
    #[expect(deprecated, reason = "buckets still have rules of the old form")]
    let old = rule.prefix();
    let prefix = prefix_of(rule.filter()).or(old).unwrap_or_default();
    let meets = |key: &str| {
        let key = format!("{root}{key}");
        key.starts_with(prefix) || prefix.starts_with(&key)
    };
    let what = if let Some(kept) = FOR_EVER.iter().find(|kept| meets(kept)) {
        format!("{root}{kept} is kept for ever")
    } else {
        let standard = Class::standard();
        let of_class = |class: &Class| {
            BY_CLASS
                .iter()
                .any(|folder| meets(&format!("{folder}/class={class}/")))
        };
        let mut classes = terms.keys().chain([&standard]);
        classes.find_map(|class| match terms.get(class) {
            _ if !of_class(class) => None,
            None => Some(format!("class {class} is kept for ever")),
            // A term begins with the end of the day.
            Some(term) if after <= term.as_secs().div_ceil(86_400) => Some(format!(
                "class {class} is kept for {} days after its day",
                term.as_secs().div_ceil(86_400)
            )),
            Some(_) => None,
        })?
    };
    let id = rule.id().unwrap_or("without a name");
    Some(format!(
        "the lifecycle rule {id} deletes what begins with {prefix:?} after {after} days, though {what}: change it to what `hoop store policy lifecycle` prints"
    ))
}

/// Whether objects of ours can be meant: they have no tags.
fn may_match(filter: Option<&LifecycleRuleFilter>) -> bool {
    filter.is_none_or(|filter| {
        filter.tag().is_none() && filter.and().is_none_or(|and| and.tags().is_empty())
    })
}

fn prefix_of(filter: Option<&LifecycleRuleFilter>) -> Option<&str> {
    let filter = filter?;
    filter.prefix().or_else(|| filter.and()?.prefix())
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::LifecycleExpiration;

    use super::*;

    fn rule(prefix: &str, days: Option<i32>) -> LifecycleRule {
        let mut expiration = LifecycleExpiration::builder();
        match days {
            Some(days) => expiration = expiration.days(days),
            None => expiration = expiration.expired_object_delete_marker(true),
        }
        LifecycleRule::builder()
            .id("tidy")
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
            .expiration(expiration.build())
            .build()
            .unwrap()
    }

    fn judged(prefix: &str, days: Option<i32>, terms: &[(&str, u64)]) -> Option<String> {
        let days_of = |days: u64| Duration::from_secs(days * 86_400);
        let terms = terms
            .iter()
            .map(|(class, days)| (Class::new(class).unwrap(), days_of(*days)))
            .collect();
        too_early(&rule(prefix, days), "prod/", &terms)
    }

    #[test]
    fn rules_that_end_a_term_early_are_named_whatever_part_of_the_prefix_they_have() {
        let terms = [("standard", 365), ("short", 30)];
        for prefix in [
            "",
            "prod/",
            "prod/events/",
            "prod/sealed/v1/class=standard/dt=2026",
        ] {
            let said = judged(prefix, Some(100), &terms).unwrap();
            assert!(
                said.contains("tidy") && said.contains("after 100 days"),
                "{said}"
            );
        }
        let said = judged("prod/events/v1/class=short/", Some(30), &terms).unwrap();
        assert!(said.contains("class short is kept for 30 days"), "{said}");
        let said = judged("prod/tlog/", Some(4000), &terms).unwrap();
        assert!(said.contains("kept for ever"), "{said}");
        let said = judged("prod/events/", Some(4000), &[]).unwrap();
        assert!(said.contains("class standard is kept for ever"), "{said}");
    }

    #[test]
    fn rules_that_wait_long_enough_or_mean_others_are_left_alone() {
        let terms = [("standard", 365), ("short", 30)];
        for (prefix, days) in [
            ("prod/events/v1/class=short/", Some(31)),
            ("prod/events/", Some(366)),
            ("test/", Some(1)),
            ("", None),
        ] {
            assert_eq!(judged(prefix, days, &terms), None, "{prefix}");
        }
    }
}
