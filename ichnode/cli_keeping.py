"""`ichnode db` and `ichnode audit`: whether what is kept is sound and unaltered, and a backup of it."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ichnode import logs
from ichnode.domain.audit import AuditEvent, pseudonym
from ichnode.errors import BackupError
from ichnode.storage.audit import AuditTrail
from ichnode.storage.dialect import database_file, is_shared, new_engine
from ichnode.terminal import (
    ConfigOption,
    JsonOption,
    clock,
    fail,
    need_ledger,
    open_ledger,
    print_json,
    progress,
    read_settings,
)
from ichnode.user import at_the_shell

db_app = typer.Typer(no_args_is_help=True, help="Check and back up the database, also while the node runs.")
audit_app = typer.Typer(no_args_is_help=True, help="Who did what, and whether anybody tampered with the trail.")


@db_app.command("check")
def db_check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Is the database sound, has every row its file, and every file its row? Fails when something is wrong."""
    from ichnode.storage.check import check

    settings = read_settings(config)
    need_ledger(settings)
    with progress(silent=as_json) as tell:
        outcome = check(new_engine(settings.database_url), settings.stores, tell=tell)
    if as_json:
        print_json({"sound": outcome.sound, **asdict(outcome)})
    else:
        for problem in outcome.problems:
            typer.echo(f"{problem.kind}  {problem.subject}  {problem.detail}")
        said = "sound" if outcome.sound else f"{len(outcome.problems)} problems"
        typer.echo(f"{said}: {outcome.rows} rows, {outcome.files} files")
        if is_shared(settings.database_url):
            typer.echo("of PostgreSQL itself nothing was checked: pg_amcheck does that")
    if not outcome.sound:
        raise typer.Exit(1)


@db_app.command("backup")
def db_backup(
    file: Annotated[Path, typer.Argument(help="A new file.")], config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Copy the database to FILE while the node runs, and verify the copy. Instances and results are not in it."""
    from ichnode.storage.backup import back_up

    settings = read_settings(config)
    need_ledger(settings)
    url = settings.database_url
    if is_shared(url):
        fail("the ledger is on PostgreSQL: back it up with pg_dump (docs/several-machines.md)")
    try:
        with progress(silent=as_json) as tell:
            made = back_up(database_file(url), file, tell)
    except BackupError as problem:
        fail(str(problem))
    if as_json:
        print_json(asdict(made))
    else:
        typer.echo(f"{made.file}: verified, {made.instances} instances, {made.jobs} jobs, {made.size_bytes} bytes")


@audit_app.command("show")
def audit_show(
    config: ConfigOption = None,
    study: Annotated[str | None, typer.Option(help="Only rows that name this Study Instance UID.")] = None,
    after: Annotated[int, typer.Option(help="Only rows after this one.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """The rows of the trail, oldest first. That it was read is a row, too."""
    name = pseudonym(study) if study else ""
    trail = AuditTrail(open_ledger(read_settings(config)))
    trail.append(AuditEvent.AUDIT_READ, who=at_the_shell(), what={"after": after, "study": name}, at=time.time())
    rows = [row for row in trail.rows(after=after) if name in json.dumps(row.what)]
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    for row in rows:
        when = clock(row.at).replace(" ", "T")  # for who takes the line apart
        cells = str(row.sequence), when, row.event, logs.escape(row.who), row.outcome, json.dumps(row.what)
        typer.echo("  ".join(cells))


@audit_app.command("verify")
def audit_verify(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Find rows that were altered, removed or moved; fails when there are any."""
    trail = AuditTrail(open_ledger(read_settings(config)))
    with progress(silent=as_json) as tell:
        found = trail.verify(tell)
    if as_json:
        print_json({"rows": trail.end(), "tampered": [asdict(one) for one in found]})
    else:
        for one in found:
            typer.echo(f"row {one.sequence} {one.detail}")
        typer.echo("tampered with" if found else f"unaltered: {trail.end()} rows")
    if found:
        raise typer.Exit(1)
