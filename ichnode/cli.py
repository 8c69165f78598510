"""The command line: parses and prints; the work is done elsewhere. Research use only."""

import signal
import sys
import threading
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from alembic.util import CommandError
from rich.table import Table
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ichnode import (
    __version__,
    cli_destinations,
    cli_jobs,
    cli_judgements,
    cli_keeping,
    cli_look,
    faults,
    logs,
    service,
)
from ichnode.config import Settings, example, load_settings
from ichnode.errors import BundleError, ConfigError, IchnodeError, InferenceError
from ichnode.storage.dialect import database_file, is_shared, without_password
from ichnode.terminal import ConfigOption, JsonOption, fail, out, print_json, progress, read_settings

if TYPE_CHECKING:
    from ichnode.demo import DemoOutcome

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="A DICOM node that returns hematoma results for non-contrast head CT. RESEARCH USE ONLY.",
)
models_app = typer.Typer(no_args_is_help=True, help="The bundles that this node can run.")
cli_look.add_to(app)
app.add_typer(cli_jobs.app, name="jobs")
app.add_typer(cli_destinations.app, name="destinations")
app.add_typer(models_app, name="models")
app.add_typer(cli_keeping.db_app, name="db")
app.add_typer(cli_keeping.audit_app, name="audit")
app.add_typer(cli_judgements.app, name="judgements")


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """A DICOM node that returns hematoma results for non-contrast head CT. RESEARCH USE ONLY."""
    if version:
        typer.echo(f"ichnode {__version__}")
        raise typer.Exit


@app.command()
def serve(
    config: ConfigOption = None,
    roles: Annotated[
        str | None, typer.Option(help="Some of receive,analyse,deliver: several nodes share the work (PostgreSQL).")
    ] = None,
) -> None:
    """Run the node until SIGTERM or Ctrl-C."""
    from ichnode.node import Node

    settings = read_settings(config, roles=roles)
    logs.set_up()
    try:
        faults.announce()
        node = Node(settings)
        node.start()
    except (IchnodeError, OSError) as problem:
        fail(str(problem))
    except (SQLAlchemyError, CommandError) as problem:
        fail(_ledger_problem(settings, problem))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: node.ask_to_stop())
    where = f"{settings.node.ae_title}@{settings.node.host}:{node.dicom_port}"
    also = f" ({settings.node_name}: {', '.join(settings.node.roles)})" if settings.shared else ""
    print(f"ichnode ready: {where}{also}", flush=True)
    service.tell_systemd("READY=1")
    dead = node.wait()
    service.tell_systemd("STOPPING=1")
    node.stop()
    if dead:
        fail(f"stopped because a part died: {dead}")


@app.command()
def init(file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("ichnode.toml")) -> None:
    """Write a commented example configuration; an existing file is left alone."""
    if file.exists():
        fail(f"{file} exists already")
    file.write_text(example(), "utf-8")
    typer.echo(f"wrote {file}; edit it, then: ichnode check --config {file} && ichnode serve --config {file}")


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say whether a configuration is valid, or what is wrong as `section.key: reason`."""
    from ichnode.inference.bundle import load_pipelines
    from ichnode.stages.clinical import problems_of

    doubts: list[str] = []
    problems: tuple[str, ...] = ()
    try:
        settings = load_settings(config)
        load_pipelines(settings.pipeline_bundles, settings.inference.bundles_dir, "cpu")
        if settings.clinical.file:
            problems = tuple(f"clinical.file: {problem}" for problem in problems_of(settings.clinical.file))
        doubts += settings.unreadable_files()  # they may be put there later, or be for the user of the service alone
        if not settings.destinations:
            doubts.append("without [[destinations]] no result leaves this machine")
    except ConfigError as refused:
        problems = refused.problems
    if as_json:
        print_json({"valid": not problems, "problems": problems, "doubts": doubts})
    else:
        valid = f"valid, but {'; '.join(doubts)}" if doubts else "valid"
        typer.echo("\n".join(problems) if problems else valid)
    if problems:
        raise typer.Exit(1)


@app.command()
def health(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Ask the node that runs with this configuration on this machine whether it is ready; fails when it is not."""
    from ichnode.web.health import trouble

    web = read_settings(config).web
    problems = trouble(web.host, web.port, tls=web.tls)
    if as_json:
        print_json({"ready": not problems, "problems": problems})
    elif not problems:
        typer.echo("ready")
    else:
        fail("\n".join(problems))
    if problems:
        raise typer.Exit(1)


