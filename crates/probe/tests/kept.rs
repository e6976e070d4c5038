//! Probes that share a connection, on the simulated network: when it is used again, when not, and that a backend which
//! closes what lies idle is never to blame.

mod virtual_host;

use std::sync::Arc;
use std::time::Duration;

use evenkeel_health::settings::{CheckSettings, HttpProbe, ProbeSettings};
use evenkeel_model::finding::{Failure, FailureReason, Pass, ProbePhase, ProbeResult, Void};
use evenkeel_model::{Instant, limits};
use evenkeel_probe::{Done, Job};
use evenkeel_reactor::sim::{Backend, End, Faults, Net, seeds};
use virtual_host::{Probing, TIMEOUT, address, check, failed};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
const KEPT: Duration = Duration::from_secs(limits::PROBE_KEPT.value);
const LATENESS: Duration = Duration::from_millis(limits::LATENESS.value);

fn kept_at(path: &str) -> ProbeSettings {
    ProbeSettings::Http(HttpProbe { path: path.to_owned(), keep_alive: true, ..HttpProbe::default() })
}

fn kept() -> ProbeSettings {
    kept_at("/")
}

fn passed() -> ProbeResult {
    ProbeResult::Passed(Pass::Status(200))
}

/// A connection as the backend has it.
struct Talk {
    end: End,
    heard: Vec<u8>,
    requests: usize,
}

/// What the backend does about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Answers(&'static [u8]),
    AnswersAndCloses(&'static [u8]),
    Closes,
    Resets,
    Nothing,
}

/// A backend that knows what to do about the first request of a connection, the second, and so on.
fn serve<'a>(
    backend: &'a Backend,
    talks: &'a mut Vec<Talk>,
    mut does: impl FnMut(usize, usize) -> Does + 'a,
) -> impl FnMut(&Net) + 'a {
    move |_: &Net| {
        while let Some(end) = backend.accept() {
            talks.push(Talk { end, heard: Vec::new(), requests: 0 });
        }
        for (connection, talk) in talks.iter_mut().enumerate().filter(|(_, talk)| talk.end.is_open()) {
            talk.heard.extend(talk.end.take());
            if !talk.heard.ends_with(b"\r\n\r\n") {
                continue;
            }
            talk.heard.clear();
            talk.requests += 1;
            match does(connection, talk.requests) {
                Does::Answers(answer) => talk.end.send(answer),
                Does::AnswersAndCloses(answer) => {
                    talk.end.send(answer);
                    talk.end.close();
                }
                Does::Closes => talk.end.close(),
                Does::Resets => talk.end.reset(),
                Does::Nothing => {}
            }
        }
    }
}

/// One probe after the other with a second between them, and how many requests each connection carried.
fn probes(count: usize, does: impl Fn(usize, usize) -> Does) -> (Vec<ProbeResult>, Vec<usize>) {
    let net = Net::new(1, Faults::none());
    let backend = net.backend_listen(address(1));
    let mut probing = Probing::on(&net);
    let mut talks = Vec::new();
    let mut results = Vec::new();
    for _ in 0..count {
        probing.start(1, address(1), kept());
        probing.finish(&mut [&mut serve(&backend, &mut talks, &does)]);
        results.push(probing.only().result);
        net.advance_to(net.now() + Duration::from_secs(1));
        probing.turn();
    }
    (results, talks.iter().map(|talk| talk.requests).collect())
}

