//! `[pool.check]`: how the backends of a pool are probed.
//!
//! Which kind a check has that names none follows from the listeners of the pool, which are not known here.

use std::ops::Range;

use evenkeel_health::settings::{Silence, StatusSet, TcpProbe};
use evenkeel_model::finding::ProbeKind;
use evenkeel_model::limits;

use super::{tls, transport};
use crate::config::Check;
use crate::document::{Node, Table, Value};
use crate::keys::Section;
use crate::problem::{Notes, Quoted};
use crate::reader::Reader;
use crate::values::{self, Refusal};

/// `None` when the check is off.
pub(super) fn check_of(pool: &mut Reader<'_, '_>) -> Option<Check> {
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
        _ => (limits::CHECK_TIMEOUT, limits::CHECK_INTERVAL),
    };
    let check = Check {
        kind,
        kind_unreadable: kind.is_none() && reader.was_written("kind"),
        path: reader.text_or_default("path", values::http::path),
        method: reader
            .text_or_default("method", |text| values::http::method(text, "write \"HEAD\" (the default) or \"GET\"")),
        host: reader.text("host", values::http::host).map(|at| at.value),
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
        tls: tls::of_check(&mut reader),
        min_days_left: reader.optional_count(limits::MIN_DAYS_LEFT).map(|at| at.value),
        port: reader.port("port"),
        source: transport::sources(&mut reader),
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
