"""The head CT in a folder of DICOM files: the only CT series, or the one that the daemon itself would analyse."""

from dataclasses import replace
from itertools import groupby
from pathlib import Path

from ichnode.domain.facts import facts_of
from ichnode.domain.rules import Rule, decide
from ichnode.domain.study import Instance, Series
from ichnode.errors import MalformedDataset
from ichnode.imaging.header import instance_from_file
from training.data.manifest import DataError

_HEAD_CT = Rule(name="head ct", match=(), run=(), send_to=())


def series_in(folder: Path) -> Series:
    """The series at or below `folder`; files that are not DICOM are passed over. Raises DataError and OSError.

    The folder is taken to hold one study of a head, so headers need not say "head".
    """
    every = _series(folder)
    facts = [replace(facts_of(one, {}, one_patient=True), head=True) for one in every]
    images = [f for f in facts if f.sop_class_analysable and not (f.localizer or f.own_results)]
    decisions = decide(images, [_HEAD_CT])
    taken = {d.series_instance_uid for d in decisions if d.analyse or len(images) == 1}
    if not taken:
        reasons = ", ".join(sorted({str(decision.reason) for decision in decisions})) or "no CT images"
        raise DataError(f"{folder}: none of {len(every)} series can be used: {reasons}")
    return next(one for one in every if one.series_instance_uid in taken)


def folder_of(series: Series) -> Path:
    """The deepest folder that holds all files of `series`, so that reading it again passes over the least."""
    parents = [Path(instance.file).parent for instance in series.instances]
    return next(p for p in (parents[0], *parents[0].parents) if all(q.is_relative_to(p) for q in parents))


def _series(folder: Path) -> list[Series]:
    instances = {one.sop_instance_uid: one for file in sorted(folder.rglob("*")) for one in _instance(file)}
    ordered = sorted(instances.values(), key=lambda one: one.series_instance_uid)
    return [
        Series(series_instance_uid=uid, study_instance_uid=group[0].study_instance_uid, instances=group)
        for uid, group in ((u, tuple(g)) for u, g in groupby(ordered, key=lambda one: one.series_instance_uid))
    ]


def _instance(file: Path) -> tuple[Instance, ...]:
    if not file.is_file() or file.name == "DICOMDIR":
        return ()
    try:
        return (instance_from_file(file),)
    except MalformedDataset:
        return ()
