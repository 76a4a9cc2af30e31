//! `hoop check`: everything that can be wrong before a socket opens, in words that say what to do.
//!
//! The configuration itself has been read by now. Here is what it names: files, directories, brokers, the API server.
//! Nothing is changed but for a probe object among the evidence, and the data directory where it was missing.

mod api_server;
mod brokers;
mod machine;
mod rights;

use std::io;
use std::path::PathBuf;

use hoop_proxy::policy::Policy;
use hoop_proxy::{IssuerProbe, StaticTokens, WebhookProbe};

use crate::config::{Config, Environment};
use crate::exit::ExitCode;
use crate::output::{Line, Look, Printer};
use crate::pipeline::{DEFAULT_POLICY, authentication, chain, further_authorities};
use crate::policy;
use rights::Wanted;

/// What one probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It is as it should be: what was found.
    Good(String),
    /// It works, but somebody should look.
    Odd(String),
    /// It does not work: what is wrong, and what to do.
    Wrong(String),
}

/// Probes everything, and prints one line for each.
///
/// # Errors
/// When the output cannot be written.
pub async fn run(
    config: &Config,
    environment: &Environment,
    printer: &mut Printer,
) -> io::Result<ExitCode> {
    let mut findings = vec![
        ("policy", policy_file(config)),
        ("tokens", token_file(config)),
        ("clients", client_files(config)),
        ("certificate", certificate(config, environment)),
    ];
    findings.extend(webhooks(config).await);
    findings.extend(issuers(config).await);
    findings.extend(machine::probe(config).await);
    findings.extend(of_api_server(config).await);
    let mut wrong = 0;
    for (what, finding) in &findings {
        let (look, mark, text) = match finding {
            Finding::Good(text) => (Look::Good, "ok", text),
            Finding::Odd(text) => (Look::Warn, "look", text),
            Finding::Wrong(text) => (Look::Bad, "wrong", text),
        };
        wrong += usize::from(mark == "wrong");
        for (i, text) in text.lines().enumerate() {
            let mut line = match i {
                0 => Line::styled(look, mark),
                _ => Line::new(),
            };
            line.pad_to(7);
            line.push(Look::Bold, if i == 0 { what } else { "" });
            line.pad_to(20);
            line.push(Look::Plain, text);
            printer.line(&line)?;
        }
    }
    if wrong == 0 {
        return Ok(ExitCode::Success);
    }
    printer.blank()?;
    let things = if wrong == 1 { "thing is" } else { "things are" };
    printer.line(&Line::styled(Look::Bad, format!("{wrong} {things} wrong")))?;
    Ok(ExitCode::Failure)
}

/// What somebody should know about the API server and the gateway's rights there, in words; nothing when all is well.
pub(crate) async fn at_start(config: &Config) -> Vec<String> {
    let findings = of_api_server(config).await.into_iter();
    let told = findings.filter_map(|(what, finding)| match finding {
        Finding::Good(_) => None,
        Finding::Odd(text) | Finding::Wrong(text) => Some(format!("{what}: {text}")),
    });
    told.collect()
}

async fn of_api_server(config: &Config) -> Vec<(&'static str, Finding)> {
    let file = policy_path(config);
    let policy = if config.policy.is_none() && !file.exists() {
        Policy::parse(DEFAULT_POLICY).ok()
    } else {
        // What is wrong with it is told elsewhere.
        policy::load(&file).ok()
    };
    let review = config.authentication.review_service_accounts;
    let needed = policy.map(|policy| policy.needed_rights(review));
    let wanted = needed.as_ref().map(|needed| Wanted {
        needed,
        file: &file,
    });
    api_server::probe(config, wanted.as_ref()).await
}

/// The policy that is named, or the default one in the data directory.
fn policy_path(config: &Config) -> PathBuf {
    let default = || config.data.join("policy.yaml");
    config.policy.clone().unwrap_or_else(default)
}

fn policy_file(config: &Config) -> Finding {
    let file = policy_path(config);
    if config.policy.is_none() && !file.exists() {
        return Finding::Good(
            "none named: the default one will be written to the data directory".into(),
        );
    }
    match policy::load(&file) {
        Ok(policy) => Finding::Good(format!(
            "{}: {} profiles, {} rules",
            file.display(),
            policy.profiles(),
            policy.rules()
        )),
        Err(mistakes) => Finding::Wrong(mistakes),
    }
}

/// Whether the policy's webhooks can be reached. A policy that cannot be read is told elsewhere.
async fn webhooks(config: &Config) -> Vec<(&'static str, Finding)> {
    let Ok(policy) = policy::load(&policy_path(config)) else {
        return Vec::new();
    };
    let finding = |probe: WebhookProbe| match probe.reached {
        Ok(()) => Finding::Good(format!("{}: {} can be reached", probe.name, probe.url)),
        Err(why) => Finding::Wrong(format!(
            "{}: {}: {why}; see that it is up, that this machine reaches it, and what the policy says of its files",
            probe.name, probe.url
        )),
    };
    let probes = hoop_proxy::probe_webhooks(&policy).await;
    probes
        .into_iter()
        .map(|probe| ("webhook", finding(probe)))
        .collect()
}

fn token_file(config: &Config) -> Finding {
    let Some(file) = &config.tokens else {
        return Finding::Good("none".into());
    };
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            return Finding::Wrong(format!("{}: cannot be read: {error}", file.display()));
        }
    };
    match StaticTokens::parse(&text) {
        Ok(_) => Finding::Good(file.display().to_string()),
        Err(error) => Finding::Wrong(format!("{}: {}", file.display(), chain(&error))),
    }
}

/// What client certificates are judged by.
fn client_files(config: &Config) -> Finding {
    let authorities = match further_authorities(config.authentication.client_ca.as_deref()) {
        Ok(authorities) => authorities.len() + 1,
        Err(why) => return Finding::Wrong(why),
    };
    if let Some(file) = &config.authentication.client_revocations
        && let Err(error) = std::fs::File::open(file)
    {
        return Finding::Wrong(format!("{}: cannot be read: {error}", file.display()));
    }
    Finding::Good(format!("certificates of {authorities} authorities"))
}

/// The authentication configuration, and whether its issuers answer.
async fn issuers(config: &Config) -> Vec<(&'static str, Finding)> {
    let probes = match authentication(config) {
        Err(mistakes) => return vec![("issuers", Finding::Wrong(mistakes))],
        Ok(configuration) if configuration.issuers() == 0 => {
            return vec![("issuers", Finding::Good("none".into()))];
        }
        Ok(configuration) => configuration.probe().await,
    };
    let probes = match probes {
        Ok(probes) => probes,
        Err(error) => return vec![("issuers", Finding::Wrong(chain(&error)))],
    };
    let finding = |probe: IssuerProbe| match probe.keys {
        Ok(count) => Finding::Good(format!("{}: {count} keys", probe.url)),
        // The gateway starts without, and tries again.
        Err(why) => Finding::Odd(format!(
            "{}: {why}; until this is mended, its people are refused",
            probe.url
        )),
    };
    probes
        .into_iter()
        .map(|probe| ("issuers", finding(probe)))
        .collect()
}

fn certificate(config: &Config, environment: &Environment) -> Finding {
    let names = config.certificate_names(environment).join(", ");
    if config.gateway.listen.ip().is_unspecified() && config.gateway.address.is_none() {
        return Finding::Odd(format!(
            "the gateway listens everywhere, but its certificate and the kubeconfigs only name this machine ({names}); \
             set gateway.address to what clients should use"
        ));
    }
    Finding::Good(names)
}
