//! Streams to real pods, through the gateway: what people do with kubectl works byte for byte, over WebSocket and over
//! SPDY, and all of it is in the record.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hoop_tests::testbed::{IMAGE, Kubectl, Need};
use memchr::memmem;
use sha2::{Digest, Sha256};

use crate::compatibility::{self, Client, Feature};
use crate::harness::{Test, node_cluster, tests};
use crate::node::NodeCluster;
use crate::recorded::Recorded;
use crate::terminal::Terminal;

/// How long a line of a log may take from the pod to the person who follows it.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(10);

/// How long a request to a forwarded port may take.
const PORT_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn tests() -> Vec<Test> {
    tests![&[Need::Kubernetes, Need::Node];
        exec_keeps_output_errors_and_exit_code_apart,
        exec_takes_input_byte_for_byte,
        a_terminal_is_resized_and_recorded,
        files_are_copied_both_ways,
        connections_are_forwarded_side_by_side,
        logs_are_read_and_followed,
        attach_talks_to_the_program_of_the_pod,
        debug_adds_a_container_and_attaches_to_it,
        kubectl_proxy_serves_the_api_and_pods,
    ]
}

/// A kubectl, and how it opens streams. The name is that of its pod as well.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    client: Client,
    websocket: bool,
}

const WEBSOCKET: Way = Way {
    name: "websocket",
    client: Client::KubectlWebSocket,
    websocket: true,
};

const WAYS: [Way; 3] = [
    WEBSOCKET,
    Way {
        name: "spdy",
        client: Client::KubectlSpdy,
        websocket: false,
    },
    Way {
        name: "oldest",
        client: Client::KubectlOldest,
        websocket: false,
    },
];

/// The pods of all ways.
fn pods() -> Vec<&'static str> {
    WAYS.iter().map(|way| way.name).collect()
}

/// kubectl as alice.
fn kubectl(cluster: &NodeCluster, way: Way) -> Result<Kubectl> {
    let kubectl = cluster.pipeline.kubectl("alice")?;
    if way.client == Client::KubectlOldest {
        return kubectl.oldest();
    }
    let websocket = way.websocket.to_string();
    Ok(kubectl
        .with_variable("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", &websocket)
        .with_variable("KUBECTL_PORT_FORWARD_WEBSOCKETS", &websocket))
}

/// Which way a stream was opened, by its request: WebSocket is a GET, SPDY a POST.
fn ensure_way(recorded: &Recorded, way: Way) -> Result<()> {
    let method = &recorded.intent["request"]["http_method"];
    let wanted = if way.websocket { "GET" } else { "POST" };
    ensure!(method == wanted, "{} by {method}", way.name);
    Ok(())
}

fn exec_keeps_output_errors_and_exit_code_apart() -> Result<()> {
    let cluster = node_cluster()?;
    let namespace = cluster.server.namespace("execcodes")?;
    cluster.run_pods(&namespace, &pods(), "sleep 1000000")?;
    for way in WAYS {
        let pod = way.name;
        let script = "echo out; echo err >&2; exit 7";
        let answer = kubectl(&cluster, way)?
            .run(&["-n", &namespace, "exec", pod, "--", "sh", "-c", script])?;
        ensure!(answer.code == Some(7), "{answer:?}");
        ensure!(answer.stdout == "out\n", "{answer:?}");
        ensure!(
            answer.stderr == "err\ncommand terminated with exit code 7\n",
            "{answer:?}"
        );
        let recorded = Recorded::one_of_pod(&cluster.pipeline, &namespace, pod, "exec")?;
        ensure_way(&recorded, way)?;
        ensure!(recorded.text("stdout")? == "out\n", "{recorded:?}");
        ensure!(recorded.text("stderr")? == "err\n", "{recorded:?}");
        ensure!(recorded.outcome["exit_code"] == 7, "{recorded:?}");
        ensure!(recorded.outcome["status"] == 101, "{recorded:?}");
        compatibility::works(way.client, &[Feature::Exec]);
    }
    Ok(())
}

fn exec_takes_input_byte_for_byte() -> Result<()> {
    let cluster = node_cluster()?;
    let namespace = cluster.server.namespace("execinput")?;
    cluster.run_pods(&namespace, &pods(), "sleep 1000000")?;
    let input: String = (0..200_000).map(|n| format!("{n}\n")).collect();
    for way in WAYS {
        let pod = way.name;
        let answer = kubectl(&cluster, way)?
            .run_with(
                &["-n", &namespace, "exec", "-i", pod, "--", "sha256sum"],
                &input,
            )?
            .expect_success()?;
        ensure!(
            answer == format!("{}  -\n", digest(input.as_bytes())),
            "{answer}"
        );
        let recorded = Recorded::one_of_pod(&cluster.pipeline, &namespace, pod, "exec")?;
        ensure!(recorded.bytes("stdin")? == input.as_bytes(), "{pod}");
        ensure!(recorded.text("stdout")? == answer, "{pod}");
        ensure!(recorded.outcome["exit_code"] == 0, "{recorded:?}");
        compatibility::works(way.client, &[Feature::ExecInput]);
    }
    Ok(())
}

