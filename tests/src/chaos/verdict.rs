//! The comparison: what people were answered, what reached the cluster, what the log took, what the files hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use hoop::config::{Config, Environment, Overrides};
use hoop::data_dir::DataDir;
use hoop::logs::{Ends, Logs};
use hoop_schema::Shard;
use hoop_sinks::log::{EventReader, Position};
use prometheus_client::registry::Registry;
use serde_json::Value;

use super::part::Part;
use super::people::Ledger;
use super::place::Place;
use crate::testbed::Answer;

/// Bytes read from the log at once.
const READ_BYTES: usize = 4 << 20;

/// How long a read may wait for a record that bounds promise.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// Examples of a problem that are named.
const EXAMPLES_MAX: usize = 3;

/// What the comparison came to.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that were refused, since they could not be recorded.
    pub refused: u64,
    /// Requests whose answer never came.
    pub broken: u64,
    /// Requests that reached the cluster.
    pub reached: u64,
    /// Events in the log.
    pub log_events: u64,
    /// Records of the log that are copies of others.
    pub log_copies: u64,
    /// Events in files, without those of the recorders themselves.
    pub file_events: u64,
    /// Requests without an outcome: the gateway died before it could say it.
    pub without_outcome: u64,
    /// Holes in gateways' sequences, all declared by gap events.
    pub gaps: u64,
    /// Session files.
    pub files: u64,
    /// Promises that were broken.
    pub problems: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "requests         {} answered, {} refused, {} broken off; {} reached the cluster",
            self.answered, self.refused, self.broken, self.reached
        )?;
        writeln!(
            f,
            "log              {} events, and {} copies of them",
            self.log_events, self.log_copies
        )?;
        writeln!(
            f,
            "files            {} events in {} session files; {} requests without an outcome, {} declared gaps",
            self.file_events, self.files, self.without_outcome, self.gaps
        )?;
        match self.problems.as_slice() {
            [] => write!(
                f,
                "every promise was kept: nothing lost, nothing doubled, nothing altered, every hole declared"
            ),
            problems => {
                writeln!(f, "{} promises were broken:", problems.len())?;
                for problem in problems {
                    writeln!(f, "  {problem}")?;
                }
                Ok(())
            }
        }
    }
}

/// Compares.
pub(super) async fn compare(
    ledger: &Ledger,
    reached: &BTreeSet<String>,
    recorder: &Part,
    place: &Place,
    key: &str,
) -> Result<Verdict> {
    let log = read_log(recorder).await?;
    let files = tokio::task::block_in_place(|| Files::read(recorder, place, key))?;
    Ok(judge(ledger, reached, log, &files))
}

/// Holds one against the other. Pure.
fn judge(ledger: &Ledger, reached: &BTreeSet<String>, log: InLog, files: &Files) -> Verdict {
    let mut verdict = Verdict {
        answered: ledger.answered.len() as u64,
        refused: ledger.refused,
        broken: ledger.broken,
        reached: reached.len() as u64,
        log_events: log.events.len() as u64,
        log_copies: log.copies,
        file_events: files.events.len() as u64,
        files: files.verified["files"].as_u64().unwrap_or_default(),
        gaps: files.verified["gaps_declared"].as_u64().unwrap_or_default(),
        ..Verdict::default()
    };
    let mut problems = log.problems;
    let mut say = |what: &str, which: Vec<&String>| {
        if !which.is_empty() {
            let examples = &which[..which.len().min(EXAMPLES_MAX)];
            problems.push(format!("{} {what}, as {examples:?}", which.len()));
        }
    };
    let of_answered = |wrong: &dyn Fn(&String) -> bool| {
        let answered = ledger.answered.keys();
        answered.filter(|id| wrong(id)).collect::<Vec<_>>()
    };
    say(
        "answered requests have no intent in the files",
        of_answered(&|id| files.count(id, "intent") == 0),
    );
    say(
        "answered requests have more than one intent in the files",
        of_answered(&|id| files.count(id, "intent") > 1),
    );
    say(
        "answered requests have more than one outcome in the files",
        of_answered(&|id| files.count(id, "outcome") > 1),
    );
    let unrecorded = reached.iter().filter(|id| files.count(id, "intent") == 0);
    say(
        "requests reached the cluster without an intent in the files",
        unrecorded.collect(),
    );
    files.beside(&log.events, &mut say);
    verdict.problems = problems;
    verdict.without_outcome = of_answered(&|id| files.count(id, "outcome") == 0).len() as u64;
    verdict
}

