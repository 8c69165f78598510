"""Asks a running node whether it is ready: for health checks of containers, which have no other program to ask with."""

import json
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where a server that listens everywhere is reached from here
_TIMEOUT_S = 4.0


def trouble(host: str, port: int, *, tls: bool = False) -> list[str]:
    """What is wrong with the node whose HTTP side listens there, a line for each part; nothing when it is ready."""
    host = _EVERYWHERE.get(host, host)
    connection = (
        HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=_any_certificate())
        if tls
        else HTTPConnection(host, port, timeout=_TIMEOUT_S)
    )
    try:
        connection.request("GET", "/readyz")
        parts = json.loads(connection.getresponse().read())
        return [f"{part}: {said}" for part, said in parts.items() if said != "ok"]
    except (OSError, HTTPException, ValueError) as problem:
        return [f"no answer from {host}:{port}: {problem}"]
    finally:
        connection.close()


def _any_certificate() -> ssl.SSLContext:
    """The node is asked on its own machine, for what everybody may know, and its certificate is for another name."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
