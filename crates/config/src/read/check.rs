//! `[pool.check]` and `[[pool.check]]`: how the backends of a pool are probed.
//!
//! Which kind a check has that names none follows from the listeners of the pool, which are not known here.

use std::ops::Range;

use evenkeel_health::pattern::Covers;
use evenkeel_health::settings::{BodyMatch, HttpVersion, Record, Silence, StatusSet, TcpProbe};
use evenkeel_model::finding::ProbeKind;
use evenkeel_model::limits;

use super::{list, payload, tls, transport};
use crate::config::{At, Check, DnsKeys, HttpKeys, UdpKeys};
use crate::document::{Node, Table, Value};
use crate::keys::Section;
use crate::lower::checks::timing_of;
use crate::problem::{Notes, Quoted};
use crate::reader::{Reader, wrong_type};
use crate::values::{self, Refusal, dns, http};

/// And whether one was written that is none.
pub(super) fn checks(pool: &mut Reader<'_, '_>, head: &Range<usize>) -> (Vec<Check>, bool) {
    const NAME: &str = "check";
    let label = pool.label().to_owned();
    let Some(entry) = pool.entry(NAME) else {
        return (vec![check(label, "check.", &Table::default(), head.clone(), pool.notes())], false);
    };
    let help = match &entry.node.value {
        Value::Table(table) => {
            return (vec![check(label, "check.", table, entry.node.span.clone(), pool.notes())], false);
        }
        Value::List(items) if !items.is_empty() => return several(pool, &label, items),
        Value::Text(text) if text == "off" => return (Vec::new(), false),
        Value::Flag(false) | Value::List(_) => "write check = \"off\"",
        Value::Text(_) | Value::Flag(true) | Value::Nothing => {
            "leave it out to check with the defaults, or write \"off\""
        }
        _ => "write \"off\", or a table: check = { path = \"/health\" }",
    };
    let what = match &entry.node.value {
        Value::Text(text) => format!("is {}, but it takes \"off\" or a table", Quoted(text)),
        Value::List(_) => "is an empty list".to_owned(),
        other => format!("is {}, but it takes \"off\" or a table", other.described()),
    };
    pool.refuse(Refusal { code: "wrong_type", what, help: help.into() }, NAME, &entry.node);
    (Vec::new(), true)
}

fn several(pool: &mut Reader<'_, '_>, label: &str, items: &[Node]) -> (Vec<Check>, bool) {
    let mut found = Vec::with_capacity(items.len());
    let mut incomplete = false;
    let most = limits::CHECKS.value;
    for (position, item) in items.iter().enumerate() {
        match &item.value {
            Value::Table(table) if (position as u64) < most => {
                let label = format!("{label} {}", super::label("check", position, table));
                found.push(check(label, "", table, item.span.clone(), pool.notes()));
            }
            Value::Table(_) => {
                let what = format!("is the {}th, and a pool has at most {most}", position + 1);
                let help = "each is a target more for every backend; join some, or run a command that asks all".into();
                pool.refuse(Refusal { code: "out_of_range", what, help }, "check", item);
                return (found, true);
            }
            other => {
                let help = "write \"off\" or tables: [[pool.check]] above the keys of each one";
                pool.refuse(wrong_type(other, "tables", help), "check", item);
                incomplete = true;
            }
        }
    }
    (found, incomplete)
}