#[derive(Default)]
struct InLog {
    /// Exact bytes by event id.
    events: BTreeMap<String, String>,
    copies: u64,
    problems: Vec<String>,
}

/// Reads the whole log of every class, as a recorder would.
async fn read_log(recorder: &Part) -> Result<InLog> {
    let config = Config::load(
        Some(&recorder.configuration()),
        Overrides {
            data: Some(recorder.data()),
            ..Overrides::default()
        },
        &Environment::new(),
    )?;
    let data = DataDir::open(&config.data)?;
    let ends = Ends {
        write: false,
        read: true,
    };
    let logs = Logs::open(&config, &data, ends, &mut Registry::default()).await?;
    let mut found = InLog::default();
    for reader in logs.readers {
        for shard in (0..reader.shards()).map(Shard) {
            read_shard(&*reader, shard, &mut found).await?;
        }
    }
    Ok(found)
}

async fn read_shard(reader: &dyn EventReader, shard: Shard, found: &mut InLog) -> Result<()> {
    let bounds = reader.bounds(shard).await?;
    let mut from = bounds.first;
    while from < bounds.next {
        let batch = reader.read(shard, from, READ_BYTES, READ_WITHIN).await?;
        let Some(last) = batch.last() else { break };
        from = Position(last.position.0 + 1);
        for record in batch {
            let text = String::from_utf8(record.bytes.to_vec())?;
            let event: Value = serde_json::from_str(&text)?;
            let id = text_of(&event["event_id"]);
            match found.events.insert(id.clone(), text.clone()) {
                None => {}
                Some(before) if before == text => found.copies += 1,
                Some(_) => found.problems.push(format!(
                    "event {id} is in the log with two different contents"
                )),
            }
        }
    }
    Ok(())
}

struct Files {
    /// Exact bytes by event id, without events of the recorders themselves.
    events: BTreeMap<String, String>,
    /// Ids that are there more than once.
    doubled: Vec<String>,
    /// How many events of a kind there are for an audit id.
    requests: BTreeMap<(String, String), u32>,
    /// What `hoop-replay verify` says.
    verified: Value,
}

impl Files {
    fn read(recorder: &Part, place: &Place, key: &str) -> Result<Self> {
        let (arguments, environment) = place.for_readers();
        let replay = |command: &[&str]| {
            let mut program = recorder.hoop();
            program
                .arg("replay")
                .args(&arguments)
                .args(command)
                .envs(environment.iter().map(|(k, v)| (k, v)));
            Answer::of(&mut program, "")
        };
        let exported = replay(&["export"])?.expect_success()?;
        let verified = replay(&["verify", "--key", key, "-o", "json"])?;
        let verified = serde_json::from_str(&verified.stdout)
            .with_context(|| format!("verify said {verified:?}"))?;
        Self::of(exported.lines(), verified)
    }

