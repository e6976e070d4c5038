//! Frames drawn without sense, to a user that does senseless things: nothing panics, nothing grows, and a failure stays one.
//! Most are nearly right, because what is wholly wrong gets no further than the first check.

use evenkeel_h2::frame::{Kind, PREFACE};
use evenkeel_h2::{Close, Connection, Event, Role, Settings, StreamId};

#[path = "machine/raw.rs"]
mod raw;
#[path = "machine/support.rs"]
mod support;

use raw::{GET, OK, POST, TRAILER, frame, frames, post_of_length, setting};
use support::{Draw, NOW, settings};

fn drawn_payload(kind: Kind, draw: &mut Draw) -> Vec<u8> {
    let noise = |draw: &mut Draw, most: usize| (0..draw.below(most + 1)).map(|_| draw.below(256) as u8).collect();
    // Mostly what the kind wants, or nothing would ever get past the first check.
    if draw.one_in(300) {
        return noise(draw, 300);
    }
    match kind {
        Kind::Headers | Kind::Continuation => match draw.below(7) {
            0 | 1 => GET.to_vec(),
            2 => POST.to_vec(),
            3 => post_of_length(b'0' + draw.below(10) as u8),
            4 => OK.to_vec(),
            5 => TRAILER.to_vec(),
            _ if draw.one_in(10) => noise(draw, 40),
            _ => [GET, TRAILER].concat(),
        },
        Kind::Data => vec![3; [0, 1, 10, 5000, 16_384][draw.below(5)]],
        Kind::Priority => vec![draw.below(4) as u8; 5],
        Kind::ResetStream => vec![0, 0, 0, draw.below(14) as u8],
        Kind::Settings => {
            let (name, value) =
                [(1, 0), (1, 4096), (3, 1), (3, 100), (4, 0), (4, 70_000), (5, 20_000), (9, 1), (77, 5)][draw.below(9)];
            if draw.one_in(3) { Vec::new() } else { setting(name, value) }
        }
        Kind::Ping => vec![draw.below(3) as u8; 8],
        Kind::GoAway => vec![0; 8],
        Kind::WindowUpdate => {
            vec![[0, 0x7f][usize::from(draw.one_in(60))], 0, draw.below(2) as u8, draw.below(256) as u8]
        }
        Kind::PushPromise | Kind::PriorityUpdate | Kind::Unknown(_) => noise(draw, 20),
    }
}

fn drawn_kind(draw: &mut Draw) -> Kind {
    let usual = [0, 0, 0, 1, 1, 1, 1, 2, 3, 4, 6, 8, 8];
    Kind::read(if draw.one_in(150) { draw.below(20) as u8 } else { usual[draw.below(usual.len())] })
}

fn drawn_flags(kind: Kind, draw: &mut Draw) -> u8 {
    if draw.one_in(200) {
        return draw.below(256) as u8;
    }
    let end = u8::from(draw.one_in(3));
    match kind {
        Kind::Headers => 4 | end,
        Kind::Continuation => 4,
        Kind::Data => end,
        _ => 0,
    }
}

const TEXTS: [&str; 7] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "0\r\nx: y\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 200 OK\r\n\r\nuntil the end",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab",
    "nonsense\r\n\r\n",
];

fn user_acts(of: &mut Connection, streams: &mut Vec<StreamId>, draw: &mut Draw) {
    while let Some(event) = of.next_event() {
        if let Event::Opened(id) = event {
            streams.push(id);
        }
    }
    streams.extend(of.open(1));
    for _ in 0..draw.below(6) {
        if streams.is_empty() {
            break;
        }
        let position = draw.below(streams.len());
        let id = streams[position];
        match draw.below(6) {
            0 | 1 => drop(of.send(id, TEXTS[draw.below(TEXTS.len())].as_bytes())),
            2 | 3 => {
                let mut space = [0; 700];
                let _ = of.recv(id, &mut space[..draw.below(700)]);
            }
            4 => of.finish(id),
            _ => {
                of.close(id, if draw.one_in(2) { Close::Orderly } else { Close::Cut });
                // From time to time the id is used on, as a user with a fault would.
                if !draw.one_in(5) {
                    streams.swap_remove(position);
                }
            }
        }
    }
    if draw.one_in(200) {
        of.go_away(evenkeel_h2::frame::ErrorCode::NO_ERROR, NOW);
    }
    if draw.one_in(3) {
        let owed = of.output().len();
        of.sent(draw.below(owed + 1));
    }
}

