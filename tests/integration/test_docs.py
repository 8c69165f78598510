"""The documentation site is built strictly, needs nothing from elsewhere, and prints commands that exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import is_a_command

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"`(?:[\w./-]*/)?ichnode ([^`]+)`|^[$#] (?:[\w./-]*/)?ichnode (.+)$", re.M)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("material", reason="needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    ran = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "https_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    return folder


def test_a_page_needs_nothing_from_another_host(site):
    loading = re.compile(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"?(?:https?:)?//[^>]*>")
    assert [found for page in site.rglob("*.html") for found in loading.findall(page.read_text("utf-8"))] == []


def test_the_card_of_every_bundle_is_a_page(site):
    cards = {card.parent.name for card in (ROOT / "models" / "bundles").glob("*/CARD.md")}
    assert cards <= {page.stem for page in (site / "models").glob("*.html")}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_command_that_a_page_prints_is_one_of_ichnode(page):
    unknown = []
    for inline, alone in COMMAND.findall(page.read_text("utf-8")):
        words = shlex.split((inline or alone).partition("#")[0].partition("  (")[0])
        if not is_a_command(words):
            unknown.append(inline or alone)
    assert unknown == []
