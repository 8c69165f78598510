"""`ichnode judgements`: what people said of results, and how often they agree with each model. Reads only."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from ichnode.domain.audit import pseudonym
from ichnode.domain.judgement import REASON_WORDS, Judgement, agreement, newest_of_each_job
from ichnode.storage.dialect import database_file, is_shared, new_engine, without_password
from ichnode.storage.judgements import Judgements
from ichnode.terminal import ConfigOption, JsonOption, fail, out, print_json, read_settings

app = typer.Typer(no_args_is_help=True, help="What people said of results, and how often they agree with each model.")
_COLUMNS = (
    "job",
    "study",
    "at",
    "who",
    "verdict",
    "reason",
    "comment",
    "bundle",
    "bundle_version",
    "weights_sha256",
    "predicted_ml",
    "corrected_ml",
    "newest",
    "withdrawn",
)
_EXPORT_EPILOG = """Examples:

\b
  ichnode judgements export --out judgements.csv
  ichnode judgements export --format json | jq '.judgements[] | select(.verdict == "rejected")'

Studies are named by pseudonym, as in the audit trail; with --uids by their Study Instance UID.
Comments are what people typed: read them before you pass them on.
"""


class Format(StrEnum):
    """Of an export."""

    CSV = "csv"
    JSON = "json"


@app.command("list")
def list_judgements(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """How often people agree with each version of a model, and the judgements that count, the newest first."""
    said = _all(config)
    if as_json:
        print_json(_as_json(said, uids=False))
        return
    rates = Table("bundle", "version", "jobs judged", "accepted", "agreement", "corrected", "mean error", box=None)
    for one in agreement(said):
        error = "-" if one.mean_error_ml is None else f"{one.mean_error_ml:+.1f} mL"
        counts = (str(one.judged), str(one.accepted), f"{one.rate:.0%}", str(one.corrected), error)
        rates.add_row(escape(one.bundle), escape(one.bundle_version), *counts)
    out.print(rates)
    table = Table("job", "when", "who", "verdict", "reason", "predicted", "corrected", "model", box=None)
    for judgement in reversed(newest_of_each_job(said)):
        opinion, when = judgement.opinion, datetime.fromtimestamp(judgement.at).strftime("%Y-%m-%d %H:%M:%S")
        corrected = "-" if opinion.corrected_ml is None else f"{opinion.corrected_ml:.1f} mL"
        words = REASON_WORDS[opinion.reason] if opinion.reason else "-"
        cells = (when, judgement.who, opinion.verdict.value, words, f"{judgement.predicted_ml:.1f} mL", corrected)
        model = f"{judgement.bundle} {judgement.bundle_version}"
        table.add_row(str(judgement.job_id), *map(escape, (*cells, model)))
    out.print(table)


@app.command("export", epilog=_EXPORT_EPILOG)
def export(
    config: ConfigOption = None,
    file: Annotated[Path | None, typer.Option("--out", help="Where to write; without it, standard output.")] = None,
    kind: Annotated[Format, typer.Option("--format", help="CSV, or JSON with the agreement as well.")] = Format.CSV,
    uids: Annotated[bool, typer.Option("--uids", help="Study Instance UIDs in place of pseudonyms.")] = False,
) -> None:
    """Every judgement, earlier ones of a job too: volumes as predicted and as corrected, for who improves a model."""
    said = _all(config)
    text = json.dumps(_as_json(said, uids=uids), indent=2) if kind is Format.JSON else _as_csv(said, uids=uids)
    if file is None:
        typer.echo(text)
        return
    try:
        file.write_text(f"{text}\n", "utf-8")
    except OSError as problem:
        fail(f"{file}: {problem.strerror}")


def _all(config: Path | None) -> list[Judgement]:
    settings = read_settings(config)
    url, shown = settings.database_url, without_password(settings.database_url)
    if not is_shared(url) and not database_file(url).exists():
        fail(f"there is no ledger at {shown}; has `ichnode serve` run with this configuration?")
    engine = new_engine(url)
    try:
        return Judgements(engine).all()
    except SQLAlchemyError as problem:
        said = str(getattr(problem, "orig", None) or problem).partition("\n")[0]
        fail(f"database.url: {shown} cannot be read: {said}; ask `ichnode doctor`")
    finally:
        engine.dispose()


def _rows(said: Sequence[Judgement], *, uids: bool) -> list[dict[str, Any]]:
    newest = {judgement.id for judgement in newest_of_each_job(said)}
    return [
        {
            "job": judgement.job_id,
            "study": judgement.study_instance_uid if uids else pseudonym(judgement.study_instance_uid),
            "at": datetime.fromtimestamp(judgement.at, UTC).isoformat(timespec="seconds"),
            "who": judgement.who,
            "verdict": judgement.opinion.verdict.value,
            "reason": judgement.opinion.reason.value if judgement.opinion.reason else None,
            "comment": judgement.opinion.comment,
            "bundle": judgement.bundle,
            "bundle_version": judgement.bundle_version,
            "weights_sha256": judgement.weights_sha256,
            "predicted_ml": judgement.predicted_ml,
            "corrected_ml": judgement.opinion.corrected_ml,
            "newest": judgement.id in newest,
            "withdrawn": judgement.withdraws,
        }
        for judgement in said
    ]


def _as_json(said: Sequence[Judgement], *, uids: bool) -> Mapping[str, Any]:
    rates = [asdict(one) | {"rate": one.rate} for one in agreement(said)]
    return {"agreement": rates, "judgements": _rows(said, uids=uids)}


def _as_csv(said: Sequence[Judgement], *, uids: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in _rows(said, uids=uids))
    return text.getvalue().rstrip("\n")


def _cell(value: Any) -> Any:
    """As it stands in CSV. A spreadsheet runs text that begins like a formula, so such text begins with '."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t")) else value
