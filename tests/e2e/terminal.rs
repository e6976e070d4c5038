//! The commands that ask and change a running node: what they print, what they end with, and what they do.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::backend::{backend, polite, says};
use crate::daemon::{BINARY, Daemon, Folder, Setup, free_address, until};

/// A listener in front of the pool "web", probed fast.
fn site(backends: &[SocketAddr]) -> String {
    let backends: Vec<String> = backends.iter().map(|backend| format!("\"{backend}\"")).collect();
    format!(
        "[[listener]]\nname = \"front\"\nlisten = \"{}\"\npool = \"web\"\n\
         [[pool]]\nname = \"web\"\nbackends = [{}]\n\
         [pool.check]\nkind = \"tcp\"\ninterval = \"20ms\"\nunhealthy_threshold = 2\n",
        free_address(),
        backends.join(", ")
    )
}

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("commands print text");
        Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

fn evenkeel(words: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(words).stdin(Stdio::null()).env_remove("EVENKEEL_TOKEN_FILE");
    command
}

/// A command whose node is the daemon, by its config.
fn run(daemon: &Daemon, words: &[&str]) -> Said {
    let mut command = evenkeel(words);
    command.arg("--config").arg(daemon.config());
    command.output().expect("the binary was built").into()
}

fn good(daemon: &Daemon, words: &[&str]) -> String {
    let said = run(daemon, words);
    assert_eq!(said.code, Some(0), "{words:?}: {}{}", said.out, said.err);
    said.out
}

fn json(daemon: &Daemon, words: &[&str]) -> Value {
    let text = good(daemon, &[words, &["--json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words:?}: {error}: {text}"))
}

#[test]
fn status_says_what_is_wrong_before_everything_else_and_why() {
    let (alive, dead) = (backend(polite), free_address());
    let daemon = Daemon::start("terminal_status", &site(&[alive, dead]));
    daemon.wait_verdict("web", &dead.to_string(), "unhealthy");
    daemon.wait_verdict("web", &alive.to_string(), "healthy");
    let out = good(&daemon, &["status"]);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("evenkeel ") && lines[0].ends_with("as it runs"), "{out}");
    assert!(lines[1].starts_with(&format!("! backend web/{dead}: unhealthy for ")), "{out}");
    assert!(lines[1].contains("refused"), "{out}");
    let of_one = good(&daemon, &["status", &format!("web/{alive}")]);
    assert_eq!(of_one.lines().count(), 2, "{of_one}");
    assert!(of_one.contains(&format!("web/{alive}")) && of_one.contains("healthy"), "{of_one}");
    let document = json(&daemon, &["status", &format!("web/{dead}")]);
    assert_eq!(document["verdict"], "unhealthy");
    assert_eq!(json(&daemon, &["status"])["pools"][0]["name"], "web");
    let said = run(&daemon, &["status", "wbe"]);
    assert_eq!((said.code, &*said.err), (Some(2), "no pool is named \"wbe\"; there are: web\n"));
}

