//! The prober on the simulated network: exact deadlines, lateness, faults at every point, no leaks.
//!
//! What a probe finds on a real kernel is in `loopback.rs` and `netns.rs`; here the clock is ours, so
//! "served 100 ms and 1 ns late" is something a test can say.

mod virtual_host;

use std::time::Duration;

use evenkeel_health::settings::{ProbeSettings, Silence, TcpProbe};
use evenkeel_model::finding::{Failure, FailureReason, Pass, ProbePhase, ProbeResult, Proof, Void};
use evenkeel_model::{Instant, limits};
use evenkeel_probe::Done;
use evenkeel_reactor::Close;
use evenkeel_reactor::sim::{Chance, End, Fact, Faults, Net, Segments, Strike, Way, seeds};
use virtual_host::{Probing, TIMEOUT, address, echo, failed, http, serve, tcp, udp};

const LATENESS: Duration = Duration::from_millis(limits::LATENESS.value);
const NANO: Duration = Duration::from_nanos(1);

#[test]
fn a_silent_backend_costs_exactly_the_timeout_whatever_the_kind() {
    let table = [
        (http(), failed(ProbePhase::Connect, FailureReason::TimedOut)),
        (tcp(), failed(ProbePhase::Connect, FailureReason::TimedOut)),
        (udp(Silence::Pass), ProbeResult::Passed(Pass::Silent(Proof::None))),
        (udp(Silence::Fail), failed(ProbePhase::Read, FailureReason::TimedOut)),
        (udp(Silence::Keep), ProbeResult::Void(Void::Silent)),
    ];
    for (probe, expected) in table {
        let net = Net::new(1, Faults::none());
        net.set_way(address(1), Way::BlackHole);
        net.advance_to(Instant::from_nanos(123_456_789));
        let mut probing = Probing::on(&net);
        probing.start(1, address(1), probe);
        probing.finish(&mut []);
        let finding = probing.only();
        assert_eq!(finding.result, expected);
        assert_eq!(finding.started, Instant::from_nanos(123_456_789));
        assert_eq!(finding.duration(), TIMEOUT, "{expected:?}: not to the nanosecond");
    }
}

#[test]
fn one_timeout_covers_connect_write_and_read() {
    // The SYN gets through after three seconds, and the answer stops in the middle of its head.
    let net = Net::new(1, Faults { syn_loss: Chance::ALWAYS, ..Faults::none() });
    let backend = net.backend_listen(address(1));
    let mut probing = Probing::on(&net);
    probing.start(1, address(1), http());
    net.alarm(Instant::START + Duration::from_secs(2));
    let mut heal = |net: &Net| {
        if net.now() >= Instant::START + Duration::from_secs(2) {
            net.change_faults(|faults| faults.syn_loss = Chance::NEVER);
        }
    };
    let mut accepted = None;
    let mut half_answer = |net: &Net| {
        if let Some(end) = backend.accept() {
            end.send(b"HTTP/1.1 200 OK\r\n");
            accepted = Some(net.now());
        }
    };
    probing.finish(&mut [&mut heal, &mut half_answer]);
    assert!(accepted >= Some(Instant::START + Duration::from_secs(3)), "{accepted:?}: connecting took no time");
    let finding = probing.only();
    assert_eq!(finding.result, failed(ProbePhase::Read, FailureReason::Unfinished { part: "head", bytes: 17 }));
    assert_eq!(finding.duration(), TIMEOUT);
}

/// What the backend does while the prober's thread stands still.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    Silent,
    Refuses,
    /// Its host completes the handshake.
    Connects,
    Answers(&'static [u8]),
    ClosesUnanswered,
}

