"""Peers of the HTTP side that say nothing, or little by little: they are closed, and probes are answered meanwhile."""

import socket
import ssl
from contextlib import ExitStack
from threading import Event
from time import monotonic

import httpx
import pytest
import trustme
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from ichnode.config import Settings
from ichnode.dicom.tls import TlsFiles, web_server_context
from ichnode.node import Node
from ichnode.web.server import MOST_OPEN, WebServer

REQUEST_S, ANSWER_S = 0.6, 1.2
LARGE = 40_000_000  # more than the buffers of both sides hold
TOLD = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def node(tmp_path):
    """The HTTP side of a node."""
    data = {"host": "127.0.0.1", "port": 0, "data_dir": tmp_path}
    node = Node(Settings.model_validate({"node": data, "web": {"port": 0}}))
    node._web.start()
    yield node
    node._web.stop()
    node._scp.stop()
    node._engine.dispose()


@pytest.fixture
def serve():
    """Starts a server that is in a hurry; its port."""
    servers = []

    def start(tls=None):
        routes = [
            Route("/", lambda _: PlainTextResponse("ok")),
            Route("/large", lambda _: PlainTextResponse("x" * LARGE)),
        ]
        server = WebServer(
            Starlette(routes=routes), host="127.0.0.1", port=0, tls=tls, request_s=REQUEST_S, answer_s=ANSWER_S
        )
        server.start()
        servers.append(server)
        return server.port

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def connect():
    """Opens connections, and closes them."""
    with ExitStack() as stack:
        yield lambda port, **how: stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=15, **how))


@pytest.fixture
def tls(tmp_path):
    both = tmp_path / "both.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(both)
    return web_server_context(TlsFiles(certificate=both, key=both, trusted=both))


def trusting_all():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def closed_after(connection, dribble=b""):
    """Seconds until the server closes, which is sent one more byte of `dribble` every tenth of a second."""
    began, left = monotonic(), list(dribble)
    connection.settimeout(0.1)
    while monotonic() - began < 15:
        try:
            if not connection.recv(65536):
                break
        except TimeoutError:
            if left:
                connection.sendall(bytes([left.pop(0)]))
        except ConnectionError:
            break
    return monotonic() - began


def test_probes_are_answered_while_100_connections_say_nothing(node, connect):
    for _ in range(100):
        connect(node.web_port)
    with httpx.Client(base_url=f"http://127.0.0.1:{node.web_port}", trust_env=False, timeout=2) as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").json()["disk"] == "ok"
        assert client.get("/api/jobs").status_code == 200


def test_a_node_closes_a_silent_connection_after_10_s(node, connect):
    assert 8 < closed_after(connect(node.web_port)) < 12


@pytest.mark.parametrize(
    ("begin", "dribble"),
    [
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"GET / HT", b"", id="the beginning of a request"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"x" * 200, id="endless headers"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200\r\n\r\n", b"x" * 200, id="a slow body"
        ),
        pytest.param(TOLD, b"", id="nothing more after an answer"),
        pytest.param(TOLD, b"GET / HTTP/1.1\r\nX-Slow: " + b"x" * 200, id="a slow request after an answer"),
    ],
)
def test_a_peer_without_a_whole_request_is_closed(serve, connect, begin, dribble):
    connection = connect(serve())
    connection.sendall(begin)
    assert closed_after(connection, dribble) < REQUEST_S + 1


def test_a_peer_that_does_not_take_its_answer_is_closed(serve, connect):
    connection = connect(serve())
    connection.sendall(TOLD.replace(b"/ ", b"/large ", 1))
    never = Event()
    never.wait(ANSWER_S + REQUEST_S + 1)
    taken = 0
    while some := connection.recv(1 << 20):
        taken += len(some)
    assert 0 < taken < LARGE


def test_a_peer_that_goes_on_asking_keeps_its_connection(serve, connect):
    never = Event()
    with connect(serve()) as connection, connection.makefile("rb") as answers:
        for _ in range(6):
            connection.sendall(TOLD)
            assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
            while answers.readline() != b"\r\n":
                pass
            assert answers.read(2) == b"ok"
            never.wait(REQUEST_S / 3)


def test_a_tls_handshake_that_does_not_end_is_closed(serve, connect, tls):
    assert closed_after(connect(serve(tls))) < REQUEST_S + 1


def test_over_tls_a_peer_without_a_whole_request_is_closed(serve, connect, tls):
    with trusting_all().wrap_socket(connect(serve(tls))) as connection:
        connection.sendall(b"GET / HT")
        assert closed_after(connection) < REQUEST_S + 1


def test_a_crowd_of_one_address_closes_its_own_oldest_connections(node, connect):
    bystander = connect(node.web_port, source_address=("127.0.0.2", 0))
    crowd = [connect(node.web_port) for _ in range(MOST_OPEN + 20)]
    answer = httpx.get(f"http://127.0.0.1:{node.web_port}/livez", trust_env=False, timeout=2)
    assert answer.status_code == 200
    assert all(closed_after(connection) < 2 for connection in crowd[:20])
    bystander.sendall(TOLD)
    assert bystander.recv(65536).startswith(b"HTTP/1.1 ")


@pytest.mark.parametrize("chunk", [b"ZZ\r\n", b"5\r\nab"], ids=["of no size", "that breaks off"])
def test_a_body_that_breaks_off_is_no_error_of_the_node(node, connect, caplog, chunk):
    connection = connect(node.web_port)
    head = "POST /jobs/1/drop HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-origin\r\n"
    said = "Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.sendall((head + said).encode() + chunk)
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(4096):
        pass
    assert httpx.get(f"http://127.0.0.1:{node.web_port}/livez").status_code == 200
    assert "answer_failed" not in caplog.text
