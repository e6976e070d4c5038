//! What probes put on the wire, and what firewalls and absent hosts make of them: the promises that loopback
//! cannot show. Each test has two hosts of its own (`lab`), and is skipped aloud where it may not have them.

mod lab;
mod real;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use evenkeel_health::settings::{CheckSettings, IcmpProbe, ProbeSettings, Silence, StatusSet, TcpProbe};
use evenkeel_model::finding::{FailureReason, Finding, Pass, ProbePhase, ProbeResult, Proof, Void};
use lab::{BACKEND, BACKEND_6, Lab, NOBODY, backend};
use real::{BRIEF, PATIENT, failed, http, settings, udp};
use rustix::net::sockopt::set_socket_linger;

const PORT: u16 = 8080;

impl Lab {
    fn probe(&self, address: SocketAddr, check: CheckSettings) -> Finding {
        self.on_prober(|| real::probe(address, check))
    }

    fn listen(&self) -> TcpListener {
        self.on_backend(|| TcpListener::bind((BACKEND, PORT)).expect("nobody else has the port"))
    }

    fn udp_socket(&self) -> UdpSocket {
        self.on_backend(|| UdpSocket::bind((BACKEND, PORT)).expect("nobody else has the port"))
    }
}

fn half_open() -> ProbeSettings {
    ProbeSettings::Tcp(TcpProbe::HalfOpen)
}

fn full() -> ProbeSettings {
    ProbeSettings::Tcp(TcpProbe::Full)
}

fn icmp() -> ProbeSettings {
    ProbeSettings::Icmp(IcmpProbe)
}

fn head() -> ProbeSettings {
    http("HEAD", None, StatusSet::default())
}

#[test]
fn a_half_open_probe_is_syn_syn_ack_rst_and_the_application_never_accepts() {
    let Some(lab) = Lab::build() else { return };
    let listener = lab.listen();
    listener.set_nonblocking(true).expect("a listener takes the option");
    let packets = loop {
        let capture = lab.capture();
        let finding = lab.probe(backend(PORT), settings(half_open(), PATIENT));
        assert_eq!(finding.result, ProbeResult::Passed(Pass::Connected));
        let packets = capture.tcp_flags(&lab, PORT);
        // The kernel withholds its ACK for 40 ms. A machine that stands still for longer lets it out
        // and proves nothing.
        if finding.duration() < Duration::from_millis(20) {
            break packets;
        }
        while listener.accept().is_ok() {}
    };
    assert_eq!(packets, ["> S", "< S.", "> R."]);
    let accepted = listener.accept().map_err(|error| error.kind());
    assert_eq!(accepted.map(|_| ()), Err(ErrorKind::WouldBlock));
}

