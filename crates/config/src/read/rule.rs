//! `[[listener.rule]]`: which requests it takes and what becomes of them.
//!
//! A rule of which one host or condition could not be read would take other requests than were meant, so it is marked
//! and not compared with others. Which of two rules comes first is not known here.

use std::ops::Range;

use evenkeel_model::limits;
use evenkeel_plan::HostPattern;

use super::{inner, list};
use crate::config::{Action, Asks, At, HeaderCondition, HeaderEdits, Rule};
use crate::document::{Node, Table, Value};
use crate::keys::Section;
use crate::problem::{Notes, Quoted};
use crate::reader::{Reader, all_of, wrong_type};
use crate::values::{self, Refusal, http};

pub(super) fn rule(
    listener: &str,
    asks: Asks,
    position: usize,
    table: &Table,
    head: Range<usize>,
    notes: &mut Notes,
) -> Rule {
    let label = format!("{listener} {}", super::label("rule", position, table));
    let mut reader = Reader::new(Section::Rule, &label, table, head.clone(), notes);
    let name = reader.text("name", values::name);
    let (hosts, hosts_whole) = hosts(&mut reader);
    let mut path_whole = true;
    let path = reader.text_or_default("path", |text| {
        let path = http::path_prefix(text);
        path_whole = path.is_ok();
        path
    });
    let (methods, methods_whole) = methods(&mut reader);
    let (headers, headers_whole) = conditions(&mut reader);
    let (alpn, alpn_whole) = alpn(&mut reader);
    let action = action(&mut reader, asks);
    let rule = Rule {
        asks,
        label: label.clone(),
        head,
        name,
        hosts,
        incomplete: !(hosts_whole && path_whole && methods_whole && headers_whole && alpn_whole),
        path,
        methods,
        headers,
        alpn,
        action,
        rewrite_path: reader.text("rewrite_path", http::path_prefix),
        request_headers: edits(&mut reader, "request_headers"),
        response_headers: edits(&mut reader, "response_headers"),
        response_timeout: reader.optional_duration(limits::RULE_RESPONSE_TIMEOUT),
        body_timeout: reader.optional_duration(limits::RULE_BODY_TIMEOUT),
        try_timeout: reader.optional_duration(limits::RULE_TRY_TIMEOUT),
        retries: reader.optional_count(limits::RULE_RETRIES),
        written: Vec::new(),
    };
    Rule { written: reader.finish(), ..rule }
}

/// And whether all could be read: without one of its hosts a rule would take other requests than were meant.
fn hosts(reader: &mut Reader<'_, '_>) -> (Vec<At<HostPattern>>, bool) {
    let written = count(reader, "host");
    let mut hosts: Vec<At<HostPattern>> = Vec::new();
    let found = list(reader, "host", http::host_pattern);
    let whole = found.len() == written;
    for host in found {
        if !hosts.iter().any(|known| known.value == host.value) {
            hosts.push(host);
        }
    }
    refuse_empty(reader, "host", "no host; leave it out for any host");
    (hosts, whole)
}

fn methods(reader: &mut Reader<'_, '_>) -> (Vec<String>, bool) {
    let written = count(reader, "method");
    let parse = |text: &str| http::method(text, "write for example \"GET\" or [\"GET\", \"HEAD\"]");
    let mut methods: Vec<String> = list(reader, "method", parse).into_iter().map(|at| at.value).collect();
    let whole = methods.len() == written;
    methods.sort_unstable();
    methods.dedup();
    refuse_empty(reader, "method", "no method; leave it out for any method");
    (methods, whole)
}

fn alpn(reader: &mut Reader<'_, '_>) -> (Vec<String>, bool) {
    let written = count(reader, "alpn");
    let mut names: Vec<String> = list(reader, "alpn", values::alpn).into_iter().map(|at| at.value).collect();
    let whole = names.len() == written;
    names.sort_unstable();
    names.dedup();
    refuse_empty(reader, "alpn", "no protocol; leave it out for any");
    (names, whole)
}

fn count(reader: &Reader<'_, '_>, name: &str) -> usize {
    match reader.table().get(name).map(|entry| &entry.node.value) {
        None => 0,
        Some(Value::List(items)) => items.len(),
        Some(_) => 1,
    }
}

