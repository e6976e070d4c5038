//! Tidiness as a test: who may use whom, what pure rooms must not touch, and how files look.
//!
//! Every complaint says what to do instead. The rules are plain functions over text; each has a test
//! below that shows it failing on a bad sample, because a rule that never fires protects
//! nothing. Only text is read and none of our crates is used, so this runs in a blink even when
//! nothing else compiles.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "tidy/samples.rs"]
mod samples;
#[path = "tidy/source.rs"]
mod source;

use source::Source;

/// Who may use whom. The table of ARCHITECTURE.md; an arrow that building showed to be needed is added in both
/// and has a page in docs/decisions.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    // tls, for the settings of checks: docs/decisions/0007
    ("health", &["model", "tls"]),
    ("balance", &["model"]),
    ("wire", &["model"]),
    ("tls", &["model"]),
    ("observe", &["model"]),
    ("reactor", &["model"]),
    ("cluster", &["model"]),
    ("plan", &["model", "health", "balance", "tls"]),
    ("config", &["model", "health", "balance", "tls", "plan"]),
    // balance: docs/decisions/0007
    ("control", &["model", "health", "balance", "plan", "cluster"]),
    ("diagnose", &["model", "health", "balance", "plan"]),
    ("l4", &["model", "balance", "plan", "wire", "tls", "observe", "reactor"]),
    // h2: docs/decisions/0013
    ("h2", &["model", "wire"]),
    ("l7", &["model", "balance", "plan", "wire", "h2", "tls", "observe", "reactor", "l4"]),
    // health, for its settings, and h2: docs/decisions/0007
    ("probe", &["model", "health", "wire", "h2", "tls", "observe", "reactor", "l4"]),
    ("kernel", &["model", "balance", "plan", "observe"]),
];

/// Rooms that decide: they are told the time and the facts.
const PURE: &[&str] = &["model", "health", "balance", "wire", "h2", "plan", "config", "cluster", "control", "diagnose"];

/// Rooms whose `machine` files decide, while their other files touch the world.
const HALF_PURE: &[&str] = &["l4", "l7"];

/// What a pure file must not name, how to say it, and what to do instead.
const IMPURE_PATHS: &[(&str, &str, &str)] = &[
    (
        "std::time::Instant",
        "reads the clock",
        "take `now: evenkeel_model::Instant` as an argument so the simulator can move it",
    ),
    ("std::time::SystemTime", "reads the clock", "take `now` as an argument, and `evenkeel_model::Epoch` to date it"),
    ("std::net::TcpStream", "opens sockets", "say what to send as an output and let the reactor do it"),
    ("std::net::TcpListener", "opens sockets", "say what to bind as an output and let the reactor do it"),
    ("std::net::UdpSocket", "opens sockets", "say what to send as an output and let the reactor do it"),
    ("std::net::ToSocketAddrs", "asks the resolver", "take addresses as an argument"),
    ("std::os", "talks to the operating system", "take the fact as an argument"),
    ("std::fs", "reads files", "take the text as an argument; the binary reads the file"),
    ("std::io::stdin", "reads input", "take the text as an argument"),
    ("std::io::stdout", "prints", "return the text; the binary prints it"),
    ("std::io::stderr", "prints", "return the text; the binary prints it"),
    ("std::thread", "starts threads", "let the caller decide where it runs"),
    ("std::process", "runs processes or exits", "return an error; the binary decides what to do with it"),
    ("std::env", "reads the environment", "take the value as an argument"),
];

const IMPURE_CALLS: &[(&str, &str, &str)] = &[
    ("Instant::now(", "reads the clock", "take `now` as an argument so the simulator can move it"),
    ("SystemTime", "reads the clock", "take `now` as an argument, and `evenkeel_model::Epoch` to date it"),
    ("TcpStream", "opens sockets", "say what to send as an output and let the reactor do it"),
    ("TcpListener", "opens sockets", "say what to bind as an output and let the reactor do it"),
    ("UdpSocket", "opens sockets", "say what to send as an output and let the reactor do it"),
    ("println!", "prints", "return the text; the binary prints it"),
    ("eprintln!", "prints", "return the text, or an event for the log"),
    ("print!", "prints", "return the text; the binary prints it"),
    ("eprint!", "prints", "return the text, or an event for the log"),
    ("tokio::", "runs on tokio", "be a machine with the four verbs; the shell may run on tokio"),
    ("rustix::", "calls the kernel", "say what is wanted as an output and let the reactor do it"),
    ("libc::", "calls the kernel", "say what is wanted as an output and let the reactor do it"),
    ("rand::", "draws its own randomness", "take a seed as an argument so that a simulation replays it"),
];

