//! `hoop policy explain`: what a policy decides and why, for one request from the command line or for many as JSON lines.
//!
//! With `--requests FILE|-` each line is a request: see [`lines`].

mod lines;

use std::fs::File;
use std::io::{self, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::Args;
use hoop_proxy::policy::{Answer, BodyFact, Explanation, Facts, Policy, Through};
use hoop_proxy::request_info::{self, RequestInfo};
use hoop_schema::Timestamp;
use hoop_schema::kinds::request::{Decision, Effect, User};

use self::lines::many;
use super::{load, stated};
use crate::exit::ExitCode;
use crate::output::{self, Line, Look, Printer};

/// Arguments of `policy explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The policy
    pub file: PathBuf,
    /// Requests as JSON lines, from a file or from standard input
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["user", "groups", "actor", "client", "target", "body", "webhooks"])]
    pub requests: Option<String>,
    /// Name of the user
    #[arg(long, required_unless_present = "requests")]
    pub user: Option<String>,
    /// Group of the user; once for each
    #[arg(long = "group", value_name = "GROUP")]
    pub groups: Vec<String>,
    /// Who acts for the user
    #[arg(long)]
    pub actor: Option<String>,
    /// The OpenID Connect client that they come by
    #[arg(long)]
    pub client: Option<String>,
    /// HTTP method
    #[arg(long, default_value = "GET")]
    pub method: String,
    /// Path and query, such as /api/v1/namespaces/shop/secrets
    #[arg(long, required_unless_present = "requests")]
    pub target: Option<String>,
    /// Body of the request
    #[arg(long, default_value = "")]
    pub body: String,
    /// What a webhook of the policy answers: allowed, denied, noOpinion or failed; once for each. None is asked
    #[arg(long = "webhook", value_name = "NAME=ANSWER", value_parser = stated::argument)]
    pub webhooks: Vec<(String, Answer)>,
}

pub(super) fn run(args: &ExplainArgs, printer: &mut Printer) -> io::Result<ExitCode> {
    let policy = match load(&args.file) {
        Ok(policy) => policy,
        Err(mistakes) => {
            output::notice(&mistakes);
            return Ok(ExitCode::Usage);
        }
    };
    match &args.requests {
        None => one(&policy, args, printer),
        Some(name) if name == "-" => many(&policy, io::stdin().lock(), printer),
        Some(name) => match File::open(name) {
            Ok(file) => many(&policy, BufReader::new(file), printer),
            Err(error) => {
                output::notice(&format!("{name}: cannot read the requests: {error}"));
                Ok(ExitCode::Usage)
            }
        },
    }
}

/// The request of the command line, for people.
fn one(policy: &Policy, args: &ExplainArgs, printer: &mut Printer) -> io::Result<ExitCode> {
    let target = args.target.as_deref().unwrap_or_default();
    let info = match request_info::parse(&args.method, target) {
        Ok(info) => info,
        Err(malformed) => {
            let text = format!("refused before any rule: {malformed}");
            printer.line(&Line::styled(Look::Bad, text))?;
            return Ok(ExitCode::Failure);
        }
    };
    let user = User {
        username: args.user.clone().unwrap_or_default(),
        groups: args.groups.clone(),
        ..User::default()
    };
    let through = Through {
        actor: args.actor.as_deref(),
        client: args.client.as_deref(),
    };
    let mut facts = Facts::new(&user, &info, IpAddr::V4(Ipv4Addr::LOCALHOST), now())
        .through(through)
        .with_body(BodyFact::Read(args.body.as_bytes()))
        .without_webhooks();
    if let Err(why) = stated::add(policy, &args.webhooks, &mut facts) {
        output::notice(&why);
        return Ok(ExitCode::Usage);
    }
    let Some(explanation) = policy.explain(&facts) else {
        return Ok(ExitCode::Failure);
    };
    let decision = &explanation.verdict.decision;
    let (look, code) = match decision.effect {
        Effect::Allow => (Look::Good, ExitCode::Success),
        Effect::Deny => (Look::Bad, ExitCode::Failure),
        Effect::Hold => (Look::Warn, ExitCode::Failure),
    };
    let why = match (&decision.profile, &decision.rule) {
        (Some(profile), Some(rule)) => format!("by rule {rule} of profile {profile}"),
        (Some(profile), None) => format!("by a rule without a name in profile {profile}"),
        _ => "since no rule matches".to_owned(),
    };
    let request = match info.is_resource {
        true => format!("{} {}", info.verb, resource(&info)),
        false => format!("{} {}", info.verb, info.path),
    };
    let line =
        Line::styled(look, effect(decision)).with(Look::Plain, format!("  {request}  {why}"));
    printer.line(&line)?;
    if !decision.message.is_empty() && decision.effect != Effect::Allow {
        printer.line(&Line::plain(format!("  {}", decision.message)))?;
    }
    print_reasons(&explanation, printer)?;
    Ok(code)
}

/// What else it depends on and does, and what was tried before.
fn print_reasons(explanation: &Explanation, printer: &mut Printer) -> io::Result<()> {
    for webhook in &explanation.webhooks {
        let text = format!(
            "  would ask webhook {webhook}: this is so if it allows; see --webhook {webhook}=denied and =noOpinion"
        );
        printer.line(&Line::plain(text))?;
    }
    if let Some(masking) = &explanation.verdict.masking {
        let text = format!("  masking: {}", masking.names().join(", "));
        printer.line(&Line::plain(text))?;
    }
    for tried in &explanation.tried {
        let text = format!(
            "  not by rule {} of profile {} in line {}: {}",
            tried.rule, tried.profile, tried.line, tried.reason
        );
        printer.line(&Line::plain(text))?;
    }
    if explanation.tried_more > 0 {
        let text = format!("  and not by {} more", explanation.tried_more);
        printer.line(&Line::plain(text))?;
    }
    Ok(())
}

fn resource(info: &RequestInfo) -> String {
    match info.subresource() {
        "" => info.resource().to_owned(),
        sub => format!("{}/{sub}", info.resource()),
    }
}

/// In the words of the policy file.
fn effect(decision: &Decision) -> &'static str {
    match decision.effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
        Effect::Hold => "approve",
    }
}

fn now() -> Timestamp {
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
}
