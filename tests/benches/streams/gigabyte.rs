//! A gigabyte of random bytes, the worst there is for a record that is compressed, printed by a command.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::bed::{Bed, NAMESPACE, POD};
use crate::{process, verdict};

/// Printed again and again.
const PIECE_BYTES: usize = 16 << 20;
const PIECES: usize = 64;

/// In turns with each other; medians are compared.
const ROUNDS: usize = 3;

/// What came, and in what time.
struct Received {
    bytes: u64,
    checksum: [u8; 32],
    took: Duration,
}

pub(crate) fn measure(bed: &Bed) -> Result<()> {
    let make = format!("head -c {PIECE_BYTES} /dev/urandom > /tmp/piece");
    let [direct, gateway] = bed.ways();
    receive(&mut exec(direct.kubectl.command(), &make))?;
    let print = format!("for i in $(seq {PIECES}); do cat /tmp/piece; done");
    let mut times = [Vec::new(), Vec::new()];
    let mut checksums = Vec::new();
    for round in 1..=ROUNDS {
        for (way, times) in [&direct, &gateway].into_iter().zip(&mut times) {
            let cpu = process::cpu(bed.hoop())?;
            let received = receive(&mut exec(way.kubectl.command(), &print))?;
            // What the recorder has still to do would slow the next one, and belongs to this one's cost.
            process::until_idle(bed.hoop())?;
            let cpu = process::cpu(bed.hoop())?.saturating_sub(cpu);
            ensure!(
                received.bytes == (PIECE_BYTES * PIECES) as u64,
                "{} bytes came",
                received.bytes
            );
            println!(
                "gigabyte, round {round}, {:<8} {:>6.2} s, {:>5.0} MB/s; hoop: {:.2} s of CPU, at most {} MiB",
                way.name,
                received.took.as_secs_f64(),
                received.bytes as f64 / 1e6 / received.took.as_secs_f64(),
                cpu.as_secs_f64(),
                process::memory(bed.hoop(), "VmHWM")?,
            );
            times.push(received.took);
            checksums.push(received.checksum);
        }
    }
    ensure!(
        checksums.iter().all(|checksum| *checksum == checksums[0]),
        "the same bytes come each time"
    );
    let [direct, gateway] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    });
    let ratio = direct / gateway;
    verdict(
        "1 GB through exec: speed over direct",
        ratio,
        ratio >= 0.7,
        ">= 0.7",
    );
    Ok(())
}

fn exec(mut kubectl: Command, script: &str) -> Command {
    kubectl.args(["-n", NAMESPACE, "exec", POD, "--", "sh", "-c", script]);
    kubectl
}

fn receive(command: &mut Command) -> Result<Received> {
    let begun = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = child.stdout.take().context("standard output is piped")?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        let length = output.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        hash.update(&buffer[..length]);
        bytes += length as u64;
    }
    let status = child.wait()?;
    ensure!(status.success(), "kubectl: {status}");
    Ok(Received {
        bytes,
        checksum: hash.finalize().into(),
        took: begun.elapsed(),
    })
}
