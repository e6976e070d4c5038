"""Who probes: evenkeel, haproxy and keepalived with the same targets, the same interval and the same kind of probe.

A checker is started for each measurement and ended after it, since one that runs would take part in the next.
Whether its targets are well in its own eyes is asked before and after, so that nobody is cheap by failing early.
"""

import csv
import json
import os
import shutil
import socket
import urllib.request
from dataclasses import dataclass

from harness import machine
from harness.stage import PROXY_CPU, wait_until

# Targets that share a pool. Configs with a pool for each thousand are what such numbers look like.
POOL = 1000


@dataclass
class Task:
    """What is probed: so many targets, each once in `interval` seconds."""

    kind: str
    targets: int
    interval: int
    ports: dict

    @property
    def port(self):
        return self.ports["UDP" if self.kind == "udp" else "HTTP" if self.kind == "http" else "TCP"]

    def pools(self):
        """Addresses of the targets, by pool. All of them lie on the loopback network."""
        addresses = [f"127.{1 + (n >> 16)}.{(n >> 8) & 255}.{n & 255}" for n in range(self.targets)]
        return [addresses[first : first + POOL] for first in range(0, self.targets, POOL)]


class Checker:
    """`title` is the name in the table."""

    key = title = None

    def __init__(self, stage, task):
        self.stage = stage
        self.task = task
        self.ports = stage.ports(["ADMIN", "LISTEN"])
        self.process = None

    @staticmethod
    def missing():
        """Why it cannot run here, or None."""

    @classmethod
    def does(cls, kind):
        return kind in ("tcp", "http")

    def start(self):
        path = self.stage.work / f"{self.key}.config"
        path.write_text(self.config())
        self.process = self.stage.start(self.key, self.argv(path), PROXY_CPU)
        wait_until(self.started, self.process, self.title)

    def started(self):
        return True

    def problems(self):
        """What it has against its targets, of which every one is well."""
        raise NotImplementedError


class Evenkeel(Checker):
    key, title = "evenkeel", "evenkeel"
    CHECKS = {
        "tcp": 'kind = "tcp"',
        "tcp-full": 'kind = "tcp"\nhandshake = "full"',
        "http": 'kind = "http"\npath = "/"',
        "udp": 'kind = "udp"\nsend = "ping"\nexpect = "ping"',
    }

    @staticmethod
    def missing():
        return None if os.access(os.environ["EVENKEEL_BINARY"], os.X_OK) else "there is no evenkeel binary to run"

    @classmethod
    def does(cls, kind):
        return kind in cls.CHECKS

    @staticmethod
    def version():
        return machine.first_line_of([os.environ["EVENKEEL_BINARY"], "--version"])

    def argv(self, path):
        return [os.environ["EVENKEEL_BINARY"], "run", "--config", path]

    def config(self):
        pools = [
            f"""[[pool]]
name = "p{number}"
backends = {json.dumps([f"{address}:{self.task.port}" for address in addresses])}

[pool.check]
{self.CHECKS[self.task.kind]}
interval = "{self.task.interval}s"
"""
            for number, addresses in enumerate(self.task.pools())
        ]
        head = f"""[node]
workers = 1

[admin]
listen = "127.0.0.1:{self.ports["ADMIN"]}"

[[listener]]
name = "any"
listen = "127.0.0.1:{self.ports["LISTEN"]}"
protocol = "tcp"
pool = "p0"

"""
        return head + "\n".join(pools)

    def started(self):
        try:
            return self.ask("/metrics") is not None
        except OSError:
            return False

    def ask(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['ADMIN']}{path}", timeout=30) as answer:
            return answer.read().decode()

    def metrics(self):
        """Samples of the metrics page by name, those of one name and `result` added up."""
        sums = {}
        for line in self.ask("/metrics").splitlines():
            if line.startswith("evenkeel_prob"):
                name, _, value = line.rpartition(" ")
                base, _, labels = name.partition("{")
                result = [label for label in labels.rstrip("}").split(",") if label.startswith(("result=", "le="))]
                key = base + "".join(f"{{{label}}}" for label in result)
                sums[key] = sums.get(key, 0) + float(value)
        return sums

    def problems(self):
        metrics = self.metrics()
        return [
            f"{metrics[name]:.0f} probes {result}"
            for result in ("failed", "void")
            if metrics.get(name := f'evenkeel_probes_total{{result="{result}"}}', 0)
        ]


class EvenkeelFull(Evenkeel):
    """The handshake that keepalived makes too."""

    key, title = "evenkeel-full", "evenkeel, full handshake"

    @classmethod
    def does(cls, kind):
        return kind == "tcp"

    def __init__(self, stage, task):
        super().__init__(stage, Task("tcp-full", task.targets, task.interval, task.ports))


