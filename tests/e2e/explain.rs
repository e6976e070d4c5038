//! `evenkeel explain ID` tells what happened to a real request: from the running node, and from the access log. The API and the
//! live stream say the same.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use serde_json::Value;

use crate::backend::{backend, hold, polite, read_head, reset, says};
use crate::client::Wire;
use crate::daemon::{BINARY, Daemon, PATIENCE, Setup, free_address, until};

/// What the command printed, and how it ended.
fn explain(arguments: &[&str]) -> (String, String, Option<i32>) {
    let ran = Command::new(BINARY).arg("explain").args(arguments).output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
    (text(ran.stdout), text(ran.stderr), ran.status.code())
}

/// The id of the request with this target, once its node has it.
fn kept(daemon: &Daemon, target: &str) -> String {
    until(&format!("{target} among the kept requests"), || {
        let (_, page) = daemon.page("/api/v1/requests?limit=1000");
        let page: Value = serde_json::from_str(&page).expect("JSON");
        let mut requests = page["requests"].as_array().into_iter().flatten();
        Some(requests.find(|request| request["target"] == target)?["id"].as_str()?.to_owned())
    })
}

/// Which line of the config says `text`.
fn line_of(daemon: &Daemon, text: &str) -> usize {
    let config = std::fs::read_to_string(daemon.config()).expect("it was written");
    config.lines().position(|line| line == text).map(|at| at + 1).unwrap_or_else(|| panic!("{text} in {config}"))
}

struct Fault {
    target: &'static str,
    /// In the story, in this order.
    says: Vec<String>,
}

