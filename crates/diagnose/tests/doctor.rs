//! Facts of each fault an operator may meet, and the judgement they must come to: whose error, which cause.
//!
//! One row is one fault as the lab shows it, with two backends behind a listener. A row says what clients saw and what the
//! backends did when asked straight; what is not said is well.

use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_diagnose::doctor::facts::{
    Answer, Backend, Begins, Certificate, Check, CheckStanding, Connect, End, Facts, Failure, Finding, Handshake, Host,
    Listener, Looks, Node, Outcome as Came, Pool, ProbeLike, Question, Relayed, Resolution, Scheme, Standing, Told,
    Try,
};
use evenkeel_diagnose::doctor::{Confidence, Extra, Mark, Outcome, Whose, diagnose, report, text};
use evenkeel_model::Cause;

const NOW: u64 = 1_795_368_695;
const DAY: i64 = 86_400;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 80))
}

fn came(outcome: Came, took: Duration) -> Try {
    let head = matches!(outcome, Came::Answered(_)).then_some(took);
    Try { connected: Some(ms(1)), head, whole: took, outcome }
}

fn status(status: u16) -> Answer {
    Answer { status, head_bytes: 100, body_bytes: 3, ..Answer::default() }
}

fn answered(answer: Answer) -> Try {
    came(Came::Answered(answer), ms(5))
}

fn good() -> Try {
    answered(status(200))
}

fn failed(failure: Failure) -> Try {
    came(Came::Failed(failure), ms(5))
}

/// An answer of the balancer's own.
fn explained(cause: Cause) -> Try {
    let entry = cause.entry();
    let field = format!("evenkeel; error={}; details=\"{}\"", entry.token.unwrap_or("x"), entry.code);
    let fields = vec![("Proxy-Status".to_owned(), field)];
    answered(Answer { fields, looks: Looks::Evenkeel, ..status(entry.status.unwrap_or(500)) })
}

/// A backend's own error, as the balancer marks it.
fn passed_on(code: u16, looks: Looks) -> Try {
    let fields = vec![("Proxy-Status".to_owned(), format!("evenkeel; received-status={code}"))];
    answered(Answer { fields, looks, ..status(code) })
}

fn nginx(code: u16, took: Duration) -> Try {
    came(Came::Answered(Answer { looks: Looks::NginxError, ..status(code) }), took)
}

fn cut(end: End) -> Try {
    answered(Answer { end, ..status(200) })
}

fn backend(number: u8, straight: Try) -> Backend {
    let standing = Standing {
        verdict: "healthy".into(),
        order: "serve".into(),
        weight: 100,
        effective_weight: 100,
        ..Standing::default()
    };
    let refused = match &straight.outcome {
        Came::Failed(failure @ (Failure::Refused | Failure::NoAnswerToSyn | Failure::Unreachable { .. })) => {
            Err(failure.clone())
        }
        _ => Ok(ms(1)),
    };
    Backend {
        standing: Some(standing),
        connects: vec![Connect { to: at(number), from: None, result: refused }],
        probe: Some(probe(good(), true)),
        straight: vec![straight],
        ..Backend::new(at(number))
    }
}

fn probe(seen: Try, passes: bool) -> ProbeLike {
    ProbeLike { method: "HEAD".into(), path: "/health".into(), host: Some("10.0.0.1:80".into()), seen, passes }
}

/// A node here, a listener, a pool of two good backends, and five requests that came to `through`.
fn facts(through: Try) -> Facts {
    let url = "http://shop.example/cart";
    Facts {
        question: Question {
            url: url.into(),
            method: "GET".into(),
            authority: "shop.example".into(),
            host: "shop.example".into(),
            port: 80,
            path: "/cart".into(),
            head_bytes: 100,
            timeout: ms(30_000),
            ..Question::default()
        },
        now: NOW,
        name: Some(Resolution::Found(vec![at(9).ip()])),
        connects: vec![Connect { to: at(9), from: None, result: Ok(ms(1)) }],
        through: vec![through; 5],
        node: Node::Answered(Box::new(Told {
            place: "127.0.0.1:9900".into(),
            is_here: true,
            time: Some(NOW),
            ..Told::default()
        })),
        listener: Some(Listener {
            name: "web".into(),
            protocol: "http".into(),
            header_limit: 32 << 10,
            ..Listener::default()
        }),
        pool: Some(Pool {
            name: "shop".into(),
            backends: 2,
            connect_timeout: ms(5000),
            response_timeout: ms(10_000),
            body_timeout: ms(60_000),
            idle_timeout: ms(60_000),
            retries: 2,
            header_limit: 32 << 10,
            checks: vec![Check { name: "http".into(), kind: "http".into(), ..Check::default() }],
            ..Pool::default()
        }),
        backends: vec![backend(1, good()), backend(2, good())],
        host: Some(Host { accept_queue: Some(4096), ..Host::default() }),
        ..Facts::default()
    }
}

