"""Whoever installs ichnode without its extras has every package that the node imports."""

import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest

from tests.test_layers import ROOT, imported_modules

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def normal(name):
    """As PEP 503 has it, without a version."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=~!; ]", name)[0]).lower()


@pytest.mark.parametrize("folder", ["ichnode", "models"])
def test_every_package_that_is_imported_is_a_dependency(folder):
    wanted = {normal(line) for line in PROJECT["dependencies"]}
    imported = {module.split(".")[0] for file in (ROOT / folder).rglob("*.py") for module in imported_modules(file)}
    others = imported - set(sys.stdlib_module_names) - {"ichnode", "models"}
    distributions = packages_distributions()
    assert {package for package in others if not {normal(d) for d in distributions[package]} & wanted} == set()


def test_every_dependency_has_the_version_that_it_is_tested_with():
    pinned = {normal(line) for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()}
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    assert {normal(line) for line in [*PROJECT["dependencies"], *extras]} <= pinned
