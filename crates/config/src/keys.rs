//! Every key of a config, once: where it stands, what it takes, what it is when left out, and why.
//!
//! The reader may only ask for keys of this table and refuses what is not in it; the manual prints
//! it. Numbers stay in [`evenkeel_model::limits`]; a row here points to them.

mod foreign;
mod section;
mod words;

use std::time::Duration;

use evenkeel_balance::Schedule;
use evenkeel_model::finding::ProbeKind;
use evenkeel_model::limits::{self, Optional, Setting};
use evenkeel_plan::Protocol;

pub(crate) use foreign::{ELSEWHERE, FOREIGN_WORDS, LATER};
pub(crate) use section::Section;
pub(crate) use words::COMPRESSED_TYPES;
use words::{
    BACKEND_RECORDS, CHECK_KINDS, CLIENT_CERTIFICATES, HANDSHAKES, HTTP_VERSIONS, ON_UNHEALTHY, POLICIES,
    POOL_PROTOCOLS, PROTOCOLS, PROXY_DATAGRAMS, PROXY_VERSIONS, RECORDS, REFUSALS, ROLES, SCHEDULES, SILENCES,
    STICKY_MODES,
};

#[derive(Debug)]
pub(crate) struct Key {
    pub section: Section,
    pub name: &'static str,
    pub kind: Kind,
    /// When left out. For numbers the setting knows.
    pub default: LeftOut,
    pub only: Only,
    /// For numbers the setting knows.
    pub about: &'static str,
}

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A string with a unit. Some protocols or kinds of check, by their word, have a setting of their own.
    Duration {
        setting: &'static Setting<Duration>,
        of: &'static [(&'static str, &'static Setting<Duration>)],
    },
    /// A string with a unit.
    Size(&'static Setting<u64>),
    Count(&'static Setting<u64>),
    /// A string with a unit; nothing when it is left out.
    OptionalDuration(&'static Optional<Duration>),
    /// Nothing when it is left out.
    OptionalCount(&'static Optional<u64>),
    /// A part of one, kept in percent; nothing when it is left out.
    OptionalShare(&'static Optional<u64>),
    Flag,
    Words(&'static [Word]),
    /// Anything else; says in words what the reader accepts.
    Other(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Word {
    pub word: &'static str,
    pub means: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum LeftOut {
    Required,
    Text(&'static str),
    Flag(bool),
    /// In words.
    Is(&'static str),
    OfSetting,
}

/// Where a key has an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Only {
    Everywhere,
    /// On listeners that speak one of these.
    Listeners(&'static [Protocol]),
    /// In pools that a listener uses which speaks one of these.
    PoolsOf(&'static [Protocol]),
    Schedules(&'static [Schedule]),
    Checks(&'static [ProbeKind]),
    /// In `[pool.sticky]` with a mode of cookies.
    CookieSticky,
    AddressSticky,
}

const HTTP: &[Protocol] = &[Protocol::Http, Protocol::Https];
const STREAMS: &[Protocol] = &[Protocol::Tcp, Protocol::TlsPassthrough, Protocol::Http, Protocol::Https];
const LAYER_4: &[Protocol] = &[Protocol::Tcp, Protocol::Udp, Protocol::TlsPassthrough];

const HTTP_LISTENER: Only = Only::Listeners(HTTP);
const PLAIN_HTTP_LISTENER: Only = Only::Listeners(&[Protocol::Http]);
const HTTPS_LISTENER: Only = Only::Listeners(&[Protocol::Https]);
const UDP_LISTENER: Only = Only::Listeners(&[Protocol::Udp]);
const PASSTHROUGH_LISTENER: Only = Only::Listeners(&[Protocol::TlsPassthrough]);
/// Where a client may be turned away before anything can be said to it.
const MUTE_LISTENER: Only = Only::Listeners(&[Protocol::Tcp, Protocol::TlsPassthrough, Protocol::Https]);
const STREAM_LISTENER: Only = Only::Listeners(STREAMS);
const LAYER_4_LISTENER: Only = Only::Listeners(LAYER_4);
const RULE_LISTENER: Only = Only::Listeners(&[Protocol::TlsPassthrough, Protocol::Http, Protocol::Https]);
const HTTP_POOL: Only = Only::PoolsOf(HTTP);
const STREAM_POOL: Only = Only::PoolsOf(STREAMS);
const LAYER_4_POOL: Only = Only::PoolsOf(LAYER_4);
const HASH_POOL: Only = Only::Schedules(&[Schedule::Source, Schedule::Maglev, Schedule::Tuple, Schedule::QuicCid]);
const QUIC_CID_POOL: Only = Only::Schedules(&[Schedule::QuicCid]);
const MAGLEV_POOL: Only = Only::Schedules(&[Schedule::Maglev]);
const HTTP_CHECK: Only = Only::Checks(&[ProbeKind::Http]);
const TCP_CHECK: Only = Only::Checks(&[ProbeKind::Tcp]);
const TLS_CHECK: Only = Only::Checks(&[ProbeKind::Tls]);
const UDP_CHECK: Only = Only::Checks(&[ProbeKind::Udp]);
const GRPC_CHECK: Only = Only::Checks(&[ProbeKind::Grpc]);
const DNS_CHECK: Only = Only::Checks(&[ProbeKind::Dns]);
const COMMAND_CHECK: Only = Only::Checks(&[ProbeKind::Command]);
const HOSTED_CHECK: Only = Only::Checks(&[ProbeKind::Http, ProbeKind::Grpc]);
const SENDING_CHECK: Only = Only::Checks(&[ProbeKind::Udp, ProbeKind::Agent]);
const SECURED_CHECK: Only = Only::Checks(&[ProbeKind::Http, ProbeKind::Tcp, ProbeKind::Tls, ProbeKind::Grpc]);
const PORT_CHECK: Only = Only::Checks(&[
    ProbeKind::Http,
    ProbeKind::Tcp,
    ProbeKind::Tls,
    ProbeKind::Udp,
    ProbeKind::Grpc,
    ProbeKind::Agent,
    ProbeKind::Dns,
    ProbeKind::Command,
]);
/// A command opens its sockets itself.
const OWN_PACKETS_CHECK: Only = Only::Checks(&[
    ProbeKind::Http,
    ProbeKind::Tcp,
    ProbeKind::Tls,
    ProbeKind::Udp,
    ProbeKind::Icmp,
    ProbeKind::Grpc,
    ProbeKind::Agent,
    ProbeKind::Dns,
]);

const fn number(section: Section, name: &'static str, kind: Kind, only: Only) -> Key {
    Key { section, name, kind, default: LeftOut::OfSetting, only, about: "" }
}

const fn duration(setting: &'static Setting<Duration>) -> Kind {
    Kind::Duration { setting, of: &[] }
}

/// Its reason is in the limits.
const fn optional(section: Section, name: &'static str, kind: Kind, without: &'static str, only: Only) -> Key {
    Key { section, name, kind, default: LeftOut::Is(without), only, about: "" }
}

const fn key(
    section: Section,
    name: &'static str,
    kind: Kind,
    default: LeftOut,
    only: Only,
    about: &'static str,
) -> Key {
    Key { section, name, kind, default, only, about }
}

use Kind::{Count, Flag, OptionalCount, OptionalDuration, OptionalShare, Other, Size, Words};
use LeftOut::{Is, Required, Text};
use Only::{AddressSticky, CookieSticky, Everywhere};
use Section::{
    Access, Admin, AdminCertificate, AdminToken, Answer, Backend, Certificate, Check, CheckStep, Compression,
    HeaderEdits, Hook, Hsts, Http2, Limit, Listener, ListenerTcp, ListenerTls, Node, Passive, Pool, PoolTcp, PoolTls,
    ProxyFrom, ProxyTo, Rate, Redirect, Resolver, Rule, Sticky, Top, Traces,
};

/// A number for each second, or a table with a burst.
const A_RATE: Kind = Other("count, or a table");

/// In the order of the manual.
#[rustfmt::skip]
pub(crate) const KEYS: &[Key] = &[
    key(Top, "node", Other("table"), Is("all defaults"), Everywhere, "See `[node]`."),
    key(Top, "admin", Other("table"), Is("all defaults"), Everywhere, "See `[admin]`."),
    key(Top, "listener", Other("list of tables"), Required, Everywhere, "See `[[listener]]`. At least one: without it nothing can arrive."),
    key(Top, "pool", Other("list of tables"), Is("none"), Everywhere, "See `[[pool]]`."),

    number(Node, "workers", Count(limits::WORKERS), Everywhere),
    number(Node, "connections", Count(limits::CONNECTIONS), Everywhere),
    number(Node, "drain_timeout", duration(limits::DRAIN_TIMEOUT), Everywhere),
    number(Node, "shutdown_delay", duration(limits::SHUTDOWN_DELAY), Everywhere),
    key(Node, "watch", Flag, LeftOut::Flag(false), Everywhere, "Whether the node reloads by itself when this file, or one that it names, has other content. A file with an error changes nothing and is told, as with SIGHUP."),
    key(Node, "access_log", Other("`\"off\"`, `\"stdout\"` or a path with a `/`"), Text("stdout"), Everywhere, "Where one JSON line for each request, relayed connection and udp session goes. A path has a `/`, so that a misspelt word does not become a file."),
    key(Node, "cluster", Other("name of letters, digits and `!#$%&'*+-.^_|~`"), Is("a random name for each process"), Everywhere, "Name signed into CDN-Loop. Nodes that share it refuse a request that one of them has forwarded before, which is how loops over several nodes are found."),
    key(Node, "sticky_secret", Other("path of a file"), Is("a random secret for each process"), Everywhere, "At least 32 random bytes (`head -c 32 /dev/urandom > sticky.key`), which sticky cookies are authenticated with. Nodes that share it know each other's cookies, and cookies outlive a restart."),
    key(Node, "allow_commands", Flag, LeftOut::Flag(false), Everywhere, "Whether programs that this file names may be run, as the user evenkeel runs as: by checks of kind command and by hooks. Off, so that whoever may write a pool may not thereby run programs."),
    key(Node, "state_file", Other("absolute path of a file"), Is("nothing is kept over a restart"), Everywhere, "Where verdicts, ejections and orders are written: orders at once, the rest every few seconds when it changed, and all at the end. A start reads it, and begins with what was known."),
    number(Node, "state_max_age", duration(limits::STATE_MAX_AGE), Everywhere),
    optional(Node, "hold_on_suspicion", OptionalDuration(limits::HOLD_ON_SUSPICION), "off", Everywhere),
    key(Node, "hook", Other("list of tables"), Is("none"), Everywhere, "See `[[node.hook]]`."),
    key(Node, "resolver", Other("table"), Is("all defaults"), Everywhere, "See `[node.resolver]`."),
    optional(Node, "slow_request", OptionalDuration(limits::SLOW_REQUEST), "only what failed is kept", Everywhere),
    number(Node, "kept_requests", Count(limits::KEPT_REQUESTS), Everywhere),
    key(Node, "traces", Other("table"), Is("nothing is traced"), Everywhere, "See `[node.traces]`."),

    key(Hook, "url", Other("URL of http or https"), Is("none"), Everywhere, "Where the event is posted, as JSON. Either this or `command`."),
    key(Hook, "command", Other("list of strings"), Is("none"), Everywhere, "Absolute path of a program, and its arguments; it gets the event as JSON on its standard input. No shell reads it. Only with `allow_commands`."),
    key(Hook, "on", Other("list of `\"unhealthy\"`, `\"healthy\"`, `\"ejected\"`"), Is("all three"), Everywhere, "Which changes it is told."),
    number(Hook, "timeout", duration(limits::HOOK_TIMEOUT), Everywhere),

    key(Resolver, "servers", Other("list of `\"address:port\"`"), Is("those of `/etc/resolv.conf`"), Everywhere, "Name servers that are asked for the names of backends, in this order."),
    number(Resolver, "timeout", duration(limits::RESOLVER_TIMEOUT), Everywhere),
    number(Resolver, "min_ttl", duration(limits::RESOLVER_MIN_TTL), Everywhere),
    number(Resolver, "max_ttl", duration(limits::RESOLVER_MAX_TTL), Everywhere),

    key(Traces, "endpoint", Other("URL of http or https"), Required, Everywhere, "Where spans are posted, the whole address: `http://127.0.0.1:4318/v1/traces`."),
    key(Traces, "sample_percent", Other("percentage from 0 to 100, such as 0.1"), Is("1"), Everywhere, "Share of the requests that is traced, of those whose client does not say by a `traceparent`."),
    key(Traces, "service", Other("string"), Text("evenkeel"), Everywhere, "What this node is called in traces (`service.name`)."),
    number(Traces, "timeout", duration(limits::TRACES_TIMEOUT), Everywhere),
    key(Traces, "trust_traceparent", Flag, LeftOut::Flag(true), Everywhere, "Whether a client's `traceparent` is taken over: its trace goes on here, and its sampled flag decides. Off, what clients send is removed and every trace begins here, so that nobody outside can have their requests traced."),

    key(Admin, "listen", Other("`\"address:port\"` or `\"off\"`"), Text(limits::ADMIN_LISTEN), Everywhere, "Loopback by default. Whoever can connect may look and operate, unless there are tokens; where others than this host's users can connect, at least one is demanded."),
    key(Admin, "socket", Other("absolute path of a socket"), Is("none"), Everywhere, "A unix socket beside the address, with mode 0660: whoever may open it may operate, without a token. `evenkeel status` and its kin use it when they find it in their config."),
    key(Admin, "token", Other("list of tables"), Is("none"), Everywhere, "See `[[admin.token]]`."),
    key(Admin, "certificate", Other("list of tables"), Is("plain HTTP"), Everywhere, "See `[[admin.certificate]]`."),

    key(AdminToken, "name", Other("name"), Required, Everywhere, "Unique. Stands in events and in the log: who gave an order, who changed the config."),
    key(AdminToken, "role", Words(ROLES), Required, Everywhere, "What it opens."),
    key(AdminToken, "sha256", Other("64 hex digits"), Is("required, unless there is a `file`"), Everywhere, "Digest of the token, as `printf %s TOKEN | sha256sum` prints it. The token itself never stands in the config. Make it long and random (`openssl rand -hex 32`), for whoever can read the digest can try guesses."),
    key(AdminToken, "file", Other("path of a file"), Is("none"), Everywhere, "The token itself, in a file that only evenkeel's user may read. At least 16 characters; white space at both ends does not count. Read at the start and at each reload."),

    key(AdminCertificate, "certificate", Other("path of a PEM file"), Required, Everywhere, "As in `[[listener.certificate]]`."),
    key(AdminCertificate, "key", Other("path of a PEM file"), Required, Everywhere, "The private key of the certificate."),

    key(Listener, "name", Other("name"), Is("its first address, with `/udp` behind it on udp listeners"), Everywhere, "Unique. Logs, metrics and a reload know the listener by it."),
    key(Listener, "listen", Other("`\"address:port\"` or a list of them"), Required, Everywhere, "`0.0.0.0` is every IPv4 address of the host, `[::]` every IPv6 address; list both for both. A tcp and a udp listener may share an address and port."),
    key(Listener, "protocol", Words(PROTOCOLS), Text("http"), Everywhere, "What is spoken on the listener."),
    key(Listener, "pool", Other("name of a pool"), Is("required, unless there are rules or `redirect_to_https`"), Everywhere, "Where everything goes that no rule takes."),
    key(Listener, "certificate", Other("list of tables"), Is("required for https"), HTTPS_LISTENER, "See `[[listener.certificate]]`."),
    key(Listener, "redirect_to_https", Other("true, false or a port"), Is("`false`"), PLAIN_HTTP_LISTENER, "Sends every request on to the same host and path at https, on port 443 when it is `true`: 301 for GET and HEAD, 308 for others. Nothing is served in plain HTTP then."),
    key(Listener, "hsts", Other("duration or a table"), Is("off"), HTTPS_LISTENER, "See `[listener.hsts]`."),
    key(Listener, "rule", Other("list of tables"), Is("none"), RULE_LISTENER, "See `[[listener.rule]]`."),
    number(Listener, "backlog", Count(limits::LISTENER_BACKLOG), Everywhere),
    number(Listener, "idle_timeout", Kind::Duration { setting: limits::LISTENER_IDLE_TIMEOUT, of: &[("udp", limits::UDP_IDLE_TIMEOUT)] }, Everywhere),
    optional(Listener, "lifetime", OptionalDuration(limits::LIFETIME), "as long as it is used", LAYER_4_LISTENER),
    optional(Listener, "requests", OptionalCount(limits::REQUESTS), "as many as come", UDP_LISTENER),
    optional(Listener, "responses", OptionalCount(limits::RESPONSES), "as many as come", UDP_LISTENER),
    number(Listener, "keep_alive_timeout", duration(limits::KEEP_ALIVE_TIMEOUT), HTTP_LISTENER),
    number(Listener, "header_timeout", duration(limits::HEADER_TIMEOUT), STREAM_LISTENER),
    number(Listener, "body_timeout", duration(limits::CLIENT_BODY_TIMEOUT), HTTP_LISTENER),
    number(Listener, "header_limit", Size(limits::HEADER_LIMIT), HTTP_LISTENER),
    number(Listener, "body_limit", Size(limits::BODY_LIMIT), HTTP_LISTENER),
    key(Listener, "trusted", Other("list of `\"address/length\"`"), Is("`[]`"), HTTP_LISTENER, "Proxies in front of this listener. From them, `X-Forwarded-*` and `Forwarded` are believed and extended; from anybody else they are replaced, since any client can write them."),
    key(Listener, "x_forwarded", Flag, LeftOut::Flag(true), HTTP_LISTENER, "Whether backends get `X-Forwarded-For`, `-Proto`, `-Host`, `-Port` and `X-Real-IP`."),
    key(Listener, "forwarded", Flag, LeftOut::Flag(false), HTTP_LISTENER, "Whether backends get RFC 7239 `Forwarded`. Off because most backends read only the older fields."),

    key(Listener, "tls", Other("table"), Is("all defaults"), HTTPS_LISTENER, "See `[listener.tls]`."),
    key(Listener, "http2", Other("table"), Is("all defaults"), HTTP_LISTENER, "See `[listener.http2]`."),
    key(Listener, "access", Other("table"), Is("everybody may connect"), Everywhere, "See `[listener.access]`."),
    key(Listener, "refuse", Words(REFUSALS), Text("reset"), MUTE_LISTENER, "What a client gets whose connection is turned away by `access` or by `limit`. Plain HTTP is answered with a status, and refused datagrams are never answered."),
    key(Listener, "limit", Other("table"), Is("no limits"), Everywhere, "See `[listener.limit]`."),
    key(Listener, "tcp", Other("table"), Is("all defaults"), STREAM_LISTENER, "See `[listener.tcp]`."),
    key(Listener, "proxy_protocol", Other("table"), Is("nobody sends it"), Everywhere, "See `proxy_protocol` of `[[listener]]`."),
    key(Listener, "compression", Other("table"), Is("off"), HTTP_LISTENER, "See `[listener.compression]`."),

    key(Certificate, "certificate", Other("path of a PEM file"), Required, Everywhere, "The certificate and behind it those of the authorities between it and the root, as certbot's `fullchain.pem` has them."),
    key(Certificate, "key", Other("path of a PEM file"), Required, Everywhere, "The private key of the certificate: PKCS #8, SEC 1 or PKCS #1, without a password."),
    key(Certificate, "ocsp", Other("path of a DER file"), Is("none"), Everywhere, "An OCSP answer that is handed out with the certificate. Something else has to keep it fresh and reload."),

    key(ListenerTls, "policy", Words(POLICIES), Text("intermediate"), Everywhere, "Versions and suites that are spoken."),
    key(ListenerTls, "client_ca", Other("path of a PEM file"), Is("clients are not asked"), Everywhere, "Authorities whose certificates clients may show. Clients are then asked for one."),
    key(ListenerTls, "client_certificate", Words(CLIENT_CERTIFICATES), Is("`\"required\"` with `client_ca`"), Everywhere, "Whether a client has to show one."),
    number(ListenerTls, "handshake_timeout", duration(limits::HANDSHAKE_TIMEOUT), Everywhere),
    key(ListenerTls, "tickets", Flag, LeftOut::Flag(true), Everywhere, "Whether clients get tickets with which they resume a session without a whole handshake. Their keys change by themselves and stay in memory."),

    number(Hsts, "max_age", duration(limits::HSTS_MAX_AGE), Everywhere),
    key(Hsts, "subdomains", Flag, LeftOut::Flag(false), Everywhere, "Whether it holds for every name below the host too, those on other servers included."),
    key(Hsts, "preload", Flag, LeftOut::Flag(false), Everywhere, "Says that the host may be put on the lists that browsers ship with. Hard to undo."),

    key(Http2, "enabled", Flag, LeftOut::Flag(true), Everywhere, "Whether clients may speak HTTP/2: by ALPN on https listeners, with prior knowledge on http listeners."),
    number(Http2, "streams", Count(limits::STREAMS), Everywhere),
    number(Http2, "stream_window", Size(limits::STREAM_WINDOW), Everywhere),
    number(Http2, "connection_window", Size(limits::STREAMS_WINDOW), Everywhere),

    key(Access, "allow", Other("list of `\"address/length\"`"), Is("`[]`"), Everywhere, "With any entry, here or in `allow_file`, only these may connect."),
    key(Access, "deny", Other("list of `\"address/length\"`"), Is("`[]`"), Everywhere, "These may not."),
    key(Access, "allow_file", Other("path of a text file or a list of them"), Is("none"), Everywhere, "The same from files: one `address/length` on each line, `#` begins a comment. Tens of thousands are fine. Read at the start and at each reload. A file without entries is refused where it would let everybody in."),
    key(Access, "deny_file", Other("path of a text file or a list of them"), Is("none"), Everywhere, "The same for those who may not."),

    key(Limit, "connections_per_second", A_RATE, Is("no limit"), Everywhere, "New connections of all clients together."),
    key(Limit, "client_connections_per_second", A_RATE, Is("no limit"), Everywhere, "New connections of one client."),
    key(Limit, "requests_per_second", A_RATE, Is("no limit"), HTTP_LISTENER, "Requests of all clients together. Further ones get 429."),
    key(Limit, "client_requests_per_second", A_RATE, Is("no limit"), HTTP_LISTENER, "Requests of one client. Further ones get 429."),
    optional(Limit, "connections", OptionalCount(limits::LIMIT_CONNECTIONS), "no limit", Everywhere),
    optional(Limit, "client_connections", OptionalCount(limits::LIMIT_CLIENT_CONNECTIONS), "no limit", Everywhere),
    number(Limit, "ipv4_prefix", Count(limits::IPV4_PREFIX), Everywhere),
    number(Limit, "ipv6_prefix", Count(limits::IPV6_PREFIX), Everywhere),

    optional(ListenerTcp, "keepalive", OptionalDuration(limits::LISTENER_KEEPALIVE), "the kernel never asks", Everywhere),
    optional(ListenerTcp, "user_timeout", OptionalDuration(limits::LISTENER_USER_TIMEOUT), "the kernel's about fifteen minutes", Everywhere),
    number(ListenerTcp, "fast_open", Count(limits::FAST_OPEN), Everywhere),
    optional(ListenerTcp, "defer_accept", OptionalDuration(limits::DEFER_ACCEPT), "off", Everywhere),

    key(ProxyFrom, "from", Other("list of `\"address/length\"`"), Required, Everywhere, "Who sends the header. What comes from there must begin with one, or it is refused (`client_proxy_header_invalid`); from anybody else it is never looked for, since any client can write one."),

    optional(Rate, "rate", OptionalCount(limits::RATE), "(required)", Everywhere),
    optional(Rate, "burst", OptionalCount(limits::BURST), "the rate", Everywhere),

    key(Compression, "codings", Other("list of `\"zstd\"`, `\"br\"`, `\"gzip\"`"), Is("`[\"zstd\", \"br\", \"gzip\"]`"), Everywhere, "In order of preference, among those that the client takes; an order of its own comes first."),
    number(Compression, "min_size", Size(limits::COMPRESSION_MIN_SIZE), Everywhere),
    key(Compression, "types", Other("list of media types"), Is("text and what compresses like it, see below"), Everywhere, "Content types that are compressed. `\"text/*\"` means all of them."),
    number(Compression, "level", Count(limits::COMPRESSION_LEVEL), Everywhere),

    key(Rule, "name", Other("name"), Is("its hosts and path"), Everywhere, "Unique in its listener. Logs and `evenkeel route test` call the rule by it."),
    key(Rule, "host", Other("host or a list of them"), Is("any host"), Everywhere, "`\"www.example.com\"`, or `\"*.example.com\"` for every name below `example.com`, at any depth. Ports and case do not matter. On tls-passthrough listeners the name that the client asks for; without `host` also clients that ask for none."),
    key(Rule, "alpn", Other("protocol or a list of them"), Is("any"), PASSTHROUGH_LISTENER, "Protocols of which the client must offer one in its TLS greeting: `\"h2\"`, `[\"http/1.1\", \"imap\"]`."),
    key(Rule, "path", Other("path with a leading `/`"), Text("/"), HTTP_LISTENER, "Takes the path and everything below it: `/api` takes `/api` and `/api/x`, not `/apix`; `/api/` takes only what is below. Compared as it was sent, without the query."),
    key(Rule, "method", Other("HTTP method or a list of them"), Is("any method"), HTTP_LISTENER, "One of them."),
    key(Rule, "headers", Other("table of names"), Is("none"), HTTP_LISTENER, "Fields the request must have, all of them: `{ \"x-beta\" = \"1\" }` with this value, `{ \"x-debug\" = true }` with any."),
    key(Rule, "pool", Other("name of a pool"), Is("none"), Everywhere, "Sends the request or connection there."),
    key(Rule, "redirect", Other("table"), Is("none"), HTTP_LISTENER, "Sends the client elsewhere: `{ to = \"https://www.example.com/\", status = 308 }`."),
    key(Rule, "answer", Other("table"), Is("none"), HTTP_LISTENER, "Answers without a backend: `{ status = 200, body = \"ok\" }`."),
    key(Rule, "rewrite_path", Other("path with a leading `/`"), Is("the path stays"), HTTP_LISTENER, "Put in the place of the part that `path` matched. Only with `pool`."),
    key(Rule, "request_headers", Other("table"), Is("no changes"), HTTP_LISTENER, "Changes of what the backend gets. Only with `pool`."),
    key(Rule, "response_headers", Other("table"), Is("no changes"), HTTP_LISTENER, "Changes of what the client gets."),
    optional(Rule, "response_timeout", OptionalDuration(limits::RULE_RESPONSE_TIMEOUT), "the pool's", HTTP_LISTENER),
    optional(Rule, "body_timeout", OptionalDuration(limits::RULE_BODY_TIMEOUT), "the pool's", HTTP_LISTENER),
    optional(Rule, "try_timeout", OptionalDuration(limits::RULE_TRY_TIMEOUT), "the pool's", HTTP_LISTENER),
    optional(Rule, "retries", OptionalCount(limits::RULE_RETRIES), "the pool's", HTTP_LISTENER),

    key(Redirect, "to", Other("URL or path"), Required, Everywhere, "A whole URL, or a path on the same host. In it `{path}` stands for the path and query of the request, `{host}` for its host without the port, and `{scheme}` for `http` or `https`: `\"https://www.example.com{path}\"`. Everything else is sent as it is written."),
    key(Redirect, "status", Other("301, 302, 303, 307 or 308"), Is("`308`"), Everywhere, "308 and 301 are remembered by browsers, 307 and 302 are not; 307 and 308 keep the method; 303 makes it GET."),

    key(Answer, "status", Other("200 to 599"), Is("`200`"), Everywhere, "Status of the answer."),
    key(Answer, "body", Other("string"), Text(""), Everywhere, "Body of the answer."),
    key(Answer, "content_type", Other("media type"), Text("text/plain; charset=utf-8"), Everywhere, "Its Content-Type."),

    key(HeaderEdits, "remove", Other("name or a list of them"), Is("`[]`"), Everywhere, "Takes all fields of the name away."),
    key(HeaderEdits, "set", Other("table of names and values"), Is("`{}`"), Everywhere, "One field of the name in the place of all there are."),
    key(HeaderEdits, "add", Other("table of names and values"), Is("`{}`"), Everywhere, "One more field of the name."),

    key(Pool, "name", Other("name"), Required, Everywhere, "Unique. Listeners refer to it."),
    key(Pool, "schedule", Words(SCHEDULES), Text("wrr"), Everywhere, "How a backend is picked for new work."),
    key(Pool, "hash_on", Other("`\"address\"`, `\"header:name\"`, `\"cookie:name\"` or `\"uri\"`"), Text("address"), MAGLEV_POOL, "What maglev hashes. Requests that lack it, and tcp connections, are hashed by the client's address."),
    key(Pool, "source", Other("IP address, `\"address/length\"`, or a list of them"), Is("the kernel's choice"), Everywhere, "Addresses of this host that connections and datagrams to the backends come from, one after the other; of each backend's own family. A prefix such as `\"100.64.0.0/28\"` stands for those addresses of this host that lie in it at the start or reload. Several give more source ports, and a range of their own lets backends admit nobody else."),
    key(Pool, "transparent", Flag, LeftOut::Flag(false), Everywhere, "Whether backends see the client's own address as the sender (`IP_TRANSPARENT`); the port is the kernel's choice. Their answers must come back through this host: it has to be their gateway, and needs policy routing and CAP_NET_ADMIN; `evenkeel check` says what is missing."),
    key(Pool, "proxy_protocol", Other("`\"v1\"`, `\"v2\"` or a table"), Is("off"), Everywhere, "See `proxy_protocol` of `[[pool]]`."),
    key(Pool, "on_unhealthy", Words(ON_UNHEALTHY), Text("keep"), LAYER_4_POOL, "What becomes of running connections and sessions when the verdict on their backend falls."),
    key(Pool, "tcp", Other("table"), Is("all defaults"), STREAM_POOL, "See `[pool.tcp]`."),
    optional(Pool, "bounded_load", OptionalCount(limits::BOUNDED_LOAD), "load is not looked at", HASH_POOL),
    key(Pool, "protocol", Words(POOL_PROTOCOLS), Text("http1"), HTTP_POOL, "What is spoken to the backends."),
    key(Pool, "tls", Other("table"), Is("off"), HTTP_POOL, "See `[pool.tls]`."),
    key(Pool, "backends", Other("list of `\"address:port\"`, `\"name:port\"` or tables"), Is("`[]`"), Everywhere, "IP addresses, or names in DNS that stand for as many backends as they have addresses. A pool without backends answers `no_backend_configured`."),
    optional(Pool, "panic_below", OptionalShare(limits::PANIC_BELOW), "off", Everywhere),
    number(Pool, "connect_timeout", duration(limits::CONNECT_TIMEOUT), STREAM_POOL),
    number(Pool, "response_timeout", duration(limits::RESPONSE_TIMEOUT), HTTP_POOL),
    number(Pool, "body_timeout", duration(limits::BACKEND_BODY_TIMEOUT), HTTP_POOL),
    number(Pool, "idle_timeout", duration(limits::BACKEND_IDLE_TIMEOUT), HTTP_POOL),
    number(Pool, "idle_connections", Count(limits::BACKEND_IDLE_CONNECTIONS), HTTP_POOL),
    number(Pool, "retries", Count(limits::RETRIES), STREAM_POOL),
    number(Pool, "retry_budget", Count(limits::RETRY_BUDGET), STREAM_POOL),
    optional(Pool, "try_timeout", OptionalDuration(limits::TRY_TIMEOUT), "the whole `response_timeout`", HTTP_POOL),
    optional(Pool, "hedge_after", OptionalDuration(limits::HEDGE_AFTER), "never", HTTP_POOL),
    optional(Pool, "backend_limit", OptionalCount(limits::BACKEND_LIMIT), "no limit", Everywhere),
    number(Pool, "queue", Count(limits::QUEUE), HTTP_POOL),
    number(Pool, "queue_timeout", duration(limits::QUEUE_TIMEOUT), HTTP_POOL),
    number(Pool, "slow_start", duration(limits::SLOW_START), Everywhere),
    key(Pool, "sticky", Other("table"), Is("off"), Everywhere, "See `[pool.sticky]`."),
    key(Pool, "passive", Other("table"), Is("off"), Everywhere, "See `[pool.passive]`."),
    key(Pool, "check", Other("`\"off\"`, a table or a list of tables"), Is("all defaults"), Everywhere, "See `[pool.check]`."),

    key(Backend, "address", Other("`\"address:port\"`"), Is("required, unless there is a `name`"), Everywhere, "An IP address and a port. IPv6 in brackets: `\"[2001:db8::7]:8080\"`."),
    key(Backend, "name", Other("`\"name:port\"`; of SRV records without a port"), Is("none"), Everywhere, "A name in DNS, in place of an address. Each address of it is a backend. It is asked for again when its answer ends (TTL); a failure keeps the last answer. Whole names only: nothing is appended to them. See \"Backends by name\"."),
    key(Backend, "records", Words(BACKEND_RECORDS), Text("any"), Everywhere, "What is asked for."),
    number(Backend, "weight", Count(limits::WEIGHT), Everywhere),
    key(Backend, "server_id", Other("hex digits"), Is("none"), QUIC_CID_POOL, "What the backend writes into the QUIC connection ids it gives out, behind their first byte (`\"0a01\"` is two bytes). All of a pool have one, of one length, each its own; then a client whose address changed reaches its backend through any node and after any restart."),

    key(PoolTls, "name", Other("host name or IP address"), Is("the backend's address"), Everywhere, "The name that the backends' certificate must have, and that is sent to them as SNI."),
    key(PoolTls, "ca", Other("path of a PEM file"), Is("the authorities of the system"), Everywhere, "Authorities the backends' certificate must come from."),
    key(PoolTls, "verify", Flag, LeftOut::Flag(true), Everywhere, "`false` takes any certificate. Traffic is then hidden from those who listen, not from those who can stand in between."),
    key(PoolTls, "certificate", Other("path of a PEM file"), Is("none"), Everywhere, "Certificate to show to backends that ask for one."),
    key(PoolTls, "key", Other("path of a PEM file"), Is("none"), Everywhere, "Its private key."),

    optional(PoolTcp, "keepalive", OptionalDuration(limits::POOL_KEEPALIVE), "the kernel never asks", Everywhere),
    optional(PoolTcp, "user_timeout", OptionalDuration(limits::POOL_USER_TIMEOUT), "the kernel's about fifteen minutes", Everywhere),

    key(ProxyTo, "version", Words(PROXY_VERSIONS), Text("v2"), Everywhere, "Which header is sent."),
    key(ProxyTo, "tlvs", Other("list of `\"authority\"`, `\"alpn\"`, `\"unique_id\"`"), Is("`[]`"), Everywhere, "Further facts in a header of version 2, each where it is known: the name the client asked for in its TLS greeting, the protocol it asked for, and an id of the connection that is also in the access log."),
    key(ProxyTo, "datagrams", Words(PROXY_DATAGRAMS), Text("first"), Everywhere, "Which datagrams of a udp session carry the header."),

    key(Sticky, "mode", Words(STICKY_MODES), Text("insert"), Everywhere, "What a client is known by."),
    key(Sticky, "cookie", Other("cookie name"), Is("`\"SERVERID\"`; required with `mode = \"rewrite\"`"), CookieSticky, "Name of the cookie."),
    optional(Sticky, "max_age", OptionalDuration(limits::STICKY_MAX_AGE), "as long as the browser runs", CookieSticky),
    number(Sticky, "timeout", duration(limits::AFFINITY_TIMEOUT), AddressSticky),
    number(Sticky, "ipv4_prefix", Count(limits::AFFINITY_IPV4_PREFIX), AddressSticky),
    number(Sticky, "ipv6_prefix", Count(limits::AFFINITY_IPV6_PREFIX), AddressSticky),
    number(Sticky, "drain_timeout", duration(limits::STICKY_DRAIN_TIMEOUT), Everywhere),

    number(Passive, "connect_failures", Count(limits::PASSIVE_CONNECT_FAILURES), Everywhere),
    number(Passive, "server_errors", Count(limits::PASSIVE_SERVER_ERRORS), Everywhere),
    number(Passive, "resets", Count(limits::PASSIVE_RESETS), Everywhere),
    number(Passive, "timeouts", Count(limits::PASSIVE_TIMEOUTS), Everywhere),
    optional(Passive, "failure_percent", OptionalCount(limits::PASSIVE_FAILURE_PERCENT), "no notice is taken of rates", Everywhere),
    optional(Passive, "latency_factor", OptionalCount(limits::PASSIVE_LATENCY_FACTOR), "no notice is taken of times", Everywhere),
    number(Passive, "latency_floor", duration(limits::PASSIVE_LATENCY_FLOOR), Everywhere),
    number(Passive, "min_requests", Count(limits::PASSIVE_MIN_REQUESTS), Everywhere),
    number(Passive, "interval", duration(limits::PASSIVE_INTERVAL), Everywhere),
    number(Passive, "ejection_time", duration(limits::EJECTION_TIME), Everywhere),
    number(Passive, "ejection_max", duration(limits::EJECTION_MAX), Everywhere),
    number(Passive, "max_ejected", Count(limits::MAX_EJECTED), Everywhere),

    key(Check, "name", Other("name"), Is("its kind"), Everywhere, "Unique in its pool. Status, metrics and events call the check by it."),
    key(Check, "kind", Words(CHECK_KINDS), Is("`\"http\"` when an http or https listener uses the pool and the pool has neither `proxy_protocol` nor `protocol = \"h2\"`, or the check a port of its own; `\"udp\"` when only udp listeners use it; otherwise `\"tcp\"`"), Everywhere, "What one probe is."),
    key(Check, "path", Other("path with a leading `/`"), Text("/"), HTTP_CHECK, "What is asked for, query included. Point it at a page that works only when the application works: a static page stays green in front of a dead application."),
    key(Check, "method", Other("HTTP method"), Is("`\"HEAD\"`; `\"GET\"` with `expect_body` or `reject_body`"), HTTP_CHECK, "HEAD spares the body. Use GET where an application answers HEAD wrongly."),
    key(Check, "host", Other("host, perhaps with a port"), Is("the probed address and port"), HOSTED_CHECK, "Value of the Host field (`:authority` in HTTP/2), for backends that serve several names."),
    key(Check, "headers", Other("table of names and values"), Is("`{}`"), HTTP_CHECK, "Further fields of the request: `{ Authorization = \"Bearer probe\" }`. None that the probe writes itself or that frame the message."),
    key(Check, "expect_status", Other("list of `\"2xx\"`, `200`, `\"200-204\"`"), Is("`[\"2xx\", \"3xx\"]`"), HTTP_CHECK, "Statuses that pass."),
    key(Check, "expect_body", Other("string with escapes, or a table"), Is("no body is looked at"), HTTP_CHECK, "The body has to have it somewhere in its beginning, beside the status. See \"Patterns\"."),
    key(Check, "reject_body", Other("string with escapes, or a table"), Is("no body is looked at"), HTTP_CHECK, "The beginning of the body must not have it. Not together with `expect_body`: write two checks."),
    key(Check, "version", Words(HTTP_VERSIONS), Is("as traffic, where the check has no port of its own; otherwise `\"http1\"`"), HTTP_CHECK, "What is spoken: HTTP/1.1 or HTTP/2."),
    key(Check, "keep_alive", Flag, LeftOut::Flag(false), HTTP_CHECK, "Whether probes share a connection, one after the other. It spares handshakes and finds less: a server that takes no new connections, or shows new ones a bad certificate, still answers on the old one."),
    key(Check, "handshake", Words(HANDSHAKES), Text("half-open"), TCP_CHECK, "How far the probe opens the connection. With `steps` it is opened whole."),
    key(Check, "steps", Other("list of tables"), Is("none: the handshake is all"), TCP_CHECK, "A conversation behind the handshake: `[{ expect = \"220 \" }, { send = 'QUIT\\r\\n' }]`. It passes when the last step is done. See the steps of `[pool.check]`."),
    key(Check, "send", Other("string with escapes"), Is("`''`: an empty datagram; agents are not asked"), SENDING_CHECK, "Payload of the datagram, or what an agent is asked with. See \"Bytes\"."),
    key(Check, "expect", Other("string with escapes, or a table"), Is("any answer passes"), UDP_CHECK, "What the answer has to be: a string or hex from its first byte to its last, a regular expression anywhere in it. Silence then fails. See \"Patterns\"."),
    key(Check, "silence", Words(SILENCES), Text("pass"), UDP_CHECK, "What no answer before the timeout means. Silence can lie: a busy host sends few ICMP errors."),
    key(Check, "closed_port", Other("1 to 65535"), Is("none"), UDP_CHECK, "A udp port of every backend's host that is closed. Probes of it say whether the host's ICMP refusals arrive at that time, and so whether silence may be believed."),
    key(Check, "ping", Flag, LeftOut::Flag(false), UDP_CHECK, "Whether an ICMP echo request goes beside the datagram. Silence fails where the host does not answer that either: a host that is off is found though its silence would pass."),
    key(Check, "service", Other("name of a service"), Is("`''`: the server as a whole"), GRPC_CHECK, "What `grpc.health.v1.Health/Check` is asked about, as the server has registered it: `\"shop.v1.Orders\"`."),
    key(Check, "query", Other("name in DNS"), Is("required for kind dns"), DNS_CHECK, "The name that is asked for. One that the server has itself; `\".\"` is the root."),
    key(Check, "record", Words(RECORDS), Text("A"), DNS_CHECK, "Which records of it."),
    key(Check, "expect_codes", Other("list of `\"NOERROR\"`, `3`"), Is("`[\"NOERROR\"]`"), DNS_CHECK, "Answer codes that pass, by name or number of RFC 6895."),
    key(Check, "expect_addresses", Other("list of IP addresses"), Is("any answer, an empty one too"), DNS_CHECK, "One of these has to be among the answers."),
    key(Check, "command", Other("list of strings"), Is("required for kind command"), COMMAND_CHECK, "Absolute path of a program, and its arguments. No shell reads it. Only with `allow_commands` of `[node]`."),
    key(Check, "tls", Other("`true`, `false` or a table with the keys of `[pool.tls]`"), Is("as traffic, where the check has no port of its own; always on for kind tls"), SECURED_CHECK, "Whether probes speak TLS, and as whom and to whom; of tcp checks those with `steps`. `true` takes the settings of `[pool.tls]`, or without that table its defaults. Each probe makes a whole handshake, so that it is shown the certificate a new client would be shown; with `keep_alive`, each connection."),
    optional(Check, "min_days_left", OptionalCount(limits::MIN_DAYS_LEFT), "the days left are shown and change nothing", TLS_CHECK),
    key(Check, "port", Other("1 to 65535"), Is("the backend's own"), PORT_CHECK, "Port that is probed, when health is served on a port of its own."),
    key(Check, "source", Other("IP address, `\"address/length\"`, or a list of them"), Is("the kernel's choice"), OWN_PACKETS_CHECK, "Addresses of this host that probes come from, as in `source` of the pool, so that backends can allow them in their firewall and leave them out of their logs."),
    number(Check, "timeout", Kind::Duration { setting: limits::CHECK_TIMEOUT, of: &[("udp", limits::UDP_CHECK_TIMEOUT), ("icmp", limits::ICMP_CHECK_TIMEOUT), ("command", limits::COMMAND_CHECK_TIMEOUT)] }, Everywhere),
    number(Check, "interval", Kind::Duration { setting: limits::CHECK_INTERVAL, of: &[("udp", limits::UDP_CHECK_INTERVAL), ("command", limits::COMMAND_CHECK_INTERVAL)] }, Everywhere),
    optional(Check, "unhealthy_interval", OptionalDuration(limits::UNHEALTHY_INTERVAL), "`interval`", Everywhere),
    optional(Check, "transition_interval", OptionalDuration(limits::TRANSITION_INTERVAL), "`interval`", Everywhere),
    number(Check, "jitter", Count(limits::CHECK_JITTER), Everywhere),
    optional(Check, "trust_traffic", OptionalDuration(limits::TRUST_TRAFFIC), "off", Everywhere),
    number(Check, "healthy_threshold", Count(limits::HEALTHY_THRESHOLD), Everywhere),
    number(Check, "unhealthy_threshold", Count(limits::UNHEALTHY_THRESHOLD), Everywhere),

    key(CheckStep, "send", Other("string with escapes"), Is("none"), Everywhere, "Sends these bytes."),
    key(CheckStep, "expect", Other("string with escapes, or a table"), Is("none"), Everywhere, "Waits until what the backend sends has this somewhere, and goes on behind it: what came beyond belongs to the next step."),

    key(Section::Pattern, "regex", Other("regular expression"), Is("none"), Everywhere, "In the syntax of the Rust crate `regex`, over bytes; `^` and `$` are the beginning and end of a line, `\\A` and `\\z` of the whole answer. Its time is linear in the answer, whatever the pattern."),
    key(Section::Pattern, "hex", Other("hex digits, `??` and `*`"), Is("none"), Everywhere, "Bytes in hex, with blanks between them or without; `??` is any one byte, `*` any number of bytes."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_once_in_its_section() {
        for (position, key) in KEYS.iter().enumerate() {
            let again = KEYS[..position].iter().any(|other| other.section == key.section && other.name == key.name);
            assert!(!again, "{} {}", key.section.header(), key.name);
        }
    }

    #[test]
    fn every_setting_of_the_limits_is_a_key_under_its_own_name() {
        let named = |setting: &str| {
            KEYS.iter().any(|key| {
                let path = match key.section {
                    Section::Top => "",
                    Section::Node => "node",
                    Section::Hook => "node.hook",
                    Section::Resolver => "node.resolver",
                    Section::Traces => "node.traces",
                    Section::Admin => "admin",
                    Section::AdminToken => "admin.token",
                    Section::AdminCertificate => "admin.certificate",
                    Section::Listener => "listener",
                    Section::Certificate => "listener.certificate",
                    Section::ListenerTls => "listener.tls",
                    Section::Hsts => "listener.hsts",
                    Section::Http2 => "listener.http2",
                    Section::Access => "listener.access",
                    Section::Limit => "listener.limit",
                    Section::Rate => "listener.limit.*",
                    Section::ListenerTcp => "listener.tcp",
                    Section::ProxyFrom => "listener.proxy_protocol",
                    Section::Compression => "listener.compression",
                    Section::Rule => "listener.rule",
                    Section::Redirect => "listener.rule.redirect",
                    Section::Answer => "listener.rule.answer",
                    Section::HeaderEdits => "listener.rule.*",
                    Section::Pool => "pool",
                    Section::Backend => "pool.backends",
                    Section::PoolTls => "pool.tls",
                    Section::PoolTcp => "pool.tcp",
                    Section::ProxyTo => "pool.proxy_protocol",
                    Section::Sticky => "pool.sticky",
                    Section::Passive => "pool.passive",
                    Section::Check => "pool.check",
                    Section::CheckStep => "pool.check.steps",
                    Section::Pattern => "pool.check.*",
                };
                let full = format!("{path}.{}", key.name);
                match key.kind {
                    Kind::Duration { setting: own, of } => {
                        (own.key == setting && own.key == full)
                            || of.iter().any(|(word, of)| of.key == setting && of.key == format!("{full} ({word})"))
                    }
                    Kind::Size(own) | Kind::Count(own) => own.key == setting && own.key == full,
                    Kind::OptionalDuration(own) => own.key == setting && own.key == full,
                    Kind::OptionalCount(own) | Kind::OptionalShare(own) => own.key == setting && own.key == full,
                    Kind::Flag | Kind::Words(_) | Kind::Other(_) => false,
                }
            })
        };
        let keys = limits::ALL.iter().map(limits::Row::key).chain(limits::OPTIONAL.iter().map(|(key, _)| *key));
        for key in keys {
            assert!(named(key), "{key} is a limit, but no key of the file");
        }
    }

    #[test]
    fn words_of_other_balancers_lead_to_keys_that_exist_and_hide_none() {
        for &(section, theirs, ours) in ELSEWHERE {
            assert!(section.key(ours).is_some(), "{ours}");
            assert!(section.key(theirs).is_none(), "{theirs}");
        }
        for &(name, theirs, ours) in FOREIGN_WORDS {
            let lists = KEYS.iter().filter(|key| key.name == name).filter_map(|key| match key.kind {
                Kind::Words(words) => Some(words),
                _ => None,
            });
            assert!(lists.clone().flatten().any(|word| word.word == ours), "{ours}");
            assert!(lists.flatten().all(|word| word.word != theirs), "{theirs}");
        }
        for &(section, name) in LATER {
            assert!(section.key(name).is_none(), "{name}");
        }
    }

    #[test]
    fn kinds_of_checks_in_the_table_are_those_that_can_be_probed_with() {
        let words: Vec<&str> = CHECK_KINDS.iter().map(|word| word.word).collect();
        assert_eq!(words, ProbeKind::ALL.map(ProbeKind::word));
    }

    #[test]
    fn schedules_of_the_table_are_those_that_can_be_picked_with() {
        let words: Vec<&str> = SCHEDULES.iter().map(|word| word.word).collect();
        assert_eq!(words, Schedule::ALL.map(Schedule::word));
    }
}
