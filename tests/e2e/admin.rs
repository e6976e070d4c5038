//! What the admin API does is seen in traffic: orders, weights, probes, changes of the config. Each is an event that tells who
//! asked.

use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::admin_client::{Stream, ask, ask_by, get, post};
use crate::backend::{backend, polite, says};
use crate::client::Wire;
use crate::daemon::{Daemon, Folder, Setup, free_address, until};

/// A listener in front of the pool "web"; `more` are more keys and tables of the pool.
fn site(listen: SocketAddr, backends: &[SocketAddr], more: &str) -> String {
    let backends: Vec<String> = backends.iter().map(|backend| format!("\"{backend}\"")).collect();
    format!(
        "[[listener]]\nname = \"front\"\nlisten = \"{listen}\"\npool = \"web\"\n\
         [[pool]]\nname = \"web\"\nbackends = [{}]\n{more}\n",
        backends.join(", ")
    )
}

/// Answers with a word of its own, so that clients know who it was.
fn named(word: &'static str) -> SocketAddr {
    backend(move |mut stream| {
        use std::io::Write;
        while crate::backend::read_head(&mut stream).is_some() {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{word}", word.len());
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// Who answers so many requests, each on a connection of its own.
fn answered_by(listen: SocketAddr, requests: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..requests)
        .map(|_| {
            let answer = Wire::open(listen).get("/");
            format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body))
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

fn order(daemon: &Daemon, backend: SocketAddr, body: &str) -> Value {
    let told = post(daemon, &format!("/api/v1/pools/web/backends/{backend}/order"), body);
    assert_eq!(told.status, 200, "{told:?}");
    told.json()
}

#[test]
fn a_drained_backend_gets_no_new_work_and_with_all_drained_clients_hear_the_cause() {
    let (one, two, listen) = (named("one"), named("two"), free_address());
    let daemon = Daemon::start("admin_drain", &site(listen, &[one, two], "check = \"off\""));
    assert_eq!(answered_by(listen, 4), ["200 one", "200 two"]);

    let told = order(&daemon, one, r#"{"order":"drain"}"#);
    assert_eq!((&told["changed"], &told["backend"]["order"]), (&json!(true), &json!("drain")));
    assert_eq!(answered_by(listen, 6), ["200 two"]);
    let event = daemon.wait_event(0, &[" backend.ordered ", &one.to_string()]);
    assert!(event.contains("loopback"), "{event}");
    assert_eq!(order(&daemon, one, r#"{"order":"drain"}"#)["changed"], false);

    order(&daemon, two, r#"{"order":"drain"}"#);
    let refused = Wire::open(listen).get("/all");
    assert_eq!(refused.status, 503);
    assert!(
        refused.field("proxy-status").is_some_and(|value| value.contains("all_backends_drained")),
        "{}",
        refused.head
    );
    assert_eq!(daemon.wait_log("/all")["cause"], "all_backends_drained");
    assert_eq!(get(&daemon, "/api/v1/pools/web")["refusal"], "all_backends_drained");
    let causes = until("the cause in the digest", || {
        let causes = get(&daemon, "/api/v1/causes");
        let found = causes["causes"].as_array()?.iter().find(|cause| cause["code"] == "all_backends_drained")?.clone();
        Some(found)
    });
    assert_eq!((&causes["blame"], &causes["total"]), (&json!("operator"), &json!(1)));

    order(&daemon, one, r#"{"order":"serve"}"#);
    order(&daemon, two, r#"{"order":"serve"}"#);
    assert_eq!(answered_by(listen, 4), ["200 one", "200 two"]);
    assert_eq!(get(&daemon, "/api/v1/config")["changes"], json!([]));
}

#[test]
fn maintenance_with_a_time_limit_ends_by_itself() {
    let (one, two, listen) = (named("one"), named("two"), free_address());
    let daemon = Daemon::start("admin_maintain", &site(listen, &[one, two], "check = \"off\""));
    let told = order(&daemon, one, r#"{"order":"maintain","for":"1500ms"}"#);
    assert_eq!(told["backend"]["order"], "maintain");
    assert!(told["backend"]["order_until"].is_string(), "{told}");
    assert_eq!(answered_by(listen, 4), ["200 two"]);
    let change = &get(&daemon, "/api/v1/config")["changes"][0];
    assert_eq!(
        (&change["what"], &change["value"], &change["by"]),
        (&json!("order"), &json!("maintain"), &json!("loopback"))
    );
    daemon.wait_event(0, &[" backend.order_over ", &one.to_string()]);
    assert_eq!(answered_by(listen, 4), ["200 one", "200 two"]);
}

#[test]
fn a_weight_of_nothing_takes_nothing_and_the_configs_weight_comes_back() {
    let (one, two, listen) = (named("one"), named("two"), free_address());
    let daemon = Daemon::start("admin_weight", &site(listen, &[one, two], "check = \"off\""));
    let path = format!("/api/v1/pools/web/backends/{one}/weight");
    let told = post(&daemon, &path, r#"{"weight":0}"#).json();
    assert_eq!((&told["changed"], &told["backend"]["effective_weight"]), (&json!(true), &json!(0)));
    assert_eq!(answered_by(listen, 6), ["200 two"]);
    let status = get(&daemon, "/api/v1/status");
    assert_eq!((&status["config"]["changes"], &status["config"]["same"]), (&json!(1), &json!(true)));
    // A reload keeps what operators have said.
    assert_eq!(post(&daemon, "/api/v1/config/reload", "").status, 200);
    assert_eq!(answered_by(listen, 6), ["200 two"]);
    assert_eq!(post(&daemon, &path, r#"{"weight":null}"#).status, 200);
    assert_eq!(answered_by(listen, 4), ["200 one", "200 two"]);
}

#[test]
fn a_probe_that_is_asked_for_does_not_wait_for_its_interval() {
    let (one, listen) = (backend(polite), free_address());
    let daemon = Daemon::start("admin_probe", &site(listen, &[one], "[pool.check]\ninterval = \"1h\""));
    daemon.wait_verdict("web", &one.to_string(), "healthy");
    let probes = |daemon: &Daemon| daemon.backend("web", &one.to_string())["checks"][0]["passed_total"].as_u64();
    let before = probes(&daemon).expect("a number");
    let told = post(&daemon, &format!("/api/v1/pools/web/backends/{one}/probe"), "{}");
    assert_eq!(told.status, 202, "{told:?}");
    assert_eq!(told.json(), json!({ "brought_forward": 1, "in_flight": 0 }));
    until("the probe's result", || probes(&daemon).filter(|passed| *passed == before + 1));
}

#[test]
fn an_order_outlives_a_restart_only_when_it_is_to_be_kept() {
    let (one, two, listen) = (named("one"), named("two"), free_address());
    let folder = Folder::new("admin_kept_state");
    let node = format!("state_file = \"{}\"", folder.0.join("state.json").display());
    let body = site(listen, &[one, two], "check = \"off\"");
    let start = || Daemon::start_with(&Setup { name: "admin_kept", node: &node, body: &body, namespace: None });
    let mut daemon = start();
    order(&daemon, one, r#"{"order":"drain","keep":true}"#);
    order(&daemon, two, r#"{"order":"drain"}"#);
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.wait_exit().success());
    let daemon = start();
    assert_eq!(answered_by(listen, 4), ["200 two"]);
    let change = &get(&daemon, "/api/v1/config")["changes"];
    assert_eq!(change.as_array().map(Vec::len), Some(1), "{change}");
    assert_eq!((&change[0]["backend"], &change[0]["kept"]), (&json!(one.to_string()), &json!(true)));
}

#[test]
fn what_cannot_be_done_is_answered_with_what_can() {
    let (one, listen) = (named("one"), free_address());
    let daemon = Daemon::start("admin_refused", &site(listen, &[one], "check = \"off\""));
    let of = |backend: &str, what: &str| format!("/api/v1/pools/{backend}/{what}");
    let here = format!("web/backends/{one}");
    let table = [
        (of("wbe/backends/10.0.0.1:1", "order"), r#"{"order":"drain"}"#, 404, "did you mean \"web\"?"),
        (of("web/backends/10.0.0.1:1", "order"), r#"{"order":"drain"}"#, 404, "there is no backend in pool \"web\""),
        (of("web/backends/nonsense", "order"), r#"{"order":"drain"}"#, 404, "write address and port"),
        (of(&here, "order"), r#"{"order":"drian"}"#, 400, "did you mean \"drain\"?"),
        (of(&here, "order"), r#"{"oder":"drain"}"#, 400, "did you mean \"order\"?"),
        (of(&here, "order"), r#"{"order":"drain","for":"ten minutes"}"#, 400, "write for example \"10m\""),
        (of(&here, "order"), r#"{"order":"serve","for":"10m"}"#, 400, "a time limit leads back to serve"),
        (of(&here, "order"), r#"{"order":"drain","keep":true}"#, 409, "node.state_file"),
        (of(&here, "order"), "{", 400, "the body is no JSON"),
        (of(&here, "order"), "[]", 400, "the body does not fit"),
        (of(&here, "weight"), r#"{"weight":101}"#, 400, "a weight is 0 to 100"),
        (of(&here, "weight"), r#"{"weight":-1}"#, 400, "weight is -1, but it takes a whole number"),
        (of(&here, "weight"), "{}", 400, "missing field \"weight\""),
        (of(&here, "probe"), "{}", 409, "has no checks"),
        (of(&here, "ordre"), "{}", 404, "there is no path"),
        ("/api/v1/route".to_owned(), r#"{"url":"http://127.0.0.1:1/"}"#, 409, "no http listener takes"),
    ];
    for (path, body, status, detail) in table {
        let told = post(&daemon, &path, body);
        assert_eq!(told.status, status, "{path} {body}: {told:?}");
        assert!(told.problem().contains(detail), "{path} {body}: {told:?}");
    }
    for (asked, status, detail) in [
        ("GET /api/v1/evnts", 404, "did you mean \"/api/v1/events\"?"),
        ("GET /api/v1/causes/backend_conect_refused", 404, "did you mean \"backend_connect_refused\"?"),
        ("GET /api/v1/events?limt=1", 400, "did you mean \"limit\"?"),
        ("GET /api/v1/events?limit=0", 400, "but it takes 1 to"),
        ("DELETE /api/v1/pools", 405, "this path takes GET"),
        ("GET /api/v1/config/reload", 405, "this path takes POST"),
        ("PATCH /api/v1/config", 405, "this path takes GET, HEAD, PUT"),
        ("POST /app.js", 405, "this path takes GET"),
    ] {
        let told = ask(daemon.admin, asked, &[], None);
        assert_eq!(told.status, status, "{asked}: {told:?}");
        assert!(told.problem().contains(detail), "{asked}: {told:?}");
    }
    let told = ask(daemon.admin, &format!("POST {}", of(&here, "order")), &["Content-Type: text/plain"], Some("x"));
    assert_eq!(
        (told.status, told.problem()),
        (415, "the body has to be application/json, but it is text/plain".into())
    );
}

#[test]
fn a_config_is_tried_applied_told_apart_from_the_file_and_taken_back() {
    let (one, two, listen) = (named("one"), named("two"), free_address());
    let daemon = Daemon::start("admin_apply", &site(listen, &[one], "check = \"off\""));
    let file = fs::read_to_string(daemon.config()).expect("the daemon reads it too");
    let other = file.replace(&format!("\"{one}\""), &format!("\"{two}\""));
    let put = |query: &str, kind: &str, text: &str| {
        ask(daemon.admin, &format!("PUT /api/v1/config{query}"), &[&format!("Content-Type: {kind}")], Some(text))
    };

    let tried = put("?dry_run=true", "application/toml", &other).json();
    assert_eq!((&tried["applied"], &tried["diff"]["same"]), (&json!(false), &json!(false)));
    assert_eq!(tried["diff"]["backends"]["added"], json!([format!("web/{two}")]), "{tried}");
    assert_eq!(tried["diff"]["backends"]["removed"], json!([format!("web/{one}")]), "{tried}");
    assert_eq!(answered_by(listen, 3), ["200 one"]);

    let broken = put("", "application/toml", &format!("{other}\n[[pool]]\nname = \"x\"\nbakends = []\n"));
    assert_eq!(broken.status, 422, "{broken:?}");
    broken.problem();
    let errors = broken.json()["errors"].clone();
    let found = errors.as_array().and_then(|errors| errors.iter().find(|error| error["code"] == "unknown_key"));
    assert_eq!(found.map(|error| error["help"].clone()), Some(json!("did you mean \"backends\"?")), "{errors}");
    assert_eq!(answered_by(listen, 3), ["200 one"]);

    let applied = put("", "application/toml", &other).json();
    assert_eq!((&applied["applied"], &applied["kept"]), (&json!(true), &json!(false)), "{applied}");
    assert_eq!(answered_by(listen, 3), ["200 two"]);
    daemon.wait_event(0, &[" node.applied ", "by loopback"]);
    let state = get(&daemon, "/api/v1/status")["config"].clone();
    assert_eq!(state["same"], false, "{state}");
    let diff = get(&daemon, "/api/v1/config/diff");
    assert_eq!(diff["backends"]["added"], json!([format!("web/{one}")]), "what a reload would bring: {diff}");

    assert_eq!(post(&daemon, "/api/v1/config/reload", "").status, 200);
    assert_eq!(answered_by(listen, 3), ["200 one"]);
    daemon.wait_event(0, &[" node.reloaded ", "by loopback"]);
    assert_eq!(get(&daemon, "/api/v1/config")["same"], true);

    assert_eq!(put("?keep=true", "application/toml", &other).status, 200);
    assert_eq!(fs::read_to_string(daemon.config()).expect("it is there"), other);
    let before = daemon.config().with_extension("toml.before");
    assert_eq!(fs::read_to_string(before).expect("it is kept"), file);
    assert_eq!(answered_by(listen, 3), ["200 two"]);

    for (query, kind, text, status) in [
        ("?keep=true", "application/json", "{}", 422),
        ("?dry_run=true&keep=true", "application/toml", "", 400),
        ("?dryrun=true", "application/toml", "", 400),
        ("", "text/html", "", 415),
        ("", "application/toml", "\u{0}", 422),
    ] {
        let told = put(query, kind, text);
        assert_eq!(told.status, status, "{query} {kind}: {told:?}");
        told.problem();
    }
}

#[test]
fn events_are_numbered_and_a_stream_goes_on_where_it_broke() {
    let (one, listen) = (named("one"), free_address());
    let daemon = Daemon::start("admin_events", &site(listen, &[one], "check = \"off\""));
    let mut live = Stream::open(daemon.admin, "/api/v1/events/stream", &[]);
    live.until("\r\n\r\n");
    order(&daemon, one, r#"{"order":"drain"}"#);
    let told = live.until("\"backend.ordered\"").to_owned();
    let id =
        told.split("id: ").nth(1).and_then(|rest| rest.split('\n').next()).expect("events have ids").trim().to_owned();
    drop(live);
    order(&daemon, one, r#"{"order":"maintain"}"#);
    let mut again = Stream::open(daemon.admin, "/api/v1/events/stream", &[&format!("Last-Event-ID: {id}")]);
    let told = again.until("\"maintain\"");
    assert!(!told.contains(&format!("id: {id}\n")), "what was seen comes again: {told}");
    let page = get(&daemon, &format!("/api/v1/events?after={id}"));
    assert_eq!(page["events"][0]["to"], "maintain", "{page}");
    assert_eq!(page["missed"], 0);
}

#[test]
fn who_may_open_the_socket_may_operate_and_only_a_dead_one_is_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let (one, listen) = (named("one"), free_address());
    let folder = Folder::new("admin_socket_place");
    let socket = folder.0.join("admin.sock");
    let body = format!("socket = \"{}\"\n{}", socket.display(), site(listen, &[one], "check = \"off\""));
    // What a killed process leaves.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("the folder can be written"));
    let daemon = Daemon::start("admin_socket", &body);
    let mode = fs::metadata(&socket).expect("the socket is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let told = ask_by(&socket, &format!("POST /api/v1/pools/web/backends/{one}/order"), Some(r#"{"order":"drain"}"#));
    assert_eq!(told.status, 200, "{told:?}");
    let event = daemon.wait_event(0, &[" backend.ordered "]);
    assert!(event.contains("socket"), "{event}");
    assert_eq!(get(&daemon, "/api/v1/config")["changes"][0]["by"], "socket");

    // A second node must not take it away.
    let other = daemon.config().with_file_name("second.toml");
    let text = fs::read_to_string(daemon.config()).expect("it is there");
    let text = text.replace(&listen.to_string(), &free_address().to_string());
    fs::write(&other, text.replace(&daemon.admin.to_string(), &free_address().to_string()))
        .expect("the folder can be written");
    let second =
        std::process::Command::new(env!("CARGO_BIN_EXE_evenkeel")).arg("run").arg("--config").arg(&other).output();
    let second = second.expect("the binary was built for this test");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("another process listens there"), "{said}");
    assert_eq!(ask_by(&socket, "GET /status", None).status, 200);
}

#[test]
fn nothing_secret_is_in_an_answer_or_in_the_log() {
    let (one, listen) = (backend(says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")), free_address());
    let secrets = "[[listener.rule]]\npath = \"/x\"\nheaders = { x-key = \"condition-s3cret\" }\npool = \"web\"\n\
         request_headers = { set = { Authorization = \"set-s3cret\" } }\n# comment-s3cret\n";
    let check = "[pool.check]\npath = \"/?t=path-s3cret\"\nheaders = { Authorization = \"Bearer check-s3cret\" }\n";
    let body = site(listen, &[one], check).replace("[[pool]]", &format!("{secrets}[[pool]]"));
    let hook = "\n[[node.hook]]\nurl = \"http://127.0.0.1:1/hook-s3cret\"";
    let daemon = Daemon::start_with(&Setup { name: "admin_secrets", node: hook, body: &body, namespace: None });
    daemon.wait_verdict("web", &one.to_string(), "healthy");
    let file = fs::read_to_string(daemon.config()).expect("it is there");
    let changed = file.replace("check-s3cret", "other-s3cret").replace("condition-s3cret", "another-s3cret");
    let broken = file.replace("http://127.0.0.1:1/hook-s3cret", "htp://127.0.0.1:1/hook-s3cret");
    let put = |text: &str, query: &str| {
        ask(daemon.admin, &format!("PUT /api/v1/config{query}"), &["Content-Type: application/toml"], Some(text))
    };
    let mut told = vec![put(&changed, "?dry_run=true"), put(&broken, ""), put(&changed, "")];
    fs::write(daemon.config(), &broken).expect("the folder can be written");
    told.push(post(&daemon, "/api/v1/config/reload", ""));
    let asked = r#"{"url":"http://ADDRESS/x","headers":{"x-key":"wrong"}}"#.replace("ADDRESS", &listen.to_string());
    told.push(post(&daemon, "/api/v1/route", &asked));
    for path in ["config", "status", "events", "requests", "causes", "host", "history"] {
        told.push(ask(daemon.admin, &format!("GET /api/v1/{path}"), &[], None));
    }
    assert_eq!(
        told.iter().map(|told| told.status).collect::<Vec<_>>(),
        [200, 422, 200, 422, 200, 200, 200, 200, 200, 200, 200, 200]
    );
    for told in told {
        assert!(!told.text.contains("s3cret"), "{}", told.text);
    }
    let said = daemon.events().join("\n");
    assert!(said.contains(" plan.refused ") && !said.contains("s3cret"), "{said}");
}
