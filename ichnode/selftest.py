"""`ichnode selftest`: does what comes back from this installation say what is true of the simulated patient?

The rehearsal's node has the bundles, device and results of the configuration, and nothing else of it: no PACS, no
source, no audit collector and no database of the site notices the test.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from ichnode.config import Settings
from ichnode.dicom.statuses import Verdict
from ichnode.doctor.check import Check, failure, ok, warning
from ichnode.doctor.network import calling_ae_title, check_web_port, echo_node
from ichnode.domain.job import JobState
from ichnode.domain.progress import Tell, silently
from ichnode.errors import ConfigError, DeliveryError
from ichnode.phantom import Phantom
from ichnode.rehearsal import Rehearsal, rehearse
from ichnode.results.concepts import VOLUME
from ichnode.results.provenance import SERIES_DESCRIPTIONS, Role
from ichnode.simulated_patient import simulated_patient
from ichnode.stages.decide import decide_study
from ichnode.stages.folder import read_folder

TOLERANCE = 0.15  # of the volume
OVERLAP = 0.6  # Dice coefficient with what is true, below which the segmentation lies elsewhere
_SAME_ML = 0.05  # the report rounds
_SAME_MM = 0.01
_TRUST = "run `ichnode doctor`; a bundle of your own may not read simulated patients, so try the shipped ones"
_BUG = "this is a fault of ichnode: keep the output of --json and report it"
_OF_THE_SITE = ("inference", "results", "clinical")
_ALWAYS = (Role.SEGMENTATION, Role.MEASUREMENT_REPORT, Role.OUTLINE_REPORT, Role.SUMMARY_PAGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelftestOutcome:
    """What was checked, and how long each step took."""

    checks: tuple[Check, ...]
    seconds: tuple[tuple[str, float], ...]


def run_selftest(
    settings: Settings, *, timeout_s: float, running: bool = False, tell: Tell = silently
) -> SelftestOutcome:
    """Send the simulated patient, and look at what came back. Raises IchnodeError, OSError when no node can run."""
    patient = simulated_patient()
    with TemporaryDirectory(prefix="ichnode-selftest-") as folder:
        source, received = Path(folder) / "head-ct", Path(folder) / "results"
        source.mkdir()
        received.mkdir()
        sections = scratch_sections(settings)
        with rehearse(patient, sections, source=source, received=received, timeout_s=timeout_s, tell=tell) as run:
            tell("stopping the node")
        tell("checking what came back")
        checks = [*_of_running(settings)] if running else []
        checks += [*check_run(run, patient, wanted=settings.results.write), _of_rules(settings, source)]
    return SelftestOutcome(checks=tuple(checks), seconds=run.seconds)


def scratch_sections(settings: Settings) -> dict[str, Any]:
    """What the node of the self-test shares with the configuration, and its one rule, which runs what any rule runs."""
    run = tuple(settings.pipeline_bundles)
    if "followup" in run:  # the two follow-up pipelines are for different patients
        run = tuple(pipeline for pipeline in run if pipeline != "followup_after_thrombectomy")
    shared = {section: getattr(settings, section).model_dump() for section in _OF_THE_SITE}
    return {**shared, "node": {"ae_title": settings.node.ae_title}, "rules": [{"name": "selftest", "run": run}]}


def check_run(run: Rehearsal, patient: Phantom, *, wanted: Sequence[str]) -> Iterator[Check]:
    """Every check of what came back; `wanted` are the roles that the configuration writes."""
    yield _sent(run)
    job = run.job
    if job is None or job.state is not JobState.DONE:
        said = "no job was opened" if job is None else f"the job is {job.state}: {job.reason}: {job.detail}"
        yield failure("analysis", said, "give it more --timeout, or " + _TRUST)
        return
    yield ok("analysis", f"{len(run.results)} results composed")
    yield _found((job.findings or {}).get("hematoma"), patient.hematoma_ml)
    yield _series(run, wanted)
    first = {description: dcmread(files[0]) for description, files in run.series.items() if files}
    segmentation = first.get(SERIES_DESCRIPTIONS[Role.SEGMENTATION])
    report = first.get(SERIES_DESCRIPTIONS[Role.MEASUREMENT_REPORT])
    page = first.get(SERIES_DESCRIPTIONS[Role.SUMMARY_PAGE])
    if segmentation is not None:
        yield check_segmentation(segmentation, patient)
    if report is not None and segmentation is not None:
        yield check_report(report, segmentation, patient)
    if page is not None:
        yield check_page(page)


def check_segmentation(segmentation: Dataset, patient: Phantom) -> Check:
    """Do its frames lie on slices of the source, and is the hematoma where it is?"""
    name = SERIES_DESCRIPTIONS[Role.SEGMENTATION].partition(": ")[2]
    try:
        mask = mask_of(segmentation, patient)
    except ValueError as problem:
        return failure(name, str(problem), _BUG)
    true = patient.hematoma
    dice = 2 * float((mask & true).sum()) / max(1.0, float(mask.sum() + true.sum()))
    slices = int(mask.any(axis=(1, 2)).sum())
    said = f"{volume_ml(mask, patient):.1f} mL on {slices} slices of the source, Dice {dice:.2f} with what is true"
    return ok(name, said) if dice >= OVERLAP else failure(name, said, _TRUST)


def check_report(report: Dataset, segmentation: Dataset, patient: Phantom) -> Check:
    """Does the report say the volume that the segmentation has?"""
    name = SERIES_DESCRIPTIONS[Role.MEASUREMENT_REPORT].partition(": ")[2]
    said = next(_volumes(report), None)
    if said is None:
        return failure(name, "says no volume", _BUG)
    try:
        measured = volume_ml(mask_of(segmentation, patient), patient)
    except ValueError as problem:
        return failure(name, str(problem), _BUG)
    detail = f"{said:.2f} mL, the segmentation has {measured:.2f} mL"
    return ok(name, detail) if abs(said - measured) <= _SAME_ML else failure(name, detail, _BUG)


def check_page(page: Dataset) -> Check:
    """Is the summary page a picture with something on it?"""
    name, pixels = SERIES_DESCRIPTIONS[Role.SUMMARY_PAGE].partition(": ")[2], page.pixel_array
    said = f"{page.Columns} x {page.Rows} pixels, {page.PhotometricInterpretation}"
    return ok(name, said) if pixels.std() > 1 else failure(name, f"{said}, blank", _BUG)


def mask_of(segmentation: Dataset, patient: Phantom) -> NDArray[np.bool_]:
    """Segment 1 as (slice, row, column) of the source. Raises ValueError for a frame that lies on no slice of it."""
    number_of = {dataset.SOPInstanceUID: number for number, dataset in enumerate(patient.datasets)}
    mask = np.zeros_like(patient.hematoma)
    frames = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns)
    for frame, groups in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        if groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber != 1:
            continue
        uid = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        if uid not in number_of:
            raise ValueError(f"a frame refers to {uid}, which was not sent")
        number = number_of[uid]
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        if not np.allclose(position, patient.datasets[number].ImagePositionPatient, atol=_SAME_MM):
            raise ValueError(f"a frame lies at {list(position)}, its slice elsewhere")
        mask[number] |= frame > 0
    return mask


def volume_ml(mask: NDArray[np.bool_], patient: Phantom) -> float:
    """Of a mask on the evenly spaced slices of `patient`."""
    first, second = patient.datasets[:2]
    gap = float(np.linalg.norm(np.subtract(first.ImagePositionPatient, second.ImagePositionPatient)))
    return float(mask.sum()) * float(np.prod(first.PixelSpacing)) * gap / 1000


def _volumes(item: Dataset) -> Iterator[float]:
    """Every number under the concept Volume, in the order of the document."""
    for child in item.get("ContentSequence", ()):
        named = child.get("ConceptNameCodeSequence")
        if child.ValueType == "NUM" and named and named[0].CodeValue == VOLUME.value:
            yield float(child.MeasuredValueSequence[0].NumericValue)
        yield from _volumes(child)


def _sent(run: Rehearsal) -> Check:
    refused = [outcome for outcome in run.outcomes if outcome.verdict is not Verdict.DELIVERED]
    if refused:
        said = f"{len(refused)} of {len(run.outcomes)} instances were not taken: {refused[0].detail}"
        return failure("send", said, "run `ichnode doctor`: as a rule the disk of the temporary folder is full")
    return ok("send", f"{len(run.outcomes)} instances were taken")


def _found(hematoma: Mapping[str, Any] | None, true_ml: float) -> Check:
    if hematoma is None:
        return failure("hematoma", f"none was found, {true_ml:.1f} mL are true", _TRUST)
    found_ml = float(hematoma["volume_ml"])
    error = (found_ml - true_ml) / true_ml
    said = f"{found_ml:.1f} mL found, {true_ml:.1f} mL are true ({error:+.0%})"
    return ok("hematoma", said) if abs(error) <= TOLERANCE else failure("hematoma", said, _TRUST)


def _series(run: Rehearsal, wanted: Sequence[str]) -> Check:
    """Everything that was composed came back, and what every head with a hematoma has was composed."""
    came, composed = sum(map(len, run.series.values())), len(run.results)
    absent = [role for role in _ALWAYS if role in wanted and not run.series.get(SERIES_DESCRIPTIONS[role])]
    said = f"{len(run.series)} series, {came} of {composed} results came back"
    if absent or came != composed:
        return failure("series", f"{said}{'; without ' + ', '.join(absent) if absent else ''}", _BUG)
    return ok("series", said)


def _of_rules(settings: Settings, source: Path) -> Check:
    """What the rules of the configuration would do with the patient: site rules need not take it."""
    for study in read_folder(source).studies:
        for _, decision in decide_study(study, settings.decision_rules):
            rule = decision.rule.name if decision.rule else "-"
            if decision.analyse:
                return ok("rules", f"the configured rules would analyse it: {rule}")
            said = f"the configured rules would ignore it: {decision.reason}: {decision.detail}"
            return warning("rules", said, "none, where they are meant for other series: see docs/rules.md")
    return failure("rules", "the head CT cannot be read", _BUG)


def _of_running(settings: Settings) -> Iterator[Check]:
    """The running node, by C-ECHO as one of its sources, and by /readyz."""
    name, title = "running node", calling_ae_title(settings)
    if title is None:
        said = "[[sources]] admits no AE title from this machine, so C-ECHO from here would be rejected"
        yield warning(name, said, 'to test from here, add a source with host = "127.0.0.1"; or echo from a scanner')
    elif settings.node.port == 0:
        yield warning(name, "node.port = 0 is another port at each start, so it cannot be called", "set node.port")
    else:
        try:
            took_s = echo_node(settings, title).seconds
            yield ok(name, f"answers C-ECHO from {title} in {took_s * 1000:.0f} ms")
        except (DeliveryError, ConfigError) as problem:
            fix = "start it: systemctl start ichnode; `ichnode doctor` says who has its port"
            yield failure(name, f"C-ECHO as {title}: {problem}", fix)
    web = check_web_port(settings)
    if web.detail.endswith("no node runs on it"):
        yield failure(web.name, web.detail, "start it: systemctl start ichnode")
    else:
        yield web
