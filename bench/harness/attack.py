"""Attacks a node with HTTP/2 frames, one attack after the other, and writes what each cost: bench/attack.

Each attack meets a fresh node. First a single connection sends frame by frame, to see after how many it is closed and
with which word. Then an attacker goes on for some seconds as fast as it can, with a new connection whenever one is
closed, while an honest client asks for 1 KiB over HTTP/1.1 at a steady pace on the same listener.

CPU per frame is what the node used, less what the honest client costs alone, divided by the frames that were sent.
Connecting again is in it, since a closed connection is the defence. The attacker gives way to honest client and backend
on their common CPU (nice 10), or the honest client's latency would tell how busy that CPU is.
"""

import argparse
import json
import multiprocessing
import os
import select
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice

from harness import compare, h2attacks, machine, peers, table, workloads
from harness.h2attacks import GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame
from harness.stage import LOAD_CPU, PROXY_CPU, Broken, Stage

OUT = compare.OUT
# Frames in one send. Few, because what is sent behind the frame that closed the connection counts as sent too.
AT_ONCE = 64
# Where a connection that nobody closes is given up, in frames and seconds.
ENOUGH_FRAMES = 200_000
ENOUGH_SECONDS = 10
# A held connection is waited for as long as evenkeel gives a client to read its answer (60 s) and then an empty connection
# to ask again (15 s), and a little more.
HELD_SECONDS = 90
HELD_STREAMS = 100
# A node that takes no byte for so long has stopped listening, which is a defence too.
STALLED_S = 1
HONEST_RATE = 200
ERRORS = ["NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
          "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM"]  # fmt: skip


class Connection:
    """One HTTP/2 connection without TLS; counts what comes back."""

    def __init__(self, port, attack):
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(STALLED_S)
        self.reads = attack.reads
        self.came = bytearray()
        self.seen = Counter()
        self.goaway = None
        self.closed = False
        self.stalled = False
        self.send(PREFACE + frame(SETTINGS, 0, 0, attack.settings) + frame(SETTINGS, h2attacks.ACK, 0))

    def send(self, data):
        """False when the node takes no more."""
        try:
            self.socket.sendall(data)
        except TimeoutError:
            self.stalled = True
        except OSError:
            self.closed = True
        if self.reads or self.closed:
            self.take()
        return not (self.closed or self.stalled)

    def take(self, patience=0):
        """Reads what is there."""
        while select.select([self.socket], [], [], patience)[0]:
            patience = 0
            try:
                piece = self.socket.recv(1 << 18)
            except OSError:
                piece = b""
            if not piece:
                self.closed = True
                return
            self.came += piece
            self.count()

    def count(self):
        place = 0
        while len(self.came) - place >= 9:
            length = int.from_bytes(self.came[place : place + 3], "big")
            if len(self.came) - place < 9 + length:
                break
            kind = self.came[place + 3]
            self.seen[kind] += 1
            if kind == GOAWAY:
                code = int.from_bytes(self.came[place + 13 : place + 17], "big")
                self.goaway = ERRORS[code] if code < len(ERRORS) else str(code)
            place += 9 + length
        del self.came[:place]

    def close(self):
        self.socket.close()


@dataclass
class Alone:
    """What became of one connection that sent frame by frame."""

    frames: int
    seconds: float
    closed: bool
    stalled: bool
    goaway: str | None
    resets: int

    def told(self):
        how = "yes" if self.closed else "no longer read" if self.stalled else "**no**"
        if self.goaway:
            how += f", {self.goaway}"
        if self.resets and not self.closed:
            how += f", {self.resets:,} streams reset"
        return how


@dataclass
class Flood:
    """What an attacker did in its time."""

    frames: int = 0
    connections: int = 0
    closed: int = 0
    stalled: int = 0
    seen: Counter = field(default_factory=Counter)


def alone(port, attack):
    connection, sent, begun = Connection(port, attack), 0, time.monotonic()
    if attack.holds:
        for piece, frames in islice(attack.frames(), HELD_STREAMS):
            connection.send(piece)
            sent += frames
        while not connection.closed and time.monotonic() - begun < HELD_SECONDS:
            connection.take(1)
    else:
        for piece, frames in attack.frames():
            if not connection.send(piece):
                break
            sent += frames
            if sent > ENOUGH_FRAMES or time.monotonic() - begun > ENOUGH_SECONDS:
                break
        connection.take(0.1)
    seconds = time.monotonic() - begun
    connection.close()
    return Alone(
        sent, seconds, connection.closed, connection.stalled, connection.goaway, connection.seen[RST_STREAM]
    )  # fmt: skip


