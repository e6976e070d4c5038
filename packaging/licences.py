#!/usr/bin/env python3
"""Prints what is linked into the binary: each crate with its licence, then each text of a licence or notice, once.

Most licences ask that their text goes with the program. The texts are taken from the sources that cargo has fetched, so
they are those of the versions that were built. A crate that ships no text is named; its licence's text is there by others.
"""

import hashlib
import json
import pathlib
import subprocess
import sys

NAMES = ("licen", "copying", "notice", "copyright", "unlicense")


def linked():
    """Packages that the binary needs when it runs on the platform that builds it."""
    host = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    triple = next(line.split()[1] for line in host.splitlines() if line.startswith("host:"))
    asked = ["cargo", "metadata", "--format-version=1", "--locked", f"--filter-platform={triple}"]
    graph = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)
    needs = {node["id"]: node["deps"] for node in graph["resolve"]["nodes"]}
    found, todo = set(), [graph["resolve"]["root"]]
    while todo:
        package = todo.pop()
        if package in found:
            continue
        found.add(package)
        for need in needs[package]:
            if any(kind["kind"] is None for kind in need["dep_kinds"]):
                todo.append(need["pkg"])
    return [package for package in graph["packages"] if package["id"] in found and package["source"]]


def main():
    packages = sorted(linked(), key=lambda package: package["name"])
    texts, silent = {}, []
    print("Crates that are linked into evenkeel\n")
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if not package["license"]:
            sys.exit(f"{name} does not say under which licence it is")
        print(f"{name}: {package['license']}")
        folder = pathlib.Path(package["manifest_path"]).parent
        files = [file for file in sorted(folder.iterdir()) if file.is_file() and file.name.lower().startswith(NAMES)]
        if not files:
            silent.append(name)
        for file in files:
            text = file.read_text(encoding="utf-8", errors="replace").strip()
            texts.setdefault(hashlib.sha256(text.encode()).hexdigest(), (text, []))[1].append(f"{name}: {file.name}")
    if silent:
        print(f"\nWithout a text of their own: {', '.join(silent)}.")
    for text, where in texts.values():
        print("\n" + "=" * 78)
        print("\n".join(where))
        print("=" * 78 + "\n")
        print(text)


main()
