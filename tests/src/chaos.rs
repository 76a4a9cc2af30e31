//! Everything goes wrong at once, for as long as one likes; afterwards what was promised is held against what is there.
//!
//! ```text
//! people ──▶ 2 × hoop proxy ──▶ broker ──▶ 3 × hoop recorder ──▶ bad line ──▶ MinIO, or a directory
//!   ledger: what was answered   │  log: what was taken                        files: what is kept
//!                               └─▶ a cluster that keeps what it was asked
//! ```
//! Gateways, recorders and the broker are killed, paused and stopped at random; the line in front of the store delays,
//! loses, doubles and falsifies answers, and lets puts land long after they were given up. Then, in peace again:
//! - every request that was answered has its intent in the files, once, and at most one outcome;
//! - every request that reached the cluster has its intent in the files: nothing was done that was not recorded before;
//! - the files hold every event of the log, to the byte, and no event twice;
//! - nothing was altered, the transparency log covers every file under one key, and every hole in a gateway's sequence is
//!   declared by a gap event.

mod broker;
mod misfortune;
mod part;
mod people;
mod place;
mod verdict;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use hoop_proxy::sample_cluster::SampleCluster;
use kube::config::Kubeconfig;

use crate::dice::Dice;
use crate::testbed::{Answer, Run};

pub use broker::BrokerKind;
pub use place::PlaceKind;
pub use verdict::Verdict;

use broker::Broker;
use misfortune::Misfortunes;
use part::Part;
use people::{People, Reached};
use place::Place;

/// Gateways at work.
const GATEWAYS: usize = 2;

/// Recorders at work; each reads all shards, or its share and those that the others leave to it.
const RECORDERS: usize = 3;

/// Of a thousand requests to the store, so many meet a fault.
const STORE_FAULTS_PER_THOUSAND: u64 = 60;

/// Between two looks at what the cluster was asked; it keeps 10,000 requests.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long it may take, once all is peaceful, until everything that was promised is in files.
const SETTLED_WITHIN: Duration = Duration::from_secs(240);

/// Between two comparisons, each of which reads everything.
const COMPARE_EVERY: Duration = Duration::from_secs(5);

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// For how long things go wrong.
    pub time: Duration,
    /// Which broker holds the log.
    pub log: BrokerKind,
    /// Where evidence is kept.
    pub store: PlaceKind,
    /// What decides all that is left to chance.
    pub seed: u64,
    /// The program `hoop`, and the arguments that come before its own.
    pub hoop: (PathBuf, Vec<String>),
}

impl Options {
    /// Whether the recorders share the shards or each of them records all, in a race for every file: by the seed.
    fn recorders_share(&self) -> bool {
        self.seed.is_multiple_of(2)
    }
}

