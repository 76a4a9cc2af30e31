//! `hoop up`: the pipeline until it is told to stop.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::check;
use crate::config::{Config, Environment};
use crate::exit::ExitCode;
use crate::output::{self, Line, Look, Printer};
use crate::pipeline::{Pipeline, chain};

/// Serves until SIGINT or SIGTERM; SIGHUP reloads the policy; a second signal ends at once.
///
/// # Errors
/// When the output cannot be written or signals cannot be had.
pub async fn run(
    config: Config,
    environment: &Environment,
    printer: &mut Printer,
) -> io::Result<ExitCode> {
    let mut stop = StopSignals::new()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut pipeline = match Pipeline::start(&config, environment).await {
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
    let reloader = pipeline.reloader();
    let asked = tokio::spawn(ask_for_rights(config));
    let failed = tokio::select! {
        () = stop.next() => false,
        () = pipeline.failed() => true,
        () = reload(&mut hangup, reloader) => false,
    };
    asked.abort();
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
async fn reload(hangup: &mut Signal, reloader: hoop_proxy::PolicyReloader) {
    while hangup.recv().await.is_some() {
        reloader.reload().await;
    }
    std::future::pending().await
}

fn banner(config: &Config, pipeline: &Pipeline, printer: &mut Printer) -> io::Result<()> {
    let data = pipeline.data().root().display().to_string();
    let entry = |what: &str, value: &str| {
        let mut line = Line::styled(Look::Dim, what);
        line.pad_to(10);
        line.with(Look::Plain, value)
    };
    let address = config.public_address(pipeline.address());
    printer.heading(&format!("hoop is up: https://{address}"))?;
    printer.line(&entry("cluster", &config.cluster))?;
    printer.line(&entry("policy", &pipeline.policy().display().to_string()))?;
    printer.line(&entry(
        "evidence",
        &pipeline.data().evidence().display().to_string(),
    ))?;
    if let Some(admin) = pipeline.admin_address() {
        printer.line(&entry("metrics", &format!("http://{admin}/metrics")))?;
    }
    printer.heading("Work through it")?;
    for (name, path) in pipeline.kubeconfigs() {
        let command = format!("KUBECONFIG={} kubectl get pods", path.display());
        printer.line(&Line::styled(Look::Name, command).with(Look::Dim, format!("   # {name}")))?;
    }
    printer.heading("Look at what happened")?;
    printer.line(&Line::styled(
        Look::Name,
        format!("hoop-replay list --data {data}"),
    ))?;
    if config.policy.is_none() {
        printer.blank()?;
        printer.paragraph(
            "No policy was named, so the default one holds: the group \"administrators\" may do everything, secret \
             values are masked. The API server still applies its own RBAC to the person; if it answers Forbidden, bind \
             the group once:",
        )?;
        printer.line(&Line::styled(
            Look::Name,
            "kubectl create clusterrolebinding hoop-administrators --clusterrole=cluster-admin --group=administrators",
        ))?;
    }
    printer.blank()
}
