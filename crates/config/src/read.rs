//! The document into a [`Config`]: walks the tables and asks for each key, once.
//!
//! Judges every value by itself and nothing by another. The key table says what exists; this file says
//! where each value goes. A derive macro over the config types lost: it would need to be taught places, ranges
//! and proposals, and is then larger than this.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

use evenkeel_balance::Schedule;
use evenkeel_health::settings::{Silence, StatusSet, TcpProbe};
use evenkeel_model::finding::ProbeKind;
use evenkeel_model::{Cidr, limits};
use evenkeel_plan::{AccessLog, Protocol};

use crate::config::{At, Backend, Check, Config, Listener, Node as NodeSettings, Pool};
use crate::document::{Node, Table, Value};
use crate::keys::Section;
use crate::problem::{Note, Notes, Quoted};
use crate::reader::{Reader, closest};
use crate::values::{self, Purpose, Refusal};

pub(crate) fn config(document: &Node, notes: &mut Notes) -> Config {
    let empty = Table::default();
    let root = match &document.value {
        Value::Table(table) => table,
        Value::Nothing => &empty,
        other => {
            let text = format!("a config is a table of keys, and this is {}", other.described());
            notes.add(Note::error("wrong_type", document.span.clone(), text).help("begin with a listener and a pool"));
            &empty
        }
    };
    let mut top = Reader::new(Section::Top, "", root, 0..0, notes);
    let node = node(&mut top, &empty);
    let admin = admin(&mut top, &empty);
    let listeners: Vec<Listener> = tables(&mut top, "listener")
        .into_iter()
        .enumerate()
        .map(|(position, (table, head))| listener(position, table, head, top.notes()))
        .collect();
    // A listener that could not be read has its own problem.
    let tried = root.get("listener").is_some_and(|entry| entry.node.value != Value::List(Vec::new()));
    if listeners.is_empty() && !tried {
        let text = "there is no listener, so nothing can arrive";
        let help = "add [[listener]] with listen = \"0.0.0.0:80\" and pool = \"…\"";
        top.notes().add(Note::error("no_listener", 0..0, text).help(help).about_the_file());
    }
    let pools = tables(&mut top, "pool")
        .into_iter()
        .enumerate()
        .map(|(position, (table, head))| pool(position, table, head, top.notes()))
        .collect();
    top.finish();
    Config { node, admin, listeners, pools }
}

/// The one table under a key, or an empty one.
fn table<'d>(top: &mut Reader<'d, '_>, name: &'static str, empty: &'d Table) -> (&'d Table, Range<usize>) {
    let Some(entry) = top.entry(name) else { return (empty, 0..0) };
    match &entry.node.value {
        Value::Table(table) => (table, entry.node.span.clone()),
        other => {
            let help = format!("write [{name}] and its keys below it");
            let what = format!("is {}, but it takes a table", other.described());
            top.refuse(Refusal { code: "wrong_type", what, help }, name, &entry.node);
            (empty, 0..0)
        }
    }
}

/// The tables under a key that takes a list of them.
fn tables<'d>(top: &mut Reader<'d, '_>, name: &'static str) -> Vec<(&'d Table, Range<usize>)> {
    let Some(entry) = top.entry(name) else { return Vec::new() };
    let help = format!("in TOML write [[{name}]] above the keys of each one; in YAML begin each one with \"- \"");
    match &entry.node.value {
        Value::List(items) => {
            let mut found = Vec::with_capacity(items.len());
            for item in items {
                match &item.value {
                    Value::Table(table) => found.push((table, item.span.clone())),
                    other => {
                        let what = format!("has {} in its list, but it takes tables", other.described());
                        top.refuse(Refusal { code: "wrong_type", what, help: help.clone() }, name, item);
                    }
                }
            }
            found
        }
        Value::Table(table) => {
            let what = "is one table, but it takes a list of tables".into();
            top.refuse(Refusal { code: "wrong_type", what, help }, name, &entry.node);
            vec![(table, entry.node.span.clone())]
        }
        other => {
            let what = format!("is {}, but it takes a list of tables", other.described());
            top.refuse(Refusal { code: "wrong_type", what, help }, name, &entry.node);
            Vec::new()
        }
    }
}

