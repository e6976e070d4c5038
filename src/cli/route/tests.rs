//! `route test` from the words on the command line to the report, with a config as an operator writes it.
//!
//! What rules and reports say in each case is tested in their rooms; here it is that the question reaches them whole.

use clap::Parser;
use evenkeel_config::{Format, Source, compile};
use evenkeel_diagnose::route::{Outcome, Pick};
use evenkeel_model::Cause;

use super::*;

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    arguments: Arguments,
}

fn arguments(words: &[&str]) -> Arguments {
    CommandLine::try_parse_from([&["test"], words].concat()).expect("a command line").arguments
}

const SHOP: &str = r#"
[node]
cluster = "shop.example"

[[listener]]
name = "web"
listen = "0.0.0.0:80"
protocol = "http"

[[listener.rule]]
name = "api"
host = "www.example.com"
path = "/api"
pool = "api"
rewrite_path = "/v2"

[[listener.rule]]
name = "shop"
host = ["www.example.com", "*.shop.example"]
pool = "web"

[[listener.rule]]
name = "posts"
host = "www.example.com"
path = "/api"
method = "POST"
headers = { "x-beta" = "1" }
pool = "web"

[[listener.rule]]
name = "moved"
host = "old.example.com"
redirect = { to = "https://www.example.com{path}", status = 301 }

[[listener.rule]]
name = "health"
path = "/healthz"
answer = { status = 200, body = "ok", content_type = "text/plain" }

[[listener]]
name = "plain"
listen = "127.0.0.1:8080"
protocol = "http"
redirect_to_https = true

[[listener]]
name = "inside"
listen = "10.0.0.1:8081"
protocol = "http"
pool = "web"
body_limit = "1KiB"
access = { allow = ["10.0.0.0/8"] }

[[listener]]
name = "elsewhere"
listen = "0.0.0.0:8081"
protocol = "http"
pool = "empty"

[[listener]]
name = "db"
listen = "0.0.0.0:5432"
protocol = "tcp"
pool = "web"

[[pool]]
name = "web"
backends = [{ address = "10.0.0.11:8080" }, { address = "10.0.0.12:8080" }]

[[pool]]
name = "api"
schedule = "maglev"
hash_on = "header:x-user"
backends = [{ address = "10.0.1.1:8080" }, { address = "10.0.1.2:8080" }, { address = "10.0.1.3:8080" }]

[[pool]]
name = "empty"
backends = []
"#;

fn told(words: &[&str]) -> Result<Report, String> {
    let compiled = compile(&Source { name: "shop.toml", text: SHOP, format: Format::Toml });
    let plan = compiled.plan.unwrap_or_else(|| panic!("{:?}", compiled.problems));
    ask(plan, &arguments(words))
}

#[test]
fn a_request_is_told_its_listener_rule_pool_and_backend() {
    let report = told(&["GET", "http://www.example.com/api/x?y", "-H", "X-User: ann"]).unwrap();
    assert_eq!(report.cause(), None);
    let text = route::text(&report);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "listener   \"web\" (http)");
    assert_eq!(
        lines[1],
        "rule       \"api\": it has the narrowest host, then the longest path, then the most conditions"
    );
    assert_eq!(lines[2], "pool       \"api\" (maglev)");
    assert_eq!(lines[3], "path       /v2/x?y is what the backend sees");
    assert!(lines[4].starts_with("backend    10.0.1."), "{text}");
    assert!(lines[4].ends_with(":8080: the hash of its field \"x-user\" leads there"), "{text}");
    assert_eq!(lines[5], "note       no verdicts are known: every backend is taken for fit");
    assert_eq!(lines[6], "runners-up \"shop\": it would take the request, but the path of \"api\" is longer");
}

#[test]
fn method_fields_and_host_of_the_command_line_reach_the_rules() {
    let rule = |words: &[&str]| {
        let report = told(words).unwrap();
        report.rules.first().map(|rule| rule.name.clone()).unwrap_or_default()
    };
    assert_eq!(rule(&["POST", "http://www.example.com/api", "-H", "X-Beta: 1"]), "posts");
    assert_eq!(rule(&["POST", "http://www.example.com/api", "-H", "X-Beta: 2"]), "api");
    assert_eq!(rule(&["GET", "http://192.0.2.1/x", "-H", "Host: a.b.shop.example:80"]), "shop");
    assert_eq!(rule(&["GET", "HTTP://WWW.EXAMPLE.COM./x#/api"]), "shop");
    assert_eq!(rule(&["GET", "http://www.example.com?x=/api"]), "shop");
}

