//! Nanoseconds per question to the rules of a listener, with 10 and with 10,000 rules.
//!
//! `cargo run --release -p evenkeel-plan --example route_cost`. An example and not a test, because a figure that depends
//! on the machine is something to look at and nothing to fail on.

use std::hint::black_box;
use std::time::Instant;

use evenkeel_model::PoolId;
use evenkeel_plan::{Action, Asked, HeaderEdits, HostPattern, Rule, Rules};

const QUESTIONS: u32 = 1_000_000;

struct Request {
    host: String,
    path: String,
}

impl Asked for Request {
    fn host(&self) -> &[u8] {
        self.host.as_bytes()
    }

    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn method(&self) -> &[u8] {
        b"GET"
    }

    fn header(&self, _name: &str) -> impl Iterator<Item = &[u8]> {
        std::iter::empty()
    }

    fn cookie(&self, _name: &str) -> Option<&[u8]> {
        None
    }
}

fn main() {
    println!("{:<34}{:>10}{:>14}{:>16}", "rules", "number", "ns/question", "ms to prepare");
    for number in [10, 10_000] {
        measure("a host each", number, |at| (exact(at), "/".into()));
        measure("a wildcard each", number, |at| {
            (HostPattern::Wildcard(format!("{at}.example.com").into()), "/".into())
        });
        measure("one host, a path each", number, |at| (exact(0), format!("/service/{at}")));
        measure("one host, paths below each other", number, |at| (exact(0), "/a".repeat(1 + at % 50)));
    }
}

fn exact(at: usize) -> HostPattern {
    HostPattern::Exact(format!("{at}.example.com").into())
}

fn measure(what: &str, number: usize, of: impl Fn(usize) -> (HostPattern, String)) {
    let rule = |at: usize| {
        let (host, path) = of(at);
        Rule {
            name: at.to_string().into(),
            hosts: vec![host],
            path: path.into(),
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
    };
    let list: Vec<Rule> = (0..number).map(rule).collect();
    let requests: Vec<Request> = (0..1024)
        .map(|at| {
            let rule = &list[at * 7919 % number];
            let host = match &rule.hosts[0] {
                HostPattern::Exact(host) => format!("{host}:8080"),
                HostPattern::Wildcard(behind) => format!("www.{behind}"),
            };
            Request { host, path: format!("{}/and/more?than=that", rule.path.trim_end_matches('/')) }
        })
        .collect();

    let started = Instant::now();
    let rules = Rules::new(list);
    let prepared = started.elapsed();

    let started = Instant::now();
    for question in 0..QUESTIONS {
        let request = &requests[question as usize % requests.len()];
        black_box(rules.route(black_box(request)).is_ok());
    }
    let each = started.elapsed().as_nanos() as f64 / f64::from(QUESTIONS);
    println!("{what:<34}{number:>10}{each:>14.1}{:>16.2}", prepared.as_secs_f64() * 1e3);
}
