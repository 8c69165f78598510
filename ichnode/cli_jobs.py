"""`ichnode jobs`: what became of each series, and to revive or end it."""

import json
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from ichnode.domain.job import JobState
from ichnode.domain.judgement import NOTE_ROLE
from ichnode.storage.history import History
from ichnode.storage.intake import Intake
from ichnode.storage.ledger import Ledger
from ichnode.storage.outbox import Outbox
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

app = typer.Typer(no_args_is_help=True, help="Look at jobs, revive or end them.")
_WHAT_TO_DO: Mapping[str, str] = {
    JobState.IGNORED: "nothing; to have it analysed: change the rules (docs/rules.md), or its page in the browser",
    JobState.READY: "nothing: it waits for its turn",
    JobState.ANALYSING: "nothing: it is being analysed",
    JobState.REFUSED: "see the reason; after another model or ichnode was installed: ichnode jobs retry {id}",
    JobState.DELIVERING: "nothing: the results are on their way",
    JobState.DONE: "nothing",
    JobState.FAILED: "put right what the reason says, then: ichnode jobs retry {id}",
    JobState.SUPERSEDED: "nothing: a later job of the series took its place",
    JobState.DROPPED: "nothing; to take it up again: ichnode jobs retry {id}",
}
_REVIVED = (JobState.FAILED, JobState.REFUSED, JobState.DROPPED)


