//! Whether the API server answers, accepts the gateway's credential, gives it its rights, and has the same time.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use super::Finding;
use super::rights::{self, Credential, Wanted};
use crate::config::{Config, UpstreamConfig};
use crate::pipeline::chain;

/// A server that answers later than this is as good as none to whoever waits for `kubectl`.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Clocks that differ by more make certificates and tokens fail, and evidence hard to compare.
const CLOCK_SECONDS_MAX: i64 = 30;

/// Probes all of it; what comes after a failure is left out. Without a policy, its rights are not asked about.
pub(super) async fn probe(
    config: &Config,
    policy: Option<&Wanted<'_>>,
) -> Vec<(&'static str, Finding)> {
    let (client, url) = match connect(&config.upstream).await {
        Ok(connected) => connected,
        Err(text) => return vec![("API server", Finding::Wrong(text))],
    };
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let (answer, date) = match post(&client, path, &review).await {
        Ok(answered) => answered,
        Err(why) => {
            let text = format!(
                "{url}: {why}; see that the server is up, that this machine reaches it, and that the kubeconfig's \
                 credential is valid"
            );
            return vec![("API server", Finding::Wrong(text))];
        }
    };
    let user = answer
        .pointer("/status/userInfo/username")
        .and_then(Value::as_str);
    let mut findings = vec![(
        "API server",
        Finding::Good(format!("{url}, as {}", user.unwrap_or("an unknown user"))),
    )];
    if let Some(policy) = policy {
        let credential = Credential {
            client: &client,
            user: user.unwrap_or_default(),
        };
        findings.extend(rights::probe(&credential, policy).await);
    }
    findings.push(("clock", clock(date)));
    findings
}

async fn connect(upstream: &UpstreamConfig) -> Result<(kube::Client, String), String> {
    let config = match upstream {
        UpstreamConfig::InCluster => kube::Config::incluster().map_err(|error| {
            format!(
                "{}; run in a pod with a service account, or name upstream.kubeconfig",
                chain(&error)
            )
        })?,
        UpstreamConfig::Kubeconfig { path, context } => {
            let read = match path {
                Some(path) => Kubeconfig::read_from(path),
                None => Kubeconfig::read(),
            };
            let options = KubeConfigOptions {
                context: context.clone(),
                ..KubeConfigOptions::default()
            };
            let unusable = |error: kube::config::KubeconfigError| {
                format!(
                    "{}; name a working kubeconfig with --kubeconfig FILE (and --context NAME)",
                    chain(&error)
                )
            };
            let kubeconfig = read.map_err(unusable)?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .map_err(unusable)?
        }
    };
    let url = config.cluster_url.to_string();
    let client = kube::Client::try_from(config);
    let client = client.map_err(|error| format!("{url}: {}", chain(&error)))?;
    Ok((client, url))
}

/// The answer to a POST, and its `Date`.
pub(super) async fn post(
    client: &kube::Client,
    path: &str,
    body: &Value,
) -> Result<(Value, Option<String>), String> {
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string().into_bytes()))
        .map_err(|error| error.to_string())?;
    let answer = async {
        let response = client.send(request).await.map_err(|e| chain(&e))?;
        let status = response.status();
        let date = response
            .headers()
            .get("date")
            .and_then(|date| date.to_str().ok());
        let date = date.map(str::to_owned);
        let bytes = response
            .into_body()
            .collect_bytes()
            .await
            .map_err(|e| chain(&e))?;
        let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok((value, date));
        }
        let message = value["message"].as_str().unwrap_or("no message");
        Err(format!("{status}: {message}"))
    };
    let in_time = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
    in_time.unwrap_or_else(|_| Err(format!("no answer within {ANSWER_TIMEOUT:?}")))
}

fn clock(date: Option<String>) -> Finding {
    let parsed = date.and_then(|date| DateTimeParser::new().parse_timestamp(&date).ok());
    let Some(server) = parsed else {
        return Finding::Odd("the API server does not tell the time".into());
    };
    let apart = (Timestamp::now().as_second() - server.as_second()).abs();
    if apart <= CLOCK_SECONDS_MAX {
        return Finding::Good("agrees with the API server".into());
    }
    Finding::Wrong(format!(
        "this machine and the API server are {apart} s apart; set both by NTP"
    ))
}
