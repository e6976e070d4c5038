//! The closed list of reasons why a request, connection or session failed.
//!
//! One table says for each cause who is to blame, in which phase, what the client was sent, how RFC
//! 9209 names it, which evidence goes with it and what to do. Response, log, metric, status and
//! `evenkeel explain` all read this table, so they cannot disagree.
//!
//! Codes are stable: operators alert on them. A code is never reused for another meaning.

/// Who broke it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    Client,
    Balancer,
    Backend,
    Network,
    Operator,
}

impl Blame {
    pub const fn word(self) -> &'static str {
        match self {
            Blame::Client => "client",
            Blame::Balancer => "balancer",
            Blame::Backend => "backend",
            Blame::Network => "network",
            Blame::Operator => "operator",
        }
    }
}

/// Where in its journey the request or connection was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    Accept,
    Tls,
    RequestHead,
    RequestBody,
    Rule,
    Pick,
    Queue,
    Connect,
    BackendTls,
    /// Request sent, head of the answer awaited.
    ResponseHead,
    ResponseBody,
    /// Bytes relayed both ways: TCP connections and upgraded requests.
    Relay,
}

impl Phase {
    pub const fn word(self) -> &'static str {
        match self {
            Phase::Accept => "accept",
            Phase::Tls => "tls",
            Phase::RequestHead => "request_head",
            Phase::RequestBody => "request_body",
            Phase::Rule => "rule",
            Phase::Pick => "pick",
            Phase::Queue => "queue",
            Phase::Connect => "connect",
            Phase::BackendTls => "backend_tls",
            Phase::ResponseHead => "response_head",
            Phase::ResponseBody => "response_body",
            Phase::Relay => "relay",
        }
    }
}

/// Everything the world is told of a cause.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub code: &'static str,
    pub blame: Blame,
    pub phase: Phase,
    /// Status an HTTP client gets; `None` when nothing can be sent any more (cut, reset).
    pub status: Option<u16>,
    /// RFC 9209 section 2.3 error token, `None` where no answer of ours carries one.
    pub token: Option<&'static str>,
    /// Names of the evidence fields in log and event.
    pub evidence: &'static [&'static str],
    pub meaning: &'static str,
    pub advice: &'static str,
}

macro_rules! causes {
    ($($name:ident {
        $code:literal, $blame:ident, $phase:ident, $status:expr, $token:expr, [$($evidence:literal),*],
        $meaning:literal, $advice:literal
    })*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Cause { $($name),* }

        impl Cause {
            pub const ALL: &'static [Cause] = &[$(Cause::$name),*];

            pub const fn entry(self) -> &'static Entry {
                match self {
                    $(Cause::$name => &Entry {
                        code: $code,
                        blame: Blame::$blame,
                        phase: Phase::$phase,
                        status: $status,
                        token: $token,
                        evidence: &[$($evidence),*],
                        meaning: $meaning,
                        advice: $advice,
                    }),*
                }
            }
        }
    };
}

