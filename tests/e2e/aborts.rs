//! Clients that go away: five thousand aborted requests leave nothing behind and disturb nobody.
//!
//! Each client of the crowd leaves at another point: in the head, in the body it uploads, while the backend thinks,
//! in the middle of the answer; half of them in good order, half with a reset.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use crate::backend::{backend, read_head};
use crate::client::{Steady, Wire};
use crate::daemon::{Daemon, connections_to, free_address, until};

const CLIENTS: u32 = 10;
const ABORTS_EACH: u32 = 500;
const IDLE_LIMIT: usize = 3;

/// Numbers that look random and come again with the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators".
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }
}

/// Answers `/steady` at once, and everything else slowly, in pieces.
fn slow_backend() -> SocketAddr {
    backend(|mut stream| {
        while let Some(head) = read_head(&mut stream) {
            if head.starts_with("GET /steady ") {
                if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n").is_err() {
                    return;
                }
                continue;
            }
            // The client of the balancer leaves while this waits, or between two of the pieces; when it does,
            // the balancer closes and the read or write below ends.
            stream.set_read_timeout(Some(Duration::from_millis(5))).expect("a socket takes a timeout");
            if matches!(stream.read(&mut [0; 4096]), Ok(0)) {
                return;
            }
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for _ in 0..4 {
                sent = sent.and_then(|()| stream.write_all(b"1000\r\n"));
                sent = sent.and_then(|()| stream.write_all(&[b'x'; 0x1000]));
                sent = sent.and_then(|()| stream.write_all(b"\r\n"));
            }
            sent = sent.and_then(|()| stream.write_all(b"0\r\n\r\n"));
            if sent.is_err() {
                return;
            }
            stream.set_read_timeout(None).expect("a socket takes a timeout");
        }
    })
}

fn abort(address: SocketAddr, dice: &mut Dice) {
    let mut wire = Wire::open(address);
    let request: &[u8] = match dice.roll(3) {
        0 => b"GET /aborted HTTP/1.1\r\nHost: e2e\r\n\r\n",
        1 => b"POST /aborted HTTP/1.1\r\nHost: e2e\r\nContent-Length: 26\r\n\r\nabcdefghijklmnopqrstuvwxyz",
        _ => b"POST /aborted HTTP/1.1\r\nHost: e2e\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    };
    let whole = dice.roll(4) > 0;
    let sent = if whole { request.len() } else { dice.roll(request.len() as u64) as usize };
    wire.send(&request[..sent]);
    if whole && dice.roll(2) == 0 {
        // Some of the answer, never all of its more than 16 KiB.
        let mut some = vec![0; 1 + dice.roll(9000) as usize];
        wire.stream.read_exact(&mut some).expect("the balancer passes the answer on");
    }
    if dice.roll(2) == 0 {
        wire.reset();
    }
}

#[test]
fn five_thousand_aborted_requests_leave_nothing_behind_and_disturb_nobody() {
    let (address, server) = (free_address(), slow_backend());
    let daemon = Daemon::start(
        "aborts",
        &format!(
            "[[listener]]\nname = \"web\"\nlisten = \"{address}\"\npool = \"web\"\n\
             [[pool]]\nname = \"web\"\nbackends = [\"{server}\"]\ncheck = \"off\"\n\
             idle_timeout = \"3s\"\nidle_connections = {IDLE_LIMIT}\n"
        ),
    );
    let steady = Steady::start(address, "/steady", 4, 200);
    let seed = 0x5eed_0000 + u64::from(std::process::id());
    println!("seed {seed:#x}");
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                let mut dice = Dice(seed + u64::from(client));
                for _ in 0..ABORTS_EACH {
                    abort(address, &mut dice);
                }
            });
        }
    });
    let tally = steady.stop();
    assert!(tally.losses.is_empty(), "seed {seed:#x}: {} of {}: {:#?}", tally.losses.len(), tally.good, tally.losses);
    assert!(tally.good > 0 && tally.refused == 0, "{tally:?}");
    // Of the connections to the backend only those kept for reuse remain: for each of two workers no more
    // than the limit. Nobody asks any more, so in time those go too.
    let kept = until("the aborted requests' connections to close", || {
        let open = connections_to(server);
        (open <= 2 * IDLE_LIMIT).then_some(open)
    });
    until(&format!("the {kept} idle connections to close after idle_timeout"), || {
        (connections_to(server) == 0).then_some(())
    });
    until("the gauge of requests in flight to be 0", || {
        (daemon.metric("evenkeel_backend_in_flight", &[]) == 0.0).then_some(())
    });
    assert_eq!(daemon.metric("evenkeel_listener_connections", &["listener=\"web\""]), 0.0);
    assert_eq!(daemon.metric("evenkeel_access_log_dropped_lines_total", &[]), 0.0);

    // What went wrong is the clients' doing, each request once.
    let mut causes: BTreeMap<String, u64> = BTreeMap::new();
    for line in daemon.log() {
        let cause = line["cause"].as_str().unwrap_or("none").to_owned();
        *causes.entry(format!("{} {cause}", line["target"].as_str().unwrap_or("no target"))).or_default() += 1;
    }
    let count = |key: &str| causes.get(key).copied().unwrap_or(0);
    assert_eq!(count("/steady none"), tally.good, "seed {seed:#x}: {causes:?}");
    let named = count("/aborted client_aborted") + count("no target client_aborted");
    let rest: u64 = causes.values().sum::<u64>() - count("/steady none");
    // An answer of 16 KiB fits the sockets in between, so many an exchange is complete for the balancer when the client
    // leaves. Nothing else may stand there.
    assert_eq!(rest, named + count("/aborted none"), "seed {seed:#x}: {causes:?}");
    assert!(named > u64::from(CLIENTS * ABORTS_EACH) / 5, "seed {seed:#x}: {causes:?}");
    println!("{causes:?}, {kept} connections kept for reuse at the end");
}
