//! Attacks by frames: each one costs the attacker its connection, with words that name it, while honest clients that
//! do the same at generous rates never notice. And what one connection can make us hold is bounded.

use std::time::Duration;

use evenkeel_h2::frame::{Kind, PREFACE};
use evenkeel_h2::{Close, Connection, Event, Failure, Role, Settings};
use evenkeel_model::{Cause, limits};

#[path = "machine/raw.rs"]
mod raw;
#[path = "machine/support.rs"]
mod support;

use raw::{ACK, END, GET, PADDED, POST, Reaction, WHOLE, Wire, frame, setting};
use support::{read, settings};

const ANSWER: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const CALM: u32 = 11;

/// Does it again and again until the connection ends; after how many times and why.
fn until_failure(wire: &mut Wire, most: usize, mut attack: impl FnMut(&mut Wire, usize)) -> (usize, Failure) {
    for times in 0..most {
        attack(wire, times);
        if let Some(failure) = wire.failed {
            assert_eq!(wire.reaction_of_connection(), Some(failure.code.0), "GOAWAY says the same");
            return (times + 1, failure);
        }
        wire.said.clear();
        wire.heard.clear();
    }
    panic!("{most} times and nothing happened");
}

/// Does it for an hour, so many times a second, and nothing happens.
fn lasts(wire: &mut Wire, per_second: u32, mut honest: impl FnMut(&mut Wire, usize)) {
    for times in 0..per_second as usize * 3600 {
        wire.now += Duration::from_secs(1) / per_second;
        honest(wire, times);
        assert_eq!(wire.failed, None, "after {times} times");
        wire.said.clear();
        wire.heard.clear();
    }
}

fn flood(failure: Failure, word: &str, limit: u64) {
    assert!(failure.detail.contains(word), "{failure:?}");
    assert_eq!(failure.code.0, CALM);
    assert_eq!((failure.cause, failure.limit), (Cause::ClientHttp2Flood, Some(limit)));
}

fn wire_number(times: usize) -> u32 {
    2 * times as u32 + 1
}

const CANCEL: &[u8] = &[0, 0, 0, 8];

#[test]
fn rapid_reset_costs_the_connection() {
    let mut wire = Wire::server();
    let (times, failure) = until_failure(&mut wire, 5000, |wire, times| {
        wire.get(wire_number(times));
        wire.frame(Kind::ResetStream, 0, wire_number(times), CANCEL);
    });
    flood(failure, "CVE-2023-44487", limits::H2_RESETS.value);
    assert_eq!(times as u64, limits::H2_RESETS.value + 1);
}

#[test]
fn streams_that_are_reset_before_our_user_heard_of_them_leave_nothing() {
    let mut wire = Wire::server();
    let mut bytes = Vec::new();
    for times in 0..900 {
        bytes.extend(frame(Kind::Headers, END | WHOLE, wire_number(times), GET));
        bytes.extend(frame(Kind::ResetStream, 0, wire_number(times), CANCEL));
    }
    wire.bytes(&bytes);
    assert!(wire.failed.is_none() && wire.opened.is_empty() && wire.end.is_idle());
}

#[test]
fn cancelling_a_page_now_and_then_is_no_rapid_reset() {
    let mut wire = Wire::server();
    let mut next = 0;
    // All 100 requests of a page cancelled every five seconds, for an hour.
    for _ in 0..720 {
        wire.now += Duration::from_secs(5);
        for _ in 0..100 {
            wire.get(wire_number(next));
            wire.frame(Kind::ResetStream, 0, wire_number(next), CANCEL);
            wire.close(0, Close::Cut);
            wire.opened.clear();
            next += 1;
        }
        assert_eq!(wire.failed, None);
        wire.said.clear();
    }
    assert!(wire.end.is_idle());
}

