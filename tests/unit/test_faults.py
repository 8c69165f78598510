"""Points are armed for tests alone, strike when they are due, and are where the table says."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ichnode import faults
from ichnode.errors import ConfigError
from ichnode.faults import POINTS, Fault, Injected, fault_of

TESTING = {"ICHNODE_TESTING": "1"}
SOURCES = [f for f in Path(faults.__file__).parent.rglob("*.py") if f.name != "faults.py"]


def passed_points():
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "point":
                yield node.args[0].value


def test_every_point_of_the_table_is_passed_at_one_place():
    assert sorted(passed_points()) == sorted(POINTS)


def test_nothing_is_armed_without_a_fault():
    assert fault_of({}) is None
    assert fault_of(TESTING) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("job_claimed:kill", Fault(point="job_claimed", about="", action="kill", nth=1)),
        ("job_claimed@1.2.3:stop", Fault(point="job_claimed", about="1.2.3", action="stop", nth=1)),
        ("mid_inference:kill_node:3", Fault(point="mid_inference", about="", action="kill_node", nth=3)),
    ],
)
def test_a_fault_is_read_from_the_environment(text, fault):
    read = fault_of(TESTING | {"ICHNODE_FAULT": text})
    assert (read.point, read.about, read.action, read.nth) == (fault.point, fault.about, fault.action, fault.nth)


@pytest.mark.parametrize(
    "environment",
    [
        {"ICHNODE_FAULT": "job_claimed:kill"},
        TESTING | {"ICHNODE_FAULT": "job_claimed"},
        TESTING | {"ICHNODE_FAULT": "job_claimed:tickle"},
        TESTING | {"ICHNODE_FAULT": "nowhere:kill"},
        TESTING | {"ICHNODE_FAULT": "job_claimed:kill:0"},
    ],
    ids=lambda environment: " ".join(environment.values()),
)
def test_a_fault_is_refused(environment):
    with pytest.raises(ConfigError, match="ICHNODE_FAULT"):
        fault_of(environment)


def test_serve_refuses_to_start_with_a_fault_outside_of_tests(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "ICHNODE_TESTING"} | {
        "ICHNODE_FAULT": "job_claimed:kill",
        "ICHNODE_NODE__DATA_DIR": str(tmp_path),
    }
    serve = [sys.executable, "-m", "ichnode", "serve"]
    ended = subprocess.run(serve, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "ICHNODE_FAULT: breaks the node on purpose" in ended.stderr


def test_a_fault_strikes_at_the_given_passing_of_what_it_is_about():
    fault = Fault(point="job_claimed", about="1.2", action="raise", nth=2)
    for point, about in (("job_opened", "1.2"), ("job_claimed", "1.3"), ("job_claimed", "1.2")):
        fault.passed(point, about)
    with pytest.raises(Injected, match="job_claimed"):
        fault.passed("job_claimed", "1.2")
    fault.passed("job_claimed", "1.2")  # once


def test_a_killed_process_died_by_sigkill():
    died = subprocess.run(
        [sys.executable, "-c", "from ichnode.faults import point; point('job_claimed'); print('alive')"],
        env=os.environ | TESTING | {"ICHNODE_FAULT": "job_claimed:kill"},
        capture_output=True,
    )
    assert (died.returncode, died.stdout) == (-signal.SIGKILL, b"")
