//! Probes inside TLS on the simulated network: what a handshake can come to, however it is cut, late, struck or broken.
//!
//! The backend's side is a real TLS session, so certificates are judged as they are for traffic.

mod virtual_host;

#[path = "../../tls/tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use evenkeel_health::pattern::{Covers, Pattern};
use evenkeel_health::settings::{HttpProbe, ProbeSettings, Step, StepsProbe, TlsProbe};
use evenkeel_model::finding::{Failure, FailureReason, Pass, ProbePhase, ProbeResult, StepEnd, Void};
use evenkeel_model::{Instant, limits};
use evenkeel_reactor::sim::{Backend, End, Faults, Net, Segments, Strike};
use evenkeel_tls::{Client, ClientSettings, Offers, Server, ServerSettings, Session};
use support::{Authority, DAY, Key, NOW, client_settings, plain_server, settings};
use virtual_host::{Probing, TIMEOUT, address, failed};

const LATENESS: Duration = Duration::from_millis(limits::LATENESS.value);
const OK: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

fn client(settings: ClientSettings<'_>) -> Arc<Client> {
    Arc::new(evenkeel_tls::client(settings).expect("a client").for_probes(Offers::Http1))
}

fn https(client: &Arc<Client>) -> ProbeSettings {
    ProbeSettings::Http(HttpProbe { tls: Some(Arc::clone(client)), ..HttpProbe::default() })
}

fn handshake(client: &Arc<Client>, min_days_left: Option<u32>) -> ProbeSettings {
    ProbeSettings::Tls(TlsProbe { client: Arc::clone(client), min_days_left })
}

fn tls(why: &'static str) -> ProbeResult {
    failed(ProbePhase::Tls, FailureReason::Tls { why })
}

/// One connection as the backend sees it.
struct Talk {
    end: End,
    session: Session,
    taken: usize,
    heard: Vec<u8>,
    answered: bool,
}

/// A backend that speaks TLS: answers each request with `answer`, says goodbye and closes.
fn serve<'a>(
    backend: &'a Backend,
    server: &'a Server,
    talks: &'a mut Vec<Talk>,
    answer: &'a [u8],
) -> impl FnMut(&Net) + 'a {
    move |_: &Net| {
        while let Some(end) = backend.accept() {
            let session = Session::server(server).expect("a session");
            talks.push(Talk { end, session, taken: 0, heard: Vec::new(), answered: false });
        }
        for talk in talks.iter_mut().filter(|talk| talk.end.is_open()) {
            let mut news = talk.end.received()[talk.taken..].to_vec();
            talk.taken += news.len();
            let broken = talk.session.receive(&mut news, &mut talk.heard).is_err();
            if !talk.answered && talk.heard.ends_with(b"\r\n\r\n") {
                talk.answered = true;
                talk.session.send(answer).expect("the session stands");
                talk.session.close();
            }
            let out = talk.session.output().to_vec();
            talk.session.sent(out.len());
            if !out.is_empty() {
                talk.end.send(&out);
            }
            if broken || talk.answered {
                talk.end.close();
            }
        }
    }
}

/// What one probe finds at a backend with this TLS.
fn found(faults: Faults, server: &Server, probe: ProbeSettings, answer: &[u8]) -> ProbeResult {
    let net = Net::new(1, faults);
    let backend = net.backend_listen(address(1));
    let mut probing = Probing::on(&net);
    probing.start(1, address(1), probe);
    let mut talks = Vec::new();
    probing.finish(&mut [&mut serve(&backend, server, &mut talks, answer)]);
    probing.only().result
}

fn secured(days_left: i64) -> ProbeResult {
    ProbeResult::Passed(Pass::Secured { days_left: Some(days_left) })
}

/// From NOW, 2026-11-22, to the end of the certificates of `support`, 2027-06-01.
const DAYS_LEFT: i64 = 191;