/// Crates that would bring the world into a pure room.
const IMPURE_CRATES: &[&str] = &[
    "tokio",
    "rustix",
    "libc",
    "nix",
    "mio",
    "socket2",
    "rand",
    "fastrand",
    "getrandom",
    "hyper",
    "axum",
    "signal-hook",
];

/// Words that other balancers use for something that has a name here (docs/lexicon.md).
const SYNONYMS: &[(&str, &str)] = &[
    ("frontend", "listener"),
    ("vhost", "listener"),
    ("virtual server", "listener"),
    ("upstream", "pool (or backend, if one server is meant)"),
    ("server group", "pool"),
    ("endpoint", "backend"),
    ("real server", "backend"),
    ("lb policy", "schedule"),
    ("scheduler", "schedule"),
    ("healthcheck", "check (or probe, for one execution)"),
    ("health check", "check (or probe, for one execution)"),
    ("admin state", "order"),
    ("termination state", "cause"),
    ("utils", "the noun of what it holds"),
    ("helpers", "the noun of what it holds"),
    ("manager", "the noun of what it does"),
];

/// Length that wants a second look, and length that is refused.
const LINES_USUAL: usize = 600;
const LINES_MAX: usize = 900;

/// Files that are one table: splitting them would hide that a list is closed.
const TABLES: &[&str] = &["crates/model/src/cause.rs", "crates/model/src/limits.rs", "crates/config/src/keys.rs"];

#[test]
fn the_project_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut complaints = Vec::new();
    for file in files(root) {
        let Ok(text) = fs::read_to_string(root.join(&file)) else { continue };
        if let Some(room) = manifest_room(&file) {
            complaints.extend(arrows(&file, room, &text));
        }
        complaints.extend(machine_paths(&file, &text));
        if file.ends_with(".rs") {
            complaints.extend(complaints_of_rust(&file, &text));
        }
        if file == "Cargo.lock" {
            complaints.extend(registries(&text));
        }
        if is_long(&file, &text) {
            println!("note: {file} has {} lines; look whether it is two things", text.lines().count());
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn complaints_of_rust(file: &str, text: &str) -> Vec<String> {
    let source = Source::read(text);
    let mut complaints = header(file, text);
    complaints.extend(length(file, text));
    complaints.extend(purity(file, &source));
    complaints.extend(leftovers(file, &source));
    complaints.extend(sleeps(file, &source));
    complaints.extend(synonyms(file, &source));
    complaints
}

/// (a) Arrows between rooms, and crates that pure rooms must not depend on.
///
/// Dev-dependencies are free: tests may look at what ships code may not.
fn arrows(file: &str, room: &str, manifest: &str) -> Vec<String> {
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
        return vec![format!(
            "{file}: the room \"{room}\" is not in the table of arrows; add it to ARCHITECTURE.md and to ARROWS in tests/tidy.rs"
        )];
    };
    let mut complaints = Vec::new();
    for (line, dependency) in dependencies(manifest) {
        if let Some(used) = dependency.strip_prefix("evenkeel-") {
            if !allowed.contains(&used) {
                complaints.push(format!(
                    "{room} uses {used} at {file}:{line}, which the table of arrows does not allow; take what you need as a value \
                     from the binary, or move the shared noun to model. If the arrow is right, write docs/decisions/ \
                     and add it to ARROWS in tests/tidy.rs"
                ));
            }
        } else if PURE.contains(&room) && IMPURE_CRATES.contains(&dependency.as_str()) {
            complaints.push(format!(
                "{room} depends on {dependency} at {file}:{line}, but it is a pure room; say what is wanted as an output and let the binary or the reactor do it"
            ));
        }
    }
    complaints
}

/// Names under `[dependencies]` and `[target.….dependencies]`, in whichever way they are written.
fn dependencies(manifest: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (number, line) in source::lines(manifest) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            let own_table = section.strip_prefix("dependencies.").or_else(|| section.split(".dependencies.").nth(1));
            found.extend(own_table.map(|name| (number, name.trim_matches('"').to_string())));
            inside =
                section == "dependencies" || section.ends_with(".dependencies") && !section.starts_with("workspace");
        } else if inside && line.contains('=') {
            let name = line.split(['=', '.']).next().unwrap_or_default().trim().trim_matches('"');
            found.push((number, name.to_string()));
        }
    }
    found
}

