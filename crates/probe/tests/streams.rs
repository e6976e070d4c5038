//! Probes inside a stream of HTTP/2 on the simulated network, plain and inside TLS: however they are cut, struck or silenced.
//!
//! The backend is the machine that serves our own clients; others' servers are probed end to end by the binary.

mod virtual_host;

#[path = "../../tls/tests/support/mod.rs"]
mod support;

use std::sync::Arc;

use evenkeel_h2::{Connection, Event, Role, Settings};
use evenkeel_health::settings::{GrpcProbe, HttpProbe, HttpVersion, ProbeSettings};
use evenkeel_model::Instant;
use evenkeel_model::finding::{Failure, FailureReason, Pass, ProbePhase, ProbeResult};
use evenkeel_reactor::sim::{Backend, End, Faults, Net, Segments, Strike};
use evenkeel_tls::{Client, Offers, Server, ServerSettings, Session};
use rustls::ServerConfig;
use support::{Authority, Key, client_settings, settings};
use virtual_host::{Probing, TIMEOUT, address, failed, http};

const SERVING: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n\
                         7\r\n\0\0\0\0\x02\x08\x01\r\n0\r\ngrpc-status: 0\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

fn page(tls: Option<&Arc<Client>>) -> ProbeSettings {
    ProbeSettings::Http(HttpProbe { version: HttpVersion::Http2, tls: tls.cloned(), ..HttpProbe::default() })
}

fn call(tls: Option<&Arc<Client>>) -> ProbeSettings {
    ProbeSettings::Grpc(GrpcProbe { service: "a.B".to_owned(), host: None, tls: tls.cloned() })
}

fn machine() -> Connection {
    let settings = Settings {
        streams: 10,
        stream_window: 65_535,
        connection_window: 65_535,
        header_limit: 32 * 1024,
        max_frame: 16_384,
        extended_connect: false,
        secure: false,
    };
    Connection::new(Role::Server, &settings, Instant::START)
}

/// One connection as the backend sees it.
struct Talk {
    end: End,
    session: Option<Session>,
    carrier: Connection,
    taken: usize,
}

/// A backend that answers each stream with `answer` and never closes by itself.
fn serve<'a>(
    backend: &'a Backend,
    server: Option<&'a Server>,
    talks: &'a mut Vec<Talk>,
    answer: &'a [u8],
) -> impl FnMut(&Net) + 'a {
    move |_: &Net| {
        while let Some(end) = backend.accept() {
            let session = server.map(|server| Session::server(server).expect("a session"));
            talks.push(Talk { end, session, carrier: machine(), taken: 0 });
        }
        for talk in talks.iter_mut().filter(|talk| talk.end.is_open()) {
            let mut news = talk.end.received()[talk.taken..].to_vec();
            talk.taken += news.len();
            let plain = match &mut talk.session {
                None => news,
                Some(session) => {
                    let mut plain = Vec::new();
                    if session.receive(&mut news, &mut plain).is_err() {
                        talk.end.send(session.output());
                        talk.end.close();
                        continue;
                    }
                    plain
                }
            };
            talk.carrier.receive(&plain, Instant::START).expect("a client of HTTP/2");
            while let Some(event) = talk.carrier.next_event() {
                if let Event::Opened(stream) = event {
                    talk.carrier.send(stream, answer).expect("an answer");
                }
            }
            let said = talk.carrier.output().to_vec();
            let out = match &mut talk.session {
                Some(session) if session.is_handshaking() => session.output().to_vec(),
                Some(session) => {
                    session.send(&said).expect("the session stands");
                    talk.carrier.sent(said.len());
                    session.output().to_vec()
                }
                None => {
                    talk.carrier.sent(said.len());
                    said
                }
            };
            if let Some(session) = &mut talk.session {
                session.sent(out.len());
            }
            if !out.is_empty() {
                talk.end.send(&out);
            }
        }
    }
}

/// What one probe finds at a backend that answers so.
fn found(faults: Faults, server: Option<&Server>, probe: ProbeSettings, answer: &[u8]) -> ProbeResult {
    let net = Net::new(1, faults);
    let backend = net.backend_listen(address(1));
    let mut probing = Probing::on(&net);
    probing.start(1, address(1), probe);
    let mut talks = Vec::new();
    probing.finish(&mut [&mut serve(&backend, server, &mut talks, answer)]);
    probing.only().result
}

fn server(authority: &Authority, http2: bool) -> Server {
    let certificates = vec![authority.leaf(&["a.example"], Key::P256).load()];
    evenkeel_tls::server(ServerSettings { http2, ..settings(certificates) }).expect("a server")
}

fn client(authority: &Authority) -> Arc<Client> {
    let client = evenkeel_tls::client(client_settings(&authority.pem, "a.example")).expect("a client");
    Arc::new(client.for_probes(Offers::Http2))
}

