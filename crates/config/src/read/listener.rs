//! `[[listener]]` and its tables, except TLS and rules.
//!
//! Every key is read whatever the protocol; that one has no meaning on this listener is said when all is read.

use std::ops::Range;

use evenkeel_model::limits;
use evenkeel_plan::{Coding, Protocol, Refuse};

use super::{cidr, files, inner, inner_or_empty, label, list, rule, tables, tls, transport};
use crate::config::{Access, Asks, At, Compression, Hsts, Http2, Limit, Listener, Rate};
use crate::document::{Table, Value};
use crate::keys::{COMPRESSED_TYPES, Section};
use crate::problem::{Notes, Quoted};
use crate::reader::{Reader, closest, one_of, wrong_type};
use crate::values::{self, Purpose, Refusal};

pub(super) fn listener(position: usize, table: &Table, head: Range<usize>, notes: &mut Notes) -> Listener {
    let label = label("listener", position, table);
    let mut reader = Reader::new(Section::Listener, &label, table, head.clone(), notes);
    let name = reader.text("name", values::name);
    if !reader.was_written("listen") {
        reader.missing("listen", "add an address and a port: listen = \"0.0.0.0:80\"");
    }
    let listen = list(&mut reader, "listen", |text| values::address(text, Purpose::Listen));
    let word = reader.word("protocol");
    let protocol = Protocol::ALL.into_iter().find(|known| Some(known.word()) == word);
    let elsewhere = reader.was_written("rule") || reader.was_written("redirect_to_https");
    let without_rules = matches!(protocol, Some(Protocol::Tcp | Protocol::Udp));
    if !reader.was_written("pool") && (!elsewhere || without_rules) {
        reader.missing("pool", "add the name of a pool: pool = \"web\"");
    }
    let pool = reader.text("pool", |text| Ok(text.to_owned()));
    let idle_timeout =
        if protocol == Some(Protocol::Udp) { limits::UDP_IDLE_TIMEOUT } else { limits::LISTENER_IDLE_TIMEOUT };
    let asks = if protocol == Some(Protocol::TlsPassthrough) { Asks::Hello } else { Asks::Request };
    let (tcp, defer_accept) = transport::of_listener(&mut reader);
    let (certificates, certificates_incomplete) = tls::certificates(&mut reader);
    let listener = Listener {
        label: label.clone(),
        head,
        name,
        listen,
        protocol,
        pool,
        backlog: reader.count(limits::LISTENER_BACKLOG),
        idle_timeout: reader.duration(idle_timeout),
        lifetime: reader.optional_duration(limits::LIFETIME).map(|at| at.value),
        requests: reader.optional_count(limits::REQUESTS),
        responses: reader.optional_count(limits::RESPONSES),
        keep_alive_timeout: reader.duration(limits::KEEP_ALIVE_TIMEOUT),
        header_timeout: reader.duration(limits::HEADER_TIMEOUT),
        body_timeout: reader.duration(limits::CLIENT_BODY_TIMEOUT),
        header_limit: reader.size(limits::HEADER_LIMIT),
        body_limit: reader.size(limits::BODY_LIMIT),
        trusted: list(&mut reader, "trusted", cidr),
        x_forwarded: reader.flag("x_forwarded"),
        forwarded: reader.flag("forwarded"),
        certificates,
        certificates_incomplete,
        tls: tls::of_listener(&mut reader),
        redirect_to_https: redirect_to_https(&mut reader),
        hsts: hsts(&mut reader),
        http2: http2(&mut reader),
        access: access(&mut reader),
        refuse: match reader.word("refuse") {
            Some("silence") => Refuse::Silence,
            _ => Refuse::Reset,
        },
        tcp,
        defer_accept,
        proxies: transport::proxies(&mut reader),
        limit: limit(&mut reader),
        compression: compression(&mut reader),
        rules: tables(&mut reader, "rule", "[[listener.rule]]")
            .into_iter()
            .enumerate()
            .map(|(position, (table, head))| rule::rule(&label, asks, position, table, head, reader.notes()))
            .collect(),
        written: Vec::new(),
    };
    Listener { written: reader.finish(), ..listener }
}