/// (b) What decides is told the time and the facts.
fn purity(file: &str, source: &Source) -> Vec<String> {
    let Some(room) = pure_room(file) else { return Vec::new() };
    let shipped = source.shipped();
    let mut complaints = BTreeMap::new();
    for (line, path) in source::std_paths(&shipped) {
        let names =
            |impure: &str| path == impure || path.strip_prefix(impure).is_some_and(|rest| rest.starts_with("::"));
        for (_, does, instead) in IMPURE_PATHS.iter().filter(|(impure, ..)| names(impure)) {
            complaints.insert((line, *does), *instead);
        }
    }
    for (line, code) in source::lines(&shipped) {
        for (call, does, instead) in IMPURE_CALLS {
            let mut found = code.match_indices(call).filter(|(at, _)| !code[..*at].ends_with(source::is_word_char));
            if found.next().is_some() {
                complaints.entry((line, *does)).or_insert(*instead);
            }
        }
    }
    complaints.into_iter().map(|((line, does), instead)| format!("{room} {does} at {file}:{line}; {instead}")).collect()
}

/// The pure room a file belongs to. Tests, examples and benches may touch the world.
fn pure_room(file: &str) -> Option<&str> {
    let (room, inside) = file.strip_prefix("crates/")?.split_once("/src/")?;
    let parts: Vec<&str> = inside.trim_end_matches(".rs").split('/').collect();
    if parts.contains(&"tests") {
        return None;
    }
    let is_machine = parts.contains(&"machine");
    (PURE.contains(&room) || HALF_PURE.contains(&room) && is_machine).then_some(room)
}

/// (c) A stranger should know after the header whether to read on.
///
/// One line is enough for tiny files and for parts of a test binary, whose reason stands in the file that names them.
fn header(file: &str, text: &str) -> Vec<String> {
    let header = text.lines().take_while(|line| line.starts_with("//!")).filter(|line| line.len() > 4).count();
    let wanted = if text.lines().count() < 15 || is_part_of_test(file) { 1 } else { 2 };
    if header >= wanted {
        return Vec::new();
    }
    vec![format!(
        "{file} has {header} header lines; open it with `//!`: what question it answers, what it refuses to do, which alternative lost"
    )]
}

/// (d) A file that long is two things.
fn length(file: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    let refused = lines > LINES_MAX && !is_test(file) && !TABLES.contains(&file);
    refused.then(|| format!("{file} has {lines} lines, more than {LINES_MAX}; say in one sentence what it does and cut it at the \"and\""))
}

fn is_long(file: &str, text: &str) -> bool {
    file.ends_with(".rs") && !is_test(file) && !TABLES.contains(&file) && text.lines().count() > LINES_USUAL
}

/// (e) Nothing half done, nothing kept just in case.
fn leftovers(file: &str, source: &Source) -> Vec<String> {
    // In two halves, or this file would complain of itself.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut complaints = Vec::new();
    for (line, comment) in source::lines(&source.comments) {
        for mark in marks.iter().filter(|mark| source::has_word(comment, mark)) {
            complaints.push(format!(
                "{file}:{line}: \"{mark}\" in a comment; do it now, or open an issue and say here what holds until then"
            ));
        }
        if is_code(comment) {
            complaints.push(format!("{file}:{line}: code in a comment; delete it, the history keeps it"));
        }
    }
    for (line, code) in source::lines(&source.code) {
        for call in ["dbg!", "todo!", "unimplemented!"] {
            if source::has_word(code, call.trim_end_matches('!')) && code.contains(&format!("{call}(")) {
                complaints
                    .push(format!("{file}:{line}: `{call}`; finish it, or return an error that says what is missing"));
            }
        }
    }
    complaints
}

