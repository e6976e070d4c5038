//! Conversations, agents and questions to DNS servers on the simulated network: cut, late, struck, answered twice or by
//! somebody else.
//!
//! What each machine makes of which bytes is told beside the machines; here it is what the hands do for them.

mod virtual_host;

use std::net::IpAddr;
use std::time::Duration;

use evenkeel_health::pattern::{Covers, Pattern};
use evenkeel_health::settings::{AgentProbe, DnsProbe, ProbeSettings, Record, Step, StepsProbe};
use evenkeel_model::finding::{AgentSays, FailureReason, Finding, Pass, ProbePhase, ProbeResult, StepEnd, Void};
use evenkeel_model::{Instant, limits};
use evenkeel_reactor::Close;
use evenkeel_reactor::sim::{Backend, End, Fact, Faults, Net, Segments, Strike, UdpService, Way, seeds};
use virtual_host::{Probing, TIMEOUT, address, failed};

const LATENESS: Duration = Duration::from_millis(limits::LATENESS.value);

fn send(words: &str) -> Step {
    Step::Send(words.into())
}

fn text(wanted: &str) -> Step {
    Step::Expect(Pattern::literal(wanted.as_bytes(), Covers::Part))
}

fn line(wanted: &str) -> Step {
    Step::Expect(Pattern::regex(wanted).expect("valid"))
}

fn steps(steps: Vec<Step>) -> ProbeSettings {
    ProbeSettings::Steps(StepsProbe { steps: steps.into(), tls: None })
}

/// As an operator would probe a mail server.
fn smtp() -> ProbeSettings {
    steps(vec![text("220 "), send("HELO probe\r\n"), line("^250 "), send("QUIT\r\n"), line("^221 ")])
}

fn agent() -> ProbeSettings {
    ProbeSettings::Agent(AgentProbe { send: b"state\n".to_vec() })
}

fn dns() -> ProbeSettings {
    ProbeSettings::Dns(DnsProbe {
        name: "example.com".to_owned(),
        record: Record::A,
        expect_codes: vec![0],
        expect_addresses: vec![IpAddr::from([10, 0, 0, 7])],
    })
}

fn passed() -> ProbeResult {
    ProbeResult::Passed(Pass::Answered)
}

fn missed(step: u16, of: u16, wanted: &str, got: &[u8], end: StepEnd) -> ProbeResult {
    let reason = FailureReason::Step { step, of, wanted: wanted.into(), got: got.to_vec(), end };
    failed(ProbePhase::Read, reason)
}

struct Talk {
    end: End,
    heard: Vec<u8>,
}

/// A backend that greets, answers line by line, and closes behind an answer that ends with `.`, which is not sent.
fn serve<'a>(
    backend: &'a Backend,
    talks: &'a mut Vec<Talk>,
    greeting: &'a str,
    answers: fn(&str) -> &'static str,
) -> impl FnMut(&Net) + 'a {
    move |_: &Net| {
        while let Some(end) = backend.accept() {
            end.send(greeting.as_bytes());
            talks.push(Talk { end, heard: Vec::new() });
        }
        for talk in talks.iter_mut().filter(|talk| talk.end.is_open()) {
            talk.heard.extend(talk.end.take());
            while let Some(length) = talk.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = talk.heard.drain(..=length).collect();
                let answer = answers(str::from_utf8(&line).expect("we say text"));
                let (answer, closes) = answer.strip_suffix('.').map_or((answer, false), |answer| (answer, true));
                talk.end.send(answer.as_bytes());
                if closes {
                    talk.end.close();
                }
            }
        }
    }
}

fn mail(line: &str) -> &'static str {
    match line {
        "HELO probe\r\n" => "250 hello\r\n",
        "QUIT\r\n" => "221 bye\r\n.",
        _ => "500 what\r\n",
    }
}

fn state(line: &str) -> &'static str {
    if line == "state\n" { "up 50%\n." } else { "what\n" }
}

