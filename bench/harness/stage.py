"""Everything the harness starts and leaves behind: one temporary folder, some ports, some processes.

A Stage ends what it started, by pid, and removes its folder, whatever made the run end. It never looks for processes
by name, since others run nginx and haproxy on the same machine.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from harness import machine

PROXY_CPU = 0
LOAD_CPU = 1

# A proxy that is not ready, or not gone, after this long is broken; all of them need a fraction of it.
PATIENCE_S = 10


class Broken(Exception):
    """Something could not be started or measured; the text says what and where to look."""


class Stage:
    def __init__(self):
        self.work = Path(tempfile.mkdtemp(prefix="evenkeel-bench."))
        # nginx gives up root for its workers, which must still reach their folders in ours.
        self.work.chmod(0o755)
        self.processes = []

    def __enter__(self):
        for name in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, leave)
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            end(process)
        shutil.rmtree(self.work, ignore_errors=True)

    def ports(self, names):
        """One free loopback port for each name. All are held until all are known, so none comes twice."""
        held = {}
        for name in names:
            held[name] = socket.socket()
            held[name].bind(("127.0.0.1", 0))
        numbers = {name: holder.getsockname()[1] for name, holder in held.items()}
        for holder in held.values():
            holder.close()
        return numbers

    def write(self, name, template, values):
        """Fills in the @NAMES@ of a template and returns the path of the result."""
        text = template.read_text()

        def value(match):
            if match[1] not in values:
                raise Broken(f"{template}: nothing to put in place of {match[0]}")
            return str(values[match[1]])

        # Twice, because a value may be a template of its own.
        for _ in range(2):
            text = re.sub(r"@([A-Z][A-Z0-9_]*)@", value, text)
        path = self.work / name
        path.write_text(text)
        return path

    def start(self, name, argv, cpu):
        output = self.work / f"{name}.output"
        with open(output, "ab") as sink:
            process = subprocess.Popen(
                ["taskset", "-c", str(cpu), *map(str, argv)], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
            )
        process.output = output
        self.processes.append(process)
        return process


def leave(number, _frame):
    """A signal becomes an exception, so that the way out is the same as after an error."""
    raise SystemExit(128 + number)


def end(process):
    """Asks, waits, then insists. The children's pids are noted first: a killed parent leaves them to nobody."""
    if process.poll() is not None:
        return
    members = machine.family(process.pid)
    process.terminate()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        for member in members:
            try:
                os.kill(member, signal.SIGKILL)
            except ProcessLookupError:
                pass
        process.wait()


def wait_until(ready, process, name):
    deadline = time.monotonic() + PATIENCE_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            state = f"ended with {process.returncode}" if process.returncode is not None else "is not ready"
            said = Path(process.output).read_text(errors="replace").strip()[-2000:]
            raise Broken(f"{name} {state}; it said:\n{said or '(nothing)'}")
        time.sleep(0.02)


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False
