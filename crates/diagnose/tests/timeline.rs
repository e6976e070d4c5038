//! Every cause tells its story: where it struck, who is to blame, which time ran out and where that is set.
//!
//! Records are made as the data plane makes them: what comes behind the phase of a cause did not happen. That real faults make such
//! records is seen in `tests/e2e/explain.rs`.

use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_diagnose::timeline::{Config, Step, Timeline, Told, text};
use evenkeel_model::exchange::record::{Request, Rule};
use evenkeel_model::exchange::{Attempt, BackendThen, Detail, ExchangeId, Record, Reuse, Secured, Timer, Times};
use evenkeel_model::standing::{Order, Traffic, Verdict};
use evenkeel_model::{Cause, Epoch, Instant, Phase};

fn at(ms: u64) -> Instant {
    Instant::START + Duration::from_millis(100_000 + ms)
}

fn backend(last: u8) -> SocketAddr {
    ([10, 0, 0, last], 80).into()
}

/// A request that went well and took a while.
fn good() -> Record {
    Record {
        id: ExchangeId { process: 0xabc, sequence: 7 },
        listener: "web".into(),
        pool: Some("shop".into()),
        client: ([192, 0, 2, 1], 5000).into(),
        backend: Some(backend(1)),
        request: Some(Request {
            method: b"GET".as_slice().into(),
            host: b"shop.example".as_slice().into(),
            target: b"/cart".as_slice().into(),
            version: "HTTP/1.1",
            user_agent: b"".as_slice().into(),
        }),
        sni: None,
        tls: None,
        status: Some(200),
        cause: None,
        phase: None,
        detail: None,
        bytes_in: 120,
        bytes_out: 300,
        datagrams: None,
        times: Times {
            accepted: Some(at(0)),
            started: at(1),
            head: Some(at(2)),
            picked: Some(at(2)),
            connected: Some(at(5)),
            request_sent: Some(at(6)),
            first_byte: Some(at(1306)),
            answered: Some(at(1310)),
            ended: at(1311),
            ..Times::default()
        },
        attempts: Box::new([Attempt {
            connected: Some(at(5)),
            sent: Some(at(6)),
            first_byte: Some(at(1306)),
            reuse: Some(Reuse::Fresh),
            ..Attempt::new(backend(1), at(2), at(1306))
        }]),
        reuse: Some(Reuse::Fresh),
        client_requests: 0,
        rule: Some(Rule { position: Some(2), name: "shop.example/cart".into() }),
        timer: None,
        then: None,
        trace: None,
    }
}

/// As the data plane would record `cause`: what comes after its phase did not happen.
fn failed(cause: Cause) -> Record {
    let phase = cause.entry().phase;
    let told = cause.entry().evidence;
    let detail = if told.contains(&"timeout") {
        Some(Detail::Timeout(Duration::from_secs(1)))
    } else if told.contains(&"errno") || cause == Cause::BackendConnectRefused {
        Some(Detail::Errno(111))
    } else if told.contains(&"limit") {
        Some(Detail::Limit(100))
    } else if told.contains(&"detail") {
        Some(Detail::Text("what was wrong"))
    } else {
        None
    };
    let order = |phase| match phase {
        Phase::Accept => 0,
        Phase::Tls => 1,
        Phase::RequestHead => 2,
        Phase::Rule => 3,
        Phase::Pick => 4,
        Phase::Queue => 5,
        Phase::Connect | Phase::BackendTls => 6,
        Phase::RequestBody => 7,
        Phase::ResponseHead => 8,
        Phase::ResponseBody | Phase::Relay => 9,
    };
    let reached = |least: u8| order(phase) > least;
    let timer = Timer::of(cause, detail);
    let mut record = good();
    record.status = cause.entry().status;
    (record.cause, record.detail, record.timer) = (Some(cause), detail, timer);
    let attempt = record.attempts[0];
    let of_backend = order(phase) >= 6 && cause.code().starts_with("backend_");
    let attempt = Attempt {
        cause: Some(cause).filter(|_| of_backend && cause != Cause::BackendAnsweredError),
        detail,
        timer,
        connected: attempt.connected.filter(|_| reached(6)),
        sent: attempt.sent.filter(|_| reached(7)),
        first_byte: attempt.first_byte.filter(|_| reached(8) || cause == Cause::BackendAnsweredError),
        ..Attempt::new(backend(1), at(2), at(1311))
    };
    let had_attempt = order(phase) >= 6;
    record.attempts = if had_attempt { Box::new([attempt]) } else { Box::new([]) };
    record.request = record.request.filter(|_| reached(2));
    record.rule = record.rule.filter(|_| reached(3));
    record.pool = record.pool.filter(|_| reached(3));
    record.backend = record.backend.filter(|_| had_attempt);
    record.times = Times {
        head: record.times.head.filter(|_| reached(2)),
        queued: Some(at(2)).filter(|_| phase == Phase::Queue),
        picked: record.times.picked.filter(|_| reached(5)),
        connected: attempt.connected.filter(|_| had_attempt),
        request_sent: attempt.sent.filter(|_| had_attempt),
        first_byte: attempt.first_byte.filter(|_| had_attempt),
        answered: None,
        ..record.times
    };
    record
}

