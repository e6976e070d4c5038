//! The Prometheus text format (version 0.0.4) of the registry.
//!
//! Written by hand because the counters are: a client library would want to own them, and sharing them
//! between workers is what this design avoids.

use std::fmt::Write;
use std::sync::{Arc, PoisonError};

use evenkeel_model::Cause;

use super::{BUCKETS_US, BackendLabel, BackendMetrics, Histogram, ListenerMetrics, Registry};

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// All families of the registry. The caller appends those that belong to no worker.
pub fn render(registry: &Registry, out: &mut String) {
    let tables = registry.tables.lock().unwrap_or_else(PoisonError::into_inner);
    let listeners: Vec<(String, Vec<Arc<ListenerMetrics>>)> = tables
        .listeners
        .iter()
        .map(|(name, workers)| (format!("listener=\"{}\"", escape(name)), workers.values().cloned().collect()))
        .collect();
    let backends: Vec<(String, Vec<Arc<BackendMetrics>>)> = tables
        .backends
        .iter()
        .map(|(label, workers)| (backend_labels(label), workers.values().cloned().collect()))
        .collect();
    drop(tables);

    let mut families = Families { out };
    let l = &listeners;
    families.plain(
        l,
        "evenkeel_listener_connections_total",
        "counter",
        "Client connections accepted; sessions begun on udp listeners.",
        |m| m.connections.read(),
    );
    families.plain(
        l,
        "evenkeel_listener_connections",
        "gauge",
        "Client connections open now; sessions on udp listeners.",
        |m| m.connections_now.read(),
    );
    families.plain(l, "evenkeel_listener_received_bytes_total", "counter", "Bytes received from clients.", |m| {
        m.bytes_in.read()
    });
    families
        .plain(l, "evenkeel_listener_sent_bytes_total", "counter", "Bytes sent to clients.", |m| m.bytes_out.read());
    // Rows of nothing but zeros would stand beside every listener of another protocol.
    let udp: Vec<_> = l.iter().filter(|(_, sets)| total(sets, |m| m.datagrams_in.read()) > 0).cloned().collect();
    let u = &udp;
    families.plain(
        u,
        "evenkeel_listener_received_datagrams_total",
        "counter",
        "Datagrams received from clients.",
        |m| m.datagrams_in.read(),
    );
    families.plain(u, "evenkeel_listener_sent_datagrams_total", "counter", "Datagrams sent to clients.", |m| {
        m.datagrams_out.read()
    });
    families.plain(
        u,
        "evenkeel_listener_dropped_datagrams_total",
        "counter",
        "Datagrams lost here on their way to backend or client, because a socket was full or the kernel did not take them.",
        |m| m.datagrams_dropped.read(),
    );
    families.classes(l, "evenkeel_requests_total", "Ended HTTP requests by class of the status sent.", |m, class| {
        m.requests[class].read()
    });
    families.causes(l, "evenkeel_failures_total", "Ended exchanges that went wrong, by cause.", |m, cause| {
        m.causes.read(cause)
    });
    families.histogram(
        l,
        "evenkeel_exchange_duration_seconds",
        "Time from the first byte of a request to the last of its answer; the whole life of a tcp connection or udp session.",
        |m| &m.duration,
    );

    let b = &backends;
    families.plain(b, "evenkeel_backend_in_flight", "gauge", "Requests or connections on this backend now.", |m| {
        m.in_flight.read()
    });
    families.plain(b, "evenkeel_backend_attempts_total", "counter", "Attempts sent to this backend.", |m| {
        m.attempts.read()
    });
    families.plain(
        b,
        "evenkeel_backend_retries_total",
        "counter",
        "Attempts that were not an exchange's first.",
        |m| m.retries.read(),
    );
    families.plain(b, "evenkeel_backend_connections_total", "counter", "Connections opened to this backend.", |m| {
        m.connections.read()
    });
    families.plain(b, "evenkeel_backend_reused_total", "counter", "Attempts that used a kept connection.", |m| {
        m.reused.read()
    });
    families.plain(b, "evenkeel_backend_sent_bytes_total", "counter", "Bytes sent to this backend.", |m| {
        m.bytes_out.read()
    });
    families.plain(b, "evenkeel_backend_received_bytes_total", "counter", "Bytes received from this backend.", |m| {
        m.bytes_in.read()
    });
    families.classes(
        b,
        "evenkeel_backend_responses_total",
        "Answers of this backend by class of status.",
        |m, class| m.responses[class].read(),
    );
    families.causes(
        b,
        "evenkeel_backend_failures_total",
        "Attempts at this backend that failed, by cause.",
        |m, cause| m.causes.read(cause),
    );
    families.histogram(
        b,
        "evenkeel_backend_first_byte_seconds",
        "Time from the start of an attempt to the head of the answer, to the connection for tcp, to the first answer for udp.",
        |m| &m.first_byte,
    );
}

