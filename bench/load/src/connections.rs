//! Opens connections as fast as they are served: connect, send 64 bytes, read 64 bytes back, close, again.
//!
//! A fixed number of connections is always on its way. The client closes first, as most clients do, so the proxy
//! sees an orderly end; a reset would be cheaper for us and would measure another path of the proxy.

use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with};

use crate::latency::Latencies;

const MESSAGE: usize = 64;

/// A connection that takes longer is broken. Loopback answers within a millisecond.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Load {
    pub target: SocketAddr,
    pub length: Duration,
    pub concurrency: usize,
}

/// One place in the fixed number of connections; it holds one connection after the other.
struct Lane {
    socket: Option<OwnedFd>,
    begun: Instant,
    message: [u8; MESSAGE],
    sent: bool,
    received: usize,
}

enum Step {
    Waiting,
    Done,
    Failed(String),
}

struct Score {
    connections: u64,
    errors: u64,
    first_error: Option<String>,
    latencies: Latencies,
}

impl Score {
    fn fail(&mut self, why: String) {
        self.errors += 1;
        self.first_error.get_or_insert(why);
    }
}

pub fn run(load: &Load) -> Result<String, Errno> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let start = Instant::now();
    let end = start + load.length;
    let mut score = Score { connections: 0, errors: 0, first_error: None, latencies: Latencies::new() };
    let mut serial = 0u64;
    let mut lanes: Vec<Lane> = (0..load.concurrency)
        .map(|_| Lane { socket: None, begun: start, message: [0; MESSAGE], sent: false, received: 0 })
        .collect();
    for (number, lane) in lanes.iter_mut().enumerate() {
        begin(&poll, lane, number, load.target, &mut serial, &mut score);
    }
    let mut room = [MaybeUninit::uninit(); 256];
    let tick = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    let mut last_sweep = start;
    loop {
        let now = Instant::now();
        if now >= end {
            break;
        }
        let (events, _) = match epoll::wait(&poll, &mut room, Some(&tick)) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        for event in events.iter() {
            let number = event.data.u64() as usize;
            let lane = &mut lanes[number];
            // The event that says "writable" comes with every connect and is old news once the message is out.
            let flags = event.flags;
            if lane.sent && flags == epoll::EventFlags::OUT {
                continue;
            }
            match advance(lane) {
                Step::Waiting => continue,
                Step::Done => {
                    score.connections += 1;
                    score.latencies.record(lane.begun.elapsed());
                }
                Step::Failed(why) => score.fail(why),
            }
            begin(&poll, lane, number, load.target, &mut serial, &mut score);
        }
        if now.duration_since(last_sweep) > Duration::from_secs(1) {
            last_sweep = now;
            for (number, lane) in lanes.iter_mut().enumerate() {
                if lane.begun.elapsed() > PATIENCE {
                    if lane.socket.is_some() {
                        score.fail(format!("no answer within {PATIENCE:?}"));
                    }
                    begin(&poll, lane, number, load.target, &mut serial, &mut score);
                }
            }
        }
    }
    Ok(report(&score, start.elapsed()))
}

/// Puts a fresh connection into the lane. A connect that fails leaves the lane empty until the next sweep, so that
/// a dead proxy gives a few errors a second instead of a busy loop.
fn begin(poll: &OwnedFd, lane: &mut Lane, number: usize, target: SocketAddr, serial: &mut u64, score: &mut Score) {
    *serial += 1;
    lane.begun = Instant::now();
    lane.received = 0;
    lane.sent = false;
    // Each connection's message is its own, so that an answer meant for another one is noticed.
    for piece in lane.message.chunks_exact_mut(8) {
        piece.copy_from_slice(&serial.to_le_bytes());
    }
    // Dropping the old socket closes it, and closing takes it out of the epoll set.
    lane.socket = None;
    match open(poll, number, target) {
        Ok(socket) => {
            lane.socket = Some(socket);
            // On loopback the handshake is over when connect returns: the message can go at once.
            if let Err(why) = send_message(lane) {
                score.fail(why);
                lane.socket = None;
            }
        }
        Err(error) => score.fail(format!("connect: {error}")),
    }
}

/// Starts a connect; every later event of the socket carries `number`.
pub fn open(poll: &OwnedFd, number: usize, target: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    match connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error),
    }
    let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
    epoll::add(poll, &socket, epoll::EventData::new_u64(number as u64), interest)?;
    Ok(socket)
}

fn send_message(lane: &mut Lane) -> Result<(), String> {
    let Some(socket) = &lane.socket else { return Ok(()) };
    match send(socket, &lane.message, SendFlags::NOSIGNAL) {
        Ok(MESSAGE) => lane.sent = true,
        Ok(_) => return Err("short send".to_owned()),
        Err(Errno::AGAIN | Errno::NOTCONN) => {}
        Err(error) => return Err(format!("send: {error}")),
    }
    Ok(())
}

fn advance(lane: &mut Lane) -> Step {
    if !lane.sent {
        return send_message(lane).map_or_else(Step::Failed, |()| Step::Waiting);
    }
    let Some(socket) = &lane.socket else { return Step::Waiting };
    let mut bytes = [0u8; MESSAGE + 1];
    match recv(socket, &mut bytes, RecvFlags::empty()) {
        Ok((0, _)) => Step::Failed(format!("closed after {} of {MESSAGE} bytes", lane.received)),
        Ok((read, _)) => {
            let expected = lane.message.get(lane.received..lane.received + read);
            if expected != Some(&bytes[..read]) {
                return Step::Failed("wrong bytes came back".to_owned());
            }
            lane.received += read;
            if lane.received == MESSAGE { Step::Done } else { Step::Waiting }
        }
        Err(Errno::AGAIN | Errno::INTR) => Step::Waiting,
        Err(error) => Step::Failed(format!("receive: {error}")),
    }
}

fn report(score: &Score, elapsed: Duration) -> String {
    let first = score.first_error.as_ref().map_or("null".to_owned(), |text| format!("{text:?}"));
    format!(
        "{{\"connections\": {}, \"seconds\": {:.6}, \"errors\": {}, \"first_error\": {first}, \"p50_us\": {:.1}, \"p99_us\": {:.1}}}",
        score.connections,
        elapsed.as_secs_f64(),
        score.errors,
        score.latencies.percentile_us(50.0),
        score.latencies.percentile_us(99.0),
    )
}
