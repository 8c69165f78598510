"""The command line: parses and prints; the work is done elsewhere. Research use only."""

import getpass
import json
import signal
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from alembic.util import CommandError
from pydicom.uid import UID
from rich.table import Table
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ichnode import __version__, cli_judgements, cli_look, faults, logs, service
from ichnode.config import Settings, example, load_settings
from ichnode.domain.audit import AuditEvent, pseudonym
from ichnode.domain.job import JobState
from ichnode.errors import BackupError, BundleError, ConfigError, IchnodeError, InferenceError
from ichnode.storage.audit import AuditTrail
from ichnode.storage.dialect import database_file, is_shared, new_engine, without_password
from ichnode.storage.history import History
from ichnode.storage.intake import Intake
from ichnode.storage.ledger import Ledger
from ichnode.storage.outbox import Outbox
from ichnode.storage.refused_classes import RefusedClasses
from ichnode.terminal import ConfigOption, JsonOption, need_ledger, open_ledger, out
from ichnode.terminal import fail as _fail
from ichnode.terminal import print_json as _print_json
from ichnode.terminal import read_settings as _settings

if TYPE_CHECKING:
    from ichnode.demo import DemoOutcome

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="A DICOM node that returns hematoma results for non-contrast head CT. RESEARCH USE ONLY.",
)
jobs_app = typer.Typer(no_args_is_help=True, help="Look at jobs, revive or end them.")
destinations_app = typer.Typer(no_args_is_help=True, help="What destinations wait for, and what they refuse.")
models_app = typer.Typer(no_args_is_help=True, help="The bundles that this node can run.")
db_app = typer.Typer(no_args_is_help=True, help="Check and back up the database, also while the node runs.")
audit_app = typer.Typer(no_args_is_help=True, help="Who did what, and whether anybody tampered with the trail.")
cli_look.add_to(app)
app.add_typer(jobs_app, name="jobs")
app.add_typer(destinations_app, name="destinations")
app.add_typer(models_app, name="models")
app.add_typer(db_app, name="db")
app.add_typer(audit_app, name="audit")
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

    settings = _settings(config, roles=roles)
    logs.set_up()
    try:
        faults.announce()
        node = Node(settings)
        node.start()
    except (IchnodeError, OSError) as problem:
        _fail(str(problem))
    except (SQLAlchemyError, CommandError) as problem:
        _fail(_ledger_problem(settings, problem))
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
        _fail(f"stopped because a part died: {dead}")


@app.command()
def init(file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("ichnode.toml")) -> None:
    """Write a commented example configuration; an existing file is left alone."""
    if file.exists():
        _fail(f"{file} exists already")
    file.write_text(example(), "utf-8")
    typer.echo(f"wrote {file}; edit it, then: ichnode check --config {file} && ichnode serve --config {file}")


@app.command()
def check(config: ConfigOption = None) -> None:
    """Say whether a configuration is valid, or what is wrong as `section.key: reason`."""
    from ichnode.inference.bundle import load_pipelines
    from ichnode.stages.clinical import problems_of

    try:
        settings = load_settings(config)
        load_pipelines(settings.pipeline_bundles, settings.inference.bundles_dir, "cpu")
        if settings.clinical.file and (problems := problems_of(settings.clinical.file)):
            raise ConfigError(tuple(f"clinical.file: {problem}" for problem in problems))
    except ConfigError as problem:
        typer.echo(str(problem))
        raise typer.Exit(1) from None
    doubts = settings.unreadable_files()  # a token may be put there later, and receiving need not wait for it
    if not settings.destinations:
        doubts.append("without [[destinations]] no result leaves this machine")
    typer.echo(f"valid, but {'; '.join(doubts)}" if doubts else "valid")


@app.command()
def health(config: ConfigOption = None) -> None:
    """Ask the node that runs with this configuration on this machine whether it is ready; fails when it is not."""
    from ichnode.web.health import trouble

    web = _settings(config).web
    if problems := trouble(web.host, web.port, tls=web.tls):
        _fail("\n".join(problems))
    typer.echo("ready")


