"""Asks a running node whether it is ready: for health checks of containers, which have no other program to ask with."""

import json
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_TIMEOUT_S = 4.0


def address_here(host: str) -> str:
    """Where a server that listens on `host` is reached from this machine."""
    return _EVERYWHERE.get(host, host)


def trouble(host: str, port: int, *, tls: bool = False) -> list[str]:
    """What is wrong with the node whose HTTP side listens there, a line for each part; nothing when it is ready."""
    try:
        return [f"{part}: {said}" for part, said in ready_parts(host, port, tls=tls).items() if said != "ok"]
    except OSError as problem:
        return [str(problem)]


def ready_parts(host: str, port: int, *, tls: bool = False) -> dict[str, str]:
    """What each part of that node says, "ok" as a rule. Raises OSError when no node answers."""
    host = address_here(host)
    connection = (
        HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=_any_certificate())
        if tls
        else HTTPConnection(host, port, timeout=_TIMEOUT_S)
    )
    try:
        connection.request("GET", "/readyz")
        return {str(part): str(said) for part, said in json.loads(connection.getresponse().read()).items()}
    except (OSError, HTTPException, ValueError, AttributeError) as problem:
        raise OSError(f"no answer from {host}:{port}: {problem}") from problem
    finally:
        connection.close()


def _any_certificate() -> ssl.SSLContext:
    """The node is asked on its own machine, for what everybody may know, and its certificate is for another name."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
