"""Who is compared: how each proxy is started, where it listens, where its log goes.

All forward to the same backends, all have one worker on the same CPU, all write an access log and count for a
metrics page. Their configs are files in bench/peers; this file only fills in ports and paths.
"""

import http.client
import os
import resource
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

from harness import machine
from harness.stage import LOAD_CPU, PROXY_CPU, Broken, accepts, wait_until
from harness.workloads import TLS, TLS_SUITE

CONFIGS = Path(__file__).resolve().parent.parent / "peers"
STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
KIB = 1024
IDLE_CONNECTIONS = 10_000


def start_backends(stage, load_tool):
    """Starts the servers behind every proxy; returns their ports by the names that the configs use."""
    kinds = ["ECHO", "SOURCE", "BOTH", "ANSWERS", "BURSTS"]
    ports = stage.ports(["BACKEND_A", "BACKEND_B"] + [f"{kind}_{which}" for kind in kinds for which in "AB"])
    values = ports | {"WORK": stage.work, "USER": nginx_user(), "BODY_1K": body(KIB), "BODY_2K": body(2 * KIB)}
    config = stage.write("backends.conf", CONFIGS / "backends.conf", values)
    web = stage.start("backends", ["nginx", "-e", stage.work / "backends.error", "-c", config], LOAD_CPU)
    wait_until(lambda: accepts(ports["BACKEND_A"]), web, "the nginx backend")
    serve = [[f"--{kind.lower()}", f"{ports[kind + '_A']},{ports[kind + '_B']}"] for kind in kinds]
    others = stage.start("other-backends", [load_tool, "serve", *sum(serve, [])], LOAD_CPU)
    # The echo ports are the last that it opens.
    wait_until(lambda: accepts(ports["ECHO_B"]), others, "the TCP and UDP backends")
    return ports


