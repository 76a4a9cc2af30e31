//! Logs of pods.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::watch;

/// Lines kept per pod; the oldest go first.
const LINES_MAX: usize = 10_000;

/// The logs of all pods that have one.
#[derive(Debug, Default)]
pub(super) struct Logs(Mutex<HashMap<(String, String), PodLog>>);

#[derive(Debug, Default)]
struct PodLog {
    lines: Vec<String>,
    /// Lines that were dropped from the front.
    dropped: usize,
    written: watch::Sender<usize>,
}

impl Logs {
    /// Appends a line, and wakes those who follow.
    pub(super) fn append(&self, namespace: &str, pod: &str, line: &str) {
        let mut logs = self.0.lock();
        let log = logs.entry((namespace.into(), pod.into())).or_default();
        log.lines.push(line.to_owned());
        if log.lines.len() > LINES_MAX {
            log.lines.remove(0);
            log.dropped += 1;
        }
        log.written.send_replace(log.dropped + log.lines.len());
    }

    /// The lines from number `from` on, as text, and the number after the last one.
    pub(super) fn read(&self, namespace: &str, pod: &str, from: usize) -> (String, usize) {
        let mut logs = self.0.lock();
        let log = logs.entry((namespace.into(), pod.into())).or_default();
        let mut text = String::new();
        for line in log.lines.iter().skip(from.saturating_sub(log.dropped)) {
            text.push_str(line);
            text.push('\n');
        }
        (text, log.dropped + log.lines.len())
    }

    /// Number of the first of the last `count` lines.
    pub(super) fn tail(&self, namespace: &str, pod: &str, count: usize) -> usize {
        let mut logs = self.0.lock();
        let log = logs.entry((namespace.into(), pod.into())).or_default();
        (log.dropped + log.lines.len()).saturating_sub(count)
    }

    /// Tells of every new line.
    pub(super) fn written(&self, namespace: &str, pod: &str) -> watch::Receiver<usize> {
        let mut logs = self.0.lock();
        let log = logs.entry((namespace.into(), pod.into())).or_default();
        log.written.subscribe()
    }
}
