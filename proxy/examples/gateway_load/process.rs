//! What a process has used, from /proc.

use std::time::Duration;

/// Clock ticks per second in /proc: 100 on every Linux.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time of a process, in user and kernel mode.
pub(crate) fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in parentheses may hold spaces.
    let after = &stat[stat.rfind(')').unwrap() + 2..];
    let field = |i: usize| after.split(' ').nth(i).unwrap().parse::<u64>().unwrap();
    Duration::from_millis((field(11) + field(12)) * 1000 / TICKS_PER_SECOND)
}

/// The most memory that a process ever held, in MiB.
pub(crate) fn memory_max(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}
