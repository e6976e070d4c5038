#!/usr/bin/env python3
"""Makes demo.svg: one real frame of `evenkeel demo --once`, text as text.

    cargo build && docs/demo/picture.py target/debug/evenkeel

Runs the story in a pseudo-terminal, keeps the last frame in which the third backend is unhealthy,
and writes it beside this script. Needs Python's standard library only.
"""

import fcntl
import html
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path

COLUMNS, LINES = 96, 28
CELL_WIDTH, CELL_HEIGHT, MARGIN = 8.4, 19, 16
BACKGROUND, FOREGROUND = "#11151c", "#d5dae3"
# The codes that src/demo/screen.rs writes.
TONES = {
    "0": "",
    "1": 'font-weight="bold"',
    "2": 'fill="#7d8798"',
    "31": 'fill="#ff7b72"',
    "32": 'fill="#56d364"',
    "33": 'fill="#e3b341"',
}


def frames(program):
    """Every picture the demo draws, as text with escape sequences."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ["TERM"] = "xterm"
        os.environ.pop("NO_COLOR", None)
        # The size must be there before the first frame.
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        os.execv(program, [program, "demo", "--once"])
    output = b""
    while True:
        try:
            more = os.read(terminal, 65536)
        except OSError:  # The child has closed its side.
            break
        if not more:
            break
        output += more
    _, status = os.waitpid(child, 0)
    text = output.decode()
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"the demo failed:\n{text[-4000:]}")
    return re.findall(r"\x1b\[H(.*?)\x1b\[J", text, re.DOTALL)


def spans(line):
    """(column, attributes, text) for each run of one tone."""
    column, tone = 0, ""
    for code, text in re.findall(r"\x1b\[([0-9]*)[mK]|([^\x1b]+)", line):
        if text:
            yield column, tone, text
            column += len(text)
        elif code in TONES:
            tone = TONES[code]


def svg(frame):
    width = COLUMNS * CELL_WIDTH + 2 * MARGIN
    height = LINES * CELL_HEIGHT + 2 * MARGIN
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}">',
        "<title>evenkeel demo in a terminal</title>",
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>',
        f'<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, \'DejaVu Sans Mono\', monospace" '
        f'font-size="14" fill="{FOREGROUND}" xml:space="preserve">',
    ]
    for row, line in enumerate(frame.split("\r\n")):
        baseline = MARGIN + (row + 0.75) * CELL_HEIGHT
        for column, tone, text in spans(line):
            # Blanks at the ends only move things; viewers disagree on whether to keep them.
            column += len(text) - len(text.lstrip())
            text = text.strip()
            if not text:
                continue
            # The length is given so that columns stay columns in any font.
            out.append(
                f'<text x="{MARGIN + column * CELL_WIDTH:.1f}" y="{baseline:.1f}" '
                f'textLength="{len(text) * CELL_WIDTH:.1f}" {tone}>{html.escape(text)}</text>'.replace(" >", ">")
            )
    out += ["</g>", "</svg>", ""]
    return "\n".join(out)


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else "target/debug/evenkeel"
    chosen = [frame for frame in frames(program) if "500 on /health" in frame and "unhealthy" in frame]
    if not chosen:
        sys.exit("no frame shows the third backend unhealthy")
    picture = Path(__file__).with_name("demo.svg")
    picture.write_text(svg(chosen[-1]), encoding="utf-8")
    print(f"wrote {picture.name}: {COLUMNS} columns, {LINES} lines")


if __name__ == "__main__":
    main()
