//! What frames cost us: nanoseconds for a served request, for a megabyte each way, and for each frame of the usual attacks.
//!
//! `cargo run --release -p evenkeel-h2 --example cost`. An attack frame is dear when it costs us much more than its bytes cost the
//! attacker; the limits in `defence.rs` then have to be low.

use std::time::Instant as Clock;

use evenkeel_h2::frame::{Head, Kind, PREFACE};
use evenkeel_h2::{Close, Connection, Event, Role, Settings, StreamRecv};
use evenkeel_model::time::Instant;

const SETTINGS: Settings = Settings {
    streams: 128,
    stream_window: 65_536,
    connection_window: 1 << 20,
    header_limit: 32 * 1024,
    max_frame: 16_384,
    extended_connect: true,
    secure: false,
};
/// `GET http://a/`.
const GET: &[u8] = &[0x82, 0x84, 0x86, 0x01, 1, b'a'];

fn frame(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Head { length: payload.len() as u32, kind, flags, stream }.write(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

fn server() -> Connection {
    let mut end = Connection::new(Role::Server, &SETTINGS, Instant::START);
    end.receive(PREFACE, Instant::START).expect("greeting");
    end.receive(&frame(Kind::Settings, 0, 0, &[]), Instant::START).expect("greeting");
    end.receive(&frame(Kind::Settings, 1, 0, &[]), Instant::START).expect("greeting");
    while end.next_event().is_some() {}
    flush(&mut end);
    end
}

/// Runs rounds of at most a limit's worth on fresh connections and prints the mean.
fn measure(name: &str, rounds: u32, per_round: u32, mut round: impl FnMut(&mut Connection, u32)) {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let mut took = 0.0;
        for _ in 0..rounds {
            let mut end = server();
            let started = Clock::now();
            for number in 0..per_round {
                round(&mut end, number);
            }
            took += started.elapsed().as_secs_f64();
        }
        best = best.min(took / f64::from(rounds * per_round));
    }
    println!("{name:<44} {:>9.0} ns", best * 1e9);
}

fn flush(end: &mut Connection) {
    let owed = end.output().len();
    end.sent(owed);
}

fn main() {
    println!("connection {} bytes at rest", server().footprint());
    let mut space = vec![0; 64 * 1024];
    measure("GET served, 200 with 5 bytes", 100, 1000, |end, number| {
        end.receive(&frame(Kind::Headers, 5, 2 * number + 1, GET), Instant::START).expect("fine");
        let Some(Event::Opened(id)) = end.next_event() else { unreachable!("one request, one event") };
        assert!(matches!(end.recv(id, &mut space), StreamRecv::Bytes(_)));
        end.send(id, b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nhello").expect("fine");
        end.close(id, Close::Orderly);
        flush(end);
    });
    let megabyte = vec![b'x'; 1 << 20];
    let update =
        [frame(Kind::WindowUpdate, 0, 0, &[0, 0x10, 0, 0]), frame(Kind::WindowUpdate, 0, 1, &[0, 0x10, 0, 0])].concat();
    measure("1 MiB sent", 10, 100, |end, number| {
        if number == 0 {
            end.receive(&frame(Kind::Headers, 5, 1, GET), Instant::START).expect("fine");
        }
        end.receive(&update, Instant::START).expect("fine");
        while let Some(event) = end.next_event() {
            if let Event::Opened(id) = event {
                end.set_tag(id, 1);
                end.send(id, b"HTTP/1.1 200 OK\r\n\r\n").expect("fine");
                SENT.set(Some(id));
            }
        }
        let id = SENT.get().expect("opened in the first round");
        let mut at = 0;
        while at < megabyte.len() {
            let taken = end.send(id, &megabyte[at..]).expect("fine");
            if taken == 0 {
                break;
            }
            at += taken;
            flush(end);
        }
    });
    let data = frame(Kind::Data, 0, 1, &[b'x'; 16_384]);
    measure("1 MiB received", 10, 100, |end, number| {
        if number == 0 {
            end.receive(&frame(Kind::Headers, 4, 1, GET), Instant::START).expect("fine");
            let Some(Event::Opened(id)) = end.next_event() else { unreachable!("one request, one event") };
            SENT.set(Some(id));
        }
        let id = SENT.get().expect("opened in the first round");
        for _ in 0..64 {
            end.receive(&data, Instant::START).expect("fine");
            while let StreamRecv::Bytes(_) = end.recv(id, &mut space) {}
            while end.next_event().is_some() {}
        }
        flush(end);
    });
    type Attack = (&'static str, u32, fn(u32) -> Vec<u8>);
    let attacks: [Attack; 7] = [
        ("attack: HEADERS and RST_STREAM", 900, |number| {
            let stream = 2 * number + 1;
            [frame(Kind::Headers, 5, stream, GET), frame(Kind::ResetStream, 0, stream, &[0, 0, 0, 8])].concat()
        }),
        ("attack: HEADERS that break a rule", 900, |number| frame(Kind::Headers, 5, 2 * number + 1, &[0x82])),
        ("attack: PING", 900, |_| frame(Kind::Ping, 0, 0, &[0; 8])),
        ("attack: SETTINGS", 90, |_| frame(Kind::Settings, 0, 0, &[0, 4, 0, 1, 0, 0])),
        ("attack: WINDOW_UPDATE of 1", 900, |_| frame(Kind::WindowUpdate, 0, 0, &[0, 0, 0, 1])),
        ("attack: PRIORITY", 900, |number| frame(Kind::Priority, 0, 2 * number + 1, &[0, 0, 0, 0, 9])),
        ("attack: header list 3.9 times too large", 90, |number| {
            let block = [GET, &[0x40, 1, b'x', 0x7f, 33 | 0x80, 30], &[b'y'; 4000], &[0xbe; 30]].concat();
            frame(Kind::Headers, 5, 2 * number + 1, &block)
        }),
    ];
    for (name, per_round, make) in attacks {
        let frames: Vec<Vec<u8>> = (0..per_round).map(make).collect();
        measure(name, 100, per_round, |end, number| {
            end.receive(&frames[number as usize], Instant::START).expect("below the limit");
            while let Some(event) = end.next_event() {
                if let Event::Opened(id) = event {
                    end.close(id, Close::Cut);
                }
            }
            flush(end);
        });
    }
}

thread_local! {
    static SENT: std::cell::Cell<Option<evenkeel_h2::StreamId>> = const { std::cell::Cell::new(None) };
}