#[test]
fn what_the_backend_shows_decides_for_both_kinds() {
    let (ours, strangers) = (Authority::new("ours"), Authority::new("strangers"));
    let server_of = |authority: &Authority, name: &str| {
        evenkeel_tls::server(settings(vec![authority.leaf(&[name], Key::P256).load()])).expect("a server")
    };
    let later = |days: u64| {
        let clock = support::now();
        clock.0.store(NOW + days * DAY, Ordering::Relaxed);
        clock
    };
    let good = server_of(&ours, "a.example");
    let usual = || client_settings(&ours.pem, "a.example");
    let passed = ProbeResult::Passed(Pass::Status(200));
    let days = DAYS_LEFT as u64;
    let table = [
        ("in order", &good, client(usual()), passed.clone(), secured(DAYS_LEFT)),
        ("last day", &good, client(ClientSettings { clock: later(days), ..usual() }), passed.clone(), secured(0)),
        (
            "expired",
            &good,
            client(ClientSettings { clock: later(days + 1), ..usual() }),
            tls("certificate has expired"),
            tls("certificate has expired"),
        ),
        (
            "expired, and nobody looks",
            &good,
            client(ClientSettings { clock: later(days + 3), verify: false, ca: None, ..usual() }),
            passed,
            secured(-3),
        ),
        (
            "other name",
            &good,
            // Without a name the address counts, and no server is asked for one.
            client(ClientSettings { name: None, ..usual() }),
            tls("certificate for another name"),
            tls("certificate for another name"),
        ),
        (
            "name that nobody bears",
            &good,
            client(ClientSettings { name: Some("b.example"), ..usual() }),
            tls("alert received: unrecognized_name"),
            tls("alert received: unrecognized_name"),
        ),
        (
            "stranger",
            &server_of(&strangers, "a.example"),
            client(usual()),
            tls("certificate from an unknown authority"),
            tls("certificate from an unknown authority"),
        ),
    ];
    for (name, server, client, http, mere) in table {
        assert_eq!(found(Faults::none(), server, https(&client), OK), http, "http, {name}");
        assert_eq!(found(Faults::none(), server, handshake(&client, None), OK), mere, "tls, {name}");
    }
}

#[test]
fn the_status_decides_inside_tls_as_outside() {
    let ours = Authority::new("ours");
    let (server, client) = (plain_server(&ours), client(client_settings(&ours.pem, "a.example")));
    let got = found(Faults::none(), &server, https(&client), b"HTTP/1.1 503 Busy\r\n\r\n");
    assert_eq!(got, failed(ProbePhase::Read, FailureReason::Status { got: 503 }));
    // An answer that ends in the middle of its head, in good order.
    let got = found(Faults::none(), &server, https(&client), b"HTTP/1.1 200 OK\r\n");
    assert_eq!(got, failed(ProbePhase::Read, FailureReason::Closed));
}

#[test]
fn too_few_days_left_fail() {
    let ours = Authority::new("ours");
    let (server, client) = (plain_server(&ours), client(client_settings(&ours.pem, "a.example")));
    let least = DAYS_LEFT as u32;
    assert_eq!(found(Faults::none(), &server, handshake(&client, Some(least)), OK), secured(DAYS_LEFT));
    let expiring = FailureReason::Expiring { days_left: DAYS_LEFT, least: least + 1 };
    let got = found(Faults::none(), &server, handshake(&client, Some(least + 1)), OK);
    assert_eq!(got, failed(ProbePhase::Tls, expiring));
}

#[test]
fn a_client_certificate_is_shown_and_its_lack_is_heard_by_a_request() {
    let ours = Authority::new("ours");
    let wanting = ServerSettings {
        client_ca: Some(ours.pem.as_bytes()),
        client_required: true,
        ..settings(vec![ours.leaf(&["a.example"], Key::P256).load()])
    };
    let server = evenkeel_tls::server(wanting).expect("a server");
    let without = client(client_settings(&ours.pem, "a.example"));
    let with = ours.client_leaf("probe").load();
    let with = client(ClientSettings { certificate: Some(with), ..client_settings(&ours.pem, "a.example") });
    assert_eq!(found(Faults::none(), &server, https(&with), OK), ProbeResult::Passed(Pass::Status(200)));
    assert_eq!(found(Faults::none(), &server, https(&without), OK), tls("alert received: certificate_required"));
}

