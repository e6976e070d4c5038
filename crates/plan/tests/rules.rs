//! Which rule takes which request, as tables, and the same question asked of a matcher too simple to be wrong.
//!
//! The tables are what the manual promises; the property is what keeps the index honest about them.

use evenkeel_balance::hash;
use evenkeel_model::{Cause, PoolId};
use evenkeel_plan::{Action, Asked, HashOn, HeaderCondition, HeaderEdits, HostPattern, Miss, Reason, Rule, Rules};
use proptest::prelude::{Strategy, prop, prop_assert_eq, proptest};
use proptest::sample::select;

#[derive(Clone, Debug, Default)]
struct Request {
    method: &'static str,
    host: String,
    path: String,
    fields: Vec<(&'static str, &'static str)>,
}

impl Asked for Request {
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
        self.fields.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_bytes())
    }

    /// Whole values are enough here; the wire room reads real ones.
    fn cookie(&self, name: &str) -> Option<&[u8]> {
        self.header("cookie").find_map(|value| value.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }
}

fn get(host: &str, path: &str) -> Request {
    Request { method: "GET", host: host.into(), path: path.into(), fields: Vec::new() }
}

/// Named after its place, for any host and any path.
fn rule(name: &str) -> Rule {
    Rule {
        name: name.into(),
        hosts: Vec::new(),
        path: "/".into(),
        methods: Vec::new(),
        headers: Vec::new(),
        action: Action::Pool(PoolId(0)),
        rewrite_path: None,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        response_timeout: None,
        body_timeout: None,
        try_timeout: None,
        retries: None,
    }
}

/// `"www.example.com *.example.com/api"` as an operator would say it, named so too.
fn of(text: &str) -> Rule {
    let at = text.find('/').unwrap_or(text.len());
    let (hosts, path) = text.split_at(at);
    let pattern = |host: &str| match host.strip_prefix("*.") {
        Some(behind) => HostPattern::Wildcard(behind.into()),
        None => HostPattern::Exact(host.into()),
    };
    Rule { hosts: hosts.split_whitespace().map(pattern).collect(), path: path.into(), ..rule(text) }
}

fn rules(texts: &[&str]) -> Rules {
    Rules::new(texts.iter().map(|text| of(text)).collect())
}

fn taken<'r>(rules: &'r Rules, request: &Request) -> Result<&'r str, Miss> {
    rules.route(request).map(|rule| &*rule.name)
}

fn condition(name: &str, value: Option<&str>) -> HeaderCondition {
    HeaderCondition { name: name.into(), value: value.map(Into::into) }
}

#[test]
fn the_narrowest_host_wins_then_the_longest_path() {
    let rules = rules(&[
        "/",
        "/assets",
        "*.com/",
        "*.example.com/",
        "*.example.com/api",
        "*.eu.example.com/",
        "www.example.com/shop",
        "www.example.com/shop/cart",
        "example.com mail.example.com/",
    ]);
    let table = [
        ("www.example.com", "/shop", Ok("www.example.com/shop")),
        ("www.example.com", "/shop/cart", Ok("www.example.com/shop/cart")),
        ("www.example.com", "/shop/cart/1?x=/y", Ok("www.example.com/shop/cart")),
        ("www.example.com", "/shop/carts", Ok("www.example.com/shop")),
        // The host has rules of its own, so its wildcard is not asked; rules for any host are.
        ("www.example.com", "/api", Ok("/")),
        ("www.example.com", "/assets/x.css", Ok("/assets")),
        ("api.example.com", "/api/v1", Ok("*.example.com/api")),
        ("api.example.com", "/apiary", Ok("*.example.com/")),
        // A longer path of any host does not beat the host.
        ("api.example.com", "/assets", Ok("*.example.com/")),
        ("a.b.example.com", "/api", Ok("*.example.com/api")),
        ("a.eu.example.com", "/api", Ok("*.eu.example.com/")),
        // The star stands for at least one label.
        ("eu.example.com", "/", Ok("*.example.com/")),
        ("example.com", "/", Ok("example.com mail.example.com/")),
        ("mail.example.com", "/api", Ok("example.com mail.example.com/")),
        ("notexample.com", "/", Ok("*.com/")),
        ("com", "/", Ok("/")),
        (".com", "/", Ok("/")),
        ("elsewhere.org", "/x", Ok("/")),
        ("", "/x", Ok("/")),
    ];
    for (host, path, expected) in table {
        assert_eq!(taken(&rules, &get(host, path)), expected, "{host}{path}");
    }
}

