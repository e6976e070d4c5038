//! What the compiler promises whatever the text: examples compile, formats mean the same, the manual is
//! current, nothing panics.

mod support;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::Schedule;
use evenkeel_config::{Compiled, Format, Source, compile, compile_with, reference, render, render_json};
use evenkeel_health::settings::{HttpProbe, ProbeSettings};
use evenkeel_model::{Cidr, PoolId, TargetId, limits};
use evenkeel_plan::{
    AccessLog, Action, Affinity, Coding, Compression, Datagrams, HashOn, HeaderCondition, HeaderEdits, HostPattern,
    Hsts, ListenerTcp, OnUnhealthy, Plan, Protocol, ProxyDatagrams, ProxyProtocol, ProxyVersion, Rate, Rates, Refuse,
    Role, Rule, SocketTcp, Speaks, Sticky, StickyMode, StreamLimits,
};
use proptest::prelude::*;
use support::MadeUp;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn example(name: &str) -> String {
    fs::read_to_string(workspace().join("examples").join(name)).expect("the example is part of the project")
}

fn toml(text: &str) -> Compiled {
    compile(&Source { name: "test.toml", text, format: Format::Toml })
}

fn plan_of(name: &str, text: &str) -> Plan {
    let source = Source { name, text, format: Format::of_path(name) };
    let compiled = compile_with(&source, &mut MadeUp::default());
    assert!(compiled.problems.is_empty(), "{}", render(&source, &compiled.problems, false));
    compiled.plan.expect("a config without problems has a plan")
}

#[test]
fn every_example_compiles_without_a_problem() {
    let folder = fs::read_dir(workspace().join("examples")).expect("the examples are part of the project");
    let mut seen = 0;
    for entry in folder {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        if !matches!(path.extension().and_then(|e| e.to_str()), Some("toml" | "yaml" | "json")) {
            continue;
        }
        plan_of(&name, &example(&name));
        seen += 1;
    }
    assert!(seen >= 10, "{seen} examples");
}

#[test]
fn the_web_example_is_ten_lines_or_fewer_and_means_the_same_in_every_format() {
    let text = example("web.toml");
    assert!(text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).count() <= 10);
    let plan = plan_of("web.toml", &text);
    assert_eq!(plan, plan_of("web.yaml", &example("web.yaml")));
    assert_eq!(plan, plan_of("web.json", &example("web.json")));
}

#[test]
fn the_full_example_means_the_same_written_as_json_or_yaml() {
    let text = example("full.toml");
    let plan = plan_of("full.toml", &text);
    let value: toml::Value = toml::from_str(&text).expect("the example is TOML");
    let json = serde_json::to_string_pretty(&value).expect("it has nothing JSON cannot hold");
    assert_eq!(plan, plan_of("full.json", &json));
    // JSON is YAML, so the other parser has to read the same out of it.
    assert_eq!(plan, plan_of("full.yaml", &json));
}

