//! Which listener, rule, pool and backend a request would come to: the question read, and put to the rules of a snapshot.
//!
//! The request is written out, read by the parser of the data plane and put to its rules, so what is told is what would
//! happen. The command asks a config, where verdicts are not known; the admin side asks the running node.

use std::net::IpAddr;
use std::sync::Arc;

use evenkeel_diagnose::route::{self, Hello, Refused, Report, Request};
use evenkeel_model::{Cause, ListenerId};
use evenkeel_plan::{Asked, Listener, Plan, Protocol, Snapshot};
use evenkeel_wire::{FieldSlots, Framing, Parsed, Refusal, RequestHead, cookie, has_loop, parse_request};
use evenkeel_wire::{https_location, redirect_location, rewrite_path};

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// `None` only with `tls://NAME:PORT`.
    pub method: Option<String>,
    pub url: String,
    /// Names and values. Host takes the place of the URL's.
    pub headers: Vec<(String, String)>,
    /// Of a client of a tls-passthrough listener.
    pub alpn: Vec<String>,
    pub client: Option<IpAddr>,
    /// When the URL does not tell which one.
    pub listener: Option<String>,
}

/// # Errors
/// Says what is wrong with the question.
pub fn ask(snapshot: &Snapshot, question: &Question) -> Result<Report, String> {
    let url = Url::read(&question.url)?;
    let plan = &snapshot.plan;
    let id = match &question.listener {
        Some(name) => named(plan, name, &url)?,
        None => reached(plan, &url)?,
    };
    let loop_id = plan.node.loop_id();
    if url.protocol == Protocol::TlsPassthrough {
        let name = url.name();
        let hello = Hello { name: name.as_deref(), alpn: &question.alpn };
        return Ok(route::report_hello(snapshot, id, hello, question.client));
    }
    let Some(method) = &question.method else { return Err("what is the method? write one such as GET".to_string()) };
    let text = written(method, question, &url)?;
    let listener = &snapshot.plan.listeners[id.index()];
    let mut slots = FieldSlots::new();
    let head = match parse_request(&text, &mut slots, listener.http.header_limit) {
        Parsed::Whole(head) => head,
        Parsed::Refused(refusal) => return Ok(Report::refused(listener, refusal.cause, refusal.detail.to_string())),
        Parsed::Partial => return Err("method, URL and fields do not make a request".to_string()),
    };
    if loop_id.is_some_and(|loop_id| has_loop(&head, loop_id.as_bytes())) {
        let detail = "CDN-Loop names this cluster: the request has been here before".to_string();
        return Ok(Report::refused(listener, Cause::LoopDetected, detail));
    }
    let limit = listener.http.body_limit;
    if let Framing::Length(length) = head.framing
        && limit > 0
        && length > limit
    {
        let detail = format!("content-length {length} is over `body_limit` {limit}");
        return Ok(Report::refused(listener, Cause::ClientBodyTooLarge, detail));
    }
    let read = Read { head, scheme: listener.protocol.word() };
    Ok(route::report(snapshot, id, &read, question.client))
}

/// The head as a client would send it.
fn written(method: &str, question: &Question, url: &Url<'_>) -> Result<Vec<u8>, String> {
    if !method.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)) {
        return Err(format!("\"{}\" is no method; write one word such as GET", method.escape_debug()));
    }
    let mut host = url.authority;
    let mut fields = String::new();
    for (name, value) in &question.headers {
        // It would end the line, and what follows would be another field.
        let mut letters = name.chars().chain(value.chars());
        if let Some(bad) = letters.find(|letter| matches!(letter, '\r' | '\n' | '\0')) {
            let field = format!("{name}: {value}");
            return Err(format!("field \"{}\" holds {bad:?}, which no field can", field.escape_debug()));
        }
        if name.trim().eq_ignore_ascii_case("host") {
            host = value.trim();
        } else {
            fields += &format!("{name}: {}\r\n", value.trim());
        }
    }
    Ok(format!("{method} {} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n", url.path).into_bytes())
}

struct Url<'a> {
    protocol: Protocol,
    /// Host and port as written.
    authority: &'a str,
    /// Set when the host is an address.
    address: Option<IpAddr>,
    port: u16,
    /// With its query, without its fragment: that stays with the browser.
    path: String,
}

