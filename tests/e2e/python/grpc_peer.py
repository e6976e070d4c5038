"""A gRPC server and its client by grpcio, without generated code: messages are bytes.

    grpc_peer.py serve ADDRESS [CERTIFICATE KEY]
                                         prints the port it got, then serves until its input ends
    grpc_peer.py serve-without-health ADDRESS
                                         the same with no service at all
    grpc_peer.py call ADDRESS [CA NAME]  makes every kind of call and prints one JSON object with what came of each
    grpc_peer.py ask ADDRESS [CA NAME]   makes one unary call and prints its status

The health service is the real one (grpc.health.v1); its messages are small enough to be written by hand.
"""

import json
import sys
import threading
from concurrent import futures

import grpc

SERVICE = "evenkeel.Test"
HEALTH = "grpc.health.v1.Health"
SICK = "evenkeel.Sick"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
# Longer than any machine is slow; a good run never waits for it.
PATIENCE = 30


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    context.set_trailing_metadata((("x-trailing", "kept"), ("x-heard", metadata.get("x-said", "")), ("x-raw-bin", b"\x00\xff")))
    return request[::-1]


def large(request, _):
    return request * 2


def count_up(request, _):
    for number in range(int(request)):
        yield str(number).encode()


def join(requests, context):
    parts = list(requests)
    context.set_trailing_metadata((("x-parts", str(len(parts))),))
    return b"".join(parts)


def converse(requests, _):
    for request in requests:
        yield b"heard " + request


def fail(_, context):
    context.set_trailing_metadata((("x-trailing", "kept"),))
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: 100 % sure")


def fail_midway(_, context):
    yield b"first"
    context.abort(grpc.StatusCode.DATA_LOSS, "lost after the first")


def hang(_, context):
    # Ends when the caller is gone, which is what the deadline is to bring about.
    gone = threading.Event()
    context.add_callback(gone.set)
    gone.wait(PATIENCE)
    return b"late"


def check(request, context):
    service = request[2:].decode() if request else ""
    if service == SICK:
        return NOT_SERVING
    if service not in ("", SERVICE):
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return SERVING


def watch(_, context):
    yield SERVING
    gone = threading.Event()
    context.add_callback(gone.set)
    gone.wait(PATIENCE)


def serve(address, *pair):
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    one, many = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler(SERVICE, {
            "Unary": one(unary), "Large": one(large), "CountUp": many(count_up), "Fail": one(fail), "FailMidway": many(fail_midway),
            "Hang": one(hang), "Join": grpc.stream_unary_rpc_method_handler(join),
            "Converse": grpc.stream_stream_rpc_method_handler(converse),
        }),
        grpc.method_handlers_generic_handler(HEALTH, {"Check": one(check), "Watch": many(watch)}),
    ))  # fmt: skip
    run(server, address, *pair)


def run(server, address, certificate=None, key=None):
    if certificate is None:
        port = server.add_insecure_port(address)
    else:
        with open(key, "rb") as private, open(certificate, "rb") as chain:
            credentials = grpc.ssl_server_credentials([(private.read(), chain.read())])
        port = server.add_secure_port(address, credentials)
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(None)


def channel(address, ca=None, name=None):
    if ca is None:
        return grpc.insecure_channel(address)
    with open(ca, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    return grpc.secure_channel(address, credentials, (("grpc.ssl_target_name_override", name), ("grpc.default_authority", name)))


def outcome(call):
    """What a call came to: its status, and whatever `call` gives."""
    try:
        return {"status": "OK", "said": call()}
    except grpc.RpcError as error:
        return {"status": error.code().name, "details": error.details(), "trailing": told(error.trailing_metadata())}


def told(metadata):
    return {key: value if isinstance(value, str) else value.hex() for key, value in metadata or ()}


def calls(there):
    def unary_call():
        reply, call = there.unary_unary(f"/{SERVICE}/Unary").with_call(b"abc", PATIENCE, (("x-said", "hello"),))
        return [reply.decode(), told(call.trailing_metadata())]

    def large_call():
        # Larger than every window on the way.
        block = bytes(range(256)) * 4096
        return there.unary_unary(f"/{SERVICE}/Large")(block, PATIENCE) == block * 2

    def client_stream():
        reply, call = there.stream_unary(f"/{SERVICE}/Join").with_call(iter([b"a", b"b", b"c"]), PATIENCE)
        return [reply.decode(), told(call.trailing_metadata()).get("x-parts")]

    def conversation():
        # Each message waits for the answer to the one before, so nobody on the way may hold one back.
        turn = threading.Semaphore(1)
        words = [b"one", b"two", b"three"]

        def in_turn():
            for word in words:
                turn.acquire()
                yield word

        heard = []
        for reply in there.stream_stream(f"/{SERVICE}/Converse")(in_turn(), PATIENCE):
            heard.append(reply.decode())
            turn.release()
        return heard

    def midway():
        came, call = [], there.unary_stream(f"/{SERVICE}/FailMidway")(b"", PATIENCE)
        try:
            for reply in call:
                came.append(reply.decode())
        except grpc.RpcError as error:
            return [came, error.code().name, error.details()]
        return [came, "OK", None]

    def watched():
        call = there.unary_stream(f"/{HEALTH}/Watch")(b"", PATIENCE)
        first = next(call)
        call.cancel()
        return first.hex()

    return {
        "unary": outcome(unary_call),
        "large": outcome(large_call),
        "server_stream": outcome(lambda: len(list(there.unary_stream(f"/{SERVICE}/CountUp")(b"500", PATIENCE)))),
        "client_stream": outcome(client_stream),
        "conversation": outcome(conversation),
        "fail": outcome(lambda: there.unary_unary(f"/{SERVICE}/Fail")(b"", PATIENCE)),
        "fail_midway": outcome(midway),
        "unknown_method": outcome(lambda: there.unary_unary(f"/{SERVICE}/Nobody")(b"", PATIENCE)),
        "deadline": outcome(lambda: there.unary_unary(f"/{SERVICE}/Hang")(b"", 0.3)),
        "health": outcome(lambda: there.unary_unary(f"/{HEALTH}/Check")(b"", PATIENCE).hex()),
        "health_unknown": outcome(lambda: there.unary_unary(f"/{HEALTH}/Check")(b"\x0a\x04none", PATIENCE)),
        "health_watch": outcome(watched),
    }


def main():
    verb, address, *more = sys.argv[1:]
    if verb == "serve":
        serve(address, *more)
    elif verb == "serve-without-health":
        run(grpc.server(futures.ThreadPoolExecutor(max_workers=1)), address)
    elif verb == "call":
        print(json.dumps(calls(channel(address, *more))))
    elif verb == "ask":
        there = channel(address, *more)
        print(json.dumps(outcome(lambda: there.unary_unary(f"/{SERVICE}/Unary")(b"abc", PATIENCE).decode())))


main()
