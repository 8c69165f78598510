"""What every command shares: options, reading the configuration, tables, JSON, and one line for what went wrong."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from ichnode.config import Settings, load_settings
from ichnode.errors import ConfigError

ConfigOption = Annotated[Path | None, typer.Option("--config", help="Configuration file; without it, the defaults.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
out = Console(width=None if sys.stdout.isatty() else 200)  # piped tables keep their columns


def read_settings(config: Path | None, *, roles: str | None = None) -> Settings:
    """The settings, or the end. `roles`: those of this node, with commas, whatever the settings say."""
    told = {} if roles is None else {"ICHNODE_NODE__ROLES": json.dumps([role.strip() for role in roles.split(",")])}
    try:
        return load_settings(config, os.environ | told)
    except ConfigError as problem:
        fail(str(problem))


def print_json(value: Any) -> None:
    """Indented; what JSON does not know, as text."""
    typer.echo(json.dumps(value, indent=2, default=str))


def fail(message: str) -> NoReturn:
    """Say why on standard error, and exit with 1."""
    print(message, file=sys.stderr)
    raise typer.Exit(1)
