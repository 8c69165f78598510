"""The files in deploy/several-machines start nodes that this ichnode knows."""

import re
from pathlib import Path

import pytest
import yaml

from ichnode.config import load_settings

FOLDER = Path(__file__).parents[2] / "deploy" / "several-machines"
URL = {"ICHNODE_DATABASE__URL": "postgresql+psycopg://ichnode:secret@postgres/ichnode"}
KUBERNETES = yaml.safe_load((FOLDER / "kubernetes.yaml").read_text("utf-8"))["items"]
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))


def commands():
    for deployment in (one for one in KUBERNETES if one["kind"] == "Deployment"):
        yield deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    for name, service in COMPOSE["services"].items():
        if name != "postgres":
            yield service["command"]


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_every_node_is_started_with_roles_that_there_are(command):
    assert command[:2] == ["serve", "--config"]
    roles = f'["{command[command.index("--roles") + 1]}"]'
    settings = load_settings(FOLDER / "ichnode.toml", URL | {"ICHNODE_NODE__ROLES": roles})
    assert settings.shared
    assert settings.node.data_dir == Path("/var/lib/ichnode")


def test_both_have_nodes_for_every_role():
    for started in (list(commands())[:3], list(commands())[3:]):
        assert {command[-1] for command in started} == {"receive", "analyse", "deliver"}


def test_what_listens_and_what_is_asked_for_health_is_what_the_configuration_says():
    settings = load_settings(FOLDER / "ichnode.toml", URL)
    container = KUBERNETES[2]["spec"]["template"]["spec"]["containers"][0]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        "dicom": settings.node.port,
        "web": settings.web.port,
    }
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(settings.web.token_file), str(settings.node.data_dir)} <= mounted


def test_all_of_them_say_the_postgresql_that_was_tried():
    text = (FOLDER.parents[1] / "docs" / "several-machines.md").read_text("utf-8")
    (tried,) = re.findall(r"PostgreSQL (\d+) or newer; tried with \1\b", text)
    assert COMPOSE["services"]["postgres"]["image"] == f"postgres:{tried}"
    assert f"PostgreSQL {tried} or newer" in (FOLDER / "kubernetes.yaml").read_text("utf-8")
