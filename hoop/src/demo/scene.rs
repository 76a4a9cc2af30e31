//! What the two people do, and what each step must show.

use std::path::PathBuf;
use std::time::Duration;

use hoop_proxy::mask::SENTINEL;

use super::Failed;
use super::client::{Action, Client, Ran};
use super::stage::Stage;
use crate::output::{Line, Look, Printer};

/// Between two changes that the watcher is to see.
const CHANGE_INTERVAL: Duration = Duration::from_millis(700);

/// Lines of one step's output that are shown.
const LINES_MAX: usize = 8;

/// Plays the scene.
pub(super) async fn play(
    stage: &Stage,
    client: &Client,
    kubeconfigs: &[(String, PathBuf)],
    printer: &mut Printer,
) -> Result<(), Failed> {
    let mut theatre = Theatre {
        stage,
        client,
        kubeconfigs,
        printer,
    };
    let pods = theatre.step("alice", "reads", Action::Pods).await?;
    expect(
        &pods,
        pods.success && pods.text.contains(stage.pod()),
        "the pods to be listed",
    )?;

    let secret = theatre
        .step(
            "alice",
            "reads a secret: the value is masked",
            Action::Secret,
        )
        .await?;
    let hidden = secret.text.contains(SENTINEL) && !secret.text.contains(Stage::password());
    expect(&secret, secret.success && hidden, "a masked value")?;

    let delete = theatre
        .step("alice", "may not delete", Action::Delete)
        .await?;
    expect(
        &delete,
        !delete.success && delete.text.contains("Forbidden"),
        "the delete to be denied",
    )?;

    let watch = theatre
        .step("bob", "watches while something changes", Action::Watch)
        .await?;
    expect(
        &watch,
        watch.text.contains(stage.pod()),
        "the change to be seen",
    )?;

    if stage.has_log() {
        let title = "reads what the service account payments did";
        let log = theatre.step("bob", title, Action::Log).await?;
        expect(
            &log,
            log.success && log.text.contains("order=10042"),
            "a line of the log",
        )?;
    } else {
        let text = "   (no log to read: this cluster has no node that runs pods)";
        theatre.printer.line(&Line::styled(Look::Dim, text))?;
    }
    Ok(())
}

struct Theatre<'a> {
    stage: &'a Stage,
    client: &'a Client,
    kubeconfigs: &'a [(String, PathBuf)],
    printer: &'a mut Printer,
}

impl Theatre<'_> {
    /// Says what comes, does it, and shows what it printed.
    async fn step(&mut self, who: &str, what: &str, action: Action) -> Result<Ran, Failed> {
        let command = self.client.command(action, self.stage);
        let title =
            Line::styled(Look::Bold, format!("   {who}")).with(Look::Dim, format!(" {what}"));
        self.printer.blank()?;
        self.printer.clipped(&title)?;
        self.printer
            .line(&Line::styled(Look::Name, format!("   $ {command}")))?;
        let found = self.kubeconfigs.iter().find(|(name, _)| name == who);
        let (_, kubeconfig) = found.expect("both people have a kubeconfig");
        let run = self.client.run(who, kubeconfig, action, self.stage);
        let ran = if action == Action::Watch {
            tokio::select! {
                ran = run => ran,
                error = changes(self.stage) => return Err(error),
            }
        } else {
            run.await
        }?;
        let look = if ran.success { Look::Plain } else { Look::Bad };
        let lines: Vec<_> = ran
            .text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        for line in lines.iter().take(LINES_MAX) {
            let line = Line::plain("     ").with(look, line);
            match look {
                // An error says what to do at its end.
                Look::Bad => self.printer.wrapped(&line)?,
                _ => self.printer.clipped(&line)?,
            }
        }
        if lines.len() > LINES_MAX {
            let text = format!("     … and {} lines more", lines.len() - LINES_MAX);
            self.printer.line(&Line::styled(Look::Dim, text))?;
        }
        Ok(ran)
    }
}

/// Changes something for as long as somebody watches; returns only when that fails.
async fn changes(stage: &Stage) -> Failed {
    for number in 1.. {
        tokio::time::sleep(CHANGE_INTERVAL).await;
        if let Err(failed) = stage.change(number).await {
            return failed;
        }
    }
    unreachable!("the numbers do not end before the watcher")
}

fn expect(ran: &Ran, met: bool, what: &str) -> Result<(), Failed> {
    if met {
        return Ok(());
    }
    Err(Failed(format!(
        "expected {what}, but got: {}",
        ran.text.trim()
    )))
}
