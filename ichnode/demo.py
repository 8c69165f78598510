"""`ichnode demo`: a node on embedded defaults, the simulated patient sent to it, the results received."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ichnode.dicom.statuses import Verdict
from ichnode.domain.job import ON_THE_WAY, JobState
from ichnode.domain.progress import Tell, silently
from ichnode.rehearsal import rehearse
from ichnode.results.provenance import OF_AN_ANALYSIS, SERIES_DESCRIPTIONS, Role
from ichnode.simulated_patient import simulated_patient

TOLERANCE = 0.15  # of the volume found in the simulated patient
PATIENCE_S = 600.0  # with a machine that does other things meanwhile
_NOT_RUN = {Role.FOLLOWUP_SALIENCY}
_EXPECTED = {SERIES_DESCRIPTIONS[role] for role in OF_AN_ANALYSIS - _NOT_RUN}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOutcome:
    """What the demo shows. It passed when there are no misses."""

    folder: Path  # of the results
    true_ml: float
    found_ml: float | None
    range_ml: tuple[float, float] | None
    series: Mapping[str, Sequence[Path]]  # files of each series received, by its description
    seconds: tuple[tuple[str, float], ...]  # step and how long it took
    misses: tuple[str, ...]
    page: str  # where a person reviews it while the node runs


@contextmanager
def run_demo(folder: Path, tell: Tell = silently) -> Iterator[DemoOutcome]:
    """Run the demo; results are written below `folder`. Its node runs on until the end of the `with`."""
    source, received = folder / "head-ct", folder / "results"
    for made in (source, received):
        made.mkdir(parents=True, exist_ok=True)
        for old in made.glob("*.dcm"):
            old.unlink()
    patient = simulated_patient()
    sections = {"web": {"patient": "shown"}, "inference": {"deadline_s": PATIENCE_S}}
    with rehearse(patient, sections, source=source, received=received, timeout_s=PATIENCE_S, tell=tell) as run:
        misses = [f"{len(run.outcomes)} instances sent, not all were taken"] * any(
            outcome.verdict is not Verdict.DELIVERED for outcome in run.outcomes
        )
        misses += _misses(run.job, run.series, patient.hematoma_ml)
        hematoma = (run.job.findings or {}).get("hematoma") if run.job else None
        yield DemoOutcome(
            folder=received,
            true_ml=patient.hematoma_ml,
            found_ml=hematoma["volume_ml"] if hematoma else None,
            range_ml=(hematoma["volume_low_ml"], hematoma["volume_high_ml"]) if hematoma else None,
            series=run.series,
            seconds=run.seconds,
            misses=tuple(misses),
            page=run.page,
        )


def _misses(job: Any, received: Collection[str], true_ml: float) -> list[str]:
    """What is wrong with a job and the series descriptions that came back."""
    if job is None:
        return ["no job was opened"]
    if job.state in ON_THE_WAY:
        return [
            f"not finished after {PATIENCE_S:g} s, the job is {job.state}: this machine is too slow, or too busy now"
        ]
    if job.state is not JobState.DONE:
        return [f"the job is {job.state}: {job.reason}: {job.detail}"]
    hematoma = job.findings["hematoma"]
    if hematoma is None:
        return ["the hematoma was not found"]
    error = abs(hematoma["volume_ml"] - true_ml) / true_ml
    misses = [f"the volume is {error:.0%} off"] if error > TOLERANCE else []
    if absent := sorted(_EXPECTED - set(received)):
        misses.append(f"not received: {', '.join(absent)}")
    return misses
