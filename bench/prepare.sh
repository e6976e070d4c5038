# Sourced by bench/run, bench/profile and bench/attack: builds what is needed and gives the bench a network of its own.
#
# The network namespace keeps others' ports and connections out, and lets us widen the port range: with the usual
# 28,000 ports and a new connection for each request, the search for a free port is a tenth of the load's CPU.

bench=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$bench")
built=${CARGO_TARGET_DIR:-$root/target}

needed_packages() {
    echo wrk haproxy nginx-light libnginx-mod-stream nghttp2-client openssl curl
}

complain() {
    printf '!!! %s\n' "$*" >&2
}

if ! command -v python3 >/dev/null || ! command -v cargo >/dev/null || ! command -v wrk >/dev/null ||
    ! command -v nginx >/dev/null || ! command -v haproxy >/dev/null || ! command -v h2load >/dev/null ||
    ! command -v openssl >/dev/null || ! command -v curl >/dev/null; then
    complain "for the whole table: python3, cargo, and apt-get install $(needed_packages)"
fi

# One certificate for every proxy: ECDSA P-256, signed by itself. Kept while it is good for a day.
tls="$bench/out/tls"
if command -v openssl >/dev/null && ! openssl x509 -checkend 86400 -noout -in "$tls/chain.pem" >/dev/null 2>&1; then
    mkdir -p "$tls"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
        -keyout "$tls/key.pem" -out "$tls/chain.pem" 2>/dev/null
    # haproxy reads both from one file.
    cat "$tls/chain.pem" "$tls/key.pem" >"$tls/both.pem"
fi

# The load has its own folder, because both builds would otherwise wait for the same lock.
cargo build --quiet --release --manifest-path "$bench/load/Cargo.toml" --target-dir "$built/bench-load"
export EVENKEEL_LOAD="$built/bench-load/release/evenkeel-load"

# EVENKEEL_BINARY names a binary to measure as it is, for example an older one.
if [ -z "${EVENKEEL_BINARY:-}" ]; then
    export EVENKEEL_BINARY="$built/release/evenkeel"
    if [ -f "$root/src/main.rs" ]; then
        cargo build --quiet --release --manifest-path "$root/Cargo.toml" --target-dir "$built" --bin evenkeel
    fi
fi
if [ -f "$root/crates/probe/examples/rate.rs" ]; then
    cargo build --quiet --release --manifest-path "$root/Cargo.toml" --target-dir "$built" -p evenkeel-probe --example rate
    export EVENKEEL_PROBE_RATE="$built/release/examples/rate"
fi

# The namespace ends with the command, and its interfaces and settings with it.
in_own_network() {
    cd "$root"
    export PYTHONPATH="$bench" PYTHONDONTWRITEBYTECODE=1
    if [ "$(id -u)" = 0 ] && unshare --net true 2>/dev/null; then
        exec unshare --net sh -c '
            ip link set lo up
            # All ports, and few dead connections kept: each would be looked at in the search for a free port.
            echo "1024 65535" >/proc/sys/net/ipv4/ip_local_port_range
            echo 2000 >/proc/sys/net/ipv4/tcp_max_tw_buckets
            exec "$@"' in-own-network "$@"
    fi
    complain "not root: no network of our own, so other people's connections and the usual port range count in"
    exec "$@"
}
