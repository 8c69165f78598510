"""Instance, series and study as received, and when a study counts as complete, on which evidence."""

from collections.abc import Mapping
from dataclasses import dataclass

HeaderValue = str | int | float | tuple[str, ...] | tuple[int, ...] | tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One stored SOP instance. Its bytes lie undecoded in `file`."""

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    file: str  # absolute path; no part of it is received text
    header: Mapping[str, HeaderValue]  # the keywords of imaging.header.KEPT, decoded at receipt
    association_id: int = 0  # 0: read from disk, no association
    received_at: float = 0.0  # seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """All instances of one series in a snapshot, in order of receipt."""

    series_instance_uid: str
    study_instance_uid: str
    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySnapshot:
    """An immutable study as of an instant."""

    study_instance_uid: str
    series: tuple[Series, ...]
