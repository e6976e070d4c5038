//! The tables of a config file: what each is called, in the file and in problems, and what it is about.
//!
//! Their keys are the rows of [`KEYS`].

use super::{KEYS, Key};

/// A table of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Top,
    Node,
    Hook,
    Resolver,
    Traces,
    Admin,
    AdminToken,
    AdminCertificate,
    Listener,
    Certificate,
    ListenerTls,
    Hsts,
    Http2,
    Access,
    Limit,
    Rate,
    ListenerTcp,
    ProxyFrom,
    Compression,
    Rule,
    Redirect,
    Answer,
    HeaderEdits,
    Pool,
    Backend,
    PoolTls,
    PoolTcp,
    ProxyTo,
    Sticky,
    Passive,
    Check,
    CheckStep,
    Pattern,
}

impl Section {
    pub(crate) const ALL: [Section; 33] = [
        Section::Top,
        Section::Node,
        Section::Hook,
        Section::Resolver,
        Section::Traces,
        Section::Admin,
        Section::AdminToken,
        Section::AdminCertificate,
        Section::Listener,
        Section::Certificate,
        Section::ListenerTls,
        Section::Hsts,
        Section::Http2,
        Section::Access,
        Section::Limit,
        Section::Rate,
        Section::ListenerTcp,
        Section::ProxyFrom,
        Section::Compression,
        Section::Rule,
        Section::Redirect,
        Section::Answer,
        Section::HeaderEdits,
        Section::Pool,
        Section::Backend,
        Section::PoolTls,
        Section::PoolTcp,
        Section::ProxyTo,
        Section::Sticky,
        Section::Passive,
        Section::Check,
        Section::CheckStep,
        Section::Pattern,
    ];

