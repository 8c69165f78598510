"""Every example of docs/rules.md does what the table below it says."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from ichnode.config import Settings
from ichnode.domain.facts import COMPUTED
from ichnode.domain.rules import Decision, decide
from tests.unit.test_rules import BRAIN_5_MM

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text("utf-8")
BLOCK, TABLE = re.compile(r"```toml\n(.*?)```", re.S), re.compile(r"^\| `(.*)` \| (.*) \|$", re.M)
EXAMPLES = [(part.splitlines()[0], BLOCK.findall(part), TABLE.findall(part)) for part in PAGE.split("\n## ")[1:]]


def facts_of(number, cell):
    """The series that a cell describes: computed facts by name, everything else as a tag."""
    values = tomllib.loads("\n".join(re.split(r", (?=\w+ = )", cell)))
    computed = {name: value for name, value in values.items() if name in COMPUTED}
    tags = {name: value for name, value in values.items() if name not in COMPUTED}
    tags = {"Modality": "CT", "ImageType": ("ORIGINAL", "PRIMARY", "AXIAL")} | tags
    return replace(BRAIN_5_MM, series_instance_uid=f"1.{number}", series_number=number, tags=tags, **computed)


def in_words(decision: Decision):
    if decision.analyse:
        return f"analysed by {decision.rule.name}"
    return f"ignored: {decision.reason}" + (", with a report" if decision.report else "")


def test_every_example_of_the_page_has_one_table():
    assert len(EXAMPLES) == PAGE.count("```toml") == PAGE.count("| series | decision |") > 5


@pytest.mark.parametrize(("blocks", "rows"), [pytest.param(b, rows, id=title) for title, b, rows in EXAMPLES])
def test_an_example_decides_as_its_table_says(blocks, rows):
    (toml,) = blocks
    rules = Settings.model_validate(tomllib.loads(toml)).decision_rules
    decisions = decide([facts_of(number, cell) for number, (cell, _) in enumerate(rows, 1)], rules)
    assert list(map(in_words, decisions)) == [said for _, said in rows]
