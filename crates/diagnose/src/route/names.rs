//! Where a client of a tls-passthrough listener comes to, by the name and the protocols it asks for.
//!
//! The rules themselves are asked, one by one where it has to be said why one was passed over.

use std::net::IpAddr;

use evenkeel_model::ListenerId;
use evenkeel_plan::{Asked, HashOn, Miss, NameRule, Names, Snapshot};

use super::{Outcome, Refused, Report, RuleLine, RulePlace, Sent, denied, offered};

/// What a client says in its first message.
#[derive(Clone, Copy, Debug)]
pub struct Hello<'a> {
    /// In lower case; `None` when it asks for none.
    pub name: Option<&'a str>,
    pub alpn: &'a [String],
}

impl Hello<'_> {
    fn finds<'n>(&self, names: &'n Names) -> Result<&'n NameRule, Miss> {
        names.find(self.name, self.alpn.iter().map(String::as_bytes))
    }
}

/// What becomes of a client with this greeting. Without an address access lists are not asked.
pub fn report_hello(snapshot: &Snapshot, listener: ListenerId, hello: Hello<'_>, client: Option<IpAddr>) -> Report {
    let listener = &*snapshot.plan.listeners[listener.index()];
    if let Some(client) = client
        && let Some(detail) = denied(listener, client)
    {
        return Report::refused(listener, evenkeel_model::Cause::ClientDeniedByAcl, detail);
    }
    let found = hello.finds(&listener.names);
    let rules = listener.names.iter().map(|rule| line(rule, hello, found.ok())).collect();
    let pool = |id| offered(snapshot, id, &NoRequest, &HashOn::Address, client);
    let outcome = match (found, listener.pool) {
        (Ok(rule), _) => pool(rule.pool),
        (Err(miss), Some(id)) => match pool(id) {
            Outcome::Pool(sent) => Outcome::Pool(Sent { by_default: Some(miss), ..sent }),
            other => other,
        },
        (Err(miss), None) => Outcome::Refused(missed(miss, hello)),
    };
    Report { listener: listener.name.to_string(), protocol: listener.protocol.word(), rules, outcome }
}

fn missed(miss: Miss, hello: Hello<'_>) -> Refused {
    let detail = match (miss, hello.name) {
        (Miss::Host, Some(name)) => format!("no rule has the name \"{}\"", name.escape_debug()),
        (Miss::Host, None) => "the client asks for no name, and every rule has one".to_string(),
        (Miss::Rule, _) => "no rule takes name and protocols together".to_string(),
    };
    Refused { cause: miss.cause(), detail }
}

/// A rule is asked as if it were the only one, so that what is said of it is what the data plane would find.
fn line(rule: &NameRule, hello: Hello<'_>, taken: Option<&NameRule>) -> RuleLine {
    let alone = Names::new(vec![rule.clone()]);
    let (place, reason, sentence) = match hello.finds(&alone) {
        Ok(_) if taken.is_some_and(|taken| std::ptr::eq(taken, rule)) => (
            RulePlace::Taken,
            "taken",
            "it has the narrowest name, then a protocol that the client offers, then the first place",
        ),
        Ok(_) => (
            RulePlace::RunnerUp,
            "behind",
            "it would take the client, but the one taken is narrower, or stands in front",
        ),
        Err(_) if rule.alpn.is_empty() => (RulePlace::Out, "host", "it has another name"),
        Err(_) => {
            let of_any_protocol = Names::new(vec![NameRule { alpn: Vec::new(), ..rule.clone() }]);
            match hello.finds(&of_any_protocol) {
                Ok(_) => (RulePlace::Out, "alpn", "the client offers none of its protocols"),
                Err(_) => (RulePlace::Out, "host", "it has another name"),
            }
        }
    };
    RuleLine { name: rule.name.to_string(), place, reason, sentence: sentence.to_string() }
}

/// What is relayed has none of what requests have.
struct NoRequest;

impl Asked for NoRequest {
    fn host(&self) -> &[u8] {
        b""
    }

    fn path(&self) -> &[u8] {
        b""
    }

    fn method(&self) -> &[u8] {
        b""
    }

    fn header(&self, _name: &str) -> impl Iterator<Item = &[u8]> {
        std::iter::empty()
    }

    fn cookie(&self, _name: &str) -> Option<&[u8]> {
        None
    }
}
