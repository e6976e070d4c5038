"""What the proxies cost, and what else the machine was doing meanwhile.

CPU is read in nanoseconds from /proc/PID/task/*/schedstat of a process and all its children. The scheduler counts
there what a task ran, time in the kernel and soft interrupts on its behalf included, and leaves out the time in
which other people's work had the CPU. /proc/PID/stat tells the same sum in ticks of 10 ms; it is read too, for the
split into user and system, and because it still knows threads that have ended.
"""

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass
class Used:
    """CPU used so far by a process and its children."""

    exact_ns: int
    user_ns: int
    system_ns: int

    def since(self, earlier):
        return Used(
            self.exact_ns - earlier.exact_ns, self.user_ns - earlier.user_ns, self.system_ns - earlier.system_ns
        )


def family(pid):
    """The process and all that descend from it."""
    members = [pid]
    for member in members:
        for thread in Path(f"/proc/{member}/task").iterdir():
            members += [int(child) for child in (thread / "children").read_text().split()]
    return members


def cpu_used(pid):
    exact = user = system = 0
    for member in family(pid):
        for thread in Path(f"/proc/{member}/task").iterdir():
            try:
                exact += int((thread / "schedstat").read_text().split()[0])
            except FileNotFoundError:  # The thread ended between the listing and the reading.
                continue
        # The name in parentheses may hold spaces, so fields are counted behind it: utime and stime are 14 and 15.
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        user += int(fields[11]) * TICK_NS
        system += int(fields[12]) * TICK_NS
    return Used(exact, user, system)


def memory_kib(pid):
    """What a process and its children have in RAM."""
    return sum(
        int(line.split()[1])
        for member in family(pid)
        for line in Path(f"/proc/{member}/status").read_text().splitlines()
        if line.startswith("VmRSS:")
    )


def descriptors(pid):
    return sum(len(os.listdir(f"/proc/{member}/fd")) for member in family(pid))


@dataclass
class Busy:
    """One CPU's time so far, in nanoseconds, whoever used it."""

    worked_ns: int
    stolen_ns: int

    def since(self, earlier):
        return Busy(self.worked_ns - earlier.worked_ns, self.stolen_ns - earlier.stolen_ns)


def cpu_busy(cpu):
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{cpu}":
            user, nice, system, _idle, _wait, irq, softirq, steal = (int(f) * TICK_NS for f in fields[:8])
            return Busy(user + nice + system + irq + softirq, steal)
    raise LookupError(f"/proc/stat has no line cpu{cpu}")


def load_average():
    return os.getloadavg()[0]


def description():
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "unknown",
    )
    return {"cpu": model, "cpus": os.cpu_count(), "kernel": platform.release()}


def first_line_of(argv):
    """A program's own word on its version; nginx says it on stderr."""
    told = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (told.stdout + told.stderr).strip().partition("\n")[0]
