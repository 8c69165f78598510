"""`ichnode destinations`: what they wait for and refuse, to try them now, and to offer again what was refused."""

import time
from pathlib import Path
from typing import Annotated

import typer
from pydicom.uid import UID
from rich.markup import escape
from rich.table import Table

from ichnode.config import Settings
from ichnode.storage.outbox import Outbox
from ichnode.storage.overview import Overview
from ichnode.storage.refused_classes import RefusedClasses
from ichnode.terminal import (
    ConfigOption,
    JsonOption,
    clock,
    fail,
    next_attempt,
    open_ledger,
    out,
    print_json,
    read_settings,
)
from ichnode.user import at_the_shell

app = typer.Typer(no_args_is_help=True, help="What destinations wait for, what they refuse, and to try them again.")
_RETRY_EPILOG = """Examples:

\b
  ichnode destinations retry pacs --config /etc/ichnode/ichnode.toml      the PACS is back: do not wait

The node that runs sends within a second. A result that failed for good is no longer waiting: ichnode jobs retry ID.
"""


@app.command("list")
def destinations_list(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """How many results each waits for, what went wrong last, when it is tried next, and which SOP classes it refuses.

    Where a SOP class is refused, the summary page stands in.
    """
    from ichnode.web.destinations import list_of_destinations

    settings = read_settings(config)
    engine, names = open_ledger(settings), [d.name for d in settings.destinations]
    rows = list_of_destinations(names, Outbox(engine), Overview(engine), RefusedClasses(engine))
    if as_json:
        print_json(rows)
        return
    table = Table("destination", "waiting", "last delivery", "next attempt", "last error", box=None)
    for row in rows:
        took = "never" if row["delivered_at"] is None else clock(row["delivered_at"])
        due = "-" if row["next_attempt_at"] is None else next_attempt(row["next_attempt_at"], time.time())
        error = f"{row['error']} (job {row['error_job_id']})" if row["error"] else "-"
        table.add_row(*map(escape, (row["name"], str(row["waiting"]), took, due, error)))
    out.print(table)
    refuses = Table("destination", "refuses", "since", "job", "because", box=None)
    for row in rows:
        for refused in row["refused_classes"]:
            name, since = UID(refused["sop_class_uid"]).name, clock(refused["refused_at"])
            refuses.add_row(*map(escape, (row["name"], name, since, str(refused["job_id"]), refused["detail"])))
    if refuses.row_count:
        typer.echo()
        out.print(refuses)
    if rows:
        typer.echo("Whether they answer now: ichnode doctor")


@app.command("retry", epilog=_RETRY_EPILOG)
def destinations_retry(name: str, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Make everything that waits for a destination due at once; its back-off begins anew."""
    settings = _known(config, name)
    due = Outbox(open_ledger(settings)).try_now(name, at=time.time(), who=at_the_shell())
    if as_json:
        print_json({"name": name, "due": due})
    else:
        typer.echo(f"{name} is tried now: {due} waiting" if due else f"nothing waits for {name}")


@app.command("reset")
def destinations_reset(
    name: str,
    config: ConfigOption = None,
    sop_class_uid: Annotated[str | None, typer.Option("--sop-class", help="Only this SOP Class UID.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Offer a destination again what it refused, from the next job on: after its configuration was changed, say."""
    settings = _known(config, name)
    count = RefusedClasses(open_ledger(settings)).reset(name, sop_class_uid)
    again = f"{count} SOP class{'es' if count > 1 else ''} again"
    if as_json:
        print_json({"name": name, "offered_again": count})
    else:
        typer.echo(f"{name} is offered {again if count else 'everything already'}")


def _known(config: Path | None, name: str) -> Settings:
    """The settings, which have a destination of this name, or the end."""
    settings = read_settings(config)
    if name not in [destination.name for destination in settings.destinations]:
        fail(f"no destination is named {name}")
    return settings
