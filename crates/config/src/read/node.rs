//! `[node]` and its tables: the process as a whole, whom it tells, whom it asks.
//!
//! Whether what is named may be run or is needed at all is not asked here.

use std::ops::Range;
use std::path::PathBuf;

use evenkeel_model::limits;
use evenkeel_plan::{AccessLog, HookOn, HookTo};

use super::{check, file, inner, inner_or_empty, list, table, tables};
use crate::config::{At, Hook, Node as NodeSettings, Resolver, Traces};
use crate::document::{Table, Value};
use crate::keys::Section;
use crate::problem::{Notes, Quoted};
use crate::reader::{Reader, closest, one_of};
use crate::values::{self, Refusal, dns, http};

pub(super) fn node<'d>(top: &mut Reader<'d, '_>, empty: &'d Table) -> NodeSettings {
    let (table, head) = table(top, "node", empty);
    let mut reader = Reader::new(Section::Node, "node", table, head, top.notes());
    let settings = NodeSettings {
        workers: reader.count(limits::WORKERS),
        connections: reader.count(limits::CONNECTIONS),
        drain_timeout: reader.duration(limits::DRAIN_TIMEOUT),
        shutdown_delay: reader.duration(limits::SHUTDOWN_DELAY),
        watch: reader.flag("watch"),
        access_log: reader.text("access_log", access_log).map_or(AccessLog::Stdout, |at| at.value),
        cluster: reader.text("cluster", cluster).map(|at| at.value),
        sticky_secret: file(&mut reader, "sticky_secret"),
        allow_commands: reader.flag("allow_commands"),
        state_file: reader.text("state_file", state_file),
        state_max_age: reader.duration(limits::STATE_MAX_AGE),
        hold_on_suspicion: reader.optional_duration(limits::HOLD_ON_SUSPICION).map(|at| at.value),
        hooks: hooks(&mut reader),
        resolver: resolver(&mut reader, empty),
        slow_request: reader.optional_duration(limits::SLOW_REQUEST).map(|at| at.value),
        kept_requests: reader.count(limits::KEPT_REQUESTS),
        traces: traces(&mut reader),
        written: Vec::new(),
    };
    NodeSettings { written: reader.finish(), ..settings }
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

/// It is written while the process runs, wherever that was started; so its path says all.
fn state_file(text: &str) -> Result<String, Refusal> {
    if text.starts_with('/') && !text.ends_with('/') && !text.contains('\0') {
        return Ok(text.to_owned());
    }
    Err(Refusal {
        code: "invalid_path",
        what: format!("is {}, which is not the absolute path of a file", Quoted(text)),
        help: "write for example \"/var/lib/evenkeel/state.json\"".into(),
    })
}

fn hooks(node: &mut Reader<'_, '_>) -> Vec<Hook> {
    let found = tables(node, "hook", "[[node.hook]]");
    let most = limits::HOOKS.value;
    if found.len() as u64 > most
        && let Some(entry) = node.table().get("hook")
    {
        let what = format!("has {} tables, more than {most}", found.len());
        let help = "let one program or service tell the others".into();
        node.refuse(Refusal { code: "out_of_range", what, help }, "hook", &entry.node);
    }
    let hooks = found.into_iter().enumerate();
    hooks.map(|(position, (table, head))| hook(position, table, head, node.notes())).collect()
}

fn hook(position: usize, table: &Table, head: Range<usize>, notes: &mut Notes) -> Hook {
    let label = format!("hook {}", position + 1);
    let mut reader = Reader::new(Section::Hook, &label, table, head.clone(), notes);
    let url = reader.text("url", http::url).map(|at| HookTo::Url(at.value));
    let command = check::command(&mut reader);
    let command = (!command.is_empty()).then_some(HookTo::Command(command));
    match (reader.was_written("url"), table.get("command")) {
        (false, None) => {
            let help = "say whom to tell: url = \"https://…\" or command = [\"/usr/local/bin/page\"]";
            reader.missing("url", help);
        }
        (true, Some(entry)) => {
            let what = "stands beside url, and a hook tells one of them".into();
            let help = "write a second [[node.hook]] for it".into();
            reader.refuse(Refusal { code: "keys_exclude_each_other", what, help }, "command", &entry.node);
        }
        (true, None) | (false, Some(_)) => {}
    }
    let on = on(&mut reader);
    let timeout = reader.duration(limits::HOOK_TIMEOUT);
    reader.finish();
    Hook { head, to: url.or(command), on, timeout }
}

fn on(reader: &mut Reader<'_, '_>) -> HookOn {
    const WORDS: [&str; 3] = ["unhealthy", "healthy", "ejected"];
    if !reader.was_written("on") {
        reader.entry("on");
        return HookOn::default();
    }
    let words: Vec<At<&str>> = list(reader, "on", |text| {
        WORDS.into_iter().find(|word| *word == text).ok_or_else(|| Refusal {
            code: "unknown_word",
            what: format!("has {}, but it takes {}", Quoted(text), one_of(WORDS.into_iter())),
            help: match (text, closest(text, WORDS.into_iter())) {
                (_, Some(near)) => format!("did you mean \"{near}\"?"),
                ("up", None) => "did you mean \"healthy\"?".into(),
                ("down", None) => "did you mean \"unhealthy\"?".into(),
                (_, None) => "write one of these".into(),
            },
        })
    });
    if let Some(entry) = reader.table().get("on").filter(|entry| entry.node.value == Value::List(Vec::new())) {
        let what = "is an empty list, so that the hook is told nothing".into();
        let help = "leave it out to be told everything, or remove the hook".into();
        reader.refuse(Refusal { code: "missing_key", what, help }, "on", &entry.node);
    }
    let told = |word: &str| words.iter().any(|at| at.value == word);
    HookOn { unhealthy: told("unhealthy"), healthy: told("healthy"), ejected: told("ejected") }
}

fn resolver(node: &mut Reader<'_, '_>, empty: &Table) -> Resolver {
    let help = "write [node.resolver] and its keys below it";
    let (table, head) = inner_or_empty(node, "resolver", help, empty);
    let mut reader = Reader::new(Section::Resolver, "node", table, head.clone(), node.notes());
    let servers: Vec<_> = list(&mut reader, "servers", dns::server).into_iter().map(|at| at.value).collect();
    let most = limits::NAME_SERVERS.value;
    if let Some(entry) = table.get("servers")
        && let Value::List(items) = &entry.node.value
        && (items.is_empty() || items.len() as u64 > most)
    {
        let what = format!("has {} servers, outside 1 to {most}", items.len());
        let help = "leave it out to ask those of /etc/resolv.conf; two or three that know the same names are enough";
        reader.refuse(Refusal { code: "out_of_range", what, help: help.into() }, "servers", &entry.node);
    }
    let resolver = Resolver {
        head,
        servers,
        timeout: reader.duration(limits::RESOLVER_TIMEOUT),
        min_ttl: reader.duration(limits::RESOLVER_MIN_TTL),
        max_ttl: reader.duration(limits::RESOLVER_MAX_TTL),
        written: Vec::new(),
    };
    Resolver { written: reader.finish(), ..resolver }
}

fn traces(node: &mut Reader<'_, '_>) -> Option<Traces> {
    let (table, head) = inner(node, "traces", "write [node.traces] and its keys below it")?;
    let mut reader = Reader::new(Section::Traces, "node", table, head, node.notes());
    let url = reader.text("endpoint", http::url).map(|at| at.value);
    if !reader.was_written("endpoint") {
        reader.missing("endpoint", "say where the collector is: endpoint = \"http://127.0.0.1:4318/v1/traces\"");
    }
    let traces = Traces {
        url,
        per_million: sample(&mut reader),
        service: reader.text("service", service).map_or_else(|| "evenkeel".to_owned(), |at| at.value),
        timeout: reader.duration(limits::TRACES_TIMEOUT),
        trust_traceparent: reader.flag("trust_traceparent"),
    };
    reader.finish();
    Some(traces)
}

/// In millionths, so that a hundredth of a percent can be said.
fn sample(reader: &mut Reader<'_, '_>) -> u32 {
    let Some(entry) = reader.entry("sample_percent") else { return limits::TRACES_SAMPLE };
    let percent = match &entry.node.value {
        Value::Float(percent) => *percent,
        Value::Integer(Some(percent)) => *percent as f64,
        _ => f64::NAN,
    };
    if (0.0..=100.0).contains(&percent) {
        return (percent * 10_000.0).round() as u32;
    }
    let what = "is not a percentage from 0 to 100".into();
    let help = "write for example 1 to trace one request in a hundred, or 0.1 for one in a thousand".into();
    reader.refuse(Refusal { code: "out_of_range", what, help }, "sample_percent", &entry.node);
    limits::TRACES_SAMPLE
}

fn service(text: &str) -> Result<String, Refusal> {
    if !text.trim().is_empty() && text.len() <= limits::NAME.value as usize && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(Refusal {
        code: "invalid_name",
        what: format!("is {}, which is no name of a service", Quoted(text)),
        help: format!("use 1 to {} characters", limits::NAME.value),
    })
}
