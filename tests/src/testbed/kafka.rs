//! Kafka: one broker or several, each of them a controller too (KRaft), with its tools.
//!
//! Every broker listens four times: in plain text, with TLS and a client certificate (`tls`), with TLS and SASL
//! (`sasl`: PLAIN, SCRAM and OAUTHBEARER with unsigned tokens), and as a controller. `alice` with the password
//! `alice-secret` is a user of PLAIN and of both kinds of SCRAM.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::certificates::Authority;
use super::clients::Answer;
use super::process::{Run, Server, free_port};
use super::{build, cache};

/// How long a broker may take until it is ready: 6 s, and half a minute was seen on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(300);

/// How often it is looked at.
const READY_ASKED_EVERY: Duration = Duration::from_millis(100);

/// A free port may be taken before the broker has it; then all is begun again, this often.
const STARTS_MAX: u32 = 3;

/// Options of Java for tools, which are to start fast.
const SMALL: [&str; 3] = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// Options of Java for brokers, and for tools that are measured: a few partitions and clients need no more.
const BROKER: [&str; 2] = ["-Xmx320m", "-XX:+UseSerialGC"];

/// Names the cluster; any will do.
const CLUSTER: &str = "hoop-test-bed-kafka-0A";

/// Runs Java so that it ends when its standard input does: Java itself does not look.
const LEASH: &str = r#"exec 3<&0; (cat <&3 >/dev/null; grep -q kafka.Kafka /proc/$$/cmdline && kill -9 $$) & exec "$@""#;

/// A running Kafka.
#[derive(Debug)]
pub struct Kafka {
    libraries: PathBuf,
    authority: Authority,
    brokers: Vec<Broker>,
}

/// One broker.
#[derive(Debug)]
struct Broker {
    name: String,
    configuration: PathBuf,
    ports: Ports,
    server: Option<Server>,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    plain: u16,
    tls: u16,
    sasl: u16,
    controller: u16,
}