#[test]
fn a_host_is_compared_without_case_port_and_final_dot() {
    let rules = rules(&["www.example.com/", "*.example.org/", "192.0.2.1/", "[2001:db8::1]/"]);
    let table = [
        ("WWW.Example.COM", Ok("www.example.com/")),
        ("www.example.com:8080", Ok("www.example.com/")),
        ("www.example.com.", Ok("www.example.com/")),
        ("www.example.com.:443", Ok("www.example.com/")),
        ("A.EXAMPLE.ORG.:80", Ok("*.example.org/")),
        ("192.0.2.1:80", Ok("192.0.2.1/")),
        ("[2001:DB8::1]:443", Ok("[2001:db8::1]/")),
        ("[2001:db8::1]", Ok("[2001:db8::1]/")),
        // Nothing that a head parser lets through; none of it may panic or match.
        ("www.example.com..", Err(Miss::Host)),
        ("[2001:db8::1", Err(Miss::Host)),
        (":80", Err(Miss::Host)),
        (".", Err(Miss::Host)),
        ("", Err(Miss::Host)),
        (".example.org", Err(Miss::Host)),
        ("xwww.example.com", Err(Miss::Host)),
    ];
    for (host, expected) in table {
        assert_eq!(taken(&rules, &get(host, "/")), expected, "{host}");
    }
}

#[test]
fn a_host_longer_than_any_name_is_nobodys() {
    let rules = rules(&["*.example.com/"]);
    let labels = |count| format!("{}example.com", "a.".repeat(count));
    assert_eq!(taken(&rules, &get(&labels(122), "/")), Ok("*.example.com/"));
    assert_eq!(taken(&rules, &get(&labels(123), "/")), Err(Miss::Host));
    assert_eq!(taken(&rules, &get(&"a.".repeat(20_000), "/")), Err(Miss::Host));
}

#[test]
fn a_path_matches_whole_segments_and_without_its_query() {
    let rules = rules(&["a/api", "a/api/", "a/api/v1", "a/apis/x"]);
    let table = [
        ("/api", Ok("a/api")),
        ("/api?x=1", Ok("a/api")),
        ("/api?/v1", Ok("a/api")),
        ("/api/", Ok("a/api/")),
        ("/api/x", Ok("a/api/")),
        ("/api/v1", Ok("a/api/v1")),
        ("/api/v1?", Ok("a/api/v1")),
        ("/api/v1/", Ok("a/api/v1")),
        ("/api/v10", Ok("a/api/")),
        ("/apis/x/y", Ok("a/apis/x")),
        ("/apis", Err(Miss::Rule)),
        ("/ap", Err(Miss::Rule)),
        ("/API", Err(Miss::Rule)),
        ("/", Err(Miss::Rule)),
        ("", Err(Miss::Rule)),
        ("*", Err(Miss::Rule)),
    ];
    for (path, expected) in table {
        assert_eq!(taken(&rules, &get("a", path)), expected, "{path}");
    }
}

// docs/decisions/0015: rule and backend see the same text. What a backend makes of it is the backend's to guard.
#[test]
fn a_path_is_compared_as_it_is_sent_on() {
    let rules = rules(&["a/", "a/admin", "a/public"]);
    let table = [
        ("/public/../admin", "a/public"),
        ("/public/./x", "a/public"),
        ("/public/%2e%2e/admin", "a/public"),
        ("/public%2f..%2fadmin", "a/"),
        ("/%61dmin", "a/"),
        ("//admin", "a/"),
        ("/./admin", "a/"),
        ("/admin//x", "a/admin"),
        ("/admin%2fx", "a/"),
        ("/admin;v=1", "a/"),
        ("/admin\\x", "a/"),
    ];
    for (path, expected) in table {
        assert_eq!(taken(&rules, &get("a", path)), Ok(expected), "{path}");
    }
}

#[test]
fn the_server_as_a_whole_is_its_root() {
    let request = Request { method: "OPTIONS", ..get("a", "*") };
    assert_eq!(taken(&rules(&["a/x", "a/"]), &request), Ok("a/"));
}