#[test]
fn every_probe_makes_a_whole_handshake() {
    let ours = Authority::new("ours");
    let tickets = evenkeel_tls::Tickets::default().of("a", None, false).expect("keys can be made");
    let certificates = vec![ours.leaf(&["a.example"], Key::P256).load()];
    let server =
        evenkeel_tls::server(ServerSettings { tickets: Some(tickets), ..settings(certificates) }).expect("a server");
    let client = client(client_settings(&ours.pem, "a.example"));
    let net = Net::new(1, Faults::none());
    let backend = net.backend_listen(address(1));
    let mut probing = Probing::on(&net);
    let mut talks = Vec::new();
    for _ in 0..3 {
        probing.start(1, address(1), https(&client));
        probing.finish(&mut [&mut serve(&backend, &server, &mut talks, OK)]);
        assert_eq!(probing.only().result, ProbeResult::Passed(Pass::Status(200)));
    }
    assert_eq!(talks.len(), 3);
    assert!(talks.iter().all(|talk| !talk.session.is_resumed()));
}

#[test]
fn what_is_no_tls_is_named() {
    let ours = Authority::new("ours");
    let client = client(client_settings(&ours.pem, "a.example"));
    let table: [(&[u8], ProbeResult); 5] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", tls("plain HTTP where TLS was expected")),
        (b"SSH-2.0-OpenSSH_9.2\r\n", tls("SSH where TLS was expected")),
        (b"220 mail.example.com\r\n", tls("something that is not TLS")),
        (b"\x15\x03\x03\x00\x02\x02\x28", tls("alert received: handshake_failure")),
        (b"", failed(ProbePhase::Tls, FailureReason::Closed)),
    ];
    for probe in [https(&client), handshake(&client, None)] {
        for (answer, expected) in &table {
            let net = Net::new(1, Faults::none());
            let backend = net.backend_listen(address(1));
            let mut probing = Probing::on(&net);
            probing.start(1, address(1), probe.clone());
            let mut ends = Vec::new();
            let mut answering = |_: &Net| {
                ends.extend(std::iter::from_fn(|| backend.accept()));
                for end in ends.iter().filter(|end| end.is_open() && !end.received().is_empty()) {
                    end.send(answer);
                    end.close();
                }
            };
            probing.finish(&mut [&mut answering]);
            assert_eq!(probing.only().result, *expected, "{}", answer.escape_ascii());
        }
    }
}

#[test]
fn silence_after_the_connect_is_a_timeout_in_the_handshake() {
    let ours = Authority::new("ours");
    let client = client(client_settings(&ours.pem, "a.example"));
    for probe in [https(&client), handshake(&client, None)] {
        let net = Net::new(1, Faults::none());
        let _listening = net.backend_listen(address(1));
        let mut probing = Probing::on(&net);
        probing.start(1, address(1), probe);
        probing.finish(&mut []);
        let finding = probing.only();
        assert_eq!(finding.result, failed(ProbePhase::Tls, FailureReason::TimedOut));
        assert_eq!(finding.duration(), TIMEOUT);
    }
}

#[test]
fn bytes_one_by_one_through_tiny_buffers_change_nothing() {
    let ours = Authority::new("ours");
    let (server, client) = (plain_server(&ours), client(client_settings(&ours.pem, "a.example")));
    let faults = || Faults { segments: Segments::OneByte, send_buffer: 1, receive_window: 1, ..Faults::none() };
    assert_eq!(found(faults(), &server, https(&client), OK), ProbeResult::Passed(Pass::Status(200)));
    assert_eq!(found(faults(), &server, handshake(&client, None), OK), secured(DAYS_LEFT));
    let random = Faults { segments: Segments::Random, ..Faults::none() };
    assert_eq!(found(random, &server, https(&client), OK), ProbeResult::Passed(Pass::Status(200)));
}