#[test]
fn each_real_fault_is_told_from_its_first_step_to_the_line_that_decided_it() {
    let listen = free_address();
    let (silent, broken, good) = (backend(hold), free_address(), backend(polite));
    let cut = backend(says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this"));
    let torn = backend(|mut stream: TcpStream| {
        if read_head(&mut stream).is_some() {
            reset(&stream);
        }
    });
    let slow = backend(|mut stream: TcpStream| {
        while read_head(&mut stream).is_some() {
            std::thread::park_timeout(std::time::Duration::from_millis(80));
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                return;
            }
        }
    });
    let rules = ["silent", "own", "retried", "cut", "torn", "queue", "slow"];
    let rules: String = rules
        .iter()
        .map(|name| {
            let pool = if *name == "own" { "silent" } else { name };
            let own = if *name == "own" { "response_timeout = \"60ms\"\n" } else { "" };
            format!("[[listener.rule]]\npath = \"/{name}\"\npool = \"{pool}\"\n{own}")
        })
        .collect();
    let pool = |name: &str, backends: &[SocketAddr], keys: &str| {
        let backends: Vec<String> = backends.iter().map(|address| format!("\"{address}\"")).collect();
        format!("[[pool]]\nname = \"{name}\"\ncheck = \"off\"\nbackends = [{}]\n{keys}\n", backends.join(", "))
    };
    let body = [
        format!("[[listener]]\nname = \"web\"\nlisten = \"{listen}\"\n{rules}"),
        pool("silent", &[silent], "response_timeout = \"70ms\""),
        pool("retried", &[broken, good], "schedule = \"rr\"\nretries = 1"),
        pool("cut", &[cut], ""),
        pool("torn", &[torn], ""),
        pool("queue", &[silent], "backend_limit = 1\nqueue = 1\nqueue_timeout = \"50ms\"\nresponse_timeout = \"20s\""),
        pool("slow", &[slow], ""),
    ]
    .join("\n");
    let node = "slow_request = \"60ms\"";
    let daemon = Daemon::start_with(&Setup { name: "explain", node, body: &body, namespace: None });
    let config = daemon.config().display().to_string();

    for target in ["/silent", "/own", "/torn", "/slow"] {
        Wire::open(listen).get(target);
    }
    // Round robin begins somewhere: of two on one connection, and so on one worker, one meets the port on which nobody listens, and
    // is tried again.
    let mut wire = Wire::open(listen);
    for number in 0..2 {
        assert_eq!(wire.get(&format!("/retried/{number}")).status, 200);
    }
    let mut wire = Wire::open(listen);
    wire.send("GET /cut HTTP/1.1\r\nHost: e2e\r\n\r\n");
    let _ = wire.answer();
    let mut first = Wire::open(listen);
    first.send("GET /queue/first HTTP/1.1\r\nHost: e2e\r\n\r\n");
    until("the only place to be taken", || {
        (daemon.backend("queue", &silent.to_string())["in_flight"] == 1).then_some(())
    });
    // Queues are per worker, so that it waits wherever it comes.
    assert_eq!(Wire::open(listen).get("/queue/second").status, 503);

    let place = |text: &str| format!("({config}:{})", line_of(&daemon, text));
    let faults = [
        Fault {
            target: "/silent",
            says: vec![
                "cause        backend_response_timeout".into(),
                "blame        backend".into(),
                "accept ".into(),
                "head        GET e2e/silent HTTP/1.1".into(),
                "rule        rule \"*/silent\" (1st of the listener) took it, to pool \"silent\"".into(),
                format!("pick        backend {silent}"),
                "connect     connected".into(),
                "request     the whole request was sent".into(),
                "first_byte  backend_response_timeout: nothing for 70ms".into(),
                format!("pool.response_timeout = 70ms ran out {}", place("response_timeout = \"70ms\"")),
                format!("Backend {silent} was unknown since"),
                "What to do: The application is slow".into(),
            ],
        },
        Fault {
            target: "/own",
            says: vec![
                "first_byte  backend_response_timeout: nothing for 60ms".into(),
                format!("listener.rule.response_timeout = 60ms ran out {}", place("response_timeout = \"60ms\"")),
            ],
        },
        Fault {
            target: "/cut",
            says: vec![
                "GET e2e/cut: 200 after".into(),
                "cause        backend_reset_mid_response".into(),
                "first_byte  the answer began: status 200".into(),
                "body        backend_reset_mid_response".into(),
                "bytes had come from the client".into(),
            ],
        },
        Fault {
            target: "/torn",
            says: vec![
                "GET e2e/torn: 502 after".into(),
                "request     the whole request was sent".into(),
                "first_byte  backend_reset_before_response".into(),
            ],
        },
        Fault {
            target: "/queue/second",
            says: vec![
                "GET e2e/queue/second: 503 after".into(),
                "queue       backend_queue_timeout: nothing for 50ms".into(),
                format!("pool.queue_timeout = 50ms ran out {}", place("queue_timeout = \"50ms\"")),
            ],
        },
        Fault {
            target: "/slow",
            says: vec![
                "GET e2e/slow: 200 after".into(),
                "first_byte  the answer began: status 200".into(),
                "body        the answer was passed on".into(),
                "Nothing failed. It took".into(),
                "were spent waiting for the first byte of the answer: the backend's application".into(),
            ],
        },
    ];
    let admin = daemon.admin.to_string();
    for Fault { target, says } in &faults {
        let id = kept(&daemon, target);
        let (text, complaint, code) = explain(&[&id, "--admin", &admin]);
        assert_eq!(code, Some(0), "{complaint}");
        // The printed story is wrapped; its words are in their order whatever the width.
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut from = 0;
        for said in says {
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            let at = flat[from..].find(&said).unwrap_or_else(|| panic!("{target}: no \"{said}\" in\n{text}"));
            from += at + said.len();
        }

        let (json, _, code) = explain(&[&id, "--admin", &admin, "--json"]);
        let json: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!((code, &json["id"], &json["target"]), (Some(0), &Value::from(id.clone()), &Value::from(*target)));
        let (_, page) = daemon.page(&format!("/api/v1/requests/{id}"));
        assert_eq!(serde_json::from_str::<Value>(&page).expect("JSON")["timeline"], json["timeline"]);

        if json["cause"].is_string() {
            let line = daemon.wait_log(target);
            assert_eq!(line["id"], json["id"]);
            let log = daemon.config().with_file_name("access.log").display().to_string();
            let (told, complaint, code) = explain(&[&id, "--log", &log, "--config", &config, "--json"]);
            assert_eq!(code, Some(0), "{complaint}");
            let told: Value = serde_json::from_str(&told).expect("JSON");
            assert_eq!((&told["cause"], &told["timer"]), (&json["cause"], &json["timer"]));
            let struck = |story: &Value| {
                let steps = story["timeline"].as_array().expect("steps");
                steps
                    .iter()
                    .find(|step| step["cause"].is_string())
                    .map(|step| (step["phase"].clone(), step["what"].clone()))
            };
            assert_eq!(struck(&told), struck(&json), "{target}");
        }
    }
    let retried = daemon.wait_log_where("the one that met the dead port", |line| {
        line["target"].as_str().is_some_and(|target| target.starts_with("/retried/")) && line["attempts"].is_array()
    });
    let log = daemon.config().with_file_name("access.log").display().to_string();
    let (text, _, code) = explain(&[retried["id"].as_str().expect("an id"), "--log", &log]);
    assert_eq!(code, Some(0));
    assert!(text.contains("backend_connect_refused") && text.contains(", try 2"), "{text}");

    // The client was told the id of what failed.
    let answer = Wire::open(listen).get("/silent");
    let told = String::from_utf8(answer.payload()).expect("text");
    let id = told.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id").to_owned();
    let story = until("the newest failure", || {
        Some(explain(&[&id, "--admin", &admin])).filter(|(_, _, code)| *code == Some(0))
    });
    assert!(story.0.contains("backend_response_timeout"));

    let (_, complaint, code) = explain(&["00000000000000000000000000000001", "--admin", &admin]);
    assert_eq!(code, Some(1));
    assert!(complaint.contains("no request \"00000000000000000000000000000001\" is kept"), "{complaint}");
}

