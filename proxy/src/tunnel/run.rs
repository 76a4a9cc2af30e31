//! Copying the bytes of a stream, both ways, as they are.
//!
//! Each piece is recorded before it goes on. When the record lags, the stream waits for it: it becomes slow, and the
//! memory stays small.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hoop_schema::kinds::request::{Cause, Decision, Effect, Ended};
use http::StatusCode;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;

use super::Direction;
use super::tap::{Tap, Untapped};
use crate::lifetime::{self, Lifetime};
use crate::metrics::InFlight;
use crate::policy::Verdict;
use crate::record::End;
use crate::status::status_body;

/// Bytes that are copied at once: two TLS records. Each open stream has two of these.
const PIECE_BYTES: usize = 32 * 1024;

/// How long both sides have to switch, after their 101.
const SWITCH_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long the last bytes have to reach the other side.
const LAST_BYTES_WAIT_MAX: Duration = Duration::from_secs(5);

/// What a stream needs besides its bytes.
#[derive(Debug)]
pub(crate) struct Ends {
    /// The client's connection, once it has switched.
    pub(crate) client: OnUpgrade,
    /// Counts the connection to the API server among all.
    pub(crate) slot: OwnedSemaphorePermit,
}

/// A stream between a client and the API server, before or while it runs. Dropped, it is closed and says so.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) ends: Ends,
    /// How long it may go on.
    pub(crate) lifetime: Lifetime,
    /// The API server's connection, once it has switched.
    pub(crate) server: OnUpgrade,
    pub(crate) tap: Mutex<Tap>,
    pub(crate) verdict: Verdict,
    pub(crate) in_flight: InFlight,
}

/// Why copying stopped.
enum Stop {
    /// This side has nothing more to say.
    End(Direction),
    /// This side is gone.
    Gone(Direction),
    /// It could not be recorded.
    Untapped(Untapped),
    /// The credential that opened it has expired.
    Expired,
}

impl Tunnel {
    /// Copies until one side is at its end, as the API server itself does, then writes the outcome.
    pub(crate) async fn run(self) {
        let Self {
            ends: Ends { client, slot },
            lifetime,
            server,
            tap,
            verdict,
            in_flight,
        } = self;
        let switched = async { tokio::try_join!(client, server) };
        let stop = match tokio::time::timeout(SWITCH_WAIT_MAX, switched).await {
            Ok(Ok((client, server))) => copy(client, server, &tap, lifetime).await,
            Ok(Err(_)) | Err(_) => Stop::Gone(Direction::FromClient),
        };
        let tap = tap.into_inner();
        let (ended, decision) = judge(&stop, &tap, &verdict);
        let (recorder, masked) = tap.into_recorder();
        recorder.finish(End {
            ended,
            masked,
            decision,
        });
        drop((in_flight, slot));
    }
}

async fn copy(client: Upgraded, server: Upgraded, tap: &Mutex<Tap>, lifetime: Lifetime) -> Stop {
    // Broken off from here on, it is the gateway that does so: when it stops.
    tap.lock()
        .recorder()
        .ended_when_dropped(Ended::GatewayClosed);
    let (from_client, to_server) = (Direction::FromClient, Direction::FromServer);
    let (client_reader, mut client_writer) = tokio::io::split(TokioIo::new(client));
    let (server_reader, server_writer) = tokio::io::split(TokioIo::new(server));
    // Whether the client has got every piece in full.
    let whole = AtomicBool::new(true);
    let up = pump(from_client, client_reader, server_writer, tap, None);
    let down = pump(
        to_server,
        server_reader,
        &mut client_writer,
        tap,
        Some(&whole),
    );
    let stop = tokio::select! {
        stop = up => stop,
        stop = down => stop,
        () = lifetime => Stop::Expired,
    };
    if matches!(stop, Stop::Expired) && whole.load(Ordering::Relaxed) {
        // Nobody is left to tell when this fails.
        drop(tokio::time::timeout(LAST_BYTES_WAIT_MAX, part(tap, client_writer)).await);
    }
    stop
}

/// Tells the client why its command is over, where the protocol has words for it.
async fn part(tap: &Mutex<Tap>, mut writer: impl AsyncWrite + Unpin) -> std::io::Result<()> {
    let code = StatusCode::UNAUTHORIZED;
    let status = status_body(code, "Unauthorized", lifetime::MESSAGE, None);
    let words = {
        let mut tap = tap.lock();
        let words = tap.parting(status.trim_ascii_end());
        words.filter(|words| tap.push(Direction::FromServer, words).is_ok())
    };
    if let Some(words) = words {
        writer.write_all(&words).await?;
    }
    writer.shutdown().await
}

async fn pump(
    from: Direction,
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    tap: &Mutex<Tap>,
    whole: Option<&AtomicBool>,
) -> Stop {
    let to = match from {
        Direction::FromClient => Direction::FromServer,
        Direction::FromServer => Direction::FromClient,
    };
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = match reader.read(&mut piece).await {
            Ok(0) => break,
            Ok(length) => length,
            Err(_) => return Stop::Gone(from),
        };
        let pieces_are_whole = |now| {
            if let Some(whole) = whole {
                whole.store(now, Ordering::Relaxed);
            }
        };
        pieces_are_whole(false);
        let room = {
            let mut tap = tap.lock();
            if let Err(why) = tap.push(from, &piece[..length]) {
                return Stop::Untapped(why);
            }
            tap.room()
        };
        room.await;
        let written = async {
            writer.write_all(&piece[..length]).await?;
            writer.flush().await
        };
        if written.await.is_err() {
            return Stop::Gone(to);
        }
        pieces_are_whole(true);
    }
    if let Err(why) = tap.lock().finish(from) {
        tracing::debug!(error = %why, "a stream ended in the middle of something");
    }
    // Nobody is left to tell when this fails.
    drop(tokio::time::timeout(LAST_BYTES_WAIT_MAX, writer.shutdown()).await);
    Stop::End(from)
}

/// How a stream ended, and what is decided about it now if it was closed for a reason.
fn judge(stop: &Stop, tap: &Tap, verdict: &Verdict) -> (Ended, Option<Decision>) {
    let refused = |cause, message: String| {
        Some(Decision {
            effect: Effect::Deny,
            cause,
            message,
            ..verdict.decision.clone()
        })
    };
    match stop {
        Stop::Untapped(why) => {
            tracing::warn!(
                error = why as &dyn std::error::Error,
                "a stream was broken off"
            );
            let cause = match why {
                Untapped::Undecodable(_) => Cause::Uninspectable,
                Untapped::Unrecorded => Cause::LogUnavailable,
            };
            (Ended::GatewayClosed, refused(cause, why.to_string()))
        }
        Stop::Expired => (
            Ended::GatewayClosed,
            Some(lifetime::expired(&verdict.decision)),
        ),
        Stop::End(_) | Stop::Gone(_) if tap.is_over() => (Ended::Complete, None),
        Stop::End(Direction::FromServer) | Stop::Gone(Direction::FromServer) => {
            (Ended::UpstreamClosed, None)
        }
        Stop::End(Direction::FromClient) | Stop::Gone(Direction::FromClient) => {
            (Ended::ClientClosed, None)
        }
    }
}
