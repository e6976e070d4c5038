"""A WebSocket echo server and its clients.

    websocket_peer.py serve HOST       prints the port it got, then echoes until its input ends
    websocket_peer.py http1 URL [CA NAME]
                                       talks through an HTTP/1.1 upgrade (the websockets library), prints one JSON object
    websocket_peer.py http2 HOST PORT PATH [CA]
                                       the same through an extended CONNECT (RFC 8441), which that library cannot do: frames
                                       by the h2 library, WebSocket frames by hand

The server hangs up with code 4001 when it is told "bye", so that a close from its side is seen too.
"""

import asyncio
import json
import os
import socket
import ssl
import sys

# Longer than any machine is slow; a good run never waits for it.
PATIENCE = 30
LARGE = 1 << 20


async def echo(websocket):
    async for message in websocket:
        if message == "bye":
            return await websocket.close(4001, "as told")
        await websocket.send(message)


async def serve(host):
    import websockets

    async with websockets.serve(echo, host, 0, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def http1(url, ca=None, name=None):
    import websockets

    context = ssl.create_default_context(cafile=ca) if ca else None
    large = os.urandom(LARGE)
    names = {"server_hostname": name} if name else {}
    async with websockets.connect(url, ssl=context, max_size=None, open_timeout=PATIENCE, **names) as websocket:
        await websocket.send("grüße")
        text = await websocket.recv()
        await websocket.send(large)
        same = await websocket.recv() == large
        await asyncio.wait_for(await websocket.ping(), PATIENCE)
        await websocket.send("bye")
        await asyncio.wait_for(websocket.wait_closed(), PATIENCE)
        return {"text": text, "large": same, "closed": [websocket.close_code, websocket.close_reason]}


class Stream:
    """One extended CONNECT on an HTTP/2 connection of its own; bytes in and out."""

    def __init__(self, host, port, path, ca):
        import h2.config
        import h2.connection
        import h2.settings

        self.socket = socket.create_connection((host, port), PATIENCE)
        if ca:
            context = ssl.create_default_context(cafile=ca)
            context.set_alpn_protocols(["h2"])
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
            assert self.socket.selected_alpn_protocol() == "h2"
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.came, self.ended, self.answer, self.settings = b"", None, None, None
        self.flush()
        while self.settings is None:
            self.more()
        self.offered = self.settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL)
        self.stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(self.stream, [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https" if ca else "http"), (":path", path),
            (":authority", "localhost"), ("sec-websocket-version", "13"), ("origin", "https://localhost"),
        ])  # fmt: skip
        self.flush()
        while self.answer is None:
            self.more()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def more(self):
        import h2.events as events

        data = self.socket.recv(1 << 16)
        if not data:
            raise EOFError("the connection ended")
        for event in self.h2.receive_data(data):
            if isinstance(event, events.RemoteSettingsChanged):
                self.settings = {code: change.new_value for code, change in event.changed_settings.items()}
            elif isinstance(event, events.ResponseReceived):
                self.answer = dict(event.headers)
            elif isinstance(event, events.DataReceived):
                self.came += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, events.StreamEnded):
                self.ended = "in order"
            elif isinstance(event, events.StreamReset):
                self.ended = f"reset, {event.error_code!r}"
            elif isinstance(event, events.ConnectionTerminated):
                raise EOFError(repr(event))
        self.flush()

    def send(self, data):
        while data:
            room = min(self.h2.local_flow_control_window(self.stream), self.h2.max_outbound_frame_size, len(data))
            if room == 0:
                self.more()
                continue
            self.h2.send_data(self.stream, data[:room])
            self.flush()
            data = data[room:]

    def exactly(self, count):
        while len(self.came) < count:
            if self.ended:
                raise EOFError(f"{self.ended} after {len(self.came)} of {count} bytes")
            self.more()
        taken, self.came = self.came[:count], self.came[count:]
        return taken


def frame(opcode, payload):
    """A whole, masked WebSocket frame. The mask is zeros: allowed, and the payload stays readable in a capture."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big") if size < 1 << 16 else b"\xff" + size.to_bytes(8, "big")
    return bytes((0x80 | opcode,)) + length + bytes(4) + payload


def read_frame(stream):
    opcode, size = stream.exactly(2)
    if size >= 126:
        size = int.from_bytes(stream.exactly(2 if size == 126 else 8), "big")
    return opcode & 0xF, stream.exactly(size)


def http2(host, port, path, ca=None):
    stream = Stream(host, int(port), path, ca)
    told = {"offered": stream.offered, "status": stream.answer[":status"]}
    if stream.answer[":status"] != "200":
        return told
    large = os.urandom(LARGE)
    stream.send(frame(1, "grüße".encode()))
    told["text"] = read_frame(stream)[1].decode()
    stream.send(frame(2, large))
    told["large"] = read_frame(stream)[1] == large
    stream.send(frame(1, b"bye"))
    _, closing = read_frame(stream)
    told["closed"] = [int.from_bytes(closing[:2], "big"), closing[2:].decode()]
    stream.send(frame(8, closing))
    while not stream.ended:
        stream.more()
    if stream.ended == "in order":
        stream.h2.end_stream(stream.stream)
        stream.flush()
    return told | {"ended": stream.ended}


def main():
    verb, *rest = sys.argv[1:]
    if verb == "serve":
        asyncio.run(serve(*rest))
    elif verb == "http1":
        print(json.dumps(asyncio.run(http1(*rest))))
    elif verb == "http2":
        print(json.dumps(http2(*rest)))


main()