class Haproxy(Checker):
    key, title = "haproxy", "haproxy"

    @staticmethod
    def missing():
        return None if shutil.which("haproxy") else "haproxy is not installed (apt-get install haproxy)"

    @staticmethod
    def version():
        return machine.first_line_of(["haproxy", "-v"]).partition(" - ")[0]

    def argv(self, path):
        return ["haproxy", "-db", "-f", path]

    def config(self):
        http = self.task.kind == "http"
        lines = [f"""global
    nbthread 1
    maxconn 100
    stats socket {self.stage.work / "haproxy.sock"}

defaults
    mode {"http" if http else "tcp"}
    timeout connect 2s
    timeout client 2s
    timeout server 2s
    {"option httpchk" if http else ""}
    default-server check inter {self.task.interval}s

frontend any
    bind 127.0.0.1:{self.ports["LISTEN"]}
    default_backend p0
"""]
        for number, addresses in enumerate(self.task.pools()):
            lines.append(f"backend p{number}")
            lines += [f"    server s{n} {address}:{self.task.port}" for n, address in enumerate(addresses)]
        return "\n".join(lines) + "\n"

    def started(self):
        try:
            return bool(self.ask("show info"))
        except OSError:
            return False

    def ask(self, command):
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self.stage.work / "haproxy.sock"))
            asking.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: asking.recv(1 << 20), b"")).decode()

    def problems(self):
        rows = csv.DictReader(self.ask("show stat").lstrip("# ").splitlines())
        servers = [row for row in rows if row["svname"].startswith("s") and row["pxname"].startswith("p")]
        unwell = [row for row in servers if row["status"] != "UP" or not row["check_status"].strip("* ").endswith("OK")]
        failures = sum(int(row["chkfail"] or 0) for row in servers)
        told = [f"{len(unwell)} servers are not up, for example {unwell[0]['status']} {unwell[0]['check_status']}"] if unwell else []
        return told + ([f"{failures} probes failed"] if failures else [])


class Keepalived(Checker):
    key, title = "keepalived", "keepalived"

    @staticmethod
    def missing():
        if not shutil.which("keepalived"):
            return "keepalived is not installed (apt-get install keepalived)"
        if not os.path.exists("/proc/net/ip_vs") and not os.environ.get("EVENKEEL_NO_IPVS"):
            return "this kernel has no IPVS, and there is no cc to build what keepalived is told instead"
        return None

    @staticmethod
    def version():
        return machine.first_line_of(["keepalived", "--version"]).partition(" (")[0]

    def argv(self, path):
        preload = os.environ.get("EVENKEEL_NO_IPVS")
        work = self.stage.work
        keepalived = ["keepalived", "-n", "-l", "-C", "-f", path, "-p", work / "ka.pid", "-c", work / "kac.pid"]
        return (["env", f"LD_PRELOAD={preload}"] if preload else []) + keepalived

    def config(self):
        if self.task.kind == "http":
            check = "HTTP_GET { url { path / status_code 200 } connect_timeout 2 }"
        else:
            check = "TCP_CHECK { connect_timeout 2 }"
        lines = ["global_defs {\n    router_id bench\n    checker_log_all_failures\n}"]
        for number, addresses in enumerate(self.task.pools()):
            lines.append(f"virtual_server 10.0.0.{number + 1} 80 {{")
            lines.append(f"    delay_loop {self.task.interval}\n    lvs_sched rr\n    lvs_method NAT\n    protocol TCP")
            lines += [f"    real_server {address} {self.task.port} {{\n        {check}\n    }}" for address in addresses]
            lines.append("}")
        return "\n".join(lines) + "\n"

    def said(self):
        return self.process.output.read_text(errors="replace").splitlines()

    def started(self):
        return any("Startup complete" in line for line in self.said())

    def problems(self):
        bad = [line for line in self.said() if any(word in line.lower() for word in ("fail", "error", "removing", "timeout"))]
        return [f"{len(bad)} lines of trouble, first: {bad[0]}"] if bad else []


ALL = [Evenkeel, EvenkeelFull, Haproxy, Keepalived]


def start_targets(stage, load_tool, cpu):
    ports = stage.ports(["TCP", "HTTP", "UDP", "COUNTS"])
    argv = [load_tool, "targets"]
    for name, port in ports.items():
        argv += [f"--{name.lower()}", port]
    process = stage.start("targets", argv, cpu)
    wait_until(lambda: "ready" in process.output.read_text(), process, "the targets")
    return ports


def counts(ports):
    """What reached the targets so far, and how many connections were begun in this network."""
    with socket.create_connection(("127.0.0.1", ports["COUNTS"]), 5) as asking:
        told = json.loads(asking.makefile().readline())
    with open("/proc/net/snmp", encoding="ascii") as file:
        tcp = [line.split() for line in file if line.startswith("Tcp:")]
    return told | {"begun": int(tcp[1][tcp[0].index("ActiveOpens")])}


def probes_between(kind, before, after):
    """Probes done, as counted at the target, where the kernel lets it know of them."""
    key = {"http": "answered", "udp": "datagrams"}.get(kind, "begun")
    done = after[key] - before[key]
    # Our own question for the counts was a connection too.
    return done - (key == "begun")


def check_missing(only):
    kinds = [kind for kind in ALL if not only or kind.key in only]
    return [kind for kind in kinds if not kind.missing()], {kind.title: kind.missing() for kind in kinds if kind.missing()}
