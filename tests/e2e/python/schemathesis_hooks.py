"""How configs are sent: schemathesis knows JSON and YAML, and TOML is text."""

import schemathesis


@schemathesis.serializer("application/toml")
def toml(ctx, value):
    return value.encode() if isinstance(value, str) else b""