/// What there is to tell while it goes on.
#[derive(Debug)]
pub enum Progress<'a> {
    /// What is done now.
    Phase(&'a str),
    /// Something went wrong, on purpose.
    Misfortune(&'a str),
    /// So much of the time is over, and so many requests were answered.
    Goes {
        /// Since the first misfortune could happen.
        elapsed: Duration,
        /// Requests that were answered.
        answered: u64,
    },
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// The seed with which it can be tried again.
    pub seed: u64,
    /// Whether the recorders shared the shards, or each of them recorded all.
    pub recorders_shared: bool,
    /// How often something was made to go wrong, by kind.
    pub misfortunes: Vec<(&'static str, u32)>,
    /// Requests to the store, of which some met a fault; none when it is a directory.
    pub store_requests: u64,
    /// How long it took until everything was in files.
    pub settled_after: Duration,
    /// The comparison.
    pub verdict: Verdict,
    /// What the recorders said last, when a promise was broken.
    pub said: String,
}

impl Report {
    /// Whether every promise was kept.
    pub fn is_good(&self) -> bool {
        self.verdict.problems.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let happened: Vec<_> = self
            .misfortunes
            .iter()
            .map(|(what, times)| format!("{times} × {what}"))
            .collect();
        writeln!(f, "seed             {}", self.seed)?;
        let recorders = match self.recorders_shared {
            true => "share the shards",
            false => "record every shard, in a race for each file",
        };
        writeln!(f, "recorders        {RECORDERS}, which {recorders}")?;
        writeln!(f, "misfortunes      {}", happened.join(", "))?;
        if self.store_requests > 0 {
            writeln!(
                f,
                "store            {} requests over a bad line, {STORE_FAULTS_PER_THOUSAND} of a thousand with a fault",
                self.store_requests
            )?;
        }
        writeln!(f, "settled after    {} s", self.settled_after.as_secs())?;
        write!(f, "{}{}", self.verdict, self.said)
    }
}

/// Runs it.
///
/// # Errors
/// When a part cannot be started or looked at; not when a promise was broken, which the report says.
pub async fn run(options: &Options, tell: &(dyn Fn(Progress<'_>) + Sync)) -> Result<Report> {
    tell(Progress::Phase(
        "starting broker, store, gateways and recorders",
    ));
    let run = Arc::new(Run::begin()?);
    run_in(options, &run, tell).await
}

/// The same inside a test run that has begun already.
///
/// # Errors
/// As there.
pub async fn run_in(
    options: &Options,
    run: &Arc<Run>,
    tell: &(dyn Fn(Progress<'_>) + Sync),
) -> Result<Report> {
    let cluster = Arc::new(SampleCluster::start().await?);
    let (place, key, mut misfortunes) = start(options, run, &cluster).await?;
    let reached = Reached::default();
    let watching = people::watch(Arc::clone(&cluster), Arc::clone(&reached), LOOK_EVERY);
    let watching = tokio::spawn(watching);
    let people = People::start(misfortunes.gateways());

    tell(Progress::Phase("everything goes wrong"));
    place.misbehave(STORE_FAULTS_PER_THOUSAND);
    let begun = Instant::now();
    while begun.elapsed() < options.time {
        let what = misfortunes.happen().await?;
        tell(Progress::Misfortune(&what));
        tell(Progress::Goes {
            elapsed: begun.elapsed(),
            answered: people.answered(),
        });
    }
    tell(Progress::Phase("peace: everything runs again"));
    place.behave();
    misfortunes.peace().await?;
    let ledger = people.stop().await?;
    watching.abort();
    people::look(&cluster, &reached);
    let reached = reached.lock().clone();

    tell(Progress::Phase("comparing ledger, log and files"));
    let begun = Instant::now();
    let hoop = misfortunes.recorders().first().context("a recorder")?;
    let verdict = loop {
        let verdict = verdict::compare(&ledger, &reached, hoop, &place, &key.public).await?;
        if verdict.problems.is_empty() || begun.elapsed() > SETTLED_WITHIN {
            break verdict;
        }
        tokio::time::sleep(COMPARE_EVERY).await;
    };
    let settled_after = begun.elapsed();
    let said = match verdict.problems.is_empty() {
        true => String::new(),
        false => misfortunes.recorders().iter().map(Part::said).collect(),
    };
    misfortunes.stop()?;
    Ok(Report {
        seed: options.seed,
        recorders_shared: options.recorders_share(),
        misfortunes: misfortunes.counts(),
        store_requests: place.requests(),
        settled_after,
        verdict,
        said,
    })
}

/// Starts everything, in peace.
async fn start(
    options: &Options,
    run: &Arc<Run>,
    cluster: &SampleCluster,
) -> Result<(Place, Key, Misfortunes)> {
    let name = format!("chaos-{}-{}", options.log, options.store);
    let broker = Broker::start(run, options.log, &name)?;
    let place = Place::start(run, options.store, &name, options.seed).await?;
    let upstream = cluster.kubeconfig()?;
    let (log, evidence) = (broker.log_section(), place.section());
    let keys = run.folder().join(format!("{name}-keys"));
    let key = Key::make(&options.hoop, &keys, &cluster_line(options.log))?;
    let part = |label: &str, kind: &'static str, number: usize| {
        let share = match options.recorders_share() && kind == "recorder" {
            true => format!(", share: {number}/{RECORDERS}, takeover_after: 6s"),
            false => String::new(),
        };
        let recorder = format!("signing_key: '{}'{share}", key.file.display());
        let configuration = configuration(options.log, &recorder, &log, &evidence);
        let name = format!("{name}-{kind}-{number}");
        let label = format!("{label} {number}");
        let files = [
            ("hoop.yaml", configuration.as_str()),
            ("upstream.kubeconfig", &upstream),
        ];
        Part::start(run, &options.hoop, &name, label, kind, &files)
    };
    let gateways = (1..=GATEWAYS).map(|n| part("gateway", "proxy", n));
    let gateways = gateways.collect::<Result<_>>()?;
    let recorders = (1..=RECORDERS).map(|n| part("recorder", "recorder", n));
    let recorders = recorders.collect::<Result<_>>()?;
    let dice = Dice::new(options.seed);
    let misfortunes = Misfortunes::new(dice, gateways, recorders, broker, Arc::clone(run));
    Ok((place, key, misfortunes))
}

/// What signs the transparency log: one key for all recorders.
#[derive(Debug)]
struct Key {
    file: PathBuf,
    /// As `hoop-replay verify --key` takes it.
    public: String,
}

impl Key {
    /// Makes one for the cluster of a configuration.
    fn make(
        (program, first): &(PathBuf, Vec<String>),
        folder: &Path,
        configuration: &str,
    ) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let file = folder.join("hoop.yaml");
        std::fs::write(&file, configuration)?;
        let mut command = Command::new(program);
        command
            .args(first)
            .args(["key", "show", "--config"])
            .arg(file)
            .arg("--data")
            .arg(folder);
        let shown = Answer::of(&mut command, "")?.expect_success()?;
        Ok(Self {
            file: folder.join("evidence.key"),
            public: shown.trim().to_owned(),
        })
    }
}

/// Configuration of every part. Files are committed and holes declared soon, so that much happens in little time.
fn configuration(log: BrokerKind, recorder: &str, log_section: &str, evidence: &str) -> String {
    let cluster = cluster_line(log);
    format!(
        "{cluster}\
         gateway: {{listen: 127.0.0.1:0, drain_timeout: 2s}}\n\
         admin: {{listen: off}}\n\
         upstream: {{kubeconfig: upstream.kubeconfig}}\n\
         policy: policy.yaml\n\
         recorder: {{flush_age: 2s, hole_open_time: 10s, {recorder}}}\n\
         people:\n- {{name: alice, groups: [platform]}}\n- {{name: bob, groups: [developers]}}\n\
         {log_section}\n{evidence}\n"
    )
}

fn cluster_line(log: BrokerKind) -> String {
    format!("cluster: chaos-{log}\n")
}

/// The server of a kubeconfig, which is another one after every start of a gateway.
fn read_kubeconfig(path: &Path) -> Result<Kubeconfig> {
    Kubeconfig::read_from(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The kinds of a clap argument as it is written on the command line.
fn name_of(value: &impl ValueEnum, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match value.to_possible_value() {
        Some(name) => f.write_str(name.get_name()),
        None => Ok(()),
    }
}
