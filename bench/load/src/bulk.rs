//! Takes a stream as fast as it comes, over a few connections, and checks that it is the right stream.
//!
//! Byte number n of every connection is `byte_at(n)`. The client looks at both ends of each read, which finds
//! lost, doubled and swapped pieces at no price that would make it, rather than the proxy, the bottleneck.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A prime, so that a piece that is lost or doubled moves every byte after it.
pub const PERIOD: usize = 251;

/// One read or write. Larger ones no longer fit the second-level cache and cost more per byte.
pub const PIECE: usize = 256 * 1024;

/// A stream that stands still this long is broken.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn byte_at(position: u64) -> u8 {
    (position % PERIOD as u64) as u8
}

/// Sends the stream until the client has had enough.
pub fn send_stream(mut client: TcpStream) {
    // PIECE bytes from any phase of the period, so that each write is one slice of the same memory.
    let pattern: Vec<u8> = (0..(PIECE + PERIOD) as u64).map(byte_at).collect();
    let mut position = 0u64;
    loop {
        let phase = (position % PERIOD as u64) as usize;
        match client.write(&pattern[phase..phase + PIECE]) {
            Ok(0) | Err(_) => return,
            Ok(sent) => position += sent as u64,
        }
    }
}

struct Taken {
    bytes: u64,
    error: Option<String>,
}

pub fn run(target: SocketAddr, length: Duration, connections: usize) -> String {
    let start = Instant::now();
    let clients: Vec<_> =
        (0..connections).map(|_| std::thread::spawn(move || take_stream(target, start + length))).collect();
    let taken: Vec<Taken> =
        clients.into_iter().map(|client| client.join().expect("a client thread has nothing that panics")).collect();
    let seconds = start.elapsed().as_secs_f64();
    let bytes: u64 = taken.iter().map(|t| t.bytes).sum();
    let problems: Vec<&str> = taken.iter().filter_map(|t| t.error.as_deref()).collect();
    let first = problems.first().map_or("null".to_owned(), |text| format!("{text:?}"));
    format!(
        "{{\"bytes\": {bytes}, \"seconds\": {seconds:.6}, \"errors\": {}, \"first_error\": {first}}}",
        problems.len()
    )
}

fn take_stream(target: SocketAddr, end: Instant) -> Taken {
    let mut taken = Taken { bytes: 0, error: None };
    let mut server = match TcpStream::connect_timeout(&target, PATIENCE) {
        Ok(server) => server,
        Err(error) => return Taken { error: Some(format!("connect: {error}")), ..taken },
    };
    if let Err(error) = server.set_read_timeout(Some(PATIENCE)) {
        return Taken { error: Some(format!("timeout: {error}")), ..taken };
    }
    let mut piece = vec![0; PIECE];
    while Instant::now() < end {
        match server.read(&mut piece) {
            Ok(0) => {
                taken.error = Some(format!("the stream ended after {} bytes", taken.bytes));
                break;
            }
            Ok(read) => {
                let last = taken.bytes + read as u64 - 1;
                if piece[0] != byte_at(taken.bytes) || piece[read - 1] != byte_at(last) {
                    taken.error = Some(format!("wrong byte between {} and {last}", taken.bytes));
                    break;
                }
                taken.bytes += read as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                taken.error = Some(format!("read: {error}"));
                break;
            }
        }
    }
    taken
}
