//! What silence is worth, on the simulated network: echo requests, closed ports, and hosts whose ICMP budget is used up.
//!
//! What a kernel makes of the same is in `netns.rs`.

mod virtual_host;

use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_health::settings::{IcmpProbe, ProbeSettings, Silence, UdpProbe};
use evenkeel_model::Instant;
use evenkeel_model::finding::{Doubt, Failure, FailureReason, Pass, ProbePhase, ProbeResult, Proof, Void};
use evenkeel_reactor::sim::{Fact, Faults, Net, Refuses, UdpService, Way, seeds};
use virtual_host::{Probing, TIMEOUT, address, echo, failed};

const CLOSED: u16 = 1;

fn icmp() -> ProbeSettings {
    ProbeSettings::Icmp(IcmpProbe)
}

fn udp(ping: bool, closed_port: Option<u16>, silence: Silence) -> ProbeSettings {
    ProbeSettings::Udp(UdpProbe { send: b"ping".to_vec(), silence, closed_port, ping, ..UdpProbe::default() })
}

fn measured() -> ProbeSettings {
    udp(false, Some(CLOSED), Silence::Pass)
}

fn closed(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip(), CLOSED)
}

fn no_echo(errno: Option<i32>) -> ProbeResult {
    failed(ProbePhase::Read, FailureReason::NoEcho { errno })
}

fn refused() -> ProbeResult {
    failed(ProbePhase::Read, FailureReason::Refused)
}

fn is_trusted(result: &ProbeResult) -> bool {
    matches!(result, ProbeResult::Passed(Pass::Silent(Proof::Refusal { .. })))
}

fn is_exhausted(result: &ProbeResult) -> bool {
    matches!(result, ProbeResult::Void(Void::Doubtful(Doubt::NothingRefused { port: CLOSED, .. })))
}

/// Runs one probe of the host's address to its end.
fn probe(net: &Net, probe: ProbeSettings) -> ProbeResult {
    let mut probing = Probing::on(net);
    probing.start(1, address(1), probe);
    probing.finish(&mut []);
    probing.only().result
}

#[test]
fn an_echo_request_is_passed_by_its_reply_and_by_nothing_else() {
    let table = [
        (Way::Open, ProbeResult::Passed(Pass::Echoed), Duration::from_micros(200)),
        (Way::BlackHole, failed(ProbePhase::Read, FailureReason::TimedOut), TIMEOUT),
        (
            Way::Unreachable,
            failed(ProbePhase::Read, FailureReason::Unreachable { errno: 113 }),
            Duration::from_micros(200),
        ),
        (Way::NoRoute, failed(ProbePhase::Connect, FailureReason::Unreachable { errno: 101 }), Duration::ZERO),
    ];
    for (way, expected, takes) in table {
        let net = Net::new(1, Faults::none());
        net.set_way_to_host(address(1).ip(), way);
        let mut probing = Probing::on(&net);
        probing.start(1, address(1), icmp());
        probing.finish(&mut []);
        let finding = probing.only();
        assert_eq!((&finding.result, finding.duration()), (&expected, takes), "{way:?}");
    }
}

#[test]
fn without_the_right_to_ask_nothing_is_said_of_the_host() {
    for silent in [icmp(), udp(true, None, Silence::Pass), udp(true, Some(CLOSED), Silence::Pass)] {
        let net = Net::new(1, Faults::none());
        net.forbid_echo();
        let _service = net.udp_service(address(1));
        assert_eq!(probe(&net, silent.clone()), ProbeResult::Void(Void::EchoForbidden), "{silent:?}");
    }
    // The service's own word counts all the same.
    let net = Net::new(1, Faults::none());
    net.forbid_echo();
    assert_eq!(probe(&net, udp(true, None, Silence::Pass)), refused());
}

/// How the host's closed port behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClosedPort {
    Refuses,
    Silent,
    Answers,
}

