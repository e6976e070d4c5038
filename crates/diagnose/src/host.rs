//! What a plan asks of its host that the host does not have, each with the commands that mend it.
//!
//! It is told the facts and looks at none itself. What it finds is never an error: a config may be looked at on another
//! host than it is meant for, and a fact that could not be found out is passed over rather than guessed.
//!
//! `rp_filter` is not among the facts: strict or loose, the answers to a transparent pool pass, since they come in where the
//! way to their backend leads.

use std::fmt::Write as _;
use std::net::IpAddr;

use evenkeel_health::settings::{ProbeSettings, UdpProbe};
use evenkeel_model::{Cidr, PoolId, limits};
use evenkeel_plan::{Listener, Plan, Pool, Protocol, Source};
use serde_json::{Value, json};

/// What is so on a host; `None` where it could not be found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether the process that asks has CAP_NET_ADMIN.
    pub net_admin: Option<bool>,
    /// CAP_NET_RAW, which is enough for addresses of others.
    pub net_raw: Option<bool>,
    /// `net.ipv4.tcp_fastopen`.
    pub fast_open: Option<u64>,
    /// `net.core.somaxconn`.
    pub accept_queue: Option<u64>,
    /// `net.core.rmem_max`, in bytes.
    pub receive_buffer: Option<u64>,
    /// `net.ipv4.ip_local_port_range`.
    pub source_ports: Option<(u16, u16)>,
    /// Whether a group of the process that asks is within `net.ipv4.ping_group_range`.
    pub echo_requests: Option<bool>,
    /// `net.ipv4.ip_nonlocal_bind` and the same of IPv6.
    pub foreign_bind: ForeignBind,
    pub addresses: Option<Vec<IpAddr>>,
    /// `None` where the `ip` command is missing, or nobody needed to know.
    pub ipv4: Option<Routing>,
    pub ipv6: Option<Routing>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForeignBind {
    pub ipv4: bool,
    pub ipv6: bool,
}

/// Policy routing of one family, as far as it decides whether packets for others come to us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    pub rules: Vec<PolicyRule>,
    /// Tables that deliver every address to this host.
    pub to_us: Vec<String>,
}

/// Which packets are routed by a table. Marks and interfaces are not looked at: who set them up meant something by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRule {
    /// `None`: from anywhere.
    pub from: Option<Cidr>,
    /// `tcp`, `udp`; `None`: any.
    pub protocol: Option<String>,
    /// The first and last source port; `None`: any.
    pub ports: Option<(u16, u16)>,
    pub table: String,
}

impl PolicyRule {
    fn takes(&self, backend: IpAddr, port: u16, protocol: &str) -> bool {
        self.from.is_none_or(|from| from.contains(backend))
            && self.protocol.as_deref().is_none_or(|its| its == protocol)
            && self.ports.is_none_or(|(first, last)| (first..=last).contains(&port))
    }
}

/// One thing that a plan asks for in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub code: &'static str,
    pub text: String,
    pub help: &'static str,
    /// For a shell of root, in this order.
    pub commands: Vec<String>,
}

/// In the order in which one would mend them.
pub fn missing(plan: &Plan, facts: &Facts) -> Vec<Missing> {
    let mut found = Vec::new();
    let transparent = plan.pools.iter().enumerate().filter(|(_, pool)| pool.source == Source::Client);
    let transparent: Vec<(PoolId, &Pool)> =
        transparent.map(|(index, pool)| (PoolId::from_index(index), &**pool)).collect();
    if let Some((_, pool)) = transparent.first() {
        found.extend(capability(pool, facts));
    }
    for (id, pool) in &transparent {
        for mut missing in ways_back(plan, *id, pool, facts) {
            // Pools share a table, and perhaps backends; a command that is given twice fails the second time.
            missing.commands.retain(|command| !found.iter().any(|known: &Missing| known.commands.contains(command)));
            if !missing.commands.is_empty() {
                found.push(missing);
            }
        }
    }
    found.extend(addresses(plan, facts));
    for listener in &plan.listeners {
        found.extend(of_listener(listener, facts));
    }
    found.extend(receive_buffer(plan, facts));
    found.extend(ports(plan, facts));
    found.extend(echo_requests(plan, facts));
    found
}

fn capability(pool: &Pool, facts: &Facts) -> Option<Missing> {
    let (Some(false), Some(false)) = (facts.net_admin, facts.net_raw) else { return None };
    Some(Missing {
        code: "no_net_admin",
        text: format!("pool \"{}\" is transparent, and this user has neither CAP_NET_ADMIN nor CAP_NET_RAW", pool.name),
        help: "without it every connection ends with source_unusable; a service gets it by AmbientCapabilities= in its unit",
        commands: vec!["setcap cap_net_admin,cap_net_bind_service+ep \"$(command -v evenkeel)\"".to_owned()],
    })
}

