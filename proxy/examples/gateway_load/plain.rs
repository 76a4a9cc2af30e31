//! What the gateway's libraries cost by themselves: a reverse proxy of hyper and rustls that knows nothing, records
//! nothing, and keeps one connection to the upstream per client connection.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio_rustls::TlsAcceptor;

pub(crate) async fn run(dir: &Path, address: &str, upstream: &str) {
    let acceptor = TlsAcceptor::from(Arc::new(super::server::tls(dir)));
    let connector = super::client::connector(dir);
    let listener = TcpListener::bind(address).await.unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, connector, upstream) =
            (acceptor.clone(), connector.clone(), upstream.to_owned());
        tokio::spawn(async move { connection(&acceptor, &connector, &upstream, stream).await });
    }
}

/// Ends with its client; whoever measures sees a failure as such.
async fn connection(
    acceptor: &TlsAcceptor,
    connector: &tokio_rustls::TlsConnector,
    upstream: &str,
    stream: TcpStream,
) {
    stream.set_nodelay(true).unwrap();
    let Ok(client) = acceptor.accept(stream).await else {
        return;
    };
    let server = super::client::connect(connector, upstream).await;
    let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(server))
        .await
        .unwrap();
    tokio::spawn(driver);
    let sender = Arc::new(Mutex::new(sender));
    let service = service_fn(|request| {
        let sender = Arc::clone(&sender);
        async move {
            let mut sender = sender.lock().await;
            Ok::<_, Infallible>(sender.send_request(request).await.unwrap())
        }
    });
    drop(
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(client), service)
            .await,
    );
}
