//! Copying the bytes of a stream, both ways, as they are, but for what masking rules replace in the output of commands.
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
use tokio::time::Instant;

use super::Direction;
use super::rewrite::Rewriter;
use super::tap::{Tap, Untapped};
use crate::lifetime::{Lifetime, Over};
use crate::metrics::InFlight;
use crate::policy::Verdict;
use crate::record::End;
use crate::status::status_body;

/// Bytes that are copied at once: two TLS records. Each open stream has two of these.
const PIECE_BYTES: usize = 32 * 1024;

/// How long both sides have to switch, after their 101.
const SWITCH_WAIT_MAX: Duration = Duration::from_secs(10);

/// The longest that output is held back because it may be the beginning of a secret: nobody notices it.
const HELD_BACK_MAX: Duration = Duration::from_millis(20);

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
    /// Masks what the client sees, where rules say so.
    pub(crate) rewriter: Option<Rewriter>,
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
    /// It may not go on.
    Over(Over),
}

impl Tunnel {
    /// Copies until one side is at its end, as the API server itself does, then writes the outcome.
    pub(crate) async fn run(self) {
        let Self {
            ends: Ends { client, slot },
            lifetime,
            server,
            tap,
            rewriter,
            verdict,
            in_flight,
        } = self;
        let switched = async { tokio::try_join!(client, server) };
        let stop = match tokio::time::timeout(SWITCH_WAIT_MAX, switched).await {
            Ok(Ok((client, server))) => copy(client, server, &tap, rewriter, lifetime).await,
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

async fn copy(
    client: Upgraded,
    server: Upgraded,
    tap: &Mutex<Tap>,
    rewriter: Option<Rewriter>,
    lifetime: Lifetime,
) -> Stop {
    // Broken off from here on, it is the gateway that does so: when it stops.
    tap.lock()
        .recorder()
        .ended_when_dropped(Ended::GatewayClosed);
    let (from_client, to_server) = (Direction::FromClient, Direction::FromServer);
    let (client_reader, mut client_writer) = tokio::io::split(TokioIo::new(client));
    let (server_reader, server_writer) = tokio::io::split(TokioIo::new(server));
    // Whether the client has got every piece in full.
    let whole = AtomicBool::new(true);
    let up = pump(
        from_client,
        client_reader,
        server_writer,
        tap,
        Shown::new(None, None),
    );
    let down = pump(
        to_server,
        server_reader,
        &mut client_writer,
        tap,
        Shown::new(rewriter, Some(&whole)),
    );
    let stop = tokio::select! {
        stop = up => stop,
        stop = down => stop,
        over = lifetime => Stop::Over(over),
    };
    if let Stop::Over(over) = &stop
        && whole.load(Ordering::Relaxed)
    {
        let message = over.message();
        let parting = part(tap, client_writer, &message);
        // Nobody is left to tell when this fails.
        drop(tokio::time::timeout(LAST_BYTES_WAIT_MAX, parting).await);
    }
    stop
}

/// Tells the client why its command is over, where the protocol has words for it.
async fn part(
    tap: &Mutex<Tap>,
    mut writer: impl AsyncWrite + Unpin,
    message: &str,
) -> std::io::Result<()> {
    let code = StatusCode::UNAUTHORIZED;
    let status = status_body(code, "Unauthorized", message, None);
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

/// What the receiving side gets of a piece.
struct Shown<'a> {
    rewriter: Option<Rewriter>,
    /// Whether it has got every piece in full, where somebody asks.
    whole: Option<&'a AtomicBool>,
    rewritten: Vec<u8>,
    /// When what is held back must go on.
    deadline: Option<Instant>,
}

impl<'a> Shown<'a> {
    fn new(rewriter: Option<Rewriter>, whole: Option<&'a AtomicBool>) -> Self {
        Self {
            rewriter,
            whole,
            rewritten: Vec::new(),
            deadline: None,
        }
    }

    fn set_whole(&self, now: bool) {
        if let Some(whole) = self.whole {
            whole.store(now, Ordering::Relaxed);
        }
    }

    /// The next piece; nothing when what is held back must go on before it comes.
    async fn read(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        piece: &mut [u8],
    ) -> Option<std::io::Result<usize>> {
        match self.deadline {
            None => Some(reader.read(piece).await),
            Some(deadline) => tokio::time::timeout_at(deadline, reader.read(piece))
                .await
                .ok(),
        }
    }

    /// What is to be written of a piece; all that is held back when there is none.
    fn of<'b>(&'b mut self, piece: Option<&'b [u8]>) -> Result<&'b [u8], Untapped> {
        let Some(rewriter) = &mut self.rewriter else {
            return Ok(piece.unwrap_or_default());
        };
        self.rewritten.clear();
        match piece {
            Some(piece) => rewriter.push(piece, &mut self.rewritten)?,
            None => rewriter.flush(&mut self.rewritten),
        }
        if !rewriter.holds_back() {
            self.deadline = None;
        } else if self.deadline.is_none() || !self.rewritten.is_empty() {
            // What is held back now has just come.
            self.deadline = Some(Instant::now() + HELD_BACK_MAX);
        }
        Ok(&self.rewritten)
    }

    /// What is still to be written at the end.
    fn rest(&mut self) -> &[u8] {
        self.rewritten.clear();
        if let Some(rewriter) = &mut self.rewriter {
            rewriter.finish(&mut self.rewritten);
        }
        &self.rewritten
    }
}

async fn pump(
    from: Direction,
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    tap: &Mutex<Tap>,
    mut shown: Shown<'_>,
) -> Stop {
    let to = match from {
        Direction::FromClient => Direction::FromServer,
        Direction::FromServer => Direction::FromClient,
    };
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = match shown.read(&mut reader, &mut piece).await {
            Some(Ok(0)) => break,
            Some(Ok(length)) => Some(length),
            Some(Err(_)) => return Stop::Gone(from),
            None => None,
        };
        shown.set_whole(false);
        if let Some(length) = length {
            let room = {
                let mut tap = tap.lock();
                if let Err(why) = tap.push(from, &piece[..length]) {
                    return Stop::Untapped(why);
                }
                tap.room()
            };
            room.await;
        }
        let bytes = match shown.of(length.map(|length| &piece[..length])) {
            Ok(bytes) => bytes,
            Err(why) => return Stop::Untapped(why),
        };
        let written = async {
            writer.write_all(bytes).await?;
            writer.flush().await
        };
        if written.await.is_err() {
            return Stop::Gone(to);
        }
        shown.set_whole(true);
    }
    if let Err(why) = tap.lock().finish(from) {
        tracing::debug!(error = %why, "a stream ended in the middle of something");
    }
    let last = async {
        writer.write_all(shown.rest()).await?;
        writer.shutdown().await
    };
    // Nobody is left to tell when this fails.
    drop(tokio::time::timeout(LAST_BYTES_WAIT_MAX, last).await);
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
        Stop::Over(over) => (Ended::GatewayClosed, Some(over.decision(&verdict.decision))),
        Stop::End(_) | Stop::Gone(_) if tap.is_over() => (Ended::Complete, None),
        Stop::End(Direction::FromServer) | Stop::Gone(Direction::FromServer) => {
            (Ended::UpstreamClosed, None)
        }
        Stop::End(Direction::FromClient) | Stop::Gone(Direction::FromClient) => {
            (Ended::ClientClosed, None)
        }
    }
}
