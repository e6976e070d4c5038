//! A bad sample for every rule of tidiness, and the good neighbour that it must leave in peace.
//!
//! A rule that never fires protects nothing, and one that fires at random gets switched off.

use super::{ARROWS, is_long, purity, registries, sleeps, source, synonyms};
use super::{Source, arrows, complaints_of_rust, dependencies, header, leftovers, length, machine_paths};

fn complaint(complaints: &[String]) -> &str {
    assert_eq!(complaints.len(), 1, "one complaint was expected: {complaints:?}");
    &complaints[0]
}

fn purity_of(file: &str, text: &str) -> Vec<String> {
    purity(file, &Source::read(text))
}

#[test]
fn an_arrow_that_the_table_does_not_know_is_refused_with_a_way_out() {
    let manifest = "[package]\nname = \"evenkeel-health\"\n\n[dependencies]\nevenkeel-model.workspace = true\nevenkeel-balance = { path = \"../balance\" }\n";
    let complaints = arrows("crates/health/Cargo.toml", "health", manifest);
    let said = complaint(&complaints);
    assert!(said.starts_with("health uses balance at crates/health/Cargo.toml:6,"), "{said}");
    assert!(said.contains("take what you need as a value"), "{said}");
    assert_eq!(arrows("crates/diagnose/Cargo.toml", "diagnose", manifest), Vec::<String>::new());
}

#[test]
fn arrows_are_seen_in_every_way_to_write_them() {
    for manifest in [
        "[dependencies]\nevenkeel-l4.workspace = true",
        "[dependencies]\nevenkeel-l4 = \"1\"",
        "[dependencies]\n\"evenkeel-l4\" = { path = \"x\" } # why",
        "[dependencies.evenkeel-l4]\npath = \"x\"",
        "[target.'cfg(unix)'.dependencies]\nevenkeel-l4 = \"1\"",
        "[target.'cfg(unix)'.dependencies.evenkeel-l4]\nversion = \"1\"",
    ] {
        complaint(&arrows("crates/model/Cargo.toml", "model", manifest));
    }
    let tests_only = "[dev-dependencies]\nevenkeel-l4 = \"1\"\n[features]\nevenkeel-l4 = []";
    assert!(dependencies(tests_only).is_empty(), "tests may look at what ships code may not");
}

#[test]
fn a_room_nobody_listed_is_refused() {
    let complaints = arrows("crates/misc/Cargo.toml", "misc", "");
    assert!(complaint(&complaints).contains("\"misc\" is not in the table"), "{complaints:?}");
}

#[test]
fn the_table_of_arrows_has_no_circle() {
    // Take away rooms whose needs are all gone; a circle never goes away.
    let mut left: Vec<_> = ARROWS.to_vec();
    while !left.is_empty() {
        let names: Vec<&str> = left.iter().map(|(room, _)| *room).collect();
        left.retain(|(_, uses)| uses.iter().any(|used| names.contains(used)));
        assert!(left.len() < names.len(), "these rooms use each other in a circle: {names:?}");
    }
}

#[test]
fn a_pure_room_must_not_depend_on_the_world() {
    let manifest = "[dependencies]\ntokio = \"1\"\nslab = \"0.4\"";
    let complaints = arrows("crates/control/Cargo.toml", "control", manifest);
    assert!(complaint(&complaints).starts_with("control depends on tokio at"), "{complaints:?}");
    assert!(arrows("crates/probe/Cargo.toml", "probe", manifest).is_empty());
}

#[test]
fn a_pure_room_that_reads_the_clock_is_told_to_take_now() {
    let complaints = purity_of("crates/health/src/judge.rs", "\nfn age() { std::time::Instant::now(); }");
    assert_eq!(
        complaint(&complaints),
        "health reads the clock at crates/health/src/judge.rs:2; \
         take `now: evenkeel_model::Instant` as an argument so the simulator can move it"
    );
}