/// Starts a probe, lets it come to the point where the backend is due, and then does not look until
/// `late` after the deadline.
fn looked_at(late: Duration, probe: ProbeSettings, meanwhile: Meanwhile, timer_first: bool) -> ProbeResult {
    let net = Net::new(1, Faults::none());
    let is_udp = matches!(probe, ProbeSettings::Udp(_));
    let mut probing = Probing::on(&net);
    let backend = matches!(meanwhile, Meanwhile::Connects | Meanwhile::Answers(_) | Meanwhile::ClosesUnanswered);
    let backend = (backend && !is_udp).then(|| net.backend_listen(address(1)));
    let service = (is_udp && !matches!(meanwhile, Meanwhile::Refuses)).then(|| net.udp_service(address(1)));
    if matches!(meanwhile, Meanwhile::Silent) {
        net.set_way(address(1), Way::BlackHole);
    }
    probing.start(1, address(1), probe);
    match (meanwhile, backend, service) {
        (Meanwhile::Silent | Meanwhile::Refuses | Meanwhile::Connects, ..) => {}
        (Meanwhile::Answers(answer), _, Some(service)) => {
            while net.step() {}
            let (from, _) = service.recv().expect("the datagram is sent at the start");
            service.send(from, answer);
        }
        (Meanwhile::Answers(_) | Meanwhile::ClosesUnanswered, Some(backend), _) => {
            let end = loop {
                probing.turn();
                if let Some(end) = backend.accept() {
                    break end;
                }
                assert!(net.step(), "the connection is never accepted");
            };
            while !end.received().ends_with(b"\r\n\r\n") {
                probing.turn();
                assert!(net.step(), "the request never comes");
            }
            match meanwhile {
                Meanwhile::Answers(answer) => end.send(answer),
                _ => end.close(),
            }
        }
        (meanwhile, ..) => panic!("{meanwhile:?} has no backend to do it"),
    }
    let deadline = probing.prober.poll_timeout().expect("the probe is running");
    assert_eq!(deadline, Instant::START + TIMEOUT);
    net.advance_to(deadline + late);
    let events = probing.miss();
    if timer_first {
        probing.handle_timeout();
    }
    probing.handle(&events);
    probing.handle_timeout();
    net.assert_no_connection_left(probing.id());
    let finding = probing.only();
    assert_eq!(finding.ended, deadline + late, "not the moment we learnt it");
    finding.result
}

#[test]
fn when_we_look_late_an_answer_counts_and_silence_is_void() {
    use Meanwhile::{Answers, ClosesUnanswered, Connects, Refuses, Silent};
    const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
    let connect = |reason| failed(ProbePhase::Connect, reason);
    let read = |reason| failed(ProbePhase::Read, reason);
    let silent = || ProbeResult::Passed(Pass::Silent(Proof::None));
    let timed_out = FailureReason::TimedOut;
    // What is found up to LATENESS after the deadline, and what later; `None` is void.
    let table = [
        (tcp(), Silent, connect(timed_out.clone()), None),
        (tcp(), Refuses, connect(timed_out.clone()), Some(connect(FailureReason::Refused))),
        (tcp(), Connects, connect(timed_out.clone()), Some(ProbeResult::Passed(Pass::Connected))),
        (http(), Silent, connect(timed_out.clone()), None),
        (http(), Refuses, connect(timed_out.clone()), Some(connect(FailureReason::Refused))),
        // We never sent our request, so no answer was due.
        (http(), Connects, connect(timed_out.clone()), None),
        (http(), Answers(b""), read(timed_out.clone()), None),
        (http(), Answers(b"HTTP/1.1 200 OK\r\n"), read(timed_out.clone()), None),
        (http(), Answers(WHOLE), read(timed_out.clone()), Some(ProbeResult::Passed(Pass::Status(200)))),
        (
            http(),
            Answers(b"HTTP/1.1 500 \r\n\r\n"),
            read(timed_out.clone()),
            Some(read(FailureReason::Status { got: 500 })),
        ),
        (http(), ClosesUnanswered, read(timed_out.clone()), Some(read(FailureReason::Closed))),
        (udp(Silence::Pass), Silent, silent(), None),
        (udp(Silence::Keep), Silent, ProbeResult::Void(Void::Silent), None),
        (udp(Silence::Fail), Silent, read(timed_out.clone()), None),
        (udp(Silence::Fail), Answers(b"pong"), read(timed_out), Some(ProbeResult::Passed(Pass::Answered))),
        (udp(Silence::Pass), Refuses, silent(), Some(read(FailureReason::Refused))),
    ];
    for (probe, meanwhile, in_time, late) in table {
        for timer_first in [false, true] {
            let looked_at = |late| looked_at(late, probe.clone(), meanwhile, timer_first);
            for by in [Duration::ZERO, NANO, LATENESS] {
                let found = looked_at(by);
                assert_eq!(found, in_time, "{probe:?} {meanwhile:?} {by:?} after the deadline");
            }
            for by in [LATENESS + NANO, Duration::from_secs(60)] {
                let found = looked_at(by);
                let late = late.clone().unwrap_or(ProbeResult::Void(Void::Late { by }));
                assert_eq!(found, late, "{probe:?} {meanwhile:?} {by:?} after the deadline");
            }
        }
    }
}

