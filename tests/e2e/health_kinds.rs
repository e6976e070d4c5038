//! Kinds of probe against real software: Dovecot, Redis, nginx, dnsmasq, an agent in Python.
//!
//! Each server is first found well, then something is wrong with it that only this kind of probe can see, and the
//! evidence has to say what. What probes leave behind in a server's own log counts too.

use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::daemon::{Daemon, Folder, free_address, skipped, until};
use crate::real_dns::Dnsmasq;
use crate::real_redis::Redis;
use crate::servers::Server;
use crate::tools::{Authority, Key, Peer, have_all};

/// Fast enough for a test, and any probe has time enough on a machine under load.
const QUICK: &str = "interval = \"100ms\"\ntimeout = \"5s\"\nhealthy_threshold = 1\nunhealthy_threshold = 2\n";

/// A pool behind a listener of its own, with these tables of checks, each with its own keys and the quick timing.
fn pool(name: &str, protocol: &str, backend: SocketAddr, checks: &[&str]) -> String {
    let listen = free_address();
    let mut text = format!(
        "[[listener]]\nname = \"{name}\"\nlisten = \"{listen}\"\nprotocol = \"{protocol}\"\npool = \"{name}\"\n\
         [[pool]]\nname = \"{name}\"\nbackends = [\"{backend}\"]\n"
    );
    for check in checks {
        text += "[[pool.check]]\n";
        text += QUICK;
        text += check;
        text += "\n";
    }
    text
}

/// One check of the only backend of a pool, as the status page has it.
fn check(daemon: &Daemon, pool: &str, name: &str) -> Value {
    let status = daemon.status();
    let pools = status["pools"].as_array().cloned().unwrap_or_default();
    let found = pools.into_iter().find(|shown| shown["name"] == pool).unwrap_or_default();
    let checks = found["backends"][0]["checks"].as_array().cloned().unwrap_or_default();
    checks.into_iter().find(|check| check["name"] == name).unwrap_or_default()
}

/// Waits until the check has this verdict, and gives its last finding.
fn wait(daemon: &Daemon, pool: &str, name: &str, verdict: &str) -> Value {
    until(&format!("check {name} of {pool} to be {verdict}"), || {
        let check = check(daemon, pool, name);
        (check["verdict"] == verdict).then(|| check["recent"][0].clone())
    })
}

/// Waits for a finding of the check with all of `words` in it.
fn wait_finding(daemon: &Daemon, pool: &str, name: &str, words: &[&str]) -> Value {
    let fits = |finding: &&Value| words.iter().all(|word| finding["text"].as_str().unwrap_or("").contains(word));
    until(&format!("a finding of {name} of {pool} with {words:?}"), || {
        check(daemon, pool, name)["recent"].as_array()?.iter().find(fits).cloned()
    })
}

/// So many more probes, so that whatever they leave behind has had its time.
fn wait_probes(daemon: &Daemon, pool: &str, name: &str, more: u64) {
    let count = || {
        let check = check(daemon, pool, name);
        check["passed_total"].as_u64().unwrap_or(0) + check["failed_total"].as_u64().unwrap_or(0)
    };
    let before = count();
    until("more probes", || (count() >= before + more).then_some(()));
}