fn redirect_to_https(reader: &mut Reader<'_, '_>) -> Option<At<u16>> {
    const NAME: &str = "redirect_to_https";
    let entry = reader.entry(NAME)?;
    let port = match &entry.node.value {
        Value::Flag(false) => return None,
        Value::Flag(true) => Some(443),
        Value::Integer(_) => reader.port_of(NAME, &entry.node, "write true for port 443"),
        other => {
            let refusal = wrong_type(other, "true, false or a port", "write true for port 443, or the port: 8443");
            reader.refuse(refusal, NAME, &entry.node);
            None
        }
    };
    port.map(|value| At { value, span: entry.node.span.clone() })
}

/// A duration, or a table with more to say.
fn hsts(listener: &mut Reader<'_, '_>) -> Option<Hsts> {
    const NAME: &str = "hsts";
    let entry = listener.entry(NAME)?;
    let alone = |max_age| Hsts { max_age, subdomains: false, preload: None };
    match &entry.node.value {
        Value::Table(table) => {
            let label = listener.label().to_owned();
            let mut reader = Reader::new(Section::Hsts, &label, table, entry.node.span.clone(), listener.notes());
            let preload = table.get("preload").map(|entry| entry.key_span.clone());
            let hsts = Hsts {
                max_age: reader.duration(limits::HSTS_MAX_AGE),
                subdomains: reader.flag("subdomains"),
                preload: preload.filter(|_| reader.flag("preload")),
            };
            if !reader.was_written("preload") {
                reader.entry("preload");
            }
            reader.finish();
            Some(hsts)
        }
        Value::Flag(false) => None,
        Value::Flag(true) => {
            let help = format!("write for example {}", Quoted(&values::show_duration(limits::HSTS_MAX_AGE.default)));
            let what = "is true, but it takes a duration or a table".into();
            listener.refuse(Refusal { code: "wrong_type", what, help }, NAME, &entry.node);
            None
        }
        _ => Some(alone(listener.duration_of(limits::HSTS_MAX_AGE, NAME, &entry.node))),
    }
}

fn http2(listener: &mut Reader<'_, '_>) -> Http2 {
    let (empty, label) = (Table::default(), listener.label().to_owned());
    let help = "write http2 = { enabled = false } to turn it off";
    let (table, head) = inner_or_empty(listener, "http2", help, &empty);
    let mut reader = Reader::new(Section::Http2, &label, table, head, listener.notes());
    let http2 = Http2 {
        enabled: reader.flag("enabled"),
        streams: reader.count(limits::STREAMS),
        stream_window: reader.size(limits::STREAM_WINDOW),
        connection_window: reader.size(limits::STREAMS_WINDOW),
        written: Vec::new(),
    };
    Http2 { written: reader.finish(), ..http2 }
}

fn access(listener: &mut Reader<'_, '_>) -> Access {
    let (empty, label) = (Table::default(), listener.label().to_owned());
    let help = "write for example access = { allow = [\"10.0.0.0/8\"] }";
    let (table, head) = inner_or_empty(listener, "access", help, &empty);
    let mut reader = Reader::new(Section::Access, &label, table, head, listener.notes());
    let access = Access {
        allow: list(&mut reader, "allow", cidr),
        deny: list(&mut reader, "deny", cidr),
        allow_files: files(&mut reader, "allow_file"),
        deny_files: files(&mut reader, "deny_file"),
    };
    reader.finish();
    access
}

fn limit(listener: &mut Reader<'_, '_>) -> Limit {
    let (empty, label) = (Table::default(), listener.label().to_owned());
    let help = "write for example limit = { client_requests_per_second = 100 }";
    let (table, head) = inner_or_empty(listener, "limit", help, &empty);
    let mut reader = Reader::new(Section::Limit, &label, table, head, listener.notes());
    let limit = Limit {
        connections_per_second: rate(&mut reader, "connections_per_second"),
        client_connections_per_second: rate(&mut reader, "client_connections_per_second"),
        requests_per_second: rate(&mut reader, "requests_per_second"),
        client_requests_per_second: rate(&mut reader, "client_requests_per_second"),
        connections: reader.optional_count(limits::LIMIT_CONNECTIONS),
        client_connections: reader.optional_count(limits::LIMIT_CLIENT_CONNECTIONS),
        ipv4_prefix: reader.count(limits::IPV4_PREFIX),
        ipv6_prefix: reader.count(limits::IPV6_PREFIX),
        written: Vec::new(),
    };
    Limit { written: reader.finish(), ..limit }
}

