//! What compression costs here: `cargo run --release -p evenkeel-l7 --example compressors -- FILE`.
//!
//! For each coding and level: output, CPU and memory per stream in the middle of an answer, the last as growth of the
//! process with a hundred streams at once. The figures of `limits::COMPRESSOR_BYTES` come from it.

use std::time::Instant;

use evenkeel_l7::machine::{Compressor, Compressors};
use evenkeel_plan::Coding;

const STREAMS: usize = 100;
const READ: usize = 16 * 1024;

/// Anonymous memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon since Linux 4.5");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

fn main() {
    let file = std::env::args().nth(1).expect("a FILE to compress");
    let payload = std::fs::read(&file).expect("a readable FILE");
    println!("{file}: {} bytes", payload.len());
    println!("coding level     out    ms/MB  new us  again us  KiB/stream");
    for coding in Coding::ALL {
        for level in 1..=9 {
            let mut out = Vec::with_capacity(payload.len() * 2);
            let mut pool = Compressors::default();
            let mut best = [f64::INFINITY; 3];
            for _ in 0..5 {
                let start = Instant::now();
                let mut compressor = Compressor::new(coding, level).expect("memory");
                compressor.push(&payload[..1], &mut out).expect("pushed");
                best[0] = best[0].min(start.elapsed().as_secs_f64());
                pool.give_back(compressor);

                let start = Instant::now();
                let mut compressor = pool.take(coding, level).expect("memory");
                compressor.push(&payload[..1], &mut out).expect("pushed");
                best[1] = best[1].min(start.elapsed().as_secs_f64());

                let mut compressor = Compressor::new(coding, level).expect("memory");
                out.clear();
                let start = Instant::now();
                for read in payload.chunks(READ) {
                    compressor.push(read, &mut out).expect("pushed");
                }
                compressor.finish(&mut out).expect("finished");
                best[2] = best[2].min(start.elapsed().as_secs_f64());
            }
            let size = out.len();
            drop(pool);

            let before = resident();
            let mut streams = Vec::new();
            for _ in 0..STREAMS {
                let mut compressor = Compressor::new(coding, level).expect("memory");
                for read in payload.chunks(READ) {
                    out.clear();
                    compressor.push(read, &mut out).expect("pushed");
                }
                streams.push(compressor);
            }
            let each = resident().saturating_sub(before) / STREAMS / 1024;
            println!(
                "{:<6} {level:>5} {size:>7} {:>8.1} {:>7.0} {:>9.0} {each:>11}",
                coding.word(),
                best[2] * 1e9 / payload.len() as f64,
                best[0] * 1e6,
                best[1] * 1e6,
            );
        }
    }
}
