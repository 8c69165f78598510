"""Who may read over HTTP, and what every answer carries."""

import socket
import ssl
from types import SimpleNamespace

import httpx
import pytest
import trustme

from ichnode.config import Settings, load_settings
from ichnode.errors import ConfigError
from ichnode.node import Node
from ichnode.web.guard import Credentials


@pytest.fixture
def start_web(tmp_path):
    """Starts the HTTP side of nodes alone, and stops it; get(path, ...) and the settings' folder."""
    nodes = []

    def start(web=None, *, scheme="http", verify=True, **sections):
        settings = Settings.model_validate(
            {"node": {"host": "127.0.0.1", "port": 0, "data_dir": tmp_path / "data"}, "web": {"port": 0} | (web or {})}
            | sections
        )
        node = Node(settings)
        node._web.start()
        nodes.append(node)
        client = httpx.Client(base_url=f"{scheme}://127.0.0.1:{node.web_port}", verify=verify, trust_env=False)
        return SimpleNamespace(request=client.request, get=client.get, node=node)

    yield start
    for node in nodes:
        node._web.stop()
        node._scp.stop()
        node._engine.dispose()


@pytest.fixture
def files(tmp_path):
    (tmp_path / "token").write_text("a-long-token\n")
    (tmp_path / "password").write_text("pass:word\n")
    return tmp_path


def test_without_credentials_this_machine_reads_under_its_own_names_alone(start_web):
    web = start_web()
    assert web.get("/api/jobs").status_code == 200
    assert web.get("/api/jobs", headers={"Host": "localhost:8042"}).status_code == 200
    assert web.get("/api/jobs", headers={"Host": "rebound.example"}).status_code == 400
    assert web.get("/livez", headers={"Host": "10.1.2.3"}).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_but_reading_and_posting_is_served(start_web, method):
    answer = start_web().request(method, "/api/jobs")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, POST")


def test_what_is_read_cannot_be_posted_to(start_web):
    web = start_web()
    for path in ("/api/jobs", "/readyz", "/static/style.css"):
        answer = web.request("POST", path, headers={"Sec-Fetch-Site": "same-origin"})
        assert (answer.status_code, set(answer.headers["Allow"].split(", "))) == (405, {"GET", "HEAD"})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),  # a script, or a browser that does not tell
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "OURS"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Origin": "OURS"}, 405),  # let through: the route does not take it
        ({"Sec-Fetch-Site": "same-origin"}, 405),
    ],
)
def test_only_the_pages_of_the_node_may_post(start_web, headers, status):
    web = start_web()
    ours = f"http://127.0.0.1:{web.node.web_port}"
    headers = {name: ours if value == "OURS" else value for name, value in headers.items()}
    assert web.request("POST", "/api/jobs", headers=headers).status_code == status