def flood(port, attack, seconds, pipe):
    """Runs in a process of its own."""
    os.nice(10)
    told, end = Flood(), time.monotonic() + seconds
    held = []
    while time.monotonic() < end:
        try:
            connection = Connection(port, attack)
        except OSError:
            time.sleep(0.01)
            continue
        told.connections += 1
        pieces = attack.frames()
        if attack.holds:
            batch = list(islice(pieces, HELD_STREAMS))
            connection.send(b"".join(piece for piece, _ in batch))
            told.frames += sum(frames for _, frames in batch)
            held.append(connection)
            if len(held) == attack.holds:
                hold(held, end)
            continue
        while time.monotonic() < end:
            batch = list(islice(pieces, AT_ONCE))
            going = connection.send(b"".join(piece for piece, _ in batch))
            told.frames += sum(frames for _, frames in batch)
            if not going:
                break
        told.closed += connection.closed
        told.stalled += connection.stalled
        told.seen += connection.seen
        connection.close()
    for connection in held:
        told.closed += connection.closed
        told.seen += connection.seen
    pipe.send(told)


def hold(held, end):
    while time.monotonic() < end:
        for connection in held:
            if not connection.closed:
                connection.take(0.05)
        time.sleep(0.05)


def honest(port, seconds, kit):
    argv = [kit.load, "pace", "--target", f"127.0.0.1:{port}", "--seconds", seconds, "--rate", HONEST_RATE]
    return subprocess.Popen(
        ["taskset", "-c", str(LOAD_CPU), *map(str, argv), "--path", "/1k", "--length", "1024"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def watched(proxy, options, kit, attack=None):
    """The honest client for some seconds, with or without an attack beside it."""
    here, there = multiprocessing.Pipe()
    attacker, told, memory = None, Flood(), machine.memory_kib(proxy.process.pid)
    if attack:
        port = proxy.ports[proxy.h2c]
        attacker = multiprocessing.Process(target=flood, args=(port, attack, options.seconds, there), daemon=True)
    used, client = machine.cpu_used(proxy.process.pid), honest(proxy.ports["HTTP"], options.seconds, kit)
    if attacker:
        attacker.start()
    most = memory
    while client.poll() is None:
        most = max(most, machine.memory_kib(proxy.process.pid))
        time.sleep(0.05)
    if attacker:
        told = here.recv() if here.poll(STALLED_S + 10) else told
        attacker.join(STALLED_S + 10)
    used = machine.cpu_used(proxy.process.pid).since(used)
    return told, json.loads(client.stdout.read()), used.exact_ns, most - memory


def causes(proxy):
    """What evenkeel's log says of the attack: the causes of its lines, most frequent first."""
    told = Counter()
    for line in proxy.log.read_bytes().splitlines():
        try:
            told[json.loads(line).get("cause")] += 1
        except ValueError:
            return "–"
    del told[None]
    return ", ".join(f"{cause} × {times}" for cause, times in told.most_common(2)) or "–"


def perform(attack, kind, options, kit):
    with Stage() as stage:
        backends = peers.start_backends(stage, kit.load)
        proxy = kind(stage, backends, kit.load)
        proxy.start()
        _, quiet, quiet_ns, _ = watched(proxy, options, kit)
        row = {"attack": attack.title, "key": attack.key, "quiet": quiet, "quiet_ns": quiet_ns}
        one = alone(proxy.ports[proxy.h2c], attack)
        told, client, used_ns, grown = watched(proxy, options, kit, attack)
        ended = proxy.process.poll()
        time.sleep(compare.LOG_DELAY_S)
        return row | {
            "alone": vars(one) | {"told": one.told()},
            "frames": told.frames,
            "connections": told.connections,
            "closed": told.closed,
            "stalled": told.stalled,
            "answers": told.seen[HEADERS],
            "resets": told.seen[RST_STREAM],
            "cpu_ns": used_ns,
            "cpu_us_per_frame": max(0, used_ns - quiet_ns) / 1e3 / told.frames if told.frames else None,
            "cpu_share": used_ns / 1e9 / options.seconds,
            "grown_kib": grown,
            "honest": client,
            "logged": causes(proxy),
            "died": ended,
        }


def document(rows, title, version, options):
    head = ["attack", "closed", "after", "CPU µs/frame", "frames/s", "connections/s", "node's CPU", "memory grew",
            "others p50 µs", "p99 µs", "worst ms", "failed", "logged as"]  # fmt: skip
    lines = [
        f"## HTTP/2 attacks on {title}", "",
        f"{version}. Each for {options.seconds:g} s with one attacker, HTTP/2 with prior knowledge, one worker; others: one "
        f"HTTP/1.1 client with {HONEST_RATE} requests/s.", "",
        table.row(head), table.row(["---", "---"] + ["---:"] * (len(head) - 3) + ["---"]),
    ]  # fmt: skip
    # Everybody's quiet time, as one row to compare with.
    quiet = sorted((row["quiet"] for row in rows), key=lambda client: client["p99_us"])[len(rows) // 2]
    quiet_share = sum(row["quiet_ns"] for row in rows) / len(rows) / 1e9 / options.seconds
    lines.append(table.row(["none", "", "", "", "", "", share(quiet_share), "", *latencies(quiet), ""]))
    for row in rows:
        one = row["alone"]
        after = f"{one['seconds']:.0f} s" if row["key"] == "zero-window" else f"{one['frames']:,} frames"
        died = f" **the node ended with {row['died']}**" if row["died"] is not None else ""
        lines.append(table.row([
            row["attack"] + died, one["told"], after, table.number(row["cpu_us_per_frame"]),
            table.number(row["frames"] / options.seconds), table.number(row["connections"] / options.seconds),
            share(row["cpu_share"]), f"{row['grown_kib'] / 1024:.1f} MiB", *latencies(row["honest"]), row["logged"],
        ]))  # fmt: skip
    return "\n".join(lines) + "\n"


def share(value):
    return f"{100 * value:.0f} %"


def latencies(client):
    told = [table.number(client["p50_us"]), table.number(client["p99_us"]), f"{client['max_us'] / 1e3:.1f}"]
    return [*told, str(client["errors"])]


def arguments():
    parser = argparse.ArgumentParser(prog="bench/attack", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", action="append", default=[], metavar="NAME[,NAME…]",
                        help="attacks: " + ", ".join(attack.key for attack in h2attacks.ALL))  # fmt: skip
    able = [peer.key for peer in peers.ALL if peer is not peers.NginxShipped]
    parser.add_argument("--peer", choices=able, default="evenkeel")
    parser.add_argument("--seconds", type=float, default=4, help="length of one attack (default 4)")
    options = parser.parse_args()
    options.only = [name for names in options.only for name in names.split(",") if name]
    known = {attack.key for attack in h2attacks.ALL}
    for name in options.only:
        if name not in known:
            parser.error(f"--only {name}: choose from {', '.join(sorted(known))}")
    return options


def main():
    options = arguments()
    kind = next(peer for peer in peers.ALL if peer.key == options.peer)
    if kind.missing():
        raise Broken(f"{kind.title}: {kind.missing()}")
    kit = compare.tools()
    os.sched_setaffinity(0, {LOAD_CPU})
    rows = []
    for attack in compare.chosen(h2attacks.ALL, options.only):
        rows.append(perform(attack, kind, options, kit))
        one = rows[-1]["alone"]
        compare.say(f"{attack.key:18} closed: {one['told']} after {one['frames']:,} frames")
    OUT.mkdir(exist_ok=True)
    version = machine.first_line_of([kind.binary, "--version"]) if kind is peers.Evenkeel else kind.version(None)
    text = document(rows, kind.title, version, options)
    (OUT / f"attack-{kind.key}.md").write_text(text)
    (OUT / f"attack-{kind.key}.json").write_text(json.dumps(rows, indent=1))
    print(text)
    compare.say(f"written: bench/out/attack-{kind.key}.md, bench/out/attack-{kind.key}.json")
    defended = all(row["alone"]["closed"] and row["died"] is None for row in rows)
    return 0 if defended else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Broken as problem:
        compare.loud(str(problem))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