#[test]
fn dovecot_is_probed_in_its_own_words_and_has_nothing_to_complain_of() {
    let test = "dovecot_is_probed_in_its_own_words_and_has_nothing_to_complain_of";
    if !have_all(test, &["/usr/lib/dovecot/imap", "/usr/lib/dovecot/pop3"], &[]) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skipped(test, "root, as whom Dovecot starts");
    }
    let [imap, pop3] = std::array::from_fn(|_| free_address());
    let service = |protocol: &str, at: SocketAddr| {
        format!(
            "service {protocol}-login {{\n inet_listener {protocol} {{\n address = {}\n port = {}\n }}\n \
             inet_listener {protocol}s {{\n port = 0\n }}\n}}\n",
            at.ip(),
            at.port()
        )
    };
    let text = service("imap", imap) + &service("pop3", pop3);
    let dovecot = Server::dovecot(&[imap, pop3], "ann", "secret", &text);
    let login = "kind = \"tcp\"\nname = \"login\"\nsteps = [{ expect = { regex = '^\\+OK' } }, \
                 { send = 'USER ann\\r\\n' }, { expect = { regex = '^\\+OK' } }, \
                 { send = 'PASS secret\\r\\n' }, { expect = { regex = '^\\+OK Logged in' } }, \
                 { send = 'QUIT\\r\\n' }, { expect = { regex = '^\\+OK' } }]";
    let polite = "kind = \"tcp\"\nname = \"greeting\"\nsteps = [{ expect = '* OK ' }, \
                  { send = \"a LOGOUT\\r\\n\" }, { expect = { regex = '^a OK' } }]";
    let refused = login.replace("PASS secret", "PASS wrong");
    let daemon = Daemon::start(
        "kinds-dovecot",
        &(pool("pop3", "tcp", pop3, &[login])
            + &pool("imap", "tcp", imap, &[polite])
            + &pool("refused", "tcp", pop3, &[&refused])),
    );
    assert_eq!(wait(&daemon, "pop3", "login", "healthy")["result"], "passed");
    assert_eq!(wait(&daemon, "imap", "greeting", "healthy")["result"], "passed");
    dovecot.wait_log(&["pop3-login: ", "Login: user=<ann>"]);
    dovecot.wait_log(&["imap-login: ", "Aborted login by logging out"]);

    // It lets an attempt with a wrong password wait for some seconds before it says so, and goes on listening.
    let finding = wait(&daemon, "refused", "login", "unhealthy");
    let text = finding["text"].as_str().expect("a finding has a text");
    assert!(text.contains("step 5 of 7 expected /^\\+OK Logged in/, got "), "{text}");
    assert!(text.contains("-ERR") || text.contains("nothing until the timeout"), "{text}");
    assert_eq!(finding["step"], 5, "{finding}");

    // A check that says goodbye is logged as what it is; one that broke off would be "reset by peer".
    wait_probes(&daemon, "imap", "greeting", 5);
    let seen = dovecot.log_lines(&["imap-login: "]);
    assert!(!seen.iter().any(|line| line.contains("reset by peer")), "{seen:#?}");
}

#[test]
fn redis_that_wants_a_password_or_stands_still_is_found_by_a_conversation() {
    let test = "redis_that_wants_a_password_or_stands_still_is_found_by_a_conversation";
    if !have_all(test, &["redis-server", "redis-cli"], &[]) {
        return;
    }
    let redis = Redis::start("one");
    let ping = "kind = \"tcp\"\nname = \"ping\"\n\
                steps = [{ send = 'PING\\r\\n' }, { expect = { hex = '2b 50 4f 4e 47 0d 0a' } }]";
    let daemon = Daemon::start("kinds-redis", &pool("redis", "tcp", redis.address, &[ping, "kind = \"tcp\""]));
    wait(&daemon, "redis", "ping", "healthy");
    let finding = wait(&daemon, "redis", "tcp", "healthy");
    assert_eq!(finding["kind"], "tcp");

    // It still takes connections, so only the conversation sees it.
    redis.ask(&["CONFIG", "SET", "requirepass", "secret"]);
    let finding = wait(&daemon, "redis", "ping", "unhealthy");
    let text = finding["text"].as_str().expect("a finding has a text");
    assert!(text.contains("step 2 of 2 expected 2b504f4e470d0a, got \"-NOAUTH "), "{text}");
    assert_eq!(check(&daemon, "redis", "tcp")["verdict"], "healthy");
    daemon.wait_verdict("redis", &redis.address.to_string(), "unhealthy");

    redis.stand_still();
    let finding = wait_finding(&daemon, "redis", "ping", &["step 2 of 2", "got nothing until the timeout"]);
    assert_eq!((&finding["reason"], &finding["step"]), (&json!("timed_out"), &json!(2)), "{finding}");
    assert_eq!(check(&daemon, "redis", "tcp")["verdict"], "healthy");
}