fn step_of(phase: Phase) -> &'static str {
    match phase {
        Phase::Accept => "accept",
        Phase::Tls => "tls",
        Phase::RequestHead => "head",
        Phase::RequestBody => "request",
        Phase::Rule => "rule",
        Phase::Pick => "pick",
        Phase::Queue => "queue",
        Phase::Connect | Phase::BackendTls => "connect",
        Phase::ResponseHead => "first_byte",
        Phase::ResponseBody => "body",
        Phase::Relay => "relay",
    }
}

fn told(record: &Record) -> Timeline {
    Timeline::of(record, Epoch::default(), &|_, _| Config::Line { file: "shop.toml".into(), line: 14 })
}

/// With a line as the access log has it; what matters of it here.
fn printed(record: &Record, timeline: Timeline) -> String {
    let mut line = serde_json::Map::new();
    let mut put = |key: &str, value: Option<String>| line.extend(value.map(|value| (key.to_owned(), value.into())));
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    put("id", Some(record.id.to_string()));
    put("time", Some(Epoch::default().rfc3339(record.times.started)));
    put("method", record.request.as_ref().map(|request| lossy(&request.method)));
    put("host", record.request.as_ref().map(|request| lossy(&request.host)));
    put("target", record.request.as_ref().map(|request| lossy(&request.target)));
    put("status", record.status.map(|status| status.to_string()));
    put("duration_ms", Some("1310".to_owned()));
    put("cause", record.cause.map(|cause| cause.code().to_owned()));
    put("blame", record.cause.map(|cause| cause.entry().blame.word().to_owned()));
    put("phase", record.phase().map(|phase| phase.word().to_owned()));
    put("client", Some(record.client.to_string()));
    put("listener", Some(record.listener.to_string()));
    put("pool", record.pool.as_deref().map(str::to_owned));
    put("backend", record.backend.map(|backend| backend.to_string()));
    // What a node tells is read again by whoever asks it, and says the same.
    let told = Told { line, timeline };
    let read = Told::read(serde_json::to_value(&told).expect("texts and numbers")).expect("it was just written");
    assert_eq!((&read.line, &read.timeline), (&told.line, &told.timeline));
    text(&read)
}

fn phases(timeline: &Timeline) -> Vec<&str> {
    timeline.steps.iter().map(|step| &*step.phase).collect()
}

#[test]
fn a_client_that_gave_up_on_a_silent_backend_points_to_the_backend() {
    let mut record = failed(Cause::ClientAborted);
    // The end of a request by its client is no end of the try, so no try is in the record.
    record.attempts = Box::new([]);
    record.phase = Some(Phase::ResponseHead);
    (record.times.first_byte, record.times.answered) = (None, None);
    let told = Timeline::of(&record, Epoch { unix_nanos: 0 }, &|_, _| Config::UNKNOWN);
    let phases: Vec<&str> = told.steps.iter().map(|step| step.phase.as_str()).collect();
    assert_eq!(phases, ["accept", "head", "rule", "pick", "connect", "request", "first_byte"]);
    let hint = "It had waited 1.309 s for backend 10.0.0.1:80, whose answer had not begun: look there first.";
    assert!(told.explanation.iter().any(|line| line == hint), "{:#?}", told.explanation);
}

