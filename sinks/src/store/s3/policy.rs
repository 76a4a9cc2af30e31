//! Who may do what in the bucket, as the documents that S3 takes: a policy for each role, one for the bucket, and the
//! lifecycle rules.
//!
//! - the **recorder** creates and reads, and may delete nothing;
//! - the **reader** (`hoop-replay`) reads, also what a delete has hidden;
//! - the **retention** role deletes what is past its term, sets legal holds and records erasures; locks stop it as they
//!   stop everybody;
//! - in the place of the keys of encrypted content, the **gateways** create and read, and the **eraser** deletes;
//! - nobody bypasses governance locks, switches versions off or changes the rules of the bucket.

use std::collections::BTreeMap;
use std::time::Duration;

use hoop_schema::Class;
use serde_json::{Value, json};

use crate::store::place::BucketPlace;

/// Days after the end of a term from which on a lifecycle rule deletes what the retention role has left behind. The
/// role records every deletion before it happens, a rule does not.
const GRACE_DAYS: u64 = 7;

/// Days that a version stays after a delete has hidden it: time to notice a delete that nobody should have made.
const HIDDEN_DAYS: u64 = 30;

/// What a file of a class may be older than its term: it is kept from the end of its day on.
const DAY_OF_FILE: u64 = 1;

/// Which document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// Policy of the role that records.
    Recorder,
    /// Policy of the role that reads.
    Reader,
    /// Policy of the role that deletes what is past its term, and sets holds.
    Retention,
    /// Policy of the bucket, for everybody.
    Bucket,
    /// Lifecycle rules of the bucket.
    Lifecycle,
    /// Policy of the gateways' role, where the place is that of the keys of encrypted content.
    Keys,
    /// Policy of the role that destroys these keys.
    Eraser,
}

/// What the documents are for.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// Where evidence is kept.
    pub place: &'a BucketPlace,
    /// Whether it is locked.
    pub object_lock: bool,
    /// Whether the server is that of AWS; others refuse documents with conditions that they do not know.
    pub aws: bool,
    /// How long each class is kept.
    pub terms: &'a BTreeMap<Class, Duration>,
    /// The role that alone may delete, as an ARN.
    pub retention_role: &'a str,
}