#[test]
fn dnsmasq_is_asked_and_its_answer_understood() {
    let test = "dnsmasq_is_asked_and_its_answer_understood";
    if !have_all(test, &["dnsmasq"], &[]) {
        return;
    }
    let mut dnsmasq = Dnsmasq::start();
    let checks = [
        "kind = \"dns\"\nname = \"right\"\nquery = \"a.bench.test\"\nexpect_addresses = [\"192.0.2.8\", \"192.0.2.7\"]",
        "kind = \"dns\"\nname = \"wrong\"\nquery = \"a.bench.test\"\nexpect_addresses = [\"192.0.2.8\"]",
        "kind = \"dns\"\nname = \"elsewhere\"\nquery = \"example.com\"",
        "kind = \"dns\"\nname = \"refusing\"\nquery = \"example.com\"\nexpect_codes = [\"REFUSED\"]",
        // The same by hand: our id comes back, with any flags and one answer that ends with the address.
        "kind = \"udp\"\nname = \"bytes\"\nsend = '\\x12\\x34\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x01a\\x05bench\\x04test\\x00\\x00\\x01\\x00\\x01'\n\
         expect = { hex = '12 34 ?? ?? 00 01 00 01 * c0 00 02 07' }",
    ];
    let daemon = Daemon::start("kinds-dns", &pool("dns", "udp", dnsmasq.address, &checks));
    let text = |name, verdict| wait(&daemon, "dns", name, verdict)["text"].as_str().unwrap_or("").to_owned();
    assert!(text("right", "healthy").ends_with(": NOERROR, 1 answer"), "{}", text("right", "healthy"));
    assert!(text("wrong", "unhealthy").ends_with(": none of the expected addresses in 1 answer"));
    assert!(
        text("elsewhere", "unhealthy").ends_with(": REFUSED is not expected"),
        "{}",
        text("elsewhere", "unhealthy")
    );
    assert!(text("refusing", "healthy").ends_with(": REFUSED, 0 answers"));
    assert!(text("bytes", "healthy").ends_with(": expected answer"));
    assert_eq!(wait(&daemon, "dns", "wrong", "unhealthy")["phase"], "read");
    dnsmasq.kill();
    for name in ["right", "refusing", "bytes"] {
        let finding = wait(&daemon, "dns", name, "unhealthy");
        assert_eq!((&finding["reason"], &finding["phase"]), (&json!("refused"), &json!("read")), "{finding}");
    }
}

#[test]
fn an_agent_is_believed_word_by_word() {
    let test = "an_agent_is_believed_word_by_word";
    if !have_all(test, &["/usr/bin/python3"], &[]) {
        return;
    }
    let folder = Folder::new("agent");
    let file = folder.0.join("line");
    // Renamed into place: the agent must not read half a line.
    let says = |line: &str| {
        let draft = folder.0.join("draft");
        fs::write(&draft, line).and_then(|()| fs::rename(&draft, &file)).expect("the folder can be written");
    };
    says("up 100%\n");
    let agent = Peer::start("agent_peer.py", "127.0.0.1", &[&file.display().to_string()]);
    let daemon = Daemon::start("kinds-agent", &pool("app", "tcp", agent.address, &["kind = \"agent\""]));
    wait(&daemon, "app", "agent", "healthy");

    says("75%,maxconn:30\n");
    let finding = wait_finding(&daemon, "app", "agent", &["75%"]);
    let text = finding["text"].as_str().expect("a finding has a text");
    assert!(text.ends_with("agent says 75% maxconn:30 (which is not acted upon)"), "{text}");
    until("the weight to follow", || {
        (daemon.backend("app", &agent.address.to_string())["effective_weight"] == 75).then_some(())
    });

    says("drain\r\n");
    wait_finding(&daemon, "app", "agent", &["agent says drain"]);
    until("the drain to show", || {
        (daemon.backend("app", &agent.address.to_string())["effective_weight"] == 0).then_some(())
    });
    assert_eq!(check(&daemon, "app", "agent")["verdict"], "healthy", "it drains, which is no failure");

    says("ready 75% stopped # disk \"full\"\n");
    let finding = wait(&daemon, "app", "agent", "unhealthy");
    let text = finding["text"].as_str().expect("a finding has a text");
    assert!(text.ends_with("agent says stopped: \"disk \\\"full\\\"\""), "{text}");
    assert_eq!(finding["reason"], "agent_down");

    says("HTTP/1.1 200 OK\r\n");
    wait_finding(&daemon, "app", "agent", &["answer is no line of an agent: a word it does not know, \"HTTP/1.1\""]);

    says("ready up 100%\n");
    wait(&daemon, "app", "agent", "healthy");
    until("the whole weight to be back", || {
        (daemon.backend("app", &agent.address.to_string())["effective_weight"] == 100).then_some(())
    });
}

/// nginx for what http probes can see: a field it wants, pages with and without a word, and who comes on which connection.
fn nginx(plain: SocketAddr, secured: SocketAddr, authority: &Authority, log: &str) -> Server {
    let pair = authority.issue("nginx", Key::Ecdsa, &["health.example"]);
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    Server::nginx(
        &[plain, secured],
        &format!(
            "log_format carried \"$server_port $uri $connection $connection_requests $status\";\n\
             keepalive_timeout 300;\n\
             server {{ access_log {log} carried; listen {plain}; listen {secured} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};\n\
             location = /ready {{ return 200 'all is well\\nready\\n'; }}\n\
             location = /field {{ if ($http_x_probe != 'right') {{ return 403; }} return 204; }}\n\
             location = /broken {{ return 200 'error: no database\\n'; }}\n\
             location / {{ return 404; }} }}\n"
        ),
    )
}

