//! Routing reports: who takes a request, and why, in words and as JSON.
//!
//! The snapshots are the control room's own, so that a report is tested on what workers would see.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::{Picker, Schedule, Wanted, hash};
use evenkeel_control::{Control, Event};
use evenkeel_diagnose::route::{self, Outcome, Pick, Refused, Report, Request, RulePlace, Sent};
use evenkeel_model::standing::Order;
use evenkeel_model::{BackendId, Cause, Cidr, CidrSet, Instant, ListenerId, PoolId};
use evenkeel_plan::{
    Access, AccessLog, Action, Asked, Backend, HashOn, HeaderEdits, HostPattern, Listener, Miss, Node, Plan, Pool,
    Protocol, Rule, Rules, Snapshot, Sticky, StickyMode,
};

struct Get {
    host: &'static str,
    path: &'static str,
    method: &'static str,
    fields: Vec<(&'static str, &'static str)>,
}

fn get(host: &'static str, path: &'static str) -> Get {
    Get { host, path, method: "GET", fields: Vec::new() }
}

impl Asked for Get {
    fn host(&self) -> &[u8] {
        self.host.as_bytes()
    }

    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }

    fn header(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().filter(move |(field, _)| *field == name).map(|(_, value)| value.as_bytes())
    }

    fn cookie(&self, name: &str) -> Option<&[u8]> {
        self.header("cookie").find_map(|value| value.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }
}

/// The texts are the wire room's; here it is enough to see that they were asked for.
impl Request for Get {
    fn rewritten(&self, prefix: &str, replacement: &str) -> String {
        self.path.replacen(prefix, replacement, 1)
    }

    fn location(&self, template: &str) -> Result<String, Refused> {
        Ok(template.replace("{path}", self.path))
    }

    fn https_location(&self, port: u16) -> Result<String, Refused> {
        if self.host.is_empty() {
            return Err(Refused { cause: Cause::ClientMalformedRequest, detail: "no host".into() });
        }
        Ok(format!("https://{}:{port}{}", self.host, self.path))
    }
}

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

fn rule(name: &str, host: &str, path: &str, action: Action) -> Rule {
    let host = (!host.is_empty()).then(|| HostPattern::Exact(host.into()));
    Rule {
        name: name.into(),
        hosts: host.into_iter().collect(),
        path: path.into(),
        methods: Vec::new(),
        headers: Vec::new(),
        action,
        rewrite_path: None,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        response_timeout: None,
        body_timeout: None,
        try_timeout: None,
        retries: None,
    }
}

fn listener(pool: Option<PoolId>, rules: Vec<Rule>) -> Listener {
    Listener { pool, rules: Rules::new(rules), ..Listener::with_defaults("web", Protocol::Http) }
}

fn pool(name: &str, schedule: Schedule) -> Pool {
    Pool { schedule, ..Pool::with_defaults(name) }
}

/// Pools with the weights of their backends: the first backend of the first pool is 10.0.0.1:80, of the second 10.0.1.1:80.
fn snapshot(listener: Listener, pools: Vec<(Pool, &[u32])>) -> (Control, Arc<Snapshot>) {
    let node = Node {
        workers: 1,
        connections: 0,
        drain_timeout: Duration::ZERO,
        access_log: AccessLog::Off,
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
    };
    let mut plan = Plan {
        node,
        admin: None,
        listeners: vec![Arc::new(listener)],
        pools: Vec::new(),
        backends: Vec::new(),
        targets: Vec::new(),
        names: Vec::new(),
    };
    for (index, (mut pool, weights)) in pools.into_iter().enumerate() {
        pool.first_backend = BackendId::from_index(plan.backends.len());
        pool.backend_count = weights.len() as u32;
        for (host, &weight) in weights.iter().enumerate() {
            let address = SocketAddr::from(([10, 0, index as u8, host as u8 + 1], 80));
            plan.backends.push(Backend::new(PoolId::from_index(index), address, weight));
        }
        plan.pools.push(Arc::new(pool));
    }
    let control = Control::new(Arc::new(plan), Instant::START, 1);
    let snapshot = control.snapshot();
    (control, snapshot)
}