#[test]
fn the_full_example_arrives_in_the_plan_value_by_value() {
    let plan = plan_of("full.toml", &example("full.toml"));
    let node = &plan.node;
    assert_eq!((node.workers, node.connections, node.drain_timeout), (4, 20_000, Duration::from_secs(60)));
    assert_eq!(node.access_log, AccessLog::File("/var/log/evenkeel/access.log".into()));
    assert_eq!(node.cluster.as_deref(), Some("shop-eu1"));
    let admin = plan.admin.as_ref().expect("it is not off");
    assert_eq!(admin.listen.map(|listen| listen.to_string()).as_deref(), Some("10.0.0.5:9901"));
    assert_eq!(admin.socket.as_deref(), Some(Path::new("/run/evenkeel/admin.sock")));
    let tokens: Vec<_> = admin.tokens.iter().map(|token| (&*token.name, token.role, token.sha256[0])).collect();
    assert_eq!(tokens, [("ops", Role::Operate, 0x9f), ("prometheus", Role::Read, 0x1d)]);
    assert!(admin.tls.is_some());

    let web = &plan.listeners[0];
    assert_eq!((&*web.name, web.protocol, web.backlog), ("web", Protocol::Https, 8192));
    assert_eq!(web.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["0.0.0.0:443", "[::]:443"]);
    assert_eq!(web.idle_timeout, Duration::from_secs(600));
    let http = &web.http;
    let seconds = [http.keep_alive_timeout, web.header_timeout, http.body_timeout].map(|time| time.as_secs());
    assert_eq!(seconds, [30, 5, 30]);
    assert_eq!((http.header_limit, http.body_limit), (16 << 10, 100 << 20));
    let trusted: Vec<Cidr> =
        ["10.0.0.0/8", "2001:db8::/32"].iter().map(|text| text.parse().expect("a range")).collect();
    assert_eq!(http.trusted, trusted);
    assert!(http.x_forwarded && http.forwarded);

    assert_eq!(http.handshake_timeout, Duration::from_secs(5));
    assert!(web.tls.as_ref().is_some_and(|tls| tls.covers("www.example.com") && !tls.covers("example.org")));
    let streams = StreamLimits { streams: 100, stream_window: 128 << 10, connection_window: 2 << 20 };
    assert_eq!((http.http2, http.streams), (true, streams));
    let hsts = Hsts::new(Duration::from_secs(730 * 86_400), true, true);
    assert_eq!((http.hsts, http.redirect_to_https), (Some(hsts), None));
    let compression = Compression {
        codings: vec![Coding::Br, Coding::Gzip],
        min_size: 2048,
        types: vec!["text/*".into(), "application/json".into()],
        level: 4,
    };
    assert_eq!(http.compression, Some(compression));
    let lists = [
        ("10.1.1.1", true, false),
        ("10.66.1.1", true, true),
        ("11.0.0.1", false, false),
        ("198.51.100.9", true, false),
        ("203.0.113.8", false, true),
    ];
    for (address, allowed, denied) in lists {
        let address = address.parse().expect("an address");
        assert_eq!((web.access.allow.contains(address), web.access.deny.contains(address)), (allowed, denied));
    }
    let rate = |per_second, burst| Some(Rate { per_second, burst });
    let rates = Rates {
        connections: rate(1000, 1000),
        client_connections: rate(20, 20),
        requests: rate(5000, 5000),
        client_requests: rate(100, 200),
        concurrency: Some(10_000),
        client_concurrency: Some(50),
        ipv4_prefix: 24,
        ipv6_prefix: 56,
    };
    assert_eq!(web.rates, rates);
    assert_eq!(plan.node.sticky_secret.as_deref(), Some(&(0..32).collect::<Vec<u8>>()[..]));
    assert_eq!(plan.listeners[1].http.redirect_to_https, Some(443));
    assert_eq!((plan.listeners[1].pool, plan.listeners[1].rules.is_empty()), (None, true));

    let pool = &plan.pools[web.pool.expect("a pool").index()];
    assert_eq!((&*pool.name, pool.schedule.word()), ("web", "p2c"));
    assert_eq!((pool.speaks, pool.tls.is_none()), (Speaks::Http1, true));
    let attempts = [pool.try_timeout, pool.hedge_after].map(|time| time.map(|time| time.as_millis()));
    assert_eq!(attempts, [Some(10_000), Some(500)]);
    assert_eq!((pool.backend_limit, pool.queue, pool.queue_timeout), (Some(200), 500, Duration::from_secs(2)));
    let sticky = Sticky {
        mode: StickyMode::Insert,
        cookie: "BACKEND".into(),
        max_age: Some(Duration::from_secs(3600)),
        drain_timeout: Duration::from_secs(600),
    };
    assert_eq!(pool.sticky, Some(sticky));
    let seconds = [pool.connect_timeout, pool.response_timeout, pool.body_timeout, pool.idle_timeout, pool.slow_start];
    assert_eq!(seconds.map(|time| time.as_secs()), [2, 30, 30, 60, 30]);
    assert_eq!((pool.idle_connections, pool.retries, pool.retry_budget), (64, 1, 10));
    let backends: Vec<(String, u32)> = plan
        .backends_of(web.pool.expect("a pool"))
        .map(|(_, backend)| (backend.address.to_string(), backend.weight))
        .collect();
    assert_eq!(backends, [("10.0.0.11:8080".into(), 100), ("10.0.0.12:8080".into(), 50)]);
}

