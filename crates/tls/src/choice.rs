//! Which certificate a client is shown.
//!
//! By the name it asks for: exact names first, then wildcards of one label. Several certificates may bear a name; the
//! smallest kind of key whose signatures the client can check is taken, ECDSA before Ed25519 before RSA. A client that names
//! nothing, or an address where a name belongs, gets the listener's first. A name nobody bears is refused rather than
//! answered with some other certificate: the warning a browser shows then says nothing about what is wrong.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::certificate::{Certificate, Kind};
use crate::subject::client_fingerprint;

/// The certificates of one listener by name.
#[derive(Debug)]
pub(crate) struct Choice {
    exact: HashMap<Box<str>, Vec<Candidate>>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Vec<Candidate>>,
    first: Vec<Candidate>,
}

#[derive(Clone, Debug)]
struct Candidate {
    kind: Kind,
    key: Arc<CertifiedKey>,
}

/// A certificate as people and comparisons of configs know it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// By which it is chosen; empty of one that only clients without a name are shown.
    pub names: Vec<String>,
    /// SHA-256, 64 hexadecimal digits.
    pub fingerprint: String,
}

thread_local! {
    /// The name the hello in work asked for. rustls' unbuffered sessions do not tell it, and a refused handshake needs it
    /// as evidence. Taken by the same thread right after the call in which it was set.
    static ASKED: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// What the last hello judged on this thread asked for; forgotten by asking.
pub(crate) fn take_asked() -> Option<Box<str>> {
    ASKED.take()
}

impl Choice {
    pub(crate) fn new(certificates: &[Certificate]) -> Self {
        let mut choice = Choice { exact: HashMap::new(), wildcard: HashMap::new(), first: Vec::new() };
        for certificate in certificates {
            let candidate = Candidate { kind: certificate.kind, key: certificate.key.clone() };
            for name in &certificate.names {
                match name.strip_prefix("*.") {
                    Some(parent) => choice.wildcard.entry(parent.into()).or_default().push(candidate.clone()),
                    None => choice.exact.entry(name.as_str().into()).or_default().push(candidate.clone()),
                }
            }
        }
        // The first certificate has its companions of other kinds beside it: a client that names nothing may still be one
        // that can do only RSA.
        if let Some(first) = certificates.first() {
            let rest =
                certificates[1..].iter().filter(|other| first.names.iter().any(|name| other.names.contains(name)));
            let companions = std::iter::once(first).chain(rest);
            choice.first = companions.map(|c| Candidate { kind: c.kind, key: c.key.clone() }).collect();
        }
        for candidates in choice.exact.values_mut().chain(choice.wildcard.values_mut()) {
            candidates.sort_by_key(|candidate| candidate.kind);
        }
        choice.first.sort_by_key(|candidate| candidate.kind);
        choice
    }

    pub(crate) fn held(&self) -> Vec<Held> {
        let exact = self.exact.iter().map(|(name, candidates)| (name.to_string(), candidates));
        let wildcard = self.wildcard.iter().map(|(parent, candidates)| (format!("*.{parent}"), candidates));
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let fingerprint = |candidate: &Candidate| client_fingerprint(&candidate.key.cert);
        for (name, candidates) in exact.chain(wildcard) {
            for found in candidates.iter().filter_map(fingerprint) {
                names.entry(found).or_default().push(name.clone());
            }
        }
        for found in self.first.iter().filter_map(fingerprint) {
            names.entry(found).or_default();
        }
        let held = names.into_iter().map(|(fingerprint, mut names)| {
            names.sort();
            Held { names, fingerprint }
        });
        let mut held: Vec<Held> = held.collect();
        held.sort();
        held
    }

    /// Whether some certificate bears `name`.
    pub(crate) fn covers(&self, name: &str) -> bool {
        let name = plain(name);
        self.exact.contains_key(&*name) || parent(&name).is_some_and(|parent| self.wildcard.contains_key(parent))
    }

    fn pick(&self, name: Option<&str>, works: impl Fn(&CertifiedKey) -> bool) -> Option<Arc<CertifiedKey>> {
        let Some(name) = name else {
            return best([self.first.as_slice()], works);
        };
        let name = plain(name);
        let exact = self.exact.get(&*name);
        let wildcard = parent(&name).and_then(|parent| self.wildcard.get(parent));
        best([exact, wildcard].into_iter().flatten().map(Vec::as_slice), works)
    }
}

/// The first that works; where none does, the first of all, so that the handshake itself says what is missing.
fn best<'a>(
    groups: impl IntoIterator<Item = &'a [Candidate]>,
    works: impl Fn(&CertifiedKey) -> bool,
) -> Option<Arc<CertifiedKey>> {
    let mut fallback = None;
    for candidate in groups.into_iter().flatten() {
        if works(&candidate.key) {
            return Some(candidate.key.clone());
        }
        fallback.get_or_insert(&candidate.key);
    }
    fallback.cloned()
}

fn plain(name: &str) -> std::borrow::Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => name.to_ascii_lowercase().into(),
        false => name.into(),
    }
}

fn parent(name: &str) -> Option<&str> {
    let (label, parent) = name.split_once('.')?;
    (!label.is_empty() && label != "*").then_some(parent)
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        ASKED.set(name.map(Box::from));
        self.pick(name, |certified| certified.key.choose_scheme(hello.signature_schemes()).is_some())
    }
}
