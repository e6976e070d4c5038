//! Clients: a raw one that sees every byte and how the connection ended, and a steady one that counts losses.
//!
//! An HTTP library would hide the very things that are promised: who closed, whether by a reset, and what came before.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::daemon::PATIENCE;

/// How what was read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The message's own framing said so; the connection is still open.
    Framed,
    /// The other side closed in good order.
    Closed,
    Reset,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    /// The body as it came over the wire, chunked coding included.
    pub body: Vec<u8>,
    pub end: End,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// All values of a field, each as it came.
    pub fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The body without its chunked coding.
    pub fn payload(&self) -> Vec<u8> {
        if self.field("transfer-encoding").is_none() {
            return self.body.clone();
        }
        let (mut payload, mut rest) = (Vec::new(), &self.body[..]);
        while let Some(at) = find(rest, b"\r\n") {
            let line = String::from_utf8_lossy(&rest[..at]);
            let size = usize::from_str_radix(line.trim(), 16).expect("a chunk's size");
            if size == 0 {
                break;
            }
            let from = at + 2;
            payload.extend_from_slice(&rest[from..from + size]);
            rest = &rest[from + size + 2..];
        }
        payload
    }

    pub fn says_close(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

pub struct Wire {
    pub stream: TcpStream,
    input: Vec<u8>,
}

impl Wire {
    pub fn open(address: SocketAddr) -> Wire {
        Wire::try_open(address).unwrap_or_else(|error| panic!("connect to {address}: {error}"))
    }

    pub fn try_open(address: SocketAddr) -> std::io::Result<Wire> {
        Wire::of(TcpStream::connect_timeout(&address, PATIENCE)?)
    }

    fn of(stream: TcpStream) -> std::io::Result<Wire> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Wire { stream, input: Vec::new() })
    }

    /// Comes from an address of its own, as clients of a network do.
    pub fn open_from(source: IpAddr, address: SocketAddr) -> Wire {
        let family = if source.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket(family, SocketType::STREAM, None).expect("a socket");
        bind(&socket, &SocketAddr::new(source, 0)).unwrap_or_else(|error| panic!("bind to {source}: {error}"));
        connect(&socket, &address).unwrap_or_else(|error| panic!("connect from {source} to {address}: {error}"));
        Wire::of(TcpStream::from(socket)).expect("a socket takes its options")
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the other side reads");
    }

    pub fn get(&mut self, target: &str) -> Answer {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: e2e\r\n\r\n"));
        self.answer().unwrap_or_else(|end| panic!("no answer to {target}: {end:?}"))
    }

    /// The next answer to a request that was not HEAD, or how the connection ended instead.
    pub fn answer(&mut self) -> Result<Answer, End> {
        self.answer_to(false)
    }

    pub fn answer_to(&mut self, head_only: bool) -> Result<Answer, End> {
        read_answer(&mut self.input, head_only, |input| more(&mut self.stream, input))
    }

    /// Reads until the other side ends: what came, and how.
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Err(end) = self.more() {
                return (std::mem::take(&mut self.input), end);
            }
        }
    }

    /// Waits for exactly this many bytes.
    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.input.len() < count {
            self.more().unwrap_or_else(|end| panic!("{end:?} after {} of {count} bytes", self.input.len()));
        }
        self.input.drain(..count).collect()
    }

    fn more(&mut self) -> Result<(), End> {
        more(&mut self.stream, &mut self.input)
    }

    /// Leaves with a reset instead of an orderly end.
    pub fn reset(self) {
        set_socket_linger(&self.stream, Some(Duration::ZERO)).expect("a socket takes the option");
    }
}

/// Reads what has come, or waits for it; panics when nothing comes for too long.
pub fn more(stream: &mut impl Read, input: &mut Vec<u8>) -> Result<(), End> {
    let mut bytes = [0; 65536];
    match stream.read(&mut bytes) {
        Ok(0) => Err(End::Closed),
        Ok(count) => {
            input.extend_from_slice(&bytes[..count]);
            Ok(())
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("nothing came for {PATIENCE:?}; so far {:?}", String::from_utf8_lossy(input))
        }
        Err(_) => Err(End::Reset),
    }
}