#[test]
fn the_answer_decides_plain_and_inside_tls_however_the_network_cuts_it() {
    let ours = Authority::new("ours");
    let (server, client) = (server(&ours, true), client(&ours));
    let serving = ProbeResult::Passed(Pass::Serving);
    let passed = ProbeResult::Passed(Pass::Status(200));
    let busy = failed(ProbePhase::Read, FailureReason::Status { got: 503 });
    let tiny = || Faults { segments: Segments::OneByte, send_buffer: 1, receive_window: 1, ..Faults::none() };
    let random = || Faults { segments: Segments::Random, ..Faults::none() };
    for faults in [Faults::none as fn() -> Faults, tiny, random] {
        for (server, tls) in [(None, None), (Some(&server), Some(&client))] {
            assert_eq!(found(faults(), server, page(tls), OK), passed);
            assert_eq!(found(faults(), server, page(tls), b"HTTP/1.1 503 \r\ncontent-length: 0\r\n\r\n"), busy);
            assert_eq!(found(faults(), server, call(tls), SERVING), serving);
        }
    }
}

#[test]
fn inside_tls_http2_has_to_be_agreed_on() {
    let ours = Authority::new("ours");
    let client = client(&ours);
    let of_others = server(&ours, false);
    let mut of_none = server(&ours, false);
    let mut config = ServerConfig::clone(&of_none.config);
    config.alpn_protocols.clear();
    of_none.config = Arc::new(config);
    let refused = FailureReason::Tls { why: "alert received: no_application_protocol" };
    let passed_over = FailureReason::NotHttp2 { why: "the backend does not offer HTTP/2 (ALPN h2)" };
    for (server, reason) in [(of_others, refused), (of_none, passed_over)] {
        for probe in [page(Some(&client)), call(Some(&client))] {
            let result = found(Faults::none(), Some(&server), probe, OK);
            assert_eq!(result, failed(ProbePhase::Tls, reason.clone()));
        }
    }
}

#[test]
fn a_blow_at_any_point_ends_it_once_and_in_time() {
    let ours = Authority::new("ours");
    let (server, client) = (server(&ours, true), client(&ours));
    for (server, tls) in [(None, None), (Some(&server), Some(&client))] {
        for kind in [Strike::Reset, Strike::BlackHole] {
            for point in 0.. {
                let net = Net::new(1, Faults { strike: Some((point, kind)), ..Faults::none() });
                let backend = net.backend_listen(address(1));
                let mut probing = Probing::on(&net);
                probing.start(1, address(1), call(tls));
                let mut talks = Vec::new();
                probing.finish(&mut [&mut serve(&backend, server, &mut talks, SERVING)]);
                let finding = probing.only();
                assert!(finding.duration() <= TIMEOUT, "{kind:?} at {point}: {finding}");
                match &finding.result {
                    ProbeResult::Passed(Pass::Serving) => {}
                    ProbeResult::Failed(Failure { reason: FailureReason::Reset, .. }) if kind == Strike::Reset => {}
                    ProbeResult::Failed(Failure { reason: FailureReason::TimedOut, .. })
                        if kind == Strike::BlackHole => {}
                    other => panic!("{kind:?} at {point}: {other:?}"),
                }
                if net.packets() <= point {
                    assert!(finding.result.passed() && point >= 2, "{kind:?} never struck before {point}");
                    break;
                }
            }
        }
    }
}

#[test]
fn a_backend_that_speaks_http_1_is_told_from_one_that_is_silent() {
    let answering = |answer: &'static [u8]| {
        let net = Net::new(1, Faults::none());
        let backend = net.backend_listen(address(1));
        let mut probing = Probing::on(&net);
        probing.start(1, address(1), call(None));
        let mut ends: Vec<End> = Vec::new();
        let mut respond = |_: &Net| {
            ends.extend(std::iter::from_fn(|| backend.accept()));
            for end in ends.iter().filter(|end| end.is_open() && !end.received().is_empty() && !answer.is_empty()) {
                end.send(answer);
                end.close();
            }
        };
        probing.finish(&mut [&mut respond]);
        probing.only()
    };
    let spoken = answering(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    let http1 = FailureReason::NotHttp2 { why: "the port speaks http/1" };
    assert_eq!(spoken.result, failed(ProbePhase::Read, http1));
    let silent = answering(b"");
    assert_eq!(silent.result, failed(ProbePhase::Read, FailureReason::TimedOut));
    assert_eq!(silent.duration(), TIMEOUT, "not to the nanosecond");
}

#[test]
fn a_probe_of_http_1_says_what_a_backend_of_http_2_speaks() {
    let net = Net::new(1, Faults::none());
    let backend = net.backend_listen(address(1));
    let mut probing = Probing::on(&net);
    probing.start(1, address(1), http());
    let mut ends: Vec<End> = Vec::new();
    let mut greet = |_: &Net| {
        while let Some(end) = backend.accept() {
            end.send(machine().output());
            ends.push(end);
        }
    };
    probing.finish(&mut [&mut greet]);
    let http2 = FailureReason::NotHttp { why: "the port speaks http/2" };
    assert_eq!(probing.only().result, failed(ProbePhase::Read, http2));
}
