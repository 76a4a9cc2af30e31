//! The load: connections that ask for the same thing again and again, each waiting for its answer.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::process;

const POD: &str = "/api/v1/namespaces/shop/pods/web-6d4b75cb6d-hk2vp";

/// Before measuring: connections are made, and pools and caches are warm.
const WARM_UP: Duration = Duration::from_secs(1);

pub(crate) struct Plan {
    pub(crate) connections: usize,
    pub(crate) seconds: u64,
    pub(crate) pid: u32,
}

pub(crate) async fn drive(dir: &Path, address: &str, token: &str, plan: &Plan) {
    let connector = connector(dir);
    let request: Arc<[u8]> = head(POD, token).into();
    let begin = Instant::now() + WARM_UP;
    let end = begin + Duration::from_secs(plan.seconds);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..plan.connections {
        let (connector, request, address) =
            (connector.clone(), Arc::clone(&request), address.to_owned());
        tasks.spawn(async move {
            let mut stream = connect(&connector, &address).await;
            let mut times = Vec::new();
            let mut buffer = Vec::with_capacity(64 * 1024);
            while Instant::now() < end {
                let sent = Instant::now();
                stream.write_all(&request).await.unwrap();
                stream.flush().await.unwrap();
                answer(&mut stream, &mut buffer).await;
                if sent >= begin {
                    times.push(sent.elapsed());
                }
            }
            times
        });
    }
    tokio::time::sleep_until(begin.into()).await;
    let cpu = process::cpu(plan.pid);
    tokio::time::sleep_until(end.into()).await;
    let cpu = process::cpu(plan.pid) - cpu;
    let mut times: Vec<Duration> = Vec::new();
    while let Some(more) = tasks.join_next().await {
        times.extend(more.unwrap());
    }
    times.sort_unstable();
    let count = times.len();
    println!(
        "requests_per_s={} p50_us={} p99_us={} cpu_us_per_request={:.1}",
        count as u64 / plan.seconds,
        times[count / 2].as_micros(),
        times[count * 99 / 100].as_micros(),
        cpu.as_secs_f64() * 1e6 / count as f64,
    );
}

/// Fetches the list of secrets and says how fast it came.
pub(crate) async fn fetch(dir: &Path, address: &str, token: &str, pid: u32) {
    let mut stream = connect(&connector(dir), address).await;
    // A small request first, so that connections are there.
    let mut buffer = Vec::new();
    stream.write_all(&head(POD, token)).await.unwrap();
    answer(&mut stream, &mut buffer).await;
    let memory = process::memory_max(pid);
    let cpu = process::cpu(pid);
    let begin = Instant::now();
    stream
        .write_all(&head("/api/v1/secrets", token))
        .await
        .unwrap();
    let mut buffer = vec![0; 256 * 1024];
    let (mut bytes, mut tail, mut first) = (0, Vec::new(), None);
    loop {
        let n = stream.read(&mut buffer).await.unwrap();
        assert!(n > 0, "the list is cut off after {bytes} bytes");
        first.get_or_insert_with(|| begin.elapsed());
        bytes += n;
        tail.extend_from_slice(&buffer[n.saturating_sub(8)..n]);
        tail.drain(..tail.len().saturating_sub(7));
        if tail.ends_with(b"\r\n0\r\n\r\n") {
            break;
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "mb={} seconds={seconds:.3} mb_per_s={:.0} first_byte_ms={:.1} cpu_s={:.2} memory_growth_mib={}",
        bytes / 1_000_000,
        bytes as f64 / 1e6 / seconds,
        first.unwrap_or_default().as_secs_f64() * 1e3,
        (process::cpu(pid) - cpu).as_secs_f64(),
        process::memory_max(pid) - memory,
    );
}

fn head(target: &str, token: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: kubectl/v1.36.0 (linux/amd64) kubernetes/abcdef\r\n\
         Accept: application/json\r\nKubectl-Command: kubectl get\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    .into_bytes()
}

pub(crate) fn connector(dir: &Path) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(dir.join("ca.pem")).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}

pub(crate) async fn connect(connector: &TlsConnector, address: &str) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    connector
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await
        .unwrap()
}

/// Reads one answer of known length.
async fn answer(stream: &mut TlsStream<TcpStream>, buffer: &mut Vec<u8>) {
    buffer.clear();
    let mut end = usize::MAX;
    while buffer.len() < end {
        assert!(stream.read_buf(buffer).await.unwrap() > 0, "no answer");
        if end == usize::MAX
            && let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n")
        {
            let head = std::str::from_utf8(&buffer[..at]).unwrap();
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            let length = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .unwrap_or_else(|| panic!("no length in {head}"));
            end = at + 4 + length.1.parse::<usize>().unwrap();
        }
    }
}