/// The same with both backends as `straight` when asked without the balancer.
fn both(through: Try, straight: Try) -> Facts {
    Facts { backends: vec![backend(1, straight.clone()), backend(2, straight)], ..facts(through) }
}

/// One backend is bad; the balancer met it twice in five.
fn one(through: Try, straight: Try) -> Facts {
    let mut facts = Facts { backends: vec![backend(1, straight), backend(2, good())], ..facts(good()) };
    facts.through[1] = through.clone();
    facts.through[3] = through;
    facts
}

fn unhealthy(mut facts: Facts, finding: &str) -> Facts {
    for backend in &mut facts.backends {
        let failed = Finding { result: "failed".into(), text: finding.into(), ..Finding::default() };
        let check = CheckStanding { name: "http".into(), verdict: "unhealthy".into(), recent: vec![failed] };
        let standing = backend.standing.get_or_insert_with(Standing::default);
        standing.verdict = "unhealthy".into();
        standing.checks = vec![check];
    }
    facts.pool = facts.pool.map(|pool| Pool { refusal: Some("all_backends_unhealthy".into()), ..pool });
    facts
}

fn with(mut facts: Facts, change: impl FnOnce(&mut Facts)) -> Facts {
    change(&mut facts);
    facts
}

fn each(facts: Facts, change: impl Fn(&mut Backend)) -> Facts {
    with(facts, |facts| facts.backends.iter_mut().for_each(change))
}

fn certificate(subject: &str, until: i64) -> Handshake {
    let now = NOW as i64;
    let leaf = Certificate {
        subject: subject.into(),
        issuer: "CN=authority".into(),
        names: vec!["shop.example".into()],
        not_before: now - 400 * DAY,
        not_after: now + until,
    };
    Handshake {
        name: Some("shop.example".into()),
        chain: vec![leaf],
        version: Some("TLSv1_3".into()),
        ..Handshake::default()
    }
}

struct Row {
    name: &'static str,
    facts: Facts,
    outcome: Outcome,
    cause: Option<Cause>,
    /// What a reader has to find in sentence, evidence or advice.
    says: &'static [&'static str],
}

fn row(
    name: &'static str,
    facts: Facts,
    whose: Whose,
    cause: impl Into<Option<Cause>>,
    says: &'static [&'static str],
) -> Row {
    Row { name, facts, outcome: Outcome::Fault(whose), cause: cause.into(), says }
}

