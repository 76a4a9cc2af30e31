//! HTTP/1.1, byte by byte.

use hoop_proxy::Limits;

use crate::harness::Bed;

use super::{Row, bed, differences, exchange};

/// What a POST goes to.
const POST: &str = "POST /api/v1/namespaces/a/configmaps";

/// Bytes of a request: `|` ends a line, `@` is alice's credential.
fn http(text: &str) -> Vec<u8> {
    text.replace('@', "Authorization: Bearer token-alice")
        .replace('|', "\r\n")
        .into_bytes()
}

fn row(name: &'static str, text: &str) -> Row {
    Row::of(name, http(text))
}

/// A GET of `/version` with more headers.
fn get(name: &'static str, headers: &str) -> Row {
    row(name, &format!("GET /version HTTP/1.1|Host: x|@|{headers}|"))
}

/// A POST with headers and a body, after which the connection ends.
fn post(name: &'static str, headers: &str, body: &str) -> Row {
    row(name, &format!("{POST} HTTP/1.1|Host: x|@|{headers}|{body}"))
}

/// A GET of a target.
fn target(name: &'static str, target: &str) -> Row {
    row(name, &format!("GET {target} HTTP/1.1|Host: x|@||"))
}

/// A request line of alice.
fn line(name: &'static str, line: &str) -> Row {
    row(name, &format!("{line}|Host: x|@||"))
}

const MALFORMED: &str = "malformed 400";
const PASSED: &str = "GET /version";

impl Row {
    fn malformed(self) -> Self {
        self.refused(400, MALFORMED)
    }

    fn passes_body(self, body: &str) -> Self {
        self.passes(&format!("{POST}||{body}"))
    }
}