fn a_terminal_is_resized_and_recorded() -> Result<()> {
    let cluster = node_cluster()?;
    let namespace = cluster.server.namespace("terminal")?;
    cluster.run_pods(&namespace, &pods(), "sleep 1000000")?;
    for way in WAYS {
        let pod = way.name;
        let mut command = kubectl(&cluster, way)?.command();
        command.args(["-n", &namespace, "exec", "-it", pod, "--", "sh"]);
        let mut terminal = Terminal::start(&command, 80, 24)?;
        terminal.expect("# ")?;
        terminal.type_text("stty size; echo it has $((6 * 7)) >&2\r")?;
        terminal.expect("24 80")?;
        terminal.expect("it has 42")?;
        terminal.resize(97, 31)?;
        // The new size takes its own way, so the first look may be too early.
        terminal.type_text("until stty size | grep '31 97'; do sleep 0.1; done\r")?;
        terminal.expect("31 97\r\n")?;
        terminal.type_text("exit 5\r")?;
        let screen = terminal.screen();
        let status = terminal.wait()?;
        ensure!(status.code() == Some(5), "{status}: {screen}");
        let recorded = Recorded::one_of_pod(&cluster.pipeline, &namespace, pod, "exec")?;
        let sizes: Vec<_> = recorded
            .of_kind("stream.resize")
            .map(|event| (event["width"].as_u64(), event["height"].as_u64()))
            .collect();
        ensure!(sizes.first() == Some(&(Some(80), Some(24))), "{sizes:?}");
        ensure!(sizes.contains(&(Some(97), Some(31))), "{sizes:?}");
        // One stream for output and errors, as on any terminal; what is typed is echoed.
        let shown = recorded.text("stdout")?;
        ensure!(
            shown.contains("it has 42") && shown.contains("exit 5"),
            "{shown}"
        );
        ensure!(
            recorded.text("stdin")?.ends_with("exit 5\r"),
            "{recorded:?}"
        );
        ensure!(recorded.outcome["exit_code"] == 5, "{recorded:?}");
        compatibility::works(way.client, &[Feature::Terminal]);
    }
    Ok(())
}

fn files_are_copied_both_ways() -> Result<()> {
    let cluster = node_cluster()?;
    let namespace = cluster.server.namespace("copied")?;
    cluster.run_pods(&namespace, &pods(), "sleep 1000000")?;
    let content = noise(3 << 20);
    for way in WAYS {
        let pod = way.name;
        let kubectl = kubectl(&cluster, way)?;
        let folder = cluster.pipeline.folder().join(format!("copied-{pod}"));
        std::fs::create_dir_all(&folder)?;
        let (here, back) = (folder.join("here.bin"), folder.join("back.bin"));
        std::fs::write(&here, &content)?;
        let there = format!("{namespace}/{pod}:/tmp/there.bin");
        let [here, back] = [&here, &back].map(|path| path.display().to_string());
        kubectl.run(&["cp", &here, &there])?.expect_success()?;
        let sum = [
            "-n",
            &namespace,
            "exec",
            pod,
            "--",
            "sha256sum",
            "/tmp/there.bin",
        ];
        let sum = kubectl.run(&sum)?.expect_success()?;
        ensure!(sum.starts_with(&digest(&content)), "{sum}");
        kubectl.run(&["cp", &there, &back])?.expect_success()?;
        ensure!(std::fs::read(&back)? == content, "{pod}");
        // Both times the record has the file, within the archive that kubectl makes of it.
        let recorded = Recorded::of_pod(&cluster.pipeline, &namespace, pod, "exec")?;
        for channel in ["stdin", "stdout"] {
            let mut holding = 0;
            for exec in &recorded {
                let bytes = exec.bytes(channel)?;
                holding += usize::from(memmem::find(&bytes, &content).is_some());
            }
            ensure!(holding == 1, "the file is in {channel} {holding} times");
        }
        compatibility::works(way.client, &[Feature::Copy]);
    }
    Ok(())
}

