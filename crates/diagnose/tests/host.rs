//! What is said to be missing on hosts that are made up. Whether the commands mend it is seen from outside, on a host that
//! a test makes (`tests/e2e/host.rs`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_diagnose::host::{Facts, ForeignBind, Missing, PolicyRule, Routing, json, missing, text};
use evenkeel_health::settings::{CheckSettings, IcmpProbe, ProbeSettings, Timing, UdpProbe};
use evenkeel_model::{BackendId, PoolId};
use evenkeel_plan::{Backend, Check, Listener, Plan, Pool, Protocol, Source};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

/// One listener of each protocol in front of one pool.
fn plan(protocols: &[Protocol], backends: &[&str], change: impl Fn(&mut Listener, &mut Pool)) -> Plan {
    let pool = PoolId::from_index(0);
    let mut made = Pool { backend_count: backends.len() as u32, ..Pool::with_defaults("pool") };
    let mut listeners: Vec<Listener> = protocols
        .iter()
        .map(|protocol| Listener {
            listen: vec![socket("0.0.0.0:5000")],
            pool: Some(pool),
            ..Listener::with_defaults(protocol.word(), *protocol)
        })
        .collect();
    for listener in &mut listeners {
        change(listener, &mut made);
    }
    made.first_backend = BackendId(0);
    Plan {
        node: evenkeel_plan::Node {
            workers: 1,
            connections: 0,
            drain_timeout: std::time::Duration::ZERO,
            access_log: evenkeel_plan::AccessLog::Off,
            cluster: None,
            sticky_secret: None,
            hold_on_suspicion: None,
            slow_request: None,
            shutdown_delay: Duration::ZERO,
            watch: false,
            kept_requests: 0,
            traces: None,
            state: None,
            hooks: Vec::new(),
            resolver: evenkeel_plan::Resolver::default(),
        },
        admin: None,
        listeners: listeners.into_iter().map(Arc::new).collect(),
        pools: vec![Arc::new(made)],
        backends: backends.iter().map(|address| Backend::new(pool, socket(address), 100)).collect(),
        targets: Vec::new(),
        names: Vec::new(),
    }
}

fn transparent(backends: &[&str]) -> Plan {
    plan(&[Protocol::Tcp], backends, |_, pool| pool.source = Source::Client)
}

/// A host on which nothing is missing.
fn good() -> Facts {
    let everything = Routing { rules: vec![rule(None, None, None, "7")], to_us: vec!["7".into()] };
    Facts {
        net_admin: Some(true),
        net_raw: Some(true),
        fast_open: Some(3),
        accept_queue: Some(4096),
        receive_buffer: Some(8 << 20),
        source_ports: Some((32_768, 60_999)),
        echo_requests: Some(true),
        foreign_bind: ForeignBind::default(),
        addresses: Some(vec![ip("10.0.0.2"), ip("100.64.0.1")]),
        ipv4: Some(everything.clone()),
        ipv6: Some(everything),
    }
}

fn rule(from: Option<&str>, protocol: Option<&str>, ports: Option<(u16, u16)>, table: &str) -> PolicyRule {
    let from = from.map(|prefix| prefix.parse().expect("a prefix"));
    PolicyRule { from, protocol: protocol.map(str::to_owned), ports, table: table.into() }
}

fn said(plan: &Plan, facts: &Facts) -> Vec<(&'static str, Vec<String>)> {
    missing(plan, facts).into_iter().map(|Missing { code, commands, .. }| (code, commands)).collect()
}

fn lines(commands: &[&str]) -> Vec<String> {
    commands.iter().map(|command| (*command).to_owned()).collect()
}

#[test]
fn nothing_is_said_of_a_host_that_has_everything_or_of_which_nothing_is_known() {
    let all = plan(&Protocol::ALL, &["10.0.0.11:80", "[2001:db8::11]:80"], |listener, pool| {
        listener.tcp.fast_open = 16;
        pool.source = Source::Client;
    });
    assert_eq!(missing(&all, &good()), []);
    // Of the ways back nothing is ever guessed: that they could not be looked at is said.
    let codes: Vec<&str> = said(&all, &Facts::default()).into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, ["way_back_unknown", "way_back_unknown"]);
}

#[test]
fn a_plan_that_is_not_transparent_asks_nothing_of_routing() {
    let plain = plan(&[Protocol::Tcp], &["10.0.0.11:80"], |_, _| {});
    let bare = Facts { net_admin: Some(false), net_raw: Some(false), ..Facts::default() };
    assert_eq!(missing(&plain, &bare), []);
}

