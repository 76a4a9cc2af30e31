//! Whether the gateway's credential may do what the policy needs in the cluster, and not far more.
//!
//! Asked by access reviews, which every credential may create: a few in general, and one for each name where the
//! general answer is no.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hoop_proxy::policy::{NeededRights, Right};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Finding;
use super::api_server::post;

/// The most names that are asked about, so that a policy of thousands does not keep the API server busy.
const NAMES_MAX: usize = 200;

/// Reviews under way at once.
const REVIEWS_AT_ONCE: usize = 8;

/// How long all of them may take.
const REVIEWS_TIMEOUT: Duration = Duration::from_secs(15);

/// Missing rights that are told one by one.
const MISSING_TOLD_MAX: usize = 8;

/// Whom the gateway can act as in general.
const IMPERSONATED: [&str; 3] = ["users", "groups", "serviceaccounts"];

/// What is known of the gateway's own credential.
pub(super) struct Credential<'a> {
    pub(super) client: &'a kube::Client,
    /// Its user name in the cluster.
    pub(super) user: &'a str,
}

/// The policy, and where it is.
pub(super) struct Wanted<'a> {
    pub(super) needed: &'a NeededRights,
    pub(super) file: &'a Path,
}

pub(super) async fn probe(
    credential: &Credential<'_>,
    wanted: &Wanted<'_>,
) -> Vec<(&'static str, Finding)> {
    let found = tokio::time::timeout(REVIEWS_TIMEOUT, ask(credential.client, wanted.needed)).await;
    let found = found.unwrap_or_else(|_| Err(format!("no answer within {REVIEWS_TIMEOUT:?}")));
    let answers = match found {
        Ok(answers) => answers,
        Err(why) => {
            let text = format!("cannot find out what the gateway's credential may do: {why}");
            return vec![("rights", Finding::Odd(text))];
        }
    };
    let mut findings = Vec::new();
    findings.push(("rights", answers.lacking(credential, wanted)));
    if wanted.needed.unnamed_users && !answers.in_general[0] {
        let text = format!(
            "the policy knows people by their groups or by patterns, and the credential may act only as users that its \
             role names: whoever else comes is refused by the API server. Name them with --user, or allow every \
             name:\n  {} --any-user | kubectl apply -f -",
            rbac(credential, wanted)
        );
        findings.push(("rights", Finding::Odd(text)));
    }
    findings.extend(answers.excess(credential, wanted).map(|f| ("rights", f)));
    findings
}

/// What the API server answered.
struct Answers {
    /// Whether it may act as any of [`IMPERSONATED`].
    in_general: [bool; 3],
    /// Rights that it needs and has not.
    missing: Vec<Right>,
    /// How many of those it needs were asked about.
    asked: usize,
    needed: usize,
    everything: bool,
    secrets: bool,
    masters: bool,
}

async fn ask(client: &kube::Client, needed: &NeededRights) -> Result<Answers, String> {
    let mut questions = IMPERSONATED.map(Right::impersonate).to_vec();
    questions.extend([
        Right {
            verb: "*",
            api_group: "*",
            resource: "*",
            ..Right::default()
        },
        Right {
            verb: "get",
            resource: "secrets",
            ..Right::default()
        },
        Right::impersonate("groups").named("system:masters"),
    ]);
    let answers = reviews(client, questions).await?;
    let in_general = [answers[0], answers[1], answers[2]];
    let unsettled = |right: &&Right| {
        let general = IMPERSONATED.iter().position(|name| *name == right.resource);
        general.is_none_or(|i| !in_general[i])
    };
    let open: Vec<_> = needed.rights.iter().filter(unsettled).cloned().collect();
    let settled = needed.rights.len() - open.len();
    let open: Vec<_> = open.into_iter().take(NAMES_MAX).collect();
    let allowed = reviews(client, open.clone()).await?;
    Ok(Answers {
        in_general,
        asked: settled + open.len(),
        needed: needed.rights.len(),
        missing: open
            .into_iter()
            .zip(allowed)
            .filter_map(|(right, allowed)| (!allowed).then_some(right))
            .collect(),
        everything: answers[3],
        secrets: answers[4],
        masters: answers[5],
    })
}