#[test]
fn a_full_probe_is_syn_syn_ack_ack_rst_and_the_application_sees_a_reset() {
    let Some(lab) = Lab::build() else { return };
    let listener = lab.listen();
    let capture = lab.capture();
    let finding = lab.probe(backend(PORT), settings(full(), PATIENT));
    assert_eq!(finding.result, ProbeResult::Passed(Pass::Connected));
    assert_eq!(capture.tcp_flags(&lab, PORT), ["> S", "< S.", "> .", "> R."]);
    let (mut accepted, _) = listener.accept().expect("the connection waits");
    let read = accepted.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(read, Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_closed_tcp_port_is_refused_by_a_reset() {
    let Some(lab) = Lab::build() else { return };
    let capture = lab.capture();
    let finding = lab.probe(backend(PORT), settings(half_open(), PATIENT));
    assert_eq!(finding.result, failed(ProbePhase::Connect, FailureReason::Refused));
    assert_eq!(capture.tcp_flags(&lab, PORT), ["> S", "< R."]);
}

#[test]
fn an_http_probe_is_a_head_with_the_configured_host_and_the_status_list_decides() {
    let Some(lab) = Lab::build() else { return };
    let only_204 = StatusSet::from_ranges(vec![(204, 204)]);
    let table = [
        (StatusSet::default(), ProbeResult::Passed(Pass::Status(200))),
        (only_204, failed(ProbePhase::Read, FailureReason::Status { got: 200 })),
    ];
    let listener = lab.listen();
    for (expect, expected) in table {
        let server = listener.try_clone().expect("the process has files left");
        let serving = thread::spawn(move || {
            let (mut stream, _) = server.accept().expect("the probe connects");
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).expect("the request is whole");
                head.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("the probe still reads");
            String::from_utf8(head).expect("the request is text")
        });
        let check = settings(http("HEAD", Some("www.example.com"), expect), PATIENT);
        let finding = lab.probe(backend(PORT), check);
        assert_eq!(finding.result, expected);
        let head = serving.join().expect("the server does not panic");
        assert!(head.starts_with("HEAD /health?deep=1 HTTP/1.1\r\nHost: www.example.com\r\n"), "{head}");
    }
}

#[test]
fn a_closed_udp_port_is_refused_by_icmp() {
    let Some(lab) = Lab::build() else { return };
    let capture = lab.capture();
    for check in [udp(None, Silence::Pass), udp(Some(b"pong"), Silence::Keep)] {
        let finding = lab.probe(backend(PORT), settings(check, PATIENT));
        assert_eq!(finding.result, failed(ProbePhase::Read, FailureReason::Refused));
    }
    let packets = capture.packets(&lab);
    let refusals = packets.iter().filter(|line| line.contains(&format!("udp port {PORT} unreachable"))).count();
    assert_eq!(refusals, 2, "{packets:#?}");
}

#[test]
fn a_udp_answer_is_held_against_the_expectation_and_silence_against_the_setting() {
    let Some(lab) = Lab::build() else { return };
    let socket = lab.udp_socket();
    let answering = socket.try_clone().expect("the process has files left");
    let server = thread::spawn(move || {
        for _ in 0..3 {
            let (_, from) = answering.recv_from(&mut [0; 100]).expect("the probe comes");
            answering.send_to(b"wrong", from).expect("the probe's socket is open");
        }
    });
    let mismatch = FailureReason::Mismatch { got: b"wrong".to_vec() };
    for (expect, expected) in [
        (None, ProbeResult::Passed(Pass::Answered)),
        (Some(&b"wrong"[..]), ProbeResult::Passed(Pass::Answered)),
        (Some(b"pong"), failed(ProbePhase::Read, mismatch)),
    ] {
        let finding = lab.probe(backend(PORT), settings(udp(expect, Silence::Pass), PATIENT));
        assert_eq!(finding.result, expected, "{expect:?}");
    }
    server.join().expect("the server does not panic");
    for (silence, expected) in [
        (Silence::Pass, ProbeResult::Passed(Pass::Silent(Proof::None))),
        (Silence::Fail, failed(ProbePhase::Read, FailureReason::TimedOut)),
        (Silence::Keep, ProbeResult::Void(Void::Silent)),
    ] {
        let finding = lab.probe(backend(PORT), settings(udp(None, silence), BRIEF));
        assert_eq!(finding.result, expected);
    }
}

#[test]
fn a_firewall_that_drops_is_a_timeout_in_connecting_and_silence_for_udp() {
    let Some(lab) = Lab::build() else { return };
    let (_listener, _socket) = (lab.listen(), lab.udp_socket());
    lab.backend_firewall("drop");
    assert_unanswered(&lab, backend(PORT));
}

#[test]
fn an_unplugged_backend_is_a_timeout_in_connecting_and_silence_for_udp() {
    let Some(lab) = Lab::build() else { return };
    let (_listener, _socket) = (lab.listen(), lab.udp_socket());
    lab.unplug();
    assert_unanswered(&lab, backend(PORT));
}

fn assert_unanswered(lab: &Lab, address: SocketAddr) {
    for (check, expected) in [
        (half_open(), failed(ProbePhase::Connect, FailureReason::TimedOut)),
        (full(), failed(ProbePhase::Connect, FailureReason::TimedOut)),
        (head(), failed(ProbePhase::Connect, FailureReason::TimedOut)),
        (udp(None, Silence::Pass), ProbeResult::Passed(Pass::Silent(Proof::None))),
        (udp(Some(b"pong"), Silence::Pass), failed(ProbePhase::Read, FailureReason::TimedOut)),
    ] {
        let finding = lab.probe(address, settings(check, BRIEF));
        assert_eq!(finding.result, expected, "{finding}");
        assert!(finding.duration() >= BRIEF, "{finding}: ended before its timeout");
    }
}

#[test]
fn an_absent_host_is_unreachable_as_soon_as_our_own_host_says_so() {
    let Some(lab) = Lab::build() else { return };
    lab.hasten_arp();
    lab.allow_echo();
    for check in [half_open(), head(), udp(None, Silence::Pass), icmp()] {
        let phase = match check {
            ProbeSettings::Udp(_) | ProbeSettings::Icmp(_) => ProbePhase::Read,
            _ => ProbePhase::Connect,
        };
        let finding = lab.probe(SocketAddr::new(NOBODY, PORT), settings(check, PATIENT));
        assert_eq!(finding.result, failed(phase, FailureReason::Unreachable { errno: 113 }));
    }
    // No interface leads there at all.
    let nowhere = SocketAddr::from(([198, 51, 100, 1], PORT));
    for check in [half_open(), head(), udp(None, Silence::Pass), icmp()] {
        let finding = lab.probe(nowhere, settings(check, PATIENT));
        assert_eq!(finding.result, failed(ProbePhase::Connect, FailureReason::Unreachable { errno: 101 }));
    }
}

#[test]
fn a_probe_that_finds_itself_on_a_closed_port_of_its_own_host_is_refused() {
    let Some(lab) = Lab::build() else { return };
    lab.only_port_of_prober(PORT);
    let own = SocketAddr::from(([127, 0, 0, 1], PORT));
    // The trap is there: a plain connection succeeds with nobody listening.
    let met = lab.on_prober(|| {
        let stream = TcpStream::connect(own).expect("it connects to itself");
        // Without a reset the only port would be kept in TIME_WAIT.
        set_socket_linger(&stream, Some(Duration::ZERO)).expect("a tcp socket takes the option");
        stream.local_addr().expect("a connected socket has an address")
    });
    assert_eq!(met, own);
    for check in [half_open(), full(), head()] {
        let finding = lab.probe(own, settings(check, PATIENT));
        assert_eq!(finding.result, failed(ProbePhase::Connect, FailureReason::Refused));
    }
    for check in [udp(None, Silence::Pass), udp(Some(b"ping"), Silence::Pass)] {
        let finding = lab.probe(own, settings(check, PATIENT));
        assert_eq!(finding.result, failed(ProbePhase::Write, FailureReason::Refused));
    }
}

#[test]
fn a_firewall_that_rejects_leaves_its_kind_in_the_evidence() {
    let unreachable = |errno| FailureReason::Unreachable { errno };
    let table = [
        // What the firewall says, and what IPv4 and IPv6 make of it.
        ("meta l4proto tcp reject with tcp reset", half_open(), FailureReason::Refused, FailureReason::Refused),
        ("reject with icmpx type admin-prohibited", half_open(), unreachable(113), unreachable(13)),
        ("reject with icmpx type admin-prohibited", head(), unreachable(113), unreachable(13)),
        ("reject with icmpx type admin-prohibited", udp(None, Silence::Pass), unreachable(113), unreachable(13)),
        ("reject with icmpx type port-unreachable", half_open(), FailureReason::Refused, FailureReason::Refused),
        (
            "reject with icmpx type port-unreachable",
            udp(None, Silence::Pass),
            FailureReason::Refused,
            FailureReason::Refused,
        ),
    ];
    for (rule, check, by_ipv4, by_ipv6) in table {
        let Some(lab) = Lab::build() else { return };
        // Neighbour discovery is ICMPv6 too and has to get through.
        lab.backend_firewall(&format!("meta l4proto {{ tcp, udp }} {rule}"));
        let phase = if matches!(check, ProbeSettings::Udp(_)) { ProbePhase::Read } else { ProbePhase::Connect };
        for (address, expected) in [(BACKEND, by_ipv4), (BACKEND_6, by_ipv6)] {
            let finding = lab.probe(SocketAddr::new(address, PORT), settings(check.clone(), PATIENT));
            assert_eq!(finding.result, failed(phase, expected), "{rule} at {address}");
        }
    }
}