fn half() -> ProbeResult {
    ProbeResult::Passed(Pass::Agent(AgentSays { weight: Some(50), ..AgentSays::default() }))
}

/// The answer of a DNS server to this question: a record with an address.
fn answer_to(question: &[u8], address: [u8; 4]) -> Vec<u8> {
    let mut answer = question.to_vec();
    (answer[2], answer[3], answer[7]) = (0x81, 0x80, 1);
    answer.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04");
    answer.extend_from_slice(&address);
    answer
}

fn resolve(service: &UdpService) -> impl FnMut(&Net) + '_ {
    move |_: &Net| {
        while let Some((from, question)) = service.recv() {
            service.send(from, &answer_to(&question, [10, 0, 0, 7]));
        }
    }
}

fn resolved() -> ProbeResult {
    ProbeResult::Passed(Pass::Dns { code: 0, answers: 1 })
}

/// What one probe finds at a backend that speaks so.
fn found(faults: Faults, probe: ProbeSettings, greeting: &str, answers: fn(&str) -> &'static str) -> Finding {
    let net = Net::new(1, faults);
    let backend = net.backend_listen(address(1));
    let mut probing = Probing::on(&net);
    probing.start(1, address(1), probe);
    let mut talks = Vec::new();
    probing.finish(&mut [&mut serve(&backend, &mut talks, greeting, answers)]);
    probing.only()
}

#[test]
fn every_kind_passes_in_single_bytes_through_tiny_buffers_too() {
    let tiny = || Faults { segments: Segments::OneByte, send_buffer: 1, receive_window: 1, ..Faults::none() };
    for faults in [Faults::none, tiny] {
        assert_eq!(found(faults(), smtp(), "220 mail\r\n", mail).result, passed());
        assert_eq!(found(faults(), agent(), "", state).result, half());
        let net = Net::new(1, faults());
        let service = net.udp_service(address(1));
        let mut probing = Probing::on(&net);
        probing.start(1, address(1), dns());
        probing.finish(&mut [&mut resolve(&service)]);
        assert_eq!(probing.only().result, resolved());
    }
}

#[test]
fn silence_costs_exactly_the_timeout_and_names_where_it_began() {
    let table = [
        (smtp(), failed(ProbePhase::Connect, FailureReason::TimedOut)),
        (agent(), failed(ProbePhase::Connect, FailureReason::TimedOut)),
        (dns(), failed(ProbePhase::Read, FailureReason::TimedOut)),
    ];
    for (probe, expected) in table {
        let net = Net::new(1, Faults::none());
        net.set_way(address(1), Way::BlackHole);
        let mut probing = Probing::on(&net);
        probing.start(1, address(1), probe);
        probing.finish(&mut []);
        let finding = probing.only();
        assert_eq!((finding.result.clone(), finding.duration()), (expected, TIMEOUT), "{finding}");
    }
    let finding = found(Faults::none(), smtp(), "220 mail\r\n", |_| "");
    let expected = missed(3, 5, "/^250 /", b"", StepEnd::TimedOut);
    assert_eq!((finding.duration(), finding.result), (TIMEOUT, expected));
    let finding = found(Faults::none(), agent(), "up", |_| "");
    let unfinished = FailureReason::Unfinished { part: "line", bytes: 2 };
    assert_eq!((finding.duration(), finding.result), (TIMEOUT, failed(ProbePhase::Read, unfinished)));
}

#[test]
fn a_backend_that_gives_up_in_mid_conversation_fails_at_the_step() {
    let found = |answers| found(Faults::none(), smtp(), "220 mail\r\n", answers).result;
    let refusing = found(|_| "421 busy\r\n.");
    assert_eq!(refusing, missed(3, 5, "/^250 /", b"421 busy\r\n", StepEnd::Closed));
}