#[test]
fn one_capability_of_two_is_enough_for_addresses_of_others() {
    for (net_admin, net_raw, is_missing) in
        [(Some(false), Some(false), true), (Some(true), Some(false), false), (Some(false), Some(true), false)]
    {
        let facts = Facts { net_admin, net_raw, ..good() };
        let codes: Vec<&str> = said(&transparent(&["10.0.0.11:80"]), &facts).iter().map(|(code, _)| *code).collect();
        assert_eq!(codes.contains(&"no_net_admin"), is_missing, "{net_admin:?} {net_raw:?}");
    }
}

#[test]
fn each_backend_needs_a_rule_that_takes_its_answers_to_a_table_that_leads_here() {
    let backends = ["10.0.0.11:80", "10.0.0.12:81"];
    let ours = |rules: Vec<PolicyRule>| Routing { rules, to_us: lines(&["7"]) };
    let add =
        |from: &str, port: u16, table: &str| format!("ip rule add from {from} ipproto tcp sport {port} lookup {table}");
    let (eleven, twelve) = (add("10.0.0.11", 80, "7"), add("10.0.0.12", 81, "7"));
    let table = [
        // No table that leads here, whatever the rules say.
        (
            Routing { rules: vec![rule(None, None, None, "main")], to_us: Vec::new() },
            vec![
                "ip route add local default dev lo table 100".to_owned(),
                add("10.0.0.11", 80, "100"),
                add("10.0.0.12", 81, "100"),
            ],
        ),
        (ours(Vec::new()), vec![eleven.clone(), twelve.clone()]),
        (ours(vec![rule(None, None, None, "8")]), vec![eleven.clone(), twelve.clone()]),
        (ours(vec![rule(Some("10.0.0.11/32"), Some("tcp"), Some((80, 80)), "7")]), vec![twelve.clone()]),
        (ours(vec![rule(Some("10.0.0.0/24"), Some("udp"), None, "7")]), vec![eleven.clone(), twelve]),
        (ours(vec![rule(Some("10.0.0.0/24"), None, Some((81, 90)), "7")]), vec![eleven]),
        (ours(vec![rule(Some("10.0.0.0/24"), Some("tcp"), Some((80, 81)), "7")]), Vec::new()),
        // A mark: who set it up meant something by it.
        (ours(vec![rule(None, None, None, "7")]), Vec::new()),
    ];
    for (routing, commands) in table {
        let facts = Facts { ipv4: Some(routing.clone()), ..good() };
        let expected = if commands.is_empty() { Vec::new() } else { vec![("no_way_back", commands)] };
        assert_eq!(said(&transparent(&backends), &facts), expected, "{routing:?}");
    }
}

#[test]
fn the_families_and_protocols_of_a_pool_have_ways_back_of_their_own() {
    let both = plan(&[Protocol::Tcp, Protocol::Udp], &["10.0.0.11:53", "[2001:db8::11]:53"], |_, pool| {
        pool.source = Source::Client;
    });
    let facts = Facts { ipv4: Some(Routing::default()), ipv6: Some(Routing::default()), ..good() };
    let expected = [
        (
            "no_way_back",
            lines(&[
                "ip route add local default dev lo table 100",
                "ip rule add from 10.0.0.11 ipproto tcp sport 53 lookup 100",
                "ip rule add from 10.0.0.11 ipproto udp sport 53 lookup 100",
            ]),
        ),
        (
            "no_way_back",
            lines(&[
                "ip -6 route add local default dev lo table 100",
                "ip -6 rule add from 2001:db8::11 ipproto tcp sport 53 lookup 100",
                "ip -6 rule add from 2001:db8::11 ipproto udp sport 53 lookup 100",
            ]),
        ),
    ];
    assert_eq!(said(&both, &facts), expected);
}

#[test]
fn two_pools_are_not_told_the_same_twice() {
    let mut two = transparent(&["10.0.0.11:80", "10.0.0.12:80"]);
    let one = Pool { backend_count: 1, ..(*two.pools[0]).clone() };
    let listener = Listener { pool: Some(PoolId::from_index(1)), ..(*two.listeners[0]).clone() };
    two.pools = vec![Arc::new(one.clone()), Arc::new(Pool { first_backend: BackendId(1), ..one })];
    two.listeners.push(Arc::new(listener));
    let facts = Facts { ipv4: Some(Routing::default()), ..good() };
    let add = |from: &str| format!("ip rule add from {from} ipproto tcp sport 80 lookup 100");
    let expected = [
        ("no_way_back", vec!["ip route add local default dev lo table 100".to_owned(), add("10.0.0.11")]),
        ("no_way_back", vec![add("10.0.0.12")]),
    ];
    assert_eq!(said(&two, &facts), expected);
}