#[test]
fn the_last_nanosecond_before_the_deadline_is_in_time() {
    let net = Net::new(1, Faults::none());
    let _backend = net.backend_listen(address(1));
    let mut probing = Probing::on(&net);
    probing.start(1, address(1), tcp());
    net.advance_to(Instant::from_nanos(TIMEOUT.as_nanos() as u64 - 1));
    probing.turn();
    assert_eq!(probing.only().result, ProbeResult::Passed(Pass::Connected));
}

#[test]
fn a_half_open_probe_completes_no_handshake_and_a_full_one_does() {
    for (probe, half_open, completed) in [(TcpProbe::HalfOpen, 1, 0), (TcpProbe::Full, 0, 1)] {
        let net = Net::new(1, Faults::none());
        let backend = net.backend_listen(address(1));
        let mut probing = Probing::on(&net);
        probing.start(1, address(1), ProbeSettings::Tcp(probe));
        probing.finish(&mut []);
        while net.step() {}
        assert_eq!(probing.only().result, ProbeResult::Passed(Pass::Connected), "{probe:?}");
        assert_eq!((backend.half_open(), backend.completed()), (half_open, completed), "{probe:?}");
    }
}

#[test]
fn a_probe_that_cannot_start_blames_the_network_or_us_but_always_ends() {
    for (way, dial_error, expected) in [(Way::NoRoute, Chance::NEVER, "failed"), (Way::Open, Chance::ALWAYS, "void")] {
        for probe in [http(), tcp(), udp(Silence::Pass)] {
            let net = Net::new(1, Faults { dial_error, ..Faults::none() });
            net.set_way(address(1), way);
            let mut probing = Probing::on(&net);
            probing.start(7, address(1), probe);
            assert_eq!((probing.prober.running(), probing.prober.poll_timeout()), (0, None));
            probing.turn();
            let finding = probing.only();
            assert_eq!(finding.result.word(), expected, "{finding}");
            if way == Way::NoRoute {
                let reason = FailureReason::Unreachable { errno: 101 };
                assert_eq!(finding.result, failed(ProbePhase::Connect, reason));
            }
        }
    }
}

#[test]
fn after_a_cancel_nothing_more_is_heard_of_the_key() {
    let net = Net::new(1, Faults::none());
    let backend = net.backend_listen(address(1));
    let mut probing = Probing::on(&net);

    probing.start(1, address(1), tcp());
    probing.prober.cancel(&mut probing.driver, 1);
    net.assert_no_connection_left(probing.id());

    // Done and not yet taken.
    probing.start(2, address(2), tcp());
    net.advance_to(Instant::START + Duration::from_secs(1));
    let events = probing.miss();
    for event in events {
        probing.prober.handle(&mut probing.driver, event);
    }
    assert_eq!(probing.prober.running(), 0);
    probing.prober.cancel(&mut probing.driver, 2);

    // The key is free at once, and the event of its first probe does not reach its second.
    probing.start(3, address(2), tcp());
    net.advance_to(Instant::START + Duration::from_secs(2));
    let stale = probing.miss();
    assert!(!stale.is_empty(), "the refusal should be there");
    probing.prober.cancel(&mut probing.driver, 3);
    probing.start(3, address(1), tcp());
    probing.handle(&stale);
    assert_eq!(probing.prober.running(), 1);
    probing.finish(&mut []);

    probing.prober.cancel(&mut probing.driver, 99);
    let keys: Vec<u64> = probing.done.iter().map(|done| done.key).collect();
    assert_eq!(keys, [3]);
    assert_eq!(probing.only().result, ProbeResult::Passed(Pass::Connected));
    drop(backend);
}

