//! What `evenkeel check` says of the host, on a host that lacks it and after its own commands were carried out.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::daemon::Folder;
use crate::lab::Lab;

const CONFIG: &str = r#"
[[listener]]
name = "mail"
listen = "10.98.0.1:25"
protocol = "tcp"
pool = "mail"
backlog = 5000
tcp = { fast_open = 16 }

[[listener]]
name = "dns"
listen = "10.98.0.9:53"
protocol = "udp"
pool = "dns"

[[pool]]
name = "mail"
backends = ["10.98.0.11:25", "10.98.0.12:25"]
transparent = true

[[pool]]
name = "dns"
backends = ["10.98.0.13:53"]
source = "100.64.0.7"
check = { kind = "tcp" }
"#;

struct Checked {
    out: String,
    fine: bool,
}

fn check(lab: &Lab, config: &Path, flags: &[&str]) -> Checked {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &lab.front, env!("CARGO_BIN_EXE_evenkeel"), "check"]).args(flags).arg(config);
    let done = command.stdin(Stdio::null()).output().expect("it was built");
    Checked { out: String::from_utf8_lossy(&done.stdout).into_owned(), fine: done.status.success() }
}

#[test]
fn the_commands_that_check_prints_mend_what_it_says() {
    let Some(lab) = Lab::build("the_commands_that_check_prints_mend_what_it_says") else { return };
    let folder = Folder::new("host");
    let config = folder.0.join("evenkeel.toml");
    std::fs::write(&config, CONFIG).expect("the folder is ours");
    for command in ["sysctl -qw net.core.somaxconn=4096", "sysctl -qw net.ipv4.tcp_fastopen=1"] {
        shell(&lab, command);
    }

    let before = check(&lab, &config, &[]);
    assert!(before.fine, "a host is no error of a config: {}", before.out);
    for code in ["no_way_back", "no_such_address", "fast_open_is_off", "backlog_is_cut"] {
        assert!(before.out.contains(&format!("warning[{code}]")), "{code}: {}", before.out);
    }
    let left_out = check(&lab, &config, &["--no-host"]);
    assert!(left_out.fine && !left_out.out.contains("on this host"), "{}", left_out.out);

    let said: serde_json::Value =
        serde_json::from_str(&check(&lab, &config, &["--json"]).out).expect("one JSON document");
    let entries = said.as_array().expect("a list").iter();
    let commands: Vec<&str> = entries
        .filter_map(|entry| entry["commands"].as_array())
        .flatten()
        .filter_map(|command| command.as_str())
        .collect();
    assert!(commands.contains(&"ip rule add from 10.98.0.12 ipproto tcp sport 25 lookup 100"), "{commands:?}");
    for command in commands {
        shell(&lab, command);
    }

    let after = check(&lab, &config, &[]);
    assert!(after.fine && after.out.contains("; 0 warnings") && !after.out.contains("on this host"), "{}", after.out);
}

fn shell(lab: &Lab, line: &str) {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &lab.front, "sh", "-c", line]).stdin(Stdio::null());
    let done = command.output().expect("ip is here");
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
}
