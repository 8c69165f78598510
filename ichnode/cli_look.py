"""Commands that look at an installation and at a node, and change neither: parse and print only."""

import shlex
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from ichnode.config import load_settings, with_rules_of
from ichnode.errors import ConfigError, IchnodeError
from ichnode.terminal import (
    ConfigOption,
    JsonOption,
    cannot_be_read,
    fail,
    has_ledger,
    next_attempt,
    open_ledger,
    out,
    print_json,
    progress,
    read_settings,
    when,
)

if TYPE_CHECKING:
    from ichnode.stages.replay import Outcome

_DOCTOR_EPILOG = """Examples:

\b
  ichnode doctor --config /etc/ichnode/ichnode.toml       as the user of the service: sudo -u ichnode ...
  ichnode doctor --json | jq '.[] | select(.level != "ok")'

Exit code: 0 without failures (warnings are none), 1 with any.
"""


_STATUS_EPILOG = """Examples:

\b
  ichnode status --config /etc/ichnode/ichnode.toml
  watch -n 5 ichnode status --config /etc/ichnode/ichnode.toml
  ichnode status --json | jq .destinations

Exit code: 0 when the node answers and every part is ready, 1 otherwise.
"""


_SELFTEST_EPILOG = """Examples:

\b
  ichnode selftest --config /etc/ichnode/ichnode.toml
  ichnode selftest --running --config ...     also C-ECHO the node that runs, and ask it whether it is ready
  ichnode selftest --json --timeout 60

Exit code: 0 when nothing failed, 1 otherwise.
"""


_REPLAY_EPILOG = """Examples:

\b
  ichnode replay --since 2026-11-01 --config /etc/ichnode/ichnode.toml      the configured rules, after a change
  ichnode replay --since 2026-11-01 --rules draft.toml --config ...         a draft: its [[rules]] alone are read
  ichnode replay --since 2026-11-01 --json | jq '.series[] | select(.change == "stops")'

\b
same          decided as then            starts        was ignored, would be analysed
other_rule    by a rule of another name  stops         was analysed, would be ignored
other_reason  ignored as then            not_here      purged or unreadable: nothing can be said

Exit code: 0 whatever the rules decide, 1 when they or the ledger cannot be read.
"""


_CONFORMANCE_EPILOG = """Examples:

\b
  ichnode conformance --config /etc/ichnode/ichnode.toml > conformance.md      of this installation
  ichnode conformance                                                          of ichnode as it comes
"""


