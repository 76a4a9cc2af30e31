//! The parts of the gateway's benchmark, each a process of its own: see `benches/gateway.sh`, which runs them.
//!
//! ```text
//! gateway_load certificates DIR                                a CA and a server certificate for localhost
//! gateway_load upstream DIR ADDRESS                            an API server that knows one pod and many secrets
//! gateway_load gateway DIR ADDRESS UPSTREAM                    the gateway with an embedded log in DIR/log
//! gateway_load plain DIR ADDRESS UPSTREAM                      the gateway's libraries as a plain reverse proxy
//! gateway_load drive DIR ADDRESS TOKEN CONNECTIONS SECONDS PID a pod again and again
//! gateway_load fetch DIR ADDRESS TOKEN PID                     the list of secrets, once
//! gateway_load disk DIR                                        what one fdatasync takes
//! ```
//! `drive`, `fetch` and `disk` print one line of `name=value` pairs. PID is the server's, for its CPU time and memory.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a tool that prints what it measured, and stops at the first surprise"
)]

mod client;
mod disk;
mod plain;
mod process;
mod server;
mod upstream;

use std::path::Path;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    match arguments[..] {
        ["certificates", dir] => server::write_certificates(Path::new(dir)),
        ["upstream", dir, address] => runtime.block_on(upstream::run(Path::new(dir), address)),
        ["gateway", dir, address, upstream] => {
            production().block_on(server::run(Path::new(dir), address, upstream));
        }
        ["plain", dir, address, upstream] => {
            production().block_on(plain::run(Path::new(dir), address, upstream));
        }
        ["drive", dir, address, token, connections, seconds, pid] => {
            let plan = client::Plan {
                connections: connections.parse().unwrap(),
                seconds: seconds.parse().unwrap(),
                pid: pid.parse().unwrap(),
            };
            runtime.block_on(client::drive(Path::new(dir), address, token, &plan));
        }
        ["fetch", dir, address, token, pid] => {
            runtime.block_on(client::fetch(
                Path::new(dir),
                address,
                token,
                pid.parse().unwrap(),
            ));
        }
        ["disk", dir] => disk::run(Path::new(dir)),
        _ => panic!("see the head of this file for how to call it"),
    }
}

/// As the gateway runs in production: a thread per core it may use.
fn production() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
}