#[test]
fn an_answer_in_single_bytes_through_tiny_buffers_is_the_same_answer() {
    let faults = Faults { segments: Segments::OneByte, send_buffer: 1, receive_window: 1, ..Faults::none() };
    let net = Net::new(1, faults);
    let backend = net.backend_listen(address(1));
    let mut probing = Probing::on(&net);
    probing.start(1, address(1), http());
    let mut ends = Vec::new();
    let answer = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    probing.finish(&mut [&mut serve(&backend, &mut ends, answer)]);
    assert_eq!(probing.only().result, ProbeResult::Passed(Pass::Status(204)));
}

#[test]
fn a_refusal_in_good_words_counts_though_the_connection_is_reset_behind_it() {
    // The backend answers without reading and closes, so our request is met by a reset.
    let net = Net::new(1, Faults::none());
    let backend = net.backend_listen(address(1));
    let mut probing = Probing::on(&net);
    probing.start(1, address(1), http());
    let mut turn_away = |_: &Net| {
        if let Some(end) = backend.accept() {
            end.pause_reading();
            end.send(b"HTTP/1.1 503 Busy\r\n\r\n");
            end.close();
        }
    };
    probing.finish(&mut [&mut turn_away]);
    assert_eq!(probing.only().result, failed(ProbePhase::Read, FailureReason::Status { got: 503 }));
}

/// A probe whose request cannot be written because the backend does not read it.
fn half_asked() -> (Net, Probing, End) {
    let net = Net::new(1, Faults { send_buffer: 1, ..Faults::none() });
    let backend = net.backend_listen(address(1));
    let mut probing = Probing::on(&net);
    probing.start(1, address(1), http());
    // Our own window is open; that of the backend, whose end is made by our SYN, takes one byte.
    net.change_faults(|faults| faults.receive_window = 1);
    let end = loop {
        probing.turn();
        if let Some(end) = backend.accept() {
            break end;
        }
        assert!(net.step(), "the connection is never accepted");
    };
    end.pause_reading();
    while net.step() {
        probing.turn();
    }
    assert_eq!(probing.prober.running(), 1);
    (net, probing, end)
}

#[test]
fn a_backend_that_loses_patience_because_we_did_not_ask_is_not_to_blame() {
    let (net, mut probing, end) = half_asked();
    // Reading again, it waits for the rest of the request while our thread stands still.
    end.resume_reading();
    end.close();
    let by = LATENESS + NANO;
    net.advance_to(Instant::START + TIMEOUT + by);
    probing.turn();
    assert_eq!(probing.only().result, ProbeResult::Void(Void::Late { by }));
}

#[test]
fn an_answer_that_lies_before_an_error_of_writing_counts() {
    let (net, mut probing, end) = half_asked();
    end.read(1);
    let writable = loop {
        let events = probing.miss();
        if !events.is_empty() {
            break events;
        }
        assert!(net.step(), "the buffer never has room again");
    };
    assert!(writable.iter().all(|event| event.writable && !event.readable), "{writable:?}");
    end.send(b"HTTP/1.1 503 Busy\r\n\r\n");
    end.reset();
    while net.step() {}
    probing.handle(&writable);
    assert_eq!(probing.only().result, failed(ProbePhase::Read, FailureReason::Status { got: 503 }));
}

#[test]
fn half_an_answer_and_its_end_in_one_event_is_a_close_and_not_a_timeout() {
    let net = Net::new(1, Faults::none());
    let backend = net.backend_listen(address(1));
    let mut probing = Probing::on(&net);
    probing.start(1, address(1), http());
    let end = loop {
        probing.turn();
        if let Some(end) = backend.accept() {
            break end;
        }
        assert!(net.step(), "the connection is never accepted");
    };
    while net.step() {
        probing.turn();
    }
    end.send(b"HTTP/1.1 200 OK\r\n");
    end.close();
    while net.step() {}
    probing.turn();
    assert_eq!(probing.only().result, failed(ProbePhase::Read, FailureReason::Closed));
}