fn rows() -> Vec<Row> {
    use Cause as C;
    use Whose::{Backend as B, Balancer, Client, Network, Operator, Rule};
    let php_missing = answered(Answer { looks: Looks::PhpNotFound, ..status(404) });
    let mut rows = vec![
        // php-fpm behind nginx.
        row(
            "php-fpm: children exhausted",
            each(both(passed_on(504, Looks::NginxError), nginx(504, ms(3000))), |backend| {
                backend.neighbour = Some(nginx(504, ms(3000)))
            }),
            B,
            C::BackendAnsweredError,
            &[
                "all workers of its application are busy",
                "pm.max_children",
                "the probes see a page that does not need what fails",
            ],
        ),
        row(
            "php-fpm: children exhausted, our timeout is the shorter one",
            each(
                both(explained(C::BackendResponseTimeout), came(Came::Failed(Failure::Silent), ms(20_000))),
                |backend| {
                    backend.neighbour = Some(failed(Failure::Silent));
                },
            ),
            B,
            C::BackendResponseTimeout,
            &["all workers of the application are busy", "response_timeout"],
        ),
        row(
            "php-fpm: request_terminate_timeout",
            each(both(passed_on(502, Looks::NginxError), nginx(502, ms(2000))), |backend| {
                backend.neighbour = Some(php_missing.clone())
            }),
            B,
            C::BackendAnsweredError,
            &["request_terminate_timeout", "the application runs"],
        ),
        row(
            "php-fpm: down while the static page is fine",
            each(both(passed_on(502, Looks::NginxError), nginx(502, ms(1))), |backend| {
                backend.neighbour = Some(nginx(502, ms(1)))
            }),
            B,
            C::BackendAnsweredError,
            &["is down", "[pool.passive]", "the check's request HEAD /health passes there"],
        ),
        row(
            "php-fpm: down on one of two",
            one(passed_on(502, Looks::NginxError), nginx(502, ms(1))),
            B,
            C::BackendAnsweredError,
            &["One of 2 backends, 10.0.0.1:80,", "10.0.0.2:80 answers well", "2 times in 5"],
        ),
        row(
            "php-fpm: child killed, or header over nginx's buffer",
            each(both(passed_on(502, Looks::NginxError), nginx(502, ms(5))), |backend| {
                backend.neighbour = Some(php_missing.clone())
            }),
            B,
            C::BackendAnsweredError,
            &["its worker dies of this script", "too big header"],
        ),
        row(
            "application error",
            both(passed_on(500, Looks::Other), answered(status(500))),
            B,
            C::BackendAnsweredError,
            &["the application fails by itself"],
        ),
        row(
            "page that ends in an error of PHP, with status 200",
            both(
                answered(Answer { looks: Looks::PhpError, ..status(200) }),
                answered(Answer { looks: Looks::PhpError, ..status(200) }),
            ),
            B,
            C::BackendAnsweredError,
            &["the script itself fails"],
        ),
        // Heads and times.
        row(
            "header over ours",
            both(
                explained(C::BackendHeaderTooLarge),
                answered(Answer {
                    head_bytes: 40_000,
                    refused: Some((C::BackendHeaderTooLarge, "response head is larger than header_limit".into())),
                    fields: vec![("Set-Cookie".into(), "x".repeat(39_000))],
                    ..status(200)
                }),
            ),
            B,
            C::BackendHeaderTooLarge,
            &["a head of 40000 bytes", "takes 32768", "Set-Cookie with 39000 bytes"],
        ),
        row(
            "answer slower than our timeout",
            both(explained(C::BackendResponseTimeout), came(Came::Answered(status(200)), ms(12_000))),
            B,
            C::BackendResponseTimeout,
            &["answers, but only after 12.0 s", "waits 10.0 s"],
        ),
        // Bodies.
        row("stall in mid-body", both(cut(End::Short), cut(End::Stalled)), B, C::BackendBodyTimeout, &["body_timeout"]),
        row(
            "reset in mid-body",
            both(cut(End::Reset), cut(End::Reset)),
            B,
            C::BackendResetMidResponse,
            &["in the middle of its answer"],
        ),
        row(
            "chunk cut",
            both(cut(End::Short), cut(End::Short)),
            B,
            C::BackendResetMidResponse,
            &["before it is whole"],
        ),
        row(
            "broken chunks",
            both(cut(End::Short), cut(End::BrokenChunks)),
            B,
            C::BackendMalformedBody,
            &["chunks that cannot be read"],
        ),
        // Connections.
        row(
            "refused",
            both(explained(C::BackendConnectRefused), failed(Failure::Refused)),
            B,
            C::BackendConnectRefused,
            &["nothing listens on that port"],
        ),
        row(
            "dropped",
            both(explained(C::BackendConnectTimeout), failed(Failure::NoAnswerToSyn)),
            Network,
            C::BackendConnectTimeout,
            &["a firewall drops them"],
        ),
        row(
            "dropped, and the host answers pings",
            each(both(explained(C::BackendConnectTimeout), failed(Failure::NoAnswerToSyn)), |backend| {
                backend.echo = Some(true)
            }),
            Network,
            C::BackendConnectTimeout,
            &["is up and answers pings", "accept queue is full"],
        ),
        row(
            "prohibited by ICMP",
            both(
                explained(C::BackendUnreachable),
                failed(Failure::Unreachable { errno: 113, text: "No route to host (os error 113)".into() }),
            ),
            Network,
            C::BackendUnreachable,
            &["No route to host. The network"],
        ),
        row(
            "reset before an answer",
            both(explained(C::BackendResetBeforeResponse), failed(Failure::Reset)),
            B,
            C::BackendResetBeforeResponse,
            &["FastCGI"],
        ),
        row(
            "no HTTP",
            both(explained(C::BackendMalformedResponse), failed(Failure::NotHttp { begins: Begins::Ssh })),
            B,
            C::BackendMalformedResponse,
            &["is an SSH server"],
        ),
        row(
            "plain HTTP to a port of TLS that closes",
            both(explained(C::BackendMalformedResponse), failed(Failure::NotHttp { begins: Begins::Tls })),
            B,
            C::BackendMalformedResponse,
            &["add [pool.tls]"],
        ),
        row(
            "kept connections that the backend closes",
            facts(explained(C::BackendClosedBeforeResponse)),
            B,
            C::BackendClosedBeforeResponse,
            &["idle_timeout = 60.0 s", "it comes and goes"],
        ),
        // Who is asked, and as whom.
        row(
            "loop: the balancer is its own backend",
            with(both(explained(C::LoopDetected), explained(C::LoopDetected)), |facts| {
                facts.backends[0].is_listener = Some("web".into())
            }),
            Operator,
            C::LoopDetected,
            &["10.0.0.1:80 is listener \"web\" of this balancer", "take the balancer's own address out"],
        ),
        row(
            "loop: a backend calls the balancer",
            both(explained(C::LoopDetected), passed_on(508, Looks::Evenkeel)),
            Operator,
            C::LoopDetected,
            &["it calls the balancer"],
        ),
        row(
            "wrong Host",
            each(both(answered(status(404)), answered(status(404))), |backend| {
                backend.other_host = Some(("www.shop.example".into(), good()))
            }),
            Operator,
            None,
            &["know the site as \"www.shop.example\"", "server_name"],
        ),
        row(
            "wrong Host, and the backend hangs up",
            each(both(explained(C::BackendClosedBeforeResponse), failed(Failure::Closed)), |backend| {
                backend.other_host = Some(("www.shop.example".into(), good()));
            }),
            Operator,
            C::BackendClosedBeforeResponse,
            &["it knows the site by another name"],
        ),
        row(
            "plain HTTP to a port of TLS that says so",
            both(
                answered(Answer { looks: Looks::WantsTls, ..status(400) }),
                answered(Answer { looks: Looks::WantsTls, ..status(400) }),
            ),
            Operator,
            None,
            &["add [pool.tls]"],
        ),
        // Certificates of backends.
        row(
            "expired backend certificate",
            each(both(explained(C::BackendTlsFailed), failed(Failure::Tls("certificate expired".into()))), |backend| {
                backend.tls = Some(certificate("CN=shop", -3 * DAY));
            }),
            B,
            C::BackendTlsFailed,
            &["expired 3 days ago", "valid 2025-"],
        ),
        row(
            "backend certificate for another name",
            each(
                both(
                    explained(C::BackendTlsFailed),
                    failed(Failure::Tls("certificate not valid for name \"x\"".into())),
                ),
                |backend| {
                    backend.tls = Some(certificate("CN=shop", 30 * DAY));
                },
            ),
            B,
            C::BackendTlsFailed,
            &["is for shop.example and not for"],
        ),
        row(
            "TLS to a port without it",
            both(
                explained(C::BackendTlsFailed),
                failed(Failure::Tls("received corrupt message of type InvalidContentType".into())),
            ),
            Operator,
            C::BackendTlsFailed,
            &["does not speak TLS on that port"],
        ),
        // Checks.
        row(
            "firewall in the way of the probe source",
            unhealthy(
                each(facts(explained(C::AllBackendsUnhealthy)), |backend| {
                    let blocked = Connect {
                        to: backend.address,
                        from: Some("100.64.0.7".parse().expect("an address")),
                        result: Err(Failure::NoAnswerToSyn),
                    };
                    backend.connects.push(blocked);
                }),
                "connect timed out after 1s",
            ),
            Network,
            C::AllBackendsUnhealthy,
            &[
                "is in the way of the source address 100.64.0.7",
                "drops what comes from it",
                "connect timed out after 1s",
            ],
        ),
        row(
            "backends that are on their way back, and one that is still down",
            with(unhealthy(one(good(), failed(Failure::Refused)), "connect refused after 0.1ms"), |facts| {
                facts.through = vec![explained(C::AllBackendsUnhealthy); 5];
                let healed = facts.backends[1].standing.as_mut().expect("it has one");
                let passed = Finding { result: "passed".into(), text: "status 200".into(), ..Finding::default() };
                healed.checks[0].recent.insert(0, passed);
            }),
            B,
            C::AllBackendsUnhealthy,
            &["1 of 2 backends were down and are on their way back", "10.0.0.2:80 answers well", "10.0.0.1:80"],
        ),
        row(
            "the backends refuse the balancer's address",
            unhealthy(
                each(both(explained(C::AllBackendsUnhealthy), answered(status(403))), |backend| {
                    backend.probe = Some(probe(answered(status(403)), false));
                }),
                "status 403 is not expected",
            ),
            B,
            C::AllBackendsUnhealthy,
            &["answer 403 to everything that comes from here", "access lists"],
        ),
        row(
            "check with a wrong path",
            unhealthy(
                each(facts(explained(C::AllBackendsUnhealthy)), |backend| {
                    backend.probe = Some(probe(answered(status(404)), false));
                    backend.other_host = Some(("10.0.0.1:80".into(), good()));
                }),
                "status 404 is not expected",
            ),
            Operator,
            C::AllBackendsUnhealthy,
            &["The backends work", "choose a path that the application answers"],
        ),
        row(
            "check with a wrong Host",
            unhealthy(
                each(facts(explained(C::AllBackendsUnhealthy)), |backend| {
                    backend.probe = Some(probe(answered(status(404)), false));
                    backend.other_host = Some(("10.0.0.1:80".into(), answered(status(404))));
                }),
                "status 404 is not expected",
            ),
            Operator,
            C::AllBackendsUnhealthy,
            &["set the check's host to the name the site is known by: host = \"shop.example\""],
        ),
        row(
            "all down, and the checks have seen it",
            unhealthy(both(explained(C::AllBackendsUnhealthy), failed(Failure::Refused)), "connect refused"),
            B,
            C::AllBackendsUnhealthy,
            &["Each of the 2 backends refuses connections", "last probe of 10.0.0.1:80: connect refused"],
        ),
        // Orders, weights, limits.
        row(
            "drained",
            facts(explained(C::AllBackendsDrained)),
            Operator,
            C::AllBackendsDrained,
            &["evenkeel serve shop/10.0.0.1:80"],
        ),
        row("weights 0", facts(explained(C::NoBackendConfigured)), Operator, C::NoBackendConfigured, &["weight"]),
        row(
            "queue full",
            with(facts(explained(C::BackendQueueFull)), |facts| {
                facts.pool.as_mut().expect("it is set").backend_limit = Some(7)
            }),
            B,
            C::BackendQueueFull,
            &["backend_limit is 7"],
        ),
        row("overloaded", facts(explained(C::BalancerOverloaded)), Balancer, C::BalancerOverloaded, &["LimitNOFILE"]),
        // Rules and clients.
        row(
            "host not configured",
            facts(explained(C::HostNotConfigured)),
            Rule,
            C::HostNotConfigured,
            &["No rule of listener \"web\" names the host \"shop.example\""],
        ),
        row("path not configured", facts(explained(C::RuleNotFound)), Rule, C::RuleNotFound, &["none takes GET /cart"]),
        row(
            "access list",
            with(facts(explained(C::ClientDeniedByAcl)), |facts| {
                facts.listener.as_mut().expect("it is set").has_access_list = true;
                if let Node::Answered(told) = &mut facts.node {
                    told.causes = vec![("client_denied_by_acl".into(), 12)];
                }
            }),
            Operator,
            C::ClientDeniedByAcl,
            &["an access list", "turned away 12 so far", "only some clients are affected"],
        ),
        row("rate", facts(explained(C::ClientRateLimited)), Client, C::ClientRateLimited, &["others may be served"]),
        row(
            "head of the request too large",
            facts(explained(C::ClientHeaderTooLarge)),
            Client,
            C::ClientHeaderTooLarge,
            &["head has 100 bytes", "32768 bytes"],
        ),
        row(
            "plain HTTP to the https listener",
            facts(explained(C::TlsHandshakeFailed)),
            Client,
            C::TlsHandshakeFailed,
            &["ask with https://"],
        ),
        row(
            "the application wants a login",
            both(answered(status(401)), answered(status(401))),
            Client,
            None,
            &["--header"],
        ),
        // Before the balancer.
        row(
            "no such name",
            with(facts(good()), |facts| facts.name = Some(Resolution::Unknown("Name or service not known".into()))),
            Operator,
            None,
            &["has no address here", "--resolve shop.example:ADDRESS"],
        ),
        row(
            "name servers are silent",
            with(facts(good()), |facts| {
                facts.name = Some(Resolution::Failed("Temporary failure in name resolution".into()))
            }),
            Network,
            None,
            &["/etc/resolv.conf"],
        ),
        row(
            "an error in front of the balancer",
            facts(answered(status(503))),
            Network,
            None,
            &["lacks the Proxy-Status"],
        ),
        row(
            "nothing within our patience",
            with(facts(failed(Failure::Silent)), |facts| {
                facts.pool.as_mut().expect("it is set").response_timeout = ms(60_000)
            }),
            B,
            C::BackendResponseTimeout,
            &["--timeout 65s"],
        ),
        // Nobody felt it.
        row(
            "one backend refuses, and retries hide it",
            Facts { backends: vec![backend(1, failed(Failure::Refused)), backend(2, good())], ..facts(good()) },
            B,
            C::BackendConnectRefused,
            &["succeed, and yet", "One of 2 backends, 10.0.0.1:80", "retries = 2"],
        ),
    ];
    let refused = |result: Failure| {
        move |facts: &mut Facts| {
            facts.connects = vec![Connect { to: at(9), from: None, result: Err(result) }];
            facts.through = Vec::new();
        }
    };
    rows.push(row(
        "the port is closed",
        with(facts(good()), |facts| {
            refused(Failure::Refused)(facts);
            facts.node = Node::Absent { place: "x".into(), why: "refused".into() };
        }),
        Balancer,
        None,
        &["systemctl status evenkeel"],
    ));
    rows.push(row(
        "no listener there",
        with(facts(good()), |facts| {
            refused(Failure::Refused)(facts);
            facts.listener = None;
        }),
        Operator,
        None,
        &["has no listener there"],
    ));
    rows.push(row(
        "the packets are dropped",
        with(facts(good()), refused(Failure::NoAnswerToSyn)),
        Network,
        None,
        &["try from another network"],
    ));
    let https = |handshake: Handshake| {
        move |facts: &mut Facts| {
            facts.question.scheme = Scheme::Https;
            facts.tls = Some(handshake);
        }
    };
    rows.push(row(
        "no certificate for the name",
        with(facts(good()), |facts| {
            https(Handshake { failed: Some("received fatal alert: UnrecognisedName".into()), ..Handshake::default() })(
                facts,
            );
            facts.through.clear();
        }),
        Operator,
        C::TlsNoCertificateForName,
        &["No certificate of the listener covers \"shop.example\""],
    ));
    rows.push(row(
        "our certificate has expired",
        with(
            facts(good()),
            https(Handshake { untrusted: Some("certificate expired".into()), ..certificate("CN=shop", -2 * DAY) }),
        ),
        Operator,
        None,
        &["expired 2 days ago", "reload"],
    ));
    let relayed = |relayed: Relayed| came(Came::Relayed(relayed), ms(5));
    let tcp = |mut facts: Facts| {
        facts.question.scheme = Scheme::Tcp;
        facts
    };
    rows.push(row(
        "tcp: reset because all are unhealthy",
        tcp(unhealthy(both(relayed(Relayed::ResetAtOnce), failed(Failure::Refused)), "connect refused")),
        B,
        C::AllBackendsUnhealthy,
        &["refuses connections"],
    ));
    rows.push(row(
        "udp: nobody is offered",
        with(unhealthy(facts(good()), "no answer"), |facts| {
            facts.question.scheme = Scheme::Udp;
            facts.through.clear();
            facts.backends.iter_mut().for_each(|backend| backend.straight.clear());
        }),
        B,
        C::AllBackendsUnhealthy,
        &["the pool offers nobody", "last probe of 10.0.0.1:80: no answer"],
    ));
    rows.push(row(
        "tcp: reset by the access list",
        tcp(with(both(relayed(Relayed::ResetAtOnce), relayed(Relayed::Quiet)), |facts| {
            facts.listener.as_mut().expect("it is set").has_access_list = true
        })),
        Operator,
        C::ClientDeniedByAcl,
        &["an access list"],
    ));
    rows
}