#[test]
fn each_cause_strikes_at_one_step_of_its_phase_with_blame_advice_and_timer() {
    for &cause in Cause::ALL {
        let record = failed(cause);
        let timeline = told(&record);
        let struck: Vec<&Step> = timeline.steps.iter().filter(|step| step.cause.is_some()).collect();
        assert_eq!(struck.len(), 1, "{}: {:#?}", cause.code(), timeline.steps);
        assert_eq!(struck[0].cause.as_deref(), Some(cause.code()));
        assert_eq!(struck[0].phase, step_of(cause.entry().phase), "{}", cause.code());
        let blame = format!("Blame: {}. ", cause.entry().blame.word());
        assert!(timeline.explanation[0].starts_with(&blame), "{}", timeline.explanation[0]);
        assert!(timeline.explanation.last().is_some_and(|line| line.ends_with(cause.entry().advice)));
        let key = Timer::of(cause, record.detail).map(Timer::key);
        assert_eq!(timeline.fired.as_ref().map(|fired| &*fired.key), key, "{}", cause.code());
        if let Some(key) = key {
            let line = format!("{key} = 1s ran out (shop.toml:14).");
            assert!(timeline.explanation.contains(&line), "{}: {:#?}", cause.code(), timeline.explanation);
        }
        let times: Vec<f64> = timeline.steps.iter().map(|step| step.at_ms).collect();
        assert!(times.is_sorted(), "{}: {times:?}", cause.code());
        let text = printed(&record, timeline);
        assert!(text.contains(cause.code()) && text.contains("What to do"), "{text}");
    }
}

#[test]
fn a_slow_request_says_who_took_the_time() {
    type Change = fn(&mut Record);
    let table: [(&str, Change); 4] = [
        ("of which 1.300 s were spent waiting for the first byte of the answer: the backend's application", |_| {}),
        ("of which 9.001 s were spent waiting for the client to take the rest of the answer", |record| {
            record.times.ended = at(10_311);
        }),
        ("of which 5.000 s were spent in the queue", |record| {
            (record.times.queued, record.times.dequeued) = (Some(at(2)), Some(at(5002)));
        }),
        ("of which 3.000 s were spent in tries that failed", |record| {
            let refused =
                Attempt { cause: Some(Cause::BackendConnectTimeout), ..Attempt::new(backend(2), at(2), at(3002)) };
            record.attempts = Box::new([refused, record.attempts[0]]);
        }),
    ];
    for (sentence, change) in table {
        let mut record = good();
        change(&mut record);
        let told = &told(&record).explanation[0];
        assert!(told.starts_with("Nothing failed. ") && told.contains(sentence), "{told}");
    }
}

#[test]
fn a_refused_connection_and_the_retry_that_answered_stand_in_their_order() {
    let mut record = good();
    let refused = Attempt {
        cause: Some(Cause::BackendConnectRefused),
        detail: Some(Detail::Errno(111)),
        ..Attempt::new(backend(2), at(2), at(3))
    };
    let answered = Attempt { started: at(3), ..record.attempts[0] };
    record.attempts = Box::new([refused, answered]);
    let timeline = told(&record);
    let order = ["accept", "head", "rule", "pick", "connect", "pick", "connect", "request", "first_byte", "body"];
    assert_eq!(phases(&timeline), order);
    assert_eq!(timeline.steps[4].what, "backend_connect_refused: errno 111 (connection refused)");
    assert_eq!(timeline.steps[5].what, "backend 10.0.0.1:80, try 2");
    assert_eq!(timeline.steps[1].what, "GET shop.example/cart HTTP/1.1");
    assert_eq!(timeline.steps[2].what, "rule \"shop.example/cart\" (3rd of the listener) took it, to pool \"shop\"");
}