/// Asks about each, some at a time; the answers are in the order of the questions.
async fn reviews(client: &kube::Client, questions: Vec<Right>) -> Result<Vec<bool>, String> {
    let slots = Arc::new(Semaphore::new(REVIEWS_AT_ONCE));
    let mut answers = vec![false; questions.len()];
    let mut tasks = JoinSet::new();
    for (i, right) in questions.into_iter().enumerate() {
        let (client, slots) = (client.clone(), Arc::clone(&slots));
        tasks.spawn(async move {
            let _slot = slots
                .acquire()
                .await
                .expect("the semaphore is never closed");
            (i, may(&client, &right).await)
        });
    }
    while let Some(answer) = tasks.join_next().await {
        let (i, allowed) = answer.map_err(|error| error.to_string())?;
        answers[i] = allowed?;
    }
    Ok(answers)
}

/// Whether the credential has this right.
async fn may(client: &kube::Client, right: &Right) -> Result<bool, String> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {
            "verb": right.verb,
            "group": right.api_group,
            "resource": right.resource,
            "subresource": right.subresource,
            "namespace": right.namespace,
            "name": right.name,
        }},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let (answer, _) = post(client, path, &review).await?;
    Ok(answer["status"]["allowed"] == true)
}

impl Answers {
    /// What the policy needs: whether it is there.
    fn lacking(&self, credential: &Credential<'_>, wanted: &Wanted<'_>) -> Finding {
        if !self.missing.is_empty() {
            let mut text = "the credential lacks rights that the policy needs; whom they are about is refused by the API \
                            server:"
                .to_owned();
            for right in self.missing.iter().take(MISSING_TOLD_MAX) {
                text += &format!("\n  {right}");
            }
            let more = self.missing.len().saturating_sub(MISSING_TOLD_MAX);
            if more > 0 {
                text += &format!("\n  and {more} more");
            }
            text += &format!(
                "\ngive them: {} | kubectl apply -f -",
                rbac(credential, wanted)
            );
            if service_account(credential.user).is_none() {
                text += &format!(
                    "\nand bind the roles to it: kubectl create clusterrolebinding hoop-gateway-user \
                     --clusterrole=hoop-gateway --user={:?}",
                    credential.user
                );
            }
            return Finding::Wrong(text);
        }
        if self.in_general[0] && self.in_general[1] {
            return Finding::Good("may act as any of the users and groups".into());
        }
        if self.asked < self.needed {
            return Finding::Odd(format!(
                "has the first {} of the {} rights that the policy needs; the others were not asked about",
                self.asked, self.needed
            ));
        }
        Finding::Good(format!(
            "has the {} rights that the policy needs",
            self.needed
        ))
    }

    /// What it could do beyond that, if somebody got hold of it.
    fn excess(&self, credential: &Credential<'_>, wanted: &Wanted<'_>) -> Option<Finding> {
        let what = if self.everything {
            "may do everything in the cluster"
        } else if self.masters {
            "may act as the group system:masters, and so do everything in the cluster"
        } else if self.secrets {
            "may read every secret by itself"
        } else {
            return None;
        };
        Some(Finding::Odd(format!(
            "the credential {what}: good for a try, too much for a gateway that people rely on. Give it a service account \
             with the least it needs:\n  {} | kubectl apply -f -",
            rbac(credential, wanted)
        )))
    }
}

/// The command that writes the roles.
fn rbac(credential: &Credential<'_>, wanted: &Wanted<'_>) -> String {
    let mut command = format!("hoop policy rbac {}", wanted.file.display());
    if let Some(account) = service_account(credential.user) {
        command += &format!(" --service-account {account}");
    }
    command
}

/// `NAMESPACE:NAME` of a service account.
fn service_account(user: &str) -> Option<&str> {
    user.strip_prefix("system:serviceaccount:")
}
