//! `hoop demo`: the whole pipeline at work, in less than half a minute.
//!
//! Two people work through a gateway, with `kubectl` where there is one; then the evidence of it is listed, shown and
//! proved. What is printed really happened: every step says what it must show, and when one does not, the
//! demonstration fails.

mod client;
mod evidence;
mod scene;
mod stage;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::cli::DemoArgs;
use crate::config::{Config, Environment, Overrides, Person, UpstreamConfig};
use crate::data_dir::{DataDir, write_private};
use crate::exit::ExitCode;
use crate::output::{self, Line, Look, Printer};
use crate::pipeline::{Parts, Pipeline, chain};
use client::Client;
use stage::Stage;

/// The policy of the demonstration.
const POLICY: &str = include_str!("demo/policy.yaml");

/// Why the demonstration did not show what it should.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) String);

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(chain(&error))
    }
}

/// Runs the demonstration.
///
/// # Errors
/// When the output cannot be written.
pub async fn run(
    args: DemoArgs,
    environment: &Environment,
    printer: &mut Printer,
) -> io::Result<ExitCode> {
    let started = Instant::now();
    match show(&args, environment, printer).await {
        Ok(()) => {
            let seconds = started.elapsed().as_secs_f32();
            printer.blank()?;
            let text = format!("All of it happened, in {seconds:.1} s.");
            printer.line(&Line::styled(Look::Good, text))?;
            Ok(ExitCode::Success)
        }
        Err(Failed(why)) => {
            output::notice(&format!("the demonstration failed: {why}"));
            Ok(ExitCode::Failure)
        }
    }
}

async fn show(
    args: &DemoArgs,
    environment: &Environment,
    printer: &mut Printer,
) -> Result<(), Failed> {
    let data = DataDir::open(&data_dir(args)?)?;
    printer.paragraph(
        "hoop stands in front of the Kubernetes API: it knows who asks, applies a policy, masks secrets, and records \
         every request before it has an effect.",
    )?;
    let stage = Stage::open(args.upstream.as_deref(), &data).await?;
    let config = config(&data, &stage, environment)?;
    let pipeline = Pipeline::start(&config, Parts::All, environment).await?;
    let client = Client::find(args.own_client, environment, &data);
    printer.heading(&format!("1  Two people work, {}", client.by()))?;
    let says = |what: &str, value: String| {
        let mut line = Line::styled(Look::Dim, format!("   {what}"));
        line.pad_to(12);
        line.with(Look::Plain, value)
    };
    printer.line(&says("cluster", stage.name()))?;
    let gateway = pipeline.gateway().expect("it is one of all parts");
    printer.line(&says("gateway", format!("https://{}", gateway.address)))?;
    printer.line(&says("people", "alice, a developer; bob, on call".into()))?;
    let played = scene::play(&stage, &client, &gateway.kubeconfigs, printer).await;
    let stopped = pipeline.stop().await;
    stage.close().await;
    played?;
    if !(stopped.all_logged && stopped.all_committed) {
        return Err(Failed("not every event became evidence".into()));
    }
    evidence::show(&data, environment, client.is_kubectl(), printer).await
}

/// The directory of everything: the one that was asked for, or a new temporary one that stays.
fn data_dir(args: &DemoArgs) -> io::Result<PathBuf> {
    if let Some(data) = &args.data {
        return Ok(data.clone());
    }
    let name = format!(
        "hoop-demo-{}",
        crate::data_dir::hex(&crate::data_dir::random::<4>()?)
    );
    Ok(std::env::temp_dir().join(name))
}

fn config(data: &DataDir, stage: &Stage, environment: &Environment) -> Result<Config, Failed> {
    let policy = data.root().join("demo-policy.yaml");
    write_private(&policy, &POLICY.replace("NAMESPACE", stage.namespace()))?;
    let overrides = Overrides {
        data: Some(data.root().to_owned()),
        listen: Some(([127, 0, 0, 1], 0).into()),
        policy: Some(policy),
        ..Overrides::default()
    };
    let person = |name: &str, group: &str| Person {
        name: name.into(),
        groups: vec![group.into()],
    };
    let mut config = Config::load(None, overrides, environment)?;
    config.cluster = "demo".into();
    config.admin_listen = None;
    config.upstream = UpstreamConfig::Kubeconfig {
        path: Some(stage.kubeconfig().to_owned()),
        context: None,
    };
    config.people = vec![person("alice", "developers"), person("bob", "on-call")];
    Ok(config)
}

/// A path as a person would write it: relative to where they are, when that is shorter.
pub(crate) fn short_path(path: &Path) -> String {
    let relative = std::env::current_dir()
        .ok()
        .and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    relative.as_deref().unwrap_or(path).display().to_string()
}
