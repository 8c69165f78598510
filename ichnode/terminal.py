"""What every command shares: options, configuration, the ledger, tables, JSON, and one line for what went wrong."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from ichnode.config import Settings, load_settings
from ichnode.domain.progress import Tell, silently
from ichnode.domain.spans import span
from ichnode.errors import ConfigError
from ichnode.storage.dialect import database_file, is_shared, new_engine, reading, without_password
from ichnode.storage.schema import form_of, is_older_form, newest_form

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


def has_ledger(settings: Settings) -> bool:
    """Whether there is one, as far as can be said without asking a server."""
    return is_shared(settings.database_url) or database_file(settings.database_url).exists()


def need_ledger(settings: Settings) -> None:
    """There is a ledger, or the end."""
    if not has_ledger(settings):
        fail(f"there is no ledger at {settings.database_url}; has `ichnode serve` run with this configuration?")


def open_ledger(settings: Settings) -> Engine:
    """The ledger as it is, for a node may run on it: only `serve` migrates. The end where its form is another one."""
    url = settings.database_url
    need_ledger(settings)
    engine = new_engine(url)
    try:
        with reading(engine) as db:
            form = form_of(db)
    except SQLAlchemyError as problem:
        fail(cannot_be_read(settings, problem))
    if form != newest_form():
        wants = f"database.url: {without_password(url)} has the form {form}, and this ichnode wants {newest_form()}"
        fail(f"{wants}: {'its `serve` migrates it' if is_older_form(form) else 'use the ichnode that wrote it'}")
    return engine


def cannot_be_read(settings: Settings, problem: SQLAlchemyError) -> str:
    """One line: what the database says."""
    said = str(getattr(problem, "orig", None) or problem).partition("\n")[0]
    return f"database.url: {without_password(settings.database_url)} cannot be read: {said}; ask `ichnode doctor`"


@contextmanager
def progress(*, silent: bool = False) -> Iterator[Tell]:
    """What long work tells of itself is shown on a terminal, and removed at the end; elsewhere, or `silent`, it is not.

    Inside, whatever is printed or logged stands above it.
    """
    if silent or not (sys.stdout.isatty() and sys.stderr.isatty()):
        yield silently
        return
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:

        def tell(doing: str, done: int = 0, total: int | None = None) -> None:
            said = doing if total is None else f"{doing}: {done} of {total}"
            if not bar.tasks or bar.tasks[0].fields["doing"] != doing:  # each step has a time of its own
                for task in bar.tasks:
                    bar.remove_task(task.id)
                bar.add_task(said, doing=doing, total=total, completed=done)
            else:
                bar.update(bar.tasks[0].id, description=said, completed=done)

        yield tell


def clock(at: float) -> str:
    """Date and time, local."""
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")


def when(at: float, now: float) -> str:
    """A time, and how long ago it was or how soon it comes."""
    said = span(abs(now - at))
    return f"{clock(at)} ({said} ago)" if at <= now else f"{clock(at)} (in {said})"


def next_attempt(at: float, now: float) -> str:
    """When a delivery is tried; what is due already is tried at once, or being tried."""
    return "now" if at <= now else when(at, now)


def print_json(value: Any) -> None:
    """Indented; what JSON does not know, as text."""
    typer.echo(json.dumps(value, indent=2, default=str))


def fail(message: str) -> NoReturn:
    """Say why on standard error, and exit with 1."""
    print(message, file=sys.stderr)
    raise typer.Exit(1)
