//! Asks name servers what a name of backends stands for.
//!
//! The hands of [`super::names::Names`], which decides when and what the answer changes. Names are complete: no search domain is added to
//! them, so that a name means the same on every node. Nothing is cached here; when an answer ends is decided there.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_model::limits;
use evenkeel_plan::{Answer, NameAsked, Plan, Records, Resolved, Resolver};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::names::{Found, Lacks};
use super::srv::{Chosen, Service, choose};
use crate::files;

/// A resolver with the settings of one plan.
#[derive(Clone)]
pub struct Asker {
    /// What is wrong with /etc/resolv.conf where there is none to ask.
    resolver: Result<TokioResolver, Arc<str>>,
    places: Arc<Semaphore>,
    ourselves: Arc<Ourselves>,
}

/// Where this node listens. A name that leads back to it would make a circle of every connection.
struct Ourselves {
    listens: Vec<SocketAddr>,
    /// What a wildcard stands for.
    own: Vec<IpAddr>,
}

impl Ourselves {
    fn are_at(&self, address: SocketAddr) -> bool {
        let is_own = |ip: IpAddr| ip.is_loopback() || self.own.contains(&ip);
        self.listens.iter().any(|listen| {
            listen.port() == address.port()
                && (listen.ip() == address.ip()
                    || listen.ip().is_unspecified() && listen.is_ipv4() == address.is_ipv4() && is_own(address.ip()))
        })
    }
}

impl Asker {
    pub fn new(plan: &Plan) -> Self {
        let resolver = build(&plan.node.resolver).map_err(|error| format!("/etc/resolv.conf: {error}").into());
        let listens = plan.listeners.iter().flat_map(|listener| listener.listen.iter().copied()).collect();
        let ourselves = Arc::new(Ourselves { listens, own: files::own_addresses() });
        Asker { resolver, places: Arc::new(Semaphore::new(limits::NAMES_AT_ONCE.value as usize)), ourselves }
    }

    /// What the name stands for, or why nobody can say. Addresses on which this node listens are passed over.
    pub async fn ask(&self, name: &NameAsked) -> Result<Found, Arc<str>> {
        let mut found = self.look_up(name).await?;
        found.answers.retain(|answer| !self.ourselves.are_at(answer.address));
        if found.answers.is_empty() { Err("it leads back to a listener of this node".into()) } else { Ok(found) }
    }

    async fn look_up(&self, name: &NameAsked) -> Result<Found, Arc<str>> {
        let resolver = self.resolver.as_ref().map_err(Arc::clone)?;
        // The semaphore is never closed.
        let _place = self.places.acquire().await;
        let asked = match name.records {
            Records::A => addresses(resolver, &name.name, Kinds::V4).await,
            Records::Aaaa => addresses(resolver, &name.name, Kinds::V6).await,
            Records::Any => addresses(resolver, &name.name, Kinds::Both).await,
            Records::Srv => return services(resolver, &name.name).await.map_err(Into::into),
        };
        let Addresses { addresses, ttl, lacks } = asked.map_err(|no| no.words())?;
        // Config asks for a port wherever the records have none.
        let port = name.port.unwrap_or_default();
        let at = |ip| Answer { address: SocketAddr::new(ip, port), weight: None };
        Ok(Found { answers: addresses.into_iter().map(at).collect(), ttl, lacks })
    }
}

/// Asks for names that have no answer yet and waits for `limits::NAMES_AT_START` at most. What does not come in time is missing.
pub async fn first_answers(names: &[NameAsked], plan: &Plan) -> Resolved {
    let asker = Asker::new(plan);
    let mut asking = JoinSet::new();
    for name in names.iter().cloned() {
        let asker = asker.clone();
        asking.spawn(async move { (asker.ask(&name).await, name) });
    }
    let mut resolved = Resolved::new();
    let _ = tokio::time::timeout(Duration::from_secs(limits::NAMES_AT_START.value), async {
        while let Some(Ok((found, name))) = asking.join_next().await {
            if let Ok(mut found) = found {
                found.answers.sort_unstable();
                found.answers.dedup_by_key(|answer| answer.address);
                resolved.insert(name, found.answers);
            }
        }
    })
    .await;
    resolved
}