fn connections_are_forwarded_side_by_side() -> Result<()> {
    let cluster = node_cluster()?;
    let namespace = cluster.server.namespace("forwarded")?;
    cluster.run_pods(&namespace, &pods(), "httpd -f -p 8080 -h /www")?;
    let body = noise(200_000);
    for way in WAYS {
        let pod = way.name;
        let kubectl = kubectl(&cluster, way)?;
        let forward = [
            "-n",
            &namespace,
            "port-forward",
            &format!("pod/{pod}"),
            ":8080",
        ];
        let (port, mut forward) = serving(&kubectl, &forward, "127.0.0.1:")?;
        let post = [
            format!(
                "POST /cgi-bin/sum HTTP/1.0\r\nContent-Length: {}\r\n\r\n",
                body.len()
            )
            .into_bytes(),
            body.clone(),
        ]
        .concat();
        std::thread::scope(|threads| -> Result<()> {
            let posted = threads.spawn(|| exchange(port, &post));
            for _ in 0..3 {
                let page = exchange(port, b"GET /index.html HTTP/1.0\r\n\r\n")?;
                ensure!(page.ends_with("hello from the pod\n"), "{page}");
            }
            let sum = posted.join().expect("the thread does not panic")?;
            let wanted = format!("{} {}", body.len(), digest(&body));
            ensure!(sum.contains(&wanted), "{sum}");
            Ok(())
        })?;
        forward.kill()?;
        forward.wait()?;
        let recorded = Recorded::one_of_pod(&cluster.pipeline, &namespace, pod, "portforward")?;
        ensure_way(&recorded, way)?;
        let (mut opened, mut closed, mut bytes_in) = (0, 0, 0);
        for connection in recorded.of_kind("stream.connection") {
            ensure!(connection["port"] == 8080, "{connection}");
            match connection["state"].as_str() {
                Some("opened") => opened += 1,
                _ => {
                    closed += 1;
                    bytes_in += connection["bytes_in"].as_u64().unwrap_or_default();
                }
            }
        }
        ensure!(
            (opened, closed) == (4, 4),
            "{opened} opened, {closed} closed"
        );
        ensure!(bytes_in > body.len() as u64, "{bytes_in} bytes to the port");
        let pages = recorded.text("port_out")?;
        ensure!(pages.matches("hello from the pod").count() == 3, "{pages}");
        compatibility::works(way.client, &[Feature::PortForward]);
    }
    Ok(())
}

fn logs_are_read_and_followed() -> Result<()> {
    let cluster = node_cluster()?;
    let namespace = cluster.server.namespace("logs")?;
    let command = "for n in 1 2 3 4 5; do echo line $n; done; sleep 1000000";
    cluster.run_pods(&namespace, &pods(), command)?;
    for way in WAYS {
        read_and_follow(&cluster, &namespace, way)?;
        compatibility::works(way.client, &[Feature::Logs]);
    }
    Ok(())
}

fn read_and_follow(cluster: &NodeCluster, namespace: &str, way: Way) -> Result<()> {
    let (pod, alice) = (way.name, kubectl(cluster, way)?);
    let logs = ["-n", namespace, "logs", pod];
    let read = alice.run(&logs)?.expect_success()?;
    ensure!(read == "line 1\nline 2\nline 3\nline 4\nline 5\n", "{read}");
    let mut follow = alice.start(&["-n", namespace, "logs", "--follow", pod])?;
    let output = follow.stdout.take().context("standard output is piped")?;
    let mut lines = BufReader::new(output).lines();
    for number in 1..=5 {
        let line = lines.next().context("the log ended")??;
        ensure!(line == format!("line {number}"), "{line}");
    }
    for number in 6..=8 {
        let begun = Instant::now();
        let say = format!("echo line {number} > /proc/1/fd/1");
        let say = ["-n", namespace, "exec", pod, "--", "sh", "-c", &say];
        cluster.server.kubectl().run(&say)?.expect_success()?;
        let line = lines.next().context("the log ended")??;
        ensure!(line == format!("line {number}"), "{line}");
        ensure!(begun.elapsed() < FOLLOWED_WITHIN, "{:?}", begun.elapsed());
    }
    follow.kill()?;
    follow.wait()?;
    let recorded = Recorded::of_pod(&cluster.pipeline, namespace, pod, "log")?;
    let texts: Vec<_> = recorded
        .iter()
        .map(|one| one.text("log"))
        .collect::<Result<_>>()?;
    ensure!(texts.len() == 2, "{texts:?}");
    ensure!(
        texts[0] == read || recorded[0].outcome["body"].to_string().contains("line 5"),
        "{recorded:?}"
    );
    ensure!(
        texts[1].starts_with(&read) && texts[1].ends_with("line 8\n"),
        "{texts:?}"
    );
    Ok(())
}

