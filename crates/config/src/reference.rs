//! The operator's manual of every key, printed from the table the reader uses and the limits, so that
//! it cannot say anything else than what the program does.

use std::fmt::Write as _;

use evenkeel_model::limits;
use evenkeel_plan::Protocol;
use evenkeel_tls::{Policy, TICKET_KEY_SECONDS};

use crate::keys::{COMPRESSED_TYPES, Key, Kind, LeftOut, Only, Section};
use crate::values::{show_duration, show_size};

/// Markdown, as committed in `docs/reference/config.md`.
pub fn reference() -> String {
    let mut out = INTRODUCTION.replace("NAME_LENGTH", &limits::NAME.value.to_string());
    for section in Section::ALL {
        let title = match section {
            Section::Top => "Tables".to_owned(),
            Section::Backend => "Entries of `backends`".to_owned(),
            Section::Rate => "Rates of `[listener.limit]`".to_owned(),
            Section::ProxyFrom => "`proxy_protocol` of `[[listener]]`".to_owned(),
            Section::ProxyTo => "`proxy_protocol` of `[[pool]]`".to_owned(),
            Section::Redirect => "`redirect` of `[[listener.rule]]`".to_owned(),
            Section::Answer => "`answer` of `[[listener.rule]]`".to_owned(),
            Section::CheckStep => "Steps of `[pool.check]`".to_owned(),
            Section::Pattern => "Patterns".to_owned(),
            Section::HeaderEdits => "`request_headers` and `response_headers` of `[[listener.rule]]`".to_owned(),
            _ => format!("`{}`", section.header()),
        };
        let _ = writeln!(out, "\n## {title}\n\n{}\n", section.about());
        out.push_str("| key | takes | default | range | why, and what it does |\n|---|---|---|---|---|\n");
        for key in section.keys() {
            row(&mut out, key);
        }
        for key in section.keys() {
            words(&mut out, key);
        }
        if section == Section::ListenerTls {
            policies(&mut out);
        }
        if section == Section::Compression {
            let types: Vec<String> = COMPRESSED_TYPES.iter().map(|kind| format!("`{kind}`")).collect();
            let _ = writeln!(out, "\n`types`, when it is left out: {}.", types.join(", "));
        }
    }
    out.push_str(NAMES);
    out.push_str(BYTES);
    out.push_str("\n## Bounds that are not settings\n\n| bound | value | why |\n|---|---|---|\n");
    for fixed in limits::FIXED {
        let name = fixed.name.to_ascii_lowercase();
        let _ = writeln!(out, "| {name} | {} {} | {} |", fixed.value, fixed.unit, cell(fixed.reason));
    }
    out
}

const INTRODUCTION: &str = "\
# Configuration

<!-- Printed from the table the program reads configs with. To change it, change the table and run
     `UPDATE_GOLDEN=1 cargo test -p evenkeel-config`. -->

One file: TOML, or YAML (`.yaml`, `.yml`) or JSON (`.json`) with the same keys. The smallest useful one is a listener
and a pool; everything else has a default:

```toml
[[listener]]
listen = \"0.0.0.0:80\"
pool = \"web\"

[[pool]]
name = \"web\"
backends = [\"10.0.0.11:8080\", \"10.0.0.12:8080\"]
```

- Durations are strings of a whole number and a unit: `\"500ms\"`, `\"5s\"`, `\"2m\"`, `\"1h\"`, `\"1d\"`.
- Sizes too: `\"512B\"`, `\"32KiB\"`, `\"1MiB\"`, `\"2GiB\"`, `\"1TiB\"`.
- Counts are whole numbers without quotes.
- An unknown key is an error. So is a value outside its range. A value outside the *usual* range, which is the range of
  the service evenkeel is modelled on, is a warning.
- Names are up to NAME_LENGTH characters without blanks, quotes, backslashes, braces and commas.
- In YAML, anchors, aliases, tags and second documents are refused. JSON is strict: no comments, no trailing commas.
";

const NAMES: &str = "
### Backends by name

`backends = [\"app.internal:80\"]` stands for as many backends as the name has addresses, IPv4 and IPv6;
`{ name = \"app.internal:80\", records = \"a\" }` for those of one kind, and `records = \"srv\"` for the servers and ports of a service.

- A name is asked for again when its answer ends (the TTL of its records, within `min_ttl` and `max_ttl`). Backends that stay
  keep what is known of them: verdict, ejection, drain, connections. Those that go are drained as in a reload.
- A failure, an empty answer included, keeps the last good answer, however old. It is an event, and no backend leaves for it.
- Until a name has its first answer it stands for no backends; `check` asks nothing.
- An address that is no server's (unspecified, multicast, port 0) is passed over, and so is one on which this node listens. Requests that circle
  over other nodes are found by `CDN-Loop`, relayed connections are not.
- Backends by name have no `server_id`. Sticky cookies and hash schedules know a backend by its address, as always.
";

const BYTES: &str = "
### Bytes

`send` and `expect` take text; a backslash makes bytes of it:

| written | byte |
|---|---|
| `\\xHH` | the byte with this hex value |
| `\\n`, `\\r`, `\\t`, `\\0` | 0a, 0d, 09, 00 |
| `\\\\`, `\\\"` | a backslash, a double quote |

Everything else is sent as UTF-8. In TOML and YAML write it between *single* quotes: `send = '\\xff\\x01ping'`. Between double
quotes these formats have escapes of their own: there `\"\\xff\"` is the character ÿ before evenkeel sees it and would be sent
as two bytes (a warning says so). JSON has only double quotes: double the backslash, `\"\\\\xff\"`.
";

fn row(out: &mut String, key: &Key) {
    let (takes, range) = match key.kind {
        Kind::Duration { setting, .. } => {
            let range = format!("{} to {}", show_duration(setting.min), show_duration(setting.max));
            ("duration".to_owned(), usual(range, setting.usual, show_duration))
        }
        Kind::Size(setting) if setting.max == u64::MAX => ("size".to_owned(), "any".to_owned()),
        Kind::Size(setting) => {
            let range = format!("{} to {}", show_size(setting.min), show_size(setting.max));
            ("size".to_owned(), usual(range, setting.usual, show_size))
        }
        Kind::Count(setting) => {
            let range = format!("{} to {}", setting.min, setting.max);
            ("count".to_owned(), usual(range, setting.usual, |count| count.to_string()))
        }
        Kind::OptionalDuration(setting) => {
            ("duration".to_owned(), format!("{} to {}", show_duration(setting.min), show_duration(setting.max)))
        }
        Kind::OptionalCount(setting) => ("count".to_owned(), format!("{} to {}", setting.min, setting.max)),
        Kind::OptionalShare(setting) => {
            let part = |percent: u64| percent as f64 / 100.0;
            ("part of one".to_owned(), format!("{} to {}", part(setting.min), part(setting.max)))
        }
        Kind::Flag => ("true or false".to_owned(), String::new()),
        Kind::Words(_) => ("a word, see below".to_owned(), String::new()),
        Kind::Other(takes) => (takes.to_owned(), String::new()),
    };
    let default = match (key.default, key.kind) {
        (LeftOut::Required, _) => "(required)".to_owned(),
        (LeftOut::Text(text), _) => format!("`\"{text}\"`"),
        (LeftOut::Flag(flag), _) => format!("`{flag}`"),
        (LeftOut::Is(words), _) => words.to_owned(),
        (LeftOut::OfSetting, Kind::Duration { setting, of }) => {
            let mut defaults = format!("`\"{}\"`", show_duration(setting.default));
            for (word, of) in of {
                let _ = write!(defaults, "; {word} `\"{}\"`", show_duration(of.default));
            }
            defaults
        }
        (LeftOut::OfSetting, Kind::Size(setting)) => format!("`\"{}\"`", show_size(setting.default)),
        (LeftOut::OfSetting, Kind::Count(setting)) => format!("`{}`", setting.default),
        (
            LeftOut::OfSetting,
            Kind::OptionalDuration(_)
            | Kind::OptionalCount(_)
            | Kind::OptionalShare(_)
            | Kind::Flag
            | Kind::Words(_)
            | Kind::Other(_),
        ) => String::new(),
    };
    let why = match key.kind {
        Kind::Duration { setting, of } => {
            let mut reasons = setting.reason.to_owned();
            for (word, of) in of {
                let _ = write!(reasons, " Of {word}: {}", of.reason);
            }
            reasons
        }
        Kind::Size(setting) | Kind::Count(setting) => setting.reason.to_owned(),
        Kind::OptionalDuration(setting) => setting.reason.to_owned(),
        Kind::OptionalCount(setting) | Kind::OptionalShare(setting) => setting.reason.to_owned(),
        Kind::Flag | Kind::Words(_) | Kind::Other(_) => key.about.to_owned(),
    };
    let listeners = |protocols: &[Protocol]| plain(protocols.iter().map(|protocol| protocol.word()));
    let only = match key.only {
        Only::Everywhere => String::new(),
        Only::Listeners(protocols) => format!(" *{} listeners only.*", listeners(protocols)),
        Only::PoolsOf(protocols) => format!(" *Has an effect for {} listeners only.*", listeners(protocols)),
        Only::Schedules([one]) => format!(" *Schedule {} only.*", one.word()),
        Only::Schedules(schedules) => {
            format!(" *Schedules {} only.*", plain(schedules.iter().map(|schedule| schedule.word())))
        }
        Only::Checks(kinds) => format!(" *{} checks only.*", plain(kinds.iter().map(|kind| kind.word()))),
        Only::CookieSticky => " *Modes insert and rewrite only.*".to_owned(),
        Only::AddressSticky => " *Mode address only.*".to_owned(),
    };
    let _ =
        writeln!(out, "| `{}` | {} | {} | {range} | {}{only} |", key.name, cell(&takes), cell(&default), cell(&why));
}

/// `a`, `a and b`, `a, b and c`.
fn plain<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let words: Vec<&str> = words.collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

fn usual<T>(range: String, usual: Option<(T, T)>, show: impl Fn(T) -> String) -> String {
    match usual {
        Some((low, high)) => format!("{range}; usual {} to {}", show(low), show(high)),
        None => range,
    }
}