#[test]
fn a_flood_of_one_failure_is_counted_whole_and_leaves_the_rare_one_to_be_found() {
    let listen = free_address();
    let dead = free_address();
    let torn = backend(|mut stream: TcpStream| {
        if read_head(&mut stream).is_some() {
            reset(&stream);
        }
    });
    let body = format!(
        "[[listener]]\nlisten = \"{listen}\"\npool = \"dead\"\n[[listener.rule]]\npath = \"/rare\"\npool = \"torn\"\n\
         [[pool]]\nname = \"dead\"\ncheck = \"off\"\nbackends = [\"{dead}\"]\n\
         [[pool]]\nname = \"torn\"\ncheck = \"off\"\nbackends = [\"{torn}\"]\n"
    );
    let node = "kept_requests = 15";
    let daemon = Daemon::start_with(&Setup { name: "explain-flood", node, body: &body, namespace: None });
    assert_eq!(Wire::open(listen).get("/rare").status, 502);
    let rare = kept(&daemon, "/rare");
    const FLOOD: u64 = 500;
    let mut wire = Wire::open(listen);
    for number in 0..FLOOD {
        assert_eq!(wire.get(&format!("/flood/{number}")).status, 502);
    }
    let counted = until("every failure to be counted", || {
        let page: Value = serde_json::from_str(&daemon.page("/api/v1/causes").1).expect("JSON");
        let causes = page["causes"].as_array()?.clone();
        let refused = causes.into_iter().find(|cause| cause["code"] == "backend_connect_refused")?;
        (refused["total"] == FLOOD).then_some(refused)
    });
    let place = &counted["by"][0];
    assert_eq!(
        (&place["pool"], &place["backend"], &place["total"]),
        (&"dead".into(), &dead.to_string().into(), &FLOOD.into())
    );
    assert!(counted["last"]["request"].as_str().is_some_and(|id| id.len() == 32));
    assert_eq!(counted["last_minute"], FLOOD);
    let (status, _) = daemon.page(&format!("/api/v1/requests/{rare}"));
    assert_eq!(status, 200, "the rare one is still there");
    let page: Value = serde_json::from_str(&daemon.page("/api/v1/requests").1).expect("JSON");
    assert!(page["kept"].as_u64().is_some_and(|kept| kept <= 15));
    let lost = daemon.metric("evenkeel_kept_requests_total", &["dropped"]);
    let (kept, sampled) = (
        daemon.metric("evenkeel_kept_requests_total", &["\"kept\""]),
        daemon.metric("evenkeel_kept_requests_total", &["sampled_out"]),
    );
    assert_eq!((kept + sampled, lost), (FLOOD as f64 + 1.0, 0.0));
    assert!(sampled > 0.0);

    let only: Value =
        serde_json::from_str(&daemon.page("/api/v1/requests?cause=backend_reset_before_response").1).expect("JSON");
    assert_eq!(only["requests"].as_array().map(Vec::len), Some(1));
    for (query, status) in
        [("cause=nonsense", 400), ("blame=me", 400), ("limit=0", 400), ("backend=x", 400), ("slow=true", 200)]
    {
        assert_eq!(daemon.page(&format!("/api/v1/requests?{query}")).0, status, "{query}");
    }
}