fn attach_talks_to_the_program_of_the_pod() -> Result<()> {
    let cluster = node_cluster()?;
    let namespace = cluster.server.namespace("attach")?;
    let command = "while read line; do echo \"got $line\"; done";
    cluster.run_pods(&namespace, &pods(), command)?;
    for way in WAYS {
        let pod = way.name;
        let answer = kubectl(&cluster, way)?
            .run_with(&["-n", &namespace, "attach", "-i", pod], "one\ntwo\n")?
            .expect_success()?;
        ensure!(answer == "got one\ngot two\n", "{answer}");
        let recorded = Recorded::one_of_pod(&cluster.pipeline, &namespace, pod, "attach")?;
        ensure_way(&recorded, way)?;
        ensure!(recorded.text("stdin")? == "one\ntwo\n", "{recorded:?}");
        ensure!(recorded.text("stdout")? == answer, "{recorded:?}");
        compatibility::works(way.client, &[Feature::Attach]);
    }
    Ok(())
}

fn debug_adds_a_container_and_attaches_to_it() -> Result<()> {
    let cluster = node_cluster()?;
    let namespace = cluster.server.namespace("debug")?;
    cluster.run_pods(&namespace, &pods(), "sleep 1000000")?;
    for way in WAYS {
        let pod = way.name;
        let mut command = kubectl(&cluster, way)?.command();
        command
            .args(["-n", &namespace, "debug", "-it", pod, "--container=side"])
            .arg(format!("--image={IMAGE}"))
            .args(["--", "sh"]);
        let mut terminal = Terminal::start(&command, 80, 24)?;
        terminal.expect("# ")?;
        terminal.type_text("echo $((6 * 7)) from the side\r")?;
        terminal.expect("42 from the side")?;
        terminal.type_text("exit\r")?;
        let screen = terminal.screen();
        ensure!(terminal.wait()?.success(), "{screen}");
        let recorded = Recorded::one_of_pod(&cluster.pipeline, &namespace, pod, "attach")?;
        ensure!(
            recorded.text("stdout")?.contains("42 from the side"),
            "{recorded:?}"
        );
        let added =
            Recorded::one_of_pod(&cluster.pipeline, &namespace, pod, "ephemeralcontainers")?;
        let body = added.intent["body"].to_string();
        ensure!(body.contains("side") && body.contains(IMAGE), "{body}");
        compatibility::works(way.client, &[Feature::Debug]);
    }
    Ok(())
}

fn kubectl_proxy_serves_the_api_and_pods() -> Result<()> {
    let cluster = node_cluster()?;
    let namespace = cluster.server.namespace("proxied")?;
    cluster.run_pods(&namespace, &pods(), "httpd -f -p 8080 -h /www")?;
    for way in WAYS {
        serve_the_api(&cluster, &namespace, way)?;
        compatibility::works(way.client, &[Feature::Proxy]);
    }
    Ok(())
}

fn serve_the_api(cluster: &NodeCluster, namespace: &str, way: Way) -> Result<()> {
    let (name, alice) = (way.name, kubectl(cluster, way)?);
    let (port, mut proxy) = serving(&alice, &["proxy", "--port=0"], "127.0.0.1:")?;
    let get = |path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        exchange(port, head.as_bytes())
    };
    let pod = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    let described = get(&pod)?;
    ensure!(described.contains("httpd -f -p 8080"), "{described}");
    let page = get(&format!("{pod}:8080/proxy/index.html"))?;
    ensure!(page.contains("hello from the pod\n"), "{page}");
    proxy.kill()?;
    proxy.wait()?;
    let pod = format!("{name}:8080");
    let recorded = Recorded::one_of_pod(&cluster.pipeline, namespace, &pod, "proxy")?;
    ensure!(recorded.outcome["status"] == 200, "{recorded:?}");
    Ok(())
}

/// Starts a kubectl that serves a port, and returns the port it chose: what follows `before` on its first line.
fn serving(kubectl: &Kubectl, arguments: &[&str], before: &str) -> Result<(u16, Child)> {
    let mut child = kubectl.start(arguments)?;
    let mut line = String::new();
    let output = child.stdout.as_mut().context("standard output is piped")?;
    BufReader::new(output).read_line(&mut line)?;
    let port = line
        .split_once(before)
        .and_then(|(_, rest)| {
            rest.split(|c: char| !c.is_ascii_digit())
                .next()?
                .parse()
                .ok()
        })
        .with_context(|| format!("no port in {line:?}"))?;
    Ok((port, child))
}

/// Sends bytes to a local port and returns all that comes back.
fn exchange(port: u16, bytes: &[u8]) -> Result<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.set_read_timeout(Some(PORT_TIMEOUT))?;
    connection.write_all(bytes)?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Bytes that do not compress and are the same every time.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 32);
    let mut block: [u8; 32] = Sha256::digest(b"noise").into();
    while bytes.len() < length {
        bytes.extend(block);
        block = Sha256::digest(block).into();
    }
    bytes.truncate(length);
    bytes
}

fn digest(bytes: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    digest.iter().map(|b| format!("{b:02x}")).collect()
}
