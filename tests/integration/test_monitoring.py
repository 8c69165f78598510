"""Alert rules and dashboard in deploy/: read by promtool, and compared with what a running node measures."""

import json
import os
import re
import shutil
import socket
import subprocess
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import trustme
import yaml
from pydicom.uid import CTImageStorage
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from typer.testing import CliRunner

from ichnode.cli import app
from ichnode.config import Settings
from ichnode.dicom.admission import TurnedAway
from ichnode.dicom.scp import StorageSCP
from ichnode.dicom.tls import TlsFiles, expires_at, web_server_context
from ichnode.node import Node
from ichnode.web.health import trouble
from ichnode.web.server import WebServer

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS, ALERTS_TEST = DEPLOY / "prometheus" / "alerts.yml", DEPLOY / "prometheus" / "alerts_test.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "ichnode.json"
RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
PANELS = json.loads(DASHBOARD.read_text())["panels"]
EXPRESSIONS = [rule["expr"] for rule in RULES] + [target["expr"] for panel in PANELS for target in panel["targets"]]
promtool = pytest.mark.skipif(
    shutil.which("promtool") is None and "ICHNODE_REQUIRE_PEERS" not in os.environ,
    reason="needs Debian's package prometheus",
)


def run_promtool(*arguments):
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)


@promtool
def test_every_alert_fires_when_it_should_and_not_before():
    ran = run_promtool("test", "rules", ALERTS_TEST)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_is_seen_to_fire_and_not_to_fire():
    cases = [case for test in yaml.safe_load(ALERTS_TEST.read_text())["tests"] for case in test["alert_rule_test"]]
    alerts = {rule["alert"] for rule in RULES if "alert" in rule}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == alerts
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == alerts


def test_every_alert_says_what_to_do():
    assert [rule["alert"] for rule in RULES if "alert" in rule and not rule["annotations"].get("action")] == []


@promtool
def test_prometheus_takes_its_configuration():
    ran = run_promtool("check", "config", "--syntax-only", DEPLOY / "prometheus" / "prometheus.yml")
    assert ran.returncode == 0, ran.stderr


@promtool
def test_every_expression_of_the_dashboard_is_promql(tmp_path):
    rules = [
        {"record": f"panel:number{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(EXPRESSIONS)
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    ran = run_promtool("check", "rules", tmp_path / "rules.yml")
    assert ran.returncode == 0, ran.stderr


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def node(tmp_path_factory, authority):
    """A running node that speaks TLS, with one source and one destination."""
    folder = tmp_path_factory.mktemp("node")
    mine = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "trusted.pem")
    mine.private_key_pem.write_to_path(folder / "key.pem")
    for pem in mine.cert_chain_pems:
        pem.write_to_path(folder / "certificate.pem", append=True)
    node = Node(
        Settings.model_validate(
            {
                "node": {"host": "127.0.0.1", "port": 0, "data_dir": folder / "data", "reserve_mb": 1},
                "tls": {name: folder / f"{name}.pem" for name in ("certificate", "key", "trusted")},
                "sources": [{"ae_title": "CT1"}],
                "destinations": [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 9}],
                "rules": [{"name": "head-ct", "run": ["hematoma"]}],
                "inference": {"hematoma_bundle": "hematoma-baseline", "device": "cpu"},
                "web": {"port": 0},
            }
        )
    )
    node.start()
    yield node
    node.stop()


@pytest.fixture
def page(node):
    return httpx.get(f"http://127.0.0.1:{node.web_port}/metrics", trust_env=False).text


def test_alerts_and_dashboard_name_what_the_node_measures(page):
    measured = {"up"} | {rule["record"] for rule in RULES if "record" in rule}
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE):
        measured |= {f"{name}_bucket", f"{name}_count", f"{name}_sum"} if kind == "histogram" else {name}
    named = {name for expression in EXPRESSIONS for name in re.findall(r"\bichnode[_:][a-z_]+|\bup\b", expression)}
    assert named - measured == set()


