"""Turns runs into medians, ratios and Markdown. Knows nothing of how a run was made.

The median of the rounds stands for a proxy, the least and the greatest stand beside it: on a shared machine the
distance between them is the honest size of the error. Ratios are medians of the rounds' own ratios, because two
runs a few seconds apart share the machine's mood and two medians need not.
"""

from statistics import median

OURS = "evenkeel"


def good(runs, workload, peer):
    return [run for run in runs if run["workload"] == workload and run["peer"] == peer and not run["problems"]]


def better_peer(runs, workload, peers):
    """The cheapest proxy that is not ours, by median."""
    costs = {
        peer: median(run["cpu"] for run in good(runs, workload, peer))
        for peer in peers
        if peer != OURS and good(runs, workload, peer)
    }
    return min(costs, key=costs.get, default=None)


def ratios(runs, workload, peer, other):
    cost = {run["round"]: run["cpu"] for run in good(runs, workload, other)}
    return [run["cpu"] / cost[run["round"]] for run in good(runs, workload, peer) if run["round"] in cost]


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def spread(values):
    return f"{number(min(values))} – {number(max(values))}"


def row(cells):
    return "| " + " | ".join(cells) + " |"


def workload_table(result, workload):
    runs, titles = result["runs"], result["peers"]
    best = better_peer(runs, workload["key"], titles)
    head = [
        "proxy", f"CPU {workload['cpu_unit']}/{workload['unit']}", "min – max", "user share",
        workload["rate_unit"], "p50 µs", "p99 µs", "CPU against the better peer",
    ]  # fmt: skip
    lines = [f"### {workload['title']}", "", row(head), row(["---"] + ["---:"] * (len(head) - 1))]
    for peer, title in titles.items():
        played = [run for run in runs if run["workload"] == workload["key"] and run["peer"] == peer]
        if not played:
            continue
        fine = good(runs, workload["key"], peer)
        mark = "" if len(fine) == len(played) else f" **({len(played) - len(fine)} of {len(played)} runs wrong)**"
        if not fine:
            lines.append(row([title + mark] + ["–"] * (len(head) - 1)))
            continue

        def middle(key, fine=fine):
            values = [run[key] for run in fine if run[key] is not None]
            return median(values) if values else None

        against = ratios(runs, workload["key"], peer, best) if best else []
        lines.append(
            row([
                title + mark, number(middle("cpu")), spread([run["cpu"] for run in fine]),
                f"{100 * middle('user_share'):.0f} %", number(middle("rate")), number(middle("p50_us")),
                number(middle("p99_us")), f"{median(against):.2f}" if against else "–",
            ])  # fmt: skip
        )
    for name in {name: None for run in runs if run["workload"] == workload["key"] for name in run["notes"]}:
        told = {title: [run["notes"][name] for run in good(runs, workload["key"], peer)] for peer, title in titles.items()}
        lines += ["", f"{name.capitalize()}, least of all rounds: "
                  + ", ".join(f"{title} {100 * min(values):.2f} %" for title, values in told.items() if values) + "."]  # fmt: skip
    ceiling = result["ceilings"].get(workload["key"])
    if ceiling:
        lines += ["", f"Without a proxy, load and backend on their one CPU reach {number(ceiling)} {workload['rate_unit']}."]
    return "\n".join(lines)


def aims_table(result):
    runs, titles = result["runs"], result["peers"]
    lines = ["### evenkeel's CPU against the better peer's", ""]
    lines += [row(["workload", "better peer", "ratio", "min – max", "aim", "reached"])]
    lines += [row(["---", "---", "---:", "---:", "---:", "---"])]
    for workload in result["workloads"]:
        best = better_peer(runs, workload["key"], titles)
        ours = ratios(runs, workload["key"], OURS, best) if best else []
        told = [f"{median(ours):.3f}", spread(ours)] if ours else ["–", "–"]
        reached = "not measured" if not ours else "yes" if median(ours) <= workload["aim"] else "no"
        lines.append(row([workload["title"], titles.get(best, "–"), *told, f"≤ {workload['aim']}", reached]))
    return "\n".join(lines)


