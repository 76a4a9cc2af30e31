//! One process of `hoop`: a gateway or a recorder.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::testbed::{Run, Server};

/// How long a process may take until it is at work, while the broker is and the machine is busy.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Lines of what it said that are shown when a promise was broken.
const LINES_SHOWN: usize = 25;

/// People of two groups: one may do everything, one is denied some.
const POLICY: &str = r#"
profiles:
- name: platform
  subjects: {groups: [platform]}
  rules:
  - {name: everything, effect: allow, apiGroups: ["*"], resources: ["*"], verbs: ["*"]}
- name: developers
  subjects: {groups: [developers]}
  rules:
  - {name: nobody-reads-these, effect: deny, apiGroups: ["*"], resources: ["*"], verbs: ["*"], namespaces: [forbidden]}
  - {name: read, effect: allow, apiGroups: ["*"], resources: ["*"], verbs: [get, list, watch]}
"#;

/// One process, or the place of one that is dead at the moment.
#[derive(Debug)]
pub(super) struct Part {
    name: String,
    /// What people call it.
    pub(super) label: String,
    kind: &'static str,
    hoop: (PathBuf, Vec<String>),
    folder: PathBuf,
    starts: u32,
    server: Option<Server>,
    run: Arc<Run>,
}

impl Part {
    /// Starts `hoop KIND` in a folder of its own with these files, and waits until it is at work.
    pub(super) fn start(
        run: &Arc<Run>,
        hoop: &(PathBuf, Vec<String>),
        name: &str,
        label: String,
        kind: &'static str,
        files: &[(&str, &str)],
    ) -> Result<Self> {
        let folder = run.folder().join(name);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("policy.yaml"), POLICY)?;
        for (name, text) in files {
            fs::write(folder.join(name), text)?;
        }
        let mut part = Self {
            name: name.to_owned(),
            label,
            kind,
            hoop: hoop.clone(),
            folder,
            starts: 0,
            server: None,
            run: Arc::clone(run),
        };
        part.launch()?;
        part.until_ready()?;
        Ok(part)
    }

    /// The program, without arguments.
    pub(super) fn hoop(&self) -> Command {
        let mut command = Command::new(&self.hoop.0);
        command
            .args(&self.hoop.1)
            .env_remove("HOOP_DATA")
            .env("NO_COLOR", "1");
        command
    }

    pub(super) fn configuration(&self) -> PathBuf {
        self.folder.join("hoop.yaml")
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(super) fn kubeconfig(&self, person: &str) -> PathBuf {
        let folder = self.data().join("kubeconfigs");
        folder.join(format!("{person}.kubeconfig"))
    }

    /// Starts it on the data that is there, without waiting.
    pub(super) fn launch(&mut self) -> Result<()> {
        self.starts += 1;
        let mut command = self.hoop();
        command
            .args([self.kind, "--config"])
            .arg(self.configuration())
            .arg("--data")
            .arg(self.data());
        let log = format!("{}-{}", self.name, self.starts);
        self.server = Some(Server::start(&self.run, &log, &mut command)?);
        Ok(())
    }

    /// Whether it is at work. One that gave up by itself, as when the broker is down at its start, is started again, as
    /// a service manager would.
    pub(super) fn is_ready(&mut self) -> Result<bool> {
        let banner = match self.kind {
            "recorder" => "hoop records",
            _ => "hoop is up: ",
        };
        let Some(server) = &mut self.server else {
            return Ok(false);
        };
        if server.runs() {
            return Ok(server.log().contains(banner));
        }
        self.launch()?;
        Ok(false)
    }

    fn until_ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        while !self.is_ready()? {
            if begun.elapsed() > READY_WITHIN {
                let said = self.server.as_ref().map(Server::log).unwrap_or_default();
                bail!("{} did not get ready:\n{said}", self.name);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    pub(super) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill();
        }
    }

    /// Asks it to end, and makes sure that it says it did so in order.
    pub(super) fn stop(&mut self) -> Result<()> {
        let mut server = self.server.take().context("it does not run")?;
        let status = server.terminate()?;
        ensure!(
            status.success(),
            "{} ended with {status}:\n{}",
            self.name,
            server.log()
        );
        Ok(())
    }

    /// The end of what it said since its last start.
    pub(super) fn said(&self) -> String {
        let log = self.server.as_ref().map(Server::log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
        format!(
            "{}, start {}:\n  {}\n",
            self.label,
            self.starts,
            last.join("\n  ")
        )
    }

    pub(super) fn pause(&self) {
        if let Some(server) = &self.server {
            server.pause();
        }
    }

    pub(super) fn resume(&self) {
        if let Some(server) = &self.server {
            server.resume();
        }
    }
}
