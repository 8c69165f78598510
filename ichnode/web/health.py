"""Asks a running node whether it is ready: for health checks of containers, which have no other program to ask with."""

import json
from http.client import HTTPConnection, HTTPException

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where a server that listens everywhere is reached from here
_TIMEOUT_S = 4.0


def trouble(host: str, port: int) -> list[str]:
    """What is wrong with the node whose HTTP side listens there, a line for each part; nothing when it is ready."""
    connection = HTTPConnection(_EVERYWHERE.get(host, host), port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        parts = json.loads(connection.getresponse().read())
        return [f"{part}: {said}" for part, said in parts.items() if said != "ok"]
    except (OSError, HTTPException, ValueError) as problem:
        return [f"no answer from {host}:{port}: {problem}"]
    finally:
        connection.close()
