//! The side door.

use std::sync::Arc;

use hoop_proxy::Admin;
use hoop_sinks::log::EventWriter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::Bed;

#[tokio::test]
async fn operators_see_metrics_health_and_readiness() {
    let bed = Bed::start().await;
    let admin = Admin::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = admin.local_addr().unwrap();
    tokio::spawn(admin.run(
        Arc::clone(&bed.registry),
        bed.readiness.clone(),
        std::future::pending(),
    ));
    let get = async |path: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    assert!(get("/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get("/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = get("/metrics").await;
    assert!(
        metrics.contains("hoop_gateway_connections 0") && metrics.trim_end().ends_with("# EOF"),
        "{metrics}"
    );
    bed.log.close().await;
    assert!(get("/readyz").await.starts_with("HTTP/1.1 503"));
    assert!(get("/healthz").await.starts_with("HTTP/1.1 200"));
}
