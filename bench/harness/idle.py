"""What a connection costs that does nothing: memory of each proxy with and without many of them.

Every proxy is started afresh for it: one that has served before has memory left over, and would show none as new.
Each connection has asked once and been answered before it counts, and once more at the end.
"""

import json
import resource
import subprocess
from pathlib import Path

from harness import machine, peers
from harness.stage import LOAD_CPU, Broken, Stage

ROUNDS = 3
# A proxy has two sockets for each connection, and some have pipes of two ends as well.
FILES = 8 * peers.IDLE_CONNECTIONS
# What the kernel keeps for one TCP socket that holds no data, by the names of /proc/slabinfo.
SOCKET_OBJECTS = ("TCP", "sock_inode_cache", "filp", "dentry")


def raise_file_limit():
    """For us and all that is started by us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else max(hard, FILES)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def measure(kinds, load_tool, say):
    told = {"connections": peers.idle_connections(), "runs": [], "problems": [], "kernel": kernel(), "limit": ""}
    if told["connections"] < peers.IDLE_CONNECTIONS:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        told["limit"] = f"Not {peers.IDLE_CONNECTIONS:,}, because a process may open only {soft:,} files here."
        say(f"!!! tcp-idle: {told['limit']}")
    for number in range(1, ROUNDS + 1):
        for kind in kinds:
            if not kind.does_tcp or kind.missing():
                continue
            run = hold(kind, load_tool, told["connections"])
            say(f"tcp-idle    {number}/{ROUNDS} {kind.title:17} {run['kib']:7.2f} KiB/connection")
            told["problems"] += [f"{kind.title}, round {number}: {problem}" for problem in run["problems"]]
            told["runs"].append(run | {"title": kind.title, "round": number})
    return told


def hold(kind, load_tool, connections):
    with Stage() as stage:
        proxy = kind(stage, peers.start_backends(stage, load_tool), load_tool)
        proxy.start()
        pid = proxy.process.pid
        before, files_before = machine.memory_kib(pid), machine.descriptors(pid)
        argv = [load_tool, "idle", "--target", f"127.0.0.1:{proxy.ports['IDLE']}", "--connections", connections]
        load = subprocess.Popen(
            ["taskset", "-c", str(LOAD_CPU), *map(str, argv)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )  # fmt: skip
        stage.processes.append(load)
        first = answer(load)
        after, files = machine.memory_kib(pid), machine.descriptors(pid)
        load.stdin.write("\n")
        load.stdin.flush()
        last = answer(load)
        load.wait()
    problems = [f"{connections - told['good']} of {connections} connections {what}: {told['first_error']}"
                for told, what in ((first, "could not be opened"), (last, "did not last")) if told["good"] < connections]  # fmt: skip
    return {
        "kib": (after - before) / connections,
        "descriptors": (files - files_before) / connections,
        "before_kib": before,
        "after_kib": after,
        "problems": problems[:1],
    }


def answer(load):
    line = load.stdout.readline()
    if not line:
        raise Broken(f"the load of idle connections ended with {load.wait()}")
    return json.loads(line)


def kernel():
    """What a socket costs in the kernel, which is in nobody's figure."""
    try:
        rows = [line.split() for line in Path("/proc/slabinfo").read_text().splitlines()[2:]]
    except OSError:
        return "What the kernel keeps for each socket comes on top, for all alike."
    size = sum(int(row[3]) for row in rows if row[0] in SOCKET_OBJECTS)
    return f"For each socket the kernel keeps another {size / 1024:.1f} KiB, for all alike."