fn node<'d>(top: &mut Reader<'d, '_>, empty: &'d Table) -> NodeSettings {
    let (table, head) = table(top, "node", empty);
    let mut reader = Reader::new(Section::Node, "node", table, head, top.notes());
    let settings = NodeSettings {
        workers: reader.count(limits::WORKERS),
        connections: reader.count(limits::CONNECTIONS),
        drain_timeout: reader.duration(limits::DRAIN_TIMEOUT),
        access_log: reader.text("access_log", access_log).map_or(AccessLog::Stdout, |at| at.value),
        cluster: reader.text("cluster", cluster).map(|at| at.value),
    };
    reader.finish();
    settings
}

fn access_log(text: &str) -> Result<AccessLog, Refusal> {
    match text {
        "off" => Ok(AccessLog::Off),
        "stdout" => Ok(AccessLog::Stdout),
        path if path.contains('\0') => Err(Refusal {
            code: "invalid_path",
            what: format!("is {}, and a path has no zero bytes", Quoted(path)),
            help: "write \"off\", \"stdout\" or a path".into(),
        }),
        path if path.contains('/') && !path.ends_with('/') => Ok(AccessLog::File(PathBuf::from(path))),
        word => Err(Refusal {
            code: "unknown_word",
            what: format!("is {}, which is neither \"off\" nor \"stdout\" nor a path of a file", Quoted(word)),
            help: match closest(word, ["off", "stdout"].into_iter()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("for a file here write {}", Quoted(&format!("./{}", word.trim_end_matches('/')))),
            },
        }),
    }
}

fn cluster(text: &str) -> Result<String, Refusal> {
    if values::is_token(text) {
        return Ok(text.to_owned());
    }
    Err(Refusal {
        code: "invalid_name",
        what: format!("is {}, which cannot stand in a CDN-Loop field", Quoted(text)),
        help: "use letters, digits, \"-\", \".\" and \"_\"".into(),
    })
}

fn admin<'d>(top: &mut Reader<'d, '_>, empty: &'d Table) -> Option<At<SocketAddr>> {
    let (table, head) = table(top, "admin", empty);
    let mut reader = Reader::new(Section::Admin, "admin", table, head, top.notes());
    let listen = if reader.was_written("listen") {
        match table.get("listen").map(|entry| &entry.node.value) {
            Some(Value::Text(word)) if word == "off" => {
                reader.entry("listen");
                None
            }
            // A bare port, answered as in a listener.
            Some(Value::Integer(Some(number))) => {
                let entry = reader.entry("listen");
                let read = values::address(&number.to_string(), Purpose::Listen);
                entry.and_then(|entry| {
                    let value = reader.accept(read, "listen", &entry.node)?;
                    Some(At { value, span: entry.node.span.clone() })
                })
            }
            _ => reader.text("listen", |text| values::address(text, Purpose::Listen)),
        }
    } else {
        reader.entry("listen");
        let value = limits::ADMIN_LISTEN.parse().expect("the default of the limits is an address");
        Some(At { value, span: 0..0 })
    };
    reader.finish();
    listen
}

