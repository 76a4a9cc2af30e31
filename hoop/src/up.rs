//! `hoop up`, `hoop proxy`, `hoop recorder`: the pipeline, or a part of it, until it is told to stop.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::check;
use crate::config::{Config, Environment, LogBackend};
use crate::exit::ExitCode;
use crate::output::{self, Line, Look, Printer};
use crate::pipeline::{Parts, Pipeline, ServingGateway, chain};

/// Serves until SIGINT or SIGTERM; SIGHUP reloads the policy; a second signal ends at once.
///
/// # Errors
/// When the output cannot be written or signals cannot be had.
pub async fn run(
    config: Config,
    parts: Parts,
    environment: &Environment,
    printer: &mut Printer,
) -> io::Result<ExitCode> {
    let mut stop = StopSignals::new()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut pipeline = match Pipeline::start(&config, parts, environment).await {
        Ok(pipeline) => pipeline,
        Err(error) => {
            output::notice(&chain(&error));
            return Ok(if error.is_configuration() {
                ExitCode::Usage
            } else {
                ExitCode::Failure
            });
        }
    };
    banner(&config, &pipeline, printer)?;
    let reloader = pipeline.gateway().map(|gateway| gateway.reloader.clone());
    let asked = pipeline
        .gateway()
        .is_some()
        .then(|| tokio::spawn(ask_for_rights(config)));
    let failed = tokio::select! {
        () = stop.next() => false,
        () = pipeline.failed() => true,
        () = reload(&mut hangup, reloader) => false,
    };
    if let Some(asked) = asked {
        asked.abort();
    }
    if failed {
        output::notice("a part of the pipeline has ended by itself; the log above says why");
        return Ok(ExitCode::Failure);
    }
    output::notice("stopping: requests end, events are committed; interrupt again to stop at once");
    let stopped = tokio::select! {
        stopped = pipeline.stop() => stopped,
        () = stop.next() => output::exit_at_once(),
    };
    if !stopped.all_logged {
        output::notice(
            "some events were not acknowledged by the log; the next start records the gap",
        );
        return Ok(ExitCode::Failure);
    }
    if !stopped.all_committed {
        output::notice(
            "not everything is committed as evidence yet; it is in the log, and the next start commits it",
        );
    }
    Ok(ExitCode::Success)
}

/// Says what the gateway's credential lacks in the cluster, or has too much of. It serves meanwhile: what is missing may be
/// about people who never come, and an API server that is away comes back.
async fn ask_for_rights(config: Config) {
    for told in check::at_start(&config).await {
        output::notice(&told);
    }
}

/// The signals that mean to stop.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Reloads the policy at every hang-up, for ever.
async fn reload(hangup: &mut Signal, reloader: Option<hoop_proxy::PolicyReloader>) {
    while hangup.recv().await.is_some() {
        if let Some(reloader) = &reloader {
            reloader.reload().await;
        }
    }
    std::future::pending().await
}

fn banner(config: &Config, pipeline: &Pipeline, printer: &mut Printer) -> io::Result<()> {
    match pipeline.gateway() {
        Some(gateway) => {
            let address = config.public_address(gateway.address);
            printer.heading(&format!("hoop is up: https://{address}"))?;
        }
        None => printer.heading("hoop records")?,
    }
    printer.line(&entry("cluster", &config.cluster))?;
    if let Some(gateway) = pipeline.gateway() {
        printer.line(&entry("policy", &gateway.policy.display().to_string()))?;
    }
    if !matches!(config.log.backend, LogBackend::Embedded) {
        printer.line(&entry("log", &config.log.backend.describe()))?;
    }
    printer.line(&entry("evidence", &config.evidence_place().to_string()))?;
    for key in crate::key::public(pipeline.data()) {
        printer.line(&entry("signed by", &key))?;
    }
    if let Some(admin) = pipeline.admin_address() {
        printer.line(&entry("metrics", &format!("http://{admin}/metrics")))?;
    }
    if let Some(gateway) = pipeline.gateway() {
        how_to_work(config, pipeline, gateway, printer)?;
    }
    printer.blank()
}

fn entry(what: &str, value: &str) -> Line {
    let mut line = Line::styled(Look::Dim, what);
    line.pad_to(10);
    line.with(Look::Plain, value)
}

fn how_to_work(
    config: &Config,
    pipeline: &Pipeline,
    gateway: &ServingGateway,
    printer: &mut Printer,
) -> io::Result<()> {
    let data = pipeline.data().root().display().to_string();
    printer.heading("Work through it")?;
    for (name, path) in &gateway.kubeconfigs {
        let command = format!("KUBECONFIG={} kubectl get pods", path.display());
        printer.line(&Line::styled(Look::Name, command).with(Look::Dim, format!("   # {name}")))?;
    }
    printer.heading("Look at what happened")?;
    printer.line(&Line::styled(
        Look::Name,
        format!("hoop-replay list --data {data}"),
    ))?;
    if config.policy.is_some() {
        return Ok(());
    }
    printer.blank()?;
    printer.paragraph(
        "No policy was named, so the default one holds: the group \"administrators\" may do everything, secret \
         values are masked. The API server still applies its own RBAC to the person; if it answers Forbidden, bind \
         the group once:",
    )?;
    printer.line(&Line::styled(
        Look::Name,
        "kubectl create clusterrolebinding hoop-administrators --clusterrole=cluster-admin --group=administrators",
    ))
}