#[test]
fn a_blow_at_any_point_ends_it_once_and_in_time() {
    let ours = Authority::new("ours");
    let (server, client) = (plain_server(&ours), client(client_settings(&ours.pem, "a.example")));
    for (probe, kind) in [https(&client), handshake(&client, None)]
        .into_iter()
        .flat_map(|probe| [(probe.clone(), Strike::Reset), (probe, Strike::BlackHole)])
    {
        for point in 0.. {
            let net = Net::new(1, Faults { strike: Some((point, kind)), ..Faults::none() });
            let backend = net.backend_listen(address(1));
            let mut probing = Probing::on(&net);
            probing.start(1, address(1), probe.clone());
            let mut talks = Vec::new();
            probing.finish(&mut [&mut serve(&backend, &server, &mut talks, OK)]);
            let finding = probing.only();
            assert!(finding.duration() <= TIMEOUT, "{kind:?} at {point}: {finding}");
            match &finding.result {
                ProbeResult::Passed(Pass::Status(200) | Pass::Secured { .. }) => {}
                ProbeResult::Failed(Failure { reason: FailureReason::Reset, .. }) if kind == Strike::Reset => {}
                ProbeResult::Failed(Failure { reason: FailureReason::TimedOut, .. }) if kind == Strike::BlackHole => {}
                other => panic!("{kind:?} at {point}: {other:?}"),
            }
            if net.packets() <= point {
                assert!(finding.result.passed() && point >= 2, "{kind:?} never struck before {point}");
                break;
            }
        }
    }
}

/// The backend's flight has come, and it lost patience while our thread stood still: it owed us nothing more.
#[test]
fn a_handshake_that_waits_for_our_late_word_is_void() {
    let ours = Authority::new("ours");
    let (server, client) = (plain_server(&ours), client(client_settings(&ours.pem, "a.example")));
    let net = Net::new(1, Faults::none());
    let backend = net.backend_listen(address(1));
    let mut probing = Probing::on(&net);
    probing.start(1, address(1), https(&client));
    let end = loop {
        probing.turn();
        if let Some(end) = backend.accept() {
            break end;
        }
        assert!(net.step(), "the connection is never accepted");
    };
    while end.received().is_empty() {
        probing.turn();
        assert!(net.step(), "the hello never comes");
    }
    let mut session = Session::server(&server).expect("a session");
    session.receive(&mut end.received(), &mut Vec::new()).expect("the hello is one");
    assert!(session.is_handshaking() && !session.output().is_empty());
    end.send(session.output());
    end.close();
    let by = LATENESS + Duration::from_nanos(1);
    net.advance_to(Instant::START + TIMEOUT + by);
    probing.turn();
    assert_eq!(probing.only().result, ProbeResult::Void(Void::Late { by }));
}

/// A backend that speaks TLS: answers each request with `answer` and goes on.
fn serve_on<'a>(
    backend: &'a Backend,
    server: &'a Server,
    talks: &'a mut Vec<Talk>,
    answer: &'a [u8],
) -> impl FnMut(&Net) + 'a {
    move |_: &Net| {
        while let Some(end) = backend.accept() {
            let session = Session::server(server).expect("a session");
            talks.push(Talk { end, session, taken: 0, heard: Vec::new(), answered: false });
        }
        for talk in talks.iter_mut().filter(|talk| talk.end.is_open()) {
            let mut news = talk.end.received()[talk.taken..].to_vec();
            talk.taken += news.len();
            let broken = talk.session.receive(&mut news, &mut talk.heard).is_err();
            if talk.heard.ends_with(b"\r\n\r\n") {
                talk.answered = true;
                talk.heard.clear();
                talk.session.send(answer).expect("the session stands");
            }
            let out = talk.session.output().to_vec();
            talk.session.sent(out.len());
            if !out.is_empty() {
                talk.end.send(&out);
            }
            if broken {
                talk.end.close();
            }
        }
    }
}