#[test]
fn hostile_bytes_of_a_client_reach_neither_the_terminal_nor_a_line_of_the_stream() {
    let listen = free_address();
    let silent = backend(hold);
    let body = format!(
        "[[listener]]\nlisten = \"{listen}\"\npool = \"silent\"\n\
         [[pool]]\nname = \"silent\"\ncheck = \"off\"\nresponse_timeout = \"20ms\"\nbackends = [\"{silent}\"]\n"
    );
    let daemon = Daemon::start("explain-hostile", &body);
    let mut lines = stream(&daemon, "/api/v1/requests/stream?failed=true");
    let mut wire = Wire::open(listen);
    wire.send(b"GET /%1b[2J?\"}\xe2\x80\xae HTTP/1.1\r\nHost: e2e\r\nUser-Agent: \xff\"\\ data: x\r\n\r\n");
    let status = wire.answer().expect("an answer").status;
    // Whether such a byte is refused or passed is the parser's; here it must only be shown in a harmless way.
    assert!(status == 504 || status == 400, "{status}");
    let line = lines.next().expect("a line of the stream");
    let line: Value = serde_json::from_str(&line).expect("one JSON line");
    let id = line["id"].as_str().expect("an id").to_owned();
    let admin = daemon.admin.to_string();
    let text = until("the story", || {
        let (text, _, code) = explain(&[&id, "--admin", &admin]);
        (code == Some(0)).then_some(text)
    });
    assert!(text.chars().all(|character| character == '\n' || !character.is_control()), "{text:?}");
    assert!(!text.contains('\u{202e}'), "{text:?}");
}

#[test]
fn the_live_stream_shows_all_or_only_what_failed_and_is_silent_when_nobody_reads() {
    let listen = free_address();
    let (good, dead) = (backend(polite), free_address());
    let body = format!(
        "[[listener]]\nlisten = \"{listen}\"\npool = \"good\"\n[[listener.rule]]\npath = \"/bad\"\npool = \"dead\"\n\
         [[pool]]\nname = \"good\"\ncheck = \"off\"\nbackends = [\"{good}\"]\n\
         [[pool]]\nname = \"dead\"\ncheck = \"off\"\nbackends = [\"{dead}\"]\n"
    );
    let daemon = Daemon::start("explain-live", &body);
    let (mut all, mut failed) =
        (stream(&daemon, "/api/v1/requests/stream"), stream(&daemon, "/api/v1/requests/stream?failed=true"));
    let mut wire = Wire::open(listen);
    for target in ["/one", "/bad/two", "/three"] {
        wire.get(target);
    }
    let target = |line: Option<String>| {
        let line: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        line["target"].as_str().expect("a target").to_owned()
    };
    let seen: Vec<String> = (0..3).map(|_| target(all.next())).collect();
    assert_eq!(seen, ["/one", "/bad/two", "/three"]);
    assert_eq!(target(failed.next()), "/bad/two");
    assert_eq!(daemon.page("/api/v1/requests/stream?faild=true").0, 400);
}

// A 503 that a rule says was booked as the backend's own until each outcome was asked whether a backend had answered at all.
#[test]
fn a_rule_that_answers_with_an_error_of_its_own_blames_nobody() {
    let listen = free_address();
    let body = format!(
        "[[listener]]\nname = \"web\"\nlisten = \"{listen}\"\n[[listener.rule]]\npath = \"/closed\"\nanswer = {{ status = 503 }}\n"
    );
    let daemon = Daemon::start("explain-rule", &body);
    assert_eq!(Wire::open(listen).get("/closed").status, 503);
    let line = daemon.wait_log("/closed");
    assert_eq!((&line["status"], &line["cause"]), (&503.into(), &Value::Null));
    assert_eq!(daemon.metric("evenkeel_failures_total", &["backend_answered_error"]), 0.0);
}

/// The data of server-sent events.
fn stream(daemon: &Daemon, path: &str) -> impl Iterator<Item = String> {
    let mut stream = TcpStream::connect(daemon.admin).expect("the admin address is served");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", daemon.admin).expect("it reads requests");
    // Its head says that the reader is in place.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
    // Each piece is a chunk; lines of other kinds are their lengths.
    BufReader::new(stream)
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("data: ").map(str::to_owned))
}