#[test]
fn a_probe_parts_with_a_reset_also_when_the_backend_has_closed_before_it() {
    let table = [
        (http(), true, Close::Reset),
        (http(), false, Close::Reset),
        (ProbeSettings::Tcp(TcpProbe::Full), true, Close::Reset),
    ];
    for (probe, backend_closes, expected) in table {
        let net = Net::new(1, Faults::none());
        let backend = net.backend_listen(address(1));
        let mut probing = Probing::on(&net);
        let is_http = matches!(probe, ProbeSettings::Http(_));
        probing.start(1, address(1), probe);
        let end = loop {
            // Only http needs our thread to come this far.
            if is_http {
                probing.turn();
            }
            if let Some(end) = backend.accept() {
                break end;
            }
            assert!(net.step(), "the connection is never accepted");
        };
        if is_http {
            while net.step() {
                probing.turn();
            }
            end.send(b"HTTP/1.1 200 OK\r\n\r\n");
        }
        if backend_closes {
            end.close();
        }
        while net.step() {}
        probing.turn();
        assert!(probing.only().result.passed());
        let dialled = net.marks().iter().find(|mark| mark.fact == Fact::Dialled).map(|mark| mark.socket);
        let closed = net.marks().into_iter().find_map(|mark| match mark.fact {
            Fact::Closed(how) if Some(mark.socket) == dialled => Some(how),
            _ => None,
        });
        assert_eq!(closed, Some(expected), "{}", net.story());
    }
}

#[test]
fn a_blow_at_any_point_of_an_http_probe_ends_it_once_and_in_time() {
    for kind in [Strike::Reset, Strike::BlackHole] {
        for point in 0.. {
            let net = Net::new(1, Faults { strike: Some((point, kind)), segments: Segments::Random, ..Faults::none() });
            let backend = net.backend_listen(address(1));
            let mut probing = Probing::on(&net);
            probing.start(1, address(1), http());
            let mut ends = Vec::new();
            probing.finish(&mut [&mut serve(&backend, &mut ends, b"HTTP/1.1 200 OK\r\nServer: sim\r\n\r\n")]);
            let finding = probing.only();
            assert!(finding.duration() <= TIMEOUT, "{kind:?} at {point}: {finding}");
            match &finding.result {
                ProbeResult::Passed(Pass::Status(200)) => {}
                ProbeResult::Failed(Failure { reason: FailureReason::Reset, .. }) if kind == Strike::Reset => {}
                ProbeResult::Failed(Failure { reason, .. })
                    if reason.word() == "timed_out" && kind == Strike::BlackHole => {}
                other => panic!("{kind:?} at {point}: {other:?}"),
            }
            if net.packets() <= point {
                assert!(finding.result.passed() && point > 2, "{kind:?} never struck before {point}");
                break;
            }
        }
    }
}