def idle_table(told):
    lines = [f"### {told['connections']:,} idle TCP connections", ""]
    head = ["proxy", "KiB/connection", "min – max", "descriptors/connection", "MiB at first", "MiB with all",
            "against the better peer"]  # fmt: skip
    lines += [row(head), row(["---"] + ["---:"] * (len(head) - 1))]
    costs = {run["title"]: [r["kib"] for r in told["runs"] if r["title"] == run["title"]] for run in told["runs"]}
    best = min((median(values) for title, values in costs.items() if title != OURS), default=None)
    for title, values in costs.items():
        last = next(run for run in reversed(told["runs"]) if run["title"] == title)
        lines.append(row([
            title, f"{median(values):.2f}", f"{min(values):.2f} – {max(values):.2f}", f"{last['descriptors']:.2f}",
            f"{last['before_kib'] / 1024:.1f}", f"{last['after_kib'] / 1024:.1f}",
            f"{median(values) / best:.2f}" if best else "–",
        ]))  # fmt: skip
    lines += ["", "Memory is what processes have in RAM. " + told["kernel"] + " " + told["limit"] + " Aim: ≤ 0.9 of the better peer's."]
    if told["problems"]:
        lines += ["", "**Wrong: " + "; ".join(told["problems"]) + ".**"]
    return "\n".join(lines)


def probes_table(probes):
    lines = ["### Probes: the checker of evenkeel", ""]
    if isinstance(probes, str):
        return "\n".join([*lines, f"Not measured: {probes}"])
    head = ["kind", "probes/s, one thread", "CPU µs/probe", "min – max", "at once", "did not pass"]
    lines += [row(head), row(["---"] + ["---:"] * (len(head) - 1))]
    for probe in probes:
        costs = probe["cpu_us"]
        told = [number(probe["probes_per_second"]), number(median(costs)), spread(costs)]
        lines.append(row([probe["kind"], *told, str(probe["at_once"]), str(probe["failed"])]))
    lines += ["", "CPU is the probing thread's; on loopback that includes the kernel's work for the target's side."]
    return "\n".join(lines)


def noise(result):
    runs = result["runs"]
    loads = [run["load_average"] for run in runs]
    others = [100 * run["others_share"] for run in runs]
    stolen = [100 * run["stolen_share"] for run in runs]
    return (
        f"Noise: load average {min(loads):.1f} – {max(loads):.1f} (an idle machine shows up to 2 here, from the bench itself); "
        f"others took {median(others):.0f} % of the proxies' CPU in the median run and {max(others):.0f} % in the worst; "
        f"the hypervisor took at most {max(stolen):.0f} %."
    )


def document(result):
    machine, options = result["machine"], result["options"]
    parts = [
        "## evenkeel beside haproxy and nginx",
        f"{result['started']}, {machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}.",
    ]
    if result["runs"]:
        versions = ", ".join(sorted(set(result["versions"].values())))
        parts += [
            f"{options['rounds']} interleaved rounds of {options['seconds']:g} s, one worker each on CPU 0, load and "
            f"backends on CPU 1, access log and metrics on for all. Versions: {versions}.",
            noise(result),
        ]
    parts += [f"**Left out: {name}: {why}.**" for name, why in result["missing"].items()]
    if result["runs"]:
        parts += [aims_table(result)]
    parts += [workload_table(result, workload) for workload in result["workloads"]]
    if result["idle"] is not None:
        parts += [idle_table(result["idle"])]
    if result["probes"] is not None:
        parts += [probes_table(result["probes"])]
    wrong = [run for run in result["runs"] if run["problems"]]
    if wrong:
        parts += [
            "### Runs with wrong answers (left out of the medians)\n\n"
            + "\n".join(f"- {r['workload']}, {r['peer']}, round {r['round']}: {'; '.join(r['problems'])}" for r in wrong)
        ]
    return "\n\n".join(parts) + "\n"
