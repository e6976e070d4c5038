//! Who is let in: access lists, rates and counts at once, per client and for the listener as a whole.
//!
//! The workers of a node share what is counted here, because a limit that each of them counted for itself would be as
//! many limits as there are workers. What is counted outlives a reload as long as the listener keeps its name; the limits
//! themselves are those of the plan each worker follows.
//!
//! Nothing of it costs anything until it is configured: what has no limit is never counted.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use evenkeel_balance::quic::CidTable;
use evenkeel_balance::rate::{ConcurrencyTable, Gcra, RateTable, SharedRate};
use evenkeel_balance::{AffinityTable, BackendKey, prefix};
use evenkeel_model::exchange::Detail;
use evenkeel_model::{Cause, Instant};
use evenkeel_plan::{Listener, PassiveSettings, Rate};

use crate::harm::{Harms, Runs, Watch};

/// One per node, handed to the [`crate::Roster`] of each worker.
///
/// What it hands out lives as long as a roster or a connection holds it.
pub struct Gates {
    /// Drawn by the process. Nobody outside can know how tables hash, or make up a cookie.
    random: [u8; 32],
    listeners: Shared<Counted>,
    backends: Mutex<Occupancies>,
    /// By pool.
    affinities: Shared<AffinityTable>,
    /// By pool: what the process before knew, until the pool's table is made.
    homes: Mutex<HashMap<Arc<str>, Homes>>,
    /// By pool.
    cids: Shared<CidTable>,
    runs: Mutex<AllRuns>,
    harms: Arc<Harms>,
}

/// By name.
type Shared<T> = Mutex<HashMap<Arc<str>, Weak<T>>>;

/// Clients and the backends they were with.
pub type Homes = Vec<(u128, BackendKey)>;

/// By pool and address.
type Occupancies = HashMap<(Arc<str>, SocketAddr), Weak<Occupancy>>;

/// By pool and address.
type AllRuns = HashMap<(Arc<str>, SocketAddr), Weak<Runs>>;

/// What is counted of one listener.
#[derive(Debug)]
struct Counted {
    connections: SharedRate,
    requests: SharedRate,
    client_connections: RateTable,
    client_requests: RateTable,
    now: Arc<Occupancy>,
    clients_now: ConcurrencyTable,
}

/// One listener's gate, as one worker knows it.
#[derive(Debug)]
pub struct Gate {
    settings: Arc<Listener>,
    counted: Arc<Counted>,
    connections: Option<Gcra>,
    client_connections: Option<Gcra>,
    requests: Option<Gcra>,
    client_requests: Option<Gcra>,
    /// Whether the two questions need an answer at all.
    asks_connections: bool,
    asks_requests: bool,
}

/// A client that was turned away, and by what: the words are those of the config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turned {
    pub cause: Cause,
    pub detail: Detail,
}

/// A connection that was let in. Dropping it says that it is over.
#[derive(Debug, Default)]
pub struct Pass {
    _listener: Option<Occupant>,
    client: Option<(Arc<Counted>, u128)>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some((counted, client)) = &self.client {
            counted.clients_now.leave(*client);
        }
    }
}

impl Gates {
    pub fn new(random: [u8; 32]) -> Self {
        Gates {
            random,
            listeners: Mutex::default(),
            backends: Mutex::default(),
            affinities: Mutex::default(),
            homes: Mutex::default(),
            cids: Mutex::default(),
            runs: Mutex::default(),
            harms: Arc::default(),
        }
    }

    /// The secret of sticky cookies where the config names none.
    pub(crate) fn secret(&self) -> &[u8] {
        &self.random
    }

    pub(crate) fn listener(&self, settings: &Arc<Listener>) -> Gate {
        let counted = shared(&self.listeners, &settings.name, || Counted::new(self.seed()));
        Gate::new(Arc::clone(settings), counted)
    }