impl<'a> Url<'a> {
    fn read(text: &'a str) -> Result<Self, String> {
        let shown = text.escape_debug();
        if let Some(bad) = text.chars().find(|character| !character.is_ascii_graphic()) {
            return Err(format!("\"{shown}\" holds {bad:?}, which no URL can; write it percent-encoded"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("\"{shown}\" is no URL; write it whole, such as http://www.example.com/path"));
        };
        let (protocol, usual_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Protocol::Http, 80),
            "https" => (Protocol::Https, 443),
            "tls" => (Protocol::TlsPassthrough, 443),
            _ => return Err(format!("\"{shown}\" is none of http, https and tls; only those have rules")),
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(format!("\"{shown}\" names a user; send it as a field Authorization"));
        }
        let (host, port) = match authority.rsplit_once(':') {
            // The colons inside brackets are the address's own.
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        if host.is_empty() {
            return Err(format!("\"{shown}\" has no host"));
        }
        let port = match port.map(str::parse::<u16>) {
            None => usual_port,
            Some(Ok(port)) if port > 0 => port,
            Some(_) => return Err(format!("\"{shown}\" has a bad port; ports are 1 to 65535")),
        };
        let address = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
        let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
        Ok(Url { protocol, authority, address, port, path })
    }

    /// As a client of TLS asks for it: in lower case, without the dot of a complete name. With an address it asks for none.
    fn name(&self) -> Option<String> {
        let host = self.authority.split(':').next().unwrap_or_default();
        self.address.is_none().then(|| host.trim_end_matches('.').to_ascii_lowercase())
    }
}

/// The listener of that name, if the URL can be asked of it.
fn named(plan: &Plan, name: &str, url: &Url<'_>) -> Result<ListenerId, String> {
    let found = plan.listeners.iter().position(|listener| *listener.name == *name);
    let Some(position) = found else {
        return Err(format!("there is no listener \"{name}\"; there are {}", list(plan.listeners.iter())));
    };
    let protocol = plan.listeners[position].protocol;
    if protocol != url.protocol {
        let (its, urls) = (protocol.word(), url.protocol.word());
        return Err(format!("listener \"{name}\" speaks {its} and the URL {urls}"));
    }
    Ok(ListenerId::from_index(position))
}

/// The one listener that a client with this URL would reach.
fn reached(plan: &Plan, url: &Url<'_>) -> Result<ListenerId, String> {
    let on_port = |listener: &Listener, taken: &dyn Fn(IpAddr) -> bool| {
        listener.protocol == url.protocol
            && listener.listen.iter().any(|at| at.port() == url.port && taken(at.ip().to_canonical()))
    };
    let of = |taken: &dyn Fn(IpAddr) -> bool| -> Vec<usize> {
        let numbered = plan.listeners.iter().enumerate();
        numbered.filter(|(_, listener)| on_port(listener, taken)).map(|(position, _)| position).collect()
    };
    // The kernel prefers the listener with the very address to one for all addresses.
    let found = match url.address.map(|address| address.to_canonical()) {
        Some(address) => match of(&|at| at == address) {
            none if none.is_empty() => of(&|at| at.is_unspecified()),
            found => found,
        },
        // Which address a name stands for is not looked up here.
        None => of(&|_| true),
    };
    match found[..] {
        [only] => Ok(ListenerId::from_index(only)),
        [] => Err(format!(
            "no {} listener takes what is sent to {} port {}; there are {}; choose the listener by its name",
            url.protocol.word(),
            url.address.map_or_else(|| "any address,".to_string(), |address| format!("{address},")),
            url.port,
            list(plan.listeners.iter()),
        )),
        _ => Err(format!(
            "several listeners could take it: {}; choose the listener by its name",
            list(found.iter().map(|position| &plan.listeners[*position]))
        )),
    }
}

/// `"web" (http 0.0.0.0:80), …`
fn list<'p>(listeners: impl Iterator<Item = &'p Arc<Listener>>) -> String {
    let one = |listener: &Arc<Listener>| {
        let addresses: Vec<String> = listener.listen.iter().map(ToString::to_string).collect();
        format!("\"{}\" ({} {})", listener.name, listener.protocol.word(), addresses.join(" "))
    };
    listeners.map(one).collect::<Vec<_>>().join(", ")
}

/// A head that the data plane's parser has read.
struct Read<'h, 'b> {
    head: RequestHead<'h, 'b>,
    scheme: &'static str,
}

impl Asked for Read<'_, '_> {
    fn host(&self) -> &[u8] {
        self.head.host.unwrap_or_default()
    }

    fn path(&self) -> &[u8] {
        self.head.path
    }

    fn method(&self) -> &[u8] {
        self.head.method
    }

    fn header(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let fields = self.head.fields.iter();
        fields.filter(move |(field, _)| field.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    fn cookie(&self, name: &str) -> Option<&[u8]> {
        cookie::find(&self.head.fields, name.as_bytes())
    }
}

impl Request for Read<'_, '_> {
    fn rewritten(&self, prefix: &str, replacement: &str) -> String {
        let mut out = Vec::new();
        rewrite_path(self.head.path, prefix.as_bytes(), replacement.as_bytes(), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn location(&self, template: &str) -> Result<String, Refused> {
        let RequestHead { host, path, .. } = self.head;
        located(|out| redirect_location(template.as_bytes(), self.scheme.as_bytes(), host, path, out))
    }

    fn https_location(&self, port: u16) -> Result<String, Refused> {
        located(|out| https_location(self.head.host, port, self.head.path, out))
    }
}

fn located(write: impl FnOnce(&mut Vec<u8>) -> Result<(), Refusal>) -> Result<String, Refused> {
    let mut out = Vec::new();
    match write(&mut out) {
        Ok(()) => Ok(String::from_utf8_lossy(&out).into_owned()),
        Err(Refusal { cause, detail }) => Err(Refused { cause, detail: detail.to_string() }),
    }
}