#[test]
fn every_fault_comes_to_the_judgement_it_should() {
    let mut wrong = Vec::new();
    for Row { name, facts, outcome, cause, says } in rows() {
        let judgement = diagnose(&facts).judgement;
        let told = [std::slice::from_ref(&judgement.sentence), &judgement.evidence, &judgement.next, &judgement.beside]
            .concat()
            .join("\n");
        let missing: Vec<_> = says.iter().filter(|words| !told.contains(**words)).collect();
        if judgement.outcome != outcome || judgement.cause != cause || !missing.is_empty() {
            wrong
                .push(format!("{name}: {:?} {:?}, without {missing:?}:\n{told}\n", judgement.outcome, judgement.cause));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_works_is_said_to_work_and_what_was_not_seen_is_not_claimed() {
    let well = diagnose(&facts(good())).judgement;
    assert_eq!((well.outcome, well.confidence), (Outcome::NothingWrong, Confidence::Sure));
    let outside = with(facts(good()), |facts| {
        facts.node = Node::NotAsked;
        facts.backends.clear();
    });
    let outside = diagnose(&outside).judgement;
    assert_eq!((outside.outcome, outside.confidence), (Outcome::NothingWrong, Confidence::Likely));
    let unsent = diagnose(&with(facts(good()), |facts| facts.through.clear())).judgement;
    assert_eq!((unsent.outcome, unsent.confidence), (Outcome::CannotTell, Confidence::Guess));
    let here = failed(Failure::Here("too many open files".into()));
    assert_eq!(diagnose(&facts(here)).judgement.outcome, Outcome::CannotTell);
}

#[test]
fn backends_that_this_host_cannot_reach_are_not_accused_when_the_balancer_runs_elsewhere() {
    let far = with(both(good(), failed(Failure::NoAnswerToSyn)), |facts| facts.node = Node::NotAsked);
    assert_eq!(diagnose(&far).judgement.outcome, Outcome::NothingWrong);
}

#[test]
fn a_refusal_does_not_explain_an_answer_that_was_slow() {
    let mut facts = facts(explained(Cause::BackendResponseTimeout));
    facts.backends[0] = backend(1, failed(Failure::Refused));
    let judgement = diagnose(&facts).judgement;
    assert_eq!(judgement.cause, Some(Cause::BackendResponseTimeout));
    assert!(!judgement.sentence.contains("refuses"), "{}", judgement.sentence);
}

#[test]
fn every_cause_has_a_judgement_with_something_to_do_and_every_step_says_something() {
    for &cause in Cause::ALL {
        let diagnosis = diagnose(&facts(explained(cause)));
        let judgement = &diagnosis.judgement;
        assert!(matches!(judgement.outcome, Outcome::Fault(_)), "{}", cause.code());
        assert!(!judgement.next.is_empty() && !judgement.evidence.is_empty(), "{}", cause.code());
        for step in &diagnosis.steps {
            assert!(!step.seen.is_empty() || !step.means.is_empty(), "{}: step {}", cause.code(), step.name);
        }
        assert!(text(&diagnosis).lines().all(|line| line.chars().count() <= 100 || !line.trim().contains(' ')));
    }
}

#[test]
fn what_may_explain_it_besides_is_named() {
    let mut facts = facts(explained(Cause::BackendResponseTimeout));
    facts.host = Some(Host {
        rp_filter: vec![("eth0".into(), 1)],
        accept_queue: Some(128),
        overflows_meanwhile: Some(3),
        source_ports: Some((32768, 60999)),
        ports_in_use: Some(28_000),
        conntrack: Some((262_000, 262_144)),
        files: Some((1023, 1024)),
        abort_on_overflow: Some(1),
        ..Host::default()
    });
    if let Node::Answered(told) = &mut facts.node {
        told.time = Some(NOW - 500);
        told.config_differs = true;
        told.suspects_itself_since = Some("today".into());
    }
    facts.backends[1].standing =
        Some(Standing { verdict: "healthy".into(), order: "drain".into(), weight: 100, ..Standing::default() });
    let diagnosis = diagnose(&facts);
    let beside = diagnosis.judgement.beside.join("\n");
    for words in [
        "rp_filter is strict on eth0",
        "somaxconn is 128",
        "overflowed 3 times",
        "source ports are in use",
        "conntrack",
        "1023 of 1024 files",
        "tcp_abort_on_overflow",
        "differ by 500 s",
        "not reloaded",
        "suspected itself",
        "under order drain",
    ] {
        assert!(beside.contains(words), "{words} is missing in:\n{beside}");
    }
    // On another host they are of the wrong one.
    if let Node::Answered(told) = &mut facts.node {
        told.is_here = false;
    }
    let elsewhere = diagnose(&facts);
    assert!(!elsewhere.judgement.beside.join("\n").contains("rp_filter"));
    assert_eq!(elsewhere.steps.iter().find(|step| step.name == "host").map(|step| step.mark), Some(Mark::Skipped));
}

#[test]
fn a_report_holds_what_a_stranger_needs_and_no_secret() {
    const S: &str = "pl4nt3d";
    let mut facts = both(passed_on(500, Looks::Other), answered(status(500)));
    facts.question.url = format!("https://me:{S}@shop.example/reset?token={S}&x={S}");
    let fields = |extra: &str| {
        ["Set-Cookie", "X-Api-Key", "Authorization", "WWW-Authenticate", "X-Unknown", "Location", "Link", "ETag"]
            .into_iter()
            .map(|name| {
                (
                    name.to_owned(),
                    if name == "Location" { format!("https://u:{S}@h/?a={S}") } else { format!("{extra}{S}") },
                )
            })
            .collect::<Vec<_>>()
    };
    for attempt in facts.through.iter_mut().chain(facts.backends.iter_mut().flat_map(|backend| &mut backend.straight)) {
        if let Came::Answered(answer) = &mut attempt.outcome {
            answer.fields.extend(fields("SID="));
        }
    }
    facts.backends[0].probe = Some(ProbeLike { path: format!("/health?key={S}"), ..probe(good(), true) });
    facts.backends[0].standing = Some(Standing {
        verdict: "unhealthy".into(),
        order: "serve".into(),
        checks: vec![CheckStanding {
            recent: vec![Finding {
                result: "failed".into(),
                text: format!("body begins with \"password={S}\""),
                ..Finding::default()
            }],
            ..CheckStanding::default()
        }],
        ..Standing::default()
    });
    if let Node::Answered(told) = &mut facts.node {
        told.events = vec![("2026-11-22T10:00:00Z".into(), format!("hook said Authorization: Bearer {S}"))];
        told.causes = vec![("backend_answered_error".into(), 5)];
    }
    let config = format!(
        "[[node.hook]]\nurl = \"https://hooks.example/{S}\"\n[[admin.token]]\nname = \"ops\"\nsha256 = \"{S}\"\n[[pool]]\nname = \"shop\"\n[pool.check]\nheaders = {{ Authorization = \"Basic {S}\" }}\n# -----BEGIN PRIVATE KEY-----\n# {S}\n# -----END PRIVATE KEY-----\n"
    );
    let extra = Extra {
        version: "0.1.0".into(),
        system: "Linux 6".into(),
        config: Some(("/etc/evenkeel/evenkeel.toml".into(), config)),
        secrets: vec![format!("x-{S}")],
    };
    facts.backends[1].standing = Some(Standing {
        since: format!("x-{S}"),
        verdict: "healthy".into(),
        order: "serve".into(),
        ..Standing::default()
    });
    let told = report(&facts, &diagnose(&facts), &extra);
    assert!(!told.contains(S), "{}", told.lines().filter(|line| line.contains(S)).collect::<Vec<_>>().join("\n"));
    for kept in [
        "JUDGEMENT",
        "https://(removed)@shop.example/reset",
        "Backend 10.0.0.1:80",
        "Last events of the node",
        "backend_answered_error",
        "Config /etc/evenkeel/evenkeel.toml",
        "name = \"shop\"",
        "Set-Cookie: (",
    ] {
        assert!(told.contains(kept), "{kept} is missing in:\n{told}");
    }
}
