"""Turns runs of checkers into Markdown. Knows nothing of how a run was made."""

from statistics import median

from harness.table import number, row, spread


def document(result):
    versions = ", ".join(result["versions"])
    parts = [
        "## evenkeel's checker beside haproxy's and keepalived's",
        f"{result['started']}, {result['machine']['cpu']}, Linux {result['machine']['kernel']}. {versions}. The checker on CPU 0, "
        "its targets on CPU 1.",
    ]
    parts += [f"**Left out: {name}: {why}.**" for name, why in result["missing"].items()]
    runs = result["runs"] + result["many"]
    loads = [run["load_average"] for run in runs]
    parts += [f"Noise: load average {min(loads):.1f} – {max(loads):.1f}."] if runs else []
    for kind, targets in dict.fromkeys((run["kind"], run["targets"]) for run in result["runs"]):
        parts.append(compared([run for run in result["runs"] if (run["kind"], run["targets"]) == (kind, targets)]))
    if result["many"]:
        parts.append(many(result["many"]))
    wrong = [run for run in runs if run["problems"]]
    if wrong:
        parts.append("### Runs that went wrong (left out of the medians)\n\n" + "\n".join(
            f"- {run['kind']}, {run['targets']:,} targets, {run['title']}: {'; '.join(run['problems'])}" for run in wrong))  # fmt: skip
    return "\n\n".join(parts) + "\n"


def compared(runs):
    first = runs[0]
    good = [run for run in runs if not run["problems"]]
    costs = {}
    for run in good:
        costs.setdefault(run["title"], []).append(run)
    peers = {title: median(run["cpu_us"] for run in own) for title, own in costs.items() if not title.startswith("evenkeel")}
    best = min(peers, key=peers.get, default=None)
    of_best = {run["round"]: run["cpu_us"] for run in costs.get(best, [])}
    head = ["checker", "CPU µs/probe", "min – max", "user share", "CPU of one core", "probes/s", "memory MiB", "against the better peer"]
    lines = [f"### {first['kind']}, {first['targets']:,} targets every {first['interval_s']} s", ""]
    lines += [row(head), row(["---"] + ["---:"] * (len(head) - 1))]
    for title in dict.fromkeys(run["title"] for run in runs):
        own = costs.get(title, [])
        if not own:
            lines.append(row([f"{title} **(every run wrong)**"] + ["–"] * (len(head) - 1)))
            continue
        against = [run["cpu_us"] / of_best[run["round"]] for run in own if run["round"] in of_best]

        def middle(of, own=own):
            return median(of(run) for run in own)

        lines.append(row([
            title, number(middle(lambda run: run["cpu_us"])), spread([run["cpu_us"] for run in own]),
            f"{100 * middle(lambda run: run['user_share']):.0f} %", f"{100 * middle(lambda run: run['cpu_share']):.1f} %",
            number(middle(lambda run: run["probes"] / run["seconds"])), number(middle(lambda run: run["memory_kib"] / 1024)),
            f"{median(against):.2f}" if against else "–",
        ]))  # fmt: skip
    return "\n".join(lines)


def many(runs):
    head = ["kind", "targets", "every", "probes/s", "CPU of one core", "CPU µs/probe", "late p50", "late p99", "longest", "void",
            "failed", "memory", "per target"]  # fmt: skip
    lines = ["### evenkeel with many targets", "", row(head), row(["---"] + ["---:"] * (len(head) - 1))]
    for run in runs:
        told = run["metrics"]
        late = lateness(told)
        memory = run["memory_kib"] - run["memory_empty_kib"]
        lines.append(row([
            run["kind"], f"{run['targets']:,}", f"{run['interval_s']} s", number(run["probes"] / run["seconds"]),
            f"{100 * run['cpu_share']:.0f} %", number(run["cpu_us"]), late(0.5), late(0.99), late(1),
            number(told.get('evenkeel_probes_total{result="void"}', 0)), number(told.get('evenkeel_probes_total{result="failed"}', 0)),
            f"{run['memory_kib'] / 1024:.0f} MiB", f"{1024 * memory / run['targets']:.0f} B",
        ]))  # fmt: skip
    lines += ["", "Late is the time from the moment a probe is due to its start, by the node's own histogram: at most the figure."]
    return "\n".join(lines)


def lateness(metrics):
    """Upper bounds of the quantiles of a histogram whose buckets are in `metrics`."""
    prefix = 'evenkeel_probe_lateness_seconds_bucket{le="'
    buckets = sorted(
        (float(name[len(prefix) : -2].replace("+Inf", "inf")), value) for name, value in metrics.items() if name.startswith(prefix)
    )
    total = buckets[-1][1] if buckets else 0

    def quantile(share):
        if not total:
            return "–"
        bound = next(bound for bound, count in buckets if count >= share * total)
        return f"≤ {1000 * bound:g} ms"

    return quantile