fn check(label: String, prefix: &'static str, table: &Table, head: Range<usize>, notes: &mut Notes) -> Check {
    let errors = notes.errors();
    let mut reader = Reader::new(Section::Check, &label, table, head.clone(), notes).under(prefix.to_owned());
    let name = reader.text("name", values::name);
    let word = reader.word("kind");
    let kind = ProbeKind::ALL.into_iter().find(|kind| Some(kind.word()) == word);
    let (timeout, interval) = timing_of(kind.unwrap_or(ProbeKind::Tcp));
    for (needed, by, help) in [
        ("query", ProbeKind::Dns, "add the name that is asked for: query = \"example.com\""),
        ("command", ProbeKind::Command, "add the program and its arguments: command = [\"/usr/lib/checks/app\"]"),
    ] {
        if kind == Some(by) && !reader.was_written(needed) {
            reader.missing(needed, help);
        }
    }
    let check = Check {
        label: label.clone(),
        prefix,
        head,
        name,
        kind,
        kind_unreadable: kind.is_none() && reader.was_written("kind"),
        host: reader.text("host", http::host).map(|at| at.value),
        http: http_keys(&mut reader),
        handshake: match reader.word("handshake") {
            Some("full") => TcpProbe::Full,
            _ => TcpProbe::HalfOpen,
        },
        steps: payload::steps(&mut reader),
        send: payload::send(&mut reader, limits::UDP_PAYLOAD.value).unwrap_or_default(),
        udp: UdpKeys {
            expect: payload::pattern(&mut reader, "expect", Covers::Whole, limits::UDP_PAYLOAD.value),
            silence: match reader.word("silence") {
                Some("fail") => Silence::Fail,
                Some("keep") => Silence::Keep,
                _ => Silence::Pass,
            },
            closed_port: reader.a_port("closed_port", "write a port where nothing listens, for example 9"),
            ping: reader.flag("ping"),
        },
        service: reader.text("service", http::service).map(|at| at.value).unwrap_or_default(),
        dns: dns_keys(&mut reader),
        command: command(&mut reader),
        tls: tls::of_check(&mut reader),
        min_days_left: reader.optional_count(limits::MIN_DAYS_LEFT).map(|at| at.value),
        port: reader.port("port"),
        source: transport::sources(&mut reader),
        timeout: reader.duration(timeout),
        interval: reader.duration(interval),
        unhealthy_interval: reader.optional_duration(limits::UNHEALTHY_INTERVAL),
        transition_interval: reader.optional_duration(limits::TRANSITION_INTERVAL),
        jitter: reader.count(limits::CHECK_JITTER),
        trust_traffic: reader.optional_duration(limits::TRUST_TRAFFIC),
        healthy_threshold: reader.count(limits::HEALTHY_THRESHOLD),
        unhealthy_threshold: reader.count(limits::UNHEALTHY_THRESHOLD),
        incomplete: false,
        written: Vec::new(),
    };
    let written = reader.finish();
    Check { written, incomplete: notes.errors() > errors, ..check }
}

fn http_keys(reader: &mut Reader<'_, '_>) -> HttpKeys {
    let longest = limits::PROBE_PATTERN.value;
    let expected = payload::pattern(reader, "expect_body", Covers::Part, longest);
    let rejected = payload::pattern(reader, "reject_body", Covers::Part, longest);
    if let Some(entry) = reader.table().get("reject_body").filter(|_| reader.was_written("expect_body")) {
        let what = "stands beside expect_body, and a check looks for one of them".into();
        let help = "write a second check: [[pool.check]] with the same path and reject_body".into();
        reader.refuse(Refusal { code: "keys_exclude_each_other", what, help }, "reject_body", &entry.node);
    }
    HttpKeys {
        path: reader.text_or_default("path", http::path),
        method: reader.text("method", |text| http::method(text, "write \"HEAD\" (the default) or \"GET\"")),
        headers: headers(reader),
        expect_status: expect_status(reader),
        body: expected.map(BodyMatch::Has).or(rejected.map(BodyMatch::HasNot)),
        version: match (reader.was_written("version"), reader.word("version")) {
            (true, Some("h2")) => Some(HttpVersion::Http2),
            (true, Some(_)) => Some(HttpVersion::Http1),
            _ => None,
        },
        keep_alive: reader.flag("keep_alive"),
    }
}