@app.command()
def install_service(
    config: Annotated[Path, typer.Option("--config", help="Configuration file of the service.")] = Path(
        "/etc/ichnode/ichnode.toml"
    ),
    user: Annotated[str, typer.Option(help="The system user that it runs as.")] = "ichnode",
    print_only: Annotated[bool, typer.Option("--print", help="Print the unit instead of writing it.")] = False,
) -> None:
    """Write a hardened systemd unit for this installation, and say what is left to do."""
    settings = _settings(config)
    executable, config = Path(sys.executable).with_name("ichnode"), config.absolute()
    data_dir, url = settings.node.data_dir, settings.database_url
    ledger = data_dir if is_shared(url) else database_file(url).parent
    python = Path(sys.base_prefix)  # which the virtual environment only points to
    if problems := service.problems_of(paths=(python, executable, config, data_dir, ledger), user=user):
        _fail("\n".join(problems))
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
        _fail(f"{service.UNIT}: {problem.strerror}")
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
        with out.status("a head CT travels to the node, and its results back ..."):
            try:
                outcome = node.enter_context(run_demo(out_dir))
            except (IchnodeError, OSError) as problem:
                _fail(f"miss: {problem}")
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
    found = "none" if outcome.found_ml is None else f"{outcome.found_ml:.1f} mL"
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
) -> None:
    """Analyse the head CTs below PATH without any network, and write the results to a folder."""
    from ichnode.node import analyser_settings
    from ichnode.stages.folder import read_folder
    from ichnode.stages.offline import analyze_folder

    settings = _settings(config)
    logs.set_up()
    try:
        reports = analyze_folder(
            read_folder(path),
            out_dir,
            rules=settings.decision_rules,
            analyser=analyser_settings(settings),
            config_sha256=settings.results_sha256,
        )
        analysed = False
        for report in reports:
            analysed = analysed or report.analysed
            typer.echo(report.text)
    except (ConfigError, InferenceError) as problem:
        _fail(str(problem))
    if not analysed:
        _fail(f"nothing below {path} was analysed")