fn refuse_empty(reader: &mut Reader<'_, '_>, name: &'static str, names: &str) {
    let empty = reader.table().get(name).filter(|entry| entry.node.value == Value::List(Vec::new()));
    if let Some(entry) = empty {
        let (none, help) = names.split_once("; ").unwrap_or((names, "leave it out"));
        let what = format!("is an empty list, so that it names {none}");
        reader.refuse(Refusal { code: "missing_key", what, help: help.to_owned() }, name, &entry.node);
    }
}

/// Sorted by name.
fn conditions(reader: &mut Reader<'_, '_>) -> (Vec<HeaderCondition>, bool) {
    const NAME: &str = "headers";
    let help = "write for example headers = { \"x-beta\" = \"1\" }";
    let Some((table, _)) = inner(reader, NAME, help) else { return (Vec::new(), !reader.was_written(NAME)) };
    let mut found: Vec<HeaderCondition> = Vec::new();
    for entry in table.entries() {
        let key = Node { value: Value::Nothing, span: entry.key_span.clone() };
        let Some(name) = reader.accept(http::header_name(&entry.key), NAME, &key) else { continue };
        if name == "host" {
            let what = "has \"host\", which has a key of its own".into();
            let help = "write host = \"www.example.com\" in the rule".into();
            reader.refuse(Refusal { code: "invalid_header", what, help }, NAME, &key);
            continue;
        }
        if twice(reader, NAME, found.iter().any(|known| known.name == name), &entry.key, &key) {
            continue;
        }
        let value = match &entry.node.value {
            Value::Flag(true) => Some(None),
            Value::Text(text) => reader.accept(http::header_value(text), NAME, &entry.node).map(Some),
            Value::Flag(false) => {
                let what =
                    format!("has {} = false, and that a field is absent cannot be asked for", Quoted(&entry.key));
                let help = "write a rule that takes the requests with the field, and put this one behind it".into();
                reader.refuse(Refusal { code: "wrong_type", what, help }, NAME, &entry.node);
                None
            }
            other => {
                let help = "write the value in quotes, or true for any value";
                reader.refuse(
                    wrong_type(other, "a string or true", help),
                    &format!("{NAME}.{}", entry.key),
                    &entry.node,
                );
                None
            }
        };
        found.extend(value.map(|value| HeaderCondition { name, value }));
    }
    let whole = found.len() == table.entries().len();
    found.sort_unstable();
    (found, whole)
}

/// Names of fields do not care for case, keys of the file do.
fn twice(reader: &mut Reader<'_, '_>, under: &str, is_twice: bool, key: &str, at: &Node) -> bool {
    if is_twice {
        let what = format!("has {} twice; upper and lower case are the same here", Quoted(key));
        let help = "keep one of them".into();
        reader.refuse(Refusal { code: "duplicate_name", what, help }, under, at);
    }
    is_twice
}

fn action(rule: &mut Reader<'_, '_>, asks: Asks) -> Option<Action> {
    let written: Vec<&str> = ["pool", "redirect", "answer"].into_iter().filter(|name| rule.was_written(name)).collect();
    match written.as_slice() {
        [] if asks == Asks::Hello => rule.missing("pool", "say where its clients go: pool = \"web\""),
        [] => rule.missing("pool", "say what becomes of its requests: pool = \"web\", or redirect or answer"),
        [_] => {}
        [_, second, ..] => {
            let entry = rule.table().get(second).expect("it was written");
            let key = Node { value: Value::Nothing, span: entry.key_span.clone() };
            let what = format!("stands beside {}, and a rule does one thing", Quoted(written[0]));
            let help = format!("keep one of {}", all_of(written.iter().copied()));
            rule.refuse(Refusal { code: "several_actions", what, help }, second, &key);
        }
    }
    let pool = rule.text("pool", |text| Ok(text.to_owned())).map(Action::Pool);
    let redirect = redirect(rule);
    let answer = answer(rule);
    pool.or(redirect).or(answer)
}

fn redirect(rule: &mut Reader<'_, '_>) -> Option<Action> {
    let (table, head) = inner(rule, "redirect", "write for example redirect = { to = \"https://www.example.com/\" }")?;
    let label = rule.label().to_owned();
    let mut reader = Reader::new(Section::Redirect, &label, table, head, rule.notes());
    let to = reader.required_text("to", "add where it leads: to = \"https://www.example.com/\"", http::target);
    let status =
        status(&mut reader, 308, "301, 302, 303, 307 or 308", |status| matches!(status, 301 | 302 | 303 | 307 | 308));
    reader.finish();
    Some(Action::Redirect { to: to?, status })
}

