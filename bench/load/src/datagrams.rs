//! Asks over UDP as fast as it is answered: single questions, bursts, questions for bursts, a new port for each question.
//!
//! A fixed number of flows is always on its way, each with one burst of questions at a time. A burst ends when all
//! its answers are there; what is missing then for too long is lost, and counted, and the flow goes on. So loss lowers
//! the score, and nobody is fast by dropping.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, setsockopt, sockopt};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::answers::widen;
use crate::datagram::{self, ANSWERS, LARGE, Name};
use crate::latency::Latencies;

/// An answer that takes longer is lost. Loopback answers within a millisecond, a busy machine within some tens.
const PATIENCE: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// As many answers as questions, each by itself.
    Echo,
    /// One question, a burst of large answers, taken with UDP_GRO as QUIC software does.
    Bursts,
    /// One question, one answer, and then a socket and port of its own for the next.
    Once,
}

pub struct Load {
    pub target: SocketAddr,
    pub length: Duration,
    pub asks: Asks,
    pub flows: usize,
    /// Questions in one burst, 64 at most.
    pub burst: usize,
    /// Length of a question in bytes, a multiple of eight.
    pub size: usize,
}

struct Flow {
    socket: UdpSocket,
    burst: u64,
    begun: Instant,
    /// One bit for each answer that has not come.
    missing: u64,
}

#[derive(Default)]
struct Score {
    questions: u64,
    answers: u64,
    lost: u64,
    late: u64,
    errors: u64,
    first_error: Option<String>,
}

impl Score {
    fn fail(&mut self, why: String) {
        self.errors += 1;
        self.first_error.get_or_insert(why);
    }
}

/// Buffers for whatever comes and goes in one call.
struct Room {
    questions: Vec<Vec<u8>>,
    answers: Vec<Vec<u8>>,
}

pub fn run(load: &Load) -> Result<String, String> {
    let most = if load.asks == Asks::Echo { 64 } else { 1 };
    if !(1..=most).contains(&load.burst) || load.size < 16 || !load.size.is_multiple_of(8) || load.flows > 0xffff {
        return Err("a burst has 1 to 64 questions (1 unless they are echoed) of 16, 24, … bytes".to_owned());
    }
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| error.to_string())?;
    let answer_size = if load.asks == Asks::Bursts { 65536 } else { load.size + 8 };
    let mut room = Room {
        questions: vec![vec![0; load.size]; load.burst],
        answers: vec![vec![0; answer_size]; if load.asks == Asks::Bursts { 1 } else { load.burst }],
    };
    let start = Instant::now();
    let end = start + load.length;
    let (mut score, mut latencies) = (Score::default(), Latencies::new());
    let mut flows = Vec::with_capacity(load.flows);
    for number in 0..load.flows {
        let socket = open(&poll, number, load)?;
        flows.push(Flow { socket, burst: 0, begun: start, missing: 0 });
        ask(&mut flows[number], number, load, &mut room, &mut score);
    }
    let mut events = [MaybeUninit::uninit(); 256];
    let tick = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    let mut last_sweep = start;
    while flows.iter().any(|flow| flow.missing != 0) || Instant::now() < end {
        let (ready, _) = match epoll::wait(&poll, &mut events, Some(&tick)) {
            Err(Errno::INTR) => continue,
            other => other.map_err(|error| error.to_string())?,
        };
        let now = Instant::now();
        for event in ready.iter() {
            let number = event.data.u64() as usize;
            take(&mut flows[number], number, load, &mut room, &mut score);
            if flows[number].missing == 0 {
                latencies.record(flows[number].begun.elapsed());
                if now < end {
                    next(&poll, &mut flows[number], number, load, &mut room, &mut score)?;
                }
            }
        }
        if now.duration_since(last_sweep) >= Duration::from_millis(50) {
            last_sweep = now;
            for (number, flow) in flows.iter_mut().enumerate() {
                if now.duration_since(flow.begun) > PATIENCE && (flow.missing != 0 || now < end) {
                    score.lost += u64::from(flow.missing.count_ones());
                    flow.missing = 0;
                    if now < end {
                        next(&poll, flow, number, load, &mut room, &mut score)?;
                    }
                }
            }
        }
    }
    Ok(report(&score, &latencies, start.elapsed()))
}