#[test]
fn conditions_are_tried_in_the_order_of_their_number_then_of_the_file() {
    let with = |name: &str, path: &str, methods: &[&str], headers: &[HeaderCondition]| Rule {
        path: path.into(),
        methods: methods.iter().map(|&method| method.into()).collect(),
        headers: headers.to_vec(),
        ..rule(name)
    };
    let beta = condition("x-beta", Some("1"));
    let debug = condition("x-debug", None);
    let rules = Rules::new(vec![
        with("plain", "/api", &[], &[]),
        with("plain again", "/api", &[], &[]),
        with("post", "/api", &["POST", "PUT"], &[]),
        with("beta", "/api", &[], std::slice::from_ref(&beta)),
        with("beta post", "/api", &["POST"], std::slice::from_ref(&beta)),
        with("beta and debug", "/api", &[], &[beta, debug.clone()]),
        with("deep debug", "/api/deep", &[], &[debug]),
    ]);
    let ask = |method, path, fields: &[(&'static str, &'static str)]| {
        let request = Request { method, fields: fields.to_vec(), ..get("any", path) };
        taken(&rules, &request).map(str::to_string)
    };
    let table: [(_, _, &[_], _); 13] = [
        ("GET", "/api", &[], "plain"),
        ("PUT", "/api", &[], "post"),
        // Methods are case-sensitive.
        ("put", "/api", &[], "plain"),
        ("GET", "/api", &[("x-beta", "1")], "beta"),
        ("GET", "/api", &[("X-Beta", "1")], "beta"),
        ("GET", "/api", &[("x-beta", "2")], "plain"),
        ("GET", "/api", &[("x-beta", "2"), ("x-beta", "1")], "beta"),
        ("GET", "/api", &[("x-debug", "")], "plain"),
        ("PUT", "/api", &[("x-beta", "1")], "post"),
        ("POST", "/api", &[("x-beta", "1")], "beta post"),
        // Two conditions each: the order of the file.
        ("POST", "/api", &[("x-beta", "1"), ("x-debug", "on")], "beta post"),
        ("GET", "/api", &[("x-debug", ""), ("x-beta", "1")], "beta and debug"),
        // The longer path does not hold, so the next shorter one is asked.
        ("GET", "/api/deep/x", &[("x-beta", "1")], "beta"),
    ];
    for (method, path, fields, expected) in table {
        assert_eq!(ask(method, path, fields), Ok(expected.to_string()), "{method} {path} {fields:?}");
    }
    assert_eq!(ask("GET", "/api/deep/x", &[("x-debug", "")]), Ok("deep debug".to_string()));
    assert_eq!(ask("GET", "/", &[]), Err(Miss::Rule));
}

#[test]
fn a_miss_says_whether_it_was_the_host() {
    let named = rules(&["www.example.com/shop"]);
    assert_eq!(taken(&named, &get("other.example.com", "/shop")), Err(Miss::Host));
    assert_eq!(taken(&named, &get("www.example.com", "/")), Err(Miss::Rule));
    // A rule for any host does not make every host a configured one.
    let both = rules(&["www.example.com/shop", "/healthz"]);
    assert_eq!(taken(&both, &get("other.example.com", "/shop")), Err(Miss::Host));
    assert_eq!(taken(&both, &get("other.example.com", "/healthz")), Ok("/healthz"));
    assert_eq!(taken(&both, &get("www.example.com", "/")), Err(Miss::Rule));
    // Where no rule names a host, it was not the host.
    assert_eq!(taken(&rules(&["/api"]), &get("other.example.com", "/shop")), Err(Miss::Rule));
    assert_eq!(taken(&Rules::default(), &get("a", "/")), Err(Miss::Host));
    assert_eq!(Miss::Host.cause(), Cause::HostNotConfigured);
    assert_eq!(Miss::Rule.cause(), Cause::RuleNotFound);
}

#[test]
fn a_rule_that_names_a_host_twice_counts_once() {
    let rules = Rules::new(vec![of("a a *.b *.b/")]);
    assert_eq!(taken(&rules, &get("a", "/")), Ok("a a *.b *.b/"));
    assert_eq!(rules.explain(&get("x.b", "/")).len(), 1);
}

