//! HTTP/2, frame by frame.

use hoop_proxy::Limits;

use super::{Row, bed, differences, exchange};

/// Opens a connection: the preface, and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

type Field = (&'static str, &'static str);

/// Alice asks for the version.
pub(super) const GET: [Field; 5] = [
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "gateway"),
    (":path", "/version"),
    ("authorization", "Bearer token-alice"),
];

pub(super) fn preface() -> Vec<u8> {
    PREFACE.to_vec()
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// Fields as HPACK writes them that it has never seen, without Huffman's code (RFC 7541 §6.2.2).
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        let mut out = Vec::new();
        if text.len() < 0x7f {
            out.push(u8::try_from(text.len()).unwrap());
        } else {
            out.push(0x7f);
            let mut rest = text.len() - 0x7f;
            while rest >= 0x80 {
                out.push(u8::try_from(rest % 0x80).unwrap() | 0x80);
                rest /= 0x80;
            }
            out.push(u8::try_from(rest).unwrap());
        }
        out.extend_from_slice(text.as_bytes());
        out
    };
    fields
        .iter()
        .flat_map(|(name, value)| [vec![0], text(name), text(value)].concat())
        .collect()
}

/// The only request of a connection.
fn request(fields: &[(&str, &str)]) -> Vec<u8> {
    let head = frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(fields));
    [PREFACE, &head].concat()
}

/// The same with a body and perhaps trailers.
fn request_with(fields: &[(&str, &str)], rest: &[Vec<u8>]) -> Vec<u8> {
    let head = frame(HEADERS, END_HEADERS, 1, &block(fields));
    [PREFACE, &head, &rest.concat()].concat()
}

/// A GET with more fields.
fn get(name: &'static str, more: &[Field]) -> Row {
    Row::of(name, request(&[&GET, more].concat()))
}

/// A GET with another value for one of its fields.
fn but(name: &'static str, field: &str, value: &'static str) -> Row {
    let other = |(known, was)| (known, if known == field { value } else { was });
    Row::of(name, request(&GET.map(other)))
}

/// A GET without one of its fields.
fn without(name: &'static str, field: &str) -> Row {
    let fields: Vec<_> = GET
        .into_iter()
        .filter(|(known, _)| *known != field)
        .collect();
    Row::of(name, request(&fields))
}

/// Frames after the preface.
fn frames(name: &'static str, frames: &[Vec<u8>]) -> Row {
    Row::of(name, [PREFACE, &frames.concat()].concat())
}

impl Row {
    /// The stream is reset: a malformed request (RFC 9113 §8.1.1).
    fn reset(self) -> Self {
        self.answered("reset 1").recorded("malformed 0")
    }

    /// The connection is given up.
    fn goaway(self, error: &str) -> Self {
        self.answered(&format!("goaway {error}"))
            .recorded("malformed 0")
    }
}

