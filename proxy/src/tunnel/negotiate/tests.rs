use super::*;

const SOCKET: (&str, &str) = ("upgrade", "websocket");
const SPDY: (&str, &str) = ("upgrade", "SPDY/3.1");
const SUBPROTOCOL: &str = "sec-websocket-protocol";
const VERSION: &str = "x-stream-protocol-version";

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
        .collect()
}

fn run(
    purpose: &Purpose,
    request: &[(&str, &str)],
    response: &[(&str, &str)],
) -> Result<Protocol, NegotiateError> {
    negotiate(purpose, &headers(request), &headers(response))
}

fn ports(ports: &[u16]) -> Purpose {
    Purpose::PortForward {
        ports: ports.to_vec(),
    }
}

#[test]
fn subprotocols_of_commands_and_ports() {
    let messages = |encoding, version| Ok(Protocol::CommandMessages { encoding, version });
    let port_messages = |encoding| {
        Ok(Protocol::PortMessages {
            encoding,
            ports: vec![80],
        })
    };
    for (name, command, port_forward) in [
        (
            "channel.k8s.io",
            messages(Encoding::Binary, 1),
            Err(NegotiateError::Unknown),
        ),
        (
            "base64.channel.k8s.io",
            messages(Encoding::Base64, 1),
            Err(NegotiateError::Unknown),
        ),
        (
            "v4.channel.k8s.io",
            messages(Encoding::Binary, 4),
            port_messages(Encoding::Binary),
        ),
        (
            "v4.base64.channel.k8s.io",
            messages(Encoding::Base64, 4),
            port_messages(Encoding::Base64),
        ),
        (
            "v5.channel.k8s.io",
            messages(Encoding::Binary, 5),
            Err(NegotiateError::Unknown),
        ),
        (
            "SPDY/3.1+portforward.k8s.io",
            Err(NegotiateError::Unknown),
            Ok(Protocol::PortStreamsInWebSocket),
        ),
        (
            "v6.channel.k8s.io",
            Err(NegotiateError::Unknown),
            Err(NegotiateError::Unknown),
        ),
    ] {
        let offer = format!("x, {name}");
        let request = [SOCKET, (SUBPROTOCOL, &offer)];
        let response = [("upgrade", "WebSocket"), (SUBPROTOCOL, name)];
        assert_eq!(
            run(&Purpose::Command, &request, &response),
            command,
            "{name}"
        );
        assert_eq!(
            run(&ports(&[80]), &request, &response),
            port_forward,
            "{name}"
        );
    }
    let none = run(&Purpose::Command, &[SOCKET], &[SOCKET]);
    assert_eq!(none, messages(Encoding::Binary, 1));
    let none = run(&ports(&[80]), &[SOCKET], &[SOCKET]);
    assert_eq!(none, port_messages(Encoding::Binary));
    let none = run(&ports(&[]), &[SOCKET], &[SOCKET]);
    assert_eq!(none, Err(NegotiateError::Ports));
}

#[test]
fn stream_versions_offered_in_several_lines() {
    let request = [
        SPDY,
        (VERSION, "v5.channel.k8s.io"),
        (VERSION, "v4.channel.k8s.io"),
        (VERSION, "channel.k8s.io"),
        (VERSION, "portforward.k8s.io"),
    ];
    let streams = |version| Ok(Protocol::CommandStreams { version });
    let version = |name| [SPDY, (VERSION, name)];
    let command = Purpose::Command;
    assert_eq!(
        run(&command, &request, &version("v4.channel.k8s.io")),
        streams(4)
    );
    assert_eq!(
        run(&command, &request, &version("channel.k8s.io")),
        streams(1)
    );
    assert_eq!(run(&command, &request, &[SPDY]), streams(1));
    assert_eq!(
        run(&command, &request, &version("v3.channel.k8s.io")),
        Err(NegotiateError::NotOffered)
    );
    assert_eq!(
        run(&command, &request, &version("portforward.k8s.io")),
        Err(NegotiateError::Unknown)
    );
    assert_eq!(
        run(&ports(&[]), &request, &version("portforward.k8s.io")),
        Ok(Protocol::PortStreams)
    );
}

#[test]
fn upgrades_that_do_not_match_are_refused() {
    let command = Purpose::Command;
    let missing = Err(NegotiateError::Header(UPGRADE));
    assert_eq!(
        run(&command, &[SOCKET], &[SPDY]),
        Err(NegotiateError::Switched)
    );
    assert_eq!(run(&command, &[SOCKET], &[]), missing);
    assert_eq!(run(&command, &[], &[SPDY]), missing);
    assert_eq!(run(&command, &[SPDY, SOCKET], &[SPDY]), missing);
    let h2c = ("upgrade", "h2c");
    assert_eq!(run(&command, &[h2c], &[h2c]), Err(NegotiateError::Upgrade));
    let extension = ("sec-websocket-extensions", "permessage-deflate");
    assert_eq!(
        run(&command, &[SOCKET], &[SOCKET, extension]),
        Err(NegotiateError::Extension)
    );
}

#[test]
fn ports_are_read_as_the_server_does() {
    assert_eq!(forwarded_ports(["80,8080", "443"]), Ok(vec![80, 8080, 443]));
    assert_eq!(forwarded_ports([]), Ok(vec![]));
    for values in ["", "80,", "0", "65536", "http", "+80"] {
        assert_eq!(
            forwarded_ports([values]),
            Err(NegotiateError::Ports),
            "{values}"
        );
    }
    let many = vec!["1"; FORWARDED_PORTS_MAX + 1];
    assert_eq!(forwarded_ports(many), Err(NegotiateError::Ports));
}