fn listener(position: usize, table: &Table, head: Range<usize>, notes: &mut Notes) -> Listener {
    let label = label("listener", position, table);
    let mut reader = Reader::new(Section::Listener, &label, table, head.clone(), notes);
    let name = reader.text("name", values::name);
    if !reader.was_written("listen") {
        reader.missing("listen", "add an address and a port: listen = \"0.0.0.0:80\"");
    }
    let listen = list(&mut reader, "listen", |text| values::address(text, Purpose::Listen));
    let protocol = match reader.word("protocol") {
        Some("tcp") => Some(Protocol::Tcp),
        Some("http") => Some(Protocol::Http),
        _ => None,
    };
    let pool = reader.required_text("pool", "add the name of a pool: pool = \"web\"", |text| Ok(text.to_owned()));
    let listener = Listener {
        label: label.clone(),
        head,
        name,
        listen,
        protocol,
        pool,
        backlog: reader.count(limits::LISTENER_BACKLOG),
        idle_timeout: reader.duration(limits::LISTENER_IDLE_TIMEOUT),
        keep_alive_timeout: reader.duration(limits::KEEP_ALIVE_TIMEOUT),
        header_timeout: reader.duration(limits::HEADER_TIMEOUT),
        body_timeout: reader.duration(limits::CLIENT_BODY_TIMEOUT),
        header_limit: reader.size(limits::HEADER_LIMIT),
        body_limit: reader.size(limits::BODY_LIMIT),
        trusted: list(&mut reader, "trusted", cidr),
        x_forwarded: reader.flag("x_forwarded"),
        forwarded: reader.flag("forwarded"),
        written: Vec::new(),
    };
    Listener { written: reader.finish(), ..listener }
}

fn cidr(text: &str) -> Result<Cidr, Refusal> {
    text.parse().map_err(|why: String| {
        let text = Quoted(text).to_string();
        let (why, help) = why.split_once("; ").unwrap_or((&why, "write for example \"10.0.0.0/8\" or \"10.0.0.7\""));
        let what = match why.strip_prefix(&text) {
            Some(rest) => format!("has {text}, which{rest}"),
            None => format!("has {text}, but {why}"),
        };
        Refusal { code: "invalid_cidr", what, help: help.to_owned() }
    })
}

/// One string or a list of them.
fn list<T>(reader: &mut Reader<'_, '_>, name: &'static str, parse: impl Fn(&str) -> Result<T, Refusal>) -> Vec<At<T>> {
    let Some(entry) = reader.entry(name) else { return Vec::new() };
    let items: &[Node] = match &entry.node.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(&entry.node),
    };
    if items.is_empty() && name == "listen" {
        let what = "is an empty list".into();
        reader.refuse(
            Refusal { code: "missing_key", what, help: "add an address and a port".into() },
            name,
            &entry.node,
        );
    }
    let mut found = Vec::with_capacity(items.len());
    for item in items {
        let read = match &item.value {
            Value::Text(text) => parse(text),
            // A bare port is a common slip, and is answered as an address would be.
            Value::Integer(Some(number)) => parse(&number.to_string()),
            other => Err(Refusal {
                code: "wrong_type",
                what: format!("has {}, but it takes strings", other.described()),
                help: "write each one in quotes".into(),
            }),
        };
        if let Some(value) = reader.accept(read, name, item) {
            found.push(At { value, span: item.span.clone() });
        }
    }
    found
}

fn pool(position: usize, table: &Table, head: Range<usize>, notes: &mut Notes) -> Pool {
    let label = label("pool", position, table);
    let mut reader = Reader::new(Section::Pool, &label, table, head.clone(), notes);
    let name = reader.required_text("name", "add the name listeners refer to: name = \"web\"", values::name);
    let word = reader.word("schedule");
    let schedule = Schedule::ALL.into_iter().find(|schedule| Some(schedule.word()) == word).unwrap_or_default();
    let (backends, backends_incomplete) = backends(&mut reader);
    let pool = Pool {
        label: label.clone(),
        head,
        name,
        schedule,
        backends,
        backends_incomplete,
        connect_timeout: reader.duration(limits::CONNECT_TIMEOUT),
        response_timeout: reader.duration(limits::RESPONSE_TIMEOUT),
        body_timeout: reader.duration(limits::BACKEND_BODY_TIMEOUT),
        idle_timeout: reader.duration(limits::BACKEND_IDLE_TIMEOUT),
        idle_connections: reader.count(limits::BACKEND_IDLE_CONNECTIONS),
        retries: reader.count(limits::RETRIES),
        retry_budget: reader.count(limits::RETRY_BUDGET),
        slow_start: reader.duration(limits::SLOW_START),
        check: check_of(&mut reader),
        written: Vec::new(),
    };
    Pool { written: reader.finish(), ..pool }
}

