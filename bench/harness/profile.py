"""Shows where one proxy's CPU goes in one workload: samples by perf, system calls per request by strace.

The two run one after the other, since strace slows the proxy many times over: its counts are true, its times are not.
Sampling is by the CPU's clock, because virtual machines seldom lend out the counters; code that runs with
interrupts off is then booked on the line that turns them on again (`_raw_spin_unlock_irqrestore` and its kin).
"""

import argparse
import os
import shutil
import subprocess
import sys
import time

from harness import compare, machine, peers, workloads
from harness.stage import LOAD_CPU, Broken, Stage

SAMPLES_A_SECOND = 2000


def arguments():
    parser = argparse.ArgumentParser(prog="bench/profile", description=__doc__.partition("\n")[0])
    parser.add_argument("workload", choices=[workload.key for workload in workloads.ALL])
    parser.add_argument("--peer", choices=[peer.key for peer in peers.ALL], default="evenkeel")
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--lines", type=int, default=40, help="symbols to show (default 40)")
    return parser.parse_args()


def works(argv):
    return bool(shutil.which(argv[0])) and subprocess.run(argv, capture_output=True, check=False).returncode == 0


def watched_by(argv, load):
    """Runs the load while a tool that stops on SIGINT watches the proxy; returns the load's result."""
    watcher = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    # Attaching takes a moment; what the tool misses at the start is not in its sums either.
    time.sleep(0.5)
    result = load()
    watcher.send_signal(2)
    said, _ = watcher.communicate()
    if result.problems:
        print(f"!!! the load saw: {'; '.join(result.problems)}")
    return result, said


def filled(told):
    """The lines that say something, without the columns that perf has no value for."""
    return [line.rstrip(" -") for line in told.splitlines() if line.strip()]


def samples(stage, proxy, pids, load, lines):
    event = ["-F", str(SAMPLES_A_SECOND), "-e", "cpu-clock", "-g"]
    if not works(["perf", "record", "-q", *event, "-o", stage.work / "try.perf", "true"]):
        print("perf cannot sample here (apt-get install linux-perf; kernel.perf_event_paranoid), so only system calls follow\n")
        return
    data = stage.work / "perf.data"
    used = machine.cpu_used(proxy.process.pid)
    result, said = watched_by(["perf", "record", "-q", *event, "-o", data, "-p", ",".join(pids)], load)
    used = machine.cpu_used(proxy.process.pid).since(used)
    if not data.exists():
        raise Broken(f"perf recorded nothing; it said:\n{said}")
    print(f"{used.exact_ns / 1e3 / max(result.units, 1):.2f} µs of CPU per unit while sampled, {result.units / result.seconds:,.0f} units/s\n")
    for title, sort, limit in (("By binary", "dso", 8), ("By symbol", "symbol,dso", lines)):
        report = ["perf", "report", "-q", "--stdio", "--no-children", "-g", "none", "--sort", sort, "-i", data]
        told = subprocess.run(report, capture_output=True, text=True, check=False).stdout
        print(f"{title}:")
        print("\n".join(filled(told)[:limit]), end="\n\n")
    # Whole system calls: what they and all below them cost, as seen from their entry points.
    report = ["perf", "report", "-q", "--stdio", "--children", "-g", "none", "--sort", "symbol", "-i", data]
    told = subprocess.run(report, capture_output=True, text=True, check=False).stdout
    calls = [line for line in filled(told) if "__x64_sys_" in line or "__se_sys_" in line or "__do_sys_" in line]
    print("By system call, with all below it (share with callees, share of its own):")
    print("\n".join(calls[:20]), end="\n\n")


def system_calls(pids, load):
    if not shutil.which("strace"):
        print("no strace (apt-get install strace): system calls are not counted")
        return
    argv = ["strace", "-c", "-f"]
    for pid in pids:
        argv += ["-p", pid]
    result, said = watched_by(argv, load)
    print(f"System calls per unit, counted by strace over {result.units:,.6g} units:")
    for line in said.splitlines():
        fields = line.split()
        # "% time, seconds, usecs/call, calls, [errors,] syscall"; the errors column is empty where there are none.
        if len(fields) in (5, 6) and fields[3].isdigit() and fields[-1] != "total":
            errors = f"  {int(fields[4]) / result.units:.3f} with an error" if len(fields) == 6 else ""
            if int(fields[3]) / result.units >= 0.001:
                print(f"  {int(fields[3]) / result.units:8.3f}  {fields[-1]:16}{errors}")


def main():
    options = arguments()
    workload = next(w for w in workloads.ALL if w.key == options.workload)
    kind = next(p for p in peers.ALL if p.key == options.peer)
    if kind.missing():
        raise Broken(f"{kind.title}: {kind.missing()}")
    kit = compare.tools()
    os.sched_setaffinity(0, {LOAD_CPU})
    with Stage() as stage:
        backends = peers.start_backends(stage, kit.load)
        proxy = kind(stage, backends, kit.load)
        kit.work = stage.work
        proxy.start()
        if not proxy.does(workload):
            raise Broken(f"{kind.title} does not serve {workload.key} here")

        def load():
            return workload.run(proxy.ports[workload.port], options.seconds, kit)

        load()
        pids = [str(pid) for pid in machine.family(proxy.process.pid)]
        print(f"{proxy.title}, {workload.title}; a unit is one {workload.unit}\n")
        samples(stage, proxy, pids, load, options.lines)
        system_calls(pids, load)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Broken as problem:
        print(f"!!! {problem}", file=sys.stderr)
        sys.exit(1)