fn words(out: &mut String, key: &Key) {
    let Kind::Words(words) = key.kind else { return };
    let _ = writeln!(out, "\n`{}` is one of:\n", key.name);
    for word in words {
        let _ = writeln!(out, "- `\"{}\"`: {}", word.word, word.means);
    }
}

/// What is spoken under each policy, from the room that speaks it.
fn policies(out: &mut String) {
    for policy in Policy::ALL {
        let suites: Vec<String> = policy.suites().map(|(version, name)| format!("`{name}` ({version})")).collect();
        let groups: Vec<String> = policy.groups().map(|group| format!("`{group}`")).collect();
        let _ = writeln!(
            out,
            "\nPolicy `\"{}\"` speaks TLS {}; suites {}; groups for the key exchange {}.",
            policy.word(),
            policy.versions().join(" and "),
            suites.join(", "),
            groups.join(", ")
        );
    }
    let hours = TICKET_KEY_SECONDS / 3600;
    let _ = writeln!(
        out,
        "\nThe client's order decides among the suites both sides know. A ticket key makes tickets for {hours} hours and opens \
         them for {hours} more."
    );
}

/// A bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{self, Node, Table, Value};
    use crate::problem::Notes;
    use crate::{Format, Source};

    fn under<'d>(parents: Vec<&'d Table>, name: &str) -> Vec<&'d Table> {
        let nodes = parents.into_iter().filter_map(|table| table.get(name)).map(|entry| &entry.node);
        nodes
            .flat_map(|node| match &node.value {
                Value::List(items) => items.iter().collect(),
                _ => vec![node],
            })
            .filter_map(|node| if let Value::Table(table) = &node.value { Some(table) } else { None })
            .collect()
    }

    /// The tables of a section in a document.
    fn tables(root: &Node, section: Section) -> Vec<&Table> {
        let Value::Table(top) = &root.value else { panic!("a config is a table") };
        let below = |name: &str| under(under(vec![top], "listener"), name);
        let check = || under(under(vec![top], "pool"), "check");
        match section {
            Section::Top => vec![top],
            Section::Node => under(vec![top], "node"),
            Section::Hook => under(under(vec![top], "node"), "hook"),
            Section::Resolver => under(under(vec![top], "node"), "resolver"),
            Section::Traces => under(under(vec![top], "node"), "traces"),
            Section::Admin => under(vec![top], "admin"),
            Section::AdminToken => under(under(vec![top], "admin"), "token"),
            Section::AdminCertificate => under(under(vec![top], "admin"), "certificate"),
            Section::Listener => under(vec![top], "listener"),
            Section::Certificate => below("certificate"),
            Section::ListenerTls => below("tls"),
            Section::Hsts => below("hsts"),
            Section::Http2 => below("http2"),
            Section::Access => below("access"),
            Section::Limit => below("limit"),
            Section::Rate => under(below("limit"), "client_requests_per_second"),
            Section::ListenerTcp => below("tcp"),
            Section::ProxyFrom => below("proxy_protocol"),
            Section::Compression => below("compression"),
            Section::Rule => below("rule"),
            Section::Redirect => under(below("rule"), "redirect"),
            Section::Answer => under(below("rule"), "answer"),
            Section::HeaderEdits => under(below("rule"), "request_headers"),
            Section::Pool => under(vec![top], "pool"),
            Section::Backend => under(under(vec![top], "pool"), "backends"),
            Section::PoolTls => under(under(vec![top], "pool"), "tls"),
            Section::PoolTcp => under(under(vec![top], "pool"), "tcp"),
            Section::ProxyTo => under(under(vec![top], "pool"), "proxy_protocol"),
            Section::Sticky => under(under(vec![top], "pool"), "sticky"),
            Section::Passive => under(under(vec![top], "pool"), "passive"),
            Section::Check => check(),
            Section::CheckStep => under(check(), "steps"),
            Section::Pattern => under(check(), "expect_body").into_iter().chain(under(check(), "expect")).collect(),
        }
    }

    #[test]
    fn the_full_example_uses_every_key() {
        let text = include_str!("../../../examples/full.toml");
        let source = Source { name: "full.toml", text, format: Format::Toml };
        let root = document::parse(&source, &mut Notes::default());
        for section in Section::ALL {
            for key in section.keys() {
                let used = tables(&root, section).iter().any(|table| table.get(key.name).is_some());
                assert!(used, "{} of {} is not in examples/full.toml", key.name, section.header());
            }
        }
    }

    #[test]
    fn every_key_has_a_reason_and_a_default_or_is_required() {
        for section in Section::ALL {
            for key in section.keys() {
                let mut line = String::new();
                row(&mut line, key);
                let cells: Vec<&str> = line.trim().trim_matches('|').split(" | ").map(str::trim).collect();
                assert_eq!(cells.len(), 5, "{line}");
                for (cell, what) in [(cells[1], "takes"), (cells[2], "default"), (cells[4], "why")] {
                    assert!(!cell.is_empty(), "{} of {} has no {what}: {line}", key.name, section.header());
                }
            }
        }
    }
}
