"""Whether a command line that a page or a container prints is one of ichnode."""

from collections.abc import Sequence

import typer.main

from ichnode.cli import app


def is_a_command(words: Sequence[str]) -> bool:
    """`words` without the program's name: a command, or a group, and options that it has."""
    command, rest = typer.main.get_command(app), list(words)
    while rest and hasattr(command, "commands") and rest[0] in command.commands:
        command = command.commands[rest.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts}
    named = {word.strip("[]") for word in rest if word.lstrip("[").startswith("--")}
    return named <= options and not (hasattr(command, "commands") and rest and not named)