fn report(listener: Listener, pools: Vec<(Pool, &[u32])>, request: &Get) -> Report {
    route::report(&snapshot(listener, pools).1, ListenerId(0), request, Some(CLIENT))
}

fn sent(report: Report) -> Sent {
    match report.outcome {
        Outcome::Pool(sent) => sent,
        other => panic!("the request goes to a pool, not {other:?}"),
    }
}

const WEB: PoolId = PoolId(0);

#[test]
fn the_report_names_the_rule_the_runners_up_and_the_pool() {
    let mut api = rule("api", "a", "/api", Action::Pool(PoolId(1)));
    api.rewrite_path = Some("/v2".into());
    let rules = vec![rule("any", "", "/", Action::Pool(WEB)), api, rule("other", "b", "/", Action::Pool(WEB))];
    let pools = vec![(pool("web", Schedule::Wrr), &[1, 1][..]), (pool("api", Schedule::Wrr), &[100][..])];
    let report = report(listener(None, rules), pools, &get("a", "/api/x"));
    let expected = "\
listener   \"web\" (http)
rule       \"api\": it has the narrowest host, then the longest path, then the most conditions
pool       \"api\" (wrr)
path       /v2/x is what the backend sees
backend    10.0.1.1:80: it is the only one that may receive new work
runners-up \"any\": it would take the request, but it is for any host and \"api\" names this one
others     \"other\": it is for other hosts
";
    assert_eq!(route::text(&report), expected);
    assert_eq!(report.cause(), None);
    let places: Vec<RulePlace> = report.rules.iter().map(|rule| rule.place).collect();
    assert_eq!(places, [RulePlace::Taken, RulePlace::RunnerUp, RulePlace::Out]);
    let json: serde_json::Value = serde_json::from_str(&route::json(&report)).unwrap();
    assert_eq!(json["rule"], "api");
    assert_eq!(json["action"], "pool");
    assert_eq!(json["pool"]["backend"], "10.0.1.1:80");
    assert_eq!(json["pool"]["path"], "/v2/x");
    assert_eq!(json["rules"][1]["reason"], "any_host");
    assert_eq!(json["refused"], serde_json::Value::Null);
}

#[test]
fn a_request_that_no_rule_takes_goes_to_the_default_pool_or_has_its_cause() {
    let rules = || vec![rule("a", "a", "/x", Action::Pool(WEB))];
    let pools = || vec![(pool("web", Schedule::Wrr), &[1][..])];
    let table = [
        ("b", "/x", Miss::Host, Cause::HostNotConfigured, "no rule names the host \"b\""),
        ("a", "/y", Miss::Rule, Cause::RuleNotFound, "no rule takes host, path, method and fields together"),
    ];
    for (host, path, miss, cause, detail) in table {
        let with_pool = report(listener(Some(WEB), rules()), pools(), &get(host, path));
        assert_eq!(sent(with_pool).by_default, Some(miss));
        let without = report(listener(None, rules()), pools(), &get(host, path));
        assert_eq!(without.outcome, Outcome::Refused(Refused { cause, detail: detail.to_string() }));
        assert_eq!(without.cause(), Some(cause));
        assert!(route::text(&without).contains(&format!("refused    {} (404): {detail}\n", cause.code())));
    }
}

#[test]
fn redirects_and_answers_are_shown_as_they_would_be_sent() {
    let rules = || {
        let redirect = Action::Redirect { status: 308, to: "https://new.example{path}".into() };
        let answer = Action::Answer { status: 200, content_type: "text/plain".into(), body: "ok\n".into() };
        vec![rule("old", "", "/old", redirect), rule("health", "", "/healthz", answer)]
    };
    let redirected = report(listener(None, rules()), Vec::new(), &get("a", "/old/x"));
    let location = "https://new.example/old/x".to_string();
    assert_eq!(redirected.outcome, Outcome::Redirect { status: 308, location });
    let answered = report(listener(None, rules()), Vec::new(), &get("a", "/healthz"));
    assert!(route::text(&answered).contains("answer     200, text/plain, 3 bytes\n"));
}

