//! One check of a pool in one line.

use std::sync::Arc;

use evenkeel_health::settings::{BodyMatch, HttpVersion, ProbeSettings, Step};
use evenkeel_plan::Check;
use evenkeel_tls::Client;

use super::{Line, tls_name};

pub fn dump(out: &mut String, check: &Check) {
    let settings = &check.settings;
    let kind = settings.probe.kind().word();
    let mut line = Line::new(match &settings.probe {
        ProbeSettings::Http(probe) => format!("  check http {} {}", probe.method, probe.path),
        ProbeSettings::Tcp(handshake) => format!("  check tcp {handshake:?}"),
        ProbeSettings::Steps(_) => "  check tcp steps".into(),
        ProbeSettings::Tls(_)
        | ProbeSettings::Udp(_)
        | ProbeSettings::Icmp(_)
        | ProbeSettings::Grpc(_)
        | ProbeSettings::Agent(_)
        | ProbeSettings::Dns(_)
        | ProbeSettings::Command(_) => format!("  check {kind}"),
    });
    if &*check.name != kind {
        line.always("called", check.name.to_string());
    }
    probe(&mut line, &settings.probe);
    let timing = settings.timing;
    line.always("timeout", format!("{:?}", timing.timeout));
    line.always("interval", format!("{:?}", timing.interval));
    line.other("unhealthy_interval", timing.unhealthy_interval, timing.interval);
    line.other("transition_interval", timing.transition_interval, timing.interval);
    line.number("jitter", u64::from(timing.jitter), 0);
    line.other("trust_traffic", timing.trust_traffic, None);
    line.always("thresholds", format!("{}/{}", timing.healthy_threshold, timing.unhealthy_threshold));
    for source in settings.sources.iter() {
        line.always("source", source.to_string());
    }
    line.end(out);
}

fn probe(line: &mut Line, probe: &ProbeSettings) {
    match probe {
        ProbeSettings::Http(probe) => {
            line.always("host", probe.host.as_deref().unwrap_or("(target)").into());
            for (name, value) in &probe.headers {
                line.always("header", format!("\"{name}: {value}\""));
            }
            line.always("expect", format!("{:?}", probe.expect_status.ranges()));
            match &probe.expect_body {
                Some(BodyMatch::Has(pattern)) => line.always("body_has", pattern.to_string()),
                Some(BodyMatch::HasNot(pattern)) => line.always("body_has_not", pattern.to_string()),
                None => {}
            }
            line.other("version", probe.version, HttpVersion::Http1);
            line.other("keep_alive", probe.keep_alive, false);
            tls(line, &probe.tls);
        }
        ProbeSettings::Tcp(_) | ProbeSettings::Icmp(_) => {}
        ProbeSettings::Steps(probe) => {
            for step in probe.steps.iter() {
                match step {
                    Step::Send(bytes) => line.always("send", format!("\"{}\"", bytes.escape_ascii())),
                    Step::Expect(pattern) => line.always("expect", pattern.to_string()),
                }
            }
            tls(line, &probe.tls);
        }
        ProbeSettings::Tls(probe) => {
            line.always("name", tls_name(&probe.client));
            line.other("min_days_left", probe.min_days_left, None);
        }
        ProbeSettings::Udp(probe) => {
            line.always("send", format!("\"{}\"", probe.send.escape_ascii()));
            line.always("expect", probe.expect.as_ref().map_or("(any)".into(), |expected| expected.to_string()));
            line.always("silence", format!("{:?}", probe.silence));
            line.other("closed_port", probe.closed_port, None);
            line.other("ping", probe.ping, false);
        }
        ProbeSettings::Grpc(probe) => {
            line.always("service", format!("\"{}\"", probe.service));
            line.always("host", probe.host.as_deref().unwrap_or("(target)").into());
            tls(line, &probe.tls);
        }
        ProbeSettings::Agent(probe) => line.always("send", format!("\"{}\"", probe.send.escape_ascii())),
        ProbeSettings::Dns(probe) => {
            line.always("ask", format!("{} {:?}", probe.name, probe.record));
            line.always("codes", format!("{:?}", probe.expect_codes));
            for address in &probe.expect_addresses {
                line.always("address", address.to_string());
            }
        }
        ProbeSettings::Command(probe) => line.always("run", format!("{:?}", probe.command)),
    }
}

fn tls(line: &mut Line, tls: &Option<Arc<Client>>) {
    if let Some(tls) = tls {
        line.always("tls", tls_name(tls));
    }
}
