"""Decide: the facts and the decision for every series of a snapshot."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from ichnode.domain.facts import COMPUTED, SeriesFacts, facts_of
from ichnode.domain.job import JobState
from ichnode.domain.rules import Decision, Rule, decide
from ichnode.domain.sop_classes import ENHANCED_CT_IMAGE
from ichnode.domain.study import Instance, Series, StudySnapshot
from ichnode.errors import RefusedSeries
from ichnode.imaging.data_set import PYDICOM_ERRORS
from ichnode.imaging.enhanced_ct import frames_of
from ichnode.storage.ledger import PlannedJob


def decide_study(snapshot: StudySnapshot, rules: Sequence[Rule]) -> tuple[tuple[SeriesFacts, Decision], ...]:
    """Every series with its decision. Reads the tags that the rules name from one file of each series."""
    keywords = {clause.field for rule in rules for clause in rule.match} - COMPUTED
    facts = [_facts(series, keywords, one_patient=snapshot.one_patient) for series in snapshot.series]
    return tuple(zip(facts, decide(facts, rules), strict=True))


def _facts(series: Series, keywords: Collection[str], *, one_patient: bool) -> SeriesFacts:
    tags = dict(read_tags(Path(series.instances[0].file), keywords))
    series = _with_frames(series)
    of_first_frame = {keyword: series.instances[0].header.get(keyword) for keyword in keywords}
    tags = {**{keyword: value for keyword, value in of_first_frame.items() if value is not None}, **tags}
    return facts_of(series, tags, one_patient=one_patient)


def _with_frames(series: Series) -> Series:
    """An Enhanced CT instance as one instance a frame, with the values of its functional groups; else unchanged."""
    instances: list[Instance] = []
    for instance in series.instances:
        try:
            frames = frames_of(instance) if instance.sop_class_uid == ENHANCED_CT_IMAGE else []
        except (RefusedSeries, OSError):
            frames = []  # the gate will say why
        headers = [{k: v for k, v in frame.header.items() if k != "NumberOfFrames"} for frame in frames]
        instances += [replace(instance, header=header) for header in headers] or [instance]
    return replace(series, instances=tuple(instances))


def read_tags(file: Path, keywords: Collection[str]) -> Mapping[str, Any]:
    """The values of `keywords` in a DICOM file; what is absent, empty or cannot be decoded is left out."""
    if not keywords:
        return {}
    try:
        header = dcmread(file, force=True, stop_before_pixels=True, specific_tags=sorted(keywords))
    except PYDICOM_ERRORS:  # a Specific Character Set that is none, for instance
        return {}
    return {keyword: value for keyword in keywords if (value := _value(header, keyword)) is not None}


def _value(header: Dataset, keyword: str) -> Any:
    try:
        value = header.get(keyword)
        if value in (None, ""):
            return None
        return tuple(map(_plain, value)) if isinstance(value, MultiValue) else _plain(value)
    except PYDICOM_ERRORS:
        return None


def plan(snapshot: StudySnapshot, rules: Sequence[Rule], *, results_sha256: str) -> tuple[PlannedJob, ...]:
    """The jobs that the rules ask for."""
    decided = decide_study(snapshot, rules)
    return tuple(
        planned(series, decision, results_sha256)
        for series, (_, decision) in zip(snapshot.series, decided, strict=True)
    )


def planned(series: Series, decision: Decision, results_sha256: str) -> PlannedJob:
    """The job that a decision asks for."""
    rule = decision.rule
    acts = rule is not None and (decision.analyse or decision.report)
    return PlannedJob(
        series_instance_uid=series.series_instance_uid,
        state=JobState.READY if acts else JobState.IGNORED,
        decision="analyse" if decision.analyse else "ignore",
        reason=decision.reason,
        detail=decision.detail,
        rule=rule.name if rule else None,
        run=rule.run if rule and decision.analyse else (),
        send_to=rule.send_to if rule and acts else (),
        priority=rule.priority if rule else "routine",
        report_ignored=bool(rule and rule.report_ignored),
        input_sha256=_input_sha256(series, decision, results_sha256),
    )


def _input_sha256(series: Series, decision: Decision, results_sha256: str) -> str:
    """What the job's outcome depends on: equal for a resent study, other for a late slice or another rule."""
    rule = decision.rule.name if decision.rule else ""
    uids = sorted(instance.sop_instance_uid for instance in series.instances)
    words = [*uids, rule, str(decision.analyse), str(decision.report), decision.reason, results_sha256]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float) else str(value)