#[test]
fn a_kept_connection_keeps_its_session() {
    let ours = Authority::new("ours");
    let (server, client) = (plain_server(&ours), client(client_settings(&ours.pem, "a.example")));
    let kept = ProbeSettings::Http(HttpProbe { tls: Some(client), keep_alive: true, ..HttpProbe::default() });
    for segments in [Segments::Whole, Segments::OneByte, Segments::Random] {
        let net = Net::new(1, Faults { segments, ..Faults::none() });
        let backend = net.backend_listen(address(1));
        let mut probing = Probing::on(&net);
        let mut talks = Vec::new();
        for _ in 0..3 {
            probing.start(1, address(1), kept.clone());
            probing.finish(&mut [&mut serve_on(&backend, &server, &mut talks, OK)]);
            assert_eq!(probing.only().result, ProbeResult::Passed(Pass::Status(200)));
        }
        assert_eq!((talks.len(), probing.prober.resting()), (1, 1), "{segments:?}");
        // A goodbye while it lies idle: the next probe makes a new one, and finds no fault.
        talks[0].session.close();
        let goodbye = talks[0].session.output().to_vec();
        talks[0].end.send(&goodbye);
        talks[0].end.close();
        probing.start(1, address(1), kept.clone());
        probing.finish(&mut [&mut serve_on(&backend, &server, &mut talks, OK)]);
        assert_eq!(probing.only().result, ProbeResult::Passed(Pass::Status(200)));
        assert_eq!(talks.len(), 2, "{segments:?}");
    }
}

#[test]
fn a_conversation_inside_tls_is_the_same_conversation() {
    let ours = Authority::new("ours");
    let (server, client) = (plain_server(&ours), client(client_settings(&ours.pem, "a.example")));
    let text = |wanted: &str| Step::Expect(Pattern::literal(wanted.as_bytes(), Covers::Part));
    let talk =
        |steps: &[Step]| ProbeSettings::Steps(StepsProbe { steps: steps.into(), tls: Some(Arc::clone(&client)) });
    let ask = Step::Send(b"PING\r\n\r\n".to_vec());
    let passed = ProbeResult::Passed(Pass::Answered);
    let faults = || Faults { segments: Segments::OneByte, send_buffer: 1, receive_window: 1, ..Faults::none() };
    for faults in [Faults::none, faults] {
        let found = |steps: &[Step]| found(faults(), &server, talk(steps), b"+PONG\r\n");
        assert_eq!(found(&[ask.clone(), text("+PONG")]), passed);
        let wanted = "\"+OK\"".into();
        let reason = FailureReason::Step { step: 2, of: 2, wanted, got: b"+PONG\r\n".to_vec(), end: StepEnd::Closed };
        assert_eq!(found(&[ask.clone(), text("+OK")]), failed(ProbePhase::Read, reason));
    }
    // The last word is ours, and it arrives.
    let net = Net::new(1, faults());
    let backend = net.backend_listen(address(1));
    let mut probing = Probing::on(&net);
    probing.start(1, address(1), talk(&[ask.clone(), text("+PONG"), Step::Send(b"QUIT\r\n".to_vec())]));
    let mut talks = Vec::new();
    let mut serving = serve_on(&backend, &server, &mut talks, b"+PONG\r\n");
    probing.finish(&mut [&mut serving]);
    assert_eq!(probing.only().result, passed);
    while net.step() {
        serving(&net);
    }
    drop(serving);
    assert_eq!(talks[0].heard, b"QUIT\r\n");
}