fn build(settings: &Resolver) -> Result<TokioResolver, NetError> {
    let mut builder = if settings.servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = settings.servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            let at_port = connections.into_iter().map(|mut connection| {
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, at_port.collect())
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        // Who names servers wants to hear them, and not a file.
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        builder
    };
    let options = builder.options_mut();
    options.timeout = settings.timeout;
    options.cache_size = 0;
    builder.build()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kinds {
    V4,
    V6,
    Both,
}

#[derive(Debug)]
struct Addresses {
    addresses: Vec<IpAddr>,
    ttl: Duration,
    lacks: Lacks,
}

/// Why there is no answer.
#[derive(Debug)]
enum No {
    /// A server says that there is none.
    Records(&'static str),
    /// Nobody says anything, or nothing of use.
    Word(String),
}

impl No {
    fn words(self) -> String {
        match self {
            No::Records(words) => words.to_owned(),
            No::Word(words) => words,
        }
    }
}

async fn addresses(resolver: &TokioResolver, name: &str, kinds: Kinds) -> Result<Addresses, No> {
    let (v4, v6) = match kinds {
        Kinds::V4 => (Some(lookup(resolver, name, RecordType::A).await), None),
        Kinds::V6 => (None, Some(lookup(resolver, name, RecordType::AAAA).await)),
        Kinds::Both => {
            let (v4, v6) =
                tokio::join!(lookup(resolver, name, RecordType::A), lookup(resolver, name, RecordType::AAAA));
            (Some(v4), Some(v6))
        }
    };
    let silent = |answer: &Option<Result<Told, No>>| matches!(answer, Some(Err(No::Word(_))));
    let lacks = match (silent(&v4), silent(&v6)) {
        (true, _) => Lacks::V4,
        (_, true) => Lacks::V6,
        (false, false) => Lacks::Nothing,
    };
    let mut found = Addresses { addresses: Vec::new(), ttl: Duration::MAX, lacks };
    let mut no = None;
    for answer in [v4, v6].into_iter().flatten() {
        match answer {
            Ok(records) => {
                found.ttl = found.ttl.min(records.ttl);
                found.addresses.extend(records.data.iter().filter_map(RData::ip_addr));
            }
            // Silence says less than a server that knows better, and is what to look at first.
            Err(word @ No::Word(_)) => no = Some(word),
            Err(records) => no = no.or(Some(records)),
        }
    }
    match no {
        Some(no) if found.addresses.is_empty() => Err(no),
        None if found.addresses.is_empty() => Err(No::Records(NO_RECORDS)),
        _ => Ok(found),
    }
}

async fn services(resolver: &TokioResolver, name: &str) -> Result<Found, String> {
    let records = lookup(resolver, name, RecordType::SRV).await.map_err(No::words)?;
    let services: Vec<Service> = records
        .data
        .iter()
        .filter_map(|data| match data {
            RData::SRV(srv) => Some(Service {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_ascii(),
            }),
            _ => None,
        })
        .collect();
    let chosen = choose(&services);
    if chosen.is_empty() {
        return Err(NO_RECORDS.to_owned());
    }
    let mut asking = JoinSet::new();
    for Chosen { target, port, weight } in chosen {
        let resolver = resolver.clone();
        asking.spawn(async move { (addresses(&resolver, &target, Kinds::Both).await, target, port, weight) });
    }
    let mut found = Found { answers: Vec::new(), ttl: records.ttl, lacks: Lacks::Nothing };
    let mut none = None;
    while let Some(asked) = asking.join_next().await {
        let (addresses, target, port, weight) = asked.map_err(|error| error.to_string())?;
        match addresses {
            Ok(addresses) => {
                found.ttl = found.ttl.min(addresses.ttl);
                let at = |ip| Answer { address: SocketAddr::new(ip, port), weight: Some(weight) };
                found.answers.extend(addresses.addresses.into_iter().map(at));
                if addresses.lacks != Lacks::Nothing {
                    found.lacks = Lacks::Targets { why: format!("\"{target}\": not all addresses are known").into() };
                }
            }
            // A server says that it has no address, so it is no backend.
            Err(No::Records(words)) => none = Some(format!("\"{target}\": {words}")),
            Err(No::Word(words)) => found.lacks = Lacks::Targets { why: format!("\"{target}\": {words}").into() },
        }
    }
    match (found.answers.is_empty(), &found.lacks, none) {
        (false, ..) => Ok(found),
        (true, Lacks::Targets { why }, _) => Err(why.to_string()),
        (true, _, none) => Err(none.unwrap_or_else(|| NO_RECORDS.to_owned())),
    }
}

const NO_RECORDS: &str = "it has no such records";

/// What one question brought.
struct Told {
    data: Vec<RData>,
    /// Of the record that ends first, of those on the way there as well.
    ttl: Duration,
}

async fn lookup(resolver: &TokioResolver, name: &str, kind: RecordType) -> Result<Told, No> {
    let complete = format!("{}.", name.trim_end_matches('.'));
    let answer = resolver.lookup(complete, kind).await.map_err(why_not)?;
    let ttl = answer.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
    let of_kind = answer.answers().iter().filter(|record| record.record_type() == kind);
    Ok(Told { data: of_kind.map(|record| record.data.clone()).collect(), ttl: Duration::from_secs(ttl.into()) })
}

fn why_not(error: NetError) -> No {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(no)) => match no.response_code {
            ResponseCode::NXDomain => No::Records("there is no such name (NXDOMAIN)"),
            ResponseCode::NoError => No::Records(NO_RECORDS),
            code => No::Word(format!("the name server says {code}")),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => No::Word(format!("the name server says {code}")),
        NetError::Timeout => No::Word("no name server answers".to_owned()),
        other => No::Word(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_every_address_of_this_host_and_another_port_is_nobody() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let ourselves = Ourselves {
            listens: vec![at("0.0.0.0:80"), at("192.0.2.1:443"), at("[::]:81")],
            own: vec!["192.0.2.1".parse().expect("an address"), "2001:db8::1".parse().expect("an address")],
        };
        let table = [
            ("192.0.2.1:80", true),
            ("127.0.0.1:80", true),
            ("192.0.2.2:80", false),
            ("192.0.2.1:443", true),
            ("127.0.0.1:443", false),
            ("192.0.2.1:8080", false),
            ("[2001:db8::1]:81", true),
            ("[::1]:81", true),
            ("[2001:db8::1]:80", false),
            ("192.0.2.1:81", false),
        ];
        for (address, expected) in table {
            assert_eq!(ourselves.are_at(at(address)), expected, "{address}");
        }
    }
}
