//! An API server with as little in it as possible: answers are made beforehand, and requests are only looked at for
//! their end and their path.

use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Secrets in the list: 100 MB in all.
const SECRETS: usize = 80_000;

pub(crate) async fn run(dir: &Path, address: &str) {
    let tls = TlsAcceptor::from(Arc::new(super::server::tls(dir)));
    let listener = TcpListener::bind(address).await.unwrap();
    let pod: Arc<[u8]> = pod().into();
    let secret: Arc<[u8]> = secret().into();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, pod, secret) = (tls.clone(), Arc::clone(&pod), Arc::clone(&secret));
        tokio::spawn(async move {
            // Whoever measures sees a failure; here it is only the end of a connection.
            drop(connection(tls, stream, &pod, &secret).await);
        });
    }
}

async fn connection(
    tls: TlsAcceptor,
    stream: TcpStream,
    pod: &[u8],
    secret: &[u8],
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = tls.accept(stream).await?;
    let mut head = Vec::with_capacity(4096);
    loop {
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        if head.starts_with(b"GET /api/v1/secrets") {
            list(&mut stream, secret).await?;
        } else {
            stream.write_all(pod).await?;
        }
        stream.flush().await?;
    }
}

/// A chunked list, in pieces as an API server streams them.
async fn list(
    stream: &mut (impl tokio::io::AsyncWrite + Unpin),
    secret: &[u8],
) -> std::io::Result<()> {
    let mut piece = Vec::with_capacity(64 * 1024);
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await?;
    piece.extend_from_slice(b"{\"kind\":\"SecretList\",\"apiVersion\":\"v1\",\"metadata\":{\"resourceVersion\":\"1\"},\"items\":[");
    for i in 0..SECRETS {
        if i > 0 {
            piece.push(b',');
        }
        piece.extend_from_slice(secret);
        if piece.len() > 48 * 1024 {
            chunk(stream, &piece).await?;
            piece.clear();
        }
    }
    piece.extend_from_slice(b"]}\n");
    chunk(stream, &piece).await?;
    stream.write_all(b"0\r\n\r\n").await
}

async fn chunk(
    stream: &mut (impl tokio::io::AsyncWrite + Unpin),
    piece: &[u8],
) -> std::io::Result<()> {
    stream
        .write_all(format!("{:x}\r\n", piece.len()).as_bytes())
        .await?;
    stream.write_all(piece).await?;
    stream.write_all(b"\r\n").await
}

/// A pod of 2 KB, with its head.
fn pod() -> Vec<u8> {
    let pod = serde_json::json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "name": "web-6d4b75cb6d-hk2vp", "namespace": "shop", "uid": "0f5b1c66-2f0e-4b5e-9a53-3f8f6d0f1a11",
            "resourceVersion": "123456", "creationTimestamp": "2026-11-22T10:00:00Z",
            "labels": {"app": "web", "pod-template-hash": "6d4b75cb6d"},
            "managedFields": [{"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": {"f:note": "x".repeat(900)}}}],
        },
        "spec": {
            "containers": [{"name": "web", "image": "shop/web:2.4.1", "env": [{"name": "MODE", "value": "production"}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}, "terminationMessagePath": "/dev/termination-log"}],
            "restartPolicy": "Always", "nodeName": "node-1", "serviceAccountName": "web",
        },
        "status": {"phase": "Running", "podIP": "10.244.1.17", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-22T10:00:05Z"},
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-22T10:00:00Z"}],
            "message": "y".repeat(250)},
    })
    .to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\nAudit-Id: x\r\nCache-Control: no-cache, private\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        pod.len()
    );
    [head.into_bytes(), pod.into_bytes()].concat()
}

/// One secret of 1.3 KB.
fn secret() -> Vec<u8> {
    serde_json::json!({
        "metadata": {"name": "credentials", "namespace": "shop", "uid": "0f5b1c66-2f0e-4b5e-9a53-3f8f6d0f1a11",
            "labels": {"app": "web", "team": "payments"},
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:data": {".": {}, "f:password": {}, "f:username": {}}}}]},
        "data": {"username": "cm9vdA==", "password": "c2VjcmV0".repeat(10), "tls.key": "LS0tLS1C".repeat(90)},
        "type": "Opaque",
    })
    .to_string()
    .into_bytes()
}