// Walks every state of service, host and closed port under every wish of the operator, so that no mix goes unsaid.
#[test]
fn every_mix_of_service_host_and_closed_port_has_its_meaning() {
    use ClosedPort::{Answers, Refuses, Silent};
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Service {
        Silent,
        Answers,
        Dead,
    }
    for silence in [Silence::Pass, Silence::Fail, Silence::Keep] {
        for (ping, measure) in [(false, false), (true, false), (false, true), (true, true)] {
            for host_echoes in [true, false] {
                for service in [Service::Silent, Service::Answers, Service::Dead] {
                    for closed_port in [Refuses, Silent, Answers] {
                        let net = Net::new(1, Faults::none());
                        let host = address(1).ip();
                        if closed_port == Silent {
                            net.set_way(closed(address(1)), Way::BlackHole);
                        }
                        if !host_echoes {
                            net.set_way(SocketAddr::new(host, 0), Way::BlackHole);
                        }
                        let open = (closed_port == Answers).then(|| net.udp_service(closed(address(1))));
                        let serving = (service != Service::Dead).then(|| net.udp_service(address(1)));
                        let mut probing = Probing::on(&net);
                        probing.start(1, address(1), udp(ping, measure.then_some(CLOSED), silence));
                        let answering: Vec<&UdpService> =
                            [serving.as_ref().filter(|_| service == Service::Answers), open.as_ref()]
                                .into_iter()
                                .flatten()
                                .collect();
                        let mut actors: Vec<_> = answering.iter().map(|service| echo(service)).collect();
                        let mut actors: Vec<&mut dyn FnMut(&Net)> =
                            actors.iter_mut().map(|actor| actor as &mut dyn FnMut(&Net)).collect();
                        probing.finish(&mut actors);
                        let found = probing.only().result;
                        let mix =
                            format!("{service:?}, echo {host_echoes}, {closed_port:?}; {silence:?} {ping} {measure}");
                        let plain = match (service, silence) {
                            (Service::Answers, _) => ProbeResult::Passed(Pass::Answered),
                            (Service::Dead, _) => refused(),
                            (Service::Silent, Silence::Fail) => failed(ProbePhase::Read, FailureReason::TimedOut),
                            (Service::Silent, _) if ping && !host_echoes => no_echo(None),
                            (Service::Silent, Silence::Keep) => ProbeResult::Void(Void::Silent),
                            (Service::Silent, Silence::Pass) if !measure => {
                                ProbeResult::Passed(Pass::Silent(Proof::None))
                            }
                            (Service::Silent, Silence::Pass) => match closed_port {
                                Refuses => ProbeResult::Passed(Pass::Silent(Proof::Refusal { apart: Duration::ZERO })),
                                Silent => {
                                    let doubt = Doubt::NothingRefused { port: CLOSED, last: None };
                                    ProbeResult::Void(Void::Doubtful(doubt))
                                }
                                Answers => ProbeResult::Void(Void::Doubtful(Doubt::PortAnswers { port: CLOSED })),
                            },
                        };
                        assert_eq!(found, plain, "{mix}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_host_that_lost_its_power_fails_by_its_echo_within_the_one_timeout() {
    let net = Net::new(1, Faults::none());
    net.set_way_to_host(address(1).ip(), Way::BlackHole);
    let mut probing = Probing::on(&net);
    probing.start(1, address(1), udp(true, Some(CLOSED), Silence::Pass));
    probing.finish(&mut []);
    let finding = probing.only();
    assert_eq!((finding.result.clone(), finding.duration()), (no_echo(None), TIMEOUT));
    let text = finding.to_string();
    assert!(text.contains("the host answers no echo request"), "{text}");
}

#[test]
fn a_silent_service_behind_a_host_whose_echo_is_rejected_fails_with_what_was_said() {
    let net = Net::new(1, Faults::none());
    net.set_way(SocketAddr::new(address(1).ip(), 0), Way::Unreachable);
    let _service = net.udp_service(address(1));
    assert_eq!(probe(&net, udp(true, None, Silence::Pass)), no_echo(Some(113)));
}

/// Datagrams of others who share our address, to a closed port of the host, each millisecond until `until`.
fn use_up_budget(net: &Net, probing: &mut Probing, until: Instant) -> u64 {
    use evenkeel_reactor::{Close, Driver, Source, Token};
    let mut refused = 0;
    let noise = SocketAddr::new(address(1).ip(), 9);
    while net.now() < until {
        let sock = probing.driver.dial_udp(noise, Source::Kernel, Token(u64::MAX - 1)).expect("nothing is short");
        probing.driver.send(sock, b"noise");
        net.advance_to(net.now() + Duration::from_millis(1));
        refused += u64::from(matches!(probing.driver.recv(sock, &mut [0]), evenkeel_reactor::Recv::Failed(_)));
        probing.driver.close(sock, Close::Orderly);
        probing.turn();
    }
    refused
}

#[test]
fn a_dead_service_never_passes_while_the_budget_of_its_host_is_used_up_and_is_found_when_it_is_not() {
    let net = Net::new(1, Faults::none());
    net.set_refuses(address(1).ip(), Refuses::Sparingly);
    let mut probing = Probing::on(&net);
    // Saved up before.
    assert_eq!(use_up_budget(&net, &mut probing, Instant::START + Duration::from_millis(100)), 6);
    let mut doubtful = 0;
    for key in 0..20 {
        probing.start(key, address(1), measured());
        let until = net.now() + TIMEOUT + Duration::from_millis(5);
        use_up_budget(&net, &mut probing, until);
        let result = probing.only().result;
        // One datagram in a thousand may meet the second's one refusal.
        assert!(is_exhausted(&result) || result == refused(), "{result:?}: a dead service passed");
        doubtful += u32::from(is_exhausted(&result));
    }
    assert!(doubtful > 15, "{doubtful} of 20: the budget was not used up");
    // The noise is over, and the first probe after it finds the service dead.
    net.advance_to(net.now() + Duration::from_secs(2));
    probing.start(100, address(1), measured());
    probing.finish(&mut []);
    assert_eq!(probing.only().result, refused());
}

#[test]
fn a_live_service_passes_with_proof_and_is_doubted_only_while_the_budget_is_used_up() {
    let net = Net::new(1, Faults::none());
    net.set_refuses(address(1).ip(), Refuses::Sparingly);
    let _service = net.udp_service(address(1));
    let mut probing = Probing::on(&net);
    let run = |probing: &mut Probing, key| {
        probing.start(key, address(1), measured());
        probing.finish(&mut []);
        probing.only().result
    };
    for key in 0..100 {
        let result = run(&mut probing, key);
        assert!(is_trusted(&result), "{result:?}: probing alone uses the budget up");
    }
    use_up_budget(&net, &mut probing, net.now() + Duration::from_millis(3500));
    let result = run(&mut probing, 200);
    assert!(is_exhausted(&result), "{result:?}");
    let result = run(&mut probing, 201);
    assert!(is_trusted(&result), "{result:?}: a budget of 5 s later");
}

#[test]
fn fifty_services_of_one_host_share_its_budget_and_one_that_dies_is_refused() {
    let net = Net::new(1, Faults::none());
    let host = address(1).ip();
    net.set_refuses(host, Refuses::Sparingly);
    let services: Vec<UdpService> = (0..50).map(|n| net.udp_service(SocketAddr::new(host, 1000 + n))).collect();
    let mut probing = Probing::on(&net);
    let mut doubtful = 0;
    for round in 0..20_u64 {
        for n in 0..50 {
            probing.start(round * 50 + n, SocketAddr::new(host, 1000 + n as u16), measured());
            let until = net.now() + Duration::from_millis(200);
            while net.now() < until {
                net.advance_to((net.now() + Duration::from_millis(10)).min(until));
                probing.turn();
            }
        }
        doubtful += probing.done.drain(..).filter(|done| !is_trusted(&done.finding.result)).count();
    }
    assert_eq!(doubtful, 0, "of 1000 findings");
    let refusals = net.marks().iter().filter(|mark| matches!(mark.fact, Fact::Refused(_))).count();
    assert!((90..=101).contains(&refusals), "{refusals} datagrams to the closed port in 200 s");
    services[7].close();
    probing.finish(&mut []);
    probing.done.clear();
    probing.start(9999, SocketAddr::new(host, 1007), measured());
    probing.finish(&mut []);
    assert_eq!(probing.only().result, refused());
}

#[test]
fn under_any_faults_sockets_beside_a_probe_are_closed_and_the_finding_is_a_possible_one() {
    for seed in seeds(200) {
        let mut faults = Faults::from_seed(seed);
        if seed % 2 == 0 {
            faults.pause_max = Duration::from_millis(400);
        }
        let net = Net::new(seed, faults);
        for last in 1..=4 {
            net.set_refuses(address(last).ip(), Refuses::Sparingly);
        }
        let (_silent, answering) = (net.udp_service(address(1)), net.udp_service(address(2)));
        net.set_way_to_host(address(4).ip(), Way::BlackHole);
        let mut probing = Probing::on(&net);
        for key in 0..64 {
            let target = 1 + net.below(4) as u8;
            let probe = match net.below(4) {
                0 => icmp(),
                1 => udp(true, None, Silence::Keep),
                _ => udp(net.below(2) == 0, Some(CLOSED), Silence::Pass),
            };
            probing.start(key, address(target), probe);
            if net.below(4) == 0 {
                net.step();
                probing.turn();
            }
            if net.below(8) == 0 {
                probing.prober.cancel(&mut probing.driver, key);
            }
        }
        probing.finish(&mut [&mut echo(&answering)]);
        let totals = net.totals(probing.id());
        assert_eq!(totals.opened, totals.closed, "seed {seed}");
        for done in &probing.done {
            let finding = &done.finding;
            let possible = match &finding.result {
                ProbeResult::Passed(pass) => matches!(pass, Pass::Answered | Pass::Echoed | Pass::Silent(_)),
                ProbeResult::Void(void) => !matches!(void, Void::Cancelled | Void::EchoForbidden),
                ProbeResult::Failed(Failure { reason, .. }) => matches!(
                    reason,
                    FailureReason::Refused | FailureReason::TimedOut | FailureReason::NoEcho { errno: None }
                ),
            };
            assert!(possible, "{finding} (seed {seed})\n{}", net.story());
        }
    }
}

// A dead service that is probed often uses up the budget itself: most of its probes meet silence, and the refusals in between
// used to prove that silence, so that it was never found.
#[test]
fn a_dead_service_that_is_probed_often_never_passes_by_its_own_refusals() {
    let net = Net::new(1, Faults::none());
    net.set_refuses(address(1).ip(), Refuses::Sparingly);
    let mut probing = Probing::on(&net);
    let mut findings = Vec::new();
    for key in 0..200 {
        // Two checks of it, one of which measures nothing.
        probing.start(key * 2, address(1), measured());
        probing.start(key * 2 + 1, address(1), udp(false, None, Silence::Pass));
        let until = net.now() + Duration::from_millis(200);
        while net.now() < until {
            net.advance_to((net.now() + Duration::from_millis(10)).min(until));
            probing.turn();
        }
        findings.append(&mut probing.done);
    }
    probing.finish(&mut []);
    findings.append(&mut probing.done);
    let measured: Vec<&ProbeResult> =
        findings.iter().filter(|done| done.key % 2 == 0).map(|done| &done.finding.result).collect();
    let passed = measured.iter().filter(|result| result.passed()).count();
    let failed = measured.iter().filter(|result| result.failed()).count();
    assert!(passed == 0 && failed > 10, "{passed} passed, {failed} failed of {}", measured.len());
}