/// Answers to a client's address pass this host by, unless its routing keeps them.
fn ways_back(plan: &Plan, id: PoolId, pool: &Pool, facts: &Facts) -> Vec<Missing> {
    let mut found = Vec::new();
    let protocols = protocols(plan, id);
    for (routing, is_ipv4, ip) in [(&facts.ipv4, true, "ip"), (&facts.ipv6, false, "ip -6")] {
        let backends = plan.backends_of(id).map(|(_, backend)| backend.address);
        let backends: Vec<_> = backends.filter(|address| address.is_ipv4() == is_ipv4).collect();
        let Some(first) = backends.first() else { continue };
        let Some(routing) = routing else {
            found.push(Missing {
                code: "way_back_unknown",
                text: format!("pool \"{}\" is transparent, and its ways back could not be looked at", pool.name),
                help: "this needs the ip command of iproute2; answers of the backends have to come back through this host",
                commands: vec![format!("{ip} rule show"), format!("{ip} route show table all type local")],
            });
            continue;
        };
        let lost = |address: &std::net::SocketAddr, protocol: &str| {
            let mut rules = routing.rules.iter().filter(|rule| routing.to_us.contains(&rule.table));
            !rules.any(|rule| rule.takes(address.ip(), address.port(), protocol))
        };
        let mut commands = Vec::new();
        let table = routing.to_us.first().map_or(TABLE, String::as_str);
        if routing.to_us.is_empty() {
            commands.push(format!("{ip} route add local default dev lo table {table}"));
        }
        let mut example = None;
        for address in &backends {
            for protocol in protocols.iter().filter(|protocol| lost(address, protocol)) {
                example.get_or_insert(address);
                commands.push(format!(
                    "{ip} rule add from {} ipproto {protocol} sport {} lookup {table}",
                    address.ip(),
                    address.port()
                ));
            }
        }
        if let Some(address) = example.or_else(|| routing.to_us.is_empty().then_some(first)) {
            found.push(Missing {
                code: "no_way_back",
                text: format!(
                    "pool \"{}\" is transparent, and answers of its backend {address} to a client would not stop at this host",
                    pool.name
                ),
                help: "this host must also be the gateway of its backends for the clients' addresses; docs/layer4.md has it all",
                commands,
            });
        }
    }
    found
}

/// The number that the kernel's own documentation takes.
const TABLE: &str = "100";

/// What goes to a pool, in the kernel's words.
fn protocols(plan: &Plan, pool: PoolId) -> Vec<&'static str> {
    let used = |is_stream: bool| {
        let mut users = plan.listeners.iter().filter(|listener| listener.protocol.is_stream() == is_stream);
        users.any(|listener| listener.pools().contains(&pool))
    };
    [("tcp", used(true)), ("udp", used(false))].into_iter().filter(|(_, used)| *used).map(|(word, _)| word).collect()
}

/// Addresses that the config has, and no interface.
fn addresses(plan: &Plan, facts: &Facts) -> Vec<Missing> {
    let Some(own) = &facts.addresses else { return Vec::new() };
    let mut found: Vec<Missing> = Vec::new();
    let mut look = |address: IpAddr, whose: String, help| {
        let prefix = if address.is_ipv4() { "32" } else { "128" };
        let commands = vec![format!("ip address add {address}/{prefix} dev lo")];
        let known = found.iter().any(|missing| missing.commands == commands);
        if !own.contains(&address) && !is_always_here(address) && !known {
            let text = format!("{whose} {address}, and no interface has this address");
            found.push(Missing { code: "no_such_address", text, help, commands });
        }
    };
    for pool in &plan.pools {
        let help = "or on the interface that leads to the backends, with the length of its network";
        if let Source::Own(sources) = &pool.source {
            for source in sources.iter() {
                look(*source, format!("pool \"{}\": source is", pool.name), help);
            }
        }
        for source in pool.checks.iter().flat_map(|check| check.settings.sources.iter()) {
            look(*source, format!("pool \"{}\": check.source is", pool.name), help);
        }
    }
    for listener in &plan.listeners {
        for address in listener.listen.iter().map(std::net::SocketAddr::ip) {
            let allowed = if address.is_ipv4() { facts.foreign_bind.ipv4 } else { facts.foreign_bind.ipv6 };
            if !address.is_unspecified() && !allowed {
                let help =
                    "where the address moves between hosts, net.ipv4.ip_nonlocal_bind=1 lets each of them listen on it";
                look(address, format!("listener \"{}\" listens on", listener.name), help);
            }
        }
    }
    found
}

/// All of 127.0.0.0/8 is on the loopback interface, which names one address of it.
const fn is_always_here(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(_) => false,
    }
}