#[test]
fn nginx_is_judged_by_what_its_pages_say() {
    let test = "nginx_is_judged_by_what_its_pages_say";
    if !have_all(test, &["nginx", "openssl"], &[]) {
        return;
    }
    let [plain, secured] = std::array::from_fn(|_| free_address());
    let (authority, folder) = (Authority::new("kinds"), Folder::new("kinds-nginx-log"));
    let _nginx = nginx(plain, secured, &authority, &folder.0.join("carried").display().to_string());
    let checks = [
        "name = \"ready\"\npath = \"/ready\"\nexpect_body = { regex = '^ready$' }",
        "name = \"unlike\"\npath = \"/ready\"\nexpect_body = 'steady'",
        "name = \"broken\"\npath = \"/broken\"\nreject_body = 'error'",
        "name = \"sound\"\npath = \"/ready\"\nreject_body = 'error'",
        "name = \"field\"\npath = \"/field\"\nheaders = { X-Probe = \"right\" }",
        "name = \"no-field\"\npath = \"/field\"",
    ];
    let daemon = Daemon::start("kinds-nginx", &pool("web", "http", plain, &checks));
    for name in ["ready", "sound", "field"] {
        assert_eq!(wait(&daemon, "web", name, "healthy")["result"], "passed", "{name}");
    }
    for (name, evidence) in [
        ("unlike", "body lacks \"steady\": it begins with \"all is well\\nready\\n\""),
        ("broken", "body has \"error\": \"error: no database\\n\""),
        ("no-field", "status 403 is not expected"),
    ] {
        let text = wait(&daemon, "web", name, "unhealthy")["text"].as_str().unwrap_or("").to_owned();
        assert!(text.ends_with(evidence), "{text}");
    }
}

#[test]
fn nginx_sees_one_connection_for_many_probes() {
    let test = "nginx_sees_one_connection_for_many_probes";
    if !have_all(test, &["nginx", "openssl"], &[]) {
        return;
    }
    let [plain, secured] = std::array::from_fn(|_| free_address());
    let (authority, folder) = (Authority::new("kept"), Folder::new("kinds-kept-log"));
    let log = folder.0.join("carried");
    let _nginx = nginx(plain, secured, &authority, &log.display().to_string());
    let ca = authority.file();
    let kept = "kind = \"http\"\npath = \"/ready\"\nkeep_alive = true\n";
    let inside = format!("{kept}tls = {{ name = \"health.example\", ca = \"{}\" }}", ca.display());
    let daemon = Daemon::start(
        "kinds-kept",
        &(pool("plain", "tcp", plain, &[kept]) + &pool("secured", "tcp", secured, &[&inside])),
    );
    for (pool, port) in [("plain", plain.port()), ("secured", secured.port())] {
        wait(&daemon, pool, "http", "healthy");
        wait_probes(&daemon, pool, "http", 8);
        let text = fs::read_to_string(&log).expect("nginx writes it");
        let own = format!("{port} ");
        let lines: Vec<Vec<&str>> =
            text.lines().filter_map(|line| line.strip_prefix(&own)).map(|line| line.split(' ').collect()).collect();
        assert!(lines.len() > 8, "{text}");
        for (number, line) in lines.iter().enumerate() {
            let (connection, request) = (line[1], line[2]);
            assert_eq!((connection, request), (lines[0][1], (number + 1).to_string().as_str()), "{text}");
        }
    }
    let failed = |pool: &str| check(&daemon, pool, "http")["failed_total"].as_u64();
    assert_eq!((failed("plain"), failed("secured")), (Some(0), Some(0)));
}

#[test]
fn a_server_that_closes_idle_connections_all_the_time_never_fails_a_kept_probe() {
    let test = "a_server_that_closes_idle_connections_all_the_time_never_fails_a_kept_probe";
    if !have_all(test, &["nginx"], &[]) {
        return;
    }
    let address = free_address();
    // It closes at about the moment the next probe comes, before it or under it, and every third request at the latest.
    let http = format!(
        "keepalive_timeout 100ms; keepalive_requests 3; server {{ listen {address}; location / {{ return 200 'ok'; }} }}"
    );
    let _nginx = Server::nginx(&[address], &http);
    let kept = "kind = \"http\"\nkeep_alive = true\n";
    let daemon = Daemon::start("kinds-closing", &pool("web", "http", address, &[kept]));
    wait(&daemon, "web", "http", "healthy");
    wait_probes(&daemon, "web", "http", 40);
    assert_eq!(check(&daemon, "web", "http")["failed_total"], 0);
}