fn answer(rule: &mut Reader<'_, '_>) -> Option<Action> {
    let (table, head) = inner(rule, "answer", "write for example answer = { status = 200, body = \"ok\" }")?;
    let label = rule.label().to_owned();
    let mut reader = Reader::new(Section::Answer, &label, table, head, rule.notes());
    let status = status(&mut reader, 200, "200 to 599", |status| (200..=599).contains(&status));
    let body = reader.text_or_default("body", |text| {
        let most = limits::ANSWER_BODY.value;
        if text.len() as u64 > most {
            let what = format!("has {} bytes, more than {most}", text.len());
            return Err(Refusal { code: "out_of_range", what, help: "serve larger pages from a backend".into() });
        }
        Ok(text.to_owned())
    });
    if matches!(status, 204 | 205 | 304)
        && !body.is_empty()
        && let Some(entry) = table.get("body")
    {
        let what = format!("is set, and an answer of status {status} has none");
        reader.refuse(Refusal { code: "body_of_empty_answer", what, help: "remove it".into() }, "body", &entry.node);
    }
    let content_type = reader.text_or_default("content_type", http::content_type);
    reader.finish();
    Some(Action::Answer { status, body, content_type })
}

fn status(reader: &mut Reader<'_, '_>, default: u16, range: &str, good: impl Fn(u16) -> bool) -> u16 {
    let Some(entry) = reader.entry("status") else { return default };
    let Some(number) = reader.whole("status", &entry.node) else { return default };
    match u16::try_from(number).ok().filter(|status| good(*status)) {
        Some(status) => status,
        None => {
            let (what, help) = (format!("is {number}, but it takes {range}"), format!("the default is {default}"));
            reader.refuse(Refusal { code: "invalid_status", what, help }, "status", &entry.node);
            default
        }
    }
}

fn edits(rule: &mut Reader<'_, '_>, name: &'static str) -> HeaderEdits {
    let help = format!("write for example {name} = {{ set = {{ \"X-A\" = \"1\" }} }}");
    let Some((table, head)) = inner(rule, name, &help) else { return HeaderEdits::default() };
    let label = rule.label().to_owned();
    let reader = Reader::new(Section::HeaderEdits, &label, table, head, rule.notes());
    let mut reader = reader.under(format!("{name}."));
    let edits = HeaderEdits {
        remove: list(&mut reader, "remove", http::edited_name),
        set: fields(&mut reader, "set"),
        add: fields(&mut reader, "add"),
    };
    for set in &edits.set {
        if let Some(removed) = edits.remove.iter().find(|removed| removed.value.eq_ignore_ascii_case(&set.0.value)) {
            let what = format!("has {}, which is set as well and so replaced anyway", Quoted(&removed.value));
            let node = Node { value: Value::Nothing, span: removed.span.clone() };
            let refusal = Refusal { code: "setting_without_effect", what, help: "remove it here".into() };
            reader.warn(refusal, "remove", &node);
        }
    }
    reader.finish();
    edits
}

fn fields(reader: &mut Reader<'_, '_>, name: &'static str) -> Vec<(At<String>, String)> {
    let Some((table, _)) = inner(reader, name, "write for example { \"X-A\" = \"1\" }") else { return Vec::new() };
    let mut found: Vec<(At<String>, String)> = Vec::new();
    for entry in table.entries() {
        let key = Node { value: Value::Nothing, span: entry.key_span.clone() };
        let Some(field) = reader.accept(http::edited_name(&entry.key), name, &key) else { continue };
        let again = found.iter().any(|(known, _)| known.value.eq_ignore_ascii_case(&field));
        if twice(reader, name, again, &entry.key, &key) {
            continue;
        }
        let value = match &entry.node.value {
            Value::Text(text) => reader.accept(http::header_value(text), name, &entry.node),
            other => {
                let refusal = wrong_type(other, "a string", "write the value in quotes");
                reader.refuse(refusal, &format!("{name}.{}", entry.key), &entry.node);
                None
            }
        };
        found.extend(value.map(|value| (At { value: field, span: entry.key_span.clone() }, value)));
    }
    found
}