fn backends(pool: &mut Reader<'_, '_>) -> (Vec<Backend>, bool) {
    let Some(entry) = pool.entry("backends") else { return (Vec::new(), false) };
    let items: &[Node] = match &entry.node.value {
        Value::List(items) => items,
        // One backend without its brackets is refused, and still read for further problems.
        other => {
            let what = format!("is {}, but it takes a list", other.described());
            let help = "put it in brackets: backends = [\"10.0.0.11:8080\"]".into();
            pool.refuse(Refusal { code: "wrong_type", what, help }, "backends", &entry.node);
            std::slice::from_ref(&entry.node)
        }
    };
    let mut found = Vec::with_capacity(items.len());
    let mut incomplete = false;
    for item in items {
        let backend = match &item.value {
            Value::Text(text) => {
                let address = pool.accept(values::address(text, Purpose::Backend), "backend", item);
                let weight = limits::WEIGHT.default;
                address.map(|value| Backend { address: At { value, span: item.span.clone() }, weight })
            }
            Value::Table(table) => {
                let label = format!("{} backend", pool.label());
                let mut reader = Reader::new(Section::Backend, &label, table, item.span.clone(), pool.notes());
                let help = "add address = \"10.0.0.11:8080\"";
                let address = reader.required_text("address", help, |text| values::address(text, Purpose::Backend));
                let weight = reader.count(limits::WEIGHT);
                reader.finish();
                address.map(|address| Backend { address, weight })
            }
            other => {
                let what = format!("is {}, but it takes a string or a table", other.described());
                let help = "write \"10.0.0.11:8080\" or { address = \"10.0.0.11:8080\", weight = 50 }".into();
                pool.refuse(Refusal { code: "wrong_type", what, help }, "backend", item);
                None
            }
        };
        incomplete |= backend.is_none();
        found.extend(backend);
    }
    (found, incomplete)
}

/// `None` when the check is off.
fn check_of(pool: &mut Reader<'_, '_>) -> Option<Check> {
    let label = pool.label().to_owned();
    let empty = Table::default();
    let Some(entry) = pool.entry("check") else { return Some(check(&label, &empty, 0..0, pool.notes())) };
    let help = match &entry.node.value {
        Value::Table(table) => return Some(check(&label, table, entry.node.span.clone(), pool.notes())),
        Value::Text(text) if text == "off" => return None,
        Value::Flag(false) => "write check = \"off\"",
        Value::Text(_) | Value::Flag(true) | Value::Nothing => {
            "leave it out to check with the defaults, or write \"off\""
        }
        _ => "write \"off\", or a table: check = { path = \"/health\" }",
    };
    let what = match &entry.node.value {
        Value::Text(text) => format!("is {}, but it takes \"off\" or a table", Quoted(text)),
        other => format!("is {}, but it takes \"off\" or a table", other.described()),
    };
    pool.refuse(Refusal { code: "wrong_type", what, help: help.into() }, "check", &entry.node);
    None
}