#[test]
fn a_closed_port_refuses_every_kind() {
    for (probe, phase) in [(smtp(), ProbePhase::Connect), (agent(), ProbePhase::Connect), (dns(), ProbePhase::Read)] {
        let net = Net::new(1, Faults::none());
        let mut probing = Probing::on(&net);
        probing.start(1, address(1), probe);
        probing.finish(&mut []);
        assert_eq!(probing.only().result, failed(phase, FailureReason::Refused));
    }
}

#[test]
fn we_part_in_order_when_the_last_word_is_ours_or_the_backend_has_gone() {
    let table = [
        // It closes behind "221", but that is all we waited for.
        (steps(vec![text("220 ")]), Close::Reset),
        (steps(vec![text("220 "), send("QUIT\r\n")]), Close::Orderly),
    ];
    for (probe, expected) in table {
        let net = Net::new(1, Faults::none());
        let backend = net.backend_listen(address(1));
        let mut probing = Probing::on(&net);
        probing.start(1, address(1), probe);
        let mut talks = Vec::new();
        probing.finish(&mut [&mut serve(&backend, &mut talks, "220 mail\r\n", |_| "")]);
        assert_eq!(probing.only().result, passed());
        while net.step() {}
        let dialled = net.marks().iter().find(|mark| mark.fact == Fact::Dialled).map(|mark| mark.socket);
        let closed = net.marks().into_iter().find_map(|mark| match mark.fact {
            Fact::Closed(how) if Some(mark.socket) == dialled => Some(how),
            _ => None,
        });
        assert_eq!(closed, Some(expected), "{}", net.story());
        if expected == Close::Orderly {
            let last = talks[0].end.take();
            talks[0].heard.extend(last);
            assert_eq!(talks[0].heard, b"QUIT\r\n", "our last word is delivered");
        }
    }
}

