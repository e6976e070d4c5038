//! Backends that answer anything: good answers with bytes changed, lost and doubled, in any pieces, or plain noise.
//!
//! Whatever comes, a probe ends once and in time, leaves nothing behind, and finds the same however the answer was cut.

mod virtual_host;

use evenkeel_health::pattern::{Covers, Pattern};
use evenkeel_health::settings::{
    AgentProbe, BodyMatch, DnsProbe, GrpcProbe, HttpProbe, HttpVersion, ProbeSettings, Record, Step, StepsProbe,
};
use evenkeel_model::finding::{FailureReason, Finding, ProbeResult};
use evenkeel_reactor::sim::{End, Faults, Net, seeds};
use virtual_host::{Probing, TIMEOUT, address};

fn http(method: &str, expect_body: Option<BodyMatch>, version: HttpVersion) -> ProbeSettings {
    let method = method.to_owned();
    ProbeSettings::Http(HttpProbe { method, expect_body, version, keep_alive: true, ..HttpProbe::default() })
}

/// Every kind that reads, with a good answer to it. Those to DNS lack the id, which is taken from the question.
fn kinds() -> Vec<(ProbeSettings, &'static [u8])> {
    let ready = Pattern::literal(b"ready", Covers::Part);
    let line = |wanted| Step::Expect(Pattern::regex(wanted).expect("valid"));
    let steps = [line("^220 "), Step::Send(b"QUIT\r\n".to_vec()), line("^221 ")].into();
    vec![
        (
            http("HEAD", None, HttpVersion::Http1),
            b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nServer: x\r\n\r\n",
        ),
        (
            http("GET", Some(BodyMatch::Has(ready.clone())), HttpVersion::Http1),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nrea\r\n2;a=b\r\ndy\r\n0\r\nA: b\r\n\r\n",
        ),
        (
            http("GET", Some(BodyMatch::HasNot(ready)), HttpVersion::Http1),
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsteady",
        ),
        (http("GET", None, HttpVersion::Http2), b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x05\0\0\0\x01\x88"),
        (
            ProbeSettings::Grpc(GrpcProbe { service: String::new(), host: None, tls: None }),
            b"\0\0\0\x04\0\0\0\0\0\0\0\x13\x01\x04\0\0\0\x01\x88\x5f\x10application/grpc\
              \0\0\x07\0\0\0\0\0\x01\0\0\0\0\x02\x08\x01\0\0\x0f\x01\x05\0\0\0\x01\x40\x0bgrpc-status\x010",
        ),
        (ProbeSettings::Steps(StepsProbe { steps, tls: None }), b"220 mail\r\n221 bye\r\n"),
        (ProbeSettings::Agent(AgentProbe::default()), b"up 75%,maxconn:30 ready # all \xff well\r\n"),
    ]
}

fn dns() -> (ProbeSettings, &'static [u8]) {
    let expect_addresses = vec!["10.0.0.7".parse().expect("an address")];
    let (name, record, expect_codes) = ("a.b".to_owned(), Record::A, vec![0]);
    let answer = b"\x81\x80\0\x01\0\x02\0\0\0\0\x01a\x01b\0\0\x01\0\x01\
                   \xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01c\xc0\x0e\xc0\x2d\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x07";
    (ProbeSettings::Dns(DnsProbe { name, record, expect_codes, expect_addresses }), answer)
}

/// Some of the bytes changed, lost, doubled or made up.
fn spoilt(net: &Net, good: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..net.below(6) {
        let at = net.below(bytes.len() as u64 + 1) as usize;
        let end = (at + net.below(8) as usize).min(bytes.len());
        match net.below(5) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.insert(at, net.below(256) as u8),
            3 => bytes.splice(at..at, good[..end.min(good.len())].to_vec()).for_each(drop),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = net.below(256) as u8;
                }
            }
        }
    }
    if net.below(16) == 0 {
        bytes = (0..net.below(200)).map(|_| net.below(256) as u8).collect();
    }
    bytes
}