fn of_listener(listener: &Listener, facts: &Facts) -> Vec<Missing> {
    let mut found = Vec::new();
    if !listener.protocol.is_stream() {
        return found;
    }
    // The second bit is for listening, the first for dialling.
    if let Some(bits) = facts.fast_open.filter(|bits| listener.tcp.fast_open > 0 && bits & 2 == 0) {
        found.push(Missing {
            code: "fast_open_is_off",
            text: format!(
                "listener \"{}\": fast_open has no effect, because net.ipv4.tcp_fastopen is {bits}",
                listener.name
            ),
            help: "clients then connect as without it",
            commands: vec![format!("sysctl -w net.ipv4.tcp_fastopen={}", bits | 2)],
        });
    }
    if let Some(most) = facts.accept_queue.filter(|most| u64::from(listener.backlog) > *most) {
        found.push(Missing {
            code: "backlog_is_cut",
            text: format!(
                "listener \"{}\": backlog is {}, and net.core.somaxconn cuts it to {most}",
                listener.name, listener.backlog
            ),
            help: "in a burst, further clients wait for their SYN to be sent again",
            commands: vec![format!("sysctl -w net.core.somaxconn={}", listener.backlog)],
        });
    }
    found
}

fn receive_buffer(plan: &Plan, facts: &Facts) -> Option<Missing> {
    let wanted = limits::UDP_RECEIVE_BUFFER.value;
    // Who administers the network may go beyond.
    let most = facts.receive_buffer.filter(|most| *most < wanted && facts.net_admin == Some(false))?;
    let listener = plan.listeners.iter().find(|listener| listener.protocol == Protocol::Udp)?;
    Some(Missing {
        code: "receive_buffer_is_cut",
        text: format!(
            "listener \"{}\": datagrams wait in {most} bytes instead of {wanted}, because net.core.rmem_max is lower",
            listener.name
        ),
        help: "in a burst, further datagrams are lost",
        commands: vec![format!("sysctl -w net.core.rmem_max={wanted}")],
    })
}

/// Each connection to a backend needs a port of our own for its address.
fn ports(plan: &Plan, facts: &Facts) -> Vec<Missing> {
    let Some((first, last)) = facts.source_ports else { return Vec::new() };
    let ports = u64::from(last.saturating_sub(first)) + 1;
    let too_many = |pool: &&std::sync::Arc<Pool>| {
        let sources = match &pool.source {
            Source::Kernel => 1,
            Source::Own(own) => own.len() as u64,
            // Each client brings ports of its own.
            Source::Client => return None,
        };
        let limit = u64::from(pool.backend_limit?);
        (limit > ports * sources).then_some((pool.name.clone(), limit, ports * sources))
    };
    let short = plan.pools.iter().filter_map(|pool| too_many(&pool));
    short
        .map(|(name, limit, ports)| Missing {
            code: "too_few_source_ports",
            text: format!(
                "pool \"{name}\": backend_limit is {limit}, and there are {ports} source ports for each backend"
            ),
            help: "several addresses in source multiply them",
            commands: vec!["sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"".to_owned()],
        })
        .collect()
}

/// Checks that ping, where the kernel lets this process send no echo requests.
fn echo_requests(plan: &Plan, facts: &Facts) -> Option<Missing> {
    if facts.echo_requests != Some(false) {
        return None;
    }
    let pings = |probe: &ProbeSettings| {
        matches!(probe, ProbeSettings::Icmp(_) | ProbeSettings::Udp(UdpProbe { ping: true, .. }))
    };
    let pool = plan.pools.iter().find(|pool| pool.checks.iter().any(|check| pings(&check.settings.probe)))?;
    Some(Missing {
        code: "no_echo_requests",
        text: format!(
            "pool \"{}\": its check sends echo requests, and net.ipv4.ping_group_range leaves the groups of this user out",
            pool.name
        ),
        help: "without it those probes are void, so they change no verdict; the setting holds for IPv6 too, and for root as well",
        commands: vec!["sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"".to_owned()],
    })
}

/// For a terminal; empty when nothing is missing.
pub fn text(missing: &[Missing]) -> String {
    let mut out = String::new();
    for Missing { code, text, help, commands } in missing {
        let _ = writeln!(out, "warning[{code}]: {text}\n  = help: {help}");
        for command in commands {
            let _ = writeln!(out, "  = on this host: {command}");
        }
        out.push('\n');
    }
    out
}

/// In the shape of a config's problems, without a place.
pub fn json(missing: &[Missing]) -> Vec<Value> {
    let one = |missing: &Missing| {
        json!({
            "severity": "warning",
            "code": missing.code,
            "file": null,
            "place": null,
            "text": missing.text,
            "help": missing.help,
            "commands": missing.commands,
            "related": null,
        })
    };
    missing.iter().map(one).collect()
}
