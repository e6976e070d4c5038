"""What is asked of every proxy, in which unit its cost is told, and what counts as a wrong answer."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.stage import LOAD_CPU, Broken

TLS = Path(__file__).resolve().parent.parent / "out" / "tls"
TLS_SUITE = "TLS_AES_256_GCM_SHA384"
REPORT = Path(__file__).resolve().parent / "report.lua"
HTTP_CLIENTS = 64
TCP_CLIENTS = 64
BULK_CLIENTS = 2
UDP_CLIENTS = 64
STREAM_FLOWS = 8
STREAM_BURST = 16
# A proxy that loses more has not forwarded what its figure says.
LOSS_MAX = 0.01
# Handshakes cost the load more than the proxy; more at once only adds waiting.
TLS_CLIENTS = 32
H2_CLIENTS = 32
H2_STREAMS = 10
GB = 1_000_000_000


@dataclass
class Result:
    """One load of one proxy. `units` is what the CPU is divided by, `logged` how many log lines it should have caused."""

    units: float
    seconds: float
    logged: int
    problems: list
    p50_us: float | None = None
    p99_us: float | None = None
    notes: dict | None = None  # shares by name, for a line under the table


@dataclass
class Workload:
    key: str
    title: str
    port: str
    backend_port: str | None  # where the same load finds a backend without a proxy
    unit: str
    cpu_unit: str
    cpu_scale: float  # nanoseconds to cpu_unit
    rate_unit: str
    rate_scale: float  # units a second to rate_unit
    aim: float
    load: object
    needs_h2load: bool = False

    @property
    def is_tcp(self):
        return self.port in ("TCP", "BULK", "BOTH")

    @property
    def is_udp(self):
        return self.port in ("UDP", "DNS", "BURSTS")

    @property
    def is_https(self):
        return self.port == "HTTPS"

    def run(self, address_port, seconds, tools):
        return self.load(address_port, seconds, tools)


def run_for_json(argv):
    told = subprocess.run(
        ["taskset", "-c", str(LOAD_CPU), *map(str, argv)], capture_output=True, text=True, check=False
    )
    try:
        return json.loads(told.stdout.strip().rpartition("\n")[2])
    except json.JSONDecodeError:
        raise Broken(f"{argv[0]} gave no result; it said:\n{told.stdout}{told.stderr}") from None


def http(path, length, headers=(), scheme="http"):
    def load(port, seconds, tools):
        # wrk takes whole seconds only.
        argv = [tools.wrk, "-t1", f"-c{HTTP_CLIENTS}", f"-d{max(1, round(seconds))}s", "--latency", "-s", REPORT]
        for header in headers:
            argv += ["-H", header]
        # By name, because over TLS wrk sends what stands in the address, and a certificate is found by name.
        host = "localhost" if scheme == "https" else "127.0.0.1"
        told = run_for_json([*argv, f"{scheme}://{host}:{port}{path}"])
        problems = [f"{told[kind]} {text}" for kind, text in WRK_ERRORS.items() if told[kind]]
        if told["requests"] == 0:
            problems.append("no request was answered")
        elif told["bytes"] < told["requests"] * length:
            problems.append(f"{told['bytes']} bytes are fewer than {told['requests']} answers of {length}")
        return Result(
            told["requests"], told["seconds"], told["requests"], problems, told["p50_us"], told["p99_us"]
        )

    return load


WRK_ERRORS = {
    "status": "answers were not 2xx or 3xx",
    "connect": "connects failed",
    "read": "reads failed",
    "write": "writes failed",
    "timeout": "requests timed out",
}


def handshakes(wanted, path, length):
    def load(port, seconds, tools):
        told = run_for_json([
            tools.load, "handshakes", "--wanted", wanted, "--target", f"127.0.0.1:{port}", "--seconds", seconds,
            "--concurrency", TLS_CLIENTS, "--certificate", TLS / "chain.pem", "--name", "localhost",
            "--path", path, "--length", length,
        ])  # fmt: skip
        problems = [f"{told['errors']} connections failed, the first: {told['first_error']}"] if told["errors"] else []
        if told["answers"] == 0:
            problems.append("no request was answered")
        if told["abrupt"]:
            problems.append(f"{told['abrupt']} connections ended without a close_notify")
        # A resuming client has to begin with one full handshake, since nobody has given it a ticket yet.
        others = told["resumed"] if wanted == "full" else max(0, told["full"] - TLS_CLIENTS)
        if others:
            problems.append(f"{others} handshakes were not {wanted}")
        share = told[wanted] / max(1, told["full"] + told["resumed"])
        return Result(
            told["answers"], told["seconds"], told["answers"], problems, told["p50_us"], told["p99_us"],
            {f"share of {wanted} handshakes": share},
        )  # fmt: skip

    return load


def h2(path, length):
    def load(port, seconds, tools):
        times = tools.work / "h2load.times"
        times.unlink(missing_ok=True)
        argv = [tools.h2load, "-t1", f"-c{H2_CLIENTS}", f"-m{H2_STREAMS}", "-D", f"{max(1, round(seconds))}"]
        argv += [f"--tls13-ciphers={TLS_SUITE}", f"--log-file={times}", f"https://localhost:{port}{path}"]
        told = subprocess.run(["taskset", "-c", str(LOAD_CPU), *argv], capture_output=True, text=True, check=False)
        counts = {word: int(count) for count, word in re.findall(r"(\d+) (\w+)", line_of(told, "requests:"))}
        statuses = {word: int(count) for count, word in re.findall(r"(\d+) (\dxx)", line_of(told, "status codes:"))}
        data = int(re.search(r"\((\d+)\) data", line_of(told, "traffic:"))[1])
        length_s = float(re.search(r"finished in ([\d.]+)s", line_of(told, "finished in"))[1])
        problems = [f"{counts[kind]} requests {kind}" for kind in ("failed", "errored", "timeout") if counts[kind]]
        # Statuses of answers that were under way at the end are counted too.
        problems += [f"{count} answers were {status}" for status, count in statuses.items() if count and status > "3xx"]
        if not counts["done"]:
            problems.append("no request was answered")
        elif data < counts["done"] * length:
            problems.append(f"{data} bytes are fewer than {counts['done']} answers of {length}")
        for name, expected in (("Application protocol:", "h2"), ("Cipher:", TLS_SUITE)):
            agreed = line_of(told, name).removeprefix(name).strip()
            if agreed != expected:
                problems.append(f"{name} {agreed}, not {expected}")
        return Result(counts["done"], length_s, counts["done"], problems, *percentiles(times))

    return load


def line_of(told, begin):
    found = next((line for line in told.stdout.splitlines() if line.startswith(begin)), None)
    if found is None:
        raise Broken(f"h2load says nothing of {begin!r}; it said:\n{told.stdout}{told.stderr}")
    return found


def percentiles(times):
    """p50 and p99 of the last column of h2load's log: one line for each request, in microseconds."""
    took = sorted(int(line.rpartition(b"\t")[2]) for line in times.read_bytes().splitlines())
    return (took[len(took) // 2], took[len(took) * 99 // 100]) if took else (None, None)


def connections(port, seconds, tools):
    argv = ["connections", "--target", f"127.0.0.1:{port}", "--seconds", seconds, "--concurrency", TCP_CLIENTS]
    told = run_for_json([tools.load, *argv])
    problems = [f"{told['errors']} connections failed, the first: {told['first_error']}"] if told["errors"] else []
    if told["connections"] == 0:
        problems.append("no connection was served")
    return Result(
        told["connections"], told["seconds"], told["connections"], problems, told["p50_us"], told["p99_us"]
    )


def bulk(verb):
    def load(port, seconds, tools):
        argv = [verb, "--target", f"127.0.0.1:{port}", "--seconds", seconds, "--connections", BULK_CLIENTS]
        told = run_for_json([tools.load, *argv])
        problems = [f"{told['errors']} streams failed, the first: {told['first_error']}"] if told["errors"] else []
        if told["bytes"] == 0:
            problems.append("no byte came through")
        return Result(told["bytes"] / GB, told["seconds"], BULK_CLIENTS, problems)

    return load


def datagrams(asks, units, flows, burst=1, size=64, logged=False):
    """`units` makes the units of a row out of the numbers of questions and answers that came through."""

    def load(port, seconds, tools):
        argv = [tools.load, "datagrams", "--asks", asks, "--target", f"127.0.0.1:{port}", "--seconds", seconds]
        told = run_for_json([*argv, "--flows", flows, "--burst", burst, "--size", size])
        problems = [f"{told['errors']} datagrams went wrong, the first: {told['first_error']}"] if told["errors"] else []
        share = told["answers"] / max(1, told["answers"] + told["lost"])
        if share < 1 - LOSS_MAX:
            problems.append(f"{told['lost']} of {told['answers'] + told['lost']} answers were lost, {told['late']} came late")
        # What was lost somewhere on the two ways counts for neither.
        served = units(told["questions"] * share, told["answers"])
        return Result(
            served, told["seconds"], told["answers"] if logged else 0, problems, told["p50_us"], told["p99_us"],
            {"share of answers that came": share},
        )  # fmt: skip

    return load


def _http_row(key, title, load):
    return Workload(key, title, "HTTP", "BACKEND_A", "request", "µs", 1e3, "requests/s", 1, 0.9, load)


def _udp_row(key, title, port, backend_port, unit, load):
    return Workload(key, title, port, backend_port, unit, "µs", 1e3, f"{plural(unit)}/s", 1, 0.5, load)


def plural(unit):
    return "queries" if unit == "query" else unit + "s"


def _https_row(key, title, aim, load, **more):
    # No figure without a proxy: the backends speak plain HTTP/1.1.
    return Workload(key, title, "HTTPS", None, "request", "µs", 1e3, "requests/s", 1, aim, load, **more)


ALL = [
    _http_row("http-1k", f"HTTP/1.1 keep-alive, 1 KiB ({HTTP_CLIENTS} connections)", http("/1k", 1024)),
    _http_row("http-64k", f"HTTP/1.1 keep-alive, 64 KiB ({HTTP_CLIENTS} connections)", http("/64k", 65536)),
    _http_row("http-new", "HTTP/1.1, a new connection for each request, 1 KiB", http("/1k", 1024, ["Connection: close"])),
    _https_row(
        "tls-1k", f"TLS 1.3, HTTP/1.1 keep-alive, 1 KiB ({HTTP_CLIENTS} connections)", 0.8,
        http("/1k", 1024, scheme="https"),
    ),
    _https_row(
        "tls-new", f"TLS 1.3, a full handshake for each request, ECDSA P-256, 1 KiB ({TLS_CLIENTS} at once)", 0.9,
        handshakes("full", "/1k", 1024),
    ),
    _https_row(
        "tls-resumed", f"TLS 1.3, a resumed handshake for each request, 1 KiB ({TLS_CLIENTS} at once)", 0.9,
        handshakes("resumed", "/1k", 1024),
    ),
    _https_row(
        "h2-1k", f"HTTP/2 over TLS 1.3, 1 KiB ({H2_CLIENTS} connections of {H2_STREAMS} streams)", 0.9,
        h2("/1k", 1024), needs_h2load=True,
    ),
    _https_row(
        "h2-64k", f"HTTP/2 over TLS 1.3, 64 KiB ({H2_CLIENTS} connections of {H2_STREAMS} streams)", 0.9,
        h2("/64k", 65536), needs_h2load=True,
    ),
    Workload(
        "tcp-new", f"TCP, new connections: 64 bytes there and back ({TCP_CLIENTS} at once)",
        "TCP", "ECHO_A", "connection", "µs", 1e3, "connections/s", 1, 0.9, connections,
    ),
    Workload(
        "tcp-bulk", f"TCP, bulk one way ({BULK_CLIENTS} connections)",
        "BULK", "SOURCE_A", "GB", "ms", 1e6, "Gbit/s", 8, 0.9, bulk("bulk"),
    ),
    Workload(
        "tcp-bulk-both", f"TCP, bulk both ways at once ({BULK_CLIENTS} connections)",
        "BOTH", "BOTH_A", "GB", "ms", 1e6, "Gbit/s", 8, 0.9, bulk("both"),
    ),
    _udp_row(
        "udp-small", f"UDP, 64 bytes there and back ({UDP_CLIENTS} clients, one datagram each at a time)",
        "UDP", "ANSWERS_A", "packet", datagrams("echo", lambda there, back: there + back, UDP_CLIENTS),
    ),
    _udp_row(
        "udp-dns", f"UDP, one query, one answer, a new client port for each ({UDP_CLIENTS} at once)",
        "DNS", "ANSWERS_A", "query", datagrams("once", lambda _, back: back, UDP_CLIENTS, logged=True),
    ),
    _udp_row(
        "udp-stream", f"UDP, bursts of {STREAM_BURST} datagrams of 1200 bytes both ways ({STREAM_FLOWS} clients)",
        "UDP", "ANSWERS_A", "packet",
        datagrams("echo", lambda there, back: there + back, STREAM_FLOWS, STREAM_BURST, 1200),
    ),
    _udp_row(
        "udp-quic", f"UDP as QUIC servers send: {STREAM_BURST} datagrams of 1200 bytes in one call for each of 64 ({STREAM_FLOWS} clients)",
        "BURSTS", "BURSTS_A", "packet", datagrams("bursts", lambda there, back: there + back, STREAM_FLOWS),
    ),
]  # fmt: skip
