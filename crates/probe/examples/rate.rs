//! How many probes one thread runs in a second, and what CPU each costs: one line of JSON.
//!
//! `rate [KEYS [PROBES]]` keeps KEYS probes running (256; of udp at most 64) until PROBES (20000) are done, for
//! each kind, against one listener on loopback. `cpu_us` is the CPU of the probing thread for each probe; on loopback
//! it holds the kernel's work for the target's side too. `process_cpu_us` adds the threads that play the target.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use evenkeel_health::pattern::{Covers, Pattern};
use evenkeel_health::settings::{CheckSettings, HttpProbe, ProbeSettings, Silence, TcpProbe, Timing, UdpProbe};
use evenkeel_model::Instant;
use evenkeel_model::finding::ProbeKind;
use evenkeel_probe::{Job, Prober};
use evenkeel_reactor::epoll::{EpollDriver, bind_tcp};
use evenkeel_reactor::{Clock, Close, Driver, ListenOptions, Recv, Sock, Token};
use rustix::time::{ClockId, clock_gettime};

fn main() -> ExitCode {
    let numbers: Option<Vec<u64>> = std::env::args().skip(1).map(|text| text.parse().ok()).collect();
    let (keys, probes) = match numbers.as_deref() {
        Some([]) => (256, 20_000),
        Some([keys]) => (*keys, 20_000),
        Some([keys, probes]) => (*keys, *probes),
        Some(_) | None => {
            eprintln!("usage: rate [KEYS [PROBES]]");
            return ExitCode::from(2);
        }
    };
    let http = HttpProbe::default();
    let udp = UdpProbe {
        send: b"ping".to_vec(),
        expect: Some(Pattern::literal(b"pong", Covers::Whole)),
        silence: Silence::Fail,
        ..UdpProbe::default()
    };
    let kinds = [
        ("tcp_half_open", listener_that_waits(), ProbeSettings::Tcp(TcpProbe::HalfOpen)),
        ("tcp_full", listener_that_accepts(), ProbeSettings::Tcp(TcpProbe::Full)),
        ("http", http_server(), ProbeSettings::Http(http)),
        ("udp", udp_server(), ProbeSettings::Udp(udp)),
    ];
    let rows = kinds.map(|(name, address, probe)| {
        // More datagrams at once than one socket's default buffer holds would measure its losses.
        let keys = if probe.kind() == ProbeKind::Udp { keys.min(64) } else { keys };
        format!("\"{name}\":{}", measure(address, probe, keys, probes))
    });
    println!("{{{}}}", rows.join(","));
    ExitCode::SUCCESS
}

/// Keeps `keys` probes running until `probes` are done.
fn measure(address: SocketAddr, probe: ProbeSettings, keys: u64, probes: u64) -> String {
    let timing = Timing::new(Duration::from_secs(5), Duration::ZERO, 1, 1);
    let check = Arc::new(CheckSettings { probe, timing, sources: Default::default() });
    let job = |key| Job { key, address, check: Arc::clone(&check) };
    let (clock, _) = Clock::start();
    let mut driver = EpollDriver::new(clock).expect("the process has files left");
    let mut prober = Prober::new();
    let mut events = Vec::new();
    let (began, cpu, process_cpu) = (driver.now(), cpu(ClockId::ThreadCPUTime), self::cpu(ClockId::ProcessCPUTime));
    let (mut started, mut done) = (0, 0);
    // What did not pass, by its text: a figure for probes that fail would be one for something else.
    let mut others: BTreeMap<String, u64> = BTreeMap::new();
    while started < keys.min(probes) {
        prober.start(&mut driver, job(started));
        started += 1;
    }
    while done < probes {
        while let Some(ended) = prober.poll_done() {
            done += 1;
            if !ended.finding.result.passed() {
                *others.entry(format!("{:?}", ended.finding.result)).or_default() += 1;
            }
            if started < probes {
                prober.start(&mut driver, job(ended.key));
                started += 1;
            }
        }
        if done < probes {
            driver.poll(&mut events, prober.poll_timeout());
            for &event in &events {
                prober.handle(&mut driver, event);
            }
            let now = driver.now();
            prober.handle_timeout(&mut driver, now);
        }
    }
    let took = driver.now().since(began);
    for (text, times) in &others {
        eprintln!("{times} probes did not pass: {text}");
    }
    let each = |spent: Duration| spent.as_secs_f64() * 1e6 / probes as f64;
    format!(
        "{{\"keys\":{keys},\"probes\":{probes},\"passed\":{},\
         \"per_second\":{:.0},\"cpu_us\":{:.2},\"process_cpu_us\":{:.2}}}",
        probes - others.values().sum::<u64>(),
        probes as f64 / took.as_secs_f64(),
        each(self::cpu(ClockId::ThreadCPUTime) - cpu),
        each(self::cpu(ClockId::ProcessCPUTime) - process_cpu),
    )
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A kernel-chosen port of loopback.
fn listening() -> (OwnedFd, SocketAddr) {
    let listener =
        bind_tcp((Ipv4Addr::LOCALHOST, 0).into(), &ListenOptions::plain(4096)).expect("loopback has a free port");
    let address = rustix::net::getsockname(&listener).expect("a bound socket has an address");
    (listener, address.try_into().expect("it is an internet address"))
}

/// Half-open probes never reach the application, so there need not be one.
fn listener_that_waits() -> SocketAddr {
    let (listener, address) = listening();
    thread::spawn(move || {
        let _listener = listener;
        thread::park();
    });
    address
}

fn listener_that_accepts() -> SocketAddr {
    let (listener, address) = listening();
    let listener = TcpListener::from(listener);
    listener.set_nonblocking(false).expect("a listener takes the option");
    thread::spawn(move || listener.incoming().for_each(drop));
    address
}

fn udp_server() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let address = socket.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        let mut asked = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut asked) {
            // The probe may be gone; the next one is not.
            let _ = socket.send_to(b"pong", from);
        }
    });
    address
}

/// Answers whatever comes with 200 and closes.
fn http_server() -> SocketAddr {
    const LISTENER: Token = Token(1 << 32);
    let (listener, address) = listening();
    thread::spawn(move || {
        let (clock, _) = Clock::start();
        let mut driver = EpollDriver::new(clock).expect("the process has files left");
        let listener = driver.listen(listener, LISTENER).expect("the listener can be watched");
        let mut events = Vec::new();
        let mut request = [0; 4096];
        loop {
            driver.poll(&mut events, None::<Instant>);
            for event in &events {
                if event.token == LISTENER {
                    while let Ok(Some((sock, _))) = driver.accept(listener) {
                        driver.watch(sock, Token(u64::from(sock.0))).expect("the connection can be watched");
                    }
                } else if event.readable {
                    let sock = Sock(event.token.0 as u32);
                    if let Recv::Bytes(_) = driver.recv(sock, &mut request) {
                        driver.send(sock, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                    }
                    driver.close(sock, Close::Orderly);
                }
            }
        }
    });
    address
}