#[test]
fn addresses_of_sources_and_listeners_have_to_be_here() {
    let away = plan(&[Protocol::Tcp, Protocol::Udp], &["10.0.0.11:80"], |listener, pool| {
        listener.listen =
            vec![socket("192.0.2.1:80"), socket("127.0.0.9:80"), socket("[::]:80"), socket("10.0.0.2:80")];
        pool.source = Source::Own([ip("100.64.0.1"), ip("100.64.0.2")].into());
    });
    let add = |address: &str| ("no_such_address", vec![format!("ip address add {address}/32 dev lo")]);
    assert_eq!(said(&away, &good()), [add("100.64.0.2"), add("192.0.2.1")], "each once");
    let moving = Facts { foreign_bind: ForeignBind { ipv4: true, ipv6: false }, ..good() };
    assert_eq!(said(&away, &moving), [add("100.64.0.2")], "a source must be here even then");
}

#[test]
fn settings_that_the_kernel_cuts_or_ignores_are_said_with_the_value_that_does() {
    let eager = plan(&[Protocol::Tcp, Protocol::Udp], &["10.0.0.11:80"], |listener, pool| {
        listener.tcp.fast_open = 16;
        listener.backlog = 8192;
        pool.backend_limit = Some(100_000);
    });
    let facts = Facts { net_admin: Some(false), fast_open: Some(1), receive_buffer: Some(212_992), ..good() };
    let expected = [
        ("fast_open_is_off", lines(&["sysctl -w net.ipv4.tcp_fastopen=3"])),
        ("backlog_is_cut", lines(&["sysctl -w net.core.somaxconn=8192"])),
        ("receive_buffer_is_cut", lines(&["sysctl -w net.core.rmem_max=4194304"])),
        ("too_few_source_ports", lines(&["sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\""])),
    ];
    assert_eq!(said(&eager, &facts), expected);
    let said_of_admin = said(&eager, &Facts { net_admin: Some(true), ..facts });
    assert!(said_of_admin.iter().all(|(code, _)| *code != "receive_buffer_is_cut"), "CAP_NET_ADMIN may go beyond");
}

#[test]
fn more_sources_are_more_ports() {
    let with = |sources: usize| {
        plan(&[Protocol::Tcp], &["10.0.0.11:80"], |_, pool| {
            pool.backend_limit = Some(50_000);
            let own: Vec<IpAddr> = [ip("10.0.0.2"), ip("100.64.0.1")][..sources].to_vec();
            pool.source = Source::Own(own.into());
        })
    };
    assert_eq!(said(&with(1), &good()).len(), 1);
    assert_eq!(said(&with(2), &good()), []);
}

#[test]
fn what_is_missing_reads_like_a_problem_with_its_commands_below() {
    let facts = Facts { net_admin: Some(false), net_raw: Some(false), ..good() };
    let found = missing(&transparent(&["10.0.0.11:80"]), &facts);
    let expected = "\
warning[no_net_admin]: pool \"pool\" is transparent, and this user has neither CAP_NET_ADMIN nor CAP_NET_RAW
  = help: without it every connection ends with source_unusable; a service gets it by AmbientCapabilities= in its unit
  = on this host: setcap cap_net_admin,cap_net_bind_service+ep \"$(command -v evenkeel)\"

";
    assert_eq!(text(&found), expected);
    let json = json(&found);
    assert_eq!((json[0]["code"].as_str(), json[0]["place"].is_null()), (Some("no_net_admin"), true));
    assert_eq!(json[0]["commands"].as_array().map(Vec::len), Some(1));
}

#[test]
fn echo_requests_need_the_kernels_leave_where_a_check_sends_some() {
    let with = |probe: Option<ProbeSettings>| {
        plan(&[Protocol::Udp], &["10.0.0.11:53"], |_, pool| {
            let timing = Timing::new(Duration::from_secs(5), Duration::from_secs(2), 3, 3);
            let made = probe.clone().map(|probe| CheckSettings { probe, timing, sources: Default::default() });
            pool.checks =
                made.into_iter().map(|settings| Check { name: "check".into(), settings: Arc::new(settings) }).collect();
        })
    };
    let udp = |ping| Some(ProbeSettings::Udp(UdpProbe { ping, ..UdpProbe::default() }));
    let command = lines(&["sysctl -w net.ipv4.ping_group_range=\"0 2147483647\""]);
    for (probe, asks) in
        [(None, false), (udp(false), false), (udp(true), true), (Some(ProbeSettings::Icmp(IcmpProbe)), true)]
    {
        for (echo_requests, allowed) in [(Some(false), false), (Some(true), true), (None, true)] {
            let facts = Facts { echo_requests, ..good() };
            let expected = if asks && !allowed { vec![("no_echo_requests", command.clone())] } else { vec![] };
            assert_eq!(said(&with(probe.clone()), &facts), expected, "{probe:?} {echo_requests:?}");
        }
    }
}