#[test]
fn what_lies_below_http_arrives_in_the_plan() {
    let plan = plan_of("full.toml", &example("full.toml"));
    let [_, _, resolver, mail, passthrough, _] = &plan.listeners[..] else { panic!("six listeners") };
    assert_eq!((resolver.protocol, resolver.idle_timeout), (Protocol::Udp, Duration::from_secs(10)));
    assert_eq!(resolver.datagrams, Datagrams { requests: Some(1), responses: Some(1) });

    assert_eq!((mail.lifetime, mail.refuse), (Some(Duration::from_secs(86_400)), Refuse::Silence));
    let socket = |keepalive, user_timeout| SocketTcp {
        keepalive: Some(Duration::from_secs(keepalive)),
        user_timeout: Some(Duration::from_secs(user_timeout)),
    };
    let tcp = ListenerTcp { socket: socket(60, 30), fast_open: 256, defer_accept: Some(Duration::from_secs(3)) };
    assert_eq!(mail.tcp, tcp);
    let inside = |text: &str| mail.proxies.contains(text.parse().expect("an address"));
    assert!(inside("10.9.9.9") && !inside("192.0.2.1"));

    let h2: &[u8] = b"h2";
    let found = |name, alpn: &[&'static [u8]]| {
        passthrough.names.find(Some(name), alpn.iter().copied()).map(|rule| &*plan.pools[rule.pool.index()].name)
    };
    assert_eq!(found("games.example.com", &[h2]), Ok("games"));
    assert!(found("games.example.com", &[]).is_err() && found("example.com", &[h2]).is_err());
    assert!(passthrough.rules.is_empty() && passthrough.pool == mail.pool);

    let pool = &plan.pools[mail.pool.expect("a pool").index()];
    // The two that this made-up host has in the prefix, and the one that is written out.
    let own: Arc<[IpAddr]> = ["10.0.0.6", "100.64.0.1", "100.64.0.2"].map(|ip| ip.parse().expect("an address")).into();
    assert_eq!((&pool.source, pool.on_unhealthy), (&evenkeel_plan::Source::Own(own), OnUnhealthy::Reset));
    assert_eq!((pool.schedule, pool.tcp), (Schedule::Tuple, socket(30, 20)));
    let told = ProxyProtocol {
        version: ProxyVersion::V2,
        authority: true,
        alpn: true,
        unique_id: true,
        datagrams: ProxyDatagrams::First,
    };
    assert_eq!(pool.proxy_protocol, Some(told));
    let kept = Affinity {
        timeout: Duration::from_secs(600),
        ipv4_prefix: 24,
        ipv6_prefix: 56,
        drain_timeout: limits::STICKY_DRAIN_TIMEOUT.default,
    };
    assert_eq!((pool.affinity, &pool.sticky), (Some(kept), &None));

    let games = plan.pools.last().expect("a pool");
    assert_eq!((games.schedule, &games.source), (Schedule::QuicCid, &evenkeel_plan::Source::Client));
    let ids: Vec<_> = plan.backends.iter().filter_map(|backend| backend.server_id.as_deref()).collect();
    assert_eq!(ids, [[0x0a, 1], [0x0a, 2]]);
}

