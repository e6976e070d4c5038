//! Where TLS goes that is not ended here: by the name and the protocols its client asks for.
//!
//! The order is that of the rules (see [`crate::rules`]): the exact name, then the longest wildcard, then rules for any
//! name; among each, those that also ask for a protocol come first, then the order of the file decides.

use evenkeel_model::PoolId;

use crate::rules::{HostPattern, Miss};

/// The rules of one tls-passthrough listener.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Names {
    rules: Vec<NameRule>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct NameRule {
    /// As the config calls it.
    pub name: Box<str>,
    /// Empty: any name, and clients that ask for none.
    pub hosts: Vec<HostPattern>,
    /// Protocols of which the client must offer one (ALPN); empty: any.
    pub alpn: Vec<Box<[u8]>>,
    pub pool: PoolId,
}

impl Names {
    pub fn new(rules: Vec<NameRule>) -> Self {
        Names { rules }
    }

    pub fn iter(&self) -> impl Iterator<Item = &NameRule> {
        self.rules.iter()
    }

    /// Every pool a rule names.
    pub fn pools(&self) -> impl Iterator<Item = PoolId> {
        self.rules.iter().map(|rule| rule.pool)
    }

    /// The rule that takes a client that asks for `name` (in lower case, without a final dot) and offers `alpn`.
    ///
    /// # Errors
    /// Why none does.
    pub fn find<'a>(
        &self,
        name: Option<&str>,
        alpn: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<&NameRule, Miss> {
        let takes = |rule: &NameRule| {
            rule.alpn.is_empty() || alpn.clone().any(|offered| rule.alpn.iter().any(|asked| **asked == *offered))
        };
        let mut best: Option<((usize, bool), &NameRule)> = None;
        let mut named = false;
        for rule in &self.rules {
            let Some(closeness) = closeness(rule, name) else { continue };
            named |= closeness > 0;
            let rank = (closeness, !rule.alpn.is_empty());
            if takes(rule) && best.is_none_or(|(best, _)| rank > best) {
                best = Some((rank, rule));
            }
        }
        let for_any = self.rules.iter().any(|rule| rule.hosts.is_empty());
        let miss = if named || for_any { Miss::Rule } else { Miss::Host };
        best.map(|(_, rule)| rule).ok_or(miss)
    }
}

/// How narrowly a rule names `name`: 0 for any, more for a longer wildcard, most for the name itself; `None`: not at all.
fn closeness(rule: &NameRule, name: Option<&str>) -> Option<usize> {
    if rule.hosts.is_empty() {
        return Some(0);
    }
    let name = name?;
    rule.hosts
        .iter()
        .filter_map(|host| match host {
            HostPattern::Exact(exact) => (**exact == *name).then_some(usize::MAX),
            HostPattern::Wildcard(behind) => {
                let before = name.strip_suffix(&**behind)?.strip_suffix('.')?;
                (!before.is_empty()).then_some(behind.len())
            }
        })
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, hosts: &[&str], alpn: &[&str]) -> NameRule {
        let host = |text: &&str| match text.strip_prefix("*.") {
            Some(behind) => HostPattern::Wildcard(behind.into()),
            None => HostPattern::Exact((*text).into()),
        };
        NameRule {
            name: name.into(),
            hosts: hosts.iter().map(host).collect(),
            alpn: alpn.iter().map(|word| word.as_bytes().into()).collect(),
            pool: PoolId(0),
        }
    }

    #[test]
    fn the_narrowest_name_wins_then_the_protocol_then_the_order() {
        let names = Names::new(vec![
            rule("wide", &["*.example.com"], &[]),
            rule("wide mail", &["*.example.com"], &["imap"]),
            rule("narrow", &["*.a.example.com"], &[]),
            rule("exact", &["x.a.example.com"], &["h2"]),
            rule("second", &["*.example.com"], &[]),
            rule("other", &["other.net"], &["imap"]),
        ]);
        type Case<'a> = (Option<&'a str>, &'a [&'a str], Result<&'a str, Miss>);
        let table: [Case<'_>; 10] = [
            (Some("b.example.com"), &[], Ok("wide")),
            (Some("b.example.com"), &["x", "imap"], Ok("wide mail")),
            (Some("example.com"), &[], Err(Miss::Host)),
            (Some(".example.com"), &[], Err(Miss::Host)),
            (Some("notexample.com"), &[], Err(Miss::Host)),
            (Some("x.a.example.com"), &["h2"], Ok("exact")),
            (Some("x.a.example.com"), &["http/1.1"], Ok("narrow")),
            (Some("other.net"), &["imap"], Ok("other")),
            (Some("other.net"), &[], Err(Miss::Rule)),
            (None, &["imap"], Err(Miss::Host)),
        ];
        for (name, alpn, expected) in table {
            let found = names.find(name, alpn.iter().map(|word| word.as_bytes()));
            assert_eq!(found.map(|rule| &*rule.name), expected, "{name:?} {alpn:?}");
        }
    }

    #[test]
    fn a_rule_without_names_takes_those_that_ask_for_none() {
        let names = Names::new(vec![rule("any", &[], &["acme-tls/1"]), rule("one", &["one.net"], &[])]);
        let acme: &[u8] = b"acme-tls/1";
        assert_eq!(names.find(None, [acme].into_iter()).map(|rule| &*rule.name), Ok("any"));
        assert_eq!(names.find(Some("one.net"), [acme].into_iter()).map(|rule| &*rule.name), Ok("one"));
        assert_eq!(names.find(None, std::iter::empty()).map(|rule| &*rule.name), Err(Miss::Rule));
    }
}
