//! Access lists from files, and prefixes that stand for addresses of this host.
//!
//! A bad line of a list is said with its number, the first few of a file only: a list of tens of thousands that is of
//! another format altogether is one mistake.

use std::net::IpAddr;
use std::sync::Arc;

use evenkeel_model::{Cidr, CidrSet};
use evenkeel_plan::Access;

use super::{Desk, Files};
use crate::config::{Config, File, Listener, Sources};
use crate::problem::{Note, Notes, Quoted};

/// Bad lines shown of one file.
const SHOWN: usize = 3;

impl Desk<'_> {
    /// The lists of a listener, from the config and from its files.
    pub(super) fn access(&mut self, listener: &Listener) -> Access {
        let written = &listener.access;
        let mut set = |name, entries: &[crate::config::At<Cidr>], files: &[File]| {
            let mut all: Vec<Cidr> = entries.iter().map(|at| at.value).collect();
            for file in files {
                all.extend(self.entries(&listener.label, name, file));
            }
            CidrSet::new(all)
        };
        let allow = set("access.allow_file", &written.allow, &written.allow_files);
        let deny = set("access.deny_file", &written.deny, &written.deny_files);
        // An empty list of those who may lets everybody in: the opposite of what its file says.
        if let (true, Some(file), false) = (allow.is_empty(), written.allow_files.first(), self.notes.failed()) {
            let text = format!("{}: access.allow_file {} has no entries", listener.label, Quoted(&file.value));
            let help = "add those who may connect, or remove allow_file to let everybody in";
            self.notes.add(Note::error("empty_list", file.span.clone(), text).help(help));
        }
        Access { allow, deny }
    }

    fn entries(&mut self, label: &str, key: &str, file: &File) -> Vec<Cidr> {
        let Some(bytes) = self.bytes(label, key, file) else { return Vec::new() };
        let Ok(text) = std::str::from_utf8(&bytes) else {
            let text = format!("{label}: {key} {} is not text", Quoted(&file.value));
            let help = "it takes one address or prefix on each line";
            self.notes.add(Note::error("invalid_list", file.span.clone(), text).help(help));
            return Vec::new();
        };
        let mut found = Vec::new();
        let mut bad = 0;
        for (number, line) in text.lines().enumerate() {
            let entry = line.split('#').next().unwrap_or_default().trim();
            if entry.is_empty() {
                continue;
            }
            match entry.parse::<Cidr>() {
                Ok(cidr) => found.push(cidr),
                Err(why) => {
                    bad += 1;
                    if bad <= SHOWN {
                        self.bad_line(label, key, file, (number + 1, entry), &why);
                    }
                }
            }
        }
        if bad > SHOWN {
            let text = format!("{label}: {key} {} has {} more bad lines", Quoted(&file.value), bad - SHOWN);
            let help = "it takes one address or prefix on each line, and # begins a comment";
            self.notes.add(Note::error("invalid_list", file.span.clone(), text).help(help));
        }
        found
    }

    fn bad_line(&mut self, label: &str, key: &str, file: &File, (number, entry): (usize, &str), why: &str) {
        let (why, help) = match why.split_once("; ") {
            Some((why, help)) => (why.to_owned(), help),
            None => {
                let why = format!("{} is neither an address nor a prefix", Quoted(entry));
                (why, "write for example 10.0.0.0/8 or 2001:db8::7, each on a line of its own")
            }
        };
        let text = format!("{label}: {key} {}:{number}: {why}", file.value.escape_debug());
        self.notes.add(Note::error("invalid_list", file.span.clone(), text).help(help));
    }
}

/// The addresses of this host; asked for only when a prefix needs them.
pub(super) struct Addresses(Arc<[IpAddr]>);

impl Addresses {
    pub(super) fn of(config: &Config, files: &dyn Files) -> Self {
        let checks = config.pools.iter().flat_map(|pool| &pool.checks).filter_map(|check| check.source.as_ref());
        let mut all = config.pools.iter().filter_map(|pool| pool.source.as_ref()).chain(checks).flatten();
        let needed = all.any(|at| at.value.only().is_none());
        Addresses(if needed { files.addresses().into() } else { Arc::from([]) })
    }

    /// Each source once, in the order of the file.
    pub(super) fn taken(&self, label: &str, key: &str, sources: &Sources, notes: &mut Notes) -> Vec<IpAddr> {
        let mut taken: Vec<IpAddr> = Vec::new();
        for at in sources {
            let inside = |address: &&IpAddr| {
                // What leads nowhere but here is no source for a wide prefix.
                at.value.contains(**address) && (!address.is_loopback() || at.value.network().is_loopback())
            };
            let found: Vec<IpAddr> = match at.value.only() {
                Some(address) => vec![address],
                None => self.0.iter().filter(inside).copied().collect(),
            };
            if found.is_empty() {
                let text = format!("{label}: {key} \"{}\" has none of this host's addresses in it", at.value);
                let add = format!("add one: ip address add {} dev lo", example(at.value));
                let help = format!("{add}; a prefix means addresses of the host that the config is read on");
                notes.add(Note::error("no_source_address", at.span.clone(), text).help(help));
            }
            for address in found {
                if !taken.contains(&address) {
                    taken.push(address);
                }
            }
        }
        taken
    }
}

/// The second address inside, with the whole length: the first one is the network's own.
fn example(prefix: Cidr) -> String {
    match prefix.network() {
        IpAddr::V4(network) => format!("{}/32", std::net::Ipv4Addr::from(u32::from(network) | 1)),
        IpAddr::V6(network) => format!("{}/128", std::net::Ipv6Addr::from(u128::from(network) | 1)),
    }
}