impl Kafka {
    /// Fetches it if need be, starts `brokers` of them with further settings, and waits until they are ready.
    ///
    /// # Errors
    /// When it cannot be had, or does not get ready; with the end of what it said.
    pub fn start(run: &Run, name: &str, brokers: usize, settings: &[(&str, &str)]) -> Result<Self> {
        let libraries = build::kafka()?.join("libs");
        let mut start = 1;
        loop {
            let folder = run.folder().join(format!("{name}-{start}"));
            match Self::start_in(run, &libraries, &folder, name, brokers, settings) {
                Ok(kafka) => return Ok(kafka),
                Err(_) if start < STARTS_MAX => start += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn start_in(
        run: &Run,
        libraries: &Path,
        folder: &Path,
        name: &str,
        brokers: usize,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        cache::create(folder)?;
        let authority = Authority::make(folder)?;
        let identity = authority.server("broker")?;
        let store = folder.join("broker.pem");
        std::fs::write(&store, format!("{}{}", identity.key, identity.certificate))?;
        let ports = (0..brokers)
            .map(|_| Ports::free())
            .collect::<Result<Vec<_>>>()?;
        let mut kafka = Self {
            libraries: libraries.to_owned(),
            authority,
            brokers: Vec::new(),
        };
        for (index, own) in ports.iter().enumerate() {
            let configuration = folder.join(format!("broker-{}.properties", index + 1));
            let data = folder.join(format!("data-{}", index + 1));
            let text =
                configuration_of(index + 1, &ports, &data, &store, &kafka.authority, settings);
            std::fs::write(&configuration, text)?;
            kafka.format(&configuration)?;
            kafka.brokers.push(Broker {
                name: format!("{name}-{}", index + 1),
                configuration,
                ports: *own,
                server: None,
            });
        }
        for index in 0..brokers {
            kafka.launch(run, index)?;
        }
        for index in 0..brokers {
            kafka.until_ready(index)?;
        }
        Ok(kafka)
    }

    /// Addresses of the brokers in plain text.
    pub fn plain(&self) -> Vec<String> {
        self.brokers
            .iter()
            .map(|broker| format!("127.0.0.1:{}", broker.ports.plain))
            .collect()
    }

    /// Addresses that want TLS with a client certificate.
    pub fn tls(&self) -> Vec<String> {
        self.brokers
            .iter()
            .map(|broker| format!("localhost:{}", broker.ports.tls))
            .collect()
    }

    /// Addresses that want TLS and SASL.
    pub fn sasl(&self) -> Vec<String> {
        self.brokers
            .iter()
            .map(|broker| format!("localhost:{}", broker.ports.sasl))
            .collect()
    }

    /// Who certifies the brokers, as PEM.
    pub fn ca(&self) -> &str {
        self.authority.pem()
    }

    /// Certificate and key of a client, as PEM.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn client_certificate(&self, user: &str) -> Result<(String, String)> {
        let identity = self.authority.client(user, user, None)?;
        Ok((identity.certificate, identity.key))
    }

    /// Starts a broker that was killed, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start_again(&mut self, run: &Run, broker: usize) -> Result<()> {
        self.launch(run, broker)?;
        self.until_ready(broker)
    }

    /// Ends a broker at once, with SIGKILL.
    pub fn kill(&mut self, broker: usize) {
        self.brokers[broker].server = None;
    }

    /// Lets a broker stand still, with SIGSTOP, or go on, with SIGCONT.
    ///
    /// # Errors
    /// When the broker does not run.
    pub fn pause(&self, broker: usize, still: bool) -> Result<()> {
        let server = self.brokers[broker]
            .server
            .as_ref()
            .context("the broker does not run")?;
        match still {
            true => server.pause(),
            false => server.resume(),
        }
        Ok(())
    }

    /// Whether a broker runs.
    pub fn runs(&mut self, broker: usize) -> bool {
        self.brokers[broker]
            .server
            .as_mut()
            .is_some_and(Server::runs)
    }

    /// Runs one of Kafka's tools by the name of its script, as in a command line of the documentation.
    ///
    /// # Errors
    /// When the script is not known or the tool cannot be run; not when it fails.
    pub fn tool(&self, command: &str) -> Result<Answer> {
        let mut words = command.split_whitespace();
        let script = words.next().unwrap_or_default();
        let class = match script {
            "kafka-acls.sh" => "org.apache.kafka.tools.AclCommand",
            "kafka-configs.sh" => "kafka.admin.ConfigCommand",
            "kafka-console-consumer.sh" => "org.apache.kafka.tools.consumer.ConsoleConsumer",
            "kafka-consumer-groups.sh" => {
                "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
            }
            "kafka-delete-records.sh" => "org.apache.kafka.tools.DeleteRecordsCommand",
            "kafka-producer-perf-test.sh" => "org.apache.kafka.tools.ProducerPerformance",
            "kafka-topics.sh" => "org.apache.kafka.tools.TopicCommand",
            other => bail!("{other} is no tool of Kafka that the test bed knows"),
        };
        // What is measured gets all that the compiler can do.
        let mut java = match script {
            "kafka-producer-perf-test.sh" => self.java(&BROKER, "warn"),
            _ => self.java(&SMALL, "warn"),
        };
        java.arg(class).args(words);
        Answer::of(&mut java, "")
    }

    fn java(&self, options: &[&str], level: &str) -> Command {
        let mut command = Command::new("java");
        command
            .arg("-Xms32m")
            .args(options)
            .arg(format!("-Dorg.slf4j.simpleLogger.defaultLogLevel={level}"))
            .arg("-cp")
            .arg(self.libraries.join("*"));
        command
    }

    fn format(&self, configuration: &Path) -> Result<()> {
        let mut format = self.java(&SMALL, "warn");
        format
            .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"])
            .arg(configuration);
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            format.args([
                "--add-scram",
                &format!("{mechanism}=[name=alice,password=alice-secret]"),
            ]);
        }
        Answer::of(&mut format, "")?.expect_success()?;
        Ok(())
    }