/// What one probe finds at a backend that says this as soon as it is asked, or spoken to at all, and then closes.
fn found(probe: &ProbeSettings, answer: &[u8], piece: usize) -> Finding {
    let net = Net::new(1, Faults::none());
    let backend = net.backend_listen(address(1));
    let mut probing = Probing::on(&net);
    probing.start(1, address(1), probe.clone());
    let mut ends: Vec<(End, usize)> = Vec::new();
    let mut answering = |net: &Net| {
        while let Some(end) = backend.accept() {
            ends.push((end, 0));
        }
        for (end, said) in ends.iter_mut().filter(|(end, _)| end.is_open()) {
            // A piece at a time, so that each arrives by itself.
            let next = &answer[*said..(*said + piece).min(answer.len())];
            *said += next.len();
            end.send(next);
            if *said == answer.len() {
                end.close();
            } else {
                net.alarm(net.now() + std::time::Duration::from_millis(1));
            }
        }
    };
    probing.finish(&mut [&mut answering]);
    let finding = probing.only();
    assert!(finding.duration() <= TIMEOUT, "{finding}");
    finding
}

/// Which rule is broken first may depend on the cut; that one is broken may not.
fn gist(result: &ProbeResult) -> String {
    match result {
        ProbeResult::Failed(failure) => match &failure.reason {
            FailureReason::NotHttp { .. } => "broken".to_owned(),
            other => other.to_string(),
        },
        other => format!("{other:?}"),
    }
}

#[test]
fn whatever_a_backend_says_a_probe_ends_once_and_finds_the_same_in_any_pieces() {
    let kinds = kinds();
    for seed in seeds(3000) {
        let dice = Net::new(seed, Faults::none());
        let (probe, good) = &kinds[dice.below(kinds.len() as u64) as usize];
        let answer = spoilt(&dice, good);
        let whole = found(probe, &answer, usize::MAX / 2);
        let cut = found(probe, &answer, 1 + dice.below(7) as usize);
        // A frame that breaks the connection takes what came with it along.
        if matches!(probe, ProbeSettings::Grpc(_) | ProbeSettings::Http(HttpProbe { version: HttpVersion::Http2, .. }))
        {
            continue;
        }
        let told = answer.escape_ascii();
        assert_eq!(gist(&whole.result), gist(&cut.result), "{:?}: {told} (seed {seed})", probe.kind());
    }
}

#[test]
fn the_answers_that_were_spoilt_are_good_ones() {
    for (probe, good) in kinds() {
        let finding = found(&probe, good, usize::MAX / 2);
        assert!(finding.result.passed(), "{:?}: {finding}", probe.kind());
    }
}

#[test]
fn whatever_a_datagram_holds_a_question_ends_once() {
    let (probe, good) = dns();
    let mut passed = 0;
    for seed in seeds(2000) {
        let net = Net::new(seed, Faults::none());
        let service = net.udp_service(address(1));
        let mut probing = Probing::on(&net);
        probing.start(1, address(1), probe.clone());
        let mut answering = |net: &Net| {
            while let Some((from, question)) = service.recv() {
                let answer = spoilt(net, good);
                let id = if net.below(8) == 0 { [0, 0] } else { [question[0], question[1]] };
                service.send(from, &[&id[..], &answer].concat());
            }
        };
        probing.finish(&mut [&mut answering]);
        let finding = probing.only();
        let words = ["timed_out", "not_dns", "dns_code", "dns_addresses"];
        match &finding.result {
            ProbeResult::Passed(_) => passed += 1,
            ProbeResult::Failed(failure) => assert!(words.contains(&failure.reason.word()), "{finding} (seed {seed})"),
            ProbeResult::Void(_) => panic!("{finding} (seed {seed})"),
        }
    }
    assert!(passed > 0, "the answer that is spoilt is no good one");
}