/// Escapes a label value.
pub fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn backend_labels(label: &BackendLabel) -> String {
    format!("pool=\"{}\",backend=\"{}\"", escape(&label.pool), escape(&label.backend))
}

struct Families<'a> {
    out: &'a mut String,
}

type Rows<M> = [(String, Vec<Arc<M>>)];

impl Families<'_> {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn plain<M>(&mut self, rows: &Rows<M>, name: &str, kind: &str, help: &str, number: impl Fn(&M) -> u64) {
        self.head(name, kind, help);
        for (labels, sets) in rows {
            let value = total(sets, &number);
            let _ = writeln!(self.out, "{name}{{{labels}}} {value}");
        }
    }

    fn classes<M>(&mut self, rows: &Rows<M>, name: &str, help: &str, number: impl Fn(&M, usize) -> u64) {
        self.head(name, "counter", help);
        for (labels, sets) in rows {
            for (class, word) in CLASSES.iter().enumerate() {
                let value = total(sets, |set| number(set, class));
                let _ = writeln!(self.out, "{name}{{{labels},status=\"{word}\"}} {value}");
            }
        }
    }

    /// Causes that never happened are left out: forty rows of zeros per backend help nobody.
    fn causes<M>(&mut self, rows: &Rows<M>, name: &str, help: &str, number: impl Fn(&M, Cause) -> u64) {
        self.head(name, "counter", help);
        for (labels, sets) in rows {
            for &cause in Cause::ALL {
                let value = total(sets, |set| number(set, cause));
                if value > 0 {
                    let entry = cause.entry();
                    let (code, blame) = (entry.code, entry.blame.word());
                    let _ = writeln!(self.out, "{name}{{{labels},cause=\"{code}\",blame=\"{blame}\"}} {value}");
                }
            }
        }
    }

    fn histogram<M>(&mut self, rows: &Rows<M>, name: &str, help: &str, of: impl Fn(&M) -> &Histogram) {
        self.head(name, "histogram", help);
        for (labels, sets) in rows {
            let mut below = 0;
            for (bucket, bound) in BUCKETS_US.iter().enumerate() {
                below += total(sets, |set| of(set).buckets[bucket].read());
                let seconds = *bound as f64 / 1e6;
                let _ = writeln!(self.out, "{name}_bucket{{{labels},le=\"{seconds}\"}} {below}");
            }
            let count = below + total(sets, |set| of(set).buckets[BUCKETS_US.len()].read());
            let sum = total(sets, |set| of(set).sum_us.read()) as f64 / 1e6;
            let _ = writeln!(self.out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
            let _ = writeln!(self.out, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}");
        }
    }
}

fn total<M>(sets: &[Arc<M>], number: impl Fn(&M) -> u64) -> u64 {
    sets.iter().fold(0, |total: u64, set| total.wrapping_add(number(set)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn workers_are_summed_and_histograms_are_cumulative() {
        let registry = Registry::new();
        let name: Arc<str> = "web \"1\"".into();
        let (first, second) = (registry.listener(0, &name), registry.listener(1, &name));
        first.connections_now.one();
        second.connections_now.less_one();
        first.request(200);
        second.request(204);
        second.causes.one(Cause::ClientAborted);
        first.duration.record(Duration::from_millis(1));
        second.duration.record(Duration::from_secs(500));
        let mut out = String::new();
        render(&registry, &mut out);
        for line in [
            "evenkeel_listener_connections{listener=\"web \\\"1\\\"\"} 0",
            "evenkeel_requests_total{listener=\"web \\\"1\\\"\",status=\"2xx\"} 2",
            "evenkeel_failures_total{listener=\"web \\\"1\\\"\",cause=\"client_aborted\",blame=\"client\"} 1",
            "evenkeel_exchange_duration_seconds_bucket{listener=\"web \\\"1\\\"\",le=\"0.0005\"} 0",
            "evenkeel_exchange_duration_seconds_bucket{listener=\"web \\\"1\\\"\",le=\"0.001\"} 1",
            "evenkeel_exchange_duration_seconds_bucket{listener=\"web \\\"1\\\"\",le=\"180\"} 1",
            "evenkeel_exchange_duration_seconds_bucket{listener=\"web \\\"1\\\"\",le=\"+Inf\"} 2",
            "evenkeel_exchange_duration_seconds_count{listener=\"web \\\"1\\\"\"} 2",
            "evenkeel_exchange_duration_seconds_sum{listener=\"web \\\"1\\\"\"} 500.001",
        ] {
            assert!(out.lines().any(|have| have == line), "{line} is missing in\n{out}");
        }
        assert_eq!(registry.sum_listener("web \"1\"", |m| m.requests[1].read()), 2);
    }
}