#[test]
fn a_listener_that_redirects_to_https_asks_no_rule() {
    let twin = || {
        let mut listener = listener(None, vec![rule("a", "", "/", Action::Pool(WEB))]);
        listener.http.redirect_to_https = Some(8443);
        listener
    };
    for (method, expected) in [("GET", 301), ("HEAD", 301), ("POST", 308), ("get", 308)] {
        let report = report(twin(), vec![(pool("web", Schedule::Wrr), &[1])], &Get { method, ..get("a", "/x") });
        let location = "https://a:8443/x".to_string();
        assert_eq!(report.outcome, Outcome::Redirect { status: expected, location }, "{method}");
        assert!(report.rules.is_empty());
    }
    let hostless = report(twin(), vec![(pool("web", Schedule::Wrr), &[1])], &get("", "/x"));
    assert_eq!(hostless.cause(), Some(Cause::ClientMalformedRequest));
}

#[test]
fn a_client_on_the_wrong_list_is_refused_before_any_rule() {
    let cidrs = |cidr: &str| -> CidrSet {
        let (network, length) = cidr.split_once('/').unwrap();
        CidrSet::new([Cidr::new(network.parse().unwrap(), length.parse().unwrap()).unwrap()])
    };
    let table = [
        (Access { deny: cidrs("192.0.2.0/24"), allow: cidrs("192.0.2.0/24") }, Some("192.0.2.7 is in `deny`")),
        (Access { allow: cidrs("10.0.0.0/8"), ..Access::default() }, Some("192.0.2.7 is not in `allow`")),
        (Access { allow: cidrs("192.0.2.0/24"), ..Access::default() }, None),
        (Access { deny: cidrs("10.0.0.0/8"), ..Access::default() }, None),
    ];
    for (access, expected) in table {
        let open = listener(Some(WEB), Vec::new());
        let (_, snapshot) = snapshot(Listener { access, ..open }, vec![(pool("web", Schedule::Wrr), &[1])]);
        let told = route::report(&snapshot, ListenerId(0), &get("a", "/"), Some(CLIENT));
        let detail = match told.outcome {
            Outcome::Refused(Refused { cause: Cause::ClientDeniedByAcl, detail }) => Some(detail),
            _ => None,
        };
        assert_eq!(detail.as_deref(), expected);
        // Without a client there is nobody to look up.
        assert_eq!(route::report(&snapshot, ListenerId(0), &get("a", "/"), None).cause(), None);
    }
}

#[test]
fn a_hash_schedule_names_the_backend_that_every_worker_would_pick() {
    let weights = &[100, 50, 100, 100, 0][..];
    let hashed = |hash_on: HashOn| Pool { hash_on, ..pool("web", Schedule::Maglev) };
    for user in ["ann", "bob", "cleo", "dan", "eve"] {
        let request = Get { fields: vec![("x-user", user)], ..get("a", "/") };
        let web = hashed(HashOn::Header("x-user".into()));
        let (_, snapshot) = snapshot(listener(Some(WEB), Vec::new()), vec![(web, weights)]);
        let sent = sent(route::report(&snapshot, ListenerId(0), &request, None));
        let wanted = Wanted { key: Some(hash::of_bytes(user.as_bytes())), ..Wanted::first(CLIENT) };
        let candidates = &snapshot.pool(WEB).candidates;
        for worker in 0..4 {
            let picked = Picker::new(worker).pick(candidates, &|_: BackendId| 0, &wanted).unwrap();
            assert_eq!(sent.pick, Pick::Backend(snapshot.plan.backends[picked.index()].address), "{user}");
        }
        assert_eq!(sent.because, "the hash of its field \"x-user\" leads there");
        assert_eq!(sent.aside, [("10.0.0.5:80".parse().unwrap(), "has weight 0")]);
    }
}

#[test]
fn a_request_without_the_key_is_hashed_by_its_client() {
    let web = || Pool { hash_on: HashOn::Cookie("id".into()), ..pool("web", Schedule::Maglev) };
    let keyless = sent(report(listener(Some(WEB), Vec::new()), vec![(web(), &[1, 1, 1])], &get("a", "/")));
    let by_source = (pool("web", Schedule::Source), &[1, 1, 1][..]);
    let of_source = sent(report(listener(Some(WEB), Vec::new()), vec![by_source], &get("a", "/")));
    assert_eq!(keyless.pick, of_source.pick);
    assert_eq!(of_source.because, "the hash of the client's address 192.0.2.7 leads there");
    assert!(keyless.because.starts_with("the request has no cookie \"id\", so: "), "{}", keyless.because);
    // Nobody's address can be hashed.
    let (_, snapshot) = snapshot(listener(Some(WEB), Vec::new()), vec![(web(), &[1, 1])]);
    let unknown = sent(route::report(&snapshot, ListenerId(0), &get("a", "/"), None));
    assert!(matches!(unknown.pick, Pick::Shares(shares) if shares.len() == 2));
}

