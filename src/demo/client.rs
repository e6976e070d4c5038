//! The steady client: so many GETs a second, whatever becomes of those sent before.
//!
//! Requests leave on a timetable and not when an earlier one has ended. A client that waits sends least when a
//! backend hangs, and would hide the very failures that the window costs.
//!
//! It reads answers with eyes of its own, not with the node's parser: what it counts is what any client sees.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::{io, thread};

use evenkeel_model::Instant;
use evenkeel_reactor::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::record::{Answer, Sample};
use super::{BACKENDS, CLIENT_PATIENCE, CONNECTIONS_KEPT, CONNECTIONS_MAX, REQUESTS_PER_SECOND};

pub struct Client {
    ledger: Arc<Mutex<Ledger>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// What happened since the last look.
#[derive(Debug, Default)]
pub struct Ledger {
    pub samples: Vec<Sample>,
    pub unsent: u64,
}

impl Client {
    pub fn start(address: SocketAddr, clock: Clock) -> io::Result<Client> {
        let (ledger, stop) = (Arc::<Mutex<Ledger>>::default(), Arc::<AtomicBool>::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = {
            let (ledger, stop) = (Arc::clone(&ledger), Arc::clone(&stop));
            thread::Builder::new()
                .name("client".to_owned())
                .spawn(move || runtime.block_on(drive(address, clock, &ledger, &stop)))?
        };
        Ok(Client { ledger, stop, thread })
    }

    /// Takes what was recorded since the last call.
    pub fn take(&self) -> Ledger {
        std::mem::take(&mut *self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends nothing more, waits for the answers that are due, and hands over the rest.
    pub fn finish(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        // A panic of the client was printed by its own thread.
        let _ = self.thread.join();
        std::mem::take(&mut *self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn drive(address: SocketAddr, clock: Clock, ledger: &Mutex<Ledger>, stop: &AtomicBool) {
    let request: Arc<[u8]> =
        format!("GET / HTTP/1.1\r\nHost: {address}\r\nUser-Agent: demo\r\n\r\n").into_bytes().into();
    let mut idle: VecDeque<TcpStream> = VecDeque::new();
    let mut sent = JoinSet::new();
    let mut ticks = interval(std::time::Duration::from_secs(1) / REQUESTS_PER_SECOND);
    // After a standstill of the machine we go on, we do not catch up: a burst would be our doing.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let note = |ended: Result<(Option<TcpStream>, Sample), _>, idle: &mut VecDeque<TcpStream>| {
        let Ok((stream, sample)) = ended else { return };
        // In turn, so that all of them, and with them all workers, are used.
        idle.extend(stream.filter(|_| idle.len() < CONNECTIONS_KEPT));
        ledger.lock().unwrap_or_else(PoisonError::into_inner).samples.push(sample);
    };
    while !stop.load(Ordering::Relaxed) {
        tokio::select! {
            _ = ticks.tick() => {
                if sent.len() >= CONNECTIONS_MAX {
                    ledger.lock().unwrap_or_else(PoisonError::into_inner).unsent += 1;
                    continue;
                }
                // The first requests open the connections that are kept.
                let stream = if idle.len() + sent.len() < CONNECTIONS_KEPT { None } else { idle.pop_front() };
                sent.spawn(ask(address, stream, Arc::clone(&request), clock));
            }
            Some(ended) = sent.join_next() => note(ended, &mut idle),
        }
    }
    while let Some(ended) = sent.join_next().await {
        note(ended, &mut idle);
    }
}

/// One request. Hands the connection back when it can be used again.
async fn ask(
    address: SocketAddr,
    stream: Option<TcpStream>,
    request: Arc<[u8]>,
    clock: Clock,
) -> (Option<TcpStream>, Sample) {
    let started: Instant = clock.now();
    let exchange = async {
        let mut stream = match stream {
            Some(stream) => stream,
            None => TcpStream::connect(address).await?,
        };
        stream.set_nodelay(true)?;
        stream.write_all(&request).await?;
        let head = receive(&mut stream).await?;
        io::Result::Ok((stream, head))
    };
    let (stream, answer) = match timeout(CLIENT_PATIENCE, exchange).await {
        Ok(Ok((stream, head))) => (Some(stream).filter(|_| !head.closes), head.answer()),
        Ok(Err(error)) => (None, Answer::Broken { why: error.to_string() }),
        Err(_) => (None, Answer::Broken { why: format!("no answer within {CLIENT_PATIENCE:?}") }),
    };
    (stream, Sample { started, ended: clock.now(), answer })
}

/// Reads one whole answer.
async fn receive(stream: &mut TcpStream) -> io::Result<Head> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before a whole answer"));
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = read_head(&bytes[..end])?;
        if bytes.len() >= end + 4 + head.length {
            return Ok(head);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    length: usize,
    closes: bool,
    backend: Option<usize>,
    code: Option<String>,
}

impl Head {
    fn answer(self) -> Answer {
        match self.backend {
            Some(backend) if self.status < 300 => Answer::Served { backend },
            _ => Answer::Failed { status: self.status, code: self.code },
        }
    }
}

fn read_head(head: &[u8]) -> io::Result<Head> {
    let bad = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    let text = std::str::from_utf8(head).map_err(|_| bad("a head that is not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| bad("no status in the first line"))?;
    let mut read = Head { status, length: 0, closes: false, backend: None, code: None };
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| bad("a field without a colon"))?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => read.length = value.parse().map_err(|_| bad("a length that is no number"))?,
            "connection" => read.closes = value.eq_ignore_ascii_case("close"),
            "x-backend" => read.backend = BACKENDS.iter().position(|name| *name == value),
            "proxy-status" => read.code = code(value).map(str::to_owned),
            _ => {}
        }
    }
    Ok(read)
}

/// The cause's code in a `Proxy-Status` of the balancer. One that only marks an error as the backend's own has none.
fn code(proxy_status: &str) -> Option<&str> {
    let (_, rest) = proxy_status.split_once("details=\"")?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_served_only_if_a_backend_of_ours_signed_it() {
        let head = read_head(b"HTTP/1.1 200 OK\r\nContent-Length: 21\r\nX-Backend: b").expect("a head");
        assert_eq!((head.length, head.closes), (21, false));
        assert_eq!(head.answer(), Answer::Served { backend: 1 });
        let unsigned = read_head(b"HTTP/1.1 200 OK").expect("a head").answer();
        assert_eq!(unsigned, Answer::Failed { status: 200, code: None });
        let error = read_head(b"HTTP/1.1 500 Oops\r\nX-Backend: b").expect("a head").answer();
        assert_eq!(error, Answer::Failed { status: 500, code: None });
    }

    #[test]
    fn the_cause_is_read_from_proxy_status() {
        let head = b"HTTP/1.1 504 Gateway Timeout\r\nConnection: close\r\n\
            Proxy-Status: evenkeel; error=http_response_timeout; details=\"backend_response_timeout\"";
        let head = read_head(head).expect("a head");
        assert!(head.closes);
        let answer = head.answer();
        assert_eq!(answer.cause(), Some(evenkeel_model::Cause::BackendResponseTimeout));
        assert_eq!(code("evenkeel; received-status=500"), None);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for head in
            ["", "HTTP/1.1", "HTTP/1.1 abc", "HTTP/1.1 200 OK\r\nnonsense", "HTTP/1.1 200 OK\r\nContent-Length: x"]
        {
            assert!(read_head(head.as_bytes()).is_err(), "{head:?}");
        }
    }
}