/// Names as they are written: HTTP/1.1 sends them so.
fn headers(reader: &mut Reader<'_, '_>) -> Vec<(String, String)> {
    const NAME: &str = "headers";
    let Some(entry) = reader.entry(NAME) else { return Vec::new() };
    let Value::Table(table) = &entry.node.value else {
        let help = "write names and values: headers = { Authorization = \"Bearer probe\" }";
        reader.refuse(wrong_type(&entry.node.value, "a table", help), NAME, &entry.node);
        return Vec::new();
    };
    let mut found: Vec<(String, String)> = Vec::with_capacity(table.entries().len());
    for field in table.entries() {
        let at = Node { value: Value::Nothing, span: field.key_span.clone() };
        let name = reader.accept(http::probe_field(&field.key), NAME, &at);
        let text = match &field.node.value {
            Value::Text(text) => http::header_value(text),
            other => Err(wrong_type(other, "a string", "write each value in quotes")),
        };
        let value = reader.accept(text, NAME, &field.node);
        let (Some(name), Some(value)) = (name, value) else { continue };
        if found.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name)) {
            let what = format!("has {} twice, and case makes no difference in such names", Quoted(&name));
            let help = "keep one; several values of a field stand in one line, with commas between them".into();
            reader.refuse(Refusal { code: "invalid_header", what, help }, NAME, &at);
        } else {
            found.push((name, value));
        }
    }
    let bytes: usize = found.iter().map(|(name, value)| name.len() + value.len()).sum();
    let most = limits::PROBE_FIELDS.value;
    if bytes as u64 > most {
        let what = format!("has {bytes} bytes of names and values, more than {most}");
        let help = "servers refuse heads of such size; shorten it".into();
        reader.refuse(Refusal { code: "out_of_range", what, help }, NAME, &entry.node);
    }
    found
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

fn dns_keys(reader: &mut Reader<'_, '_>) -> DnsKeys {
    const CODES: &str = "expect_codes";
    let query = reader.text("query", dns::query).map(|at| at.value);
    let record = match reader.word("record") {
        Some("AAAA") => Record::Aaaa,
        Some("NS") => Record::Ns,
        Some("SOA") => Record::Soa,
        Some("TXT") => Record::Txt,
        Some("MX") => Record::Mx,
        Some("SRV") => Record::Srv,
        _ => Record::A,
    };
    let written = reader.was_written(CODES);
    let mut codes: Vec<u16> = list(reader, CODES, dns::code).into_iter().map(|at| at.value).collect();
    let empty = reader.table().get(CODES).filter(|entry| entry.node.value == Value::List(Vec::new()));
    if let Some(entry) = empty {
        let what = "is an empty list, so that no probe could pass".into();
        let help = "write for example [\"NOERROR\"], the default".into();
        reader.refuse(Refusal { code: "invalid_dns_code", what, help }, CODES, &entry.node);
    }
    if !written {
        codes.push(dns::NOERROR);
    }
    codes.sort_unstable();
    codes.dedup();
    let addresses: Vec<At<_>> = list(reader, "expect_addresses", values::ip);
    DnsKeys { query, record, codes, addresses }
}

/// A program and its arguments.
pub(super) fn command(reader: &mut Reader<'_, '_>) -> Vec<String> {
    const NAME: &str = "command";
    let Some(entry) = reader.entry(NAME) else { return Vec::new() };
    let node = &entry.node;
    let words = match &node.value {
        Value::List(items) => {
            let texts = items.iter().map(|item| match &item.value {
                Value::Text(text) => Some(text.as_str()),
                _ => None,
            });
            texts.collect::<Option<Vec<&str>>>().ok_or_else(|| {
                let what = "has something that is no string".to_owned();
                Refusal { code: "wrong_type", what, help: "write each word in quotes".to_owned() }
            })
        }
        Value::Text(text) => {
            let words: Vec<String> = text.split_whitespace().map(|word| Quoted(word).to_string()).collect();
            let help = format!("no shell reads it; write one string for each word: [{}]", words.join(", "));
            Err(wrong_type(&node.value, "a list of strings", &help))
        }
        other => Err(wrong_type(other, "a list of strings", "write command = [\"/usr/lib/checks/app\", \"--quick\"]")),
    };
    let read = words.and_then(|words| values::command(&words));
    reader.accept(read, NAME, node).unwrap_or_default()
}
