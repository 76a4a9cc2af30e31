//! What one fdatasync of an event takes on a file that is there already, as the embedded log does it.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

const BLOCK: usize = 4096;
const WRITES: usize = 2000;

pub(crate) fn run(dir: &Path) {
    let path = dir.join("disk");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&vec![0; BLOCK * WRITES]).unwrap();
    file.sync_all().unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut times: Vec<_> = (0..WRITES)
        .map(|_| {
            let begin = Instant::now();
            file.write_all(&[7; BLOCK]).unwrap();
            file.sync_data().unwrap();
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    std::fs::remove_file(&path).unwrap();
    println!(
        "fdatasync_p50_us={} fdatasync_p99_us={}",
        times[WRITES / 2].as_micros(),
        times[WRITES * 99 / 100].as_micros()
    );
}