impl Plan<'_> {
    /// One of the documents.
    pub fn document(&self, document: Document) -> Value {
        match document {
            Document::Recorder => self.recorder(),
            Document::Reader => self.reader(),
            Document::Retention => self.retention(),
            Document::Bucket => self.bucket_policy(),
            Document::Lifecycle => self.lifecycle(),
            Document::Keys => self.keys(),
            Document::Eraser => self.eraser(),
        }
    }

    fn recorder(&self) -> Value {
        let mut statements = vec![
            json!({"Sid": "CreateAndRead", "Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": self.objects("")}),
            self.list(&["s3:ListBucket"]),
            self.know_the_bucket(),
            json!({
                "Sid": "NeverDelete", "Effect": "Deny", "Resource": self.objects(""),
                "Action": ["s3:BypassGovernanceRetention", "s3:DeleteObject", "s3:DeleteObjectVersion"],
            }),
        ];
        if self.object_lock {
            statements.push(json!({"Sid": "Lock", "Effect": "Allow", "Action": "s3:PutObjectRetention", "Resource": self.objects("")}));
            statements.push(json!({
                "Sid": "HoldButNotRelease", "Effect": "Allow", "Action": "s3:PutObjectLegalHold", "Resource": self.objects(""),
                "Condition": {"StringEquals": {"s3:object-lock-legal-hold": "ON"}},
            }));
        }
        statements.extend(self.create_only(None));
        policy(statements)
    }

    fn keys(&self) -> Value {
        let mut kept = self.objects("keys/");
        kept.extend(self.objects("probe/"));
        let mut statements = vec![
            json!({"Sid": "CreateAndRead", "Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": kept}),
            self.list(&["s3:ListBucket"]),
            self.know_the_bucket(),
            json!({
                "Sid": "NeverDelete", "Effect": "Deny", "Resource": self.objects(""),
                "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion"],
            }),
        ];
        statements.extend(self.create_only(None));
        policy(statements)
    }

    fn eraser(&self) -> Value {
        policy(vec![
            self.list(&["s3:ListBucket", "s3:ListBucketVersions"]),
            self.know_the_bucket(),
            json!({
                "Sid": "Destroy", "Effect": "Allow", "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion"],
                "Resource": self.objects("keys/"),
            }),
        ])
    }

    fn reader(&self) -> Value {
        policy(vec![
            json!({"Sid": "Read", "Effect": "Allow", "Action": self.read_actions(), "Resource": self.objects("")}),
            self.list(&["s3:ListBucket", "s3:ListBucketVersions"]),
            self.know_the_bucket(),
        ])
    }

    fn retention(&self) -> Value {
        let mut deleted: Vec<String> = Vec::new();
        for folder in ["events/", "sealed/", "sessions/"] {
            deleted.extend(self.objects(folder));
        }
        let mut recorded = self.objects("erasures/");
        recorded.extend(self.objects("holds/"));
        recorded.extend(self.objects("retention/"));
        let mut statements = vec![
            json!({"Sid": "Read", "Effect": "Allow", "Action": self.read_actions(), "Resource": self.objects("")}),
            self.list(&["s3:ListBucket", "s3:ListBucketVersions"]),
            self.know_the_bucket(),
            json!({"Sid": "RecordFirst", "Effect": "Allow", "Action": "s3:PutObject", "Resource": &recorded}),
            json!({"Sid": "DeleteThen", "Effect": "Allow", "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion"], "Resource": deleted}),
            json!({"Sid": "NeverPastALock", "Effect": "Deny", "Action": "s3:BypassGovernanceRetention", "Resource": self.objects("")}),
        ];
        if self.object_lock {
            statements.push(json!({"Sid": "LockWhatIsRecorded", "Effect": "Allow", "Action": "s3:PutObjectRetention", "Resource": recorded}));
            statements.push(json!({"Sid": "Hold", "Effect": "Allow", "Action": "s3:PutObjectLegalHold", "Resource": self.objects("")}));
        }
        statements.extend(self.create_only(None));
        policy(statements)
    }

    fn bucket_policy(&self) -> Value {
        let mut both = self.objects("");
        both.extend(self.bucket());
        let mut statements = vec![json!({
            "Sid": "TlsOnly", "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": both,
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        })];
        if self.aws {
            statements.push(json!({
                "Sid": "OnlyRetentionDeletes", "Effect": "Deny", "Principal": "*", "Resource": self.objects(""),
                "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion"],
                "Condition": {"ArnNotEquals": {"aws:PrincipalArn": self.retention_role}},
            }));
        }
        statements.push(json!({
            "Sid": "LocksAreNotBypassed", "Effect": "Deny", "Principal": "*", "Action": "s3:BypassGovernanceRetention",
            "Resource": self.objects(""),
        }));
        statements.extend(self.create_only(Some("*")));
        policy(statements)
    }

    fn lifecycle(&self) -> Value {
        let mut rules = Vec::new();
        for (class, term) in self.terms {
            let days = term.as_secs().div_ceil(86_400) + DAY_OF_FILE + GRACE_DAYS;
            for folder in ["events", "sealed", "sessions"] {
                rules.push(json!({
                    "ID": format!("hoop-{class}-{folder}"), "Status": "Enabled",
                    "Filter": {"Prefix": self.key(&format!("{folder}/v1/class={class}/"))},
                    "Expiration": {"Days": days},
                    "NoncurrentVersionExpiration": {"NoncurrentDays": HIDDEN_DAYS},
                }));
            }
        }
        rules.push(json!({
            "ID": "hoop-remains", "Status": "Enabled", "Filter": {"Prefix": self.key("")},
            "Expiration": {"ExpiredObjectDeleteMarker": true},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
        }));
        json!({ "Rules": rules })
    }

    /// Refuses puts that would replace something, where the server can tell them.
    fn create_only(&self, principal: Option<&str>) -> Option<Value> {
        let mut statement = json!({
            "Sid": "CreateOnly", "Effect": "Deny", "Action": "s3:PutObject", "Resource": self.objects(""),
            "Condition": {"Null": {"s3:if-none-match": "true"}},
        });
        if let Some(principal) = principal {
            statement["Principal"] = principal.into();
        }
        self.aws.then_some(statement)
    }

    fn read_actions(&self) -> Vec<&'static str> {
        let mut actions = vec!["s3:GetObject", "s3:GetObjectVersion"];
        if self.object_lock {
            actions.extend(["s3:GetObjectLegalHold", "s3:GetObjectRetention"]);
        }
        actions
    }

    fn list(&self, actions: &[&str]) -> Value {
        let mut statement =
            json!({"Sid": "List", "Effect": "Allow", "Action": actions, "Resource": self.bucket()});
        if !self.place.prefix.is_empty() {
            statement["Condition"] = json!({"StringLike": {"s3:prefix": [self.key("*")]}});
        }
        statement
    }

    fn know_the_bucket(&self) -> Value {
        json!({
            "Sid": "KnowTheBucket", "Effect": "Allow", "Resource": self.bucket(),
            "Action": ["s3:GetBucketObjectLockConfiguration", "s3:GetBucketVersioning", "s3:GetLifecycleConfiguration"],
        })
    }

    fn key(&self, key: &str) -> String {
        if self.place.prefix.is_empty() {
            return key.to_owned();
        }
        format!("{}/{key}", self.place.prefix)
    }

    fn objects(&self, below: &str) -> Vec<String> {
        let key = self.key(&format!("{below}*"));
        vec![format!("arn:aws:s3:::{}/{key}", self.place.bucket)]
    }

    fn bucket(&self) -> Vec<String> {
        vec![format!("arn:aws:s3:::{}", self.place.bucket)]
    }
}

