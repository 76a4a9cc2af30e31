//! Sends a stream in messages, until it is over or the client wants no more of it.

use std::io;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::{Form, Framer};
use crate::answer::ClientBody;
use crate::tunnel::Direction;
use crate::tunnel::websocket::{Event, FrameDecoder, FrameError};

/// How long the client has to switch, after its 101.
const SWITCH_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long the last bytes have to reach the client, and the client has to go.
const LAST_BYTES_WAIT_MAX: Duration = Duration::from_secs(5);

/// What is read of a client at once. It has nothing to say but pings and the end.
const READ_BYTES: usize = 4096;

/// Room for frames that is kept from one piece to the next; most events fit.
const FRAMES_KEPT_BYTES: usize = 16 * 1024;

/// A body that goes out as messages. Dropped, it ends like a body whose client is gone.
#[derive(Debug)]
pub(crate) struct MessageStream {
    pub(crate) client: OnUpgrade,
    pub(crate) form: Form,
    pub(crate) body: ClientBody,
}

/// The client's connection.
struct Socket {
    reader: ReadHalf<TokioIo<Upgraded>>,
    writer: WriteHalf<TokioIo<Upgraded>>,
    decoder: FrameDecoder,
    piece: Vec<u8>,
    /// Frames to be written.
    out: Vec<u8>,
}

/// Why a stream is over, by RFC 6455 §7.4, and in words.
struct End(u16, String);

/// The stream is over and there is nobody to tell.
struct Gone;

/// What a client said.
enum Said {
    /// Nothing that ends the stream.
    Nothing,
    Close,
}

impl End {
    const NORMAL: u16 = 1000;
    const PROTOCOL_ERROR: u16 = 1002;
    const POLICY_VIOLATION: u16 = 1008;
    const TOO_BIG: u16 = 1009;
    const INTERNAL_ERROR: u16 = 1011;

    fn normal() -> Self {
        Self(Self::NORMAL, String::new())
    }

    /// Of a body that has nothing more.
    fn of(body: &ClientBody) -> Self {
        match body.over() {
            Some(over) => Self(Self::POLICY_VIOLATION, over.message()),
            None => Self::normal(),
        }
    }
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        let code = match error {
            FrameError::TooLong(_) => Self::TOO_BIG,
            _ => Self::PROTOCOL_ERROR,
        };
        Self(code, error.to_string())
    }
}

impl MessageStream {
    /// Sends the body to its end, or until the client wants no more of it.
    pub(crate) async fn run(self) {
        let Self {
            client,
            form,
            mut body,
        } = self;
        let Ok(Ok(client)) = tokio::time::timeout(SWITCH_WAIT_MAX, client).await else {
            return;
        };
        let mut socket = Socket::new(client);
        let mut framer = Framer::new(form);
        let Ok(End(code, reason)) = socket.send(&mut body, &mut framer).await else {
            return;
        };
        // The outcome says who ended it; the goodbye may take a while.
        drop(body);
        framer.close(code, &reason, &mut socket.out);
        // Nobody is left to tell when this fails.
        drop(tokio::time::timeout(LAST_BYTES_WAIT_MAX, socket.part()).await);
    }
}

impl Socket {
    fn new(client: Upgraded) -> Self {
        let (reader, writer) = tokio::io::split(TokioIo::new(client));
        Self {
            reader,
            writer,
            decoder: FrameDecoder::new(Direction::FromClient),
            piece: vec![0; READ_BYTES],
            out: Vec::new(),
        }
    }

    /// Sends what comes of the body. While the client does not take it, nothing more is asked for.
    async fn send(&mut self, body: &mut ClientBody, framer: &mut Framer) -> Result<End, Gone> {
        framer.begin(&mut self.out);
        loop {
            tokio::select! {
                // Whoever takes everything is told why it is over.
                biased;
                written = self.write() => written.map_err(|_| Gone)?,
                () = body.cut_off() => return Err(Gone),
            }
            tokio::select! {
                frame = body.frame() => match frame {
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            framer.push(&data, &mut self.out);
                        }
                    }
                    Some(Err(why)) => return Ok(End(End::INTERNAL_ERROR, why.to_string())),
                    None => return Ok(End::of(body)),
                },
                read = self.reader.read(&mut self.piece) => match read {
                    Ok(length) if length > 0 => match self.hear(length) {
                        Ok(Said::Nothing) => {}
                        Ok(Said::Close) => return Ok(End::normal()),
                        Err(error) => return Ok(error.into()),
                    },
                    _ => return Err(Gone),
                },
            }
        }
    }

    /// Answers pings; what else comes is passed over, as the API server does.
    fn hear(&mut self, length: usize) -> Result<Said, FrameError> {
        let (mut said, out) = (Said::Nothing, &mut self.out);
        self.decoder
            .push::<FrameError>(&self.piece[..length], &mut |event| {
                match event {
                    Event::Ping(payload) => Framer::pong(payload, out),
                    Event::Close { .. } => said = Said::Close,
                    _ => {}
                }
                Ok(())
            })?;
        Ok(said)
    }

    /// May be dropped before it is done only if nothing is written afterwards.
    async fn write(&mut self) -> io::Result<()> {
        self.writer.write_all(&self.out).await?;
        self.out.clear();
        self.out.shrink_to(FRAMES_KEPT_BYTES);
        self.writer.flush().await
    }

    /// Writes the last frames. A client that is still talking is heard to its end: closed with something unread, the
    /// connection would be reset, and what is on its way to the client lost.
    async fn part(mut self) -> io::Result<()> {
        self.write().await?;
        self.writer.shutdown().await?;
        while self.reader.read(&mut self.piece).await? > 0 {}
        Ok(())
    }
}