#[test]
fn a_reset_on_a_kept_connection_points_to_keep_alive_times() {
    let mut record = failed(Cause::BackendResetBeforeResponse);
    record.reuse = Some(Reuse::Reused { idle: Duration::from_millis(4200) });
    record.attempts[0].reuse = record.reuse;
    record.then = Some(BackendThen {
        verdict: Verdict::Healthy,
        since: at(0),
        order: Order::Serve,
        traffic: Traffic::Good,
        in_flight: 3,
    });
    let timeline = told(&record);
    let all = timeline.explanation.join("\n");
    assert!(all.contains("had lain idle for 4.200 s"), "{all}");
    assert!(all.contains("was healthy since 1.311 s, under order serve, with 3 in flight"), "{all}");
    let then = timeline.backend_then.expect("it was known");
    assert_eq!((&*then.verdict, then.for_ms, then.in_flight), ("healthy", 1311, 3));
    assert!(timeline.steps.iter().any(|step| step.what == "a kept connection that had lain idle for 4.200 s"));
}

#[test]
fn the_rules_own_time_is_named_and_a_time_that_nobody_wrote_is_the_default() {
    let mut record = failed(Cause::BackendResponseTimeout);
    record.timer = Some(Timer::RuleResponse);
    let timeline = Timeline::of(&record, Epoch::default(), &|timer, record| {
        assert_eq!((timer, record.rule.as_ref().and_then(|rule| rule.position)), (Timer::RuleResponse, Some(2)));
        Config::DEFAULT
    });
    let line = "listener.rule.response_timeout = 1s ran out (the default: it is not written in the config).";
    assert!(timeline.explanation.iter().any(|told| told == line), "{:#?}", timeline.explanation);
    let json = serde_json::to_value(&timeline).expect("texts and numbers");
    assert_eq!(json["timer"]["config"], "default");
    assert_eq!(json["timer"]["key"], "listener.rule.response_timeout");
    assert!(json["timeline"].as_array().is_some_and(|steps| steps.len() > 4));
}

#[test]
fn what_a_client_chose_cannot_forge_a_line_of_the_story() {
    let mut record = failed(Cause::BackendResponseTimeout);
    if let Some(request) = &mut record.request {
        request.target = b"/\x1b[2J\r\n  blame        client\xff".as_slice().into();
        request.host = "a\u{202e}b".as_bytes().into();
    }
    record.sni = Some("\u{7}\n".into());
    let text = printed(&record, told(&record));
    assert!(text.chars().all(|character| character == '\n' || !character.is_control()), "{text}");
    assert!(!text.contains('\u{202e}'));
    assert_eq!(text.lines().filter(|line| line.starts_with("  blame ")).count(), 1, "{text}");
}

#[test]
fn the_story_of_a_request_over_tls_reads_from_connection_to_cut() {
    let mut record = failed(Cause::BackendBodyTimeout);
    record.tls = Some(Secured { version: "1.3", suite: "TLS_AES_128_GCM_SHA256", resumed: true });
    record.times.accepted = Some(at(0));
    record.times.secured = Some(at(1));
    record.times.first_byte = Some(at(311));
    record.attempts[0].first_byte = Some(at(311));
    record.status = Some(200);
    let timeline = Timeline::of(&record, Epoch::default(), &|_, _| Config::UNKNOWN);
    let expected = "\
0000000000000abc0000000000000007  1970-01-01T00:01:40.001Z
GET shop.example/cart: 200 after 1310 ms

  cause        backend_body_timeout
  blame        backend
  phase        response_body
  client       192.0.2.1:5000
  listener     web
  pool         shop
  backend      10.0.0.1:80

    at ms   took ms
   -1.000            accept      192.0.2.1:5000 connected to listener \"web\"
   -1.000     1.000  tls         TLS 1.3 TLS_AES_128_GCM_SHA256, resumed
    0.000     1.000  head        GET shop.example/cart HTTP/1.1
    1.000            rule        rule \"shop.example/cart\" (3rd of the listener) took it, to pool
                                 \"shop\"
    1.000            pick        backend 10.0.0.1:80
    1.000     3.000  connect     connected
    4.000     1.000  request     the whole request was sent
    5.000   305.000  first_byte  the answer began: status 200
! 310.000  1000.000  body        backend_body_timeout: nothing for 1s
                                 120 bytes had come from the client, 300 had gone to it

  Blame: backend. The backend stopped sending in the middle of its answer for `body_timeout`.
  The client's connection was cut.
  pool.body_timeout = 1s ran out.
  What to do: The application hangs in mid-answer. For streams that are silent by design raise
  `body_timeout` of the pool.
";
    assert_eq!(printed(&record, timeline), expected);
}