fn policy(statements: Vec<Value>) -> Value {
    json!({"Version": "2012-10-17", "Statement": statements})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_plan<T>(prefix: &str, aws: bool, then: impl FnOnce(Plan<'_>) -> T) -> T {
        let place = BucketPlace {
            bucket: "audit".to_owned(),
            prefix: prefix.to_owned(),
        };
        let terms = BTreeMap::from([(Class::standard(), Duration::from_secs(365 * 86_400))]);
        then(Plan {
            place: &place,
            object_lock: true,
            aws,
            terms: &terms,
            retention_role: "arn:aws:iam::123456789012:role/hoop-retention",
        })
    }

    fn allowed(policy: &Value) -> Vec<String> {
        let statements = policy["Statement"].as_array().unwrap();
        let allowing = statements.iter().filter(|s| s["Effect"] == "Allow");
        allowing
            .flat_map(|s| match &s["Action"] {
                Value::Array(actions) => actions.clone(),
                action => vec![action.clone()],
            })
            .map(|action| action.as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn only_the_retention_role_may_delete() {
        with_plan("prod", true, |plan| {
            for document in [Document::Recorder, Document::Reader] {
                let actions = allowed(&plan.document(document));
                assert!(actions.iter().all(|a| !a.contains("Delete")), "{actions:?}");
            }
            let reader = allowed(&plan.document(Document::Reader));
            assert!(reader.iter().all(|a| !a.contains("Put")), "{reader:?}");
            let retention = plan.document(Document::Retention);
            assert!(allowed(&retention).contains(&"s3:DeleteObjectVersion".to_owned()));
            assert!(
                !retention.to_string().contains("prod/tlog"),
                "the proof is deleted by nobody"
            );
        });
    }

    #[test]
    fn gateways_keep_keys_and_the_eraser_alone_destroys_them() {
        with_plan("keys", false, |plan| {
            let gateway = allowed(&plan.document(Document::Keys));
            assert!(gateway.contains(&"s3:PutObject".to_owned()));
            assert!(gateway.iter().all(|a| !a.contains("Delete")), "{gateway:?}");
            let eraser = allowed(&plan.document(Document::Eraser));
            assert!(eraser.contains(&"s3:DeleteObjectVersion".to_owned()));
            assert!(
                eraser
                    .iter()
                    .all(|a| !a.contains("GetObject") && !a.contains("Put"))
            );
        });
    }

    #[test]
    fn a_term_is_over_before_a_rule_deletes() {
        with_plan("prod", true, |plan| {
            let rules = plan.document(Document::Lifecycle);
            let rule = &rules["Rules"][0];
            assert_eq!(rule["Filter"]["Prefix"], "prod/events/v1/class=standard/");
            assert_eq!(rule["Expiration"]["Days"], 365 + 1 + 7);
        });
    }

    #[test]
    fn a_bucket_without_prefix_is_all_ours() {
        with_plan("", false, |plan| {
            let policy = plan.document(Document::Recorder);
            assert_eq!(
                policy["Statement"][0]["Resource"][0],
                "arn:aws:s3:::audit/*"
            );
            assert_eq!(policy["Statement"][1]["Condition"], Value::Null);
            assert!(!policy.to_string().contains("if-none-match"));
        });
    }
}
