"""What every command has in common: JSON for programs, and progress for people at a terminal alone."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import typer.main

from ichnode.cli import app
from ichnode.phantom import REGULAR, head_ct
from ichnode.terminal import progress

SMALL = replace(REGULAR, rows=64, columns=64)
WITHOUT_JSON = {
    "serve": "runs until it is told to stop",
    "init": "writes a file",
    "install-service": "writes a file",
    "demo": "is for people; selftest is the same for programs",
    "conformance": "prints a document",
    "judgements export": "has --format json",
}


def commands(group, *above):
    """Every command of the command line with its parameters' options, by its words."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *above, name)
        else:
            yield " ".join((*above, name)), {option for parameter in command.params for option in parameter.opts}


def test_every_command_that_prints_data_prints_json():
    found = dict(commands(typer.main.get_command(app)))
    assert {name for name, options in found.items() if "--json" not in options} == set(WITHOUT_JSON)


def at_a_terminal(*arguments):
    """What somebody sees who runs the command at a terminal, whose standard output and error are the same."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "ichnode", *map(str, arguments)]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"}) as running:
        os.close(theirs)
        seen = b""
        while chunk := read(ours):
            seen += chunk
    os.close(ours)
    return running.returncode, seen.decode()


def read(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other side is closed
        return b""


@pytest.fixture
def heads(tmp_path):
    for number, dataset in enumerate(head_ct(hematoma_ml=0, geometry=SMALL, seed=5).datasets):
        dataset.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    (tmp_path / "notes.txt").write_text("no DICOM")
    return tmp_path


def test_long_work_says_how_far_it_is_at_a_terminal(heads):
    code, seen = at_a_terminal("explain", heads)
    assert code == 0
    assert "reading files: " in seen
    assert "looking at series: 1 of 1" in seen
    assert "notes.txt: not read: is no DICOM file" in seen.replace("\r\n", "")


def test_with_json_or_without_a_terminal_it_says_nothing(heads):
    code, seen = at_a_terminal("explain", heads, "--json")
    assert (code, "reading files" in seen) == (0, False)
    command = [sys.executable, "-m", "ichnode", "explain", str(heads)]
    piped = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "reading files" not in piped.stdout + piped.stderr


def test_without_a_terminal_progress_is_silent(capsys):
    with progress() as tell:
        tell("nobody sees this", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_what_is_printed_meanwhile_stands_above_it(heads, tmp_path):
    rules = tmp_path / "none.toml"
    rules.write_text('[[rules]]\nname = "none"\nmatch = { StationName = "X" }\n')
    code, seen = at_a_terminal("analyze", heads, "--out", tmp_path / "out", "--config", rules)
    assert code == 1
    assert "series 2: ignored: no_rule: " in seen.replace("\r\n", " ")
    assert "analysing series: 1 of 1" in seen