#[test]
fn nonsense_never_panics_and_never_piles_up() {
    let small = Settings { streams: 10, header_limit: 1024, connection_window: 70_000, ..settings() };
    let (mut failed, mut survived, mut opened) = (0, 0, 0);
    for seed in 1..=1500 {
        let mut draw = Draw::new(seed);
        let role = if seed % 3 == 0 { Role::Client } else { Role::Server };
        let mut end = Connection::new(role, &small, NOW);
        let mut greeting = if role == Role::Server { PREFACE.to_vec() } else { Vec::new() };
        greeting.extend(frame(Kind::Settings, 0, 0, &[]));
        end.receive(&greeting, NOW).expect("greeting");
        let (mut streams, mut next) = (Vec::new(), 1_u32);
        if role == Role::Client {
            for _ in 0..8 {
                let id = end.open(1).expect("allowed");
                end.send(id, TEXTS[5].as_bytes()).expect("a request");
                streams.push(id);
            }
            next = 15;
        } else {
            end.receive(&frame(Kind::Headers, 4, 1, POST), NOW).expect("a request");
        }
        for _ in 0..120 {
            let kind = drawn_kind(&mut draw);
            let stream = match kind {
                Kind::Settings | Kind::Ping | Kind::GoAway => 0,
                Kind::Headers if role == Role::Server && draw.one_in(2) => {
                    next += 2;
                    next
                }
                Kind::WindowUpdate if draw.one_in(2) => 0,
                _ if draw.one_in(400) => draw.below(50) as u32,
                _ => next.saturating_sub(2 * draw.below(4) as u32) | 1,
            };
            let flags = drawn_flags(kind, &mut draw);
            let bytes = frame(kind, flags, stream, &drawn_payload(kind, &mut draw));
            let cut = draw.below(bytes.len() + 1);
            let result = end.receive(&bytes[..cut], NOW).and_then(|()| end.receive(&bytes[cut..], NOW));
            user_acts(&mut end, &mut streams, &mut draw);
            assert!(end.footprint() < 700_000, "seed {seed}: {} bytes", end.footprint());
            if let Err(failure) = result {
                assert_eq!(end.receive(GET, NOW), Err(failure), "seed {seed}");
                break;
            }
        }
        if end.failure().is_some() {
            failed += 1
        } else {
            survived += 1
        }
        opened += streams.len();
        for id in streams {
            end.close(id, Close::Cut);
        }
        while let Some(event) = end.next_event() {
            if let Event::Opened(id) = event {
                end.close(id, Close::Cut);
            }
        }
        assert!(end.is_idle(), "seed {seed}: {} streams are left", end.streams());
        let written = end.output().len();
        end.sent(written);
        assert!(end.output().is_empty());
    }
    // The draw reaches deep: neither does everything fail at once, nor is nothing ever wrong.
    assert!(failed > 100 && survived > 100 && opened > 1000, "{failed} failed, {survived} survived, {opened} opened");
}

#[test]
fn what_is_said_in_answer_to_nonsense_is_whole_frames() {
    for seed in 1..=200 {
        let mut draw = Draw::new(seed);
        let mut end = Connection::new(Role::Server, &settings(), NOW);
        end.receive(PREFACE, NOW).expect("greeting");
        end.receive(&frame(Kind::Settings, 0, 0, &[]), NOW).expect("greeting");
        let mut streams = Vec::new();
        for number in 0..60 {
            let kind = drawn_kind(&mut draw);
            let payload = drawn_payload(kind, &mut draw);
            let flags = drawn_flags(kind, &mut draw);
            if end.receive(&frame(kind, flags, 2 * (number / 3) + 1, &payload), NOW).is_err() {
                break;
            }
            while let Some(event) = end.next_event() {
                if let Event::Opened(id) = event {
                    streams.push(id);
                }
            }
            for id in &streams {
                let _ = end.send(*id, TEXTS[draw.below(TEXTS.len())].as_bytes());
            }
        }
        assert!(!frames(end.output()).is_empty());
    }
}
