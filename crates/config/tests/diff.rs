//! No difference between two configs goes untold, and what is told reads as an operator would say it.
//!
//! The full example uses every key. Each of its lines is left out or changed in turn, and whenever that makes another plan, the
//! difference must not be empty.

#[path = "support/mod.rs"]
mod support;

use evenkeel_config::{Format, Source, compile_with};
use evenkeel_plan::{Plan, diff};
use support::MadeUp;

const FULL: &str = include_str!("../../../examples/full.toml");

fn compiled(text: &str) -> Option<Plan> {
    compile_with(&Source { name: "full.toml", text, format: Format::Toml }, &mut MadeUp::default()).plan
}

fn plan(text: &str) -> Plan {
    compiled(text).unwrap_or_else(|| panic!("no plan of {text}"))
}

/// What else could stand in a line.
fn others(line: &str) -> Vec<String> {
    let mut others = vec![String::new()];
    for (from, to) in [("true", "false"), ("false", "true"), ("\"off\"", "\"on\"")] {
        if line.contains(from) {
            others.push(line.replacen(from, to, 1));
        }
    }
    // Each number once more, and once less.
    let Some((_, value)) = line.split_once('=') else { return others };
    let offset = line.len() - value.len();
    let mut at = 0;
    while let Some(start) = value[at..].find(|letter: char| letter.is_ascii_digit()).map(|found| at + found) {
        let end = value[start..].find(|letter: char| !letter.is_ascii_digit()).map_or(value.len(), |len| start + len);
        if let Ok(number) = value[start..end].parse::<u64>() {
            for other in [number.saturating_add(1), number.saturating_sub(1)] {
                others.push(format!("{}{other}{}", &line[..offset + start], &line[offset + end..]));
            }
        }
        at = end;
    }
    others
}

#[test]
fn every_change_of_the_full_example_that_makes_another_plan_is_told() {
    let base = plan(FULL);
    assert!(diff(&base, &plan(FULL)).is_empty(), "{}", diff(&base, &plan(FULL)));
    let lines: Vec<&str> = FULL.lines().collect();
    let (mut told, mut lines_told) = (0, 0);
    for (position, line) in lines.iter().enumerate().filter(|(_, line)| line.contains('=') && !line.starts_with('#')) {
        let before = told;
        for other in others(line) {
            let mut edited = lines.clone();
            edited[position] = &other;
            let Some(changed) = compiled(&edited.join("\n")) else { continue };
            if changed == base {
                continue;
            }
            let there = diff(&base, &changed);
            assert!(!there.is_empty(), "nobody tells that {line:?} became {other:?}");
            assert!(!diff(&changed, &base).is_empty(), "nobody tells that {other:?} became {line:?}");
            told += 1;
        }
        lines_told += usize::from(told > before);
    }
    println!("{told} changes of {lines_told} lines");
    assert!(lines_told > 200, "only {lines_told} of {} lines could be changed", lines.len());
}

const SHOP: &str = r#"
[[listener]]
name = "web"
listen = "127.0.0.1:8080"
protocol = "http"
pool = "web"

[[listener.rule]]
name = "api"
path = "/api"
pool = "api"

[[pool]]
name = "web"
response_timeout = "60s"
backends = [{ address = "10.0.0.1:80" }, { address = "10.0.0.2:80", weight = 50 }]
[pool.check]
kind = "http"
path = "/health"

[[pool]]
name = "api"
backends = [{ address = "10.0.0.3:80" }]
check = "off"
"#;

#[test]
fn a_difference_is_told_in_the_words_of_the_config() {
    let table: [(&str, &str, &str); 10] = [
        ("60s", "10s", "~ pool web: response_timeout 60s -> 10s\n"),
        ("127.0.0.1:8080", "127.0.0.1:8081", "~ listener web: listen [127.0.0.1:8080] -> [127.0.0.1:8081]\n"),
        ("weight = 50", "weight = 0", "~ backend web/10.0.0.2:80: weight 50 -> 0\n"),
        ("path = \"/api\"", "path = \"/v1\"", "~ rule web: api: path \"/api\" -> \"/v1\"\n"),
        ("path = \"/health\"", "path = \"/ready\"", "~ check web/http: path \"/health\" -> \"/ready\"\n"),
        ("kind = \"http\"\npath = \"/health\"", "kind = \"tcp\"", "- check web/http\n+ check web/tcp\n"),
        ("10.0.0.1:80", "10.0.0.9:80", "- backend web/10.0.0.1:80\n+ backend web/10.0.0.9:80\n"),
        ("pool = \"api\"", "pool = \"web\"", "~ rule web: api: what becomes of it: pool \"api\" -> pool \"web\"\n"),
        ("[[listener]]", "[node]\nworkers = 3\n[[listener]]", "~ node: workers 0 -> 3\n"),
        (
            "pool = \"web\"\n\n[[listener.rule]]",
            "pool = \"web\"\nbacklog = 7\n\n[[listener.rule]]",
            "~ listener web: backlog 4096 -> 7\n",
        ),
    ];
    let base = plan(SHOP);
    for (from, to, expected) in table {
        let edited = SHOP.replacen(from, to, 1);
        assert_ne!(edited, SHOP, "{from:?} is not in the config");
        assert_eq!(diff(&base, &plan(&edited)).to_string(), expected, "{from:?} -> {to:?}");
    }
}

#[test]
fn pools_that_change_places_are_no_difference_though_all_their_numbers_are_others() {
    let (head, pools) = SHOP.split_once("[[pool]]").expect("there are pools");
    let (web, api) = pools.split_once("[[pool]]").expect("there are two");
    let turned = format!("{head}[[pool]]{api}\n[[pool]]{web}");
    let (base, turned) = (plan(SHOP), plan(&turned));
    assert_ne!(base, turned);
    assert!(diff(&base, &turned).is_empty(), "{}", diff(&base, &turned));
}

#[test]
fn secrets_are_told_to_be_others_and_never_shown() {
    let with = |token: &str, value: &str| {
        let admin = format!("[[admin.token]]\nname = \"ops\"\nrole = \"operate\"\nsha256 = \"{token}\"\n");
        let hook = format!("[[node.hook]]\nurl = \"https://example.com/{value}\"\n");
        let edits = format!("pool = \"api\"\nrequest_headers = {{ set = {{ authorization = \"{value}\" }} }}\n");
        format!("{admin}{hook}{}", SHOP.replacen("pool = \"api\"\n", &edits, 1))
    };
    let (one, two) = ("a1".repeat(32), "b2".repeat(32));
    let told = diff(&plan(&with(&one, "hush1")), &plan(&with(&two, "hush2"))).to_string();
    for expected in [
        "~ rule web: api: a value in request_headers.set is another",
        "~ node: hook 1: url is another",
        "~ admin: token \"ops\" is another",
    ] {
        assert!(told.contains(expected), "{expected:?} is not in\n{told}");
    }
    assert!(!told.contains("hush") && !told.contains("a1a1") && !told.contains("b2b2"), "{told}");
}