async fn run(rows: Vec<Row>) {
    let mut wrong = Vec::new();
    for row in rows {
        let (bed, tape) = bed(Limits::default()).await;
        let mut stream = bed.connect(None, b"h2").await;
        let count = row.answers.len();
        let got = exchange(&mut stream, &row.sent, |got| {
            count > 0 && answers(got).len() >= count
        })
        .await;
        drop(stream);
        wrong.extend(differences(&row, answers(&got), bed, tape).await);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The statuses, resets and farewells in what the gateway sends.
pub(super) fn answers(mut got: &[u8]) -> Vec<String> {
    let mut answers = Vec::new();
    while got.len() >= 9 {
        let length = usize::from(got[1]) << 8 | usize::from(got[2]);
        if got.len() < 9 + length {
            break;
        }
        let (head, rest) = got.split_at(9);
        let (payload, rest) = rest.split_at(length);
        let error = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match head[3] {
            HEADERS => answers.push(status(payload)),
            RST_STREAM if error(0) != 0 => answers.push(format!("reset {}", error(0))),
            GOAWAY if error(4) != 0 => answers.push(format!("goaway {}", error(4))),
            _ => {}
        }
        got = rest;
    }
    answers
}

/// `:status`, the first field of an answer: in HPACK's static table, or its digits in Huffman's code.
fn status(block: &[u8]) -> String {
    const KNOWN: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];
    if let [indexed @ 0x88..=0x8e, ..] = block {
        return KNOWN[usize::from(indexed - 0x88)].to_owned();
    }
    assert_eq!(block[0], 0x48, "{block:?}");
    let length = usize::from(block[1] & 0x7f);
    let bits: String = block[2..2 + length]
        .iter()
        .map(|b| format!("{b:08b}"))
        .collect();
    let mut bits = bits.as_str();
    let mut digits = String::new();
    while digits.len() < 3 {
        let (code, rest) = bits.split_at(if bits.starts_with("000") { 5 } else { 6 });
        let value = u8::from_str_radix(code, 2).unwrap();
        // RFC 7541, appendix B: 0 to 2 have five bits, the rest six and begin at 011001.
        let digit = if code.len() == 5 {
            value
        } else {
            value - 0b01_1001 + 3
        };
        digits += &digit.to_string();
        bits = rest;
    }
    digits
}

const PASSED: &str = "GET /version";

#[tokio::test]
async fn pseudo_headers_are_there_once_and_first() {
    let [method, scheme, authority, path, token] = GET;
    let order = |name, fields: &[Field]| Row::of(name, request(fields));
    run(vec![
        order("as it should be", &GET).passes(PASSED),
        get("two paths", &[(":path", "/api/v1/secrets")]).reset(),
        order("two paths in a row", &[method, scheme, path, path, token]).reset(),
        order("two methods", &[method, method, scheme, path, token]).reset(),
        order("two schemes", &[method, scheme, scheme, path, token]).reset(),
        order(
            "two authorities",
            &[method, scheme, authority, authority, path, token],
        )
        .reset(),
        order("a path after a header", &[method, scheme, token, path]).reset(),
        without("no method", ":method").reset(),
        without("no scheme", ":scheme").reset(),
        without("no path", ":path").reset(),
        without("no authority", ":authority").passes(PASSED),
        but("an empty path", ":path", "").reset(),
        but("an empty method", ":method", "").goaway("1"),
        order(
            "a status",
            &[method, scheme, path, (":status", "200"), token],
        )
        .reset(),
        order(
            "one that nobody knows",
            &[method, scheme, path, (":evil", "1"), token],
        )
        .goaway("1"),
        get("a host of its own", &[("host", "evil")]).passes(PASSED),
        but("an odd authority", ":authority", "root@evil:1").passes(PASSED),
        but("an authority that is none", ":authority", "a b").reset(),
        but("a scheme that is none", ":scheme", "h t").reset(),
        but("another scheme", ":scheme", "ftp").passes(PASSED),
    ])
    .await;
}

#[tokio::test]
async fn a_path_and_a_method_are_read_in_one_way() {
    let path = |name, value| but(name, ":path", value);
    let malformed = |row: Row| row.refused(400, "malformed 400");
    let [_, scheme, authority, path_field, token] = GET;
    run(vec![
        path("absolute", "http://evil/version").reset(),
        malformed(path("a star", "*")),
        path("no slash first", "version").reset(),
        path("a fragment", "/version#/../x").passes(PASSED),
        malformed(path("two slashes", "//version")),
        malformed(path("an encoded slash", "/api/v1/namespaces/a%2fsecrets")),
        malformed(path("two dots", "/api/v1/namespaces/a/../b/secrets")),
        path("a blank", "/version x").reset(),
        path(
            "a line of its own",
            "/version HTTP/1.1\r\nImpersonate-User: root\r\nX: ",
        )
        .reset(),
        path("a zero byte", "/version\0").reset(),
        but("lower case", ":method", "get").refused(405, "malformed 405"),
        but("TRACE", ":method", "TRACE").refused(405, "malformed 405"),
        but("a line in the method", ":method", "GET /x HTTP/1.1\r\nX: y").goaway("1"),
        Row::of(
            "a tunnel",
            request(&[(":method", "CONNECT"), authority, token]),
        )
        .refused(400, "malformed 400"),
        Row::of(
            "a tunnel with a path",
            request(&[(":method", "CONNECT"), scheme, authority, path_field, token]),
        )
        .reset(),
        Row::of(
            "a WebSocket (RFC 8441), which was not offered",
            request(&[
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                scheme,
                authority,
                (":path", "/api/v1/namespaces/a/pods/p/exec?command=sh"),
                token,
            ]),
        )
        .reset(),
    ])
    .await;
}

#[tokio::test]
async fn headers_are_read_in_one_way() {
    run(vec![
        get("upper case", &[("Impersonate-User", "root")]).goaway("1"),
        get("connection", &[("connection", "impersonate-user")]).reset(),
        get("transfer-encoding", &[("transfer-encoding", "chunked")]).reset(),
        get("upgrade", &[("upgrade", "websocket")]).reset(),
        get("keep-alive", &[("keep-alive", "1")]).reset(),
        get("proxy-connection", &[("proxy-connection", "close")]).reset(),
        get("te of something else", &[("te", "gzip")]).reset(),
        get("te of trailers", &[("te", "trailers")]).passes(PASSED),
        get("a line in a value", &[("x", "a\r\nimpersonate-user: root")]).goaway("1"),
        get(
            "a line feed in a value",
            &[("x", "a\nimpersonate-user: root")],
        )
        .goaway("1"),
        get("a zero byte in a value", &[("x", "a\0b")]).goaway("1"),
        get("a blank in a name", &[("x y", "z")]).goaway("1"),
        get("a colon in a name", &[("impersonate-user: root\r\nx", "z")]).goaway("1"),
        get("an empty name", &[("", "z")]).goaway("1"),
        get("somebody else", &[("impersonate-user", "root")])
            .refused(403, "impersonation_refused 403"),
        get(
            "somebody else behind a blank",
            &[("impersonate-user", " root")],
        )
        .refused(403, "impersonation_refused 403"),
        get(
            "with underscores",
            &[("impersonate_group", "system:masters")],
        )
        .refused(403, "impersonation_refused 403"),
        get(
            "two credentials",
            &[("authorization", "Bearer token-robot")],
        )
        .refused(401, "unauthenticated 401"),
        get(
            "a cookie in crumbs",
            &[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")],
        )
        .passes(PASSED),
        get("a header with blanks around it", &[("x", " a ")]).passes("GET /version|x:  a "),
        get("an expectation", &[("expect", "100-continue")]).passes(PASSED),
        get("the same header often", &[("x", "1"), ("x", "2")]).passes("GET /version|x: 1|x: 2"),
    ])
    .await;
}

#[tokio::test]
async fn a_body_has_one_length() {
    let post = [
        (":method", "POST"),
        GET[1],
        GET[2],
        (":path", "/api/v1/namespaces/a/configmaps"),
        GET[4],
    ];
    let passed = "POST /api/v1/namespaces/a/configmaps";
    let with = |name, length: &'static str, rest: &[Vec<u8>]| {
        let fields = [&post[..], &[("content-length", length)]].concat();
        Row::of(name, request_with(&fields, rest))
    };
    let data = |flags, bytes: &[u8]| frame(DATA, flags, 1, bytes);
    let trailers =
        |fields: &[(&str, &str)]| frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(fields));
    run(vec![
        with("as long as it says", "2", &[data(END_STREAM, b"{}")])
            .passes(&format!("{passed}||{{}}")),
        with("longer than it says", "1", &[data(END_STREAM, b"{}")])
            .answered("reset 1")
            .recorded("malformed 400 client_closed"),
        with("shorter than it says", "3", &[data(END_STREAM, b"{}")])
            .answered("reset 1")
            .recorded("malformed 400 client_closed"),
        Row::of(
            "none, but with a length",
            request(&[&post[..], &[("content-length", "2")]].concat()),
        )
        .reset(),
        with("a length that is none", "+2", &[data(END_STREAM, b"{}")]).reset(),
        with("two lengths", "2", &[data(END_STREAM, b"{}")])
            .also_long("3")
            .reset(),
        with(
            "in pieces, with trailers",
            "2",
            &[
                data(0, b"{"),
                data(0, b""),
                data(0, b"}"),
                trailers(&[("impersonate-user", "root")]),
            ],
        )
        .passes(&format!("{passed}||{{}}")),
        with(
            "a second head",
            "2",
            &[data(0, b"{}"), trailers(&[(":path", "/api/v1/secrets")])],
        )
        // Trailers go nowhere, whatever they say.
        .passes(&format!("{passed}||{{}}")),
    ])
    .await;
}