#[test]
fn rules_and_pools_of_the_full_example_arrive_in_the_plan() {
    let plan = plan_of("full.toml", &example("full.toml"));
    let api = &plan.pools[1];
    assert_eq!((&*api.name, api.schedule, api.speaks), ("api", Schedule::Maglev, Speaks::Http2));
    assert_eq!((&api.hash_on, api.bounded_load), (&HashOn::Header("x-user".into()), Some(125)));
    assert!(api.tls.as_ref().is_some_and(|tls| tls.name.is_some()) && api.sticky.is_none());
    let check = &api.checks[0].settings;
    let ProbeSettings::Tls(handshake) = &check.probe else { panic!("api has a tls check") };
    assert_eq!(
        (handshake.min_days_left, &handshake.client.name),
        (Some(7), &api.tls.as_ref().expect("it speaks TLS").name)
    );

    let rules: Vec<&Rule> = plan.listeners[0].rules.iter().collect();
    let text = |text: &str| Box::<str>::from(text);
    let beta = Rule {
        name: "beta".into(),
        hosts: vec![HostPattern::Exact("www.example.com".into()), HostPattern::Exact("example.com".into())],
        path: "/api".into(),
        methods: vec!["GET".into(), "HEAD".into()],
        headers: vec![
            HeaderCondition { name: "x-beta".into(), value: Some("1".into()) },
            HeaderCondition { name: "x-debug".into(), value: None },
        ],
        action: Action::Pool(PoolId::from_index(1)),
        rewrite_path: Some("/v2".into()),
        request_headers: HeaderEdits {
            remove: vec!["X-Debug".into()],
            set: vec![(text("X-Origin"), text("beta"))],
            add: vec![(text("Via-Rule"), text("beta"))],
        },
        response_headers: HeaderEdits { remove: vec!["Server".into()], ..HeaderEdits::default() },
        response_timeout: Some(Duration::from_secs(20)),
        body_timeout: Some(Duration::from_secs(10)),
        try_timeout: Some(Duration::from_secs(1)),
        retries: Some(3),
    };
    assert_eq!(rules[0], &beta);
    assert_eq!((&*rules[1].name, &*rules[2].name), ("*/old", "*/ping"));
    assert_eq!(rules[1].action, Action::Redirect { status: 301, to: "https://www.example.com/new".into() });
    let pong = Action::Answer { status: 200, content_type: "text/html".into(), body: "pong".into() };
    assert_eq!((&rules[2].action, rules.len()), (&pong, 3));
}

/// One check is probed once, and what a probe says inside TLS is part of the check.
#[test]
fn checks_over_tls_are_one_target_when_their_settings_are_equal() {
    let plan = |second: &str| {
        let text = format!(
            "[[listener]]\nlisten = '127.0.0.1:80'\npool = 'a'\n[[listener.rule]]\npath = '/b'\npool = 'b'\n\
             [[pool]]\nname = 'a'\nbackends = ['10.0.0.1:443']\ntls = {{ name = 'a.example', ca = 'ca.pem' }}\n\
             [[pool]]\nname = 'b'\nbackends = ['10.0.0.1:443']\n{second}\n"
        );
        plan_of("case.toml", &text)
    };
    for (second, targets) in [
        ("tls = { name = 'a.example', ca = 'ca.pem' }", 1),
        ("check = { tls = { name = 'a.example', ca = 'ca.pem' } }", 1),
        ("tls = { name = 'b.example', ca = 'ca.pem' }", 2),
        ("tls = { name = 'a.example', ca = 'ca.pem' }\ncheck = { tls = false }", 2),
        ("tls = { name = 'a.example', certificate = 'client.pem', key = 'client.key' }", 2),
        ("", 2),
    ] {
        assert_eq!(plan(second).targets.len(), targets, "{second}");
    }
}

/// A reload compares plans; certificates that were read again must not look like new ones.
#[test]
fn the_same_files_make_an_equal_plan() {
    let text = example("full.toml");
    assert_eq!(plan_of("full.toml", &text), plan_of("full.toml", &text));
    let other = text.replace("policy = \"modern\"", "policy = \"intermediate\"");
    let (one, two) = (plan_of("full.toml", &text), plan_of("full.toml", &other));
    assert_ne!(one.listeners[0], two.listeners[0]);
    assert_eq!(one.listeners[1..], two.listeners[1..]);
}

#[test]
fn what_is_left_out_has_the_default_of_the_limits() {
    let plan =
        toml("[[listener]]\nlisten = '127.0.0.1:80'\npool = 'p'\n[[pool]]\nname = 'p'\nbackends = ['10.0.0.1:80']\n")
            .plan
            .expect("the config is valid");
    assert_eq!(plan.admin.and_then(|admin| admin.listen), Some(limits::ADMIN_LISTEN.parse().expect("an address")));
    assert_eq!(plan.node.access_log, AccessLog::Stdout);
    let listener = &plan.listeners[0];
    assert_eq!(&*listener.name, "127.0.0.1:80");
    assert_eq!(listener.protocol, Protocol::Http);
    assert!(listener.http.x_forwarded && !listener.http.forwarded && listener.http.trusted.is_empty());
    assert!(listener.http.http2 && listener.http.hsts.is_none() && listener.http.compression.is_none());
    assert!(listener.access.allow.is_empty() && listener.access.deny.is_empty() && listener.rules.is_empty());
    let rates = &listener.rates;
    assert!(rates.connections.is_none() && rates.requests.is_none() && rates.concurrency.is_none());
    assert_eq!((rates.ipv4_prefix, rates.ipv6_prefix), (32, 64));
    let pool = &plan.pools[0];
    assert_eq!(pool.schedule.word(), "wrr");
    assert!(pool.sticky.is_none() && pool.tls.is_none() && pool.bounded_load.is_none());
    assert!(pool.try_timeout.is_none() && pool.hedge_after.is_none() && pool.backend_limit.is_none());
    let check = &pool.checks[0].settings;
    assert_eq!(check.probe, ProbeSettings::Http(HttpProbe::default()));
    assert_eq!(
        (check.timing.timeout, check.timing.interval),
        (limits::CHECK_TIMEOUT.default, limits::CHECK_INTERVAL.default)
    );
}

