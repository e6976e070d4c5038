"""An agent as HAProxy's manual describes one: on each connection it says the line that stands in a file, and closes.

    agent_peer.py FILE

Prints its port, serves until its input ends.
"""

import os
import socketserver
import sys
import threading


class Agent(socketserver.BaseRequestHandler):
    def handle(self):
        with open(sys.argv[1], "rb") as file:
            self.request.sendall(file.read())


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


def main():
    server = Server(("127.0.0.1", 0), Agent)
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


main()