def test_a_post_needs_the_credentials_as_well(start_web, files):
    web = start_web({"username": "ichnode", "password_file": files / "password"})
    assert web.request("POST", "/api/jobs", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 401


@pytest.mark.parametrize("said", [{"Sec-Fetch-Site": "same-origin"}, {"Origin": "OURS"}, {}])
def test_the_token_reads_and_never_acts(start_web, files, said):
    web = start_web({"token_file": files / "token", "username": "token", "password_file": files / "password"})
    said = {name: f"http://127.0.0.1:{web.node.web_port}" if value == "OURS" else value for name, value in said.items()}
    scraping = {"Authorization": "Bearer a-long-token"}
    for path in ("/jobs/1/drop", "/jobs/1/judgement", "/api/jobs"):
        answer = web.request("POST", path, headers=scraping | said)
        assert (answer.status_code, "the token is for reading alone" in answer.text) == (403, True)
    assert web.get("/metrics", headers=scraping | said).status_code == 200


def test_a_name_and_password_act_also_where_there_is_a_token(start_web, files):
    web = start_web({"token_file": files / "token", "username": "token", "password_file": files / "password"})
    ours = {"Sec-Fetch-Site": "same-origin"}
    assert web.request("POST", "/jobs/1/drop", headers=ours, auth=("token", "pass:word")).status_code == 404


def test_files_of_pages_may_be_kept_and_nothing_else_is_a_file(start_web):
    web = start_web()
    kept = web.get("/static/style.css")
    assert (kept.status_code, kept.headers["Cache-Control"]) == (200, "private, max-age=31536000, immutable")
    assert web.get("/static/README.md").status_code == 404
    assert web.get("/static/..%2fapp.py").status_code == 404


def test_a_token_is_asked_for_where_there_is_one_but_not_of_probes(start_web, files, caplog):
    web = start_web({"token_file": files / "token"})
    assert web.get("/api/jobs", headers={"Authorization": "Bearer a-long-token"}).status_code == 200
    for shown in ("", "Bearer a-long-tokeN", "Basic YTpi", b"Basic \xe9", "x"):
        answer = web.get("/metrics", headers={"Authorization": shown})
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="ichnode"')
    assert (web.get("/livez").status_code, web.get("/readyz").status_code) == (200, 503)
    told = next(record for record in caplog.records if record.message == "reader_refused")
    assert (told.peer, told.detail) == ("127.0.0.1", "/metrics")


def test_a_name_and_password_are_taken_as_well(start_web, files):
    web = start_web({"username": "ichnode", "password_file": files / "password"})
    assert web.get("/api/jobs", auth=("ichnode", "pass:word")).status_code == 200
    assert web.get("/api/jobs", auth=("ichnode", "other")).status_code == 401
    assert web.get("/api/jobs", headers={"Authorization": "Basic !!"}).status_code == 401
    assert web.get("/api/jobs").headers["WWW-Authenticate"] == 'Basic realm="ichnode"'


def test_every_answer_forbids_to_keep_frame_and_guess(start_web, files):
    web = start_web({"token_file": files / "token"})
    for path in ("/livez", "/metrics", "/nowhere"):
        headers = web.get(path).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "server" not in headers
        assert "Strict-Transport-Security" not in headers


def test_over_tls_the_files_of_tls_are_shown(start_web, files):
    authority = trustme.CA()
    shown = authority.issue_cert("127.0.0.1")
    shown.private_key_and_cert_chain_pem.write_to_path(files / "node.pem")
    authority.cert_pem.write_to_path(files / "trusted.pem")
    tls = {"certificate": files / "node.pem", "key": files / "node.pem", "trusted": files / "trusted.pem"}
    context = ssl.create_default_context(cafile=files / "trusted.pem")
    web = start_web({"tls": True, "token_file": files / "token"}, tls=tls, scheme="https", verify=context)
    answer = web.get("/api/jobs", headers={"Authorization": "Bearer a-long-token"})
    assert answer.status_code == 200
    assert "Strict-Transport-Security" in answer.headers


def test_over_tls_nothing_is_spoken_that_is_not_authenticated_encryption(start_web, files):
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(files / "node.pem")
    authority.cert_pem.write_to_path(files / "trusted.pem")
    tls = {"certificate": files / "node.pem", "key": files / "node.pem", "trusted": files / "trusted.pem"}
    context = ssl.create_default_context(cafile=files / "trusted.pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    web = start_web({"tls": True, "token_file": files / "token"}, tls=tls, scheme="https", verify=context)
    assert web.get("/livez").status_code == 200
    context.set_ciphers("ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA256")  # CBC
    with socket.create_connection(("127.0.0.1", web.node.web_port)) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


@pytest.mark.parametrize(
    ("web", "problem"),
    [
        ({"host": "0.0.0.0"}, "web: 0.0.0.0 is reached from elsewhere: set token_file, or username and password_file"),
        (
            {"host": "::", "token_file": "t"},
            "web: :: is reached from elsewhere: set tls = true, or behind_proxy = true",
        ),
        ({"host": "10.0.0.1", "token_file": "t", "tls": True}, "web.tls: needs [tls]"),
        (
            {"behind_proxy": True},
            "web: 127.0.0.1 is reached from elsewhere: set token_file, or username and password_file",
        ),
        ({"username": "u"}, "web: username and password_file belong together"),
    ],
)
def test_an_address_that_others_reach_needs_credentials_and_tls(web, problem, tmp_path):
    file = tmp_path / "ichnode.toml"
    file.write_text("[web]\n" + "\n".join(f"{k} = {str(v).lower() if v is True else repr(v)}" for k, v in web.items()))
    with pytest.raises(ConfigError) as refused:
        load_settings(file, {})
    assert problem in refused.value.problems


@pytest.mark.parametrize("content", [None, "\n", b"\xff\xfe"])
def test_a_file_that_holds_no_secret_is_named(tmp_path, content):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=f"web.token_file: {file}"):
        Credentials.read(token_file=file, username=None, password_file=None)