#[test]
fn impurity_is_found_however_it_is_imported() {
    for (text, does) in [
        ("use std::time::{Duration, Instant};", "reads the clock"),
        ("use std::{fmt, time::{Duration, SystemTime}};", "reads the clock"),
        ("use std::{\n    collections::BTreeMap,\n    fs,\n};", "reads files"),
        ("use std::fs::File;", "reads files"),
        ("use std::net::{IpAddr, TcpStream};", "opens sockets"),
        ("use std::net as n; fn f(s: n::UdpSocket) {}", "opens sockets"),
        ("fn f() { std::thread::spawn(g); }", "starts threads"),
        ("fn f() { let home = std::env::var(\"HOME\"); }", "reads the environment"),
        ("fn f() { println!(\"x\"); }", "prints"),
        ("fn f() { eprintln!(\"x\"); }", "prints"),
        ("async fn f() { tokio::task::yield_now().await }", "runs on tokio"),
        ("use rustix::net::socket;", "calls the kernel"),
        ("fn f() -> u8 { rand::random() }", "draws its own randomness"),
        ("use std::process::exit;", "runs processes or exits"),
    ] {
        let complaints = purity_of("crates/plan/src/lib.rs", text);
        assert!(complaint(&complaints).contains(does), "{text}: {complaints:?}");
    }
}

#[test]
fn purity_leaves_tests_comments_texts_and_plain_values_in_peace() {
    let text = r##"
        //! Reads no std::fs and never calls println!.
        use std::net::{IpAddr, SocketAddr};
        use std::time::Duration;
        use evenkeel_model::Instant;
        const ADVICE: &str = "std::fs::read and eprintln! and 'quotes'";
        const RAW: &str = r#"std::env::var("x")"#;
        fn f<'a>(brand: &'a str) -> char { '"' }
        #[cfg(test)]
        mod tests {
            use std::fs;
            #[test]
            fn golden() { println!("{}", fs::read_to_string("x").unwrap()); }
        }
        fn after_the_tests() { rebrand::tokio_free(); }
    "##;
    assert_eq!(purity_of("crates/config/src/lib.rs", text), Vec::<String>::new());
    let impure = format!("{text}\nfn g() {{ std::fs::read(\"x\"); }}");
    assert!(
        complaint(&purity_of("crates/config/src/lib.rs", &impure)).contains(&format!(":{};", text.lines().count() + 1))
    );
}

#[test]
fn machines_are_pure_and_their_hands_are_not() {
    let text = "use std::net::TcpStream;";
    for file in ["crates/l4/src/machine/flow.rs", "crates/l7/src/machine.rs", "crates/l7/src/http2/machine/frame.rs"] {
        complaint(&purity_of(file, text));
    }
    for file in [
        "crates/l4/src/core.rs",
        "crates/reactor/src/epoll.rs",
        "src/main.rs",
        "crates/health/tests/windows.rs",
        "crates/balance/examples/pick_cost.rs",
    ] {
        assert!(purity_of(file, text).is_empty(), "{file}");
    }
}

#[test]
fn a_file_without_a_reason_is_refused() {
    let long = "fn f() {}\n".repeat(20);
    complaint(&header("a.rs", &long));
    complaint(&header("a.rs", &format!("//! One line.\n{long}")));
    complaint(&header("a.rs", &format!("//!\n//!\n{long}")));
    assert!(header("a.rs", &format!("//! Two\n//! lines.\n{long}")).is_empty());
    assert!(header("a.rs", "//! A tiny file.\nmod a;").is_empty());
    complaint(&header("a.rs", "mod a;"));
    let one = format!("//! One line.\n{long}");
    for part in ["tests/e2e/client.rs", "crates/probe/tests/lab/mod.rs"] {
        assert!(header(part, &one).is_empty(), "{part}");
        complaint(&header(part, &long));
    }
    for whole in ["tests/tidy.rs", "tests/e2e/main.rs", "crates/probe/tests/sim.rs", "crates/l4/src/relay/flow.rs"] {
        complaint(&header(whole, &one));
    }
}

#[test]
fn a_file_that_grew_too_long_is_refused_unless_it_is_a_table_or_a_test() {
    let lines = |count| "x\n".repeat(count);
    assert!(length("src/main.rs", &lines(901)).unwrap().contains("901 lines"));
    assert!(length("src/main.rs", &lines(900)).is_none());
    assert!(is_long("src/main.rs", &lines(601)) && !is_long("src/main.rs", &lines(600)));
    for exempt in ["crates/model/src/cause.rs", "tests/hostile.rs", "crates/wire/tests/heads.rs"] {
        assert!(length(exempt, &lines(2000)).is_none() && !is_long(exempt, &lines(2000)), "{exempt}");
    }
}

