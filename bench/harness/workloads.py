"""What is asked of every proxy, in which unit its cost is told, and what counts as a wrong answer."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.stage import LOAD_CPU, Broken

REPORT = Path(__file__).resolve().parent / "report.lua"
HTTP_CLIENTS = 64
TCP_CLIENTS = 64
BULK_CLIENTS = 2
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


@dataclass
class Workload:
    key: str
    title: str
    port: str
    backend_port: str
    unit: str
    cpu_unit: str
    cpu_scale: float  # nanoseconds to cpu_unit
    rate_unit: str
    rate_scale: float  # units a second to rate_unit
    aim: float
    load: object

    @property
    def is_tcp(self):
        return self.port != "HTTP"

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


def http(path, length, headers=()):
    def load(port, seconds, tools):
        # wrk takes whole seconds only.
        argv = [tools.wrk, "-t1", f"-c{HTTP_CLIENTS}", f"-d{max(1, round(seconds))}s", "--latency", "-s", REPORT]
        for header in headers:
            argv += ["-H", header]
        told = run_for_json([*argv, f"http://127.0.0.1:{port}{path}"])
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


def connections(port, seconds, tools):
    argv = ["connections", "--target", f"127.0.0.1:{port}", "--seconds", seconds, "--concurrency", TCP_CLIENTS]
    told = run_for_json([tools.load, *argv])
    problems = [f"{told['errors']} connections failed, the first: {told['first_error']}"] if told["errors"] else []
    if told["connections"] == 0:
        problems.append("no connection was served")
    return Result(
        told["connections"], told["seconds"], told["connections"], problems, told["p50_us"], told["p99_us"]
    )


def bulk(port, seconds, tools):
    argv = ["bulk", "--target", f"127.0.0.1:{port}", "--seconds", seconds, "--connections", BULK_CLIENTS]
    told = run_for_json([tools.load, *argv])
    problems = [f"{told['errors']} streams failed, the first: {told['first_error']}"] if told["errors"] else []
    if told["bytes"] == 0:
        problems.append("no byte came through")
    return Result(told["bytes"] / GB, told["seconds"], BULK_CLIENTS, problems)


def _http_row(key, title, load):
    return Workload(key, title, "HTTP", "BACKEND_A", "request", "µs", 1e3, "requests/s", 1, 0.9, load)


ALL = [
    _http_row("http-1k", f"HTTP/1.1 keep-alive, 1 KiB ({HTTP_CLIENTS} connections)", http("/1k", 1024)),
    _http_row("http-64k", f"HTTP/1.1 keep-alive, 64 KiB ({HTTP_CLIENTS} connections)", http("/64k", 65536)),
    _http_row("http-new", "HTTP/1.1, a new connection for each request, 1 KiB", http("/1k", 1024, ["Connection: close"])),
    Workload(
        "tcp-new", f"TCP, new connections: 64 bytes there and back ({TCP_CLIENTS} at once)",
        "TCP", "ECHO_A", "connection", "µs", 1e3, "connections/s", 1, 0.9, connections,
    ),
    Workload(
        "tcp-bulk", f"TCP, bulk one way ({BULK_CLIENTS} connections)",
        "BULK", "SOURCE_A", "GB", "ms", 1e6, "Gbit/s", 8, 1.0, bulk,
    ),
]  # fmt: skip