def test_alerts_and_dashboard_name_label_values_that_the_node_has_from_its_start(page):
    for expression in EXPRESSIONS:
        for label, values in re.findall(r'(\w+)=~?"([^"]*)"', expression):
            if label not in ("instance", "job"):
                assert [value for value in values.split("|") if f'{label}="{value}"' not in page] == []


def test_every_metric_of_the_node_is_on_the_dashboard_or_in_an_alert(page):
    ours = {name.removesuffix("_total") for name in re.findall(r"^# TYPE (ichnode_\S+) ", page, re.MULTILINE)}
    shown = " ".join(EXPRESSIONS)
    assert {name for name in ours if name not in shown and not name.endswith("_created")} <= {"ichnode_build_info"}


def test_the_page_says_when_certificates_expire(page, node, authority, tmp_path):
    assert 'ichnode_certificate_expiry_timestamp_seconds{file="certificate"}' in page
    authority.cert_pem.write_to_path(tmp_path / "one.pem")
    line = re.search(r'expiry_timestamp_seconds{file="trusted"} (\S+)', page)
    assert float(line[1]) == expires_at(tmp_path / "one.pem")


def test_the_page_says_what_is_free_and_where_storing_ends(page):
    free, reserve = (float(re.search(rf"^ichnode_disk_{n}_bytes (\S+)$", page, re.M)[1]) for n in ("free", "reserve"))
    assert reserve == 1_000_000
    assert free > reserve


def test_a_health_check_is_content_with_a_node_that_is_ready(node):
    assert trouble("0.0.0.0", node.web_port) == []


def test_a_health_check_names_the_part_that_does_not_work(node, monkeypatch):
    monkeypatch.setattr(node._store, "trouble", lambda: "below the reserve")
    assert trouble("127.0.0.1", node.web_port) == ["disk: below the reserve"]


def test_a_health_check_speaks_tls_where_the_node_does(authority, tmp_path):
    both = tmp_path / "both.pem"
    authority.issue_cert("ichnode.example").private_key_and_cert_chain_pem.write_to_path(both)
    app = Starlette(routes=[Route("/readyz", lambda _: JSONResponse({"disk": "read-only", "web": "ok"}))])
    web = WebServer(
        app, host="127.0.0.1", port=0, tls=web_server_context(TlsFiles(certificate=both, key=both, trusted=both))
    )
    web.start()
    try:
        assert trouble("127.0.0.1", web.port, tls=True) == ["disk: read-only"]
    finally:
        web.stop()


def test_a_health_check_says_that_there_is_no_node(tmp_path):
    (tmp_path / "ichnode.toml").write_text("[web]\nport = 9")
    outcome = CliRunner().invoke(app, ["health", "--config", str(tmp_path / "ichnode.toml")])
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith("no answer from 127.0.0.1:9: ")


def test_every_part_is_on_the_page(page, node):
    assert set(re.findall(r'ichnode_part_ready{part="([^"]+)"} 1\.0', page)) == set(node.readiness())


@pytest.fixture
def door(associate):
    """An SCP that tells whom it turns away; nobody stores anything."""
    reasons = []
    scp = StorageSCP(None, ae_title="ICHNODE", host="127.0.0.1", port=0, max_associations=1, turned_away=reasons.append)
    scp.start()
    yield SimpleNamespace(scp=scp, reasons=reasons, knock=partial(associate, scp.port, CTImageStorage))
    scp.stop()


def test_peers_that_are_turned_away_are_counted_by_reason(door):
    door.knock(called="OTHER")
    with socket.create_connection(("127.0.0.1", door.scp.port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        connection.recv(100)
    door.knock()
    door.knock()
    assert [rejection.why for rejection in door.reasons] == [
        TurnedAway.CALLED_AE_TITLE,
        TurnedAway.NO_PDU,
        TurnedAway.NO_PLACE,
    ]


def test_associations_are_counted_while_they_are_open(door):
    assert door.scp.open_associations == 0
    door.knock()
    assert door.scp.open_associations == 1