    pub(crate) fn backend(&self, pool: &Arc<str>, address: SocketAddr) -> Arc<Occupancy> {
        let mut backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        let known = backends.get(&(Arc::clone(pool), address)).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            // A new key in a full map makes it grow anyway: then those that nobody holds are not worth keeping.
            if backends.len() == backends.capacity() {
                backends.retain(|_, occupancy| occupancy.strong_count() > 0);
            }
            let occupancy = Arc::new(Occupancy::default());
            backends.insert((Arc::clone(pool), address), Arc::downgrade(&occupancy));
            occupancy
        })
    }

    /// What traffic says of backends, for the control thread.
    pub fn harms(&self) -> &Arc<Harms> {
        &self.harms
    }

    /// An eye on one backend of a pool with passive checks.
    pub(crate) fn watch(&self, pool: &Arc<str>, backend: SocketAddr, settings: &Arc<PassiveSettings>) -> Watch {
        let mut all = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(&(Arc::clone(pool), backend)).and_then(Weak::upgrade);
        let runs = known.unwrap_or_else(|| {
            if all.len() == all.capacity() {
                all.retain(|_, runs| runs.strong_count() > 0);
            }
            let runs = Arc::new(Runs::default());
            all.insert((Arc::clone(pool), backend), Arc::downgrade(&runs));
            runs
        });
        let (settings, harms) = (Arc::clone(settings), Arc::clone(&self.harms));
        Watch { pool: Arc::clone(pool), backend, settings, runs, harms }
    }

    /// Which backends the clients of a pool were with.
    pub(crate) fn affinity(&self, pool: &Arc<str>) -> Arc<AffinityTable> {
        shared(&self.affinities, pool, || {
            let table = AffinityTable::new(self.seed());
            let homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner).remove(pool);
            table.recall(&homes.unwrap_or_default());
            table
        })
    }

    /// Which backends the clients of each pool were with, where a pool remembers it.
    pub fn homes(&self) -> Vec<(Arc<str>, Homes)> {
        let tables = self.affinities.lock().unwrap_or_else(PoisonError::into_inner);
        let tables = tables.iter().filter_map(|(pool, table)| Some((Arc::clone(pool), table.upgrade()?)));
        tables.map(|(pool, table)| (pool, table.homes())).collect()
    }

    /// What another process knew; to be told before any worker has a plan.
    pub fn recall(&self, homes: Vec<(Arc<str>, Homes)>) {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner).extend(homes);
    }

    /// Which connection ids the backends of a pool have used.
    pub(crate) fn cids(&self, pool: &Arc<str>) -> Arc<CidTable> {
        shared(&self.cids, pool, || CidTable::new(self.seed()))
    }

    /// For tables whose keys others choose.
    pub(crate) fn seed(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.random;
        // The bytes themselves may be the secret of cookies.
        evenkeel_balance::hash::of_bytes(&[h, g, f, e, d, c, b, a])
    }
}

/// What the workers share under a name, made when nobody holds it.
fn shared<T>(all: &Shared<T>, name: &Arc<str>, make: impl FnOnce() -> T) -> Arc<T> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    all.get(name).and_then(Weak::upgrade).unwrap_or_else(|| {
        all.retain(|_, one| one.strong_count() > 0);
        let one = Arc::new(make());
        all.insert(Arc::clone(name), Arc::downgrade(&one));
        one
    })
}

impl Counted {
    fn new(seed: u64) -> Self {
        Counted {
            connections: SharedRate::default(),
            requests: SharedRate::default(),
            client_connections: RateTable::new(seed),
            client_requests: RateTable::new(seed),
            now: Arc::default(),
            clients_now: ConcurrencyTable::new(seed),
        }
    }
}

impl Gate {
    fn new(settings: Arc<Listener>, counted: Arc<Counted>) -> Self {
        let rates = &settings.rates;
        let prepared = |rate: Option<Rate>| rate.map(|rate| Gcra::new(rate.per_second, rate.burst));
        let lists = !settings.access.allow.is_empty() || !settings.access.deny.is_empty();
        let at_once = rates.concurrency.is_some() || rates.client_concurrency.is_some();
        let asks_connections = lists || at_once || rates.connections.is_some() || rates.client_connections.is_some();
        // Only a proxy's clients have not been looked up when their connection came.
        let asks_lists = lists && settings.protocol.is_http() && !settings.http.trusted.is_empty();
        Gate {
            connections: prepared(rates.connections),
            client_connections: prepared(rates.client_connections),
            requests: prepared(rates.requests),
            client_requests: prepared(rates.client_requests),
            asks_connections,
            asks_requests: asks_lists || rates.requests.is_some() || rates.client_requests.is_some(),
            settings,
            counted,
        }
    }