#[test]
fn orders_weights_and_probes_are_given_and_what_became_of_them_is_shown() {
    let (one, two) = (backend(polite), backend(says(b"hello")));
    let daemon = Daemon::start("terminal_orders", &site(&[one, two]));
    let name = format!("web/{one}");
    let order = |word: &str| daemon.backend("web", &one.to_string())[word].clone();

    let out = good(&daemon, &["drain", &name, "--for", "10m"]);
    assert!(out.starts_with(&format!("{name}: order drain until 20")), "{out}");
    assert_eq!((order("order"), order("effective_weight")), ("drain".into(), 0.into()));
    assert!(good(&daemon, &["status", &name]).contains("drain"));
    assert!(good(&daemon, &["diff"]).contains(&format!("* backend {name}: order drain until ")));
    assert!(good(&daemon, &["maintain", &name]).starts_with(&format!("{name}: order maintain; ")));
    assert_eq!(order("order"), "maintain");
    let refused = run(&daemon, &["probe", &name]);
    assert!(refused.code == Some(1) && refused.err.contains("maintenance"), "{}", refused.err);
    assert!(good(&daemon, &["serve", &name]).starts_with(&format!("{name}: order serve; ")));
    assert_eq!(order("order"), "serve");

    assert!(good(&daemon, &["weight", &name, "20"]).contains("weight 20 (the file says 100)"));
    assert_eq!(order("effective_weight"), 20);
    let document = json(&daemon, &["weight", &name, "file"]);
    assert_eq!((&document["changed"], order("effective_weight")), (&Value::Bool(true), 100.into()));

    let probed = good(&daemon, &["probe", &name]);
    assert!(probed.contains("tcp: ") && probed.ends_with(&format!("{name} is healthy\n")), "{probed}");
    daemon.wait_event(0, &[" backend.probe_asked ", &one.to_string()]);

    let kept = run(&daemon, &["drain", &name, "--keep"]);
    assert!(kept.code == Some(1) && kept.err.contains("node.state_file"), "{}", kept.err);
    let problem = run(&daemon, &["drain", &name, "--keep", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&problem.out).expect("a problem is JSON")["status"], 409);
    let absent = run(&daemon, &["drain", "web/10.0.0.1:1"]);
    assert!(absent.code == Some(1) && absent.err.contains("10.0.0.1:1"), "{}", absent.err);
    for words in [&["drain", "web"][..], &["drain", "web/host"], &["weight", &name, "101"], &["weight", &name]] {
        assert_eq!(run(&daemon, words).code, Some(2), "{words:?}");
    }
}

#[test]
fn a_config_is_compared_tried_applied_and_read_again() {
    let (one, two) = (backend(polite), backend(polite));
    let daemon = Daemon::start("terminal_config", &site(&[one]));
    let folder = Folder::new("terminal_config_files");
    let text = fs::read_to_string(daemon.config()).expect("the daemon reads it too");
    let other = folder.0.join("other.toml");
    fs::write(&other, text.replace(&one.to_string(), &two.to_string())).expect("the folder is ours");
    let file = other.to_str().expect("a plain path");
    let backends = || daemon.status()["pools"][0]["backends"][0]["address"].clone();

    assert_eq!(good(&daemon, &["diff"]), "no difference: what runs is as the file says\n");
    let difference = format!("- backend web/{one}\n+ backend web/{two}\n");
    assert_eq!(good(&daemon, &["diff", file]), difference);
    assert_eq!(run(&daemon, &["diff", file, "--exit-code"]).code, Some(1));
    assert_eq!(good(&daemon, &["apply", file, "--dry-run"]), format!("{difference}nothing was changed\n"));
    assert_eq!(backends(), one.to_string());

    let out = good(&daemon, &["apply", file]);
    assert!(out.starts_with(&difference) && out.contains("until the next reload"), "{out}");
    assert_eq!(backends(), two.to_string());
    assert!(good(&daemon, &["status"]).contains("the config file differs from what runs"));
    let back = format!("- backend web/{two}\n+ backend web/{one}\n");
    assert_eq!(good(&daemon, &["diff"]), back);
    assert_eq!(good(&daemon, &["reload"]), format!("{back}reloaded\n"));
    assert_eq!(backends(), one.to_string());

    assert!(good(&daemon, &["apply", file, "--keep"]).ends_with("written to the node's config file\n"));
    assert_eq!(fs::read_to_string(daemon.config()).ok(), fs::read_to_string(&other).ok());

    fs::write(&other, "[[pool]]\nnam = 1\n").expect("the folder is ours");
    let broken = run(&daemon, &["apply", file]);
    assert_eq!(broken.code, Some(1), "{}", broken.err);
    assert!(broken.err.contains("error: 2:1: ") && broken.err.contains("did you mean"), "{}", broken.err);
    assert_eq!(run(&daemon, &["apply", "/nowhere.toml"]).code, Some(2));
    assert_eq!(backends(), two.to_string());
}