/// One answer out of `input`, which `more` fills.
pub fn read_answer(
    input: &mut Vec<u8>,
    head_only: bool,
    mut more: impl FnMut(&mut Vec<u8>) -> Result<(), End>,
) -> Result<Answer, End> {
    let head_end = loop {
        if let Some(at) = find(input, b"\r\n\r\n") {
            break at + 4;
        }
        more(input)?;
    };
    let head = String::from_utf8(input.drain(..head_end).collect()).expect("heads are ASCII here");
    let status: u16 = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status line");
    let mut answer = Answer { status, head, body: Vec::new(), end: End::Framed };
    if head_only || status < 200 || status == 204 || status == 304 {
        return Ok(answer);
    }
    let wanted = if answer.field("transfer-encoding").is_some() {
        None
    } else {
        Some(answer.field("content-length").map_or(usize::MAX, |length| length.parse().expect("a number")))
    };
    loop {
        let complete = match wanted {
            Some(length) => (input.len() >= length).then_some(length),
            None => find(input, b"0\r\n\r\n").map(|at| at + 5),
        };
        if let Some(length) = complete {
            answer.body = input.drain(..length).collect();
            return Ok(answer);
        }
        if let Err(end) = more(input) {
            answer.body = std::mem::take(input);
            answer.end = end;
            return Ok(answer);
        }
    }
}

pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// What a steady client saw.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub good: u64,
    /// Connects that nobody listened for any more.
    pub refused: u64,
    /// Requests that did not end as they should: when, since the start, and how.
    pub losses: Vec<String>,
}

/// Clients that ask for the same page over keep-alive connections at a steady rate, and honour
/// `Connection: close` as RFC 9112 section 9.6 asks.
pub struct Steady {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    threads: Vec<JoinHandle<()>>,
}

impl Steady {
    /// Its threads are in the caller's network namespace.
    pub fn start(address: SocketAddr, target: &'static str, connections: u32, per_second: u32) -> Steady {
        let stop = Arc::new(AtomicBool::new(false));
        let tally: Arc<Mutex<Tally>> = Arc::default();
        let begun = Instant::now();
        let gap = Duration::from_secs(1) * connections / per_second;
        let threads = (0..connections)
            .map(|index| {
                let (stop, tally) = (Arc::clone(&stop), Arc::clone(&tally));
                std::thread::spawn(move || {
                    let mut next = begun + gap * index / connections;
                    let mut wire = None;
                    while !stop.load(Ordering::Relaxed) {
                        let now = Instant::now();
                        if now < next {
                            std::thread::park_timeout(next - now);
                            continue;
                        }
                        // A client that fell behind does not catch up with a burst.
                        next = now.max(next + gap);
                        let after = begun.elapsed();
                        let asked = ask(&mut wire, address, target);
                        let mut tally = tally.lock().expect("no client panics with it");
                        match asked {
                            Ok(true) => tally.good += 1,
                            Ok(false) => tally.refused += 1,
                            Err(text) => tally.losses.push(format!("after {after:?}: {text}")),
                        }
                    }
                })
            })
            .collect();
        Steady { stop, tally, threads }
    }

    pub fn so_far(&self) -> Tally {
        self.tally.lock().expect("no client panics with it").clone()
    }

    pub fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a steady client does not panic");
        }
        self.tally.lock().expect("no client panics with it").clone()
    }
}

/// One request. `Ok(false)`: nobody listens.
fn ask(kept: &mut Option<Wire>, address: SocketAddr, target: &str) -> Result<bool, String> {
    let fresh = kept.is_none();
    let mut wire = match kept.take() {
        Some(wire) => wire,
        None => match Wire::try_open(address) {
            Ok(wire) => wire,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(false),
            Err(error) => return Err(format!("connect: {error}")),
        },
    };
    let how = if fresh { "fresh" } else { "kept" };
    let request = format!("GET {target} HTTP/1.1\r\nHost: e2e\r\n\r\n");
    wire.stream.write_all(request.as_bytes()).map_err(|error| format!("{how} connection, write: {error}"))?;
    let answer = wire.answer().map_err(|end| format!("{how} connection, no answer: {end:?}"))?;
    if answer.status != 200 || answer.end == End::Reset {
        let why = answer.field("proxy-status").unwrap_or("none").to_owned();
        if !answer.says_close() && answer.end == End::Framed {
            *kept = Some(wire);
        }
        return Err(format!("status {} ({:?}) proxy-status {why}", answer.status, answer.end));
    }
    if !answer.says_close() {
        *kept = Some(wire);
    }
    Ok(true)
}