#[test]
fn a_key_is_what_the_request_has_of_it_and_never_empty() {
    let request = Request { fields: vec![("X-User", "ann"), ("X-User", "bob"), ("Cookie", "s=1")], ..get("a", "/x?y") };
    let empty = Request { fields: vec![("x-user", ""), ("cookie", "s=")], ..get("a", "/x?y") };
    let of = |text: &str| Some(hash::of_bytes(text.as_bytes()));
    let table = [
        (HashOn::Address, None, None),
        (HashOn::Header("x-user".into()), of("ann"), None),
        (HashOn::Header("x-other".into()), None, None),
        (HashOn::Cookie("s".into()), of("1"), None),
        (HashOn::Cookie("S".into()), None, None),
        (HashOn::Uri, of("/x?y"), of("/x?y")),
    ];
    for (hash_on, expected, of_empty) in table {
        assert_eq!(hash_on.key(&request), expected, "{hash_on:?}");
        assert_eq!(hash_on.key(&empty), of_empty, "{hash_on:?}");
    }
}

#[test]
fn every_rule_has_its_reason() {
    let with_method = Rule { methods: vec!["POST".into()], ..of("www.example.com/shop") };
    let with_field = Rule { headers: vec![condition("x-a", None)], ..of("www.example.com/shop") };
    let with_value = Rule { headers: vec![condition("x-b", Some("1"))], ..of("www.example.com/shop") };
    let with_both =
        Rule { headers: vec![condition("x-b", Some("2"))], name: "winner".into(), ..of("www.example.com/shop") };
    let names = |mut rule: Rule, name: &str| {
        rule.name = name.into();
        rule
    };
    let rules = Rules::new(vec![
        names(of("/shop"), "any"),
        names(of("*.example.com/shop"), "wild"),
        names(of("other.example.com/shop"), "other"),
        names(of("www.example.com/"), "root"),
        names(of("www.example.com/cart"), "cart"),
        names(of("www.example.com/shop"), "plain"),
        names(of("www.example.com/shop"), "plain again"),
        names(with_method, "post"),
        names(with_field, "x-a"),
        names(with_value, "x-b"),
        with_both,
        names(Rule { headers: vec![condition("x-b", None)], ..of("www.example.com/shop") }, "x-b again"),
    ]);
    let request = Request { fields: vec![("X-B", "2")], ..get("www.example.com", "/shop") };
    let told: Vec<(String, String)> = rules
        .explain(&request)
        .iter()
        .map(|candidate| (candidate.rule.name.to_string(), candidate.reason.to_string()))
        .collect();
    let expected = [
        ("winner", "it has the narrowest host, then the longest path, then the most conditions"),
        ("x-b again", "it would take the request, but \"winner\" asks for as much and comes first in the file"),
        ("plain", "it would take the request, but \"winner\" has the same host and path and more conditions"),
        ("plain again", "it would take the request, but \"winner\" has the same host and path and more conditions"),
        ("root", "it would take the request, but the path of \"winner\" is longer"),
        ("any", "it would take the request, but it is for any host and \"winner\" names this one"),
        ("wild", "there are rules for \"www.example.com\", which is narrower, and so only those are asked"),
        ("other", "it is for other hosts"),
        ("cart", "it is for other paths"),
        ("post", "it is for other methods"),
        ("x-a", "it wants a field \"x-a\""),
        ("x-b", "it wants the field \"x-b\" to be \"1\""),
    ];
    let expected: Vec<(String, String)> =
        expected.iter().map(|(name, reason)| ((*name).to_string(), (*reason).to_string())).collect();
    assert_eq!(told, expected);
}

/// The promise, word for word and rule by rule.
fn naive(rules: &[Rule], request: &Request) -> Result<usize, Miss> {
    let host = request.host.to_lowercase();
    let host = host.split(':').next().unwrap_or_default();
    let host = host.strip_suffix('.').unwrap_or(host);
    let narrowness = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(exact) => (**exact == *host).then_some(usize::MAX),
        HostPattern::Wildcard(behind) => {
            let dotted = format!(".{behind}");
            (host.ends_with(&dotted) && host.len() > dotted.len()).then_some(behind.len())
        }
    };
    let narrowness = |rule: &Rule| rule.hosts.iter().filter_map(narrowness).max();
    let narrowest = rules.iter().filter_map(narrowness).max();
    let path = request.path.split('?').next().unwrap_or_default();
    let takes = |rule: &Rule| {
        let prefix = &*rule.path;
        let whole = path == prefix
            || path.starts_with(prefix) && prefix.ends_with('/')
            || path.starts_with(&format!("{prefix}/"));
        let method = rule.methods.is_empty() || rule.methods.iter().any(|method| **method == *request.method);
        let headers = rule.headers.iter().all(|condition| {
            request.fields.iter().any(|(name, value)| {
                *name == &*condition.name && condition.value.as_deref().is_none_or(|wanted| wanted == *value)
            })
        });
        whole && method && headers
    };
    let best = |of_host: &dyn Fn(&Rule) -> bool| {
        let numbered = rules.iter().enumerate();
        let fitting = numbered.filter(|(_, rule)| of_host(rule) && takes(rule));
        let conditions = |rule: &Rule| rule.headers.len() + usize::from(!rule.methods.is_empty());
        let best = fitting.max_by_key(|(at, rule)| (rule.path.len(), conditions(rule), std::cmp::Reverse(*at)));
        best.map(|(at, _)| at)
    };
    let named = |rule: &Rule| narrowest.is_some() && narrowness(rule) == narrowest;
    let nameless = |rule: &Rule| rule.hosts.is_empty();
    let hosts_matter = rules.is_empty() || !rules.iter().all(nameless);
    let miss = if narrowest.is_none() && hosts_matter { Miss::Host } else { Miss::Rule };
    best(&named).or_else(|| best(&nameless)).ok_or(miss)
}