#[test]
fn udp_checks_have_timing_defaults_of_their_own() {
    let text = "[[listener]]\nlisten = '127.0.0.1:80'\nprotocol = 'tcp'\npool = 'p'\n\
                [[pool]]\nname = 'p'\nbackends = ['10.0.0.1:80']\ncheck = { kind = 'udp' }\n";
    let plan = toml(text).plan.expect("the config is valid");
    let timing = plan.pools[0].checks[0].settings.timing;
    assert_eq!(
        (timing.timeout, timing.interval),
        (limits::UDP_CHECK_TIMEOUT.default, limits::UDP_CHECK_INTERVAL.default)
    );
}

#[test]
fn one_target_serves_all_pools_that_ask_the_same_of_the_same_port() {
    let text = "[[listener]]\nlisten = '127.0.0.1:80'\npool = 'a'\n[[listener]]\nlisten = '127.0.0.1:81'\npool = 'b'\n\
                [[listener]]\nlisten = '127.0.0.1:82'\npool = 'c'\n\
                [[pool]]\nname = 'a'\nbackends = ['10.0.0.1:80', '10.0.0.2:80']\ncheck = { port = 9 }\n\
                [[pool]]\nname = 'b'\nbackends = ['10.0.0.2:81', '10.0.0.1:81']\ncheck = { port = 9 }\n\
                [[pool]]\nname = 'c'\nbackends = ['10.0.0.1:80']\ncheck = { port = 9, path = '/other' }\n";
    let plan = toml(text).plan.expect("the config is valid");
    let targets: Vec<Option<u32>> =
        plan.backends.iter().map(|backend| backend.targets.first().map(|&TargetId(id)| id)).collect();
    assert_eq!(targets, [Some(0), Some(1), Some(1), Some(0), Some(2)]);
    assert_eq!(plan.targets.len(), 3);
}

#[test]
fn the_committed_manual_is_the_one_this_program_prints() {
    let path = workspace().join("docs/reference/config.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, reference()).expect("the manual can be rewritten");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == reference(), "docs/reference/config.md is not current; rewrite it with UPDATE_GOLDEN=1");
}

/// Compiles in every format and shows the problems both ways, which is all a caller can do with a text.
fn survive(text: &str) {
    for format in [Format::Toml, Format::Yaml, Format::Json] {
        let source = Source { name: "any", text, format };
        let compiled = compile_with(&source, &mut MadeUp::default());
        assert_eq!(
            compiled.plan.is_none(),
            compiled.problems.iter().any(|problem| problem.severity == evenkeel_config::Severity::Error)
        );
        for problem in &compiled.problems {
            let span = problem.place.span.clone();
            assert!(text.get(span).is_some(), "a span lies inside the text");
        }
        assert!(compiled.problems.is_sorted_by_key(|problem| problem.place.span.start));
        render(&source, &compiled.problems, true);
        render_json(&source, &compiled.problems);
    }
}

#[test]
fn hostile_texts_are_survived() {
    for text in [
        "\u{feff}",
        "\r",
        "\r\n\r\n",
        "\0",
        "[[",
        "]]",
        "a.b.c.d = 1",
        "a = 99999999999999999999999999999999999999999999",
        "pool = [[[]]]",
        "listener = [1, 'x', [], {}]",
        "node = []\nadmin = 1\nlistener = {}\npool = ''",
        "{\"listener\":[{\"listen\":[{}]}]}",
        "? ? ?",
        "- - - -",
        "&a [*a]",
        "\u{1f600}: \u{1f600}",
        "a: |\n  x\n b",
        "\t- x",
    ] {
        survive(text);
    }
    for unit in ["[", "{", "(", "- ", "a:\n ", "a.", "[[", "\"", "'", "{\"a\":", "[a.", "a={", "a=["] {
        survive(&unit.repeat(5000));
    }
}

proptest! {
    // With the usual 256 cases a panic in the units of sizes went unseen.
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in "(?s).{0,400}") {
        survive(&text);
    }

    #[test]
    fn text_made_of_the_words_of_configs_never_panics(
        parts in prop::collection::vec(prop::sample::select(WORDS.to_vec()), 0..60)
    ) {
        survive(&parts.concat());
    }

    #[test]
    fn a_valid_config_with_pieces_cut_doubled_or_overwritten_never_panics(
        name in prop::sample::select(vec!["full.toml", "tcp.toml", "web.yaml", "web.json"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0usize..40, "\\PC{0,4}", any::<bool>()), 1..6)
    ) {
        let mut text = example(name);
        for (at, length, put, double) in changes {
            let floor = |text: &str, mut at: usize| {
                at = at.min(text.len());
                while !text.is_char_boundary(at) {
                    at -= 1;
                }
                at
            };
            let start = floor(&text, at.index(text.len() + 1));
            let end = floor(&text, start + length).max(start);
            let piece = text[start..end].to_owned();
            let piece = if double { format!("{piece}{put}{piece}") } else { put };
            text.replace_range(start..end, &piece);
        }
        survive(&text);
    }
}

