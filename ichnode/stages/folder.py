"""Folder: DICOM files on disk as study snapshots, for `analyze` and `explain`; nothing is received or stored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ichnode.domain.progress import Tell, silently
from ichnode.domain.study import Instance, Series, StudySnapshot
from ichnode.errors import MalformedDataset
from ichnode.imaging.header import instance_from_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """What was found below a path."""

    studies: tuple[StudySnapshot, ...]
    unreadable: tuple[tuple[Path, str], ...]  # files that are no usable DICOM instance, and why

    @property
    def not_read(self) -> tuple[str, ...]:
        """One line for each unreadable file."""
        return tuple(f"{file}: not read: {problem}" for file, problem in self.unreadable)


def read_folder(path: Path, tell: Tell = silently) -> Folder:
    """Every DICOM instance at or below `path`, as studies in order of UID. Duplicates of an instance count once."""
    instances: dict[str, Instance] = {}
    unreadable: list[tuple[Path, str]] = []
    files = list(_files(path))
    for number, file in enumerate(files):
        tell("reading files", number, len(files))
        try:
            instance = instance_from_file(file)
        except (MalformedDataset, OSError) as problem:
            unreadable.append((file, str(problem)))
        else:
            instances.setdefault(instance.sop_instance_uid, instance)
    ordered = sorted(instances.values(), key=lambda i: (i.study_instance_uid, i.series_instance_uid))
    studies = tuple(
        _study(uid, list(group)) for uid, group in groupby(ordered, key=lambda instance: instance.study_instance_uid)
    )
    return Folder(studies=studies, unreadable=tuple(unreadable))


def _study(uid: str, instances: Sequence[Instance]) -> StudySnapshot:
    return StudySnapshot(
        study_instance_uid=uid,
        series=tuple(
            Series(series_instance_uid=series_uid, study_instance_uid=uid, instances=tuple(group))
            for series_uid, group in groupby(instances, key=lambda instance: instance.series_instance_uid)
        ),
    )


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    else:
        yield from sorted(p for p in path.rglob("*") if p.is_file() and p.name != "DICOMDIR")