#[test]
fn one_connection_carries_one_probe_after_the_other() {
    let (results, carried) = probes(5, |_, _| Does::Answers(OK));
    assert_eq!(results, vec![passed(); 5]);
    assert_eq!(carried, [5]);
    // A failing status is an answer like any other.
    let busy = failed(ProbePhase::Read, FailureReason::Status { got: 503 });
    let (results, carried) = probes(3, |_, _| Does::Answers(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\n"));
    assert_eq!(results, vec![busy; 3]);
    assert_eq!(carried, [3]);
}

#[test]
fn a_backend_that_closes_is_dialled_anew() {
    let close = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    for does in [Does::AnswersAndCloses(OK), Does::AnswersAndCloses(close), Does::Answers(close)] {
        let (results, carried) = probes(3, |_, _| does);
        assert_eq!(results, vec![passed(); 3], "{does:?}");
        assert_eq!(carried, [1, 1, 1], "{does:?}");
    }
}

#[test]
fn a_kept_connection_that_dies_unheard_costs_a_second_try_and_no_failure() {
    for dies in [Does::Closes, Does::Resets] {
        let does = |_, request| if request == 1 { Does::Answers(OK) } else { dies };
        let (results, carried) = probes(3, does);
        assert_eq!(results, vec![passed(); 3], "{dies:?}");
        assert_eq!(carried, [2, 2, 1], "{dies:?}: each death is followed by a new connection");
    }
}

#[test]
fn the_second_try_counts_whatever_it_finds() {
    let dies_always =
        |connection, request| if (connection, request) == (0, 1) { Does::Answers(OK) } else { Does::Closes };
    let (results, carried) = probes(3, dies_always);
    let closed = failed(ProbePhase::Read, FailureReason::Closed);
    assert_eq!(results, [passed(), closed.clone(), closed]);
    assert_eq!(carried, [2, 1, 1]);
}

#[test]
fn an_answer_that_breaks_off_is_not_repeated_and_silence_is_a_timeout() {
    let breaks_off = |_, request| match request {
        1 => Does::Answers(OK),
        _ => Does::AnswersAndCloses(b"HTTP/1.1 200"),
    };
    let (results, carried) = probes(2, breaks_off);
    assert_eq!(results, [passed(), failed(ProbePhase::Read, FailureReason::Closed)]);
    assert_eq!(carried, [2]);

    let falls_silent = |_, request| if request == 1 { Does::Answers(OK) } else { Does::Nothing };
    let (results, carried) = probes(3, falls_silent);
    assert_eq!(results, [passed(), failed(ProbePhase::Read, FailureReason::TimedOut), passed()]);
    assert_eq!(carried, [2, 1], "a connection that was silent is not used again");
}

#[test]
fn one_timeout_covers_both_tries() {
    let net = Net::new(1, Faults::none());
    let backend = net.backend_listen(address(1));
    let mut probing = Probing::on(&net);
    let mut talks = Vec::new();
    let does = |connection, request| match (connection, request) {
        (0, 1) => Does::Answers(OK),
        (0, _) => Does::Closes,
        _ => Does::Nothing,
    };
    for _ in 0..2 {
        probing.start(1, address(1), kept());
        probing.finish(&mut [&mut serve(&backend, &mut talks, does)]);
    }
    assert_eq!(probing.done.len(), 2);
    assert_eq!(probing.done[1].finding.result, failed(ProbePhase::Read, FailureReason::TimedOut));
    assert_eq!(probing.done[1].finding.duration(), TIMEOUT);
}

/// A prober with a connection at rest, and the backend's end of it.
fn rested() -> (Net, Backend, Probing, Vec<Talk>) {
    let net = Net::new(1, Faults::none());
    let backend = net.backend_listen(address(1));
    let mut probing = Probing::on(&net);
    let mut talks = Vec::new();
    probing.start(1, address(1), kept());
    probing.finish(&mut [&mut serve(&backend, &mut talks, |_, _| Does::Answers(OK))]);
    assert_eq!(probing.only().result, passed());
    assert_eq!((probing.prober.running(), probing.prober.resting()), (0, 1));
    (net, backend, probing, talks)
}

#[test]
fn a_connection_at_rest_goes_when_it_is_old_or_speaks_unasked_or_is_cancelled() {
    let (net, _backend, mut probing, _talks) = rested();
    let until = probing.prober.poll_timeout().expect("the connection has an end");
    assert!(until <= Instant::START + KEPT + Duration::from_secs(1));
    net.advance_to(until);
    probing.turn();
    net.assert_no_connection_left(probing.id());
    assert_eq!(probing.prober.poll_timeout(), None);

    for disturb in [|talk: &Talk| talk.end.send(b"HTTP/1.1 408 Timeout\r\n\r\n"), |talk: &Talk| talk.end.close()] {
        let (net, _backend, mut probing, talks) = rested();
        disturb(&talks[0]);
        while net.step() {}
        probing.turn();
        net.assert_no_connection_left(probing.id());
        assert_eq!((probing.prober.resting(), probing.done.len()), (0, 0));
    }

    let (net, _backend, mut probing, _talks) = rested();
    probing.prober.cancel(&mut probing.driver, 1);
    net.assert_no_connection_left(probing.id());
}

#[test]
fn a_connection_is_kept_for_its_own_check_at_its_own_address_only() {
    let table = [(address(1), kept(), 1), (address(1), kept_at("/other"), 2), (address(2), kept(), 2)];
    for (to, probe, connections) in table {
        let (net, backend, mut probing, mut talks) = rested();
        let other = net.backend_listen(address(2));
        let mut more = Vec::new();
        probing.start(1, to, probe.clone());
        probing.finish(&mut [
            &mut serve(&backend, &mut talks, |_, _| Does::Answers(OK)),
            &mut serve(&other, &mut more, |_, _| Does::Answers(OK)),
        ]);
        assert_eq!(probing.only().result, passed());
        assert_eq!(talks.len() + more.len(), connections, "{to} {probe:?}");
        assert_eq!(probing.prober.resting(), 1);
    }
    // Two keys, two connections, whatever they ask for.
    let (_net, backend, mut probing, mut talks) = rested();
    probing.start(2, address(1), kept());
    probing.finish(&mut [&mut serve(&backend, &mut talks, |_, _| Does::Answers(OK))]);
    assert_eq!((talks.len(), probing.prober.resting()), (2, 2));
}

#[test]
fn an_old_connection_is_replaced_though_it_would_still_answer() {
    let (net, backend, mut probing, mut talks) = rested();
    let mut connections = Vec::new();
    for _ in 0..KEPT.as_secs() / 10 + 1 {
        net.advance_to(net.now() + Duration::from_secs(10));
        probing.turn();
        probing.start(1, address(1), kept());
        probing.finish(&mut [&mut serve(&backend, &mut talks, |_, _| Does::Answers(OK))]);
        assert_eq!(probing.only().result, passed());
        connections.push(talks.len());
    }
    assert_eq!((connections[0], connections[connections.len() - 1]), (1, 2), "{connections:?}");
}

/// Our thread stood still from before the death of the connection until after the deadline.
#[test]
fn a_death_that_is_seen_late_is_void() {
    let (net, _backend, mut probing, talks) = rested();
    talks[0].end.close();
    probing.start(1, address(1), kept());
    let deadline = net.now() + TIMEOUT;
    let by = LATENESS + Duration::from_nanos(1);
    net.advance_to(deadline + by);
    probing.turn();
    assert_eq!(probing.only().result, ProbeResult::Void(Void::Late { by }));
}

#[test]
fn under_any_faults_probes_end_once_and_a_living_backend_fails_only_by_the_network() {
    const ROUNDS: u64 = 12;
    for seed in seeds(200) {
        let net = Net::new(seed, Faults::from_seed(seed));
        let backend = net.backend_listen(address(1));
        let settings: Vec<Arc<CheckSettings>> = vec![check(kept()), check(kept_at("/b"))];
        let mut probing = Probing::on(&net);
        let mut talks = Vec::new();
        let mut fickle = seed;
        for round in 0..ROUNDS {
            for key in 0..4 {
                let check = Arc::clone(&settings[net.below(2) as usize]);
                probing.prober.start(&mut probing.driver, Job { key, address: address(1), check });
            }
            let does = |_, _| {
                fickle = fickle.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                match fickle >> 60 {
                    0..=9 => Does::Answers(OK),
                    10..=12 => Does::AnswersAndCloses(OK),
                    13 => Does::Closes,
                    14 => Does::Resets,
                    _ => Does::Nothing,
                }
            };
            probing.finish(&mut [&mut serve(&backend, &mut talks, does)]);
            assert_eq!(probing.done.len() as u64, (round + 1) * 4, "seed {seed}");
            net.advance_to(net.now() + Duration::from_secs(net.below(40)));
            probing.turn();
        }
        for Done { finding, .. } in &probing.done {
            assert!(finding.duration() <= TIMEOUT + LATENESS || !finding.result.failed(), "{finding} (seed {seed})");
            if let ProbeResult::Failed(Failure { reason, .. }) = &finding.result {
                let possible = ["timed_out", "reset", "closed", "refused", "unreachable"];
                assert!(possible.contains(&reason.word()), "{finding} (seed {seed})");
            }
        }
        while let Some(at) = probing.prober.poll_timeout() {
            net.advance_to(at.max(net.now()));
            probing.turn();
        }
        assert_eq!((probing.prober.running(), probing.prober.resting()), (0, 0), "seed {seed}");
        net.assert_no_connection_left(probing.id());
    }
}
