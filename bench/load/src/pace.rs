//! An honest client beside an attack: a request every few milliseconds on one kept connection, whatever happens.
//!
//! Times are taken from the moment a request was due, not from when it left: a node that stands still for a second
//! makes hundreds of requests late, and a client that waits politely would report one of them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::answer::{Answer, request};
use crate::latency::Latencies;

/// An answer that takes longer counts as failed.
const PATIENCE: Duration = Duration::from_secs(2);

pub struct Load<'a> {
    pub target: SocketAddr,
    pub length: Duration,
    pub requests_per_second: usize,
    pub path: &'a str,
    pub body_length: usize,
}

pub fn run(load: &Load) -> String {
    let request = request(load.path, "localhost", "keep-alive");
    let gap = Duration::from_secs(1) / load.requests_per_second.max(1) as u32;
    let (mut latencies, mut longest) = (Latencies::new(), Duration::ZERO);
    let (mut answers, mut errors, mut first_error) = (0u64, 0u64, None);
    let mut kept = None;
    let start = Instant::now();
    let mut due = start;
    while due < start + load.length {
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(early);
        }
        match ask(&mut kept, load, &request) {
            Ok(()) => {
                let late = due.elapsed();
                latencies.record(late);
                longest = longest.max(late);
                answers += 1;
            }
            Err(why) => {
                kept = None;
                errors += 1;
                first_error.get_or_insert(why);
                // What fails at once is asked again in time, and what hung has used up its successors' time.
                due = due.max(Instant::now() - gap);
            }
        }
        due += gap;
    }
    let first = first_error.map_or("null".to_owned(), |text: String| format!("{text:?}"));
    format!(
        "{{\"answers\": {answers}, \"seconds\": {:.6}, \"errors\": {errors}, \"first_error\": {first}, \"p50_us\": {:.1}, \
         \"p99_us\": {:.1}, \"max_us\": {:.1}}}",
        start.elapsed().as_secs_f64(),
        latencies.percentile_us(50.0),
        latencies.percentile_us(99.0),
        longest.as_secs_f64() * 1e6,
    )
}

fn ask(kept: &mut Option<TcpStream>, load: &Load, request: &[u8]) -> Result<(), String> {
    if kept.is_none() {
        let fresh = TcpStream::connect_timeout(&load.target, PATIENCE).map_err(|e| format!("connect: {e}"))?;
        fresh.set_nodelay(true).map_err(|e| e.to_string())?;
        fresh.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
        *kept = Some(fresh);
    }
    let Some(server) = kept else { return Ok(()) };
    server.write_all(request).map_err(|e| format!("send: {e}"))?;
    let mut answer = Answer::expecting(load.body_length);
    let mut piece = [0; 16 * 1024];
    loop {
        match server.read(&mut piece) {
            Ok(0) => return Err("closed before the whole answer".to_owned()),
            Ok(read) if answer.take(&piece[..read])? => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("receive: {error}")),
        }
    }
}
