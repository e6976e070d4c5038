//! Rules, redirects, stickiness: what becomes of a request, seen by its client and by the backend that got it.
//!
//! Each request of the table is also put to `evenkeel route test`, which must say beforehand what the node then does.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::backend::{backend, hold, read_head};
use crate::client::Answer;
use crate::daemon::{Daemon, Setup, free_address};
use crate::l7_speak::{Forge, Front, NAME, Site, Talk};

/// Answers with the head it was asked with, and says who it is.
fn mirror(name: &'static str) -> impl Fn(TcpStream) + Send + Sync {
    move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let length = head.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nServed-By: {name}\r\nX-Inside: secret\r\nContent-Length: {length}\r\n\r\n{head}"
            );
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// What a request comes to.
enum Wanted {
    /// The pool, and what the backend's head must contain.
    Pool(&'static str, &'static str),
    Redirect(u16, &'static str),
    Answer(u16, &'static str),
    Refused(u16, &'static str),
}

const RULES: &str = r#"rule = [
{ name = "exact", host = "www.site.test", pool = "exact" },
{ name = "api", host = "www.site.test", path = "/api", pool = "api", rewrite_path = "/v2" },
{ name = "post", host = "www.site.test", path = "/api", method = "POST", pool = "post" },
{ name = "beta", host = "www.site.test", path = "/api", headers = { "x-beta" = "1" }, pool = "beta" },
{ name = "wild", host = "*.site.test", pool = "wild" },
{ name = "narrow", host = "*.deep.site.test", pool = "narrow" },
{ name = "old", host = "www.site.test", path = "/old", redirect = { to = "https://new.test/", status = 301 } },
{ name = "moved", host = "www.site.test", path = "/moved", redirect = { to = "/here" } },
{ name = "fixed", host = "www.site.test", path = "/fixed", answer = { status = 418, body = "short and stout", content_type = "text/x-pot" } },
{ name = "edits", host = "www.site.test", path = "/edits", pool = "exact", request_headers = { set = { "X-A" = "set" }, add = { "X-B" = "added" }, remove = ["X-C"] }, response_headers = { set = { "Served-By" = "nobody" }, add = { "X-Out" = "yes" }, remove = ["X-Inside"] } },
{ name = "slow", host = "www.site.test", path = "/slow", pool = "slow", response_timeout = "150ms" },
{ name = "anybody", path = "/anybody", pool = "anybody" },
]"#;

/// Asks `evenkeel route test` and compares.
fn foretold(daemon: &Daemon, method: &str, url: &str, listener: &str, fields: &[&str], wanted: &Wanted) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    command.args(["route", "test", method, url, "--json", "--listener", listener, "--config"]).arg(daemon.config());
    for field in fields {
        command.args(["-H", field]);
    }
    let said = command.output().expect("it was built");
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let report: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{method} {url}: {error}: {text}{}", String::from_utf8_lossy(&said.stderr)));
    match wanted {
        Wanted::Pool(pool, _) => {
            assert_eq!(
                (&report["action"], &report["pool"]["name"]),
                (&"pool".into(), &(*pool).into()),
                "{url}: {report}"
            );
        }
        Wanted::Redirect(status, to) => {
            let told = (&report["redirect"]["status"], &report["redirect"]["location"]);
            assert_eq!(told, (&(*status).into(), &(*to).into()), "{url}: {report}");
        }
        Wanted::Answer(status, body) => {
            let told = (&report["answer"]["status"], &report["answer"]["bytes"]);
            assert_eq!(told, (&(*status).into(), &body.len().into()), "{url}: {report}");
        }
        Wanted::Refused(status, cause) => {
            let told = (&report["refused"]["status"], &report["refused"]["cause"]);
            assert_eq!(told, (&(*status).into(), &(*cause).into()), "{url}: {report}");
        }
    }
    let refused = matches!(wanted, Wanted::Refused(..));
    assert_eq!(said.status.code(), Some(i32::from(refused)), "{url}: {report}");
}

#[test]
fn requests_go_where_the_rules_say_and_route_test_says_so_before() {
    let forge = Forge::new("rules");
    let site = Site { plain: free_address(), tls: free_address() };
    let mut body = forge.listeners("web", site, &forge.issue("listener", &[NAME]), RULES);
    for name in ["exact", "api", "post", "beta", "wild", "narrow", "anybody"] {
        body += &format!("[[pool]]\nname = \"{name}\"\nbackends = [\"{}\"]\ncheck = \"off\"\n", backend(mirror(name)));
    }
    body += &format!("[[pool]]\nname = \"slow\"\nbackends = [\"{}\"]\ncheck = \"off\"\n", backend(hold));
    let daemon =
        Daemon::start_with(&Setup { name: "rules", node: "cluster = \"rules\"", body: &body, namespace: None });
    use Wanted::{Answer as Fixed, Pool, Redirect, Refused};
    let table: [(&str, &str, &str, &[&str], Wanted); 25] = [
        ("GET", "www.site.test", "/", &[], Pool("exact", "GET / HTTP/1.1")),
        ("GET", "WWW.Site.Test:8080", "/", &[], Pool("exact", "GET / HTTP/1.1")),
        ("GET", "www.site.test.", "/", &[], Pool("exact", "GET / HTTP/1.1")),
        ("GET", "www.site.test", "/api", &[], Pool("api", "GET /v2 HTTP/1.1")),
        ("GET", "www.site.test", "/api/x?q=1", &[], Pool("api", "GET /v2/x?q=1 HTTP/1.1")),
        ("GET", "www.site.test", "/apix", &[], Pool("exact", "GET /apix HTTP/1.1")),
        ("POST", "www.site.test", "/api/x", &["Content-Length: 0"], Pool("post", "POST /api/x HTTP/1.1")),
        ("PUT", "www.site.test", "/api/x", &["Content-Length: 0"], Pool("api", "PUT /v2/x HTTP/1.1")),
        ("GET", "www.site.test", "/api/x", &["X-Beta: 1"], Pool("beta", "GET /api/x HTTP/1.1")),
        ("GET", "www.site.test", "/api/x", &["X-Beta: 2"], Pool("api", "GET /v2/x HTTP/1.1")),
        ("GET", "a.site.test", "/", &[], Pool("wild", "GET / HTTP/1.1")),
        ("GET", "b.a.site.test", "/x", &[], Pool("wild", "GET /x HTTP/1.1")),
        ("GET", "x.deep.site.test", "/", &[], Pool("narrow", "GET / HTTP/1.1")),
        ("GET", "site.test", "/", &[], Refused(404, "host_not_configured")),
        ("GET", "other.test", "/", &[], Refused(404, "host_not_configured")),
        ("GET", "other.test", "/anybody/x", &[], Pool("anybody", "GET /anybody/x HTTP/1.1")),
        ("GET", "www.site.test", "/old/page", &[], Redirect(301, "https://new.test/")),
        ("GET", "www.site.test", "/moved", &[], Redirect(308, "/here")),
        ("GET", "www.site.test", "/fixed", &[], Fixed(418, "short and stout")),
        ("HEAD", "www.site.test", "/fixed", &[], Fixed(418, "short and stout")),
        ("GET", "www.site.test", "/edits", &["X-A: 1", "X-B: 1", "X-C: 1"], Pool("exact", "x-a: set")),
        ("GET", "www.site.test", "/%61pi", &[], Pool("exact", "GET /%61pi HTTP/1.1")),
        ("GET", "127.0.0.1", "/", &[], Refused(404, "host_not_configured")),
        ("GET", "www.site.test", "/", &["CDN-Loop: evenkeel-rules"], Refused(508, "loop_detected")),
        ("GET", "www.site.test", "/", &["CDN-Loop: rules"], Pool("exact", "cdn-loop: evenkeel-rules")),
    ];
    for front in Front::ALL {
        let mut talk = Talk::open(front, site, &forge);
        let (scheme, listener) = if front.is_tls() { ("https", "web-tls") } else { ("http", "web") };
        for (method, host, path, fields, wanted) in &table {
            let what = format!("{method} {host}{path} {fields:?} over {}", front.word());
            let more: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
            talk.send(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n"));
            let answer =
                talk.answer_to(*method == "HEAD").unwrap_or_else(|end| panic!("{what}: {end:?} instead of an answer"));
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            match wanted {
                Wanted::Pool(pool, head) => {
                    let by = if *path == "/edits" { "nobody" } else { pool };
                    assert_eq!((answer.status, answer.field("served-by")), (200, Some(by)), "{what}: {}", answer.head);
                    assert!(text.to_lowercase().contains(&head.to_lowercase()), "{what}: the backend got {text}");
                }
                Wanted::Redirect(status, to) => {
                    let seen = (answer.status, answer.field("location"), answer.field("proxy-status"));
                    assert_eq!(seen, (*status, Some(*to), None), "{what}: {}", answer.head);
                }
                Wanted::Answer(status, body) => {
                    let body = if *method == "HEAD" { "" } else { body };
                    let seen = (answer.status, &*text, answer.field("content-type"));
                    assert_eq!(seen, (*status, body, Some("text/x-pot")), "{what}: {}", answer.head);
                }
                Wanted::Refused(status, cause) => {
                    let told = answer.field("proxy-status").unwrap_or_default();
                    assert_eq!(answer.status, *status, "{what}: {}", answer.head);
                    assert!(told.contains(&format!("details=\"{cause}\"")), "{what}: {told}");
                }
            }
            if front == Front::Http1 {
                foretold(&daemon, method, &format!("{scheme}://{host}{path}"), listener, fields, wanted);
            }
        }
        let edited =
            talk.ask("GET /edits HTTP/1.1\r\nHost: www.site.test\r\nX-A: 1\r\nX-A: 2\r\nX-B: 1\r\nX-C: 1\r\n\r\n");
        let head = String::from_utf8_lossy(&edited.body).to_lowercase();
        let count = |what: &str| head.matches(what).count();
        assert_eq!((count("\nx-a:"), count("\nx-b:"), count("\nx-c:")), (1, 2, 0), "{head}");
        assert_eq!((edited.field("x-out"), edited.field("x-inside")), (Some("yes"), None), "{}", edited.head);
        // The rule's own time, not the pool's minute.
        let begun = Instant::now();
        let answer = talk.ask("GET /slow HTTP/1.1\r\nHost: www.site.test\r\n\r\n");
        let told = answer.field("proxy-status").unwrap_or_default();
        assert!(answer.status == 504 && told.contains("backend_response_timeout"), "{}", answer.head);
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
    let refused = daemon.metric("evenkeel_failures_total", &["listener=\"web\"", "cause=\"host_not_configured\""]);
    assert_eq!(refused, 6.0, "three for each version");
    for line in daemon.log().iter().filter(|line| line["host"] == "other.test" && line["target"] == "/") {
        assert_eq!((&line["cause"], &line["status"]), (&"host_not_configured".into(), &404.into()), "{line}");
    }
}

#[test]
fn plain_requests_are_sent_on_to_https_and_nowhere_else() {
    let forge = Forge::new("redirects");
    let (usual, other, tls) = (free_address(), free_address(), free_address());
    let listener =
        |name, address, keys: &str| format!("[[listener]]\nname = \"{name}\"\nlisten = \"{address}\"\n{keys}\n");
    let body = listener("usual", usual, "redirect_to_https = true")
        + &listener("other", other, "redirect_to_https = 8443")
        + &listener(
            "tls",
            tls,
            "protocol = \"https\"\npool = \"web\"\nhsts = { max_age = \"365d\", subdomains = true }",
        )
        + &format!("[[listener.certificate]]\n{}", forge.issue("listener", &[NAME]).keys())
        + &format!("[[pool]]\nname = \"web\"\nbackends = [\"{}\"]\ncheck = \"off\"\n", backend(mirror("web")));
    let daemon = Daemon::start("redirects", &body);
    let table = [
        (usual, "GET", "e2e.test", "/", Ok((301, "https://e2e.test/"))),
        (usual, "HEAD", "e2e.test", "/a?b=c", Ok((301, "https://e2e.test/a?b=c"))),
        (usual, "POST", "e2e.test", "/form", Ok((308, "https://e2e.test/form"))),
        (usual, "GET", "e2e.test:80", "/", Ok((301, "https://e2e.test/"))),
        (other, "GET", "e2e.test:8080", "/x", Ok((301, "https://e2e.test:8443/x"))),
        (usual, "GET", "[::1]:80", "/", Ok((301, "https://[::1]/"))),
        // The path is the client's and stays one, however much it looks like an address.
        (usual, "GET", "e2e.test", "//evil.test/x", Ok((301, "https://e2e.test//evil.test/x"))),
        // What would be read as user and host, or as another place.
        (usual, "GET", "e2e.test@evil.test", "/", Err(400)),
        (usual, "GET", "e2e.test/evil.test", "/", Err(400)),
        (usual, "GET", "e2e.test\\evil.test", "/", Err(400)),
        (usual, "GET", "", "/", Err(400)),
        (usual, "GET", "e2e.test:443x", "/", Err(400)),
    ];
    for (row, (address, method, host, path, wanted)) in table.into_iter().enumerate() {
        let what = format!("{row}: {method} {host:?} {path}");
        let site = Site { plain: address, tls };
        let mut talk = Talk::open(Front::Http1, site, &forge);
        talk.send(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"));
        let answer = talk.answer_to(method == "HEAD").unwrap_or_else(|end| panic!("{what}: {end:?}"));
        match wanted {
            Ok((status, to)) => assert_eq!((answer.status, answer.field("location")), (status, Some(to)), "{what}"),
            Err(status) => assert_eq!((answer.status, answer.field("location")), (status, None), "{what}"),
        }
        assert_eq!(answer.field("strict-transport-security"), None, "{what}: RFC 6797 7.2");
        assert_eq!(answer.field("served-by"), None, "{what}: nothing is served in plain");
    }
    let site = Site { plain: usual, tls };
    let answer = Talk::open(Front::Http2, site, &forge).get("/h2", "");
    assert_eq!((answer.status, answer.field("location")), (301, Some("https://e2e.test/h2")), "{}", answer.head);
    for front in [Front::Http1Tls, Front::Http2Tls] {
        let answer = Talk::open(front, site, &forge).get("/", "");
        assert_eq!(
            answer.field("strict-transport-security"),
            Some("max-age=31536000; includeSubDomains"),
            "{}",
            answer.head
        );
        assert_eq!(answer.field("served-by"), Some("web"), "{}", answer.head);
    }
    daemon.wait_log_where("a redirect", |line| line["status"] == 301 && line["cause"].is_null());
}

/// A backend whose health can be taken from it.
fn patient(name: &'static str, well: &Arc<AtomicBool>) -> SocketAddr {
    let well = Arc::clone(well);
    backend(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let status = if head.contains("/health") && !well.load(Ordering::Relaxed) { "500 Sick" } else { "200 OK" };
            let answer = format!(
                "HTTP/1.1 {status}\r\nServed-By: {name}\r\nSet-Cookie: JSESSIONID={name}-session; Path=/app\r\n\
                 Content-Length: {}\r\n\r\n{head}",
                head.len()
            );
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// The value of the cookie `name` that an answer sets, with its attributes.
fn set_cookie(answer: &Answer, name: &str) -> Option<(String, String)> {
    answer.fields("set-cookie").find_map(|line| {
        let (value, attributes) = line.strip_prefix(name)?.strip_prefix('=')?.split_once(';').unwrap_or((line, ""));
        Some((value.to_owned(), attributes.to_ascii_lowercase()))
    })
}

#[test]
fn a_client_stays_with_its_backend_until_that_fails() {
    let forge = Forge::new("sticky");
    let names = ["one", "two", "three"];
    let well = names.map(|_| Arc::new(AtomicBool::new(true)));
    let addresses: Vec<SocketAddr> = names.iter().zip(&well).map(|(name, well)| patient(name, well)).collect();
    let listed: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    let listed = listed.join(", ");
    let check = "check = { kind = \"http\", path = \"/health\", interval = \"100ms\", timeout = \"2s\", \
                 healthy_threshold = 2, unhealthy_threshold = 2 }";
    let (inserted, rewritten) =
        (Site { plain: free_address(), tls: free_address() }, Site { plain: free_address(), tls: free_address() });
    let certificate = forge.issue("listener", &[NAME]);
    let body = forge.listeners("inserted", inserted, &certificate, "pool = \"inserted\"")
        + &forge.listeners("rewritten", rewritten, &certificate, "pool = \"rewritten\"")
        + &format!(
            "[[pool]]\nname = \"inserted\"\nbackends = [{listed}]\n{check}\nsticky = {{ max_age = \"1h\" }}\n\
             [[pool]]\nname = \"rewritten\"\nbackends = [{listed}]\n{check}\n\
             sticky = {{ mode = \"rewrite\", cookie = \"JSESSIONID\" }}\n"
        );
    let daemon = Daemon::start("sticky", &body);
    let by = |answer: &Answer| answer.field("served-by").expect("a backend answered").to_owned();

    for front in Front::ALL {
        let way = front.word();
        let mut talk = Talk::open(front, inserted, &forge);
        let first = talk.get("/", "");
        let (token, attributes) = set_cookie(&first, "SERVERID").unwrap_or_else(|| panic!("{way}: {}", first.head));
        assert_eq!(attributes.contains("secure"), front.is_tls(), "{way}: {attributes}");
        assert!(attributes.contains("httponly") && attributes.contains("max-age=3600"), "{way}: {attributes}");
        for _ in 0..8 {
            let again = talk.get("/", &format!("Cookie: a=b; SERVERID={token}\r\n"));
            assert_eq!(by(&again), by(&first), "{way}");
            assert_eq!(set_cookie(&again, "SERVERID"), None, "{way}: it has one");
        }
        // One bit of it changed, at each end and in the middle.
        for place in [0, 10, token.len() - 1] {
            let mut forged = token.clone().into_bytes();
            forged[place] = if forged[place] == b'A' { b'Q' } else { b'A' };
            let forged = String::from_utf8(forged).expect("base64url");
            let answer = talk.get("/", &format!("Cookie: SERVERID={forged}\r\n"));
            assert_eq!(answer.status, 200, "{way}");
            assert!(set_cookie(&answer, "SERVERID").is_some(), "{way}: a forged cookie is not believed: {forged}");
        }
    }

    // The backend's own cookie carries the token, and the backend sees what it said itself.
    for front in Front::ALL {
        let way = front.word();
        let mut talk = Talk::open(front, rewritten, &forge);
        let first = talk.get("/", "");
        let (marked, attributes) = set_cookie(&first, "JSESSIONID").unwrap_or_else(|| panic!("{way}: {}", first.head));
        let session = format!("{}-session", by(&first));
        assert!(marked.ends_with(&session) && marked.len() > session.len(), "{way}: {marked}");
        assert_eq!(attributes.trim(), "path=/app", "{way}: the backend's attributes stay as they are");
        for _ in 0..8 {
            let again = talk.get("/", &format!("Cookie: a=b; JSESSIONID={marked}; c=d\r\n"));
            assert_eq!(by(&again), by(&first), "{way}");
            let head = String::from_utf8_lossy(&again.body).into_owned();
            assert!(head.contains(&format!("a=b; JSESSIONID={session}; c=d")), "{way}: the backend got {head}");
        }
    }

    // Its backend fails: moved, with a new cookie; the backend comes back: whoever still has the old cookie is at home.
    let mut talk = Talk::open(Front::Http2Tls, inserted, &forge);
    let first = talk.get("/", "");
    let (token, _) = set_cookie(&first, "SERVERID").expect("a cookie");
    let home = names.iter().position(|name| *name == by(&first)).expect("one of the three");
    well[home].store(false, Ordering::Relaxed);
    daemon.wait_verdict("inserted", &addresses[home].to_string(), "unhealthy");
    let cookie = format!("Cookie: SERVERID={token}\r\n");
    let moved = talk.get("/", &cookie);
    assert_eq!(moved.status, 200);
    assert_ne!(by(&moved), by(&first));
    let (second, _) = set_cookie(&moved, "SERVERID").expect("a moved client is given a new cookie");
    let second = format!("Cookie: SERVERID={second}\r\n");
    assert_eq!(by(&talk.get("/", &second)), by(&moved));
    well[home].store(true, Ordering::Relaxed);
    daemon.wait_verdict("inserted", &addresses[home].to_string(), "healthy");
    assert_eq!(by(&talk.get("/", &cookie)), by(&first), "the old cookie still names it");
    for _ in 0..4 {
        assert_eq!(by(&talk.get("/", &second)), by(&moved), "recovery moves nobody");
    }
}