#[test]
fn redirects_and_answers_are_told_as_they_are_sent() {
    let outcome = |words: &[&str]| told(words).unwrap().outcome;
    assert_eq!(
        outcome(&["GET", "http://old.example.com//evil.example/x?y"]),
        Outcome::Redirect { status: 301, location: "https://www.example.com//evil.example/x?y".into() }
    );
    assert_eq!(
        outcome(&["POST", "http://127.0.0.1:8080/x?y", "-H", "Host: www.example.com:8080"]),
        Outcome::Redirect { status: 308, location: "https://www.example.com/x?y".into() }
    );
    let answer = Outcome::Answer { status: 200, content_type: "text/plain".into(), bytes: 2 };
    assert_eq!(outcome(&["GET", "http://www.example.org/healthz"]), answer);
}

#[test]
fn the_url_chooses_the_listener_as_the_kernel_would() {
    let listener = |words: &[&str]| told(words).map(|report| report.listener);
    assert_eq!(listener(&["GET", "http://10.0.0.1:8081/"]), Ok("inside".into()));
    assert_eq!(listener(&["GET", "http://10.0.0.2:8081/"]), Ok("elsewhere".into()));
    assert_eq!(listener(&["GET", "http://[::ffff:10.0.0.1]:8081/"]), Ok("inside".into()));
    assert_eq!(listener(&["GET", "http://a.example:8080/"]), Ok("plain".into()));
    assert_eq!(listener(&["GET", "http://a.example:9/", "--listener", "web"]), Ok("web".into()));
    let several = listener(&["GET", "http://a.example:8081/"]).unwrap_err();
    assert_eq!(
        several,
        "several listeners could take it: \"inside\" (http 10.0.0.1:8081), \"elsewhere\" (http 0.0.0.0:8081); choose the listener by its name"
    );
    let none = listener(&["GET", "https://a.example/"]).unwrap_err();
    assert!(
        none.starts_with("no https listener takes what is sent to any address, port 443; there are \"web\""),
        "{none}"
    );
    // 127.0.0.1 alone does not take what is sent to another address.
    assert!(listener(&["GET", "http://192.0.2.1:8080/"]).is_err());
    let unknown = listener(&["GET", "http://a/", "--listener", "wbe"]).unwrap_err();
    assert!(unknown.starts_with("there is no listener \"wbe\"; there are \"web\""), "{unknown}");
    let tcp = listener(&["GET", "http://a/", "--listener", "db"]).unwrap_err();
    assert_eq!(tcp, "listener \"db\" speaks tcp and the URL http");
}

#[test]
fn what_the_balancer_would_refuse_has_its_cause() {
    let table: &[(&[&str], Cause)] = &[
        (&["GET", "http://unknown.example/"], Cause::HostNotConfigured),
        (&["GET", "http://old.example.com/", "-H", "Host: a b"], Cause::ClientMalformedRequest),
        (&["GET", "http://a_b%2f/"], Cause::ClientMalformedRequest),
        (&["CONNECT", "http://www.example.com/"], Cause::ClientMalformedRequest),
        (
            &["GET", "http://www.example.com/", "-H", "Content-Length: 1", "-H", "Content-Length: 2"],
            Cause::ClientMalformedRequest,
        ),
        (&["GET", "http://www.example.com/", "-H", "X y: 1"], Cause::ClientMalformedRequest),
        (&["GET", "http://www.example.com/", "-H", "CDN-Loop: evenkeel-shop.example"], Cause::LoopDetected),
        (&["GET", "http://10.0.0.1:8081/", "--client", "192.0.2.1"], Cause::ClientDeniedByAcl),
        (&["PUT", "http://10.0.0.1:8081/", "-H", "Content-Length: 1025"], Cause::ClientBodyTooLarge),
        (&["GET", "http://10.0.0.2:8081/"], Cause::NoBackendConfigured),
    ];
    for (words, cause) in table {
        let report = told(words).unwrap_or_else(|text| panic!("{words:?}: {text}"));
        assert_eq!(report.cause(), Some(*cause), "{words:?}");
        assert!(route::text(&report).contains(cause.code()), "{words:?}");
    }
    let long = format!("http://www.example.com/{}", "x".repeat(40_000));
    assert_eq!(told(&["GET", &long]).unwrap().cause(), Some(Cause::ClientUriTooLong));
    let allowed = told(&["GET", "http://10.0.0.1:8081/", "--client", "10.9.9.9"]).unwrap();
    assert!(matches!(allowed.outcome, Outcome::Pool(sent) if matches!(sent.pick, Pick::Shares(_))));
}

