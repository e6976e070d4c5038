//! What each evidence field of a cause means, for `explain` and the manual.
//!
//! Causes name their fields only; the same field means the same everywhere, so it is explained once.

/// A field's name and its meaning.
pub const FIELDS: &[(&str, &str)] = &[
    ("attempts", "each backend that was tried, how long it took and the cause of its failure"),
    ("backend", "address of the backend that was tried last"),
    ("budget", "the pool's `retry_budget`, in percent of its requests"),
    ("bytes_in", "bytes received from the client, heads included"),
    ("bytes_out", "bytes sent to the client, heads included"),
    ("cdn_loop", "the CDN-Loop field as received: the names of the proxies that passed the request on"),
    ("client", "address and port of the client's connection; behind another proxy, that proxy's"),
    ("deadline", "the `drain_timeout` that ran out"),
    ("detail", "the rule that was broken or the error that was met, in fixed words; never bytes the other side chose"),
    ("errno", "error number of the kernel: 101 network unreachable, 111 refused, 113 no route to host"),
    ("host", "the host the request asked for"),
    ("idle_age", "how long the reused backend connection had lain unused (`idle_ms` in the log)"),
    ("last_findings", "the last probes of each backend: kind, phase, reason and duration"),
    ("limit", "the limit that was passed, in the unit of its setting"),
    ("list", "the access list and the entry that matched"),
    ("path", "the path the request asked for"),
    ("phase", "where the exchange was when it happened; it can be any"),
    ("pool", "the pool that was asked for a backend"),
    ("reused", "whether the backend connection had served a request before"),
    ("sni", "the name the client asked for in the TLS handshake"),
    ("status", "the status the backend sent"),
    ("timeout", "the timeout that ran out (`timeout_ms` in the log)"),
];

/// # Panics
/// When a cause names a field that is not explained here, which a test of this room excludes.
pub fn meaning(field: &str) -> &'static str {
    let entry = FIELDS.iter().find(|(name, _)| *name == field);
    entry.unwrap_or_else(|| panic!("every evidence field is explained; \"{field}\" is not")).1
}

#[cfg(test)]
mod tests {
    use evenkeel_model::Cause;

    use super::*;

    #[test]
    fn every_evidence_field_is_explained_and_every_explained_field_is_used() {
        for cause in Cause::ALL {
            for field in cause.entry().evidence {
                assert!(!meaning(field).is_empty());
            }
        }
        for (field, _) in FIELDS {
            let used = Cause::ALL.iter().any(|cause| cause.entry().evidence.contains(field));
            assert!(used, "no cause has the field \"{field}\" any more");
        }
    }
}
