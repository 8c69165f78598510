"""Container files, compose and Kubernetes: sound by their schemas, and every name in them is one of ichnode."""

import json
import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import yaml

from ichnode.config import load_settings
from ichnode.web.app import create_app
from ichnode.web.parts import WebParts
from tests.commands import is_a_command

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CONTAINERFILE = (DEPLOY / "Containerfile").read_text("utf-8").replace("\\\n", " ")
STEPS = [line.split(None, 1) for line in CONTAINERFILE.splitlines() if line and line[0] not in "# "]
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
MANIFESTS = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "ichnode.yaml").read_text("utf-8")))
POD = next(m for m in MANIFESTS if m["kind"] == "StatefulSet")["spec"]["template"]["spec"]
IMAGE_ENV = dict(re.findall(r"(ICHNODE_\w+)=(\S+)", CONTAINERFILE))


def step(word):
    """The argument of the last step of that name."""
    return [argument for name, argument in STEPS if name == word][-1]


def paths_of_the_web():
    needed = [field.name for field in fields(WebParts) if field.default is MISSING]
    return {route.path for route in create_app(WebParts(**dict.fromkeys(needed) | {"rules": ()})).routes}


def test_compose_is_what_its_specification_allows():
    compose_spec = pytest.importorskip("compose_spec", reason="needs the extra dev")
    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    compose_spec.PyCompose.from_yaml(text).validate()
    with pytest.raises(ValueError, match="cap_dropped"):
        compose_spec.PyCompose.from_yaml(text.replace("cap_drop:", "cap_dropped:"))


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda m: f"{m['kind']} {m['metadata']['name']}")
def test_kubernetes_would_take_each_manifest(manifest):
    validator = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate: 100 MB of schemas")
    validator.validate(manifest, "1.29", strict=True)


def test_the_settings_of_image_and_compose_are_settings_of_ichnode():
    settings = load_settings(None, IMAGE_ENV | COMPOSE["services"]["ichnode"]["environment"])
    assert str(settings.node.data_dir) == step("VOLUME") == step("WORKDIR")
    assert f"data:{settings.node.data_dir}" in COMPOSE["services"]["ichnode"]["volumes"]
    assert [d.name for d in settings.destinations] == ["orthanc"]


def test_the_configuration_of_kubernetes_is_one_of_ichnode(tmp_path):
    (tmp_path / "ichnode.toml").write_text(
        next(m for m in MANIFESTS if m["kind"] == "ConfigMap")["data"]["ichnode.toml"]
    )
    settings = load_settings(tmp_path / "ichnode.toml", {})
    (container,) = POD["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(settings.node.data_dir) == mounts["data"]
    assert container["args"][-1] == f"{mounts['config']}/ichnode.toml"
    assert {"dicom": settings.node.port, "http": settings.web.port} == {
        port["name"]: port["containerPort"] for port in container["ports"]
    }
    assert settings.web.host == "0.0.0.0"
    assert str(settings.web.token_file.parent) == mounts["web"]


def test_ports_are_those_of_ichnode():
    settings = load_settings(None, {})
    ports = {settings.node.port, settings.web.port}
    assert set(map(int, step("EXPOSE").split())) == ports
    assert {int(p.rpartition(":")[2]) for p in COMPOSE["services"]["ichnode"]["ports"]} <= ports
    assert {port["port"] for m in MANIFESTS if m["kind"] == "Service" for port in m["spec"]["ports"]} == ports


def test_commands_are_those_of_ichnode():
    assert json.loads(step("ENTRYPOINT")) == ["ichnode"]
    _, _, check = step("HEALTHCHECK").partition("CMD ")
    program, *words = json.loads(check)
    assert program == "ichnode"
    for command in (words, json.loads(step("CMD")), *(container["args"] for container in POD["containers"])):
        assert is_a_command(command), command


def test_probes_ask_for_paths_that_there_are():
    (container,) = POD["containers"]
    asked = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert asked == {"/livez", "/readyz"} <= paths_of_the_web()


def test_what_is_copied_and_mounted_is_there():
    copied = {
        path
        for name, argument in STEPS
        if name == "COPY" and "--from" not in argument
        for path in argument.split()[:-1]
    }
    ignored = (ROOT / ".containerignore").read_text("utf-8")
    for path in copied - {"wheelhouse*"}:
        assert (ROOT / path).exists(), path
        assert f"!{path}\n" in ignored
    mounted = [v.split(":") for s in COMPOSE["services"].values() for v in s.get("volumes", ())]
    assert [source for source, *_ in mounted if source.startswith(".") and not (DEPLOY / source).exists()] == []
    assert {source for source, *_ in mounted if not source.startswith(".")} == set(COMPOSE["volumes"])


def test_prometheus_asks_the_service_of_compose():
    (scrape,) = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    host, port = scrape["static_configs"][0]["targets"][0].split(":")
    assert host in COMPOSE["services"]
    assert int(port) == load_settings(None, IMAGE_ENV).web.port
    token = load_settings(None, IMAGE_ENV | COMPOSE["services"]["ichnode"]["environment"]).web.token_file
    assert str(token) == scrape["authorization"]["credentials_file"]
    assert [s["secrets"] for s in map(COMPOSE["services"].get, ("ichnode", "prometheus"))] == [[token.name]] * 2


def test_grafana_finds_the_dashboard_where_compose_mounts_it():
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/ichnode.yml").read_text("utf-8"))["providers"][
        0
    ]
    assert any(f":{provider['options']['path']}:" in volume for volume in COMPOSE["services"]["grafana"]["volumes"])


def test_nobody_is_root():
    assert int(step("USER")) == POD["securityContext"]["runAsUser"] > 0
    assert POD["securityContext"]["runAsNonRoot"]
    assert COMPOSE["services"]["ichnode"]["cap_drop"] == ["ALL"]


def test_whoever_stops_the_container_waits_until_the_node_has_parked_its_work():
    from ichnode.node import CLOSE_S, FINISH_S

    assert POD["terminationGracePeriodSeconds"] > FINISH_S + CLOSE_S
    assert int(COMPOSE["services"]["ichnode"]["stop_grace_period"].removesuffix("s")) > FINISH_S + CLOSE_S