fn open(poll: &OwnedFd, number: usize, load: &Load) -> Result<UdpSocket, String> {
    let any: SocketAddr =
        if load.target.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let opened = UdpSocket::bind(any).and_then(|socket| {
        socket.connect(load.target)?;
        socket.set_nonblocking(true)?;
        if load.asks != Asks::Once {
            widen(&socket)?;
        }
        if load.asks == Asks::Bursts {
            setsockopt(&socket, sockopt::UdpGroSegment, &true)?;
        }
        epoll::add(poll, &socket, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
        Ok(socket)
    });
    opened.map_err(|error| format!("a socket for {}: {error}", load.target))
}

/// The flow's next burst; on a socket of its own where that is the load.
fn next(
    poll: &OwnedFd,
    flow: &mut Flow,
    number: usize,
    load: &Load,
    room: &mut Room,
    score: &mut Score,
) -> Result<(), String> {
    if load.asks == Asks::Once {
        // The old socket is closed by this, which takes it out of the epoll set.
        flow.socket = open(poll, number, load)?;
    }
    ask(flow, number, load, room, score);
    Ok(())
}

fn ask(flow: &mut Flow, number: usize, load: &Load, room: &mut Room, score: &mut Score) {
    flow.burst += 1;
    flow.begun = Instant::now();
    for (place, question) in room.questions.iter_mut().enumerate() {
        datagram::ask(question, Name { flow: number as u16, burst: flow.burst, place: place as u8 });
    }
    let sent = match &room.questions[..] {
        [question] => send(&flow.socket, question, SendFlags::NOSIGNAL).map(|_| 1).map_err(|error| error.to_string()),
        questions => send_many(&flow.socket, questions).map_err(|error| error.to_string()),
    };
    match sent {
        Ok(sent) => {
            score.questions += sent as u64;
            let wanted = if load.asks == Asks::Bursts { ANSWERS } else { sent };
            flow.missing = u64::MAX >> (64 - wanted);
        }
        Err(why) => score.fail(format!("send: {why}")),
    }
}

fn send_many(socket: &UdpSocket, questions: &[Vec<u8>]) -> nix::Result<usize> {
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(questions.len(), None);
    let slices: Vec<_> = questions.iter().map(|question| [IoSlice::new(question)]).collect();
    let nobody = vec![None; questions.len()];
    Ok(sendmmsg(socket.as_raw_fd(), &mut headers, slices.iter(), nobody, [], MsgFlags::empty())?.count())
}

/// Takes what is there. The rest stays for the next event, which comes at once while there is more.
fn take(flow: &mut Flow, number: usize, load: &Load, room: &mut Room, score: &mut Score) {
    if room.answers.len() == 1 {
        match recv(&flow.socket, &mut room.answers[0][..], RecvFlags::empty()) {
            Ok((length, _)) => {
                let length = length.min(room.answers[0].len());
                let one = if load.asks == Asks::Bursts { LARGE } else { load.size };
                for bytes in room.answers[0][..length].chunks(one) {
                    judge(flow, number, bytes, one, score);
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => score.fail(format!("receive: {error}")),
        }
        return;
    }
    let mut lengths = [0; 64];
    let mut count = 0;
    {
        let mut headers = MultiHeaders::<SockaddrIn>::preallocate(room.answers.len(), None);
        let mut slices: Vec<_> = room.answers.iter_mut().map(|bytes| [IoSliceMut::new(bytes)]).collect();
        let wait = MsgFlags::MSG_DONTWAIT;
        match recvmmsg(flow.socket.as_raw_fd(), &mut headers, slices.iter_mut(), wait, None) {
            Ok(messages) => {
                for message in messages {
                    lengths[count] = message.bytes;
                    count += 1;
                }
            }
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
            Err(error) => score.fail(format!("receive: {error}")),
        }
    }
    for (bytes, length) in room.answers.iter().zip(&lengths[..count]) {
        judge(flow, number, &bytes[..*length], load.size, score);
    }
}

fn judge(flow: &mut Flow, number: usize, bytes: &[u8], size: usize, score: &mut Score) {
    match datagram::check(bytes, size) {
        Err(why) => score.fail(why),
        Ok(name) if usize::from(name.flow) != number => score.fail(format!("an answer for flow {} came", name.flow)),
        Ok(name) if name.burst < flow.burst => score.late += 1,
        Ok(name) => {
            let bit = 1u64.checked_shl(name.place.into()).unwrap_or(0);
            if name.burst > flow.burst || flow.missing & bit == 0 {
                score.fail("an answer came twice, or before its question".to_owned());
            } else {
                flow.missing &= !bit;
                score.answers += 1;
            }
        }
    }
}

fn report(score: &Score, latencies: &Latencies, elapsed: Duration) -> String {
    let first = score.first_error.as_ref().map_or("null".to_owned(), |text| format!("{text:?}"));
    format!(
        "{{\"questions\": {}, \"answers\": {}, \"lost\": {}, \"late\": {}, \"seconds\": {:.6}, \"errors\": {}, \
         \"first_error\": {first}, \"p50_us\": {:.1}, \"p99_us\": {:.1}}}",
        score.questions,
        score.answers,
        score.lost,
        score.late,
        elapsed.as_secs_f64(),
        score.errors,
        latencies.percentile_us(50.0),
        latencies.percentile_us(99.0),
    )
}