/// A number for each second, or a table that says how many at once.
fn rate(limit: &mut Reader<'_, '_>, name: &'static str) -> Option<Rate> {
    let entry = limit.entry(name)?;
    let Value::Table(table) = &entry.node.value else {
        let rate = limit.optional_count_of(limits::RATE, name, &entry.node)?.value;
        return Some(Rate { rate, burst: rate });
    };
    let label = limit.label().to_owned();
    let reader = Reader::new(Section::Rate, &label, table, entry.node.span.clone(), limit.notes());
    let mut reader = reader.under(format!("limit.{name}."));
    if !reader.was_written("rate") {
        reader.missing("rate", "add how many a second: rate = 100");
    }
    let rate = reader.optional_count(limits::RATE);
    let burst = reader.optional_count(limits::BURST);
    reader.finish();
    let rate = rate?.value;
    Some(Rate { rate, burst: burst.map_or(rate, |burst| burst.value) })
}

/// `None` when it is off.
fn compression(listener: &mut Reader<'_, '_>) -> Option<Compression> {
    let help = "write compression = {} to turn it on with the defaults; leave it out to have none";
    let (table, head) = inner(listener, "compression", help)?;
    let label = listener.label().to_owned();
    let mut reader = Reader::new(Section::Compression, &label, table, head, listener.notes());
    let codings = items(&mut reader, "codings", coding);
    let types = items(&mut reader, "types", values::http::media_range);
    let compression = Compression {
        codings: codings.unwrap_or_else(|| vec![Coding::Zstd, Coding::Br, Coding::Gzip]),
        min_size: reader.size(limits::COMPRESSION_MIN_SIZE),
        types: types.unwrap_or_else(|| COMPRESSED_TYPES.iter().map(|&kind| kind.to_owned()).collect()),
        level: reader.count(limits::COMPRESSION_LEVEL),
    };
    reader.finish();
    Some(compression)
}

/// A list that must not be empty, each item once; `None` when it is left out.
fn items<T: PartialEq>(
    reader: &mut Reader<'_, '_>,
    name: &'static str,
    parse: impl Fn(&str) -> Result<T, Refusal>,
) -> Option<Vec<T>> {
    if !reader.was_written(name) {
        reader.entry(name);
        return None;
    }
    let mut found: Vec<T> = Vec::new();
    for item in list(reader, name, parse) {
        if !found.contains(&item.value) {
            found.push(item.value);
        }
    }
    let empty = reader.table().get(name).filter(|entry| entry.node.value == Value::List(Vec::new()));
    if let Some(entry) = empty {
        let what = "is an empty list, so that nothing is compressed".into();
        let help = "leave it out for the default, or remove the whole table to compress nothing".into();
        reader.refuse(Refusal { code: "missing_key", what, help }, name, &entry.node);
    }
    Some(found)
}

fn coding(text: &str) -> Result<Coding, Refusal> {
    let words = || Coding::ALL.into_iter().map(Coding::word);
    Coding::ALL.into_iter().find(|coding| coding.word() == text).ok_or_else(|| Refusal {
        code: "unknown_word",
        what: format!("has {}, but it takes {}", Quoted(text), one_of(words())),
        help: match (text, closest(text, words())) {
            ("brotli", _) => "did you mean \"br\"?".into(),
            (_, Some(near)) => format!("did you mean \"{near}\"?"),
            (_, None) => "write one of these".into(),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn default_types_are_media_types_as_they_are_written() {
        for kind in COMPRESSED_TYPES {
            assert_eq!(values::http::media_range(kind).as_deref(), Ok(*kind));
        }
    }

    #[test]
    fn hsts_alone_is_a_year_in_the_help() {
        assert_eq!(values::show_duration(limits::HSTS_MAX_AGE.default), "365d");
        assert_eq!(limits::HSTS_MAX_AGE.default, Duration::from_secs(31_536_000));
    }
}
