"""Runs every workload against every proxy, in interleaved rounds, and writes the table.

Rounds go A B C, A B C and not A A, B B, because a machine's mood changes over minutes: so every proxy gets its
share of the bad ones. All proxies stay up for the whole run; one that is not asked costs nothing.
"""

import argparse
import datetime
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from harness import idle, machine, peers, probes, table, workloads
from harness.stage import LOAD_CPU, PROXY_CPU, Broken, Stage

OUT = Path(__file__).resolve().parent.parent / "out"

# Logs are written a second late at most (nginx tuned: flush=1s).
LOG_DELAY_S = 1.2


@dataclass
class Tools:
    wrk: str
    h2load: str | None
    load: Path
    work: Path | None = None


def arguments():
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each workload (default 5)")
    parser.add_argument("--seconds", type=float, default=3, help="length of one measurement, whole seconds (default 3)")
    parser.add_argument("--warm-up", type=float, default=1, help="seconds before a proxy's first round of a workload")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME[,NAME…]",
        help="workloads, proxies, \"tcp-idle\" or \"probes\"; may be repeated: "
        + ", ".join([w.key for w in workloads.ALL] + [p.key for p in peers.ALL]),
    )
    parser.add_argument(
        "--peers", action="append", default=[], metavar="NAME[,NAME…]", help="the same as --only, for proxies alone"
    )
    options = parser.parse_args()
    options.only = [name for names in options.only + options.peers for name in names.split(",") if name]
    known = {w.key for w in workloads.ALL} | {p.key for p in peers.ALL} | {"probes", "tcp-idle"}
    for name in options.only:
        if name not in known:
            parser.error(f"--only {name}: choose from {', '.join(sorted(known))}")
    return options


def chosen(everything, only):
    """All of a kind, unless some of that kind are named."""
    named = [thing for thing in everything if thing.key in only]
    return named or list(everything)


def loud(text):
    print(f"!!! {text}", file=sys.stderr, flush=True)


def say(text):
    print(text, file=sys.stderr, flush=True)


def tools():
    wrk = shutil.which("wrk")
    if not wrk or not shutil.which("nginx"):
        raise Broken("the load and the backends need wrk and nginx: apt-get install wrk nginx-light")
    return Tools(wrk, shutil.which("h2load"), Path(os.environ["EVENKEEL_LOAD"]))


def start_proxies(stage, backends, only, kit, missing):
    proxies = []
    for kind in chosen(peers.ALL, only):
        why = kind.missing()
        if why:
            missing[kind.title] = why
            loud(f"{kind.title} is left out: {why}")
            continue
        proxy = kind(stage, backends, kit.load)
        proxy.start()
        proxy.answers_like(backends["BACKEND_A"])
        proxies.append(proxy)
    for proxy in proxies:
        for part, why in proxy.refused.items() if isinstance(proxy, peers.Evenkeel) else ():
            missing[f"evenkeel, {part} rows"] = f"check refuses the {part} listener: {why}"
            loud(f"evenkeel does no {part}: {missing[f'evenkeel, {part} rows']}")
    if any(isinstance(p, peers.NginxTuned) and not p.does_tcp for p in proxies):
        missing["nginx tuned, TCP and UDP rows"] = "the stream module is missing (apt-get install libnginx-mod-stream)"
        loud(f"nginx tuned does no TCP and UDP: {missing['nginx tuned, TCP and UDP rows']}")
    return proxies


def measure(proxy, workload, seconds, kit):
    """One load, with the proxy's CPU and everybody else's on the same CPU."""
    busy, used, begun = machine.cpu_busy(PROXY_CPU), machine.cpu_used(proxy.process.pid), time.monotonic_ns()
    result = workload.run(proxy.ports[workload.port], seconds, kit)
    used = machine.cpu_used(proxy.process.pid).since(used)
    elapsed, busy = time.monotonic_ns() - begun, machine.cpu_busy(PROXY_CPU).since(busy)
    problems = list(result.problems)
    ticks = used.user_ns + used.system_ns
    if abs(ticks - used.exact_ns) > 0.05 * used.exact_ns + 5 * machine.TICK_NS:
        # Both count the same thing; only a thread that ended in between is in one and not in the other.
        problems.append(f"threads ended meanwhile: {used.exact_ns} ns by task, {ticks} ns by process")
    return result, {
        "workload": workload.key,
        "peer": proxy.key,
        "cpu": used.exact_ns / workload.cpu_scale / result.units if result.units else None,
        "cpu_ns": used.exact_ns,
        "user_share": used.user_ns / ticks if ticks else 0,
        "units": result.units,
        "seconds": result.seconds,
        "rate": result.units * workload.rate_scale / result.seconds,
        "p50_us": result.p50_us,
        "p99_us": result.p99_us,
        "utilisation": used.exact_ns / elapsed,
        "others_share": max(0, busy.worked_ns - ticks) / elapsed,
        "stolen_share": busy.stolen_ns / elapsed,
        "notes": result.notes or {},
        "load_average": machine.load_average(),
        "problems": problems,
    }