    fn launch(&mut self, run: &Run, index: usize) -> Result<()> {
        let java = self.java(&BROKER, "info");
        let broker = &mut self.brokers[index];
        let mut command = Command::new("sh");
        command
            .args(["-c", LEASH, "leash"])
            .arg(java.get_program())
            .args(java.get_args())
            .arg("kafka.Kafka")
            .arg(&broker.configuration);
        broker.server = Some(Server::start(run, &broker.name, &mut command)?);
        Ok(())
    }

    fn until_ready(&mut self, index: usize) -> Result<()> {
        let begun = Instant::now();
        let broker = &mut self.brokers[index];
        let server = broker.server.as_mut().context("the broker does not run")?;
        loop {
            let log = server.log();
            if log.contains("Kafka Server started") {
                return Ok(());
            }
            if !server.runs() || begun.elapsed() > READY_WITHIN {
                let lines: Vec<_> = log.lines().collect();
                let end = lines[lines.len().saturating_sub(30)..].join("\n");
                bail!(
                    "{} did not get ready; the end of its log:\n{end}",
                    broker.name
                );
            }
            std::thread::sleep(READY_ASKED_EVERY);
        }
    }
}

impl Ports {
    fn free() -> Result<Self> {
        Ok(Self {
            plain: free_port()?,
            tls: free_port()?,
            sasl: free_port()?,
            controller: free_port()?,
        })
    }
}

fn configuration_of(
    id: usize,
    ports: &[Ports],
    data: &Path,
    store: &Path,
    authority: &Authority,
    settings: &[(&str, &str)],
) -> String {
    let own = ports[id - 1];
    let voters: Vec<_> = ports
        .iter()
        .enumerate()
        .map(|(index, ports)| format!("{}@127.0.0.1:{}", index + 1, ports.controller))
        .collect();
    let copies = ports.len();
    let listeners = format!(
        "PLAIN://127.0.0.1:{},TLS://localhost:{},SASL://localhost:{}",
        own.plain, own.tls, own.sasl
    );
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let module = "org.apache.kafka.common.security";
    let mut text = format!(
        "process.roles=broker,controller\n\
         node.id={id}\n\
         controller.quorum.voters={}\n\
         controller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=PLAIN\n\
         listeners={listeners},CONTROLLER://127.0.0.1:{}\n\
         advertised.listeners={listeners}\n\
         listener.security.protocol.map=PLAIN:PLAINTEXT,TLS:SSL,SASL:SASL_SSL,CONTROLLER:PLAINTEXT\n\
         ssl.keystore.type=PEM\n\
         ssl.keystore.location={}\n\
         ssl.truststore.type=PEM\n\
         ssl.truststore.location={}\n\
         listener.name.tls.ssl.client.auth=required\n\
         sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER\n\
         listener.name.sasl.plain.sasl.jaas.config={module}.plain.PlainLoginModule required \
         user_alice=\"alice-secret\";\n\
         listener.name.sasl.scram-sha-256.sasl.jaas.config={scram}\n\
         listener.name.sasl.scram-sha-512.sasl.jaas.config={scram}\n\
         listener.name.sasl.oauthbearer.sasl.jaas.config={module}.oauthbearer.OAuthBearerLoginModule required \
         unsecuredLoginStringClaim_sub=\"broker\";\n\
         log.dirs={}\n\
         auto.create.topics.enable=false\n\
         offsets.topic.num.partitions=1\n\
         offsets.topic.replication.factor={copies}\n\
         transaction.state.log.replication.factor={copies}\n\
         transaction.state.log.min.isr=1\n\
         num.network.threads=2\n\
         num.io.threads=4\n\
         log.cleaner.dedupe.buffer.size=2097152\n\
         log.initial.task.delay.ms=500\n\
         log.retention.check.interval.ms=500\n",
        voters.join(","),
        own.controller,
        store.display(),
        authority.path().display(),
        data.display(),
    );
    for (name, value) in settings {
        text.push_str(&format!("{name}={value}\n"));
    }
    text
}
