//! What is left of the scene: files, the list of sessions, one session, the proof.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::process::Command;

use super::{Failed, short_path};
use crate::config::Environment;
use crate::data_dir::DataDir;
use crate::output::{Line, Look, Printer};

/// Digits of a session's id that are enough among a handful.
const SESSION_DIGITS: usize = 12;

/// Shows all of it, and what to try next.
pub(super) async fn show(
    data: &DataDir,
    environment: &Environment,
    kubectl: bool,
    printer: &mut Printer,
) -> Result<(), Failed> {
    let replay = Replay::find(data, environment, printer)?;
    printer.heading("2  The evidence: zstd Parquet files that are never changed")?;
    let files = files(&data.evidence().join("events"))?;
    if files.is_empty() {
        return Err(Failed("no evidence file came to be".into()));
    }
    tree(data, &files, printer)?;

    printer.heading("3  Who did what, and what was denied")?;
    replay.show(&["list"], printer).await?;

    let session = interesting_session(&replay).await?;
    let what = if kubectl {
        "One command"
    } else {
        "One connection"
    };
    printer.heading(&format!("4  {what} as it was: asked, decided, answered"))?;
    replay.show(&["show", &session], printer).await?;

    printer.heading("5  The proof that nothing was altered and nothing is missing")?;
    replay.show(&["verify"], printer).await?;

    printer.heading("Try next")?;
    let place = short_path(data.root());
    let name = replay.name();
    for (command, why) in [
        (
            format!("{name} show {session} --bodies --data {place}"),
            "what alice got to see",
        ),
        (
            format!("{name} list --decision deny --data {place}"),
            "what was denied",
        ),
        (
            format!("{} up --kubeconfig ~/.kube/config", hoop_name()),
            "in front of your own cluster",
        ),
    ] {
        printer.line(&Line::styled(Look::Dim, format!("  # {why}")))?;
        printer.line(&Line::styled(Look::Name, format!("  {command}")))?;
    }
    printer.blank()?;
    printer.line(&Line::styled(
        Look::Dim,
        format!("  Everything is in {place}; delete it when you are done."),
    ))?;
    Ok(())
}

/// Runs the replayer, as a person would.
struct Replay {
    program: PathBuf,
    sibling: Option<PathBuf>,
    data: PathBuf,
    width: usize,
    color: bool,
    environment: Environment,
}

impl Replay {
    fn find(data: &DataDir, environment: &Environment, printer: &Printer) -> Result<Self, Failed> {
        let program = std::env::current_exe()?;
        let sibling = program.with_file_name("hoop-replay");
        Ok(Self {
            sibling: sibling.is_file().then_some(sibling),
            program,
            data: data.root().to_owned(),
            // Two are taken by the indentation.
            width: printer.width().saturating_sub(2),
            color: printer.color(),
            environment: environment.clone(),
        })
    }

    /// What a person types to run it.
    fn name(&self) -> String {
        match &self.sibling {
            Some(program) => short_path(program),
            None => format!("{} replay", hoop_name()),
        }
    }

    /// Runs it; anything but success is a failure, and shows what it said.
    async fn run(&self, arguments: &[&str]) -> Result<String, Failed> {
        let output = Command::new(&self.program)
            .arg("replay")
            .args(arguments)
            .arg("--data")
            .arg(&self.data)
            .args(["--color", if self.color { "always" } else { "never" }])
            .env_clear()
            .envs(&self.environment)
            .env("COLUMNS", self.width.to_string())
            .kill_on_drop(true)
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Failed(format!(
            "hoop-replay {} ended with {}: {text}{said}",
            arguments.join(" "),
            output.status
        )))
    }

    async fn show(&self, arguments: &[&str], printer: &mut Printer) -> Result<(), Failed> {
        let text = self.run(arguments).await?;
        Ok(printer.own_output(text.trim_matches('\n'))?)
    }
}

/// The session in which alice read the secret.
async fn interesting_session(replay: &Replay) -> Result<String, Failed> {
    let text = replay
        .run(&[
            "list",
            "--user",
            "alice",
            "--resource",
            "secrets",
            "-o",
            "jsonl",
        ])
        .await?;
    let first: Value = serde_json::from_str(text.lines().next().unwrap_or_default())?;
    let id = first["session_id"].as_str().unwrap_or_default();
    if id.len() < SESSION_DIGITS {
        return Err(Failed(
            "the session in which alice read the secret is not in the evidence".into(),
        ));
    }
    Ok(id[..SESSION_DIGITS].to_owned())
}

/// What a person types to run this program again.
fn hoop_name() -> String {
    std::env::current_exe().map_or_else(|_| "hoop".into(), |program| short_path(&program))
}

/// All files below a folder with their sizes, in order.
fn files(folder: &Path) -> Result<Vec<(PathBuf, u64)>, Failed> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                found.push((entry.path(), metadata.len()));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn tree(data: &DataDir, files: &[(PathBuf, u64)], printer: &mut Printer) -> Result<(), Failed> {
    let mut last = None;
    for (path, bytes) in files {
        let folder = path.parent();
        if last != Some(folder) {
            last = Some(folder);
            let shown = folder.and_then(|folder| folder.strip_prefix(data.root()).ok());
            let shown = shown.unwrap_or(Path::new("evidence")).display();
            printer.clipped(&Line::styled(Look::Dim, format!("  {shown}/")))?;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let size = format!("{:.1} KB", *bytes as f64 / 1000.0);
        printer.clipped(&Line::plain(format!("    {name}  ")).with(Look::Dim, size))?;
    }
    Ok(())
}
