//! What a config says of checks arrives in the plan, kind by kind, value by value.
//!
//! What is said of wrong checks is in the cases.

use std::time::Duration;

use evenkeel_config::{Format, Source, compile_with};
use evenkeel_health::pattern::{Byte, Covers, Pattern};
use evenkeel_health::settings::{
    AgentProbe, BodyMatch, CommandProbe, DnsProbe, GrpcProbe, HttpProbe, HttpVersion, IcmpProbe, ProbeSettings, Record,
    Silence, StatusSet, Step, TcpProbe, UdpProbe,
};
use evenkeel_plan::{Check, Plan};
use support::MadeUp;

mod support;

fn full() -> Plan {
    let text = include_str!("../../../examples/full.toml");
    let source = Source { name: "full.toml", text, format: Format::Toml };
    compile_with(&source, &mut MadeUp::default()).plan.expect("the full example is valid")
}

fn check<'p>(plan: &'p Plan, pool: &str, name: &str) -> &'p Check {
    let pool = plan.pools.iter().find(|known| &*known.name == pool).expect("the pool is there");
    pool.checks.iter().find(|check| &*check.name == name).expect("the check is there")
}

fn regex(text: &str) -> Pattern {
    Pattern::regex(text).expect("a regular expression")
}

#[test]
fn every_kind_of_the_full_example_arrives_value_by_value() {
    let plan = full();
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let login = HttpProbe {
        method: "GET".into(),
        path: "/health?deep=1".into(),
        host: Some("www.example.com".into()),
        headers: vec![header("Authorization", "Bearer probe"), header("X-Probe", "1")],
        expect_status: StatusSet::from_ranges(vec![(200, 299), (301, 301), (401, 403)]),
        expect_body: Some(BodyMatch::Has(regex("\"database\": *\"up\""))),
        version: HttpVersion::Http1,
        keep_alive: true,
        tls: None,
    };
    let page = HttpProbe {
        method: "GET".into(),
        expect_body: Some(BodyMatch::HasNot(Pattern::literal(b"Down for maintenance", Covers::Part))),
        ..HttpProbe::default()
    };
    let strangers = UdpProbe {
        send: b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01".to_vec(),
        expect: Some(Pattern::bytes(
            &[&[0, 1, 0x81, 0x85, 0, 1, 0, 0, 0, 0, 0, 0].map(Byte::Is)[..], &[Byte::Run]].concat(),
            Covers::Whole,
        )),
        silence: Silence::Fail,
        closed_port: None,
        ping: true,
    };
    let resolves = DnsProbe {
        name: "www.example.com".into(),
        record: Record::A,
        expect_codes: vec![0],
        expect_addresses: vec!["192.0.2.10".parse().expect("one"), "192.0.2.11".parse().expect("one")],
    };
    let table = [
        ("web", "login", ProbeSettings::Http(login)),
        ("web", "no-maintenance-page", ProbeSettings::Http(page)),
        ("web", "agent", ProbeSettings::Agent(AgentProbe { send: b"load?\n".to_vec() })),
        (
            "web",
            "command",
            ProbeSettings::Command(CommandProbe {
                command: ["/usr/lib/evenkeel/checks/certificates", "--days", "7"].map(str::to_owned).to_vec().into(),
            }),
        ),
        ("resolvers", "refuses-strangers", ProbeSettings::Udp(strangers)),
        ("resolvers", "resolves", ProbeSettings::Dns(resolves)),
        ("mail", "icmp", ProbeSettings::Icmp(IcmpProbe)),
        ("games", "tcp", ProbeSettings::Tcp(TcpProbe::Full)),
        ("games", "udp", ProbeSettings::Udp(UdpProbe { closed_port: Some(9), ..UdpProbe::default() })),
    ];
    for (pool, name, expected) in table {
        assert_eq!(check(&plan, pool, name).settings.probe, expected, "{pool} {name}");
    }

    let ProbeSettings::Steps(greets) = &check(&plan, "mail", "greets").settings.probe else { panic!("it has steps") };
    let expected = [
        Step::Expect(Pattern::literal(b"220 ", Covers::Part)),
        Step::Send(b"QUIT\r\n".to_vec()),
        Step::Expect(regex("(?m)^221 ")),
    ];
    assert_eq!((&*greets.steps, greets.tls.is_none()), (&expected[..], true));

    let api = plan.pools.iter().find(|pool| &*pool.name == "api").expect("the pool is there");
    let of_traffic = api.tls.as_ref().expect("it speaks TLS");
    let ProbeSettings::Tls(tls) = &check(&plan, "api", "tls").settings.probe else { panic!("it is a tls check") };
    assert_eq!((tls.min_days_left, &tls.client.name), (Some(7), &of_traffic.name));
    let ProbeSettings::Grpc(GrpcProbe { service, host, tls }) = &check(&plan, "api", "grpc").settings.probe else {
        panic!("it is a grpc check")
    };
    let client = tls.as_ref().expect("it goes where traffic goes, and so speaks TLS");
    assert_eq!((service.as_str(), host, &client.name), ("shop.v1.Orders", &None, &of_traffic.name));
}

#[test]
fn timing_and_place_of_a_check_arrive() {
    let plan = full();
    let login = check(&plan, "web", "login");
    let timing = login.settings.timing;
    assert_eq!((timing.timeout, timing.interval), (Duration::from_secs(3), Duration::from_secs(5)));
    assert_eq!(timing.unhealthy_interval, Duration::from_secs(10));
    assert_eq!(timing.transition_interval, Duration::from_millis(500));
    assert_eq!((timing.jitter, timing.trust_traffic), (10, Some(Duration::from_secs(30))));
    assert_eq!((timing.healthy_threshold, timing.unhealthy_threshold), (2, 4));
    assert_eq!(*login.settings.sources, ["10.0.0.5".parse::<std::net::IpAddr>().expect("an address")]);
    assert_eq!(plan.targets[0].address.to_string(), "10.0.0.11:8081", "the check has a port of its own");
}

#[test]
fn a_backend_rests_on_a_target_for_each_check_in_their_order() {
    let plan = full();
    let web = plan.pools.iter().position(|pool| &*pool.name == "web").expect("the pool is there");
    for (_, backend) in plan.backends_of(evenkeel_model::PoolId::from_index(web)) {
        assert_eq!(backend.targets.len(), plan.pools[web].checks.len());
        for (target, check) in backend.targets.iter().zip(&plan.pools[web].checks) {
            let target = &plan.targets[target.index()];
            assert_eq!((target.address.ip(), &target.check), (backend.address.ip(), &check.settings));
        }
    }
}
