"""CPU per probe of each checker, in interleaved rounds, and what 100,000 targets cost evenkeel.

A checker probes at a given pace, so that its CPU is not shared out over as many probes as it can do but over those that
it was told to do: what a node pays for being quiet most of the time is in it.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from harness import checked, checkers, idle, machine
from harness.checkers import Task
from harness.stage import LOAD_CPU, Broken, Stage

OUT = Path(__file__).resolve().parent.parent / "out"

# One interval for everybody: keepalived knows whole seconds, and 2 s is what haproxy and evenkeel ship.
INTERVAL_S = 2
ROWS = [(kind, targets) for targets in (1_000, 10_000) for kind in ("tcp", "http")]

MANY = 100_000
MANY_INTERVAL_S = 5
MANY_KINDS = ("tcp", "http", "udp")

# A checker that does less than this share of what it was told to is not cheap but absent.
LEAST_DONE = 0.9


def arguments():
    parser = argparse.ArgumentParser(prog="bench/probes", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each row (default 3)")
    parser.add_argument("--seconds", type=float, default=6, help="length of one measurement (default 6)")
    parser.add_argument("--only", default="", metavar="NAME[,NAME…]",
                        help="rows and checkers: " + ", ".join([name_of(*row) for row in ROWS] + ["many", "many-tcp", "many-http", "many-udp"]
                                                               + [kind.key for kind in checkers.ALL]))  # fmt: skip
    parser.add_argument("--targets", type=int, default=MANY, help=f"targets of the rows of many (default {MANY:,})")
    parser.add_argument("--profile", metavar="FILE", help="record the checker of each measurement with perf, the last one wins")
    options = parser.parse_args()
    options.only = [name for name in options.only.split(",") if name]
    return options


def name_of(kind, targets):
    return f"{kind}-{targets}"


def say(text):
    print(text, file=sys.stderr, flush=True)


def measure(kind, task, load_tool, seconds, options):
    """One checker alone with the targets: what it did and what that cost."""
    with Stage() as stage:
        task.ports = checkers.start_targets(stage, load_tool, LOAD_CPU)
        checker = kind(stage, task)
        checker.start()
        pid = checker.process.pid
        # First probes are spread over an interval, and the second ones show that they ended.
        time.sleep(1.5 * task.interval)
        before_metrics = checker.metrics() if isinstance(checker, checkers.Evenkeel) else {}
        before, used, began = checkers.counts(task.ports), machine.cpu_used(pid), time.monotonic()
        if options.profile:
            watch(pid, seconds, options.profile)
        else:
            time.sleep(seconds)
        after, used, took = checkers.counts(task.ports), machine.cpu_used(pid).since(used), time.monotonic() - began
        metrics = checker.metrics() if isinstance(checker, checkers.Evenkeel) else {}
        problems = checker.problems()
        done = checkers.probes_between(task.kind, before, after)
        due = task.targets * took / task.interval
        if done < LEAST_DONE * due:
            problems.append(f"{done:,} probes where {due:,.0f} were due")
        return {
            "kind": task.kind,
            "targets": task.targets,
            "interval_s": task.interval,
            "peer": kind.key,
            "title": kind.title,
            "seconds": took,
            "probes": done,
            "accepted": after["accepted"] - before["accepted"],
            "due": due,
            "cpu_us": used.exact_ns / 1e3 / max(done, 1),
            "user_share": used.user_ns / max(used.user_ns + used.system_ns, 1),
            "cpu_share": used.exact_ns / 1e9 / took,
            "memory_kib": machine.memory_kib(pid),
            "metrics": {name: value - before_metrics.get(name, 0) for name, value in metrics.items()},
            "load_average": machine.load_average(),
            "problems": problems,
        }


def watch(pid, seconds, path):
    pids = ",".join(map(str, machine.family(pid)))
    subprocess.run(["perf", "record", "-q", "-F", "2000", "-e", "cpu-clock", "-g", "-o", path, "-p", pids, "sleep", str(seconds)],
                   check=False)  # fmt: skip


def rows(options, kinds, load_tool):
    wanted = [row for row in ROWS if name_of(*row) in options.only]
    named = bool(wanted) or any(name.startswith("many") for name in options.only)
    runs = []
    for kind, targets in wanted if named else ROWS:
        for number in range(1, options.rounds + 1):
            for checker in kinds:
                if checker.does(kind):
                    run = measure(checker, Task(kind, targets, INTERVAL_S, {}), load_tool, options.seconds, options)
                    runs.append(run | {"round": number})
                    tell(run, f"{number}/{options.rounds}")
    return runs


def many(options, load_tool):
    if options.only and not any(name.startswith("many") for name in options.only):
        return []
    kinds = [kind for kind in MANY_KINDS if f"many-{kind}" in options.only] or MANY_KINDS
    runs = []
    for kind in kinds:
        task = Task(kind, options.targets, MANY_INTERVAL_S, {})
        run = measure(checkers.Evenkeel, task, load_tool, 2 * MANY_INTERVAL_S, options)
        with Stage() as stage:
            empty = checkers.Evenkeel(stage, Task(kind, 1, MANY_INTERVAL_S, {"TCP": 1, "HTTP": 1, "UDP": 1}))
            empty.start()
            run["memory_empty_kib"] = machine.memory_kib(empty.process.pid)
        runs.append(run)
        tell(run, "many")
    return runs


def tell(run, number):
    say(f"{name_of(run['kind'], run['targets']):12} {number} {run['title']:25} {run['cpu_us']:7.2f} µs/probe, "
        f"{run['probes']:,} of {run['due']:,.0f} probes, CPU {100 * run['cpu_share']:.1f} %, {run['memory_kib'] / 1024:.0f} MiB")  # fmt: skip
    for problem in run["problems"]:
        say(f"!!! {problem}")


def main():
    options = arguments()
    idle.raise_file_limit()
    load_tool = Path(os.environ["EVENKEEL_LOAD"])
    kinds, missing = checkers.check_missing([name for name in options.only if name in {kind.key for kind in checkers.ALL}])
    for title, why in missing.items():
        say(f"!!! {title} is left out: {why}")
    os.sched_setaffinity(0, {LOAD_CPU})
    result = {
        "started": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        "machine": machine.description(),
        "missing": missing,
        "versions": [kind.version() for kind in kinds if kind is not checkers.EvenkeelFull],
        "runs": rows(options, kinds, load_tool),
        "many": many(options, load_tool),
    }
    text = checked.document(result)
    OUT.mkdir(exist_ok=True)
    (OUT / "probes.md").write_text(text)
    (OUT / "probes.json").write_text(json.dumps(result, indent=1, default=str))
    print(text)
    say("written: bench/out/probes.md, bench/out/probes.json")
    return 1 if any(run["problems"] for run in result["runs"] + result["many"]) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Broken as problem:
        say(f"!!! {problem}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
