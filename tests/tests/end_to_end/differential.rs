//! The same command lines of kubectl, run before the API server and before the gateway by the same person: exit code,
//! standard output and standard error are the same.
//!
//! Each side has a namespace of its own, and both names are equally long. What must differ from one run to the next is
//! taken out first: ages, times, uids, versions, addresses. The gateway allows everything and masks nothing.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hoop_tests::testbed::{Answer, IMAGE, Kubectl, LATER_IMAGE, NODE, Need};
use kube::config::Kubeconfig;
use similar::TextDiff;

use crate::harness::{Test, node_cluster, tests};
use crate::node::NodeCluster;

mod commands;
mod normal;

/// Who runs the command lines, and in which group: the policy lets this person do everything and masks nothing.
const PERSON: (&str, &str) = ("dave", "platform");

/// The namespaces of the two sides, which also begin the names of all else that they make.
const SIDES: [&str; 2] = ["twin-a", "twin-b"];

pub(crate) fn tests() -> Vec<Test> {
    tests![&[Need::Kubernetes, Need::Node]; kubectl_says_the_same_with_and_without_the_gateway]
}

/// What of the output is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Everything,
    /// The lines in any order, for what the API server lists in the order of random names.
    Sorted,
    /// The last line of standard output, for what depends on when one looks.
    LastLine,
}

/// One command line.
#[derive(Debug, Clone, Copy)]
struct Row {
    line: &'static str,
    input: &'static str,
    compare: Compare,
    /// Changes what both sides share: all such lines in a row are run for one side, then for the other.
    shared: bool,
    /// Why it differs with the gateway.
    differs: Option<&'static str>,
}

/// A command line that says the same on both sides.
fn row(line: &'static str) -> Row {
    Row {
        line,
        input: "",
        compare: Compare::Everything,
        shared: false,
        differs: None,
    }
}

impl Row {
    fn input(self, input: &'static str) -> Self {
        Self { input, ..self }
    }

    fn compare(self, compare: Compare) -> Self {
        Self { compare, ..self }
    }

    fn shared(self) -> Self {
        Self {
            shared: true,
            ..self
        }
    }

    fn differs(self, reason: &'static str) -> Self {
        Self {
            differs: Some(reason),
            ..self
        }
    }
}

/// One of the two sides.
struct Side {
    name: &'static str,
    folder: PathBuf,
    kubectl: Kubectl,
    signing_request: String,
}

impl Side {
    fn run(&self, row: &Row) -> Result<String> {
        let arguments: Vec<_> = split(row.line).iter().map(|a| self.fill(a)).collect();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let answer = self.kubectl.run_with(&arguments, &self.fill(row.input))?;
        Ok(normal::form(&self.report(row, &answer), self.name))
    }

    /// Puts what only this side knows into a text.
    fn fill(&self, text: &str) -> String {
        text.replace("SIDE", self.name)
            .replace("IMAGE", IMAGE)
            .replace("LATER", LATER_IMAGE)
            .replace("NODE", NODE)
            .replace("FOLDER", &self.folder.display().to_string())
            .replace("CSR", &self.signing_request)
    }

    fn report(&self, row: &Row, answer: &Answer) -> String {
        let folder = self.folder.display().to_string();
        let [stdout, stderr] =
            [&answer.stdout, &answer.stderr].map(|text| text.replace(&folder, "FOLDER"));
        let shown = match row.compare {
            Compare::Everything => stdout,
            Compare::LastLine => stdout.lines().last().unwrap_or_default().to_owned(),
            Compare::Sorted => {
                let normal = normal::form(&stdout, self.name);
                let mut lines: Vec<_> = normal.lines().collect();
                lines.sort_unstable();
                lines.join("\n")
            }
        };
        format!(
            "exit code {:?}\n{shown}\n--- stderr\n{stderr}\n",
            answer.code
        )
    }
}