/// Only what no sentence looks like: begins as a statement and ends as one.
fn is_code(comment: &str) -> bool {
    let text = comment.trim();
    let Some(text) = text.strip_prefix("// ").or_else(|| text.strip_prefix("//")) else { return false };
    if text.starts_with(['/', '!']) {
        return false;
    }
    let text = text.trim();
    let begins =
        ["let ", "use ", "pub ", "fn ", "return ", "self.", "assert", "if ", "for ", "while ", "match ", "mod "];
    begins.iter().any(|begin| text.starts_with(begin)) && (text.ends_with(';') || text.ends_with('{'))
}

/// (f) A test that sleeps is slow on a fast machine and wrong on a slow one.
fn sleeps(file: &str, source: &Source) -> Vec<String> {
    let tests = if is_test(file) { source.code.clone() } else { source.tests() };
    let sleeping = source::lines(&tests).filter(|(_, code)| code.contains("sleep(") && source::has_word(code, "sleep"));
    sleeping
        .map(|(line, _)| format!("{file}:{line}: a test sleeps; wait for the event itself, or move the virtual clock"))
        .collect()
}

/// (g) One word per idea.
fn synonyms(file: &str, source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for (line, code) in source::lines(&source.code) {
        for identifier in source::identifiers(code) {
            let words = format!(" {} ", source::words(identifier).join(" "));
            for (word, instead) in SYNONYMS.iter().filter(|(word, _)| words.contains(&format!(" {word} "))) {
                complaints.push(format!(
                    "{file}:{line}: `{identifier}` says \"{word}\"; our word is {instead} (docs/lexicon.md)"
                ));
            }
        }
    }
    complaints
}

/// (h) A path of somebody's machine works on that machine only.
fn machine_paths(file: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in source::lines(text) {
        for home in ["home", "root", "Users", "work", "workspace", "builds"] {
            let path = format!("/{home}/");
            let found = line.match_indices(&path).any(|(at, _)| {
                // A path of its own, and not the middle of an address or of a longer path.
                let before = line[..at].chars().next_back();
                let alone = before.is_none_or(|c| c.is_whitespace() || "\"'`(=:,".contains(c));
                let below = line[at + path.len()..].split(|c: char| c.is_whitespace() || "\"'`),".contains(c)).next();
                alone && below.is_some_and(|below| below.contains('/'))
            });
            if found {
                complaints.push(format!("{file}:{number}: a path of one machine (\"{path}…\"); make it relative to the project, or a setting"));
            }
        }
    }
    complaints
}

/// Whoever clones the project must be able to build it.
fn registries(lock: &str) -> Vec<String> {
    let foreign = source::lines(lock).filter(|(_, line)| {
        line.starts_with("source = ") && *line != "source = \"registry+https://github.com/rust-lang/crates.io-index\""
    });
    foreign
        .map(|(number, line)| format!("Cargo.lock:{number}: {line}; use the version that crates.io publishes"))
        .collect()
}

fn is_test(file: &str) -> bool {
    file.starts_with("tests/") || file.contains("/tests/") || file.ends_with("/tests.rs")
}

/// `tests/e2e/client.rs`, but neither `tests/tidy.rs` nor `tests/e2e/main.rs`, which cargo builds by themselves.
fn is_part_of_test(file: &str) -> bool {
    let inside = file.strip_prefix("tests/").or_else(|| file.split_once("/tests/").map(|(_, inside)| inside));
    inside.is_some_and(|inside| inside.contains('/') && !inside.ends_with("/main.rs"))
}

/// `crates/health/Cargo.toml` is the manifest of `health`.
fn manifest_room(file: &str) -> Option<&str> {
    let room = file.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")?;
    (!room.contains('/')).then_some(room)
}

/// Every file of the project that we wrote, with `/` between its parts.
fn files(root: &Path) -> Vec<String> {
    let skipped = |name: &str| ["target", ".git", "node_modules", "dist", "out", "corpus", "artifacts"].contains(&name);
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = folder.join(&name);
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !skipped(&name) => folders.push(path),
                Ok(kind) if kind.is_file() => found.push(path.to_string_lossy().replace('\\', "/")),
                _ => {}
            }
        }
    }
    found.sort();
    assert!(found.iter().any(|file| file == "crates/model/src/lib.rs"), "the walk did not find the project");
    found
}