#[test]
fn nothing_half_done_stays() {
    let mark = concat!("TO", "DO");
    for text in [
        &format!("// {mark}: later"),
        &format!("/* {mark} */"),
        "fn f() { todo!() }",
        "fn f() { dbg!(x); }",
        "fn f() { unimplemented!(\"later\") }",
        "    // let x = 5;",
        "//self.count += 1;",
        "// if x {",
    ] {
        complaint(&leftovers("a.rs", &Source::read(text)));
    }
    for text in [
        &format!("const PATTERN: &str = \"{mark}\";"),
        &format!("// no {mark}S here: the mark inside a word"),
        "// for a while; then it stops.",
        "// let it be",
        "/// let x = 5;\nfn example_in_a_doc_comment() {}",
        "fn f() { self.todo(); }",
    ] {
        assert_eq!(leftovers("a.rs", &Source::read(text)), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_test_that_sleeps_is_refused() {
    let text = "#[cfg(test)]\nmod tests {\n    fn f() { std::thread::sleep(D); }\n}";
    assert!(
        complaint(&sleeps("crates/l4/src/core.rs", &Source::read(text)))
            .starts_with("crates/l4/src/core.rs:3: a test sleeps")
    );
    complaint(&sleeps("tests/e2e.rs", &Source::read("async fn f() { tokio::time::sleep(D).await }")));
    assert!(sleeps("src/demo.rs", &Source::read("fn f() { sleep(D); }")).is_empty(), "not a test");
    assert!(sleeps("tests/e2e.rs", &Source::read("fn f() { wake(\"sleep(1)\"); asleep(); }")).is_empty());
}

#[test]
fn other_peoples_words_are_refused_as_names_and_allowed_in_texts() {
    for (text, ours) in [
        ("struct UpstreamPool;", "pool"),
        ("let frontend = 1;", "listener"),
        ("fn real_server_of() {}", "backend"),
        ("mod utils;", "the noun"),
        ("struct HealthCheck;", "check"),
    ] {
        let complaints = synonyms("a.rs", &Source::read(text));
        assert!(complaint(&complaints).contains(ours), "{complaints:?}");
    }
    for text in ["(\"upstream\", \"pool\")", "// nginx says upstream", "let real = server();", "let streams_up = 1;"] {
        assert!(synonyms("a.rs", &Source::read(text)).is_empty(), "{text}");
    }
}

#[test]
fn every_refused_word_is_explained_in_the_lexicon() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/lexicon.md");
    let lexicon = std::fs::read_to_string(path).expect("the lexicon is part of the project");
    for (word, _) in super::SYNONYMS {
        assert!(
            source::has_word(&lexicon, word),
            "\"{word}\" is refused as a name, but docs/lexicon.md does not say why"
        );
    }
}

#[test]
fn paths_of_one_machine_are_refused() {
    for home in ["home", "root", "Users"] {
        let path = format!("see /{home}/ann/project for it");
        complaint(&machine_paths("README.md", &path));
    }
    for text in
        ["GET /home/ HTTP/1.1", "https://example.com/home/ann/x", "crates/work/x/y", "/etc/evenkeel/evenkeel.toml"]
    {
        assert!(machine_paths("README.md", text).is_empty(), "{text}");
    }
}

#[test]
fn a_crate_from_elsewhere_is_refused() {
    let ours = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    assert!(registries(ours).is_empty());
    complaint(&registries("source = \"registry+https://crates.example.com/index\""));
    complaint(&registries("source = \"git+https://example.com/x\""));
}

#[test]
fn every_rule_for_rust_files_is_applied() {
    let text = format!("// {}\nmod utils;\nuse std::fs;\n#[cfg(test)] fn f() {{ sleep(D); }}\n", concat!("FIX", "ME"))
        + &"x\n".repeat(900);
    let complaints = complaints_of_rust("crates/model/src/bad.rs", &text).join("\n");
    for said in ["header lines", "904 lines", "model reads files", "in a comment", "our word is", "a test sleeps"] {
        assert!(complaints.contains(said), "{said} is missing in:\n{complaints}");
    }
}

#[test]
fn words_are_cut_from_both_styles_of_names() {
    assert_eq!(source::words("RealServer"), ["real", "server"]);
    assert_eq!(source::words("REAL_SERVER"), ["real", "server"]);
    assert_eq!(source::words("real_server_2"), ["real", "server", "2"]);
}