fn kubectl_says_the_same_with_and_without_the_gateway() -> Result<()> {
    let cluster = node_cluster()?;
    let (direct, through) = (side(&cluster, SIDES[0])?, side(&cluster, SIDES[1])?);
    for side in SIDES {
        let create = ["create", "namespace", side];
        cluster.server.kubectl().run(&create)?.expect_success()?;
    }
    let rows = commands::rows();
    ensure!(rows.len() >= 100, "{} command lines", rows.len());
    let (mut same, mut problems) = (0, Vec::new());
    for block in rows.chunk_by(|one, next| one.shared && next.shared) {
        let [wanted, got] = run_both([&direct, &through], block)?;
        for (row, (wanted, got)) in block.iter().zip(wanted.iter().zip(&got)) {
            match problem(row, wanted, got) {
                None => same += 1,
                Some(problem) => problems.push(problem),
            }
        }
    }
    if !problems.is_empty() {
        bail!(
            "{same} of {} command lines are as they should be; {} are not:\n{}",
            rows.len(),
            problems.len(),
            problems.join("\n")
        );
    }
    Ok(())
}

/// What is wrong with the answers of the two sides, if anything.
fn problem(row: &Row, wanted: &str, got: &str) -> Option<String> {
    match (wanted == got, row.differs) {
        (true, None) | (false, Some(_)) => None,
        (true, Some(reason)) => Some(format!(
            "kubectl {} is listed as different ({reason}) and is the same",
            row.line
        )),
        (false, None) => {
            let diff = TextDiff::from_lines(wanted, got);
            let diff = diff.unified_diff().header("direct", "gateway").to_string();
            Some(format!("kubectl {}:\n{diff}", row.line))
        }
    }
}

/// What each side answers to these command lines: both at once if it is only one, and in turn if there are several.
fn run_both(sides: [&Side; 2], block: &[Row]) -> Result<[Vec<String>; 2]> {
    let run =
        |side: &Side| -> Result<Vec<String>> { block.iter().map(|row| side.run(row)).collect() };
    if block.len() > 1 {
        return Ok([run(sides[0])?, run(sides[1])?]);
    }
    std::thread::scope(|threads| {
        let wanted = threads.spawn(|| run(sides[0]));
        let got = run(sides[1])?;
        Ok([wanted.join().expect("the thread does not panic")?, got])
    })
}

/// A side with its kubeconfig: both have the same names for everything.
fn side(cluster: &NodeCluster, name: &'static str) -> Result<Side> {
    let folder = cluster.pipeline.folder().join(name);
    std::fs::create_dir_all(&folder)?;
    let (person, group) = PERSON;
    let mut config = Kubeconfig::read_from(cluster.pipeline.kubeconfig(person))?;
    if name == SIDES[0] {
        let direct = cluster.server.kubeconfig("direct", person, Some(group))?;
        let direct = Kubeconfig::read_from(direct)?;
        config.clusters[0].cluster = direct.clusters[0].cluster.clone();
        config.auth_infos[0].auth_info = direct.auth_infos[0].auth_info.clone();
    }
    let context = config.contexts[0].context.as_mut();
    context.context("a kubeconfig has a context")?.namespace = Some(name.to_owned());
    let path = folder.join("kubeconfig");
    std::fs::write(&path, serde_json::to_string(&config)?)?;
    Ok(Side {
        name,
        kubectl: with_tools(&cluster.server.kubectl().with_kubeconfig(&path, &folder)),
        signing_request: signing_request()?,
        folder,
    })
}

/// What kubectl calls: `diff`, and an editor that changes something.
fn with_tools(kubectl: &Kubectl) -> Kubectl {
    let path = std::env::var("PATH").unwrap_or_default();
    kubectl
        .clone()
        .with_variable("PATH", &path)
        .with_variable("KUBE_EDITOR", "sed -i s/colour:.*/colour:\\ red/")
}

fn signing_request() -> Result<String> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "somebody");
    Ok(STANDARD.encode(params.serialize_request(&key)?.pem()?))
}

/// Splits a command line at blanks outside of single quotes.
fn split(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("there is always one").push(c),
        }
    }
    words
}