    /// What lines of events come to.
    fn of<'a>(lines: impl Iterator<Item = &'a str>, verified: Value) -> Result<Self> {
        let mut files = Self {
            events: BTreeMap::new(),
            doubled: Vec::new(),
            requests: BTreeMap::new(),
            verified,
        };
        for line in lines {
            let event: Value = serde_json::from_str(line).context("an event is JSON")?;
            if text_of(&event["producer_id"]).ends_with(".recorder") {
                continue;
            }
            let key = (
                text_of(&event["request"]["audit_id"]),
                text_of(&event["kind"]),
            );
            *files.requests.entry(key).or_default() += 1;
            let id = text_of(&event["event_id"]);
            if files.events.insert(id.clone(), line.to_owned()).is_some() {
                files.doubled.push(id);
            }
        }
        Ok(files)
    }

    /// How many events of a kind there are about a request.
    fn count(&self, audit_id: &str, kind: &str) -> u32 {
        let key = (audit_id.to_owned(), kind.to_owned());
        self.requests.get(&key).copied().unwrap_or_default()
    }

    /// Holds the events of the log against those of the files, and says what the proof found.
    fn beside(&self, log: &BTreeMap<String, String>, say: &mut impl FnMut(&str, Vec<&String>)) {
        say(
            "events are in the files twice",
            self.doubled.iter().collect(),
        );
        // A recorder lets heartbeats that come alone wait for an hour. One that is missing between others, the proof finds.
        let waits = |text: &String| {
            let event: Result<Value, _> = serde_json::from_str(text);
            event.is_ok_and(|event| event["kind"] == "heartbeat")
        };
        let lost = log
            .iter()
            .filter(|(id, text)| !self.events.contains_key(*id) && !waits(text));
        say(
            "events of the log are not in the files",
            lost.map(|(id, _)| id).collect(),
        );
        let is_other =
            |id: &String, bytes: &String| self.events.get(id).is_some_and(|b| b != bytes);
        let altered = log.iter().filter(|(id, bytes)| is_other(id, bytes));
        say(
            "events are other bytes in the files than in the log",
            altered.map(|(id, _)| id).collect(),
        );
        let invented = self.events.keys().filter(|id| !log.contains_key(*id));
        say("events of the files are not in the log", invented.collect());
        say(
            "findings of the proof are no declared gaps",
            self.findings().iter().collect(),
        );
    }

    /// What the proof found beside holes that are declared, and beside strands that lost an event in such a hole.
    fn findings(&self) -> Vec<String> {
        let findings = self.verified["findings"].as_array();
        findings
            .into_iter()
            .flatten()
            .filter(|finding| {
                let what = text_of(&finding["what"]);
                let explained =
                    what.contains("; a gap event declares it") || what.contains("(session ");
                finding["verdict"] != "incomplete" || !explained
            })
            .map(Value::to_string)
            .collect()
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// One request of each id: intent and outcome.
    fn lines(ids: &[&str]) -> Vec<String> {
        let line = |id: &str, kind: &str| {
            json!({"event_id": format!("{id}-{kind}"), "producer_id": "gateway", "kind": kind, "request": {"audit_id": id}})
                .to_string()
        };
        ids.iter()
            .flat_map(|id| [line(id, "intent"), line(id, "outcome")])
            .collect()
    }

    fn log(lines: &[String]) -> InLog {
        let id = |line: &String| text_of(&serde_json::from_str::<Value>(line).unwrap()["event_id"]);
        InLog {
            events: lines.iter().map(|l| (id(l), l.clone())).collect(),
            ..InLog::default()
        }
    }

    fn problems(
        answered: &[&str],
        reached: &[&str],
        log_lines: &[String],
        file_lines: &[String],
        verified: Value,
    ) -> String {
        let ledger = Ledger {
            answered: answered
                .iter()
                .map(|id| ((*id).to_owned(), String::new()))
                .collect(),
            ..Ledger::default()
        };
        let reached = reached.iter().map(|id| (*id).to_owned()).collect();
        let files = Files::of(file_lines.iter().map(String::as_str), verified).unwrap();
        judge(&ledger, &reached, log(log_lines), &files)
            .problems
            .join("; ")
    }

    #[test]
    fn what_is_everywhere_is_no_problem() {
        let all = lines(&["a", "b"]);
        assert_eq!(problems(&["a"], &["a", "b"], &all, &all, json!({})), "");
    }

    #[test]
    fn every_broken_promise_is_named() {
        let (all, one) = (lines(&["a", "b"]), lines(&["a"]));
        let twice = [all.clone(), lines(&["b"])].concat();
        let mut other = all.clone();
        other[0] = other[0].replace("gateway", "somebody");
        let declared = json!({"findings": [{"verdict": "incomplete", "what": "events 3 to 4; a gap event declares it"}]});
        let silent = json!({"findings": [{"verdict": "incomplete", "what": "events 3 to 4; no gap event declares it"}]});
        let altered = json!({"findings": [{"verdict": "altered", "what": "events 3 to 4; a gap event declares it"}]});
        let none = || json!({});
        for (found, named) in [
            (problems(&["b"], &[], &one, &one, none()), "have no intent"),
            (
                problems(&[], &["b"], &one, &one, none()),
                "reached the cluster without",
            ),
            (
                problems(&["b"], &[], &all, &twice, none()),
                "more than one intent",
            ),
            (
                problems(&["b"], &[], &all, &twice, none()),
                "more than one outcome",
            ),
            (
                problems(&[], &[], &all, &twice, none()),
                "in the files twice",
            ),
            (
                problems(&[], &[], &all, &one, none()),
                "of the log are not in the files",
            ),
            (
                problems(&[], &[], &one, &all, none()),
                "of the files are not in the log",
            ),
            (problems(&[], &[], &all, &other, none()), "other bytes"),
            (problems(&[], &[], &all, &all, silent), "no declared gaps"),
            (problems(&[], &[], &all, &all, altered), "no declared gaps"),
        ] {
            assert!(found.contains(named), "{found:?} does not say {named:?}");
        }
        assert_eq!(problems(&["a"], &["a"], &all, &all, declared), "");
    }
}