    /// As TOML writes it.
    pub(crate) const fn header(self) -> &'static str {
        match self {
            Section::Top => "the file itself",
            Section::Node => "[node]",
            Section::Hook => "[[node.hook]]",
            Section::Resolver => "[node.resolver]",
            Section::Traces => "[node.traces]",
            Section::Admin => "[admin]",
            Section::AdminToken => "[[admin.token]]",
            Section::AdminCertificate => "[[admin.certificate]]",
            Section::Listener => "[[listener]]",
            Section::Certificate => "[[listener.certificate]]",
            Section::ListenerTls => "[listener.tls]",
            Section::Hsts => "[listener.hsts]",
            Section::Http2 => "[listener.http2]",
            Section::Access => "[listener.access]",
            Section::Limit => "[listener.limit]",
            Section::Rate => "rates of [listener.limit]",
            Section::ListenerTcp => "[listener.tcp]",
            Section::ProxyFrom => "proxy_protocol of [[listener]]",
            Section::Compression => "[listener.compression]",
            Section::Rule => "[[listener.rule]]",
            Section::Redirect => "redirect of [[listener.rule]]",
            Section::Answer => "answer of [[listener.rule]]",
            Section::HeaderEdits => "request_headers and response_headers of [[listener.rule]]",
            Section::Pool => "[[pool]]",
            Section::Backend => "backends of [[pool]]",
            Section::PoolTls => "[pool.tls]",
            Section::PoolTcp => "[pool.tcp]",
            Section::ProxyTo => "proxy_protocol of [[pool]]",
            Section::Sticky => "[pool.sticky]",
            Section::Passive => "[pool.passive]",
            Section::Check => "[pool.check]",
            Section::CheckStep => "steps of [pool.check]",
            Section::Pattern => "patterns of [pool.check]",
        }
    }

    /// What problems put in front of its keys, behind what the table belongs to.
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Section::ListenerTls | Section::PoolTls => "tls.",
            Section::Hsts => "hsts.",
            Section::Http2 => "http2.",
            Section::Access => "access.",
            Section::Limit => "limit.",
            Section::ListenerTcp | Section::PoolTcp => "tcp.",
            Section::ProxyFrom | Section::ProxyTo => "proxy_protocol.",
            Section::Compression => "compression.",
            Section::Redirect => "redirect.",
            Section::Answer => "answer.",
            Section::Sticky => "sticky.",
            Section::Passive => "passive.",
            Section::Check => "check.",
            // Their reader knows under which key they stand.
            Section::Rate | Section::HeaderEdits | Section::CheckStep | Section::Pattern => "",
            Section::Resolver => "resolver.",
            Section::Traces => "traces.",
            Section::Top
            | Section::Node
            | Section::Hook
            | Section::Admin
            | Section::AdminToken
            | Section::AdminCertificate
            | Section::Listener
            | Section::Certificate
            | Section::Rule
            | Section::Pool
            | Section::Backend => "",
        }
    }

    pub(crate) const fn about(self) -> &'static str {
        match self {
            Section::Top => "The tables a config is made of.",
            Section::Node => "The process as a whole.",
            Section::Hook => {
                "Who is told when a backend's verdict changes or it is ejected. One table for each, with `url` or `command`. A hook that \
                 fails or takes too long holds up nothing, and is written to the log."
            }
            Section::Resolver => {
                "How the names of backends are asked for. Left out, every setting has its default. Nothing is asked where every \
                 backend is an address."
            }
            Section::Traces => {
                "Where spans of requests are sent, as OpenTelemetry has them (OTLP over HTTP, protobuf). Left out, nothing is \
                 traced and no field of a request is touched. With it, a sampled request goes on to its backend with a \
                 `traceparent` of its own (W3C Trace Context)."
            }
            Section::Admin => {
                "Where operators and machines come in: status, metrics, events, orders, changes of the config."
            }
            Section::AdminToken => {
                "Who may come to the admin address: `Authorization: Bearer TOKEN`. With any token, every request wants one, but `/ready` and, \
                 on loopback, `/metrics`."
            }
            Section::AdminCertificate => {
                "TLS for the admin address. One table for each certificate; the one a client gets is chosen as in `[[listener.certificate]]`."
            }
            Section::Listener => {
                "An address, a protocol, and what happens to what arrives there. One table for each listener."
            }
            Section::Certificate => {
                "What an https listener proves its names with. One table for each certificate; the one a client gets is \
                 chosen by the name it asks for and by what it can verify, so ECDSA and RSA can stand side by side. A \
                 client that asks for a name no certificate has is refused (`tls_no_certificate_for_name`). Paths are \
                 relative to the folder of the config. The files are read at the start and at each reload."
            }
            Section::ListenerTls => "How an https listener speaks TLS. Left out, every setting has its default.",
            Section::Hsts => {
                "HTTP Strict Transport Security (RFC 6797). `hsts = \"365d\"` is short for a table with that `max_age`. \
                 Browsers remember it: they refuse plain HTTP for as long, whatever is configured later."
            }
            Section::Http2 => "HTTP/2 from clients. Left out, every setting has its default.",
            Section::Access => {
                "Who may connect. A denied address is refused even when it is allowed as well. With `trusted`, the \
                 client's address is the one that the proxy reports."
            }
            Section::Limit => {
                "How much a listener takes. Each one left out means no limit. A client is an address cut to the prefix. \
                 A rate is a number for each second, `100`, or a table with the keys of the next section."
            }
            Section::Rate => "A rate with a burst of its own: `requests_per_second = { rate = 100, burst = 200 }`.",
            Section::ListenerTcp => {
                "How the kernel treats connections of clients. Left out, every setting has its default."
            }
            Section::ProxyFrom => {
                "The PROXY protocol from what stands in front of the listener: another balancer that says in a header who the \
                 client is. Version 1 and 2 are taken; on udp listeners version 2, in front of each datagram or of the first \
                 of its sender. The client of that header is then the client for access lists, limits, stickiness, \
                 backends and the log."
            }
            Section::Compression => {
                "Compression of answers. Off without this table; `[listener.compression]` alone turns it on with the \
                 defaults. Answers that are compressed already, partial, or marked `no-transform` stay as they are."
            }
            Section::Rule => {
                "Where requests go by host, path, method and fields, and what is done to them on the way. The rules that name \
                 a request's host most narrowly are asked first (the exact name, then the longest wildcard), and if none of \
                 them takes it, the rules without a host; among each, the longest path comes first, then the rule with more \
                 conditions, then the one written first. What no rule takes goes to the listener's `pool`; without one it is \
                 answered with 404, `host_not_configured` or `rule_not_found`. A rule has exactly one of `pool`, `redirect` \
                 and `answer`. On a tls-passthrough listener a rule asks for `host`, the name in the client's TLS greeting \
                 (SNI), and for `alpn`, and leads to a `pool`; a name that is asked for most narrowly decides there too, then \
                 the rules with `alpn` come before those without, and what no rule takes is closed with the same causes."
            }
            Section::Redirect => "Sends the client elsewhere.",
            Section::Answer => "Answers without a backend.",
            Section::HeaderEdits => {
                "Changes of the fields on their way through: first what is removed, then what is set, then what is added. \
                 Fields that frame the message or belong to one connection (`Content-Length`, `Transfer-Encoding`, \
                 `Connection` and the like), `Host` and `CDN-Loop` cannot be changed here."
            }
            Section::Pool => {
                "A named set of backends with a schedule and a check. One table for each pool. \
                 `backends` is a list; each entry is a string `\"10.0.0.11:8080\"` or a table with the keys of the next section."
            }
            Section::Backend => {
                "One server of a pool, when it needs more than an address, or the servers that a name stands for. An address that \
                 comes twice, by names or beside one, is one backend, with the weight of the entry that stands first. Of SRV \
                 records those of the lowest priority are taken; their weights are those of the backends, scaled down where one is above \
                 100. Of them 0 is the least and not none, and where every weight is 0 all are equal."
            }
            Section::PoolTls => {
                "TLS to the backends. Off without this table; `tls = {}` turns it on with the defaults: the backend's \
                 certificate is verified. Probes do as traffic does."
            }
            Section::PoolTcp => {
                "How the kernel treats connections to the backends. Left out, every setting has its default."
            }
            Section::ProxyTo => {
                "Tells the backends who the client is, before its first byte. `proxy_protocol = \"v2\"` is short for a table \
                 with that `version`. The backends must expect the header: without it they take it for garbage. It is not \
                 sent by probes."
            }
            Section::Sticky => {
                "Keeps a client on its backend: requests by a cookie, connections and UDP sessions by the client's address \
                 (`mode = \"address\"`). Off without this table. What a cookie says is authenticated, \
                 and nobody can tell from it which backend it means. A client whose backend is gone is moved, and its cookie set again."
            }
            Section::Passive => {
                "What real traffic says of the backends. Off without this table; `passive = {}` turns it on with the defaults. A \
                 backend that fails its clients is ejected: it gets no new work for a time, whatever its probes say, and its verdict is not \
                 touched. A success of the same kind ends a run of failures. Where it would leave nobody, an ejection does not count."
            }
            Section::Check => {
                "How backends are probed and judged. Left out, every setting has its default. `check = \"off\"` in the \
                 pool turns probing off; the backends then take traffic without a verdict."
            }
            Section::CheckStep => "One step of a conversation: either of the two.",
            Section::Pattern => {
                "What an answer is compared with, when it is more than text: either of the two. `expect_body = { regex = \"^ok\" }`."
            }
        }
    }

    pub(crate) fn keys(self) -> impl Iterator<Item = &'static Key> {
        KEYS.iter().filter(move |key| key.section == self)
    }

    pub(crate) fn key(self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }
}