#[test]
fn of_a_rotation_the_shares_are_told_and_no_backend_is_guessed() {
    let shares = |schedule, weights: &[u32]| {
        let sent =
            sent(report(listener(Some(WEB), Vec::new()), vec![(pool("web", schedule), weights)], &get("a", "/")));
        match sent.pick {
            Pick::Shares(shares) => shares.iter().map(|(_, percent)| *percent).collect::<Vec<_>>(),
            Pick::Backend(backend) => panic!("{backend} is a guess"),
        }
    };
    assert_eq!(shares(Schedule::Wrr, &[75, 25]), [75.0, 25.0]);
    assert_eq!(shares(Schedule::Wlc, &[75, 25]), [75.0, 25.0]);
    assert_eq!(shares(Schedule::P2c, &[60, 20, 20]), [60.0, 20.0, 20.0]);
    assert_eq!(shares(Schedule::Rr, &[75, 25]), [50.0, 50.0]);
}

#[test]
fn who_is_out_and_why_nobody_is_left_follow_the_snapshot() {
    let (mut control, _) = snapshot(listener(Some(WEB), Vec::new()), vec![(pool("web", Schedule::Wrr), &[1, 1])]);
    let mut order = |backend: &str, order| {
        let (pool, backend, by) = ("web".into(), backend.parse().unwrap(), "ops".into());
        let event = Event::Ordered { pool, backend, order, until: None, keep: false, by };
        control.handle(event, Instant::START);
        while control.poll_output().is_some() {}
        route::report(&control.snapshot(), ListenerId(0), &get("a", "/"), None)
    };
    let one = sent(order("10.0.0.1:80", Order::Drain));
    assert_eq!(one.pick, Pick::Backend("10.0.0.2:80".parse().unwrap()));
    assert_eq!(one.aside, [("10.0.0.1:80".parse().unwrap(), "is drained")]);
    let none = order("10.0.0.2:80", Order::Maintain);
    assert_eq!(none.cause(), Some(Cause::AllBackendsDrained));
}

#[test]
fn what_else_may_decide_is_noted() {
    let sticky =
        Sticky { mode: StickyMode::Insert, cookie: "SERVERID".into(), max_age: None, drain_timeout: Duration::ZERO };
    let web = || Pool { sticky: Some(sticky.clone()), bounded_load: Some(125), ..pool("web", Schedule::Source) };
    let notes = |fields| {
        let request = Get { fields, ..get("a", "/") };
        sent(report(listener(Some(WEB), Vec::new()), vec![(web(), &[1, 1])], &request)).notes
    };
    let fresh = notes(Vec::new());
    assert_eq!(fresh.len(), 2);
    assert!(fresh[0].contains("with the cookie \"SERVERID\" of the answer"), "{fresh:?}");
    assert!(fresh[1].contains("125 %"), "{fresh:?}");
    assert!(notes(vec![("cookie", "SERVERID=x")])[0].contains("the backend it names comes first"));
}

#[test]
fn of_many_other_rules_a_few_are_shown_and_json_has_all() {
    let mut rules = vec![rule("a", "a", "/", Action::Pool(WEB))];
    rules.extend((0..25).map(|at| rule(&format!("r{at}"), "b", "/", Action::Pool(WEB))));
    let report = report(listener(None, rules), vec![(pool("web", Schedule::Wrr), &[1])], &get("a", "/"));
    assert!(route::text(&report).ends_with("           and 15 more; --json lists all\n"));
    let json: serde_json::Value = serde_json::from_str(&route::json(&report)).unwrap();
    assert_eq!(json["rules"].as_array().unwrap().len(), 26);
}