fn check(label: &str, table: &Table, head: Range<usize>, notes: &mut Notes) -> Check {
    let mut reader = Reader::new(Section::Check, label, table, head, notes);
    let word = reader.word("kind");
    let kind = ProbeKind::ALL.into_iter().find(|kind| Some(kind.word()) == word);
    let (timeout, interval) = match kind {
        Some(ProbeKind::Udp) => (limits::UDP_CHECK_TIMEOUT, limits::UDP_CHECK_INTERVAL),
        Some(ProbeKind::Http | ProbeKind::Tcp) | None => (limits::CHECK_TIMEOUT, limits::CHECK_INTERVAL),
    };
    let check = Check {
        kind,
        kind_unreadable: kind.is_none() && reader.was_written("kind"),
        path: reader.text_or_default("path", values::path),
        method: reader.text_or_default("method", values::method),
        host: reader.text("host", values::host).map(|at| at.value),
        expect_status: expect_status(&mut reader),
        handshake: match reader.word("handshake") {
            Some("full") => TcpProbe::Full,
            _ => TcpProbe::HalfOpen,
        },
        send: payload(&mut reader, "send").unwrap_or_default(),
        expect: payload(&mut reader, "expect"),
        silence: match reader.word("silence") {
            Some("fail") => Silence::Fail,
            Some("keep") => Silence::Keep,
            _ => Silence::Pass,
        },
        port: reader.port("port"),
        source: reader.text("source", values::ip),
        timeout: reader.duration(timeout),
        interval: reader.duration(interval),
        healthy_threshold: reader.count(limits::HEALTHY_THRESHOLD),
        unhealthy_threshold: reader.count(limits::UNHEALTHY_THRESHOLD),
        written: Vec::new(),
    };
    Check { written: reader.finish(), ..check }
}

fn expect_status(reader: &mut Reader<'_, '_>) -> StatusSet {
    const NAME: &str = "expect_status";
    let Some(entry) = reader.entry(NAME) else { return StatusSet::default() };
    let items: &[Node] = match &entry.node.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(&entry.node),
    };
    if items.is_empty() {
        let what = "is an empty list, so that no probe could pass".into();
        let help = "write for example [\"2xx\", \"3xx\"], the default".into();
        reader.refuse(Refusal { code: "invalid_status", what, help }, NAME, &entry.node);
    }
    let mut ranges = Vec::with_capacity(items.len());
    for item in items {
        let read = match &item.value {
            Value::Text(text) => values::statuses(text),
            Value::Integer(Some(number)) => values::statuses(&number.to_string()),
            other => Err(Refusal {
                code: "wrong_type",
                what: format!("has {}, but it takes statuses", other.described()),
                help: "write \"2xx\", 200 or \"200-204\"".into(),
            }),
        };
        ranges.extend(reader.accept(read, NAME, item));
    }
    StatusSet::from_ranges(ranges)
}

fn payload(reader: &mut Reader<'_, '_>, name: &'static str) -> Option<Vec<u8>> {
    let entry = reader.entry(name)?;
    let text = reader.text_of(name, &entry.node)?;
    // TOML 1.1, YAML and JSON have escapes of their own: "\xff" between double quotes is the character U+00FF
    // before we see it, and goes out as two bytes.
    if let Some(character) = text.chars().find(|character| ('\u{80}'..='\u{ff}').contains(character)) {
        let refusal = Refusal {
            code: "character_not_byte",
            what: format!(
                "has the character {}, which is sent as its two bytes of UTF-8",
                Quoted(character.encode_utf8(&mut [0; 4]))
            ),
            help: format!("for the one byte write '\\x{:02x}' between single quotes", u32::from(character)),
        };
        reader.warn(refusal, name, &entry.node);
    }
    let bytes = reader.accept(values::bytes(text), name, &entry.node)?;
    let largest = limits::UDP_PAYLOAD.value;
    if bytes.len() as u64 > largest {
        let what = format!("has {} bytes, and a datagram holds {largest}", bytes.len());
        let refusal = Refusal { code: "out_of_range", what, help: "shorten it".into() };
        reader.refuse(refusal, name, &entry.node);
        return None;
    }
    Some(bytes)
}

/// What problems call it: by its name when that is a string, else by its position.
fn label(what: &str, position: usize, table: &Table) -> String {
    let named = |key: &str| {
        let value = table.get(key).map(|entry| &entry.node.value);
        let first = match value {
            Some(Value::List(items)) => items.first().map(|item| &item.value),
            value => value,
        };
        match first {
            Some(Value::Text(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    };
    let name = named("name").or_else(|| if what == "listener" { named("listen") } else { None });
    match name {
        Some(name) => format!("{what} {}", Quoted(name)),
        None => format!("{what} {}", position + 1),
    }
}