@app.command("list")
def jobs_list(
    config: ConfigOption = None,
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The newest jobs first."""
    from ichnode.web.jobs import list_of_jobs

    rows = list_of_jobs(History(open_ledger(read_settings(config))), state=state)
    if as_json:
        print_json(rows)
        return
    table = Table("job", "state", "decision", "reason", "rule", "mL", "updated", "series", box=None)
    for row in rows:
        volume = "-" if row["hematoma_ml"] is None else f"{row['hematoma_ml']:.1f}"
        cells = (row["state"], row["decision"], row["reason"], row["rule"] or "-", volume, clock(row["updated_at"]))
        table.add_row(*map(escape, (str(row["id"]), *cells, row["series_instance_uid"])))
    out.print(table)


@app.command("show")
def jobs_show(
    job_id: int,
    config: ConfigOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Also steps, events, results and each delivery.")] = False,
    as_json: JsonOption = False,
) -> None:
    """One job: its state and why, what was found, what each destination took, and what to do next."""
    from ichnode.web.jobs import one_job

    engine = open_ledger(read_settings(config))
    found = one_job(History(engine), Outbox(engine), Intake(engine), job_id)
    if found is None:
        fail(f"there is no job {job_id}")
    if as_json:
        print_json(found)
        return
    for name, said in _at_a_glance(found, now=time.time()):
        typer.echo(f"{name:<11}{said}")
    if everything:
        typer.echo()
        _print_everything(found)
    else:
        typer.echo(f"{'more':<11}ichnode jobs show {job_id} --all")


@app.command("retry")
def jobs_retry(job_id: int, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Revive a failed, refused or dropped job, or its dead letters."""
    engine = open_ledger(read_settings(config))
    state = Ledger(engine).retry(job_id, at=time.time(), who=at_the_shell())
    if state is None:
        job = History(engine).job(job_id)
        if job and History(engine).purge(job):
            fail(f"job {job_id} cannot be retried: its instances were purged; send the study again")
        why = "nothing to retry, or a later job of its series took its place"
        fail(f"job {job_id} is {job.state}: {why}" if job else f"there is no job {job_id}")
    print_json({"id": job_id, "state": state.value}) if as_json else typer.echo(f"job {job_id} is {state}")


@app.command("drop")
def jobs_drop(job_id: int, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """End an unfinished job; what is not delivered yet stays here."""
    engine = open_ledger(read_settings(config))
    if not Ledger(engine).drop(job_id, at=time.time(), who=at_the_shell()):
        job = History(engine).job(job_id)
        fail(f"job {job_id} is {job.state}: nothing to drop" if job else f"there is no job {job_id}")
    print_json({"id": job_id, "state": "dropped"}) if as_json else typer.echo(f"job {job_id} is dropped")


def _at_a_glance(found: Mapping[str, Any], *, now: float) -> Iterator[tuple[str, str]]:
    """What a person asks first, in that order."""
    from ichnode.web import said

    yield f"job {found['id']}", f"{found['state']} since {clock(found['updated_at'])}"
    yield "reason", f"{found['reason']}: {found['detail']}" if found["detail"] else found["reason"]
    rule = f" by rule {found['rule']}" if found["rule"] else ""
    yield "decision", f"{found['decision']}{rule}, {found['priority']}"
    yield "series", f"{found['series_instance_uid']} of study {found['study_instance_uid']}"
    if found["verdict"]:
        yield "judged", f"{found['verdict']} by a person{'; the results are withdrawn' if found['withdrawn'] else ''}"
    for line in said.lines(found["findings"], masked=False) if found["findings"] else ():
        between = f" ({line.interval})" if line.interval else ""
        yield "found", f"{line.label}: {line.value}{between}{'; ' + line.note if line.note else ''}"
    for name in dict.fromkeys(delivery["destination"] for delivery in found["deliveries"]):
        yield "delivery", _delivery([d for d in found["deliveries"] if d["destination"] == name], now)
    if found["purged"]:
        yield "purged", f"{clock(found['purged']['at'])}, {found['purged']['reason']}: images and results are gone"
    yield "next", _what_to_do(found, now)


def _delivery(deliveries: list[Mapping[str, Any]], now: float) -> str:
    """How those of one destination stand: counts, the last error, and when it is tried."""
    counts = Counter(delivery["state"] for delivery in deliveries)
    said = f"{deliveries[0]['destination']}: {', '.join(f'{count} {state}' for state, count in counts.items())}"
    wrong = [d for d in deliveries if d["error"] and d["state"] != "replaced"]  # the summary page stands in for that
    open_last = sorted(wrong, key=lambda d: d["next_attempt_at"] is not None)
    errors = [f"{d['error']} (attempt {d['attempts']})" for d in open_last]
    due = [d["next_attempt_at"] for d in deliveries if d["next_attempt_at"] is not None]
    if errors:
        said += f"; last error: {errors[-1]}"
    return f"{said}; next attempt: {next_attempt(min(due), now)}" if due else said


def _what_to_do(found: Mapping[str, Any], now: float) -> str:
    if found["withdrawn"]:
        notes = [d["state"] for d in found["deliveries"] if d["role"] == NOTE_ROLE]
        if {"dead", "refused"} & set(notes):
            return f"the rejection note was not taken; once it can be: ichnode jobs retry {found['id']}"
        return "nothing: the results are withdrawn"
    if found["purged"] and found["state"] in _REVIVED:
        return "its images were purged: send the study again"
    later = {d["destination"] for d in found["deliveries"] if d["error"] and (d["next_attempt_at"] or 0) > now}
    if later:
        sooner = " and ".join(f"ichnode destinations retry {shlex.quote(name)}" for name in sorted(later))
        return f"nothing: it is tried again; sooner by: {sooner}"
    return _WHAT_TO_DO[found["state"]].format(id=found["id"])


def _print_everything(found: Mapping[str, Any]) -> None:
    for key, value in found.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            typer.echo(key)
            for item in value:
                typer.echo("  " + "  ".join(f"{k}={_readable(k, v)}" for k, v in item.items() if v is not None))
        elif isinstance(value, dict):
            typer.echo(f"{key}\n{json.dumps(value, indent=2)}")
        else:
            typer.echo(f"{key}  {_readable(key, value)}")


def _readable(key: str, value: Any) -> str:
    """Times as local time, numbers without a tail."""
    if value is None:
        return "-"
    if key == "at" or key.endswith("_at"):
        return clock(value)
    return f"{value:.4g}" if isinstance(value, float) else ", ".join(value) if isinstance(value, list) else str(value)