#[test]
fn a_blow_at_any_point_ends_it_once_and_in_time() {
    for (probe, greeting, answers) in [(smtp(), "220 mail\r\n", mail as fn(&str) -> &'static str), (agent(), "", state)]
    {
        for kind in [Strike::Reset, Strike::BlackHole] {
            for point in 0.. {
                let strike = Some((point, kind));
                let net = Net::new(1, Faults { strike, segments: Segments::Random, ..Faults::none() });
                let backend = net.backend_listen(address(1));
                let mut probing = Probing::on(&net);
                probing.start(1, address(1), probe.clone());
                let mut talks = Vec::new();
                probing.finish(&mut [&mut serve(&backend, &mut talks, greeting, answers)]);
                let finding = probing.only();
                assert!(finding.duration() <= TIMEOUT, "{kind:?} at {point}: {finding}");
                match (&finding.result, kind) {
                    (ProbeResult::Passed(_), _) => {}
                    (ProbeResult::Failed(failure), Strike::Reset) => assert_eq!(failure.reason.word(), "reset"),
                    (ProbeResult::Failed(failure), _) => assert_eq!(failure.reason.word(), "timed_out"),
                    (ProbeResult::Void(_), _) => panic!("{kind:?} at {point}: {finding}"),
                }
                if net.packets() <= point {
                    assert!(finding.result.passed() && point > 2, "{kind:?} never struck before {point}");
                    break;
                }
            }
        }
    }
}

/// The greeting has come, and while our thread stood still the backend lost patience with us.
#[test]
fn a_backend_that_waits_for_our_late_word_is_not_to_blame() {
    let net = Net::new(1, Faults::none());
    let backend = net.backend_listen(address(1));
    let mut probing = Probing::on(&net);
    probing.start(1, address(1), smtp());
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
    end.send(b"220 mail\r\n");
    end.close();
    let by = LATENESS + Duration::from_nanos(1);
    net.advance_to(Instant::START + TIMEOUT + by);
    probing.turn();
    assert_eq!(probing.only().result, ProbeResult::Void(Void::Late { by }));
}

#[test]
fn foreign_answers_are_passed_over_though_they_come_all_at_once() {
    let net = Net::new(1, Faults::none());
    let service = net.udp_service(address(1));
    let mut probing = Probing::on(&net);
    probing.start(1, address(1), dns());
    while net.step() {}
    let (from, question) = service.recv().expect("the question is sent at the start");
    service.send(from, b"pong");
    let mut other = answer_to(&question, [10, 0, 0, 8]);
    other[1] ^= 1;
    service.send(from, &other);
    service.send(from, &question);
    while net.step() {}
    let events = probing.miss();
    probing.handle(&events);
    assert_eq!(probing.prober.running(), 1, "none of them was an answer");
    service.send(from, &other);
    service.send(from, b"");
    service.send(from, &answer_to(&question, [10, 0, 0, 7]));
    while net.step() {}
    let events = probing.miss();
    probing.handle(&events);
    assert_eq!(probing.only().result, resolved());
}

#[test]
fn if_only_foreign_answers_came_the_timeout_says_so() {
    let net = Net::new(1, Faults::none());
    let service = net.udp_service(address(1));
    let mut probing = Probing::on(&net);
    probing.start(1, address(1), dns());
    probing.finish(&mut [&mut virtual_host::echo(&service)]);
    let finding = probing.only();
    assert_eq!(finding.result, failed(ProbePhase::Read, FailureReason::NotDns { why: "it is a question" }));
    assert_eq!(finding.duration(), TIMEOUT);
}

#[test]
fn every_question_has_a_number_of_its_own() {
    let net = Net::new(1, Faults::none());
    let service = net.udp_service(address(1));
    let mut probing = Probing::on(&net);
    let mut numbers = std::collections::BTreeSet::new();
    for key in 0..100 {
        probing.start(key, address(1), dns());
    }
    while net.step() {}
    while let Some((_, question)) = service.recv() {
        numbers.insert([question[0], question[1]]);
    }
    assert_eq!(numbers.len(), 100);
    probing.finish(&mut []);
}

#[test]
fn under_any_faults_every_probe_ends_once_with_a_possible_finding_and_nothing_leaks() {
    const PROBES: u64 = 48;
    for seed in seeds(200) {
        let net = Net::new(seed, Faults::from_seed(seed));
        let (mails, agents) = (net.backend_listen(address(1)), net.backend_listen(address(2)));
        let service = net.udp_service(address(3));
        let mut probing = Probing::on(&net);
        let mut targets = Vec::new();
        for key in 0..PROBES {
            let target = 1 + net.below(3) as u8;
            targets.push(target);
            probing.start(key, address(target), [smtp(), agent(), dns()][usize::from(target) - 1].clone());
            if net.below(8) == 0 {
                net.step();
                probing.turn();
            }
        }
        let (mut talks, mut more) = (Vec::new(), Vec::new());
        probing.finish(&mut [
            &mut serve(&mails, &mut talks, "220 mail\r\n", mail),
            &mut serve(&agents, &mut more, "", state),
            &mut resolve(&service),
        ]);
        let mut heard: Vec<u64> = probing.done.iter().map(|done| done.key).collect();
        heard.sort_unstable();
        assert_eq!(heard, (0..PROBES).collect::<Vec<_>>(), "seed {seed}");
        for done in &probing.done {
            let finding = &done.finding;
            let target = targets[done.key as usize];
            let right = match (&finding.result, target) {
                (ProbeResult::Void(void), _) => matches!(void, Void::Late { .. } | Void::NoResources { .. }),
                (ProbeResult::Failed(failure), 3) => ["timed_out", "not_dns"].contains(&failure.reason.word()),
                (ProbeResult::Failed(failure), _) => {
                    ["timed_out", "reset", "closed", "not_agent"].contains(&failure.reason.word())
                }
                (result, 1) => *result == passed(),
                (result, 2) => *result == half(),
                (result, _) => *result == resolved(),
            };
            assert!(right, "target {target}: {finding} (seed {seed})\n{}", net.story());
        }
        let totals = net.totals(probing.id());
        assert_eq!(totals.opened, totals.closed, "seed {seed}");
    }
}
