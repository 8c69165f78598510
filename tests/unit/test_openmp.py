"""Several processes that compute share the processor: no thread of OpenMP spins while it waits."""

import os
import subprocess
import sys

import pytest

SAYS = "import os, sys, {}; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"


def said(package: str, **environment: str) -> list[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-c", SAYS.format(package)]
    done = subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("package", ["ichnode", "training"])
def test_it_is_said_before_torch_is_loaded(package):
    assert said(package) == ["PASSIVE", "False"]


def test_who_says_otherwise_is_heard():
    assert said("ichnode", OMP_WAIT_POLICY="ACTIVE") == ["ACTIVE", "False"]
