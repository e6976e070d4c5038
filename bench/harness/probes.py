"""Probes a second and CPU per probe of evenkeel's checker, as its own example `rate` tells them.

The example belongs to crates/probe, because only it knows how a probe is made. It prints one JSON object a line for
each kind of probe: kind, probes_per_second, cpu_us_per_probe, failed.
"""

import json
import os
import subprocess

from harness.stage import PROXY_CPU


def measure(seconds):
    """Rows for the table, or why there are none."""
    example = os.environ.get("EVENKEEL_PROBE_RATE")
    if not example:
        return "crates/probe has no example \"rate\" yet"
    told = subprocess.run(
        ["taskset", "-c", str(PROXY_CPU), example, "--seconds", str(seconds)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    rows = [json.loads(line) for line in told.stdout.splitlines() if line.startswith("{")]
    if told.returncode != 0 or not rows:
        return f"the example \"rate\" ended with {told.returncode}: {told.stderr.strip()[-500:]}"
    return rows
