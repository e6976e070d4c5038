//! The backends of a pool from its addresses and from the answers there are to its names.
//!
//! An address that comes twice is one backend, and the entry that stands first says its weight: two names of one
//! server do not make it two servers, nor one of twice the size.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use evenkeel_plan::{NameAsked, Resolved};

use super::narrow;
use crate::config::{Config, Pool};

/// Every name of the config, each once.
pub(super) fn asked(config: &Config) -> Vec<NameAsked> {
    let names = config.pools.iter().flat_map(|pool| &pool.names).map(|named| named.asked.value.clone());
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Address, weight and server id, in the order of the file; those of one name in the order of its answer.
pub(super) fn backends<'c>(pool: &'c Pool, resolved: &Resolved) -> Vec<(SocketAddr, u32, Option<&'c [u8]>)> {
    let mut found = Vec::with_capacity(pool.backends.len());
    let mut known = HashSet::new();
    let mut names = pool.names.iter().peekable();
    for position in 0..=pool.backends.len() {
        while let Some(named) = names.next_if(|named| named.position <= position) {
            for answer in resolved.get(&named.asked.value).into_iter().flatten() {
                let address = SocketAddr::new(answer.address.ip().to_canonical(), answer.address.port());
                if is_server(address) && known.insert(address) {
                    found.push((address, answer.weight.unwrap_or(narrow(named.weight)), None));
                }
            }
        }
        if let Some(backend) = pool.backends.get(position)
            && known.insert(backend.address.value)
        {
            let server_id = backend.server_id.as_ref().map(|at| at.value.as_slice());
            found.push((backend.address.value, narrow(backend.weight), server_id));
        }
    }
    found
}

/// What would be refused in the config is not taken from an answer either.
fn is_server(address: SocketAddr) -> bool {
    let ip = address.ip();
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
}