/// A command that goes on until its test is over.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn events_are_shown_and_followed_as_they_come() {
    let one = backend(polite);
    let daemon = Daemon::start("terminal_events", &site(&[one]));
    daemon.wait_verdict("web", &one.to_string(), "healthy");
    let out = good(&daemon, &["events", "-n", "1"]);
    assert_eq!(out.lines().count(), 1, "{out}");
    let mut command = evenkeel(&["events", "--follow", "--json", "-n", "1"]);
    command.arg("--config").arg(daemon.config()).stdout(Stdio::piped());
    let mut following = Running(command.spawn().expect("the binary was built"));
    let mut lines = BufReader::new(following.0.stdout.take().expect("it is piped")).lines();
    let mut next = || -> Value {
        let line = lines.next().expect("it goes on").expect("it can be read");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    let mut last = next();
    // The first one is there, so the stream is about to be: whatever comes between is behind its number.
    good(&daemon, &["drain", &format!("web/{one}")]);
    while last["event"] != "backend.ordered" {
        let event = next();
        assert_eq!(event["seq"].as_u64(), last["seq"].as_u64().map(|seq| seq + 1), "{event}");
        last = event;
    }
    assert_eq!((&last["to"], &last["by"]), (&"drain".into(), &"loopback".into()), "{last}");
    let behind = json(&daemon, &["events", "-n", "1", "--after", &(last["seq"].as_u64().unwrap_or(0) - 1).to_string()]);
    assert_eq!(behind["event"], "backend.ordered", "{behind}");
}