def play(workload, proxies, options, kit):
    runs, logged = [], dict.fromkeys(proxies, 0)
    for proxy in proxies:
        proxy.log_lines()
    for number in range(1, options.rounds + 1):
        for proxy in proxies:
            if number == 1 and options.warm_up > 0:
                logged[proxy] += workload.run(proxy.ports[workload.port], options.warm_up, kit).logged
            result, run = measure(proxy, workload, options.seconds, kit)
            logged[proxy] += result.logged
            runs.append(run | {"round": number})
            cost = f"{run['cpu']:.2f}" if run["cpu"] is not None else "?"
            say(f"{workload.key:11} {number}/{options.rounds} {proxy.title:17} {cost:>7} {workload.cpu_unit}/{workload.unit}"
                f" {run['rate']:>9,.1f} {workload.rate_unit}, CPU {100 * run['utilisation']:.0f} %")  # fmt: skip
            for problem in run["problems"]:
                loud(f"{workload.key}, {proxy.title}, round {number}: {problem}")
    time.sleep(LOG_DELAY_S)
    for proxy in proxies:
        lines = proxy.log_lines()
        if lines < logged[proxy]:
            problem = f"the access log has {lines} lines for {logged[proxy]} {workload.unit}s"
            loud(f"{workload.key}, {proxy.title}: {problem}")
            for run in runs:
                if run["peer"] == proxy.key:
                    run["problems"].append(problem)
    return runs


def perform(options):
    kit, missing = tools(), {}
    result = {
        "started": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        "machine": machine.description(),
        "options": vars(options),
        "missing": missing,
        "runs": [],
        "ceilings": {},
        "idle": None,
        "probes": None,
    }
    others = {"probes", "tcp-idle"}
    # Naming one of the others alone means no workload, naming only proxies means all.
    no_loads = bool(others & set(options.only)) and not any(w.key in options.only for w in workloads.ALL)
    loads = [] if no_loads else chosen(workloads.ALL, options.only)
    result["workloads"] = [{k: v for k, v in vars(w).items() if k != "load"} for w in loads]
    os.sched_setaffinity(0, {LOAD_CPU})
    with Stage() as stage:
        kit.work = stage.work
        backends = peers.start_backends(stage, kit.load)
        proxies = [] if no_loads else start_proxies(stage, backends, options.only, kit, missing)
        result["peers"] = {proxy.key: proxy.title for proxy in proxies}
        result["versions"] = {proxy.key: proxy.version() for proxy in proxies}
        for workload in loads:
            if workload.needs_h2load and not kit.h2load:
                missing[workload.title] = "h2load is not installed (apt-get install nghttp2-client)"
                loud(f"{workload.key} is left out: {missing[workload.title]}")
                continue
            able = [proxy for proxy in proxies if proxy.does(workload)]
            if workload.backend_port:
                direct = workload.run(backends[workload.backend_port], options.seconds, kit)
                result["ceilings"][workload.key] = direct.units * workload.rate_scale / direct.seconds
            result["runs"] += play(workload, able, options, kit)
        if "probes" in options.only or not options.only:
            result["probes"] = probes.measure()
            if isinstance(result["probes"], str):
                loud(f"probes: {result['probes']}")
    if "tcp-idle" in options.only or not options.only:
        result["idle"] = idle.measure(chosen(peers.ALL, options.only), kit.load, say)
        for problem in result["idle"]["problems"]:
            loud(f"tcp-idle: {problem}")
    return result


def main():
    options = arguments()
    idle.raise_file_limit()
    if os.cpu_count() < 2:
        raise Broken("one CPU is for the proxies and one for the load: two are needed")
    result = perform(options)
    OUT.mkdir(exist_ok=True)
    text = table.document(result)
    (OUT / "table.md").write_text(text)
    (OUT / "runs.json").write_text(json.dumps(result, indent=1, default=str))
    print(text)
    say("written: bench/out/table.md, bench/out/runs.json")
    failed_probes = isinstance(result["probes"], list) and any(probe["failed"] for probe in result["probes"])
    wrong_idle = result["idle"] and result["idle"]["problems"]
    return 1 if failed_probes or wrong_idle or any(run["problems"] for run in result["runs"]) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Broken as problem:
        loud(str(problem))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
