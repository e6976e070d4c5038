//! Who listens where, and whether a backend is this very node.
//!
//! Each worker opens each listener for itself with `SO_REUSEPORT`. The kernel then lets two listeners
//! have the very same address and deals connections between them at random, so that is an error here. It also
//! lets `0.0.0.0:80` stand beside `10.0.0.1:80` and gives each connection to the more specific one, which is
//! well defined and deserves a warning. IPv6 wildcards take IPv6 only (`IPV6_V6ONLY`), so `[::]:80` and
//! `0.0.0.0:80` never meet. The admin port is one socket of its own and cannot share anything. Ports of udp are others
//! than those of tcp: DNS listens on both, and they are compared each with their own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::config::{At, Config, Listener, Pool};
use crate::lower::users;
use crate::problem::{Note, Notes};

pub(super) fn check(config: &Config, notes: &mut Notes) {
    let listens: Vec<(&Listener, &At<SocketAddr>)> =
        config.listeners.iter().flat_map(|listener| listener.listen.iter().map(move |at| (listener, at))).collect();
    for (position, (listener, at)) in listens.iter().enumerate() {
        for (other, first) in listens[..position].iter().filter(|(other, _)| share_ports(listener, other)) {
            overlap(listener, at, other, first, notes);
        }
    }
    admin(config, &listens, notes);
    for pool in &config.pools {
        let mut seen: HashMap<SocketAddr, &At<SocketAddr>> = HashMap::with_capacity(pool.backends.len());
        for backend in &pool.backends {
            let address = &backend.address;
            if let Some(first) = seen.get(&address.value) {
                let text = format!("{}: backend \"{}\" is here twice", pool.label, address.value);
                notes.add(
                    Note::error("duplicate_backend", address.span.clone(), text)
                        .related(first.span.clone(), "the first one")
                        .help("remove one; for a larger share of the work give it a higher weight"),
                );
            }
            seen.entry(address.value).or_insert(address);
            let own = listens
                .iter()
                .find(|(listener, at)| reaches(address.value, at.value) && goes_to_ports_of(config, pool, listener));
            if let Some((listener, at)) = own {
                let text =
                    format!("{}: backend \"{}\" is this node's own {}", pool.label, address.value, listener.label);
                notes.add(
                    Note::error("backend_is_listener", address.span.clone(), text)
                        .related(at.span.clone(), "it listens here")
                        .help("a request would circle until something gives way; write the address of the server behind it")
                        .about_the_file(),
                );
            } else if let Some(admin) = config
                .admin
                .listen
                .as_ref()
                .filter(|admin| reaches(address.value, admin.value) && carries(config, pool, Ports::Tcp))
            {
                let text = format!("{}: backend \"{}\" is this node's own admin port", pool.label, address.value);
                notes.add(
                    Note::error("backend_is_admin", address.span.clone(), text)
                        .help(format!(
                            "clients would reach status and metrics; write another address, or move the admin port from \"{}\"",
                            admin.value
                        ))
                        .about_the_file(),
                );
            }
        }
    }
}

fn overlap(listener: &Listener, at: &At<SocketAddr>, other: &Listener, first: &At<SocketAddr>, notes: &mut Notes) {
    let (here, there) = (at.value, first.value);
    if here == there {
        let text = if std::ptr::eq(listener, other) {
            format!("{}: listen has \"{here}\" twice", listener.label)
        } else {
            format!("{}: listens on \"{here}\", and so does {}", listener.label, other.label)
        };
        let help =
            "the kernel would deal connections between the two at random; give each an address or port of its own";
        notes.add(
            Note::error("duplicate_listen", at.span.clone(), text)
                .related(first.span.clone(), "the first one")
                .help(help),
        );
    } else if meets(here, there) {
        let (narrow, wide) = if here.ip().is_unspecified() { (there, here) } else { (here, there) };
        let text = if std::ptr::eq(listener, other) {
            format!("{}: listen has \"{wide}\", which includes \"{narrow}\"", listener.label)
        } else {
            format!("{}: \"{here}\" overlaps with \"{there}\" of {}", listener.label, other.label)
        };
        let help = if std::ptr::eq(listener, other) {
            format!("remove \"{narrow}\"")
        } else {
            format!("connections to \"{narrow}\" go to the listener that names it, all others to \"{wide}\"")
        };
        notes.add(
            Note::warning("overlapping_listen", at.span.clone(), text)
                .related(first.span.clone(), "the other one")
                .help(help),
        );
    }
}

fn admin(config: &Config, listens: &[(&Listener, &At<SocketAddr>)], notes: &mut Notes) {
    let Some(admin) = &config.admin.listen else { return };
    // The default has no place of its own; the listener that took its address has.
    let written = !admin.span.is_empty();
    for (listener, at) in listens.iter().filter(|(listener, _)| ports_of(listener) != Some(Ports::Udp)) {
        if admin.value != at.value && !meets(admin.value, at.value) {
            continue;
        }
        let text = if admin.value == at.value {
            format!("{}: listens on \"{}\", which is the admin port", listener.label, at.value)
        } else {
            format!("{}: listens on \"{}\", and \"{}\" is the admin port", listener.label, at.value, admin.value)
        };
        let note = Note::error("listen_is_admin", at.span.clone(), text).about_the_file();
        notes.add(if written {
            note.related(admin.span.clone(), "the admin port").help("give one of them another port")
        } else {
            note.help(
                "give the listener another port, or move the admin port: [admin] with listen = \"127.0.0.1:9901\"",
            )
        });
    }
}

/// Of two protocols that each have ports 1 to 65535.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ports {
    Tcp,
    Udp,
}

/// `None` where the protocol could not be read.
fn ports_of(listener: &Listener) -> Option<Ports> {
    listener.protocol.map(|protocol| if protocol.is_stream() { Ports::Tcp } else { Ports::Udp })
}

/// What could not be read may be anything, and has a problem already.
fn share_ports(one: &Listener, other: &Listener) -> bool {
    match (ports_of(one), ports_of(other)) {
        (Some(one), Some(other)) => one == other,
        (None, _) | (_, None) => true,
    }
}

/// Whether work of such listeners goes to the pool. One that nobody uses is meant for something.
fn carries(config: &Config, pool: &Pool, ports: Ports) -> bool {
    let mut users = users(config, pool).peekable();
    users.peek().is_none() || users.any(|user| ports_of(user).is_none_or(|used| used == ports))
}

fn goes_to_ports_of(config: &Config, pool: &Pool, listener: &Listener) -> bool {
    ports_of(listener).is_none_or(|ports| carries(config, pool, ports))
}

/// Whether two different addresses share a port, and one of them is the wildcard that includes the other.
fn meets(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && one.ip() != other.ip()
        && (one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// Whether a connection to `backend` ends at the socket that listens on `listen`, as far as addresses alone
/// tell: a wildcard includes loopback for certain; which other addresses this host has is not known here.
fn reaches(backend: SocketAddr, listen: SocketAddr) -> bool {
    let loopback = |ip: IpAddr| ip.is_loopback();
    backend.port() == listen.port()
        && backend.is_ipv4() == listen.is_ipv4()
        && (backend.ip() == listen.ip() || (listen.ip().is_unspecified() && loopback(backend.ip())))
}