const WORDS: &[&str] = &[
    "[[listener]]\n",
    "[[pool]]\n",
    "[pool.check]\n",
    "[[pool.check]]\n",
    "[[node.hook]]\n",
    "[node.resolver]\n",
    "steps = ",
    "expect = ",
    "expect_body = ",
    "expect_addresses = ",
    "command = ",
    "query = ",
    "record = ",
    "records = ",
    "url = ",
    "on = ",
    "servers = ",
    "panic_below = ",
    "{ regex = '(' }",
    "{ hex = '0 ??*' }",
    "{ expect = 'a' }",
    "\"a.b:80\"",
    "\"_a._tcp.b\"",
    "\"srv\"",
    "\"dns\"",
    "\"command\"",
    "\"agent\"",
    "\"icmp\"",
    "\"grpc\"",
    "0.5",
    "[node]\n",
    "[admin]\n",
    "[pool]\n",
    "[[listener.rule]]\n",
    "[[listener.certificate]]\n",
    "[listener.tls]\n",
    "[listener.limit]\n",
    "[listener.access]\n",
    "[listener.compression]\n",
    "[pool.tls]\n",
    "[pool.sticky]\n",
    "certificate = ",
    "key = ",
    "redirect_to_https = ",
    "hsts = ",
    "redirect = ",
    "answer = ",
    "headers = ",
    "request_headers = ",
    "rewrite_path = ",
    "requests_per_second = ",
    "hash_on = ",
    "allow = ",
    "status = ",
    "to = ",
    "\"https\"",
    "\"header:x\"",
    "\"*.a\"",
    "\"/\"",
    "listen = ",
    "pool = ",
    "name = ",
    "protocol = ",
    "backends = ",
    "check = ",
    "kind = ",
    "send = ",
    "expect = ",
    "expect_status = ",
    "trusted = ",
    "timeout = ",
    "interval = ",
    "weight = ",
    "address = ",
    "port = ",
    "source = ",
    "workers = ",
    "access_log = ",
    "header_limit = ",
    "retries = ",
    "x_forwarded = ",
    "method = ",
    "host = ",
    "path = ",
    "\"0.0.0.0:80\"",
    "\"127.0.0.1:80\"",
    "\"[::]:80\"",
    "\"web\"",
    "\"http\"",
    "\"tcp\"",
    "\"udp\"",
    "\"off\"",
    "'\\xff'",
    "\"\\xff\"",
    "\"5s\"",
    "\"32KiB\"",
    "\"2xx\"",
    "5",
    "-1",
    "0",
    "70000",
    "true",
    "false",
    "1.5",
    "1979-05-27",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\n",
    " ",
    "#",
    "=",
    ":",
    "- ",
    "\u{e9}",
    "\"",
];