#[test]
fn without_a_node_a_token_or_the_right_to_it_the_command_says_what_is_missing() {
    let nobody = free_address();
    let said: Said = evenkeel(&["status", "--admin", &nobody.to_string()]).output().expect("it was built").into();
    assert_eq!(said.code, Some(1));
    assert!(said.err.starts_with(&format!("no evenkeel node answers on {nobody}: ")), "{}", said.err);
    let stranger = backend(says(b"220 mail.example.com ESMTP\r\n"));
    let said: Said = evenkeel(&["status", "--admin", &stranger.to_string()]).output().expect("it was built").into();
    assert!(said.code == Some(1) && said.err.contains("something else"), "{}", said.err);

    let folder = Folder::new("terminal_tokens");
    let (token, wrong, socket) = (folder.0.join("ops"), folder.0.join("wrong"), folder.0.join("admin.sock"));
    fs::write(&token, "one-long-secret-for-the-test\n").expect("the folder is ours");
    fs::write(&wrong, "another-long-secret-for-it\n").expect("the folder is ours");
    let one = backend(polite);
    let body = format!(
        "{}[[admin.token]]\nname = \"ops\"\nrole = \"operate\"\nfile = \"{}\"\n",
        site(&[one]),
        token.display()
    );
    let daemon = Daemon::start_with(&Setup { name: "terminal_tokens", node: "", body: &body, namespace: None });
    let at = daemon.admin.to_string();
    let ask = |words: &[&str]| -> Said {
        evenkeel(&[&["drain", &format!("web/{one}"), "--admin", &at], words].concat())
            .output()
            .expect("it was built")
            .into()
    };
    let said = ask(&[]);
    assert_eq!((said.code, &*said.err), (Some(1), &*format!("the node at {at} wants a token: --token-file FILE\n")));
    let said = ask(&["--token-file", wrong.to_str().expect("plain")]);
    assert_eq!((said.code, &*said.err), (Some(1), &*format!("the node at {at} does not know this token\n")));
    let said = ask(&["--token-file", "/nowhere"]);
    assert!(said.code == Some(2) && said.err.starts_with("cannot read the token file"), "{}", said.err);
    let said = ask(&["--token-file", token.to_str().expect("plain")]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    daemon.wait_event(0, &[" backend.ordered ", "by ops"]);

    // Beside a socket nobody needs one.
    let body = format!("{}\n", site(&[one]));
    let file = folder.0.join("evenkeel.toml");
    let config = format!("[admin]\nlisten = \"{}\"\nsocket = \"{}\"\n{body}", free_address(), socket.display());
    fs::write(&file, config).expect("the folder is ours");
    let mut command = evenkeel(&["run", "--config", file.to_str().expect("plain")]);
    let _daemon = Running(command.stderr(Stdio::null()).spawn().expect("it was built"));
    let by_socket = |words: &[&str]| -> Option<Said> {
        let said: Said = evenkeel(&[&["status"], words].concat()).output().expect("it was built").into();
        (said.code == Some(0)).then_some(said)
    };
    let socket = socket.to_str().expect("plain");
    until("the socket to answer", || by_socket(&["--socket", socket]));
    let said = by_socket(&["--config", file.to_str().expect("plain")]).expect("the config tells where");
    assert!(said.out.contains(&format!("web/{one}")), "{}", said.out);
}

// `evenkeel window FILE | head` ended in a panic: println! cannot bear a reader that has seen enough.
#[test]
fn a_reader_that_has_seen_enough_ends_any_command_without_a_word() {
    let one = backend(polite);
    let daemon = Daemon::start("terminal_pipe", &site(&[one]));
    let config = daemon.config();
    let config = config.to_str().expect("a plain path");
    let table: [&[&str]; 14] = [
        &["explain"],
        &["explain", "--json"],
        &["schema"],
        &["check", config],
        &["check", config, "--json"],
        &["window", config],
        &["window", config, "--json"],
        &["route", "test", "tls://a:1", "--config", config],
        &["completions", "bash"],
        &["man"],
        &["status", "--config", config],
        &["events", "--config", config],
        &["diff", "--config", config],
        &["top", "--json", "--config", config],
    ];
    for words in table {
        let (reader, writer) = std::io::pipe().expect("there are pipes");
        drop(reader);
        let said: Said = evenkeel(words).stdout(writer).stderr(Stdio::piped()).output().expect("it was built").into();
        assert!(!said.err.contains("panicked"), "{words:?}: {}", said.err);
        // Whatever had nothing to print may still have found a problem.
        assert!(matches!(said.code, Some(0 | 2)), "{words:?} ended with {:?}: {}", said.code, said.err);
    }
}

#[test]
fn completions_and_manual_pages_have_every_command() {
    let folder = Folder::new("terminal_man");
    let said: Said = evenkeel(&["man", folder.0.to_str().expect("plain")]).output().expect("it was built").into();
    assert_eq!(said.code, Some(0), "{}", said.err);
    let help: Said = evenkeel(&["--help"]).output().expect("it was built").into();
    let listed = help.out.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<&str> = listed
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| *word != "help")
        .collect();
    assert!(commands.contains(&"drain") && commands.contains(&"run"), "{commands:?}");
    let shells = ["bash", "zsh", "fish", "elvish", "powershell"].map(|shell| {
        let said: Said = evenkeel(&["completions", shell]).output().expect("it was built").into();
        assert_eq!(said.code, Some(0), "{shell}: {}", said.err);
        (shell, said.out)
    });
    for command in commands {
        let page = fs::read_to_string(folder.0.join(format!("evenkeel-{command}.1")));
        let page = page.unwrap_or_else(|error| panic!("no page of {command}: {error}"));
        assert!(page.contains(".SH NAME"), "{command}: {page}");
        for (shell, text) in &shells {
            assert!(text.contains(command), "{shell} does not know {command}");
        }
    }
    assert_eq!(evenkeel(&["completions", "dos"]).output().expect("it was built").status.code(), Some(2));
}

#[test]
fn top_wants_a_terminal_and_gives_its_documents_to_a_program() {
    let daemon = Daemon::start("terminal_top", &site(&[backend(polite)]));
    let said = run(&daemon, &["top"]);
    assert!(said.code == Some(2) && said.err.contains("evenkeel status"), "{}", said.err);
    let documents = json(&daemon, &["top"]);
    assert_eq!(documents["status"]["pools"][0]["name"], "web");
    assert!(documents["causes"]["causes"].is_array() && documents["history"]["samples"].is_array(), "{documents}");
}

/// A node that ends in the middle of its answer is no node, whatever it had said.
#[test]
fn an_answer_that_breaks_off_is_no_answer() {
    let cut = backend(|mut stream| {
        let mut head = [0; 1024];
        let _ = stream.read(&mut head);
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"version\":\"0.1");
    });
    let said: Said = evenkeel(&["status", "--admin", &cut.to_string()]).output().expect("it was built").into();
    assert!(said.code == Some(1) && said.err.contains("something else"), "{:?} {}", said.code, said.err);
}
