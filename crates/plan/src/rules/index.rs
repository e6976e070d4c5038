//! The rules of a listener arranged for asking: hosts in a table, the paths of each host as a tree.
//!
//! A question costs a few table look-ups and one binary search, whatever the number of rules, and its cost does not
//! grow with what a stranger puts into host or path: suffixes longer than any pattern are not looked up, and a path is
//! compared once.
//!
//! It knows where a rule stands, not whether its other conditions hold; that is asked back.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use evenkeel_model::limits;

use super::{HostPattern, Rule};

/// Only the config puts keys in, so nobody can choose them to collide, and the hash needs no secret.
type Table = HashMap<Box<[u8]>, Paths, BuildHasherDefault<DefaultHasher>>;

#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    exact: Table,
    /// By the part behind `*.`.
    wildcard: Table,
    wildcard_len_max: usize,
    any_host: Paths,
}

impl Index {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut by_exact: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut by_wildcard: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut by_any = Vec::new();
        for (position, rule) in rules.iter().enumerate() {
            if rule.hosts.is_empty() {
                by_any.push(position);
            }
            for host in &rule.hosts {
                let of_host = match host {
                    HostPattern::Exact(host) => by_exact.entry(host).or_default(),
                    HostPattern::Wildcard(behind) => by_wildcard.entry(behind).or_default(),
                };
                if of_host.last() != Some(&position) {
                    of_host.push(position);
                }
            }
        }
        let table = |by_host: HashMap<&str, Vec<usize>>| -> Table {
            let entries = by_host.into_iter();
            entries.map(|(host, of_host)| (host.as_bytes().into(), Paths::new(rules, &of_host))).collect()
        };
        Index {
            wildcard_len_max: by_wildcard.keys().map(|behind| behind.len()).max().unwrap_or(0),
            exact: table(by_exact),
            wildcard: table(by_wildcard),
            any_host: Paths::new(rules, &by_any),
        }
    }

    pub(super) const fn of_any_host(&self) -> &Paths {
        &self.any_host
    }

    /// Whether any rule names a host.
    pub(super) fn names_hosts(&self) -> bool {
        !self.exact.is_empty() || !self.wildcard.is_empty()
    }

    /// The rules that name the host most narrowly: by itself, else by the longest wildcard.
    pub(super) fn naming(&self, host: &[u8]) -> Option<&Paths> {
        if !self.names_hosts() {
            return None;
        }
        let mut room = [0; HOST_NAME];
        let name = host_name(host, &mut room)?;
        if let Some(paths) = self.exact.get(name) {
            return Some(paths);
        }
        if self.wildcard.is_empty() {
            return None;
        }
        wider(name).filter(|behind| behind.len() <= self.wildcard_len_max).find_map(|behind| self.wildcard.get(behind))
    }
}

const HOST_NAME: usize = limits::HOST_NAME.value as usize;

/// A host as patterns are written: in lower case, without port and final dot. `None` when it is longer than any name.
pub(super) fn host_name<'r>(host: &[u8], room: &'r mut [u8; HOST_NAME]) -> Option<&'r [u8]> {
    let end = match host {
        [b'[', ..] => host.iter().position(|&byte| byte == b']').map_or(host.len(), |close| close + 1),
        _ => host.iter().position(|&byte| byte == b':').unwrap_or(host.len()),
    };
    let name = host[..end].strip_suffix(b".").unwrap_or(&host[..end]);
    let room = room.get_mut(..name.len())?;
    room.copy_from_slice(name);
    room.make_ascii_lowercase();
    Some(room)
}

/// What stands behind each dot of a name, the longest first.
pub(super) fn wider(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let dots = name.iter().enumerate().filter(|(_, byte)| **byte == b'.');
    // At the very front there is no label for the star to stand for.
    dots.filter(|(at, _)| *at > 0).map(|(at, _)| &name[at + 1..])
}

/// What of a request's path is compared: all in front of the query. `*`, the server as a whole, is its root.
pub(super) fn compared(path: &[u8]) -> &[u8] {
    match path {
        b"*" => b"/",
        _ => path.split(|&byte| byte == b'?').next().unwrap_or(path),
    }
}

/// Whether `prefix` is `path`, or ends where a segment of it ends.
pub(super) fn takes_path(prefix: &[u8], path: &[u8]) -> bool {
    path.starts_with(prefix) && at_segment(prefix, path)
}

/// For a prefix that the path begins with.
fn at_segment(prefix: &[u8], path: &[u8]) -> bool {
    path.len() == prefix.len() || prefix.ends_with(b"/") || path[prefix.len()] == b'/'
}

/// The path prefixes of one host.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    /// In the order of their bytes, each prefix once.
    nodes: Vec<Node>,
}

#[derive(Clone, Debug)]
struct Node {
    prefix: Box<[u8]>,
    /// The longest other prefix that this one begins with.
    parent: Option<u32>,
    /// Positions of the rules with this prefix, in the order in which they are tried.
    rules: Box<[u32]>,
}

impl Paths {
    fn new(rules: &[Rule], positions: &[usize]) -> Self {
        let mut sorted = positions.to_vec();
        // A stable sort, so the order of the file decides last.
        sorted.sort_by_key(|&position| {
            let rule = &rules[position];
            (rule.path.as_bytes(), std::cmp::Reverse(rule.conditions()))
        });
        let mut nodes: Vec<Node> = Vec::new();
        // Prefixes of the one in hand, the longest last.
        let mut line: Vec<u32> = Vec::new();
        for same in sorted.chunk_by(|&one, &other| rules[one].path == rules[other].path) {
            let prefix = rules[same[0]].path.as_bytes();
            while line.last().is_some_and(|&last| !prefix.starts_with(&nodes[last as usize].prefix)) {
                line.pop();
            }
            let parent = line.last().copied();
            line.push(narrow(nodes.len()));
            let rules = same.iter().map(|&position| narrow(position)).collect();
            nodes.push(Node { prefix: prefix.into(), parent, rules });
        }
        Paths { nodes }
    }

    /// Position of the rule with the longest prefix whose other conditions hold.
    ///
    /// Every prefix of `path` sorts before it, and whatever sorts between such a prefix and `path` begins with that prefix
    /// too. So all of them are found on the way up from the last one that does not sort behind `path`.
    pub(super) fn longest(&self, path: &[u8], holds: impl Fn(usize) -> bool) -> Option<usize> {
        let behind = self.nodes.partition_point(|node| *node.prefix <= *path);
        let last = self.nodes.get(behind.checked_sub(1)?)?;
        let shared = last.prefix.iter().zip(path).take_while(|(one, other)| one == other).count();
        let mut next = Some(last);
        while let Some(node) = next {
            if node.prefix.len() <= shared && at_segment(&node.prefix, path) {
                let mut rules = node.rules.iter().map(|&position| position as usize);
                if let Some(position) = rules.find(|&position| holds(position)) {
                    return Some(position);
                }
            }
            next = node.parent.map(|parent| &self.nodes[parent as usize]);
        }
        None
    }
}

fn narrow(position: usize) -> u32 {
    u32::try_from(position).expect("a config that fits in memory has fewer than 2^32 rules")
}
