//! Processes of a test run: started with a leash, stopped by id, and found again by the next run if that failed.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::{cache, node};

/// State of one test run. Its folder goes when it is dropped.
#[derive(Debug)]
pub struct Run {
    folder: PathBuf,
}

impl Run {
    /// Ends what former runs left behind, then begins a new one.
    ///
    /// # Errors
    /// When the cache folder cannot be written.
    pub fn begin() -> Result<Self> {
        let runs = cache::folder()?.join("runs");
        cache::create(&runs)?;
        clean(&runs)?;
        let folder = runs.join(Process::own().to_string());
        cache::create(&folder)?;
        Ok(Self { folder })
    }

    /// The folder for the state of this run.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // What cannot be removed now, the next run removes.
        remove(&self.folder);
    }
}

/// A server of the test bed. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `command` as the server `name` of this run; what it prints goes into `name.log` in the run's folder.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(run: &Run, name: &str, command: &mut Command) -> Result<Self> {
        let log = run.folder.join(format!("{name}.log"));
        let output =
            File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let child = command
            .env("HOOP_TEST_BED_LEASH", "1")
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        if let Some(process) = Process::of(child.id()) {
            let mut pids = OpenOptions::new()
                .create(true)
                .append(true)
                .open(run.folder.join("pids"))?;
            writeln!(pids, "{process} {name}")?;
        }
        Ok(Self { child, log })
    }

    /// Everything it printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, with SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Asks it to end, with SIGTERM, and waits until it has.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn terminate(&mut self) -> Result<std::process::ExitStatus> {
        self.signal(Signal::TERM);
        Ok(self.child.wait()?)
    }

    /// Lets it stand still, with SIGSTOP.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on, with SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, signal).ok();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port of the loopback interface that was free a moment ago.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("no port is free")?;
    Ok(listener.local_addr()?.port())
}

/// A process and when it started, so that a process id that was given out again is not mistaken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    id: u32,
    /// Clock ticks since the machine started, field 22 of `/proc/<id>/stat`; 0 where that does not exist.
    started: u64,
}

impl Process {
    fn own() -> Self {
        let id = std::process::id();
        Self::of(id).unwrap_or(Self { id, started: 0 })
    }

    /// The process that has this id now.
    fn of(id: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name of the program comes second, in parentheses, and may hold anything.
        let after_name = &stat[stat.rfind(')')? + 1..];
        let started = after_name.split_whitespace().nth(19)?.parse().ok()?;
        Some(Self { id, started })
    }

    fn parse(text: &str) -> Option<Self> {
        let (id, started) = text.split_once('-')?;
        Some(Self {
            id: id.parse().ok()?,
            started: started.parse().ok()?,
        })
    }

    fn lives(self) -> bool {
        Self::of(self.id) == Some(self)
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.id, self.started)
    }
}

/// Ends the servers of runs that are over, and removes their folders.
fn clean(runs: &Path) -> Result<()> {
    for entry in fs::read_dir(runs)? {
        let entry = entry?;
        let owner = entry.file_name().to_str().and_then(Process::parse);
        if owner.is_some_and(Process::lives) {
            continue;
        }
        let pids = fs::read_to_string(entry.path().join("pids")).unwrap_or_default();
        for line in pids.lines() {
            let process = line.split(' ').next().and_then(Process::parse);
            let Some(process) = process.filter(|p| p.lives()) else {
                continue;
            };
            if let Some(pid) = i32::try_from(process.id).ok().and_then(Pid::from_raw) {
                kill_process(pid, Signal::KILL).ok();
            }
        }
        node::clear(&node::folder_in(&entry.path()));
        remove(&entry.path());
    }
    Ok(())
}

/// Removes the folder of a run. Two runs may clean at once; one of them finds nothing left to remove.
fn remove(folder: &Path) {
    // What is mounted in there is not ours to remove.
    if !node::holds_mounts(folder) {
        fs::remove_dir_all(folder).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_former_run_left_is_ended_by_id_and_start_and_removed() {
        let runs = tempfile::tempdir().unwrap();
        let mut left = Command::new("sleep").arg("600").spawn().unwrap();
        let mut reused = Command::new("sleep").arg("600").spawn().unwrap();
        let process = Process::of(left.id()).unwrap();
        let dead_owner = runs.path().join("4194305-1");
        fs::create_dir(&dead_owner).unwrap();
        let other = Process {
            id: reused.id(),
            started: 1,
        };
        fs::write(
            dead_owner.join("pids"),
            format!("{process} etcd\n{other} api\nnoise\n"),
        )
        .unwrap();
        let living_owner = runs.path().join(Process::own().to_string());
        fs::create_dir(&living_owner).unwrap();

        clean(runs.path()).unwrap();

        assert!(!left.wait().unwrap().success());
        assert!(
            reused.try_wait().unwrap().is_none(),
            "same id, another process"
        );
        assert!(!dead_owner.exists() && living_owner.exists());
        reused.kill().unwrap();
        reused.wait().unwrap();
    }
}
