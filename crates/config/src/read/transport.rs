//! How connections and datagrams travel: `[listener.tcp]`, `[pool.tcp]`, sources, PROXY headers of either side.
//!
//! Which listener or pool they have a meaning on is not asked here.

use std::ops::Range;

use evenkeel_model::{Cidr, limits};
use evenkeel_plan::{ListenerTcp, ProxyDatagrams, ProxyVersion, SocketTcp};

use super::{cidr, inner, inner_or_empty, list};
use crate::config::{At, ProxyTo, Sources, Tlv};
use crate::document::{Table, Value};
use crate::keys::Section;
use crate::problem::Quoted;
use crate::reader::{Reader, closest, one_of, wrong_type};
use crate::values::{self, Refusal};

/// And where `defer_accept` stands.
pub(super) fn of_listener(listener: &mut Reader<'_, '_>) -> (ListenerTcp, Option<Range<usize>>) {
    let (empty, label) = (Table::default(), listener.label().to_owned());
    let (table, head) = inner_or_empty(listener, "tcp", "write for example tcp = { keepalive = \"60s\" }", &empty);
    let mut reader = Reader::new(Section::ListenerTcp, &label, table, head, listener.notes());
    let keepalive = reader.optional_duration(limits::LISTENER_KEEPALIVE);
    let user_timeout = reader.optional_duration(limits::LISTENER_USER_TIMEOUT);
    let fast_open = reader.count(limits::FAST_OPEN);
    let defer_accept = reader.optional_duration(limits::DEFER_ACCEPT);
    reader.finish();
    let tcp = ListenerTcp {
        socket: SocketTcp { keepalive: keepalive.map(|at| at.value), user_timeout: user_timeout.map(|at| at.value) },
        fast_open: u32::try_from(fast_open).expect("its range in the limits fits 32 bits"),
        defer_accept: defer_accept.as_ref().map(|at| at.value),
    };
    (tcp, defer_accept.map(|at| at.span))
}

pub(super) fn of_pool(pool: &mut Reader<'_, '_>) -> SocketTcp {
    let (empty, label) = (Table::default(), pool.label().to_owned());
    let (table, head) = inner_or_empty(pool, "tcp", "write for example tcp = { keepalive = \"60s\" }", &empty);
    let mut reader = Reader::new(Section::PoolTcp, &label, table, head, pool.notes());
    let tcp = SocketTcp {
        keepalive: reader.optional_duration(limits::POOL_KEEPALIVE).map(|at| at.value),
        user_timeout: reader.optional_duration(limits::POOL_USER_TIMEOUT).map(|at| at.value),
    };
    reader.finish();
    tcp
}

/// Who sends PROXY headers to a listener.
pub(super) fn proxies(listener: &mut Reader<'_, '_>) -> Option<Vec<At<Cidr>>> {
    let help = "say who sends the header: proxy_protocol = { from = [\"10.0.0.0/8\"] }";
    let (table, head) = inner(listener, "proxy_protocol", help)?;
    let label = listener.label().to_owned();
    let mut reader = Reader::new(Section::ProxyFrom, &label, table, head, listener.notes());
    if !reader.was_written("from") {
        reader.missing("from", "add who sends the header: from = [\"10.0.0.0/8\"]");
    }
    let from = list(&mut reader, "from", cidr);
    let nobody = table.get("from").filter(|entry| entry.node.value == Value::List(Vec::new()));
    if let Some(entry) = nobody {
        let what = "is an empty list, so that nobody sends the header".into();
        let help = "name the proxies in front of this listener, or remove proxy_protocol".into();
        reader.refuse(Refusal { code: "missing_key", what, help }, "from", &entry.node);
    }
    reader.finish();
    Some(from)
}

/// What backends are told; a word is short for a table with that version.
pub(super) fn proxy_to(pool: &mut Reader<'_, '_>) -> Option<ProxyTo> {
    const NAME: &str = "proxy_protocol";
    let entry = pool.entry(NAME)?;
    let span = entry.key_span.clone();
    let label = pool.label().to_owned();
    match &entry.node.value {
        Value::Table(table) => {
            let mut reader = Reader::new(Section::ProxyTo, &label, table, entry.node.span.clone(), pool.notes());
            let version = version_of(reader.word("version"));
            let tlvs = list(&mut reader, "tlvs", tlv);
            let datagrams = match reader.word("datagrams") {
                Some("each") => ProxyDatagrams::Each,
                _ => ProxyDatagrams::First,
            };
            Some(ProxyTo { span, version, tlvs, datagrams, written: reader.finish() })
        }
        Value::Text(word) => {
            let version = version_of(Some(word));
            if version.is_none() {
                let what = format!("is {}, but it takes \"v1\", \"v2\" or a table", Quoted(word));
                let help = match word.as_str() {
                    "off" => "leave it out to send no header".into(),
                    _ => "did you mean \"v2\"?".into(),
                };
                pool.refuse(Refusal { code: "unknown_word", what, help }, NAME, &entry.node);
            }
            let (tlvs, datagrams) = (Vec::new(), ProxyDatagrams::First);
            Some(ProxyTo { span, version, tlvs, datagrams, written: Vec::new() })
        }
        Value::Flag(false) => None,
        other => {
            pool.refuse(wrong_type(other, "\"v1\", \"v2\" or a table", "write \"v2\""), NAME, &entry.node);
            None
        }
    }
}

fn version_of(word: Option<&str>) -> Option<ProxyVersion> {
    match word {
        Some("v1") => Some(ProxyVersion::V1),
        Some("v2") => Some(ProxyVersion::V2),
        _ => None,
    }
}

fn tlv(text: &str) -> Result<Tlv, Refusal> {
    let words = || Tlv::ALL.into_iter().map(Tlv::word);
    Tlv::ALL.into_iter().find(|tlv| tlv.word() == text).ok_or_else(|| Refusal {
        code: "unknown_word",
        what: format!("has {}, but it takes {}", Quoted(text), one_of(words())),
        help: match (text, closest(text, words())) {
            ("sni" | "host" | "name", _) => "did you mean \"authority\"?".into(),
            (_, Some(near)) => format!("did you mean \"{near}\"?"),
            (_, None) => "write one of these".into(),
        },
    })
}

/// `None` when the kernel chooses.
pub(super) fn sources(reader: &mut Reader<'_, '_>) -> Option<Sources> {
    const NAME: &str = "source";
    if !reader.was_written(NAME) {
        reader.entry(NAME);
        return None;
    }
    let found = list(reader, NAME, values::source);
    let empty = reader.table().get(NAME).filter(|entry| entry.node.value == Value::List(Vec::new()));
    if let Some(entry) = empty {
        let what = "is an empty list".into();
        let help = "leave it out, and the kernel chooses".into();
        reader.refuse(Refusal { code: "missing_key", what, help }, NAME, &entry.node);
    }
    Some(found)
}

/// Its place, when it is on.
pub(super) fn transparent(pool: &mut Reader<'_, '_>) -> Option<Range<usize>> {
    let span = pool.table().get("transparent").map(|entry| entry.key_span.clone());
    let on = pool.flag("transparent");
    span.filter(|_| on)
}