/// Sends each row over a connection of its own, to a gateway of its own.
async fn run(rows: Vec<Row>) {
    let mut wrong = Vec::new();
    for row in rows {
        let (bed, tape) = bed(Limits::default()).await;
        let mut stream = bed.connect(None, b"http/1.1").await;
        let count = row.answers.len();
        let got = exchange(&mut stream, &row.sent, |got| {
            count > 0 && statuses(got).len() >= count
        })
        .await;
        drop(stream);
        wrong.extend(differences(&row, statuses(&got), bed, tape).await);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The statuses of answers, none of which has such a line in its body.
fn statuses(got: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(got);
    text.split("HTTP/1.")
        .skip(1)
        .filter_map(|rest| Some(rest.get(2..5)?.to_owned()))
        .collect()
}

#[tokio::test]
async fn a_body_has_one_length() {
    let chunks = "2|{}|0||";
    let both = "Content-Length: 4|Transfer-Encoding: chunked|";
    run(vec![
        post("a length and chunks: the chunks count", both, chunks).passes_body("{}"),
        post(
            "chunks and a length: the chunks count",
            "Transfer-Encoding: chunked|Content-Length: 4|",
            chunks,
        )
        .passes_body("{}"),
        post(
            "what follows the chunks is no request, though the length says so",
            both,
            "2|{}|0||GET /smuggled HTTP/1.1|Host: x|@||",
        )
        .passes_body("{}"),
        post(
            "chunked twice",
            "Transfer-Encoding: chunked|Transfer-Encoding: chunked|",
            chunks,
        )
        .malformed(),
        post(
            "chunked in a list of two",
            "Transfer-Encoding: gzip, chunked|",
            chunks,
        )
        .malformed(),
        post("chunked, but not last", "Transfer-Encoding: chunked, identity|", chunks).malformed(),
        post("nearly chunked", "Transfer-Encoding: xchunked|", chunks).malformed(),
        post("chunked after a tab", "Transfer-Encoding:\tchunked|", chunks).passes_body("{}"),
        post("chunked after a vertical tab", "Transfer-Encoding: \u{b}chunked|", chunks).malformed(),
        post("chunked with a blank before the colon", "Transfer-Encoding : chunked|", chunks).malformed(),
        post("chunked on a folded line", "Transfer-Encoding:| chunked|", chunks).malformed(),
        row(
            "chunked in HTTP/1.0",
            &format!("{POST} HTTP/1.0|@|Transfer-Encoding: chunked||{chunks}"),
        )
        .malformed(),
        post("two equal lengths", "Content-Length: 2|Content-Length: 2|", "{}").passes_body("{}"),
        post("two lengths", "Content-Length: 2|Content-Length: 3|", "{} ").malformed(),
        post("two lengths in a line", "Content-Length: 2, 2|", "{}").malformed(),
        post("a length with a sign", "Content-Length: +2|", "{}").malformed(),
        post("a negative length", "Content-Length: -2|", "{}").malformed(),
        post("a length in hexadecimal", "Content-Length: 0x2|", "{}").malformed(),
        post("a length that is none", "Content-Length: |", "").malformed(),
        post("a length beyond 64 bits", "Content-Length: 18446744073709551618|", "{}").malformed(),
        post("the longest length there is", "Content-Length: 18446744073709551615|", "{}")
            .refused(431, "too_large 431"),
        post("a length beyond the limit", "Content-Length: 99999999|", "{}")
            .refused(413, "too_large 413"),
        row(
            "a GET with a body",
            "GET /version HTTP/1.1|Host: x|@|Content-Length: 2||{}GET /healthz HTTP/1.1|Host: x|@||",
        )
        .passes("GET /version||{}")
        .passes("GET /healthz"),
    ])
    .await;
}

#[tokio::test]
async fn chunks_are_read_in_one_way() {
    let chunked = "Transfer-Encoding: chunked|";
    run(vec![
        post("an extension of a chunk", chunked, "2;a=b|{}|0||").passes_body("{}"),
        post(
            "a chunk of more than 64 bits",
            chunked,
            "fffffffffffffffff|{}|0||",
        )
        .malformed(),
        post("a chunk size with 0x", chunked, "0x2|{}|0||").malformed(),
        post("a chunk size with a sign", chunked, "+2|{}|0||").malformed(),
        post("a negative chunk size", chunked, "-1|{}|0||").malformed(),
        post("no chunk size", chunked, "|{}|0||").malformed(),
        post(
            "a chunk size that ends in a line feed",
            chunked,
            "2\n{}|0||",
        )
        .malformed(),
        post("a chunk that is longer than it says", chunked, "1|{}|0||").malformed(),
        post("a line feed in an extension", chunked, "2;a\nb|{}|0||").malformed(),
        post(
            "a trailer that asks to act as somebody else",
            "Transfer-Encoding: chunked|Trailer: Impersonate-User|",
            "2|{}|0|Impersonate-User: root||",
        )
        .passes_body("{}"),
        post(
            "what follows the last chunk is the next request",
            chunked,
            "2|{}|0||GET /version HTTP/1.1|Host: x|@||",
        )
        .passes_body("{}")
        .passes(PASSED),
    ])
    .await;
}

#[tokio::test]
async fn lines_and_headers_are_read_in_one_way() {
    run(vec![
        row("line feeds alone", "GET /version HTTP/1.1\nHost: x\n@\n\n").passes(PASSED),
        get(
            "a header behind a line feed is a header",
            "X: b\nImpersonate-User: root|",
        )
        .refused(403, "impersonation_refused 403"),
        get(
            "a carriage return in a value",
            "X: b\rImpersonate-User: root|",
        )
        .malformed(),
        get("a folded line", "X: a| b|").malformed(),
        get("a blank before the colon", "Impersonate-User : root|").malformed(),
        get("a blank in a name", "Imper sonate: root|").malformed(),
        get("no name", ": x|").malformed(),
        get("no colon", "impersonate|").malformed(),
        get("a zero byte in a value", "X: a\0b|").malformed(),
        get("a zero byte in a name", "X\0: a|").malformed(),
        row(
            "a blank before the first header",
            "GET /version HTTP/1.1| Host: x|@||",
        )
        .malformed(),
        row("empty lines first", "|||GET /version HTTP/1.1|Host: x|@||").passes(PASSED),
        row(
            "two requests at once",
            "GET /version HTTP/1.1|Host: x|@||GET /healthz HTTP/1.1|Host: y||",
        )
        .passes(PASSED)
        .refused(401, "unauthenticated 401"),
        row(
            "a request and then none",
            "GET /version HTTP/1.1|Host: x|@||\u{1}\u{2}||",
        )
        .passes(PASSED)
        .malformed(),
        get("several hosts", "Host: evil|").passes(PASSED),
        row("no host", "GET /version HTTP/1.1|@||").passes(PASSED),
        row(
            "a wait for permission to send the body",
            &format!("{POST} HTTP/1.1|Host: x|@|Expect: 100-continue|Content-Length: 2||{{}}"),
        )
        .answered("100")
        .passes_body("{}"),
        get("an expectation that nobody knows", "Expect: the worst|").passes(PASSED),
        line("HTTP/1.0", "GET /version HTTP/1.0").passes(PASSED),
        line("HTTP/1.2", "GET /version HTTP/1.2").malformed(),
        line("HTTP/2.0 in words", "GET /version HTTP/2.0").malformed(),
        line("HTTP/9.9", "GET /version HTTP/9.9").malformed(),
        row("HTTP/0.9", "GET /version|").malformed(),
        row("the preface of HTTP/2", "PRI * HTTP/2.0||SM||").recorded("malformed 0"),
        row("TLS inside TLS", "\u{16}\u{3}\u{1}||").malformed(),
    ])
    .await;
}

#[tokio::test]
async fn a_target_is_read_in_one_way() {
    let configmaps = "/api/v1/namespaces/a/configmaps";
    let invalid = http("GET /version?\u{1} HTTP/1.1|Host: x|@||")
        .into_iter()
        .map(|byte| if byte == 1 { 0xff } else { byte });
    run(vec![
        target("of another host", "http://evil/version").passes(PASSED),
        target("of another host, and its user", "http://root@evil/version").malformed(),
        target("with a scheme and no host", "https:/version").malformed(),
        target("with a foreign scheme", "ftp://evil/version").passes(PASSED),
        target("a host alone", "evil:443").malformed(),
        line("a tunnel", "CONNECT evil:443 HTTP/1.1").malformed(),
        line("a tunnel to a path", "CONNECT /version HTTP/1.1").refused(405, "malformed 405"),
        target("a star", "*").malformed(),
        line("a star with its method", "OPTIONS * HTTP/1.1").malformed(),
        target("empty", "").malformed(),
        target("no slash first", "version").malformed(),
        target("a fragment", "/version#/../secrets").passes(PASSED),
        target("an encoded fragment", "/version%23").malformed(),
        target("two slashes first", "//version").malformed(),
        target("two slashes", "/api/v1//namespaces").malformed(),
        target("a dot", "/api/./v1").malformed(),
        target("two dots", "/api/v1/namespaces/a/../b/secrets").malformed(),
        target("two dots, encoded", "/api/v1/namespaces/a/%2e%2e/b/secrets").malformed(),
        target("an encoded slash", "/api/v1/namespaces/a%2fsecrets").malformed(),
        target("slashes all encoded", "/api%2Fv1%2Fsecrets").malformed(),
        target(
            "exec behind an encoded slash",
            "/api/v1/namespaces/a/pods/p%2Fexec",
        )
        .malformed(),
        target("encoded twice", "/api/v1/namespaces/a%252fsecrets").malformed(),
        target("a semicolon", "/api/v1/namespaces/a;b/configmaps").malformed(),
        target("a zero byte, encoded", "/api/v1/namespaces/a%00/configmaps").malformed(),
        target("a line feed, encoded", "/api/v1/namespaces/a%0d%0aX:%20y").malformed(),
        target("a backslash", "/api\\v1").malformed(),
        target("a backslash, encoded", "/api/v1/namespaces/a%5cb").malformed(),
        target("half an escape", "/api/v1/namespaces/a%4").malformed(),
        target("an escape that is none", "/api/v1/namespaces/a%zz").malformed(),
        target(
            "bytes that are no UTF-8, encoded",
            "/api/v1/namespaces/a%ff",
        )
        .malformed(),
        Row::of("bytes that are no UTF-8", invalid.collect()).malformed(),
        target("a blank", "/version x").malformed(),
        target("a zero byte", "/version\0").malformed(),
        target(
            "encoded letters pass as they are",
            "/api/v1/namespaces/a/c%6fnfigmaps",
        )
        .passes("GET /api/v1/namespaces/a/c%6fnfigmaps"),
        target("one slash last", "/api/v1/namespaces/a/configmaps/")
            .passes(&format!("GET {configmaps}/")),
        target(
            "a query with a semicolon",
            &format!("{configmaps}?watch=true;x=y"),
        )
        .malformed(),
        target("a query that is no UTF-8", &format!("{configmaps}?x=%ff")).malformed(),
        target(
            "a second question mark",
            &format!("{configmaps}?x=1?watch=true"),
        )
        .passes(&format!("GET {configmaps}?x=1?watch=true")),
    ])
    .await;
}

#[tokio::test]
async fn no_header_says_who_somebody_is() {
    let token = "base64url.bearer.authorization.k8s.io.dG9rZW4tcm9ib3Q";
    run(vec![
        get("the connection takes a header away", "Connection: Impersonate-User, Impersonate-Group|")
            .passes(PASSED),
        get("the connection takes the credential away", "Connection: Authorization, Host|").passes(PASSED),
        get("the connection takes the name away", "Connection: Audit-ID, X-Forwarded-For, X-Remote-User|")
            .passes(PASSED),
        get("the connection takes its own headers", "Connection: X-Own, close|X-Own: 1|").passes(PASSED),
        get("with underscores", "Impersonate_User: root|").refused(403, "impersonation_refused 403"),
        get("somebody else", "Impersonate-User: root|").refused(403, "impersonation_refused 403"),
        get("somebody else, in a new way", "Impersonate-Anything: root|")
            .refused(403, "impersonation_refused 403"),
        get("a group alone", "IMPERSONATE-GROUP: system:masters|")
            .refused(403, "impersonation_refused 403"),
        get("a uid alone", "Impersonate-Uid: 0|").refused(403, "impersonation_refused 403"),
        get("who a front proxy says it is", "X-Remote-User: root|X-Remote-Group: system:masters|X-Remote-Uid: 0|")
            .passes(PASSED),
        get("the same with underscores", "X_Remote_User: root|x_remote_group: system:masters|").passes(PASSED),
        get("where it comes from", "X-Forwarded-For: 10.0.0.1|Forwarded: for=10.0.0.1|X-Real-IP: 10.0.0.1|Via: 1.1 x|")
            .passes(PASSED),
        get("its name", "Audit-ID: mine|").passes(PASSED),
        get("a cookie", "Cookie: session=1|Proxy-Authorization: Basic dTpw|").passes(PASSED),
        get("two credentials", "Authorization: Bearer token-robot|").refused(401, "unauthenticated 401"),
        get("the same credential twice", "@|").refused(401, "unauthenticated 401"),
        row("a blank too many", "GET /version HTTP/1.1|Authorization: Bearer  token-alice||")
            .refused(401, "unauthenticated 401"),
        row("another scheme", "GET /version HTTP/1.1|Authorization: Basic dG9rZW4tYWxpY2U=||")
            .refused(401, "unauthenticated 401"),
        get("a credential for browsers beside the one that counts", &format!(
            "Sec-WebSocket-Protocol: {token}, v5.channel.k8s.io|"
        ))
        .passes(PASSED),
        get("another method", "X-HTTP-Method-Override: DELETE|X-Method-Override: DELETE|X-HTTP-Method: DELETE|_method: DELETE|")
            .passes("GET /version|_method: DELETE"),
        get("another target", "X-Original-URL: /api/v1/secrets|X-Rewrite-URL: /api/v1/secrets|").passes(PASSED),
        get("hop by hop", "Keep-Alive: 1|TE: trailers|Proxy-Connection: keep-alive|Trailer: x|").passes(PASSED),
    ])
    .await;
}

#[tokio::test]
async fn upgrades_that_nobody_serves_are_refused() {
    let refused = |row: Row| row.refused(403, "upgrade_refused 403");
    let upgrade = |name, target: &str, headers: &str| {
        row(name, &format!("GET {target} HTTP/1.1|Host: x|@|{headers}|"))
    };
    let websocket = "Connection: Upgrade|Upgrade: websocket|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==|";
    let exec = "/api/v1/namespaces/a/pods/p/exec?command=sh";
    run(vec![
        refused(upgrade(
            "to HTTP/2",
            "/version",
            "Connection: Upgrade, HTTP2-Settings|Upgrade: h2c|HTTP2-Settings: AAMAAABk|",
        )),
        refused(upgrade(
            "of a secret",
            "/api/v1/namespaces/a/secrets/s",
            websocket,
        )),
        refused(upgrade("of a list", "/api/v1/secrets", websocket)),
        refused(upgrade("of a bare path", "/healthz", websocket)),
        refused(upgrade(
            "announced only",
            "/version",
            "Connection: Upgrade|",
        )),
        refused(upgrade("not announced", "/version", "Upgrade: websocket|")),
        refused(upgrade(
            "of exec, to two protocols",
            exec,
            "Connection: Upgrade|Upgrade: websocket, SPDY/3.1|",
        )),
        refused(upgrade("of exec, to none", exec, "")),
        refused(row(
            "of exec, in HTTP/1.0",
            &format!("GET {exec} HTTP/1.0|@|{websocket}|"),
        )),
        refused(upgrade(
            "and then a request",
            "/version",
            "Connection: Upgrade|Upgrade: TLS/1.0|",
        ))
        .recorded_next(),
    ])
    .await;
}

#[tokio::test]
async fn methods_that_nobody_serves_are_refused() {
    let unknown = |row: Row| row.refused(405, "malformed 405");
    run(vec![
        unknown(line("TRACE", "TRACE /version HTTP/1.1")),
        unknown(line("lower case", "get /version HTTP/1.1")),
        unknown(line("unknown", "BREW /version HTTP/1.1")),
        unknown(line(
            "OPTIONS of a resource",
            "OPTIONS /api/v1/pods HTTP/1.1",
        )),
        unknown(line(
            "OPTIONS of exec",
            "OPTIONS /api/v1/namespaces/a/pods/p/exec?command=sh HTTP/1.1",
        )),
        unknown(line("of WebDAV", "PROPFIND /api/v1/pods HTTP/1.1")),
        line("OPTIONS of a bare path", "OPTIONS /version HTTP/1.1").passes("OPTIONS /version"),
        line(
            "a watch by another method",
            "DELETE /api/v1/watch/pods HTTP/1.1",
        )
        .malformed(),
        line(
            "a proxy prefix",
            "GET /api/v1/proxy/namespaces/a/pods/p HTTP/1.1",
        )
        .malformed(),
        line("a prefix and nothing", "GET /api/v1/watch HTTP/1.1").malformed(),
        line(
            "HEAD of a watch",
            "HEAD /api/v1/namespaces/a/configmaps?watch=1 HTTP/1.1",
        )
        .passes("HEAD /api/v1/namespaces/a/configmaps?watch=1"),
        line(
            "HEAD of an object",
            "HEAD /api/v1/namespaces/a/configmaps/c HTTP/1.1",
        )
        .passes("HEAD /api/v1/namespaces/a/configmaps/c"),
    ])
    .await;
}

impl Row {
    /// The same, and one more request over the same connection, which is one like any other.
    fn recorded_next(mut self) -> Self {
        self.sent.extend(http("GET /version HTTP/1.1|Host: x|@||"));
        self.passes(PASSED)
    }
}

#[tokio::test]
async fn too_much_is_refused() {
    let long = |n: usize| "x".repeat(n);
    let many = |n: usize| (0..n).map(|i| format!("x-{i}: 1|")).collect::<String>();
    run(vec![
        target("a target of 60 KB", &format!("/version?{}", long(60_000)))
            .passes(&format!("GET /version?{}", long(60_000))),
        target("a target of 70 KB", &format!("/version?{}", long(70_000)))
            .refused(414, "too_large 414"),
        line(
            "a method of 10 KB",
            &format!("{} /version HTTP/1.1", "A".repeat(10_000)),
        )
        .refused(405, "malformed 405"),
        get("a header of 300 KB", &format!("X: {}|", long(300_000))).refused(431, "too_large 431"),
        get("a header of 600 KB", &format!("X: {}|", long(600_000))).refused(431, "too_large 431"),
        get("a name of 70 KB", &format!("{}: x|", long(70_000))).refused(431, "too_large 431"),
        get(
            "headers of 300 KB",
            &(0..100)
                .map(|i| format!("x-{i}: {}|", long(3000)))
                .collect::<String>(),
        )
        .refused(431, "too_large 431"),
        get("300 headers", &many(300)).refused(431, "too_large 431"),
        get("600 headers", &many(600)).refused(431, "too_large 431"),
        get(
            "300 connection options",
            &format!("Connection: {}|", many(300).replace(": 1|", ",")),
        )
        .passes(PASSED),
        row(
            "a credential of 20 KB",
            &format!(
                "GET /version HTTP/1.1|Authorization: Bearer {}||",
                long(20_000)
            ),
        )
        .refused(401, "unauthenticated 401"),
        post(
            "a body of 4 MB in chunks",
            "Transfer-Encoding: chunked|",
            &format!("400000|{}|0||", long(0x40_0000)),
        )
        .refused(413, "too_large 413"),
    ])
    .await;
}

#[tokio::test]
async fn of_three_credentials_the_certificate_counts() {
    let bed = Bed::start().await;
    let own = bed.ca.client("carol", "certified", false);
    let mut stream = bed.connect(Some(own), b"http/1.1").await;
    let sent = http(
        "GET /version HTTP/1.1|Host: x|@|Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.dG9rZW4tcm9ib3Q, x||",
    );
    let got = exchange(&mut stream, &sent, |got| !statuses(got).is_empty()).await;
    assert_eq!(statuses(&got), ["200"]);
    let seen = bed.cluster.seen().pop().unwrap();
    assert_eq!(seen.user.as_deref(), Some("carol"));
    assert_eq!(seen.header("sec-websocket-protocol"), None);
}