@app.command()
def install_service(
    config: Annotated[Path, typer.Option("--config", help="Configuration file of the service.")] = Path(
        "/etc/ichnode/ichnode.toml"
    ),
    user: Annotated[str, typer.Option(help="The system user that it runs as.")] = "ichnode",
    print_only: Annotated[bool, typer.Option("--print", help="Print the unit instead of writing it.")] = False,
) -> None:
    """Write a hardened systemd unit for this installation, and say what is left to do."""
    settings = read_settings(config)
    executable, config = Path(sys.executable).with_name("ichnode"), config.absolute()
    data_dir, url = settings.node.data_dir, settings.database_url
    ledger = data_dir if is_shared(url) else database_file(url).parent
    python = Path(sys.base_prefix)  # which the virtual environment only points to
    if problems := service.problems_of(paths=(python, executable, config, data_dir, ledger), user=user):
        fail("\n".join(problems))
    unit = service.unit_text(
        executable=executable,
        config=config,
        data_dir=data_dir,
        writable=[] if ledger.is_relative_to(data_dir) else [ledger],
        user=user,
        ports=(settings.node.port, settings.web.port),
        gpu=settings.inference.device != "cpu",
    )
    if print_only:
        typer.echo(unit, nl=False)
        return
    try:
        service.UNIT.write_text(unit, "utf-8")
    except OSError as problem:
        fail(f"{service.UNIT}: {problem.strerror}")
    typer.echo(
        f"wrote {service.UNIT}; then, as root:\n"
        f"  useradd --system --user-group --home-dir {data_dir} --shell /usr/sbin/nologin {user}   # once\n"
        f"  install --directory --owner {user} --group {user} --mode 0750 {data_dir}\n"
        "  systemctl daemon-reload && systemctl enable --now ichnode"
    )


@app.command()
def demo(
    out_dir: Annotated[Path, typer.Option("--out", help="Where the head CT and the results are written.")] = Path(
        "ichnode-demo"
    ),
    review: Annotated[
        bool, typer.Option("--review", help="Leave the node running, to review the patient in a browser.")
    ] = False,
) -> None:
    """Send a simulated patient's head CT through a node and receive the results, all over real DICOM sockets."""
    from ichnode.demo import run_demo

    with ExitStack() as node:
        try:
            with progress() as tell:
                outcome = node.enter_context(run_demo(out_dir, tell))
        except (IchnodeError, OSError) as problem:
            fail(f"miss: {problem}")
        _print_demo(outcome)
        if review:
            typer.echo(f"review it: {outcome.page}\nthe node runs until Ctrl-C, and forgets the patient then")
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
    if outcome.misses:
        raise typer.Exit(1)


def _print_demo(outcome: "DemoOutcome") -> None:
    table = Table(title="ichnode demo - RESEARCH USE ONLY", title_justify="left")
    table.add_column("what")
    table.add_column("value", overflow="fold")
    table.add_row("hematoma of the simulated patient", f"{outcome.true_ml:.1f} mL")
    found = "-" if outcome.found_ml is None else f"{outcome.found_ml:.1f} mL"
    if outcome.range_ml:
        found += f" ({outcome.range_ml[0]:.1f} to {outcome.range_ml[1]:.1f})"
    table.add_row("hematoma found", found, end_section=True)
    for step, seconds in outcome.seconds:
        table.add_row(step, f"{seconds:.2f} s")
    table.add_section()
    for description, files in outcome.series.items():
        first = min(file.name for file in files)
        table.add_row(description, first if len(files) == 1 else f"{first} and {len(files) - 1} more")
    out.print(table)
    if outcome.series:
        typer.echo(f"the results are in {outcome.folder}")
    for miss in outcome.misses:
        typer.echo(f"miss: {miss}", err=True)
    if not outcome.misses:
        typer.echo("passed: everything arrived, and the volume is right")


