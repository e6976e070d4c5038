"""Probes a second and CPU per probe of evenkeel's checker, as its own example `rate` tells them.

The example belongs to crates/probe, because only it knows how a probe is made. It prints one JSON object with an
entry for each kind of probe, and is run a few times for the medians.
"""

import json
import os
import subprocess
from statistics import median

from harness.stage import LOAD_CPU, PROXY_CPU

ROUNDS = 3


def measure():
    """Rows for the table, or why there are none."""
    example = os.environ.get("EVENKEEL_PROBE_RATE")
    if not example:
        return 'crates/probe has no example "rate" yet'
    rounds = []
    for _ in range(ROUNDS):
        # Both CPUs: its targets are threads of its own and would otherwise compete with the probing thread.
        argv = ["taskset", "-c", f"{PROXY_CPU},{LOAD_CPU}", example]
        told = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
        if told.returncode != 0:
            return f'the example "rate" ended with {told.returncode}: {told.stderr.strip()[-500:]}'
        rounds.append(json.loads(told.stdout))
    return [
        {
            "kind": kind.replace("_", " "),
            "probes_per_second": median(told[kind]["per_second"] for told in rounds),
            "cpu_us": [told[kind]["cpu_us"] for told in rounds],
            "at_once": rounds[0][kind]["keys"],
            "failed": sum(told[kind]["probes"] - told[kind]["passed"] for told in rounds),
        }
        for kind in rounds[0]
    ]