causes! {
    ClientMalformedRequest {
        "client_malformed_request", Client, RequestHead, Some(400), Some("http_request_error"), ["detail", "client"],
        "The request breaks RFC 9112 or could be read in two ways, so it was refused before any backend saw it.",
        "Read `detail`: it names the rule that was broken. Fix the client; nothing in the balancer makes an ambiguous request safe to forward."
    }
    ClientHeaderTooLarge {
        "client_header_too_large", Client, RequestHead, Some(431), Some("http_request_error"), ["limit", "client"],
        "The request's header block is larger than `header_limit`, or has more fields than a head may have.",
        "Send less in headers (cookies are the usual culprit), or raise `header_limit` of the listener."
    }
    ClientUriTooLong {
        "client_uri_too_long", Client, RequestHead, Some(414), Some("http_request_error"), ["limit", "client"],
        "The request line alone is larger than `header_limit`.",
        "Move data from the URI to a body, or raise `header_limit` of the listener."
    }
    ClientBodyTooLarge {
        "client_body_too_large", Client, RequestBody, Some(413), Some("http_request_error"), ["limit", "client"],
        "The request's body is larger than `body_limit`.",
        "Raise `body_limit` of the listener if such uploads are meant to work."
    }
    ClientHeaderTimeout {
        "client_header_timeout", Client, RequestHead, Some(408), Some("http_request_error"), ["timeout", "bytes_in", "client"],
        "The client started a request and did not finish its head within `header_timeout`.",
        "A slow or broken client, a lossy path, or a slow-head attack. Look whether many different clients are affected."
    }
    ClientBodyTimeout {
        "client_body_timeout", Client, RequestBody, Some(408), Some("http_request_error"), ["timeout", "bytes_in", "client"],
        "The client stopped sending the body of its request for `body_timeout`.",
        "A slow or broken client, a lossy path, or a slow-body attack. Raise `body_timeout` of the listener only for clients known to pause."
    }
    ClientStalled {
        "client_stalled", Client, ResponseBody, None, None, ["timeout", "bytes_out", "client"],
        "The client stopped reading the answer for `body_timeout`, so it was cut off to free what it held.",
        "A slow or broken client, a lossy path, or a slow-read attack. The backend did nothing wrong."
    }
    ClientAborted {
        "client_aborted", Client, ResponseHead, Some(499), None, ["phase", "bytes_out", "client"],
        "The client closed or reset its connection before it had the whole answer. 499 stands in the log only; nobody received it.",
        "Normal in small numbers (closed tabs, cancelled calls). In large numbers compare the time until the abort with the clients' own timeout: the answer is probably too slow."
    }
    ClientDeniedByAcl {
        "client_denied_by_acl", Operator, Accept, Some(403), Some("http_request_denied"), ["client", "list"],
        "An access list refuses this client's address. On tcp listeners the connection is reset, or left in silence with `refuse = \"silence\"`; on udp listeners the datagram is dropped.",
        "If the client should be let in, change `[listener.access]`; check that the address is the client's and not a proxy's."
    }
    ClientRateLimited {
        "client_rate_limited", Client, Accept, Some(429), Some("http_request_denied"), ["client", "limit"],
        "This client, or the listener as a whole, is over a configured rate.",
        "Slow the client down, or raise the limit if the rate is legitimate."
    }
    ClientTooManyConnections {
        "client_too_many_connections", Client, Accept, Some(429), Some("connection_limit_reached"), ["client", "limit"],
        "This client, or the listener as a whole, has as many connections (udp: sessions) open as its limit at once allows. On tcp listeners the connection is reset, on udp listeners the datagram is dropped.",
        "Read `detail`: it names the limit. Raise `client_connections` where many users share an address, `connections` where the listener is meant to hold more; else see why the client keeps so many."
    }
    ClientHttp2Violation {
        "client_http2_violation", Client, RequestHead, None, Some("http_request_error"), ["detail", "client"],
        "The client broke HTTP/2 so that its connection had to be closed; what else ran on it was lost with it.",
        "Read `detail`: it names the rule of RFC 9113 that was broken. Fix or update the client; if many clients are affected, look for a middlebox that rewrites HTTP/2."
    }
    ClientHttp2Flood {
        "client_http2_flood", Client, RequestHead, None, Some("http_request_error"), ["detail", "limit", "client"],
        "The client did what is cheap for it and dear for us more often than any client needs, so its connection was closed.",
        "Read `detail`: it names what was too much. One address doing this is an attack or a broken client: deny it in `[listener.access]` or limit its connection rate. If a client of your own hits it, tell us the limit it needs."
    }
    ClientProxyHeaderInvalid {
        "client_proxy_header_invalid", Operator, Accept, None, None, ["detail", "client"],
        "A sender listed in `proxy_protocol.from` did not begin its connection with a good PROXY header in time, or a datagram of it carried none.",
        "Read `detail`. Either the proxy in front does not send the header (turn it on there), or the address belongs to somebody who is no proxy (take it out of `proxy_protocol.from`)."
    }
    HostNotConfigured {
        "host_not_configured", Operator, Rule, Some(404), Some("destination_not_found"), ["host"],
        "No rule of the listener names this host, and the listener has no default pool.",
        "Add a rule for the host, name a default `pool`, or fix the DNS record that sends this host here."
    }
    RuleNotFound {
        "rule_not_found", Operator, Rule, Some(404), Some("destination_not_found"), ["host", "path"],
        "Rules exist for this host, but none matches the path and the other conditions.",
        "Add a rule with path prefix \"/\" for the host if everything else should go somewhere."
    }
    TlsHandshakeFailed {
        "tls_handshake_failed", Client, Tls, None, Some("tls_protocol_error"), ["detail", "client"],
        "The TLS handshake with the client did not finish.",
        "Read `detail`: no common version or cipher points to an old client or a strict policy; an alert from the client points to its trust store."
    }
    TlsNoCertificateForName {
        "tls_no_certificate_for_name", Operator, Tls, None, Some("tls_certificate_error"), ["sni"],
        "No certificate of the listener covers the name the client asked for.",
        "Add a certificate for the name, or fix the DNS record that sends this name here."
    }
    LoopDetected {
        "loop_detected", Operator, Rule, Some(508), Some("proxy_loop_detected"), ["cdn_loop"],
        "The request has been through this balancer already (RFC 8586 CDN-Loop).",
        "A backend calls the balancer's own address, or two balancers point at each other. Follow the path in `cdn_loop`."
    }
    NoBackendConfigured {
        "no_backend_configured", Operator, Pick, Some(503), Some("destination_unavailable"), ["pool"],
        "The pool has no backend with a weight above 0.",
        "Add backends to the pool or raise a weight."
    }
    AllBackendsDrained {
        "all_backends_drained", Operator, Pick, Some(503), Some("destination_unavailable"), ["pool"],
        "Every backend that could serve is under order `drain` or `maintain`.",
        "Give at least one backend the order `serve`."
    }
    AllBackendsUnhealthy {
        "all_backends_unhealthy", Backend, Pick, Some(502), Some("destination_unavailable"), ["pool", "last_findings"],
        "Every backend that may serve has the verdict unhealthy.",
        "Look at the last findings of each backend in `/status`. If the services work, the check is wrong: path, Host, port, or a firewall in the way of the probe source."
    }
    BackendQueueFull {
        "backend_queue_full", Backend, Queue, Some(503), Some("connection_limit_reached"), ["pool", "limit"],
        "All backends are at their connection limit and the queue is full.",
        "Add capacity, or raise the limit if the backends can take more."
    }
    BackendQueueTimeout {
        "backend_queue_timeout", Backend, Queue, Some(503), Some("connection_limit_reached"), ["pool", "timeout"],
        "The request waited for a free backend connection for the whole queue timeout.",
        "Add capacity, or raise the limit if the backends can take more."
    }
    BackendConnectRefused {
        "backend_connect_refused", Backend, Connect, Some(502), Some("connection_refused"), ["backend", "attempts"],
        "The backend's host answered our SYN with a reset, or a datagram with an ICMP port unreachable: nothing listens on that port.",
        "Start the service, or fix the port. Inside the fail window this is expected; after it the backend gets no new work."
    }
    BackendConnectTimeout {
        "backend_connect_timeout", Network, Connect, Some(504), Some("connection_timeout"), ["backend", "timeout", "attempts"],
        "The backend did not answer our SYN within `connect_timeout`.",
        "Host down, firewall that drops, or a full accept queue. Try a TCP connect from the balancer's host; compare `netstat -s | grep -i listen` on the backend."
    }
    BackendUnreachable {
        "backend_unreachable", Network, Connect, Some(502), Some("destination_ip_unroutable"), ["backend", "errno", "attempts"],
        "The network says the backend cannot be reached: no route, host unreachable, or a firewall that rejects.",
        "Read `errno`; check routes and firewalls between the balancer and the backend."
    }
    BackendTlsFailed {
        "backend_tls_failed", Backend, BackendTls, Some(502), Some("tls_certificate_error"), ["backend", "detail"],
        "The TLS handshake with the backend did not finish.",
        "Read `detail`: an expired or wrong certificate on the backend, or a CA file that does not cover it."
    }
    BackendResetBeforeResponse {
        "backend_reset_before_response", Backend, ResponseHead, Some(502), Some("connection_terminated"), ["backend", "reused", "idle_age", "attempts"],
        "The backend reset the connection before it sent any of its answer.",
        "On a reused connection with some idle age: the backend's keep-alive timeout is shorter than the pool's `idle_timeout`; lower the latter. On a fresh one: the application crashed or its worker was killed; read its log. If no request at all gets through, the port speaks another protocol, such as FastCGI."
    }
    BackendClosedBeforeResponse {
        "backend_closed_before_response", Backend, ResponseHead, Some(502), Some("connection_terminated"), ["backend", "reused", "idle_age", "attempts"],
        "The backend closed the connection in good order before it sent its whole response head.",
        "As for a reset: on a reused connection compare keep-alive timeouts; on a fresh one read the application's log. nginx's `return 444` looks like this too: a host or client that it wants nothing of."
    }
    BackendMalformedResponse {
        "backend_malformed_response", Backend, ResponseHead, Some(502), Some("http_protocol_error"), ["backend", "detail"],
        "What the backend sent is not HTTP/1.1, or could be read in two ways.",
        "Read `detail`. Often the port speaks TLS or another protocol, or an application writes headers by hand."
    }
    BackendHeaderTooLarge {
        "backend_header_too_large", Backend, ResponseHead, Some(502), Some("http_response_header_section_size"), ["backend", "limit"],
        "The backend's response head is larger than `header_limit`.",
        "Two ways out: send less in headers (often one huge or many Set-Cookie), or use a tcp listener, which does not read them. Raising `header_limit` works up to its range."
    }
    BackendResponseTimeout {
        "backend_response_timeout", Backend, ResponseHead, Some(504), Some("http_response_timeout"), ["backend", "timeout", "reused"],
        "The backend accepted the request and sent no response head within `response_timeout`.",
        "The application is slow, stuck or out of workers: look at its queue and its slow log. Raise `response_timeout` only for work that is meant to take that long."
    }
    BackendResetMidResponse {
        "backend_reset_mid_response", Backend, ResponseBody, None, Some("http_response_incomplete"), ["backend", "bytes_out"],
        "The backend closed or reset the connection in the middle of its answer. The client's connection was cut so that it cannot take the part for the whole.",
        "The application crashed or was killed while it answered; read its log at that time."
    }
    BackendBodyTimeout {
        "backend_body_timeout", Backend, ResponseBody, None, Some("connection_read_timeout"), ["backend", "timeout", "bytes_out"],
        "The backend stopped sending in the middle of its answer for `body_timeout`. The client's connection was cut.",
        "The application hangs in mid-answer. For streams that are silent by design raise `body_timeout` of the pool."
    }
    BackendWriteTimeout {
        "backend_write_timeout", Backend, RequestBody, Some(504), Some("connection_write_timeout"), ["backend", "timeout", "bytes_in"],
        "The backend stopped taking the request's body for `body_timeout`.",
        "The application does not read its uploads; look whether it is out of workers."
    }
    BackendMalformedBody {
        "backend_malformed_body", Backend, ResponseBody, None, Some("http_response_transfer_coding"), ["backend", "detail", "bytes_out"],
        "The chunked coding of the backend's answer is broken. The client's connection was cut.",
        "Read `detail`. The application, or a proxy in front of it, writes chunks by hand."
    }
    BackendAnsweredError {
        "backend_answered_error", Backend, ResponseHead, None, None, ["backend", "status"],
        "The backend itself sent this 5xx; the balancer passed it on unchanged and marked it with `received-status`.",
        "Read the application's own log; the balancer was only the messenger."
    }
    RetryBudgetExhausted {
        "retry_budget_exhausted", Balancer, Connect, Some(502), Some("destination_unavailable"), ["pool", "attempts", "budget"],
        "The attempt failed in a way that allows a retry, but the pool's retries already used up their share of its requests.",
        "Many backends fail at once; retrying more would make it worse. Find out why they fail; the attempts list says how."
    }
    RelayIdleTimeout {
        "relay_idle_timeout", Network, Relay, None, None, ["timeout", "bytes_in", "bytes_out"],
        "No byte went either way for `idle_timeout`, so both sides were closed.",
        "Send keep-alives in the application's protocol, or raise `idle_timeout` of the listener."
    }
    RelayLifetimeOver {
        "relay_lifetime_over", Operator, Relay, None, None, ["timeout", "bytes_in", "bytes_out"],
        "The connection or session reached the listener's `lifetime` and was ended, busy or not.",
        "This is what `lifetime` asks for. Raise it, or leave it out, if clients do not take up a new connection by themselves."
    }
    BackendTurnedUnhealthy {
        "backend_turned_unhealthy", Backend, Relay, None, None, ["backend", "bytes_in", "bytes_out"],
        "The backend's verdict became unhealthy. Where the pool says `on_unhealthy = \"reset\"` its established connections were reset; a request that waited for it and may be made twice was tried elsewhere, and this stands with the attempt it left.",
        "The event of the verdict says which probes led to it. With `on_unhealthy = \"keep\"` such connections go on for as long as the backend answers."
    }
    BackendNoReply {
        "backend_no_reply", Backend, Relay, None, None, ["backend", "timeout", "bytes_in"],
        "A UDP session of a listener with `responses` ended without the answers that it should have had.",
        "The service is slow or drops what it cannot serve; or answers leave by another address than the one they were asked at, which the kernel does not take for answers. Capture on the backend: `tcpdump udp port PORT`."
    }
    SourceUnusable {
        "source_unusable", Operator, Connect, Some(502), Some("proxy_configuration_error"), ["backend", "errno", "attempts"],
        "The address that connections to this pool must come from (`source`, or the client's own with `transparent`) cannot be used on this host.",
        "Read `errno`. EADDRNOTAVAIL: the address is on no interface of this host. EPERM: `transparent` needs CAP_NET_ADMIN. `evenkeel check` names what is missing."
    }
    BackendResetRelay {
        "backend_reset_relay", Backend, Relay, None, None, ["backend", "bytes_in", "bytes_out"],
        "The backend reset an established TCP connection or upgraded request; the reset was passed on to the client.",
        "The service crashed, was restarted, or ended the session on purpose; read its log."
    }
    BalancerOverloaded {
        "balancer_overloaded", Balancer, Accept, Some(503), Some("connection_limit_reached"), ["limit"],
        "This node is at its own limit of connections, files or memory.",
        "Raise the file limit (`LimitNOFILE`) or `connections`, or add a node."
    }
    BalancerDraining {
        "balancer_draining", Operator, Relay, None, None, ["deadline"],
        "The node was told to stop, or its listener was removed, and the drain deadline passed with this exchange still running.",
        "Raise `drain_timeout` if such long exchanges should be allowed to end."
    }
    BalancerInternal {
        "balancer_internal", Balancer, Accept, Some(500), Some("proxy_internal_error"), ["detail"],
        "A bug in evenkeel. The error log has the details.",
        "Please report it with the log line."
    }
}

