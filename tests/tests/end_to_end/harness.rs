//! Runs the tests: which parts of the test bed each needs, what is skipped, what is shared.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::{Result, anyhow};
use hoop_tests::testbed::{self, ApiServer, Kafka, Keycloak, Minio, Nats, Need, Run};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::compatibility;
use crate::node::NodeCluster;
use crate::pipeline::{Cluster, Pipeline};

/// Tests that run at once. They wait for servers most of the time.
const TESTS_AT_ONCE: usize = 4;

/// One test.
#[derive(Clone)]
pub(crate) struct Test {
    name: &'static str,
    needs: &'static [Need],
    body: Arc<dyn Fn() -> Result<()> + Send + Sync>,
    alone: bool,
}

impl Test {
    pub(crate) fn new(
        name: &'static str,
        needs: &'static [Need],
        body: impl Fn() -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            needs,
            body: Arc::new(body),
            alone: false,
        }
    }

    /// A test that measures time: it runs while no other does.
    pub(crate) fn alone(self) -> Self {
        Self {
            alone: true,
            ..self
        }
    }

    fn run(&self) -> Result<(), Failed> {
        let (_alone, _among_others);
        if self.alone {
            _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
        } else {
            _among_others = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
        }
        (self.body)().map_err(|error| Failed::from(format!("{error:#}")))
    }
}

/// Functions as tests, all of which need the same.
macro_rules! tests {
    ($needs:expr; $($name:ident),* $(,)?) => {
        vec![$($crate::harness::Test::new(
            concat!(module_path!(), "::", stringify!($name)),
            $needs,
            $name,
        )),*]
    };
}
pub(crate) use tests;

/// What the tests of one run share.
#[derive(Default)]
struct Shared {
    /// `hoop up` in front of the API server, or why there is none: it is not tried again for every test.
    pipeline: Option<Result<Arc<Pipeline>, String>>,
    /// `hoop up` that believes Keycloak, or why there is none.
    login_pipeline: Option<Result<Arc<Pipeline>, String>>,
    /// The API server, or why there is none.
    api_server: Option<Result<Arc<ApiServer>, String>>,
    /// Goes last, with its folder.
    run: Option<Arc<Run>>,
}

static SHARED: Mutex<Option<Shared>> = Mutex::new(None);

/// Keycloak, or why there is none. Apart from the rest, since it takes half a minute to start.
static KEYCLOAK: Mutex<Option<Result<Arc<Keycloak>, String>>> = Mutex::new(None);

fn with_shared<T>(f: impl FnOnce(&mut Shared) -> Result<T>) -> Result<T> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    f(shared.get_or_insert_default())
}

/// The state of this test run.
pub(crate) fn this_run() -> Result<Arc<Run>> {
    with_shared(run_of)
}

fn run_of(shared: &mut Shared) -> Result<Arc<Run>> {
    if let Some(run) = &shared.run {
        return Ok(run.clone());
    }
    Ok(shared.run.insert(Arc::new(Run::begin()?)).clone())
}

/// The API server of this test run; the first caller starts it, the others wait.
pub(crate) fn api_server() -> Result<Arc<ApiServer>> {
    with_shared(|shared| {
        let run = run_of(shared)?;
        let started = shared.api_server.get_or_insert_with(|| {
            ApiServer::start(&run, "kubernetes")
                .map(Arc::new)
                .map_err(|error| format!("{error:#}"))
        });
        started.clone().map_err(|error| anyhow!(error))
    })
}

/// Keycloak, for all tests of this run; the first caller starts it, the others wait.
pub(crate) fn keycloak() -> Result<Arc<Keycloak>> {
    let run = this_run()?;
    let mut keycloak = KEYCLOAK.lock().unwrap_or_else(PoisonError::into_inner);
    let started = keycloak.get_or_insert_with(|| {
        Keycloak::start(&run)
            .map(Arc::new)
            .map_err(|error| format!("{error:#}"))
    });
    started.clone().map_err(|error| anyhow!(error))
}

/// A server that tests share and that stands apart from the rest, since nobody else waits for it; or why there is none.
type Apart<T> = Mutex<Option<Result<Arc<T>, String>>>;

static MINIO: Apart<Minio> = Mutex::new(None);
static NATS: Apart<Nats> = Mutex::new(None);
static KAFKA: Apart<Kafka> = Mutex::new(None);

/// MinIO, for all tests of this run.
pub(crate) fn minio() -> Result<Arc<Minio>> {
    apart(&MINIO, Minio::start)
}

/// A NATS server, for all tests that do not stop it.
pub(crate) fn nats() -> Result<Arc<Nats>> {
    apart(&NATS, |run| Nats::start(run, "nats", ""))
}

/// One broker of Kafka, for all tests that do not stop it.
pub(crate) fn kafka() -> Result<Arc<Kafka>> {
    apart(&KAFKA, |run| Kafka::start(run, "kafka", 1, &[]))
}

