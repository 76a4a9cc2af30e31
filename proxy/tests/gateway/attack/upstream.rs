//! An API server that keeps every byte of what it is sent, and answers all of it alike.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the gateway says of itself and of alice. Only what differs from this is in a tape.
const OWN: [&str; 4] = [
    "impersonate-user: alice",
    "impersonate-group: people",
    "x-forwarded-for: 127.0.0.1",
    "accept: application/json",
];

pub(crate) struct Tape {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Tape {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&requests);
        let server = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, Arc::clone(&kept)));
            }
        });
        Self {
            address,
            requests,
            server,
        }
    }

    /// Each request as request line, headers that are not the gateway's own in alphabetical order, an empty line and the
    /// body if there is one.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.requests.lock().clone()
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(mut stream: TcpStream, kept: Arc<Mutex<Vec<String>>>) {
    let mut bytes = Vec::new();
    loop {
        while let Some(length) = whole(&bytes) {
            let request: Vec<u8> = bytes.drain(..length).collect();
            kept.lock().push(tidy(&String::from_utf8_lossy(&request)));
            let mut answer =
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
            if request.starts_with(b"HEAD") {
                answer = &answer[..answer.len() - 2];
            }
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
        if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
            assert!(
                bytes.is_empty(),
                "{:?} is no request",
                String::from_utf8_lossy(&bytes)
            );
            return;
        }
    }
}

/// How long the first request is, once it is there in full. Its length is said by `content-length` or it has no body: the
/// gateway sends nothing else.
fn whole(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    assert!(!head.contains("transfer-encoding"), "{head}");
    let lengths: Vec<usize> = head
        .lines()
        .filter_map(|line| line.strip_prefix("content-length: "))
        .map(|length| length.parse().unwrap())
        .collect();
    assert!(lengths.len() <= 1, "{head}");
    let length = end + lengths.first().unwrap_or(&0);
    (bytes.len() >= length).then_some(length)
}

fn tidy(request: &str) -> String {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap();
    let (target, version) = first.rsplit_once(' ').unwrap();
    assert_eq!(version, "HTTP/1.1");
    let mut headers = Vec::new();
    let mut own = 0;
    for line in lines {
        match line.split_once(": ").map(|(name, _)| name) {
            _ if OWN[..3].contains(&line) => own += 1,
            Some("host" | "audit-id") => own += 1,
            Some("content-length") => {}
            _ if line == OWN[3] => {}
            _ => headers.push(line),
        }
    }
    // Once each, whatever the client has sent.
    if own != 5 {
        headers.push("and not the gateway's own headers");
    }
    headers.sort_unstable();
    let mut tidy = target.to_owned();
    for header in headers {
        tidy.push('|');
        tidy.push_str(header);
    }
    if !body.is_empty() {
        tidy.push_str("||");
        tidy.push_str(body);
    }
    tidy
}