    /// Asked for every new connection or session, first of all. `client` is who connects. That may be a sender of PROXY
    /// headers, all of whose clients come from one address: what counts per client waits for [`Gate::known`] then.
    ///
    /// # Errors
    /// Why it is turned away: with the status of the cause on http listeners, as the listener's `refuse` says on others.
    pub fn connection(&self, client: IpAddr, now: Instant) -> Result<Pass, Turned> {
        let mut pass = Pass::default();
        if !self.asks_connections {
            return Ok(pass);
        }
        // What is narrow comes first: a client over its own limit must not use up the listener's.
        if !self.settings.proxies.contains(client) {
            self.known(&mut pass, client, now)?;
        }
        if let Some(gcra) = self.connections
            && !self.counted.connections.allow(gcra, now)
        {
            return Err(limited("connections_per_second"));
        }
        if let Some(limit) = self.settings.rates.concurrency {
            let occupant = self.counted.now.enter(limit).ok_or(crowded("connections"))?;
            pass._listener = Some(occupant);
        }
        Ok(pass)
    }

    /// Asked once a PROXY header has told who the client is whom [`Gate::connection`] let in: the lists, and what counts per
    /// client. On http listeners the client may be a trusted proxy in its turn, which names its clients with each request: then
    /// all of this waits for those.
    ///
    /// # Errors
    /// Why it is turned away. The pass counts on for the listener until it is dropped.
    pub fn known(&self, pass: &mut Pass, client: IpAddr, now: Instant) -> Result<(), Turned> {
        if !self.asks_connections || self.is_trusted(client) {
            return Ok(());
        }
        self.admits(client)?;
        let key = self.client(client);
        if let Some(gcra) = self.client_connections
            && !self.counted.client_connections.allow(key, gcra, now)
        {
            return Err(limited("client_connections_per_second"));
        }
        if let Some(limit) = self.settings.rates.client_concurrency {
            if !self.counted.clients_now.enter(key, limit) {
                return Err(crowded("client_connections"));
            }
            // Replacing one counts it out: a connection is one client's.
            *pass = Pass { _listener: pass._listener.take(), client: Some((Arc::clone(&self.counted), key)) };
        }
        Ok(())
    }

    /// Asked for every request once its client is known: who connected, or whom a trusted proxy names.
    ///
    /// # Errors
    /// Why it is turned away.
    pub fn request(&self, client: IpAddr, now: Instant) -> Result<(), Turned> {
        if !self.asks_requests {
            return Ok(());
        }
        self.admits(client)?;
        if let Some(gcra) = self.client_requests
            && !self.counted.client_requests.allow(self.client(client), gcra, now)
        {
            return Err(limited("client_requests_per_second"));
        }
        match self.requests {
            Some(gcra) if !self.counted.requests.allow(gcra, now) => Err(limited("requests_per_second")),
            _ => Ok(()),
        }
    }

    fn admits(&self, client: IpAddr) -> Result<(), Turned> {
        let access = &self.settings.access;
        let list = if access.deny.contains(client) {
            "deny"
        } else if !access.allow.is_empty() && !access.allow.contains(client) {
            "allow"
        } else {
            return Ok(());
        };
        Err(Turned { cause: Cause::ClientDeniedByAcl, detail: Detail::Text(list) })
    }

    fn is_trusted(&self, client: IpAddr) -> bool {
        let settings = &self.settings;
        settings.protocol.is_http() && settings.http.trusted.iter().any(|cidr| cidr.contains(client))
    }

    fn client(&self, client: IpAddr) -> u128 {
        let rates = &self.settings.rates;
        prefix::cut(client, rates.ipv4_prefix, rates.ipv6_prefix)
    }
}

const fn limited(setting: &'static str) -> Turned {
    Turned { cause: Cause::ClientRateLimited, detail: Detail::Text(setting) }
}

const fn crowded(setting: &'static str) -> Turned {
    Turned { cause: Cause::ClientTooManyConnections, detail: Detail::Text(setting) }
}

/// How many there are at once over all workers; counted only where there is a limit.
#[derive(Debug, Default)]
pub(crate) struct Occupancy(AtomicU32);

impl Occupancy {
    pub(crate) fn is_full(&self, limit: u32) -> bool {
        self.0.load(Ordering::Relaxed) >= limit
    }

    /// One more, unless `limit` are there already.
    pub(crate) fn enter(self: &Arc<Self>, limit: u32) -> Option<Occupant> {
        let one_more = |count: u32| (count < limit).then_some(count + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Occupant(Arc::clone(self)))
    }
}