impl Cause {
    pub const fn code(self) -> &'static str {
        self.entry().code
    }

    pub fn from_code(code: &str) -> Option<Cause> {
        Cause::ALL.iter().copied().find(|cause| cause.code() == code)
    }

    /// Position in [`Cause::ALL`], for tables of counters.
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_found_again() {
        for (position, cause) in Cause::ALL.iter().enumerate() {
            assert_eq!(cause.index(), position);
            assert_eq!(Cause::from_code(cause.code()), Some(*cause), "{} is listed twice", cause.code());
        }
    }

    #[test]
    fn every_cause_the_contract_names_is_listed_with_its_status() {
        // SPEC section 6, word for word. `None` there means "cut" or a failed handshake.
        let contract = [
            ("client_malformed_request", Some(400)),
            ("client_header_too_large", Some(431)),
            ("client_uri_too_long", Some(414)),
            ("client_body_too_large", Some(413)),
            ("client_body_timeout", Some(408)),
            ("client_aborted", Some(499)),
            ("client_denied_by_acl", Some(403)),
            ("client_rate_limited", Some(429)),
            ("host_not_configured", Some(404)),
            ("rule_not_found", Some(404)),
            ("tls_handshake_failed", None),
            ("tls_no_certificate_for_name", None),
            ("loop_detected", Some(508)),
            ("no_backend_configured", Some(503)),
            ("all_backends_drained", Some(503)),
            ("all_backends_unhealthy", Some(502)),
            ("backend_queue_full", Some(503)),
            ("backend_queue_timeout", Some(503)),
            ("backend_connect_refused", Some(502)),
            ("backend_connect_timeout", Some(504)),
            ("backend_unreachable", Some(502)),
            ("backend_tls_failed", Some(502)),
            ("backend_reset_before_response", Some(502)),
            ("backend_closed_before_response", Some(502)),
            ("backend_malformed_response", Some(502)),
            ("backend_header_too_large", Some(502)),
            ("backend_response_timeout", Some(504)),
            ("backend_reset_mid_response", None),
            ("backend_body_timeout", None),
            ("retry_budget_exhausted", Some(502)),
            ("balancer_overloaded", Some(503)),
            ("balancer_internal", Some(500)),
        ];
        for (code, status) in contract {
            let cause = Cause::from_code(code).unwrap_or_else(|| panic!("{code} is missing"));
            assert_eq!(cause.entry().status, status, "{code}");
        }
    }

    #[test]
    fn error_tokens_are_those_rfc_9209_registers() {
        // RFC 9209 section 2.3.
        let registered = [
            "dns_timeout",
            "dns_error",
            "destination_not_found",
            "destination_unavailable",
            "destination_ip_prohibited",
            "destination_ip_unroutable",
            "connection_refused",
            "connection_terminated",
            "connection_timeout",
            "connection_read_timeout",
            "connection_write_timeout",
            "connection_limit_reached",
            "tls_protocol_error",
            "tls_certificate_error",
            "tls_alert_received",
            "http_request_error",
            "http_request_denied",
            "http_response_incomplete",
            "http_response_header_section_size",
            "http_response_header_size",
            "http_response_body_size",
            "http_response_trailer_section_size",
            "http_response_trailer_size",
            "http_response_transfer_coding",
            "http_response_content_coding",
            "http_response_timeout",
            "http_upgrade_failed",
            "http_protocol_error",
            "proxy_internal_response",
            "proxy_internal_error",
            "proxy_configuration_error",
            "proxy_loop_detected",
        ];
        for cause in Cause::ALL {
            if let Some(token) = cause.entry().token {
                assert!(registered.contains(&token), "{}: \"{token}\" is not in RFC 9209", cause.code());
            }
        }
    }

    #[test]
    fn advice_tells_the_operator_what_to_do() {
        for cause in Cause::ALL {
            let entry = cause.entry();
            assert!(entry.advice.len() > 20 && entry.advice.ends_with('.'), "{}", entry.code);
            assert!(entry.meaning.len() > 20 && entry.meaning.ends_with('.'), "{}", entry.code);
        }
    }
}
