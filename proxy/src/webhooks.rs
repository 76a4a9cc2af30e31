//! Asking the webhooks of a policy. What they are asked and what their answers mean is in [`crate::policy`].
//!
//! # Promises
//! - An answer comes within the webhook's time or is a failure; connecting and waiting for a turn count.
//! - Nothing is believed but what is one SubjectAccessReview of the server that was asked: redirections are not
//!   followed, proxies of the environment are not used, an answer that is too long or says two things is a failure.
//! - Questions at once, connections, kept answers and their sizes are bounded.
//! - A failure is told to the person in words that name no address; the log has its cause.

mod answer;
mod client;
mod connect;
mod kept;
mod metrics;

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};

use crate::config::PemError;
use crate::https_client::HttpsSetupError;
use crate::policy::{Answer, Facts, Policy, Webhook};

use self::client::{AskError, Client};
pub(crate) use self::metrics::Metrics;

/// The webhooks of one policy.
#[derive(Debug)]
pub(crate) struct Webhooks {
    clients: Vec<Client>,
    metrics: Metrics,
}

/// Why a webhook cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// A file is not there, or not to be read.
    #[error("{} cannot be read", file.display())]
    File {
        /// Which.
        file: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file holds something else than certificates or a key.
    #[error("{} is not what it should be", file.display())]
    Pem {
        /// Which.
        file: std::path::PathBuf,
        /// Why.
        #[source]
        source: PemError,
    },
    /// The token file holds no token.
    #[error("{} holds no token that can be sent", .0.display())]
    Token(std::path::PathBuf),
    /// TLS cannot be set up.
    #[error(transparent)]
    Setup(#[from] HttpsSetupError),
    /// The certificate and the key do not fit.
    #[error("the client certificate cannot be used")]
    Certificate(#[source] rustls::Error),
    /// The address names no server.
    #[error("the address names no server")]
    Address,
}

/// Whether a webhook can be reached.
#[derive(Debug)]
pub struct WebhookProbe {
    /// Its name.
    pub name: String,
    /// Its address.
    pub url: String,
    /// Whether there was a connection, TLS included; else why not, in words.
    pub reached: Result<(), String>,
}

impl Webhooks {
    /// Reads the files that the webhooks of a policy name. The error says of which webhook it is.
    pub(crate) async fn open(
        policy: &Policy,
        metrics: Metrics,
    ) -> Result<Self, (String, WebhookError)> {
        let mut clients = Vec::new();
        for webhook in policy.webhooks() {
            let client = Client::open(Arc::clone(webhook)).await;
            clients.push(client.map_err(|error| (webhook.name.clone(), error))?);
        }
        Ok(Self { clients, metrics })
    }

    /// Asks a webhook of the policy about a request, at most until `deadline`.
    pub(crate) async fn ask(
        &self,
        webhook: &Webhook,
        facts: &Facts<'_>,
        deadline: Instant,
    ) -> Answer {
        let found = self.clients.iter().find(|c| c.name() == webhook.name);
        let client = found.expect("the policy that names a webhook is the one that was opened");
        let review = Webhook::review(facts);
        let question = Sha256::digest(&review).into();
        if let Some(answer) = client.kept.get(&question) {
            self.metrics.kept(&webhook.name);
            return answer;
        }
        let asked = Instant::now();
        let deadline = deadline.min(asked + webhook.timeout);
        let answer = timeout_at(deadline, client.ask(review)).await;
        let answer = answer.unwrap_or(Err(AskError::Timeout));
        let result = answer.as_ref().map_or_else(AskError::result, result);
        self.metrics.asked(&webhook.name, result, asked.elapsed());
        match answer {
            Ok(answer) => {
                let ttl = match answer {
                    Answer::Allowed(_) => webhook.authorized_ttl,
                    _ => webhook.unauthorized_ttl,
                };
                client.kept.put(question, &answer, ttl);
                answer
            }
            Err(error) => {
                client.note_failure(&error);
                Answer::Failed(error.to_string())
            }
        }
    }
}

/// Connects to every webhook of a policy, each within its own time, without asking anything.
pub async fn probe_webhooks(policy: &Policy) -> Vec<WebhookProbe> {
    let mut probes = Vec::new();
    for webhook in policy.webhooks() {
        let reached = async {
            let client = Client::open(Arc::clone(webhook)).await;
            let client = client.map_err(|error| in_full(&error))?;
            let deadline = Instant::now() + webhook.timeout;
            let reached = timeout_at(deadline, client.reach()).await;
            reached
                .unwrap_or(Err(AskError::Timeout))
                .map_err(|error| in_full(&error))
        };
        probes.push(WebhookProbe {
            name: webhook.name.clone(),
            url: webhook.url.to_string(),
            reached: reached.await,
        });
    }
    probes
}

fn result(answer: &Answer) -> &'static str {
    match answer {
        Answer::Allowed(_) => "allowed",
        Answer::Denied(_) => "denied",
        Answer::NoOpinion(_) => "no_opinion",
        Answer::Failed(_) => "failed",
    }
}

/// An error and its causes in one line.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
