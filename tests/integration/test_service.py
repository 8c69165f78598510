"""The systemd unit, read by systemd itself where it is installed."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ichnode import service
from ichnode.cli import app

MOST_EXPOSED = 17  # tenths of systemd's score: 1.2 on the CPU alone, 1.4 with a GPU, 1.7 with a port below 1024
systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and "ICHNODE_REQUIRE_PEERS" not in os.environ,
    reason="needs Debian's package systemd",
)


@pytest.fixture(autouse=True)
def _installed_where_the_service_can_see_it(monkeypatch, tmp_path):
    """Developers may have ichnode or Python below a home folder."""
    program = tmp_path / "bin" / "ichnode"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    monkeypatch.setattr(sys, "base_prefix", "/usr")


@pytest.fixture
def install(tmp_path):
    """Runs `ichnode install-service` with a configuration."""

    def install(*options, text='[node]\ndata_dir = "/var/lib/ichnode"', user="daemon"):
        config = tmp_path / "ichnode.toml"
        config.write_text(text)
        return CliRunner().invoke(app, ["install-service", "--config", str(config), "--user", user, *options])

    return install


@pytest.fixture(params=["plain", "cpu", "low port"])
def unit(request, install, tmp_path):
    """A unit in a file, as systemd-analyze wants it."""
    text = {
        "plain": '[node]\ndata_dir = "/var/lib"',
        "cpu": '[node]\ndata_dir = "/var/lib"\n[inference]\ndevice = "cpu"',
        "low port": '[node]\ndata_dir = "/var/lib"\nport = 104',
    }[request.param]
    outcome = install("--print", text=text)
    assert outcome.exit_code == 0, outcome.output
    file = tmp_path / "ichnode.service"
    file.write_text(outcome.stdout)
    return file


def analyze(*arguments):
    return subprocess.run(["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, check=False)


@systemd
def test_systemd_finds_nothing_wrong_in_the_unit(unit):
    ran = analyze("verify", "--man=no", "--recursive-errors=no", unit)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@systemd
def test_systemd_finds_the_unit_hardly_exposed(unit):
    ran = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", unit)
    assert ran.returncode == 0, ran.stdout


def test_only_a_port_below_1024_brings_a_capability(install):
    assert "CapabilityBoundingSet=\n" in install("--print").stdout
    low = install("--print", text='[node]\ndata_dir = "/var/lib/ichnode"\nport = 104').stdout
    assert "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n" in low


def test_a_child_that_runs_out_of_memory_does_not_end_the_service(install):
    assert "OOMPolicy=continue\n" in install("--print").stdout


def test_only_the_data_can_be_written(install):
    assert "ReadWritePaths=/var/lib/ichnode\n" in install("--print").stdout
    elsewhere = '[node]\ndata_dir = "/srv/ct"\n[database]\nurl = "sqlite:////srv/ledger/ichnode.db"'
    assert "ReadWritePaths=/srv/ct /srv/ledger\n" in install("--print", text=elsewhere).stdout


@pytest.mark.parametrize(
    ("data_dir", "user", "problem"),
    [
        ("ichnode-data", "ichnode", "ichnode-data is relative; a service needs the whole path"),
        ("/home/me/ct", "ichnode", "/home/me/ct lies below a home folder, which the service cannot see"),
        ("/srv/head ct", "ichnode", "/srv/head ct has characters that a systemd unit would need quoted"),
        ("/srv/ct", "x\nRoot=", "'x\\nRoot=' is no name of a system user"),
    ],
)
def test_what_would_not_start_is_not_written(install, data_dir, user, problem):
    outcome = install("--print", text=f'[node]\ndata_dir = "{data_dir}"', user=user)
    assert outcome.exit_code == 1
    assert problem in outcome.stderr
    assert outcome.stdout == ""


def test_a_python_that_the_service_could_not_see_is_named(install, monkeypatch):
    monkeypatch.setattr(sys, "base_prefix", "/root/.pyenv/versions/3.11")
    outcome = install("--print")
    assert outcome.exit_code == 1
    assert outcome.stderr == "/root/.pyenv/versions/3.11 lies below a home folder, which the service cannot see\n"


def test_the_unit_is_written_and_what_is_left_to_do_said(install, monkeypatch, tmp_path):
    monkeypatch.setattr(service, "UNIT", tmp_path / "system.service")
    outcome = install(user="ct")
    assert outcome.exit_code == 0, outcome.output
    assert service.UNIT.read_text() == install("--print", user="ct").stdout
    assert "install --directory --owner ct --group ct --mode 0750 /var/lib/ichnode" in outcome.stdout
    assert (
        f"ExecStart={Path(sys.executable).with_name('ichnode')} serve --config {tmp_path}" in service.UNIT.read_text()
    )


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_when_the_node_is_ready(monkeypatch, tmp_path, abstract):
    address = f"@ichnode-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address.replace("@", "\0", 1))
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        service.tell_systemd("READY=1")
        assert systemd.recv(100) == b"READY=1"


def test_without_systemd_nobody_is_told(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    service.tell_systemd("READY=1")