def add_to(app: typer.Typer) -> None:
    """Put the commands of this module into the command line."""
    app.command(epilog=_DOCTOR_EPILOG)(doctor)
    app.command(epilog=_SELFTEST_EPILOG)(selftest)
    app.command(epilog=_STATUS_EPILOG)(status)
    app.command(epilog=_REPLAY_EPILOG)(replay)
    app.command(epilog=_CONFORMANCE_EPILOG)(conformance)


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Examine the installation, before the node runs or while it does; what is wrong comes with what to do.

    Configuration, ports, destinations (C-ECHO and which result SOP classes they accept; DICOMweb by OPTIONS), audit
    collector, certificates, disk, database, clock, device and bundles. No patient data is sent, nothing is stored.
    """
    from ichnode.doctor import Check, Level, examine
    from ichnode.doctor.check import failure

    found: list[Check] = []
    try:
        settings = load_settings(config)
    except ConfigError as problem:
        fix = "edit the configuration; `ichnode init` writes a commented example"
        found = [failure("configuration", line, fix) for line in problem.problems]
    checks = iter(found) if found else examine(settings)
    found = []
    for check in checks:
        found.append(check)
        if not as_json:
            typer.echo(f"{check.level:<8} {check.name}: {check.detail}")
            if check.fix:
                typer.echo(f"{'':8} fix: {check.fix}")
    failures = sum(check.level is Level.FAILURE for check in found)
    warnings = sum(check.level is Level.WARNING for check in found)
    if as_json:
        print_json([asdict(check) for check in found])
    else:
        typer.echo(f"{len(found)} checks, {warnings} warnings, {failures} failures")
    if failures:
        raise typer.Exit(1)


def conformance(config: ConfigOption = None) -> None:
    """Print the DICOM conformance statement (PS3.2) of this configuration, as Markdown."""
    from ichnode.conformance import statement

    typer.echo(statement(read_settings(config)), nl=False)


def selftest(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    running: Annotated[bool, typer.Option("--running", help="Also C-ECHO the running node, and ask /readyz.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that the analysis may take.")] = 300,
) -> None:
    """Send a simulated patient through this installation, and check what comes back. The PACS notices nothing.

    A second node is started with the same bundles, device and results, but ports, folder and destination of its own,
    without TLS and under one rule that takes the patient: the ledger of the running node stays as it is.
    """
    from ichnode.doctor.check import Level
    from ichnode.selftest import run_selftest

    settings = read_settings(config)
    try:
        with progress(silent=as_json) as tell:
            outcome = run_selftest(settings, timeout_s=timeout, running=running, tell=tell)
    except (IchnodeError, OSError) as problem:
        fail(f"the node of the self-test cannot run: {problem}; ask `ichnode doctor`")
    failed = any(check.level is Level.FAILURE for check in outcome.checks)
    if as_json:
        print_json({"passed": not failed, **asdict(outcome)})
    else:
        table = Table("check", "", "found", title="ichnode selftest - RESEARCH USE ONLY", title_justify="left")
        table.columns[2].overflow = "fold"
        for check in outcome.checks:
            fix = f"\nfix: {check.fix}" if check.fix else ""
            table.add_row(escape(check.name), check.level, escape(check.detail + fix))
        table.add_section()
        for step, seconds in outcome.seconds:
            table.add_row(step, "", f"{seconds:.2f} s")
        out.print(table)
        typer.echo("failed" if failed else "passed: what came back is right")
    if failed:
        raise typer.Exit(1)


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """The running node on one screen: is it ready, what waits, who sent last, what is delivered, and the disk.

    Read from its ledger and asked at /readyz, on the machine that it runs on; nothing is changed.
    """
    from ichnode.status import status_of

    settings = read_settings(config)
    engine = open_ledger(settings) if has_ledger(settings) else None
    try:
        found = status_of(settings, engine)
    except SQLAlchemyError as problem:
        fail(cannot_be_read(settings, problem))
    finally:
        if engine is not None:
            engine.dispose()
    if as_json:
        print_json(found)
    else:
        for name, said in _status_lines(found, now=time.time()):
            typer.echo(f"{name:<13}{said}")
    if not found["ready"]:
        raise typer.Exit(1)


def replay(
    since: Annotated[datetime, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Local time.")],
    config: ConfigOption = None,
    rules: Annotated[Path | None, typer.Option("--rules", help="Its [[rules]] instead of the configured ones.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also series that are decided as then.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Decide stored studies again under other rules, without acting: what was decided of each series, what would be.

    Read are the ledger and the headers of stored files; no job is opened. A rule of the draft may use any destination
    of the configuration. In JSON each series has its trace: for each rule, the clauses that do not hold.
    """
    from ichnode.stages.replay import Change
    from ichnode.stages.replay import replay as decide_again
    from ichnode.storage.intake import Intake
    from ichnode.storage.studies import Studies

    settings = read_settings(config)
    engine = open_ledger(settings)
    try:
        rules_now = (with_rules_of(settings, rules) if rules else settings).decision_rules
        with progress(silent=as_json) as tell:
            rows = list(decide_again(Studies(engine), Intake(engine), rules_now, since=since.timestamp(), tell=tell))
    except ConfigError as problem:
        fail(str(problem))
    except SQLAlchemyError as problem:
        fail(cannot_be_read(settings, problem))
    finally:
        engine.dispose()
    counts = {change.value: sum(row.change is change for row in rows) for change in Change}
    if as_json:
        print_json({"series": [asdict(row) for row in rows], "counts": counts})
        return
    table = Table("study", "series", "job", "change", "then", "now", "because", box=None)
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        if everything or row.change is not Change.SAME:
            then = _decided(row.then) if row.then else "-"
            shown = row.series_description or row.series_instance_uid
            cells = (
                row.study_instance_uid,
                shown,
                str(row.job_id or "-"),
                row.change.value,
                then,
                _decided(row.now),
                row.now.detail,
            )
            table.add_row(*map(escape, cells))
    if table.row_count:
        out.print(table)
    counted = ", ".join(f"{count} {change}" for change, count in counts.items() if count)
    typer.echo(f"{len(rows)} series{': ' + counted if counted else ''}")


def _decided(outcome: "Outcome") -> str:
    return f"{outcome.decision} {outcome.rule or '-'} ({outcome.reason})"


def _status_lines(found: dict[str, Any], *, now: float) -> Iterator[tuple[str, str]]:
    started = found["started"]
    since = f"; last start {when(started['at'], now)}, version {started['version']}" if started else ""
    yield "node", f"{found['ae_title']}, port {found['port']}, ichnode {found['version']}{since}"
    troubles = [f"{part}: {said}" for part, said in found["parts"].items() if said != "ok"]
    yield "ready", "yes" if found["ready"] else f"NO: {'; '.join(troubles) or found['no_answer']}"
    yield "parts", ", ".join(found["parts"]) or "-"
    yield "jobs", ", ".join(f"{count} {state}" for state, count in found["jobs"].items() if count) or "none"
    oldest = found["oldest_waiting_job"]
    yield (
        "waiting",
        f"job {oldest['id']}, {oldest['state']}, since {when(oldest['created_at'], now)}" if oldest else "-",
    )
    for source in found["sources"]:
        at = source["last_instance_at"]
        yield (
            "source",
            f"{source['ae_title']}: " + (f"last instance {when(at, now)}" if at else "nothing is here of it"),
        )
    for row in found["destinations"]:
        gone = "" if row["configured"] else ", no longer configured"
        yield (
            "destination",
            f"{row['name']}: {row['open']} open, {row['dead']} dead, {row['delivered']} delivered{gone}",
        )
        if row["error"] and (row["open"] or row["dead"]):
            yield "", f"last error: {row['error']} (job {row['error_job_id']})"
        if row["error"] and row["next_attempt_at"] is not None:
            waits = row["configured"] and row["next_attempt_at"] > now
            sooner = f"; sooner: ichnode destinations retry {shlex.quote(row['name'])}" if waits else ""
            yield "", f"next attempt: {next_attempt(row['next_attempt_at'], now)}{sooner}"
    disk = found["disk"]
    if disk:
        room = f"{disk['free_bytes'] / 1e9:.1f} GB free, reserve {disk['reserve_bytes'] / 1e9:.1f} GB"
        yield "disk", f"{room}{', ' + disk['trouble'] if disk['trouble'] else ''}"
    yield "bundles", ", ".join(f"{bundle['name']} {bundle['version']}" for bundle in found["bundles"])
