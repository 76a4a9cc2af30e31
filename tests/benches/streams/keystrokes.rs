//! From a keystroke to its echo, on terminals that are recorded and on such that are not.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, AttachedProcess};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::bed::{Bed, NAMESPACE, POD, Way};
use crate::verdict;

/// Terminals one after the other, since a line of a terminal holds 4,096 characters at most.
const TERMINALS: usize = 4;
/// Keystrokes of one after the other, before it is the other way's turn.
const TURN: usize = 25;
const TURNS: usize = 40;

/// Between two keystrokes: a fast typist takes twenty times as long, and both processors sleep meanwhile here too.
const PAUSE: Duration = Duration::from_millis(5);

/// A terminal that echoes.
struct Terminal {
    _process: AttachedProcess,
    keys: Box<dyn AsyncWrite + Unpin>,
    echo: Box<dyn AsyncRead + Unpin>,
}

pub(crate) fn measure(bed: &Bed) -> Result<()> {
    let ways = bed.ways();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut times = [Vec::new(), Vec::new()];
    runtime.block_on(async {
        for _ in 0..TERMINALS {
            let mut terminals = [
                Terminal::open(&ways[0]).await?,
                Terminal::open(&ways[1]).await?,
            ];
            for _ in 0..TURNS {
                for (terminal, times) in terminals.iter_mut().zip(&mut times) {
                    for _ in 0..TURN {
                        times.push(terminal.press().await?);
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
        anyhow::Ok(())
    })?;
    let mut tails = Vec::new();
    for (way, times) in ways.iter().zip(&mut times) {
        times.sort_unstable();
        let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e3;
        println!(
            "keystroke, {:<8} {} echoes, p50 {:.3} ms, p90 {:.3} ms, p99 {:.3} ms",
            way.name,
            times.len(),
            at(50),
            at(90),
            at(99)
        );
        tails.push(at(99));
    }
    let added = tails[1] - tails[0];
    verdict(
        "keystroke's echo: added to direct at p99, ms",
        added,
        added <= 1.0,
        "<= 1",
    );
    Ok(())
}

impl Terminal {
    async fn open(way: &Way) -> Result<Self> {
        let pods: Api<Pod> = Api::namespaced(way.client().await?, NAMESPACE);
        let options = AttachParams::interactive_tty();
        let mut process = pods.exec(POD, ["cat"], &options).await?;
        let keys = Box::new(process.stdin().context("input was asked for")?);
        let echo = Box::new(process.stdout().context("output was asked for")?);
        let mut terminal = Self {
            _process: process,
            keys,
            echo,
        };
        // The first is slower: everything on the way is made ready.
        terminal.press().await?;
        Ok(terminal)
    }

    async fn press(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        self.keys.write_all(b"x").await?;
        self.keys.flush().await?;
        self.echo.read_u8().await?;
        Ok(begun.elapsed())
    }
}