@app.command()
def explain(
    path: Annotated[Path, typer.Argument(help="A folder or file.", exists=True)],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say for every series below PATH: analyse or ignore, by which rule, and why."""
    from ichnode.stages.folder import read_folder
    from ichnode.stages.offline import explain_folder

    rules = _settings(config).decision_rules
    folder = read_folder(path)
    for line in folder.not_read:
        typer.echo(line, err=True)
    rows = explain_folder(folder, rules)
    if not rows:
        typer.echo(f"{path}: holds no DICOM series", err=True)
    if as_json:
        _print_json(rows)
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


@jobs_app.command("list")
def jobs_list(
    config: ConfigOption = None,
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The newest jobs first."""
    from ichnode.web.jobs import list_of_jobs

    rows = list_of_jobs(History(_engine(config)), state=state)
    if as_json:
        _print_json(rows)
        return
    table = Table("job", "state", "decision", "reason", "rule", "mL", "updated", "series", box=None)
    for row in rows:
        volume = "-" if row["hematoma_ml"] is None else f"{row['hematoma_ml']:.1f}"
        updated = datetime.fromtimestamp(row["updated_at"]).strftime("%Y-%m-%d %H:%M:%S")
        cells = (row["state"], row["decision"], row["reason"], row["rule"] or "-", volume, updated)
        table.add_row(str(row["id"]), *cells, row["series_instance_uid"])
    out.print(table)


@jobs_app.command("show")
def jobs_show(job_id: int, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Everything about one job: findings, steps, events, deliveries."""
    from ichnode.web.jobs import one_job

    engine = _engine(config)
    found = one_job(History(engine), Outbox(engine), Intake(engine), job_id)
    if found is None:
        _fail(f"there is no job {job_id}")
    if as_json:
        _print_json(found)
        return
    for key, value in found.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            typer.echo(key)
            for item in value:
                typer.echo("  " + "  ".join(f"{k}={_readable(k, v)}" for k, v in item.items() if v is not None))
        elif isinstance(value, dict):
            typer.echo(f"{key}\n{json.dumps(value, indent=2)}")
        else:
            typer.echo(f"{key}  {_readable(key, value)}")


@jobs_app.command("retry")
def jobs_retry(job_id: int, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Revive a failed, refused or dropped job, or its dead letters."""
    engine = _engine(config)
    state = Ledger(engine).retry(job_id, at=time.time())
    if state is None:
        job = History(engine).job(job_id)
        if job and History(engine).purge(job):
            _fail(f"job {job_id} cannot be retried: its instances were purged; send the study again")
        why = "nothing to retry, or a later job of its series took its place"
        _fail(f"job {job_id} is {job.state}: {why}" if job else f"there is no job {job_id}")
    _print_json({"id": job_id, "state": state.value}) if as_json else typer.echo(f"job {job_id} is {state}")


@jobs_app.command("drop")
def jobs_drop(job_id: int, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """End an unfinished job; what is not delivered yet stays here."""
    engine = _engine(config)
    if not Ledger(engine).drop(job_id, at=time.time()):
        job = History(engine).job(job_id)
        _fail(f"job {job_id} is {job.state}: nothing to drop" if job else f"there is no job {job_id}")
    _print_json({"id": job_id, "state": "dropped"}) if as_json else typer.echo(f"job {job_id} is dropped")


@destinations_app.command("list")
def destinations_list(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """How many results each waits for, and which SOP classes it refuses, so that the summary page stands in."""
    from ichnode.web.destinations import list_of_destinations

    engine, names = _engine(config), [d.name for d in _settings(config).destinations]
    rows = list_of_destinations(names, Outbox(engine), RefusedClasses(engine))
    if as_json:
        _print_json(rows)
        return
    table = Table("destination", "waiting", "refuses", "since", "job", "because", box=None)
    for row in rows:
        table.add_row(row["name"], str(row["waiting"]), "" if row["refused_classes"] else "-")
        for refused in row["refused_classes"]:
            since = datetime.fromtimestamp(refused["refused_at"]).strftime("%Y-%m-%d %H:%M:%S")
            name = UID(refused["sop_class_uid"]).name
            table.add_row("", "", name, since, str(refused["job_id"]), refused["detail"])
    out.print(table)


@destinations_app.command("reset")
def destinations_reset(
    name: str,
    config: ConfigOption = None,
    sop_class_uid: Annotated[str | None, typer.Option("--sop-class", help="Only this SOP Class UID.")] = None,
) -> None:
    """Offer a destination again what it refused, from the next job on: after its configuration was changed, say."""
    if name not in [d.name for d in _settings(config).destinations]:
        _fail(f"no destination is named {name}")
    count = RefusedClasses(_engine(config)).reset(name, sop_class_uid)
    again = f"{count} SOP class{'es' if count > 1 else ''} again"
    typer.echo(f"{name} is offered {again if count else 'everything already'}")


@models_app.command("list")
def models_list(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """The bundles that are found, and what they are for."""
    rows = _bundles(config)
    if as_json:
        _print_json(rows)
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
        _print_json(rows)
    else:
        for row in rows:
            typer.echo(f"{row['name']}: {row.get('error') or 'verified ' + row['weights_sha256']}")
    if any("error" in row for row in rows):
        raise typer.Exit(1)


@db_app.command("check")
def db_check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Is the database sound, has every row its file, and every file its row? Fails when something is wrong."""
    from ichnode.storage.check import check

    settings = _settings(config)
    need_ledger(settings)
    outcome = check(new_engine(settings.database_url), settings.stores)
    if as_json:
        _print_json({"sound": outcome.sound, **asdict(outcome)})
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

    settings = _settings(config)
    need_ledger(settings)
    url = settings.database_url
    if is_shared(url):
        _fail("the ledger is on PostgreSQL: back it up with pg_dump (docs/several-machines.md)")
    try:
        made = back_up(database_file(url), file)
    except BackupError as problem:
        _fail(str(problem))
    if as_json:
        _print_json(asdict(made))
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
    trail = AuditTrail(_engine(config))
    trail.append(AuditEvent.AUDIT_READ, who=getpass.getuser(), what={"after": after, "study": name}, at=time.time())
    rows = [row for row in trail.rows(after=after) if name in json.dumps(row.what)]
    if as_json:
        _print_json([asdict(row) for row in rows])
        return
    for row in rows:
        when = datetime.fromtimestamp(row.at).strftime("%Y-%m-%dT%H:%M:%S")
        typer.echo(
            f"{row.sequence}  {when}  {row.event}  {logs.escape(row.who)}  {row.outcome}  {json.dumps(row.what)}"
        )


@audit_app.command("verify")
def audit_verify(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Find rows that were altered, removed or moved; fails when there are any."""
    trail = AuditTrail(_engine(config))
    found = trail.verify()
    if as_json:
        _print_json({"rows": trail.end(), "tampered": [asdict(one) for one in found]})
    else:
        for one in found:
            typer.echo(f"row {one.sequence} {one.detail}")
        typer.echo("tampered with" if found else f"unaltered: {trail.end()} rows")
    if found:
        raise typer.Exit(1)


def _bundles(config: Path | None) -> list[dict[str, Any]]:
    from ichnode.inference.bundle import configured_bundles, verify_bundle

    try:
        found = configured_bundles(_settings(config).inference.bundles_dir)
    except ConfigError as problem:
        _fail(str(problem))
    rows: list[dict[str, Any]] = []
    for name, folder in sorted(found.items()):
        try:
            rows.append({"name": name, "folder": str(folder), **verify_bundle(folder).model_dump(mode="json")})
        except BundleError as problem:
            rows.append({"name": name, "folder": str(folder), "error": problem.detail})
    return rows


def _engine(config: Path | None) -> Engine:
    return open_ledger(_settings(config))


def _ledger_problem(settings: Settings, problem: SQLAlchemyError | CommandError) -> str:
    """One line: what the database says, or Alembic of a ledger that another version of ichnode wrote."""
    said = str(problem.orig if isinstance(problem, DBAPIError) else problem).partition("\n")[0]
    return f"database.url: {without_password(settings.database_url)} cannot be used: {said}"


def _readable(key: str, value: Any) -> str:
    """Times as local time, numbers without a tail."""
    if value is None:
        return "-"
    if key == "at" or key.endswith("_at"):
        return datetime.fromtimestamp(value).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{value:.4g}" if isinstance(value, float) else ", ".join(value) if isinstance(value, list) else str(value)