const NAMES: &[&str] = &["a", "b.a", "c.b.a", "d.c.b.a", "b", "c.b"];
const PATHS: &[&str] = &["/", "/x", "/x/", "/x/y", "/xy", "/x/y/z", "/x-y", "/x.y"];
const FIELDS: &[(&str, &str)] = &[("p", "1"), ("p", "2"), ("q", "1")];

fn some_rule() -> impl Strategy<Value = Rule> {
    let host = (select(NAMES), prop::bool::ANY).prop_map(|(name, wild)| {
        if wild { HostPattern::Wildcard(name.into()) } else { HostPattern::Exact(name.into()) }
    });
    let header = (select(FIELDS), prop::bool::ANY)
        .prop_map(|((name, value), exactly)| condition(name, exactly.then_some(value)));
    let hosts = prop::collection::vec(host, 0..3);
    let methods = prop::collection::vec(select(&["GET", "PUT"][..]).prop_map(Box::from), 0..2);
    let headers = prop::collection::vec(header, 0..3);
    (hosts, select(PATHS), methods, headers).prop_map(|(hosts, path, methods, headers)| Rule {
        hosts,
        path: path.into(),
        methods,
        headers,
        ..rule("")
    })
}

fn some_request() -> impl Strategy<Value = Request> {
    let host = (select(NAMES), select(&["", "z.", "Y.z."][..]), select(&["", ".", ":80", ".:80"][..]))
        .prop_map(|(name, front, end)| format!("{front}{}{end}", name.to_uppercase()));
    let path = (select(PATHS), select(&["", "/", "/y", "y", "?x/y", "/y/zz"][..]))
        .prop_map(|(path, more)| format!("{path}{more}"));
    let fields = prop::collection::vec(select(FIELDS), 0..3);
    (select(&["GET", "PUT", "HEAD"][..]), host, path, fields).prop_map(|(method, host, path, fields)| Request {
        method,
        host,
        path,
        fields,
    })
}

proptest! {
    #[test]
    fn the_index_agrees_with_reading_every_rule(
        list in prop::collection::vec(some_rule(), 0..12),
        requests in prop::collection::vec(some_request(), 1..20),
    ) {
        let list: Vec<Rule> =
            list.into_iter().enumerate().map(|(at, rule)| Rule { name: at.to_string().into(), ..rule }).collect();
        let rules = Rules::new(list.clone());
        for request in requests {
            let expected = naive(&list, &request).map(|at| at.to_string());
            prop_assert_eq!(taken(&rules, &request).map(str::to_string), expected, "{:?}", request);

            // What is explained is what happens, and each reason is true of its rule by itself.
            let explained = rules.explain(&request);
            prop_assert_eq!(explained.len(), list.len());
            let winners = explained.iter().filter(|candidate| candidate.reason == Reason::Taken);
            let winner = winners.map(|candidate| &*candidate.rule.name).next();
            prop_assert_eq!(winner, taken(&rules, &request).ok(), "{:?}", request);
            for candidate in &explained {
                let alone = Rules::new(vec![candidate.rule.clone()]);
                let would_take = candidate.reason == Reason::Taken
                    || candidate.reason.is_runner_up()
                    || matches!(candidate.reason, Reason::WiderHost { .. });
                prop_assert_eq!(alone.route(&request).is_ok(), would_take, "{:?}", candidate);
            }
        }
    }
}
