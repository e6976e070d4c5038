//! Every number of evenkeel, once: key, unit, default, range and reason.
//!
//! Parser, `check` warnings, manual, schema and explanations read these rows; nobody else writes a
//! number of the contract down. [`ALL`] lists the settings an operator can change, [`FIXED`] the bounds
//! nobody can, so that the manual shows both.

use std::time::Duration;

/// A setting an operator may change.
#[derive(Debug)]
pub struct Setting<T: 'static> {
    /// Place in the config file, for example `pool.check.interval`.
    pub key: &'static str,
    pub default: T,
    pub min: T,
    pub max: T,
    /// The range users of the modelled service know; `check` warns outside it.
    pub usual: Option<(T, T)>,
    pub reason: &'static str,
}

/// A setting that is off when it is left out, so that it has a range and no default.
#[derive(Debug)]
pub struct Optional<T: 'static> {
    /// Place in the config file. A `*` stands for any key that takes such a table.
    pub key: &'static str,
    pub min: T,
    pub max: T,
    pub reason: &'static str,
}

/// A bound that is the same for everybody.
#[derive(Debug)]
pub struct Fixed {
    pub name: &'static str,
    pub value: u64,
    pub unit: &'static str,
    pub reason: &'static str,
}

/// One row of the table, whatever the type of its number.
#[derive(Debug, Clone, Copy)]
pub enum Row {
    Duration(&'static Setting<Duration>),
    /// Bytes, written with a unit: `"32KiB"`.
    Size(&'static Setting<u64>),
    Count(&'static Setting<u64>),
}

impl Row {
    pub const fn key(&self) -> &'static str {
        match self {
            Row::Duration(setting) => setting.key,
            Row::Size(setting) | Row::Count(setting) => setting.key,
        }
    }

    pub const fn reason(&self) -> &'static str {
        match self {
            Row::Duration(setting) => setting.reason,
            Row::Size(setting) | Row::Count(setting) => setting.reason,
        }
    }
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const DAY: Duration = secs(86_400);

/// Where the admin port listens when the config does not say.
///
/// Loopback, because nobody is asked for a password; the port is that of every example we print.
pub const ADMIN_LISTEN: &str = "127.0.0.1:9900";

/// Of a million requests so many are traced when the config does not say: one percent, which costs little and shows what is
/// common.
pub const TRACES_SAMPLE: u32 = 10_000;

macro_rules! settings {
    ($($name:ident: $row:ident $type:ty = $key:literal, $default:expr, $min:expr, $max:expr, $usual:expr, $reason:literal;)*) => {
        $(
            #[doc = $reason]
            pub const $name: &Setting<$type> =
                &Setting { key: $key, default: $default, min: $min, max: $max, usual: $usual, reason: $reason };
        )*

        /// Every setting with a number, in the order of the manual.
        pub const ALL: &[Row] = &[$(Row::$row($name)),*];
    };
}

settings! {
    WORKERS: Count u64 = "node.workers", 0, 0, 1024, None,
        "Threads that forward traffic; 0 means one for each CPU the process may use. More than one per CPU only adds context switches.";
    CONNECTIONS: Count u64 = "node.connections", 0, 0, 10_000_000, None,
        "Client connections the node holds at once; 0 derives it from the file limit, two files for each connection. Beyond it new clients get balancer_overloaded instead of a crash for want of files.";
    SHUTDOWN_DELAY: Duration Duration = "node.shutdown_delay", Duration::ZERO, Duration::ZERO, secs(600), None,
        "How long the node goes on as before after SIGTERM while `/ready` already says no, so that a balancer in front of it, or a name server, sends nobody new any more when it stops to listen. 0: it stops at once.";
    DRAIN_TIMEOUT: Duration Duration = "node.drain_timeout", secs(30), Duration::ZERO, DAY, None,
        "How long running exchanges may go on after SIGTERM or after their listener was removed. systemd kills after 90 s by default; 30 s leaves room.";

    HOOK_TIMEOUT: Duration Duration = "node.hook.timeout", secs(5), millis(10), secs(300), None,
        "Time one telling of a hook may take: connect, TLS, request and answer, or the whole run of its command.";
    STATE_MAX_AGE: Duration Duration = "node.state_max_age", secs(600), secs(1), DAY, None,
        "What the state file knows that is older is forgotten. A host that was down for ten minutes comes back to other backends than it left.";
    KEPT_REQUESTS: Count u64 = "node.kept_requests", 1000, 0, 100_000, None,
        "Failed and slow requests that are kept for `evenkeel explain ID` and the dashboard. About 1 KiB each, at most 8 KiB. A rare cause is not pushed out by a frequent one.";
    TRACES_TIMEOUT: Duration Duration = "node.traces.timeout", secs(5), millis(100), secs(300), None,
        "Time the collector has to take one batch of spans: connect, TLS, request and answer.";
    RESOLVER_TIMEOUT: Duration Duration = "node.resolver.timeout", secs(2), millis(10), secs(60), None,
        "Time one question to one name server may take; then it is asked again, or the next one is.";
    RESOLVER_MIN_TTL: Duration Duration = "node.resolver.min_ttl", secs(1), millis(10), secs(3600), None,
        "An answer holds at least so long. Records with a TTL of 0 would otherwise be asked for without a pause.";
    RESOLVER_MAX_TTL: Duration Duration = "node.resolver.max_ttl", secs(300), secs(1), DAY, None,
        "An answer holds at most so long, whatever its records say: a change that was announced too late arrives within five minutes.";

    LISTENER_BACKLOG: Count u64 = "listener.backlog", 4096, 1, 65_535, None,
        "Connections the kernel completes before we accept them. net.core.somaxconn, 4096 by default since Linux 5.4, caps it silently.";
    LISTENER_IDLE_TIMEOUT: Duration Duration = "listener.idle_timeout", secs(900), millis(10), DAY, Some((secs(10), secs(900))),
        "Time without a byte either way after which a relayed connection (tcp, or an upgraded request) is closed. 900 s is the modelled service's TCP timeout.";
    UDP_IDLE_TIMEOUT: Duration Duration = "listener.idle_timeout (udp)", secs(90), millis(10), DAY, Some((secs(1), secs(900))),
        "Time without a datagram either way after which a UDP session is over. 90 s is the modelled service's UDP timeout.";
    KEEP_ALIVE_TIMEOUT: Duration Duration = "listener.keep_alive_timeout", secs(15), millis(10), secs(3600), Some((secs(1), secs(60))),
        "Time a client connection may stay without a request. 15 s is the modelled service's default.";
    HEADER_TIMEOUT: Duration Duration = "listener.header_timeout", secs(10), millis(10), secs(3600), None,
        "Time from the first byte of a request to the end of its head; from the accepted connection to the end of a PROXY header or of a ClientHello that is read for its name. One deadline, not one per read, so that one byte a second does not hold a connection for ever.";
    CLIENT_BODY_TIMEOUT: Duration Duration = "listener.body_timeout", secs(60), millis(10), secs(3600), None,
        "Time without progress in sending the request's body or in reading the answer. nginx and HAProxy users know 60 s.";
    HEADER_LIMIT: Size u64 = "listener.header_limit", 32 * KIB, KIB, MIB, None,
        "Largest request line and header block, and largest response head. nginx takes four 8 KiB buffers, HAProxy one of 16 KiB.";
    BODY_LIMIT: Size u64 = "listener.body_limit", 0, 0, u64::MAX, None,
        "Largest request body; 0 means no limit. Bodies are streamed, so a large one costs no memory here.";

    HANDSHAKE_TIMEOUT: Duration Duration = "listener.tls.handshake_timeout", secs(10), millis(10), secs(3600), None,
        "Time a client has for its TLS handshake, from the accepted connection to its last message. As long as a request head may take.";
    STREAMS: Count u64 = "listener.http2.streams", 128, 1, 65_535, None,
        "Streams (requests) at once on one HTTP/2 connection. RFC 9113 asks for at least 100; nginx has 128.";
    STREAM_WINDOW: Size u64 = "listener.http2.stream_window", 64 * KIB, 16 * KIB, 16 * MIB, None,
        "Bytes of a request's body a client may send on one stream before we have passed them on. Larger ones make one upload over a long path faster and cost that much memory for each stream.";
    STREAMS_WINDOW: Size u64 = "listener.http2.connection_window", MIB, 64 * KIB, 64 * MIB, None,
        "The same for all streams of a connection together: what one connection can make us hold.";
    HSTS_MAX_AGE: Duration Duration = "listener.hsts.max_age", secs(365 * 86_400), Duration::ZERO, secs(3650 * 86_400), None,
        "How long browsers refuse plain HTTP to this host, counted from their last visit. 0 makes them forget. A year is what the preload lists ask for.";
    IPV4_PREFIX: Count u64 = "listener.limit.ipv4_prefix", 32, 1, 32, None,
        "Bits of an IPv4 address that make one client.";
    IPV6_PREFIX: Count u64 = "listener.limit.ipv6_prefix", 64, 1, 128, None,
        "Bits of an IPv6 address that make one client. 64, because whoever has one IPv6 address has its whole network.";
    FAST_OPEN: Count u64 = "listener.tcp.fast_open", 0, 0, 65_535, None,
        "Connections that may wait with data in their SYN (RFC 7413); 0 is off. The data may arrive twice, so only for protocols that bear it; net.ipv4.tcp_fastopen must allow servers (2).";
    COMPRESSION_MIN_SIZE: Size u64 = "listener.compression.min_size", KIB, 0, 1024 * MIB, None,
        "Answers known to be smaller stay as they are. One of 1 KiB fits a packet either way.";
    COMPRESSION_LEVEL: Count u64 = "listener.compression.level", 5, 1, 9, None,
        "1 is fast, 9 is small. Each coding takes its own scale's equivalent.";

    WEIGHT: Count u64 = "pool.backends.weight", 100, 0, 100, None,
        "Share of new work relative to the other backends of the pool; 0 means no new work.";
    CONNECT_TIMEOUT: Duration Duration = "pool.connect_timeout", secs(5), millis(1), secs(300), None,
        "Time from our SYN to the backend's SYN+ACK, then the next backend is tried. Linux repeats a lost SYN after 1 s and 3 s, so 5 s survives two losses.";
    RESPONSE_TIMEOUT: Duration Duration = "pool.response_timeout", secs(60), millis(1), DAY, Some((secs(1), secs(180))),
        "Time from the end of the request to the whole head of the answer; then 504. 60 s is the modelled service's default.";
    BACKEND_BODY_TIMEOUT: Duration Duration = "pool.body_timeout", secs(60), millis(1), DAY, None,
        "Time without a byte in the middle of an answer, or without progress in taking the request's body.";
    BACKEND_IDLE_TIMEOUT: Duration Duration = "pool.idle_timeout", secs(4), Duration::ZERO, secs(3600), None,
        "How long an unused backend connection is kept for reuse; 0 keeps none. Below the 5 s after which Node.js and Apache httpd close theirs, so that we close first and no request is lost to the race.";
    BACKEND_IDLE_CONNECTIONS: Count u64 = "pool.idle_connections", 256, 0, 65_535, None,
        "Unused connections kept per backend and worker. Backends that give one process to each connection want fewer.";
    RETRIES: Count u64 = "pool.retries", 2, 0, 10, None,
        "Further attempts after the first one failed in a way that is safe to repeat. Each goes to a backend not yet tried while there is one.";
    RETRY_BUDGET: Count u64 = "pool.retry_budget", 20, 0, 100, None,
        "Retries allowed in percent of the pool's requests, so that an outage is not multiplied by the retries against it. 20 % is what Finagle and linkerd ship.";
    SLOW_START: Duration Duration = "pool.slow_start", Duration::ZERO, Duration::ZERO, secs(3600), None,
        "Time over which a recovered backend's weight grows from a tenth to the whole; 0 gives it all at once.";
    QUEUE: Count u64 = "pool.queue", 1000, 0, 1_000_000, None,
        "Requests of one worker that may wait while every backend is at its backend_limit; 0 lets none wait. Further ones get backend_queue_full at once.";
    QUEUE_TIMEOUT: Duration Duration = "pool.queue_timeout", secs(1), millis(1), secs(3600), None,
        "Longest wait in the queue; then backend_queue_timeout. Short, because a client that waits long goes away and asks again, which makes the queue longer.";

    AFFINITY_TIMEOUT: Duration Duration = "pool.sticky.timeout", secs(300), Duration::ZERO, secs(3600), None,
        "How long a client address stays with its backend after its last connection or session began; 0 keeps nobody. The range is the modelled service's; 300 s is what LVS takes for persistence.";
    AFFINITY_IPV4_PREFIX: Count u64 = "pool.sticky.ipv4_prefix", 32, 1, 32, None,
        "Bits of an IPv4 address that make one client for stickiness.";
    AFFINITY_IPV6_PREFIX: Count u64 = "pool.sticky.ipv6_prefix", 64, 1, 128, None,
        "Bits of an IPv6 address that make one client for stickiness. 64, because hosts change the rest of their address by themselves (RFC 8981).";
    STICKY_DRAIN_TIMEOUT: Duration Duration = "pool.sticky.drain_timeout", secs(300), Duration::ZERO, DAY, None,
        "How long a drained backend still gets the requests of its sticky clients; 0 moves them at once.";

    PASSIVE_CONNECT_FAILURES: Count u64 = "pool.passive.connect_failures", 3, 0, 10_000, None,
        "Connects in a row, of all workers together, that were refused, unreachable or not answered, before the backend is ejected; 0 takes no notice. A pool's other backends take such requests over meanwhile, so three lose nothing.";
    PASSIVE_SERVER_ERRORS: Count u64 = "pool.passive.server_errors", 5, 0, 10_000, None,
        "Answers of 5xx in a row before the backend is ejected; 0 takes no notice. Five is what Envoy ships.";
    PASSIVE_RESETS: Count u64 = "pool.passive.resets", 5, 0, 10_000, None,
        "Connections in a row that the backend broke, or answers that were none, before it is ejected; 0 takes no notice.";
    PASSIVE_TIMEOUTS: Count u64 = "pool.passive.timeouts", 3, 0, 10_000, None,
        "Requests in a row that it did not answer in time before it is ejected; 0 takes no notice. Each costs a client its whole patience.";
    PASSIVE_MIN_REQUESTS: Count u64 = "pool.passive.min_requests", 20, 1, 1_000_000, None,
        "Attempts at a backend, and at the rest of its pool, within one interval below which failure_percent and latency_factor say nothing.";
    PASSIVE_LATENCY_FLOOR: Duration Duration = "pool.passive.latency_floor", millis(50), Duration::ZERO, secs(300), None,
        "A backend whose mean is below this is never too slow, however fast the others are.";
    PASSIVE_INTERVAL: Duration Duration = "pool.passive.interval", secs(10), millis(100), secs(3600), None,
        "Time over which failure_percent and latency_factor look. Envoy looks every ten seconds as well.";
    EJECTION_TIME: Duration Duration = "pool.passive.ejection_time", secs(30), millis(100), secs(3600), None,
        "How long a first ejection lasts. Each further one lasts that much longer; serving well for as long takes one step back. 30 s is what Envoy ships.";
    EJECTION_MAX: Duration Duration = "pool.passive.ejection_max", secs(300), millis(100), DAY, None,
        "Longest ejection, however many went before. 300 s is what Envoy ships.";
    MAX_EJECTED: Count u64 = "pool.passive.max_ejected", 50, 0, 100, None,
        "Percent of a pool's backends that may be ejected at once. What strikes more than half of them is mostly not their fault, and the last that serves is never ejected.";

    CHECK_TIMEOUT: Duration Duration = "pool.check.timeout", secs(5), millis(10), secs(300), Some((secs(1), secs(300))),
        "Time one whole tcp or http probe may take: connect, write and read together.";
    CHECK_INTERVAL: Duration Duration = "pool.check.interval", secs(2), millis(10), secs(3600), Some((secs(1), secs(50))),
        "Gap between the end of one tcp or http probe and the start of the next. With threshold 3 a backend that refuses is out four seconds after its first failed probe, one that stays silent for the 5 s timeout after nineteen.";
    UDP_CHECK_TIMEOUT: Duration Duration = "pool.check.timeout (udp)", secs(10), millis(10), secs(300), Some((secs(1), secs(300))),
        "Time one udp probe waits for an ICMP refusal or the expected answer.";
    UDP_CHECK_INTERVAL: Duration Duration = "pool.check.interval (udp)", secs(5), millis(10), secs(3600), Some((secs(1), secs(50))),
        "Gap between the end of one udp probe and the start of the next. Slower than tcp because a host sends about one ICMP error a second to each prober.";
    ICMP_CHECK_TIMEOUT: Duration Duration = "pool.check.timeout (icmp)", secs(2), millis(10), secs(300), Some((secs(1), secs(300))),
        "Time one icmp probe waits for its reply. A host answers an echo within one round trip or not at all, and nothing repeats a lost packet but the next probe.";
    COMMAND_CHECK_TIMEOUT: Duration Duration = "pool.check.timeout (command)", secs(10), millis(10), secs(300), Some((secs(1), secs(300))),
        "Time one command may run; then it is killed with its whole process group, and the probe has failed. Nagios gives its plugins the same ten seconds.";
    COMMAND_CHECK_INTERVAL: Duration Duration = "pool.check.interval (command)", secs(10), millis(10), secs(3600), Some((secs(1), secs(50))),
        "Gap between the end of one command and the start of the next. Each one is a process, a thousand times the work of a SYN.";
    CHECK_JITTER: Count u64 = "pool.check.jitter", 0, 0, 50, None,
        "Percent by which each gap is longer or shorter at random. Targets are spread over the interval without it; it keeps those of several nodes from falling into step. HAProxy allows 50 % too (spread-checks).";
    HEALTHY_THRESHOLD: Count u64 = "pool.check.healthy_threshold", 3, 1, 100, Some((2, 10)),
        "Probes in a row that must pass before an unhealthy backend is healthy again.";
    UNHEALTHY_THRESHOLD: Count u64 = "pool.check.unhealthy_threshold", 3, 1, 100, Some((2, 10)),
        "Probes in a row that must fail before a healthy backend is unhealthy. 1 acts on the first failure and flaps with every lost packet.";
}

macro_rules! optional {
    ($($name:ident: $type:ty = $key:literal, $min:expr, $max:expr, $reason:literal;)*) => {
        $(
            #[doc = $reason]
            pub const $name: &Optional<$type> =
                &Optional { key: $key, min: $min, max: $max, reason: $reason };
        )*

        /// Key and reason of every setting that is off when it is left out, in the order of the manual.
        pub const OPTIONAL: &[(&str, &str)] = &[$(($name.key, $name.reason)),*];
    };
}

optional! {
    SLOW_REQUEST: Duration = "node.slow_request", millis(1), DAY,
        "Requests and connections of http listeners that take longer are kept with the failed ones, with where their time went. Left out: only what failed is kept.";
    HOLD_ON_SUSPICION: Duration = "node.hold_on_suspicion", secs(1), secs(3600),
        "While the node suspects itself (most checks of unrelated pools turned to failing at once), no verdict turns unhealthy, for at most so long. Off when left out: a wrong suspicion then costs nothing, and a right one takes backends out that were well.";
    PANIC_BELOW: u64 = "pool.panic_below", 1, 100,
        "Share of the pool's weight that may be used, from 0.01 to 1. Below it new work goes to every backend that is neither drained nor in maintenance, healthy or not: few healthy ones would be drowned by the work of all. `/status`, metrics and an event say so. Off when left out: work goes to the healthy ones only.";
    UNHEALTHY_INTERVAL: Duration = "pool.check.unhealthy_interval", millis(10), secs(3600),
        "Gap between probes of a backend that is unhealthy. Longer than `interval` it spares what is dead anyway, and finds its recovery so much later.";
    TRANSITION_INTERVAL: Duration = "pool.check.transition_interval", millis(10), secs(3600),
        "Gap between probes while they contradict the verdict. Shorter than `interval` it ends doubt sooner without more probes in quiet times.";
    TRUST_TRAFFIC: Duration = "pool.check.trust_traffic", millis(10), secs(3600),
        "Gap between probes of a healthy backend while its traffic passes without a failure. Off when left out: traffic then changes nothing. It spares probes and makes the window longer for what traffic does not show; `evenkeel window` says how much.";
    MIN_DAYS_LEFT: u64 = "pool.check.min_days_left", 0, 3_650,
        "Days that the backend's certificate must live on. A probe that finds fewer fails, and so takes the backend out: meant for certificates that renew themselves, where few days left say that something has stopped.";
    LIMIT_CONNECTIONS: u64 = "listener.limit.connections", 1, 10_000_000,
        "Connections at once. Further clients are refused.";
    LIMIT_CLIENT_CONNECTIONS: u64 = "listener.limit.client_connections", 1, 10_000_000,
        "Connections at once of one client. Browsers open up to six for HTTP/1.1, and many people may sit behind one address.";
    LIFETIME: Duration = "listener.lifetime", millis(10), DAY,
        "Longest life of a relayed connection or UDP session, however busy it is. It makes clients with connections that never end spread anew over the backends.";
    REQUESTS: u64 = "listener.requests", 1, 1_000_000,
        "Datagrams of the client after which a UDP session takes no more: the next one begins a new session, with a new pick.";
    RESPONSES: u64 = "listener.responses", 0, 1_000_000,
        "Datagrams of the backend that answer one datagram of the client; 0 where none is expected. A UDP session is over at once when all of them have come, with `requests` not before the client has sent that many. 1 suits DNS: a session costs memory and a port only while answers are awaited.";
    LISTENER_KEEPALIVE: Duration = "listener.tcp.keepalive", secs(1), secs(32_767),
        "Time of quiet after which the kernel asks a client whether it is still there (SO_KEEPALIVE). Off when left out: the idle timeout ends what is dead.";
    LISTENER_USER_TIMEOUT: Duration = "listener.tcp.user_timeout", millis(10), DAY,
        "Longest time that bytes sent to a client may stay unacknowledged before its connection is given up (TCP_USER_TIMEOUT, RFC 5482). Left out, the kernel sends again for about fifteen minutes.";
    DEFER_ACCEPT: Duration = "listener.tcp.defer_accept", secs(1), secs(3600),
        "Clients are taken only once they have sent something, or after this time (TCP_DEFER_ACCEPT). Not for protocols in which the server speaks first.";
    POOL_KEEPALIVE: Duration = "pool.tcp.keepalive", secs(1), secs(32_767),
        "Time of quiet after which the kernel asks a backend whether it is still there.";
    POOL_USER_TIMEOUT: Duration = "pool.tcp.user_timeout", millis(10), DAY,
        "Longest time that bytes sent to a backend may stay unacknowledged before its connection is given up.";
    RATE: u64 = "listener.limit.*.rate", 1, 10_000_000,
        "So many a second in the long run.";
    BURST: u64 = "listener.limit.*.burst", 1, 10_000_000,
        "So many at once, after a time of quiet.";
    RULE_RESPONSE_TIMEOUT: Duration = "listener.rule.response_timeout", millis(1), DAY,
        "In place of the pool's, for requests of this rule.";
    RULE_BODY_TIMEOUT: Duration = "listener.rule.body_timeout", millis(1), DAY,
        "In place of the pool's, for requests of this rule.";
    RULE_TRY_TIMEOUT: Duration = "listener.rule.try_timeout", millis(1), DAY,
        "In place of the pool's, for requests of this rule.";
    RULE_RETRIES: u64 = "listener.rule.retries", 0, 10,
        "In place of the pool's, for requests of this rule.";
    BOUNDED_LOAD: u64 = "pool.bounded_load", 101, 1000,
        "Percent of the mean load at which a backend is passed over, so that one popular key cannot drown its backend; 125 is what HAProxy and Google's paper use. The key's requests then go to the next backends in its order.";
    PASSIVE_FAILURE_PERCENT: u64 = "pool.passive.failure_percent", 1, 100,
        "Percent of a backend's attempts within one interval that may fail; it is ejected when it fails more, and more than twice as often as the rest of its pool.";
    PASSIVE_LATENCY_FACTOR: u64 = "pool.passive.latency_factor", 2, 1000,
        "A backend is ejected when the mean time to its first byte is so many times that of the rest of its pool.";
    TRY_TIMEOUT: Duration = "pool.try_timeout", millis(1), DAY,
        "Time one attempt may take to the head of the answer while another attempt may follow. It finds a backend that hangs before the client's patience ends.";
    HEDGE_AFTER: Duration = "pool.hedge_after", millis(1), DAY,
        "When a request with a safe method has no answer after this time, a second backend is asked too, within the retry budget; the first answer wins. Set it near the 95th percentile of response times.";
    BACKEND_LIMIT: u64 = "pool.backend_limit", 1, 1_000_000,
        "Requests at once at each backend, of all workers together; with tcp listeners, connections, which never wait. What a backend can work on at once, plus a few.";
    STICKY_MAX_AGE: Duration = "pool.sticky.max_age", secs(1), DAY,
        "Age of the inserted cookie. The modelled service allows the same 1 to 86400 s.";
}

macro_rules! fixed {
    ($($name:ident = $value:expr, $unit:literal, $reason:literal;)*) => {
        $(
            #[doc = $reason]
            pub const $name: Fixed =
                Fixed { name: stringify!($name), value: $value, unit: $unit, reason: $reason };
        )*

        /// Every bound that is not a setting.
        pub const FIXED: &[&Fixed] = &[$(&$name),*];
    };
}

fixed! {
    HEADER_FIELDS = 128, "fields",
        "Header fields in one head. Browsers send about 20; each slot costs stack on every parse.";
    CHUNK_LINE = 256, "bytes",
        "Longest chunk-size line, extensions included. Nobody uses extensions but attackers (CVE-2023-39326 and kin).";
    TRAILER_BLOCK = 8192, "bytes",
        "Largest trailer section.";
    LATENESS = 100, "ms",
        "A probe whose timer we served later than this is void (W7): our own overload must not fail a backend. A tenth of the smallest usual timeout.";
    SUSPICION_SHARE = 50, "percent",
        "When more than this share of the checks of at least three unrelated pools fail within one interval, the node suspects itself rather than all of them.";
    PROBES_AT_ONCE = 4096, "probes",
        "Probes in flight per node; further ones wait their turn. Bounds files and source ports.";
    PROBE_SLACK = 10, "ms",
        "A due probe may wait so long for others that are due soon, so that one wake-up starts several, but no longer than a two-hundredth of the shortest gap of any check. Five of 500 probes a second start together then, and fifty of 5,000.";
    SPARE_SOCKETS = 1024, "sockets",
        "TCP sockets of ended probes that are kept to be dialled again. At 20,000 probes a second to backends 10 ms away 200 are in use at once, and more where they start in bursts; an idle one costs a file and 2 to 3 KiB in the kernel.";
    FIRST_PROBES_AT_ONCE = 64, "targets",
        "So many targets that join together get their first probe at once; more are spread over one interval. 64 SYNs are no burst for any network, and a small site wants its verdicts at once.";
    SUSPICION_GROUPS = 3, "groups",
        "Groups of unrelated pools that must be struck together before the node suspects itself. Two may fail together by chance or share a rack.";
    SUSPICION_CHECKS = 3, "checks",
        "Checks whose last probes were void, or found no way out of this node, before the node suspects itself for that. One or two late probes are a hiccup.";
    VOID_REPORT = 10, "s",
        "Void probes are reported together once in this time: an overloaded node must not add a log line for each probe it was late for.";
    RECENT_FINDINGS = 10, "findings",
        "Findings kept for each target, shown in status and in verdict events.";
    RECENT_EVENTS = 5000, "events",
        "Events kept in memory for status, and for streams of events that were interrupted. A thousand backends that fail and come back are two thousand.";
    PROBE_ASKED_GAP = 100, "ms",
        "A probe that is asked for starts at once, but never closer than this to the end of the one before, so that no number of asks makes a flood.";
    RAMP_STEPS = 10, "steps",
        "Steps in which slow start raises a weight.";
    PROBE_HEAD = 16_384, "bytes",
        "Largest response head an http probe reads before it gives up.";
    PROBE_BODY = 65_536, "bytes",
        "As far as an http probe looks into a body. Health pages are small, and so is the time to look through this much.";
    PROBE_CONVERSATION = 16_384, "bytes",
        "What a probe with steps hears before it gives up. Every piece that comes is looked at together with those before it, so this bounds what a backend that talks byte by byte can cost.";
    PROBE_AGENT_LINE = 1024, "bytes",
        "Longest line of an agent. Its words need 40, the rest is for its reason.";
    PROBE_KEPT = 60, "s",
        "A probe's connection is kept no longer than this after it was opened. A backend that takes no new connections shows only to those who open one.";
    NAME_SERVERS = 8, "servers",
        "Name servers that `servers` of `[node.resolver]` may list. Each is asked in turn until one answers, so a long list is a long wait.";
    HOOKS = 16, "hooks",
        "Hooks a node may have. Each event makes one telling of each.";
    CHECKS = 16, "checks",
        "Checks a pool may have. Each one is a target more for every backend.";
    PROBE_STEPS = 32, "steps",
        "Steps in the conversation of a tcp check. The greeting, login and farewell of a mail server take ten.";
    PROBE_PATTERN = 8192, "bytes",
        "Longest text, hex or regular expression that an answer is compared with, and longest text that a step or an agent check sends; only the datagrams of a udp check may be larger. What tells a good answer from a bad one is shorter.";
    PATTERN_RUNS = 16, "runs",
        "Times that `*` may stand in one pattern of hex. Each is one more place in the pattern that every byte of the answer is held against.";
    PROBE_FIELDS = 8192, "bytes",
        "Names and values of all header fields that a check adds to its request. Servers take 8 KiB of head at least.";
    PROBE_COMMAND = 64, "words",
        "The program of a command and its arguments.";
    PROBE_EVIDENCE = 64, "bytes",
        "Bytes of an unexpected answer kept as evidence.";
    COMMANDS_AT_ONCE = 64, "commands",
        "Command probes running at once; further ones wait their turn. Each is a process, so a check over many backends must not become a flood of them.";
    COMMAND_OUTPUT = 4096, "bytes",
        "What is kept of a command's output; the rest is read and thrown away, so that a talkative command does not block.";
    COMMAND_LINES = 3, "lines",
        "Lines of a command's output that stand in a finding. Plugins of the Nagios kind say what matters in the first one.";
    COMMAND_EVIDENCE = 256, "characters",
        "Length of a command's output in a finding.";
    HOOK_QUEUE = 1000, "events",
        "Events that wait for a hook; beyond it the oldest is lost. Whoever reads a thousand pages at once reads the last ones.";
    HOOK_TRIES = 4, "tries",
        "How often a hook is told of an event before it is lost. With the waits between them a receiver may be away for seven seconds, a restart's time.";
    HOOK_WAIT = 1, "s",
        "Time after a failed telling before the next; doubled by each further failure.";
    HOOK_WAIT_MAX = 30, "s",
        "Longest of these waits.";
    HOOK_FAREWELL = 1000, "ms",
        "How long a node that ends waits for hooks that are being told. A pager that hangs must not hold up a restart.";
    NAME_RETRY = 1, "s",
        "Time after a question for a name that failed before the next; doubled by each further failure.";
    NAME_RETRY_MAX = 30, "s",
        "Longest of these waits: so long a name server that is back may go unnoticed.";
    NAMES_AT_ONCE = 64, "names",
        "Names asked for at once. A thousand of them must not be a burst that a name server takes for an attack.";
    NAMES_AT_START = 5, "s",
        "How long a start, or a reload with new names, waits for first answers; then it goes on with those there are. Longer than a question and its repetition to a server that is away.";
    ORDER_LASTS = 31_536_000, "s",
        "Longest time limit of an order, a year. What should last longer belongs in the config.";
    ADMIN_BODY = 8_388_608, "bytes",
        "Largest body the admin side takes: a config with some 50,000 backends.";
    ADMIN_HEAD = 16_384, "bytes",
        "Largest head of a request the admin side takes. Browsers send less than 2 KiB.";
    ADMIN_PATIENCE = 10, "s",
        "How long a client of the admin side may take for its TLS handshake, for a request's head, for its body, and for the next bytes of an answer. Whoever is slower holds a place that others need.";
    ADMIN_CONNECTIONS = 128, "connections",
        "Connections the admin side has open at once. An operator, a dashboard and a few scrapers use a dozen; further ones wait for a place.";
    ADMIN_STREAMS = 32, "streams",
        "Streams (server-sent events) the admin side keeps open at once, a quarter of its connections, so that pages are answered however many follow it live.";
    ADMIN_TOKEN = 16, "characters",
        "Least length of a token: one that is shorter could be guessed.";
    HISTORY_STEP = 5, "s",
        "Time between two samples of the history: fine enough to see a failover of the default windows in it.";
    HISTORY_SAMPLES = 720, "samples",
        "Samples that are kept: an hour.";
    HISTORY_BACKENDS = 256, "backends",
        "With more backends than this the history keeps pools only. 256 of them are 8 MB in an hour.";
    STATE_INTERVAL = 5, "s",
        "The state file is written at most once in this time. What a killed process loses is no older.";
    STATE_REFRESH = 30, "s",
        "It is written so often when nothing but the age of its findings changed, or four times within `state_max_age` where that is shorter.";
    STATE_BYTES = 268_435_456, "bytes",
        "Largest state file that is read. A backend with one check takes about 300 bytes, so 100,000 of them take a ninth.";
    STATE_FAREWELL = 5, "s",
        "How long a node that ends waits for its state file to be on the disk.";
    COMMAND_STRAGGLE = 20, "ms",
        "How long the output of a command is waited for after its end when something it left behind still holds the pipe. What the command itself said is in the pipe by then.";
    SCRATCH = 262_144, "bytes",
        "Receive buffer of a worker, shared by its connections. 256 KiB reads made 64 KiB bodies 16 % cheaper than 64 KiB reads in our trials.";
    PIPE = 1_048_576, "bytes",
        "Pipe between two sockets when a relay splices: the most Linux gives an unprivileged process by default. Beside 512 KiB it cost 5 to 10 % less CPU per GB in our runs; where it is refused, the system's default of 64 KiB works with more calls.";
    SPLICE_FROM = 65_536, "bytes",
        "A read of at least this size makes a relay splice. Below it two copies cost less than the two more calls of a splice.";
    RELAY_FAREWELL = 1000, "ms",
        "When a backend resets a relayed connection, its client is reset no sooner than this after the last bytes were given to it, and what it still sends is thrown away meanwhile: a reset that overtakes the backend's last words destroys them. Several round trips, or two lost packets.";
    KEEPALIVE_INTERVAL = 10, "s",
        "Time between two of the kernel's questions to a side that has not answered the first.";
    KEEPALIVE_PROBES = 6, "questions",
        "Unanswered questions after which the kernel gives a connection up: a minute beyond `keepalive`.";
    UDP_BATCH = 32, "datagrams",
        "Datagrams taken or sent in one call. Twice as many saved nothing more in our runs.";
    UDP_TURN = 256, "packets",
        "Packets taken from one UDP socket before others get their turn. A client that floods its session must not hold up the rest of the worker for longer than some hundred microseconds.";
    UDP_RECEIVE_BUFFER = 4_194_304, "bytes",
        "What may wait at a udp listener on each worker. Linux gives twice of it and counts 2304 bytes for a small datagram, so 3600 of them may: a pause of 36 ms at 100,000 a second. net.core.rmem_max caps it silently unless we have CAP_NET_ADMIN.";
    UDP_REFUSAL_MEMORY = 1000, "ms",
        "A backend whose host has refused a datagram (ICMP) gets no new session for this time while there are others. Clients ask again within seconds, and the check needs longer to find out.";
    PROXY_HEADER = 4096, "bytes",
        "Longest PROXY header taken. Version 1 is at most 107 bytes; version 2 with a client certificate's names stays below this in HAProxy too.";
    CLIENT_HELLO = 65_536, "bytes",
        "Longest ClientHello read for its name, over all its records and packets. With post-quantum keys they take about 2 KiB; RFC 8446 has no limit below 16 MiB.";
    CLIENT_HELLO_RECORDS = 1024, "records",
        "Records one ClientHello may lie in. Clients use one or two; each is looked at again whenever more has come.";
    CID_MEMORY = 262_144, "connection ids",
        "QUIC connection ids a pool remembers, so that a client whose address changed stays with its backend. About 50 bytes each; the oldest go first.";
    CID_LIFE = 86_400, "s",
        "How long a QUIC connection id is remembered without a packet from a new address, unless newer ones need the room. A connection may be old when its client's address changes, and an id that is dead costs nothing but its place.";
    SERVER_ID = 15, "bytes",
        "Longest server id in a QUIC connection id. The load balancers of the IETF's draft allow the same: 20 bytes, less the first and four that differ.";
    AFFINITY_CLIENTS = 1_048_576, "clients",
        "Client addresses whose backend a pool remembers. About 70 bytes each; with more at once, newcomers follow the schedule.";
    REFUSED_LINES = 1, "s",
        "Refused datagrams of a listener are written to the log once in this time for each cause, with their number: every datagram may be refused, and a line for each would be an attack on the log.";
    SPARE_PIPES = 64, "pipes",
        "Empty pipes a worker keeps for the next bulk transfer; making one costs three calls.";
    CERTIFICATE_NOTICE = 14, "days",
        "Check and reload warn of a certificate that ends within this time. Renewers act thirty days ahead, so one that has only fourteen was forgotten, and two weeks are enough to mend it.";
    TLS_HANDSHAKE = 65_536, "bytes",
        "Handshake bytes kept of one session before a message is whole. Certificate chains of clients take a few thousand; the TLS libraries we know stop here too.";
    TLS_RECORDS_WITHOUT_DATA = 32, "records",
        "Key updates, warnings and empty records in a row before a session is ended: they cost us work and bring nobody data. BoringSSL and rustls draw the line at 32 as well.";
    TLS_IDLE_BUFFER = 4096, "bytes",
        "A buffer of a TLS session larger than this is given back when it is empty: most sessions are idle most of the time.";
    HEADER_TABLE = 4096, "bytes",
        "Table of repeated header fields (HPACK), one for each direction of an HTTP/2 connection. The default of RFC 9113: larger ones save little and cost each idle connection.";
    BACKLOG_BYTES = 262_144, "bytes",
        "Bytes held for a side that does not take them before we stop reading from the other side. With it each exchange's memory is bounded.";
    COMPRESSOR_BYTES = 2_097_152, "bytes",
        "Most one answer's compressor holds. Measured: gzip 0.4 MiB; zstd 0.7 MiB with a window of 64 KiB; br 0.8 MiB with a window of 128 KiB up to level 5, and 1.9 MiB from level 6, where its tables grow.";
    SPARE_COMPRESSORS = 8, "compressors",
        "Compressors a worker keeps for the next answer. Making one costs up to 0.2 ms for clearing its tables, using one again some microseconds; eight hold at most 6 MiB.";
    REPLAY_BYTES = 65_536, "bytes",
        "Largest request (head and body) kept for a retry; larger ones are not retried once sent.";
    ATTEMPTS = 11, "attempts",
        "One try and the ten retries that `retries` allows at most.";
    ACCEPT_BATCH = 64, "connections",
        "Connections taken from one listener before others get their turn.";
    LISTEN_FAREWELL = 250, "ms",
        "A listening socket that is to be closed takes nobody new and goes on accepting for this time, so that a handshake that has begun is not answered by a reset. A round trip to the other side of the world; whoever comes meanwhile asks again after 1 s, as TCP does, and is refused then.";
    WATCH_SETTLE = 300, "ms",
        "A watched file is read when nothing has happened to it and its neighbours for this time: editors and deployments write in several steps, and a certificate without its key is an error.";
    WATCH_SETTLE_MOST = 3000, "ms",
        "But no later than this after the first of them: a file beside it that never rests must not keep a change out.";
    UPGRADE_WAIT = 30, "s",
        "A new process that takes the place of a running one says within this time that it is ready, or it is killed and the running one goes on. Reading a large config takes a second, names of backends up to five.";
    WATCH_AFTER = 5, "ms",
        "A new http connection whose request is whole is watched for its client's leaving after this time; one that is answered sooner never is, which saves three calls' worth of work.";
    HTTP2_FRAME = 16_384, "bytes",
        "Largest HTTP/2 frame we take: the least RFC 9113 allows, and what every client sends.";
    HTTP2_BACKEND_WINDOW = 262_144, "bytes",
        "What a backend may send on one HTTP/2 stream before the client has taken it; as much as is held for a slow client elsewhere.";
    HTTP2_BACKEND_WINDOWS = 4_194_304, "bytes",
        "The same for all streams of one connection to a backend together.";
    ACCESS_LOG_BUFFER = 65_536, "bytes",
        "Log lines a worker gathers before it hands them to the writer; they also go after a tenth of a second.";
    ACCESS_LOG_QUEUE = 64, "buffers",
        "Full buffers that may wait for a slow disk or pipe. Beyond it lines are dropped and counted: logs never stall traffic.";
    KEPT_A_SECOND = 10, "requests",
        "Failed or slow requests kept for `explain` of each cause, each second, by each worker. One example of a cause tells as much as a thousand, and a flood of failures costs a count each and no copy.";
    KEPT_GATHERED = 100, "ms",
        "Longest time a failed request waits on its worker before `explain`, the digest of causes, the live stream and the traces have it.";
    KEPT_QUEUE = 64, "batches",
        "What workers hand over for these may wait in so many batches. Beyond it kept requests are dropped and counted; counts of causes wait and are not lost.";
    CAUSE_PLACES = 4096, "places",
        "Places (listener, pool, backend) that the digest of causes tells apart, over all causes; more are counted under their listener.";
    LIVE_LINES = 1024, "lines",
        "Lines of the live stream that a reader may be behind. Then it misses some, and is told how many.";
    TRACES_QUEUE = 4096, "requests",
        "Traced requests that wait for the collector. Beyond it they are dropped and counted: traces never hold up traffic.";
    TRACES_BATCH = 256, "requests",
        "Traced requests sent to the collector at once, or whatever came within a second.";
    TRACES_WAIT = 1, "s",
        "Time after which a batch is sent again that the collector did not take; doubled with each further time.";
    TRACES_WAIT_MAX = 30, "s",
        "Longest time between two tries to reach a collector.";
    TRACES_TRIES = 5, "tries",
        "Times one batch is sent to a collector that fails; then it is dropped and counted.";
    NAME = 64, "characters",
        "Longest name of a listener or pool. It stands in every log line and metric of what it names.";
    STICKY_SECRET = 32, "bytes",
        "Least length of the file that sticky cookies are authenticated with: the size of a SHA-256 key.";
    ANSWER_BODY = 65_536, "bytes",
        "Largest body of a rule's fixed answer. It is held in the plan; larger pages belong on a server.";
    HOST_NAME = 255, "bytes",
        "Longest host that rules look up, without its port. A name in DNS has at most 253 characters (RFC 1035), so a longer one is nobody's.";
    UDP_PAYLOAD = 65_507, "bytes",
        "Largest datagram a udp probe can send: what IPv4 leaves of 65535 bytes after its header and UDP's.";
    LOG_FIELD = 2048, "bytes",
        "Longest value of a client-chosen field in the access log; the rest is cut and marked.";
    MAGLEV_TABLE = 65_537, "slots",
        "Size of a Maglev table, a prime. Eisenbud et al. (NSDI 2016) use 65537 for up to some hundred backends with under 1 % imbalance.";
    WRR_SEQUENCE = 4096, "picks",
        "Longest precomputed smooth sequence; larger ones are computed pick by pick.";
    WRR_COST = 1_048_576, "steps",
        "Most steps (picks times backends) spent on precomputing a smooth sequence, about a millisecond; beyond it picks are computed one by one.";
    REFUSAL_GAP = 2000, "ms",
        "Least time between two datagrams to the closed port of one host, for all udp probes of one source address together. Linux sends an address one refusal a second, so half of them are left for services that are dead.";
    REFUSAL_PATIENCE = 1000, "ms",
        "How long a refusal of a datagram to a closed port may take. Kernels send it at once; a way of a second and more is one that no check would pass.";
    REFUSAL_HOSTS = 4096, "hosts",
        "Hosts without a probe for ten minutes whose refusals are remembered nevertheless.";
    RETRY_WINDOW = 10, "s",
        "How long a request pays for retries. Finagle and linkerd ship the same ten seconds: long enough to bridge a fail window, too short to save up for a storm.";
    RETRY_MINIMUM = 30, "retries",
        "Retries that a pool may make per worker within the retry window without requests paying for them. Finagle and linkerd allow ten a second per process; three a second per worker comes to about the same.";
    SILENCE = 1000, "ms",
        "A backend that was asked and has not sent a byte for this time is passed over while others are there. Long enough for two lost packets (Linux sends again after 200 and 400 ms) and for most slow answers; short enough that a stopped backend holds up one second's requests instead of a whole window's.";
    SILENCE_TRIAL = 1000, "ms",
        "Time between two requests that go to a silent backend nevertheless, to see whether it is back.";
    RATE_CLIENTS = 1_048_576, "clients",
        "Clients whose rate a listener remembers, for each of its limits per client. About 48 bytes each, so 50 MB at the very most. With more of them busy at once newcomers are let through uncounted: no limit per client stops a million clients, the listener's own does.";
    QUEUE_LOOK = 5, "ms",
        "A queue with somebody in it looks this often whether another worker's request has ended. Two hundred looks a second cost nothing that can be measured, and 5 ms beside a wait are not noticed.";
    H2_FLOOD_TIME = 30, "s",
        "Time in which the counters against HTTP/2 floods forget: a counter at its limit is empty again after it. With it the limit on resets lets 33 a second pass for ever, the rate nghttp2 ships.";
    H2_RESETS = 1000, "resets",
        "Streams of one HTTP/2 connection that may end in a reset before they were answered: cancelled by the client (CVE-2023-44487), or reset or refused by us for the client's own faults (CVE-2025-8671). nghttp2 ships the same burst; a browser that leaves a page resets about as many as it has open. Where `streams` allows more, twice that many.";
    H2_SETTINGS = 100, "frames",
        "SETTINGS frames, each of which must be answered. Clients send one or two; some gRPC clients a few dozen while they measure the path.";
    H2_PINGS = 1000, "frames",
        "PING frames, each of which must be answered. gRPC clients send one for each round trip of bulk data, and useful DATA pays for them.";
    H2_EMPTY_DATA = 200, "frames",
        "DATA frames that bring neither a byte nor an end (CVE-2019-9518). Honest clients send next to none.";
    H2_WINDOW_UPDATES = 10000, "frames",
        "WINDOW_UPDATE frames beyond the ten that each DATA frame of ours pays for. Tiny increments make us cut an answer into crumbs (CVE-2019-9511).";
    H2_IDLE_FRAMES = 1000, "frames",
        "Frames that ask for nothing: PRIORITY (CVE-2019-9513) and kinds nobody knows. Each request pays for ten.";
    H2_CONTINUATIONS = 8, "frames",
        "CONTINUATION frames of one header block beyond what `header_limit` needs (CVE-2024-27316). nghttp2 ships the same.";
    H2_HEADER_EXCESS = 4, "times header_limit",
        "A request head up to so many times the limit is refused with 431; a larger one costs the connection, so that a few bytes cannot unpack to megabytes (HPACK bomb).";
    H2_OUTPUT = 262144, "bytes",
        "Bytes waiting for one HTTP/2 client or backend to read before its streams must wait with their bodies. The same as for one HTTP/1.1 connection.";
    H2_CONTROL_BYTES = 65536, "bytes",
        "Unread answers to frames that must be answered (PING, SETTINGS, refused streams), about 3800 of them. Who asks for more without reading is not served (CVE-2019-9512, CVE-2019-9515).";
    H2_SETTINGS_ACK = 10, "s",
        "How long the other side may take to acknowledge our SETTINGS (RFC 9113 6.5.3).";
    H2_GOAWAY_GRACE = 1, "s",
        "Time between announcing the end of an HTTP/2 connection and refusing new streams, for the requests already under way (RFC 9113 6.8). An answer to our PING ends it earlier.";
    H2_QUANTUM = 32768, "bytes",
        "Body bytes one stream may send before the next waiting one of the same connection has its turn.";
    H2_CLOSED_STREAMS = 128, "streams",
        "Ended streams of one connection whose manner of ending is remembered, so that frames that were under way are told from broken ones.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_lies_in_its_range() {
        for row in ALL {
            let inside = match row {
                Row::Duration(s) => s.min <= s.default && s.default <= s.max,
                Row::Size(s) | Row::Count(s) => s.min <= s.default && s.default <= s.max,
            };
            assert!(inside, "{}", row.key());
            let usual = match row {
                Row::Duration(s) => s
                    .usual
                    .is_none_or(|(low, high)| s.min <= low && high <= s.max && low <= s.default && s.default <= high),
                Row::Size(s) | Row::Count(s) => s
                    .usual
                    .is_none_or(|(low, high)| s.min <= low && high <= s.max && low <= s.default && s.default <= high),
            };
            assert!(usual, "{}: the usual range", row.key());
            assert!(row.reason().len() > 20, "{} has no reason", row.key());
        }
    }

    #[test]
    fn keys_are_listed_once() {
        let keys: Vec<&str> = ALL.iter().map(Row::key).chain(OPTIONAL.iter().map(|(key, _)| *key)).collect();
        for (position, key) in keys.iter().enumerate() {
            assert!(!keys[..position].contains(key), "{key}");
        }
    }

    #[test]
    fn check_defaults_are_those_of_the_modelled_service() {
        assert_eq!((CHECK_TIMEOUT.default, CHECK_INTERVAL.default), (secs(5), secs(2)));
        assert_eq!((UDP_CHECK_TIMEOUT.default, UDP_CHECK_INTERVAL.default), (secs(10), secs(5)));
        assert_eq!((HEALTHY_THRESHOLD.default, UNHEALTHY_THRESHOLD.default), (3, 3));
    }
}
