"""A QUIC server that says its name, and a client that moves while it is connected. With aioquic.

    quic_peer.py serve NAME CERTIFICATE KEY [SERVER_ID]   prints its port; serves until its input ends
    quic_peer.py client HOST PORT CA CLIENTS FROM         obeys the commands on its input, one JSON list each

Every stream is answered with the server's name. With SERVER_ID (hex) all connection ids of the server carry it behind
their first byte. Commands of the client, for all of its connections at once, which are answered with what each heard:

    ask      a new stream on each
    rebind   another socket for each, as when a NAT has forgotten; then ask
    rotate   the address that another of them had until now, for each; then ask
    move     another socket and another connection id (RFC 9000 section 9.5); then ask
"""

import asyncio
import json
import os
import socket
import ssl
import sys

import aioquic.quic.connection
from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

# No other random bytes of aioquic's connections have this length, so ids are known by it.
CID_LENGTH = 11
# Longer than a lost packet needs on a busy machine; who hears nothing for so long is cut off.
PATIENCE = 20
USED = set()


class Ids:
    """Stands in for the module `os` where aioquic draws connection ids."""

    def __init__(self, server_id):
        self.server_id = server_id

    def urandom(self, count):
        drawn = os.urandom(count)
        if count == CID_LENGTH:
            return drawn[:1] + self.server_id + drawn[1 + len(self.server_id) :]
        return drawn


async def until_input_ends():
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def run_server(name, certificate, key, server_id=""):
    aioquic.quic.connection.os = Ids(bytes.fromhex(server_id))
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["name"], connection_id_length=CID_LENGTH)
    configuration.load_cert_chain(certificate, key)

    def answer(reader, writer):
        async def say():
            await reader.read()
            writer.write(name.encode())
            writer.write_eof()

        tasks.add(asyncio.ensure_future(say()))

    tasks = set()
    server = await serve("127.0.0.1", 0, configuration=configuration, stream_handler=answer)
    print(server._transport.get_extra_info("sockname")[1], flush=True)
    await until_input_ends()


class Client:
    def __init__(self, address, ca, host):
        self.address = address
        self.host = host
        configuration = QuicConfiguration(is_client=True, alpn_protocols=["name"], server_name="localhost")
        configuration.verify_mode = ssl.CERT_REQUIRED
        configuration.load_verify_locations(ca)
        self.protocol = QuicConnectionProtocol(QuicConnection(configuration=configuration))
        self.transport = None

    async def take_socket(self, at=None):
        """A socket of its own from now on, and none of those before."""
        before = self.transport
        loop = asyncio.get_running_loop()
        # Left to chance, a port is one that none of these clients had before: that is what rotate is for.
        while True:
            link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            link.setblocking(False)
            link.bind(at or (self.host, 0))
            if at or link.getsockname() not in USED:
                break
            link.close()
        USED.add(link.getsockname())
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self.protocol, sock=link)
        if before is not None:
            before.close()

    async def connect(self):
        await self.take_socket()
        self.protocol.connect(self.address)
        await asyncio.wait_for(self.protocol.wait_connected(), PATIENCE)

    async def ask(self):
        async def asked():
            reader, writer = await self.protocol.create_stream()
            writer.write_eof()
            return (await reader.read()).decode()

        try:
            return await asyncio.wait_for(asked(), PATIENCE)
        except (asyncio.TimeoutError, ConnectionError):
            return None

    async def obey(self, command):
        if command in ("rebind", "move"):
            if command == "move":
                self.protocol.change_connection_id()
            await self.take_socket()
        return await self.ask()


async def run_client(host, port, ca, count, own):
    clients = [Client((host, int(port)), ca, own) for _ in range(int(count))]
    await asyncio.gather(*(client.connect() for client in clients))
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        if line.strip() == "rotate":
            names = [client.transport.get_extra_info("sockname") for client in clients]
            for client in clients:
                client.transport.close()
                client.transport = None
            # The loop closes them in its next round.
            await asyncio.sleep(0)
            for client, name in zip(clients, names[1:] + names[:1]):
                await client.take_socket(name)
        print(json.dumps(await asyncio.gather(*(client.obey(line.strip()) for client in clients))), flush=True)


role = {"serve": run_server, "client": run_client}[sys.argv[1]]
asyncio.run(role(*sys.argv[2:]))
