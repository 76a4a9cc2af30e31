//! The clients of the test bed, as commands.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::build;
use super::process::{Run, Server};

/// What a command said and how it ended.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The command, for reports.
    pub command: String,
    /// Whether its exit code was 0.
    pub success: bool,
    /// Its exit code, if it had one.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Answer {
    /// Runs `command` to its end, with `input` as its standard input.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn of(command: &mut Command, input: &str) -> Result<Self> {
        let text = format!("{:?}", command.get_args().collect::<Vec<_>>());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let mut stdin = child.stdin.take().expect("standard input is piped");
        // A command that does not read its input closes it: not an error of the command.
        stdin.write_all(input.as_bytes()).ok();
        drop(stdin);
        let output = child.wait_with_output()?;
        Ok(Self {
            command: text,
            success: output.status.success(),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// The standard output of a command that must have worked.
    ///
    /// # Errors
    /// When it did not.
    pub fn expect_success(self) -> Result<String> {
        if !self.success {
            bail!("{} failed:\n{}{}", self.command, self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }

    /// The standard error of a command that must have failed.
    ///
    /// # Errors
    /// When it did not.
    pub fn expect_failure(self) -> Result<String> {
        if self.success {
            bail!("{} worked:\n{}{}", self.command, self.stdout, self.stderr);
        }
        Ok(self.stderr)
    }
}

/// kubectl with one kubeconfig.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    /// What comes before everything else on the command line: the name of the component, where the program has several.
    component: Option<&'static str>,
    kubeconfig: PathBuf,
    home: PathBuf,
    variables: Vec<(String, String)>,
}

impl Kubectl {
    pub(crate) fn new(program: &Path, kubeconfig: &Path, home: &Path) -> Self {
        Self {
            program: program.to_owned(),
            component: Some("kubectl"),
            kubeconfig: kubeconfig.to_owned(),
            home: home.to_owned(),
            variables: Vec::new(),
        }
    }

    /// The oldest version that the tests try, built if need be, with the same kubeconfig.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn oldest(&self) -> Result<Self> {
        Ok(Self {
            program: build::kubectl_oldest()?,
            component: None,
            ..self.clone()
        })
    }

    /// The same kubectl with another kubeconfig; what it caches goes into `home`.
    pub fn with_kubeconfig(&self, kubeconfig: &Path, home: &Path) -> Self {
        Self {
            kubeconfig: kubeconfig.to_owned(),
            home: home.to_owned(),
            ..self.clone()
        }
    }

    /// The same kubectl with a variable in its environment.
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs `kubectl ARGUMENTS` to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Result<Answer> {
        self.run_with(arguments, "")
    }

    /// Runs `kubectl ARGUMENTS` to its end with `input` as its standard input.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Result<Answer> {
        Answer::of(self.command().args(arguments), input)
    }

    /// Applies manifests and returns what kubectl said.
    ///
    /// # Errors
    /// When that fails.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        self.run_with(&["apply", "-f", "-"], manifests)?
            .expect_success()
    }

    /// Starts `kubectl ARGUMENTS` and lets it run; its standard output is piped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, arguments: &[&str]) -> Result<Child> {
        self.command()
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start kubectl")
    }

    /// The command `kubectl`, ready for arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(self.component)
            .env_clear()
            .env("HOME", &self.home)
            .env("KUBECONFIG", &self.kubeconfig)
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// helm with one kubeconfig.
#[derive(Debug, Clone)]
pub struct Helm {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Helm {
    /// helm, built if need be; its own files go into `home`.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn new(kubeconfig: &Path, home: &Path) -> Result<Self> {
        Ok(Self {
            program: build::helm()?,
            kubeconfig: kubeconfig.to_owned(),
            home: home.to_owned(),
        })
    }

    /// Runs `helm ARGUMENTS` to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Result<Answer> {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", &self.home)
            .env("KUBECONFIG", &self.kubeconfig);
        Answer::of(&mut command, "")
    }
}

/// What Go's own implementation of signed notes and tiled logs has to say of the transparency log in `folder`, whose key
/// is `vkey`; built if need be.
///
/// # Errors
/// When it cannot be built or started.
pub fn tlogcheck(folder: &Path, vkey: &str) -> Result<Answer> {
    let mut command = Command::new(build::tlogcheck()?);
    command.arg(folder).arg(vkey);
    Answer::of(&mut command, "")
}

/// Python with packages.
#[derive(Debug, Clone)]
pub struct Python {
    packages: Vec<PathBuf>,
}

impl Python {
    /// Python with DuckDB, fetched if need be.
    ///
    /// # Errors
    /// When it cannot be fetched.
    pub fn with_duckdb() -> Result<Self> {
        Self::with(&[build::DUCKDB])
    }

    /// Python with DuckDB, pyarrow, Spark and a translator of SQL, fetched if need be.
    ///
    /// # Errors
    /// When they cannot be fetched.
    pub fn with_query_engines() -> Result<Self> {
        Self::with(&[
            build::DUCKDB,
            build::PYARROW,
            build::PYSPARK,
            build::SQLGLOT,
        ])
    }

    /// Python with the client of Kubernetes, fetched if need be.
    ///
    /// # Errors
    /// When it cannot be fetched.
    pub fn with_kubernetes() -> Result<Self> {
        Self::with(&[build::PYTHON_KUBERNETES])
    }

    /// Python with the clients of Kafka and NATS, fetched if need be.
    ///
    /// # Errors
    /// When they cannot be fetched.
    pub fn with_brokers() -> Result<Self> {
        Self::with(&[build::PYTHON_KAFKA, build::PYTHON_NATS])
    }

    fn with(packages: &[(&str, &str)]) -> Result<Self> {
        let packages = packages
            .iter()
            .map(|package| build::python_package(*package));
        Ok(Self {
            packages: packages.collect::<Result<_>>()?,
        })
    }

    /// Starts the program in this file and lets it run; what it prints is in its log.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, run: &Run, name: &str, file: &Path, arguments: &[&str]) -> Result<Server> {
        let mut command = Command::new("python3");
        command
            .arg(file)
            .args(arguments)
            .env("PYTHONPATH", std::env::join_paths(&self.packages)?);
        Server::start(run, name, &mut command)
    }

    /// Runs a program and returns what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.run_with(program, arguments, "")
    }

    /// Runs a program with `input` as its standard input and returns what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn run_with(&self, program: &str, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new("python3");
        command
            .args(["-c", program])
            .args(arguments)
            .env("PYTHONPATH", std::env::join_paths(&self.packages)?);
        Answer::of(&mut command, input)?.expect_success()
    }
}
