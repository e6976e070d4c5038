//! What silence is worth on a real kernel: echo requests, closed ports, and a host that Linux has put on its ICMP ration.
//! Each test has two hosts of its own (`lab`), and is skipped aloud where it may not have them.
//!
//! The ration is the reason for all of it: one refusal a second to each address. Loopback has none.

mod lab;
mod real;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use evenkeel_health::settings::{IcmpProbe, ProbeSettings, Silence, UdpProbe};
use evenkeel_model::finding::{Doubt, FailureReason, Finding, Pass, ProbePhase, ProbeResult, Proof, Void};
use lab::{BACKEND, BACKEND_6, Lab};
use real::{BRIEF, PATIENT, failed, settings};

const SERVICE: u16 = 5300;
const CLOSED: u16 = 1;

fn icmp() -> ProbeSettings {
    ProbeSettings::Icmp(IcmpProbe)
}

fn udp(closed_port: Option<u16>, ping: bool) -> ProbeSettings {
    ProbeSettings::Udp(UdpProbe {
        send: b"ping".to_vec(),
        silence: Silence::Pass,
        closed_port,
        ping,
        ..UdpProbe::default()
    })
}

impl Lab {
    fn find(&self, host: IpAddr, probe: ProbeSettings, patience: std::time::Duration) -> Finding {
        self.on_prober(|| real::probe(SocketAddr::new(host, SERVICE), settings(probe, patience)))
    }

    fn service(&self, host: IpAddr) -> UdpSocket {
        self.on_backend(|| UdpSocket::bind((host, SERVICE)).expect("nobody else has the port"))
    }

    /// Does `work` while somebody with the prober's address sends datagrams to a closed port of the backend's host.
    fn while_the_budget_is_used_up<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let over = AtomicBool::new(false);
        let noise = || {
            self.on_prober(|| {
                let socket = UdpSocket::bind((lab::PROBER, 0)).expect("the prober's host has free ports");
                while !over.load(Ordering::Relaxed) {
                    // A socket that is not connected hears of no refusal, and a full one is no concern of ours.
                    let _ = socket.send_to(b"noise", (BACKEND, 9));
                }
            });
        };
        let (_, before) = self.icmp_spent();
        thread::scope(|scope| {
            let noise = scope.spawn(noise);
            // The budget is used up once something was held back.
            while self.icmp_spent().1 < before + 100 {
                thread::yield_now();
            }
            // When the work fails, too, or the noise would go on for ever.
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            over.store(true, Ordering::Relaxed);
            noise.join().expect("the noise ends in peace");
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

#[test]
fn an_echo_probe_is_one_request_and_one_reply_and_needs_the_kernels_leave() {
    let Some(lab) = Lab::build() else { return };
    let finding = lab.find(BACKEND, icmp(), PATIENT);
    assert_eq!(finding.result, ProbeResult::Void(Void::EchoForbidden), "a new network allows it to nobody");
    lab.allow_echo();
    let capture = lab.capture();
    assert_eq!(lab.find(BACKEND, icmp(), PATIENT).result, ProbeResult::Passed(Pass::Echoed));
    let packets = capture.packets(&lab);
    let kinds: Vec<&str> =
        packets.iter().filter_map(|line| line.split("ICMP echo ").nth(1)?.split(',').next()).collect();
    assert_eq!(kinds, ["request", "reply"], "{packets:#?}");
    assert_eq!(lab.find(BACKEND_6, icmp(), PATIENT).result, ProbeResult::Passed(Pass::Echoed));
    lab.unplug();
    let timed_out = failed(ProbePhase::Read, FailureReason::TimedOut);
    assert_eq!(lab.find(BACKEND, icmp(), BRIEF).result, timed_out);
}

#[test]
fn silence_of_a_service_is_proved_by_the_refusal_of_a_closed_port() {
    let Some(lab) = Lab::build() else { return };
    lab.ration_icmp();
    for host in [BACKEND, BACKEND_6] {
        let _service = lab.service(host);
        let finding = lab.find(host, udp(Some(CLOSED), false), 5 * BRIEF);
        let ProbeResult::Passed(Pass::Silent(Proof::Refusal { apart })) = finding.result else { panic!("{finding}") };
        assert!(apart < 5 * BRIEF, "{finding}");
    }
}

#[test]
fn an_unplugged_host_is_silent_to_a_datagram_and_found_out_by_a_ping_beside_it() {
    let Some(lab) = Lab::build() else { return };
    lab.allow_echo();
    let _service = lab.service(BACKEND);
    let silent = ProbeResult::Passed(Pass::Silent(Proof::None));
    assert_eq!(lab.find(BACKEND, udp(None, true), BRIEF).result, silent);
    lab.unplug();
    assert_eq!(lab.find(BACKEND, udp(None, false), BRIEF).result, silent, "which is why one asks for a ping");
    let gone = failed(ProbePhase::Read, FailureReason::NoEcho { errno: None });
    assert_eq!(lab.find(BACKEND, udp(None, true), BRIEF).result, gone);
}

#[test]
fn a_dead_service_on_a_host_without_icmp_budget_passes_unmeasured_and_is_doubted_when_measured() {
    let Some(lab) = Lab::build() else { return };
    lab.ration_icmp();
    let refused = failed(ProbePhase::Read, FailureReason::Refused);
    // Dead, and with a budget it says so.
    assert_eq!(lab.find(BACKEND, udp(Some(CLOSED), false), PATIENT).result, refused);
    let (sent, held_back) = lab.icmp_spent();
    let (unmeasured, measured) = lab.while_the_budget_is_used_up(|| {
        let find = |closed_port| lab.find(BACKEND, udp(closed_port, false), BRIEF).result;
        (find(None), find(Some(CLOSED)))
    });
    let (sent_then, held_back_then) = lab.icmp_spent();
    // Six saved up and one a second is all that Linux sends, whatever comes.
    assert!(held_back_then - held_back > 100, "{held_back_then} after {held_back}: the budget was not used up");
    assert!((held_back_then - held_back) / (sent_then - sent).max(1) > 10, "{sent_then} after {sent} were sent");
    // The fault of all who take silence for health, and ours too when nobody measures.
    assert_eq!(unmeasured, ProbeResult::Passed(Pass::Silent(Proof::None)));
    let doubt = Doubt::NothingRefused { port: CLOSED, last: None };
    assert_eq!(measured, ProbeResult::Void(Void::Doubtful(doubt)));
}

#[test]
fn a_port_that_should_be_closed_and_answers_is_said_so() {
    let Some(lab) = Lab::build() else { return };
    let (_service, open) = (lab.service(BACKEND), lab.on_backend(|| UdpSocket::bind((BACKEND, CLOSED)).expect("free")));
    let answering = thread::spawn(move || {
        let (_, from) = open.recv_from(&mut [0; 10]).expect("the probe asks");
        open.send_to(b"open", from).expect("the probe waits");
    });
    let finding = lab.find(BACKEND, udp(Some(CLOSED), false), BRIEF);
    answering.join().expect("it answers");
    assert_eq!(finding.result, ProbeResult::Void(Void::Doubtful(Doubt::PortAnswers { port: CLOSED })));
}