/// The first caller starts it, the others wait.
fn apart<T>(server: &Apart<T>, start: impl FnOnce(&Run) -> Result<T>) -> Result<Arc<T>> {
    let run = this_run()?;
    let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
    let started = server.get_or_insert_with(|| {
        start(&run)
            .map(Arc::new)
            .map_err(|error| format!("{error:#}"))
    });
    started.clone().map_err(|error| anyhow!(error))
}

/// `hoop up` in front of the API server, for all tests that do not stop it.
pub(crate) fn pipeline() -> Result<Arc<Pipeline>> {
    let (server, run) = (api_server()?, this_run()?);
    with_shared(|shared| {
        let started = shared.pipeline.get_or_insert_with(|| {
            Pipeline::start(run, "shared", Cluster::Real(&server))
                .map(Arc::new)
                .map_err(|error| format!("{error:#}"))
        });
        started.clone().map_err(|error| anyhow!(error))
    })
}

/// The cluster with a node; apart from the rest, since it takes longer to start and nobody else waits for it.
static NODE_CLUSTER: Mutex<Option<Result<Arc<NodeCluster>, String>>> = Mutex::new(None);

/// The cluster with a node, and `hoop up` in front of it; the first caller starts them, the others wait.
pub(crate) fn node_cluster() -> Result<Arc<NodeCluster>> {
    let run = this_run()?;
    let mut shared = NODE_CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    let started = shared.get_or_insert_with(|| {
        NodeCluster::start(run)
            .map(Arc::new)
            .map_err(|error| format!("{error:#}"))
    });
    started.clone().map_err(|error| anyhow!(error))
}

/// `hoop up` that believes Keycloak, for all tests of logins; the first caller starts it.
pub(crate) fn login_pipeline(
    start: impl FnOnce(Arc<Run>) -> Result<Pipeline>,
) -> Result<Arc<Pipeline>> {
    with_shared(|shared| {
        let run = run_of(shared)?;
        let started = shared.login_pipeline.get_or_insert_with(|| {
            start(run)
                .map(Arc::new)
                .map_err(|error| format!("{error:#}"))
        });
        started.clone().map_err(|error| anyhow!(error))
    })
}

/// `hoop up` in front of the API server, for one test.
pub(crate) fn own_pipeline(name: &str) -> Result<Pipeline> {
    Pipeline::start(this_run()?, name, Cluster::Real(&*api_server()?))
}

/// `hoop up` in front of the sample cluster, for one test.
pub(crate) fn sample_pipeline(name: &str) -> Result<Pipeline> {
    Pipeline::start(this_run()?, name, Cluster::Sample)
}

/// Held for reading by tests that only have to be right, for writing by those that measure time.
static MACHINE: RwLock<()> = RwLock::new(());

/// Runs the tests that the command line asks for.
pub(crate) fn run(mut tests: Vec<Test>) -> ExitCode {
    tests.sort_by_key(|test| test.alone);
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(TESTS_AT_ONCE);
    let required = testbed::required();
    let mut lacking: BTreeMap<Need, Option<&'static str>> = BTreeMap::new();
    let mut skipped: BTreeMap<&'static str, Vec<&'static str>> = BTreeMap::new();
    let mut trials = Vec::new();
    for test in tests {
        let reason = test
            .needs
            .iter()
            .find_map(|need| *lacking.entry(*need).or_insert_with(|| need.lacking()));
        let name = test.name.trim_start_matches("end_to_end::");
        let trial = Trial::test(name, move || match reason {
            Some(reason) => Err(Failed::from(format!("needed here and missing: {reason}"))),
            None => test.run(),
        });
        let skip = reason.is_some() && !required;
        if let Some(reason) = reason.filter(|_| skip) {
            skipped.entry(reason).or_default().push(name);
        }
        trials.push(trial.with_ignored_flag(skip));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Ends the servers and removes their data.
    NODE_CLUSTER
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    MINIO.lock().unwrap_or_else(PoisonError::into_inner).take();
    KEYCLOAK
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    NATS.lock().unwrap_or_else(PoisonError::into_inner).take();
    KAFKA.lock().unwrap_or_else(PoisonError::into_inner).take();
    SHARED.lock().unwrap_or_else(PoisonError::into_inner).take();
    summarize(&skipped);
    let everything_ran = conclusion.num_filtered_out == 0
        && conclusion.num_ignored == 0
        && conclusion.num_failed == 0
        && !arguments.list;
    if let Err(error) = compatibility::check(everything_ran) {
        say(&format!("{error:#}"));
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

#[expect(clippy::print_stdout, reason = "this is the output of the tests")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stdout, reason = "this is the output of the tests")]
fn summarize(skipped: &BTreeMap<&str, Vec<&str>>) {
    for (reason, names) in skipped {
        println!("skipped {} end-to-end tests, since {reason}:", names.len());
        for name in names {
            println!("    {name}");
        }
    }
}