/// What a probe of the mixed network below can find at all.
fn possible(target: u8, result: &ProbeResult) -> bool {
    let reason = match result {
        ProbeResult::Void(Void::Late { by }) => return *by > LATENESS,
        ProbeResult::Void(Void::NoResources { .. }) => return true,
        ProbeResult::Void(_) => return false,
        ProbeResult::Passed(Pass::Status(status)) => return target == 1 && *status == 200,
        ProbeResult::Passed(Pass::Connected) => return target == 3,
        ProbeResult::Passed(
            Pass::Echoed
            | Pass::Secured { .. }
            | Pass::Agent(_)
            | Pass::Dns { .. }
            | Pass::Serving
            | Pass::Exited { .. },
        ) => {
            return false;
        }
        ProbeResult::Passed(Pass::Answered) => return target == 7,
        ProbeResult::Passed(Pass::Silent(proof)) => return target >= 7 && *proof == Proof::None,
        ProbeResult::Failed(failure) => &failure.reason,
    };
    match reason {
        FailureReason::TimedOut => target < 7,
        FailureReason::Unfinished { part: "head", .. } => target <= 2,
        FailureReason::Refused => target == 4 || target == 8,
        FailureReason::Unreachable { .. } => target == 6,
        FailureReason::Reset | FailureReason::Closed => target <= 3,
        FailureReason::Status { got } => target == 2 && *got == 503,
        FailureReason::NoEcho { .. }
        | FailureReason::TrafficRefused { .. }
        | FailureReason::Socket { .. }
        | FailureReason::Tls { .. }
        | FailureReason::Expiring { .. }
        | FailureReason::NotHttp { .. }
        | FailureReason::NotHttp2 { .. }
        | FailureReason::StreamReset { .. }
        | FailureReason::GoingAway { .. }
        | FailureReason::Grpc { .. }
        | FailureReason::NotServing { .. }
        | FailureReason::NotGrpc { .. }
        | FailureReason::Mismatch { .. }
        | FailureReason::Unfinished { .. }
        | FailureReason::Body { .. }
        | FailureReason::Step { .. }
        | FailureReason::AgentDown { .. }
        | FailureReason::NotAgent { .. }
        | FailureReason::DnsCode { .. }
        | FailureReason::DnsAddresses { .. }
        | FailureReason::NotDns { .. }
        | FailureReason::Exited { .. }
        | FailureReason::Killed { .. }
        | FailureReason::NotStarted { .. } => false,
    }
}

#[test]
fn under_any_faults_every_probe_ends_once_with_a_possible_finding_and_nothing_leaks() {
    const PROBES: u64 = 64;
    for seed in seeds(300) {
        let mut faults = Faults::from_seed(seed);
        if seed % 2 == 0 {
            faults.pause_max = Duration::from_millis(400);
        }
        let net = Net::new(seed, faults);
        let (good, bad) = (net.backend_listen(address(1)), net.backend_listen(address(2)));
        let _listening = net.backend_listen(address(3));
        net.set_way(address(5), Way::BlackHole);
        net.set_way(address(6), Way::NoRoute);
        let echoing = net.udp_service(address(7));
        let mut probing = Probing::on(&net);
        let mut targets = Vec::new();
        let mut cancelled = Vec::new();
        for key in 0..PROBES {
            let target = 1 + net.below(8) as u8;
            targets.push(target);
            let probe = match target {
                1 | 2 => http(),
                7 | 8 => udp(Silence::Pass),
                _ => tcp(),
            };
            probing.start(key, address(target), probe);
            if net.below(8) == 0 {
                net.step();
                probing.turn();
            }
            if net.below(8) == 0 {
                // Taken before it was cancelled, it was heard of; both are fine, twice is not.
                probing.prober.cancel(&mut probing.driver, key);
                cancelled.push(key);
            }
        }
        let (mut ends, mut more) = (Vec::new(), Vec::new());
        probing.finish(&mut [
            &mut serve(&good, &mut ends, b"HTTP/1.1 200 OK\r\n\r\n"),
            &mut serve(&bad, &mut more, b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"),
            &mut echo(&echoing),
        ]);
        let mut heard = [0; PROBES as usize];
        for Done { key, finding } in &probing.done {
            heard[*key as usize] += 1;
            let target = targets[*key as usize];
            assert!(possible(target, &finding.result), "target {target}: {finding} (seed {seed})\n{}", net.story());
            let in_time = finding.duration() <= TIMEOUT + LATENESS;
            let silent = matches!(
                finding.result,
                ProbeResult::Passed(Pass::Silent(Proof::None))
                    | ProbeResult::Failed(Failure { reason: FailureReason::TimedOut, .. })
            );
            assert!(in_time || !silent, "{finding}: late, and yet not void (seed {seed})");
        }
        for (key, &times) in heard.iter().enumerate() {
            let least = usize::from(!cancelled.contains(&(key as u64)));
            assert!((least..=1).contains(&times), "probe {key} was heard of {times} times (seed {seed})");
        }
        let totals = net.totals(probing.id());
        assert_eq!(totals.opened, totals.closed, "seed {seed}");
    }
}