#[test]
fn cancelling_answers_that_had_begun_is_no_rapid_reset() {
    let mut wire = Wire::server();
    for times in 0..5000 {
        // The clients of a video player, at the speed of a test.
        wire.now += Duration::from_millis(40);
        wire.get(wire_number(times));
        wire.answer(0, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun");
        wire.frame(Kind::ResetStream, 0, wire_number(times), CANCEL);
        wire.close(0, Close::Cut);
        wire.opened.clear();
        assert_eq!(wire.failed, None);
        wire.said.clear();
    }
}

#[test]
fn resets_that_the_client_makes_us_send_count_the_same() {
    type Attack = fn(&mut Wire, u32);
    // CVE-2025-8671: each row makes us reset a stream whose request is running.
    let rows: [(&str, Attack); 5] = [
        ("window_update of nothing", |wire, stream| wire.frame(Kind::WindowUpdate, 0, stream, &[0; 4])),
        ("window overflow", |wire, stream| wire.frame(Kind::WindowUpdate, 0, stream, &[0x7f, 0xff, 0xff, 0xff])),
        ("priority on itself", |wire, stream| {
            wire.frame(Kind::Priority, 0, stream, &[&stream.to_be_bytes()[..], &[9]].concat());
        }),
        ("priority of four bytes", |wire, stream| wire.frame(Kind::Priority, 0, stream, &[0; 4])),
        ("data behind the end", |wire, stream| wire.frame(Kind::Data, END, stream, b"x")),
    ];
    for (name, attack) in rows {
        let mut wire = Wire::server();
        let (times, failure) = until_failure(&mut wire, 5000, |wire, times| {
            wire.get(wire_number(times));
            attack(wire, wire_number(times));
            for id in wire.opened.drain(..) {
                wire.end.close(id, Close::Cut);
            }
        });
        assert!(failure.detail.contains("CVE-2025-8671"), "{name}: {failure:?}");
        assert_eq!(times as u64, limits::H2_RESETS.value + 1, "{name}");
    }
}

#[test]
fn malformed_requests_and_refused_streams_count_too() {
    let mut wire = Wire::server();
    let (_, failure) = until_failure(&mut wire, 5000, |wire, times| {
        wire.frame(Kind::Headers, END | WHOLE, wire_number(times), &[0x82]);
    });
    flood(failure, "CVE-2023-44487", limits::H2_RESETS.value);

    let mut wire = Wire::server();
    let (times, failure) = until_failure(&mut wire, 5000, |wire, times| wire.get(wire_number(times)));
    flood(failure, "CVE-2023-44487", limits::H2_RESETS.value);
    assert_eq!(times as u64, 128 + limits::H2_RESETS.value + 1);
    assert_eq!(wire.opened.len(), 128, "our user heard of no more than was allowed");
}

#[test]
fn a_malformed_request_is_told_with_its_detail() {
    let mut wire = Wire::server();
    wire.frame(Kind::Headers, END | WHOLE, 1, &[0x82]);
    assert!(
        matches!(&wire.heard[..], [Event::Malformed { detail, .. }] if detail.contains("RFC 9113")),
        "{:?}",
        wire.heard
    );
    assert_eq!(wire.reaction(), Reaction::Stream(1, 1));
}

#[test]
fn endless_continuations_cost_the_connection_by_frames_and_by_bytes() {
    let mut wire = Wire::server();
    wire.frame(Kind::Headers, END, 1, GET);
    let (times, failure) = until_failure(&mut wire, 1000, |wire, _| wire.frame(Kind::Continuation, 0, 1, &[]));
    let allowed = limits::H2_CONTINUATIONS.value + 2;
    flood(failure, "CVE-2024-27316", allowed);
    assert_eq!(times as u64, allowed + 1);

    let mut wire = Wire::server();
    wire.frame(Kind::Headers, END, 1, GET);
    let before = wire.end.footprint();
    let (_, failure) = until_failure(&mut wire, 1000, |wire, _| {
        wire.frame(Kind::Continuation, 0, 1, &[0; 16_384]);
        assert!(wire.end.footprint() < before + 3 * 4 * 32 * 1024);
    });
    flood(failure, "CVE-2024-27316", 4 * 32 * 1024);
}

#[test]
fn control_frames_cost_the_connection_in_floods_and_nothing_at_honest_rates() {
    type Act = fn(&mut Wire, usize);
    struct Row(&'static str, u64, u32, Act);
    let table = [
        Row("settings", limits::H2_SETTINGS.value, 3, |wire, _| wire.frame(Kind::Settings, 0, 0, &setting(4, 70_000))),
        Row("ping", limits::H2_PINGS.value, 30, |wire, _| wire.frame(Kind::Ping, 0, 0, &[1; 8])),
        Row("empty data", limits::H2_EMPTY_DATA.value, 5, |wire, _| wire.frame(Kind::Data, 0, 1, &[])),
        Row("empty data", limits::H2_EMPTY_DATA.value, 5, |wire, _| {
            wire.frame(Kind::Data, PADDED, 1, &[&[255][..], &[0; 255]].concat());
        }),
        Row("window_update", limits::H2_WINDOW_UPDATES.value, 300, |wire, times| {
            wire.frame(Kind::WindowUpdate, 0, times as u32 % 2, &[0, 0, 0, 1]);
        }),
        Row("priority", limits::H2_IDLE_FRAMES.value, 30, |wire, times| {
            wire.frame(Kind::Priority, 0, 1001 + times as u32, &[0, 0, 0, 0, 9]);
        }),
        Row("unknown", limits::H2_IDLE_FRAMES.value, 30, |wire, _| wire.frame(Kind::Unknown(0xb0), 0, 0, b"grease")),
        Row("unknown", limits::H2_IDLE_FRAMES.value, 30, |wire, _| {
            wire.frame(Kind::PriorityUpdate, 0, 0, b"\0\0\0\x01u=1");
        }),
    ];
    for Row(word, limit, honest_per_second, act) in table {
        let start = || {
            let mut wire = Wire::server();
            wire.post(1);
            wire
        };
        let mut wire = start();
        let (times, failure) = until_failure(&mut wire, 50_000, act);
        flood(failure, word, limit);
        assert!(times as u64 >= limit / 2 && times as u64 <= limit + 200, "{word}: after {times} times");
        if word != "window_update" {
            lasts(&mut start(), honest_per_second, act);
        }
    }
}

#[test]
fn a_large_settings_frame_counts_for_more_than_a_small_one() {
    let mut wire = Wire::server();
    let many: Vec<u8> = (0..2700).flat_map(|value| setting(4, value)).collect();
    let (times, failure) = until_failure(&mut wire, 100, |wire, _| wire.frame(Kind::Settings, 0, 0, &many));
    flood(failure, "settings", limits::H2_SETTINGS.value);
    assert!(times < 5, "{times}");
}

#[test]
fn bulk_downloads_pay_for_pings_and_window_updates() {
    // A gRPC client that measures the path with each round trip, and updates both windows for each frame.
    let mut wire = Wire::server();
    wire.get(1);
    wire.answer(0, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("2710\r\n{}\r\n", "x".repeat(10_000));
    for _ in 0..20_000 {
        wire.answer(0, &chunk);
        wire.frame(Kind::WindowUpdate, 0, 0, &10_000_u32.to_be_bytes());
        wire.frame(Kind::WindowUpdate, 0, 1, &10_000_u32.to_be_bytes());
        wire.frame(Kind::Ping, 0, 0, b"how long");
        assert_eq!(wire.failed, None);
        wire.said.clear();
    }
}

#[test]
fn a_stream_of_small_messages_pays_as_well() {
    let mut wire = Wire::server();
    wire.get(1);
    wire.answer(0, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..50_000 {
        wire.answer(0, "4\r\ntick\r\n");
        wire.frame(Kind::WindowUpdate, 0, 0, &4_u32.to_be_bytes());
        wire.frame(Kind::WindowUpdate, 0, 1, &4_u32.to_be_bytes());
        assert_eq!(wire.failed, None);
        wire.said.clear();
    }
}

#[test]
fn crumbs_that_tiny_windows_force_on_us_do_not_pay() {
    // CVE-2019-9511: the whole answer is asked for byte by byte.
    let mut wire = Wire::server();
    wire.frame(Kind::Settings, 0, 0, &setting(4, 0));
    wire.get(1);
    wire.answer(0, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
    let body = vec![b'x'; 100_000];
    let mut sent = 0;
    let (_, failure) = until_failure(&mut wire, 50_000, |wire, _| {
        wire.frame(Kind::WindowUpdate, 0, 1, &[0, 0, 0, 1]);
        if let Ok(taken) = wire.end.send(wire.opened[0], &body[sent..]) {
            sent += taken;
        }
        wire.collect();
    });
    flood(failure, "CVE-2019-9511", limits::H2_WINDOW_UPDATES.value);
    assert!(sent as u64 <= limits::H2_WINDOW_UPDATES.value);
}

/// A block whose few bytes unpack to much: one entry of 4000 bytes, named again and again.
fn bomb(references: usize) -> Vec<u8> {
    let mut block = [GET, &[0x40, 1, b'x', 0x7f]].concat();
    // 4000 as an integer behind a prefix of seven bits: 127 + 33 + 30 * 128.
    block.extend([33 | 0x80, 30]);
    block.extend(vec![b'y'; 4000]);
    block.extend(vec![0xbe; references]);
    block
}

#[test]
fn a_header_bomb_costs_the_connection_before_it_is_unpacked() {
    let mut wire = Wire::server();
    let before = wire.end.footprint();
    // 40 MB in 14 KB.
    wire.frame(Kind::Headers, END | WHOLE, 1, &bomb(10_000));
    flood(wire.failed.expect("an end"), "header list", 32 * 1024);
    assert!(wire.end.footprint() - before < 4 * 32 * 1024);
}

#[test]
fn a_head_too_large_is_refused_by_its_reader_and_costs_the_connection_when_repeated() {
    let mut wire = Wire::server();
    let block = bomb(10);
    wire.frame(Kind::Headers, END | WHOLE, 1, &block);
    assert_eq!(wire.failed, None);
    assert_eq!(wire.opened.len(), 1, "{:?}", wire.heard);
    let text = wire.text(0);
    let mut slots = evenkeel_wire::FieldSlots::new();
    match evenkeel_wire::parse_request(text.as_bytes(), &mut slots, 32 * 1024) {
        evenkeel_wire::Parsed::Refused(refusal) => assert_eq!(refusal.cause, Cause::ClientHeaderTooLarge),
        _ => panic!("whoever reads it must answer 431"),
    }
    wire.answer(0, "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(wire.reaction(), Reaction::None);
    wire.close(0, Close::Orderly);
    wire.opened.clear();

    let (times, failure) = until_failure(&mut wire, 1000, |wire, times| {
        wire.frame(Kind::Headers, END | WHOLE, wire_number(times + 1), &block);
        for id in wire.opened.drain(..) {
            wire.end.close(id, Close::Cut);
        }
    });
    flood(failure, "CVE-2023-44487", limits::H2_RESETS.value);
    assert!(times <= 100, "{times}");
}

#[test]
fn answers_to_control_frames_do_not_pile_up_for_who_does_not_read() {
    // Below every rate limit, but nothing is ever read.
    let mut end = Connection::new(Role::Server, &settings(), support::NOW);
    end.receive(
        &[&PREFACE[..], &frame(Kind::Settings, 0, 0, &[]), &frame(Kind::Settings, ACK, 0, &[])].concat(),
        support::NOW,
    )
    .expect("greetings");
    let mut now = support::NOW;
    let failure = (0..20_000).find_map(|_| {
        now += Duration::from_millis(50);
        end.receive(&frame(Kind::Ping, 0, 0, &[0; 8]), now).err()
    });
    flood(failure.expect("an end"), "CVE-2019-9512", limits::H2_CONTROL_BYTES.value);
    assert!(end.output().len() as u64 <= limits::H2_CONTROL_BYTES.value + 300);
}

#[test]
fn a_busy_download_does_not_make_control_frames_pile_up() {
    // The output is never empty, yet what is owed in control frames is sent in its turn.
    let mut wire = Wire::server();
    wire.frame(Kind::Settings, 0, 0, &setting(4, 0x7fff_ffff));
    wire.frame(Kind::WindowUpdate, 0, 0, &0x7fff_0000_u32.to_be_bytes());
    wire.get(1);
    wire.answer(0, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("4e20\r\n{}\r\n", "x".repeat(20_000));
    let end = &mut wire.end;
    let mut pending: &[u8] = &[];
    for times in 0..50_000 {
        if pending.is_empty() {
            pending = chunk.as_bytes();
        }
        let taken = end.send(wire.opened[0], pending).expect("open");
        pending = &pending[taken..];
        end.receive(&frame(Kind::Ping, 0, 0, &[0; 8]), wire.now)
            .unwrap_or_else(|failure| panic!("{times}: {failure:?}"));
        end.sent(end.output().len().saturating_sub(9).min(21_000));
        while end.next_event().is_some() {}
        assert!(!end.output().is_empty());
    }
}

#[test]
fn settings_that_are_never_acknowledged_end_the_connection() {
    let mut wire = Wire::silent(Role::Server, &settings());
    wire.bytes(PREFACE);
    wire.frame(Kind::Settings, 0, 0, &[]);
    let due = wire.end.poll_timeout().expect("a deadline");
    assert_eq!(due, support::NOW + Duration::from_secs(limits::H2_SETTINGS_ACK.value));
    let failure = wire.end.handle_timeout(due).expect_err("too late");
    assert_eq!((failure.code.0, failure.cause), (4, Cause::ClientHttp2Violation));

    let mut wire = Wire::server();
    assert_eq!(wire.end.poll_timeout(), None, "acknowledged");
    wire.end.handle_timeout(due).expect("nothing to do");
}

#[test]
fn who_keeps_its_window_shut_holds_nothing_but_heads() {
    let mut wire = Wire::server();
    wire.frame(Kind::Settings, 0, 0, &setting(4, 0));
    let body = vec![b'x'; 100_000];
    for times in 0..128 {
        wire.get(wire_number(times));
        wire.answer(times, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        assert_eq!(wire.end.send(wire.opened[times], &body), Ok(0));
    }
    wire.collect();
    assert!(wire.said(Kind::Data).is_empty());
    assert!(!wire.heard.iter().any(|event| matches!(event, Event::Writable { .. })));
    assert!(wire.end.footprint() < 128 * 1024 + 64 * 1024, "{}", wire.end.footprint());
    // Our user's own deadline acts.
    for id in std::mem::take(&mut wire.opened) {
        wire.end.close(id, Close::Cut);
    }
    wire.collect();
    assert!(wire.end.is_idle());
    assert!(wire.end.footprint() < 32 * 1024, "{}", wire.end.footprint());
}

#[test]
fn what_a_connection_holds_is_bounded_whatever_comes() {
    let allowed = Settings { streams: 100, stream_window: 65_536, connection_window: 1 << 20, ..settings() };
    let mut wire = Wire::new(Role::Server, &allowed);
    // Nobody reads anything, neither our user nor the client.
    let mut sent = 0;
    for times in 0..100 {
        let stream = wire_number(times);
        let filled = [POST, &[0x00, 1, b'x', 0x7f, 0xf1, 0x37], &[b'y'; 7280][..]].concat();
        wire.frame(Kind::Headers, WHOLE, stream, &filled);
        for _ in 0..4 {
            if sent + 16_384 > 1 << 20 {
                break;
            }
            wire.frame(Kind::Data, 0, stream, &[0; 16_384]);
            sent += 16_384;
        }
    }
    assert_eq!(wire.failed, None);
    assert_eq!(wire.opened.len(), 100);
    let heads = 100 * 7400;
    let bound = 2 * (sent + heads) + 100 * 1024 + 64 * 1024;
    assert!(wire.end.footprint() < bound, "{} is more than {bound}", wire.end.footprint());
    let before = wire.end.footprint();
    wire.frame(Kind::Data, 0, 1, &[0; 16_384]);
    assert_eq!(wire.failed.map(|failure| failure.code.0), Some(3), "no byte beyond the window is taken");
    assert!(wire.end.footprint() <= before);
}

#[test]
fn our_answers_do_not_pile_up_for_who_does_not_read() {
    let mut end = Wire::server().end;
    let mut held = 0;
    for times in 0..120 {
        end.receive(&frame(Kind::Headers, END | WHOLE, wire_number(times), GET), support::NOW).expect("allowed");
        let Some(Event::Opened(id)) = end.next_event() else { panic!("a request") };
        let head = format!("HTTP/1.1 200 OK\r\nX-Filler: {}\r\nContent-Length: 100000\r\n\r\n", "y".repeat(8000));
        let taken = end.send(id, head.as_bytes()).expect("open");
        assert!(taken == 0 || taken == head.len(), "half a head was taken");
        if taken > 0 {
            end.send(id, &vec![b'x'; 65_000]).expect("open");
        }
        held = held.max(end.output().len());
    }
    let bound = limits::H2_OUTPUT.value as usize + 8200 + limits::H2_CONTROL_BYTES.value as usize;
    assert!(held < bound && held >= limits::H2_OUTPUT.value as usize, "{held}");
}

#[test]
fn payload_of_streams_that_are_gone_does_not_eat_the_connections_window() {
    let allowed = Settings { connection_window: 65_535, ..settings() };
    let mut wire = Wire::new(Role::Server, &allowed);
    for times in 0..200 {
        let stream = wire_number(times);
        wire.now += Duration::from_secs(1);
        wire.post(stream);
        wire.frame(Kind::Data, 0, stream, &[0; 16_000]);
        match times % 4 {
            0 => wire.close(0, Close::Cut),
            1 => {
                wire.frame(Kind::ResetStream, 0, stream, CANCEL);
                wire.close(0, Close::Cut);
            }
            2 => {
                wire.answer(0, ANSWER);
                wire.close(0, Close::Orderly);
                wire.frame(Kind::Data, END, stream, &[0; 3000]);
            }
            _ => {
                assert!(read(&mut wire.end, wire.opened[0]).0.len() > 16_000);
                wire.close(0, Close::Cut);
            }
        }
        wire.opened.clear();
        assert_eq!(wire.failed, None, "round {times}");
    }
}

#[test]
fn padding_does_not_eat_the_windows_even_if_nobody_reads() {
    let mut wire = Wire::new(Role::Server, &Settings { connection_window: 65_535, ..settings() });
    wire.post(1);
    // 2000 bytes of payload in half a megabyte of padding; our user reads nothing.
    for _ in 0..2000 {
        wire.now += Duration::from_millis(10);
        wire.frame(Kind::Data, PADDED, 1, &[&[255, b'x'][..], &[0; 255]].concat());
        assert_eq!((wire.failed, wire.reaction()), (None, Reaction::None));
    }
    let updates = wire.said(Kind::WindowUpdate);
    assert!(updates.iter().any(|(head, _)| head.stream == 1) && updates.iter().any(|(head, _)| head.stream == 0));
}

#[test]
fn footprints_are_those_we_state() {
    let mut wire = Wire::server();
    let idle = wire.end.footprint();
    for times in 0..100 {
        wire.get(wire_number(times));
    }
    let each = (wire.end.footprint() - idle) / 100;
    println!("idle connection {idle} bytes, open stream {each} bytes");
    assert!(idle < 16 * 1024, "{idle}");
    assert!(each < 1024, "{each}");
}
