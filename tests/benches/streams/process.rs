//! What a process has used, from /proc.

use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Seconds until a process that should have nothing to do must be idle.
const IDLE_SECONDS: u32 = 120;

/// Clock ticks per second in /proc: 100 on every Linux.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time of a process, in user and kernel mode.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold spaces.
    let (_, after) = stat.rsplit_once(") ").context("a name in parentheses")?;
    let fields: Vec<&str> = after.split(' ').collect();
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// Waits until a process uses less than a fiftieth of a processor for a second.
pub(crate) fn until_idle(pid: u32) -> Result<()> {
    for _ in 0..IDLE_SECONDS {
        let before = cpu(pid)?;
        std::thread::sleep(Duration::from_secs(1));
        if cpu(pid)?.saturating_sub(before) < Duration::from_millis(20) {
            return Ok(());
        }
    }
    bail!("the process {pid} is still busy after {IDLE_SECONDS} s")
}

/// A line of a process's status that counts kB, such as `VmRSS`, in MiB.
pub(crate) fn memory(pid: u32, line: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status
        .lines()
        .find_map(|found| found.strip_prefix(line)?.strip_prefix(':'))
        .with_context(|| format!("no {line}"))?;
    let kib = value.trim().trim_end_matches(" kB").parse::<u64>()?;
    Ok(kib / 1024)
}