def body(length):
    """Text without quotes or dollar signs that no compressor or checksum would find trivial."""
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789 ,.-\n"
    return "".join(alphabet[(n * n + n // 7) % len(alphabet)] for n in range(length))


def idle_connections():
    """How many connections can be held: 10,000, or as many as a proxy may have files for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(IDLE_CONNECTIONS, (soft - 400) // 2)


def nginx_user():
    # Only root may name a user; as root nginx would otherwise give its worker away to one that cannot write our log.
    return "user root;" if os.geteuid() == 0 else ""


class Proxy:
    """One of the compared. `key` is the word for --only and the JSON, `title` the one for the table."""

    key = title = None
    does_tcp = True
    does_https = False
    does_udp = False
    # Where HTTP/2 with prior knowledge is spoken.
    h2c = "HTTP"

    def __init__(self, stage, backend_ports, load_tool):
        self.stage = stage
        self.load_tool = load_tool
        self.ports = stage.ports(
            ["HTTP", "HTTPS", "H2C", "TCP", "BULK", "BOTH", "IDLE", "UDP", "DNS", "BURSTS", "METRICS", "SINK"]
        )
        self.log = stage.work / f"{self.key}.access"
        self.log.touch()
        tls = {"CERTIFICATE": TLS / "chain.pem", "KEY": TLS / "key.pem", "PEM": TLS / "both.pem"}
        self.values = backend_ports | self.ports | tls | {"WORK": stage.work, "USER": nginx_user(), "LOG": self.log,
                       "MAXCONN": idle_connections() + 20}
        self.process = None

    @staticmethod
    def missing():
        """Why this proxy cannot run here, or None."""

    def does(self, workload):
        return (
            (self.does_tcp or not workload.is_tcp)
            and (self.does_https or not workload.is_https)
            and (self.does_udp or not workload.is_udp)
        )

    def argv(self):
        raise NotImplementedError

    def version(self):
        raise NotImplementedError

    def start(self):
        self.process = self.stage.start(self.key, self.argv(), PROXY_CPU)
        wait_until(lambda: accepts(self.ports["HTTP"]) and self.serves(), self.process, self.title)
        told = fetch(self.ports["METRICS"], "/metrics")
        if told[0] != 200:
            raise Broken(f"{self.title}: the metrics page answers {told[0]}")

    def serves(self):
        return fetch(self.ports["HTTP"], "/1k")[0] == 200

    def log_lines(self):
        """Lines since the last call; the file is emptied, or a long run would fill the disk."""
        with open(self.log, "rb+") as log:
            lines = sum(piece.count(b"\n") for piece in iter(lambda: log.read(1 << 20), b""))
            log.truncate(0)
        return lines

    def answers_like(self, backend_port):
        """Both bodies through the proxy, compared with the backend's own; over TLS and HTTP/2 too."""
        for path in ("/1k", "/64k"):
            own = fetch(backend_port, path)
            through = [fetch(self.ports["HTTP"], path)]
            if self.does_https:
                through += [fetch_tls(self.ports["HTTPS"], path, version) for version in ("1.1", "2")]
            if any(answer != own for answer in through):
                told = ", ".join(f"{status} with {len(body)} bytes" for status, body in through)
                raise Broken(f"{self.title}: {path} through the proxy differs from the backend's own answer: {told}")
        if self.does_https:
            agreed = tls_terms(self.ports["HTTPS"])
            if agreed != TLS_TERMS:
                raise Broken(f"{self.title}: TLS is {agreed}, but every proxy is to be measured with {TLS_TERMS}")


class Haproxy(Proxy):
    key, title = "haproxy", "haproxy"
    does_https = True

    @staticmethod
    def missing():
        return None if shutil.which("haproxy") else "haproxy is not installed (apt-get install haproxy)"

    def start(self):
        # The log server of haproxy's ring runs with the load and is not counted: its file is written by somebody else.
        sink = [self.load_tool, "sink", "--port", self.ports["SINK"], "--file", self.log]
        wait_until(lambda: accepts(self.ports["SINK"]), self.stage.start("haproxy-sink", sink, LOAD_CPU), "the log sink")
        super().start()

    def argv(self):
        return ["haproxy", "-db", "-f", self.stage.write("haproxy.cfg", CONFIGS / "haproxy.cfg", self.values)]

    def version(self):
        return machine.first_line_of(["haproxy", "-v"]).partition(" - ")[0]


class Nginx(Proxy):
    @staticmethod
    def missing():
        return None if shutil.which("nginx") else "nginx is not installed (apt-get install nginx-light)"

    def argv(self):
        config = self.stage.write(f"{self.key}.conf", CONFIGS / f"{self.key}.conf", self.values | self.stream())
        return ["nginx", "-e", self.stage.work / f"{self.key}.error", "-c", config]

    def stream(self):
        return {}

    def version(self):
        return machine.first_line_of(["nginx", "-v"]).removeprefix("nginx version: ")


class NginxShipped(Nginx):
    key, title = "nginx-shipped", "nginx as shipped"
    does_tcp = False


class NginxTuned(Nginx):
    key, title = "nginx-tuned", "nginx tuned"
    does_https = True
    h2c = "H2C"
    does_tcp = does_udp = STREAM_MODULE.exists()

    def stream(self):
        if not self.does_tcp:
            return {"STREAM_MODULE": "", "STREAM": ""}
        stream = (CONFIGS / "nginx-stream.conf").read_text()
        return {"STREAM_MODULE": f"load_module {STREAM_MODULE};", "STREAM": stream}


class Evenkeel(Proxy):
    key, title = "evenkeel", "evenkeel"
    # Listeners that older binaries do not know, by the name of their file's end; those are measured in the rows they serve.
    newer = ("https", "udp")
    refused = {}
    binary = Path(os.environ.get("EVENKEEL_BINARY", "target/release/evenkeel"))

    @classmethod
    def missing(cls):
        return None if os.access(cls.binary, os.X_OK) else f"there is no {cls.binary.name} binary to run yet"

    def argv(self):
        told = {part: self.check([part]) for part in self.newer}
        self.refused = {part: word for part, word in told.items() if word}
        self.does_https, self.does_udp = ("https" not in self.refused), ("udp" not in self.refused)
        config = self.config("evenkeel.toml", [part for part in self.newer if part not in self.refused])
        return [self.binary, "run", "--config", config]

    def config(self, name, parts):
        newer = "".join((CONFIGS / f"evenkeel-{part}.toml").read_text() for part in parts)
        return self.stage.write(name, CONFIGS / "evenkeel.toml", self.values | {"NEWER_LISTENERS": newer})

    def check(self, parts):
        """What `check` has against a config with these parts, or nothing."""
        config = self.config("with-newer.toml", parts)
        checked = subprocess.run([self.binary, "check", config], capture_output=True, text=True, check=False)
        said = (checked.stdout + checked.stderr).strip().partition("\n")[0]
        return (said or "it ended with an error") if checked.returncode else ""

    def version(self):
        return machine.first_line_of([self.binary, "--version"])


ALL = [Evenkeel, Haproxy, NginxShipped, NginxTuned]


def fetch(port, path):
    """Status and body, or the reason as a status that equals nothing."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as problem:
        return repr(problem), b""
    finally:
        connection.close()


# What OpenSSL as a client agrees on with a proxy that has no wishes of its own; evenkeel-load offers only this suite.
TLS_TERMS = ("TLSv1.3", TLS_SUITE)


def tls_terms(port):
    """Version and suite that a client without wishes gets."""
    context = ssl.create_default_context(cafile=TLS / "chain.pem")
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as server:
                return server.version(), server.cipher()[0]
    except OSError as problem:
        return repr(problem)


def fetch_tls(port, path, http_version):
    """As fetch, over TLS and by curl, since Python has no HTTP/2."""
    url = f"https://localhost:{port}{path}"
    argv = ["curl", "-sS", f"--http{http_version}", "--resolve", f"localhost:{port}:127.0.0.1", "--cacert", TLS / "chain.pem"]
    told = subprocess.run([*argv, "-w", "%{stderr}%{http_version} %{http_code}", url], capture_output=True, check=False)
    version, _, status = told.stderr.decode(errors="replace").partition(" ")
    return int(status) if version == http_version and status.isdigit() else told.stderr, told.stdout