/// A place taken; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Occupant(Arc<Occupancy>);

impl Drop for Occupant {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use evenkeel_model::{Cidr, CidrSet};
    use evenkeel_plan::{Access, HttpSettings, Protocol};

    use super::*;

    const RANDOM: [u8; 32] = [7; 32];

    fn at(millis: u64) -> Instant {
        Instant::START + Duration::from_millis(millis)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn set(cidrs: &[&str]) -> CidrSet {
        CidrSet::new(cidrs.iter().map(|cidr| cidr.parse::<Cidr>().expect("a prefix")))
    }

    fn listener(change: impl FnOnce(&mut Listener)) -> Arc<Listener> {
        let mut listener = Listener {
            http: HttpSettings { trusted: vec!["10.9.0.0/16".parse().expect("a prefix")], ..HttpSettings::default() },
            ..Listener::with_defaults("web", Protocol::Http)
        };
        change(&mut listener);
        Arc::new(listener)
    }

    fn gate(change: impl FnOnce(&mut Listener)) -> Gate {
        Gates::new(RANDOM).listener(&listener(change))
    }

    fn turned<T: std::fmt::Debug>(result: Result<T, Turned>) -> (Cause, &'static str) {
        match result {
            Err(Turned { cause, detail: Detail::Text(text) }) => (cause, text),
            other => panic!("not turned away: {other:?}"),
        }
    }

    #[test]
    fn a_listener_without_limits_lets_everybody_in_and_counts_nobody() {
        let gate = gate(|_| {});
        let passes: Vec<Pass> = (0..100).map(|_| gate.connection(ip("192.0.2.1"), at(0)).expect("no limit")).collect();
        assert!(passes.iter().all(|pass| pass.client.is_none() && pass._listener.is_none()));
        assert!((0..100).all(|_| gate.request(ip("192.0.2.1"), at(0)).is_ok()));
        assert!(gate.counted.clients_now.is_empty() && gate.counted.client_requests.is_empty());
    }

    #[test]
    fn lists_turn_away_whom_they_name_and_deny_outweighs_allow() {
        let table = [
            //  allow                deny                client             refused by
            (&[][..], &[][..], "192.0.2.1", None),
            (&["192.0.2.0/24"], &[], "192.0.2.1", None),
            (&["192.0.2.0/24"], &[], "198.51.100.1", Some("allow")),
            (&["192.0.2.0/24"], &["192.0.2.1"], "192.0.2.1", Some("deny")),
            (&[], &["192.0.2.0/24"], "192.0.2.1", Some("deny")),
            (&[], &["192.0.2.0/24"], "198.51.100.1", None),
            (&[], &["192.0.2.0/24"], "::ffff:192.0.2.1", Some("deny")),
        ];
        for (allow, deny, client, list) in table {
            let gate = gate(|listener| listener.access = Access { allow: set(allow), deny: set(deny) });
            let result = gate.connection(ip(client), at(0));
            match list {
                None => assert!(result.is_ok(), "{allow:?} {deny:?} {client}"),
                Some(list) => assert_eq!(turned(result), (Cause::ClientDeniedByAcl, list), "{client}"),
            }
        }
    }

    #[test]
    fn behind_a_trusted_proxy_the_lists_ask_for_the_client_it_names() {
        let lists = |listener: &mut Listener| {
            listener.access = Access { allow: set(&["192.0.2.0/24"]), deny: CidrSet::default() };
        };
        let http = gate(lists);
        assert!(http.connection(ip("10.9.0.1"), at(0)).is_ok());
        assert!(http.request(ip("192.0.2.1"), at(0)).is_ok());
        assert_eq!(turned(http.request(ip("198.51.100.1"), at(0))), (Cause::ClientDeniedByAcl, "allow"));
        // Nobody can be named on a tcp listener, so the proxy is the client there.
        let tcp = gate(|listener| {
            lists(listener);
            listener.protocol = Protocol::Tcp;
        });
        assert_eq!(turned(tcp.connection(ip("10.9.0.1"), at(0))), (Cause::ClientDeniedByAcl, "allow"));
    }

    #[test]
    fn behind_a_sender_of_proxy_headers_the_client_it_names_is_asked_for() {
        let gate = gate(|listener| {
            listener.protocol = Protocol::Tcp;
            listener.proxies = set(&["10.8.0.0/16"]);
            listener.access =
                Access { allow: set(&["192.0.2.0/24", "198.51.100.0/24"]), deny: set(&["192.0.2.66/32"]) };
            listener.rates.client_connections = Some(Rate { per_second: 1, burst: 2 });
            listener.rates.client_concurrency = Some(2);
            listener.rates.concurrency = Some(5);
        });
        let (proxy, client) = (ip("10.8.0.1"), ip("192.0.2.1"));
        // On no list itself, and over no limit per client, however many come from it; mapped or not.
        let mut passes: Vec<Pass> = (0..4)
            .map(|turn| {
                gate.connection(if turn == 0 { ip("::ffff:10.8.0.1") } else { proxy }, at(0)).expect("the proxy")
            })
            .collect();
        let denied = (Cause::ClientDeniedByAcl, "deny");
        assert_eq!(turned(gate.known(&mut passes[0], ip("192.0.2.66"), at(0))), denied);
        assert_eq!(turned(gate.known(&mut passes[0], ip("203.0.113.1"), at(0))), (Cause::ClientDeniedByAcl, "allow"));
        assert!(gate.known(&mut passes[0], client, at(0)).is_ok() && gate.known(&mut passes[1], client, at(0)).is_ok());
        let fast = (Cause::ClientRateLimited, "client_connections_per_second");
        assert_eq!(turned(gate.known(&mut passes[2], client, at(0))), fast);
        let crowd = (Cause::ClientTooManyConnections, "client_connections");
        assert_eq!(turned(gate.known(&mut passes[2], client, at(5000))), crowd);
        // Whoever comes without the proxy is the same client.
        assert_eq!(turned(gate.connection(client, at(9000))), crowd);
        assert!(gate.known(&mut passes[2], ip("198.51.100.1"), at(9000)).is_ok());
        passes.push(gate.connection(proxy, at(9000)).expect("the fifth"));
        assert_eq!(turned(gate.connection(proxy, at(9000))), (Cause::ClientTooManyConnections, "connections"));
        drop(passes);
        assert!(gate.counted.clients_now.is_empty() && !gate.counted.now.is_full(1));
    }

    #[test]
    fn a_trusted_proxy_behind_a_sender_of_proxy_headers_is_still_no_client() {
        let gate = gate(|listener| {
            listener.proxies = set(&["10.8.0.0/16"]);
            listener.access.deny = set(&["10.9.0.0/16", "192.0.2.66/32"]);
            listener.rates.client_concurrency = Some(1);
        });
        let mut passes = [(); 3].map(|()| gate.connection(ip("10.8.0.1"), at(0)).expect("a sender of PROXY headers"));
        // Trusted, as `listener` has it: what counts per client waits for the requests.
        assert!(passes.iter_mut().all(|pass| gate.known(pass, ip("10.9.0.1"), at(0)).is_ok()));
        assert!(gate.counted.clients_now.is_empty());
        assert_eq!(turned(gate.request(ip("192.0.2.66"), at(0))), (Cause::ClientDeniedByAcl, "deny"));
        assert!(gate.known(&mut passes[0], ip("198.51.100.1"), at(0)).is_ok());
        assert_eq!(gate.counted.clients_now.len(), 1);
        // A second header on one connection replaces the first: one connection is one client's.
        assert!(gate.known(&mut passes[0], ip("198.51.100.2"), at(0)).is_ok());
        assert_eq!(gate.counted.clients_now.len(), 1);
    }

    #[test]
    fn sessions_and_connections_of_every_protocol_are_held_to_the_same_limits() {
        for protocol in Protocol::ALL {
            let gate = gate(|listener| {
                listener.protocol = protocol;
                listener.access.deny = set(&["::ffff:198.51.100.0/120", "2001:db8:bad::/48"]);
                listener.rates.ipv4_prefix = 24;
                listener.rates.client_connections = Some(Rate { per_second: 1, burst: 2 });
                listener.rates.client_concurrency = Some(1);
            });
            for denied in ["198.51.100.1", "::ffff:198.51.100.1", "2001:db8:bad::1"] {
                let why = turned(gate.connection(ip(denied), at(0)));
                assert_eq!(why, (Cause::ClientDeniedByAcl, "deny"), "{protocol:?} {denied}");
            }
            for [one, neighbour] in [["192.0.2.1", "::ffff:192.0.2.200"], ["2001:db8::1", "2001:db8::2"]] {
                let first = gate.connection(ip(one), at(0)).expect("the first of its network");
                let crowd = (Cause::ClientTooManyConnections, "client_connections");
                assert_eq!(turned(gate.connection(ip(neighbour), at(0))), crowd, "{protocol:?} {neighbour}");
                drop(first);
                let fast = (Cause::ClientRateLimited, "client_connections_per_second");
                assert_eq!(turned(gate.connection(ip(neighbour), at(0))), fast, "{protocol:?} {neighbour}");
                assert!(gate.connection(ip(neighbour), at(1000)).is_ok(), "{protocol:?} {neighbour}");
            }
        }
    }

    #[test]
    fn rates_are_kept_per_client_prefix_and_for_the_listener() {
        let gate = gate(|listener| {
            listener.rates.client_requests = Some(Rate { per_second: 10, burst: 2 });
            listener.rates.requests = Some(Rate { per_second: 10, burst: 5 });
            listener.rates.ipv4_prefix = 24;
        });
        let ask = |client: &str| gate.request(ip(client), at(0));
        assert!(ask("192.0.2.1").is_ok() && ask("192.0.2.200").is_ok());
        let over = (Cause::ClientRateLimited, "client_requests_per_second");
        assert_eq!(turned(ask("192.0.2.77")), over);
        // One /64 is one client; what it was refused is not taken from the listener's rate.
        assert!(ask("2001:db8::1").is_ok() && ask("2001:db8::2").is_ok());
        assert_eq!(turned(ask("2001:db8::3")), over);
        assert!(ask("198.51.100.1").is_ok());
        assert_eq!(turned(ask("203.0.113.1")), (Cause::ClientRateLimited, "requests_per_second"));
    }

    #[test]
    fn connections_at_once_are_counted_until_their_pass_is_dropped() {
        let gate = gate(|listener| {
            listener.rates.client_concurrency = Some(2);
            listener.rates.concurrency = Some(3);
        });
        let connect = |client: &str| gate.connection(ip(client), at(0));
        let mut passes = vec![connect("192.0.2.1").expect("first"), connect("192.0.2.1").expect("second")];
        assert_eq!(turned(connect("192.0.2.1")), (Cause::ClientTooManyConnections, "client_connections"));
        passes.push(connect("192.0.2.2").expect("another client"));
        assert_eq!(turned(connect("192.0.2.3")), (Cause::ClientTooManyConnections, "connections"));
        drop(passes.swap_remove(0));
        // The client that the listener had no room for is not counted as one of that client's.
        let _third = connect("192.0.2.3").expect("there is room again");
        assert_eq!(gate.counted.clients_now.len(), 3);
        drop(passes);
        drop(_third);
        assert!(gate.counted.clients_now.is_empty() && !gate.counted.now.is_full(1));
    }

    #[test]
    fn workers_share_what_is_counted_and_a_reload_keeps_it() {
        let gates = Gates::new(RANDOM);
        let limit = |most| listener(|listener| listener.rates.concurrency = Some(most));
        let (one, other) = (gates.listener(&limit(2)), gates.listener(&limit(2)));
        let client = ip("192.0.2.1");
        let _first = one.connection(client, at(0)).expect("first");
        let _second = other.connection(client, at(0)).expect("second");
        assert!(one.connection(client, at(0)).is_err());
        // A reload raises the limit; the two of before still count.
        let reloaded = gates.listener(&limit(3));
        drop((one, other));
        let _third = reloaded.connection(client, at(0)).expect("the third of three");
        assert!(reloaded.connection(client, at(0)).is_err());
        // Another listener's clients are its own.
        let neighbour = gates.listener(&listener(|listener| {
            listener.name = "other".into();
            listener.rates.concurrency = Some(1);
        }));
        assert!(neighbour.connection(client, at(0)).is_ok());
    }

    #[test]
    fn a_listener_that_is_gone_leaves_nothing_behind() {
        let gates = Gates::new(RANDOM);
        for name in 0..50 {
            drop(gates.listener(&listener(|listener| listener.name = format!("{name}").into())));
        }
        assert!(gates.listeners.lock().expect("nobody panicked").len() <= 1);
    }
}