impl Row {
    /// The same with a second length.
    fn also_long(mut self, length: &'static str) -> Self {
        let fields = [
            (":method", "POST"),
            GET[1],
            GET[2],
            (":path", "/api/v1/namespaces/a/configmaps"),
            GET[4],
            ("content-length", "2"),
            ("content-length", length),
        ];
        self.sent = request_with(&fields, &[frame(DATA, END_STREAM, 1, b"{}")]);
        self
    }
}

#[tokio::test]
async fn frames_out_of_place_end_the_connection() {
    let head = |stream| frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&GET));
    run(vec![
        frames("an even stream", &[head(2)]).goaway("1"),
        frames("no stream", &[head(0)]).goaway("1"),
        frames("a body without a head", &[frame(DATA, 0, 1, b"x")]).goaway("1"),
        frames(
            "a promise of the client",
            &[frame(5, END_HEADERS, 1, &[0, 0, 0, 2])],
        )
        .goaway("1"),
        frames(
            "a continuation of nothing",
            &[frame(CONTINUATION, END_HEADERS, 1, b"")],
        )
        .goaway("1"),
        frames(
            "a head that is interrupted",
            &[
                frame(HEADERS, END_STREAM, 1, &block(&GET)),
                frame(PING, 0, 0, &[0; 8]),
            ],
        )
        .goaway("1"),
        frames(
            "a head that is no HPACK",
            &[frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xff; 20])],
        )
        .goaway("1"),
        frames(
            "a field that the table does not have",
            &[frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xbe])],
        )
        .goaway("1"),
        frames(
            "a frame that is too long",
            &[frame(DATA, 0, 1, &[0; 20_000])],
        )
        .goaway("6"),
        frames("settings that are cut", &[frame(SETTINGS, 0, 0, &[0; 5])]).goaway("1"),
        frames(
            "settings that are not possible",
            &[frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])],
        )
        .goaway("1"),
        frames("a window of nothing", &[frame(8, 0, 0, &[0; 4])]).goaway("1"),
        frames(
            "a frame that nobody knows",
            &[frame(0xfa, 0xff, 0, b"x"), head(1)],
        )
        .passes(PASSED),
        Row::of(
            "no preface",
            b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        )
        .recorded("malformed 0"),
    ])
    .await;
}