@app.command()
def analyze(
    path: Annotated[Path, typer.Argument(help="A folder or file.", exists=True)],
    out_dir: Annotated[Path, typer.Option("--out", help="Where the results are written.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Analyse the head CTs below PATH without any network, and write the results to a folder."""
    from ichnode.node import analyser_settings
    from ichnode.stages.folder import read_folder
    from ichnode.stages.offline import analyze_folder

    settings = read_settings(config)
    reports = []
    try:
        with progress(silent=as_json) as tell:
            logs.set_up()
            for report in analyze_folder(
                read_folder(path, tell),
                out_dir,
                rules=settings.decision_rules,
                analyser=analyser_settings(settings),
                config_sha256=settings.results_sha256,
                tell=tell,
            ):
                reports.append(report)
                if not as_json:
                    typer.echo(report.text)
    except (ConfigError, InferenceError) as problem:
        fail(str(problem))
    if as_json:
        print_json([asdict(report) for report in reports])
    if not any(report.outcome == "analysed" for report in reports):
        fail(f"nothing below {path} was analysed")


@app.command()
def explain(
    path: Annotated[Path, typer.Argument(help="A folder or file.", exists=True)],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say for every series below PATH: analyse or ignore, by which rule, and why."""
    from ichnode.stages.folder import read_folder
    from ichnode.stages.offline import explain_folder

    rules = read_settings(config).decision_rules
    with progress(silent=as_json) as tell:
        folder = read_folder(path, tell)
        rows = explain_folder(folder, rules, tell)
    for line in folder.not_read:
        typer.echo(line, err=True)
    if not rows:
        typer.echo(f"{path}: holds no DICOM series", err=True)
    if as_json:
        print_json(rows)
        return
    table = Table("series", "description", "slices", "mm", "decision", "rule", "reason", "because", "gate", box=None)
    for row in rows:
        table.add_row(
            str(row["series_number"]),
            row["series_description"],
            str(row["slice_count"]),
            f"{row['thickness']:g}",
            row["decision"],
            row["rule"] or "-",
            row["reason"],
            row["detail"],
            row["gate"] or "-",
        )
    out.print(table)


@models_app.command("list")
def models_list(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """The bundles that are found, and what they are for."""
    rows = _bundles(config)
    if as_json:
        print_json(rows)
        return
    table = Table("bundle", "version", "family", "trained on", "weights", "intended use", box=None)
    for row in rows:
        if "error" in row:
            typer.echo(f"{row['name']}: {row['error']}", err=True)
        else:
            cells = ("version", "family", "trained_on", "weights_sha256", "intended_use")
            table.add_row(row["name"], *(str(row[k])[:60] for k in cells))
    out.print(table)


@models_app.command("verify")
def models_verify(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check the weights of every bundle against their hash; fails when one does not match."""
    rows = _bundles(config)
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            typer.echo(f"{row['name']}: {row.get('error') or 'verified ' + row['weights_sha256']}")
    if any("error" in row for row in rows):
        raise typer.Exit(1)


def _bundles(config: Path | None) -> list[dict[str, Any]]:
    from ichnode.inference.bundle import configured_bundles, verify_bundle

    try:
        found = configured_bundles(read_settings(config).inference.bundles_dir)
    except ConfigError as problem:
        fail(str(problem))
    rows: list[dict[str, Any]] = []
    for name, folder in sorted(found.items()):
        try:
            rows.append({"name": name, "folder": str(folder), **verify_bundle(folder).model_dump(mode="json")})
        except BundleError as problem:
            rows.append({"name": name, "folder": str(folder), "error": problem.detail})
    return rows


def _ledger_problem(settings: Settings, problem: SQLAlchemyError | CommandError) -> str:
    """One line: what the database says, or Alembic of a ledger that another version of ichnode wrote."""
    said = str(problem.orig if isinstance(problem, DBAPIError) else problem).partition("\n")[0]
    return f"database.url: {without_password(settings.database_url)} cannot be used: {said}"
