//! The words that keys take, each with what it means.
//!
//! The reader takes no other; the manual lists them.

use evenkeel_balance::Schedule;
use evenkeel_tls::Policy;

use super::Word;

const fn works(word: &'static str, means: &'static str) -> Word {
    Word { word, means }
}

pub(crate) const PROTOCOLS: &[Word] = &[
    works("tcp", "relays connections without looking into them"),
    works("http", "balances HTTP requests: HTTP/1.1, and HTTP/2 with prior knowledge"),
    works("https", "the same over TLS; HTTP/2 where the client offers it"),
    works("udp", "relays datagrams, in sessions of one client address and port"),
    works("tls-passthrough", "relays TLS as it is, by the name and protocol that the client asks for"),
];

pub(crate) const SCHEDULES: &[Word] = &[
    works(Schedule::Wrr.word(), "smooth weighted round robin"),
    works(Schedule::Rr.word(), "round robin; weights are ignored, except that 0 still means none"),
    works(Schedule::Wlc.word(), "least work in flight relative to weight"),
    works(Schedule::P2c.word(), "the less loaded of two drawn by weight"),
    works(Schedule::Source.word(), "consistent hash of the client's address"),
    works(Schedule::Maglev.word(), "consistent hash of what `hash_on` names"),
    works(Schedule::Tuple.word(), "consistent hash of the addresses and ports of client and listener"),
    works(
        Schedule::QuicCid.word(),
        "for QUIC over a udp listener: by connection id, wherever the client's datagrams come from",
    ),
];

/// In the order of `ProbeKind::ALL`.
pub(crate) const CHECK_KINDS: &[Word] = &[
    works("http", "one request; the status decides, and perhaps the body"),
    works("tcp", "one SYN; the SYN+ACK decides, or with `steps` a conversation"),
    works("tls", "one TLS handshake; the certificate decides, and perhaps how long it lives on"),
    works("udp", "one datagram; an ICMP refusal or a wrong answer fails"),
    works("icmp", "one echo request; the reply decides. It says that the host is there, and nothing of the service"),
    works("grpc", "one call of `grpc.health.v1.Health/Check`; SERVING passes"),
    works(
        "agent",
        "one line in which the backend speaks of itself: `up`, `down`, `drain`, `maint`, a share such as `75%`",
    ),
    works("dns", "one question over UDP; the answer's code decides, and perhaps its addresses"),
    works("command", "one run of a program; exit status 0 passes"),
];

pub(crate) const HTTP_VERSIONS: &[Word] =
    &[works("http1", "HTTP/1.1"), works("h2", "HTTP/2: by ALPN over TLS, otherwise with prior knowledge")];

pub(crate) const RECORDS: &[Word] = &[
    works("A", "IPv4 addresses"),
    works("AAAA", "IPv6 addresses"),
    works("NS", "name servers"),
    works("SOA", "the record that every zone has, at its top"),
    works("TXT", "text"),
    works("MX", "mail servers"),
    works("SRV", "servers of a service"),
];

pub(crate) const BACKEND_RECORDS: &[Word] = &[
    works("a", "IPv4 addresses"),
    works("aaaa", "IPv6 addresses"),
    works("any", "addresses of either kind"),
    works("srv", "names with ports and weights, then the addresses of these names"),
];

pub(crate) const HANDSHAKES: &[Word] = &[
    works("half-open", "SYN, SYN+ACK, RST: the application never sees a connection"),
    works("full", "SYN, SYN+ACK, ACK, RST: the application may log a reset"),
];

pub(crate) const SILENCES: &[Word] = &[
    works("pass", "silence passes, as a udp service that only listens would be silent"),
    works("fail", "silence fails"),
    works("keep", "silence changes nothing: verdict and run stay as they are"),
];

pub(crate) const POLICIES: &[Word] =
    &[works(Policy::Intermediate.word(), "TLS 1.2 and 1.3"), works(Policy::Modern.word(), "TLS 1.3 only")];

pub(crate) const CLIENT_CERTIFICATES: &[Word] = &[
    works("required", "a client without a good certificate is refused"),
    works("optional", "a client may come without one; a bad one is refused"),
];

pub(crate) const POOL_PROTOCOLS: &[Word] = &[
    works("http1", "HTTP/1.1, which every server understands"),
    works("h2", "HTTP/2: with prior knowledge, or by ALPN with `[pool.tls]`. For gRPC"),
];

pub(crate) const STICKY_MODES: &[Word] = &[
    works("insert", "a cookie of our own beside those of the backend"),
    works("rewrite", "the cookie the backend sets, with our token in front of its value; no cookie is added"),
    works("address", "no cookie: the client's address; for tcp, tls-passthrough and udp listeners"),
];

pub(crate) const REFUSALS: &[Word] = &[
    works("reset", "the client learns it at once"),
    works(
        "silence",
        "nothing is sent; a client that only waits learns nothing, one that then speaks is reset by the kernel",
    ),
];

pub(crate) const ROLES: &[Word] = &[
    works("read", "everything that only looks"),
    works("operate", "that, and orders, weights, probes, reloads and changes of the config"),
];

pub(crate) const ON_UNHEALTHY: &[Word] = &[
    works("keep", "connections and sessions go on while both sides use them"),
    works("reset", "they end at once, so that clients come back and get another backend"),
];

pub(crate) const PROXY_VERSIONS: &[Word] =
    &[works("v1", "one line of text; addresses and ports only"), works("v2", "binary; with UDP and further facts")];

pub(crate) const PROXY_DATAGRAMS: &[Word] = &[
    works("first", "the first datagram of a session carries the header"),
    works("each", "every datagram carries it, for backends that keep no session"),
];

/// Media types that are compressed when `types` is left out.
pub(crate) const COMPRESSED_TYPES: &[&str] = &[
    "text/*",
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/manifest+json",
    "application/wasm",
    "application/xml",
    "application/rss+xml",
    "application/atom+xml",
    "image/svg+xml",
    "font/ttf",
    "font/otf",
];