#[test]
fn a_bad_question_says_what_is_wrong_with_it() {
    let table: &[(&[&str], &str)] = &[
        (
            &["GET", "www.example.com/x"],
            "\"www.example.com/x\" is no URL; write it whole, such as http://www.example.com/path",
        ),
        (&["GET", "ftp://a/"], "\"ftp://a/\" is none of http, https and tls; only those have rules"),
        (&["GET", "http:///x"], "\"http:///x\" has no host"),
        (&["GET", "http://:80/x"], "\"http://:80/x\" has no host"),
        (&["GET", "http://a:b/"], "\"http://a:b/\" has a bad port; ports are 1 to 65535"),
        (&["GET", "http://a:0/"], "\"http://a:0/\" has a bad port; ports are 1 to 65535"),
        (&["GET", "http://a:65536/"], "\"http://a:65536/\" has a bad port; ports are 1 to 65535"),
        (&["GET", "http://me:pw@a/"], "\"http://me:pw@a/\" names a user; send it as a field Authorization"),
        (&["GET", "http://a/x y"], "\"http://a/x y\" holds ' ', which no URL can; write it percent-encoded"),
        (
            &["GET", "http://a/\r\nX: y"],
            "\"http://a/\\r\\nX: y\" holds '\\r', which no URL can; write it percent-encoded",
        ),
        (&["GET /", "http://a/"], "\"GET /\" is no method; write one word such as GET"),
        (&["GET", "http://a/", "-H", "X"], "-H \"X\" has no colon; write it \"Name: value\""),
        (&["GET", "http://a/", "-H", "X: a\r\nY: b"], "field \"X:  a\\r\\nY: b\" holds '\\r', which no field can"),
    ];
    for (words, expected) in table {
        assert_eq!(told(words).unwrap_err(), *expected, "{words:?}");
    }
}

#[test]
fn json_is_one_document() {
    let report = told(&["GET", "http://www.example.com/", "--json"]).unwrap();
    let json: serde_json::Value = serde_json::from_str(&route::json(&report)).unwrap();
    assert_eq!(json["rule"], "shop");
    assert_eq!(json["pool"]["name"], "web");
    assert_eq!(json["pool"]["candidates"][0]["percent"], 50.0);
}

const NAMES: &str = r#"
[[listener]]
name = "names"
listen = "0.0.0.0:443"
protocol = "tls-passthrough"

[[listener.rule]]
name = "mail"
host = "*.example.com"
alpn = "imap"
pool = "mail"

[[listener.rule]]
name = "web"
host = ["www.example.com", "*.example.com"]
pool = "web"

[[pool]]
name = "mail"
backends = ["10.0.0.11:993"]

[[pool]]
name = "web"
schedule = "source"
backends = ["10.0.0.21:443", "10.0.0.22:443"]
"#;

fn of_names(words: &[&str]) -> Result<Report, String> {
    let source = Source { name: "names.toml", text: NAMES, format: Format::Toml };
    let plan = compile(&source).plan.expect("the config is good");
    ask(plan, &arguments(words))
}

#[test]
fn a_client_of_tls_is_asked_about_by_its_name_and_protocols() {
    let table = [
        (&["tls://a.example.com"][..], Ok(("web", "web"))),
        (&["tls://A.Example.com.:443", "--alpn", "imap"], Ok(("mail", "mail"))),
        (&["tls://www.example.com", "--alpn", "imap", "--alpn", "h2"], Ok(("web", "web"))),
        (&["tls://example.com"], Err(Cause::HostNotConfigured)),
        (&["tls://192.0.2.1"], Err(Cause::HostNotConfigured)),
    ];
    for (words, expected) in table {
        let report = of_names(words).expect("it can be asked");
        let taken = report.rules.iter().find(|rule| rule.place == route::RulePlace::Taken);
        let told = match &report.outcome {
            Outcome::Pool(sent) => Ok((taken.map_or("", |rule| &*rule.name), &*sent.pool)),
            Outcome::Refused(refused) => Err(refused.cause),
            Outcome::Redirect { .. } | Outcome::Answer { .. } => panic!("{words:?} is answered"),
        };
        assert_eq!(told, expected, "{words:?}");
    }
    let out = of_names(&["tls://a.example.com"]).expect("it can be asked");
    let reasons: Vec<&str> = out.rules.iter().map(|rule| rule.reason).collect();
    assert_eq!(reasons, ["alpn", "taken"], "each rule has its reason");
    let with_client = of_names(&["tls://a.example.com", "--client", "192.0.2.9"]).expect("it can be asked");
    assert!(matches!(&with_client.outcome, Outcome::Pool(sent) if matches!(sent.pick, Pick::Backend(_))));
}

#[test]
fn a_request_needs_a_method_and_tls_needs_none() {
    assert!(of_names(&["http://www.example.com/"]).is_err_and(|text| text.contains("method")));
    assert!(of_names(&["tls://www.example.com:8443"]).is_err_and(|text| text.contains("no tls-passthrough listener")));
    assert!(CommandLine::try_parse_from(["test"]).is_err());
}
